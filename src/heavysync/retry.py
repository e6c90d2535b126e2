"""The one retry policy: transient errors are tried again for ever, visibly, with full jitter.

The wait before attempt n+1 is uniform in 0..min(cap, base * 2^(n-1)) seconds, with base 0.5 (2 after "slow down") and cap
300, and never below what the provider asked for in `Retry-After`. A step runs bare at first and enters tenacity only after
it failed once: a success then costs 0.3 µs instead of 40. Design: docs/design/0006-retry-units.md
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


class StoppedError(TransientError):
    """The run is stopping, so the step is not tried again; its work is released for the next run."""


class Retrier:
    """Runs steps until they succeed, fail for good, or the run stops.

    Args:
        listener: is told of every failed attempt.
        base_s: seconds of the first wait at most; tests make it small.
        uniform: the source of randomness.
    """

    def __init__(
        self,
        listener: Listener = ignore,
        *,
        base_s: float = BASE_S,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._listener = listener
        self._base_s = base_s
        self._uniform = uniform
        self.stopping = asyncio.Event()

    async def __call__(self, operation: str, step: Callable[[], Awaitable[T]]) -> T:
        """Run `step` until it does not raise `TransientError`; `operation` names it for people.

        Raises:
            StoppedError: the run is stopping and the step failed in passing.
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

        retrying = AsyncRetrying(
            retry=tenacity.retry_if_exception(
                lambda error: isinstance(error, TransientError) and not isinstance(error, StoppedError)
            ),
            wait=self._wait,
            before_sleep=before_sleep,
            sleep=self._sleep,
            reraise=True,
        )
        return await retrying(attempt)

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        throttled = isinstance(error, TransientError) and error.throttled
        base = max(self._base_s, THROTTLED_BASE_S) if throttled and self._base_s >= BASE_S else self._base_s
        # 2^20 * base is far above the cap; a larger exponent would only grow a big integer
        wait = self._uniform(0, min(CAP_S, base * 2 ** min(state.attempt_number - 1, 20)))
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
