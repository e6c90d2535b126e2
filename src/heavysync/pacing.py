"""How much may be under way at once, and how fast: bytes of object content in memory, requests a second after throttling."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from heavysync.occupancy import busy_s

SNUG = 128 << 20
"""Bytes in flight that are enough where the processor is what there is too little of. More of them cost memory that the system
has to hand out and that no cache holds: 512 MiB made 16 MiB objects 40 % dearer (measured)."""

LOOK_S = 0.5
"""Seconds after which those who wait for bytes see to it that there are as many as help."""

IDLE, BUSY = 0.7, 0.9
"""Shares of the event loop's time: below the first more bytes in flight help, above the second fewer do as well."""

_GROWTH = 1.5


class ByteBudget:
    """A first-come-first-served semaphore over bytes.

    Whoever holds bytes must be able to finish without asking for more: then nobody waits for ever. Of the limit, SNUG bytes
    are handed out at first, more as long as somebody waits while the event loop has time, and fewer again when it has none.

    Args:
        limit: bytes that one request can have.
        share: bytes in flight at most, of budgets that share; a request above it is granted alone. None: the limit.
        clock: seconds.
        busy: seconds that the event loop was busy.

    Attributes:
        sharers: how many who could do with all of it are at work; they count themselves.
    """

    def __init__(
        self,
        limit: int,
        *,
        share: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        busy: Callable[[], float] = busy_s,
    ) -> None:
        self.limit = limit
        self.share = limit if share is None else share
        self.sharers = 0
        self._most = min(self.share, SNUG)
        self._held = 0
        self._clock = clock
        self._busy = busy
        self._looked = (-math.inf, 0.0)  # clock and busy
        self._was_free = True  # at some moment since then nobody waited
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def take(self, size: int) -> _Held:
        """`async with budget.take(size):` holds `size` bytes for the block."""
        return _Held(self, min(size, self.limit))

    async def acquire(self, size: int) -> None:
        """Take `size` bytes (at most the limit), in turn."""
        if not self._waiting and self._fits(size):
            self._held += size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        self._look()
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
        self._held -= size
        if self._waiting:
            self._look()
            self._wake()

    def _fits(self, size: int) -> bool:
        return self._held + size <= self._most or not self._held

    def _wake(self) -> None:
        while self._waiting and (self._waiting[0][1].done() or self._fits(self._waiting[0][0])):
            size, turn = self._waiting.popleft()
            if not turn.done():  # else its holder was cancelled meanwhile
                self._held += size
                turn.set_result(None)
        self._was_free = self._was_free or not self._waiting

    def _look(self) -> None:
        """Somebody waits: would more bytes in flight help?"""
        now, (then, busy_then) = self._clock(), self._looked
        if now - then < LOOK_S:
            return
        busy = self._busy()
        self._looked = (now, busy)
        was_free, self._was_free = self._was_free, False
        if was_free:
            return  # so that time says nothing
        share = (busy - busy_then) / (now - then)
        if share < IDLE:
            self._most = min(self.share, int(self._most * _GROWTH))
        elif share > BUSY:
            self._most = max(min(self.share, SNUG), int(self._most / _GROWTH))


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


CUT = 0.93
"""What is left of the rate that was served when the provider says "slow down": a little below what it can take."""

SETTLE_S = 1.0
"""Seconds after a cut in which further throttling is due to requests that were under way."""

SLOW, FAST = 0.004, 0.1
"""By which share a rate grows each second: close to what was too much, and far below it."""

CALM_S = 3.0
"""Seconds without throttling after which it grows twice as fast."""

STEP_S = 0.05
"""Seconds between two steps of growth."""

FEW, SHARE = 3, 0.05
"""Refused requests, and their share of the last seconds', below which an unpaced lane stays as it is: some providers refuse
single requests at any rate, and what was served then says nothing of a limit."""

FAR = 8.0
"""So many times the rate that was too much are no pace any more."""

LEAST = 1.0
"""Requests a second that are always tried."""

HOLD_MAX_S = 300.0
"""Seconds that `Retry-After` can hold up what was not refused itself."""

RAMP_S = 1200.0
"""Seconds in which a provider that scales by use wants the rate to double at most.

Source: https://docs.cloud.google.com/storage/docs/request-rate#ramp-up
"""

