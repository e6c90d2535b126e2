"""The one writer to the terminal: a live display, a line a minute, or JSON lines; and what a command has to say."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Event as ThreadEvent
from threading import Thread
from typing import TYPE_CHECKING, Literal, TextIO

from heavysync.cli import words
from heavysync.cli.progress import Progress
from heavysync.events import Deleted, Event, Listed, ListingDone, Notice, PhaseStarted, Queued, Retrying, Stuck

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

_log = logging.getLogger("heavysync")

Mode = Literal["live", "plain", "json", "quiet"]
LINE_S = {"plain": 60.0, "json": 10.0}
"""Seconds between two lines of progress where there is no live display."""

OUTAGE_S = 5.0
"""Seconds after which retries are worth a line of their own."""


def choose_mode(*, quiet: bool, as_json: bool) -> Mode:
    """How a command speaks."""
    if as_json:
        return "json"
    if quiet:
        return "quiet"
    return "live" if sys.stderr.isatty() else "plain"


class Console:
    """Writes for one command.

    Args:
        mode: "live" display, "plain" lines, "json" lines, or "quiet": errors, and what waits for a person.
        progress: what the events add up to.
        out: where results go.
        err: where progress goes.

    Attributes:
        lost: why results could not be written, other than that nobody reads them any more; "": they could.
    """

    def __init__(self, mode: Mode, progress: Progress, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.mode = mode
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self.progress = progress
        self._told_outage = -LINE_S["plain"]
        self._screen: Live | None = None
        self.lost = ""

    def listener(self, event: Event) -> None:
        """Take an event of the engine."""
        self.progress.take(event)
        match event:
            case Notice(text, urgent):
                self.note(text, urgent=urgent)
            case Stuck(key, message, times, alone) if (
                alone and times & (times - 1) == 0
            ):  # 1, 2, 4, 8 …: each of them would fill the screen
                self.note(f"stuck, and at the end of the queue: {key}: {message}")
            case Retrying(operation, error, attempt, wait_s):
                told = words.plain(f"{operation}: {error}")
                _log.info("%s: failed %d times, again in %.1f s", told, attempt, wait_s)
                self._tell_outage()
            case PhaseStarted() | Listed() | ListingDone() | Queued() | Deleted():
                _log.info("%s", event)
            case _:
                pass

    def _tell_outage(self) -> None:
        """Say once a minute, where nothing else shows it, that something has been retried for a while."""
        now = self.progress.clock()
        since = min((since for since, _ in self.progress.retrying.values()), default=now)
        if self.mode == "plain" and now - since >= OUTAGE_S and now - self._told_outage >= LINE_S["plain"]:
            self._told_outage = now
            self.note(self.progress.trouble())

    def note(self, text: str, *, urgent: bool = False) -> None:
        """Say one sentence; quietly: an urgent one."""
        if self.mode == "json":
            with suppress(BrokenPipeError):  # who is told a result will notice
                self.emit({"event": "notice", "text": text})
        elif urgent or self.mode != "quiet":
            self._say(words.plain(text), self._err)

    def error(self, text: str) -> None:
        """Say why the command ends."""
        if self.mode == "json":
            with suppress(BrokenPipeError):
                self.emit({"event": "error", "text": text})
        self._say(f"error: {words.plain(text)}", self._err)

    def tell(self, line: str) -> None:
        """Say one line of a result; it holds nothing that `words.plain` would change."""
        self._say(line, self._out)

    def emit(self, fields: Mapping[str, object]) -> None:
        """Say one JSON line."""
        self._say(json.dumps(fields), self._out)

    def _say(self, line: str, where: TextIO) -> None:
        screen = self._screen
        if screen is not None and where.isatty():
            from rich.text import Text

            screen.console.print(Text(line), soft_wrap=True)  # above the live display
            return
        try:
            where.write(f"{line}\n")  # at once: another thread writes progress
            where.flush()
        except OSError as error:
            if where is self._out and isinstance(error, BrokenPipeError):
                raise  # whoever wanted to read has gone
            self._give_up(where, error)

    def _give_up(self, where: TextIO, error: OSError) -> None:
        """A full disk behind a stream must not stop the work; but results that are lost have to be told in the end."""
        if where is self._out:
            self.lost = self.lost or f"standard output cannot be written: {error.strerror}"
        mute(where)

    def settle(self) -> None:
        """Flush what is left, so that nothing fails after the exit code is known."""
        for where in (self._out, self._err):
            try:
                where.flush()
            except OSError as error:
                self._give_up(where, error)

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Show progress for the time of the block, from a thread of its own: a busy engine does not stop it."""
        if self.mode == "quiet":
            yield
            return
        ended = ThreadEvent()
        thread = Thread(target=self._show, args=(ended,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _show(self, ended: ThreadEvent) -> None:
        with suppress(OSError):  # no pipe, no terminal any more: whoever writes a result will notice, too
            if self.mode == "live":
                self._live(ended)
            else:
                self._lines(ended)

    def _lines(self, ended: ThreadEvent) -> None:
        self.progress.mark()
        while not ended.wait(LINE_S[self.mode]):
            self.progress.mark()
            if self.mode == "json":
                self.emit(self.progress.as_dict())
            else:
                self._say(self.progress.line(), self._err)

    def _live(self, ended: ThreadEvent) -> None:
        from rich.console import Console as RichConsole
        from rich.live import Live

        with Live(console=RichConsole(file=self._err), auto_refresh=False, transient=True, redirect_stdout=False) as live:
            self._screen = live
            while True:
                self.progress.mark()
                live.update(self._table(), refresh=True)
                if ended.wait(0.5):
                    break
            self._screen = None

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for name, value in self.progress.rows():
            table.add_row(Text(name, style="bold"), Text(value))
        return table


def mute(stream: TextIO) -> None:
    """Let a stream that cannot be written swallow what is still to come, and what it has not got rid of."""
    with suppress(OSError, ValueError):  # a stream of a test has no file
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
