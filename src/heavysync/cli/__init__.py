"""The commands: words to options, events to the terminal, outcomes to exit codes. The only place that knows a terminal."""

from __future__ import annotations

import gc
import os
import sys


def sync_main() -> None:
    """`heavy-sync`."""
    _start()
    from heavysync.cli.sync import app

    app(prog_name="heavy-sync")


def check_main() -> None:
    """`heavy-check`."""
    _start()
    from heavysync.cli.check import app

    app(prog_name="heavy-check")


def demo_main() -> None:
    """`heavy-demo`."""
    from heavysync.cli.demo import app

    app(prog_name="heavy-demo")


def _start() -> None:
    """Get ready to import the rest: nothing of that is garbage (looking for it costs a fortieth of a start)."""
    gc.disable()  # until `looping.calm_collector`
    _open_streams()


def _open_streams() -> None:
    """Give a process that was started with closed standard streams (`>&-`, some daemons) something to write to.

    Else the first files and sockets that it opens would be taken for them.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
