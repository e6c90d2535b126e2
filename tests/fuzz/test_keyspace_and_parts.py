"""Whatever keys there are: ranges are cut so that each key is listed once, and parts so that each byte is moved once."""

from __future__ import annotations

import asyncio
from typing import Any

from fuzz.kit import TEXT, drive, fuzz
from hypothesis import assume, given
from hypothesis import strategies as st

from heavysync.keyspace import HIGHEST, KEY_MAX, OFFSET_MAX, KeyRange, before, between, cut
from heavysync.objects import Limits, Location, Metadata
from heavysync.parts import part_size_for, plan_parts
from heavysync.planning import PROBES, PROBES_PER_PIECE, find_borders
from heavysync.stores.memory import MemoryStore
from heavysync.stores.memory_bucket import MemoryService

EDGES = "\0\x1f\x20\x7e\x7f\ud7ff\ue000\ufffd\ufffe\uffff\U00010000\U0010fffd\U0010fffe\U0010ffff/a"
KEYS = st.one_of(TEXT, st.text(EDGES, max_size=6), st.text("ab", max_size=9), st.integers(0, 10**6).map("k/{:09d}".format))
LONG = st.one_of(
    KEYS, st.tuples(st.text(EDGES, min_size=1, max_size=2), st.integers(1, 300)).map(lambda pair: (pair[0] * pair[1])[:340])
)


class Calm:
    """Retries nothing, and never stops."""

    class stopping:
        @staticmethod
        def is_set() -> bool:
            return False

    async def __call__(self, _operation: str, step: Any) -> Any:
        return await step()


class Listed(MemoryStore):
    """A memory store that lets nobody else run, and so can be driven by hand."""

    async def step(self, operation: str, key: str = "") -> None:
        self.calls[operation] += 1


def store_of(keys: set[str], page_max: int = 1000) -> Listed:
    service = MemoryService()
    bucket = service.create("b")
    for key in keys:
        bucket.put(key, b"", Metadata())
    return Listed(Location(scheme="s3", bucket="b"), service, page_max=page_max)


async def listed(store: MemoryStore, span: KeyRange) -> list[str]:
    found: list[str] = []
    after, more = span.lo, True
    while more:
        page = await store.list_page(after, span.hi)
        found += [info.key for info in page.objects]
        after, more = page.cursor, page.cursor is not None
    return found


def tiles(pieces: list[KeyRange], span: KeyRange) -> None:
    assert (pieces[0].lo, pieces[-1].hi) == (span.lo, span.hi)
    assert all(a.hi is not None and a.hi == b.lo for a, b in zip(pieces, pieces[1:], strict=False))
    assert all(piece.lo is None or piece.hi is None or piece.lo < piece.hi for piece in pieces)


@fuzz(300)
@given(
    keys=st.sets(LONG, max_size=40),
    lo=st.none() | LONG,
    hi=st.none() | LONG,
    pieces=st.integers(2, 12),
    page_max=st.sampled_from([1, 3, 1000]),
)
def test_borders_cut_so_that_each_key_is_listed_once(
    keys: set[str], lo: str | None, hi: str | None, pieces: int, page_max: int
) -> None:
    """Found with a bounded number of probes, inside of the range, in order; the pieces together list what the range does."""
    assume(lo is None or hi is None or lo < hi)
    span, store = KeyRange(lo, hi), store_of(keys, page_max)

    borders = asyncio.run(find_borders(store, Calm(), span, pieces))
    probes = store.calls["list_page"]
    ranges = cut(span, borders)

    assert probes <= PROBES + (PROBES_PER_PIECE + 3) * pieces + 8  # the last step may go beyond
    assert borders == sorted(set(borders))
    assert len(borders) < pieces
    assert all(border in span for border in borders)
    tiles(ranges, span)
    assert [key for piece in ranges for key in drive(listed(store, piece))] == drive(listed(store, span))


@fuzz(300)
@given(keys=st.sets(KEYS, max_size=30), cuts=st.lists(st.lists(LONG, max_size=4), max_size=4), probe=LONG)
def test_ranges_cut_again_and_again_tile_the_key_space(keys: set[str], cuts: list[list[str]], probe: str) -> None:
    """Any key, listed or not, is in exactly one piece, whatever the borders are."""
    whole = KeyRange(None, None)
    ranges = [whole]
    for borders in cuts:
        ranges = [piece for span in ranges for piece in cut(span, borders)]
    store = store_of(keys)

    tiles(ranges, whole)
    for key in {probe, *keys, *(border for borders in cuts for border in borders)}:
        assert sum(key in span for span in ranges) == 1
    assert [key for span in ranges for key in drive(listed(store, span))] == sorted(keys)


@fuzz(500)
@given(a=LONG, b=LONG)
def test_between_finds_a_key_or_there_is_hardly_room(a: str, b: str) -> None:
    """A key that a store may be asked for: no longer than the longer of both and a few characters, valid, strictly inside."""
    lo, hi = min(a, b), max(a, b)

    middle = between(lo, hi)

    if middle is not None:
        assert lo < middle < hi
        assert not set(middle) - set(lo + hi) & set("\ufffe\uffff")
        assert len(middle) <= len(hi) + 60
        middle.encode()


@fuzz(500)
@given(keys=st.sets(LONG, min_size=1, max_size=20), data=st.data())
def test_listing_after_before_shows_the_key_first_or_nearly(keys: set[str], data: Any) -> None:
    """Nothing but keys that begin like it come before it; the offset is short enough to be sent, below a long prefix, too."""
    key = data.draw(st.sampled_from(sorted(keys)))
    size = len(key.encode())
    room = data.draw(st.one_of(st.just(OFFSET_MAX), st.integers(size, max(size, OFFSET_MAX)), st.integers(1, OFFSET_MAX)))

    after = before(key, room)

    shown = drive(listed(store_of(keys), KeyRange(after, key)))
    assert shown[-1] == key
    assert after is None or len(after.encode()) <= min(room, max(KEY_MAX, size))
    assert after is None or not set(after) - set(key) & set("\ufffe\uffff")
    if after is not None and after.endswith(HIGHEST):
        assert all(other >= after for other in shown)


LIMITS = st.builds(
    Limits,
    write_max=st.just(1 << 40),
    part_min=st.integers(1, 1 << 23),
    part_max=st.just(1 << 33),
    part_count=st.integers(100, 10_000),
    part_multiple=st.sampled_from([1, 256 << 10]),
    parallel_parts=st.booleans(),
    object_max=st.just(1 << 39),
    copy_max=st.just(1 << 40),
    delete_batch=st.just(100),
)


@fuzz(500)
@given(
    size=st.integers(0, 1 << 39),
    limits=LIMITS,
    wanted=st.none() | st.integers(1, 1 << 26),
    source=st.none() | st.integers(1, 1 << 33),
)
def test_parts_of_any_store_tile_the_object(size: int, limits: Limits, wanted: int | None, source: int | None) -> None:
    """Within the limits of the store, whatever the source's parts are; no byte is left out or moved twice."""
    part_size = part_size_for(size, limits, wanted=wanted, source_part_size=source)
    parts = plan_parts(size, part_size)

    assert len(parts) <= limits.part_count
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert (parts[0].start, parts[-1].end) == (0, size)
    assert all(a.end == b.start for a, b in zip(parts, parts[1:], strict=False))
    assert all(limits.part_min <= part.size <= limits.part_max and part.size % limits.part_multiple == 0 for part in parts[:-1])
