"""What earlier checks drew and found, in job.db: one inspection each, with its sample and verdicts."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
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
   AND (SELECT servers FROM inspection AS i WHERE i.inspection = checked.inspection) = ?
 GROUP BY key
"""


STEP = 2_000
"""Rows that one transaction adds or deletes: some 10 ms, where a run on the same directory waits for 10 s at most."""

OLDEST_RESUMED_S = 30 * 86_400
"""An inspection begun longer ago is not gone on with: too much of the population has changed."""


class Checks:
    """The inspections of a pair, in its job.db.

    Args:
        db: the file.
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
                "SELECT inspection, seed, started_at FROM inspection WHERE status = 'checking' AND meaning = ?"
                " AND (NOT ? OR seed = ?) AND started_at > ? ORDER BY inspection DESC LIMIT 1",
                (text, is_given, seed, now - OLDEST_RESUMED_S),
            ).fetchone()
            kept = 0 if row is None or restart or dry_run else row[0]
            if not dry_run:
                db.execute(
                    "UPDATE inspection SET status = 'ended', finished_at = ? WHERE finished_at IS NULL AND inspection <> ?",
                    (now, kept),
                )
            if kept:
                return Inspection(number=kept, seed=row[1], resumed=True, started_at=row[2])
            cursor = db.execute(
                "INSERT INTO inspection (status, started_at, meaning, population, servers, method, seed, listed_at, confidence)"
                " VALUES ('drawing', ?, ?, ?, ?, ?, ?, ?, ?)",
                (now, text, *_kind(meaning), seed, now, confidence),
            )
            return Inspection(number=int(cursor.lastrowid or 0), seed=seed, resumed=False, started_at=now)

        inspection = await self._db.write(work)
        await self._bury_ended(now)
        return inspection

    async def _bury_ended(self, now: int) -> None:
        """Clear up after inspections that were given up.

        What they had begun to read, and have no verdict on, is unverifiable: were it left out, objects that cannot be read
        would never count. The rest of their samples goes.
        """

        def find(db: sqlite3.Connection) -> list[tuple[int, float]]:
            return db.execute(
                "SELECT inspection, coalesce((SELECT max(position) FROM checked AS c"
                "  WHERE c.inspection = i.inspection AND verdict IS NOT NULL), -2) FROM inspection AS i"
                " WHERE status = 'ended' AND EXISTS"
                " (SELECT 1 FROM checked AS c WHERE c.inspection = i.inspection AND verdict IS NULL)"
            ).fetchall()

        for number, reached in await self._db.read(find):
            await self._db.write(partial(_bury, values=(now, number, reached)))
            await self._delete_pending(number, reached)

    async def _delete_pending(self, number: int, after: float) -> None:
        """Delete draws without a verdict at positions above `after`: in steps, since a run may be waiting to write."""

        def work(db: sqlite3.Connection) -> int:
            return db.execute(
                "DELETE FROM checked WHERE inspection = :number AND key IN (SELECT key FROM checked INDEXED BY checked_pending"
                " WHERE inspection = :number AND verdict IS NULL AND position > :after LIMIT :step)",
                {"number": number, "after": after, "step": STEP},
            ).rowcount

        while await self._db.write(work):
            pass

    async def add(self, number: int, draws: Sequence[Draw]) -> None:
        """Add objects to the sample of an inspection that is being drawn, but for those that it has already."""
        for start in range(0, len(draws), STEP):
            rows = [
                (number, draw.key, draw.position, draw.hits, draw.size, draw.source_token)
                for draw in draws[start : start + STEP]
            ]
            await self._db.write(partial(_add, rows=rows))

    async def forget(self, number: int) -> None:
        """Forget an inspection that was only a plan."""
        await self._delete_pending(number, -2.0)
        await self._db.write(lambda db: db.execute("DELETE FROM inspection WHERE inspection = ?", (number,)))

    async def keep_first(self, number: int, count: int) -> None:
        """Drop all but the first `count` of a sample without verdicts, in the order of checking."""

        def find(db: sqlite3.Connection) -> float | None:
            row = db.execute(
                "SELECT position FROM checked INDEXED BY checked_pending WHERE inspection = ? AND verdict IS NULL"
                " ORDER BY position LIMIT 1 OFFSET ?",
                (number, count - 1),
            ).fetchone()
            return None if row is None else float(row[0])

        last = await self._db.read(find) if count else -2.0
        if last is not None:
            await self._delete_pending(number, last)

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

    async def gaps(self, number: int) -> int:
        """Random draws without a verdict, though some after them have one: begun, and not come to an end."""

        def work(db: sqlite3.Connection) -> int:
            (hits,) = db.execute(
                "SELECT coalesce(sum(hits), 0) FROM checked WHERE inspection = :number AND verdict IS NULL AND position <"
                " (SELECT max(position) FROM checked WHERE inspection = :number AND verdict IS NOT NULL)",
                {"number": number},
            ).fetchone()
            return int(hits)

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

    async def past(self, meaning: dict[str, Any], *, before: Inspection, since: float) -> list[Past]:
        """Inspections of the same population and method, begun before another one and after `since`, by what they speak of.

        Of those with the same seed only the last: they drew the same sample. Where runs are recorded, an inspection speaks
        of no object newer than the beginning of the last run that had finished by then: it may not have been copied.
        """

        def work(db: sqlite3.Connection) -> list[Past]:
            (runs,) = db.execute("SELECT count(*) FROM run WHERE NOT dry_run").fetchone()
            rows = db.execute(
                "SELECT i.seed, i.started_at, i.listed_at, iif(i.method = 'bytes', i.bytes, i.objects), i.pool, sum(c.hits),"
                " (SELECT max(started_at) FROM run WHERE finished_at <= i.started_at AND NOT dry_run"
                "   AND status IN ('done', 'failed'))"
                " FROM inspection AS i JOIN checked AS c ON c.inspection = i.inspection"
                " WHERE i.population = ? AND i.servers = ? AND i.method = ? AND i.inspection < ? AND i.seed <> ?"
                " AND i.started_at > ? AND c.verdict IN ('ok', 'corrupt', 'missing', 'stale', 'unverifiable')"
                " GROUP BY i.inspection HAVING sum(c.hits) > 0 ORDER BY i.inspection",
                (*_kind(meaning), before.number, before.seed, since),
            ).fetchall()
            by_seed = {
                seed: Past(started_at, min(listed_at, copied_at or 0) if runs else listed_at, size, pool, hits)
                for seed, started_at, listed_at, size, pool, hits, copied_at in rows
            }
            return sorted(by_seed.values(), key=lambda past: past.speaks_of)

        return await self._db.read(work)

    async def noticed(self, meaning: dict[str, Any], *, since: float, bad: Sequence[Verdict]) -> int:
        """Contents that were found bad by inspections of this population and method begun after `since`, mended or not.

        An unverifiable one that was verified later, and was not written anew as far as is known, was not bad.
        """
        marks = ", ".join("?" for _ in bad)

        def work(db: sqlite3.Connection) -> int:
            (count,) = db.execute(
                "SELECT count(DISTINCT key || char(0) || source_token)"
                " FROM checked AS c JOIN inspection AS i USING (inspection)"
                " WHERE i.population = ? AND i.servers = ? AND i.method = ? AND i.started_at > ?"
                f" AND (c.verdict IN ({marks}) OR (c.verdict = 'unverifiable' AND NOT EXISTS"
                "  (SELECT 1 FROM checked AS later WHERE later.key = c.key AND later.source_token = c.source_token"
                "   AND later.verdict = 'ok' AND later.checked_at >= c.checked_at"
                "   AND coalesce(c.destination_token, '') IN ('', later.destination_token))))",
                (*_kind(meaning), since, *bad),
            ).fetchone()
            return int(count)

        return await self._db.read(work)

    async def known(self, first: str, last: str, *, before: int, meaning: dict[str, Any]) -> list[Known]:
        """The last verdict on each key from `first` to `last`, by inspections of the same buckets with a lower number."""

        def work(db: sqlite3.Connection) -> list[Known]:
            rows = db.execute(KNOWN, (first, last, before, _servers(meaning))).fetchall()
            return [Known(*row) for row in rows]

        return await self._db.read(work)

    async def curve(self, meaning: dict[str, Any]) -> list[Point]:
        """How sure each inspection of this population and method had made us, by time."""

        def work(db: sqlite3.Connection) -> list[Point]:
            rows = db.execute(
                "SELECT started_at, share, history_share FROM inspection WHERE population = ? AND servers = ? AND method = ?"
                " AND coalesce(share, history_share) IS NOT NULL ORDER BY inspection",
                _kind(meaning),
            ).fetchall()
            return [Point(*row) for row in rows]

        return await self._db.read(work)


def _add(db: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> None:
    db.executemany(
        "INSERT OR IGNORE INTO checked (inspection, key, position, hits, size, source_token) VALUES (?, ?, ?, ?, ?, ?)", rows
    )


def _bury(db: sqlite3.Connection, values: tuple[object, ...]) -> None:
    db.execute(
        "UPDATE checked SET verdict = 'unverifiable', reason = 'the check was interrupted while it was read',"
        " checked_at = ? WHERE inspection = ? AND position < ? AND verdict IS NULL",
        values,
    )


def _findings(db: sqlite3.Connection, condition: str, values: tuple[object, ...]) -> list[Finding]:
    rows = db.execute(
        "SELECT key, verdict, method, reason, size, source_token, coalesce(destination_token, ''), bytes_read, metadata"
        f" FROM checked WHERE {condition} LIMIT ?",
        values,
    ).fetchall()
    return [Finding._make((*row[:8], tuple(json.loads(row[8] or "[]")))) for row in rows]


def _population(meaning: dict[str, Any]) -> str:
    return json.dumps(meaning["population"], sort_keys=True)


def _servers(meaning: dict[str, Any]) -> str:
    return json.dumps([meaning.get(f"the {side}'s server") for side in ("source", "destination")])


def _kind(meaning: dict[str, Any]) -> tuple[str, str, str]:
    """What inspections have in common that can be combined."""
    return _population(meaning), _servers(meaning), meaning["--by"]
