"""What happens in one process, told to another: events added up, some ten times a second, never one message an object."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from heavysync.events import Deleted, Event, Finished, Kept, Listed, Listener, Moved, Queued
from heavysync.runners.wire import Told

TELL_S = 0.1
"""Seconds in which events are gathered."""

_ADDED = (Moved, Kept, Listed, Queued, Finished, Deleted)


class Teller:
    """A listener that sends.

    Args:
        send: sends a message.
        loop: runs it.
    """

    def __init__(self, send: Callable[[Told], None], loop: asyncio.AbstractEventLoop) -> None:
        self._send = send
        self._loop = loop
        self._sums: dict[tuple[type, str], Event] = {}
        self._others: list[Event] = []
        self._log: list[tuple[int, str, str]] = []
        self._progressed: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        logging.getLogger("heavysync").addHandler(_Forward(self))

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, _ADDED):
            kind = (type(event), event.side if isinstance(event, Listed) else "")
            before = self._sums.get(kind)
            self._sums[kind] = event if before is None else add(before, event)
        else:
            self._others.append(event)
        self._soon()

    def of(self, number: int) -> Listener:
        """A listener for what happens in a range: whether it gets on is told, too."""

        def tell(event: Event) -> None:
            if isinstance(event, Listed | Kept | Finished | Deleted):
                self._progressed.add(number)
            self(event)

        return tell

    def log(self, level: int, name: str, text: str) -> None:
        """Take a line of the log, from any thread."""
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._note, (level, name, text))

    def _note(self, line: tuple[int, str, str]) -> None:
        self._log.append(line)
        self._soon()

    def _soon(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(TELL_S, self.flush)

    def flush(self) -> None:
        """Tell now what has not been told yet."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        events = (*self._sums.values(), *self._others)
        self._send(Told(events, tuple(self._log), frozenset(self._progressed)))
        self._sums, self._others, self._log, self._progressed = {}, [], [], set()


def add(before: Event, now: Event) -> Event:
    """Two events of one kind that only count, as one."""
    values: Iterable[tuple[Any, Any]] = zip(before, now, strict=True)
    sums: Iterable[Any] = (b if isinstance(b, str) else a + b for a, b in values)
    return type(now)(*sums)


class _Forward(logging.Handler):
    """Sends log records.

    Args:
        teller: takes them.
    """

    def __init__(self, teller: Teller) -> None:
        super().__init__()
        self._teller = teller

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        self._teller.log(record.levelno, record.name, record.getMessage())
