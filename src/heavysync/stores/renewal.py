"""Credentials are renewed once for all who wait; while none are good, the side waits, visibly and not for ever.

A side has one `Renewal`. Whoever finds that credentials have to be renewed comes here, and one at a time tries; the others
wait, so that no request goes out with credentials that are known to be refused.

    an attempt succeeds         everybody goes on
    ... fails in passing        the network, a busy token server: `TransientError`, for all who ask before the next is due
    ... is refused, before      a typo should not wait for an hour: `FatalError` at once
        any request succeeded
    ... is refused later        everybody waits, and every `poll_s` their source is read again, until the grace is over: then
                                `FatalError`, and what was committed is taken up by the next run

Design: docs/design/0010-credentials.md
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from heavysync.errors import FatalError, TransientError, cause
from heavysync.events import Listener, Notice, Recovered, Retrying, ignore

POLL_S = 60.0
"""Seconds between two looks at the source of credentials; a grace below ten minutes is cut into ten."""

FIRST_LOOK_S = 1.0
"""Seconds before the first look, doubled up to that: what renews them may be late by seconds only."""

HOLD_OFF_S = 0.5
"""Seconds before the next attempt after one that failed in passing; each further one waits twice as long."""

HOLD_OFF_MAX_S = 60.0

_KEPT = "what is done is kept: started again with good credentials, it goes on where it was"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """What a side may do while its credentials are not accepted.

    Args:
        name: of the side, for people.
        grace_s: seconds that it waits for others before the run ends.
        stopping: ends every wait.
        listener: is told of it.
        is_proven: another process of the run has used the credentials with success.
    """

    name: str = "this side"
    grace_s: float = 3600.0
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    listener: Listener = ignore
    is_proven: bool = False

    @property
    def poll_s(self) -> float:
        """Seconds between two looks."""
        return min(POLL_S, self.grace_s / 10)


class Renewal:
    """See the module.

    Args:
        patience: how long, and who is told.
    """

    def __init__(self, patience: Patience) -> None:
        self._name = f"credentials of {patience.name}"
        self._patience = patience
        self._lock = asyncio.Lock()
        self.is_proven = patience.is_proven  # a request has succeeded
        self._refusal: FatalError | None = None  # why there are no good credentials
        self._refused_at = 0.0  # when the grace began; 0: the last request succeeded
        self._has_looked = False  # since the refusal
        self._looks = 0  # during this grace
        self._failure = ""  # of the attempt that failed in passing
        self._failures = 0
        self._next_at = 0.0
        self.source = "the place they come from"  # for people, until it is known which
        self.can_change = True  # whether that may hold others while this process runs

    @property
    def is_under_way(self) -> bool:
        """Whether somebody renews now, or an attempt has just failed: who has a live token goes on with it."""
        return self._lock.locked() or time.monotonic() < self._next_at

    @property
    def must_reread(self) -> bool:
        """Whether the source has to be read again, because what it held is refused."""
        return self._refusal is not None

    @property
    def is_in_grace(self) -> bool:
        """Whether that is so, and what was found then was refused, too."""
        return self._refusal is not None and self._has_looked

    def accepted(self) -> None:
        """A request with the present credentials succeeded."""
        self.is_proven = True
        self._refused_at = 0.0
        self._looks = 0

    def refuse(self, message: str) -> None:
        """The present credentials were refused; `message` are the provider's words.

        The source is read again at once, but if what was read there was never accepted, not before the next look is due.
        """
        self._refusal = FatalError(message)
        self._has_looked = self._refused_at > 0
        self._refused_at = self._refused_at or time.monotonic()

    async def __call__(self, is_due: Callable[[], bool], attempt: Callable[[], Awaitable[None]]) -> None:
        """Renew as long as that is due; one look for all who ask at the same time.

        Args:
            is_due: whether there is anything to do.
            attempt: gets new credentials. A `FatalError` means that they are refused, or that there are none.

        Raises:
            TransientError: not now; or the run stops.
            FatalError: there are none, before any request has succeeded; or for longer than the grace.
        """
        async with self._lock:
            while is_due():
                if self._refusal is not None and self.is_in_grace:
                    await self._pause(self._refusal)
                elif (left := self._next_at - time.monotonic()) > 0:
                    raise TransientError(self._failure, retry_after=left)
                try:
                    await self._unless_stopped(attempt)
                except TransientError as error:
                    self._hold_off(error)
                    raise
                except FatalError as error:
                    self._refusal, self._has_looked = error, True
                    self._failures = 0
                else:
                    self._recover()

    async def unless_stopped(self, attempt: Callable[[], Awaitable[None]]) -> None:
        """Make the first attempt, before there are any credentials; a stop of the run gives it up.

        Where another process has used them with success, they are waited for as if they had been refused later.

        Raises:
            TransientError: not now; or the run stops.
            FatalError: as `attempt`, or for longer than the grace.
        """
        is_made = False

        async def first() -> None:
            nonlocal is_made
            await attempt()
            is_made = True

        if self._patience.is_proven:
            await self(lambda: not is_made, first)
        else:
            await self._unless_stopped(attempt)

    async def _unless_stopped(self, attempt: Callable[[], Awaitable[None]]) -> None:
        async def work() -> None:
            await attempt()

        async def watch() -> None:
            await self._patience.stopping.wait()
            working.cancel()

        try:
            async with asyncio.TaskGroup() as group:
                working = group.create_task(work())
                watching = group.create_task(watch())
                working.add_done_callback(lambda _: watching.cancel())
        except BaseExceptionGroup as errors:
            raise cause(errors) from None
        if working.cancelled():
            raise TransientError(f"{self._name}: the run was stopped while they were asked for")

    def _hold_off(self, error: TransientError) -> None:
        """Nobody else asks at once what was not answered just now."""
        wait = min(HOLD_OFF_MAX_S, HOLD_OFF_S * 2 ** min(self._failures, 10))
        self._failures += 1
        self._failure = str(error)
        self._next_at = time.monotonic() + max(wait, error.retry_after or 0.0)

    def _recover(self) -> None:
        if self._refusal is not None:
            self._patience.listener(Recovered(self._name))
        self._refusal = None
        self._failures = 0

    async def _pause(self, refusal: FatalError) -> None:
        """Wait until the source is to be read again.

        Raises:
            FatalError: there is nothing to wait for, or no longer.
            TransientError: the run stops.
        """
        tell, patience, now = self._patience.listener, self._patience, time.monotonic()
        if not self.is_proven:
            raise refusal
        if not self.can_change:
            raise FatalError(f"{refusal}; {_KEPT}")
        self._refused_at = self._refused_at or now
        if not self._looks and patience.grace_s > 0:
            said = f"the {self._name} are not accepted any more: waiting for others in {self.source}"
            tell(Notice(said, urgent=True))
        left = self._refused_at + patience.grace_s - now
        if left <= 0:
            tell(Recovered(self._name))
            waited = f"waited {patience.grace_s:g} s for others in {self.source} (--auth-grace); " if patience.grace_s else ""
            raise FatalError(f"{refusal}; {waited}{_KEPT}")
        wait = min(patience.poll_s, left, FIRST_LOOK_S * 2 ** min(self._looks, 10))
        self._looks += 1
        tell(
            Retrying(self._name, f"waiting for others in {self.source}, for {left:.0f} s at most: {refusal}", self._looks, wait)
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await patience.stopping.wait()
        if patience.stopping.is_set():
            tell(Recovered(self._name))
            raise TransientError(f"{self._name}: the run was stopped while it waited for others")
