"""Turns the outcomes that the fault matrix wrote down into tables for docs/reliability.md.

python tests/faults/table.py                                  prints the table of the last run
python tests/faults/table.py --write docs/reliability.md     puts it there, with the figures of the soak and of the kills
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

RESULTS = Path(".pytest_cache/d/faults")
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


def soak_words(figures: dict[str, Any]) -> str:
    """The figures of a soak, in words."""
    source, destination = figures["share_of_faults"]
    sorts = len({name for side in figures["faults"] for name in side})
    return (
        f"The last one (seed {figures['seed']}): {figures['objects']:,} objects, {figures['content_bytes'] / 1e6:,.0f} MB, "
        f"{figures['changes']} changes of the source meanwhile, {figures['kills']} kills, {figures['requests']:,} requests, "
        f"{source:.1%} of them broken at the source and {destination:.1%} at the destination, in {sorts} ways. "
        f"Exit codes {', '.join(map(str, figures['exit_codes']))}; every byte equal; "
        f"moved twice: {figures['moved_twice']:.1%} of all bytes.\n"
    )


def huge_words(name: str, figures: dict[str, Any]) -> str:
    """How much was sent of an object whose command was killed."""
    side = {"s3": "S3", "gs": "Google Cloud Storage"}[name]
    return (
        f"- to {side}: {figures['size'] >> 20:,} MiB, killed {figures['kills']} times: "
        f"{figures['sent']:.3f} times its size was sent"
    )


def replaced(text: str, name: str, part: str) -> str:
    """A document with the part between its two marks exchanged."""
    head, begin, rest = text.partition(f"<!-- {name} -->\n")
    _, end, tail = rest.partition(f"<!-- /{name} -->")
    if not begin or not end:
        raise ValueError(f"the document has no marks of {name}")
    return f"{head}{begin}{part}{end}{tail}"


def main() -> None:
    """Print the tables, or write all into a document."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from faults.cases import FAULTS, REQUESTS

    lines = (RESULTS / "matrix.jsonl").read_text(encoding="utf-8").splitlines()
    matrix = tables(lines, [request.name for request in REQUESTS], list(FAULTS))
    if "--write" not in sys.argv:
        print(matrix, end="")
        return
    document = Path(sys.argv[sys.argv.index("--write") + 1])
    text = replaced(document.read_text(encoding="utf-8"), "matrix", matrix)
    if (soak := RESULTS / "soak.json").exists():
        text = replaced(text, "soak", soak_words(json.loads(soak.read_text(encoding="utf-8"))))
    huge = [huge_words(file.stem[-2:], json.loads(file.read_text(encoding="utf-8"))) for file in sorted(RESULTS.glob("huge-*"))]
    if huge:
        text = replaced(text, "huge", "\n".join(huge) + "\n")
    document.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
