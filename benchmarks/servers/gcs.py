"""The GCS JSON subset: buckets, listings, objects, copies and batches. Tokens are not looked at."""

from __future__ import annotations

import json
import re
from binascii import b2a_base64
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

from servers.bodies import crc32c_of, span
from servers.buckets import Bucket, Meta, Stored, Thing
from servers.http import Answer, Request
from servers.listing import Ask, page_of
from servers.s3 import query_of, range_of

_JSON = "Content-Type: application/json; charset=UTF-8\r\n"
PLAIN: Meta = {"contentType": "application/octet-stream"}
KEPT = ("contentType", "cacheControl", "contentDisposition", "contentEncoding", "contentLanguage", "metadata")
_PLAIN_LINES = "Content-Type: application/octet-stream\r\n"
_HEADERS = {
    "contentType": "Content-Type",
    "cacheControl": "Cache-Control",
    "contentDisposition": "Content-Disposition",
    "contentEncoding": "Content-Encoding",
    "contentLanguage": "Content-Language",
}
_PLACE = re.compile(
    r"/(?:resumable/)?(?:(upload|download)/)?storage/v1/b(?:/([^/]+))?(?:/o(?:/([^/]+)(?:/(?:rewriteTo|copyTo)/b/([^/]+)/o/([^/]+))?)?)?"
)
_INNER = re.compile(rb"content-id:[ \t]*<([^>]+)>.*?\r?\n(DELETE|GET) ([^ ]+) HTTP", re.IGNORECASE | re.DOTALL)
_TAKEN_OUT = re.compile(r"(?:items|resource)\(([^)]*)\)")

Query = dict[str, str]
Json = dict[str, Any]


