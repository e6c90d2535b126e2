"""Outcomes are recorded in batches where many come, and soon where few do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from heavysync import copying
from heavysync.copying import BATCH, GATHERS, LITTLE, MANY, copy_range
from heavysync.objects import ObjectInfo
from heavysync.outcomes import Done, Outcome, Transfer
from heavysync.streaks import Streak

NAP_S = 0.02


class Owed:
    """Stands in for a range's queue; takes down how many outcomes each batch has."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.batches: list[int] = []

    async def claim(self, limit: int) -> list[Transfer]:
        some = min(limit, self.left)
        self.left -= some
        return [Transfer(ObjectInfo(f"{self.left + number:05d}", 1, "e"), None, "missing") for number in range(some)]

    async def settle(self, batch: Sequence[Outcome]) -> None:
        self.batches.append(len(batch))


class Workers:
    """Stands in for the pool: so many outcomes come each NAP_S / 4, for each of which so many bytes were moved."""

    def __init__(self, rate: int, size: int) -> None:
        self.context: Any = SimpleNamespace(retry=SimpleNamespace(stopping=asyncio.Event()))
        self.streak = Streak(is_watched=False)
        self.stuck: dict[str, Any] = {}
        self._rate = rate
        self._size = size
        self._count = 0

    @property
    def inbox(self) -> Workers:
        return self

    async def room(self) -> int:
        if self._count and self._count % self._rate == 0:
            await asyncio.sleep(NAP_S / 4)
        return self._rate - self._count % self._rate

    def put(self, jobs: list[tuple[Transfer, Any]]) -> None:
        for transfer, home in jobs:
            home.report(Done(transfer.source.key, abs(self._size), copied=self._size > 0))
        self._count += len(jobs)


async def batches_of(count: int, rate: int, size: int = 1) -> list[int]:
    """The sizes of the batches in which so many outcomes are recorded; size below 0: found equal, nothing was moved."""
    queue, workers, listed = Owed(count), Workers(rate, size), asyncio.Event()
    listed.set()
    fake: Any = queue
    pool: Any = workers
    await copy_range(fake, pool, listed=listed, wake=asyncio.Event(), listener=lambda _: None)
    return queue.batches


def test_many_outcomes_are_recorded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch for each nap would be five times as many."""
    monkeypatch.setattr(copying, "GATHER_S", NAP_S)
    batches = asyncio.run(batches_of(count=40 * MANY, rate=MANY, size=1024))

    assert sum(batches) == 40 * MANY
    assert max(batches) > 8 * MANY
    assert len(batches) <= 6


def test_few_outcomes_are_recorded_after_one_nap(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kill may cost is little where little is done."""
    monkeypatch.setattr(copying, "GATHER_S", NAP_S)
    batches = asyncio.run(batches_of(count=60, rate=1))

    assert sum(batches) == 60
    assert max(batches) <= MANY
    assert len(batches) > GATHERS


def test_outcomes_that_were_much_work_are_recorded_after_one_nap(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many come: a kill may cost little of what had been moved. What was only looked at costs little."""
    monkeypatch.setattr(copying, "GATHER_S", NAP_S)
    much = LITTLE // MANY + 1
    batches = asyncio.run(batches_of(count=20 * MANY, rate=MANY, size=much))

    assert sum(batches) == 20 * MANY
    assert max(batches) <= 6 * MANY
    assert max(asyncio.run(batches_of(count=40 * MANY, rate=MANY, size=-much))) > 6 * MANY


def test_full_batch_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a batch is complete, another nap would only hold it back."""
    monkeypatch.setattr(copying, "GATHER_S", NAP_S)
    batches = asyncio.run(batches_of(count=4 * BATCH, rate=BATCH))

    assert batches == [BATCH] * 4
