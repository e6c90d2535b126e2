"""What is too much: destination objects of one range that the source did not list, and versions that are too old."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Literal, NamedTuple

from heavysync.objects import ObjectInfo, VersionCursor
from heavysync.state.bulk import fetch_at_once, update_keys
from heavysync.state.database import Database
from heavysync.state.inventory import EXTRA


class ExtraOutcome(NamedTuple):
    """What became of one extra object.

    Attributes:
        key: which.
        status: "deleted", "kept" (the source has it again) or "failed".
        code: short and stable; only where it failed.
        message: in words; only where it failed.
    """

    key: str
    status: Literal["deleted", "kept", "failed"]
    code: str | None = None
    message: str | None = None


PurgeStep = Literal["versions", "markers", "done"]


class PurgeProgress(NamedTuple):
    """How far purging has come.

    Attributes:
        cursor: the last row of versions dealt with.
        markers_seen: a live delete marker was met, so a second look for expired ones is due.
        purged: versions deleted so far.
        failed: versions that could not be deleted.
        step: what is to be done next; a page, or a look for markers, that was saved is not looked at again.
    """

    cursor: VersionCursor | None
    markers_seen: bool
    purged: int
    failed: int
    step: PurgeStep = "versions"


class PurgeFailure(NamedTuple):
    """A version that could not be deleted.

    Attributes:
        key: whose.
        version: which.
        code: short and stable.
        message: in words.
    """

    key: str
    version: str
    code: str
    message: str


PURGE_FAILURES = 1000
"""Versions that are named at most; more of them are counted."""


_WIDTH = len(ObjectInfo._fields)
PENDING = """
SELECT d.*
  FROM extra AS e INDEXED BY extra_pending
  JOIN destination AS d ON d.key = e.key
 WHERE e.status = 'pending' AND (?1 IS NULL OR e.key > ?1)
 ORDER BY e.key
 LIMIT ?2
"""


class Extras:
    """The surplus in a range's file.

    Args:
        db: the open file.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    async def find(self) -> None:
        """Write down, once, which destination objects the source did not list."""

        def work(db: sqlite3.Connection) -> None:
            (found,) = db.execute("SELECT extra_found FROM progress").fetchone()
            if not found:
                db.execute(f"INSERT INTO extra (key) {EXTRA}")
                db.execute("UPDATE progress SET extra_found = 1")

        await self._db.write(work)

    async def pending(self, after: str | None, limit: int) -> list[ObjectInfo]:
        """Up to `limit` extra objects not settled yet, above `after`, by key, as they were listed."""

        def work(db: sqlite3.Connection) -> list[ObjectInfo]:
            return [ObjectInfo._make(row) for row in fetch_at_once(db, PENDING, _WIDTH, (after, limit))]

        return await self._db.read(work)

    async def settle(self, outcomes: Sequence[ExtraOutcome]) -> None:
        """Record what became of extra objects."""
        alike: dict[Literal["deleted", "kept"], list[str]] = {"deleted": [], "kept": []}
        failed = []
        for outcome in outcomes:
            if outcome.status == "failed":
                failed.append((outcome.code, outcome.message, outcome.key))
            else:
                alike[outcome.status].append(outcome.key)

        def work(db: sqlite3.Connection) -> None:
            for status, keys in alike.items():
                update_keys(db, f"status = '{status}'", "status = 'pending'", keys, "extra")
            db.executemany(
                "UPDATE extra SET status = 'failed', code = ?, message = ? WHERE key = ? AND status = 'pending'", failed
            )

        await self._db.write(work)

    async def take_up(self) -> None:
        """Make those pending again that could not be deleted."""
        await self._db.write(
            lambda db: db.execute("UPDATE extra SET status = 'pending', code = NULL, message = NULL WHERE status = 'failed'")
        )

    async def failures(self, limit: int) -> list[ExtraOutcome]:
        """Up to `limit` extra objects that could not be deleted."""

        def work(db: sqlite3.Connection) -> list[ExtraOutcome]:
            rows = db.execute(
                "SELECT key, status, code, message FROM extra WHERE status = 'failed' ORDER BY key LIMIT ?",
                (limit,),
            ).fetchall()
            return [ExtraOutcome(*row) for row in rows]

        return await self._db.read(work)

    async def purge_progress(self) -> PurgeProgress:
        """How far purging has come."""

        def work(db: sqlite3.Connection) -> PurgeProgress:
            key, version, modified, markers, purged, failed, step = db.execute(
                "SELECT purge_key, purge_version, purge_modified, markers_seen, purged, purge_failed, purge_step FROM progress"
            ).fetchone()
            cursor = None if key is None else VersionCursor(key, version, modified)
            return PurgeProgress(cursor, bool(markers), purged, failed, step)

        return await self._db.read(work)

    async def purge_failures(self, limit: int) -> list[PurgeFailure]:
        """Up to `limit` versions that could not be deleted."""

        def work(db: sqlite3.Connection) -> list[PurgeFailure]:
            rows = db.execute("SELECT key, version, code, message FROM purge_failure ORDER BY key LIMIT ?", (limit,))
            return [PurgeFailure(*row) for row in rows]

        return await self._db.read(work)

    async def purge_again(self) -> None:
        """Begin purging from the first version again, if some could not be deleted or it was done; `purged` counts on."""

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE progress SET purge_key = NULL, purge_version = NULL, purge_modified = NULL, markers_seen = 0,"
                " purge_failed = 0, purge_step = 'versions' WHERE purge_failed > 0 OR purge_step = 'done'"
            )
            db.execute("DELETE FROM purge_failure")  # where none of them is counted, there is none

        await self._db.write(work)

    async def save_purge(self, progress: PurgeProgress, failures: Sequence[PurgeFailure] = ()) -> None:
        """Record how far purging has come, and what could not be deleted on the way."""
        cursor = progress.cursor or (None, None, None)
        row = (*cursor, progress.markers_seen, progress.purged, progress.failed, progress.step)

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE progress SET purge_key = ?, purge_version = ?, purge_modified = ?,"
                " markers_seen = ?, purged = ?, purge_failed = ?, purge_step = ?",
                row,
            )
            (named,) = db.execute("SELECT count(*) FROM purge_failure").fetchone()
            rows = failures[: max(0, PURGE_FAILURES - named)]
            db.executemany("INSERT OR REPLACE INTO purge_failure VALUES (?, ?, ?, ?)", rows)

        await self._db.write(work)
