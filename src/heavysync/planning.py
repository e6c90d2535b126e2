"""Where to cut a range: a few small lists find keys that lie about evenly in it, whatever characters keys are made of.

A cut need not be even: a range that turns out large is handed back and cut again. Any key is right as a border.
"""

from __future__ import annotations

import asyncio
from functools import partial

from heavysync.errors import cause
from heavysync.keyspace import HIGHEST, KEY_MAX, KeyRange, between
from heavysync.retry import Retrier
from heavysync.stores.base import Store

PROBES_PER_PIECE = 6
"""Lists of one key that are spent for each piece wanted; 1,000 of them cost half a cent."""


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

    @property
    def is_spent(self) -> bool:
        """No probe is left, or the run stops."""
        return self._left <= 0 or self._retry.stopping.is_set()

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
    prober = Prober(store, retry, PROBES_PER_PIECE * pieces + 16)
    first = await prober.first(span.lo, span.hi)
    if first is None:
        return []
    end = await _end(prober, first, span.hi)
    found = await _bisect(prober, first, end, pieces)
    if len(found) < pieces:
        return found
    step = len(found) / pieces
    return sorted({found[int(step * number)] for number in range(1, pieces)})


async def _end(prober: Prober, first: str, hi: str | None) -> str:
    """A key that no key of the range lies above, close to the last one.

    Keys share a beginning more often than not. The longest beginning of the first key that all later ones share, too, is
    found by bisection, since "nothing lies above all keys that begin like this" holds for every shorter beginning as well.
    """
    shared, beyond = 0, len(first) + 1
    if await prober.first(HIGHEST, hi) is not None:
        return hi if hi is not None else HIGHEST * 2
    while beyond - shared > 1 and not prober.is_spent:
        middle = (shared + beyond) // 2
        edge = first[:middle] + HIGHEST
        if len(edge.encode()) > KEY_MAX:
            break
        is_last = (hi is not None and edge >= hi) or await prober.first(edge, hi) is None
        shared, beyond = (middle, beyond) if is_last else (shared, middle)
    edge = first[:shared] + HIGHEST
    return min(edge, hi) if hi is not None else edge


async def _bisect(prober: Prober, first: str, end: str, pieces: int) -> list[str]:
    """Halve the gaps between known keys again and again, all at once each time; answer the keys found, ascending."""
    known = [first]
    gaps = [(first, end)]
    while gaps and len(known) < 2 * pieces and not prober.is_spent:
        try:
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(_halve(prober, *gap)) for gap in gaps]
        except BaseExceptionGroup as errors:
            raise cause(errors) from errors
        found = [task.result() for task in asked]
        known += [key for key, _ in found if key is not None]
        gaps = [gap for _, halves in found for gap in halves if gap[0] < gap[1]]
    return sorted(known[1:])


async def _halve(prober: Prober, low: str, high: str) -> tuple[str | None, list[tuple[str, str]]]:
    """The first key in the upper half of a gap, if one was found, and the gaps that are left."""
    middle = between(low, high)
    if middle is None or prober.is_spent:
        return None, []
    key = await prober.first(middle, high)
    return key, [(low, middle)] if key is None else [(low, middle), (key, high)]
