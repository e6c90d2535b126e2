"""Run two commits in turn: `python benchmarks/compare.py OLD NEW --tasks streamed,copied`; `.` is the working tree.

Each is installed into a virtual environment of its own in the temporary folder, which is kept by commit. The ratio is
NEW / OLD, round by round: below 1, NEW is better.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench import choose
from report import as_json, ratios_of, table
from rounds import Figures, Limits, Maker, Numbers, run_task
from tasks import Task
from tools import heavysync
from world import HERE, Programs, running_world

_COLUMNS = (("CPU", "cpu_s"), ("wall", "wall_s"), ("RSS", "biggest_mib"), ("requests", "requests"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", help="a commit, or . for the working tree")
    parser.add_argument("new", help="the same")
    parser.add_argument("--tasks", default="noop-ten,list-flat-100k,streamed,copied,s3-gs,gs-s3,noop-100k,medium")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="times as many objects")
    parser.add_argument("--heavysync-args", default="", help="more options for both")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    ends = {"old": install(options.old), "new": install(options.new)}
    found: list[Figures] = []
    number = Numbers()
    with running_world() as world:
        more = shlex.split(options.heavysync_args)
        tools: dict[str, Maker] = {
            name: partial(heavysync, world=world, programs=Programs(Path(sys.prefix), program), more=more)
            for name, program in ends.items()
        }
        for task in choose(options.tasks):
            scaled = task.scaled(options.scale)
            figures = run_task(scaled, tools, world, Limits(rounds=options.rounds, patience_s=1e9), number)
            print(table(scaled, figures))
            print(verdict(scaled, figures), flush=True)
            found += figures
    if options.json:
        versions = {"old": options.old, "new": options.new}
        options.json.write_text(json.dumps(as_json(found, sys.argv, versions, options.scale), indent=1) + "\n")


def verdict(task: Task, figures: Sequence[Figures]) -> str:
    """New divided by old, with the range over the rounds."""
    old, new = figures
    if not (old.runs and new.runs):
        return f"{task.name}: cannot be compared"
    parts = []
    for label, name in _COLUMNS:
        if ratios := ratios_of(new, old, name):
            parts.append(f"{label} {statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})")
    return f"{task.name}, new / old: {', '.join(parts)}"


def install(commit: str) -> Path:
    """Install a commit, unless it is installed; answers its heavy-sync."""
    name = "work" if commit == "." else _git("rev-parse", "--verify", f"{commit}^{{commit}}").decode().strip()
    folder = Path(tempfile.gettempdir()) / "heavysync-compare" / name
    program, done = folder / "bin" / "heavy-sync", folder / "done"
    if done.exists() and commit != ".":
        return program
    print(f"installing {commit} into {folder}", file=sys.stderr)
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    pip = [str(folder / "bin" / "pip"), "install", "-q"]
    with tempfile.TemporaryDirectory() as source:
        _unpack(commit, Path(source))
        if done.exists():
            subprocess.run([*pip, "--no-deps", "--force-reinstall", source], check=True)
        else:
            subprocess.run([*pip, source], check=True)
    done.touch()
    return program


def _unpack(commit: str, folder: Path) -> None:
    """The files of a commit, or of the working tree: those that git knows or would know."""
    if commit == ".":
        names = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
        there = b"\0".join(each for each in names.split(b"\0") if each and (HERE.parent / each.decode()).exists())
        command = ["tar", "-c", "--null", "-T", "-"]
        archive = subprocess.run(command, input=there, cwd=HERE.parent, check=True, capture_output=True).stdout
    else:
        archive = _git("archive", commit)
    subprocess.run(["tar", "-x"], input=archive, cwd=folder, check=True)


def _git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=HERE.parent, check=True, capture_output=True).stdout


if __name__ == "__main__":
    main()
