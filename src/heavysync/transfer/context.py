"""What every way of copying shares: the two stores, verified reads, the stamp, and the outcome of a finished write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from secrets import token_hex
from typing import TypeVar

from heavysync.checksums import PartHasher, Stamp, contradiction, crc32c, crc32c_text, listing_proves
from heavysync.errors import ConditionError, DamagedError, NotFoundError, PermanentError, TransientError
from heavysync.hashing import digests_of
from heavysync.keyspace import before, room_below
from heavysync.objects import (
    STAMP_KEY,
    ByteRange,
    Content,
    Digests,
    Examined,
    Metadata,
    ObjectInfo,
    UploadState,
    Written,
)
from heavysync.outcomes import Done, Evidence
from heavysync.pacing import ByteBudget
from heavysync.retry import Retrier
from heavysync.stores.base import Store

T = TypeVar("T")

SaveUpload = Callable[[str, UploadState | None], Awaitable[None]]
"""Keeps the upload of a key with the parts that are new (none: it was just begun; None: it is no more); returns when that is
committed."""

CORRUPT_READS = 3
"""So often bytes that contradict their digest are read again before the object counts as corrupt."""

DAMAGED_WRITES = 3
"""So often in a row bytes may arrive as others before their object counts as failed."""


class SourceGoneError(Exception):
    """The source object does not exist any more."""


class SourceChangedError(Exception):
    """The source object is not the listed one any more."""


class EtagTrust:
    """Whether the ETags of a store that look like md5s are md5s: some S3-compatible servers invent theirs."""

    def __init__(self) -> None:
        self._wrong = 0

    @property
    def are_invented(self) -> bool:
        """Three in a row were no md5, though the bytes were right."""
        return self._wrong >= _INVENTED

    def wrong(self) -> None:
        """An ETag was no md5."""
        self._wrong += 1

    def right(self) -> None:
        """An ETag was the md5."""
        self._wrong = 0


_INVENTED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a worker needs to copy objects.

    Args:
        source: where from.
        destination: where to.
        retry: the retry policy.
        budget: bytes of content in memory.
        moved: is told of bytes that have arrived.
        server_side: let the provider copy; both stores are of one `copy_domain`.
        part_size: wanted bytes of a part, or None.
        tags: copy tags.
        etags: what is known of the destination's ETags.
        sources: what is known of the source's.
    """

    source: Store
    destination: Store
    retry: Retrier
    budget: ByteBudget
    moved: Callable[[int], None]
    server_side: bool = False
    part_size: int | None = None
    tags: bool = False
    etags: EtagTrust = field(default_factory=EtagTrust)
    sources: EtagTrust = field(default_factory=EtagTrust)