class GcsError(Exception):
    """An answer that is an error.

    Args:
        status: HTTP status.
        reason: Google's name for it.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason

    def answer(self) -> Answer:
        error = {"domain": "global", "reason": self.reason, "message": self.reason}
        return as_json({"error": {"code": self.status, "message": self.reason, "errors": [error]}}, self.status)


class Gcs:
    """See the module.

    Attributes:
        buckets: by name.
        counts: requests by operation, and "refused" answers by their reason.
        uploads: answers what comes to the upload path.
    """

    def __init__(self) -> None:
        self.buckets: dict[str, Bucket] = {}
        self.counts: Counter[str] = Counter()
        self.uploads: Callable[[Gcs, Request, str, Query], Answer] | None = None

    def answer(self, request: Request) -> Answer:
        """See `Service`."""
        try:
            return self._route(request)
        except GcsError as error:
            self.counts[f"refused {error.reason}"] += 1
            return error.answer()

    def _route(self, request: Request) -> Answer:
        path, _, text = request.target.partition("?")
        if path == "/batch/storage/v1":
            return self._batch(request)
        if path == "/token":
            self.counts["token"] += 1
            return as_json({"access_token": "token", "expires_in": 3600, "token_type": "Bearer"})
        found = _PLACE.fullmatch(path)
        if found is None:
            raise GcsError(404, "notFound")
        area, *raw = found.groups()
        names = [unquote(name) if name and "%" in name else name or "" for name in raw]
        query = query_of(text) if text else {}
        if area == "upload":
            assert self.uploads is not None
            return self.uploads(self, request, names[0], query)
        if names[1]:
            return self._on_object(request, names, query)
        return self._on_bucket(request, names[0], query, is_listing=path.endswith("/o"))

    def bucket(self, name: str) -> Bucket:
        """The bucket of a name; a GcsError where there is none."""
        found = self.buckets.get(name)
        if found is None:
            raise GcsError(404, "notFound")
        return found

    # buckets

    def _on_bucket(self, request: Request, name: str, query: Query, *, is_listing: bool) -> Answer:
        if is_listing:
            return self._list(request, name, query)
        self.counts["bucket"] += 1
        if not name and request.method == "POST":
            name = json.loads(bytes(request.body))["name"]
            if name in self.buckets:
                raise GcsError(409, "conflict")
            self.buckets[name] = Stored()
        elif not name:
            return as_json({"kind": "storage#buckets", "items": [_bucket(each) for each in self.buckets]})
        self.bucket(name)
        if request.method == "DELETE":
            del self.buckets[name]
            return Answer(204)
        return as_json(_bucket(name))

    def _list(self, request: Request, name: str, query: Query) -> Answer:
        self.counts["list"] += 1
        token = query.get("pageToken")
        ask = Ask(
            query.get("prefix", ""),
            unquote(token) if token else query.get("startOffset", ""),
            query.get("endOffset", ""),
            query.get("delimiter", ""),
            min(1000, int(query.get("maxResults", "1000"))),
        )
        page = page_of(self.bucket(name), ask)
        row = _row_maker(name, request.base, _fields(query.get("fields", "")))
        parts = ['{"kind":"storage#objects"']
        if page.following:
            parts.append(f'"nextPageToken":{_text(quote(page.following))}')
        if page.prefixes:
            parts.append(f'"prefixes":{json.dumps(page.prefixes)}')
        if page.rows:
            parts.append(f'"items":[{",".join([row(key, thing) for key, thing in page.rows])}]')
        return Answer(200, _JSON, ((",".join(parts) + "}").encode(),))

    # objects

    def existing(self, name: str, key: str, generation: str | None = None) -> Thing:
        """The object at a key, and of a generation; a GcsError where there is none."""
        thing = self.bucket(name).get(key)
        if thing is None or (generation and generation != str(thing.generation)):
            raise GcsError(404, "notFound")
        return thing

    def _on_object(self, request: Request, names: list[str], query: Query) -> Answer:
        name, key, _, target = names
        if target:
            return self._rewrite(request, names, query)
        method = request.method
        if method == "GET" and query.get("alt") == "media":
            return self._read(request, self.existing(name, key, query.get("generation")))
        if method == "GET":
            self.counts["stat"] += 1
            return resource(name, key, self.existing(name, key, query.get("generation")), request.base, query)
        if method == "DELETE":
            self.counts["delete"] += 1
            self._delete(name, key, query)
            return Answer(204)
        if method in {"PATCH", "PUT"}:
            self.counts["patch"] += 1
            thing = self.existing(name, key)
            thing.meta = {**thing.meta, **kept(json.loads(bytes(request.body)))}
            return resource(name, key, thing, request.base, query)
        raise GcsError(404, "notFound")

    def _read(self, request: Request, thing: Thing) -> Answer:
        self.counts["get"] += 1
        lines = _lines(thing)
        if "range" not in request.headers:
            return Answer(200, lines, thing.pieces)
        start, end = range_of(request.headers["range"], thing.size)
        if start >= thing.size:
            raise GcsError(416, "requestedRangeNotSatisfiable")
        return Answer(206, f"{lines}Content-Range: bytes {start}-{end - 1}/{thing.size}\r\n", span(thing.pieces, start, end))

    def _delete(self, name: str, key: str, query: Query) -> None:
        bucket = self.bucket(name)
        prove_conditions(bucket, key, query)
        if not bucket.delete(key):
            raise GcsError(404, "notFound")

    def _rewrite(self, request: Request, names: list[str], query: Query) -> Answer:
        self.counts["copy"] += 1
        source = self.existing(names[0], names[1], query.get("sourceGeneration"))
        bucket = self.bucket(names[2])
        prove_conditions(bucket, names[3], query)
        wanted = kept(json.loads(bytes(request.body)) or {}) if request.body else {}
        thing = source.again(wanted or source.meta)
        thing.crc32c = source.crc32c
        bucket.put(names[3], thing)
        row = _row_maker(names[2], request.base, _fields(query.get("fields", "")))(names[3], thing)
        if "/copyTo/" in request.target:
            return Answer(200, _JSON, (row.encode(),))
        size = f'"totalBytesRewritten":"{thing.size}","objectSize":"{thing.size}","done":true'
        return Answer(200, _JSON, (f'{{"kind":"storage#rewriteResponse",{size},"resource":{row}}}'.encode(),))

    def _batch(self, request: Request) -> Answer:
        self.counts["batch"] += 1
        parts = []
        for call, method, target in _INNER.findall(bytes(request.body)):
            self.counts["calls in batches"] += 1
            inner = self.answer(Request(method.decode().upper(), target.decode(), {}, b"", request.base))
            body = b"".join(inner.body)
            parts.append(
                b"--batch\r\nContent-Type: application/http\r\nContent-ID: <response-%b>\r\n\r\nHTTP/1.1 %d OK\r\n"
                b"%bContent-Length: %d\r\n\r\n%b\r\n" % (call, inner.status, inner.headers.encode(), len(body), body)
            )
        return Answer(200, "Content-Type: multipart/mixed; boundary=batch\r\n", (*parts, b"--batch--\r\n"))


def as_json(value: Json, status: int = 200) -> Answer:
    """An answer in JSON."""
    return Answer(status, _JSON, (json.dumps(value).encode(),))


def _bucket(name: str) -> Json:
    return {
        "kind": "storage#bucket",
        "id": name,
        "name": name,
        "location": "US",
        "storageClass": "STANDARD",
        "projectNumber": "1",
    }


def kept(resource: Json) -> Meta:
    """What is kept of a resource that a client sent."""
    return {name: resource[name] for name in KEPT if resource.get(name)}


def prove_conditions(bucket: Bucket, key: str, query: Query) -> None:
    """Raise a GcsError where a condition on the destination does not hold."""
    wanted = query.get("ifGenerationMatch")
    if wanted is None and "generation" not in query:
        return
    thing = bucket.get(key)
    there = str(thing.generation) if thing else "0"
    if wanted is not None and wanted != there:
        raise GcsError(412, "conditionNotMet")
    if query.get("generation", there) != there:
        raise GcsError(404, "notFound")


def crc_of(thing: Thing) -> str:
    """The object's CRC32C, computed when first asked for."""
    if thing.crc32c:
        return thing.crc32c
    crc32c = crc32c_of(thing.pieces)
    if isinstance(thing, Thing):
        thing.crc32c = crc32c
    return crc32c


