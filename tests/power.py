"""The power fails: a copy of the state's files as they were at one moment, and write-ahead logs of which the end is missing.

What a log holds after a power cut is a beginning of what was written to it: at least what was flushed (a commit with
synchronous=FULL, a checkpoint), and of the rest as many frames as are whole, since each one's checksum builds on those before.
Source: https://www.sqlite.org/wal.html, https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import struct
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from heavysync.state import database
from heavysync.state.database import Database

_HEADER = 32
_FRAME_HEADER = 24
_BACKFILL = 96  # where the index of the log says how many frames are in the database already


class PowerCutError(Exception):
    """The machine is off."""


class Power:
    """Counts what is done in databases, and fails at one of them. Made by `watch_power`."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.done = 0
        self.at = 0
        self.state = self.saved = Path()
        self.flushed: dict[str, tuple[bytes, int]] = {}

    def arm(self, state: Path, at: int) -> None:
        """Fail at the `at`-th piece of work, counted from now; the files are saved beside `state`. 0: never."""
        self.state, self.saved = state, state.with_name("saved")
        shutil.rmtree(self.saved, ignore_errors=True)
        self.done, self.at, self.flushed = 0, at, {}

    def held(self, work: Callable[[sqlite3.Connection], Any], *, flushes: bool) -> Callable[[sqlite3.Connection], Any]:
        """One piece of work, with all others waiting, so that a copy of the files fits together."""

        def run(db: sqlite3.Connection) -> Any:
            with self.lock:
                self.done += 1
                if self.at and self.done == self.at:
                    shutil.copytree(self.state, self.saved)
                if self.at and self.done >= self.at:
                    raise PowerCutError
                answer = work(db)
                if flushes or db.execute("PRAGMA synchronous").fetchone() == (2,):
                    self._flush(db)
                return answer

        return run

    def _flush(self, db: sqlite3.Connection) -> None:
        """All that is in the log of this database has reached the disk."""
        path = Path(db.execute("PRAGMA database_list").fetchone()[2])
        wal = wal_of(path)
        if wal.exists():
            self.flushed[path.name] = salt(wal), wal.stat().st_size

    def restore(self, chance: random.Random, *, honest: bool) -> dict[str, str]:
        """Put the saved files back as a power cut may leave them; answer what happened to which.

        Args:
            chance: draws how.
            honest: what was flushed is there; else only what reached the database itself is sure.
        """
        shutil.rmtree(self.state)
        self.saved.rename(self.state)
        told = {}
        for path in sorted(self.state.rglob("*.db")):
            wal = wal_of(path)
            if wal.exists() and wal.stat().st_size > _HEADER:
                sure = _backfilled(path)
                mark, size = self.flushed.get(path.name, (b"", 0))
                if honest and mark == salt(wal):
                    sure = max(sure, frames(wal, size))
                told[path.name] = cut(wal, chance, sure)
            path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
        return told


def wal_of(path: Path) -> Path:
    """The write-ahead log of a database."""
    return path.with_name(f"{path.name}-wal")


def salt(wal: Path) -> bytes:
    """Tells one beginning of a log from the next."""
    with wal.open("rb") as file:
        return file.read(_HEADER)[16:24]


def page_size(wal: Path) -> int:
    """Bytes of a page."""
    return int(struct.unpack(">I", wal.read_bytes()[8:12])[0])


def frames(wal: Path, size: int | None = None) -> int:
    """Whole frames in the first `size` bytes of a log."""
    size = wal.stat().st_size if size is None else size
    return max(0, size - _HEADER) // (_FRAME_HEADER + page_size(wal))


def _backfilled(path: Path) -> int:
    index = path.with_name(f"{path.name}-shm")
    data = index.read_bytes() if index.exists() else b""
    return int(struct.unpack("=I", data[_BACKFILL : _BACKFILL + 4])[0]) if len(data) > _BACKFILL + 4 else 0


def cut(wal: Path, chance: random.Random, sure: int) -> str:
    """Take a random end off a log, but for its first `sure` frames; answer what was done."""
    step = _FRAME_HEADER + page_size(wal)
    count = frames(wal)
    if sure >= count:
        return "whole"
    kept = chance.randint(sure, count)
    at = _HEADER + kept * step
    how = chance.choice(("boundary", "torn", "zeros", "hole"))
    data = wal.read_bytes()
    if how == "torn" and kept < count:
        data = data[: at + chance.randrange(1, step)]
    elif how == "zeros":
        data = data[:at] + bytes(len(data) - at)
    elif how == "hole" and kept < count:
        data = data[:at] + bytes(step) + data[at + step :]
    else:
        data = data[:at]
    wal.write_bytes(data)
    return f"{how}: {kept} of {count} frames"


def watch_power(monkeypatch: pytest.MonkeyPatch, *, autocheckpoint: int) -> Power:
    """Watch all databases of the process; checkpoints happen every so many pages, or never (0)."""
    watched = Power()
    run, sync, syncing = Database._run, Database.sync, set()

    async def counted(self: Database, work: Callable[[sqlite3.Connection], Any]) -> Any:
        return await run(self, watched.held(work, flushes=self in syncing))

    async def flushed(self: Database) -> None:
        syncing.add(self)
        await sync(self)
        syncing.discard(self)

    class Guarded(sqlite3.Connection):
        def close(self) -> None:  # it empties the log into the database
            with watched.lock:
                super().close()

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Guarded))
    monkeypatch.setattr(Database, "_run", counted)
    monkeypatch.setattr(Database, "sync", flushed)
    pragmas = database._PRAGMAS.replace("wal_autocheckpoint = 4000", f"wal_autocheckpoint = {autocheckpoint}")
    assert pragmas != database._PRAGMAS
    monkeypatch.setattr(database, "_PRAGMAS", pragmas)
    return watched
