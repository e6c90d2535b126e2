"""job.db: the runs of one pair, and the plan of ranges that the next run starts with."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from heavysync.errors import FatalError, UsageError
from heavysync.keyspace import KeyRange, cut
from heavysync.objects import Location
from heavysync.state.checks import Checks
from heavysync.state.database import Database, open_database, sync_directory
from heavysync.state.records import Records, mark_of

Phase = Literal["planned", "copied", "deleted", "purged"]
MIGRATIONS = ("job.sql", "checks.sql", "reopened.sql")


class PlannedRange(NamedTuple):
    """One range of the plan.

    Attributes:
        range: its number.
        span: its keys.
        to_cut: pieces that it should be cut into before it is listed; 0: list it as it is.
        parent: the range it was split from, whose file holds its proofs until it has one of its own.
    """

    range: int
    span: KeyRange
    to_cut: int
    parent: int | None


class Totals(NamedTuple):
    """What the ranges of a run add up to: objects, or bytes where the name says so."""

    source_objects: int = 0
    source_bytes: int = 0
    destination_objects: int = 0
    destination_bytes: int = 0
    extra: int = 0
    to_copy: int = 0
    to_copy_bytes: int = 0
    copied: int = 0
    copied_bytes: int = 0
    proven: int = 0
    skipped: int = 0
    failed: int = 0
    deleted: int = 0
    kept: int = 0
    delete_failed: int = 0
    purged: int = 0
    purge_failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run that is under way.

    Args:
        number: from 1, growing.
        resumed: it goes on with a run that was interrupted.
        started_at: UTC seconds.
        reopened: it had finished, and was taken up again for what had failed; its listings are as old as it is.
    """

    number: int
    resumed: bool
    started_at: int
    reopened: bool = False

    @property
    def mark(self) -> int:
        """What files of ranges know the run by."""
        return mark_of(self.number, self.started_at)


