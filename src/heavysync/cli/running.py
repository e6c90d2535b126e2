"""One event loop, two signals, one exit code: how a command runs."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

from heavysync.cli.console import Console
from heavysync.errors import RunError

INTERNAL_ERROR = 3
"""Exit code of a defect in the program itself: the run cannot go on, what was committed stays."""


STOPPING = "stopping: what is under way is finished and recorded; once more to stop at once"


def run(main: Callable[[asyncio.Event], Coroutine[Any, Any, int]], console: Console, *, stopping: str = STOPPING) -> int:
    """Run `main` and answer its exit code.

    The first SIGINT or SIGTERM sets the event that `main` is given, so that it drains and commits; the second cancels it.
    After a signal the exit code is 130 or 143, unless `main` had ended by itself.
    """
    caught: list[int] = []

    async def body() -> int:
        stop = asyncio.Event()
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()

        def on_signal(number: int) -> None:
            caught.append(number)
            if len(caught) == 1:
                console.note(stopping)
                stop.set()
            elif task is not None:
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal, number)
        return _signalled(await main(stop), caught)

    # A page makes thousands of rows and a request dozens of objects, hardly any of them in cycles: looking for cycles as
    # often as by default costs a sixth of the CPU of a copy (measured).
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(body())
    except RunError as error:
        console.error(str(error))
        return _signalled(error.exit_code, caught)
    except BrokenPipeError:  # whoever read our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (asyncio.CancelledError, KeyboardInterrupt):
        console.note("stopped at once; what was committed is kept")
        return 128 + (caught[0] if caught else signal.SIGINT)
    except Exception as error:  # noqa: BLE001 - the last line of defence of a command
        logging.getLogger("heavysync").debug("%s", traceback.format_exc())
        console.error(f"defect in heavysync: {type(error).__name__}: {error}; what was committed is kept (-vv tells more)")
        return INTERNAL_ERROR


def _signalled(code: int, caught: list[int]) -> int:
    """130 becomes 143 where it was SIGTERM."""
    return 128 + caught[0] if caught and code == 128 + signal.SIGINT else code


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def set_up_logging(verbose: int) -> None:
    """Send heavysync's log to stderr: warnings, with -v what it does, with -vv every request."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    log = logging.getLogger("heavysync")
    log.addHandler(handler)
    log.setLevel(level)
