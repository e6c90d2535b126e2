"""Uploads of the GCS subset: in one request (media, multipart) and resumable ones."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from itertools import count

from servers.buckets import Meta, Thing
from servers.gcs import PLAIN, Gcs, GcsError, Json, Query, crc_of, kept, prove_conditions, resource
from servers.http import Answer, Chunk, Request

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)
_FRONT = 1 << 16  # bytes that hold the resource and the heads of a multipart body
_RANGE = re.compile(r"bytes (?:\*|(\d+)-(\d+))/(\d+|\*)")


class _Session:
    """A resumable upload under way."""

    def __init__(self, bucket: str, key: str, told: Json, query: Query) -> None:
        self.bucket = bucket
        self.key = key
        self.told = told
        self.query = query
        self.pieces: list[Chunk] = []
        self.kept = 0
        self.is_done = False


class Uploads:
    """Answers what comes to the upload path; see `Gcs.uploads`."""

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}
        self._ids = count(1)

    def __call__(self, gcs: Gcs, request: Request, bucket: str, query: Query) -> Answer:
        if "upload_id" in query:
            session = self._sessions.get(query["upload_id"])
            if session is None:
                raise GcsError(404, "notFound")
            if request.method == "DELETE":
                gcs.counts["cancel upload"] += 1
                del self._sessions[query["upload_id"]]
                return Answer(499)
            return self._go_on(gcs, request, session)
        gcs.bucket(bucket)
        kind = query.get("uploadType")
        if kind == "resumable":
            gcs.counts["begin upload"] += 1
            return self._begin(request, bucket, query)
        gcs.counts["insert"] += 1
        if kind == "multipart":
            told, body = _related(request)
        else:
            told, body = {"contentType": request.headers.get("content-type")}, request.body
        return _write(gcs, request, bucket, told, [body], query)

    def _begin(self, request: Request, bucket: str, query: Query) -> Answer:
        told: Json = json.loads(bytes(request.body)) if request.body else {}
        told.setdefault("contentType", request.headers.get("x-upload-content-type"))
        key = told.get("name") or query["name"]
        name = f"session-{next(self._ids)}"
        self._sessions[name] = _Session(bucket, key, told, query)
        place = f"{request.base}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={name}"
        return Answer(200, f"Location: {place}\r\nX-GUploader-UploadID: {name}\r\n")

    def _go_on(self, gcs: Gcs, request: Request, session: _Session) -> Answer:
        found = _RANGE.fullmatch(request.headers.get("content-range", ""))
        is_question = found is not None and found[1] is None and not request.body
        gcs.counts["ask upload" if is_question else "put chunk"] += 1
        if session.is_done:
            return resource(session.bucket, session.key, gcs.existing(session.bucket, session.key), request.base, {})
        if found is not None and found[1] is not None and int(found[1]) != session.kept:
            raise GcsError(400, "badRequest")
        if len(request.body):
            session.pieces.append(request.body)
            session.kept += len(request.body)
        total = str(session.kept) if found is None else found[3]
        if total != str(session.kept) or (is_question and found is not None and found[3] == "*"):
            lines = f"Range: bytes=0-{session.kept - 1}\r\n" if session.kept else ""
            if request.headers.get("x-guploader-no-308") == "yes":  # Google's Go library
                return Answer(200, f"{lines}X-HTTP-Status-Code-Override: 308\r\n")
            return Answer(308, lines)
        told = {**session.told, "name": session.key}
        if hashes := request.headers.get("x-goog-hash"):
            told |= dict(
                _HASH_NAMES[name] + (value,) for name, _, value in (one.strip().partition("=") for one in hashes.split(","))
            )
        answer = _write(gcs, request, session.bucket, told, session.pieces, session.query)
        session.is_done = True
        session.pieces = []
        return answer


_HASH_NAMES = {"crc32c": ("crc32c",), "md5": ("md5Hash",)}


def _related(request: Request) -> tuple[Json, Chunk]:
    """Resource and bytes of a multipart/related body."""
    found = _BOUNDARY.search(request.headers.get("content-type", ""))
    if found is None:
        raise GcsError(400, "badRequest")
    body, line = request.body, b"\r\n--" + found[1].encode()
    front = bytes(body[:_FRONT]) if len(body) > _FRONT else bytes(body)
    first = front.find(b"\r\n\r\n") + 4
    middle = front.find(line, first)
    start = front.find(b"\r\n\r\n", middle) + 4
    told: Json = json.loads(front[first:middle])
    if "contentType" not in told:
        for one in front[middle:start].decode("latin-1").split("\r\n"):
            name, _, value = one.partition(":")
            if name.lower() == "content-type":
                told["contentType"] = value.strip()
    if len(body) > _FRONT:
        tail = bytes(body[-len(line) - 16 :])
        return told, memoryview(body)[start : len(body) - len(tail) + tail.rfind(line)]
    return told, front[start : front.rfind(line)]


def _write(gcs: Gcs, request: Request, bucket: str, told: Json, pieces: list[Chunk], query: Query) -> Answer:
    """Make the object, if its conditions and checksums hold."""
    there = gcs.bucket(bucket)
    key = told.get("name") or query["name"]
    prove_conditions(there, key, query)
    meta: Meta = kept(told)
    thing = Thing(pieces, PLAIN if not meta or meta == PLAIN else meta)
    if told.get("md5Hash", "") not in {"", b64encode(thing.md5).decode()} or told.get("crc32c", "") not in {"", crc_of(thing)}:
        raise GcsError(400, "Provided hash doesn't match calculated hash")
    there.put(key, thing)
    return resource(bucket, key, there.get(key) or thing, request.base, query)
