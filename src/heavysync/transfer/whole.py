"""One object: which way it goes, and what becomes of it when it is gone, changed, or written by somebody else."""

from __future__ import annotations

from functools import partial

from heavysync.checksums import Stamp, crc32c_text, md5_hex, md5_text
from heavysync.errors import ConditionError, ObjectError
from heavysync.objects import ObjectInfo
from heavysync.outcomes import Changed, Done, Failed, Outcome, Postponed, Released, Skipped, Transfer
from heavysync.retry import StoppedError, StuckError
from heavysync.transfer.context import (
    Context,
    SaveUpload,
    SourceChangedError,
    SourceGoneError,
    done,
    find_listed,
    metadata_for,
    new_nonce,
    read_whole,
    written_as,
)
from heavysync.transfer.large import copy_in_parts
from heavysync.transfer.relayed import copy_relayed, is_whole
from heavysync.transfer.server_side import copy_server_side
from heavysync.transfer.settle import destination_changed, stamp_of
from heavysync.transfer.writing import Parcel, write_proven

MOST_CHANGES = 20
"""So often a source object may change under our hands in one run before it counts as failed."""


MOST_MISSES = 3
"""So often a read may miss an object that is listed unchanged (it may have been removed and written again)."""


async def copy_object(transfer: Transfer, context: Context, save_upload: SaveUpload) -> Outcome:
    """Bring one object to the destination, and say what became of it.

    Transient errors are retried; an object that goes on having them makes room for others and comes again. When the run
    stops, the transfer is released. What was already uploaded of a large object stays there and is kept by `save_upload`.

    Raises:
        FatalError: the run cannot go on.
    """
    key = transfer.source.key
    try:
        try:
            return await _bring(transfer, context, save_upload)
        except (SourceGoneError, SourceChangedError):
            return await _look_again(transfer, context)
    except StoppedError:
        return Released(key)
    except StuckError as error:
        return Postponed(key, str(error), error.suspect, error.alone, error.answered)
    except ObjectError as error:
        return Failed(key, error.code, str(error))


async def _bring(transfer: Transfer, context: Context, save_upload: SaveUpload) -> Outcome:
    info = transfer.source
    if not info.key and not context.destination.location.prefix:
        return Skipped("", "root-marker", "the marker of the source prefix itself has no name at the destination")
    if error := context.destination.name_error(info.key):
        return Failed(info.key, "name", f"{context.destination.location} cannot have an object of this name: {error}")
    if transfer.reason == "unproven" and transfer.upload is None and (proven := await _prove(transfer, context)):
        return proven
    if context.server_side:
        return await copy_server_side(transfer, context, save_upload)
    limits = context.destination.limits
    keeps_parts = limits.parallel_parts and "-" in info.etag  # then the multipart ETag comes out equal
    if transfer.upload is None and not keeps_parts and is_whole(context, info):
        relayed = await copy_relayed(transfer, context)
        return await _copy_whole(relayed, context) if isinstance(relayed, Transfer) else relayed
    return await copy_in_parts(transfer, context, save_upload)


async def _copy_whole(transfer: Transfer, context: Context) -> Done | Failed:
    """One read, one write."""
    info = transfer.source
    async with context.budget.take(info.size):
        content, digests = await read_whole(context, info)
        stamp = Stamp(info.size, info.token, new_nonce(), md5_text(digests.md5), crc32c_text(digests.crc32c))
        metadata = await metadata_for(context, info, content.metadata, stamp)
        try:
            written = await write_proven(context, Parcel(info, content, metadata, digests, stamp.nonce), transfer.destination)
        except ConditionError as error:
            return destination_changed(info, error)
    context.moved(info.size)
    return done(info, written, digests=digests)


async def _look_again(transfer: Transfer, context: Context) -> Outcome:
    """The source changed or is gone: look at it once more and put it back into the queue as it is now.

    That it is gone is believed only to a listing, which proves itself: a 404 may be anybody's.
    """
    key = transfer.source.key
    now = await find_listed(context.retry, context.source, key)
    if now is None:
        return Skipped(key, "vanished", "the source object was removed meanwhile")
    if now.token == transfer.source.token and transfer.attempts >= MOST_MISSES:
        return Failed(key, "unreadable", f"{key}: the source lists it as before, but reads do not find it so")
    if transfer.attempts >= MOST_CHANGES:
        return Failed(key, "unstable", f"{key}: the source object changed {transfer.attempts} times while it was copied")
    return Changed(now, None if now.token == transfer.source.token else await _own_copy(transfer, context))


async def _own_copy(transfer: Transfer, context: Context) -> ObjectInfo | None:
    """A copy of the listed content at the destination that was not there when it was listed.

    A process that was killed before it could write that down has made it. Nobody's work is lost if it is replaced.
    """
    info = transfer.source
    there = await context.retry(f"look at {info.key}", partial(context.destination.stat, info.key))
    if there is None or there.size != info.size or (transfer.destination and transfer.destination.token == there.token):
        return None
    return there if _same_digest(info, there) or _stamped_from(info, there) else None


async def _prove(transfer: Transfer, context: Context) -> Done | None:
    """Try to find two objects equal whose listings cannot tell, with at most one request."""
    info, listed = transfer.source, transfer.destination
    if listed is None:
        return None
    there: ObjectInfo | None = listed
    if listed.metadata is None:
        there = await context.retry(f"look at {info.key}", partial(context.destination.stat, info.key))
    if there is None or there.token != listed.token or there.size != info.size:
        return None
    if not (_same_digest(info, there) or _stamped_from(info, there)):
        return None
    return done(info, written_as(there), copied=False)


def _same_digest(info: ObjectInfo, there: ObjectInfo) -> bool:
    """Whether a digest that both sides state agrees. That ETags differ says nothing: under KMS they are no md5."""
    if info.md5 is not None and there.md5 is not None:
        return info.md5 == there.md5
    mine, theirs = info.candidate_md5, there.candidate_md5
    return (mine is not None and mine == theirs) or (info.crc32c is not None and info.crc32c == there.crc32c)


def _stamped_from(info: ObjectInfo, there: ObjectInfo) -> bool:
    """Whether a copy's stamp says that it was made of this very source content, and still belongs to these bytes."""
    stamp = stamp_of(there)
    if stamp is None or stamp.source_token != info.token or stamp.size != there.size:
        return False
    md5 = md5_hex(stamp.md5)
    if there.md5 is not None and md5:
        return md5 == there.md5
    return (bool(md5) and md5 == there.candidate_md5) or (bool(stamp.crc32c) and stamp.crc32c == there.crc32c)
