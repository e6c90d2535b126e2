"""The plan as the process that owns job.db keeps it: whatever any engine says of a range is committed here, and counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from heavysync.events import Event, Finished, Listener, ListingDone
from heavysync.keyspace import KeyRange
from heavysync.state.job import Job, Phase, Totals
from heavysync.streaks import LONGEST, streak_error

NEWS_S = 0.5
"""Seconds in which news of a success reach this process from all others."""


class Ledger:
    """See `engine.Plan`.

    Args:
        job: the open job.db.
        listener: is told when both listings are complete.
        changed: tells whoever waits for ranges that the plan has got more.
    """

    def __init__(self, job: Job, listener: Listener, changed: Callable[[], Awaitable[None]]) -> None:
        self._job = job
        self._listener = listener
        self._changed = changed
        self._unlisted = 0  # ranges whose listing is not complete
        self._listed: set[int] = set()  # by number: an engine that died may have said so before
        self._is_excused = False  # some transfer of this run went through
        self._refused: dict[int, tuple[str, int]] = {}  # code and number of refusals in a row, by process

    async def begin(self) -> None:
        """Count what is to be listed; totals are final when nothing is."""
        self._count((await self._job.count_ranges()).get("planned", 0))

    def _count(self, change: int) -> None:
        self._unlisted += change
        if self._unlisted == 0:
            self._listener(ListingDone())

    def range_file(self, number: int) -> Path:
        """The file of a range."""
        return self._job.range_file(number)

    async def cut(self, number: int, borders: list[str]) -> list[KeyRange]:
        """Cut a range; whoever waits for ranges is told."""
        spans = await self._job.cut(number, borders)
        self._count(len(spans) - 1)
        await self._changed()
        return spans

    async def hand_back(self, number: int, at: str, *, pieces: int) -> None:
        """End a range early; whoever waits for ranges is told."""
        await self._job.hand_back(number, at, pieces=pieces)
        self._count(1)
        await self._changed()

    async def listed(self, number: int) -> None:
        """Count a range whose listings are complete, once."""
        if number not in self._listed:
            self._listed.add(number)
            self._count(-1)

    async def advance(self, number: int, *, before: Phase, after: Phase, totals: Totals) -> None:
        """Record that a pass over a range is finished."""
        await self._job.advance(number, before=before, after=after, totals=totals)

    async def is_proven(self) -> bool:
        """Whether some object is known to be in sync: of a finished range, or because it went through in this run."""
        totals = await self._job.totals()
        return self._is_excused or totals.source_objects > totals.to_copy or totals.copied > 0

    def noting(self, listener: Listener) -> Listener:
        """A listener for what this process does itself: notes it, and passes it on."""

        def take(event: Event) -> None:
            self.note(event)
            listener(event)

        return take

    def note(self, event: Event) -> None:
        """Take note of what a process has done."""
        if isinstance(event, Finished) and event.copied + event.proven:
            self._is_excused = True

    async def judge(self, process: int, code: str, length: int, message: str) -> bool:
        """Whether some object is in sync, asked by a process in which `length` objects were refused in a row.

        False: not that anybody knows, but all processes together have not had as many refusals yet as it takes.

        Raises:
            FatalError: they have.
        """
        self._refused[process] = (code, length)
        if await self.is_proven():
            return True
        if self._refusals(code) < LONGEST:
            return False
        await asyncio.sleep(NEWS_S)  # what went through elsewhere just before is on its way here
        if await self.is_proven():
            return True
        raise streak_error(self._refusals(code), message)

    def _refusals(self, code: str) -> int:
        return sum(length for its_code, length in self._refused.values() if its_code == code)
