"""What the tests of the contract share: contents, uploads and whole listings in one line each."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from heavysync.checksums import combine_crc32c, digest
from heavysync.errors import ConditionError
from heavysync.objects import ByteRange, Content, Digests, Location, Metadata
from heavysync.parts import plan_parts


@dataclass(kw_only=True)
class World:
    """A store to test: how it is opened, what its server is known to lack (fact -> reason), and who speaks HTTP."""

    scheme: str
    open: Callable[[Location], AbstractAsyncContextManager]
    lacks: Mapping[str, str] = field(default_factory=dict)
    client: str = "lean"

    def needs(self, *facts: str) -> None:
        """Skip the test, saying why, where the server is known to lack one of `facts`."""
        for fact in facts:
            if fact in self.lacks:
                pytest.skip(f"{fact}: {self.lacks[fact]}")

    @asynccontextmanager
    async def fresh(self, prefix: str = "", *, versioned: bool = False) -> AsyncIterator:
        """A store on a new, empty bucket."""
        where = Location(scheme=self.scheme, bucket=f"bucket-{uuid4().hex[:12]}", prefix=prefix)
        async with self.open(where) as store:
            await store.create_bucket(None, None)
            if versioned:
                await store.enable_versioning()
            yield store

    @asynccontextmanager
    async def beside(self, store, prefix: str = "") -> AsyncIterator:
        """Another store on the same bucket."""
        where = Location(scheme=self.scheme, bucket=store.location.bucket, prefix=prefix)
        async with self.open(where) as other:
            yield other


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that do not repeat."""
    return random.Random(seed).randbytes(size)


def held(data: bytes, piece: int = 70_000) -> Content:
    """Bytes as they would have come off a wire."""
    return Content([data[at : at + piece] for at in range(0, len(data), piece)], len(data))


async def put(store, key: str, data: bytes = b"x", metadata=None, replaces=None):
    """One plain write."""
    return await store.write(key, held(data), metadata or Metadata(), digest([data]), replaces)


async def get(store, info, start: int | None = None, end: int | None = None) -> bytes:
    """One plain read, with its size checked."""
    span = ByteRange(start, end) if start is not None else None
    content = await store.read(info, span)
    joined = b"".join(content.chunks)
    assert len(joined) == content.size
    return joined


async def see(store, key: str):
    """The object as a listing shows it, or None."""
    return next((info for info in await everything(store) if info.key == key), None)


async def everything(store, after=None, until=None, limit: int = 1000) -> list:
    """All pages of a listing."""
    found = []
    while True:
        page = await store.list_page(after, until, limit)
        assert len(page.objects) <= limit
        found += page.objects
        if page.cursor is None:
            return found
        assert after is None or page.cursor > after
        after = page.cursor


async def keys(store, after=None, until=None, limit: int = 1000) -> list[str]:
    """The keys of all pages of a listing."""
    return [info.key for info in await everything(store, after, until, limit)]


async def all_versions(store, first=None, until=None, after=None) -> list:
    """All pages of a listing of versions."""
    found = []
    while True:
        page = await store.list_versions_page(after, first, until)
        found += page.versions
        if page.cursor is None:
            return found
        after = page.cursor


def part_size(store) -> int:
    """The smallest part that the store takes."""
    return max(store.limits.part_min, store.limits.part_multiple)


async def begin(store, key: str, data: bytes, *, metadata=None, replaces=None):
    """Begin an upload of `data` in the smallest parts."""
    return await store.begin_upload(
        key,
        metadata or Metadata(),
        size=len(data),
        part_size=part_size(store),
        source_token="source",
        nonce="nonce",
        replaces=replaces,
    )


async def send(upload, data: bytes, numbers=None) -> None:
    """Send the parts of `data`, or those with these numbers."""
    for part in plan_parts(len(data), upload.state.part_size):
        if numbers is None or part.number in numbers:
            piece = data[part.start : part.end]
            done = await upload.write_part(part, held(piece), digest([piece]))
            assert done.number == part.number
            assert done.crc32c == digest([piece]).crc32c


async def put_large(store, key: str, data: bytes, *, metadata=None, replaces=None):
    """A whole upload in parts."""
    upload = await begin(store, key, data, metadata=metadata, replaces=replaces)
    await send(upload, data)
    return await upload.complete(digest([data]))


async def copied(destination, source, info, replaces=None):
    """A whole server-side copy: the answer, and how many calls it took."""
    state, calls = None, 0
    while True:
        calls += 1
        answer = await destination.copy(source, info, replaces=replaces, state=state)
        if not hasattr(answer, "part_size"):
            return answer, calls
        state = answer


async def refused(store, key: str, data: bytes, **how) -> None:
    """Assert that an upload in parts ends in ConditionError, wherever the provider notices."""
    with pytest.raises(ConditionError):
        await put_large(store, key, data, **how)


def whole(pieces: list[bytes]) -> Digests:
    """Digests of pieces taken together, as the engine computes them."""
    sums = [(digest([piece]).crc32c, len(piece)) for piece in pieces]
    return Digests(digest(pieces).md5, combine_crc32c(sums))
