"""Cuts of a range: found by few small lists, balanced enough, whatever keys look like."""

from __future__ import annotations

import asyncio
import bisect
import random
from typing import Any

import pytest

from heavysync.deleting import _present
from heavysync.errors import FatalError
from heavysync.keyspace import KeyRange, cut
from heavysync.objects import Location, Metadata, Page
from heavysync.planning import PROBES, PROBES_PER_PIECE, find_borders
from heavysync.retry import Retrier, StoppedError
from heavysync.stores.memory import MemoryStore
from heavysync.stores.memory_bucket import MemoryService
from heavysync.transfer.context import find_listed

SHAPES = {
    "flat": [f"key-{number:06d}" for number in range(20_000)],
    "dates": [f"logs/2024/{m:02d}/{d:02d}/{n:03d}.gz" for m in range(1, 13) for d in range(1, 29) for n in range(60)],
    "hot prefix": ["a", "b", *(f"photos/user/img{number:05d}.jpg" for number in range(20_000))],
    "unicode": [f"目录{chr(0x4E00 + number % 500)}/{number}" for number in range(20_000)],
    "hex": sorted(f"{number * 2654435761 % 2**32:08x}" for number in range(20_000)),
}


def store_with(keys: list[str]) -> MemoryStore:
    """A store that lists these keys."""
    service = MemoryService(flavour="s3")
    bucket = service.create("bucket")
    row = bucket.put("x", b"", Metadata())
    bucket.keys, bucket.rows = sorted(keys), dict.fromkeys(keys, [row])
    return MemoryStore(Location(scheme="s3", bucket="bucket"), service)


@pytest.mark.parametrize("shape", SHAPES)
def test_ranges_are_balanced_with_few_probes(shape: str) -> None:
    """Sixteen pieces of which none is larger than a fifth of the whole; no delimiter and no alphabet is assumed."""
    store = store_with(SHAPES[shape])
    keys = store.bucket.keys
    span = KeyRange(keys[1000], None)

    borders = asyncio.run(find_borders(store, Retrier(), span, 16))

    ends = [bisect.bisect_right(keys, piece.hi) if piece.hi else len(keys) for piece in cut(span, borders)]
    sizes = [end - start for start, end in zip([1001, *ends], ends, strict=False)]
    assert len(sizes) >= 8
    assert max(sizes) < len(keys) / 5
    assert store.calls["list_page"] <= PROBES + (PROBES_PER_PIECE + 3) * 16  # the last step may go beyond


def test_probes_go_out_together() -> None:
    """A list takes a tenth of a second at a provider: the sixteenths of a bucket are not found one after the other."""
    store = store_with(SHAPES["flat"])
    rounds: list[int] = []
    waiting = 0

    async def step(operation: str, key: str = "") -> None:
        nonlocal waiting
        store.calls[operation] += 1
        waiting += 1
        if waiting == 1:
            await asyncio.sleep(0)
            rounds.append(waiting)
            waiting = 0

    store.step = step  # type: ignore[method-assign]
    asyncio.run(find_borders(store, Retrier(), KeyRange(None, None), 16))

    assert max(rounds) >= 8
    assert len(rounds) < store.calls["list_page"] / 3


def test_crowd_in_a_wide_gap_is_found_in_a_few_steps() -> None:
    """A hot prefix with single keys around it: the middle of all that lies between is far from it, again and again."""
    hot = [f"m/hot-{number:08d}" for number in range(20_000)]
    store = store_with(["a/key-0", "a/key-1", *hot, "n/key-0", "z/key-1"])

    borders = asyncio.run(find_borders(store, Retrier(), KeyRange(hot[20], "z/key-1"), 8))

    sizes = [
        bisect.bisect_right(hot, piece.hi or "z") - bisect.bisect_right(hot, piece.lo or "")
        for piece in cut(KeyRange(hot[20], "z/key-1"), borders)
    ]
    assert len(sizes) == 8
    assert max(sizes) < len(hot) / 3


