"""The S3 subset: buckets, listings and objects. Signatures are not looked at."""

from __future__ import annotations

import re
from base64 import b64decode
from calendar import timegm
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate
from functools import lru_cache
from time import strptime
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape, unescape

from servers.bodies import crc64nvme_of, md5_of, span
from servers.buckets import Bucket, Meta, Stored, Thing
from servers.http import Answer, Request
from servers.listing import Ask, Page, beyond, page_of

NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_XML = "Content-Type: application/xml\r\n"
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
_KEPT = (
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
)
PLAIN: Meta = {"content-type": "application/octet-stream"}
_PLAIN_LINES = "Content-Type: application/octet-stream\r\n"
_DELETED = re.compile(r"<Key>(.*?)</Key>", re.DOTALL)
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_ENTITIES = {"&quot;": '"', "&#13;": "\r", "&#10;": "\n", "&#9;": "\t"}

Query = dict[str, str]


class S3Error(Exception):
    """An answer that is an error.

    Args:
        status: HTTP status.
        code: S3's name for it.
    """

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code

    def answer(self) -> Answer:
        body = f"{_HEAD}<Error><Code>{self.code}</Code><Message>{self.code}</Message></Error>"
        return Answer(self.status, _XML, (body.encode(),))


class S3:
    """See the module.

    Attributes:
        buckets: by name.
        counts: requests by operation, and "refused" answers by their code.
        checksums: "checked" as AWS does, "repeated" without a look, "composite" as older servers do, "refused", "ignored",
            "stumbling" at the first header, "choking" on a wrong part, "silent" and yet expected, "unfinished" in the end.
    """

    def __init__(self) -> None:
        self.buckets: dict[str, Bucket] = {}
        self.counts: Counter[str] = Counter()
        self.checksums = "checked"
        self.uploads: Callable[[S3, Request, Bucket, str, Query], Answer] | None = None

    def answer(self, request: Request) -> Answer:
        """See `Service`."""
        path, _, text = request.target.partition("?")
        bucket, _, key = path[1:].partition("/")
        if "%" in path:
            bucket, key = unquote(bucket), unquote(key)
        query = query_of(text) if text else {}
        try:
            if not bucket:
                return self._list_buckets()
            if key:
                return self._on_object(request, bucket, key, query)
            return self._on_bucket(request, bucket, query)
        except S3Error as error:
            self.counts[f"refused {error.code}"] += 1
            answer = error.answer()
            return answer._replace(body=()) if request.method == "HEAD" else answer

    def bucket(self, name: str) -> Bucket:
        """The bucket of a name; an S3Error where there is none."""
        found = self.buckets.get(name)
        if found is None:
            raise S3Error(404, "NoSuchBucket")
        return found

    # buckets

    def _list_buckets(self) -> Answer:
        self.counts["list buckets"] += 1
        when = "<CreationDate>2026-01-01T00:00:00.000Z</CreationDate>"
        rows = "".join(f"<Bucket><Name>{name}</Name>{when}</Bucket>" for name in self.buckets)
        return xml(f"<ListAllMyBucketsResult {NAMESPACE}><Buckets>{rows}</Buckets></ListAllMyBucketsResult>")

    def _on_bucket(self, request: Request, name: str, query: Query) -> Answer:
        method = request.method
        if method == "PUT":
            self.counts["bucket"] += 1
            if not query:
                self.buckets.setdefault(name, Stored())
            return Answer()
        bucket = self.bucket(name)
        if method == "POST" and "delete" in query:
            return self._delete_many(bucket, request)
        if method == "DELETE":
            del self.buckets[name]
            return Answer(204)
        if method == "HEAD" or not _IS_LISTING.isdisjoint(query):
            self.counts["bucket"] += 1
            return self._about_bucket(method, query)
        if method != "GET" or not _IS_UNKNOWN.isdisjoint(query):
            raise S3Error(501, "NotImplemented")
        self.counts["list"] += 1
        return _list_v2(name, bucket, query) if query.get("list-type") == "2" else _list_v1(name, bucket, query)

    def _about_bucket(self, method: str, query: Query) -> Answer:
        if method == "HEAD":
            return Answer(200, "x-amz-bucket-region: us-east-1\r\n", (), 0)
        if "location" in query:
            return xml(f"<LocationConstraint {NAMESPACE}/>")
        if "versioning" in query:
            return xml(f"<VersioningConfiguration {NAMESPACE}/>")
        return xml(f"<ListMultipartUploadsResult {NAMESPACE}><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>")

    def _delete_many(self, bucket: Bucket, request: Request) -> Answer:
        text = bytes(request.body).decode()
        keys = [unescape(key, _ENTITIES) for key in _DELETED.findall(text)]
        self.counts["delete batch"] += 1
        self.counts["objects deleted in batches"] += len(keys)
        for key in keys:
            bucket.delete(key)
        told = "" if "<Quiet>true" in text else "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        return xml(f"<DeleteResult {NAMESPACE}>{told}</DeleteResult>")

    # objects

    def _on_object(self, request: Request, name: str, key: str, query: Query) -> Answer:
        bucket = self.bucket(name)
        method = request.method
        if "uploadId" in query or "uploads" in query:
            assert self.uploads is not None
            return self.uploads(self, request, bucket, key, query)
        if method == "GET":
            return self._about_object(query) if query.keys() & {"tagging", "acl"} else self._read(request, bucket, key)
        if method == "PUT":
            return (
                self._copy(request, bucket, key)
                if "x-amz-copy-source" in request.headers
                else self._write(request, bucket, key)
            )
        if method == "HEAD":
            return self._head(request, bucket, key, query)
        if method == "DELETE":
            self.counts["delete"] += 1
            bucket.delete(key)
            return Answer(204)
        raise S3Error(501, "NotImplemented")

    def _about_object(self, query: Query) -> Answer:
        self.counts["tags or ACL"] += 1
        if "acl" in query:
            raise S3Error(501, "NotImplemented")
        return xml(f"<Tagging {NAMESPACE}><TagSet></TagSet></Tagging>")

    def existing(self, bucket: Bucket, key: str) -> Thing:
        """The object at a key; an S3Error where there is none."""
        thing = bucket.get(key)
        if thing is None:
            raise S3Error(404, "NoSuchKey")
        return thing

    def _read(self, request: Request, bucket: Bucket, key: str) -> Answer:
        self.counts["get"] += 1
        thing = self.existing(bucket, key)
        headers = request.headers
        if "if-match" in headers and headers["if-match"].strip('"') != thing.etag:
            raise S3Error(412, "PreconditionFailed")
        lines = _lines(thing)
        if "range" not in headers:
            return Answer(200, lines + self._sums(headers, thing), thing.pieces)
        start, end = range_of(headers["range"], thing.size)
        if start >= thing.size:
            raise S3Error(416, "InvalidRange")
        return Answer(206, f"{lines}Content-Range: bytes {start}-{end - 1}/{thing.size}\r\n", span(thing.pieces, start, end))

    def _head(self, request: Request, bucket: Bucket, key: str, query: Query) -> Answer:
        self.counts["head"] += 1
        thing = self.existing(bucket, key)
        number = int(query.get("partNumber", "0"))
        if number and thing.parts:
            lines = f"{_lines(thing)}x-amz-mp-parts-count: {len(thing.parts)}\r\n"
            return Answer(206, lines, (), thing.parts[number - 1])
        return Answer(200, _lines(thing) + self._sums(request.headers, thing), (), thing.size)

    def _sums(self, headers: dict[str, str], thing: Thing) -> str:
        """What is told of an object's checksums: AWS keeps a CRC64NVME of all that came without one, since December 2024."""
        if self.checksums == "ignored" or headers.get("x-amz-checksum-mode") != "ENABLED":
            return ""
        if thing.crc32c:
            return f"x-amz-checksum-crc32c: {thing.crc32c}\r\nx-amz-checksum-type: FULL_OBJECT\r\n"
        crc64nvme = thing.crc64nvme or crc64nvme_of(thing.pieces)
        if isinstance(thing, Thing):  # not made up anew each time
            thing.crc64nvme = crc64nvme
        return f"x-amz-checksum-crc64nvme: {crc64nvme}\r\nx-amz-checksum-type: FULL_OBJECT\r\n"

    def _write(self, request: Request, bucket: Bucket, key: str) -> Answer:
        self.counts["put"] += 1
        headers = request.headers
        prove_conditions(headers, bucket, key)
        thing = Thing((request.body,), meta_of(headers))
        if (md5 := headers.get("content-md5")) and b64decode(md5) != thing.md5:
            raise S3Error(400, "BadDigest")
        bucket.put(key, thing)
        return Answer(200, f'ETag: "{thing.etag}"\r\n')

    def copied(self, headers: dict[str, str]) -> Thing:
        """The object that x-amz-copy-source names."""
        text = unquote(headers["x-amz-copy-source"].partition("?")[0])
        name, _, key = text.removeprefix("/").partition("/")
        thing = self.existing(self.bucket(name), key)
        if (etag := headers.get("x-amz-copy-source-if-match")) and etag.strip('"') != thing.etag:
            raise S3Error(412, "PreconditionFailed")
        return thing

    def _copy(self, request: Request, bucket: Bucket, key: str) -> Answer:
        self.counts["copy"] += 1
        headers = request.headers
        source = self.copied(headers)
        prove_conditions(headers, bucket, key)
        meta = meta_of(headers) if headers.get("x-amz-metadata-directive") == "REPLACE" else source.meta
        thing = Thing(source.pieces, meta, md5=md5_of(source.pieces))
        bucket.put(key, thing)
        told = f"<LastModified>{thing.modified}</LastModified><ETag>&quot;{thing.etag}&quot;</ETag>"
        return xml(f"<CopyObjectResult {NAMESPACE}>{told}</CopyObjectResult>")


