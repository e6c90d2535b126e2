"""What people type and read: shares, times, and percentages that stay true."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavysync.cli import words
from heavysync.errors import UsageError

NOW = datetime(2026, 11, 22, 10, 0, 0, 500, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90", 90), ("90s", 90), ("1.5m", 90), ("1h", 3600), (" 2 d ", 172800), ("0.5s", 0.5)],
)
def test_durations_are_read(text, seconds):
    """Plain seconds, or a number with its unit."""
    assert words.parse_duration("--auth-grace", text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", "1 year", "1h30m", "inf", "nan", "1e9", "s", "٣h", "9" * 400])
def test_words_that_are_no_duration_are_refused(text):
    """With what would be one."""
    with pytest.raises(UsageError, match="such as 90s"):
        words.parse_duration("--auth-grace", text)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-01", "2026-11-01T00:00:00Z"),
        ("2026-11-01T12:00:00Z", "2026-11-01T12:00:00Z"),
        ("2026-11-01T12:00:00.75Z", "2026-11-01T12:00:00Z"),
        ("2026-11-01T12:00:00+02:00", "2026-11-01T10:00:00Z"),
        ("2026-11-01 12:30", "2026-11-01T12:30:00Z"),
        ("30m", "2026-11-22T09:30:00Z"),
        ("12h", "2026-11-21T22:00:00Z"),
        (" 7d ", "2026-11-15T10:00:00Z"),
        ("2w", "2026-11-08T10:00:00Z"),
    ],
)
def test_dates_times_and_ages_are_read(text, time):
    """All become RFC 3339 in UTC."""
    assert words.parse_since("--since", text, NOW) == time


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2026-02-30", "20261101", "2026-W10", "7", "7y", "-7d", "7.5d", "999999999w", "0001-01-01T00:00+05:00"],
)
def test_no_time_is_refused(text):
    """The message quotes the word and says what to give."""
    with pytest.raises(UsageError, match="give a date .* a time .* or an age") as told:
        words.parse_since("--since", text, NOW)

    assert repr(text) in str(told.value)


@pytest.mark.parametrize(("text", "is_age"), [("7d", True), (" 12h ", True), ("2026-11-01", False), ("", False)])
def test_ages_are_told_from_times(text, is_age):
    """An age means another time at every call."""
    assert words.is_age(text) is is_age


@pytest.mark.parametrize(("text", "share"), [("0.1%", 0.001), ("5 %", 0.05), ("99.9%", 0.999), (".5%", 0.005)])
def test_percentages_are_read_exactly(text, share):
    """As the nearest share, without an error of division."""
    assert words.parse_percent("--prove", text) == share


@pytest.mark.parametrize("text", ["0.001", "0%", "100%", "-1%", "101%", "nan%", "inf%", "1e-3%", "%", "", "٥%"])
def test_no_percentage_is_refused(text):
    """A share without % might be meant as a percentage: it has to be said."""
    with pytest.raises(UsageError, match="give a percentage"):
        words.parse_percent("--prove", text)


@pytest.mark.parametrize(("text", "share"), [("99%", 0.99), ("0.99", 0.99), (".5", 0.5), ("99.99 %", 0.9999)])
def test_confidence_is_a_percentage_or_a_share(text, share):
    """Both are common, and cannot be mixed up."""
    assert words.parse_confidence("--confidence", text) == share


@pytest.mark.parametrize("text", ["95", "1", "0", "0%", "100%", "1.0", "nan", "much"])
def test_no_confidence_is_refused(text):
    """A number from 1 on without % could be either."""
    with pytest.raises(UsageError, match=r"give a percentage \(99%\) or a share \(0\.99\)"):
        words.parse_confidence("--confidence", text)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.5, "50 %"),
        (0.12341, "12.4 %"),
        (0.0157, "1.57 %"),
        (0.009999, "1 %"),
        (0.0033, "0.33 %"),
        (0.00003, "0.0030 %"),
        (1e-9, "0.00000010 %"),
    ],
)
def test_percentages_have_two_or_three_digits(share, text):
    """However small they are."""
    assert words.percent(share) == text


@given(st.floats(min_value=1e-12, max_value=1.0))
def test_percentages_are_never_rounded_down(share):
    """What is "at most" so much stays true, and is at most a tenth too much."""
    told = float(words.percent(share).removesuffix(" %")) / 100

    assert share * (1 - 1e-12) <= told <= share * 1.1


@pytest.mark.parametrize(
    ("share", "text"), [(0.95, "95%"), (0.999, "99.9%"), (0.001, "0.1%"), (0.00001, "0.001%"), (0.1, "10%"), (0.5, "50%")]
)
def test_chosen_shares_come_back_as_they_were(share, text):
    """No digits of floating point, and it can be typed again."""
    assert words.exact_percent(share) == text
    assert words.parse_percent("--prove", text) == share


@pytest.mark.parametrize(
    ("dollars", "text"), [(0, "nothing"), (0.001, "less than $0.01"), (1.444, "about $1.44"), (12_345.6, "about $12,345.60")]
)
def test_money_is_told_in_cents(dollars, text):
    """Small sums are not zero."""
    assert words.money(dollars) == text
