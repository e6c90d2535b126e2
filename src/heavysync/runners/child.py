"""A process that runs passes for a run in another one: its own event loop, stores and copiers, and the files of its ranges.

`python -m heavysync.runners.child SOCKET LOCK`, started by `crew`. It never opens job.db: what it asks of the plan are messages
(`wire`). It ends when it is told to, or at once when the process that started it has gone, whatever it is doing: a thread
of its own waits for that. It leaves signals to that process, too.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from heavysync.engine import Engine, Plan
from heavysync.errors import cause
from heavysync.keyspace import KeyRange
from heavysync.looping import calm_collector, leave_garbage, loop_factory
from heavysync.opening import open_stores
from heavysync.passes import Passes, open_passes
from heavysync.retry import Retrier, StoppedError
from heavysync.runners.telling import Teller
from heavysync.runners.wire import (
    Ask,
    Broke,
    Ended,
    Message,
    Ready,
    Reply,
    Setup,
    Split,
    Stop,
    Widened,
    Work,
    frame,
    read_message,
)
from heavysync.state.job import Phase, Totals
from heavysync.stores.base import Store
from heavysync.streaks import LONGEST, Streak

Verdict = Callable[[], Awaitable[bool]]

ORPHANED = 70
"""Exit code of one whose run has gone; nobody is there to see it."""


class Wire:
    """This end of the socket pair.

    Args:
        end: the socket.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._stream = end.makefile("rb")

    def receive(self) -> Message | None:
        """Wait for a message; None: the run has gone."""
        return read_message(self._stream)

    def send(self, message: Message) -> None:
        """Send a message; who cannot is an orphan."""
        try:
            self._end.sendall(frame(message))
        except OSError:
            os._exit(ORPHANED)


class RemotePlan(Plan):
    """The plan, as far as it can be seen from here: questions to the process that owns it.

    Args:
        wire: to that process.
        directory: of the state.
    """

    def __init__(self, wire: Wire, directory: Path) -> None:
        self._wire = wire
        self._ranges = directory / "ranges"
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[Any]] = {}

    async def ask(self, name: str, *args: Any, **named: Any) -> Any:
        """Ask, and wait for the answer."""
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self._wire.send(Ask(number, name, args, named))
            return await answer
        finally:
            del self._asked[number]

    def answered(self, reply: Reply) -> None:
        """An answer is there; nobody may wait for it any more."""
        answer = self._asked.get(reply.number)
        if answer is not None and not answer.done():
            answer.set_result(reply.value)

    def range_file(self, number: int) -> Path:
        """The file of a range."""
        return self._ranges / f"{number:06d}.db"

    async def cut(self, number: int, borders: list[str]) -> list[KeyRange]:
        """See `Plan`."""
        spans: list[KeyRange] = await self.ask("cut", number, borders)
        return spans

    async def hand_back(self, number: int, at: str, *, pieces: int) -> None:
        """See `Plan`."""
        await self.ask("hand_back", number, at, pieces=pieces)

    async def listed(self, number: int) -> None:
        """See `Plan`."""
        await self.ask("listed", number)

    async def advance(self, number: int, *, before: Phase, after: Phase, totals: Totals) -> None:
        """See `Plan`."""
        await self.ask("advance", number, before=before, after=after, totals=totals)


class SharedStreak(Streak):
    """This process's part of a streak: the plan adds the parts up.

    Args:
        plan: is asked what the parts of all processes mean.
        is_watched: see `Streak`.
        step: refusals here after which it is asked, again and again.
    """

    def __init__(self, plan: RemotePlan, *, is_watched: bool, step: int) -> None:
        super().__init__(is_watched=is_watched, longest=step)
        self._plan = plan
        self._step = step
        self._asking = asyncio.Lock()

    async def judge(self, has_equal: Verdict, is_proven: Verdict) -> None:  # noqa: ARG002 - the plan knows
        """See `Streak`; where the streak is no matter of the objects, the plan ends the run."""
        async with self._asking:
            if not self.is_long:
                return
            if await has_equal() or await self._plan.ask("judge", self._code, self._length, self._message):
                self.excuse()
            else:
                self._longest = self._length + self._step


