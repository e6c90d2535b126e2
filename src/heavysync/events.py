"""What the engine tells while it works: small frozen facts, one a page or a batch, never one an object."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class PhaseStarted(NamedTuple):
    """A phase begins: "list and copy", "delete", "purge"; of a check: "draw", "check"."""

    phase: str


class Listed(NamedTuple):
    """A page of one side was recorded.

    Attributes:
        side: "source" or "destination".
        objects: on the page.
        size: bytes they have.
    """

    side: str
    objects: int
    size: int


class ListingDone(NamedTuple):
    """Both sides are completely listed: totals are final from now on."""


class Queued(NamedTuple):
    """Objects were found that have to be copied.

    Attributes:
        objects: how many.
        size: bytes they have.
    """

    objects: int
    size: int


class Moved(NamedTuple):
    """Bytes arrived at the destination."""

    size: int


class Kept(NamedTuple):
    """Parts of large objects arrived, and are recorded: whoever goes on with these objects does not move them again.

    Attributes:
        parts: how many; of a copy by the provider, its requests.
    """

    parts: int


class Finished(NamedTuple):
    """Outcomes of transfers were recorded.

    Attributes:
        copied: objects written at the destination.
        proven: found equal by a closer look, without a copy.
        skipped: vanished from the source meanwhile.
        failed: recorded as failed.
    """

    copied: int
    proven: int
    skipped: int
    failed: int


class Checked(NamedTuple):
    """Verdicts were recorded.

    Attributes:
        objects: how many.
        bad: corrupt or missing ones among them.
        unverifiable: those of which nothing could be found out.
    """

    objects: int
    bad: int
    unverifiable: int


class Deleted(NamedTuple):
    """Destination objects, or versions, were deleted.

    Attributes:
        objects: how many.
        failed: how many could not be.
    """

    objects: int
    failed: int


class Retrying(NamedTuple):
    """A request failed in passing and will be tried again.

    Attributes:
        operation: what was tried.
        error: the provider's words.
        attempt: how often it failed now, from 1.
        wait_s: seconds until the next attempt.
    """

    operation: str
    error: str
    attempt: int
    wait_s: float


class Recovered(NamedTuple):
    """A request that had failed in passing went through, or was given up by a stop."""

    operation: str


class Stuck(NamedTuple):
    """An object failed in passing again and again, and waits at the end of the queue.

    Attributes:
        key: which.
        message: the last failure.
        times: how often that has happened to it in this run, from 1.
        alone: others go through, so it is no outage.
    """

    key: str
    message: str
    times: int
    alone: bool


class Notice(NamedTuple):
    """Something that the user should know, in one sentence.

    Attributes:
        text: the sentence.
        urgent: the run waits for a person, who is told of it even where only errors are.
    """

    text: str
    urgent: bool = False


Event = (
    PhaseStarted
    | Listed
    | ListingDone
    | Queued
    | Moved
    | Kept
    | Finished
    | Checked
    | Deleted
    | Retrying
    | Recovered
    | Stuck
    | Notice
)

Listener = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """A listener that does not care."""
