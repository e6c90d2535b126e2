"""Whether and when a request may go: a lane for each kind of request to a server, slowed down by throttling, closed by outages.

While a server answers, a lane costs one comparison a request. Once it says "slow down", requests leave the lane at a rate
(`pacing.Pace`). Once nothing has gone through for a while, the lane is closed: one request goes as a probe from time to time,
the others wait here, where they cost nothing and count as no attempts; the first one that goes through opens the lane.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from heavysync.errors import TransientError
from heavysync.pacing import HOLD_MAX_S, Pace

CLOSING_FAILURES = 8
"""So many failures without a success between them close a lane, once CLOSING_S have passed since the first of them."""

CLOSING_S = 1.0

PROBE_S = 0.5
"""Seconds before the first probe of a closed lane; each further one waits twice as long, up to PROBE_MAX_S."""

PROBE_MAX_S = 30.0

_POLL_S = 0.1  # the one that waits for the next probe looks so often whether the lane was opened


class Lane:
    """One kind of request to one server.

    Args:
        clock: monotonic seconds.
        pause: waits so many seconds; raises `TransientError` when the run stops.
        ramp: requests a second that it begins with at most; doubled every 20 minutes. None: no bound.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        pause: Callable[[float], Awaitable[None]],
        *,
        ramp: float | None = None,
    ) -> None:
        self.pace = Pace(clock, pause, ramp=ramp)
        self.served = 0  # requests that were carried out
        self._clock = clock
        self._pause = pause
        self._turns = asyncio.Lock()  # one waits for the time of the next probe, the others for that one
        self._failures = 0  # since the last success
        self._failing_since = 0.0
        self._closed = False
        self._probe_wait = 0.0
        self._probe_at = 0.0  # inf: the probe is under way

    @property
    def is_free(self) -> bool:
        """Whether a request may go at once, without a call of `turn`."""
        return not self._closed and self.pace.is_free

    @property
    def is_closed(self) -> bool:
        """Whether the server seems to be down for this kind of request."""
        return self._closed

    async def turn(self) -> None:
        """Wait until a request may go. Whoever got a turn calls `left` when the request is over, whatever became of it.

        Raises:
            TransientError: the run stops.
        """
        if self._closed:
            async with self._turns:
                while self._closed and (wait := self._probe_at - self._clock()) > 0:
                    await self._pause(min(wait, _POLL_S))
                if self._closed:
                    self._probe_at = math.inf
                    return
        await self.pace.turn()

    def went_through(self) -> None:
        """The server carried a request out, or refused it for what it was: it is there."""
        self.served += 1
        self._failures = 0
        self._closed = False
        self.pace.served()

    def answered(self) -> None:
        """The server refused a request for what it was: it is there."""
        self._failures = 0
        self._closed = False

    def failed(self, error: TransientError) -> None:
        """The server did not carry a request out; `error` is told how many others it had carried out by then."""
        error.served = self.served
        now = self._clock()
        if error.throttled:
            self.pace.throttled(error.retry_after)
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        if not self._closed and self._failures >= CLOSING_FAILURES and now >= self._failing_since + CLOSING_S:
            self._closed = True
            self._probe_wait = PROBE_S
            self._probe_at = now + PROBE_S
        if self._closed and error.retry_after:
            self._probe_at = max(self._probe_at, now + min(error.retry_after, HOLD_MAX_S))

    def left(self) -> None:
        """A request is over: if the lane is closed it may have been the probe, so the time of the next one is set."""
        if self._closed and self._probe_at == math.inf:
            self._probe_wait = min(PROBE_MAX_S, 2 * self._probe_wait)
            self._probe_at = self._clock() + self._probe_wait
