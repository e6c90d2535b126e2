"""Uploads in one request: `media` and `multipart`; see `sessions` for resumable ones.

Source: https://cloud.google.com/storage/docs/uploads-downloads
"""

from __future__ import annotations

import json
from email.message import Message

from heavysync.loopback.conditions import Conditions
from heavysync.loopback.model import State, sums
from heavysync.loopback.objects import object_answer
from heavysync.loopback.wire import Answer, ApiError, Call, Json, invalid, invalid_parameter, required
from heavysync.loopback.writing import NewObject, write


def insert(state: State, call: Call) -> Answer:
    """POST upload/…/b/BUCKET/o?uploadType=media|multipart."""
    bucket = state.bucket(call.bucket)
    wanted: Json = {}
    match call.query.get("uploadType"):
        case "media":
            content_type, data = call.headers.get("content-type", ""), call.body
            if not call.query.get("name"):
                raise required("name")
        case "multipart":
            wanted, content_type, data = parse_multipart(call)
        case None:
            raise required("uploadType")
        case other:
            raise invalid_parameter("uploadType", f"Invalid value: '{other}'.")
    name, wanted = named(call, wanted)
    new = NewObject(
        name=name,
        resource=wanted,
        data=data,
        sums=sums(data),
        content_type=content_type,
        goog_hash=call.headers.get("x-goog-hash", ""),
    )
    return object_answer(state, call, write(state, bucket, new, Conditions.of(call)))


def named(call: Call, wanted: Json) -> tuple[str, Json]:
    """The object's name and resource, with what the query overrides."""
    if encoding := call.query.get("contentEncoding"):
        wanted = {**wanted, "contentEncoding": encoding}
    if wanted.get("bucket", call.bucket) != call.bucket:
        raise invalid("The bucket in the object resource is not the one in the URL.")
    name = call.query.get("name") or wanted.get("name") or ""
    call.names = (call.bucket, str(name))  # the log shows it
    return name, wanted


def parse_multipart(call: Call) -> tuple[Json, str, bytes]:
    """Take a multipart/related body apart: the resource, the media's type, the media.

    Raises:
        ApiError: 400, not two parts or the first is not a JSON object.
    """
    boundary = header_parameter(call.headers.get("content-type", ""), "multipart/related", "boundary")
    body, mark = call.body, f"--{boundary}".encode()
    start = body.find(mark)
    between = body.find(b"\r\n" + mark + b"\r\n", start)
    end = body.rfind(b"\r\n" + mark + b"--")
    if start < 0 or between < 0 or end <= between:
        raise _malformed("two parts and an end are needed")
    metadata_type, first = _part(body, start + len(mark) + 2, between)
    media_type, second = _part(body, between + len(mark) + 4, end)
    if not metadata_type.lower().startswith("application/json"):
        raise _malformed("the first part must be application/json")
    if body.find(b"\r\n" + mark, second, end) >= 0:
        raise _malformed("there are more than two parts")
    try:
        wanted = json.loads(body[first:between])
    except ValueError:
        raise ApiError(400, "parseError", "Parse Error") from None
    if not isinstance(wanted, dict):
        raise ApiError(400, "parseError", "Parse Error")
    return wanted, media_type, body[second:end]


def header_parameter(header: str, kind: str, parameter: str) -> str:
    """Read a parameter of a Content-Type that must be of the given kind.

    Raises:
        ApiError: 400.
    """
    message = Message()
    message["Content-Type"] = header
    value = message.get_param(parameter)
    if message.get_content_type() != kind or not isinstance(value, str) or not value:
        raise _malformed(f"Content-Type must be {kind} with a {parameter}")
    return value


def _part(body: bytes, start: int, end: int) -> tuple[str, int]:
    """The content type of a part and where its content starts."""
    if body.startswith(b"\r\n", start):
        return "", start + 2
    stop = body.find(b"\r\n\r\n", start, end + 4)
    if stop < 0:
        raise _malformed("a part has no end of headers")
    for line in body[start:stop].decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-type":
            return value.strip(), stop + 4
    return "", stop + 4


def _malformed(detail: str) -> ApiError:
    return ApiError(400, "badContent", f"Malformed multipart body: {detail}.", text=True)
