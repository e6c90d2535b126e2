"""How the bound fell from check to check: a small plot on a logarithmic scale, in text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from heavysync.cli import words
from heavysync.verdicts import Point

ALONE = "·"
HISTORY = "●"
_LEAST = 1e-12  # less than one in the largest bucket: drawn as 0


def plot(points: Sequence[Point], *, width: int = 50, height: int = 9) -> list[str]:
    """Draw the bounds of checks over time, at most `width` columns by `height` rows beside the axes.

    A check that proved that nothing is bad has no logarithm: it lies on the lowest row, which says 0. Fewer than two
    points are no curve: there is nothing to draw.

    Args:
        points: by time.
        width: columns, at least 2.
        height: rows, at least 3.
    """
    drawn = [point for point in points if point.share is not None or point.history_share is not None]
    if len(drawn) < 2:
        return []
    shares = [share for point in drawn for share in (point.share, point.history_share) if share is not None]
    scale = _Scale(shares, height)
    first, last = drawn[0].started_at, drawn[-1].started_at
    cells = [[" "] * width for _ in range(height)]
    for mark, values in ((ALONE, [point.share for point in drawn]), (HISTORY, [point.history_share for point in drawn])):
        for point, share in zip(drawn, values, strict=True):
            if share is not None:
                column = round((point.started_at - first) / max(last - first, 1) * (width - 1))
                cells[scale.row(share)][column] = mark
    labels = [scale.label(row) for row in range(height)]
    margin = max(map(len, labels))
    lines = [f"{label:>{margin}} ┤{''.join(row)}".rstrip() for label, row in zip(labels, cells, strict=True)]
    dates = words.moment(first)[:10], words.moment(last)[:10]
    lines.append(f"{'':{margin}} └{'─' * width}")
    lines.append(f"{'':{margin}}  {dates[0]}{dates[1]:>{max(width - 10, 11)}}")
    lines.append(f"{'':{margin}}  at most so much is bad: {HISTORY} by all checks up to then, {ALONE} by one check alone")
    return lines


class _Scale:
    """Rows for shares: the largest on top, equal steps for equal factors, 0 below all."""

    def __init__(self, shares: Sequence[float], height: int) -> None:
        positive = [share for share in shares if share >= _LEAST] or [1.0]
        self._zero = height - 1 if min(shares) < _LEAST else None
        self._rows = height if self._zero is None else height - 1
        self._top = math.log10(max(positive))
        self._span = max(self._top - math.log10(min(positive)), 1.0)

    def row(self, share: float) -> int:
        """From 0, the highest."""
        if share < _LEAST:
            return self._zero or 0
        return round((self._top - math.log10(share)) / self._span * (self._rows - 1))

    def label(self, row: int) -> str:
        """The share that a row stands for."""
        if row == self._zero:
            return "0 %"
        if row not in {0, (self._rows - 1) // 2, self._rows - 1}:
            return ""
        share = 10 ** (self._top - row / (self._rows - 1) * self._span)
        return words.percent(float(f"{share:.6g}"))  # without what the logarithm added
