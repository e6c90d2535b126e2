"""The reference implementation of the contract, in memory, for tests of the engine: small, fast and honest.

Two flavours show both ways of the providers. "s3": ETags (`-N` after multipart), parallel parts, version ids
and delete markers. "gs": generations, md5 and CRC32C in listings, sequential uploads, rewrites in steps.
`fault` runs before every operation and `lose` after it took effect; either may raise, or be a coroutine that
waits. `calls` counts operations.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import islice, takewhile

from heavysync.checksums import crc64nvme, crc64nvme_text
from heavysync.errors import (
    ConditionError,
    DamagedError,
    FatalError,
    NotFoundError,
    PermanentError,
    UploadGoneError,
)
from heavysync.objects import (
    BucketInfo,
    ByteRange,
    Content,
    Deletion,
    DeletionFailure,
    Digests,
    Examined,
    Limits,
    Location,
    Metadata,
    ObjectInfo,
    Page,
    UploadState,
    VersionCursor,
    VersionPage,
    Written,
)
from heavysync.stores import rules
from heavysync.stores.base import Store
from heavysync.stores.memory_bucket import MemoryBucket, MemoryService, PendingUpload, StoredVersion, written
from heavysync.stores.memory_upload import MemoryUpload, fits

Hook = Callable[[str, str], Awaitable[None] | None]
"""Called with the operation's name and the relative key (empty where there is none)."""

_PIECE = 1 << 16  # reads answer in pieces, as a wire does


