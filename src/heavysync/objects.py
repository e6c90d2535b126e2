"""The nouns: what a store lists, reads and answers. All frozen; none does any input or output."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

from heavysync.errors import UsageError

STAMP_KEY = "heavysync"
"""Name of the one user-metadata entry that a streamed copy carries (see `checksums.Stamp`)."""

SCHEMES = ("s3", "gs")

_MD5 = re.compile("[0-9a-fA-F]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A bucket and a directory-like prefix in it: `s3://bucket/prefix` means all keys below `prefix/`.

    `prefix` is empty or ends with `/`. Keys everywhere else are relative to it.
    """

    scheme: str
    bucket: str
    prefix: str = ""

    @classmethod
    def parse(cls, url: str) -> Location:
        """Read `s3://bucket[/prefix]` or `gs://bucket[/prefix]`; wildcards and escapes are literal.

        Raises:
            UsageError: unknown scheme or no bucket name.
        """
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in SCHEMES:
            raise UsageError(f"{url!r}: give s3://bucket[/prefix] or gs://bucket[/prefix]")
        bucket, _, prefix = rest.partition("/")
        if not bucket:
            raise UsageError(f"{url!r} names no bucket: give {scheme}://bucket[/prefix]")
        if prefix and not prefix.endswith("/"):
            prefix += "/"
        return cls(scheme=scheme, bucket=bucket, prefix=prefix)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.prefix}"

    def contains(self, other: Location) -> bool:
        """Whether every key of `other` is also a key of this location."""
        return (self.scheme, self.bucket) == (other.scheme, other.bucket) and other.prefix.startswith(self.prefix)


class ObjectInfo(NamedTuple):
    """One object as a listing shows it. A tuple, because a billion of them pass: it is also a database row.

    Attributes:
        key: relative to the store's root, any Unicode, may be empty (the root's own directory marker).
        size: bytes as stored.
        etag: S3's ETag without quotes; empty on GCS.
        md5: lower-case hex where the listing knows it apart from the ETag (GCS `md5Hash`), else None.
        crc32c: base64 of the big-endian CRC, as both providers write it; of the whole object; else None.
        modified_at: RFC 3339 in UTC, verbatim from the provider.
        version: S3 version id or GCS generation; None where the listing does not tell (S3).
        storage_class: the provider's name, or None.
        metadata: JSON of `Metadata` where the listing has it (GCS), else None (S3: it comes with the read).
    """

    key: str
    size: int
    etag: str
    md5: str | None = None
    crc32c: str | None = None
    modified_at: str = ""
    version: str | None = None
    storage_class: str | None = None
    metadata: str | None = None

    @property
    def token(self) -> str:
        """What changes whenever the content does: GCS generation, else S3's ETag and size."""
        return f"{self.etag}:{self.size}" if self.etag else (self.version or "")

    @property
    def candidate_md5(self) -> str | None:
        """The md5 in lower-case hex, if the listing may know it. A plain S3 ETag may also be something else (KMS).

        Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html (ETag)
        """
        return self.md5 or (self.etag.lower() if _MD5.fullmatch(self.etag) else None)


class Page(NamedTuple):
    """One page of a listing.

    Attributes:
        objects: ascending by UTF-8 bytes of the key, each above `after` and at most `until`.
        cursor: the last key this page speaks for, to go on after; None when nothing follows up to `until`.
    """

    objects: list[ObjectInfo]
    cursor: str | None


class VersionCursor(NamedTuple):
    """Where a listing of versions goes on.

    Attributes:
        key: of the last row seen.
        version: of the last row seen (S3 version id or GCS generation).
        modified_at: of the last row seen; the next row of the same key became noncurrent then (S3).
    """

    key: str
    version: str
    modified_at: str


class ObjectVersion(NamedTuple):
    """One version of an object, or one delete marker.

    Attributes:
        key: relative to the store's root.
        version: S3 version id (may be "null") or GCS generation.
        is_live: the one that a plain read would see; a current delete marker is live too.
        is_marker: an S3 delete marker.
        modified_at: RFC 3339 UTC, when it was created.
        noncurrent_since: RFC 3339 UTC; None for the live one.
        size: bytes; 0 for a marker.
    """

    key: str
    version: str
    is_live: bool
    is_marker: bool
    modified_at: str
    noncurrent_since: str | None
    size: int


class VersionPage(NamedTuple):
    """Versions, ascending by key and newest first within a key; `cursor` is None after the last page.

    Attributes:
        versions: the rows.
        cursor: where to go on, or None.
        server_time: RFC 3339 UTC from the server's `Date` header: the clock that ages are measured by.
    """

    versions: list[ObjectVersion]
    cursor: VersionCursor | None
    server_time: str


class ByteRange(NamedTuple):
    """`start` inclusive to `end` exclusive, in bytes."""

    start: int
    end: int


class Part(NamedTuple):
    """One part of a large object.

    Attributes:
        number: from 1.
        start: first byte.
        end: one past the last byte.
    """

    number: int
    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


