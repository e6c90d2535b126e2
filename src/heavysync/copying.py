"""The copiers: one bounded pool of workers for all ranges; each range feeds it and records what comes back.

    queue --claim--> feeder --inbox (bounded)--> workers --outbox--> recorder --settle--> queue

Claims and outcomes go through the database some hundred at a time. The recorder never makes a worker wait: what finishes
while it writes is its next batch. A row that is claimed when the process dies is pending again when its file is opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from heavysync.events import Finished, Listener
from heavysync.outcomes import Done, Failed, Outcome, Released, Skipped, Transfer
from heavysync.state.queue import Queue
from heavysync.transfer import Context, SaveUpload, copy_object

CLAIM = 256
"""Transfers claimed at once (measured: 256-1,000 reach 40-130k rows/s, one at a time 1-2k)."""

GATHER_S = 0.05
"""Seconds that the recorder waits for more outcomes before it writes the first; what a kill may cost at most."""

STOP_POLL_S = 0.25
"""Seconds after which a range that waits for more to copy notices that the run stops."""


class _Job(NamedTuple):
    """A claimed transfer on its way to a worker."""

    transfer: Transfer
    save_upload: SaveUpload
    report: Callable[[Outcome], None]


class CopyPool:
    """The workers. Made by `open_pool`.

    Args:
        context: what they copy with.
        inbox: where jobs wait for them.
    """

    def __init__(self, context: Context, inbox: asyncio.Queue[_Job]) -> None:
        self.context = context
        self._inbox = inbox

    async def put(self, transfer: Transfer, save_upload: SaveUpload, report: Callable[[Outcome], None]) -> None:
        """Hand a transfer to the workers; waits while enough are waiting already."""
        await self._inbox.put(_Job(transfer, save_upload, report))


@asynccontextmanager
async def open_pool(context: Context, *, concurrency: int) -> AsyncIterator[CopyPool]:
    """Start `concurrency` workers; they end with the block, and an error that ends the run ends the block."""
    inbox: asyncio.Queue[_Job] = asyncio.Queue(maxsize=concurrency)
    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(_work(inbox, context)) for _ in range(concurrency)]
        yield CopyPool(context, inbox)
        for worker in workers:
            worker.cancel()


async def _work(inbox: asyncio.Queue[_Job], context: Context) -> None:
    stopping = context.retry.stopping
    while True:
        transfer, save_upload, report = await inbox.get()
        if stopping.is_set():
            report(Released(transfer.source.key))
        else:
            report(await copy_object(transfer, context, save_upload))


async def copy_range(queue: Queue, pool: CopyPool, *, listed: asyncio.Event, wake: asyncio.Event, listener: Listener) -> None:
    """Copy all that a range owes, also what is still being found, until its listing is done and nothing is left.

    When the run stops, what is under way is finished or released, recorded, and the rest stays pending.

    Args:
        queue: the range's transfers.
        pool: the workers.
        listed: set when no more transfers will be found.
        wake: set when new ones may have been.
        listener: is told of recorded outcomes.
    """
    await _RangeCopy(queue, pool, listed, wake, listener).run()


class _RangeCopy:
    """The feeder and the recorder of one range, and what is between them."""

    def __init__(
        self,
        queue: Queue,
        pool: CopyPool,
        listed: asyncio.Event,
        wake: asyncio.Event,
        listener: Listener,
    ) -> None:
        self._queue = queue
        self._pool = pool
        self._listed = listed
        self._wake = wake
        self._listener = listener
        self._outbox: list[Outcome] = []
        self._arrived = asyncio.Event()
        self._outstanding = 0  # claimed and not recorded
        self._fed = False

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._feed())
            group.create_task(self._record())

    def _report(self, outcome: Outcome) -> None:
        self._outbox.append(outcome)
        self._arrived.set()

    async def _feed(self) -> None:
        """Claim and hand out until everything is settled or the run stops."""
        stopping = self._pool.context.retry.stopping
        while not stopping.is_set():
            self._wake.clear()
            is_last = self._listed.is_set()
            batch = await self._queue.claim(CLAIM)
            self._outstanding += len(batch)
            for number, transfer in enumerate(batch):
                if stopping.is_set():
                    for left in batch[number:]:
                        self._report(Released(left.source.key))
                    break
                await self._pool.put(transfer, self._queue.save_upload, self._report)
            if not batch:
                if is_last and self._outstanding == 0:
                    break
                await self._until_awake(stopping)
        self._fed = True
        self._arrived.set()

    async def _until_awake(self, stopping: asyncio.Event) -> None:
        while not self._wake.is_set() and not stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_POLL_S):
                    await self._wake.wait()

    async def _record(self) -> None:
        """Write outcomes down in batches until the feeder has ended and all of its claims are settled."""
        while not (self._fed and self._outstanding == 0):
            await self._arrived.wait()
            if self._outbox and len(self._outbox) < CLAIM and not self._fed:
                await asyncio.sleep(GATHER_S)
            self._arrived.clear()
            batch, self._outbox = self._outbox, []
            if not batch:
                continue
            await self._queue.settle(batch)
            self._outstanding -= len(batch)
            self._listener(_tally(batch))
            self._wake.set()


def _tally(batch: list[Outcome]) -> Finished:
    copied = sum(1 for outcome in batch if isinstance(outcome, Done) and outcome.copied)
    proven = sum(1 for outcome in batch if isinstance(outcome, Done) and not outcome.copied)
    skipped = sum(1 for outcome in batch if isinstance(outcome, Skipped))
    failed = sum(1 for outcome in batch if isinstance(outcome, Failed))
    return Finished(copied, proven, skipped, failed)