_BURST_S = 0.02  # seconds by which a turn that was not used may be used later: sleeping is not exact


class Pace:
    """The rate of one kind of request to one store: as fast as it goes, until the provider says "slow down".

    Then the rate that it had served, a little less, is kept, and raised again: by a tenth a second far below the rate that was
    too much, by a two-hundredth close to it, where most of the time is spent, and faster again once it turns out to be no limit
    any more. A provider with a fixed limit is so driven close below it (tests/pure/test_pace.py).
    Source of the shape: https://www.rfc-editor.org/rfc/rfc9438 (CUBIC)

    Args:
        clock: monotonic seconds.
        sleep: waits so many seconds.
        ramp: requests a second that it begins with at most, doubled every RAMP_S; None: no bound.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        *,
        ramp: float | None = None,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._ramp = ramp
        self._begun = clock()
        self._rate: float | None = None  # requests a second; None: as fast as it goes
        self._limit = 0.0  # the rate that was too much
        self._next = 0.0  # when the next request may go
        self._held_until = 0.0  # when any may go again
        self._grown = 0.0  # when the rate was raised last
        self._settled = 0.0  # when throttling means this rate again
        self._since = 0.0  # when counting began
        self._second = 0  # the present second; what was served and refused in it, and in the one before
        self._served = self._refused = 0
        self._served_before = self._refused_before = 0

    @property
    def is_free(self) -> bool:
        """Whether a request may go at once."""
        return self._rate is None and self._ramp is None and not self._held_until

    @property
    def rate(self) -> float | None:
        """Requests a second; None: as fast as it goes."""
        if self._ramp is None:
            return self._rate
        ramp = self._ramp * math.pow(2.0, min((self._clock() - self._begun) / RAMP_S, 30))
        return ramp if self._rate is None else min(self._rate, ramp)

    async def turn(self) -> None:
        """Wait until the next request may go."""
        while (left := self._held_until - self._clock()) > 0:
            await self._sleep(left)
        self._held_until = 0.0
        now = self._clock()
        self._grow(now)
        start = max(self._next, now - _BURST_S)
        rate = self.rate
        self._next = start + 1 / rate if rate is not None else 0.0
        if start > now:
            await self._sleep(start - now)

    def served(self) -> None:
        """A request went through."""
        self._at(self._clock())
        self._served += 1

    def throttled(self, retry_after: float | None = None) -> None:
        """The provider said "slow down"; `retry_after`: not at all for so many seconds, unless it was said of few."""
        now = self._clock()
        self._at(now)
        self._refused += 1
        if retry_after and self._is_weighty():
            self._held_until = max(self._held_until, now + min(retry_after, HOLD_MAX_S))
        if now < self._settled:
            return
        rate = self._measured(now)
        if self._rate is None:
            if now < self._since + SETTLE_S or not self._is_weighty():
                return
            self._limit = rate
        else:
            self._limit = min(self._rate, max(rate, self._rate / 2))
        self._rate = max(LEAST, CUT * self._limit)
        self._grown = now
        self._settled = now + max(SETTLE_S, 1 / self._rate)

    def _at(self, now: float) -> None:
        """Count for the second that it is now."""
        second = int(now)
        if second == self._second:
            return
        follows = second == self._second + 1
        if not follows:
            self._since = now
        self._served_before = self._served if follows else 0
        self._refused_before = self._refused if follows else 0
        self._served = self._refused = 0
        self._second = second

    def _measured(self, now: float) -> float:
        """Requests a second that were served lately."""
        return max(float(self._served_before), self._served / max(now - int(now), 0.1))

    def _is_weighty(self) -> bool:
        """Whether so much was refused lately that there must be a limit."""
        refused = self._refused + self._refused_before
        return refused >= FEW and refused >= SHARE * (refused + self._served + self._served_before)

    def _grow(self, now: float) -> None:
        """Raise the rate for the time that has passed since it was raised last."""
        if self._rate is None:
            return
        passed = min(now - self._grown, 1.0)
        if passed < STEP_S or now < self._settled:
            return
        self._grown = now
        calm = now - self._settled
        share = SLOW if self._rate > 0.9 * self._limit else FAST
        self._rate += self._rate * min(FAST, share * 2 ** (calm / CALM_S)) * passed
        if self._rate > max(FAR * self._limit, FAR):
            self._rate = None
