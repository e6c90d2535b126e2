"""When a write was refused: was it our own earlier attempt that had succeeded unseen, or somebody else?"""

from __future__ import annotations

from functools import partial

from heavysync.checksums import Stamp, crc32c_text
from heavysync.errors import ConditionError
from heavysync.objects import STAMP_KEY, Digests, Metadata, ObjectInfo, Written
from heavysync.outcomes import Failed
from heavysync.transfer.context import Context, written_as


async def settle_write(context: Context, info: ObjectInfo, nonce: str, digests: Digests | None) -> Written | None:
    """After a refused condition: whether what is at the destination is our own write whose answer was lost."""
    there = await context.retry(f"look at {info.key}", partial(context.destination.stat, info.key))
    if there is None or there.size != info.size:
        return None
    if there.md5 is not None and digests is not None and digests.md5 and there.md5 != digests.md5.hex():
        return None
    stamp = stamp_of(there)
    if stamp is not None and nonce and stamp.nonce == nonce:
        return written_as(there)
    if digests is None:
        return None
    # without our nonce a digest that the object itself states has to agree: a stamp can outlive its bytes
    has_md5 = bool(digests.md5) and there.candidate_md5 == digests.md5.hex()
    return written_as(there) if has_md5 or there.crc32c == crc32c_text(digests.crc32c) else None


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
