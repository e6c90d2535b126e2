"""What a run that was stopped says it has done: all of it, also in ranges that it had not finished, and nothing else."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import closing
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from heavysync.errors import FatalError
from heavysync.objects import Metadata
from heavysync.options import MaxDelete
from heavysync.reports import SyncReport
from pairs import Pair

OBJECTS, EXTRAS = 300, 120
RANGES = {"first_rows": 50, "range_rows": 60, "concurrency": 4, "delete": True, "max_delete": MaxDelete.parse("100%")}


class Stop:
    """Stops a run at the n-th of its operations, or of those of one name."""

    def __init__(self, pair: Pair, operation: str = "") -> None:
        self._pair = pair
        self._operation = operation
        self._left = 0
        self._event = asyncio.Event()
        pair.source.fault = pair.destination.fault = self._fault

    def _fault(self, operation: str, _key: str) -> None:
        self._left -= self._operation in {"", operation}
        if self._left == 0:
            self._event.set()

    def after(self, operations: int, **options: object) -> SyncReport:
        """Run until then."""

        async def run() -> SyncReport:
            self._left, self._event = operations, asyncio.Event()
            return await self._pair.sync(stop=self._event, **{**RANGES, **options})

        return asyncio.run(run())


def with_extras(directory: Path, *, to_copy: int = OBJECTS) -> Pair:
    """Objects to copy, and others that only the destination has."""
    pair = Pair(directory, page_max=20)
    limit(pair, delete_batch=5)
    pair.fill(to_copy, size=20)
    for number in range(EXTRAS):
        pair.destination.bucket.put(f"dir{number % 7}/old-{number:06d}", b"x", Metadata())
    return pair


def limit(pair: Pair, **limits: int) -> None:
    pair.destination.limits = replace(pair.destination.limits, **limits)


def left(pair: Pair) -> int:
    return sum("/old-" in name for name, _ in pair.destination.bucket.live_rows("", ""))


@pytest.mark.parametrize(("operation", "most"), [("", 100), ("write", 60), ("delete", 8)])
def test_stopped_run_counts_what_it_has_done(tmp_path: Path, operation: str, most: int) -> None:
    """Stop after stop, in every pass: as many copied as were written, as many deleted as are gone."""
    chance = random.Random(operation)
    pair = with_extras(tmp_path / "s")
    stop = Stop(pair, operation)
    counted = []
    while (report := stop.after(chance.randrange(most // 2, most))).status == "stopped":
        totals = report.totals
        assert totals.copied == pair.destination.calls["write"]
        assert totals.copied_bytes == 20 * totals.copied
        assert totals.deleted == EXTRAS - left(pair)
        counted.append((totals.copied, totals.deleted))

    assert (report.status, report.totals.copied, report.totals.deleted) == ("done", OBJECTS, EXTRAS)
    assert counted == sorted(counted)
    assert counted[0][0] < OBJECTS or operation == "delete"
    assert 0 < counted[-1][1] < EXTRAS or operation != "delete"
    pair.assert_equal()


def test_ranges_of_an_earlier_run_are_not_counted(tmp_path: Path) -> None:
    """The plan is kept from run to run, and so are the files of ranges that a stopped run has not come to."""
    pair = with_extras(tmp_path / "s", to_copy=400)
    assert pair.run(**RANGES).totals.copied == 400
    files = sorted((tmp_path / "s" / "ranges").glob("*.db"))
    assert len(files) > 4
    listed = {file: rows(file) for file in files}
    pair.put("dir0/new", b"new")

    report = Stop(pair).after(8, ranges_at_once=1)

    assert (report.status, report.totals.copied) == ("stopped", pair.destination.calls["write"] - 400)
    assert 0 < report.totals.source_objects < 400
    assert sum(rows(file) == listed[file] > 0 for file in files) > 1, "files that the run has not come to"


def test_failures_of_ranges_under_way_are_named_and_the_others_left_alone(tmp_path: Path) -> None:
    """To look for what failed does not make or empty files of ranges that the run has not come to."""
    pair = with_extras(tmp_path / "s", to_copy=400)
    assert pair.run(**RANGES).status == "done"
    files = sorted((tmp_path / "s" / "ranges").glob("*.db"))
    files[-1].unlink()
    listed = {file: rows(file) for file in files[:-1]}
    for number in range(400):
        pair.put(f"dir{number % 7}/key-{number:06d}", b"changed")
    stop = Stop(pair)
    limit(pair, object_max=0)

    report = stop.after(14, ranges_at_once=1)

    assert report.status == "stopped"
    assert report.totals.failed > 0
    assert len(report.troubles) == min(report.totals.failed, 20)
    assert not files[-1].exists()
    assert sum(rows(file) == listed[file] > 0 for file in files[:-1]) > 1


@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_range_that_cannot_be_read_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str) -> None:
    """The run is stopped all the same; the next one finds out what has become of the file."""
    pair = with_extras(tmp_path / "s")
    module = import_module("heavysync.sync")  # the package has a function of that name
    count = module.totals_so_far

    async def after_harm(job, run):
        for file in (tmp_path / "s" / "ranges").glob("*.db"):
            file.unlink()
            if harm == "damaged":
                file.write_bytes(b"no database" * 1000)
        return await count(job, run)

    monkeypatch.setattr(module, "totals_so_far", after_harm)
    report = Stop(pair).after(60, range_rows=1000, first_rows=1000)
    assert pair.destination.calls["write"] > 0
    assert (report.status, report.totals.copied) == ("stopped", 0)
    if harm == "damaged":
        with pytest.raises(FatalError, match="not a state file"):
            pair.run(**RANGES)


def rows(file: Path) -> int:
    """Objects that the file of a range has listed at the source."""
    if not file.exists():
        return -1
    with closing(sqlite3.connect(file)) as db:
        return int(db.execute("SELECT objects FROM listing WHERE side = 'source'").fetchone()[0])
