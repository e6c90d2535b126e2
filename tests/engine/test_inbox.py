"""The workers' inbox: nothing is lost or left lying, whoever is cancelled; who feeds it gets room in turn, by the handful."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from heavysync.inbox import Inbox


async def turns(count: int = 5) -> None:
    """Let the others run."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_jobs_come_in_the_order_in_which_they_were_put_in() -> None:
    """Those that wait, and those that are waited for."""

    async def run() -> list[int]:
        inbox: Inbox[int] = Inbox(10)
        inbox.put([1, 2])
        first = [await inbox.get(), await inbox.get()]
        waiting = [asyncio.create_task(inbox.get()) for _ in range(2)]
        await turns()
        inbox.put([3, 4, 5])
        return [*first, *await asyncio.gather(*waiting), await inbox.get()]

    assert asyncio.run(run()) == [1, 2, 3, 4, 5]


def test_room_is_what_is_free_and_a_share_of_the_half_for_those_who_waited() -> None:
    """Nobody who waits is passed over by who comes later."""

    async def run() -> None:
        inbox: Inbox[int] = Inbox(16)
        assert await inbox.room() == 16
        inbox.put(range(10))
        assert await inbox.room() == 6
        inbox.put(range(6))
        waiting = [asyncio.create_task(inbox.room()) for _ in range(2)]
        await turns()
        for _ in range(7):
            await inbox.get()
        await turns()
        late = asyncio.create_task(inbox.room())
        await turns()
        assert not any(task.done() for task in [*waiting, late])
        await inbox.get()
        await turns()
        assert [task.result() for task in [*waiting, late]] == [2, 2, 2]

    asyncio.run(run())


def test_turn_of_a_cancelled_worker_is_another_ones() -> None:
    """Woken and cancelled in the same turn of the loop."""

    async def run() -> None:
        inbox: Inbox[str] = Inbox(4)
        first, second = (asyncio.create_task(inbox.get()) for _ in range(2))
        await turns()
        inbox.put(["job"])
        first.cancel()
        await turns()
        assert first.cancelled()
        assert second.result() == "job"

    asyncio.run(run())


def test_cancelled_feeder_holds_nobody_up() -> None:
    """Neither while it waits, nor when it was just told that there is room."""

    async def run() -> None:
        inbox: Inbox[int] = Inbox(2)
        inbox.put([1, 2])
        gone, told, stays = (asyncio.create_task(inbox.room()) for _ in range(3))
        await turns()
        gone.cancel()
        await turns()
        await inbox.get()
        told.cancel()
        await turns()
        assert told.cancelled()
        assert stays.result() == 1

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(20))
def test_every_job_is_done_once_whatever_happens(seed: int) -> None:
    """Feeders and workers of any number and pace, some of which are cancelled."""
    chance = random.Random(seed)
    most, feeders, workers = chance.choice([1, 2, 3, 8, 128]), chance.randint(1, 6), chance.randint(1, 9)
    put: list[int] = []
    done: Counter[int] = Counter()
    longest = 0

    async def pause() -> None:
        for _ in range(chance.choice([0, 0, 0, 1, 3])):
            await asyncio.sleep(0)

    async def feed(inbox: Inbox[int], number: int) -> None:
        nonlocal longest
        left = [number * 1000 + job for job in range(chance.randint(0, 300))]
        while left:
            room = await inbox.room()
            put.extend(left[:room])
            inbox.put(left[:room])
            longest = max(longest, len(inbox._jobs))
            del left[:room]
            await pause()

    async def work(inbox: Inbox[int]) -> None:
        while True:
            job = await inbox.get()
            done[job] += 1
            await pause()

    async def run() -> None:
        inbox: Inbox[int] = Inbox(most)
        async with asyncio.timeout(60):
            feeding = [asyncio.create_task(feed(inbox, number)) for number in range(feeders)]
            working = [asyncio.create_task(work(inbox)) for _ in range(workers)]
            for _ in range(chance.randint(0, 5)):
                await turns(chance.randint(1, 50))
                chance.choice(feeding).cancel()
                chance.choice(working[1:] or [asyncio.create_task(pause())]).cancel()
            await asyncio.gather(*feeding, return_exceptions=True)
            while not inbox.is_empty:
                await asyncio.sleep(0)
            for task in working:
                task.cancel()

    asyncio.run(run())
    assert done == Counter(put)
    assert longest <= most * (1 + feeders)
