"""Uploads that were begun and will not be completed: kept until the provider has been told, so that nobody pays for them.

An upload leaves a transfer in four ways: completed, aborted, found dead, or moved here, in the transaction that takes it
from the transfer. What is here belongs to this state directory: nobody else's upload is ever touched.
"""

from __future__ import annotations

import json
import sqlite3
from typing import NamedTuple

from heavysync.objects import PartDone, UploadState
from heavysync.state.database import Database


class AbandonedUpload(NamedTuple):
    """One upload to abort.

    Attributes:
        number: of its row.
        key: of the object that it was begun for.
        state: as it was kept.
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


def upload_to_json(state: UploadState) -> str:
    """An upload's state as text for its column."""
    return json.dumps(
        {
            "kind": state.kind,
            "id": state.id,
            "part_size": state.part_size,
            "source_token": state.source_token,
            "nonce": state.nonce,
            "parts": state.parts,
        }
    )


def upload_from_json(text: str) -> UploadState:
    """The inverse of `upload_to_json`."""
    fields = json.loads(text)
    return UploadState(**{**fields, "parts": tuple(PartDone(*part) for part in fields["parts"])})
