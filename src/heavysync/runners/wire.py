"""What a run and the processes that it has started say to each other: pickled tuples with their length before them.

Over a socket pair that only these two hold: nothing of it is in a command line, an environment or a file. Its end is the
end of the other: the kernel closes it, however a process ends.
"""

from __future__ import annotations

import asyncio
import pickle
import struct
from typing import Any, BinaryIO, NamedTuple

from heavysync.events import Event
from heavysync.objects import Location
from heavysync.options import SyncOptions
from heavysync.passes import Share
from heavysync.state.job import Phase, PlannedRange, Run
from heavysync.state.queue import Trouble

_LENGTH = struct.Struct(">I")


class Setup(NamedTuple):
    """To a process, first of all: what it works for.

    Attributes:
        ends: source and destination.
        options: see `SyncOptions`.
        directory: of the state.
        share: what it may use.
        run: the run.
        is_watched: see `Streak`.
        null_is_safe: see `Purger`.
        retry_base_s: see `Retrier`.
        log_level: of what is worth telling.
    """

    ends: tuple[Location, Location]
    options: SyncOptions
    directory: str
    share: Share
    run: Run
    is_watched: bool
    null_is_safe: bool
    retry_base_s: float
    log_level: int


class Work(NamedTuple):
    """To a process: run a pass over a range. It answers with `Ended`.

    Attributes:
        before: the phase that the range is in.
        planned: the range.
    """

    before: Phase
    planned: PlannedRange


class Reply(NamedTuple):
    """To a process: the answer to its `Ask`; what was told is committed."""

    number: int
    value: Any


class Stop(NamedTuple):
    """To a process: finish what is under way, record it, release the rest."""


class Split(NamedTuple):
    """To a process: have ranges that are being listed hand back what they have not listed.

    Attributes:
        idle: ranges that could be worked on besides.
        forced: also if the process is busy: there are others that are not.
    """

    idle: int
    forced: bool


class Leave(NamedTuple):
    """To a process: there is nothing more to do."""


class Ready(NamedTuple):
    """From a process: it has opened its stores, or was stopped while it did."""


class Ask(NamedTuple):
    """From a process: something for the plan, a method of `Ledger` by its name.

    Attributes:
        number: of the question.
        name: of the method.
        args: its arguments.
        named: its arguments by name.
    """

    number: int
    name: str
    args: tuple[Any, ...]
    named: dict[str, Any]


class Told(NamedTuple):
    """From a process, some ten times a second: what has happened.

    Attributes:
        events: added up where that can be done.
        log: level, logger and text of what was logged.
        progressed: numbers of ranges that got on.
    """

    events: tuple[Event, ...]
    log: tuple[tuple[int, str, str], ...]
    progressed: frozenset[int]


class Widened(NamedTuple):
    """From a process: it should have so many ranges at once from now on."""

    at_once: int


class Ended(NamedTuple):
    """From a process: a pass over a range has ended.

    Attributes:
        range: its number.
        finished: False if the run stopped first.
        stuck: then, the first objects that were stuck.
    """

    range: int
    finished: bool
    stuck: tuple[Trouble, ...]


class Broke(NamedTuple):
    """From a process, last of all: why it cannot go on.

    Attributes:
        kind: name of the error.
        message: its words.
        trace: where it came from.
    """

    kind: str
    message: str
    trace: str


Message = Setup | Work | Reply | Stop | Split | Leave | Ready | Ask | Told | Widened | Ended | Broke


def frame(message: Message) -> bytes:
    """A message as it goes over the wire."""
    body = pickle.dumps(message, protocol=5)
    return _LENGTH.pack(len(body)) + body


def read_message(stream: BinaryIO) -> Message | None:
    """Wait for the next message; None: the other end has gone."""
    try:
        head = stream.read(_LENGTH.size)
        body = stream.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else b""
        return pickle.loads(body) if body else None  # noqa: S301 - from the process that started this one
    except (OSError, EOFError, pickle.UnpicklingError):  # the other end has gone in the middle of a message
        return None


async def receive(reader: asyncio.StreamReader) -> Message | None:
    """The same, from a stream of asyncio."""
    try:
        head = await reader.readexactly(_LENGTH.size)
        body = await reader.readexactly(_LENGTH.unpack(head)[0])
    except (asyncio.IncompleteReadError, OSError):
        return None
    return pickle.loads(body)  # type: ignore[no-any-return]  # noqa: S301 - from a process that this one has started
