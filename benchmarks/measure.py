"""What a command costs: wall time, CPU-seconds of it and its children, memory of the biggest process and of all."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_SAMPLE_S = 0.05
_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / (1 << 20)
_TAIL = 4000
_PR_SET_CHILD_SUBREAPER = 36


class Cost(NamedTuple):
    """What one run cost.

    Attributes:
        wall_s: seconds from start to end.
        cpu_s: user and system seconds of the process and of all below it.
        biggest_mib: peak resident memory of the biggest process.
        together_mib: peak of the sum over all processes at one moment, sampled 20 times a second; shared pages count often.
        processes: most of them at one moment.
        status: exit code; negative: the signal that ended it; None: it took too long and was ended.
        output: the end of what it printed.
    """

    wall_s: float
    cpu_s: float
    biggest_mib: float
    together_mib: float
    processes: int
    status: int | None
    output: str


class _Watch(threading.Thread):
    """Samples the memory of a process tree."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._ended = threading.Event()
        self.together_mib = 0.0
        self.biggest_mib = 0.0
        self.processes = 1

    def run(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            tree = _tree(self._pid)
            self.processes = max(self.processes, len(tree))
            self.together_mib = max(self.together_mib, sum(map(_resident_mib, tree)))
            self.biggest_mib = max(self.biggest_mib, *map(_peak_mib, tree))

    def end(self) -> None:
        self._ended.set()
        self.join()


def _tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for one in found:
        try:
            for task in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{task}/children") as file:
                    found += map(int, file.read().split())
        except OSError:
            continue  # it ended meanwhile
    return found


def _resident_mib(pid: int) -> float:
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * _PAGE_MIB
    except OSError:
        return 0.0


def _peak_mib(pid: int) -> float:
    """The peak since the process began its program."""
    try:
        with open(f"/proc/{pid}/status") as file:
            return next((int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM")), 0.0)
    except OSError:
        return 0.0


def _biggest_mib(told_kib: int, seen_mib: float) -> float:
    """What the kernel tells at the end, unless it is the peak of this very process, with which its children start."""
    own_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return told_kib / 1024 if told_kib > own_kib * 1.02 or not seen_mib else seen_mib


def _adopt() -> None:
    """Make what a tool leaves running a child of this process, so that its CPU-seconds are told here (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _reap(group: int) -> float:
    """Wait for all that is left of a process group; answers its CPU-seconds."""
    seconds = 0.0
    while True:
        try:
            _, _, usage = os.wait4(-group, 0)
        except ChildProcessError:
            return seconds
        seconds += usage.ru_utime + usage.ru_stime


def run(command: Sequence[str], environment: Mapping[str, str], folder: Path, limit_s: float) -> Cost:
    """Run a command to its end, and measure it."""
    with tempfile.TemporaryFile("w+b") as output:
        _adopt()
        started = time.monotonic()
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        watch = _Watch(process.pid)
        watch.start()
        late = threading.Event()

        def end() -> None:
            late.set()
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(limit_s, end)
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except (KeyboardInterrupt, SystemExit):
            timer.cancel()
            end()
            raise
        wall = time.monotonic() - started
        orphans_s = _reap(process.pid)
        timer.cancel()
        watch.end()
        process.returncode = os.waitstatus_to_exitcode(status)
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - _TAIL))
        text = output.read().decode(errors="replace")
    biggest = _biggest_mib(usage.ru_maxrss, watch.biggest_mib)
    return Cost(
        wall_s=wall,
        cpu_s=usage.ru_utime + usage.ru_stime + orphans_s,
        biggest_mib=biggest,
        together_mib=max(watch.together_mib, biggest),
        processes=watch.processes,
        status=None if late.is_set() else process.returncode,
        output=text,
    )
