"""Copies that the provider makes by itself: CopyObject, UploadPartCopy, rewrite. No byte comes through here."""

from __future__ import annotations

from functools import partial

from heavysync.errors import ConditionError, PermanentError, UploadGoneError
from heavysync.objects import ObjectInfo, UploadState, Written
from heavysync.outcomes import Done, Failed, Transfer
from heavysync.retry import StuckError
from heavysync.transfer.context import (
    Context,
    SaveUpload,
    SourceChangedError,
    done,
    from_source,
    look_at_source,
    written_as,
)
from heavysync.transfer.large import copy_in_parts
from heavysync.transfer.settle import destination_changed

NO_COPY_PART = "copy-part-unsupported"
_REWRITES = 3  # so often a rewrite whose token died is begun again before the object counts as failed


async def copy_server_side(transfer: Transfer, context: Context, save_upload: SaveUpload) -> Done | Failed:
    """Let the provider copy the object: in parts where it had parts or is too large for one call, else in one call."""
    info = transfer.source
    limits = context.destination.limits
    is_large = info.size > limits.copy_max
    if limits.parallel_parts and (is_large or "-" in info.etag or transfer.upload is not None):  # S3
        try:
            return await copy_in_parts(transfer, context, save_upload, server_side=True)
        except PermanentError as error:
            if error.code != NO_COPY_PART:
                raise
            if is_large:
                return await copy_in_parts(transfer, context, save_upload)
    return await _copy_whole(transfer, context, save_upload)


async def _copy_whole(transfer: Transfer, context: Context, save_upload: SaveUpload) -> Done | Failed:
    info = transfer.source
    try:
        written = await _copy_steps(transfer, context, save_upload)
        if info.candidate_md5 is not None and written.etag and written.etag != info.etag:
            await look_at_source(context, info)  # not every S3-like server heeds the condition of a copy
    except SourceChangedError as error:
        settled = await _settle(transfer, context)
        if settled is None:
            condition = error.__cause__
            return destination_changed(info, condition if isinstance(condition, ConditionError) else ConditionError(""))
        written = settled
    context.moved(info.size)
    return done(info, written)


async def _copy_steps(transfer: Transfer, context: Context, save_upload: SaveUpload) -> Written:
    """Call copy until it is finished; GCS answers a token as long as it is not."""
    info = transfer.source
    state: UploadState | None = transfer.upload
    if state is not None and (state.kind != "rewrite" or state.source_token != info.token):
        state = None
    restarts, taken_up = 0, state
    while True:
        step = partial(context.destination.copy, context.source, info, replaces=transfer.destination, state=state)
        try:
            answer = await from_source(context, f"copy {info.key}", step)
        except StuckError as error:
            error.suspect = state is not None and state is taken_up and not error.throttled
            raise
        except UploadGoneError:
            state, restarts = None, restarts + 1
            if restarts > _REWRITES:
                raise
            continue
        if isinstance(answer, Written):
            return answer
        state = answer
        await save_upload(info.key, state)
        if context.retry.stopping.is_set():
            context.retry.stop_now()


async def _settle(transfer: Transfer, context: Context) -> Written | None:
    """A condition failed, and the answer does not say whose: look at both sides.

    Raises:
        SourceGoneError: the source object is gone.
        SourceChangedError: it is the source that changed.
    """
    info = transfer.source
    now = await look_at_source(context, info)
    there = await context.retry(f"look at {info.key}", partial(context.destination.stat, info.key))
    if there is None or not _is_copy(now, there):
        return None
    return written_as(there)


def _is_copy(info: ObjectInfo, there: ObjectInfo) -> bool:
    """Whether a digest shows that the destination holds this very content."""
    if there.size != info.size:
        return False
    if info.candidate_md5 is not None and info.candidate_md5 == there.candidate_md5:
        return True
    return info.crc32c is not None and info.crc32c == there.crc32c
