"""A batch of deletions: up to 100 calls in one request, each with an answer of its own. Pure.

Source: https://docs.cloud.google.com/storage/docs/batch
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from heavysync.errors import ConditionError, NotFoundError, PermanentError, TransientError
from heavysync.objects import Deletion, DeletionFailure
from heavysync.stores.answers import is_text, number
from heavysync.stores.gcs_errors import THROTTLES, error_of, refusal_of
from heavysync.stores.http import Response

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)
_ID = re.compile(rb"content-id:[ \t]*<(?:response-)?(?:[^>]{0,100}\+)?([0-9]+)>", re.IGNORECASE)
_STATUS = re.compile(rb"HTTP/\d(?:\.\d)? (\d{3})")


class Inner(NamedTuple):
    """The answer to one call of a batch.

    Attributes:
        status: HTTP status.
        body: of the answer.
    """

    status: int
    body: bytes


def batch_body(targets: Sequence[str], boundary: str) -> bytes:
    """A request body that deletes each of `targets` (encoded path and query)."""
    lines = []
    for place, target in enumerate(targets):
        lines += [
            f"--{boundary}",
            "Content-Type: application/http",
            "Content-Transfer-Encoding: binary",
            f"Content-ID: <heavysync+{place}>",
            "",
            f"DELETE {target} HTTP/1.1",
            "Accept: application/json",
            "Content-Length: 0",
            "",
            "",
        ]
    lines += [f"--{boundary}--", ""]
    return "\r\n".join(lines).encode()


def batch_answers(response: Response, count: int) -> list[Inner]:
    """The answers in the order of the calls: by Content-ID where the server repeats it, else as they come.

    Raises:
        TransientError: there are not exactly `count` of them, so nothing is known about any.
    """
    boundary = _BOUNDARY.search(response.headers.get("content-type", ""))
    if boundary is None or not is_text(boundary[1]):
        raise TransientError("delete: the answer is no batch")
    found: dict[int, Inner] = {}
    for place, part in enumerate(response.body.split(b"--" + boundary[1].encode())[1:-1]):
        head, _, answer = part.partition(b"HTTP/")
        status = _STATUS.match(b"HTTP/" + answer)
        if status is None:
            raise TransientError("delete: an answer in the batch has no status")
        named = next(filter(None, map(_ID.match, head.split(b"\n"))), None)
        call = number(named[1].decode()) if named else place
        if call is None or call in found:
            raise TransientError("delete: an answer in the batch is to no call, or one of two to the same")
        body = answer.partition(b"\r\n\r\n")[2]
        found[call] = Inner(int(status[1]), body.strip())
    if sorted(found) != list(range(count)):
        raise TransientError(f"delete: {len(found)} answers to {count} calls in a batch")
    return [found[number] for number in range(count)]


def deletion_query(item: Deletion) -> dict[str, str]:
    """Which generation to delete, or which one must be the live one."""
    if item.version is not None:
        return {"generation": item.version}
    if item.listed is not None and item.listed.version:
        return {"ifGenerationMatch": item.listed.version}
    return {}


def is_throttled(inner: Inner) -> bool:
    """Whether an answer in a batch says "slow down"."""
    return inner.status == 429 or (inner.status == 403 and refusal_of(inner.status, {}, inner.body).reason in THROTTLES)


def failure_of(item: Deletion, inner: Inner) -> DeletionFailure | None:
    """Why one of a batch was not deleted; None where it was, or was not there.

    Raises:
        FatalError: the bucket is missing, or the like.
    """
    if inner.status in {200, 204}:
        return None
    refusal = refusal_of(inner.status, {}, inner.body)
    error = error_of("delete", item.key, refusal)
    code, transient = refusal.reason or str(inner.status), False
    match error:
        case NotFoundError():
            return None
        case ConditionError():
            code = "changed"
        case TransientError():
            transient = True
        case PermanentError():
            code = error.code
        case _:
            raise error
    return DeletionFailure(item.key, item.version, code, str(error), transient)
