"""The one retry policy: transient errors are tried again for ever, visibly, with full jitter.

The wait before attempt n+1 is uniform in 0..min(cap, base * 2^(n-1)) seconds, with base 0.5 and cap 30 (2 and 300
after "slow down"), and never below what the provider asked for in `Retry-After`. What concerns one object is bounded: after
some attempts it makes room for others and comes again at the end of the queue. A step runs bare at first and enters tenacity
only after it failed once: a success then costs 0.3 µs instead of 40. Design: docs/design/0006-retry-units.md
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

import tenacity
from tenacity.asyncio import AsyncRetrying

from heavysync.errors import TransientError
from heavysync.events import Listener, Recovered, Retrying, ignore

T = TypeVar("T")

BASE_S = 0.5
THROTTLED_BASE_S = 2.0
CAP_S = 300.0
"""Seconds of the longest wait after "slow down", or that a provider can ask for."""

OUTAGE_CAP_S = 30.0
"""Seconds of the longest wait after other failures: that a server is not overrun while it is down is seen to by its lanes."""

STUCK_AFTER = 8
"""Attempts, some 30 seconds, after which what concerns one object makes room for others."""


class StoppedError(TransientError):
    """The run is stopping, so the step is not tried again; its work is released for the next run."""


class StuckError(TransientError):
    """A step failed so often that what it is about should make room for others.

    Args:
        message: of the last failure.
        alone: requests of the same kind went through meanwhile, so it is no outage.
        answered: see `TransientError`.
        throttled: the last failure was "slow down".

    Attributes:
        suspect: whoever knows the step sets it: an unfinished upload may be what is wrong.
    """

    def __init__(self, message: str, *, alone: bool, answered: int | None = None, throttled: bool = False) -> None:
        super().__init__(message, throttled=throttled)
        self.alone = alone
        self.answered = answered
        self.suspect = False


class Retrier:
    """Runs steps until they succeed, fail for good, or the run stops.

    Args:
        listener: is told of every failed attempt.
        base_s: seconds of the first wait at most; tests make it small.
        uniform: the source of randomness.
        most: attempts after which a step is given up with `StuckError`; None: never.
    """

    def __init__(
        self,
        listener: Listener = ignore,
        *,
        base_s: float = BASE_S,
        uniform: Callable[[float, float], float] = random.uniform,
        most: int | None = None,
    ) -> None:
        self._listener = listener
        self._base_s = base_s
        self._uniform = uniform
        self._most = most
        self.stopping = asyncio.Event()

    def bounded(self, most: int) -> Retrier:
        """The same policy, but a step is given up after `most` attempts: for work that can wait at the end of a queue."""
        retry = Retrier(self._listener, base_s=self._base_s, uniform=self._uniform, most=most)
        retry.stopping = self.stopping
        return retry

    async def __call__(self, operation: str, step: Callable[[], Awaitable[T]]) -> T:
        """Run `step` until it does not raise `TransientError`; `operation` names it for people.

        Raises:
            StoppedError: the run is stopping and the step failed in passing.
            StuckError: it failed in passing as often as a bounded policy bears.
            HeavysyncError: whatever else the step raises.
        """
        try:
            return await step()
        except TransientError as error:
            first = error
        try:
            return await self._again(operation, step, first)
        finally:
            self._listener(Recovered(operation))

    def stop_now(self) -> NoReturn:
        """End a step that was asked to stop between two requests.

        Raises:
            StoppedError: always.
        """
        raise StoppedError("the run is stopping")

    async def _again(self, operation: str, step: Callable[[], Awaitable[T]], first: TransientError) -> T:
        failed = 0
        pending: TransientError | None = first

        async def attempt() -> T:
            nonlocal pending
            if pending is not None:
                error, pending = pending, None
                raise error
            return await step()

        async def before_sleep(state: tenacity.RetryCallState) -> None:
            nonlocal failed
            failed += 1
            wait = state.next_action.sleep if state.next_action else 0.0
            error = state.outcome.exception() if state.outcome else None
            self._listener(Retrying(operation, str(error), failed, wait))

        def give_up(state: tenacity.RetryCallState) -> NoReturn:
            error = state.outcome.exception() if state.outcome else None
            assert isinstance(error, TransientError), error
            words = f"{error}; tried {failed + 1} times"
            alone = _others_went_through(first, error)
            raise StuckError(words, alone=alone, answered=error.answered, throttled=error.throttled) from error

        retrying = AsyncRetrying(
            retry=tenacity.retry_if_exception(
                lambda error: isinstance(error, TransientError) and not isinstance(error, StoppedError | StuckError)
            ),
            stop=tenacity.stop_never if self._most is None else tenacity.stop_after_attempt(self._most),
            retry_error_callback=give_up,
            wait=self._wait,
            before_sleep=before_sleep,
            sleep=self._sleep,
        )
        return await retrying(attempt)

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        throttled = isinstance(error, TransientError) and error.throttled
        base = max(self._base_s, THROTTLED_BASE_S) if throttled and self._base_s >= BASE_S else self._base_s
        # 2^20 * base is far above the cap; a larger exponent would only grow a big integer
        wait = self._uniform(0, min(CAP_S if throttled else OUTAGE_CAP_S, base * 2 ** min(state.attempt_number - 1, 20)))
        asked = error.retry_after if isinstance(error, TransientError) else None
        return min(CAP_S, max(wait, asked or 0.0))

    async def _sleep(self, seconds: float) -> None:
        """Wait, but end at once with `StoppedError` when the run stops."""
        if seconds > 0 and not self.stopping.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self.stopping.wait()
            except TimeoutError:
                return
        if self.stopping.is_set():
            self.stop_now()


def _others_went_through(first: TransientError, last: BaseException | None) -> bool:
    """Whether the server carried out other requests of the same kind between two failures of a step."""
    if not isinstance(last, TransientError) or last.throttled or first.served is None or last.served is None:
        return False
    return last.served > first.served
