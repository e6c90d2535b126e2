"""Figures as a table, and as JSON."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rounds import Figures
from tasks import TASKS, Task

_HEAD = (
    f"{'tool':<22}{'n':>2}{'wall s':>9}{'CPU s':>9}{'±':>7}{'CPU s/unit':>12}{'ratio':>8}{'(from..to)':>15}"
    f"{'RSS MiB':>9}{'all':>7}{'requests':>10}{'server s':>10}"
)


def table(task: Task, found: Sequence[Figures]) -> str:
    """The figures of one task; the ratio is to the first tool, in CPU-seconds of the same round."""
    unit = {"objects": "1,000 objects", "GiB": "GiB", "run": "run"}[task.unit]
    lines = [f"\n{task.name}: {task.about} ({task.objects:,} objects; unit: {unit})", _HEAD]
    base = found[0]
    for one in found:
        if not one.runs:
            lines.append(f"{one.tool:<22}   {one.trouble}")
            continue
        cpu = one.all("cpu_s")
        ratios = ratios_of(one, base)
        spread = f"({min(ratios):.2f}..{max(ratios):.2f})" if ratios else ""
        lines.append(
            f"{one.tool:<22}{len(cpu):>2}{one.middle('wall_s'):>9.2f}{statistics.median(cpu):>9.2f}"
            f"{(max(cpu) - min(cpu)) / 2:>7.2f}{statistics.median(cpu) / task.amount:>12.4f}"
            f"{statistics.median(ratios) if ratios else float('nan'):>8.2f}{spread:>15}"
            f"{one.middle('biggest_mib'):>9.0f}{one.middle('together_mib'):>7.0f}{one.middle('requests'):>10.0f}"
            f"{one.middle('server_cpu_s'):>10.2f}{_notes(one)}"
        )
    return "\n".join(lines)


def _notes(one: Figures) -> str:
    """What is worth a word behind a row."""
    state = one.middle("state_mib")
    kept = f"  state {state:.1f} MiB" if state else ""
    return kept + (f"  then: {one.trouble}" if one.trouble else "")


def ratios_of(one: Figures, base: Figures, name: str = "cpu_s") -> list[float]:
    """A tool's figure divided by that of the base, round by round."""
    return [a / b for a, b in zip(one.all(name), base.all(name), strict=False) if b]


def as_json(found: Sequence[Figures], words: Sequence[str], versions: dict[str, str], scale: float) -> dict[str, Any]:
    """All runs, and where they were made."""
    named: dict[str, Task] = {}
    for one in found:
        named.setdefault(one.task, TASKS[one.task].scaled(scale))
    return {
        "command": " ".join(words),
        "machine": {"processor": _processor(), "python": platform.python_version(), "system": platform.platform()},
        "versions": versions,
        "tasks": {
            name: {"about": task.about, "objects": task.objects, "bytes": task.size, "unit": task.unit, "amount": task.amount}
            for name, task in named.items()
        },
        "figures": [asdict(one) for one in found],
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            lines = [line for line in file if line.startswith("model name")]
    except OSError:
        return platform.machine()
    return f"{len(lines)} x {lines[0].partition(':')[2].strip()}" if lines else platform.machine()
