"""What is owed: the transfers of one range, claimed and settled in batches."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, NamedTuple, assert_never

from heavysync.objects import ObjectInfo, UploadState
from heavysync.outcomes import Changed, Done, Failed, Outcome, Postponed, Released, Skipped, Transfer, outcome_key
from heavysync.state.bulk import fetch_at_once, update_keys
from heavysync.state.database import Database
from heavysync.state.uploads import abandon, keep_upload, kept_upload


class Trouble(NamedTuple):
    """One object that was skipped or failed.

    Attributes:
        key: which.
        status: "skipped", "failed" or "stuck".
        code: short and stable.
        message: in words.
    """

    key: str
    status: str
    code: str
    message: str


# Plan: the partial index transfer_pending in its order, then single look-ups by key. At most a few hundred rows.
CLAIM = """
SELECT s.*, d.*, t.reason, t.attempts, t.upload
  FROM transfer AS t INDEXED BY transfer_pending
  JOIN source AS s ON s.key = t.key
  LEFT JOIN destination AS d ON d.key = t.key
 WHERE t.status = 'pending'
 ORDER BY t.scatter
 LIMIT ?
"""

_WIDTH = len(ObjectInfo._fields)
_INFO = partial(tuple.__new__, ObjectInfo)  # what ObjectInfo(...) does, without a Python call for each row
CLAIMED = 2 * _WIDTH + 3
"""Columns of CLAIM."""


class Queue:
    """The transfers in a range's file.

    Args:
        db: the open file.
        run: the run they belong to.
    """

    def __init__(self, db: Database, run: int) -> None:
        self._db = db
        self._run = run

    async def claim(self, limit: int) -> list[Transfer]:
        """Claim up to `limit` pending transfers, in scattered order."""

        def work(db: sqlite3.Connection) -> list[Transfer]:
            rows = fetch_at_once(db, CLAIM, CLAIMED, (limit,))
            update_keys(db, "status = 'claimed'", "status = 'pending'", [row[0] for row in rows])
            return [_transfer(db, row) for row in rows]

        return await self._db.write_each(work)  # nobody else writes to the file: what was pending still is

    async def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Record outcomes of claimed transfers: all in one transaction, but for those that are all plain copies."""
        plain = [outcome.key for outcome in outcomes if type(outcome) is Done and outcome.copied and outcome.evidence is None]
        if len(plain) == len(outcomes):
            await self._db.write_each(lambda db: update_keys(db, _DONE.format(1), "status = 'claimed'", plain))
            return
        by_kind: dict[type, list[Outcome]] = {}
        for outcome in outcomes:
            by_kind.setdefault(type(outcome), []).append(outcome)

        def work(db: sqlite3.Connection) -> None:
            for kind, group in by_kind.items():
                self._settle(db, kind, group)

        await self._db.write(work)

    def _settle(self, db: sqlite3.Connection, kind: type, group: list[Outcome]) -> None:
        if kind is Done:
            self._done(db, [outcome for outcome in group if isinstance(outcome, Done)])
            return
        if kind is Released:
            update_keys(db, "status = 'pending'", "status = 'claimed'", [outcome_key(outcome) for outcome in group])
            return
        for outcome in group:
            if isinstance(outcome, Skipped | Failed | Changed):
                abandon(db, "key = ? AND status = 'claimed'", outcome_key(outcome))
            match outcome:
                case Skipped():
                    db.execute(_TROUBLE, ("skipped", outcome.code, outcome.message, outcome.key))
                case Failed():
                    db.execute(_TROUBLE, ("failed", outcome.code, outcome.message, outcome.key))
                case Changed():
                    _changed(db, outcome.source, outcome.destination)
                case Postponed():
                    end = _END + int(time.time())
                    db.execute(_POSTPONE, (end, outcome.message, outcome.begin_anew, outcome.key))
                case Done() | Released():
                    raise AssertionError(outcome)
                case _:
                    assert_never(outcome)

    def _done(self, db: sqlite3.Connection, group: list[Done]) -> None:
        for copied in (0, 1):
            keys = [outcome.key for outcome in group if outcome.copied == copied]
            update_keys(db, _DONE.format(copied), "status = 'claimed'", keys)
        proofs = [
            (key, kept.source_token, kept.destination_token, size, kept.md5, kept.crc32c, self._run)
            for key, size, _, kept in group
            if kept is not None
        ]
        if proofs:
            db.executemany("INSERT OR REPLACE INTO proof VALUES (?, ?, ?, ?, ?, ?, ?)", proofs)

    async def has_equal(self) -> bool:
        """Whether an object was found to be the same on both sides, as far as the destination is listed."""

        def work(db: sqlite3.Connection) -> bool:
            found = db.execute(
                "SELECT 1 FROM source AS s JOIN destination AS d ON d.key = s.key"
                " WHERE NOT EXISTS (SELECT 1 FROM transfer AS t WHERE t.key = s.key) LIMIT 1"
            ).fetchone()
            return found is not None

        return await self._db.read(work)

    async def take_up(self, codes: Collection[str] | None = None) -> int:
        """Make failed transfers pending again, those with one of the codes, or all; answer how many."""

        def work(db: sqlite3.Connection) -> int:
            found = db.execute("SELECT key, code FROM transfer WHERE status = 'failed'").fetchall()
            keys = [key for key, code in found if codes is None or code in codes]
            update_keys(db, "status = 'pending', code = NULL, message = NULL", "status = 'failed'", keys)
            return len(keys)

        return await self._db.write(work)

    async def save_upload(self, key: str, state: UploadState | None) -> None:
        """Keep an upload and its new parts, see `keep_upload`; None: there is none any more."""

        def work(db: sqlite3.Connection) -> None:
            if state is None:
                db.execute("UPDATE transfer SET upload = NULL WHERE key = ? AND status = 'claimed'", (key,))
            else:
                keep_upload(db, key, state)

        await self._db.write(work)

    async def owed(self) -> bool:
        """Whether a transfer is not settled yet."""

        def work(db: sqlite3.Connection) -> bool:
            rows = db.execute(
                "SELECT 1 FROM transfer WHERE status = 'pending' UNION ALL"
                " SELECT 1 FROM transfer WHERE status = 'claimed' LIMIT 1"
            ).fetchall()
            return bool(rows)

        return await self._db.read(work)

    async def forget_stale_proofs(self) -> None:
        """Drop proofs of keys that the source does not list any more."""
        await self._db.write(
            lambda db: db.execute(
                # beyond the end of the range lie proofs that ranges split from this one have yet to take over
                "DELETE FROM proof WHERE NOT EXISTS (SELECT 1 FROM source WHERE source.key = proof.key)"
                " AND EXISTS (SELECT 1 FROM span WHERE hi IS NULL OR proof.key <= hi)"
            )
        )

    async def troubles(self, limit: int) -> list[Trouble]:
        """Up to `limit` transfers that failed or were skipped, failed ones first."""

        def work(db: sqlite3.Connection) -> list[Trouble]:
            rows = db.execute(
                "SELECT key, status, code, message FROM transfer"
                " WHERE status IN ('failed', 'skipped') ORDER BY status, key LIMIT ?",
                (limit,),
            ).fetchall()
            return [Trouble(*row) for row in rows]

        return await self._db.read(work)

    async def pending_keys(self, after: str | None, limit: int) -> list[tuple[str, int, str]]:
        """Transfers still owed, `(key, size, reason)` above `after`, by key: what a dry run would copy."""

        def work(db: sqlite3.Connection) -> list[tuple[str, int, str]]:
            return db.execute(
                "SELECT key, size, reason FROM transfer WHERE status = 'pending' AND (?1 IS NULL OR key > ?1)"
                " ORDER BY key LIMIT ?2",
                (after, limit),
            ).fetchall()

        return await self._db.read(work)


