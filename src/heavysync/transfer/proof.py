"""What shows that the parts of a large object add up to what the source has: which digests are computed, and held against it.

A digest that the source states of the whole is used, the cheapest first: its CRC, combined from those of the parts; its
md5, which a destination that takes parts in order (a GCS session) checks itself, so that nobody here computes it; its
multipart ETag, made of the md5s of our own parts where the boundaries are the same. Only else the bytes are hashed once
more in their order: for an md5 or ETag of the whole that nobody but us can check.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from heavysync.checksums import (
    PartHasher,
    combine_crc32c,
    combine_crc64nvme,
    crc32c_text,
    crc64nvme,
    crc64nvme_in,
    crc64nvme_text,
    multipart_etag,
)
from heavysync.errors import HeavysyncError
from heavysync.objects import Content, Digests, Examined, Part, PartDone
from heavysync.parts import plan_parts
from heavysync.transfer.context import Context, are_uniform


class CorruptError(HeavysyncError):
    """The parts do not add up to the object that the source says it has."""


class SourceProof:
    """The digests of one source object while it is copied in parts.

    Args:
        context: with both stores.
        source: the object, with the digests of the whole that are known.
        part_size: bytes of the parts that it is copied in.
        source_part: bytes of the parts that it is made of, where that is known.
        held: parts that were sent before, by their numbers.
        alone: no provider's check of the whole is relied on: it has failed before.
    """

    def __init__(
        self,
        context: Context,
        source: Examined,
        part_size: int,
        source_part: int | None,
        *,
        held: Mapping[int, PartDone],
        alone: bool,
    ) -> None:
        self._context = context
        self._info = info = source.info
        self._part_size = part_size
        self._source_part = source_part
        self._held = held
        self._is_md5_etag = source.is_md5_etag  # what was read before a kill is judged even if nothing is read now
        self._in_order = not context.destination.limits.parallel_parts
        has_all = bool(source.crc64nvme) and all(part.crc64nvme for part in held.values())
        self._crc64nvme = source.crc64nvme if has_all and info.crc32c is None else None
        self._has_crc = info.crc32c is not None or self._crc64nvme is not None
        is_cut_alike = "-" in info.etag and source_part == part_size
        self._by_parts = is_cut_alike and not self._has_crc and all(part.md5 for part in held.values())
        self._hasher = self._wanted_hasher(alone=alone)

    def _wanted_hasher(self, *, alone: bool) -> PartHasher | None:
        """What computes the source's ETag from its bytes in order, if nothing else can show that they are right."""
        info = self._info
        if self._has_crc:
            return None
        if info.candidate_md5 is not None:
            return PartHasher(None) if alone or not self._in_order else None
        return None if self._by_parts or self._source_part is None else PartHasher(self._source_part)

    @property
    def needs_md5s(self) -> bool:
        """Whether the md5 of each part is needed for the whole."""
        return self._by_parts

    @property
    def is_hashing(self) -> bool:
        """Whether the bytes have to come in order to `hash_in_order`."""
        return self._hasher is not None

    @property
    def is_delegated(self) -> bool:
        """Whether only the destination can tell if the bytes are right: by the md5 that it states of the whole."""
        return self._hasher is None and not self._has_crc and self._info.candidate_md5 is not None

    def to_read(self, parts: list[Part]) -> list[Part]:
        """The parts that are missing, and, where only the bytes of the whole can be verified, those an earlier process sent.

        These are read again and not sent. A GCS session spares that: it tells the md5 of the whole when it is finished.
        """
        if self._hasher is not None:
            return parts
        return [part for part in parts if part.number not in self._held]

    def crc64nvme_of(self, content: Content) -> str:
        """The CRC64NVME of a part, where it is needed for the whole; else empty."""
        return "" if self._crc64nvme is None else crc64nvme_text(crc64nvme(content.chunks))

    def note(self, content: Content) -> None:
        """Take in what a read says of the source's ETag."""
        self._is_md5_etag = self._is_md5_etag and content.is_md5_etag

    async def hash_in_order(self, part: Part, content: Content) -> None:
        """Carry the md5s on that the source's ETag is made of, as long as no part was left out."""
        if self._hasher is not None and part.start == self._hasher.size:
            await asyncio.to_thread(self._hasher.update, content.chunks)

    def check_held(self, held: PartDone, digests: Digests) -> None:
        """Hold a part that was read again against what was sent of it.

        Raises:
            CorruptError: it differs.
        """
        if held.crc32c != digests.crc32c or (held.md5 and digests.md5 and held.md5 != digests.md5.hex()):
            raise CorruptError(
                f"part {held.number} had the md5 {held.md5} and the crc32c {held.crc32c} when it was sent,"
                f" and has {digests.md5.hex()} and {digests.crc32c} now"
            )

    @property
    def md5(self) -> bytes:
        """The md5 of the whole as the source states it, for the destination to check; empty where it states none."""
        info = self._info
        is_known = info.md5 is not None or (self._is_md5_etag and info.candidate_md5 is not None)
        return bytes.fromhex(info.candidate_md5 or "") if is_known else b""

    async def verify(self, done: Mapping[int, PartDone]) -> Digests:
        """Hold what was read against what the source says of the whole object; answer what is known of that.

        Raises:
            CorruptError: it differs.
        """
        info = self._info
        parts = plan_parts(info.size, self._part_size)
        ordered = [done[part.number] for part in parts]
        crc = combine_crc32c((part.crc32c, planned.size) for part, planned in zip(ordered, parts, strict=True))
        if info.crc32c is not None and crc32c_text(crc) != info.crc32c:
            raise CorruptError(f"the parts have crc32c {crc32c_text(crc)}, the provider says {info.crc32c}")
        if self._crc64nvme is not None:
            sums = [(crc64nvme_in(part.crc64nvme), planned.size) for part, planned in zip(ordered, parts, strict=True)]
            crc64 = crc64nvme_text(combine_crc64nvme(sums))
            if crc64 != self._crc64nvme:
                raise CorruptError(f"the parts have crc64nvme {crc64}, the provider says {self._crc64nvme}")
        if self._hasher is not None:
            if self._hasher.size != info.size:
                raise CorruptError(f"{self._hasher.size} bytes came instead of {info.size}")
            if self._hasher.etag() != (info.candidate_md5 or info.etag.lower()):
                await self._doubt(self._hasher.etag())
        elif self._by_parts:  # the source's boundaries were kept
            etag = multipart_etag([bytes.fromhex(part.md5) for part in ordered])
            if etag != info.etag.lower():
                await self._doubt(etag)
        return Digests(self.md5, crc)

    async def _doubt(self, found: str) -> None:
        """The ETag did not come out: are the bytes wrong, or is it no digest of them?"""
        if not self._is_md5_etag:
            return
        info, guessed = self._info, self._source_part
        if "-" in info.etag and guessed is not None and not await are_uniform(self._context, info, guessed):
            return
        raise CorruptError(f"the parts give the ETag {found}, the provider says {info.etag}")