_IS_LISTING = frozenset({"location", "versioning", "uploads"})
_IS_UNKNOWN = frozenset({"versions", "acl", "policy", "lifecycle", "cors", "object-lock", "website", "logging", "notification"})


def xml(text: str) -> Answer:
    """An answer in XML."""
    return Answer(200, _XML, ((_HEAD + text).encode(),))


@lru_cache(maxsize=1024)
def query_of(text: str) -> Query:
    """Names and values of a query; not to be changed."""
    pairs = (pair.partition("=") for pair in text.split("&"))
    if "%" not in text and "+" not in text:
        return {name: value for name, _, value in pairs}
    return {unquote(name): unquote(value.replace("+", " ")) for name, _, value in pairs}


def prove_conditions(headers: dict[str, str], bucket: Bucket, key: str) -> None:
    """Raise an S3Error where a condition on the destination does not hold."""
    if "if-none-match" in headers and bucket.get(key) is not None:
        raise S3Error(412, "PreconditionFailed")
    if "if-match" in headers:
        there = bucket.get(key)
        if there is None:
            raise S3Error(404, "NoSuchKey")
        if headers["if-match"].strip('"') != there.etag:
            raise S3Error(412, "PreconditionFailed")


def meta_of(headers: dict[str, str]) -> Meta:
    """What is kept of the headers of a write; mostly the same dictionary."""
    meta: Meta = {name: headers[name] for name in _KEPT if name in headers}
    meta.update((name, value) for name, value in headers.items() if name.startswith("x-amz-meta-"))
    encoding = str(meta.get("content-encoding", "")).replace("aws-chunked", "").strip(", ")
    meta.pop("content-encoding", None)
    if encoding:
        meta["content-encoding"] = encoding
    return PLAIN if not meta or meta == PLAIN else meta


