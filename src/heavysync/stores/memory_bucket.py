"""What the memory store keeps: a service of buckets, each a sorted set of keys with their versions.

Here is decided what a provider decides: whether a condition holds, which version is live, what an ETag is.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from heavysync.checksums import crc32c_text, digest, multipart_etag
from heavysync.errors import ConditionError, NotFoundError
from heavysync.objects import Metadata, ObjectInfo, ObjectVersion, PartDone, Written

GENERATION_BASE = 1_700_000_000_000_000
"""GCS generations are microseconds since 1970; these look like them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVersion:
    """One version of an object, or a delete marker.

    Args:
        serial: ascending over the whole service.
        version: S3 version id or GCS generation.
        data: the bytes.
        metadata: what came with them.
        etag: S3's; empty on GCS.
        md5: hex; None where the provider would not know it.
        crc32c: base64 of the whole.
        modified_at: RFC 3339 UTC.
        deleted_at: when a GCS version became noncurrent, else None.
        part_sizes: of the parts it was uploaded in; empty for a single write.
        storage_class: or None.
        is_marker: an S3 delete marker.
    """

    serial: int
    version: str
    data: bytes
    metadata: Metadata
    etag: str
    md5: str | None
    crc32c: str
    modified_at: str
    deleted_at: str | None = None
    part_sizes: tuple[int, ...] = ()
    storage_class: str | None = None
    is_marker: bool = False


@dataclass(kw_only=True)
class MemoryBucket:
    """One bucket.

    Args:
        flavour: "s3" or "gs".
        service: that it belongs to.
        versioning: "enabled", "suspended" or "off".
        opaque_etags: ETags are no md5, as under KMS.
    """

    flavour: str
    service: MemoryService
    versioning: str = "off"
    opaque_etags: bool = False
    location: str = ""
    keys: list[str] = field(default_factory=list)
    rows: dict[str, list[StoredVersion]] = field(default_factory=dict)

    def live(self, key: str) -> StoredVersion | None:
        """What a plain read of `key` finds."""
        rows = self.rows.get(key)
        if not rows:
            return None
        newest = rows[-1]
        return None if newest.is_marker or newest.deleted_at else newest

    def find(self, key: str, version: str | None) -> StoredVersion | None:
        """The live object, or the version asked for."""
        if version is None:
            return self.live(key)
        return next((row for row in self.rows.get(key, ()) if row.version == version), None)

    def require(self, key: str, replaces: ObjectInfo | None) -> None:
        """Raise ConditionError unless the live object is the listed one (or there is none, as listed)."""
        live = self.live(key)
        if replaces is None:
            if live is not None:
                raise ConditionError(f"write {key!r}: the object exists already")
        elif live is None or not self.is_listed(live, replaces):
            raise ConditionError(f"write {key!r}: the object is not the listed one")

    def is_listed(self, row: StoredVersion, info: ObjectInfo) -> bool:
        """Whether `row` is what `info` shows: by generation on GCS, by ETag on S3."""
        return row.version == info.version if self.flavour == "gs" else row.etag == info.etag

    def pinned(self, key: str, info: ObjectInfo, operation: str) -> StoredVersion:
        """The listed object, or NotFoundError, or ConditionError."""
        live = self.live(key)
        if self.flavour == "gs" and (row := self.find(key, info.version)):
            return row
        if live is None:
            raise NotFoundError(f"{operation} {key!r}: no such object")
        if not self.is_listed(live, info):
            raise ConditionError(f"{operation} {key!r}: the object changed since it was listed")
        return live

    def put(
        self,
        key: str,
        data: bytes,
        metadata: Metadata,
        *,
        parts: list[bytes] | None = None,
        modified_at: str | None = None,
        storage_class: str | None = None,
    ) -> StoredVersion:
        """Store a new live version; what was live before is kept where versioning is on."""
        digests = digest([data])
        etag = "" if self.flavour == "gs" else digests.md5.hex()
        if parts and self.flavour == "s3":
            etag = multipart_etag([digest([part]).md5 for part in parts])
        elif self.opaque_etags and etag:
            etag = hashlib.md5(b"opaque" + digests.md5, usedforsecurity=False).hexdigest()
        serial = self.service.next_serial()
        row = StoredVersion(
            serial=serial,
            version=self._version(serial),
            data=data,
            metadata=metadata,
            etag=etag,
            md5=digests.md5.hex() if self.flavour == "gs" else None,
            crc32c=crc32c_text(digests.crc32c),
            modified_at=modified_at or self.service.now_text(),
            part_sizes=tuple(map(len, parts or ())),
            storage_class=storage_class,
        )
        self._push(key, row)
        return row

    def delete(self, key: str) -> None:
        """Delete the live object, in the way of the flavour and the versioning."""
        if self.flavour == "gs":
            if self.live(key):
                self._retire(key)
        elif self.versioning == "off":
            self._drop(key, "null")
        else:
            serial = self.service.next_serial()
            marker = StoredVersion(
                serial=serial,
                version=self._version(serial),
                data=b"",
                metadata=Metadata(),
                etag="",
                md5=None,
                crc32c="",
                modified_at=self.service.now_text(),
                is_marker=True,
            )
            self._push(key, marker)

    def delete_version(self, key: str, version: str) -> None:
        """Remove one version for good; on S3 this may make an older one live."""
        self._drop(key, version)

    def live_rows(self, first: str, prefix: str) -> Iterator[tuple[str, StoredVersion]]:
        """Live objects with key >= `first` that start with `prefix`, ascending."""
        for index in range(bisect.bisect_left(self.keys, first), len(self.keys)):
            key = self.keys[index]
            if not key.startswith(prefix):
                return
            if row := self.live(key):
                yield key, row

    def version_rows(self, first: str, prefix: str) -> Iterator[ObjectVersion]:
        """All versions of keys >= `first` that start with `prefix`, ascending, newest first within a key."""
        for at in range(bisect.bisect_left(self.keys, first), len(self.keys)):
            key = self.keys[at]
            if not key.startswith(prefix):
                return
            rows = self.rows[key]
            for index in range(len(rows) - 1, -1, -1):
                yield self._shown(key, rows, index)

    def _shown(self, key: str, rows: list[StoredVersion], index: int) -> ObjectVersion:
        row = rows[index]
        since = row.deleted_at
        if self.flavour == "s3" and index < len(rows) - 1:
            since = rows[index + 1].modified_at
        return ObjectVersion(key, row.version, since is None, row.is_marker, row.modified_at, since, len(row.data))

    def _version(self, serial: int) -> str:
        if self.flavour == "gs":
            return str(GENERATION_BASE + serial)
        return f"v{serial:012d}" if self.versioning == "enabled" else "null"

    def _push(self, key: str, row: StoredVersion) -> None:
        if key in self.rows:
            self._retire(key)
        if key not in self.rows:
            self.rows[key] = []
            bisect.insort(self.keys, key)
        self.rows[key].append(row)

    def _retire(self, key: str) -> None:
        """What is live becomes noncurrent, or goes where versions are not kept."""
        newest = self.rows[key][-1]
        if self.flavour == "gs":
            if newest.deleted_at is None:
                self.rows[key][-1] = replace(newest, deleted_at=self.service.now_text())
                if self.versioning != "enabled":
                    self._drop(key, newest.version)
        elif self.versioning != "enabled":
            self._drop(key, "null")

    def _drop(self, key: str, version: str) -> None:
        rows = [row for row in self.rows.get(key, ()) if row.version != version]
        if rows:
            self.rows[key] = rows
        elif key in self.rows:
            del self.rows[key]
            del self.keys[bisect.bisect_left(self.keys, key)]


