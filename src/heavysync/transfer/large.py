"""A large object, part by part: several at once, resumable, and verified as a whole before it appears.

Parts are read, and their memory is taken, in the order of their numbers. Where the destination takes parts only in order
(a GCS session), writes wait for their turn, so that the next part is read, and hashed if need be, while the last is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

from heavysync.checksums import Stamp
from heavysync.errors import ConditionError, ObjectError, PermanentError, TransientError, UploadGoneError
from heavysync.objects import ByteRange, Digests, Examined, Metadata, ObjectInfo, Part, PartDone, UploadState, Written
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
    damaged_words,
    done,
    examine_source,
    from_source,
    look_at_source,
    metadata_for,
    new_nonce,
    read_part,
    undamaged,
)
from heavysync.transfer.proof import CorruptError, SourceProof
from heavysync.transfer.settle import destination_changed, find_own_write, settle_write
from heavysync.transfer.turns import Lines

T = TypeVar("T")

_RESTARTS = 3  # so often an upload that died under our hands is begun again before the object counts as failed

MOST_PARTS = 16
"""Parts of one object in flight at most, where it has the memory to itself: they fill a line that no few connections fill."""

LEAST_PARTS = 8
"""Parts of one object in flight that it may always have, memory permitting."""

IN_ORDER_PARTS = 4
"""The same where parts are written one after the other: one is written while the next ones are read."""


class _UnprovenError(Exception):
    """The destination does not say what alone would prove the object."""


async def copy_in_parts(
    transfer: Transfer, context: Context, save_upload: SaveUpload, *, server_side: bool = False
) -> Done | Failed:
    """Copy one object by an upload of parts, going on with the one that the transfer remembers."""
    attempt = transfer
    gone = corrupt = 0
    alone = False
    while True:
        relay = _Relay(attempt, context, save_upload, server_side=server_side, alone=alone)
        try:
            return await relay.run()
        except StuckError as error:
            error.suspect = relay.is_suspect and not error.throttled
            raise
        except _UnprovenError:
            alone = True
        except UploadGoneError as error:
            gone += 1
            alone = alone or error.code == "BadDigest"
            if gone > _RESTARTS and error.code == "BadDigest":
                raise PermanentError(f"{error}; {damaged_words(gone)}", code="corrupt") from error
            if gone > _RESTARTS:
                raise
        except CorruptError as error:
            corrupt += 1
            if corrupt >= CORRUPT_READS:
                raise PermanentError(f"{attempt.source.key}: {error}; copied {corrupt} times", code="corrupt") from error
        attempt = relay.transfer._replace(upload=None)


class _Relay:
    """One attempt to bring one object over in parts."""

    _proof: SourceProof  # once it is known in which parts

    def __init__(
        self, transfer: Transfer, context: Context, save_upload: SaveUpload, *, server_side: bool, alone: bool
    ) -> None:
        self.transfer = transfer
        self._alone = alone
        self._info = transfer.source
        self._context = context
        self._save_upload = save_upload
        self._server_side = server_side
        self._crc64nvme: str | None = None
        self._is_md5_etag = True
        self._nonce = ""
        self._keeping = asyncio.Lock()
        self._unkept: list[PartDone] = []  # acknowledged, and in no commit yet
        self._held: Mapping[int, PartDone] = {}  # parts that were acknowledged before this attempt
        self._done: dict[int, PartDone] = {}  # all that were acknowledged
        self._workers = 0
        self._has_sent = False
        self.is_suspect = False  # the step that is under way fails if its upload is what is wrong

    async def run(self) -> Done | Failed:
        """Begin or resume, move all parts, verify, complete."""
        context = self._context
        metadata = await self._look()
        info = self._info
        look = partial(context.source.part_size, info)
        source_part = await from_source(context, f"look at {info.key}", look)
        size = self._part_size(source_part)
        upload = await self._resume()
        if isinstance(upload, Written):
            return done(info, upload)
        if upload is None:
            try:
                upload = await self._begin(size, metadata)
            except ConditionError as error:  # GCS looks at the condition when a session begins, too
                return destination_changed(info, error)
        state = upload.state
        self._held = {part.number: part for part in state.parts if self._is_usable(part)}
        self._done = dict(self._held)
        source = Examined(info, self._crc64nvme, self._is_md5_etag)
        self._proof = SourceProof(context, source, state.part_size, source_part, held=self._held, alone=self._alone)
        try:
            await self._move(upload, replace(state, parts=()))
            digests = None if self._server_side else await self._proof.verify(self._done)
            if self._server_side:
                await look_at_source(context, info)  # not every S3-like server heeds the condition of a copy
            written = await self._complete(upload, digests)
        except UploadGoneError:
            written = await self._find_or_give_up(state)
            if written is None:
                raise
            return done(info, written)
        except (ObjectError, SourceGoneError, SourceChangedError, CorruptError) as error:
            await self._leave(state, error)
            raise
        if written is None:
            return destination_changed(info, ConditionError("the condition of the upload failed"))
        if digests and digests.md5 and self._proof.is_delegated and written.md5 is None:
            self._replace_written(written)
            raise _UnprovenError
        return done(info, written, digests=digests)

    def _is_usable(self, part: PartDone) -> bool:
        """Whether it came the same way as the others will: read parts have digests that are verified, copied ones have none."""
        return not self._context.destination.limits.parallel_parts or bool(part.md5 or part.crc32c) != self._server_side

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
        if state.source_token != info.token or (state.crcs and self._server_side):  # copied parts have no CRCs here
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
        in_order = not self._context.destination.limits.parallel_parts
        stated = written.md5 if written else None
        if written is not None and (stated or in_order) and info.candidate_md5 not in {None, stated} and not info.crc32c:
            # its bytes are not the source's, or the source's ETag is no md5: another upload, which is verified, takes its place
            self._replace_written(written)
            written = None
        if written is None:
            await self._give_up(state)
        return written

    async def _leave(self, state: UploadState, error: Exception) -> None:
        """Give an upload up that failed. A session may have finished its object unseen: then the next attempt replaces that."""
        in_order = not self._context.destination.limits.parallel_parts
        if isinstance(error, CorruptError) and in_order:
            written = await find_own_write(self._context, self._info, state.nonce, None)
            if written is not None:
                self._replace_written(written)  # and the record is kept until then: a later process would find it, too
                return
        await self._give_up(state)

    def _replace_written(self, written: Written) -> None:
        """What was just written is what the next attempt replaces."""
        info = self._info
        there = ObjectInfo(info.key, info.size, written.etag, written.md5, written.crc32c, version=written.version)
        self.transfer = self.transfer._replace(destination=there)

    async def _give_up(self, state: UploadState) -> None:
        """Abort an upload that will not be completed, with one attempt: nobody shall wait for it.

        Where that fails the state keeps it, and it is aborted when the range is copied (`transfer/abandoned.py`).
        """
        with suppress(ObjectError, TransientError):
            await self._context.destination.abort_upload(self._info.key, state)
            await self._save_upload(self._info.key, None)

    async def _begin(self, part_size: int, source_metadata: Metadata | None) -> Upload:
        """Begin an upload with the source's metadata, and keep its identity before the first part is sent."""
        info, context = self._info, self._context
        self._nonce = new_nonce()
        stamp = Stamp(info.size, info.token, self._nonce, crc32c=info.crc32c or "")
        metadata = await metadata_for(context, info, source_metadata, stamp)
        step = partial(
            context.destination.begin_upload,
            info.key,
            metadata,
            size=info.size,
            part_size=part_size,
            source_token=info.token,
            nonce=self._nonce,
            replaces=self.transfer.destination,
            server_side=self._server_side,
        )
        upload = await context.retry(f"begin upload of {info.key}", step)
        await self._save_upload(info.key, upload.state)
        return upload

    async def _look(self) -> Metadata | None:
        """The source's metadata, and the CRCs of the whole: from its listing, or by a look at it."""
        info = self._info
        if info.metadata is not None or not info.etag:  # a listing with generations has metadata wherever there are any
            return Metadata.from_json(info.metadata) if info.metadata else None
        now, self._crc64nvme, self._is_md5_etag = await examine_source(self._context, info)
        self._info = info._replace(crc32c=now.crc32c)
        return None if now.metadata is None else Metadata.from_json(now.metadata)

    async def _move(self, upload: Upload, identity: UploadState) -> None:
        """Move the parts that are missing, several at a time."""
        parts = plan_parts(self._info.size, identity.part_size)
        missing = [part for part in parts if part.number not in self._held]
        todo = missing if self._server_side else self._proof.to_read(parts)
        lines = Lines.of(todo)
        budget = self._context.budget
        budget.sharers += 1
        try:
            async with asyncio.TaskGroup() as group:
                self._workers = min(self._at_once(identity.part_size), len(todo))
                for _ in range(self._workers):
                    group.create_task(self._worker(upload, identity, lines))
        except BaseExceptionGroup as group_error:
            raise _first(group_error) from None
        finally:
            budget.sharers -= 1

    def _at_once(self, part_size: int) -> int:
        """How many parts may be in flight: half of the memory is shared by all objects that are moved in parts."""
        budget = self._context.budget
        if self._server_side:
            return LEAST_PARTS
        if not self._context.destination.limits.parallel_parts:
            return IN_ORDER_PARTS
        return max(LEAST_PARTS, min(MOST_PARTS, budget.share // (2 * part_size * budget.sharers)))

    async def _worker(self, upload: Upload, identity: UploadState, lines: Lines) -> None:
        budget = self._context.budget
        while True:
            async with lines.gate:  # parts take their memory in the order of their numbers, so the lowest never waits in vain
                part = next(lines.queue, None)
                if part is None:
                    return
                if self._context.retry.stopping.is_set():
                    self._context.retry.stop_now()
                size = 0 if self._server_side else min(part.size, budget.limit)
                await budget.acquire(size)
            try:
                await self._bring_part(upload, part, lines)
            finally:
                budget.release(size)
            if part.number in self._held:
                continue
            await self._keep(identity)
            self._context.moved(part.size)
            if self._workers > self._at_once(identity.part_size):  # others have come
                self._workers -= 1
                return

    async def _keep(self, identity: UploadState) -> None:
        """Commit how far the upload has come; parts that are acknowledged during a commit share the next one."""
        async with self._keeping:
            if self._unkept:
                parts, self._unkept = tuple(self._unkept), []
                await self._save_upload(self._info.key, replace(identity, parts=parts))

    async def _bring_part(self, upload: Upload, part: Part, lines: Lines) -> None:
        info, context, proof = self._info, self._context, self._proof
        name = f"part {part.number} of {info.key}"
        if self._server_side:
            step = partial(upload.copy_part, context.source, info, part)
            self._note(await from_source(context, f"copy {name}", step), "")
            return
        md5 = upload.needs_md5s or proof.needs_md5s
        content, digests = await read_part(context, info, ByteRange(part.start, part.end), md5=md5)
        proof.note(content)
        crc64 = proof.crc64nvme_of(content)
        if proof.is_hashing:
            async with lines.hashing.of(part.number):
                await proof.hash_in_order(part, content)
        if held := self._held.get(part.number):
            proof.check_held(held, digests)
        if context.destination.limits.parallel_parts:
            if held is None:
                await self._send(name, partial(upload.write_part, part, content, digests), crc64)
            return
        async with lines.writing.of(part.number):
            if held is None:
                whole_md5 = b""
                if part.end == info.size:  # it makes the object appear, so the whole is verified before
                    last = PartDone(part.number, "", digests.md5.hex(), digests.crc32c, crc64)
                    whole_md5 = (await proof.verify({**self._done, part.number: last})).md5
                await self._send(name, partial(upload.write_part, part, content, digests, whole_md5=whole_md5), crc64)

    async def _send(self, name: str, step: Callable[[], Awaitable[PartDone]], crc64nvme: str) -> None:
        """Send a part. If none gets through in this attempt, the upload may be what is wrong."""
        try:
            self._note(await self._context.retry(f"write {name}", undamaged(step)), crc64nvme)
        except StuckError:
            self.is_suspect = not self._has_sent
            raise
        self._has_sent = True

    def _note(self, done: PartDone, crc64nvme: str) -> None:
        """Take note of a part that was acknowledged."""
        done = done._replace(crc64nvme=crc64nvme)
        self._done[done.number] = done
        self._unkept.append(done)

    async def _complete(self, upload: Upload, digests: Digests | None) -> Written | None:
        """Make the object appear; None: somebody else wrote the destination."""
        try:
            step = undamaged(partial(upload.complete, digests))
            return await self._suspiciously(f"complete upload of {self._info.key}", step)
        except ConditionError:
            settled = await settle_write(self._context, self._info, self._nonce, digests)
            if settled is None:
                await self._give_up(upload.state)
            return settled


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that says most about why a group of parts ended."""
    errors = [_first(error) if isinstance(error, BaseExceptionGroup) else error for error in group.exceptions]
    return next((error for error in errors if not isinstance(error, TransientError)), errors[0])
