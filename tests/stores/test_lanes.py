"""Lanes: a server that is down is probed by one request at a time; while it answers nothing waits."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from wire_server import answer, wire_server

from heavysync.errors import TransientError
from heavysync.stores.http import Door
from heavysync.stores.lanes import CLOSING_FAILURES, CLOSING_S, PROBE_MAX_S, PROBE_S, Lane


class World:
    """Virtual time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.stopping = False
        self.lane = Lane(lambda: self.now, self.pause)

    async def pause(self, seconds: float) -> None:
        if self.stopping:
            raise TransientError("stopped")
        self.now += seconds
        await asyncio.sleep(0)

    def fail(self, times: int, *, over: float = CLOSING_S) -> None:
        for number in range(times):
            self.lane.failed(TransientError("down"))
            if number < times - 1:
                self.now += over / (times - 1)


def test_lane_is_free_while_requests_go_through():
    """Failures between successes close nothing, however many there are."""
    world = World()
    for _ in range(1000):
        world.fail(CLOSING_FAILURES - 1)
        world.lane.went_through()

    assert world.lane.is_free


def test_moment_of_failures_is_no_outage():
    """A thousand requests that fail in the same instant are one piece of news."""
    world = World()
    world.fail(1000, over=0.5)

    assert world.lane.is_free


def test_closed_lane_lets_one_probe_go():
    """Of many that wait, one goes; the next one when that has failed and time has passed."""

    async def body():
        world = World()
        world.fail(CLOSING_FAILURES + 1)
        assert world.lane.is_closed
        went = []

        async def request(number):
            await world.lane.turn()
            went.append(number)

        tasks = [asyncio.ensure_future(request(number)) for number in range(50)]
        start = world.now
        for _ in range(1000):
            await asyncio.sleep(0)
            if went:
                break
        assert len(went) == 1
        assert world.now - start >= PROBE_S - 0.01
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(went) == 1  # the probe is under way
        world.lane.failed(TransientError("down"))
        world.lane.left()
        at = world.now
        while len(went) == 1:
            await asyncio.sleep(0)
        assert world.now - at >= 2 * PROBE_S - 0.01
        world.lane.went_through()
        world.lane.left()
        for _ in range(1000):
            await asyncio.sleep(0)
        assert len(went) == 50
        assert world.lane.is_free
        for task in tasks:
            await task

    asyncio.run(body())


def test_probes_become_rare_but_never_end():
    """An outage of days is asked twice a minute."""

    async def body():
        world = World()
        world.fail(CLOSING_FAILURES + 1)
        waits = []
        for _ in range(12):
            at = world.now
            await world.lane.turn()
            waits.append(world.now - at)
            world.lane.failed(TransientError("down"))
            world.lane.left()
        assert waits == sorted(waits)
        assert waits[-1] == pytest.approx(PROBE_MAX_S, abs=0.01)

    asyncio.run(body())


def test_probe_that_is_cancelled_does_not_close_the_lane_for_ever():
    """Whatever becomes of a probe, there is a next one."""

    async def body():
        world = World()
        world.fail(CLOSING_FAILURES + 1)
        await world.lane.turn()
        world.lane.left()  # cancelled: neither failed nor went through
        await world.lane.turn()

    asyncio.run(body())


def test_who_waits_at_a_closed_lane_is_stopped_with_the_run():
    """Waiting for a server that is down ends with the run."""

    async def body():
        world = World()
        world.fail(CLOSING_FAILURES + 1)
        world.stopping = True
        with pytest.raises(TransientError):
            await world.lane.turn()

    asyncio.run(body())


def test_failure_knows_whether_others_went_through():
    """That is how an object that fails alone is told from an outage."""
    world = World()
    first, second, third = (TransientError("no") for _ in range(3))
    world.lane.failed(first)
    world.lane.failed(second)
    world.lane.went_through()
    world.lane.failed(third)

    assert first.served == second.served == 0
    assert third.served == 1


def test_server_that_is_down_gets_one_request_at_a_time():
    """Forty workers at a door before a server that only fails: after the first second it is left in peace."""

    async def body():
        stopping = asyncio.Event()
        refusal = answer(500)
        async with wire_server(refusal) as server, Door(connections=40, stopping=stopping) as door:

            async def worker():
                while not stopping.is_set():
                    with contextlib.suppress(TransientError):
                        response = await door.request("GET", server.url, {}, limit=100)
                        assert response.status == 500
                        door.heed("GET", TransientError("500"))
                    await asyncio.sleep(0.1)

            async def watch():
                await asyncio.sleep(CLOSING_S + 0.5)
                before = len(server.requests)
                await asyncio.sleep(2.5)
                stopping.set()
                return before, len(server.requests)

            async with asyncio.TaskGroup() as group:
                for _ in range(40):
                    group.create_task(worker())
                watching = group.create_task(watch())
            return watching.result()

    before, after = asyncio.run(body())
    assert before >= 40
    assert after - before <= 3


def test_server_that_refuses_is_there():
    """An answer of 403 for good opens a closed lane: what it refuses is not its being down."""
    world = World()
    world.fail(CLOSING_FAILURES + 1)
    served = world.lane.served
    world.lane.answered()

    assert world.lane.is_free
    assert world.lane.served == served


def test_headers_are_made_when_the_turn_has_come():
    """A request that waited for the end of an outage is signed after it: signatures of S3 age in 15 minutes."""

    async def body():
        made = []
        async with wire_server(answer(200)) as server, Door(connections=1) as door:
            lane = door._reads
            for _ in range(CLOSING_FAILURES + 1):
                lane.failed(TransientError("down"))
                lane._failing_since -= CLOSING_S
            assert lane.is_closed

            def headers():
                made.append(lane.is_closed and lane._probe_at)
                return {"x-made": "now"}

            await door.request("GET", server.url, headers, limit=10)
            return made, lane.is_free, server.requests[0].headers

    made, is_free, headers = asyncio.run(body())
    assert made == [float("inf")]  # it was its turn: the probe
    assert is_free
    assert headers["x-made"] == "now"