class Child:
    """One process's work for a run.

    Args:
        wire: to the process that owns the run.
        setup: what it said first.
    """

    def __init__(self, wire: Wire, setup: Setup) -> None:
        self._wire = wire
        self._setup = setup
        self._plan = RemotePlan(wire, Path(setup.directory))
        self._teller = Teller(wire.send, asyncio.get_running_loop())
        self._retry = Retrier(self._teller, base_s=setup.retry_base_s)
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._passes: Passes | None = None

    def listen(self) -> None:
        """Take what the run says, from a thread that nothing here can hold up; end when it has gone."""
        loop = asyncio.get_running_loop()

        def listen() -> None:
            while (message := self._wire.receive()) is not None:
                loop.call_soon_threadsafe(self._take, message)
            os._exit(ORPHANED)

        threading.Thread(target=listen, daemon=True).start()

    def _take(self, message: Message) -> None:
        match message:
            case Reply():
                self._plan.answered(message)
            case Stop():
                self._retry.stopping.set()
            case Split(idle, forced):
                if self._passes is not None:
                    self._passes.split(idle, forced=forced)
            case _:
                self._inbox.put_nowait(message)

    async def run(self) -> None:
        """Work until told to leave."""
        setup = self._setup
        options, share = setup.options, setup.share
        stores = open_stores(
            setup.ends,
            (options.source, options.destination),
            self._retry,
            connections=share.connections,
            storage_class=options.storage_class,
            copy_tags=options.tags,
            listener=self._teller,
            shared_by=share.of,
        )
        streak = SharedStreak(self._plan, is_watched=setup.is_watched, step=-(-LONGEST // share.of))
        try:
            async with stores as both:
                engine = self._engine(*both)
                async with self._opened(engine, streak) as passes:
                    self._passes = passes
                    self._wire.send(Ready())
                    await self._work(passes)
        except StoppedError:  # while the stores were opened
            await self._decline()
        finally:
            self._teller.flush()

    def _opened(self, engine: Engine, streak: Streak) -> AbstractAsyncContextManager[Passes]:
        return open_passes(
            engine,
            self._setup.options,
            self._setup.share,
            streak=streak,
            is_proven=_nobody_knows,
            widened=lambda at_once: self._wire.send(Widened(at_once)),
        )

    def _engine(self, source: Store, destination: Store) -> Engine:
        setup = self._setup
        return Engine(
            plan=self._plan,
            run=setup.run,
            source=source,
            destination=destination,
            retry=self._retry,
            pool=None,
            listener=self._teller,
            purge_days=setup.options.purge_noncurrent,
            null_is_safe=setup.null_is_safe,
            retry_failed=setup.options.retry_failed,
        )

    async def _work(self, passes: Passes) -> None:
        async with asyncio.TaskGroup() as group:
            while isinstance(message := await self._inbox.get(), Work):
                group.create_task(self._one(passes, message))

    async def _one(self, passes: Passes, work: Work) -> None:
        number = work.planned.range
        finished = await passes.run(work.before, work.planned, self._teller.of(number))
        self._teller.flush()
        self._wire.send(Ended(number, finished, () if finished else tuple(passes.stuck)))

    async def _decline(self) -> None:
        """Answer what there is to do, without doing it."""
        self._wire.send(Ready())
        while isinstance(message := await self._inbox.get(), Work):
            self._wire.send(Ended(message.planned.range, finished=False, stuck=()))


async def _nobody_knows() -> bool:
    return False


async def _serve(wire: Wire, setup: Setup) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: None)  # whoever has sent it to all of us has sent it to the run, too
    child = Child(wire, setup)
    child.listen()
    try:
        await child.run()
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - the last line of defence of a process
        shown = cause(error) if isinstance(error, BaseExceptionGroup) else error
        wire.send(Broke(type(shown).__name__, str(shown), traceback.format_exc()))


def main() -> None:
    """Run one such process."""
    end, lock = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    end.setblocking(True)
    end.set_inheritable(False)
    os.set_inheritable(lock, False)  # a program that tells credentials, started from here, does not hold it
    wire = Wire(end)
    setup = wire.receive()
    if not isinstance(setup, Setup):
        sys.exit(ORPHANED)
    logging.getLogger("heavysync").setLevel(setup.log_level)
    logging.getLogger("aiobotocore").addHandler(logging.NullHandler())  # what it warns of is told by our own errors
    calm_collector()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(wire, setup))
    leave_garbage()


if __name__ == "__main__":
    main()
