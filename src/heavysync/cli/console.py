"""The one writer to the terminal: a live display, a line a minute, or JSON lines; and the summary at the end."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event as ThreadEvent
from threading import Thread
from typing import TYPE_CHECKING, Literal, TextIO

from heavysync.cli import words
from heavysync.events import (
    Deleted,
    Event,
    Finished,
    Listed,
    ListingDone,
    Moved,
    Notice,
    PhaseStarted,
    Queued,
    Recovered,
    Retrying,
)
from heavysync.reports import Planned, SyncReport

if TYPE_CHECKING:
    from rich.table import Table

_log = logging.getLogger("heavysync")

Mode = Literal["live", "plain", "json", "quiet"]
LINE_S = {"plain": 60.0, "json": 10.0}
"""Seconds between two lines of progress where there is no live display."""

OUTAGE_S = 5.0
"""Seconds after which retries are worth a line of their own."""


class Progress:
    """What the events add up to. Counts are of this process, not of a run that it resumed.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.started = clock()
        self.phase = "starting"
        self.listed = {"source": 0, "destination": 0}
        self.listing_done = False
        self.queued = self.queued_bytes = 0
        self.done = self.moved = self.failed = self.skipped = 0
        self.deleted = 0
        self.retries = 0
        self.retrying: dict[str, tuple[float, str]] = {}
        self._marks: list[tuple[float, int, int, int, int]] = []

    def take(self, event: Event) -> None:
        """Add one event."""
        match event:
            case PhaseStarted(phase):
                self.phase = phase
            case Listed(side, objects, _):
                self.listed[side] += objects
            case ListingDone():
                self.listing_done = True
            case Queued(objects, size):
                self.queued += objects
                self.queued_bytes += size
            case Moved(size):
                self.moved += size
            case Finished(copied, proven, skipped, failed):
                self.done += copied + proven + skipped + failed
                self.failed += failed
                self.skipped += skipped
            case Deleted(objects, failed):
                self.deleted += objects
                self.failed += failed
            case Retrying() | Recovered():
                self._take_retry(event)
            case Notice():
                pass

    def _take_retry(self, event: Retrying | Recovered) -> None:
        if isinstance(event, Recovered):
            self.retrying.pop(event.operation, None)
            return
        self.retries += 1
        since = self.retrying.get(event.operation, (self.clock(), ""))[0]
        self.retrying[event.operation] = (since, event.error)

    def mark(self) -> None:
        """Remember where things stand, for rates over the last half minute."""
        now = self.clock()
        self._marks.append((now, self.listed["source"], self.listed["destination"], self.done, self.moved))
        self._marks = [mark for mark in self._marks if now - mark[0] < 30] or self._marks[-1:]

    def rates(self) -> tuple[float, float, float, float]:
        """Keys a second on each side, objects a second, bytes a second."""
        if len(self._marks) < 2:
            return (0.0, 0.0, 0.0, 0.0)
        first, last = self._marks[0], self._marks[-1]
        seconds = max(last[0] - first[0], 1e-3)
        a, b, c, d = ((after - before) / seconds for before, after in zip(first[1:], last[1:], strict=True))
        return (a, b, c, d)

    def eta(self) -> float | None:
        """Seconds that are left at the present rate; None while that cannot be told."""
        _, _, objects, moved = self.rates()
        left, left_bytes = self.queued - self.done, self.queued_bytes - self.moved
        if left <= 0 or (objects <= 0 and moved <= 0):
            return None
        guesses = [left / objects] if objects > 0 else []
        if moved > 0:
            guesses.append(max(left_bytes, 0) / moved)
        return max(guesses)

    def trouble(self) -> str:
        """What is being retried, and since when."""
        if not self.retrying:
            return ""
        operation, (since, error) = min(self.retrying.items(), key=lambda item: item[1][0])
        others = f" and {len(self.retrying) - 1} more" if len(self.retrying) > 1 else ""
        told = words.plain(error)[:200]
        return f"retrying for {words.duration(self.clock() - since)}: {words.plain(operation)[:120]}{others}: {told}"

    def line(self) -> str:
        """All of it in one line."""
        source, destination, objects, moved = self.rates()
        more = "" if self.listing_done else "+"
        parts = [
            self.phase,
            f"listed {self.listed['source']:,} ({source:,.0f}/s) and {self.listed['destination']:,} ({destination:,.0f}/s)",
            f"done {self.done:,} of {self.queued:,}{more} ({objects:,.0f}/s)",
            f"{words.size(self.moved)} of {words.size(self.queued_bytes)}{more} ({words.size(moved)}/s)",
        ]
        if (eta := self.eta()) is not None:
            parts.append(f"{words.duration(eta)} left")
        if self.deleted:
            parts.append(f"deleted {self.deleted:,}")
        if self.failed:
            parts.append(f"failed {self.failed:,}")
        if trouble := self.trouble():
            parts.append(trouble)
        return "; ".join(parts)

    def as_dict(self) -> dict[str, object]:
        """All of it as plain values."""
        return {
            "event": "progress",
            "phase": self.phase,
            "listed": self.listed,
            "listing_done": self.listing_done,
            "queued": self.queued,
            "queued_bytes": self.queued_bytes,
            "done": self.done,
            "moved_bytes": self.moved,
            "failed": self.failed,
            "skipped": self.skipped,
            "deleted": self.deleted,
            "retries": self.retries,
            "retrying": self.trouble(),
        }


