"""What an error answer of the JSON API means: by status and `reason`, never by status alone.

Source: https://docs.cloud.google.com/storage/docs/json_api/v1/status-codes and
https://docs.cloud.google.com/storage/docs/retry-strategy
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from heavysync.errors import (
    ConditionError,
    FatalError,
    HeavysyncError,
    NotFoundError,
    PermanentError,
    TransientError,
)
from heavysync.stores.answers import retry_after, words

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

LOCKED = {
    "retentionPolicyNotMet": "it may be replaced or deleted when its retention has ended",
    "objectUnderActiveHold": "it may be replaced or deleted when the hold on it is released",
}
"""Reasons why an object may not be changed for now; `code` becomes "locked"."""

_KEYS = "the bucket's service agent needs the role cloudkms.cryptoKeyEncrypterDecrypter on a key that is enabled"
_PAYS = "the bucket lets requesters pay: give --request-payer, and --project with a project that pays"

_ADVICE = {
    **LOCKED,
    "userProjectMissing": _PAYS,
    "userProjectAccessDenied": "the credentials need serviceusage.services.use on the project that pays",
    "resourceIsEncryptedWithCustomerEncryptionKey": "it has a key of the customer (CSEK), which heavysync cannot send",
    "customerEncryptionKeyIsIncorrect": "it has a key of the customer (CSEK), which heavysync cannot send",
    "uploadTooLarge": "Google Cloud Storage takes no object as large as this one",
}
_ARE_PAID = re.compile("requester pays", re.IGNORECASE)


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
        reason, message = words(first.get("reason"), 100), words(error.get("message"))
        if status == 404 and not reason:  # an emulator's; the form is Google's all the same
            reason = "notFound"
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
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
    if status in {408, 429, 499} or status >= 500 or reason in THROTTLES:
        return TransientError(text, retry_after=wait, throttled=status == 429 or reason in THROTTLES)
    if status < 400 and status != 304:
        return TransientError(f"{text} (not an answer of the storage API; is a proxy in between?)")
    if reason in FATAL or (status == 400 and _ARE_PAID.search(message)):
        return FatalError(_advised(text, reason, message))
    if status == 404:
        return _missing(text, reason, message)
    if status in {304, 412, 416}:  # 416: the object has become smaller
        return ConditionError(text)
    return _lasting(text, key, refusal)


def _lasting(text: str, key: str, refusal: Refusal) -> HeavysyncError:
    """A refusal that asking again does not change."""
    status, reason, message, _ = refusal
    if not key:
        return FatalError(text + _advice(status))
    return PermanentError(_advised(text, reason, message), code="locked" if reason in LOCKED else reason or str(status))


def _advised(text: str, reason: str, message: str) -> str:
    """What was said, and what to do about it where that is known."""
    advice = _ADVICE.get(reason, "")
    if reason.lower().startswith("cloudkms"):
        advice = _KEYS
    elif not advice and _ARE_PAID.search(message):
        advice = _PAYS
    return f"{text}; {advice}" if advice else text


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
