"""What the files of ranges add up to: of one whose pass is finished, and of all of a run that was stopped in the middle."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import get_args

from heavysync.errors import FatalError
from heavysync.keyspace import KeyRange
from heavysync.state.database import peek
from heavysync.state.inventory import EXTRA, listings_of, span_of
from heavysync.state.job import Job, Phase, Run, Totals

# Plan: one scan of transfer; to group by status instead sorts all rows, which took five times as long.
_TRANSFERS = """
SELECT count(*),
       coalesce(sum(size), 0),
       coalesce(sum(status = 'done' AND copied), 0),
       coalesce(sum(iif(status = 'done' AND copied, size, 0)), 0),
       coalesce(sum(status = 'done' AND NOT copied), 0),
       coalesce(sum(status = 'skipped'), 0),
       coalesce(sum(status = 'failed'), 0)
  FROM transfer
"""
_EXTRAS = "SELECT status, count(*) FROM extra GROUP BY status"
_PURGED = "SELECT purged, purge_failed FROM progress"


def totals_of(db: sqlite3.Connection) -> Totals:
    """What the file of a range adds up to; nothing is extra before both sides are listed to the end."""
    listings = listings_of(db)
    source, destination = listings["source"], listings["destination"]
    extra = 0
    if source.done and destination.done:
        (extra,) = db.execute(f"SELECT count(*) FROM ({EXTRA})").fetchone()
    to_copy, to_copy_bytes, copied, copied_bytes, proven, skipped, failed = db.execute(_TRANSFERS).fetchone()
    found = Totals(
        source_objects=source.objects,
        source_bytes=source.size,
        destination_objects=destination.objects,
        destination_bytes=destination.size,
        extra=extra,
        to_copy=to_copy,
        to_copy_bytes=to_copy_bytes,
        copied=copied,
        copied_bytes=copied_bytes,
        proven=proven,
        skipped=skipped,
        failed=failed,
    )
    return _with_deletions(db, found)


def _with_deletions(db: sqlite3.Connection, found: Totals) -> Totals:
    """Totals of a range with what the passes after copying have done."""
    extras = dict(db.execute(_EXTRAS).fetchall())
    purged, purge_failed = db.execute(_PURGED).fetchone()
    return found._replace(
        deleted=extras.get("deleted", 0),
        kept=extras.get("kept", 0),
        delete_failed=extras.get("failed", 0),
        purged=purged,
        purge_failed=purge_failed,
    )


async def totals_so_far(job: Job, run: Run) -> Totals:
    """What all ranges add up to, also those in the middle of a pass, once nobody works on them.

    Only for telling: a range whose file cannot be read, or does not fit the plan, counts as the plan has it.
    """
    counted = await job.totals()
    for phase in get_args(Phase)[:-1]:
        if ranges := await job.ranges_in(phase):
            return await asyncio.to_thread(_add, counted, job, run, phase, ranges)
    return counted


def _add(counted: Totals, job: Job, run: Run, phase: Phase, ranges: list[tuple[int, KeyRange, Totals]]) -> Totals:
    for number, span, known in ranges:
        found = _look(job.range_file(number), run, phase, span, known)
        counted = Totals._make(total + now - before for total, now, before in zip(counted, found, known, strict=True))
    return counted


def _look(path: Path, run: Run, phase: Phase, span: KeyRange, known: Totals) -> Totals:
    """What a file adds up to, given what the plan says of it; once all is copied, only what came after is looked up."""

    def work(db: sqlite3.Connection) -> Totals:
        if span_of(db) != (run.mark, span):
            return known
        return totals_of(db) if phase == "planned" else _with_deletions(db, known)

    if path.exists():
        with suppress(FatalError):
            return peek(path, work)
    return known
