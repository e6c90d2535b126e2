"""What runs have recorded of single keys and of whole listings, for those who only read: other processes may be writing.

Every look at a file is one read transaction on a connection of its own, so a run that is under way is not disturbed and
what is answered fits together.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from heavysync.errors import FatalError
from heavysync.objects import ObjectInfo
from heavysync.state.database import Database, peek

_PAGE = 5_000  # rows; some 15 ms of reading
_COLUMNS = "key, size, etag, md5, crc32c, modified_at, version"


class FinishedRun(NamedTuple):
    """The last run that came to an end.

    Attributes:
        number: from 1.
        started_at: UTC seconds.
        finished_at: UTC seconds.
        is_listed: its listing is the one that the state holds.
        unfinished: a later run that has not come to an end; None: there is none.
    """

    number: int
    started_at: int
    finished_at: int
    is_listed: bool
    unfinished: int | None

    @property
    def mark(self) -> int:
        """What files of ranges know the run by."""
        return mark_of(self.number, self.started_at)


def mark_of(number: int, started_at: int) -> int:
    """One number for a run: also where job.db has lost the record of one, no later run is taken for it.

    Disks that only say that they have written exist, and so do restored backups.
    """
    return (started_at << 20) + number


class Proof(NamedTuple):
    """A verified copy that the state remembers.

    Attributes:
        source_token: of the content that was copied.
        destination_token: of the object that it became.
        md5: hex, where it was computed.
        crc32c: base64, where it was computed.
    """

    source_token: str
    destination_token: str
    md5: str | None
    crc32c: str | None


class Record(NamedTuple):
    """What is recorded of a key.

    Attributes:
        proof: of its last verified copy, where one was needed.
        listed: the source object as the last finished run listed (and copied) it; None: it did not, or cannot be asked.
        outcome: what became of its transfer in that run: "done", "failed", "skipped"; None: it owed none.
        code: of a failure.
        message: of a failure.
        is_listed: the last finished run's listing of this key is at hand; a key that is not in it was not there.
    """

    proof: Proof | None = None
    listed: ObjectInfo | None = None
    outcome: str | None = None
    code: str = ""
    message: str = ""
    is_listed: bool = False


class Records:
    """The state of a pair, to read.

    Args:
        directory: the state directory.
        db: its job.db.
    """

    def __init__(self, directory: Path, db: Database) -> None:
        self._directory = directory
        self._db = db

    async def finished_run(self) -> FinishedRun | None:
        """The last run, other than dry ones, that came to an end; None: there was none."""

        def work(db: sqlite3.Connection) -> FinishedRun | None:
            row = db.execute(
                "SELECT run, started_at, finished_at FROM run"
                " WHERE status IN ('done', 'failed', 'refused') AND message <> 'given up' AND NOT dry_run"
                " ORDER BY run DESC LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            (last,) = db.execute("SELECT max(run) FROM run").fetchone()
            (unlisted,) = db.execute("SELECT count(*) FROM range WHERE phase = 'planned'").fetchone()
            is_open = db.execute("SELECT run FROM run WHERE finished_at IS NULL").fetchone()
            return FinishedRun._make((*row, last == row[0] and not unlisted, is_open[0] if is_open else None))

        return await self._db.read(work)

    async def look_up(self, keys: Sequence[str], run: FinishedRun | None) -> dict[str, Record]:
        """What is recorded of some keys; one of which nothing is known has an empty record."""
        listed_by = run.mark if run is not None and run.is_listed else None
        by_file: dict[Path | None, list[str]] = {}
        paths = await self._db.read(lambda db: [self._file_of(db, key) for key in keys])
        for key, path in zip(keys, paths, strict=True):
            by_file.setdefault(path, []).append(key)
        found = {key: Record() for key in keys}
        for path, some in by_file.items():
            if path is not None:
                found |= await asyncio.to_thread(peek, path, lambda db, some=some: _records(db, some, listed_by))
        return found

    async def pages(self, run: FinishedRun) -> AsyncIterator[list[ObjectInfo]]:
        """The source as `run` listed it, ascending by key, at most 5,000 objects a page; without their metadata.

        Raises:
            FatalError: a file of the listing is missing, or a later run has begun to write it.
        """
        numbers = await self._db.read(
            lambda db: [row[0] for row in db.execute("SELECT range FROM range ORDER BY lo IS NOT NULL, lo").fetchall()]
        )
        for number in numbers:
            path, after = self._range_file(number), ""
            if not path.exists():
                raise FatalError(f"state file {path} is missing: leave --from-state away, or run heavy-sync")
            comparison = ">="  # the empty key is a key, too
            while page := await asyncio.to_thread(peek, path, _reader(run, path, comparison, after)):
                yield page
                comparison, after = ">", page[-1].key

    def _range_file(self, number: int) -> Path:
        return self._directory / "ranges" / f"{number:06d}.db"

    def _file_of(self, db: sqlite3.Connection, key: str) -> Path | None:
        """The file that speaks for a key: of its range, or of the range that it was split from and has no file yet."""
        row = db.execute(
            "SELECT range, parent FROM range WHERE (lo IS NULL OR lo < :key) AND (hi IS NULL OR :key <= hi)", {"key": key}
        ).fetchone()
        paths = [self._range_file(number) for number in (row or ()) if number is not None]
        return next((path for path in paths if path.exists()), None)


def _records(db: sqlite3.Connection, keys: Sequence[str], listed_by: int | None) -> dict[str, Record]:
    listed_run = db.execute("SELECT run FROM span").fetchone()
    is_listed = listed_by is not None and listed_run == (listed_by,)
    return {key: _record(db, key, is_listed=is_listed) for key in keys}


def _record(db: sqlite3.Connection, key: str, *, is_listed: bool) -> Record:
    row = db.execute("SELECT source_token, destination_token, md5, crc32c FROM proof WHERE key = ?", (key,)).fetchone()
    proof = Proof(*row) if row else None
    if not is_listed:
        return Record(proof)
    row = db.execute(f"SELECT {_COLUMNS} FROM source WHERE key = ?", (key,)).fetchone()
    listed = ObjectInfo(*row) if row else None
    owed = db.execute("SELECT status, coalesce(code, ''), coalesce(message, '') FROM transfer WHERE key = ?", (key,))
    return Record._make((proof, listed, *(owed.fetchone() or (None, "", "")), True))


def _reader(run: FinishedRun, path: Path, comparison: str, after: str) -> Callable[[sqlite3.Connection], list[ObjectInfo]]:
    def work(db: sqlite3.Connection) -> list[ObjectInfo]:
        done = db.execute("SELECT count(*) FROM listing WHERE side = 'source' AND done = 1").fetchone()
        if db.execute("SELECT run FROM span").fetchone() != (run.mark,) or done != (1,):
            raise FatalError(
                f"state file {path} does not hold the listing of run {run.number} any more: another run has begun; "
                "wait for it, or leave --from-state away"
            )
        rows = db.execute(
            f"SELECT {_COLUMNS} FROM source WHERE key {comparison} ? ORDER BY key LIMIT ?", (after, _PAGE)
        ).fetchall()
        return [ObjectInfo._make((*row, None, None)) for row in rows]

    return work
