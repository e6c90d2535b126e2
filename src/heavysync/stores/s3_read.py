"""Looking at and reading S3 objects: pinned to the listed ETag, exactly the bytes asked for, or an error."""

from __future__ import annotations

import base64
import re
import time
from collections import ChainMap
from typing import TYPE_CHECKING

from heavysync.errors import ConditionError, FatalError, NotFoundError, PermanentError, TransientError
from heavysync.objects import ByteRange, Content, Examined, ObjectInfo
from heavysync.stores import s3_errors, s3_metadata
from heavysync.stores.answers import moment, number
from heavysync.stores.http import OversizeError, Response
from heavysync.stores.s3_bucket import probe
from heavysync.stores.s3_upload import etag_in, is_encrypted, version_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heavysync.stores.s3_wire import Query, Wire

_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)")

_PARTS = 10_000  # of one upload: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html

_ALIVE_S = 60.0  # a bucket that answered in the last minute is taken to exist


async def head(wire: Wire, key: str, headers: Mapping[str, str], query: Query = ()) -> Response:
    """HEAD an object. Its errors have no body, so an unclear one is asked for again in a way that has.

    Raises:
        NotFoundError: there is no such object, in a bucket that exists.
        HeavysyncError: as `Wire.send`.
    """
    try:
        return await wire.send(s3_errors.STAT, "HEAD", key, query=query, headers=headers)
    except PermanentError as error:  # 400 or 403: an expired token, another region, no permission
        answer = await _first_byte(wire, key, query, error)
        if query:
            raise  # what a HEAD was asked for besides, a GET does not tell
        return answer
    except NotFoundError:
        if time.monotonic() - wire.bucket_seen_at > _ALIVE_S:
            await probe(wire, s3_errors.LIST)
        raise


async def _first_byte(wire: Wire, key: str, query: Query, error: PermanentError) -> Response:
    """Ask by a GET, which says why it is refused; where it is not, its headers are as good as those of the HEAD."""
    try:
        response = await wire.send(s3_errors.STAT, "GET", key, query=query, headers={"range": "bytes=0-0"}, limit=1)
    except ConditionError:  # 416: the object is empty
        raise TransientError(f"{error} (a GET goes through)") from error
    found = _RANGE.fullmatch(response.headers.get("content-range", ""))
    if response.status != 206 or found is None or found[3] == "*":
        raise TransientError(f"{error} (a GET goes through)")
    return Response(200, ChainMap({"content-length": found[3]}, response.headers), [])  # type: ignore[arg-type]


def info_from(key: str, headers: Mapping[str, str]) -> ObjectInfo:
    """All that the headers of a GET or HEAD tell of an object."""
    etag = etag_in(headers)
    size = number(headers.get("content-length"))
    if not etag or size is None:
        raise TransientError(f"stat {key!r}: the answer has no ETag or no Content-Length")
    return ObjectInfo(
        key,
        size,
        etag,
        md5=_stated_md5(headers),
        crc32c=_whole_checksum(headers, "x-amz-checksum-crc32c"),
        modified_at=_rfc3339(headers.get("last-modified", "")),
        version=version_of(headers),
        storage_class=s3_metadata.text(headers.get("x-amz-storage-class", "STANDARD")),
        metadata=s3_metadata.from_headers(headers).to_json(),
    )


def examined(key: str, headers: Mapping[str, str]) -> Examined:
    """What the headers of a HEAD with `x-amz-checksum-mode` tell of an object."""
    crc64nvme = _whole_checksum(headers, "x-amz-checksum-crc64nvme")
    return Examined(info_from(key, headers), crc64nvme, not is_encrypted(headers))


async def read(wire: Wire, info: ObjectInfo, span: ByteRange | None) -> Content:
    """Read an object or a span of it; see `Store.read`."""
    start, end = span or ByteRange(0, info.size)
    is_whole = (start, end) == (0, info.size)
    headers = {"x-amz-checksum-mode": "ENABLED"}
    if info.etag:
        headers["if-match"] = f'"{info.etag}"'
    if not is_whole:
        headers["range"] = f"bytes={start}-{end - 1}"
    query = (("versionId", info.version),) if info.version else ()
    try:
        response = await wire.send(s3_errors.READ, "GET", info.key, query=query, headers=headers, limit=end - start)
    except OversizeError as error:
        _check_same(wire, info, error.headers)
        raise TransientError(str(error)) from error
    _check_same(wire, info, response.headers)
    if not is_whole:
        _check_range(wire, info, response, ByteRange(start, end))
    if response.size != end - start:
        raise TransientError(f"read {wire.place(info.key)}: {response.size} bytes came of {end - start}")
    return _content(wire, info, response, is_whole=is_whole)


