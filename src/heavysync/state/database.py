"""One SQLite file: opened safely, written in whole transactions, its troubles told in plain words.

Every read and every write is one function that runs in the database's own thread; a write is one transaction, all or
nothing, but for `write_each`, also when the caller is cancelled meanwhile (then it still happens, as a whole). Nothing
here waits for a network.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

import aiosqlite

from heavysync.errors import FatalError

T = TypeVar("T")

# cache_size: KiB for each open file, of which a process has up to 32. 2,000 instead took 13 MiB more for eight of them, 18 for
# twenty; lists, comparisons and copies of 100,000 to 2,000,000 objects took the same CPU: lists go through a file in its
# order, and neighbours are claimed together. Claims of keys of 300 bytes read twice as many pages, if from the system's memory.
_PRAGMAS = """
PRAGMA busy_timeout = 10000;
PRAGMA synchronous = NORMAL;
PRAGMA cache_size = -500;
PRAGMA temp_store = MEMORY;
PRAGMA journal_size_limit = 67108864;
PRAGMA wal_autocheckpoint = 4000;
"""

_BUSY_S = 10.0

APPLICATION_ID = 0x48537963
"""Marks a file as heavysync's (`file` and SQLite show it)."""

_ADVICE = {
    "SQLITE_FULL": "the disk is full: make room and start again, nothing that was committed is lost",
    "SQLITE_IOERR_CORRUPTFS": "the file system is damaged: mend it and start again",
    "SQLITE_IOERR": (
        "the disk reports errors (or a quota or a limit on file sizes is reached): mend that and start again, "
        "nothing that was committed is lost"
    ),
    "SQLITE_READONLY": "it cannot be written: check its permissions",
    "SQLITE_CANTOPEN": "it cannot be opened: check the permissions of the state directory, and the room on its disk",
    "SQLITE_NOTADB": "it is not a state file of heavysync: ",
    "SQLITE_CORRUPT": "the file is damaged, or the disk cannot read it: ",
    "SQLITE_BUSY": "another program holds it locked",
}
_MOVE_AWAY = "move it away and start again: "
_LOST = {
    True: "both sides are listed anew, and the record of earlier runs and checks is lost",
    False: "the keys that it spoke for are listed anew",
}
"""What it means to do without a file, by whether it is job.db. A file of a range may be missing at any time."""


