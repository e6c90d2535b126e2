"""A large object, part by part: several at once, resumable, and verified as a whole before it appears.

Parts are read, and their memory is taken, in the order of their numbers. Where the destination takes parts only in order
(a GCS session), writes wait for their turn, so that the next part is read while the last is written. The md5 of the
whole, where it is the only digest known, is computed in that order, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

from heavysync.checksums import PartHasher, Stamp, combine_crc32c, crc32c_text, multipart_etag
from heavysync.errors import ConditionError, ObjectError, PermanentError, TransientError, UploadGoneError
from heavysync.objects import ByteRange, Content, Digests, Metadata, ObjectInfo, Part, PartDone, UploadState, Written
from heavysync.outcomes import Done, Failed, Transfer
from heavysync.parts import part_size_for, plan_parts
from heavysync.retry import StuckError
from heavysync.stores.base import Upload
from heavysync.transfer.context import (
    CORRUPT_READS,
    Context,
    SaveUpload,
    SourceChangedError,
    SourceGoneError,
    are_uniform,
    damaged_words,
    done,
    from_source,
    look_at_source,
    metadata_for,
    new_nonce,
    read_part,
    undamaged,
)
from heavysync.transfer.settle import destination_changed, settle_write
from heavysync.transfer.turns import Turns

T = TypeVar("T")

_RESTARTS = 3  # so often an upload that died under our hands is begun again before the object counts as failed


class _CorruptError(Exception):
    """The parts do not add up to the object that the source says it has."""


async def copy_in_parts(
    transfer: Transfer, context: Context, save_upload: SaveUpload, *, server_side: bool = False
) -> Done | Failed:
    """Copy one object by an upload of parts, going on with the one that the transfer remembers."""
    attempt = transfer
    gone = corrupt = 0
    while True:
        relay = _Relay(attempt, context, save_upload, server_side=server_side)
        try:
            return await relay.run()
        except StuckError as error:
            error.suspect = relay.is_suspect and not error.throttled
            raise
        except UploadGoneError as error:
            gone += 1
            if gone > _RESTARTS and error.code == "BadDigest":
                raise PermanentError(f"{error}; {damaged_words(gone)}", code="corrupt") from error
            if gone > _RESTARTS:
                raise
        except _CorruptError as error:
            corrupt += 1
            if corrupt >= CORRUPT_READS:
                raise PermanentError(f"{attempt.source.key}: {error}; copied {corrupt} times", code="corrupt") from error
        attempt = relay.transfer._replace(upload=None)


class _Relay:
    """One attempt to bring one object over in parts."""

    def __init__(self, transfer: Transfer, context: Context, save_upload: SaveUpload, *, server_side: bool) -> None:
        self.transfer = transfer
        self._info = transfer.source
        self._context = context
        self._save_upload = save_upload
        self._server_side = server_side
        self._hasher: PartHasher | None = None  # of the whole, in order; where no other digest is known
        self._nonce = ""
        self._keeping = asyncio.Lock()
        self._is_kept = True  # all acknowledged parts are committed, or in the commit that is under way
        self._held: dict[int, PartDone] = {}  # parts that were acknowledged before this attempt
        self._is_md5_etag = False  # until a read of this process has shown that the source is not encrypted
        self._has_read = False
        self._source_part: int | None = None
        self._has_sent = False
        self.is_suspect = False  # the step that is under way fails if its upload is what is wrong

    async def run(self) -> Done | Failed:
        """Begin or resume, move all parts, verify, complete."""
        info, context = self._info, self._context
        look = partial(context.source.part_size, info)
        self._source_part = await from_source(context, f"look at {info.key}", look)
        size = self._part_size(self._source_part)
        upload = await self._resume()
        if isinstance(upload, Written):
            return done(info, upload)
        if upload is None:
            try:
                upload = await self._begin(size)
            except ConditionError as error:  # GCS looks at the condition when a session begins, too
                return destination_changed(info, error)
        self._hasher = self._wanted_hasher(upload.state.part_size)
        try:
            await self._move(upload)
            digests = await self._verify(upload.state)
            if self._server_side:
                await look_at_source(context, info)  # not every S3-like server heeds the condition of a copy
            written = await self._complete(upload, digests)
        except UploadGoneError:
            written = await self._find_or_give_up(upload.state)
            if written is None:
                raise
            return done(info, written)
        except (ObjectError, SourceGoneError, SourceChangedError, _CorruptError):
            await self._give_up(upload.state)
            raise
        if written is None:
            return destination_changed(info, ConditionError("the condition of the upload failed"))
        return done(info, written, digests=None if self._server_side else digests)

    def _part_size(self, source_part: int | None) -> int:
        """The part size of a new upload: a part has to fit into memory, unless the provider copies it."""
        info, context = self._info, self._context
        fits = source_part is not None and (self._server_side or source_part <= context.budget.limit)
        size = part_size_for(
            info.size,
            context.destination.limits,
            wanted=context.part_size,
            source_part_size=source_part if fits else None,
        )
        if size > context.budget.limit and not self._server_side:
            raise PermanentError(
                f"{info.key}: {info.size} bytes need parts of {size}, more than --memory {context.budget.limit}",
                code="memory",
            )
        return size

    async def _resume(self) -> Upload | Written | None:
        """Take up the upload that the transfer remembers, unless it is dead, stuck, or was for another content.

        It may have been completed just before an earlier process was killed: then its object is there.
        """
        state, info, context = self.transfer.upload, self._info, self._context
        if state is None or state.kind == "rewrite":
            return None
        if state.source_token != info.token:
            await self._give_up(state)
            return None
        if state.kind == "stuck":
            return await self._find_or_give_up(state)
        step = partial(
            context.destination.resume_upload,
            info.key,
            state,
            size=info.size,
            replaces=self.transfer.destination,
        )
        try:
            upload = await self._suspiciously(f"resume upload of {info.key}", step)
        except UploadGoneError:
            return await self._find_or_give_up(state)
        self._nonce = state.nonce
        return upload

    async def _suspiciously(self, operation: str, step: Callable[[], Awaitable[T]]) -> T:
        """A step that makes no progress but shows whether the upload is sound."""
        self.is_suspect = True
        done = await self._context.retry(operation, step)
        self.is_suspect = False
        return done

    async def _find_or_give_up(self, state: UploadState) -> Written | None:
        """After an upload cannot be continued: it may have been completed, then its object is there; else it is given up."""
        info = self._info
        written = await settle_write(self._context, info, state.nonce, None)
        if written is not None and written.md5 and info.candidate_md5 and written.md5 != info.candidate_md5:
            # its bytes are not the source's, or the source's ETag is no md5: another upload, which is verified, takes its place
            there = ObjectInfo(info.key, info.size, written.etag, written.md5, written.crc32c, version=written.version)
            self.transfer, written = self.transfer._replace(destination=there), None
        if written is None:
            await self._give_up(state)
        return written

    async def _give_up(self, state: UploadState) -> None:
        """Abort an upload that will not be completed, with one attempt: nobody shall wait for it.

        Where that fails the state keeps it, and it is aborted when the range is copied (`transfer/abandoned.py`).
        """
        with suppress(ObjectError, TransientError):
            await self._context.destination.abort_upload(self._info.key, state)
            await self._save_upload(self._info.key, None)

    async def _begin(self, part_size: int) -> Upload:
        """Begin an upload with the source's metadata, and keep its identity before the first part is sent."""
        info, context = self._info, self._context
        self._nonce = new_nonce()
        stamp = Stamp(info.size, info.token, self._nonce, crc32c=info.crc32c or "")
        metadata = await metadata_for(context, info, await self._metadata(), stamp)
        step = partial(
            context.destination.begin_upload,
            info.key,
            metadata,
            size=info.size,
            part_size=part_size,
            source_token=info.token,
            nonce=self._nonce,
            replaces=self.transfer.destination,
        )
        upload = await context.retry(f"begin upload of {info.key}", step)
        await self._save_upload(info.key, upload.state)
        return upload

    async def _metadata(self) -> Metadata | None:
        """The source's metadata: from its listing, or by a look at it."""
        info, context = self._info, self._context
        if info.metadata is not None:
            return Metadata.from_json(info.metadata)
        if not info.etag:
            return None  # a listing with generations has metadata wherever there are any
        now = await look_at_source(context, info)
        return None if now.metadata is None else Metadata.from_json(now.metadata)

    async def _move(self, upload: Upload) -> None:
        """Move the parts that are missing, several at a time."""
        self._held = {part.number: part for part in upload.state.parts}
        todo = self._to_read(plan_parts(self._info.size, upload.state.part_size))
        queue, turns, gate = iter(todo), Turns(todo), asyncio.Lock()
        workers = min(self._context.parts_at_once, len(todo))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(self._worker(upload, queue, gate, turns))
        except BaseExceptionGroup as group_error:
            raise _first(group_error) from None

    def _to_read(self, parts: list[Part]) -> list[Part]:
        """The parts that are missing, and, where only the bytes of the whole can be verified, those an earlier process sent.

        These are read again and not sent. A GCS session spares that: it tells the md5 of the whole when it is finished,
        so a read is needed only to learn whether the source's ETag is an md5.
        """
        missing = [part for part in parts if part.number not in self._held]
        if self._hasher is None or not self._held:
            return missing
        if self._info.candidate_md5 is None or self._context.destination.limits.parallel_parts:
            return parts
        return missing or parts[-1:]

    async def _worker(self, upload: Upload, queue: Iterator[Part], gate: asyncio.Lock, turns: Turns) -> None:
        budget = self._context.budget
        while True:
            async with gate:  # parts take their memory in the order of their numbers, so the lowest never waits in vain
                part = next(queue, None)
                if part is None:
                    return
                if self._context.retry.stopping.is_set():
                    self._context.retry.stop_now()
                size = 0 if self._server_side else min(part.size, budget.limit)
                await budget.acquire(size)
            try:
                await self._bring_part(upload, part, turns)
            finally:
                budget.release(size)
            if part.number in self._held:
                continue
            await self._keep(upload)
            self._context.moved(part.size)

    async def _keep(self, upload: Upload) -> None:
        """Commit how far the upload has come; parts that are acknowledged during a commit share the next one."""
        self._is_kept = False
        async with self._keeping:
            if not self._is_kept:
                self._is_kept = True
                await self._save_upload(self._info.key, upload.state)

    async def _bring_part(self, upload: Upload, part: Part, turns: Turns) -> None:
        info, context = self._info, self._context
        name = f"part {part.number} of {info.key}"
        if self._server_side:
            await from_source(context, f"copy {name}", partial(upload.copy_part, context.source, info, part))
            return
        content, digests = await read_part(context, info, ByteRange(part.start, part.end))
        self._is_md5_etag = content.is_md5_etag and (self._is_md5_etag or not self._has_read)
        self._has_read = True
        in_order = not context.destination.limits.parallel_parts
        async with turns.of(part.number):
            await self._hash_in_order(part, content)
            if held := self._held.get(part.number):
                self._check_held(held, digests)
                return
            if in_order:
                await self._verify_last(upload.state, part, digests)
                await self._send(name, partial(upload.write_part, part, content, digests))
        if not in_order:
            await self._send(name, partial(upload.write_part, part, content, digests))

    async def _send(self, name: str, step: Callable[[], Awaitable[PartDone]]) -> None:
        """Send a part. If none gets through in this attempt, the upload may be what is wrong."""
        try:
            await self._context.retry(f"write {name}", undamaged(step))
        except StuckError:
            self.is_suspect = not self._has_sent
            raise
        self._has_sent = True

    def _check_held(self, held: PartDone, digests: Digests) -> None:
        if held.md5 != digests.md5.hex():
            raise _CorruptError(f"part {held.number} had the md5 {held.md5} when it was sent, and has {digests.md5.hex()} now")

    async def _verify_last(self, state: UploadState, part: Part, digests: Digests) -> None:
        """Where the last part makes the object appear, the whole is verified before it is sent."""
        if part.end == self._info.size:
            done = PartDone(part.number, "", digests.md5.hex(), digests.crc32c)
            others = tuple(known for known in state.parts if known.number != part.number)
            await self._verify(replace(state, parts=(*others, done)))

    async def _hash_in_order(self, part: Part, content: Content) -> None:
        """Carry the md5s on that the source's ETag is made of, as long as no part was left out."""
        if self._hasher is not None and part.start == self._hasher.size:
            await asyncio.to_thread(self._hasher.update, content.chunks)

    def _wanted_hasher(self, part_size: int) -> PartHasher | None:
        """What computes the source's ETag from its bytes in order, if neither a CRC nor the parts' own md5s do."""
        info = self._info
        if info.crc32c is not None or self._server_side:
            return None
        if info.candidate_md5 is not None:
            return PartHasher(None)
        return None if self._source_part in {None, part_size} else PartHasher(self._source_part)

    async def _verify(self, state: UploadState) -> Digests:
        """Hold what was read against what the source says of the whole object."""
        info = self._info
        if self._server_side:
            return Digests(b"", 0)
        parts = plan_parts(info.size, state.part_size)
        by_number = {part.number: part for part in state.parts}
        ordered: list[PartDone] = [by_number[part.number] for part in parts]
        sums = [(part.crc32c, planned.size) for part, planned in zip(ordered, parts, strict=True)]
        crc = combine_crc32c(sums)
        if info.crc32c is not None and crc32c_text(crc) != info.crc32c:
            raise _CorruptError(f"the parts have crc32c {crc32c_text(crc)}, the provider says {info.crc32c}")
        if self._hasher is not None and self._hasher.size == info.size:
            if self._hasher.etag() != (info.candidate_md5 or info.etag):
                await self._doubt(self._hasher.etag())
        elif self._source_part == state.part_size and "-" in info.etag:  # the source's boundaries were kept
            etag = multipart_etag([bytes.fromhex(part.md5) for part in ordered])
            if etag != info.etag:
                await self._doubt(etag)
        is_md5 = self._hasher is not None and self._is_md5_etag and info.candidate_md5 is not None
        return Digests(bytes.fromhex(info.candidate_md5 or "") if is_md5 else b"", crc)

    async def _doubt(self, found: str) -> None:
        """The ETag did not come out: are the bytes wrong, or is it no digest of them?"""
        if not self._is_md5_etag:
            return
        info, guessed = self._info, self._source_part
        if "-" in info.etag and guessed is not None and not await are_uniform(self._context, info, guessed):
            return
        raise _CorruptError(f"the parts give the ETag {found}, the provider says {info.etag}")

    async def _complete(self, upload: Upload, digests: Digests) -> Written | None:
        """Make the object appear; None: somebody else wrote the destination."""
        known = None if self._server_side else digests
        try:
            return await self._suspiciously(f"complete upload of {self._info.key}", partial(upload.complete, known))
        except ConditionError:
            settled = await settle_write(self._context, self._info, self._nonce, known)
            if settled is None:
                await self._give_up(upload.state)
            return settled


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that says most about why a group of parts ended."""
    errors = [_first(error) if isinstance(error, BaseExceptionGroup) else error for error in group.exceptions]
    return next((error for error in errors if not isinstance(error, TransientError)), errors[0])
