"""On how many ranges a process works at once: few while they keep it busy, more as long as it mostly waits for servers."""

from __future__ import annotations

import time
from collections.abc import Callable

from heavysync.occupancy import Waits, busy_s
from heavysync.pacing import IDLE

LOOK_S = 0.5
"""Seconds between two looks at how busy a process is."""

MOST = 32
"""Ranges at once at most: each is an open file, a thread and 2-3 MiB."""

_GROWTH = 1.5


class Breadth:
    """The number of ranges that a process works on at once, which grows.

    Args:
        least: to begin with.
        most: at most.
        clock: seconds.
        loads: seconds that the process was busy, each in its way. None: the CPU-seconds of all its threads (those of the
            state's files take most of a listing); what its event loop ran or was kept from running; and the seconds that its
            threads waited for a processor, added up. Where processors are what there is too little of, more ranges only
            cost memory.

    Attributes:
        at_once: ranges.
        is_idle: whether the process mostly waited between the last two looks.
    """

    def __init__(
        self,
        least: int,
        most: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        loads: tuple[Callable[[], float], ...] | None = None,
    ) -> None:
        self.at_once = least
        self.is_idle = False
        self._most = max(least, most)
        self._clock = clock
        self._loads = (time.process_time, Waits(), busy_s) if loads is None else loads
        self._looked = self._read()

    def look(self, *, is_wanting: bool) -> bool:
        """See how busy the process was since the last look; answer whether it can work on more ranges from now on.

        Args:
            is_wanting: it works on as many as it may, and they give it too little to do.
        """
        (then, *before), now = self._looked, self._read()
        self._looked = now
        passed = now[0] - then
        self.is_idle = passed > 0 and max(after - load for after, load in zip(now[1:], before, strict=True)) < IDLE * passed
        if not (is_wanting and self.is_idle and self.at_once < self._most):
            return False
        self.at_once = min(self._most, int(self.at_once * _GROWTH) + 1)
        return True

    def _read(self) -> tuple[float, ...]:
        return (self._clock(), *(load() for load in self._loads))
