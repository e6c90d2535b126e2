"""What several processes say of one plan: counted once, and refusals added up before anything is concluded from them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from heavysync.errors import FatalError
from heavysync.events import Finished, Kept, ListingDone, Listed, Moved, Notice, Retrying
from heavysync.objects import Location
from heavysync.outcomes import Done, Failed
from heavysync.runners import ledger as module
from heavysync.runners.ledger import Ledger
from heavysync.runners.telling import Teller
from heavysync.state.job import Totals, open_job
from heavysync.streaks import LONGEST, Streak

A, B = Location.parse("s3://aaa"), Location.parse("gs://bbb")


@asynccontextmanager
async def opened(directory):
    """A ledger, its job, and what it tells."""
    (directory / "ranges").mkdir()
    told = []

    async def changed() -> None:
        told.append("changed")

    async with open_job(directory, A, B) as job:
        ledger = Ledger(job, told.append, changed)
        await ledger.begin()
        yield ledger, job, told


def test_range_is_counted_once_however_often_it_is_listed(tmp_path):
    """A process that dies after it has said so is followed by one that says it again."""

    async def run():
        async with opened(tmp_path) as (ledger, _, told):
            await ledger.hand_back(1, "m", pieces=2)
            await ledger.listed(1)
            await ledger.listed(1)
            assert told == ["changed"]
            await ledger.cut(2, ["t"])
            await ledger.listed(2)
            assert ListingDone() not in told
            await ledger.listed(3)
            assert told[-1] == ListingDone()

    asyncio.run(run())


def test_refusals_of_several_processes_end_the_run_together(tmp_path, monkeypatch):
    """Neither half is enough; both are; another reason is another streak."""
    monkeypatch.setattr(module, "NEWS_S", 0.0)

    async def run():
        async with opened(tmp_path) as (ledger, _, _):
            half = LONGEST // 2
            assert not await ledger.judge(1, "AccessDenied", half, "no")
            assert not await ledger.judge(2, "http-403", half, "no")
            assert not await ledger.judge(1, "AccessDenied", half, "no")
            with pytest.raises(FatalError, match=f"the first {LONGEST} objects .*the last one with: you may not"):
                await ledger.judge(2, "AccessDenied", half, "you may not")

    asyncio.run(run())


@pytest.mark.parametrize("event", [Finished(1, 0, 0, 0), Finished(0, 1, 0, 0)])
def test_success_in_another_process_excuses_refusals(tmp_path, monkeypatch, event):
    """Also if it is heard of only while the run is about to end."""
    monkeypatch.setattr(module, "NEWS_S", 0.05)

    async def run():
        async with opened(tmp_path) as (ledger, _, _):
            asyncio.get_running_loop().call_later(0.01, ledger.note, event)
            assert await ledger.judge(1, "AccessDenied", LONGEST, "no")

    asyncio.run(run())


def test_success_in_this_process_excuses_refusals_and_is_passed_on(tmp_path):
    """What it copied before others took over is in no finished range yet."""

    async def run():
        async with opened(tmp_path) as (ledger, _, told):
            ledger.noting(told.append)(Finished(8, 0, 0, 0))
            assert told == [Finished(8, 0, 0, 0)]
            assert await ledger.judge(1, "AccessDenied", LONGEST, "no")

    asyncio.run(run())


def test_objects_in_sync_excuse_refusals(tmp_path):
    """A finished range has one that needed no copy."""

    async def run():
        async with opened(tmp_path) as (ledger, _, _):
            ledger.note(Finished(0, 0, 0, 50))
            await ledger.advance(1, before="planned", after="copied", totals=Totals(source_objects=2, to_copy=1))
            assert await ledger.judge(1, "AccessDenied", LONGEST, "no")

    asyncio.run(run())


def test_streak_that_was_judged_goes_on_until_something_goes_through():
    """What is not excused is judged again after as many refusals more; a success ends that."""
    streak = Streak(longest=2)
    for key in "ab":
        streak.note(Failed(key, "AccessDenied", "no"))
    assert streak.is_long
    streak.note(Done("c", 1, copied=True))
    assert not streak.is_long


def test_events_that_count_are_added_up_and_others_keep_their_order():
    """Many small events become one message, in which nothing is lost."""
    sent = []

    async def run():
        teller = Teller(sent.append, asyncio.get_running_loop())
        for number in range(1000):
            teller(Moved(number))
            teller.of(3)(Listed("source", 1, 10))
        teller(Notice("first"))
        teller(Retrying("read", "no", 1, 0.5))
        teller.of(4)(Moved(1))
        for number in (5, 6):
            teller.of(number)(Kept(2))
        assert not sent
        await asyncio.sleep(0.15)
        teller.flush()

    asyncio.run(run())
    (told,) = sent
    assert set(told.events) == {
        Moved(sum(range(1000)) + 1),
        Listed("source", 1000, 10_000),
        Kept(4),
        Notice("first"),
        Retrying("read", "no", 1, 0.5),
    }
    assert told.events[-2:] == (Notice("first"), Retrying("read", "no", 1, 0.5))
    assert told.progressed == {3, 5, 6}
