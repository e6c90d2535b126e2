"""A simulated provider with a token bucket, in virtual time: how close to its limit requests are paced."""

from __future__ import annotations

import asyncio
import heapq
import random

import pytest

from heavysync.pacing import LEAST, Pace


class World:
    """Virtual time, and a provider that serves `limit` requests a second and refuses the others."""

    def __init__(self, limit: float) -> None:
        self.now = 1000.0
        self.limit = limit
        self.served = self.refused = 0
        self._tokens = 0.0
        self._filled = self.now
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._number = 0
        self.pace = Pace(lambda: self.now, self.sleep)

    async def sleep(self, seconds: float) -> None:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._number += 1
        heapq.heappush(self._waiting, (self.now + seconds, self._number, waiting))
        await waiting

    def serve(self) -> bool:
        """Whether the provider takes a request now; its bucket holds a tenth of a second's worth."""
        self._tokens = min(self.limit / 10 + 1, self._tokens + (self.now - self._filled) * self.limit)
        self._filled = self.now
        if self._tokens < 1:
            self.refused += 1
            return False
        self._tokens -= 1
        self.served += 1
        return True

    async def work(self, seed: int, until: float) -> None:
        """One worker: a request after the other, each tried again after a random wait when it was refused."""
        chance = random.Random(seed)
        failed = 0
        while self.now < until:
            await self.pace.turn()
            await self.sleep(0.03 * chance.uniform(0.5, 1.5))
            if self.serve():
                self.pace.served()
                failed = 0
                continue
            self.pace.throttled()
            failed += 1
            await self.sleep(chance.uniform(0, min(300.0, 2.0**failed)))

    async def run(self, workers: int, seconds: float) -> None:
        """Let workers run for a time."""
        until = self.now + seconds
        tasks = [asyncio.ensure_future(self.work(seed, until)) for seed in range(workers)]
        while not all(task.done() for task in tasks):
            for _ in range(3):
                await asyncio.sleep(0)
            if self._waiting:
                moment, _, waiting = heapq.heappop(self._waiting)
                self.now = moment
                waiting.set_result(None)


def driven(limit: float, workers: int, seconds: float = 60.0) -> World:
    """A world after some time of work."""
    world = World(limit)
    asyncio.run(world.run(workers, seconds))
    return world


@pytest.mark.parametrize(("limit", "workers", "seconds"), [(60, 32, 120), (100, 64, 120), (500, 256, 60)])
def test_a_provider_is_driven_close_below_its_limit(limit: float, workers: int, seconds: float) -> None:
    """At 90 % of it at least, with fewer than 2 % of the requests refused, the first storm included."""
    world = driven(limit, workers, seconds)

    assert world.served >= 0.9 * limit * seconds
    assert world.refused < 0.02 * (world.served + world.refused)


def test_without_throttling_nothing_is_paced() -> None:
    """Nobody waits, and no rate is set."""
    world = driven(1e9, 8, 2.0)

    assert world.pace.rate is None
    assert 0 == world.refused
    assert world.served > 8 * 2 / 0.045


def test_a_limit_that_rises_is_followed() -> None:
    """Within half a minute the new one is used."""

    async def body() -> None:
        world = World(50)
        await world.run(128, 30)
        world.limit = 200
        await world.run(128, 30)
        world.served = 0
        await world.run(128, 10)
        assert world.served > 0.9 * 200 * 10

    asyncio.run(body())


def test_a_limit_that_falls_is_heeded() -> None:
    """After a few seconds hardly anything is refused any more."""

    async def body() -> None:
        world = World(200)
        await world.run(128, 20)
        world.limit = 50
        await world.run(128, 15)
        world.served = world.refused = 0
        await world.run(128, 20)
        assert world.refused < 0.05 * world.served
        assert world.served > 0.85 * 50 * 20

    asyncio.run(body())


def refuse(world: World, served: int, refused: int) -> None:
    """Two seconds with so much of each in both of them."""
    for _ in range(2):
        for _ in range(served):
            world.pace.served()
        for _ in range(refused):
            world.pace.throttled()
        world.now += 1


def test_one_round_trip_of_refusals_is_one_cut() -> None:
    """A thousand requests that were under way together are refused together: that is one piece of news."""
    world = World(100)
    refuse(world, 100, 10)
    world.pace.throttled()
    rate = world.pace.rate
    for _ in range(1000):
        world.pace.throttled()

    assert rate == world.pace.rate
    assert rate is not None
    assert rate >= 90


@pytest.mark.parametrize(("served", "refused"), [(10_000, 100), (1000, 20), (3, 1)])
def test_single_refusals_are_no_limit(served: int, refused: int) -> None:
    """Some providers refuse one request or the other at any rate: that alone slows nothing down."""
    world = World(1e9)
    for _ in range(10):
        refuse(world, served, refused)
        world.now += 5

    assert world.pace.rate is None
    assert world.pace.is_free


def test_first_storm_is_no_measure_of_the_limit() -> None:
    """What was served in the first blink of an eye says nothing of what can be served in a second."""
    world = World(100)
    for _ in range(50):
        world.pace.throttled()

    assert world.pace.rate is None


def test_rate_far_above_the_old_limit_is_none() -> None:
    """Long after a limit has gone nothing is paced any more."""

    async def body() -> World:
        world = World(100)
        await world.run(16, 10)
        world.limit = 1e9
        await world.run(16, 60)
        return world

    world = asyncio.run(body())

    assert world.pace.is_free


def test_provider_that_serves_nothing_is_asked_once_a_second() -> None:
    """The rate never falls to nothing, or nobody would notice the end of it."""
    world = World(0)
    for _ in range(50):
        refuse(world, 0, 50)

    assert LEAST == world.pace.rate


def test_retry_after_holds_the_whole_lane() -> None:
    """For so many seconds no request goes."""

    async def body() -> float:
        world = World(1e9)
        for _ in range(3):
            world.pace.throttled(7.0)
        waiting = asyncio.ensure_future(world.pace.turn())
        await asyncio.sleep(0)
        assert not waiting.done()
        start = world.now
        world.now, _, future = world._waiting[0]
        future.set_result(None)
        await waiting
        assert world.pace.is_free
        return world.now - start

    assert 7.0 == asyncio.run(body())


def test_retry_after_of_one_request_holds_no_other():
    """It is that request's own affair."""
    world = World(1e9)
    for _ in range(100):
        world.pace.served()
    world.pace.throttled(3600)

    assert world.pace.is_free


def test_ramp_doubles_every_twenty_minutes() -> None:
    """A provider that scales by use is not asked for more than it can have learned."""
    world = World(1e9)
    pace = Pace(lambda: world.now, world.sleep, ramp=1000.0)
    rates = []
    for _ in range(3):
        rates.append(pace.rate)
        world.now += 1200

    assert [1000.0, 2000.0, 4000.0] == rates
