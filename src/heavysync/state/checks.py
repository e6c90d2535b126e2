"""What earlier checks drew and found, in job.db: one inspection each, with its sample and verdicts."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from heavysync.state.database import Database
from heavysync.verdicts import Draw, Drawn, Finding, Inspection, Known, Past, Point, Sample, Tally, Verdict

# Plan: the partial index checked_pending, in its order. At most a few hundred rows.
PENDING = """
SELECT key, position, hits, size, source_token
  FROM checked INDEXED BY checked_pending
 WHERE inspection = ? AND verdict IS NULL AND position > ?
 ORDER BY position
 LIMIT ?
"""

# Plan: the partial index checked_key for the keys of a page. SQLite takes the other columns from the row with the maximum.
KNOWN = """
SELECT key, verdict, source_token, max(checked_at)
  FROM checked INDEXED BY checked_key
 WHERE verdict IS NOT NULL AND key >= ? AND key <= ? AND inspection < ?
 GROUP BY key
"""


class Checks:
    """The inspections of a pair.

    Args:
        db: job.db.
        clock: UTC seconds.
    """

    def __init__(self, db: Database, clock: Callable[[], float]) -> None:
        self._db = db
        self._clock = clock

    async def begin(
        self, *, meaning: dict[str, Any], seed: str, is_given: bool, confidence: float, restart: bool, dry_run: bool
    ) -> Inspection:
        """Take up the unfinished inspection that means the same, or begin one; others that are unfinished end.

        For a dry run one is begun in any case, and the others stay as they are.

        Args:
            meaning: `CheckOptions.meaning()`, and where the stores are.
            seed: of a new draw.
            is_given: the seed was asked for, so only an inspection with the same one goes on.
            confidence: of its bounds.
            restart: begin anew in any case.
            dry_run: it is only a plan, and will be forgotten.
        """
        now = int(self._clock())
        text = json.dumps(meaning, sort_keys=True)

        def work(db: sqlite3.Connection) -> Inspection:
            row = db.execute(
                "SELECT inspection, seed, started_at FROM inspection"
                " WHERE status = 'checking' AND meaning = ? AND (NOT ? OR seed = ?) ORDER BY inspection DESC LIMIT 1",
                (text, is_given, seed),
            ).fetchone()
            kept = 0 if row is None or restart or dry_run else row[0]
            if not dry_run:
                _end_others(db, kept, now)
            if kept:
                return Inspection(number=kept, seed=row[1], resumed=True, started_at=row[2])
            cursor = db.execute(
                "INSERT INTO inspection (started_at, status, meaning, population, method, seed, listed_at, confidence)"
                " VALUES (?, 'drawing', ?, ?, ?, ?, ?, ?)",
                (now, text, _population(meaning), meaning["--by"], seed, now, confidence),
            )
            return Inspection(number=int(cursor.lastrowid or 0), seed=seed, resumed=False, started_at=now)

        return await self._db.write(work)

    async def add(self, number: int, draws: Iterable[Draw]) -> None:
        """Add objects to the sample of an inspection that is being drawn."""
        await self._db.write(
            lambda db: db.executemany(
                "INSERT INTO checked (inspection, key, position, hits, size, source_token) VALUES (?, ?, ?, ?, ?, ?)",
                ((number, draw.key, draw.position, draw.hits, draw.size, draw.source_token) for draw in draws),
            )
        )

    async def add_missing(self, number: int, draws: Iterable[Draw]) -> None:
        """Add objects to the sample of an inspection, but for those that it has already."""
        await self._db.write(
            lambda db: db.executemany(
                "INSERT OR IGNORE INTO checked (inspection, key, position, hits, size, source_token) VALUES (?, ?, ?, ?, ?, ?)",
                ((number, draw.key, draw.position, draw.hits, draw.size, draw.source_token) for draw in draws),
            )
        )

    async def forget(self, number: int) -> None:
        """Forget an inspection that was only a plan."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM checked WHERE inspection = ?", (number,))
            db.execute("DELETE FROM inspection WHERE inspection = ?", (number,))

        await self._db.write(work)

    async def keep_first(self, number: int, count: int) -> None:
        """Drop all but the first `count` of a sample, in the order of checking."""
        await self._db.write(
            lambda db: db.execute(
                "DELETE FROM checked WHERE inspection = :number AND position >"
                " (SELECT coalesce(max(position), -1) FROM (SELECT position FROM checked WHERE inspection = :number"
                " ORDER BY position LIMIT :count))",
                {"number": number, "count": count},
            )
        )

    async def settle_draw(self, number: int, drawn: Drawn) -> None:
        """The sample stands: from now on the inspection can be resumed."""

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE inspection SET status = 'checking', listed_at = ?, all_objects = ?, objects = ?, bytes = ?, pool = ?,"
                " sizes = ?, groups = ?, known_bad = ? WHERE inspection = ? AND status = 'drawing'",
                (*drawn[:5], json.dumps(drawn.sizes), json.dumps(drawn.groups), drawn.known_bad, number),
            )

        await self._db.write(work)

    async def drawn(self, number: int) -> Drawn:
        """What the sample was drawn from."""

        def work(db: sqlite3.Connection) -> Drawn:
            row = db.execute(
                "SELECT listed_at, all_objects, objects, bytes, pool, sizes, groups, known_bad FROM inspection"
                " WHERE inspection = ?",
                (number,),
            ).fetchone()
            sizes = {int(bits): count for bits, count in json.loads(row[5]).items()}
            groups = [(size, evidence, is_fresh) for size, evidence, is_fresh in json.loads(row[6])]
            return Drawn._make((*row[:5], sizes, groups, row[7]))

        return await self._db.read(work)

    async def sample(self, number: int) -> Sample:
        """How large the sample is."""

        def work(db: sqlite3.Connection) -> Sample:
            row = db.execute(
                "SELECT count(*), coalesce(sum(hits), 0), count(*) FILTER (WHERE verdict IS NULL),"
                " coalesce(sum(size) FILTER (WHERE verdict IS NULL), 0) FROM checked WHERE inspection = ?",
                (number,),
            ).fetchone()
            return Sample(*row)

        return await self._db.read(work)

    async def pending(self, number: int, after: float, limit: int) -> list[Draw]:
        """Up to `limit` objects without a verdict at positions above `after`, in the order of checking."""

        def work(db: sqlite3.Connection) -> list[Draw]:
            rows = db.execute(
                PENDING,
                (number, after, limit),
            ).fetchall()
            return [Draw(*row) for row in rows]

        return await self._db.read(work)

    async def record(self, number: int, findings: Sequence[Finding]) -> None:
        """Record verdicts, all in one transaction."""
        now = int(self._clock())
        rows = [
            (
                found.verdict,
                found.method,
                found.reason,
                found.destination_token,
                found.source_token,
                json.dumps(found.metadata) if found.metadata else None,
                found.bytes_read,
                now,
                number,
                found.key,
            )
            for found in findings
        ]
        await self._db.write(
            lambda db: db.executemany(
                "UPDATE checked SET verdict = ?, method = ?, reason = ?, destination_token = ?,"
                " source_token = coalesce(nullif(?, ''), source_token), metadata = ?, bytes_read = ?, checked_at = ?"
                " WHERE inspection = ? AND key = ? AND verdict IS NULL",
                rows,
            )
        )

    async def tallies(self, number: int) -> dict[Verdict, Tally]:
        """What was found so far, by verdict."""

        def work(db: sqlite3.Connection) -> dict[Verdict, Tally]:
            rows = db.execute(
                "SELECT verdict, count(*), sum(hits), sum(size), sum(bytes_read), count(metadata) FROM checked"
                " WHERE inspection = ? AND verdict IS NOT NULL GROUP BY verdict",
                (number,),
            ).fetchall()
            return {row[0]: Tally(*row[1:]) for row in rows}

        return await self._db.read(work)

    async def findings(self, number: int, verdicts: Sequence[Verdict], limit: int) -> list[Finding]:
        """Up to `limit` findings with one of these verdicts, in the order of the verdicts, then by key."""
        rank = " ".join(f"WHEN ? THEN {place}" for place in range(len(verdicts)))
        marks = ", ".join("?" for _ in verdicts)
        return await self._db.read(
            lambda db: _findings(
                db,
                f"inspection = ? AND verdict IN ({marks}) ORDER BY CASE verdict {rank} END, key",
                (number, *verdicts, *verdicts, limit),
            )
        )

    async def differing(self, number: int, limit: int) -> list[Finding]:
        """Up to `limit` findings of objects whose metadata differ, by key."""
        return await self._db.read(
            lambda db: _findings(db, "inspection = ? AND metadata IS NOT NULL ORDER BY key", (number, limit))
        )

    async def finish(self, number: int, *, share: float | None, history_share: float | None, done: bool) -> None:
        """Record how sure an inspection made us; `done`: nothing of its sample is left."""
        now = int(self._clock())

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE inspection SET share = ?, history_share = ? WHERE inspection = ?", (share, history_share, number)
            )
            if done:
                db.execute(
                    "UPDATE inspection SET status = 'done', finished_at = ? WHERE inspection = ? AND status = 'checking'",
                    (now, number),
                )

        await self._db.write(work)

    async def past(self, meaning: dict[str, Any], *, before: int) -> list[Past]:
        """Inspections of the same population and method with a number below `before`, by the time of their listing."""

        def work(db: sqlite3.Connection) -> list[Past]:
            rows = db.execute(
                "SELECT i.started_at, i.listed_at, i.pool, sum(c.hits) FROM inspection AS i"
                " JOIN checked AS c ON c.inspection = i.inspection"
                " WHERE i.population = ? AND i.method = ? AND i.inspection < ?"
                " AND c.verdict IN ('ok', 'corrupt', 'missing', 'stale', 'unverifiable')"
                " GROUP BY i.inspection HAVING sum(c.hits) > 0 ORDER BY i.listed_at",
                (_population(meaning), meaning["--by"], before),
            ).fetchall()
            return [Past(*row) for row in rows]

        return await self._db.read(work)

    async def known(self, first: str, last: str, *, before: int) -> list[Known]:
        """The last verdict on each key from `first` to `last`, by inspections with a number below `before`."""

        def work(db: sqlite3.Connection) -> list[Known]:
            rows = db.execute(
                KNOWN,
                (first, last, before),
            ).fetchall()
            return [Known(*row) for row in rows]

        return await self._db.read(work)

    async def curve(self, meaning: dict[str, Any]) -> list[Point]:
        """How sure each inspection of this population and method had made us, by time."""

        def work(db: sqlite3.Connection) -> list[Point]:
            rows = db.execute(
                "SELECT started_at, share, history_share FROM inspection"
                " WHERE population = ? AND method = ? AND coalesce(share, history_share) IS NOT NULL ORDER BY inspection",
                (_population(meaning), meaning["--by"]),
            ).fetchall()
            return [Point(*row) for row in rows]

        return await self._db.read(work)


def _end_others(db: sqlite3.Connection, kept: int, now: int) -> None:
    """End all unfinished inspections but one; what they have found stays."""
    others = "finished_at IS NULL AND inspection <> ?"
    db.execute(
        f"DELETE FROM checked WHERE verdict IS NULL AND inspection IN (SELECT inspection FROM inspection WHERE {others})",
        (kept,),
    )
    db.execute(f"UPDATE inspection SET status = 'ended', finished_at = ? WHERE {others}", (now, kept))


def _findings(db: sqlite3.Connection, condition: str, values: tuple[object, ...]) -> list[Finding]:
    rows = db.execute(
        "SELECT key, verdict, method, reason, size, source_token, coalesce(destination_token, ''), bytes_read, metadata"
        f" FROM checked WHERE {condition} LIMIT ?",
        values,
    ).fetchall()
    return [Finding._make((*row[:8], tuple(json.loads(row[8] or "[]")))) for row in rows]


def _population(meaning: dict[str, Any]) -> str:
    return json.dumps(meaning["population"], sort_keys=True)
