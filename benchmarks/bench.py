"""Measure heavysync and other tools side by side: `python benchmarks/bench.py --tasks streamed,copied`. See README.md here."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from picture import draw
from report import as_json, table
from rounds import Figures, Limits, Maker, Numbers, run_task
from tasks import TASKS, Task
from tools import TOOLS, heavysync
from world import Programs, World, install_peers, running_world

_VERSIONS = {"rclone": "version", "s5cmd": "version", "aws": "--version", "gsutil": "version", "s3cmd": "--version"}


def main() -> int:
    options = _parser().parse_args()
    if options.list:
        print("\n".join(f"{task.name:<22} {task.about}" for task in TASKS.values()))
        return 0
    tasks = [task.scaled(options.scale) for task in choose(options.tasks)]
    names = [name for name in options.tools.split(",") if name]
    if set(names) - {"heavysync"}:
        own = Path(tempfile.gettempdir()) / "heavysync-bench-peers"
        options.peers = options.peers or own
        if options.peers == own or not options.peers.exists():
            install_peers(options.peers)
    programs = Programs(options.peers or Path(sys.prefix), options.heavysync)
    limits = Limits(options.rounds, options.limit, options.patience)
    found: list[Figures] = []
    number = Numbers()
    versions = _versions(names, programs)
    with running_world() as world:
        tools = _tools(names, options.variant, shlex.split(options.heavysync_args), world, programs)
        for task in tasks:
            figures = run_task(task, tools, world, limits, number)
            print(table(task, figures), flush=True)
            found += figures
            _write(found, versions, options)
    return 1 if any(one.tool == "heavysync" and not one.runs for one in found) else 0


def _write(found: list[Figures], versions: dict[str, str], options: argparse.Namespace) -> None:
    """Write what there is so far: a long run may be ended before its time."""
    told = as_json(found, sys.argv, versions, options.scale)
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    if options.svg:
        options.svg.write_text(draw(told))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", default="all", help="names, with commas; a name may end with *; see --list")
    parser.add_argument("--tools", default=",".join(TOOLS), help=f"default: {','.join(TOOLS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="times as many objects")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds after which a run is ended")
    parser.add_argument("--patience", type=float, default=120.0, help="no second round for a tool that took longer")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--peers", type=Path, help="virtual environment with peers.txt; made if missing")
    parser.add_argument("--heavysync", type=Path, help="the heavy-sync to run; default: the one beside this Python")
    parser.add_argument("--heavysync-args", default="", help="more options for it")
    parser.add_argument(
        "--variant", action="append", default=[], metavar="NAME=OPTIONS", help="heavysync once more, with these"
    )
    parser.add_argument("--list", action="store_true", help="list the tasks")
    return parser


def choose(text: str) -> list[Task]:
    """The tasks that `--tasks` names."""
    if text == "all":
        return list(TASKS.values())
    chosen: list[Task] = []
    for name in text.split(","):
        hits = [
            task for task in TASKS.values() if task.name == name or (name.endswith("*") and task.name.startswith(name[:-1]))
        ]
        if not hits:
            raise SystemExit(f"there is no task {name}: see --list")
        chosen += hits
    return chosen


def _tools(names: list[str], variants: list[str], more: list[str], world: World, programs: Programs) -> dict[str, Maker]:
    tools: dict[str, Maker] = {}
    for name in names:
        if name not in TOOLS:
            raise SystemExit(f"there is no tool {name}: {', '.join(TOOLS)}")
        if name == "heavysync":
            tools[name] = partial(heavysync, world=world, programs=programs, more=more)
        else:
            tools[name] = partial(TOOLS[name], world=world, programs=programs)
    for variant in variants:
        name, _, words = variant.partition("=")
        tools[name] = partial(heavysync, world=world, programs=programs, more=[*more, *shlex.split(words)])
    return tools


def _versions(names: list[str], programs: Programs) -> dict[str, str]:
    versions = {}
    for name in names:
        if name in _VERSIONS:
            try:
                command = [programs.path(name), _VERSIONS[name]]
            except FileNotFoundError:
                continue
            versions[name] = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split("\n")[0].strip()
    return versions


if __name__ == "__main__":
    sys.exit(main())