def _lines(thing: Thing) -> str:
    meta = thing.meta
    kept = _PLAIN_LINES if meta is PLAIN else "".join(f"{name}: {value}\r\n" for name, value in meta.items())
    return f'ETag: "{thing.etag}"\r\nLast-Modified: {_http_date(thing.modified)}\r\nAccept-Ranges: bytes\r\n{kept}'


@lru_cache(maxsize=4096)
def _http_date(text: str) -> str:
    return formatdate(timegm(strptime(text[:19], "%Y-%m-%dT%H:%M:%S")), usegmt=True)


def range_of(text: str, size: int) -> tuple[int, int]:
    """First byte and the one after the last of a Range header."""
    found = _RANGE.fullmatch(text)
    if found is None:
        return 0, size
    if not found[1]:
        return max(0, size - int(found[2])), size
    return int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)


def _row(key: str, thing: Thing) -> str:
    return (
        f"<Contents><Key>{key}</Key><LastModified>{thing.modified}</LastModified><ETag>&quot;{thing.etag}&quot;</ETag>"
        f"<Size>{thing.size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )


def _rendered(page: Page, query: Query) -> str:
    """Rows and folded prefixes as XML."""
    code = quote if query.get("encoding-type") == "url" else escape
    rows = "".join([_row(code(key), thing) for key, thing in page.rows])
    rows += "".join(f"<CommonPrefixes><Prefix>{code(prefix)}</Prefix></CommonPrefixes>" for prefix in page.prefixes)
    for name, tag in (("prefix", "Prefix"), ("delimiter", "Delimiter"), ("start-after", "StartAfter")):
        if query.get(name):
            rows = f"<{tag}>{code(query[name])}</{tag}>{rows}"
    if query.get("encoding-type") == "url":
        rows = f"<EncodingType>url</EncodingType>{rows}"
    return rows


def _list_v2(name: str, bucket: Bucket, query: Query) -> Answer:
    token = query.get("continuation-token")
    after = query.get("start-after")
    start = unquote(token) if token else (after + "\0" if after else "")
    limit = min(1000, int(query.get("max-keys", "1000")))
    page = page_of(bucket, Ask(query.get("prefix", ""), start, "", query.get("delimiter", ""), limit))
    rows, count, following = _rendered(page, query), len(page.rows) + len(page.prefixes), page.following
    more = f"<NextContinuationToken>{quote(following)}</NextContinuationToken>" if following else ""
    return xml(
        f"<ListBucketResult {NAMESPACE}><Name>{name}</Name>{'' if query.get('prefix') else '<Prefix/>'}"
        f"<KeyCount>{count}</KeyCount><MaxKeys>{limit}</MaxKeys>"
        f"<IsTruncated>{'true' if following else 'false'}</IsTruncated>{more}{rows}</ListBucketResult>"
    )


def _list_v1(name: str, bucket: Bucket, query: Query) -> Answer:
    marker, delimiter = query.get("marker", ""), query.get("delimiter", "")
    start = marker + "\0" if marker else ""
    if delimiter and marker.endswith(delimiter):
        start = beyond(marker)
    limit = min(1000, int(query.get("max-keys", "1000")))
    page = page_of(bucket, Ask(query.get("prefix", ""), start, "", delimiter, limit))
    rows, following, more = _rendered(page, query), page.following, ""
    if following:
        ends = max([key for key, _ in page.rows[-1:]] + page.prefixes[-1:])
        more = f"<NextMarker>{quote(ends) if query.get('encoding-type') == 'url' else escape(ends)}</NextMarker>"
    return xml(
        f"<ListBucketResult {NAMESPACE}><Name>{name}</Name>{'' if query.get('prefix') else '<Prefix/>'}<Marker>{escape(marker)}"
        f"</Marker><MaxKeys>{limit}</MaxKeys><IsTruncated>{'true' if following else 'false'}</IsTruncated>{more}{rows}"
        "</ListBucketResult>"
    )