class Job:
    """The open job.db of a pair. Made by `open_job`.

    Args:
        directory: the state directory.
        db: its job.db.
        clock: UTC seconds.
    """

    def __init__(self, directory: Path, db: Database, clock: Callable[[], float]) -> None:
        self.directory = directory
        self.checks = Checks(db, clock)
        self.records = Records(directory, db)
        self._db = db
        self._clock = clock

    def range_file(self, number: int) -> Path:
        """The file of a range."""
        return self.directory / "ranges" / f"{number:06d}.db"

    async def begin(
        self, *, meaning: dict[str, Any], options: dict[str, Any], dry_run: bool, restart: bool, retry_failed: bool = False
    ) -> Run:
        """Take up the unfinished run, or begin a new one over the plan that the last one left.

        With `retry_failed` the last run is taken up though it had finished, and what failed in it is owed again. Only with
        it such a run goes on after an interruption: without it, it is given up, since its listings are old.

        Raises:
            UsageError: an unfinished run was started with other options (the message names them), or nothing failed.
        """
        now = int(self._clock())

        def work(db: sqlite3.Connection) -> Run:
            row = db.execute(f"SELECT {_TAKEN_UP} FROM run WHERE finished_at IS NULL").fetchone()
            reopened = row is not None and bool(row[4])
            if retry_failed and row is None:
                row, reopened = _last_with_failures(db), True
            if row and dry_run and not row[2]:
                raise UsageError(
                    "an unfinished run is waiting, and a dry run would overwrite its listings: "
                    "finish it first, or give the dry run another --state directory"
                )
            if row and not restart and not row[2] and (retry_failed or not reopened):
                _same_meaning(json.loads(row[1]), meaning)
                db.execute(
                    "UPDATE run SET status = 'running', finished_at = NULL, reopened = ? WHERE run = ?", (reopened, row[0])
                )
                if retry_failed:
                    _plan_failed(db)
                return Run(number=row[0], resumed=True, started_at=row[3], reopened=reopened)
            if row:
                db.execute(
                    "UPDATE run SET status = 'refused', finished_at = ?, message = 'given up' WHERE run = ?",
                    (now, row[0]),
                )
            cursor = db.execute(
                "INSERT INTO run (started_at, status, dry_run, meaning, options) VALUES (?, 'running', ?, ?, ?)",
                (now, dry_run, json.dumps(meaning), json.dumps(options, default=str)),
            )
            _reset_plan(db)
            return Run(number=int(cursor.lastrowid or 0), resumed=False, started_at=now)

        return await self._db.write(work)

    async def finish(self, run: Run, *, status: str, message: str, totals: Totals) -> None:
        """Record how a run ended: done, failed, refused or stopped."""
        ended = None if status == "stopped" else int(self._clock())

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE run SET status = ?, finished_at = ?, message = ?, totals = ? WHERE run = ? AND status = 'running'",
                (status, ended, message, json.dumps(totals._asdict()), run.number),
            )

        await self._db.write(work)

    async def message(self, run: Run) -> str:
        """What a run said when it ended last; empty where it has not, or was killed."""

        def work(db: sqlite3.Connection) -> str:
            (text,) = db.execute("SELECT message FROM run WHERE run = ?", (run.number,)).fetchone()
            return str(text)

        return await self._db.read(work)

    async def next_ranges(self, phase: Phase, *, after: int, limit: int) -> list[PlannedRange]:
        """Up to `limit` ranges in `phase` with a number above `after`, by number."""

        def work(db: sqlite3.Connection) -> list[PlannedRange]:
            rows = db.execute(
                "SELECT range, lo, hi, to_cut, parent FROM range WHERE phase = ? AND range > ? ORDER BY range LIMIT ?",
                (phase, after, limit),
            ).fetchall()
            return [PlannedRange(row[0], KeyRange(row[1], row[2]), row[3], row[4]) for row in rows]

        return await self._db.read(work)

    async def look(self, number: int) -> tuple[Phase, PlannedRange]:
        """A range as the plan has it now, and the phase that it is in."""

        def work(db: sqlite3.Connection) -> tuple[Phase, PlannedRange]:
            row = db.execute("SELECT phase, range, lo, hi, to_cut, parent FROM range WHERE range = ?", (number,)).fetchone()
            return row[0], PlannedRange(row[1], KeyRange(row[2], row[3]), row[4], row[5])

        return await self._db.read(work)

    async def count_ranges(self) -> dict[Phase, int]:
        """How many ranges are in each phase."""

        def work(db: sqlite3.Connection) -> dict[Phase, int]:
            return dict(db.execute("SELECT phase, count(*) FROM range GROUP BY phase").fetchall())

        return await self._db.read(work)

    async def hand_back(self, number: int, at: str, *, pieces: int) -> None:
        """End a planned range at key `at` and plan the rest as a range of its own, to be cut into `pieces`."""

        def work(db: sqlite3.Connection) -> None:
            (hi,) = db.execute("SELECT hi FROM range WHERE range = ? AND phase = 'planned'", (number,)).fetchone()
            db.execute("UPDATE range SET hi = ? WHERE range = ?", (at, number))
            db.execute(
                "INSERT INTO range (lo, hi, phase, to_cut, parent) VALUES (?, ?, 'planned', ?, ?)",
                (at, hi, pieces, number),
            )

        await self._db.write(work)

    async def cut(self, number: int, borders: list[str]) -> list[KeyRange]:
        """Cut a planned range that nobody works on at the borders; answer the pieces, the first keeps its number."""

        def work(db: sqlite3.Connection) -> list[KeyRange]:
            lo, hi, parent = db.execute(
                "SELECT lo, hi, parent FROM range WHERE range = ? AND phase = 'planned'", (number,)
            ).fetchone()
            first, *rest = cut(KeyRange(lo, hi), borders)
            db.execute("UPDATE range SET hi = ?, to_cut = 0 WHERE range = ?", (first.hi, number))
            db.executemany(
                "INSERT INTO range (lo, hi, phase, parent) VALUES (?, ?, 'planned', ?)",
                [(*span, parent) for span in rest],
            )
            return [first, *rest]

        return await self._db.write(work)

    async def plan_lost(self) -> int:
        """Plan those ranges anew whose files are missing, whatever was done with them; answer how many there are."""

        def work(db: sqlite3.Connection) -> int:
            rows = db.execute("SELECT range FROM range WHERE phase <> 'planned'").fetchall()
            lost = [row for row in rows if not self.range_file(row[0]).exists()]
            db.executemany(f"UPDATE range SET {_PLANNED} WHERE range = ?", lost)
            return len(lost)

        return await self._db.write(work)

    async def skip_pass(self, *, before: Phase, after: Phase) -> None:
        """Record that a pass is not wanted in this run."""
        await self._db.write(lambda db: db.execute("UPDATE range SET phase = ? WHERE phase = ?", (after, before)))

    async def advance(self, number: int, *, before: Phase, after: Phase, totals: Totals) -> None:
        """Record that a pass over a range is finished, and the range's totals."""
        columns = ", ".join(f"{name} = :{name}" for name in Totals._fields)

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                f"UPDATE range SET phase = :after, {columns} WHERE range = :range AND phase = :before",
                {**totals._asdict(), "range": number, "before": before, "after": after},
            )

        await self._db.write(work)

    async def totals(self) -> Totals:
        """What all ranges add up to, as far as their passes are finished (`totals.totals_so_far` knows more)."""
        columns = ", ".join(f"coalesce(sum({name}), 0)" for name in Totals._fields)

        def work(db: sqlite3.Connection) -> Totals:
            return Totals(*db.execute(f"SELECT {columns} FROM range").fetchone())

        return await self._db.read(work)

    async def ranges_in(self, phase: Phase) -> list[tuple[int, KeyRange, Totals]]:
        """All ranges in `phase`: number, span, and what the plan says that they add up to."""
        columns = ", ".join(Totals._fields)

        def work(db: sqlite3.Connection) -> list[tuple[int, KeyRange, Totals]]:
            rows = db.execute(f"SELECT range, lo, hi, {columns} FROM range WHERE phase = ?", (phase,)).fetchall()
            return [(row[0], KeyRange(row[1], row[2]), Totals._make(row[3:])) for row in rows]

        return await self._db.read(work)


