"""The file of one range: opened for a run, made ready to go on or to begin again."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from heavysync.keyspace import KeyRange
from heavysync.state.database import Database, damaged, open_database, peek
from heavysync.state.extras import Extras
from heavysync.state.inventory import Inventory, span_of, trim
from heavysync.state.job import Totals
from heavysync.state.queue import Queue
from heavysync.state.totals import totals_of
from heavysync.state.uploads import Abandoned, abandon

MIGRATIONS = ("range.sql", "uploads.sql", "purge.sql", "parts.sql")
_OF_A_RUN = ("listing", "source", "destination", "transfer", "extra", "progress", "purge_failure", "span")


class RangeState:
    """The open file of a range.

    Args:
        db: the open file.
        run: the run it is opened for.
    """

    def __init__(self, db: Database, run: int) -> None:
        self._db = db
        self.inventory = Inventory(db)
        self.queue = Queue(db, run)
        self.extras = Extras(db)
        self.abandoned = Abandoned(db)

    async def totals(self) -> Totals:
        """What the file adds up to."""
        return await self._db.read(totals_of)

    async def sync(self) -> None:
        """Make sure that all that was recorded survives a power cut."""
        await self._db.sync()


@asynccontextmanager
async def open_range(
    path: Path, *, run: int, span: KeyRange, parent: Path | None = None, listed: bool = False
) -> AsyncIterator[RangeState]:
    """Open or make the file of a range.

    A file of an earlier run is emptied but for its proofs and abandoned uploads. A file of this run goes on: what was
    claimed is pending again, and if the plan ended the range earlier than the file knows, rows beyond that are dropped. A
    new file takes over the proofs of its span from `parent`, the file of the range it was split from.

    With `listed`, the plan says that both listings of this run are complete: then a file that does not bear that out was
    tampered with or lost, and nothing may be concluded from it.

    Raises:
        FatalError: see `open_database`; or the file does not fit the plan.
    """
    async with open_database(path, MIGRATIONS) as db:
        if listed:
            await db.read(lambda connection: _check_listed(connection, path, run, span))
        if parent is not None:
            await db.read(lambda connection: _inherit(connection, parent, span))
        await db.write(lambda connection: _make_ready(connection, run, span))
        yield RangeState(db, run)


def is_of_run(path: Path, run: int) -> bool:
    """Whether the file of a range is there, and was begun by a run.

    Raises:
        FatalError: it cannot be read.
    """

    def work(db: sqlite3.Connection) -> bool:
        known = span_of(db)
        return known is not None and known[0] == run

    return path.exists() and peek(path, work)


def _make_ready(db: sqlite3.Connection, run: int, span: KeyRange) -> None:
    known = span_of(db)
    if known is not None and known[0] == run and _covers(known[1], span):
        if span.hi is not None and known[1].hi != span.hi:
            trim(db, span.hi)
        db.execute("UPDATE transfer SET status = 'pending' WHERE status = 'claimed'")
        return
    abandon(db, "TRUE")
    for table in _OF_A_RUN:
        db.execute(f"DELETE FROM {table}")
    db.execute("INSERT INTO span VALUES (1, ?, ?, ?)", (run, span.lo, span.hi))
    db.execute("INSERT INTO listing (side) VALUES ('source'), ('destination')")
    db.execute("INSERT INTO progress (one) VALUES (1)")


def _covers(known: KeyRange, planned: KeyRange) -> bool:
    """Whether a file speaks for all keys of a planned range; a narrower one has to begin again."""
    return known.lo == planned.lo and (known.hi is None or (planned.hi is not None and known.hi >= planned.hi))


def _check_listed(db: sqlite3.Connection, path: Path, run: int, span: KeyRange) -> None:
    known = span_of(db)
    (done,) = db.execute("SELECT count(*) FROM listing WHERE done = 1").fetchone()
    if known != (run, span) or done != 2:
        raise damaged(path, "it does not hold the listings that this run made", "")


def _inherit(db: sqlite3.Connection, parent: Path, span: KeyRange) -> None:
    """Copy the proofs of a span from another range's file into a file that belongs to no run yet."""
    if span_of(db) is not None or not parent.exists():
        return
    db.execute("ATTACH DATABASE ? AS parent", (str(parent),))
    try:
        db.execute(
            "INSERT OR IGNORE INTO main.proof SELECT * FROM parent.proof"
            " WHERE (:lo IS NULL OR key > :lo) AND (:hi IS NULL OR key <= :hi)",
            {"lo": span.lo, "hi": span.hi},
        )
    finally:
        db.execute("DETACH DATABASE parent")
