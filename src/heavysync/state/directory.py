"""The state directory of one (source, destination) pair: where it is, who owns it, who may read it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from heavysync.errors import FatalError
from heavysync.objects import Location


def default_directory(source: Location, destination: Location, state_home: Path) -> Path:
    """The directory of a pair below the user's state directory: readable, and unique by a hash."""
    pair = f"{source}\n{destination}"
    words = re.sub(r"[^A-Za-z0-9.-]+", "-", f"{source}-to-{destination}").strip("-")[:80]
    return state_home / "heavysync" / f"{words}-{hashlib.sha256(pair.encode()).hexdigest()[:12]}"


@contextmanager
def owned(directory: Path, role: Literal["run", "check"] = "run") -> Iterator[int]:
    """Make the directory if need be (mode 0700) and own it in this role for the time of the block.

    A run owns the plan and the files of ranges, a check the inspections; one of each may be under way. The lock is the
    kernel's, so a killed owner leaves none behind; the file only tells who holds it. The answer is the locked descriptor: a
    process that inherits it holds the lock, too, so nobody else owns the directory before all of these have ended.

    Raises:
        FatalError: somebody else owns it (the message says who, where that can be told), or it cannot be written.
    """
    try:
        (directory / "ranges").mkdir(parents=True, exist_ok=True, mode=0o700)
        directory.chmod(0o700)
        handle = os.open(directory / _LOCKS[role], os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FatalError(f"state directory {directory}: {error.strerror}: give another one with --state") from error
    try:
        _lock(handle, directory, role)
        yield handle
    finally:
        os.close(handle)


ORPHANS_S = 5.0
"""Seconds in which the processes that a killed run had started notice that, and end."""

_LOCKS = {"run": "lock", "check": "check.lock"}


def _lock(handle: int, directory: Path, role: str) -> None:
    try:
        until = time.monotonic() + ORPHANS_S
        while not _try_lock(handle):
            pid = os.pread(handle, 20, 0).decode("ascii", "replace").strip() or "unknown"
            has_ended = _has_ended(pid)
            if time.monotonic() > until or not has_ended:
                who = _who(handle, role, pid) if has_ended else f"another {role} (pid {pid}): wait for it, or stop it first"
                raise FatalError(f"state directory {directory} is in use by {who}")
            time.sleep(0.01)
    except OSError as error:
        raise FatalError(
            f"state directory {directory}: {error.strerror}: it needs a file system with locks; give another with --state"
        ) from error
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        raise FatalError(f"state directory {directory}: {error.strerror}: make room and start again") from error


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _who(handle: int, role: str, pid: str) -> str:
    """Who owns the directory, in words, and what to do, when whoever wrote `pid` into the file cannot be seen any more."""
    if holders := _holders(handle):
        pids = ", ".join(map(str, holders))
        return f"processes of a {role} that has ended (pid {pid}): end those that are left, pid {pids}, and start again"
    return f"another {role} (pid {pid}, which is not on this machine), or by processes that it has left behind: end them first"


def _holders(handle: int) -> list[int]:
    """The processes that hold the lock of an open file, where the kernel tells (Linux) and they are ours to look at.

    Source: https://docs.kernel.org/filesystems/proc.html ("/proc/<pid>/fdinfo/<fd>")
    """
    mark = f":{os.fstat(handle).st_ino} "
    return sorted(int(process.name) for process in Path("/proc").glob("[0-9]*") if _holds(process, mark))


def _holds(process: Path, mark: str) -> bool:
    with suppress(OSError):  # it has just ended, or is somebody else's
        for info in (process / "fdinfo").iterdir():
            lines = info.read_text("ascii", "replace").splitlines()
            if any(line.startswith("lock:") and " FLOCK " in line and mark in line for line in lines):
                return True
    return False


def _has_ended(pid: str) -> bool:
    """Whether the process that wrote its number into the file is no more; who has not written it yet has not."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (ValueError, OverflowError, PermissionError):
        return False
    return False
