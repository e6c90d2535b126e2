"""How many bytecodes of Python an object costs, by function: `python benchmarks/bytecodes.py [streamed|copied|noop]`.

A run against the server of these benchmarks in a process of its own, counted by `sys.monitoring` (Python 3.12 and later). The
same each time, whatever else the machine does, and what it says is what a change saves: in a run thousands of functions keep
pushing each other out of the caches, so that a step costs twice as much there as in a loop of its own. What C does is not seen.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import CodeType

from tasks import Task
from world import World, running_world

from heavysync import SideOptions, SyncOptions, sync
from heavysync.looping import loop_factory

FEW, MANY = 1000, 3000
"""Objects of two runs; what differs is what objects cost."""

_TOOL = 3  # a number that nobody else has (https://docs.python.org/3/library/sys.monitoring.html#tool-identifiers)


def counted(world: World, task: str, objects: int) -> Counter[CodeType]:
    """The bytecodes of a run, by function."""
    buckets = Task(name=task, about="", objects=objects, start="same" if task == "noop" else "empty")
    buckets.set_up(world)
    buckets.begin(world)
    side = SideOptions(endpoint_url=world.url("s3", tls=False))
    counts: Counter[CodeType] = Counter()
    monitoring = sys.monitoring  # type: ignore[attr-defined, unused-ignore]
    monitoring.use_tool_id(_TOOL, "bytecodes")
    monitoring.register_callback(_TOOL, monitoring.events.INSTRUCTION, lambda code, _: counts.update((code,)))
    with tempfile.TemporaryDirectory() as folder:
        options = SyncOptions(state=Path(folder) / "state", source=side, destination=side, server_side_copy=task == "copied")
        monitoring.set_events(_TOOL, monitoring.events.INSTRUCTION)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            report = runner.run(sync("s3://source", "s3://destination", options))
        monitoring.set_events(_TOOL, monitoring.events.NO_EVENTS)
    monitoring.free_tool_id(_TOOL)
    assert report.status == "done", report
    assert not buckets.verdict(world)
    return counts


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", nargs="?", default="streamed", choices=("streamed", "copied", "noop"))
    parser.add_argument("--most", type=int, default=40, help="functions to print")
    asked = parser.parse_args()
    if sys.version_info < (3, 12):
        parser.error("it takes Python 3.12 or later to count bytecodes")
    with running_world() as world:
        os.environ.update(world.environment())
        counted(world, asked.task, 100)  # what is done once
        few, many = (counted(world, asked.task, objects) for objects in (FEW, MANY))
    costs = Counter({code: (count - few[code]) / (MANY - FEW) for code, count in many.items()})
    print(f"{asked.task}: {costs.total():.0f} bytecodes an object")
    for code, cost in costs.most_common(asked.most):
        print(f"{cost:8.1f}  {'/'.join(Path(code.co_filename).parts[-2:])}:{code.co_firstlineno} {code.co_qualname}")


if __name__ == "__main__":
    main()
