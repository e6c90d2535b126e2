"""An object in one piece whose md5 both ends state: the bytes pass through, and the two statements prove the copy.

An md5 costs more than all else that is done with the bytes, so it is not computed where that tells nothing new. The source
says which md5 its object has; the write carries it, so that the destination refuses other bytes, and the destination's
answer says which md5 it has kept. If the two agree, what was read and what was written are both right. If they do not, or
the answer does not say, the md5 is computed after all, from the bytes that are still at hand, before anything counts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from heavysync.checksums import Stamp, contradiction, crc32c, crc32c_text, md5_text
from heavysync.errors import ConditionError, DamagedError, ObjectError, PermanentError
from heavysync.hashing import digests_of
from heavysync.objects import Content, Deletion, Digests, ObjectInfo, Written
from heavysync.outcomes import Done, Failed, Transfer
from heavysync.parts import DEFAULT_PART_SIZE
from heavysync.transfer.context import Context, done, from_source, metadata_for, new_nonce
from heavysync.transfer.settle import destination_changed, find_own_write
from heavysync.transfer.writing import Parcel, write_proven

LEAST = 1 << 16
"""Bytes of an object from which on this pays: the md5 of 64 KiB takes 0.09 ms."""

MOST = 32 << 20
"""Bytes of an object that goes in one piece because both ends state its md5; as a whole it keeps the source's ETag, too."""

_SHARE = 8  # such an object takes this part of the memory at most


class _RefusedError(PermanentError):
    """The destination refuses the bytes: they do not have the md5 that the source states."""


def is_whole(context: Context, info: ObjectInfo) -> bool:
    """Whether an object is small enough to be written in one piece; most are, and cost no look at their digests."""
    if info.size > context.destination.limits.write_max:
        return False
    if info.size <= (context.part_size or DEFAULT_PART_SIZE):
        return True
    most = min(MOST, context.budget.limit // _SHARE)
    return context.part_size is None and info.size <= most and _is_stated(context, info)


def _is_stated(context: Context, info: ObjectInfo) -> bool:
    return info.md5 is not None or (info.candidate_md5 is not None and not context.sources.are_invented)


async def copy_relayed(transfer: Transfer, context: Context) -> Done | Failed | Transfer:
    """One read, one write, and no md5 computed; answers the transfer that is left to do where that proves nothing."""
    info = transfer.source
    if info.size < LEAST or info.candidate_md5 is None or not _is_stated(context, info):
        return transfer
    async with context.budget.take(info.size):
        content = await from_source(context, f"read {info.key}", partial(context.source.read, info, None))
        crc = crc32c(content.chunks)
        if (info.md5 is None and not content.is_md5_etag) or contradiction(info, content, Digests(b"", crc)):
            context.sources.wrong()
            return transfer
        digests = Digests(bytes.fromhex(info.candidate_md5), crc)
        return await _pass_on(transfer, context, content, digests)


async def _pass_on(transfer: Transfer, context: Context, content: Content, digests: Digests) -> Done | Failed | Transfer:
    """Write the bytes with the md5 that the source states, and hold the answer against it."""
    info = transfer.source
    # the stamp may outlive this process: it says only what the source states, and our CRC where that agrees with such a one
    is_proven = info.crc32c or content.crc32c or (content.crc64nvme and info.md5 is None)
    crc = crc32c_text(digests.crc32c) if is_proven else ""
    stamp = Stamp(info.size, info.token, new_nonce(), md5_text(digests.md5), crc)
    metadata = await metadata_for(context, info, content.metadata, stamp)
    write = partial(context.destination.write, info.key, content, metadata, digests, transfer.destination)
    try:
        written = await context.retry(f"write {info.key}", _refusable(write))
    except _RefusedError:
        context.sources.wrong()
        return transfer
    except ConditionError as error:  # perhaps by an attempt of ours whose answer was lost
        settled = await find_own_write(context, info, stamp.nonce, digests)
        if settled is None:
            return destination_changed(info, error)
        written = settled
    if states(written, digests, info.size):
        context.sources.right()
        context.moved(info.size)
        return done(info, written, digests=digests)
    return await _judge(transfer, context, Parcel(info, content, metadata, digests, stamp.nonce), written)


def _refusable(step: Callable[[], Awaitable[Written]]) -> Callable[[], Awaitable[Written]]:
    async def attempt() -> Written:
        try:
            return await step()
        except DamagedError as error:
            raise _RefusedError(str(error)) from error

    return attempt


def states(written: Written, digests: Digests, size: int) -> bool:
    """Whether the destination says that it has bytes of this md5, and nothing that contradicts it."""
    md5 = digests.md5.hex()
    if written.size not in {None, size} or written.crc32c not in {None, crc32c_text(digests.crc32c)}:
        return False
    return written.md5 == md5 or (written.md5 is None and written.is_md5_etag and written.etag == md5)


async def _judge(transfer: Transfer, context: Context, parcel: Parcel, written: Written) -> Done | Failed | Transfer:
    """The destination has taken the bytes and does not say that they have the stated md5: do they?"""
    info = transfer.source
    if (await digests_of(parcel.content)).md5 == parcel.digests.md5:
        try:
            proven = await write_proven(context, parcel, transfer.destination, written)
        except ConditionError as error:
            return destination_changed(info, error)
        context.moved(info.size)
        return done(info, proven, digests=parcel.digests)
    context.sources.wrong()
    there = await find_own_write(context, info, parcel.nonce, parcel.digests)
    if there is None:
        return transfer
    size = info.size if there.size is None else there.size
    ours = ObjectInfo(info.key, size, there.etag, there.md5, there.crc32c, version=there.version)
    return transfer._replace(destination=None if await _is_taken_away(context, ours) else ours)


async def _is_taken_away(context: Context, ours: ObjectInfo) -> bool:
    """Delete wrong bytes of ours: they would be taken for a copy if the source cannot be read any better."""
    delete = partial(context.destination.delete, [Deletion(ours.key, listed=ours)])
    try:
        return not await context.retry(f"delete {ours.key}", delete)
    except ObjectError:
        return False