def _content(wire: Wire, info: ObjectInfo, response: Response, *, is_whole: bool) -> Content:
    headers = response.headers
    if "x-amz-missing-meta" in headers:
        raise PermanentError(
            f"read {wire.place(info.key)}: S3 does not hand out {headers['x-amz-missing-meta']} entries of its metadata",
            code="unreadable-metadata",
        )
    return Content(
        response.chunks,
        response.size,
        s3_metadata.from_headers(headers),
        _whole_checksum(headers, "x-amz-checksum-crc32c") if is_whole else None,
        _whole_checksum(headers, "x-amz-checksum-crc64nvme") if is_whole else None,
        not is_encrypted(headers),
    )


def _check_same(wire: Wire, info: ObjectInfo, headers: Mapping[str, str]) -> None:
    """Some servers ignore If-Match (rclone): the answer's own ETag has to be the listed one."""
    etag = etag_in(headers)
    if etag and info.etag and etag != info.etag:
        raise ConditionError(f"read {wire.place(info.key)}: the ETag is {etag} and was {info.etag}")


def _check_range(wire: Wire, info: ObjectInfo, response: Response, span: ByteRange) -> None:
    """206, or a 200 with the Content-Range asked for (rclone); a 200 without one may be anything."""
    text = response.headers.get("content-range", "")
    found = _RANGE.fullmatch(text)
    if found is None or (int(found[1]), int(found[2])) != (span.start, span.end - 1):
        raise TransientError(
            f"read {wire.place(info.key)}: bytes {span.start}-{span.end - 1} were asked for, "
            f"{response.status} came with Content-Range {text!r}"
        )
    if found[3] not in {"*", str(info.size)}:
        raise ConditionError(f"read {wire.place(info.key)}: the size is {found[3]} and was {info.size}")


async def part_size(wire: Wire, info: ObjectInfo) -> int | None:
    """The uniform part size of a multipart object, from the size of its first part; see `Store.part_size`.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html (partNumber)
    """
    count = number(info.etag.partition("-")[2])
    if count is None or not 0 < count <= _PARTS:
        return None
    size = await _size_of_part(wire, info, 1)
    return size if size and -(-info.size // size) == count else None


async def has_uniform_parts(wire: Wire, info: ObjectInfo, part_size: int) -> bool:
    """Whether all parts but the last have this size; see `Store.has_uniform_parts`."""
    count = number(info.etag.partition("-")[2]) or 0
    if count > _PARTS:
        return False
    for part in range(1, count):
        if await _size_of_part(wire, info, part) != part_size:
            return False
    return True


async def _size_of_part(wire: Wire, info: ObjectInfo, part: int) -> int | None:
    """Bytes of one part of a multipart object; None where the server does not tell."""
    query = [("partNumber", str(part))] + ([("versionId", info.version)] if info.version else [])
    try:
        # Not pinned by If-Match: moto compares it with the part's own ETag. A wrong size does no harm but to
        # give the copy another ETag than the source's.
        response = await head(wire, info.key, {}, query)
    except PermanentError:
        return None  # the server does not know partNumber
    if response.headers.get("x-amz-mp-parts-count") != info.etag.partition("-")[2]:
        return None
    return number(response.headers.get("content-length"))


async def read_tags(wire: Wire, info: ObjectInfo) -> tuple[tuple[str, str], ...]:
    """The tags of an object; see `Store.read_tags`."""
    query = [("tagging", "")] + ([("versionId", info.version)] if info.version else [])
    _, root = await wire.send_xml(s3_errors.READ_TAGS, "GET", info.key, query=query)
    if root.tag != "Tagging":
        raise TransientError(f"read the tags of {wire.place(info.key)}: the answer is <{root.tag}>")
    return tuple((tag.findtext("Key") or "", tag.findtext("Value") or "") for tag in root.iter("Tag"))


def _whole_checksum(headers: Mapping[str, str], name: str) -> str | None:
    """A checksum of the whole object; one made of the parts' checksums ("-N", COMPOSITE) says nothing to us."""
    value = headers.get(name)
    if value is None or "-" in value or not value.isascii():
        return None
    return value if headers.get("x-amz-checksum-type", "FULL_OBJECT") == "FULL_OBJECT" else None


def _stated_md5(headers: Mapping[str, str]) -> str | None:
    """The md5 that S3 states as an additional checksum, in hex."""
    value = _whole_checksum(headers, "x-amz-checksum-md5")
    try:
        return base64.b64decode(value, validate=True).hex() if value else None
    except ValueError:
        return None


def server_time(headers: Mapping[str, str]) -> str:
    """The server's clock as RFC 3339 UTC.

    Raises:
        FatalError: the answer has no readable `Date`, so that no age can be told.
    """
    text = _rfc3339(headers.get("date", ""))
    if not text:
        raise FatalError("list versions: the server does not tell its time (Date header)")
    return text


def _rfc3339(date: str) -> str:
    """An HTTP date as RFC 3339 in UTC; empty where it is none."""
    when = moment(date)
    return when.isoformat(timespec="seconds").replace("+00:00", "Z") if when else ""
