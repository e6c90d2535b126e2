"""How many processes a run has, and when: this one alone while there is little to do, then as many as there are cores.

A process costs some CPU-seconds to start, so a run begins alone. It is worth more when a core has been busy with it for
`ENOUGH_S` and there are ranges left to share; or at once, where the plan is known to be large. Then this process finishes
what is under way as at a stop, and leaves its ranges, as their files are, to the others.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from heavysync.errors import FatalError
from heavysync.events import Event, Finished, Listener, ListingDone, Notice, Queued
from heavysync.objects import Location
from heavysync.options import MIB, SyncOptions
from heavysync.passes import Passes
from heavysync.runners.crew import Crew
from heavysync.runners.team import Team
from heavysync.state.job import Job, Phase, PlannedRange
from heavysync.state.queue import Trouble

ENOUGH_S = 30.0
"""CPU-seconds of passes after which other processes are worth their start."""

BUSY = 0.7
"""Share of a core below which this process waits for the servers rather than for a core."""

WORTH = 0.5
"""What is left to do, where that is known, as a share of what was done: below it, others come too late."""

LOOK_S = 1.0
"""Seconds between two looks."""

MANY = 1024
"""Ranges of a plan that is large beyond doubt: so many hold some millions of keys (`runner.LEAST_KEYS`)."""

LEAST_MEMORY = 16 * MIB
"""Bytes of content that a process needs."""

AMPLE_MEMORY = 64 * MIB
"""Bytes of content that each process has into which a run grows unasked: parts of that size go to 640 GiB."""


def cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Cores that this process may use: those it is bound to, and not more than its control group is given."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        most, period = quota.read_text("ascii").split()
        return max(1, min(bound, -(-int(most) // int(period))))
    except (OSError, ValueError):  # no such group, or "max"
        return bound


def team_for(
    options: SyncOptions,
    ends: tuple[Location, Location],
    directory: Path,
    *,
    lock: int,
    stop: asyncio.Event,
    retry_base_s: float,
) -> Team | None:
    """The processes that a run may have besides this one; None: it does all by itself.

    Each needs one of `--concurrency`, and of `--memory` a part, or 16 MiB; unasked, 64 MiB.
    """
    most, least = (cores(), AMPLE_MEMORY) if options.processes is None else (options.processes, LEAST_MEMORY)
    most = min(most, options.concurrency, options.memory // max(least, options.part_size or 0))
    if most < 2 or sys.platform == "win32":
        return None
    return Team(
        most=most,
        at_once=options.processes is not None,
        ends=ends,
        options=options,
        directory=directory,
        lock=lock,
        stop=stop,
        retry_base_s=retry_base_s,
    )


@asynccontextmanager
async def linked(stop: asyncio.Event, team: Team | None) -> AsyncIterator[asyncio.Event]:
    """What ends the work of this process: the stop of the run, or also other processes that take it over."""
    if team is None or team.at_once:
        yield stop
        return
    stopping = asyncio.Event()

    async def follow() -> None:
        await stop.wait()
        stopping.set()

    async with asyncio.TaskGroup() as group:
        following = group.create_task(follow())
        yield stopping
        following.cancel()


class Outlook:
    """A listener that keeps account of what is left to copy, and passes everything on.

    Args:
        listener: takes it.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._is_listed = False
        self._queued = self._done = 0

    def __call__(self, event: Event) -> None:
        """Take an event."""
        match event:
            case ListingDone():
                self._is_listed = True
            case Queued(objects, _):
                self._queued += objects
            case Finished(copied, proven, skipped, failed):
                self._done += copied + proven + skipped + failed
            case _:
                pass
        self._listener(event)

    @property
    def is_long(self) -> bool:
        """Whether much may be left: it is still being listed, or known."""
        return not self._is_listed or self._queued - self._done > WORTH * self._done


class Growing:
    """This process first, then a crew. Made by `growing`.

    Args:
        job: the plan.
        passes: of this process.
        crew: the others.
        stopping: ends the work of this process.
        team: how large the crew may be.
        outlook: knows what is left, and is told if there can be no crew.
    """

    def __init__(self, job: Job, passes: Passes, crew: Crew, stopping: asyncio.Event, team: Team, outlook: Outlook) -> None:
        self._job = job
        self._passes = passes
        self._crew = crew
        self._stopping = stopping
        self._team = team
        self._outlook = outlook
        self._has_grown = False
        self._turns = asyncio.Semaphore(1)  # for what this process has begun and the others go on with
        self._before: Phase = "planned"

    @property
    def stuck(self) -> list[Trouble]:
        """See `Place`."""
        return self._crew.stuck if self._has_grown else self._passes.stuck

    @property
    def at_once(self) -> int:
        """See `Place`."""
        return self._crew.at_once if self._has_grown else self._passes.at_once

    def split(self, idle: int) -> None:
        """See `Place`."""
        (self._crew if self._has_grown else self._passes).split(idle)

    async def run(self, before: Phase, planned: PlannedRange) -> bool:
        """See `Place`."""
        self._before = before
        if not self._has_grown:
            finished = await self._passes.run(before, planned)
            if finished or not self._has_grown:
                return finished
            async with self._turns:
                return await self._move(before, planned)
        return await self._move(before, planned)

    async def _move(self, before: Phase, planned: PlannedRange) -> bool:
        if self._team.stop.is_set():
            return False
        phase, planned = await self._job.look(planned.range)
        return await self._crew.run(before, planned) if phase == before else True

    async def grow(self) -> None:
        """Let the crew take over."""
        try:
            can_grow = await self._crew.begin()
        except FatalError as error:
            said = "no other process can be started: this one does all of the work (--processes 1 says so)"
            self._outlook(Notice(f"{said}: {error}"))
            return
        if can_grow:
            self._turns = asyncio.Semaphore(self._crew.at_once)
            self._has_grown = True
            self._stopping.set()

    async def watch(self) -> None:
        """Wait until others are worth their start, and let them take over."""
        begun = cpu = time.process_time()
        now = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_S)
            before, was = cpu, now
            cpu, now = time.process_time(), time.monotonic()
            if cpu - begun < ENOUGH_S or cpu - before < BUSY * (now - was):
                continue
            if self._before == "planned" and not self._outlook.is_long:
                continue
            if (await self._job.count_ranges()).get(self._before, 0) >= 2:
                await self.grow()
                return


@asynccontextmanager
async def growing(
    job: Job, passes: Passes, crew: Crew, stopping: asyncio.Event, team: Team, outlook: Outlook
) -> AsyncIterator[Growing]:
    """See `Growing`."""
    place = Growing(job, passes, crew, stopping, team, outlook)
    if (await job.count_ranges()).get("planned", 0) >= MANY:
        await place.grow()
        yield place
        return
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(place.watch())
        yield place
        watching.cancel()