_DONE = "status = 'done', copied = {}, upload = NULL"

_TROUBLE = "UPDATE transfer SET status = ?, code = ?, message = ?, upload = NULL WHERE key = ? AND status = 'claimed'"

_END = 0x7FFFFFFF << 32
"""`scatter` of what goes to the end of the queue, plus seconds: what is found lies below (`inventory.COMPARE`), and what had
changed, a random number of 64 bits, above it once in 2^32."""

_POSTPONE = """
UPDATE transfer
   SET status = 'pending', scatter = ?1, message = ?2,
       upload = CASE WHEN NOT ?3 THEN upload
                     WHEN json_extract(upload, '$.kind') = 'upload' THEN json_set(upload, '$.kind', 'stuck')
                     WHEN json_extract(upload, '$.kind') = 'stuck' THEN upload
                     ELSE NULL END
 WHERE key = ?4 AND status = 'claimed'
"""


def _changed(db: sqlite3.Connection, now: ObjectInfo, there: ObjectInfo | None) -> None:
    if there is not None:
        db.execute("INSERT OR REPLACE INTO destination VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", there)
    columns = ", ".join(f"{name} = ?" for name in ObjectInfo._fields[1:])
    db.execute(f"UPDATE source SET {columns} WHERE key = ?", (*now[1:], now.key))
    db.execute(
        "UPDATE transfer SET status = 'pending', attempts = attempts + 1, scatter = random(), upload = NULL, size = ?"
        " WHERE key = ? AND status = 'claimed'",
        (now.size, now.key),
    )


def _transfer(db: sqlite3.Connection, row: list[Any]) -> Transfer:
    source = _INFO(row[:_WIDTH])
    destination = _INFO(row[_WIDTH : 2 * _WIDTH]) if row[_WIDTH] is not None else None
    reason, attempts, upload = row[2 * _WIDTH :]
    state = kept_upload(db, source.key, upload) if isinstance(upload, str) else None
    return Transfer(source, destination, reason, attempts, state)
