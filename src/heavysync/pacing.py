"""How much may be under way at once: bytes of object content in memory."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Self


class ByteBudget:
    """A first-come-first-served semaphore over bytes.

    Whoever holds bytes must be able to finish without asking for more: then nobody waits for ever.

    Args:
        limit: bytes in flight at most. A single request above it is granted alone.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._free = limit
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def take(self, size: int) -> _Held:
        """`async with budget.take(size):` holds `size` bytes for the block."""
        return _Held(self, min(size, self.limit))

    async def acquire(self, size: int) -> None:
        """Take `size` bytes (at most the limit), in turn."""
        if not self._waiting and size <= self._free:
            self._free -= size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._wake()  # which drops it, too
            else:
                self.release(size)
            raise

    def release(self, size: int) -> None:
        """Give `size` bytes back."""
        self._free += size
        self._wake()

    def _wake(self) -> None:
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= self._free):
            size, turn = self._waiting.popleft()
            if not turn.done():  # else its holder was cancelled meanwhile
                self._free -= size
                turn.set_result(None)


class _Held:
    """Bytes of a budget, held for the time of an `async with` block."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: ByteBudget, size: int) -> None:
        self._budget = budget
        self._size = size

    async def __aenter__(self) -> Self:
        await self._budget.acquire(self._size)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget.release(self._size)