@dataclass(kw_only=True)
class PendingUpload:
    """A multipart upload or a resumable session under way.

    Args:
        bucket: that it writes to.
        key: full name.
        metadata: fixed when it began.
        begun_at: RFC 3339; S3 dates the object so.
        size: bytes of the whole object.
        parts: by number.
        finished: the object it became.
    """

    bucket: MemoryBucket
    key: str
    metadata: Metadata
    begun_at: str
    size: int
    parts: dict[int, bytes] = field(default_factory=dict)
    finished: StoredVersion | None = None

    def holds(self, done: PartDone) -> bool:
        """Whether a part is here as it was acknowledged."""
        data = self.parts.get(done.number)
        return data is not None and done.etag in {"", digest([data]).md5.hex()}


@dataclass(kw_only=True)
class MemoryService:
    """A provider: its buckets, uploads and clock. Stores that share one can copy server side.

    Args:
        flavour: "s3" or "gs".
        now: its clock; set it to make versions age.
    """

    flavour: str = "s3"
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    buckets: dict[str, MemoryBucket] = field(default_factory=dict)
    uploads: dict[str, PendingUpload] = field(default_factory=dict)
    rewrites: dict[str, int] = field(default_factory=dict)
    serial: int = 0

    def next_serial(self) -> int:
        """The next number of anything: versions, uploads, tokens."""
        self.serial += 1
        return self.serial

    def now_text(self) -> str:
        """The clock as both providers write it."""
        now = self.now().astimezone(UTC)
        return f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}Z"

    def create(self, name: str) -> MemoryBucket:
        """The bucket of that name, made if need be."""
        return self.buckets.setdefault(name, MemoryBucket(flavour=self.flavour, service=self))


def written(row: StoredVersion) -> Written:
    """What the provider answers to a write."""
    version = row.version if row.version != "null" else None
    return Written(row.etag, version, len(row.data), row.md5, row.crc32c)
