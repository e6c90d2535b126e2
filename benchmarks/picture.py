"""The figures as a picture: bars of CPU-seconds for each task and tool, readable on light and dark pages."""

from __future__ import annotations

import statistics
from html import escape
from typing import Any

_WIDTH = 820
_LEFT = 130
_BAR = 13
_STEP = 17
_RIGHT = 190
_COLOURS = {
    "heavysync": "#d9480f",
    "rclone": "#3b7dd8",
    "rclone-md5": "#6aa2ea",
    "rclone-default": "#1f5199",
    "s5cmd": "#2b9348",
    "aws": "#b08900",
}
_OTHER = "#868e96"
_UNITS = {"objects": "CPU-seconds per 1,000 objects", "GiB": "CPU-seconds per GiB", "run": "CPU-seconds"}
_STYLE = (
    "text{font:12px -apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2328}"
    ".title{font-weight:600;font-size:13px}.faint{fill:#59636e}.axis{stroke:#59636e;stroke-width:1}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.faint{fill:#9198a1}.axis{stroke:#9198a1}}"
)


def draw(told: dict[str, Any]) -> str:
    """An SVG of what `report.as_json` tells."""
    parts: list[str] = []
    y = 8
    for name, task in told["tasks"].items():
        rows = [one for one in told["figures"] if one["task"] == name]
        y = _group(parts, y, task, rows)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" viewBox="0 0 {_WIDTH} {y}" role="img" '
        f'aria-label="CPU-seconds of heavysync and other tools">'
    )
    return f"{head}\n<style>{_STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"


def _group(parts: list[str], y: int, task: dict[str, Any], rows: list[dict[str, Any]]) -> int:
    """The bars of one task; answers where the next one starts."""
    parts.append(f'<text class="title" x="8" y="{y + 12}">{escape(task["about"])}</text>')
    parts.append(f'<text class="faint" x="{_WIDTH - 8}" y="{y + 12}" text-anchor="end">{_UNITS[task["unit"]]}</text>')
    y += 20
    top = y
    middles = {row["tool"]: statistics.median(run["cpu_s"] for run in row["runs"]) for row in rows if row["runs"]}
    most = max(middles.values(), default=1.0) or 1.0
    base = middles.get("heavysync")
    for row in rows:
        tool = row["tool"]
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 11}" text-anchor="end">{escape(tool)}</text>')
        if tool in middles:
            length = (_WIDTH - _LEFT - _RIGHT) * middles[tool] / most
            colour = _COLOURS.get(tool, _OTHER)
            parts.append(f'<rect x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR}" rx="2" fill="{colour}"/>')
            wall = statistics.median(run["wall_s"] for run in row["runs"])
            times = f" · {_times(middles[tool] / base)}×" if base and tool != "heavysync" else ""
            label = f"{middles[tool] / task['amount']:.3g}{times} · {wall:.3g} s wall"
            parts.append(f'<text x="{_LEFT + length + 6:.1f}" y="{y + 11}">{label}</text>')
        else:
            parts.append(f'<text class="faint" x="{_LEFT + 6}" y="{y + 11}">{escape(_short(row["trouble"]))}</text>')
        y += _STEP
    parts.append(f'<line class="axis" x1="{_LEFT - 1}" x2="{_LEFT - 1}" y1="{top - 2}" y2="{y - 2}"/>')
    return y + 12


def _times(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"


def _short(trouble: str) -> str:
    return trouble if len(trouble) <= 80 else trouble[:77] + "..."
