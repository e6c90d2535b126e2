"""A run that was taken up again for what had failed: what it says, when it is given up, and what it purges anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from heavysync.errors import FatalError, PermanentError, StoppedEarlyError, TransientError, UsageError
from heavysync.events import Retrying
from heavysync.objects import Deletion, DeletionFailure, Metadata
from heavysync.options import MaxDelete
from heavysync.reports import SyncReport
from heavysync.state.job import Job
from pairs import Pair

ALL = MaxDelete.parse("100%")


def refuse(what: str, key: str) -> None:
    """Some objects cannot be written."""
    if what == "write" and key.endswith("7"):
        raise PermanentError("write: 400 InvalidRequest", code="InvalidRequest")


def interrupted(directory: Path) -> Pair:
    """A pair whose run 1 failed for 10 objects, was taken up again, and broke off after a few of them."""
    pair = Pair(directory, ("s3", "s3"))
    pair.fill(100)
    pair.destination.fault = refuse
    assert pair.run().totals.failed == 10
    before = pair.destination.calls["write"]

    def power(what: str, key: str) -> None:
        if what == "write" and pair.destination.calls["write"] > before + 4:
            raise FatalError("power")

    pair.destination.fault = power
    with pytest.raises(FatalError, match="power"):
        pair.run(retry_failed=True, concurrency=1)
    pair.destination.fault = None
    return pair


def test_interrupted_retry_keeps_its_caveat(tmp_path: Path) -> None:
    """Whoever goes on with it is told as well how old the listings are."""
    pair = interrupted(tmp_path / "s")

    report = pair.run(retry_failed=True)

    assert (report.status, report.run, report.resumed, report.totals.failed) == ("done", 1, True, 0)
    assert "with what was listed when run 1 began" in report.message
    pair.assert_equal()


def test_plain_start_gives_an_interrupted_retry_up(tmp_path: Path) -> None:
    """Who asks for no retry asks whether the sides are equal now, so both are listed, whatever the other options are."""
    pair = interrupted(tmp_path / "s")
    pair.put("since", b"new")
    with pytest.raises(UsageError, match="other options"):
        pair.run(retry_failed=True, delete=False)

    report = pair.run(delete=False)

    assert (report.status, report.run, report.resumed, report.message) == ("done", 2, False, "in sync")
    pair.assert_equal()
    assert pair.run().run == 3


def test_plain_start_goes_on_with_a_run_that_was_never_reopened(tmp_path: Path) -> None:
    """--retry-failed with a run that had not finished lists the rest of it, so it is a run like any other."""
    pair = Pair(tmp_path / "s", ("s3", "s3"))
    pair.fill(100)

    def power(what: str, key: str) -> None:
        if what == "write" and pair.destination.calls["write"] % 40 == 39:
            raise FatalError("power")

    pair.destination.fault = power
    for retry_failed in (False, True):
        with pytest.raises(FatalError):
            pair.run(retry_failed=retry_failed, concurrency=1)
    pair.destination.fault = None
    report = pair.run()

    assert (report.status, report.run, report.resumed, report.message) == ("done", 1, True, "in sync")


class Versions:
    """A destination with old versions of 9 keys, some of which are locked, and old delete markers of two more."""

    def __init__(self, directory: Path) -> None:
        self.pair = pair = Pair(directory, ("s3", "s3"), page_max=4)
        self.locked: set[str] = {"key-1", "key-4", "key-8"}
        now = datetime(2026, 1, 1, tzinfo=UTC)
        clock = [now]
        pair.destination.service.now = lambda: clock[0]
        pair.destination.bucket.versioning = "enabled"
        for data in (b"one", b"two"):
            for number in range(9):
                pair.put(f"key-{number}", data)
            pair.run()
            clock[0] += timedelta(days=10)
        for key in ("gone-1", "gone-2"):
            pair.destination.bucket.put(key, b"x", Metadata())
            pair.destination.bucket.delete(key)
            rows = pair.destination.bucket.rows[key]
            pair.destination.bucket.delete_version(key, rows[0].version)
        clock[0] += timedelta(days=90)
        delete = pair.destination.delete

        async def but_locked(batch: list[Deletion]) -> list[DeletionFailure]:
            bad = [one for one in batch if one.key in self.locked]
            failures = await delete([one for one in batch if one not in bad])
            return failures + [DeletionFailure(one.key, one.version, "locked", "held", False) for one in bad]

        pair.destination.delete = but_locked

    def run(self, *, retry_failed: bool = False) -> SyncReport:
        return self.pair.run(purge_noncurrent=15, retry_failed=retry_failed)

    def old(self) -> int:
        """Versions that should not be there."""
        return sum(len(rows) for rows in self.pair.destination.bucket.rows.values()) - 9


def test_retry_failed_purges_again_what_could_not_be_purged(tmp_path: Path) -> None:
    """Versions that were locked are failures like any other; nothing is listed anew but the versions."""
    world = Versions(tmp_path / "s")
    world.locked.add("gone-1")
    first = world.run()
    assert (first.status, first.totals.purge_failed, first.totals.purged, world.old()) == ("failed", 4, 7, 4)
    listed = world.pair.destination.calls["list_page"]
    second = world.run(retry_failed=True)
    assert (second.status, second.totals.purge_failed, len(second.troubles)) == ("failed", 4, 4)
    world.locked.clear()

    third = world.run(retry_failed=True)

    assert (third.status, third.run, third.totals.purge_failed, third.totals.purged) == ("done", first.run, 0, 11)
    assert "when run" in third.message
    assert world.pair.destination.calls["list_page"] == listed
    assert world.old() == 0


@pytest.mark.parametrize("locked", ["key-8", "gone-1"])
@pytest.mark.parametrize("retry_failed", [False, True])
def test_kill_after_the_last_page_counts_no_failure_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locked: str, *, retry_failed: bool
) -> None:
    """What was purged is saved in the range's file, and then in the plan; in between the process may end."""
    world = Versions(tmp_path / "s")
    world.locked.add(locked)
    advance = Job.advance

    async def power(job: Job, number: int, **how: object) -> None:
        if how["after"] == "purged":
            raise FatalError("power")
        await advance(job, number, **how)

    monkeypatch.setattr(Job, "advance", power)
    with pytest.raises(FatalError, match="power"):
        world.run()
    monkeypatch.undo()
    report = world.run(retry_failed=retry_failed)

    assert (report.resumed, report.totals.purge_failed, report.totals.purged) == (
        True,
        len(world.locked),
        11 - len(world.locked),
    )
    assert len(report.troubles) == len(world.locked) == world.old()