@asynccontextmanager
async def open_job(
    directory: Path, source: Location, destination: Location, clock: Callable[[], float] = time.time
) -> AsyncIterator[Job]:
    """Open or make the job.db of a pair in its directory.

    Raises:
        FatalError: it belongs to another pair, or `open_database` failed.
    """
    async with open_database(directory / "job.db", MIGRATIONS, durable=True) as db:
        await db.write(lambda connection: _claim_pair(connection, directory, source, destination))
        yield Job(directory, db, clock)


def _claim_pair(db: sqlite3.Connection, directory: Path, source: Location, destination: Location) -> None:
    row = db.execute("SELECT source, destination FROM pair").fetchone()
    if row is None:
        # Runs are numbered anew, so files of ranges that an earlier job.db left would pass for listings of this run.
        for left in (directory / "ranges").glob("*.db*"):
            left.unlink()
        sync_directory(directory / "ranges")  # or a power cut might bring them back
        db.execute("INSERT INTO pair VALUES (1, ?, ?)", (str(source), str(destination)))
        db.execute("INSERT INTO range (lo, hi, phase) VALUES (NULL, NULL, 'planned')")
    elif row != (str(source), str(destination)):
        raise FatalError(
            f"state directory {directory} belongs to {row[0]} and {row[1]}, not to {source} and {destination}: "
            "give another one with --state"
        )


def _same_meaning(before: dict[str, Any], now: dict[str, Any]) -> None:
    changed = [name for name in now if before.get(name) != now[name]]
    if changed:
        told = ", ".join(f"{name} (was {before.get(name)!r}, now {now[name]!r})" for name in changed)
        raise UsageError(
            f"an unfinished run was started with other options: {told}: use the same ones to go on, or --restart to begin anew"
        )


def _last_with_failures(db: sqlite3.Connection) -> tuple[Any, ...]:
    """The last run, if objects failed in it; raises `UsageError` else."""
    row = db.execute(f"SELECT {_TAKEN_UP} FROM run ORDER BY run DESC LIMIT 1").fetchone()
    found = db.execute("SELECT 1 FROM range WHERE failed > 0 OR delete_failed > 0 OR purge_failed > 0 LIMIT 1").fetchone()
    if row is None or row[2] or found is None:
        raise UsageError("--retry-failed: no object failed in the last run: leave it away, and both sides are compared anew")
    return tuple(row)


def _plan_failed(db: sqlite3.Connection) -> None:
    """Plan again what was left undone because something failed: copies, deletions, which wait for all copies, and purging."""
    db.execute("UPDATE range SET phase = 'planned' WHERE failed > 0 AND phase <> 'planned'")
    db.execute(
        "UPDATE range SET phase = 'copied' WHERE phase IN ('deleted', 'purged')"
        " AND (delete_failed > 0 OR extra > deleted + kept)"
    )
    db.execute("UPDATE range SET phase = 'deleted' WHERE phase = 'purged' AND purge_failed > 0")


def _reset_plan(db: sqlite3.Connection) -> None:
    """All ranges begin again; the plan itself is kept, because it is balanced."""
    db.execute(f"UPDATE range SET {_PLANNED}")


_TAKEN_UP = "run, meaning, dry_run, started_at, reopened"
_PLANNED = "phase = 'planned', to_cut = 0, " + ", ".join(f"{name} = 0" for name in Totals._fields)
