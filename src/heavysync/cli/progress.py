"""What the events of a command add up to, and how a synchronisation and a check show it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from heavysync.cli import words
from heavysync.events import (
    Checked,
    Deleted,
    Event,
    Finished,
    Kept,
    Listed,
    ListingDone,
    Moved,
    Notice,
    PhaseStarted,
    Queued,
    Recovered,
    Retrying,
    Stuck,
)


class Progress(ABC):
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
        self.bad = self.unverifiable = 0
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
            case Finished() | Checked() | Deleted():
                self._take_outcome(event)
            case Retrying() | Recovered():
                self._take_retry(event)
            case Stuck() | Notice() | Kept():
                pass

    def _take_outcome(self, event: Finished | Checked | Deleted) -> None:
        match event:
            case Finished(copied, proven, skipped, failed):
                self.done += copied + proven + skipped + failed
                self.failed += failed
                self.skipped += skipped
            case Checked(objects, bad, unverifiable):
                self.done += objects
                self.bad += bad
                self.unverifiable += unverifiable
            case Deleted(objects, failed):
                self.deleted += objects
                self.failed += failed

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
        retrying = self.retrying.copy()  # the loop goes on changing it while the thread of the display looks
        if not retrying:
            return ""
        operation, (since, error) = min(retrying.items(), key=lambda item: item[1][0])
        others = f" and {len(retrying) - 1} more" if len(retrying) > 1 else ""
        told = words.plain(error)[:200]
        return f"retrying for {words.duration(self.clock() - since)}: {words.plain(operation)[:120]}{others}: {told}"

    def phase_line(self) -> str:
        """The phase, and how long the command has run."""
        return f"{self.phase}, {words.duration(self.clock() - self.started)}"

    def left(self) -> str:
        """The time that is left, in words."""
        eta = self.eta()
        return words.duration(eta) if eta is not None else "not known yet"

    @abstractmethod
    def line(self) -> str:
        """All of it in one line."""

    @abstractmethod
    def rows(self) -> list[tuple[str, str]]:
        """All of it as a table of names and values."""

    @abstractmethod
    def as_dict(self) -> dict[str, object]:
        """All of it as plain values."""


class SyncProgress(Progress):
    """The progress of a synchronisation."""

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

    def rows(self) -> list[tuple[str, str]]:
        """All of it as a table of names and values."""
        source, destination, objects, moved = self.rates()
        more = "" if self.listing_done else "+"
        return [
            ("phase", self.phase_line()),
            ("source listed", f"{self.listed['source']:,} keys, {source:,.0f}/s"),
            ("destination listed", f"{self.listed['destination']:,} keys, {destination:,.0f}/s"),
            ("objects", f"{self.done:,} of {self.queued:,}{more}, {objects:,.0f}/s"),
            ("bytes", f"{words.size(self.moved)} of {words.size(self.queued_bytes)}{more}, {words.size(moved)}/s"),
            ("left", self.left()),
            ("deleted", f"{self.deleted:,}"),
            ("failed", f"{self.failed:,}"),
            ("retries", self.trouble() or "none under way"),
        ]

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


class CheckProgress(Progress):
    """The progress of a check: first the draw, then the objects that were drawn."""

    @property
    def is_drawn(self) -> bool:
        """Whether the sample stands."""
        return self.phase == "check"

    def line(self) -> str:
        """All of it in one line."""
        listed, _, objects, moved = self.rates()
        if self.is_drawn:
            parts = [
                f"{self.phase}; checked {self.done:,} of {self.queued:,} ({objects:,.0f}/s)",
                f"read {words.size(self.moved)} of {words.size(self.queued_bytes)} ({words.size(moved)}/s)",
                f"bad {self.bad:,}",
            ]
        else:
            parts = [f"{self.phase}; listed {self.listed['source']:,} ({listed:,.0f}/s)"]
        if self.unverifiable:
            parts.append(f"unverifiable {self.unverifiable:,}")
        if (eta := self.eta()) is not None:
            parts.append(f"{words.duration(eta)} left")
        if trouble := self.trouble():
            parts.append(trouble)
        return "; ".join(parts)

    def rows(self) -> list[tuple[str, str]]:
        """All of it as a table of names and values."""
        listed, _, objects, moved = self.rates()
        rows = [("phase", self.phase_line())]
        if self.is_drawn:
            rows += [
                ("objects", f"{self.done:,} of {self.queued:,}, {objects:,.0f}/s"),
                ("bytes read", f"{words.size(self.moved)} of {words.size(self.queued_bytes)}, {words.size(moved)}/s"),
                ("left", self.left()),
                ("bad", f"{self.bad:,}"),
                ("unverifiable", f"{self.unverifiable:,}"),
            ]
        else:
            rows.append(("source listed", f"{self.listed['source']:,} keys, {listed:,.0f}/s"))
        return [*rows, ("retries", self.trouble() or "none under way")]

    def as_dict(self) -> dict[str, object]:
        """All of it as plain values."""
        return {
            "event": "progress",
            "phase": self.phase,
            "listed": self.listed["source"],
            "sample": self.queued,
            "sample_bytes": self.queued_bytes,
            "checked": self.done,
            "bytes_read": self.moved,
            "bad": self.bad,
            "unverifiable": self.unverifiable,
            "retries": self.retries,
            "retrying": self.trouble(),
        }
