"""Runs over several processes, with ranges so small that each process has some; and a look at these processes (Linux)."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

from commands import Command, ended, Ended

_SMALL = """
from heavysync.options import SyncOptions
SyncOptions.__init__.__kwdefaults__.update(first_rows=%d, range_rows=%d, ranges_at_once=2)
from heavysync.cli import sync_main
sync_main()
"""


class SmallRanges(Command):
    """`heavy-sync` as installed, but for the sizes of ranges, which no option sets."""

    first_rows = 30
    range_rows = 60

    def program(self) -> list[str]:
        """See `Command`."""
        return [sys.executable, "-c", _SMALL % (self.first_rows, self.range_rows)]

    def __call__(self, *words: object, **how: Any) -> Ended:
        """See `Command`."""
        return ended(self.start(*words, **how))


def children_of(pid: int) -> list[int]:
    """The live processes that a process has started, oldest first."""
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return sorted(number for number in numbers if (stat := _stat(number)) and stat[1] == str(pid) and stat[0] != "Z")


def is_alive(pid: int) -> bool:
    """Whether a process has not ended; a zombie has."""
    stat = _stat(pid)
    return stat is not None and stat[0] != "Z"


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal."""
    stat = _stat(pid)
    return stat is not None and stat[0] == "T"


def _stat(pid: int) -> list[str] | None:
    """State, parent and so on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return None


def kill(pid: int) -> None:
    """SIGKILL, unless it has just ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def words_of(pid: int) -> str:
    """The command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace")
