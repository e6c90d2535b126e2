"""What an error answer of the JSON API means: by status and `reason`, never by status alone.

Source: https://docs.cloud.google.com/storage/docs/json_api/v1/status-codes and
https://docs.cloud.google.com/storage/docs/retry-strategy
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from heavysync.errors import (
    ConditionError,
    FatalError,
    HeavysyncError,
    NotFoundError,
    PermanentError,
    TransientError,
)

THROTTLES = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "slowDown"})
"""Reasons that come with 403 or 429 and mean "later, and slower"."""

FATAL = frozenset(
    {
        "accountDisabled",
        "accessNotConfigured",
        "usageLimits.accessNotConfigured",
        "countryBlocked",
        "orgPolicyConstraintFailed",
        "sslRequired",
        "userProjectAccountProblem",
        "userProjectMissing",
        "userProjectAccessDenied",
    }
)
"""Reasons that concern the whole bucket or account."""

LOCKED = frozenset({"retentionPolicyNotMet", "objectUnderActiveHold"})
"""Reasons why an object may not be changed for now; `code` becomes "locked"."""


class Refusal(NamedTuple):
    """What an error answer says.

    Attributes:
        status: HTTP status.
        reason: Google's short name of it, or "".
        message: Google's words, or the start of whatever came.
        retry_after: seconds, where the answer asks for a wait.
    """

    status: int
    reason: str
    message: str
    retry_after: float | None


def refusal_of(status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
    """Read an error answer; a body that is no JSON (a proxy's HTML, plain text) is quoted in part."""
    try:
        error = json.loads(body)["error"]
        first: dict[str, Any] = (error.get("errors") or [{}])[0]
        reason, message = str(first.get("reason", "")), str(error.get("message", ""))
        if status == 404 and not reason:  # an emulator's; the form is Google's all the same
            reason = "notFound"
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        reason, message = "", body[:200].decode("utf-8", "replace").strip()
    return Refusal(status, reason, message, retry_after(headers))


def error_of(operation: str, key: str, refusal: Refusal) -> HeavysyncError:
    """The error class that stands for a refusal; 401 is not decided here (see `gcs_auth`).

    Args:
        operation: what was asked for, as people call it.
        key: relative key; "" where there is none, and then a lasting refusal ends the run.
        refusal: what came.
    """
    status, reason, message, wait = refusal
    text = f"{operation} {key!r}: " if key else f"{operation}: "
    text += f"{status} {reason}: {message}" if reason else f"{status}: {message}"
    if status in {408, 429} or status >= 500 or reason in THROTTLES:
        return TransientError(text, retry_after=wait, throttled=status == 429 or reason in THROTTLES)
    if status < 400 and status != 304:
        return TransientError(f"{text} (not an answer of the storage API; is a proxy in between?)")
    if reason in FATAL:
        return FatalError(text)
    if status == 404:
        return _missing(text, reason, message)
    if status in {304, 412, 416}:  # 416: the object has become smaller
        return ConditionError(text)
    return _lasting(text, key, status, reason)


def _lasting(text: str, key: str, status: int, reason: str) -> HeavysyncError:
    """A refusal that asking again does not change."""
    if not key:
        return FatalError(text + _advice(status))
    return PermanentError(text, code="locked" if reason in LOCKED else reason or str(status))


def _missing(text: str, reason: str, message: str) -> HeavysyncError:
    """An object that is missing concerns the object, a bucket the run; the reason is `notFound` for both.

    A media read says "No such object" in plain text. Any other 404 is not Google's: a proxy must not make objects vanish.
    """
    if reason != "notFound" and not message.startswith("No such object"):
        return TransientError(f"{text} (not an answer of the storage API; is a proxy in between?)")
    if "bucket" in message.lower() and "does not exist" in message.lower():
        return FatalError(text)
    return NotFoundError(text)


def _advice(status: int) -> str:
    if status == 403:
        return (
            "; the credentials lack a permission on the bucket (storage.objects.list at least), "
            "and changes of permissions take some minutes to take effect"
        )
    return ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that `Retry-After` asks for, as a number or as a date; None without it."""
    text = headers.get("Retry-After")
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