def _stop_at(step: str, pair: Pair, *, happens: bool) -> Callable[[], SyncReport]:
    """A start that is stopped at a step of the opening phase, before or after it took effect."""

    async def run() -> SyncReport:
        stop = asyncio.Event()

        def down(operation: str, key: str) -> None:
            is_due = pair.destination.calls[step] > 0 and operation == ("read_bucket" if happens else step)
            if is_due:
                stop.set()
                raise TransientError("down")

        pair.destination.fault = down
        return await pair.sync(stop=stop, create_bucket=True, enable_versioning=True)

    return lambda: asyncio.run(run())


@pytest.mark.parametrize(
    ("step", "happens", "told"),
    [
        ("create_bucket", True, "s3://b/ was created"),
        ("create_bucket", False, "s3://b/ may have been created"),
        ("enable_versioning", True, "s3://b/ was created, versioning of s3://b/ was enabled"),
        ("enable_versioning", False, "s3://b/ was created, versioning of s3://b/ may have been enabled"),
    ],
)
def test_stop_while_opening_tells_what_was_changed(tmp_path: Path, step: str, told: str, *, happens: bool) -> None:
    """A bucket that was created stays, so nobody is told that nothing was changed."""
    pair = Pair(tmp_path / "s", ("gs", "s3"))
    del pair.destination.service.buckets["b"]

    with pytest.raises(StoppedEarlyError) as caught:
        _stop_at(step, pair, happens=happens)()

    assert str(caught.value) == f"stopped while the buckets were looked at; {told}"


def test_deletion_that_is_tried_again_is_told_with_its_own_words(tmp_path: Path) -> None:
    """The words of another key, which was refused for good, would mislead."""
    pair = Pair(tmp_path / "s", ("s3", "s3"))
    pair.put("key", b"x")
    for key in ("extra-1", "extra-2"):
        pair.destination.bucket.put(key, b"old", Metadata())
    delete = pair.destination.delete

    async def but_two(batch: list[Deletion]) -> list[DeletionFailure]:
        if len(batch) == 1:
            return await delete(batch)
        first, second = batch
        return [
            DeletionFailure(first.key, None, "locked", "held", False),
            DeletionFailure(second.key, None, "InternalError", "oops", True),
        ]

    pair.destination.delete = but_two
    report = pair.run(delete=True, max_delete=ALL)

    assert (report.totals.deleted, report.totals.delete_failed) == (1, 1)
    assert [event.error for event in pair.events if isinstance(event, Retrying)] == ["delete extra-2: InternalError: oops"]
