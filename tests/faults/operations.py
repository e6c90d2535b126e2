"""What a request asks for: one name for each kind of request that heavysync makes, on both sides."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from gateway import operation_of

from heavysync.loopback.routes import route
from heavysync.loopback.wire import ApiError

Side = Literal["s3", "gs"]

TRAP = "/_trap"
"""Where redirections lead: whoever asks for something below it has followed one."""

_NAME = re.compile(rb'"name"\s*:\s*("(?:[^"\\\\]|\\\\.)*")')
_UPLOAD_ID = re.compile(r"[?&]upload_id=([^&\s]+)")

_REFINED = {"bucket.get": "bucket", "bucket.insert": "bucket", "bucket.patch": "bucket", "bucket.list": "bucket"}


class Asked(NamedTuple):
    """One request, as far as rules look at it.

    Attributes:
        side: of the server.
        operation: S3: list, list versions, list parts, get, get range, stat, put, create, part, complete, abort, copy,
            copy part, delete, delete one, tags, bucket. Google: list, list versions, get, get range, stat, insert, start, chunk, status,
            cancel, rewrite, delete, batch, token, bucket. Both: trap, other.
        bucket: its name; of a rewrite the destination's; "" where the request names none (batch, token).
        key: decoded; of a rewrite the source's; "" where the head of the request names none: a batch has many, and for
            uploads to Google the kit looks further.
    """

    side: Side
    operation: str
    bucket: str
    key: str


def asked(side: Side, method: str, target: str, headers: Mapping[str, str]) -> Asked:
    """Classify a request; `headers` have names in lower case."""
    if target.startswith(TRAP):
        return Asked(side, "trap", "", target[len(TRAP) :])
    return _asked_s3(method, target, headers) if side == "s3" else _asked_gs(method, target, headers)


def _asked_s3(method: str, target: str, headers: Mapping[str, str]) -> Asked:
    """In path style."""
    try:
        operation, key = operation_of(method, target, dict(headers))
    except KeyError:
        return Asked("s3", "other", "", "")
    path, _, query = target.partition("?")
    names = {entry.partition("=")[0] for entry in query.split("&")}
    if operation == "get" and "uploadId" in names:
        operation = "list parts"
    elif operation == "delete" and key:
        operation = "delete one"
    elif "tagging" in names:
        operation = "tags"
    elif operation == "get" and "range" in headers:
        operation = "get range"
    return Asked("s3", operation, path[1:].partition("/")[0], key)


def _asked_gs(method: str, target: str, headers: Mapping[str, str]) -> Asked:
    try:
        call = route(method, target, headers)
    except ApiError:
        return Asked("gs", "other", "", "")
    operation = _REFINED.get(call.operation, call.operation)
    if operation == "list" and call.query.get("versions") == "true":
        operation = "list versions"
    elif operation == "get" and "range" in headers:
        operation = "get range"
    bucket = call.names[2] if operation == "rewrite" else call.names[0] if call.names else ""
    return Asked("gs", operation, bucket, call.names[1] if len(call.names) > 1 else call.query.get("name", ""))


def name_in(body: bytes) -> str:
    """The object's name in the first bytes of an upload to Google; "" where it cannot be read."""
    found = _NAME.search(body)
    try:
        return str(json.loads(found[1])) if found else ""
    except ValueError:
        return ""


def upload_id_in(text: str) -> str:
    """The id of an upload session in its URL; "" without one."""
    found = _UPLOAD_ID.search(text)
    return found[1] if found else ""
