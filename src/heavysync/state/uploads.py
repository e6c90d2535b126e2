"""Uploads that were begun and will not be completed: kept until the provider has been told, so that nobody pays for them.

An upload leaves a transfer in four ways: completed, aborted, found dead, or moved here, in the transaction that takes it
from the transfer. What is here belongs to this state directory: nobody else's upload is ever touched.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from typing import NamedTuple

from heavysync.objects import PartDone, UploadState
from heavysync.state.database import Database


class AbandonedUpload(NamedTuple):
    """One upload to abort.

    Attributes:
        number: of its row.
        key: of the object that it was begun for.
        state: as it was kept, without its parts.
    """

    number: int
    key: str
    state: UploadState


class Abandoned:
    """The abandoned uploads in a range's file.

    Args:
        db: the open file.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    async def next(self, limit: int) -> list[AbandonedUpload]:
        """Up to `limit` of them, those whose abort has failed least often first."""

        def work(db: sqlite3.Connection) -> list[AbandonedUpload]:
            rows = db.execute("SELECT number, key, upload FROM abandoned ORDER BY tries, number LIMIT ?", (limit,)).fetchall()
            return [AbandonedUpload(number, key, upload_from_json(upload)) for number, key, upload in rows]

        return await self._db.read(work)

    async def aborted(self, number: int) -> None:
        """Forget one: it does not exist any more."""
        await self._db.write(lambda db: db.execute("DELETE FROM abandoned WHERE number = ?", (number,)))

    async def failed(self, number: int) -> None:
        """Keep one for later: it could not be aborted."""
        await self._db.write(lambda db: db.execute("UPDATE abandoned SET tries = tries + 1 WHERE number = ?", (number,)))


def abandon(db: sqlite3.Connection, where: str, *values: str) -> None:
    """Move the uploads of the transfers that `where` picks (a condition over `transfer`) here, as part of a transaction."""
    rows = db.execute(f"SELECT key, upload FROM transfer WHERE upload IS NOT NULL AND {where}", values).fetchall()
    for key, upload in rows:
        if upload_from_json(upload).kind != "rewrite":  # a rewrite leaves nothing behind but a token that expires
            db.execute("INSERT INTO abandoned (key, upload) VALUES (?, ?)", (key, upload))
        db.execute("UPDATE transfer SET upload = NULL WHERE key = ?", (key,))


_PARTS = "SELECT number, etag, md5, crc32c, crc64nvme FROM upload_part WHERE key = ? ORDER BY number"


def keep_upload(db: sqlite3.Connection, key: str, state: UploadState) -> None:
    """Keep an upload of a claimed transfer, and the parts that are new, as part of a transaction.

    Without parts it has just been begun: one whose place it takes is abandoned.
    """
    if not state.parts:
        abandon(db, "key = ? AND status = 'claimed'", key)
    kept = db.execute(
        "UPDATE transfer SET upload = ? WHERE key = ? AND status = 'claimed'", (upload_to_json(state), key)
    ).rowcount
    if kept:
        db.executemany("INSERT OR REPLACE INTO upload_part VALUES (?, ?, ?, ?, ?, ?)", [(key, *part) for part in state.parts])


def kept_upload(db: sqlite3.Connection, key: str, text: str) -> UploadState:
    """The upload of a transfer, with all parts that were kept."""
    rows = db.execute(_PARTS, (key,)).fetchall()
    return replace(upload_from_json(text), parts=tuple(PartDone(*row) for row in rows))


def upload_to_json(state: UploadState) -> str:
    """An upload's state as text for its column; its parts have a table of their own."""
    return json.dumps(
        {
            "kind": state.kind,
            "id": state.id,
            "part_size": state.part_size,
            "source_token": state.source_token,
            "nonce": state.nonce,
        }
        | ({"crcs": True} if state.crcs else {})  # versions before it know no such member
    )


def upload_from_json(text: str) -> UploadState:
    """The inverse of `upload_to_json`. An abandoned upload of an older file has its parts there; nobody needs them."""
    fields = json.loads(text)
    fields.pop("parts", None)
    return UploadState(**fields)
