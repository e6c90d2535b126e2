"""Runs tasks with several tools in turn, round after round, so that a slow minute of the machine hits all of them."""

from __future__ import annotations

import hashlib
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import measure
from jobs import CannotError, Job
from tasks import Task
from tools import Command, state_of
from world import World

Maker = Callable[[Job], Command]


@dataclass(frozen=True, slots=True)
class Limits:
    """How long may be waited.

    Attributes:
        rounds: of each tool.
        run_s: after which a run is ended.
        patience_s: a tool that took longer for one run gets no further round.
    """

    rounds: int = 5
    run_s: float = 1800.0
    patience_s: float = 120.0


@dataclass(slots=True)
class Figures:
    """What one tool did at one task.

    Attributes:
        task: its name.
        tool: its name.
        runs: one mapping for each run; see `_run_once`.
        trouble: why there are no (more) runs.
    """

    task: str
    tool: str
    runs: list[dict[str, Any]] = field(default_factory=list)
    trouble: str = ""

    def middle(self, name: str) -> float:
        """The median of a figure."""
        return statistics.median(self.all(name))

    def all(self, name: str) -> list[float]:
        """A figure of each run."""
        return [float(run[name]) for run in self.runs]


class Numbers:
    """Gives every run a name of its own."""

    def __init__(self) -> None:
        self._last = 0

    def __call__(self) -> str:
        self._last += 1
        return str(self._last)


def run_task(
    task: Task, tools: Mapping[str, Maker], world: World, limits: Limits, next_number: Callable[[], str]
) -> list[Figures]:
    """All rounds of one task."""
    found = {name: Figures(task.name, name) for name in tools}
    task.set_up(world)
    try:
        for number in range(limits.rounds):
            names = list(tools)
            first = number % len(names)
            for name in names[first:] + names[:first]:
                figures = found[name]
                is_slow = bool(figures.runs) and figures.runs[0]["wall_s"] > limits.patience_s
                if not figures.trouble and not is_slow:
                    _run_once(task, tools[name], world, limits, figures, next_number())
    finally:
        task.clear(world)
    return list(found.values())


def _run_once(task: Task, tool: Maker, world: World, limits: Limits, figures: Figures, number: str) -> None:
    job = replace(task.job, number=number)
    try:
        command = tool(job)
    except (CannotError, FileNotFoundError) as error:
        figures.trouble = f"cannot: {error}"
        return
    task.begin(world)
    environment = {**world.environment(), **command.variables}
    before = pace()
    cost = measure.run(command.words, environment, world.folder, limits.run_s)
    stats = world.control("/stats")
    if cost.status is None:
        figures.trouble = f"not done after {limits.run_s:g} s"
    elif cost.status:
        figures.trouble = f"exit code {cost.status}: {' '.join(cost.output.split())[-300:]}"
    else:
        figures.trouble = task.verdict(world)
    if figures.trouble:
        shutil.rmtree(state_of(world.folder, number), ignore_errors=True)
        return
    counts = {f"{service} {name}": count for service, each in stats["counts"].items() for name, count in each.items()}
    figures.runs.append(
        {
            "wall_s": cost.wall_s,
            "cpu_s": cost.cpu_s,
            "biggest_mib": cost.biggest_mib,
            "together_mib": cost.together_mib,
            "processes": cost.processes,
            "state_mib": _state_mib(world, number),
            "server_cpu_s": stats["cpu_s"],
            "requests": sum(
                count for name, count in counts.items() if " objects deleted" not in name and " refused" not in name
            ),
            "counts": counts,
            "pace_us": before,
        }
    )
    print(f"  {task.name} {figures.tool}: {cost.wall_s:.2f} s wall, {cost.cpu_s:.2f} CPU-s", file=sys.stderr, flush=True)


def _state_mib(world: World, number: str) -> float:
    """What heavysync's state takes on disk at the end; it is taken away."""
    folder = state_of(world.folder, number)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0
    shutil.rmtree(folder, ignore_errors=True)
    return size / (1 << 20)


def pace() -> float:
    """Microseconds that the md5 of 1 KiB takes at this moment: a shared machine changes by a factor of two."""
    data = bytes(1024)
    started = time.process_time()
    for _ in range(20_000):
        hashlib.md5(data, usedforsecurity=False).digest()
    return (time.process_time() - started) * 50
