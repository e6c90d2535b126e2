"""Where jobs wait for workers: what `asyncio.Queue` does, but jobs are put in by the handful.

Whoever feeds a full queue is woken there for each single job. Here all who feed are woken together once half of the jobs are
gone, and each is told how many it may put in: that is fair to all ranges, keeps enough waiting, and costs a tenth.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """Jobs in the order in which they were put in.

    Args:
        most: jobs that wait, as far as everybody puts in what `room` answers at once; a few more if others ask meanwhile.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._low = most // 2  # jobs; whoever waits for room is woken there. While somebody waits, more than these are left
        self._jobs: deque[T] = deque()
        self._takers: deque[asyncio.Future[None]] = deque()
        self._givers: deque[asyncio.Future[int]] = deque()

    @property
    def is_empty(self) -> bool:
        """Whether no job waits."""
        return not self._jobs

    async def room(self) -> int:
        """How many jobs may be put in now; waits while there is no room."""
        if not self._givers and len(self._jobs) < self._most:
            return self._most - len(self._jobs)
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._givers.append(waiter)
        return await waiter

    def put(self, jobs: Iterable[T]) -> None:
        """Put jobs in, as many as `room` has just answered."""
        before = len(self._jobs)
        self._jobs.extend(jobs)
        for _ in range(len(self._jobs) - before):
            self._wake_taker()

    async def get(self) -> T:
        """The job that has waited longest; waits while there is none."""
        while not self._jobs:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._takers.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if not waiter.cancelled():  # it was its turn, which is another one's now
                    self._wake_taker()
                raise
        job = self._jobs.popleft()
        if self._givers and len(self._jobs) <= self._low:
            self._wake_givers()
        return job

    def _wake_taker(self) -> None:
        while self._takers:
            waiter = self._takers.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _wake_givers(self) -> None:
        share = max(1, (self._most - len(self._jobs)) // len(self._givers))
        for waiter in self._givers:
            if not waiter.done():
                waiter.set_result(share)
        self._givers.clear()