def undamaged(step: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
    """A step that sends bytes, and is given up when they arrived as others some times in a row.

    Raises:
        PermanentError: they did ("corrupt").
    """
    times = 0

    async def attempt() -> T:
        nonlocal times
        try:
            return await step()
        except DamagedError as error:
            times += 1
            if times < DAMAGED_WRITES:
                raise
            raise PermanentError(f"{error}; {damaged_words(times)}", code="corrupt") from error
        except TransientError:
            times = 0
            raise

    return attempt


def damaged_words(times: int) -> str:
    """Why bytes that were refused so often are not sent again."""
    return f"sent {times} times: something between here and the destination changes the bytes"


async def from_source(context: Context, operation: str, step: Callable[[], Awaitable[T]]) -> T:
    """Run a step on the source, with retries.

    Raises:
        SourceGoneError: the object is gone.
        SourceChangedError: it is another one now.
    """
    try:
        return await context.retry(operation, step)
    except NotFoundError as error:
        raise SourceGoneError(str(error)) from error
    except ConditionError as error:
        raise SourceChangedError(str(error)) from error


async def look_at_source(context: Context, info: ObjectInfo) -> ObjectInfo:
    """Look at the listed source object, with everything the provider tells of it.

    Raises:
        SourceGoneError: the object is gone.
        SourceChangedError: it is another one now.
    """
    return (await examine_source(context, info)).info


async def examine_source(context: Context, info: ObjectInfo) -> Examined:
    """The same, with the digests that a listing has no room for.

    Raises:
        SourceGoneError: the object is gone.
        SourceChangedError: it is another one now.
    """
    now = await context.retry(f"look at {info.key}", partial(context.source.examine, info.key))
    if now is None:
        raise SourceGoneError(info.key)
    if now.info.token != info.token:
        raise SourceChangedError(info.key)
    return now


async def find_listed(retry: Retrier, store: Store, key: str) -> ObjectInfo | None:
    """The object as the store lists it now; None if it does not. A listing proves itself, where a 404 may be anybody's."""
    after = before(key, room_below(store.location.prefix))
    while True:
        page = await retry(f"list {key}", partial(store.list_page, after, key, 10))
        if page.objects and page.objects[-1].key == key:
            return page.objects[-1]
        if page.cursor is None:
            return None
        after = page.cursor


async def read_part(context: Context, info: ObjectInfo, span: ByteRange, *, md5: bool) -> tuple[Content, Digests]:
    """Read a span of the source and compute its digests, the md5 only where it is needed."""
    content = await from_source(context, f"read {info.key}", partial(context.source.read, info, span))
    return content, await digests_of(content) if md5 else Digests(b"", crc32c(content.chunks))


async def read_whole(context: Context, info: ObjectInfo) -> tuple[Content, Digests]:
    """Read the whole source object and verify it against every digest that is known of it.

    Raises:
        PermanentError: the bytes contradicted a digest each of three times.
    """
    trouble = None
    for _ in range(CORRUPT_READS):
        content = await from_source(context, f"read {info.key}", partial(context.source.read, info, None))
        digests = await digests_of(content)
        trouble = contradiction(info, content, digests) or await _wrong_parts(context, info, content)
        if trouble is None:
            return content, digests
    raise PermanentError(f"read {info.key}: {trouble}; read {CORRUPT_READS} times", code="corrupt")


async def _wrong_parts(context: Context, info: ObjectInfo, content: Content) -> str | None:
    """For a multipart S3 object that nothing else verifies: whether its bytes give its ETag (one more request)."""
    if "-" not in info.etag or info.crc32c or content.crc32c or content.crc64nvme or not content.is_md5_etag:
        return None
    size = await from_source(context, f"look at {info.key}", partial(context.source.part_size, info))
    if size is None:
        return None
    hasher = PartHasher(size)
    hasher.update(content.chunks)
    if hasher.etag() == info.etag.lower() or not await are_uniform(context, info, size):
        return None
    return f"the bytes give the ETag {hasher.etag()}, not {info.etag}"


async def are_uniform(context: Context, info: ObjectInfo, part_size: int) -> bool:
    """Whether a source object's parts surely have this size: only then can its ETag contradict its bytes."""
    step = partial(context.source.has_uniform_parts, info, part_size)
    return await from_source(context, f"look at the parts of {info.key}", step)


async def metadata_for(context: Context, info: ObjectInfo, metadata: Metadata | None, stamp: Stamp) -> Metadata:
    """What the copy shall carry: the source's metadata and tags, and our stamp if there is room for it.

    Raises:
        PermanentError: the destination cannot keep the source's metadata.
    """
    own = metadata or Metadata()
    tags = own.tags
    if context.tags:
        tags = await from_source(context, f"tags of {info.key}", partial(context.source.read_tags, info))
    user = {name: value for name, value in own.user.items() if name != STAMP_KEY}
    stamped = Metadata._make((*own.fixed, {**user, STAMP_KEY: str(stamp)}, tags))
    if context.destination.metadata_error(stamped) is None:
        return stamped
    plain = own._replace(user=user, tags=tags)
    if error := context.destination.metadata_error(plain):
        raise PermanentError(f"{info.key}: {error}", code="metadata")
    return plain


_PROCESS = token_hex(8)  # the system's randomness costs 12 µs, so it is asked once a process
_WRITES = count()


def new_nonce() -> str:
    """A nonce for one write: no other write of any process has it."""
    return f"{_PROCESS}{next(_WRITES):x}"


def done(info: ObjectInfo, written: Written, *, digests: Digests | None = None, copied: bool = True) -> Done:
    """The outcome of an object that is at the destination as `written`."""
    there = ObjectInfo(info.key, info.size, written.etag, md5=written.md5, crc32c=written.crc32c, version=written.version)
    if listing_proves(info, there):
        return Done(info.key, info.size, copied)
    md5 = (digests.md5.hex() or None) if digests else info.md5
    crc = crc32c_text(digests.crc32c) if digests else info.crc32c
    return Done(info.key, info.size, copied, Evidence(info.token, there.token, md5, crc))


def written_as(info: ObjectInfo) -> Written:
    """A destination object that was looked at, as if it had just been written."""
    return Written(info.etag, info.version, info.size, info.md5, info.crc32c)
