"""One pass over one range: list and copy, delete, or purge. Idempotent: whatever was done is found in the range's file."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from heavysync.copying import CopyPool, copy_range
from heavysync.deleting import delete_extras
from heavysync.events import Listener
from heavysync.keyspace import KeyRange
from heavysync.listing import Lister, Quota
from heavysync.planning import find_borders
from heavysync.purging import Purger
from heavysync.retry import Retrier, StoppedError
from heavysync.state.inventory import SideName
from heavysync.state.job import Phase, PlannedRange, Run, Totals
from heavysync.state.ranges import RangeState, open_range
from heavysync.stores.base import Store
from heavysync.streaks import SYSTEMATIC
from heavysync.transfer import abort_abandoned


class Plan(Protocol):
    """What a pass asks of the plan and tells it, wherever job.db is; what it tells is committed when the call returns."""

    def range_file(self, number: int) -> Path:
        """The file of a range."""

    async def cut(self, number: int, borders: list[str]) -> list[KeyRange]:
        """Cut a range at the borders; answer the pieces, the first keeps its number."""

    async def hand_back(self, number: int, at: str, *, pieces: int) -> None:
        """End a range at key `at` and plan the rest as a range of its own, to be cut into `pieces`."""

    async def listed(self, number: int) -> None:
        """A range is completely listed on both sides."""

    async def advance(self, number: int, *, before: Phase, after: Phase, totals: Totals) -> None:
        """A pass over a range is finished, with these totals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What the passes of a run share.

    Args:
        plan: the plan.
        run: the run.
        source: where from.
        destination: where to.
        retry: the retry policy; its `stopping` ends every pass early.
        pool: the copiers; None: nothing is copied (dry run).
        listener: is told what happens.
        purge_days: threshold of `purge`.
        null_is_safe: see `Purger`.
        retry_failed: take up again what failed before the run was interrupted.
    """

    plan: Plan
    run: Run
    source: Store
    destination: Store
    retry: Retrier
    pool: CopyPool | None
    listener: Listener
    purge_days: float = 0.0
    null_is_safe: bool = False
    retry_failed: bool = False

    async def cut(self, planned: PlannedRange) -> PlannedRange:
        """Cut a range that was handed back into the pieces it should have; answer the first, or the range, if the run stops."""
        if not planned.to_cut:
            return planned
        try:
            borders = await find_borders(self.source, self.retry, planned.span, planned.to_cut)
            if not borders:
                borders = await find_borders(self.destination, self.retry, planned.span, planned.to_cut)
        except StoppedError:
            return planned
        spans = await self.plan.cut(planned.range, borders)
        return planned._replace(span=spans[0], to_cut=0)

    async def copy(self, planned: PlannedRange, quota: Quota) -> bool:
        """List a range on both sides and copy what is owed; answer False if the run stopped first."""
        async with self._open(planned) as state:
            listed, wake = asyncio.Event(), asyncio.Event()
            if self.run.resumed:
                await state.queue.take_up(None if self.retry_failed else SYSTEMATIC)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._list(state, planned, quota, listed, wake))
                if self.pool is not None:
                    copying = copy_range(state.queue, self.pool, listed=listed, wake=wake, listener=self.listener)
                    group.create_task(copying)
            if not listed.is_set():
                return False
            if self.pool is not None:
                if await state.queue.owed():
                    return False
                await state.queue.forget_stale_proofs()
                await abort_abandoned(state.abandoned, self.destination, listener=self.listener, stopping=self.retry.stopping)
            await self._advance(state, planned, "planned", "copied")
        return True

    async def _list(
        self,
        state: RangeState,
        planned: PlannedRange,
        quota: Quota,
        listed: asyncio.Event,
        wake: asyncio.Event,
    ) -> None:
        stores: dict[SideName, Store] = {"source": self.source, "destination": self.destination}
        lister = Lister(state.inventory, stores, self.retry, listener=self.listener, wake=wake)
        is_listed = False
        try:
            is_listed = await lister.run(planned.span, quota, partial(self.plan.hand_back, planned.range))
        except* StoppedError:  # the copiers see the stop, too: what they have under way is recorded before the range is left
            pass
        finally:
            quota.is_open = False
        if is_listed:
            listed.set()
            await self.plan.listed(planned.range)
        wake.set()

    async def delete(self, planned: PlannedRange) -> bool:
        """Delete the range's extra objects; answer False if the run stopped first."""
        step = partial(
            delete_extras,
            source=self.source,
            destination=self.destination,
            retry=self.retry,
            listener=self.listener,
        )
        async with self._open(planned, listed=True) as state:
            if self.retry_failed:
                await state.extras.take_up()
            try:
                if not await step(state.extras):
                    return False
            except StoppedError:
                return False
            await self._advance(state, planned, "copied", "deleted")
        return True

    async def purge(self, planned: PlannedRange) -> bool:
        """Purge the range's old noncurrent versions; answer False if the run stopped first."""
        purger = Purger(
            self.destination,
            self.retry,
            listener=self.listener,
            days=self.purge_days,
            null_is_safe=self.null_is_safe,
        )
        async with self._open(planned, listed=True) as state:
            if self.retry_failed:
                await state.extras.purge_again()
            if not await purger.run(state.extras, planned.span):
                return False
            await self._advance(state, planned, "deleted", "purged")
        return True

    async def _advance(self, state: RangeState, planned: PlannedRange, before: Phase, after: Phase) -> None:
        """Record in the plan that a pass is finished, which must not know more than the file, whatever happens to the power."""
        await state.sync()
        await self.plan.advance(planned.range, before=before, after=after, totals=await state.totals())

    def _open(self, planned: PlannedRange, *, listed: bool = False) -> AbstractAsyncContextManager[RangeState]:
        parent = None if planned.parent is None else self.plan.range_file(planned.parent)
        return open_range(
            self.plan.range_file(planned.range), run=self.run.mark, span=planned.span, parent=parent, listed=listed
        )
