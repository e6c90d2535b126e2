"""The nouns of copying: a claimed transfer, and what can become of it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from heavysync.objects import ObjectInfo, UploadState

Reason = Literal["new", "changed", "unproven"]


class Transfer(NamedTuple):
    """One object that a worker has to bring to the destination.

    Attributes:
        source: as it was listed, or as it was found when it had changed.
        destination: what was listed at the same key; None: nothing.
        reason: why it is owed (see `range.sql`).
        attempts: how often it went back to the queue because the source changed.
        upload: an upload that was begun and not finished.
    """

    source: ObjectInfo
    destination: ObjectInfo | None
    reason: Reason
    attempts: int = 0
    upload: UploadState | None = None


class Evidence(NamedTuple):
    """What is kept of a copy whose equality the listings alone will not show.

    Attributes:
        source_token: of the content that was copied.
        destination_token: of the object that holds it now.
        md5: hex, where it was computed.
        crc32c: base64, where it was computed.
    """

    source_token: str
    destination_token: str
    md5: str | None = None
    crc32c: str | None = None


class Done(NamedTuple):
    """The destination has the object, verified.

    Attributes:
        key: which.
        size: bytes.
        copied: it was copied; False: a closer look found it equal.
        evidence: to be kept; None: both listings will show the equality by themselves, as of most objects.
    """

    key: str
    size: int
    copied: bool
    evidence: Evidence | None = None


class Skipped(NamedTuple):
    """There was nothing to copy any more; no failure.

    Attributes:
        key: which.
        code: short and stable.
        message: in words.
    """

    key: str
    code: str
    message: str


class Failed(NamedTuple):
    """The object cannot be copied; the others go on.

    Attributes:
        key: which.
        code: short and stable, the provider's where there is one.
        message: operation, key, the provider's words.
    """

    key: str
    code: str
    message: str


class Changed(NamedTuple):
    """The source has another content than the listed one: back to the queue with it.

    Attributes:
        source: what is there now.
        destination: a copy of the listed content that was found there: what comes now replaces it. None: as it was listed.
    """

    source: ObjectInfo
    destination: ObjectInfo | None = None


class Released(NamedTuple):
    """The run stops: back to the queue as it was.

    Attributes:
        key: which.
    """

    key: str


class Postponed(NamedTuple):
    """It failed in passing again and again: to the end of the queue with it, so that it holds nobody up.

    Attributes:
        key: which.
        message: the last failure.
        suspect: an unfinished upload of it may be what is wrong.
        alone: others went through meanwhile.
        answered: requests that the server had carried out by then; None: not known.
        begin_anew: the upload is not to be continued.
    """

    key: str
    message: str
    suspect: bool
    alone: bool
    answered: int | None = None
    begin_anew: bool = False


Outcome = Done | Skipped | Failed | Changed | Released | Postponed


def outcome_key(outcome: Outcome) -> str:
    """Which object an outcome is about."""
    return outcome.source.key if isinstance(outcome, Changed) else outcome.key
