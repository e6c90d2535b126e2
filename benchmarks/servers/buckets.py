"""Buckets: with objects in memory, or made up from an index with one byte for each key that is there."""

from __future__ import annotations

import time
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from servers.bodies import made_up, md5_of
from servers.http import Chunk
from servers.keys import Keys

_FEW = 64  # fresh keys that are inserted one by one
_AGES_AGO = "2026-01-01T00:00:00.000Z"

Meta = dict[str, object]


class Thing:
    """An object.

    Attributes:
        pieces: the body.
        size: bytes.
        md5: of the body.
        etag: as S3 has it, without quotes.
        meta: what the service that wrote it keeps with it.
        modified: RFC 3339.
        generation: ascends with every write.
        parts: sizes of the parts it was uploaded in; empty for one request.
        crc32c: once somebody asked; with S3, of an object whose upload was to have one.
        crc64nvme: once somebody asked.
    """

    __slots__ = ("crc32c", "crc64nvme", "etag", "generation", "md5", "meta", "modified", "parts", "pieces", "size")

    def __init__(
        self, pieces: Sequence[Chunk], meta: Meta, *, md5: bytes | None = None, etag: str = "", parts: Sequence[int] = ()
    ) -> None:
        self.pieces = pieces
        self.size = sum(map(len, pieces))
        self.md5 = md5 if md5 is not None else md5_of(pieces)
        self.etag = etag or self.md5.hex()
        self.meta = meta
        self.modified = now_text()
        self.generation = next_generation()
        self.parts = parts
        self.crc32c = ""
        self.crc64nvme = ""

    def again(self, meta: Meta) -> Thing:
        """A copy, as a server-side copy makes it: the same bytes as a whole, written now."""
        return Thing(self.pieces, meta, md5=self.md5 or None)


class Bucket(Protocol):
    """Objects by key, in the order of their keys."""

    def __len__(self) -> int: ...
    def get(self, key: str) -> Thing | None:
        """The object at a key."""

    def put(self, key: str, thing: Thing) -> None:
        """Write an object."""

    def delete(self, key: str) -> bool:
        """Take an object away; whether it was there."""

    def find(self, text: str) -> int:
        """The place of the first key that is not below this text."""

    def rows(self, place: int) -> Iterator[tuple[str, Thing]]:
        """Keys and objects from a place on. The bucket must not change meanwhile."""


class Stored:
    """A bucket in memory; its keys are put in order when somebody lists them."""

    def __init__(self) -> None:
        self._things: dict[str, Thing] = {}
        self._order: list[str] = []
        self._fresh: list[str] = []
        self._gone = 0

    def __len__(self) -> int:
        return len(self._things)

    def get(self, key: str) -> Thing | None:
        return self._things.get(key)

    def put(self, key: str, thing: Thing) -> None:
        if key not in self._things:
            self._fresh.append(key)
        self._things[key] = thing

    def delete(self, key: str) -> bool:
        if self._things.pop(key, None) is None:
            return False
        self._gone += 1
        return True

    def find(self, text: str) -> int:
        self._settle()
        return bisect_left(self._order, text)

    def _settle(self) -> None:
        if self._gone:
            self._order = sorted(self._things)
            self._gone = 0
        elif len(self._fresh) > _FEW:
            self._order += self._fresh
            self._order.sort()  # two runs in order, which is what it is good at
        else:
            for key in self._fresh:
                insort(self._order, key)
        self._fresh.clear()

    def rows(self, place: int) -> Iterator[tuple[str, Thing]]:
        things = self._things
        for at in range(place, len(self._order)):
            key = self._order[at]
            yield key, things[key]


class _Told(NamedTuple):
    """What is told of a made-up object; has what a `Thing` has."""

    pieces: Sequence[Chunk]
    size: int
    md5: bytes
    etag: str
    meta: Meta
    modified: str
    generation: int
    parts: Sequence[int]
    crc32c: str
    crc64nvme: str


class MadeUp:
    """A bucket of computed keys and bodies; only what is written with other bytes or metadata takes memory.

    Args:
        keys: that can be in it.
        size: bytes of every body.
        meta: of every object.
        is_full: whether they are in it from the start.
    """

    def __init__(self, keys: Keys, size: int, meta: Meta, *, is_full: bool) -> None:
        self._keys = keys
        self._size = size
        self._meta = meta
        self._there = bytearray(b"\x01" * keys.count if is_full else keys.count)
        self._other: dict[int, Thing] = {}
        self._empty = md5_of([b""])

    def __len__(self) -> int:
        return self._there.count(1)

    def is_like(self, other: MadeUp) -> bool:
        """Whether the other one certainly has the same, told without looking at each object."""
        ours, theirs = (self._keys, self._size, self._there), (other._keys, other._size, other._there)
        return ours == theirs and not (self._other or other._other)

    def _tell(self, index: int) -> Thing:
        if other := self._other.get(index):
            return other
        body = made_up(index, self._size) if self._size else b""
        md5 = md5_of([body]) if body else self._empty
        # read like a `Thing`, never changed
        return _Told((body,), self._size, md5, md5.hex(), self._meta, _AGES_AGO, index + 1, (), "", "")  # type: ignore[return-value]

    def get(self, key: str) -> Thing | None:
        index = self._keys.index(key)
        return self._tell(index) if index is not None and self._there[index] else None

    def put(self, key: str, thing: Thing) -> None:
        index = self._keys.index(key)
        if index is None:
            raise ValueError(f"{key!r} cannot be in a made-up bucket")
        expected = made_up(index, self._size) if self._size else b""
        if thing.meta == self._meta and thing.md5 == md5_of([expected]):
            self._other.pop(index, None)
        else:
            self._other[index] = thing
        self._there[index] = 1

    def delete(self, key: str) -> bool:
        index = self._keys.index(key)
        if index is None or not self._there[index]:
            return False
        self._there[index] = 0
        self._other.pop(index, None)
        return True

    def find(self, text: str) -> int:
        return self._keys.find(text)

    def rows(self, place: int) -> Iterator[tuple[str, Thing]]:
        key, tell, find = self._keys.key, self._tell, self._there.find
        while (place := find(1, place)) >= 0:
            yield key(place), tell(place)
            place += 1


_last = [time.time_ns() // 1000]


def next_generation() -> int:
    """A number that only ever grows."""
    _last[0] += 1
    return _last[0]


_now: list[object] = [0, ""]


def now_text() -> str:
    """The time as RFC 3339 with whole seconds, made once a second."""
    now = int(time.time())
    if _now[0] != now:
        _now[:] = now, time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(now))
    return str(_now[1])
