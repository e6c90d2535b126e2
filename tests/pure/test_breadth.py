"""How many ranges a process works on at once follows from how busy it is."""

from __future__ import annotations

import pytest

from heavysync.breadth import Breadth


class Machine:
    """A clock, and seconds of work in two senses."""

    def __init__(self) -> None:
        self.now = self.cpu = self.loop = 0.0

    def breadth(self, least: int = 8, most: int = 64) -> Breadth:
        return Breadth(least, most, clock=lambda: self.now, loads=(lambda: self.cpu, lambda: self.loop))

    def passes(self, seconds: float, *, cpu: float = 0.0, loop: float = 0.0) -> None:
        self.now += seconds
        self.cpu += cpu * seconds
        self.loop += loop * seconds


def widths(breadth: Breadth, machine: Machine, *, looks: int = 12, is_wanting: bool = True, **load: float) -> list[int]:
    """What it grows to, look by look."""
    grown = []
    for _ in range(looks):
        machine.passes(0.5, **load)
        if breadth.look(is_wanting=is_wanting):
            grown.append(breadth.at_once)
    return grown


def test_waiting_process_takes_more_ranges_up_to_the_most() -> None:
    """By half as many again at each look; each step is told once."""
    machine = Machine()
    assert widths(machine.breadth(), machine, cpu=0.3, loop=0.2) == [13, 20, 31, 47, 64]
    machine = Machine()
    assert widths(machine.breadth(2, 3), machine) == [3]


@pytest.mark.parametrize("load", [{"cpu": 1.6, "loop": 0.3}, {"cpu": 0.3, "loop": 0.9}])
def test_busy_process_takes_no_more(load: dict[str, float]) -> None:
    """Busy are its threads together, or its event loop, which other programs may keep from running."""
    machine = Machine()
    breadth = machine.breadth()
    assert widths(breadth, machine, **load) == []
    assert not breadth.is_idle


def test_process_with_room_takes_no_more() -> None:
    """Where there are no more ranges, or enough to do with these."""
    machine = Machine()
    breadth = machine.breadth()
    assert widths(breadth, machine, is_wanting=False) == []
    assert breadth.is_idle


def test_only_time_since_the_last_look_counts() -> None:
    """A busy hour before does not hold it up."""
    machine = Machine()
    breadth = machine.breadth()
    machine.passes(3600, cpu=1, loop=1)
    assert not breadth.look(is_wanting=True)
    machine.passes(0.5)
    assert breadth.look(is_wanting=True)


def test_least_may_be_more_than_the_most() -> None:
    """`--concurrency 4` leaves it as it is."""
    machine = Machine()
    assert widths(machine.breadth(8, 2), machine) == []
