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


class Done(NamedTuple):
    """The destination has the object, verified.

    Attributes:
        key: which.
        source_token: of the content that was copied.
        destination_token: of the object that holds it now.
        size: bytes.
        md5: hex, where it was computed.
        crc32c: base64, where it was computed.
        listing_proves: both listings will show the equality by themselves, so no proof has to be kept.
        copied: it was copied; False: a closer look found it equal.
    """

    key: str
    source_token: str
    destination_token: str
    size: int
    md5: str | None
    crc32c: str | None
    listing_proves: bool
    copied: bool


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
    """

    source: ObjectInfo


class Released(NamedTuple):
    """The run stops: back to the queue as it was.

    Attributes:
        key: which.
    """

    key: str


Outcome = Done | Skipped | Failed | Changed | Released
