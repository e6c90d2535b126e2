"""Single defects that the matrix brought to light, each in its smallest form."""

from __future__ import annotations

import asyncio

import pytest
from buckets import GcsBucket
from faults.cases import REQUESTS

from heavysync.stores.http import Door


@pytest.mark.parametrize("client", ["lean", "aiohttp"])
def test_bytes_that_came_unasked_are_no_answer(client, google, gs_kit):
    """A server sends an answer once more after a while; the next request gets its own answer all the same."""
    gs_kit.clear()
    bucket = GcsBucket(google)
    for key in "ab":
        bucket.put(key, key.encode() * 10)
    gs_kit.add("twice", operation="get", seconds=0.01)

    async def read():
        got = []
        async with Door(connections=4, stall_s=2, client=client) as door:
            for key in "aba":
                url = f"{gs_kit.url}/download/storage/v1/b/{bucket.name}/o/{key}?alt=media"
                got.append((await door.request("GET", url, {}, limit=100)).body)
                await asyncio.sleep(0.1)
        return got

    assert asyncio.run(read()) == [b"a" * 10, b"b" * 10, b"a" * 10]


def test_object_that_lacks_fields_ends_no_run(worlds, tmp_path):
    """A look at an object that is answered by a part of a resource is tried again."""
    request = next(request for request in REQUESTS if request.name == "gs stat")
    pair = worlds.pair(request, tmp_path)
    pair.kit.add("lose answer", operation="insert")
    rule = pair.kit.add("answer", operation="stat", status=200, body=b'{"generation": "1", "name": "changed", "size": "1"}')

    said = pair.run()

    assert rule.fired
    assert said.startswith("done")
    assert pair.is_equal()
