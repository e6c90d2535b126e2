"""Turns the outcomes that the fault matrix wrote down into tables for docs/reliability.md.

python tests/faults/table.py [.pytest_cache/d/faults/matrix.jsonl]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

FILE = Path(".pytest_cache/d/faults/matrix.jsonl")
SIGNS = {"recovered": "✓", "recorded": "r", "fatal": "F", "-": "·"}
LEGEND = (
    "✓ recovered: the run ends with both sides equal · r recorded: the object failed alone and was named · F fatal: the run ended"
    " and said why, the next one ends equal · `·` cannot be · ✗ a known defect · ? not tried"
)


def tables(lines: Iterable[str], requests: list[str], faults: list[str]) -> str:
    """Markdown: one table for each side, the reasons below.

    Args:
        lines: as `worlds.Results` writes them; the last one of a case counts.
        requests: names, "s3 get", in order.
        faults: names, in order.
    """
    found = {(row["fault"], row["request"]): row for row in map(json.loads, lines)}
    reasons: list[str] = []
    out = [LEGEND, ""]
    for side, title in (("s3", "S3"), ("gs", "Google Cloud Storage")):
        mine = [name for name in requests if name.startswith(f"{side} ")]
        out += [f"| {title} | " + " | ".join(name.removeprefix(f"{side} ") for name in mine) + " |"]
        out += ["|---" * (len(mine) + 1) + "|"]
        for fault in faults:
            cells = [_cell(found.get((fault, name)), reasons) for name in mine]
            out += [f"| {fault} | " + " | ".join(cells) + " |"]
        out += [""]
    return "\n".join(out + [f"{number}. {reason}" for number, reason in enumerate(reasons, 1)]) + "\n"


def _cell(row: dict[str, str] | None, reasons: list[str]) -> str:
    """A sign, and the number of its reason."""
    if row is None:
        return "?"
    sign = SIGNS.get(row["outcome"], "✗")
    if not row["why"]:
        return sign
    if row["why"] not in reasons:
        reasons.append(row["why"])
    return f"{sign}<sup>{reasons.index(row['why']) + 1}</sup>"


def main() -> None:
    """Print the tables."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from faults.cases import FAULTS, REQUESTS

    file = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    lines = file.read_text(encoding="utf-8").splitlines()
    print(tables(lines, [request.name for request in REQUESTS], list(FAULTS)), end="")


if __name__ == "__main__":
    main()
