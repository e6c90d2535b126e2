"""The commands as people start them: a process with a clean environment, its exit code and what it said."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from warm import Nursery

TIMEOUT_S = 120.0
IS_WARM = sys.platform == "linux" and not os.environ.get("COLD")
"""Whether commands that are only run to their end are started warm; COLD=1 starts all of them as users do."""

_MAIN = {"heavy-sync": "sync_main", "heavy-check": "check_main", "heavy-demo": "demo_main"}
_ALWAYS = {"PYTHONUNBUFFERED": "1"}
_LATE = ("AWS_", "CLOUDSDK_", "GOOGLE_", "HOME", "XDG_")
_KEPT = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "SYSTEMROOT", "TMPDIR", "COVERAGE_PROCESS_START")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """All of its output."""
        return self.out + self.err

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The JSON lines of `--json`."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def summary(self) -> dict[str, Any]:
        """The last JSON line, which must be the summary."""
        last = self.lines[-1]
        assert last["event"] == "summary", self
        return last

    def refused(self, code: int, pattern: str) -> None:
        """Assert that it ended with `code` and one clear message."""
        assert code == self.code, self
        assert re.search(pattern, self.err), self
        assert "Traceback" not in self.said, self
        assert "defect in heavysync" not in self.said, self


def program(name: str = "heavy-sync") -> list[str]:
    """The installed console script, or the same by way of the interpreter."""
    script = Path(sysconfig.get_path("scripts")) / name
    if script.exists():
        return [str(script)]
    main = _MAIN[name]
    return [sys.executable, "-c", f"from heavysync.cli import {main}; {main}()"]


def environment(home: Path, *more: Mapping[str, str]) -> dict[str, str]:
    """What a fresh user's processes see: nothing of this machine's settings, and no credentials but those given."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    own = {
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "AWS_EC2_METADATA_DISABLED": "true",
        **_ALWAYS,
    }
    return {**kept, **own, **{name: value for mapping in more for name, value in mapping.items()}}


@cache
def _nursery() -> Nursery:
    """The one of this process."""
    return Nursery({name: os.environ[name] for name in _KEPT if name in os.environ} | _ALWAYS)


def _is_late(env: Mapping[str, str]) -> bool:
    """Whether all that differs from the nursery's environment is read by the commands, and nothing of it by Python or the system."""
    return all(_ALWAYS.get(name, os.environ.get(name)) == value for name, value in env.items() if not name.startswith(_LATE))


@dataclass(slots=True)
class Command:
    """A program with its environment and the words that every call of a test has in common.

    Args:
        env: see `environment`.
        words: put before the words of each call.
        name: of the program.
    """

    env: dict[str, str]
    words: tuple[str, ...] = ()
    name: str = "heavy-sync"

    def __call__(self, *words: object, preexec: Callable[[], None] | None = None, **env: str) -> Ended:
        """Run it to its end; by a warm start, unless `preexec` or the environment change the start itself."""
        whole = {**self.env, **env}
        if preexec is not None or not IS_WARM or not _is_late(whole):
            return ended(self.start(*words, preexec=preexec, **env))
        argv = [self.program()[0], *self.words, *map(str, words)]
        how = {"main": _MAIN[self.name], "argv": argv, "env": whole, "cwd": self.env["HOME"]}
        code, out, err = _nursery().run(how, TIMEOUT_S)
        assert code is not None, f"it did not end by itself: {out}\n{err}"
        return Ended(code=code, out=out, err=err)

    def program(self) -> list[str]:
        """The words that start it."""
        return program(self.name)

    def start(self, *words: object, preexec: Callable[[], None] | None = None, **env: str) -> subprocess.Popen[str]:
        """Start it; `ended` waits for it, `watched` ends it."""
        return subprocess.Popen(
            [*self.program(), *self.words, *map(str, words)],
            env={**self.env, **env},
            cwd=self.env["HOME"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            preexec_fn=preexec,
        )


def ended(process: subprocess.Popen[str]) -> Ended:
    """Wait for a process; it is killed if it takes far too long."""
    try:
        out, err = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"it did not end by itself: {out}\n{err}") from None
    return Ended(code=process.returncode, out=out, err=err)


@contextlib.contextmanager
def watched(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Kill the process at the end of the block if it still runs."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> bool:
    """Wait for a condition; answer False if the process ended first."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if process is not None and process.poll() is not None:
            return condition()
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.005)
    return True


def peak_kib(process: subprocess.Popen[str]) -> tuple[Ended, int]:
    """Wait for a process and tell the most memory that it had resident, in KiB.

    `ru_maxrss` is of no use on Linux: a new process starts with the peak of the one that started it. So what the kernel
    tells of the process itself is looked at until it ends.
    """
    peaks = [0]

    def look() -> None:
        while (peak := _peak_now(process.pid)) is not None:
            peaks.append(peak)
            time.sleep(0.01)

    looking = threading.Thread(target=look)
    looking.start()
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(process.stdout).read() if process.stdout else ""
        err = stack.enter_context(process.stderr).read() if process.stderr else ""
    _, status, usage = os.wait4(process.pid, 0)
    looking.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    peak = usage.ru_maxrss // 1024 if sys.platform == "darwin" else max(peaks)
    return Ended(code=process.returncode, out=out, err=err), peak


def _peak_now(pid: int) -> int | None:
    """The most memory that a process has had resident since it began its program; None: it has ended, or this is no Linux."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) if found else None


def no_larger_files_than(size: int) -> Callable[[], None]:
    """For `preexec`: writes beyond `size` bytes of a file fail, as they do on a full disk."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
