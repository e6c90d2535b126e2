"""Those who hold numbers pass one after the other, however they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import NamedTuple

from heavysync.objects import Part


class Turns:
    """Lets the holders of part numbers pass in their order.

    Args:
        parts: in this order.
    """

    def __init__(self, parts: list[Part]) -> None:
        self._next = {part.number: following.number for part, following in pairwise(parts)}
        self._open = {part.number: asyncio.Event() for part in parts}
        if parts:
            self._open[parts[0].number].set()

    @asynccontextmanager
    async def of(self, number: int) -> AsyncIterator[None]:
        """Wait for the turn of a part; the next one's comes when the block ends well."""
        await self._open[number].wait()
        yield
        following = self._next.get(number)
        if following is not None:
            self._open[following].set()


class Lines(NamedTuple):
    """What the workers of one object pass through.

    Attributes:
        queue: of parts.
        gate: to the queue and to the memory.
        hashing: in the order of the parts.
        writing: in the same order, where the destination wants it.
    """

    queue: Iterator[Part]
    gate: asyncio.Lock
    hashing: Turns
    writing: Turns

    @classmethod
    def of(cls, parts: list[Part]) -> Lines:
        """For these parts, in this order."""
        return cls(iter(parts), asyncio.Lock(), Turns(parts), Turns(parts))
