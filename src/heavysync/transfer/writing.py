"""Writing a whole object, proven: what the destination has is what was sent, or it is written again.

Most servers refuse a body that does not match the digests that travel with it. One that does not look at them says by its
answer what it has kept: a size, an md5, a CRC32C. An ETag that looks like an md5 may yet be something else on servers that
invent theirs; where it does not agree, the object is read back, and that decides. Once that was in vain some times in a row,
the server's ETags are known for what they are.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from heavysync.checksums import crc32c_text
from heavysync.errors import ConditionError, NotFoundError, ObjectError, PermanentError
from heavysync.hashing import digests_of
from heavysync.objects import Content, Deletion, Digests, Metadata, ObjectInfo, Written
from heavysync.transfer.context import DAMAGED_WRITES, Context, damaged_words, undamaged
from heavysync.transfer.settle import find_own_write


class Parcel(NamedTuple):
    """What is to be written.

    Attributes:
        info: of the source.
        content: its bytes.
        metadata: that the copy gets.
        digests: of the bytes.
        nonce: in the stamp.
    """

    info: ObjectInfo
    content: Content
    metadata: Metadata
    digests: Digests
    nonce: str


async def write_proven(context: Context, parcel: Parcel, replaces: ObjectInfo | None, first: Written | None = None) -> Written:
    """Write an object that replaces the listed one (None: there was none), and prove what came of it.

    `first` is the answer to a write of it that was made already.

    Raises:
        ConditionError: somebody else wrote the destination since it was listed.
        PermanentError: the destination refuses it, or had other bytes each of three times ("corrupt").
    """
    key = parcel.info.key
    ours: ObjectInfo | None = None
    for _ in range(DAMAGED_WRITES):
        written, first = first or await _write(context, parcel, replaces), None
        trouble = await _contradiction(context, parcel, written)
        if trouble is None:
            return written
        # the answer may have been another one's: what counts is what is there
        there = await find_own_write(context, parcel.info, parcel.nonce, parcel.digests)
        if there is None:
            continue
        trouble = await _contradiction(context, parcel, there, look=True)
        if trouble is None:
            return there
        # it is our own: the next attempt replaces exactly that
        size = parcel.content.size if there.size is None else there.size
        replaces = ours = ObjectInfo(key, size, there.etag, there.md5, there.crc32c, version=there.version)
    if ours is not None:
        await _take_away(context, Deletion(key, listed=ours))
    raise PermanentError(
        f"write {key}: {trouble}; {damaged_words(DAMAGED_WRITES)}; what was there is taken away again", code="corrupt"
    )


async def _write(context: Context, parcel: Parcel, replaces: ObjectInfo | None) -> Written:
    """One write, with retries; a refused condition may be due to an attempt of ours whose answer was lost."""
    info, content, metadata, digests, nonce = parcel
    write = partial(context.destination.write, info.key, content, metadata, digests, replaces)
    try:
        return await context.retry(f"write {info.key}", undamaged(write))
    except ConditionError:
        settled = await find_own_write(context, info, nonce, digests)
        if settled is None:
            raise
        return settled


async def _contradiction(context: Context, parcel: Parcel, written: Written, *, look: bool = False) -> str | None:
    """Say how the object at the destination differs from what was sent; None if it does not.

    `look`: where only an ETag says so, which may be no md5, the object is read back.
    """
    md5 = parcel.digests.md5.hex()
    if written.size is not None and written.size != parcel.content.size:
        return f"the destination has {written.size} bytes, {parcel.content.size} were sent"
    if written.md5 is not None and written.md5 != md5:
        return f"the destination has bytes of md5 {written.md5}, {md5} was sent"
    if written.crc32c is not None and written.crc32c != (crc := crc32c_text(parcel.digests.crc32c)):
        return f"the destination has bytes of crc32c {written.crc32c}, {crc} was sent"
    if not written.is_md5_etag or written.etag == md5:
        context.etags.right()
        return None
    if context.etags.are_invented or (look and await _reads_back(context, parcel, written)):
        context.etags.wrong()
        return None
    return f"the destination has bytes of md5 {written.etag}, {md5} was sent"


async def _reads_back(context: Context, parcel: Parcel, written: Written) -> bool:
    """Whether the object that was just written holds what was sent.

    Raises:
        ConditionError: it is not that one any more.
    """
    key = parcel.info.key
    there = ObjectInfo(key, parcel.content.size, written.etag, version=written.version)
    try:
        content = await context.retry(f"read back {key}", partial(context.destination.read, there))
    except NotFoundError as error:
        raise ConditionError(str(error)) from error
    return (await digests_of(content)).md5 == parcel.digests.md5


async def _take_away(context: Context, deletion: Deletion) -> None:
    """Delete wrong bytes that are ours, if they still are there: they would be taken for a copy."""
    try:
        await context.retry(f"delete {deletion.key}", partial(context.destination.delete, [deletion]))
    except ObjectError:
        return  # the failure is told all the same, and the next run writes it again
