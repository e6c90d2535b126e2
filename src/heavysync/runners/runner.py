"""Runs a pass over all ranges of the plan, several at once, also over those that appear while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from heavysync.state.job import Job, Phase, PlannedRange

Work = Callable[[Phase, PlannedRange], Awaitable[bool]]
"""The pass that a range in this phase needs, here or in another process: True when it is finished, False when the run stopped
first."""


class Runner:
    """Runs passes.

    Args:
        job: the plan.
        at_once: ranges worked on at the same time.
        stopping: no further range is begun once it is set.
    """

    def __init__(self, job: Job, *, at_once: int, stopping: asyncio.Event) -> None:
        self._job = job
        self._at_once = at_once
        self._stopping = stopping
        self._changed = asyncio.Condition()

    async def run(self, before: Phase, work: Work) -> bool:
        """Do `work` on every range that is in phase `before`; answer whether all were finished."""
        self._last = 0
        self._active = 0
        self._all_finished = True
        async with asyncio.TaskGroup() as group:
            for _ in range(self._at_once):
                group.create_task(self._worker(before, work))
        return self._all_finished and not await self._job.next_ranges(before, after=0, limit=1)

    async def announce(self) -> None:
        """Tell waiting workers that the plan has got more ranges."""
        async with self._changed:
            self._changed.notify_all()

    async def _worker(self, before: Phase, work: Work) -> None:
        while (planned := await self._next(before)) is not None:
            finished = False
            try:
                finished = await work(before, planned)
            finally:
                self._all_finished = self._all_finished and finished
                async with self._changed:
                    self._active -= 1
                    self._changed.notify_all()

    async def _next(self, before: Phase) -> PlannedRange | None:
        """The next range that nobody has begun; waits while others may still hand some back."""
        async with self._changed:
            while not self._stopping.is_set():
                # numbers only grow, so what is new lies above the last one taken
                found = await self._job.next_ranges(before, after=self._last, limit=1)
                if found:
                    self._last = found[0].range
                    self._active += 1
                    return found[0]
                if self._active == 0:
                    return None
                await self._changed.wait()
            return None
