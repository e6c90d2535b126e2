"""Which process gets the next range, and which ones are told to split theirs."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from heavysync.runners.crew import Crew
from heavysync.runners.wire import Split, Widened

RANGES = 4


class Fake:
    """What a crew sees of a process."""

    def __init__(self, load: int = 0, at_once: int = RANGES) -> None:
        self.load, self.at_once, self.silence = load, at_once, 0
        self.told: list[Any] = []

    def tell(self, message: Any) -> None:
        self.told.append(message)


def crew_of(*members: Fake, most: int) -> Crew:
    """A crew of such processes, of which there may be so many."""
    setup: Any = SimpleNamespace(share=SimpleNamespace(ranges=RANGES))
    unused: Any = None
    team: Any = SimpleNamespace(most=most, stop=asyncio.Event())
    crew = Crew(unused, unused, team, setup, unused, unused)
    crew._members.extend(members)  # type: ignore[arg-type]

    async def start() -> Fake:
        crew._members.append(Fake())  # type: ignore[arg-type]
        return crew._members[-1]  # type: ignore[return-value]

    crew._start = start  # type: ignore[assignment,method-assign]
    return crew


@pytest.mark.parametrize(
    ("processes", "chosen"),
    [
        ([(1, 4), (3, 64)], 0),  # a share of the copiers each: who has least to do, not who could do most
        ([(2, 64), (0, 2)], 1),
        ([(4, 4), (9, 64)], 1),  # unless there is no room
        ([(5, 4), (4, 4)], 1),  # nor anywhere
    ],
)
def test_next_range_goes_to_who_has_least_to_do_and_room(processes: list[tuple[int, int]], chosen: int) -> None:
    """Of two processes with so many ranges, which could have so many."""
    members = [Fake(*one) for one in processes]
    before = members[chosen].load
    assert asyncio.run(crew_of(*members, most=2)._take()) is members[chosen]  # type: ignore[comparison-overlap]
    assert members[chosen].load == before + 1


def test_process_is_started_once_all_have_something() -> None:
    """Not while one has nothing; not more than there may be."""
    busy, idle = Fake(1), Fake(0)
    crew = crew_of(busy, idle, most=3)
    assert asyncio.run(crew._take()) is idle  # type: ignore[comparison-overlap]
    third: Any = asyncio.run(crew._take())
    assert third not in (busy, idle)
    assert asyncio.run(crew._take()) in {busy, idle, third}  # type: ignore[comparison-overlap]
    assert len(crew._members) == 3


def test_processes_that_are_not_there_yet_count() -> None:
    """Ranges at once are those that all together should have; what one says of itself counts from then on."""
    member = Fake(2)
    crew = crew_of(member, most=3)
    assert crew.at_once == 3 * RANGES
    asyncio.run(crew._hear(member, Widened(20)))  # type: ignore[arg-type]
    assert crew.at_once == 20 + 2 * RANGES


@pytest.mark.parametrize(("loads", "most", "is_forced"), [([2, 3], 2, False), ([2, 0], 2, True), ([2, 3], 3, True)])
def test_busy_processes_split_for_one_that_has_nothing_to_do(loads: list[int], most: int, is_forced: bool) -> None:
    """All that have ranges are told, each for its part of the room; also if they are busy, if another one is not, or not there yet."""
    members = [Fake(load) for load in loads]
    crew_of(*members, most=most).split(5)
    loaded = [member for member in members if member.load]
    assert all(member.told == [Split(-(-5 // len(loaded)), is_forced)] for member in loaded)
    assert not [member for member in members if member.told and not member.load]


def test_crew_without_ranges_is_not_told_to_split() -> None:
    """Nobody has anything to hand back."""
    member = Fake(0)
    crew_of(member, most=2).split(5)
    assert member.told == []
