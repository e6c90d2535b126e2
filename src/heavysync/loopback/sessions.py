"""Resumable uploads: a session, its chunks, its status, its end.

Theory of operation. A session knows how many bytes it has kept. A PUT brings `bytes a-b/T` or
`bytes a-b/*`, asks with `bytes */T` or `bytes */*`, or has no Content-Range and brings everything.

    open --chunk--> open        308, Range: bytes=0-(kept-1), no Range while nothing is kept
    open --kept == T--> done    200 and the resource; the conditions of the start are looked at again
    done --any PUT--> done      200 and the resource
    open --DELETE--> dead       499
    open --wrong digest--> dead 400: its bytes can never become the object
    dead --anything--> dead     410; a session that never was is a 404

Bytes that are kept already are skipped when they are sent again; a gap is refused. A chunk that is not the
last must be a multiple of 256 KiB; Google keeps what fits instead of refusing. The last request may add custom
metadata by `X-Goog-Meta-…` and a digest by `X-Goog-Hash`.
Source: https://cloud.google.com/storage/docs/performing-resumable-uploads
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from awscrt import checksums as crt

from heavysync.loopback.conditions import Conditions
from heavysync.loopback.model import State, StoredObject, Sums
from heavysync.loopback.objects import object_answer
from heavysync.loopback.schema import check_object_fields
from heavysync.loopback.uploads import named
from heavysync.loopback.wire import Answer, ApiError, Call, Json
from heavysync.loopback.writing import NewObject, check_metadata, check_name, write

if TYPE_CHECKING:
    from hashlib import _Hash

CHUNK_MULTIPLE = 1 << 18
"""256 KiB: https://cloud.google.com/storage/docs/performing-resumable-uploads#chunked-upload"""

_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass(slots=True, kw_only=True)
class Session:
    """A resumable upload. `start` is the call that opened it: its conditions and `fields` hold to the end."""

    start: Call
    bucket: str
    name: str
    resource: Json
    content_type: str
    total: int | None
    kept: int = 0
    chunks: list[bytes] = field(default_factory=list)
    crc: int = 0
    md5: _Hash = field(default_factory=lambda: hashlib.md5(usedforsecurity=False))
    done: StoredObject | None = None
    dead: bool = False

    def keep(self, data: bytes) -> None:
        """Append bytes."""
        if data:
            self.chunks.append(data)
            self.kept += len(data)
            self.crc = crt.crc32c(data, self.crc)
            self.md5.update(data)


def start(state: State, call: Call) -> Answer:
    """POST upload/…/b/BUCKET/o?uploadType=resumable: the session's URI comes back as Location."""
    bucket = state.bucket(call.bucket)
    name, wanted = named(call, call.json())
    check_name(name)
    check_object_fields(wanted)
    check_metadata(wanted.get("metadata"))
    Conditions.of(call).check(bucket.find(name))
    length = call.headers.get("x-upload-content-length")
    if length is not None and not length.isdecimal():
        raise ApiError(400, "badContent", "Invalid X-Upload-Content-Length.", text=True)
    session = Session(
        start=call,
        bucket=call.bucket,
        name=name,
        resource=wanted,
        content_type=call.headers.get("x-upload-content-type", ""),
        total=int(length) if length is not None else None,
    )
    upload_id = secrets.token_urlsafe(48)
    state.uploads[upload_id] = session
    location = f"{state.url}/upload/storage/v1/b/{quote(call.bucket, safe='')}/o?uploadType=resumable&upload_id={upload_id}"
    return Answer(headers={"Location": location, "X-GUploader-UploadID": upload_id})


def put(state: State, call: Call) -> Answer:
    """PUT to the session's URI: a chunk, the whole object, or a question."""
    session = find(state, call)
    if session.done is not None:
        return object_answer(state, session.start, session.done)
    header = call.headers.get("content-range")
    if header is None:
        header = f"bytes 0-{len(call.body) - 1}/{len(call.body)}" if call.body else "bytes */0"
    match = _RANGE.fullmatch(header)
    if match is None:
        raise _refused(400, "Failed to parse Content-Range header.")
    first, last, total = match.groups()
    if total != "*":
        _fix_total(session, int(total))
    if first is None:
        if call.body:
            raise _refused(400, "Invalid request. A query for the status has a non-empty body.")
    else:
        _take(session, call, int(first), int(last), ends=total != "*" and int(last) + 1 == int(total))
    if total != "*" and session.kept == int(total):
        return _finish(state, session, call)
    return incomplete(session, call)