class Metadata(NamedTuple):
    """What travels with an object's bytes.

    Attributes:
        content_type: and the other four: the header of that name, verbatim; None = not set.
        expires: S3 only.
        website_redirect: S3 only.
        user: user metadata as decoded text.
        tags: only read and written where `--tags` asks for it.
    """

    content_type: str | None = None
    cache_control: str | None = None
    content_disposition: str | None = None
    content_language: str | None = None
    content_encoding: str | None = None
    expires: str | None = None
    website_redirect: str | None = None
    user: Mapping[str, str] = MappingProxyType({})
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def fixed(self) -> tuple[str | None, ...]:
        """What has a name of its own: all but user metadata and tags, in order."""
        return self[:-2]

    def to_json(self) -> str:
        """A compact text in which absent fields do not appear; equal metadata give equal text."""
        fixed = {name: value for name, value in zip(self._fields[:-2], self.fixed, strict=True) if value is not None}
        user = {"user": dict(self.user)} if self.user else {}
        return json.dumps(fixed | user, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Metadata:
        """The inverse of `to_json`."""
        return cls(**json.loads(text))


class Content(NamedTuple):
    """Bytes of an object or of a part, held as the chunks that came off the wire.

    Attributes:
        chunks: in order; never joined on the way.
        size: the sum of their lengths.
        metadata: what came with a read; None for a part that is written.
        crc32c: base64, of the whole object, where the answer states it.
        crc64nvme: base64, of the whole object, where the answer states it.
        is_md5_etag: False where the answer proves that the ETag is no md5 (KMS, SSE-C).
    """

    chunks: Sequence[bytes]
    size: int
    metadata: Metadata | None = None
    crc32c: str | None = None
    crc64nvme: str | None = None
    is_md5_etag: bool = True


class Examined(NamedTuple):
    """What a look at one live object tells, beyond what a listing has room for.

    Attributes:
        info: the object, with everything that `Store.stat` tells.
        crc64nvme: base64, of the whole object, where the provider states it.
        is_md5_etag: False where the answer proves that the ETag is no md5, nor made of md5s (KMS, SSE-C).
    """

    info: ObjectInfo
    crc64nvme: str | None = None
    is_md5_etag: bool = True


class Digests(NamedTuple):
    """Digests of some bytes.

    Attributes:
        md5: 16 bytes; empty where nobody needs it, for it costs 70 times as much as the other.
        crc32c: unsigned 32-bit.
    """

    md5: bytes
    crc32c: int


class Written(NamedTuple):
    """What a store answers when an object is completely written.

    Attributes:
        etag: S3's ETag without quotes; empty on GCS.
        version: S3 version id (None in an unversioned bucket) or GCS generation.
        size: bytes, where the answer tells, else None.
        md5: hex, where the answer tells (GCS).
        crc32c: base64, where the answer tells.
        is_md5_etag: the ETag looks like an md5, and nothing says that it is something else.
    """

    etag: str
    version: str | None = None
    size: int | None = None
    md5: str | None = None
    crc32c: str | None = None
    is_md5_etag: bool = False


class PartDone(NamedTuple):
    """A part that the store has acknowledged.

    Attributes:
        number: from 1.
        etag: S3's ETag of the part; empty on GCS.
        md5: hex of the part's bytes, as sent; empty where it was not computed, or the part was copied server side.
        crc32c: of the part's bytes, unsigned 32-bit; 0 where it was copied server side.
        crc64nvme: base64, of the part's bytes; empty where it was not computed.
    """

    number: int
    etag: str
    md5: str = ""
    crc32c: int = 0
    crc64nvme: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadState:
    """What must be kept so that an interrupted upload or rewrite goes on. A credential on GCS: keep it private.

    Args:
        kind: "upload" (S3 multipart upload, GCS session), "rewrite" (a GCS copy), "stuck" (an upload not to go on with).
        id: S3 upload id, GCS session URI, or GCS rewrite token.
        part_size: bytes, the same for all parts but the last.
        source_token: `ObjectInfo.token` of the source it was begun for.
        nonce: of the stamp it was begun with.
        crcs: each part carries its CRC32C, which the server checks (S3).
        parts: acknowledged so far, ascending.
    """

    kind: Literal["upload", "rewrite", "stuck"] = "upload"
    id: str
    part_size: int
    source_token: str
    nonce: str = ""
    crcs: bool = False
    parts: tuple[PartDone, ...] = ()


class Deletion(NamedTuple):
    """One object, or one version, to delete.

    Attributes:
        key: relative to the store's root.
        version: a noncurrent version id or generation; None deletes the live object.
        listed: the live object as it was listed: it is deleted only if it still is that one.
    """

    key: str
    version: str | None = None
    listed: ObjectInfo | None = None


class DeletionFailure(NamedTuple):
    """One object that was not deleted.

    Attributes:
        key: as asked.
        version: as asked.
        code: the provider's error code; "changed" where the object is not the listed one any more.
        message: the provider's words.
        transient: asking again may help.
    """

    key: str
    version: str | None
    code: str
    message: str
    transient: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketInfo:
    """What is known about a bucket.

    Args:
        versioning: "enabled", "suspended", "off", or "unknown" to those who may not ask.
        mfa_delete: S3 refuses every delete of a version without a one-time password.
        location: region or location.
    """

    versioning: str
    mfa_delete: bool = False
    location: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a store can take. Bytes, except the counts.

    Args:
        write_max: the largest object that a single `write` may carry.
        part_min: smallest part but for the last.
        part_max: largest part.
        part_count: most parts of one upload.
        part_multiple: every part but the last is a multiple of this.
        parallel_parts: parts may be written at once and in any order.
        object_max: the largest object.
        copy_max: the largest object that one `copy` call can take; larger ones go by `Upload.copy_part`.
        delete_batch: most entries of one `delete` call.
    """

    write_max: int
    part_min: int
    part_max: int
    part_count: int
    part_multiple: int
    parallel_parts: bool
    object_max: int
    copy_max: int
    delete_batch: int