class MemoryStore:
    """One side of a synchronisation, in memory.

    Args:
        location: bucket and prefix; the scheme is not looked at.
        service: shared by stores that see one another's buckets; its flavour is the store's.
        limits: instead of the provider's own, to make small objects large.
        page_max: most rows of one page.
        rewrite_step: bytes that one `copy` call of the "gs" flavour moves.
        storage_class: of everything written.
        crc: of the whole, that the "s3" flavour states: "crc32c", "crc64nvme" or "".
        fault: called before each operation.
        lose: called after each operation that changed something; raise TransientError to lose its answer.
    """

    def __init__(  # noqa: PLR0913 - knobs of a test double, by name
        self,
        location: Location,
        service: MemoryService,
        *,
        limits: Limits | None = None,
        page_max: int = 1000,
        rewrite_step: int = 1 << 20,
        storage_class: str | None = None,
        crc: str = "crc32c",
        fault: Hook | None = None,
        lose: Hook | None = None,
    ) -> None:
        self.location = location
        self.service = service
        self.flavour = service.flavour
        self.limits = limits or (rules.GS_LIMITS if self.flavour == "gs" else rules.S3_LIMITS)
        self.page_max = page_max
        self.rewrite_step = rewrite_step
        self.storage_class = storage_class
        self.crc = crc
        self.fault = fault
        self.lose = lose
        self.calls: Counter[str] = Counter()

    @property
    def server(self) -> str:
        """Stores of one service mean the same buckets."""
        return f"memory {id(self.service)}"

    @property
    def caution(self) -> str | None:
        """Nothing is sent anywhere."""
        return None

    @property
    def copy_domain(self) -> str:
        """Stores of one service can copy server side."""
        return f"memory:{id(self.service)}"

    @property
    def bucket(self) -> MemoryBucket:
        """The bucket itself, for tests to look into.

        Raises:
            FatalError: there is none.
        """
        try:
            return self.service.buckets[self.location.bucket]
        except KeyError:
            raise FatalError(f"{self.location}: there is no such bucket") from None

    async def step(self, operation: str, key: str = "") -> None:
        """Count an operation, let others run, let the fault hook have its say."""
        self.calls[operation] += 1
        await asyncio.sleep(0)
        await _run(self.fault, operation, key)

    async def settle(self, operation: str, key: str = "") -> None:
        """Let the answer of an operation that took effect be lost."""
        await _run(self.lose, operation, key)

    def full(self, key: str) -> str:
        """The name in the bucket."""
        return self.location.prefix + key

    def name_error(self, key: str) -> str | None:
        """See `Store`."""
        return rules.name_error(self.full(key), self.flavour)

    def metadata_error(self, metadata: Metadata) -> str | None:
        """See `Store`."""
        return rules.user_metadata_error(metadata, self.flavour)

    async def read_bucket(self) -> BucketInfo:
        """See `Store`."""
        await self.step("read_bucket")
        found = self.service.buckets.get(self.location.bucket)
        if found is None:
            raise NotFoundError(f"{self.location}: there is no such bucket")
        return BucketInfo(versioning=found.versioning, location=found.location)

    async def create_bucket(self, location: str | None, storage_class: str | None) -> None:  # noqa: ARG002
        """See `Store`."""
        await self.step("create_bucket")
        self.service.create(self.location.bucket).location = location or ""

    async def enable_versioning(self) -> None:
        """See `Store`."""
        await self.step("enable_versioning")
        self.bucket.versioning = "enabled"

    async def list_page(self, after: str | None, until: str | None, limit: int = 1000) -> Page:
        """See `Store`."""
        await self.step("list_page", after or "")
        first = self.full(after) + "\0" if after is not None else self.full("")  # "\0": the next key there is
        most = min(limit, self.page_max)
        found: list[ObjectInfo] = []
        for name, row in self.bucket.live_rows(first, self.location.prefix):
            info = self.show(name, row, listed=True)
            if until is not None and info.key > until:
                break
            if len(found) == most:
                return Page(found, found[-1].key)
            found.append(info)
        return Page(found, None)

    async def list_versions_page(self, after: VersionCursor | None, first: str | None, until: str | None) -> VersionPage:
        """See `Store`."""
        await self.step("list_versions_page", after.key if after else "")
        prefix = self.location.prefix
        start = self.full(after.key if after else first or "")
        serial = _serial(after.version) if after else 0
        rows = (row._replace(key=row.key[len(prefix) :]) for row in self.bucket.version_rows(start, prefix))
        wanted = (
            row
            for row in takewhile(lambda row: until is None or row.key <= until, rows)
            if (first is None or row.key > first) and (after is None or row.key > after.key or _serial(row.version) < serial)
        )
        page = list(islice(wanted, self.page_max + 1))
        cursor = None
        if len(page) > self.page_max:
            seen = page[self.page_max - 1]
            cursor = VersionCursor(seen.key, seen.version, seen.modified_at)
        return VersionPage(page[: self.page_max], cursor, self.service.now_text())

    def show(self, name: str, row: StoredVersion, *, listed: bool) -> ObjectInfo:
        """A version as a listing (or a stat) of this flavour shows it."""
        full = self.flavour == "gs" or not listed
        metadata = row.metadata.to_json() if full and row.metadata != Metadata() else None
        return ObjectInfo(
            key=name[len(self.location.prefix) :],
            size=len(row.data),
            etag=row.etag,
            md5=row.md5,
            crc32c=row.crc32c if full else None,
            modified_at=row.modified_at,
            version=row.version if full and row.version != "null" else None,
            storage_class=row.storage_class or "STANDARD",
            metadata=metadata,
        )

    async def stat(self, key: str) -> ObjectInfo | None:
        """See `Store`."""
        await self.step("stat", key)
        row = self.bucket.live(self.full(key))
        return self.show(self.full(key), row, listed=False) if row else None

    async def examine(self, key: str) -> Examined | None:
        """See `Store`."""
        info = await self.stat(key)
        row = self.bucket.live(self.full(key))
        if info is None or row is None:
            return None
        if self.flavour == "s3" and self.crc != "crc32c":
            info = info._replace(crc32c=None)
        crc = crc64nvme_text(crc64nvme([row.data])) if self.crc == "crc64nvme" else None
        return Examined(info, crc, not self.bucket.opaque_etags)

    async def part_size(self, info: ObjectInfo) -> int | None:
        """See `Store`."""
        if "-" not in info.etag:
            return None
        await self.step("part_size", info.key)
        row = self.bucket.live(self.full(info.key))
        sizes = row.part_sizes if row else ()
        return sizes[0] if sizes and -(-info.size // sizes[0]) == len(sizes) else None

    async def has_uniform_parts(self, info: ObjectInfo, part_size: int) -> bool:
        """See `Store`."""
        await self.step("has_uniform_parts", info.key)
        row = self.bucket.live(self.full(info.key))
        return row is not None and all(size == part_size for size in row.part_sizes[:-1])

    async def read(self, info: ObjectInfo, span: ByteRange | None = None) -> Content:
        """See `Store`."""
        await self.step("read", info.key)
        row = self.bucket.pinned(self.full(info.key), info, "read")
        start, end = span or ByteRange(0, len(row.data))
        if end > len(row.data):
            raise ConditionError(f"read {info.key!r}: it has only {len(row.data)} bytes")
        chunks = [row.data[at : min(at + _PIECE, end)] for at in range(start, end, _PIECE)]
        return Content(
            chunks,
            end - start,
            metadata=row.metadata._replace(tags=()),
            crc32c=row.crc32c if self.flavour == "gs" or self.crc == "crc32c" else None,
            is_md5_etag=not self.bucket.opaque_etags,
        )

    async def read_tags(self, info: ObjectInfo) -> tuple[tuple[str, str], ...]:
        """See `Store`."""
        if self.flavour == "gs":
            return ()
        await self.step("read_tags", info.key)
        return self.bucket.pinned(self.full(info.key), info, "read tags of").metadata.tags

    async def write(
        self, key: str, content: Content, metadata: Metadata, digests: Digests, replaces: ObjectInfo | None
    ) -> Written:
        """See `Store`."""
        await self.step("write", key)
        self._refuse(key, metadata, content.size)
        data = b"".join(content.chunks)
        if not fits(data, digests) or len(data) != content.size:
            raise DamagedError(f"write {key!r}: the bytes do not match their digests")
        self.bucket.require(self.full(key), replaces)
        row = self.bucket.put(self.full(key), data, metadata, storage_class=self.storage_class)
        await self.settle("write", key)
        return written(row)._replace(is_md5_etag=bool(row.etag) and not self.bucket.opaque_etags)

    def _refuse(self, key: str, metadata: Metadata, size: int) -> None:
        """What a provider refuses for good."""
        if reason := self.name_error(key) or self.metadata_error(metadata):
            raise PermanentError(f"write {key!r}: {reason}", code="InvalidArgument")
        if size > self.limits.object_max:
            raise PermanentError(f"write {key!r}: {size} bytes are too many", code="EntityTooLarge")

    async def begin_upload(
        self,
        key: str,
        metadata: Metadata,
        *,
        size: int,
        part_size: int,
        source_token: str,
        nonce: str,
        replaces: ObjectInfo | None,
        server_side: bool = False,  # noqa: ARG002
    ) -> MemoryUpload:
        """See `Store`."""
        await self.step("begin_upload", key)
        self._refuse(key, metadata, size)
        if self.flavour == "gs":
            self.bucket.require(self.full(key), replaces)
        upload_id = f"upload-{self.service.next_serial()}"
        self.service.uploads[upload_id] = PendingUpload(
            bucket=self.bucket,
            key=self.full(key),
            metadata=metadata,
            begun_at=self.service.now_text(),
            size=size,
        )
        await self.settle("begin_upload", key)
        state = UploadState(id=upload_id, part_size=part_size, source_token=source_token, nonce=nonce)
        return MemoryUpload(self, key, state, replaces)

    async def resume_upload(self, key: str, state: UploadState, *, size: int, replaces: ObjectInfo | None) -> MemoryUpload:
        """See `Store`."""
        await self.step("resume_upload", key)
        pending = self.service.uploads.get(state.id)
        if pending is None or pending.size != size:
            raise UploadGoneError(f"resume {key!r}: the upload does not exist any more")
        agreed = tuple(done for done in state.parts if pending.holds(done))
        return MemoryUpload(self, key, replace(state, parts=agreed), replaces)

    async def abort_upload(self, key: str, state: UploadState) -> None:
        """See `Store`."""
        await MemoryUpload(self, key, state, None).abort()

    async def copy(
        self,
        source: Store,
        info: ObjectInfo,
        *,
        replaces: ObjectInfo | None,
        state: UploadState | None = None,
    ) -> Written | UploadState:
        """See `Store`."""
        await self.step("copy", info.key)
        origin = self.origin(source)
        row = origin.bucket.pinned(origin.full(info.key), info, "copy")
        if len(row.data) > self.limits.copy_max:
            raise PermanentError(f"copy {info.key!r}: too large for one request", code="InvalidRequest")
        self.bucket.require(self.full(info.key), replaces)
        if self.flavour == "gs" and len(row.data) > self.rewrite_step:
            pending = self._rewrite(info, len(row.data), state)
            if pending:
                return pending
        copied = self.bucket.put(self.full(info.key), row.data, row.metadata, storage_class=self.storage_class)
        await self.settle("copy", info.key)
        return written(copied)

    def _rewrite(self, info: ObjectInfo, size: int, state: UploadState | None) -> UploadState | None:
        """One step of a rewrite; None when it was the last."""
        rewrites = self.service.rewrites
        token = state.id if state else f"rewrite-{self.service.next_serial()}"
        if state and token not in rewrites:
            raise UploadGoneError(f"copy {info.key!r}: the rewrite token is dead")
        rewrites[token] = rewrites.get(token, 0) + self.rewrite_step
        if rewrites[token] < size:
            return UploadState(id=token, part_size=0, source_token=info.token)
        del rewrites[token]
        return None

    def origin(self, source: Store) -> MemoryStore:
        """The source of a server-side copy, which must be of the same service."""
        if not isinstance(source, MemoryStore) or source.service is not self.service:
            raise FatalError(f"cannot copy server side from {source.location}")
        return source

    async def delete(self, batch: Sequence[Deletion]) -> list[DeletionFailure]:
        """See `Store`."""
        if len(batch) > self.limits.delete_batch:
            raise ValueError(f"{len(batch)} deletions in a batch of at most {self.limits.delete_batch}")
        await self.step("delete")
        failures = []
        for key, version, listed in batch:
            name = self.full(key)
            live = self.bucket.live(name)
            if version is not None:
                self.bucket.delete_version(name, version)
            elif listed is not None and live is not None and not self.bucket.is_listed(live, listed):
                failures.append(DeletionFailure(key, version, "changed", "it is not the listed one", False))
            else:
                self.bucket.delete(name)
        await self.settle("delete")
        return failures


def _serial(version: str) -> int:
    """Versions of one key, newest first, have falling numbers."""
    return int(version.removeprefix("v")) if version != "null" else 0


async def _run(hook: Hook | None, operation: str, key: str) -> None:
    if hook is not None and (waiting := hook(operation, key)) is not None:
        await waiting
