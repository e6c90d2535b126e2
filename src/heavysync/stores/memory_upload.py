"""An upload to the memory store: a multipart upload or a resumable session, by the store's flavour."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from heavysync.checksums import crc32c_text, digest
from heavysync.errors import ConditionError, DamagedError, PermanentError, UploadGoneError
from heavysync.objects import Content, Digests, ObjectInfo, Part, PartDone, UploadState, Written
from heavysync.stores.memory_bucket import PendingUpload, StoredVersion, written

if TYPE_CHECKING:
    from heavysync.stores.base import Store
    from heavysync.stores.memory import MemoryStore


class MemoryUpload:
    """An upload under way; see `Upload`."""

    def __init__(self, store: MemoryStore, key: str, state: UploadState, replaces: ObjectInfo | None) -> None:
        self.state = state
        self._store = store
        self._key = key
        self._replaces = replaces

    def _pending(self) -> PendingUpload:
        try:
            return self._store.service.uploads[self.state.id]
        except KeyError:
            raise UploadGoneError(f"upload {self._key!r}: it does not exist any more") from None

    @property
    def needs_md5s(self) -> bool:
        """See `Upload`."""
        return self._store.flavour == "s3"

    async def write_part(self, part: Part, content: Content, digests: Digests, *, whole_md5: bytes = b"") -> PartDone:
        """See `Upload`."""
        await self._store.step("write_part", self._key)
        data = b"".join(content.chunks)
        if not fits(data, digests, needs_md5=self.needs_md5s) or len(data) != part.size:
            raise DamagedError(f"part {part.number} of {self._key!r}: the bytes do not match their digests")
        self._check_whole(part, data, whole_md5)
        return await self._accept("write_part", part, data, digests)

    def _check_whole(self, part: Part, data: bytes, md5: bytes) -> None:
        """Refuse the last part of a session where the whole would have another md5: the session is dead then."""
        pending = self._pending()
        if md5 and part.end == pending.size and pending.finished is None:
            others = [pending.parts[number] for number in sorted(pending.parts) if number != part.number]
            if digest([*others, data]).md5 != md5:
                del self._store.service.uploads[self.state.id]
                raise UploadGoneError(f"part {part.number} of {self._key!r}: the md5 of the whole differs", code="BadDigest")

    async def copy_part(self, source: Store, info: ObjectInfo, part: Part) -> PartDone:
        """See `Upload`."""
        await self._store.step("copy_part", self._key)
        if not self._store.limits.parallel_parts:
            raise PermanentError(f"copy part of {self._key!r}: this store cannot", code="NotImplemented")
        origin = self._store.origin(source)
        row = origin.bucket.pinned(origin.full(info.key), info, "copy part of")
        return await self._accept("copy_part", part, row.data[part.start : part.end], None)

    async def _accept(self, operation: str, part: Part, data: bytes, digests: Digests | None) -> PartDone:
        pending = self._pending()
        self._check_order(pending, part)
        pending.parts[part.number] = data
        if self._store.flavour == "gs" and part.end == pending.size and pending.finished is None:
            with suppress(ConditionError):  # `complete` tries again and says so
                self._finish(pending)
        await self._store.settle(operation, self._key)
        etag = digest([data]).md5.hex() if self._store.flavour == "s3" else ""
        done = PartDone(part.number, etag)
        if digests:
            done = done._replace(md5=digests.md5.hex(), crc32c=digests.crc32c)
        others = (known for known in self.state.parts if known.number != part.number)
        self.state = replace(self.state, parts=tuple(sorted((*others, done))))
        return done

    def _check_order(self, pending: PendingUpload, part: Part) -> None:
        """Refuse what a GCS session refuses: a gap, or an odd size of a part in the middle."""
        limits = self._store.limits
        if limits.parallel_parts:
            return
        if part.number > len(pending.parts) + 1:
            raise PermanentError(f"part {part.number} of {self._key!r} comes too early", code="badRequest")
        if part.end != pending.size and part.size % limits.part_multiple:
            raise PermanentError(f"part {part.number} of {self._key!r} has an odd size", code="badRequest")

    def _finish(self, pending: PendingUpload) -> StoredVersion:
        pending.bucket.require(pending.key, self._replaces)
        parts = [pending.parts[number] for number in sorted(pending.parts)]
        row = pending.bucket.put(
            pending.key,
            b"".join(parts),
            pending.metadata,
            parts=parts,
            modified_at=pending.begun_at if self._store.flavour == "s3" else None,
            storage_class=self._store.storage_class,
        )
        pending.finished = row
        return row

    async def complete(self, digests: Digests | None) -> Written:
        """See `Upload`."""
        await self._store.step("complete", self._key)
        pending = self._pending()
        row = pending.finished
        if row is None:
            self._check_parts(pending)
            row = self._finish(pending)
            if self._store.flavour == "s3":
                del self._store.service.uploads[self.state.id]
        await self._store.settle("complete", self._key)
        wrong_md5 = digests and digests.md5 and row.md5 and digests.md5.hex() != row.md5
        if wrong_md5 or (digests and crc32c_text(digests.crc32c) != row.crc32c):
            pending.bucket.delete_version(pending.key, row.version)
            raise UploadGoneError(f"complete {self._key!r}: the checksum differs", code="BadDigest")
        return written(row)

    def _check_parts(self, pending: PendingUpload) -> None:
        """Refuse what S3 refuses: missing bytes, or a part in the middle below the minimum."""
        sizes = [len(pending.parts[number]) for number in sorted(pending.parts)]
        if sum(sizes) != pending.size:
            raise PermanentError(f"complete {self._key!r}: parts are missing", code="InvalidPart")
        if any(size < self._store.limits.part_min for size in sizes[:-1]):
            raise PermanentError(f"complete {self._key!r}: a part is too small", code="EntityTooSmall")

    async def abort(self) -> None:
        """See `Upload`."""
        await self._store.step("abort", self._key)
        self._store.service.uploads.pop(self.state.id, None)


def fits(data: bytes, digests: Digests, *, needs_md5: bool = True) -> bool:
    """Whether bytes have the digests that travel with them."""
    found = digest([data])
    return found.crc32c == digests.crc32c and (found.md5 == digests.md5 or not (needs_md5 or digests.md5))
