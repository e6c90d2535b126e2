"""One event loop, two signals, one exit code: how a command runs."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

from heavysync.cli import words
from heavysync.cli.console import Console, mute
from heavysync.errors import RunError
from heavysync.looping import calm_collector, leave_garbage, loop_factory

INTERNAL_ERROR = 3
"""Exit code of a defect in the program itself: the run cannot go on, what was committed stays."""

LEAVE_S = 1.0
"""Seconds that closing the loop may take: it waits for threads, and one that looks a name up may hang for a minute."""

LOST_OUTPUT = 3
"""Exit code where all went well but nobody can read it."""


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
                stop.set()
                console.note(stopping)
            elif task is not None:
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal, number)
        return _signalled(await main(stop), caught)

    calm_collector()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        code = _end(runner, body(), caught, console)
        console.settle()
        if console.lost:
            console.error(f"{console.lost}; what was done is done, what was committed is kept")
        code = code or (LOST_OUTPUT if console.lost else 0)
        leaving = threading.Timer(LEAVE_S, os._exit, (code,))
        leaving.daemon = True
        leaving.start()
    leaving.cancel()
    leave_garbage()
    return code


def _end(runner: asyncio.Runner, body: Coroutine[Any, Any, int], caught: list[int], console: Console) -> int:
    """Run `body` to its end; whatever happens to it becomes words and an exit code."""
    try:
        return runner.run(body)
    except RunError as error:
        console.error(str(error))
        return _signalled(error.exit_code, caught)
    except BrokenPipeError:  # whoever read our output has gone, as `| head` does
        mute(sys.stdout)
        return 128 + signal.SIGPIPE
    except (asyncio.CancelledError, KeyboardInterrupt):
        console.note("stopped at once; what was committed is kept")
        return 128 + (caught[0] if caught else signal.SIGINT)
    except Exception as error:  # noqa: BLE001 - the last line of defence of a command
        for line in traceback.format_exc().splitlines():
            logging.getLogger("heavysync").debug("%s", line)
        console.error(f"defect in heavysync: {type(error).__name__}: {error}; what was committed is kept (-vv tells more)")
        return INTERNAL_ERROR


def _signalled(code: int, caught: list[int]) -> int:
    """130 becomes 143 where it was SIGTERM."""
    return 128 + caught[0] if caught and code == 128 + signal.SIGINT else code


class _Plain(logging.Formatter):
    """One record, one line, and nothing in it that a terminal would obey."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        return words.plain(super().formatMessage(record))


def set_up_logging(verbose: int) -> None:
    """Send heavysync's log to stderr: warnings, with -v what it does, with -vv every request."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    # what it warns of is told by our own errors; Python would print it with a traceback
    logging.getLogger("aiobotocore").addHandler(logging.NullHandler())
    log = logging.getLogger("heavysync")
    log.addHandler(handler)
    log.setLevel(level)