class Database:
    """An open database file. Made by `open_database`.

    Args:
        path: of the file, for messages.
        connection: owned by `open_database`.
    """

    def __init__(self, path: Path, connection: aiosqlite.Connection) -> None:
        self.path = path
        self._connection = connection

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in the database's thread; it must only read, and fetch all it wants.

        Raises:
            FatalError: SQLite failed.
        """
        return await self._run(work)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` as one transaction in the database's thread.

        Raises:
            FatalError: SQLite failed; nothing of it was written.
        """

        def transaction(db: sqlite3.Connection) -> T:
            db.execute("BEGIN IMMEDIATE")
            try:
                answer = work(db)
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")
            return answer

        return await self._run(transaction)

    async def write_each(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in the database's thread, each statement a transaction of its own; what was written before an error stays.

        For one statement, or several that do not depend on each other: to begin and to commit are two more, and each
        has to get the interpreter back from a busy event loop some times.

        Raises:
            FatalError: SQLite failed.
        """
        return await self._run(work)

    async def sync(self) -> None:
        """Make sure that all that was committed survives a power cut, before another file builds on it."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("PRAGMA synchronous = FULL")
            try:
                db.execute("BEGIN IMMEDIATE")
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")  # a commit has to write something to be synced
                db.execute("COMMIT")
            finally:
                db.execute("PRAGMA synchronous = NORMAL")
            sync_directory(self.path.parent)  # SQLite does it only where this very process had made the file of the WAL

        await self._run(work)

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connection
        try:
            # aiosqlite's public calls are one statement each; a transaction that survives a cancelled caller has to be
            # one job for its thread. tests/state/test_database.py holds both private names.
            return await connection._execute(work, connection._conn)  # type: ignore[no-any-return,no-untyped-call]  # noqa: SLF001
        except (sqlite3.Error, json.JSONDecodeError) as error:
            raise trouble(self.path, error) from error


@asynccontextmanager
async def open_database(path: Path, migrations: Sequence[str], *, durable: bool = False) -> AsyncIterator[Database]:
    """Open or make a database file (mode 0600) and bring its schema up to date.

    Args:
        path: the file.
        migrations: names of SQL files beside this one; the n-th brings version n-1 to version n.
        durable: every commit survives a power cut, at the price of a flush to the disk.

    Raises:
        FatalError: the file is newer than this program, damaged, no database, or the disk fails.
    """
    try:
        # Only if it is new: whoever closes a file loses all locks of his process on it, also those of SQLite's connections
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise FatalError(f"{path}: {error.strerror}: check the state directory") from error
    opener = _Opener(path)
    connection = aiosqlite.Connection(opener, iter_chunk_size=64)
    try:
        async with connection:
            database = Database(path, connection)
            await database.read(lambda db: _prepare(db, path, migrations))
            if durable:
                await database.read(lambda db: db.execute("PRAGMA synchronous = FULL").fetchall())
            yield database
    finally:
        opener.close()
        # Who was cancelled while it opened leaves a thread that answers later, and would find the loop closed: a traceback.
        if connection._thread.is_alive():  # noqa: SLF001
            connection._thread.join()  # noqa: SLF001 - it has nothing more to do than to open and to close


def peek(path: Path, work: Callable[[sqlite3.Connection], T]) -> T:
    """Run `work`, which only reads, in one transaction on a file that others may be writing; in this thread.

    Raises:
        FatalError: SQLite failed, or there is no such file.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)) as db:
            db.isolation_level = None
            db.execute("BEGIN")
            return work(db)
    except sqlite3.Error as error:
        raise trouble(path, error) from error


class _Opener:
    """Opens a file in aiosqlite's thread, and sees to it that it is closed even if nobody waited for it to open.

    aiosqlite 0.22 forgets a connection whose opening was cancelled.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: list[sqlite3.Connection] = []
        self._is_closed = False

    def __call__(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._opened.append(db)
        if self._is_closed:
            db.close()
        return db

    def close(self) -> None:
        """Close what was opened, also what is still to be; to close twice does no harm."""
        self._is_closed = True
        for db in self._opened:
            db.close()


def _prepare(db: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    db.executescript(_PRAGMAS)
    _use_wal(db)
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(migrations):
        raise FatalError(
            f"{path} was written by a newer heavysync (schema {version}, this one knows {len(migrations)}): "
            "use that version, or another --state directory"
        )
    if version:
        _verify(db, path)
    for number, name in list(enumerate(migrations, 1))[version:]:
        script = files("heavysync.state").joinpath(name).read_text("utf-8")
        try:
            db.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
        except sqlite3.Error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            if db.execute("PRAGMA user_version").fetchone()[0] < number:  # else another process was faster
                raise


def _verify(db: sqlite3.Connection, path: Path) -> None:
    """Look a file through before anything is concluded from it: 0.1-0.9 s for 250,000 keys.

    Without that SQLite would notice a damaged page when it is needed, or, if rows are missing from it, never.

    Raises:
        FatalError: it is damaged.
    """
    (found,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise damaged(path, found.splitlines()[-1])


def _use_wal(db: sqlite3.Connection) -> None:
    """Switch to WAL. While another process does the same, SQLite answers "busy" at once, whatever the timeout is."""
    for left in range(1000, -1, -1):
        try:
            db.execute("PRAGMA journal_mode = WAL").fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or not left:
                raise
            time.sleep(0.01)
        else:
            return


def trouble(path: Path, error: sqlite3.Error | json.JSONDecodeError) -> FatalError:
    """Say what an SQLite error means for the person who runs the program."""
    name = getattr(error, "sqlite_errorname", None)
    if name is None and isinstance(error, (sqlite3.OperationalError, json.JSONDecodeError)):  # a text that is none
        return damaged(path, str(error))
    advice = next((text for prefix, text in _ADVICE.items() if (name or "").startswith(prefix)), "")
    if advice.endswith(": "):
        return damaged(path, str(error), advice)
    return FatalError(f"state file {path}: {error}" + (f": {advice}" if advice else ""))


def damaged(path: Path, what: str, why: str = _ADVICE["SQLITE_CORRUPT"]) -> FatalError:
    """Say that a file cannot be used, and what it takes to go on without it."""
    return FatalError(f"state file {path}: {what}: {why}{_MOVE_AWAY}{_LOST[path.name == 'job.db']}")


def sync_directory(directory: Path) -> None:
    """Make sure that files which were made or removed in a directory are so after a power cut, too.

    Raises:
        FatalError: the disk fails.
    """
    try:
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise FatalError(f"state directory {directory}: {error.strerror}: mend its disk and start again") from error
