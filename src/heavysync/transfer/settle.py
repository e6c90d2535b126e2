"""When a write was refused: was it our own earlier attempt that had succeeded unseen, or somebody else?"""

from __future__ import annotations

from functools import partial

from heavysync.checksums import Stamp, crc32c_text
from heavysync.errors import ConditionError
from heavysync.objects import STAMP_KEY, Digests, Metadata, ObjectInfo, Written
from heavysync.outcomes import Failed
from heavysync.transfer.context import Context, written_as

_MD5_DIGITS = 32


async def settle_write(context: Context, info: ObjectInfo, nonce: str, digests: Digests | None) -> Written | None:
    """After a refused condition: whether what is at the destination is our own write whose answer was lost.

    Our nonce travels apart from the bytes, so what the destination states of these must not contradict what was sent.
    """
    written = await find_own_write(context, info, nonce, digests)
    if written is None or written.size not in {None, info.size}:
        return None
    md5 = digests.md5.hex() if digests and digests.md5 else info.md5
    crc32c = crc32c_text(digests.crc32c) if digests else info.crc32c
    if (written.md5 and md5 and written.md5 != md5) or (written.crc32c and crc32c and written.crc32c != crc32c):
        return None
    return written


async def find_own_write(context: Context, info: ObjectInfo, nonce: str, digests: Digests | None) -> Written | None:
    """The object at the destination, if it is of our own writing; whoever calls it says whether the bytes are right."""
    found = await context.retry(f"look at {info.key}", partial(context.destination.examine, info.key))
    if found is None:
        return None
    there = found.info
    written = written_as(there)._replace(is_md5_etag=found.is_md5_etag and len(there.etag) == _MD5_DIGITS)
    stamp = stamp_of(there)
    is_ours = stamp is not None and bool(nonce) and stamp.nonce == nonce
    if is_ours and digests is not None and digests.md5:
        return written
    if there.size != info.size:
        return None
    if is_ours or digests is None:
        return written if is_ours else None
    # without our nonce a digest that the object itself states has to agree: a stamp can outlive its bytes
    if digests.md5 and there.candidate_md5 is not None:
        return written if there.candidate_md5 == digests.md5.hex() else None
    return written if there.crc32c == crc32c_text(digests.crc32c) else None


def destination_changed(info: ObjectInfo, error: ConditionError) -> Failed:
    """Somebody else wrote the destination object since it was listed: it is left alone, and said."""
    return Failed(
        info.key,
        "destination-changed",
        f"{info.key}: the destination object was written by somebody else since it was listed, so it was left alone;"
        f" the next run compares it again ({error})",
    )


def stamp_of(info: ObjectInfo) -> Stamp | None:
    """The stamp in an object's metadata, if they are known and have one."""
    if info.metadata is None:
        return None
    text = Metadata.from_json(info.metadata).user.get(STAMP_KEY)
    return None if text is None else Stamp.parse(text)