@pytest.mark.parametrize("error", [StoppedError("stopping"), FatalError("the bucket is gone")], ids=["stop", "fatal"])
def test_error_of_a_probe_is_told_as_it_is(error: Exception) -> None:
    """Not in a group: whoever cuts a range knows what to do when the run stops."""
    store = store_with(SHAPES["flat"])

    async def step(operation: str, key: str = "") -> None:
        store.calls[operation] += 1
        if store.calls[operation] > 14:
            raise error

    store.step = step  # type: ignore[method-assign]
    with pytest.raises(type(error)):
        asyncio.run(find_borders(store, Retrier(), KeyRange(None, None), 16))


@pytest.mark.parametrize("keys", [[], ["one"], ["a", "a\0", "a\0\0"], ["", "\U0010ffff" * 3]])
def test_tiny_and_odd_ranges_need_no_cut(keys: list[str]) -> None:
    """The search ends, and what it finds lies inside."""
    borders = asyncio.run(find_borders(store_with(keys), Retrier(), KeyRange(None, None), 4))

    assert all(border in keys for border in borders)


@pytest.mark.parametrize("shape", SHAPES)
def test_source_is_asked_again_for_every_key(shape: str) -> None:
    """Before deleting: dense and sparse keys, present and absent ones, by lists or one by one."""
    keys = SHAPES[shape]
    store = store_with(keys)
    asked = sorted({*keys[100:140], *keys[::2000], "zzz", keys[5] + "x", *(key + "!" for key in keys[::900])})

    found = asyncio.run(_present(store, asked))

    assert found == set(asked) & set(keys)
    assert store.calls["list_page"] + store.calls["stat"] <= len(asked) + 10


@pytest.mark.parametrize("prefix", ["", "p/" * 100, "p/" * 350])
def test_lists_begin_where_a_key_could_be(prefix: str) -> None:
    """Keys of 1,024 bytes that share nearly all of them: no offset is longer than a key with the prefix can be."""
    chance = random.Random(1)
    asked: list[str] = []
    for _ in range(30):
        room = 1024 - len(prefix)
        length = chance.choice([1, 2, 4, 6])
        ends = {"".join(chance.choices("0123456789abcdef~ ", k=length)) for _ in range(20)}
        keys = sorted("p" * (room - length) + end for end in ends)
        store = store_with([prefix + key for key in keys])
        store.location = Location(scheme="s3", bucket="bucket", prefix=prefix)
        page_of = store.list_page

        async def list_page(after: str, until: str | None, limit: int = 1000, page_of: Any = page_of) -> Page:
            asked.append(after)
            page: Page = await page_of(after, until, limit)
            return page

        store.list_page = list_page  # type: ignore[assignment,method-assign]
        asyncio.run(find_borders(store, Retrier(), KeyRange(keys[0], keys[-1]), chance.choice([2, 4, 16])))

    assert max(len((prefix + after).encode()) for after in asked) == 1024


def test_looks_for_single_keys_begin_where_a_key_could_be() -> None:
    """Below a prefix of hundreds of bytes there is no room for what keeps other keys out of the list."""
    prefix = "p/" * 350
    keys = [char * (1024 - len(prefix) - 1) + "x" for char in "abc"]
    store = store_with([prefix + key for key in keys])
    store.location = Location(scheme="s3", bucket="bucket", prefix=prefix)
    asked: list[str] = []
    page_of = store.list_page

    async def list_page(after: str, until: str | None, limit: int = 1000) -> Page:
        asked.append(after)
        page = await page_of(after, until, 1)
        return page._replace(cursor=page.objects[-1].key) if page.objects else page

    store.list_page = list_page  # type: ignore[assignment,method-assign]

    assert asyncio.run(_present(store, keys)) == set(keys)
    assert asyncio.run(find_listed(Retrier(), store, keys[1])) is not None
    assert len(asked) >= len(keys) + 1
    assert max(len((prefix + after).encode()) for after in asked) == 1024
