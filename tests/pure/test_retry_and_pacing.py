"""The retry policy and the byte budget, without real waiting."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heavysync.errors import PermanentError, TransientError
from heavysync.events import Recovered, Retrying
from heavysync.pacing import SNUG, ByteBudget
from heavysync.retry import CAP_S, OUTAGE_CAP_S, Retrier, StoppedError


MIB = 1 << 20


def failing(times: int, error: Exception):
    left = [times]

    async def step() -> str:
        if left[0]:
            left[0] -= 1
            raise error
        return "ok"

    return step


def test_transient_errors_are_tried_again_until_it_works() -> None:
    """Two hundred failures are not too many; each is told."""
    events = []

    async def run() -> str:
        return await Retrier(events.append, base_s=0.0)("op", failing(200, TransientError("x")))

    assert asyncio.run(run()) == "ok"
    assert sum(isinstance(event, Retrying) for event in events) == 200
    assert isinstance(events[-1], Recovered)


def test_other_errors_pass_at_once() -> None:
    """A permanent error, also after a transient one."""

    async def run() -> None:
        retry = Retrier(base_s=0.0)
        with pytest.raises(PermanentError):
            await retry("op", failing(1, PermanentError("no")))
        errors = iter([TransientError("x"), PermanentError("no")])

        async def step() -> None:
            raise next(errors)

        with pytest.raises(PermanentError):
            await retry("op", step)

    asyncio.run(run())


def test_waits_are_jittered_capped_and_honour_the_provider() -> None:
    """uniform(0, min(cap, base * 2^n)); Retry-After is a lower bound; the cap holds for both."""
    waits: list[float] = []
    retry = Retrier(
        lambda event: waits.append(event.wait_s) if isinstance(event, Retrying) else None, uniform=lambda _, high: high
    )

    async def at_once(_: float) -> None:
        return

    retry._sleep = at_once

    async def run() -> None:
        await retry("op", failing(12, TransientError("x")))
        await retry("op", failing(1, TransientError("x", retry_after=7)))
        await retry("op", failing(1, TransientError("x", retry_after=9999)))
        await retry("op", failing(12, TransientError("x", throttled=True)))

    asyncio.run(run())
    assert waits[:4] == [0.5, 1.0, 2.0, 4.0]
    assert waits[11] == OUTAGE_CAP_S
    assert waits[12:15] == [7, CAP_S, 2.0]
    assert waits[-1] == CAP_S


def test_a_stop_ends_the_waiting() -> None:
    """A step that waits for its next attempt gives up, and so does one that fails later."""

    async def run() -> None:
        retry = Retrier(base_s=1000.0, uniform=lambda _, high: high)
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(expect_stop(retry, failing(9, TransientError("x"))))
            await asyncio.sleep(0)
            retry.stopping.set()
        assert waiting.result()
        assert await expect_stop(retry, failing(1, TransientError("x")))
        assert await retry("op", failing(0, TransientError("x"))) == "ok"

    async def expect_stop(retry: Retrier, step) -> bool:
        with pytest.raises(StoppedError):
            await retry("op", step)
        return True

    asyncio.run(run())


def test_cancellation_is_never_retried() -> None:
    """A cancelled step ends."""

    async def run() -> None:
        retry = Retrier(base_s=0.0)
        calls = []

        async def step() -> None:
            calls.append(1)
            if len(calls) == 1:
                raise TransientError("x")
            await asyncio.sleep(3600)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(retry("op", step))
            while len(calls) < 2:
                await asyncio.sleep(0)
            task.cancel()
        assert task.cancelled()

    asyncio.run(run())


@settings(deadline=None)
@given(st.lists(st.integers(0, 120), min_size=1, max_size=30), st.randoms())
def test_budget_is_never_exceeded_and_everybody_gets_a_turn(sizes: list[int], random) -> None:
    """Also those who ask for more than there is, and with some of them cancelled."""

    async def run() -> None:
        budget, held, most = ByteBudget(100), [0], [0]

        async def worker(size: int) -> None:
            async with budget.take(size):
                held[0] += min(size, 100)
                most[0] = max(most[0], held[0])
                await asyncio.sleep(0)
                held[0] -= min(size, 100)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(worker(size)) for size in sizes]
            await asyncio.sleep(0)
            for task in tasks:
                if random.random() < 0.3 and held[0] == 0:
                    task.cancel()
        assert most[0] <= 100
        async with budget.take(100):
            pass

    asyncio.run(run())


def test_bytes_in_flight_grow_while_the_loop_is_idle_and_shrink_when_it_is_busy() -> None:
    """Only while somebody waits for them, between SNUG and the limit."""
    now, busy = [0.0], [0.0]
    limit = 4 * SNUG
    budget = ByteBudget(limit, clock=lambda: now[0], busy=lambda: busy[0])
    held, most = [0], list[int]()

    async def worker() -> None:
        while now[0] < 10:
            async with budget.take(MIB):
                held[0] += MIB
                most.append(held[0])
                await asyncio.sleep(0)
                held[0] -= MIB

    async def pass_time() -> None:
        while now[0] < 10:
            now[0] += 0.05
            busy[0] += 0.05 if 5 < now[0] else 0.01
            await asyncio.sleep(0)

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(pass_time())
            for _ in range(700):
                group.create_task(worker())

    asyncio.run(run())
    assert (max(most[:300]), max(most), max(most[-300:])) == (SNUG, limit, SNUG)


@pytest.mark.parametrize("took_s", [0.3, 5.0, 60.0])
def test_bytes_in_flight_grow_however_seldom_somebody_looks(took_s: float) -> None:
    """Parts that take long are given back seldom; as long as somebody waits all the time, that is no reason to stay small."""
    now, ends, held, most = [0.0], [asyncio.Event() for _ in range(100)], [0], [0]

    async def worker(budget: ByteBudget, end: asyncio.Event) -> None:
        async with budget.take(64 * MIB):
            held[0] += 1
            most[0] = max(held[0], most[0])
            await end.wait()
            held[0] -= 1

    async def run() -> None:
        budget = ByteBudget(8 * SNUG, clock=lambda: now[0], busy=lambda: 0.0)
        async with asyncio.TaskGroup() as group:
            for end in ends:
                group.create_task(worker(budget, end))
            for end in ends:
                for _ in range(3):
                    await asyncio.sleep(0)
                now[0] += took_s
                end.set()

    asyncio.run(run())
    assert most[0] == 16


@pytest.mark.parametrize("limit", [16 * MIB, 4 * SNUG])
def test_whoever_asks_for_all_bytes_gets_them_alone(limit: int) -> None:
    """Also where so many are not handed out for now: nobody waits for ever."""

    async def run() -> None:
        budget = ByteBudget(limit)
        async with asyncio.timeout(5):
            async with budget.take(2 * limit):
                waiting = asyncio.get_running_loop().create_task(budget.acquire(1))
                await asyncio.sleep(0)
                assert not waiting.done()
            await waiting

    asyncio.run(run())
