"""How a run is told: its report, the objects that were trouble, and what a dry run would do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from heavysync.passes import TOLD
from heavysync.state.job import Job, Phase, PlannedRange, Run, Totals
from heavysync.state.queue import Trouble
from heavysync.state.ranges import RangeState, is_of_run, open_range

Status = Literal["done", "failed", "refused", "stopped"]
EXIT_CODES: dict[Status, int] = {"done": 0, "failed": 1, "refused": 4, "stopped": 130}


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One thing that a dry run would do.

    Args:
        action: "copy" or "delete".
        key: relative to the prefixes.
        size: bytes.
    """

    action: Literal["copy", "delete"]
    key: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """How a run ended.

    Args:
        status: "done": in sync. "failed": finished, but for some objects. "refused": a guard stopped it. "stopped": it can
            be resumed.
        run: its number in the state directory.
        resumed: it went on with an interrupted run.
        dry_run: nothing was changed.
        totals: what was listed, copied, deleted, purged.
        message: one sentence.
        troubles: the first 20 objects that failed or were skipped.
        state: the state directory.
    """

    status: Status
    run: int
    resumed: bool
    dry_run: bool
    totals: Totals
    message: str
    troubles: list[Trouble] = field(default_factory=list)
    state: Path

    @property
    def exit_code(self) -> int:
        """The exit code of the command: 0, 1, 4 or 130."""
        return EXIT_CODES[self.status]


async def find_troubles(job: Job, run: Run) -> list[Trouble]:
    """The first objects that failed, then those that were skipped; at most 20."""
    found: list[Trouble] = []
    async for planned in _ranges(job):
        if not await asyncio.to_thread(is_of_run, job.range_file(planned.range), run.mark):
            continue  # not begun, in a run that was stopped: to open it would empty it
        async with _open(job, run, planned) as state:
            found += await state.queue.troubles(TOLD)
            found += [
                Trouble(key, status, code or "", message or "")
                for key, status, code, message in await state.extras.failures(TOLD)
            ]
            found += [Trouble(key, "failed", code, words) for key, _, code, words in await state.extras.purge_failures(TOLD)]
    return sorted(found, key=lambda trouble: (trouble.status, trouble.key))[:TOLD]


async def tell_plan(job: Job, run: Run, planned: Callable[[Planned], None], *, delete: bool) -> None:
    """Tell everything that a dry run found to do, range by range, by key."""
    async for part in _ranges(job):
        async with _open(job, run, part) as state:
            after: str | None = None
            while rows := await state.queue.pending_keys(after, 1000):
                for key, size, _ in rows:
                    planned(Planned(action="copy", key=key, size=size))
                after = rows[-1][0]
            if delete:
                await _tell_deletes(state, planned)


async def _tell_deletes(state: RangeState, planned: Callable[[Planned], None]) -> None:
    await state.extras.find()
    after: str | None = None
    while extra := await state.extras.pending(after, 1000):
        for info in extra:
            planned(Planned(action="delete", key=info.key, size=info.size))
        after = extra[-1].key


async def _ranges(job: Job) -> AsyncIterator[PlannedRange]:
    for phase in get_args(Phase):
        last = 0
        while found := await job.next_ranges(phase, after=last, limit=64):
            for planned in found:
                yield planned
            last = found[-1].range


def _open(job: Job, run: Run, planned: PlannedRange) -> AbstractAsyncContextManager[RangeState]:
    parent = None if planned.parent is None else job.range_file(planned.parent)
    return open_range(job.range_file(planned.range), run=run.mark, span=planned.span, parent=parent)
