"""Processes that run passes for this one, which owns job.db and takes all decisions.

A process is started when there is a range for it, up to as many as the team may have, and works on several at once. One that
dies is noticed by the end of its socket; its ranges are run again, from what its files say, by the others or by a new one.
They end with this process, however it ends, and hold its lock of the state directory until then.
Design: docs/design/0016-processes.md
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from heavysync import errors
from heavysync.errors import FatalError, RunError
from heavysync.events import Event, Listener, Notice, Recovered, Retrying
from heavysync.passes import TOLD
from heavysync.runners.ledger import Ledger
from heavysync.runners.member import GoneError, Member, settle
from heavysync.runners.team import Team
from heavysync.runners.wire import (
    Ask,
    Broke,
    Ended,
    Leave,
    Message,
    Ready,
    Reply,
    Setup,
    Split,
    Stop,
    Told,
    Widened,
    Work,
    receive,
)
from heavysync.state.job import Job, Phase, PlannedRange
from heavysync.state.queue import Trouble

DEATHS = 5
"""So often processes may die over a range without its getting on, or before they have opened their stores."""

READY_S = 60.0
"""Seconds that a run which can do without others waits for the first of them to have opened its stores."""

LEAVE_S = 3.0
"""Seconds in which a process that has nothing more to do closes its connections; then it is killed."""

SILENT_S = 5.0
"""Seconds after a stop in which a process that has something to finish says nothing; then it hangs, and is killed."""

LOOKS = 10
"""In that time, at each process."""

LAST_WORDS_S = 0.5
"""Seconds in which what it wrote is read when it has ended."""

QUIET_S = 60.0
"""Seconds in which the same notice is not told again: all processes find the same out."""

_log = logging.getLogger("heavysync")


class Crew:
    """The processes of a run. Made by `open_crew`.

    Args:
        job: the plan.
        ledger: what they ask.
        team: how they are started.
        setup: what each of them is told first.
        listener: is told what they tell.
        group: their listeners live here.
    """

    def __init__(
        self, job: Job, ledger: Ledger, team: Team, setup: Setup, listener: Listener, group: asyncio.TaskGroup
    ) -> None:
        self._job = job
        self._ledger = ledger
        self._team = team
        self._setup = setup
        self._listener = listener
        self._group = group
        self._members: list[Member] = []
        self._started = 0
        self._choosing = asyncio.Lock()
        self._is_leaving = False
        self._deaths: dict[int, int] = {}  # by range, since it got on
        self._false_starts = 0  # in a row
        self._noticed: dict[str, float] = {}
        self._stuck: dict[str, Trouble] = {}

    @property
    def stuck(self) -> list[Trouble]:
        """The first objects that were stuck when the run was stopped."""
        return sorted(self._stuck.values())[:TOLD]

    async def begin(self) -> bool:
        """Start a process that the run can do without, and wait until it can work; answer False if the run stops first.

        Raises:
            FatalError: it cannot, or not soon; it has ended then, or is about to.
        """
        async with self._choosing:
            member = await self._start()
        member.is_on_trial = True
        try:
            async with asyncio.timeout(READY_S):
                if not self._team.stop.is_set() and await member.ready:
                    member.is_on_trial = False
                    return True
        except TimeoutError:
            member.trouble = f"it was not ready in {READY_S:g} s"
        finally:
            if member.is_on_trial:
                member.dismiss()
        if self._team.stop.is_set():
            return False
        raise FatalError(member.trouble)

    async def run(self, before: Phase, planned: PlannedRange) -> bool:
        """Have a process run the pass that a range in phase `before` needs; answer False if the run stopped first.

        Raises:
            FatalError: processes die over it again and again.
        """
        while True:
            member = await self._take()
            work: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            member.works[planned.range] = work
            member.tell(Work(before, planned))
            try:
                return await work
            except GoneError as error:
                if not self._team.stop.is_set():
                    await self._count_death(planned.range, error)
            finally:
                member.works.pop(planned.range, None)
                member.load -= 1
            if self._team.stop.is_set():
                return False
            phase, planned = await self._job.look(planned.range)
            if phase != before:
                return True

    @property
    def at_once(self) -> int:
        """Ranges that all processes should have at once, also those that are not there yet."""
        missing = self._team.most - len(self._members)
        return sum(member.at_once for member in self._members) + missing * self._setup.share.ranges

    def split(self, idle: int) -> None:
        """Have ranges that are being listed hand back what they have not listed, for `idle` others to take up."""
        loaded = [member for member in self._members if member.load]
        for member in loaded:
            member.tell(Split(-(-idle // len(loaded)), forced=len(loaded) < self._team.most))

    async def _take(self) -> Member:
        """The process that has least to do and room for more, or a new one if all have something."""
        async with self._choosing:
            member = min(self._members, key=lambda one: (one.load >= one.at_once, one.load), default=None)
            if member is None or (member.load and len(self._members) < self._team.most):
                member = await self._start()
            member.load += 1
            return member

    async def _start(self) -> Member:
        process, reader, writer = await self._team.start()
        self._started += 1
        member = Member(process, reader, writer, self._started, self._setup.share.ranges)
        self._members.append(member)
        overhearing = self._group.create_task(member.overhear())
        self._group.create_task(self._listen(member, overhearing))
        member.tell(self._setup)
        if self._team.stop.is_set():
            member.tell(Stop())
        return member

    async def _listen(self, member: Member, overhearing: asyncio.Task[None]) -> None:
        """Take what a process says until it ends.

        Raises:
            RunError: it cannot go on, nor can the run.
        """
        while (message := await receive(member.reader)) is not None:
            member.silence = 0
            await self._hear(member, message)
        member.writer.close()
        code = await member.process.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await overhearing  # what it has started may hold the other end for ever
        self._members.remove(member)
        if not self._is_leaving:
            self._lost(member, code)

    async def _hear(self, member: Member, message: Message) -> None:
        match message:
            case Ready():
                self._false_starts = 0
                settle(member.ready, True)
            case Told(events, log, progressed):
                self._told(member, () if member.is_on_trial else events, log)
                for number in progressed:
                    self._deaths.pop(number, None)
            case Ask(number, name, args, named):
                member.tell(Reply(number, await self._answer(member, name, args, named)))
            case Widened(at_once):
                member.at_once = at_once
            case Ended(number, finished, stuck):
                self._stuck.update((one.key, one) for one in stuck)
                if number in member.works:
                    settle(member.works[number], finished)
            case Broke() if member.is_on_trial:
                member.trouble = str(_error(message))
                settle(member.ready, False)
            case Broke():
                raise _error(message)
            case _:
                raise AssertionError(message)

    async def _answer(self, member: Member, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        ledger = self._ledger
        if name == "judge":
            return await ledger.judge(member.number, *args, **named)
        ask = {"cut": ledger.cut, "hand_back": ledger.hand_back, "listed": ledger.listed, "advance": ledger.advance}[name]
        return await ask(*args, **named)  # type: ignore[operator]

    def _told(self, member: Member, events: tuple[Event, ...], log: tuple[tuple[int, str, str], ...]) -> None:
        for event in events:
            self._ledger.note(event)
            match event:
                case Retrying(operation):
                    member.retrying.add(operation)
                case Recovered(operation):
                    member.retrying.discard(operation)
                case Notice(text):
                    now = time.monotonic()
                    if now < self._noticed.get(text, 0.0):
                        continue
                    self._noticed[text] = now + QUIET_S
                case _:
                    pass
            self._listener(event)
        for level, name, text in log:
            logging.getLogger(name).log(level, "process %d: %s", member.process.pid, text)

    def _lost(self, member: Member, code: int) -> None:
        """Say what has happened, and let go what the process had."""
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        for operation in member.retrying:
            self._listener(Recovered(operation))
        if member.is_on_trial or member.is_dismissed:
            member.trouble = member.trouble or f"it {how} ({member.last_words})"
            member.gone(how)
            return
        if not member.ready.done():
            self._false_starts += 1
            if self._false_starts >= DEATHS:
                raise FatalError(
                    f"processes of this run do not start, the last one {how} ({member.last_words}): give --processes 1"
                )
        why = ", perhaps for want of memory" if code == -signal.SIGKILL else ""
        again = f"; its {len(member.works)} ranges are taken up again" if member.works else ""
        self._listener(Notice(f"a process of this run (pid {member.process.pid}) {how}{why}{again}"))
        member.gone(how)

    async def _count_death(self, number: int, error: GoneError) -> None:
        deaths = self._deaths[number] = self._deaths.get(number, 0) + 1
        if deaths >= DEATHS:
            raise FatalError(
                f"processes of this run ended {deaths} times over range {number} of the keys without getting on with it, "
                f"the last one {error.how}: if memory ran out, give fewer --processes or less --memory, and start again: "
                "it goes on where it was"
            )
        with suppress(TimeoutError):
            async with asyncio.timeout(0.05 * 2**deaths):
                await self._team.stop.wait()

    async def stop(self) -> None:
        """Pass a stop of the run on; a process that then has something to finish and says nothing for a while is killed.

        The while is counted in looks, not read from a clock: this process may have been stopped itself.
        """
        await self._team.stop.wait()
        for member in self._members:
            member.tell(Stop())
            member.silence = 0
            if member.is_on_trial:
                settle(member.ready, False)
        while True:
            await asyncio.sleep(SILENT_S / LOOKS)
            for member in self._members:
                member.silence += 1
                if member.works and member.silence > LOOKS and not member.is_dismissed:
                    self._listener(Notice(f"a process of this run (pid {member.process.pid}) does not stop: it is killed"))
                    member.dismiss()

    def leave(self) -> None:
        """Tell all that there is nothing more to do; they end by themselves."""
        self._is_leaving = True
        for member in self._members:
            member.tell(Leave())

    def kill(self) -> None:
        """End those that are still there, now."""
        self._is_leaving = True
        for member in self._members:
            with suppress(ProcessLookupError):
                member.process.kill()

    async def ended(self) -> None:
        """Wait until none is there, so that none writes any more."""
        for member in self._members:
            member.writer.close()
            await member.process.wait()


@asynccontextmanager
async def open_crew(job: Job, ledger: Ledger, team: Team, setup: Setup, listener: Listener) -> AsyncIterator[Crew]:
    """A crew without members yet; all have ended when the block has.

    Args:
        job: the plan.
        ledger: what they ask.
        team: how they are started.
        setup: what each of them is told first.
        listener: is told what they tell.
    """
    crew: Crew | None = None
    try:
        async with asyncio.TaskGroup() as group:
            crew = Crew(job, ledger, team, setup, listener, group)
            stopping = group.create_task(crew.stop())
            yield crew
            stopping.cancel()
            crew.leave()
            killing = asyncio.get_running_loop().call_later(LEAVE_S, crew.kill)
        killing.cancel()
    finally:
        if crew is not None:
            crew.kill()
            await crew.ended()


def _error(broke: Broke) -> Exception:
    """The error that ended a process, as one of this process."""
    kind = getattr(errors, broke.kind, None)
    if isinstance(kind, type) and issubclass(kind, RunError):
        return kind(broke.message)
    for line in broke.trace.splitlines():
        _log.debug("%s", line)
    return RuntimeError(f"in a process of this run: {broke.kind}: {broke.message}")
