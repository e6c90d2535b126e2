"""Runs that are cut off at any moment, again and again: the end is the same, and little is done twice."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from pathlib import Path

import pytest

from heavysync.errors import TransientError
from heavysync.options import MaxDelete
from pairs import KIB, SMALL_S3, Pair

CONCURRENCY = 8
OBJECTS = 300
ANYTHING = MaxDelete.parse("100%")


class Cut:
    """Cancels the running task at the n-th operation of either store."""

    def __init__(self, pair: Pair, flaky: random.Random | None = None) -> None:
        self.left = 0
        self.task: asyncio.Task[object] | None = None
        self.writes = 0
        self._flaky = flaky
        pair.source.fault = pair.destination.fault = self.fault

    def fault(self, operation: str, key: str) -> None:
        if operation in {"write", "write_part", "copy"}:
            self.writes += 1
        self.left -= 1
        if self.left == 0 and self.task is not None:
            self.task.cancel()
        if self._flaky and self._flaky.random() < 0.05:
            raise TransientError("flaky")


@pytest.mark.parametrize("kinds", [("s3", "gs"), ("gs", "s3"), ("s3", "s3"), ("gs", "gs")])
@pytest.mark.parametrize("seed", range(2))
def test_runs_cut_off_at_any_moment_end_equal(tmp_path: Path, kinds: tuple[str, str], seed: int) -> None:
    """Ten times in a row, with deletes to do, small ranges, large objects, and some errors in passing."""
    chance = random.Random(seed)
    pair = Pair(tmp_path / "s", kinds, limits=SMALL_S3 if kinds[1] == "s3" else None, page_max=20)
    pair.fill(OBJECTS, size=20)
    for number in range(3):
        pair.put(f"large{number}", chance.randbytes(20 * KIB))
    pair.run(first_rows=50, range_rows=60)
    for number in range(0, OBJECTS, 5):
        pair.source.bucket.delete(f"dir{number % 7}/key-{number:06d}")
    for number in range(1, OBJECTS, 2):
        pair.put(f"new{number % 3}/key-{number:06d}", chance.randbytes(20))
    for number in range(3):
        pair.put(f"large{number}", chance.randbytes(30 * KIB))
    cut = Cut(pair, chance if seed % 2 else None)

    async def killed() -> None:
        cut.left = chance.randrange(1, 250)
        with suppress(asyncio.CancelledError):
            async with asyncio.TaskGroup() as group:
                cut.task = group.create_task(
                    pair.sync(concurrency=CONCURRENCY, first_rows=50, range_rows=60, max_delete=ANYTHING)
                )
        cut.task = None

    for _ in range(10):
        asyncio.run(killed())
    report = pair.run(concurrency=CONCURRENCY, first_rows=50, range_rows=60, max_delete=ANYTHING)

    assert (report.status, report.totals.failed) == ("done", 0)
    pair.assert_equal()
    # objects, parts of large ones, and for each of ten cuts what was in flight or not recorded yet
    assert cut.writes <= OBJECTS + 3 * 8 + 10 * (CONCURRENCY + 256)
    assert pair.run(first_rows=50, range_rows=60).totals.to_copy == 0


def test_stop_while_the_listing_waits_for_another_attempt_loses_no_write(tmp_path: Path) -> None:
    """Its listing is given up, but the range is left only when what its copiers have under way is recorded."""
    pair = Pair(tmp_path / "s", ("s3", "gs"), page_max=10)
    pair.fill(30)
    pages = 0

    async def stopped() -> str:
        stop, slow = asyncio.Event(), asyncio.Event()

        def fail(operation: str, _key: str) -> None:
            nonlocal pages
            pages += operation == "list_page"
            if operation == "list_page" and pages > 1 and slow.is_set():
                stop.set()
                raise TransientError("told so")

        async def wait(operation: str, _key: str) -> None:
            if operation == "write":
                slow.set()
                await asyncio.sleep(0.3)

        pair.source.fault, pair.destination.fault = fail, wait
        return (await pair.sync(concurrency=CONCURRENCY, stop=stop)).status

    assert asyncio.run(stopped()) == "stopped"
    begun = pair.destination.calls["write"]
    pair.source.fault = pair.destination.fault = None
    assert 0 < begun < 30
    assert pair.run(concurrency=CONCURRENCY).totals.copied == 30
    pair.assert_equal()
    assert pair.destination.calls["write"] == 30
