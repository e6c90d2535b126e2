"""What a process does for a run, wherever it is: any pass over any range, with its own stores and its share of the means.

`list and copy` takes a range from "planned" to "copied", `delete` to "deleted", `purge` to "purged". A pass can be run again
at any time, by any process: whatever was done is found in the range's file.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from heavysync.breadth import LOOK_S, MOST, Breadth
from heavysync.copying import CopyPool, open_pool
from heavysync.engine import Engine
from heavysync.events import Listener, Moved
from heavysync.listing import Quota
from heavysync.options import SyncOptions
from heavysync.pacing import ByteBudget
from heavysync.retry import STUCK_AFTER
from heavysync.state.job import Phase, PlannedRange
from heavysync.state.queue import Trouble
from heavysync.streaks import Streak
from heavysync.transfer import Context

TOLD = 20
"""Troubles that a report names one by one."""

FEW_PIECES = 4
"""Pieces that the keys beyond the first range are cut into at least: enough to keep a process busy with servers that are near,
and each piece costs some 10 ms of CPU. Where servers are far, it is idle, and ranges are split."""

MOST_PIECES = 16
"""Pieces that the rest of one range is split into at most."""


ARRIVALS_S = 0.1
"""Seconds in which bytes that arrive are added up before anybody is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What a process may use of what the options give to a run.

    Args:
        concurrency: objects in flight.
        memory: bytes of content in flight.
        ranges: worked on at once, to begin with.
        pieces: that the keys beyond the first range are cut into.
        of: processes that share.
    """

    concurrency: int
    memory: int
    ranges: int
    pieces: int
    of: int = 1

    @property
    def connections(self) -> int:
        """Most of each store: one a worker, more for parts of large objects and for listers."""
        return 2 * self.concurrency + 64


def share_of(options: SyncOptions, processes: int = 1) -> Share:
    """What each of so many processes may use of what the options give.

    It has two ranges at least, if there are others: while one is listed, the other one is copied.
    """
    return Share(
        concurrency=max(1, options.concurrency // processes),
        memory=options.memory // processes,
        ranges=options.ranges_at_once if processes == 1 else max(2, -(-options.ranges_at_once // processes)),
        pieces=max(FEW_PIECES, min(2 * processes, 64)),
        of=processes,
    )


class Passes:
    """Runs passes. Made by `open_passes`.

    Args:
        engine: what does the work.
        options: see `SyncOptions`.
        share: of this process.
    """

    def __init__(self, engine: Engine, options: SyncOptions, share: Share) -> None:
        self._engine = engine
        self._options = options
        self._share = share
        self._breadth = Breadth(share.ranges, min(MOST, share.concurrency // 2))  # each has a list of each side under way
        self._active = 0
        self._quotas: dict[int, Quota] = {}  # by number of the range

    @property
    def at_once(self) -> int:
        """Ranges that it should have at once; more as long as it mostly waits."""
        return self._breadth.at_once

    @property
    def _is_hungry(self) -> bool:
        """Whether the copiers, if any, wait for what is to be listed."""
        return self._engine.pool is None or self._engine.pool.is_hungry

    @property
    def stuck(self) -> list[Trouble]:
        """The first objects that are stuck: those that failed in passing again and again, and have not come through yet."""
        pool = self._engine.pool
        stuck = sorted(pool.stuck.values())[:TOLD] if pool else []
        return [Trouble(one.key, "stuck", "stuck", one.message) for one in stuck]

    async def run(self, before: Phase, planned: PlannedRange, listener: Listener | None = None) -> bool:
        """Run the pass that a range in phase `before` needs; answer False if the run stopped first.

        Args:
            before: "planned", "copied" or "deleted".
            planned: the range.
            listener: is told what happens in this range, in place of the engine's.

        Raises:
            HeavysyncError: the run cannot go on.
        """
        engine = self._engine if listener is None else replace(self._engine, listener=listener)
        self._active += 1
        try:
            match before:
                case "planned":
                    return await self._copy(engine, planned)
                case "copied":
                    return await engine.delete(planned)
                case _:
                    return await engine.purge(planned)
        finally:
            self._active -= 1

    def split(self, idle: int, *, forced: bool = False) -> None:
        """Have ranges that are being listed hand back what they have not listed, for others to take up.

        Args:
            idle: others that there may be at once.
            forced: also if this process is busy: there are processes that are not.
        """
        quotas = [quota for quota in self._quotas.values() if quota.is_open]
        if quotas and (forced or (self._breadth.is_idle and self._is_hungry)):
            pieces = min(1 - (-idle // len(quotas)), MOST_PIECES)
            for quota in quotas:
                quota.split(pieces)

    async def watch(self, widened: Callable[[int], None]) -> None:
        """Take more ranges at once as long as there is time for them, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._breadth.look(is_wanting=self._active >= self.at_once and self._is_hungry):
                widened(self.at_once)

    def _quota_of(self, planned: PlannedRange, *, is_uncut: bool) -> Quota:
        options = self._options
        if planned.span.lo is None and planned.span.hi is None:
            return Quota(min(options.first_rows, options.range_rows), options.first_rows // 4, self._share.pieces)
        return Quota(options.range_rows, options.range_rows if is_uncut else options.first_rows // 2, 2)

    async def _copy(self, engine: Engine, planned: PlannedRange) -> bool:
        """List and copy a range; what it hands back becomes a range of its own."""
        span = planned.span
        planned, to_cut = await engine.cut(planned), planned.to_cut
        if planned.to_cut:
            return False
        is_uncut = bool(to_cut) and planned.span == span  # no border was found, nor would be soon
        quota = self._quotas[planned.range] = self._quota_of(planned, is_uncut=is_uncut)
        try:
            return await engine.copy(planned, quota)
        finally:
            del self._quotas[planned.range]


class Arrivals:
    """Adds up bytes that have arrived, and tells of them ten times a second, not of each object.

    Args:
        listener: is told.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._size = 0

    def add(self, size: int) -> None:
        """Some more bytes."""
        if not self._size:
            self._loop.call_later(ARRIVALS_S, self.tell)
        self._size += size

    def tell(self) -> None:
        """Tell of all that has not been told yet."""
        size, self._size = self._size, 0
        if size:
            self._listener(Moved(size))


def _ignore(at_once: int) -> None:
    """Tell nobody."""


@asynccontextmanager
async def open_passes(
    engine: Engine,
    options: SyncOptions,
    share: Share,
    *,
    streak: Streak,
    is_proven: Callable[[], Awaitable[bool]],
    widened: Callable[[int], None] = _ignore,
) -> AsyncIterator[Passes]:
    """Open the copiers (none in a dry run), and answer what runs passes with them.

    Args:
        engine: what does the work; without copiers yet.
        options: see `SyncOptions`.
        share: of this process.
        streak: of the same refusal.
        is_proven: whether some object of finished ranges is in sync.
        widened: is told how many ranges there should be at once from now on; the passes know it themselves.
    """
    async with AsyncExitStack() as stack:
        if not options.dry_run:
            arrivals = Arrivals(engine.listener)
            stack.callback(arrivals.tell)
            opening = _open_pool(engine, options, share, streak, is_proven, arrivals)
            engine = replace(engine, pool=await stack.enter_async_context(opening))
        passes = Passes(engine, options, share)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        watching = group.create_task(passes.watch(widened))
        yield passes
        watching.cancel()


def _open_pool(
    engine: Engine,
    options: SyncOptions,
    share: Share,
    streak: Streak,
    is_proven: Callable[[], Awaitable[bool]],
    arrivals: Arrivals,
) -> AbstractAsyncContextManager[CopyPool]:
    source, destination = engine.source, engine.destination
    context = Context(
        source=source,
        destination=destination,
        retry=engine.retry.bounded(STUCK_AFTER),
        budget=ByteBudget(options.memory, share=share.memory),
        moved=arrivals.add,
        server_side=options.server_side_copy and source.copy_domain == destination.copy_domain,
        part_size=options.part_size,
        tags=options.tags,
    )
    return open_pool(context, concurrency=share.concurrency, streak=streak, is_proven=is_proven)
