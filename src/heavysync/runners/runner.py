"""Runs a pass over all ranges of the plan, several at once, also over those that appear while it runs."""

from __future__ import annotations

import asyncio
from typing import Protocol

from heavysync.breadth import LOOK_S
from heavysync.state.job import Job, Phase, PlannedRange
from heavysync.state.queue import Trouble

FEW_RANGES = 64
"""Ranges that a plan may have, whatever they hold; where more are worked on at once, twice as many as these."""

LEAST_KEYS = 8_000
"""Keys that ranges hold on the average, where there are more: an empty one costs 4-7 ms of CPU and 80 KiB in each run."""


class Place(Protocol):
    """Where passes are run: here or in other processes."""

    @property
    def at_once(self) -> int:
        """Ranges that it should have at once, at this moment."""

    @property
    def stuck(self) -> list[Trouble]:
        """The first objects that were stuck when the run was stopped."""

    async def run(self, before: Phase, planned: PlannedRange) -> bool:
        """Run the pass that a range in phase `before` needs; answer False if the run stopped first."""

    def split(self, idle: int) -> None:
        """Have ranges that are being listed hand back their rest, where that pays, for `idle` others to take up."""


class Runner:
    """Runs passes.

    Args:
        job: the plan.
        stopping: no further range is begun once it is set.
    """

    def __init__(self, job: Job, *, stopping: asyncio.Event) -> None:
        self._job = job
        self._stopping = stopping
        self._changed = asyncio.Condition()

    async def run(self, before: Phase, place: Place) -> bool:
        """Have all ranges run that are in phase `before`; answer whether all were finished."""
        self._last = 0
        self._active = 0
        self._wanting = 0  # ranges that there was room for when the plan had no more
        self._all_finished = True
        async with asyncio.TaskGroup() as group:
            balancing = group.create_task(self._balance(place))
            while (planned := await self._next(before, place)) is not None:
                group.create_task(self._one(before, planned, place))
            balancing.cancel()
        return self._all_finished and not await self._job.next_ranges(before, after=0, limit=1)

    async def announce(self) -> None:
        """Tell that the plan has got more ranges."""
        async with self._changed:
            self._changed.notify_all()

    async def _one(self, before: Phase, planned: PlannedRange, place: Place) -> None:
        finished = False
        try:
            finished = await place.run(before, planned)
        finally:
            self._all_finished = self._all_finished and finished
            async with self._changed:
                self._active -= 1
                self._changed.notify_all()

    async def _next(self, before: Phase, place: Place) -> PlannedRange | None:
        """The next range that nobody has begun; waits while there is no room, or others may still hand some back."""
        async with self._changed:
            while not self._stopping.is_set():
                # numbers only grow, so what is new lies above the last one taken
                room = max(0, place.at_once - self._active)
                found = await self._job.next_ranges(before, after=self._last, limit=1) if room else []
                if found:
                    self._last = found[0].range
                    self._active += 1
                    return found[0]
                self._wanting = room
                if self._active == 0:
                    return None
                await self._changed.wait()
            return None

    async def _balance(self, place: Place) -> None:
        """See to it that there are as many ranges at work as there should be: new ones, then pieces of those at work."""
        while True:
            await asyncio.sleep(LOOK_S)
            wanting = self._wanting
            if wanting and await self._may_split(place):
                place.split(wanting)
            await self.announce()

    async def _may_split(self, place: Place) -> bool:
        """Whether the ranges of the plan, which is kept, hold enough keys on the average to become more."""
        if self._last <= max(FEW_RANGES, 2 * place.at_once):
            return True
        totals = await self._job.totals()
        return self._last * LEAST_KEYS <= max(totals.source_objects, totals.destination_objects)
