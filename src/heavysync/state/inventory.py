"""What was seen: the listings of one range, compared as they come in.

A page, its cursor, and the transfers that became decidable with it are one transaction. Rows are compared up to the lower
of both cursors, so each key is compared exactly once, when both sides have spoken for it. The comparison is the truth
table of docs/design/0005-equal-or-not.md, in SQL.
"""

from __future__ import annotations

import sqlite3
from operator import itemgetter
from random import getrandbits
from typing import Literal, NamedTuple

from heavysync.errors import FatalError
from heavysync.keyspace import KeyRange
from heavysync.objects import Page
from heavysync.state.bulk import insert_rows
from heavysync.state.database import Database
from heavysync.state.uploads import abandon

SideName = Literal["source", "destination"]


class Listing(NamedTuple):
    """Where the listing of one side of a range stands.

    Attributes:
        cursor: the last key spoken for; None: nothing yet.
        done: the range is listed to its end.
        objects: listed so far.
        size: bytes they have.
    """

    cursor: str | None
    done: bool
    objects: int
    size: int


class Recorded(NamedTuple):
    """What recording a page led to.

    Attributes:
        listing: where this side stands now.
        queued: transfers that became decidable and are owed.
        queued_bytes: their bytes.
    """

    listing: Listing
    queued: int
    queued_bytes: int


# Plan: a search over source by its key for the window, with single look-ups in destination and proof. 1,000 rows a page.
# scatter: neighbours of 32 share it, and so are claimed and settled together, which touches a tenth of the pages that
# single random rows did; the places of a page's neighbourhoods lie evenly over all numbers from a random one on.
# IS NOT TRUE, because a comparison with an absent digest is NULL, and an unknown equality must be copied.
COMPARE = """
INSERT INTO transfer (key, scatter, reason, size)
SELECT s.key,
       :scatter + ((row_number() OVER () - 1) / 32) % 32 * 0x200000000000000 & 0x3FFFFFFFFFFFFFFF,
       CASE WHEN d.key IS NULL THEN 'new'
            WHEN d.size <> s.size THEN 'changed'
            WHEN p.destination_token = iif(d.etag <> '', d.etag || ':' || d.size, d.version) THEN 'changed'
            ELSE 'unproven' END,
       s.size
  FROM source AS s
  LEFT JOIN destination AS d ON d.key = s.key
  LEFT JOIN proof AS p ON p.key = s.key
 WHERE s.key {above} :low AND s.key <= :high
   AND (d.size = s.size
        AND (    (p.source_token = iif(s.etag <> '', s.etag || ':' || s.size, s.version)
                  AND p.destination_token = iif(d.etag <> '', d.etag || ':' || d.size, d.version))
              OR coalesce(s.md5, nullif(s.etag, '')) = coalesce(d.md5, nullif(d.etag, ''))
              OR (s.etag = '' AND d.etag = '' AND s.crc32c = d.crc32c AND (s.md5 IS NULL OR d.md5 IS NULL))
            )
       ) IS NOT TRUE
    ON CONFLICT (key) DO NOTHING
"""

_SIZE = itemgetter(1)
_LAST = b""  # above every key: to SQLite any BLOB is above any TEXT


class Inventory:
    """The listings in a range's file.

    Args:
        db: the open file.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    async def listings(self) -> dict[SideName, Listing]:
        """Where both sides stand."""
        return await self._db.read(listings_of)

    async def record_page(self, side: SideName, page: Page, until: str | None) -> Recorded:
        """Record one page of a side, and what became decidable with it, in one transaction.

        Args:
            side: which.
            page: at most a few thousand objects, above the cursor of this side.
            until: the end of the range.
        """

        def work(db: sqlite3.Connection) -> Recorded:
            low = _watermark(db)
            try:
                insert_rows(db, side, page.objects)
            except (OverflowError, UnicodeEncodeError) as error:
                raise _unfit(side, page) from error
            size = sum(map(_SIZE, page.objects))
            done = page.cursor is None
            db.execute(
                "UPDATE listing SET cursor = ?, done = ?, objects = objects + ?, bytes = bytes + ? WHERE side = ?",
                (until if done else page.cursor, done, len(page.objects), size, side),
            )
            queued, queued_bytes = _compare(db, low, _watermark(db))
            return Recorded(listings_of(db)[side], queued, queued_bytes)

        return await self._db.write(work)

    async def trim(self, hi: str) -> None:
        """End the range at `hi`, up to which both sides have spoken: forget what lies beyond."""
        await self._db.write(lambda db: trim(db, hi))


# The empty key is the marker of the destination prefix itself ("folder" in a console): it is nobody's surplus.
EXTRA = """
SELECT d.key FROM destination AS d
 WHERE d.key <> '' AND NOT EXISTS (SELECT 1 FROM source AS s WHERE s.key = d.key)
