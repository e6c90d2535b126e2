"""Where to cut a range: a few small lists find keys that lie about evenly in it, whatever characters keys are made of.

A cut need not be even: a range that turns out large is handed back and cut again. Any key is right as a border.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

from heavysync.errors import cause
from heavysync.keyspace import HIGHEST, KEY_MAX, OFFSET_MAX, KeyRange, between, room_below
from heavysync.retry import Retrier
from heavysync.stores.base import Store

PROBES, PROBES_PER_PIECE = 32, 6
"""Lists of one key after which a search ends: so many, and so many for each piece wanted; 1,000 of them cost half a cent."""

WAYS = 4
"""Into so many parts the search for a length divides what is left at each step: half as many steps as by bisection."""

FEW_GAPS = 2
"""So many gaps are divided into four parts instead of two."""

AMPLE = 1.5
"""So many times as many keys as pieces are looked for, so that those which are close together can be left out."""

T = TypeVar("T")


class Prober:
    """Asks a store which key comes first above another.

    Args:
        store: the side that is probed.
        retry: the retry policy.
        most: probes at most.
    """

    def __init__(self, store: Store, retry: Retrier, most: int) -> None:
        self._store = store
        self._retry = retry
        self._left = most
        self._room = room_below(store.location.prefix)

    @property
    def is_spent(self) -> bool:
        """No probe is left, or the run stops."""
        return self._left <= 0 or self._retry.stopping.is_set()

    def fits(self, offset: str, most: int = OFFSET_MAX) -> bool:
        """Whether a list can begin at an offset, and that has `most` bytes at most."""
        return len(offset.encode()) <= min(most, self._room)

    async def first(self, after: str | None, until: str | None) -> str | None:
        """The first key above `after` and at most `until`; None: there is none."""
        cursor = after
        while True:
            self._left -= 1
            step = partial(self._store.list_page, cursor, until, 1)
            page = await self._retry("list to plan ranges", step)
            if page.objects:
                return page.objects[0].key
            if page.cursor is None:
                return None
            cursor = page.cursor


async def find_borders(store: Store, retry: Retrier, span: KeyRange, pieces: int) -> list[str]:
    """Find up to `pieces - 1` keys that cut `span` into parts that may be of similar size.

    An empty answer means that no cut was found: then the range is listed as it is.
    """
    prober = Prober(store, retry, PROBES + PROBES_PER_PIECE * pieces)
    first = await prober.first(span.lo, span.hi)
    if first is None:
        return []
    end = await _end(prober, first, span.hi)
    found = await _search(prober, _Gap(first, end, is_close=True), pieces)
    if len(found) < pieces:
        return found
    step = len(found) / pieces
    return sorted({found[int(step * number)] for number in range(1, pieces)})


async def _end(prober: Prober, first: str, hi: str | None) -> str:
    """A key that no key of the range lies above, close to the last one.

    Keys share a beginning more often than not. The longest beginning of the first key that all later ones share, too, is
    searched for by its length, since "nothing lies above all keys that begin like this" holds for every shorter one as well.
    """
    longest = len(first)
    while longest and not prober.fits(first[:longest] + HIGHEST, KEY_MAX):
        longest -= 1
    shared, beyond = -1, longest + 1  # lengths of which it holds, and does not
    while beyond - shared > 1 and not prober.is_spent:
        lengths = sorted({shared + -(-(beyond - shared) * way // WAYS) for way in range(1, WAYS)} - {beyond})
        asked = await _together(_is_last(prober, first[:length] + HIGHEST, hi) for length in lengths)
        for length, is_last in zip(lengths, asked, strict=True):
            if not is_last:
                beyond = length
                break
            shared = length
    if shared < 0:
        return hi if hi is not None else HIGHEST * 2
    edge = first[:shared] + HIGHEST
    return min(edge, hi) if hi is not None else edge


async def _is_last(prober: Prober, edge: str, hi: str | None) -> bool:
    return (hi is not None and edge >= hi) or await prober.first(edge, hi) is None


class _Gap(NamedTuple):
    """Keys that may be cut: a known one, and what none of them lies above.

    Attributes:
        low: the known key.
        high: the end.
        is_close: the end is as close to the last key as `_end` could bring it.
    """

    low: str
    high: str
    is_close: bool = False


async def _search(prober: Prober, gap: _Gap, pieces: int) -> list[str]:
    """Divide gaps into parts again and again, all at once each time; answer the keys found, ascending.

    Few gaps are divided into more parts, many only into two: then steps cost less than lists that are not needed.
    """
    known: list[str] = []
    gaps = [gap]
    while gaps and len(known) < AMPLE * pieces and not prober.is_spent:
        found = await _together(_divide(prober, gap, is_fine=len(gaps) <= FEW_GAPS) for gap in gaps)
        known += [key for keys, _ in found for key in keys]
        gaps = [gap for _, parts in found for gap in parts if gap.low < gap.high]
    return sorted(known)


async def _divide(prober: Prober, gap: _Gap, *, is_fine: bool) -> tuple[list[str], list[_Gap]]:
    """The first keys of all parts of a gap but the lowest, and those parts in which there are more.

    If all keys are in the lowest part, that ends close to the last one: so a crowd of keys that share a long beginning is
    found in a few steps, however small a part of the gap it is.
    """
    middle = between(gap.low, gap.high)
    if middle is None or prober.is_spent or not prober.fits(middle):
        return [], []
    borders = [between(gap.low, middle), middle, between(middle, gap.high)] if is_fine else [middle]
    edges = [gap.low, *(border for border in borders if border is not None and prober.fits(border)), gap.high]
    keys = await _together(prober.first(*part) for part in pairwise(edges))
    parts = [_Gap(key, end) for key, end in zip(keys, edges[1:], strict=True) if key is not None]
    if keys[0] is None or len(parts) > 1:
        return [part.low for part in parts if part.low > edges[1]], parts
    lowest = parts[0]
    end = lowest.high if gap.is_close else await _end(prober, *lowest[:2])
    return [], [_Gap(lowest.low, end, is_close=True)]


async def _together(steps: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The answers of some steps that are taken at once.

    Raises:
        HeavysyncError: the first error among them.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(step) for step in steps]
    except BaseExceptionGroup as errors:
        raise cause(errors) from errors
    return [task.result() for task in tasks]
