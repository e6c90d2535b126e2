"""The plot of the bounds: it copes with any history, and shows how it fell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavysync.cli.plot import plot
from heavysync.verdicts import Point

DAY_S = 86_400
SHARES = st.none() | st.floats(min_value=0.0, max_value=1.0)


@pytest.mark.parametrize(
    "points", [[], [Point(0, 0.5, 0.5)], [Point(0, None, None)] * 3, [Point(0, None, None), Point(1, 0.1, None)]]
)
def test_fewer_than_two_points_are_no_curve(points):
    """Nothing is drawn."""
    assert plot(points) == []


def test_falling_bound_falls():
    """A thousand checks: the history goes from the upper left to the lower right, the single ones stay on top."""
    lines = plot([Point(day * DAY_S, 0.06, 0.06 / (1 + day)) for day in range(1000)])

    first, last = lines[0], lines[8]
    assert len(lines) == 12
    assert max(map(len, lines[:10])) <= 60
    assert first.strip().startswith("6 % ┤●")
    assert first.count("·") == 49
    assert last.endswith("●")
    assert "1970-01-01" in lines[10]
    assert lines[10].endswith("1972-09-26")


def test_nothing_bad_for_certain_lies_below_all():
    """A share of 0 has no logarithm, but a place: the lowest row."""
    lines = plot([Point(0, 0.1, None), Point(DAY_S, 0.0, None)])

    assert lines[0].strip().startswith("10 % ┤·")
    assert lines[8].strip().startswith("0 % ┤")
    assert lines[8].endswith("·")


@given(st.lists(st.builds(Point, st.integers(0, 4_000_000_000), SHARES, SHARES), max_size=60))
def test_any_history_fits(points):
    """Equal times, zeros, gaps, tiny shares: all lie within the frame."""
    lines = plot(sorted(points, key=lambda point: point.started_at), width=20, height=5)

    assert len(lines) in {0, 8}
    assert max(map(len, lines), default=0) <= 100
    frame = lines[:5]
    assert all(line.count("┤") == 1 and len(line.partition("┤")[2]) <= 20 for line in frame)
