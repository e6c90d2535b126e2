"""A page that is too large to be held is asked for again with fewer rows, down to one."""

from __future__ import annotations

import asyncio
import json

import pytest

from heavysync.objects import Location
from heavysync.stores.gcs_list import GcsListing
from heavysync.stores.http import OversizeError, Response


class _Wire:
    """Answers an empty page of at most `most` rows."""

    def __init__(self, most):
        self.most = most
        self.asked = []

    async def call(self, operation, key, method, path, query):
        self.asked.append(int(query["maxResults"]))
        if self.asked[-1] > self.most:
            raise OversizeError("more than 16 MiB came", {})
        return Response(200, {}, [json.dumps({"kind": "storage#objects"}).encode()])


def _list(most):
    wire = _Wire(most)
    listing = GcsListing(wire, Location(scheme="gs", bucket="b", prefix=""), "/storage/v1/b/b")
    try:
        return asyncio.run(listing.objects(None, None, 1000)), wire.asked
    except OversizeError:
        return None, wire.asked


@pytest.mark.parametrize(
    ("most", "asked"), [(1000, [1000]), (200, [1000, 125]), (1, [1000, 125, 15, 1]), (0, [1000, 125, 15, 1])]
)
def test_oversized_page_is_asked_for_in_smaller_ones(most, asked):
    """8 KiB of metadata an object, each byte escaped, come to 48 MiB."""
    page, given = _list(most)

    assert asked == given
    assert (page is None) == (most == 0)