def resource(name: str, key: str, thing: Thing, base: str, query: Query) -> Answer:
    """The answer that shows an object, or what `fields` asks for of it."""
    return Answer(200, _JSON, (_row_maker(name, base, _fields(query.get("fields", "")))(key, thing).encode(),))


@lru_cache(maxsize=1024)
def _fields(text: str) -> frozenset[str] | None:
    """The members of an object that a `fields` parameter asks for; None: all."""
    if not text:
        return None
    found = _TAKEN_OUT.search(text)
    names = {name.strip().partition("(")[0].rpartition("/")[2] for name in (found[1] if found else text).split(",")}
    return None if names & {"items", "resource", "*"} else frozenset(names)


def _lines(thing: Thing) -> str:
    meta = thing.meta
    lines = _PLAIN_LINES
    if meta is not PLAIN:
        lines = "".join(f"{header}: {meta[name]}\r\n" for name, header in _HEADERS.items() if name in meta)
    return (
        f"{lines}X-Goog-Generation: {thing.generation}\r\n"
        f"X-Goog-Hash: crc32c={thing.crc32c or crc_of(thing)},md5={_b64(thing.md5)}\r\n"
        f'X-Goog-Stored-Content-Length: {thing.size}\r\nX-Goog-Stored-Content-Encoding: identity\r\nETag: "{thing.etag}"\r\n'
    )


_text = json.encoder.encode_basestring_ascii

_MEMBERS = {
    "kind": "storage#object",
    "id": "{bucket}/{path}/{thing.generation}",
    "selfLink": "{base}/storage/v1/b/{bucket}/o/{path}",
    "mediaLink": "{base}/download/storage/v1/b/{bucket}/o/{path}?generation={thing.generation}&alt=media",
    "name": None,
    "bucket": "{bucket}",
    "generation": "{thing.generation}",
    "metageneration": "1",
    "storageClass": "STANDARD",
    "size": "{thing.size}",
    "md5Hash": "{b64(thing.md5)}",
    "crc32c": "{thing.crc32c or crc_of(thing)}",
    "etag": "{thing.generation}",
    "timeCreated": "{thing.modified}",
    "updated": "{thing.modified}",
}
"""Members of an object, as f-strings that become one: rows are most of what a listing costs."""


def _b64(digest: bytes) -> str:
    return b2a_base64(digest, newline=False).decode()


def _meta_text(meta: Meta, names: tuple[str, ...]) -> str:
    return "".join(f',"{name}":{json.dumps(meta[name])}' for name in names if name in meta)


@lru_cache(maxsize=256)
def _row_maker(bucket: str, base: str, fields: frozenset[str] | None) -> Callable[[str, Thing], str]:
    """What turns an object into JSON, compiled for these members."""
    chosen = [name for name in _MEMBERS if name == "name" or fields is None or name in fields]
    members = ",".join(f'"{name}":' + (f'"{_MEMBERS[name]}"' if _MEMBERS[name] else "{text(key)}") for name in chosen)
    names = tuple(name for name in KEPT if fields is None or name in fields)
    plain = _meta_text(PLAIN, names)
    meta = "{plain if thing.meta is PLAIN else meta_text(thing.meta, names)}"
    code = "lambda key, thing, path='': f'''{{" + members + meta + "}}'''"
    known = {"bucket": bucket, "base": base, "plain": plain, "names": names, "PLAIN": PLAIN, "text": _text, "b64": _b64}
    row: Callable[..., str] = eval(code, known | {"crc_of": crc_of, "meta_text": _meta_text})
    if "{path}" not in members:
        return row
    return lambda key, thing: row(key, thing, quote(key, safe=""))