"""


def trim(db: sqlite3.Connection, hi: str) -> None:
    """Make `hi` the end of a range and forget rows beyond it."""
    db.execute("UPDATE span SET hi = ?", (hi,))
    abandon(db, "key > ?", hi)
    db.execute("DELETE FROM transfer WHERE key > ?", (hi,))
    for side in ("source", "destination"):
        gone, size = db.execute(f"SELECT count(*), coalesce(sum(size), 0) FROM {side} WHERE key > ?", (hi,)).fetchone()
        db.execute(f"DELETE FROM {side} WHERE key > ?", (hi,))
        db.execute("UPDATE listing SET objects = objects - ?, bytes = bytes - ? WHERE side = ?", (gone, size, side))
        db.execute(
            "UPDATE listing SET done = 1, cursor = :hi WHERE side = :side AND (done = 1 OR cursor >= :hi)",
            {"hi": hi, "side": side},
        )


def listings_of(db: sqlite3.Connection) -> dict[SideName, Listing]:
    """Where both sides of a range stand."""
    rows = db.execute("SELECT side, cursor, done, objects, bytes FROM listing").fetchall()
    return {side: Listing(cursor, bool(done), objects, size) for side, cursor, done, objects, size in rows}


def _watermark(db: sqlite3.Connection) -> str | bytes | None:
    """The key up to which both sides have spoken; `_LAST`: to the end; None: nothing yet."""
    sides = listings_of(db).values()
    if any(side.cursor is None and not side.done for side in sides):
        return None
    return min((side.cursor or "" for side in sides if not side.done), default=_LAST)


def _unfit(side: SideName, page: Page) -> FatalError:
    """The error for a listed object that cannot be kept: skipped in silence, it would be lost."""
    for info in page.objects:
        if not 0 <= info.size <= _BIGGEST:
            return FatalError(f"the listing of the {side} says that {info.key!r} has the size {info.size}: that cannot be")
        try:
            info.key.encode()
        except UnicodeEncodeError:
            return FatalError(f"the listing of the {side} has the key {info.key!r}, which is no Unicode text")
    return FatalError(f"the listing of the {side} has a page that cannot be kept")


_BIGGEST = (1 << 63) - 1


def _compare(db: sqlite3.Connection, low: str | bytes | None, high: str | bytes | None) -> tuple[int, int]:
    """Queue what is not equal above `low` (None: from the start) up to `high`; answer how many and their bytes."""
    if high is None or low == high:
        return 0, 0
    # the empty key is a key too: from the start means >= ''
    above = ">=" if low is None else ">"
    window = {"low": "" if low is None else low, "high": high, "scatter": getrandbits(62)}
    queued = db.execute(COMPARE.format(above=above), window).rowcount
    if queued <= 0:
        return 0, 0
    (size,) = db.execute(f"SELECT sum(size) FROM transfer WHERE key {above} :low AND key <= :high", window).fetchone()
    return queued, size


def span_of(db: sqlite3.Connection) -> tuple[int, KeyRange] | None:
    """The run and the span that a file belongs to; None for a new file."""
    row = db.execute("SELECT run, lo, hi FROM span").fetchone()
    return None if row is None else (row[0], KeyRange(row[1], row[2]))
