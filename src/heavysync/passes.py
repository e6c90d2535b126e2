"""What a process does for a run, wherever it is: any pass over any range, with its own stores and its share of the means.

`list and copy` takes a range from "planned" to "copied", `delete` to "deleted", `purge` to "purged". A pass can be run again
at any time, by any process: whatever was done is found in the range's file.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from heavysync.copying import open_pool
from heavysync.engine import Engine
from heavysync.events import Listener, Moved
from heavysync.options import SyncOptions
from heavysync.pacing import ByteBudget
from heavysync.retry import STUCK_AFTER
from heavysync.state.job import Phase, PlannedRange
from heavysync.state.queue import Trouble
from heavysync.streaks import Streak
from heavysync.transfer import Context

TOLD = 20
"""Troubles that a report names one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What a process may use of what the options give to a run.

    Args:
        concurrency: objects in flight.
        memory: bytes of content in flight.
        pieces: that the keys beyond the first range are cut into.
        of: processes that share.
    """

    concurrency: int
    memory: int
    pieces: int
    of: int = 1

    @property
    def connections(self) -> int:
        """Most of each store: one a worker, more for parts of large objects and for listers."""
        return 2 * self.concurrency + 64


def share_of(options: SyncOptions, processes: int = 1) -> Share:
    """What each of so many processes may use of what the options give."""
    return Share(
        concurrency=max(1, options.concurrency // processes),
        memory=options.memory // processes,
        pieces=max(2 * options.ranges_at_once, min(2 * processes, 64)),
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
        match before:
            case "planned":
                return await self._copy(engine, planned)
            case "copied":
                return await engine.delete(planned)
            case _:
                return await engine.purge(planned)

    async def _copy(self, engine: Engine, planned: PlannedRange) -> bool:
        """List and copy a range; what it hands back becomes a range of its own."""
        options = self._options
        planned = await engine.cut(planned)
        if planned.to_cut:
            return False
        is_first = planned.span.lo is None and planned.span.hi is None
        most = min(options.first_rows, options.range_rows) if is_first else options.range_rows
        wanted = self._share.pieces if is_first else 2

        async def hand_back(at: str) -> None:
            await engine.plan.hand_back(planned.range, at, pieces=wanted)

        return await engine.copy(planned, most=most, hand_back=hand_back)


@asynccontextmanager
async def open_passes(
    engine: Engine, options: SyncOptions, share: Share, *, streak: Streak, is_proven: Callable[[], Awaitable[bool]]
) -> AsyncIterator[Passes]:
    """Open the copiers (none in a dry run), and answer what runs passes with them.

    Args:
        engine: what does the work; without copiers yet.
        options: see `SyncOptions`.
        share: of this process.
        streak: of the same refusal.
        is_proven: whether some object of finished ranges is in sync.
    """
    if options.dry_run:
        yield Passes(engine, options, share)
        return
    source, destination, listener = engine.source, engine.destination, engine.listener
    context = Context(
        source=source,
        destination=destination,
        retry=engine.retry.bounded(STUCK_AFTER),
        budget=ByteBudget(options.memory, share=share.memory),
        moved=lambda size: listener(Moved(size)),
        server_side=options.server_side_copy and source.copy_domain == destination.copy_domain,
        part_size=options.part_size,
        tags=options.tags,
    )
    async with open_pool(context, concurrency=share.concurrency, streak=streak, is_proven=is_proven) as pool:
        yield Passes(replace(engine, pool=pool), options, share)
