"""How busy a thread has been: running, or ready to run and kept from it by others; and how long all threads were kept from it.

Linux keeps account of both: nanoseconds run and nanoseconds waited for a processor, in the files `schedstat` of each thread
(https://docs.kernel.org/scheduler/sched-stats.html). Where there are none, what was run counts alone.
"""

from __future__ import annotations

import time
from pathlib import Path

_THREAD = Path("/proc/thread-self")
_THREADS = Path("/proc/self/task")


def busy_s() -> float:
    """Seconds that this thread has been busy."""
    running, ready = _schedule_of(_THREAD)
    return (running + ready) / 1e9 if running else time.thread_time()


class Waits:
    """Seconds that all threads together were ready to run and kept from it; it can be more than one second a second.

    What is not seen: the last waits of a thread that has ended, and the first of one that has got its number.
    """

    def __init__(self) -> None:
        self._ready: dict[str, int] = {}  # nanoseconds, by thread
        self._waited = 0

    def __call__(self) -> float:
        """As of now; grows. 0 where there is no such account."""
        before = self._ready
        self._ready = {thread.name: max(before.get(thread.name, 0), _schedule_of(thread)[1]) for thread in _threads()}
        self._waited += sum(ready - before.get(thread, 0) for thread, ready in self._ready.items())
        return self._waited / 1e9


def _threads() -> list[Path]:
    try:
        return list(_THREADS.iterdir())
    except OSError:
        return []


def _schedule_of(thread: Path) -> tuple[int, int]:
    """Nanoseconds that a thread has run, and that it waited for a processor; 0 where that is not to be had."""
    try:
        running, ready, _ = (thread / "schedstat").read_text("ascii").split()
        return int(running), int(ready)
    except (OSError, ValueError):
        return 0, 0