def cancel(state: State, call: Call) -> Answer:
    """DELETE of the session's URI."""
    kill(find(state, call))
    return Answer(status=499)


def find(state: State, call: Call) -> Session:
    """The session that the call names.

    Raises:
        ApiError: 404 if there never was one, 410 if it is dead.
    """
    session = state.uploads.get(call.query.get("upload_id", ""))
    if session is None or session.bucket != call.bucket:
        raise _refused(404, "Not Found")
    if session.dead:
        raise _refused(410, "Gone")
    return session


def kill(session: Session) -> None:
    """End a session without an object, and free its bytes."""
    session.dead = True
    session.chunks.clear()


def keep_partial(state: State, call: Call, received: bytes) -> None:
    """The connection broke within a chunk: whole multiples of 256 KiB of it are kept, as on Google's side."""
    session = state.uploads.get(call.query.get("upload_id", ""))
    match = _RANGE.fullmatch(call.headers.get("content-range", ""))
    if session is None or session.done or session.dead or match is None or match[1] is None:
        return
    fresh = received[max(session.kept - int(match[1]), 0) :]
    if int(match[1]) <= session.kept:
        session.keep(fresh[: len(fresh) // CHUNK_MULTIPLE * CHUNK_MULTIPLE])


def incomplete(session: Session, call: Call) -> Answer:
    """308 with what is kept; a client that cannot take 308 asks for 200 with the status in a header."""
    headers = {"Range": f"bytes=0-{session.kept - 1}"} if session.kept else {}
    if call.headers.get("x-guploader-no-308") == "yes":
        return Answer(status=200, headers={**headers, "X-HTTP-Status-Code-Override": "308"})
    return Answer(status=308, headers=headers)


def _fix_total(session: Session, total: int) -> None:
    if session.total is not None and session.total != total:
        raise _refused(400, f"Invalid request. The total was {session.total} bytes before, now {total}.")
    if total < session.kept:
        raise _refused(400, f"Invalid request. {session.kept} bytes are uploaded already, more than {total}.")
    session.total = total


def _take(session: Session, call: Call, first: int, last: int, *, ends: bool) -> None:
    length = last - first + 1
    if length != len(call.body) or (session.total is not None and last >= session.total):
        raise _refused(400, f"Invalid request. {len(call.body)} bytes do not fit the Content-Range header.")
    if first > session.kept:
        raise _refused(
            503,
            f"Invalid request. According to the Content-Range header, the upload offset is {first} byte(s), "
            f"which exceeds already uploaded size of {session.kept} byte(s).",
        )
    if not ends and length % CHUNK_MULTIPLE:
        raise _refused(400, f"Invalid request. A chunk of {length} bytes is no multiple of 256 KiB.")
    fresh = call.body[session.kept - first :] if session.kept > first else call.body
    session.keep(fresh if call.persist is None else fresh[: call.persist])


def _finish(state: State, session: Session, call: Call) -> Answer:
    bucket = state.bucket(session.bucket)
    late = {
        header.lower().removeprefix("x-goog-meta-"): value
        for header, value in call.headers.items()
        if header.lower().startswith("x-goog-meta-")
    }
    wanted = session.resource
    if late:
        wanted = {**wanted, "metadata": {**(wanted.get("metadata") or {}), **late}}
    new = NewObject(
        name=session.name,
        resource=wanted,
        data=session.chunks[0] if len(session.chunks) == 1 else b"".join(session.chunks),
        sums=Sums(session.crc, session.md5.digest()),
        content_type=session.content_type,
        goog_hash=call.headers.get("x-goog-hash", "") or session.start.headers.get("x-goog-hash", ""),
    )
    try:
        session.done = write(state, bucket, new, Conditions.of(session.start))
    except ApiError as error:
        if error.status == 400:
            kill(session)
        raise
    session.chunks.clear()
    return object_answer(state, session.start, session.done)


def _refused(status: int, message: str) -> ApiError:
    return ApiError(status, "badRequest" if status == 400 else "backendError", message, text=True)
