"""How a process of heavysync runs its event loop: uvloop where it exists, and a calmer search for cycles of garbage."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Makes the event loop; None: Python's own."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def calm_collector() -> None:
    """Look for cycles less often.

    A page makes thousands of rows and a request dozens of objects, hardly any of them in cycles: looking for cycles as
    often as by default costs a sixth of the CPU of a copy (measured).
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()


def leave_garbage() -> None:
    """Look for cycles no more: the process ends, and Python would look twice through all that was ever imported.

    That is a sixth of the CPU of a command that has nothing to do (measured: `bench.py --tasks noop-ten`).
    """
    gc.disable()
    gc.freeze()
