"""The producer: pages both listings of a range into its file, one page a transaction, both sides abreast.

Only the side that lies behind asks for its next page, both when they are level. So a page is compared as soon as it is
there, neither side runs ahead of the other by more than a page, and a range can be ended at any time at the key up to
which both have spoken.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from heavysync.events import Listed, Listener, Queued
from heavysync.keyspace import KeyRange
from heavysync.retry import Retrier
from heavysync.state.inventory import Inventory, Listing, SideName
from heavysync.stores.base import Store


class HandBack(Protocol):
    """Gives the keys above `at` back to the plan, to be cut into `pieces`; returns when that is committed."""

    async def __call__(self, at: str, *, pieces: int) -> None:
        """See above."""


@dataclass(slots=True)
class Quota:
    """What a range lists before it hands the rest back. Others who have nothing to do can make it less meanwhile.

    Attributes:
        rows: keys of one side.
        worth: keys of one side after which the rest is worth being split.
        pieces: that the rest should be cut into.
        is_open: the range is being listed.
    """

    rows: int
    worth: int
    pieces: int
    is_open: bool = True

    def split(self, pieces: int) -> None:
        """Hand the rest back soon, for others to take up."""
        self.rows = min(self.rows, self.worth)
        self.pieces = max(self.pieces, pieces)


class Lister:
    """Lists one range.

    Args:
        inventory: the range's listings.
        stores: of both sides.
        retry: the retry policy.
        listener: is told of every page.
        wake: is set when transfers were found.
    """

    def __init__(
        self,
        inventory: Inventory,
        stores: dict[SideName, Store],
        retry: Retrier,
        *,
        listener: Listener,
        wake: asyncio.Event,
    ) -> None:
        self._inventory = inventory
        self._stores = stores
        self._retry = retry
        self._listener = listener
        self._wake = wake

    async def run(self, span: KeyRange, quota: Quota, hand_back: HandBack) -> bool:
        """List the range to its end, or until one side has reached the quota and the rest was handed back.

        A listing that was interrupted goes on after its cursor. Answers False if the run stopped first.

        Raises:
            FatalError: a side cannot be listed.
        """
        sides = await self._inventory.listings()
        while not all(side.done for side in sides.values()):
            if self._retry.stopping.is_set():
                return False
            async with asyncio.TaskGroup() as group:
                for name in _behind(sides):
                    group.create_task(self._page(name, sides, span))
            at = _level(sides)
            if at is not None and at != span.hi and max(side.objects for side in sides.values()) >= quota.rows:
                await hand_back(at, pieces=quota.pieces)
                await self._inventory.trim(at)
                return True
        return True

    async def _page(self, name: SideName, sides: dict[SideName, Listing], span: KeyRange) -> None:
        """Ask for the next page of a side and record it."""
        before = sides[name]
        step = partial(self._stores[name].list_page, span.lo if before.cursor is None else before.cursor, span.hi)
        page = await self._retry(f"list {name}", step)
        recorded = await self._inventory.record_page(name, page, span.hi)
        sides[name] = now = recorded.listing
        self._listener(Listed(name, now.objects - before.objects, now.size - before.size))
        if recorded.queued:
            self._listener(Queued(recorded.queued, recorded.queued_bytes))
            self._wake.set()


def _behind(sides: dict[SideName, Listing]) -> list[SideName]:
    """The sides that lie behind: both, when they are level."""
    cursors = {name: side.cursor for name, side in sides.items() if not side.done}
    if None in cursors.values():
        return [name for name, cursor in cursors.items() if cursor is None]
    lowest = min(cursor for cursor in cursors.values() if cursor is not None)
    return [name for name, cursor in cursors.items() if cursor == lowest]


def _level(sides: dict[SideName, Listing]) -> str | None:
    """The key up to which both sides have spoken, unless that is the end or nothing yet."""
    cursors = [side.cursor for side in sides.values() if not side.done]
    if not cursors or None in cursors:
        return None
    return min(cursor for cursor in cursors if cursor is not None)