class Console:
    """Writes for one command.

    Args:
        mode: "live" display, "plain" lines, "json" lines, or "quiet": errors only.
        out: where results go.
        err: where progress goes.
    """

    def __init__(self, mode: Mode, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.mode = mode
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self.progress = Progress(time.monotonic)
        self._told_outage = -LINE_S["plain"]

    def listener(self, event: Event) -> None:
        """Take an event of the engine."""
        self.progress.take(event)
        match event:
            case Notice(text):
                self.note(text)
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

    def note(self, text: str) -> None:
        """Say one sentence."""
        if self.mode == "json":
            self._json({"event": "notice", "text": text})
        elif self.mode != "quiet":
            print(words.plain(text), file=self._err, flush=True)

    def error(self, text: str) -> None:
        """Say why the command ends."""
        if self.mode == "json":
            self._json({"event": "error", "text": text})
        print(f"error: {words.plain(text)}", file=self._err, flush=True)

    def planned(self, item: Planned) -> None:
        """Say what a dry run would do."""
        if self.mode == "json":
            self._json({"event": "planned", "action": item.action, "key": item.key, "size": item.size})
        elif self.mode != "quiet":
            print(f"(dryrun) {item.action}: {words.plain(item.key)} ({words.size(item.size)})", file=self._out)

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Show progress for the time of the block, from a thread of its own: a busy engine does not stop it."""
        if self.mode == "quiet":
            yield
            return
        ended = ThreadEvent()
        thread = Thread(target=self._live if self.mode == "live" else self._lines, args=(ended,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _lines(self, ended: ThreadEvent) -> None:
        self.progress.mark()
        while not ended.wait(LINE_S[self.mode]):
            self.progress.mark()
            if self.mode == "json":
                self._json(self.progress.as_dict())
            else:
                print(self.progress.line(), file=self._err, flush=True)

    def _live(self, ended: ThreadEvent) -> None:
        from rich.console import Console as RichConsole
        from rich.live import Live

        with Live(console=RichConsole(file=self._err), auto_refresh=False, transient=True, redirect_stdout=False) as live:
            while True:
                self.progress.mark()
                live.update(self._table(), refresh=True)
                if ended.wait(0.5):
                    return

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        progress = self.progress
        source, destination, objects, moved = progress.rates()
        more = "" if progress.listing_done else "+"
        eta = progress.eta()
        table = Table.grid(padding=(0, 2))
        rows = [
            ("phase", f"{progress.phase}, {words.duration(progress.clock() - progress.started)}"),
            ("source listed", f"{progress.listed['source']:,} keys, {source:,.0f}/s"),
            ("destination listed", f"{progress.listed['destination']:,} keys, {destination:,.0f}/s"),
            ("objects", f"{progress.done:,} of {progress.queued:,}{more}, {objects:,.0f}/s"),
            (
                "bytes",
                f"{words.size(progress.moved)} of {words.size(progress.queued_bytes)}{more}, {words.size(moved)}/s",
            ),
            ("left", words.duration(eta) if eta is not None else "not known yet"),
            ("deleted", f"{progress.deleted:,}"),
            ("failed", f"{progress.failed:,}"),
            ("retries", progress.trouble() or "none under way"),
        ]
        for name, value in rows:
            table.add_row(Text(name, style="bold"), Text(value))
        return table

    def summary(self, report: SyncReport, seconds: float) -> None:
        """Say how a run ended."""
        if self.mode == "json":
            self._json(_summary(report, seconds))
            return
        if self.mode == "quiet" and report.status == "done":
            return
        for line in _summary_lines(report, seconds):
            print(line, file=self._out)
        self._out.flush()

    def _json(self, fields: dict[str, object]) -> None:
        print(json.dumps(fields), file=self._out, flush=True)


def _summary(report: SyncReport, seconds: float) -> dict[str, object]:
    return {
        "event": "summary",
        "status": report.status,
        "exit_code": report.exit_code,
        "message": report.message,
        "run": report.run,
        "resumed": report.resumed,
        "dry_run": report.dry_run,
        "seconds": round(seconds, 3),
        "state": str(report.state),
        **report.totals._asdict(),
        "troubles": [trouble._asdict() for trouble in report.troubles],
    }


def _summary_lines(report: SyncReport, seconds: float) -> Iterator[str]:
    totals = report.totals
    yield f"source       {totals.source_objects:,} objects, {words.size(totals.source_bytes)}"
    yield f"destination  {totals.destination_objects:,} objects, {words.size(totals.destination_bytes)} before this run"
    if report.dry_run:
        yield f"to copy      {totals.to_copy:,} objects, {words.size(totals.to_copy_bytes)}"
        yield f"to delete    {totals.extra:,} objects"
    else:
        yield f"copied       {totals.copied:,} objects, {words.size(totals.copied_bytes)}"
        rest = [
            ("proven       ", totals.proven, "found equal by a closer look"),
            ("skipped      ", totals.skipped, "vanished meanwhile"),
            ("deleted      ", totals.deleted, "not in the source"),
            ("kept         ", totals.kept, "in the source again"),
            ("purged       ", totals.purged, "old versions"),
            ("failed       ", totals.failed + totals.delete_failed + totals.purge_failed, "see below"),
        ]
        for name, count, meaning in rest:
            if count:
                yield f"{name}{count:,} ({meaning})"
    for trouble in report.troubles:
        yield f"  {trouble.status}: {words.plain(trouble.key)}: {trouble.code}: {words.plain(trouble.message)}"
    yield f"{report.message} ({words.duration(seconds)}; run {report.run} in {report.state})"
