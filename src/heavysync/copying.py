"""The copiers: one bounded pool of workers for all ranges; each range feeds it and records what comes back.

    queue --claim--> feeder --inbox (bounded)--> workers --outbox--> recorder --settle--> queue

Claims and outcomes go through the database some hundred at a time. The recorder never makes a worker wait: what finishes
while it writes is its next batch. A row that is claimed when the process dies is pending again when its file is opened.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from heavysync.events import Finished, Kept, Listener, Stuck
from heavysync.inbox import Inbox
from heavysync.objects import UploadState
from heavysync.outcomes import Done, Failed, Outcome, Postponed, Released, Skipped, Transfer, outcome_key
from heavysync.state.queue import Queue
from heavysync.streaks import Streak
from heavysync.transfer import Context, copy_object

CLAIM = 256
"""Transfers claimed at once (measured: 256-1,000 reach 40-130k rows/s, one at a time 1-2k)."""

BATCH = 512
"""Outcomes for which the recorder waits at most."""

GATHER_S = 0.05
"""Seconds that the recorder waits for more outcomes before it writes the first."""

GATHERS = 5
"""So often it waits as long as many come; that, and the write before, is what a kill may cost."""

MANY = 12
"""Outcomes that have to come in GATHER_S for that: a batch costs switches between threads, and its pages are written again."""

LITTLE = 256 * 1024
"""Bytes of the copied objects whose outcomes wait, at most, for that: a kill would have them copied again."""

JUDGE_POLL_S = 0.01
"""Seconds after which a worker looks again whether what has only been refused yet was judged."""

STOP_POLL_S = 0.25
"""Seconds after which a range that waits for more to copy notices that the run stops."""


IsProven = Callable[[], Awaitable[bool]]


class _Home(Protocol):
    """The range that a transfer is of."""

    async def save_upload(self, key: str, state: UploadState | None) -> None:
        """See `SaveUpload`."""

    def report(self, outcome: Outcome) -> None:
        """Take what became of a transfer."""


_Job = tuple[Transfer, _Home]
"""A claimed transfer on its way to a worker."""


class CopyPool:
    """The workers. Made by `open_pool`.

    Args:
        context: what they copy with.
        inbox: where claimed transfers wait for them.
        streak: of the same refusal.
        is_proven: whether some object of finished ranges is in sync.
    """

    def __init__(self, context: Context, inbox: Inbox[_Job], streak: Streak, is_proven: IsProven) -> None:
        self.context = context
        self.streak = streak
        self.is_proven = is_proven
        self.stuck: dict[str, Postponed] = {}  # what failed in passing again and again, and has not come through yet
        self.inbox = inbox

    @property
    def is_hungry(self) -> bool:
        """Whether nothing waits for the workers."""
        return self.inbox.is_empty


@asynccontextmanager
async def open_pool(context: Context, *, concurrency: int, streak: Streak, is_proven: IsProven) -> AsyncIterator[CopyPool]:
    """Start `concurrency` workers; they end with the block, and an error that ends the run ends the block."""
    inbox: Inbox[_Job] = Inbox(concurrency)
    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(_work(inbox, context, streak)) for _ in range(concurrency)]
        yield CopyPool(context, inbox, streak, is_proven)
        for worker in workers:
            worker.cancel()


async def _work(inbox: Inbox[_Job], context: Context, streak: Streak) -> None:
    stopping = context.retry.stopping
    while True:
        transfer, home = await inbox.get()
        if stopping.is_set():
            home.report(Released(transfer.source.key))
        else:
            outcome = await copy_object(transfer, context, home.save_upload)
            home.report(outcome)
            streak.note(outcome)
            while streak.is_long and not stopping.is_set():  # noqa: ASYNC110 - so rare that an event would be too much
                await asyncio.sleep(JUDGE_POLL_S)  # a recorder judges it, and excuses it or ends the run


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
        self._ended = False
        self._times: dict[str, int] = {}  # how often what is stuck was postponed

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._feed())
                group.create_task(self._record())
        finally:
            self._ended = True

    def report(self, outcome: Outcome) -> None:
        """See `_Home`."""
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
            await self._hand_out(batch)
            if not batch:
                if is_last and self._outstanding == 0:
                    break
                await self._until_awake(stopping)
        self._fed = True
        self._arrived.set()

    async def _hand_out(self, batch: list[Transfer]) -> None:
        """Give claimed transfers to the workers as they have room; those that are left when the run stops are released."""
        inbox, stopping = self._pool.inbox, self._pool.context.retry.stopping
        given = 0
        while given < len(batch):
            room = await inbox.room()
            if stopping.is_set():
                for left in batch[given:]:
                    self.report(Released(left.source.key))
                return
            inbox.put([(transfer, self) for transfer in batch[given : given + room]])
            given += room

    async def _until_awake(self, stopping: asyncio.Event) -> None:
        while not self._wake.is_set() and not stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_POLL_S):
                    await self._wake.wait()

    async def _record(self) -> None:
        """Write outcomes down in batches until the feeder has ended and all of its claims are settled."""
        while not (self._fed and self._outstanding == 0):
            await self._arrived.wait()
            await self._gather()
            self._arrived.clear()
            batch, self._outbox = self._outbox, []
            if not batch:
                continue
            if self._times or Postponed in map(type, batch):
                batch = [self._weigh(outcome) for outcome in batch]
            await self._queue.settle(batch)
            self._outstanding -= len(batch)
            self._listener(_tally(batch))
            self._wake.set()
            if self._pool.streak.is_long:
                await self._judge()

    async def _gather(self) -> None:
        """Wait for more outcomes to be written together; more than once as long as many come that were little work."""
        for _ in range(GATHERS):
            before = len(self._outbox)
            if not 0 < before < BATCH or self._fed:
                return
            await asyncio.sleep(GATHER_S)
            if len(self._outbox) < before + MANY or _work_of(self._outbox) > LITTLE:
                return

    async def _judge(self) -> None:
        """All that was copied yet was refused for one reason: does anything show that the reason lies in the objects?

        Raises:
            FatalError: nothing does.
        """
        await self._pool.streak.judge(self._queue.has_equal, self._pool.is_proven)

    async def save_upload(self, key: str, state: UploadState | None) -> None:
        """As `Queue.save_upload`, until the range ends, perhaps by an error, while its workers still are at it."""
        if self._ended:
            self._pool.context.retry.stop_now()
        await self._queue.save_upload(key, state)
        if state is not None and (state.parts or state.kind == "rewrite"):
            self._listener(Kept(len(state.parts) or 1))

    def _weigh(self, outcome: Outcome) -> Outcome:
        """Keep account of what is stuck; what is so again, though its server carries out requests, is begun anew."""
        key, stuck = outcome_key(outcome), self._pool.stuck
        if not isinstance(outcome, Postponed):
            if not isinstance(outcome, Released):
                self._times.pop(key, None)
                stuck.pop(key, None)
            return outcome
        before = stuck.get(key)
        self._times[key] = times = self._times.get(key, 0) + 1
        stuck[key] = outcome
        is_up = before is not None and (outcome.answered or 0) > (before.answered or 0)
        self._listener(Stuck(key, outcome.message, times, outcome.alone or is_up))
        return outcome._replace(begin_anew=outcome.suspect and (outcome.alone or is_up))


def _work_of(outcomes: list[Outcome]) -> int:
    """Bytes of the objects that were copied, whoever copied them."""
    return sum([outcome.size for outcome in outcomes if type(outcome) is Done and outcome.copied])


def _tally(batch: list[Outcome]) -> Finished:
    kinds = Counter(map(type, batch))
    copied = sum([outcome.copied for outcome in batch if type(outcome) is Done])
    return Finished(copied, kinds[Done] - copied, kinds[Skipped], kinds[Failed])
