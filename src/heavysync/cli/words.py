"""Words: what people type and read for bytes, shares, times and keys."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal

from heavysync.errors import UsageError

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(?:\.\d*)?|\.\d+", re.ASCII)
_AGE = re.compile(r"(\d{1,9})\s*([mhdw])", re.ASCII)
_AGES = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*([smhd]?)", re.ASCII)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME = "%Y-%m-%dT%H:%M:%SZ"


def parse_size(option: str, text: str) -> int:
    """Read `512MiB`, `8M`, `1g` or plain bytes; all units are binary.

    Raises:
        UsageError: it is none of these.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{option} {text!r}: give bytes, or a number with KiB, MiB, GiB or TiB")
    number = Decimal(match[1]) * _UNITS[match[2].lower()]
    if number >= 1 << 63:
        raise UsageError(f"{option} {text[:40]!r}: that is more than there is")
    return int(number)


def parse_percent(option: str, text: str) -> float:
    """Read a percentage, such as `0.1%`, as a share above 0 and below 1.

    Raises:
        UsageError: there is no %, or it is not between 0% and 100%.
    """
    number = text.strip().removesuffix("%").rstrip()
    if number == text.strip() or not _NUMBER.fullmatch(number) or not 0 < float(number) / 100 < 1:
        raise UsageError(f"{option} {text!r}: give a percentage above 0% and below 100%, such as 0.1%")
    return float(Decimal(number) / 100)


def parse_confidence(option: str, text: str) -> float:
    """Read `99%` or `0.99` as a share above 0 and below 1.

    Raises:
        UsageError: it is neither.
    """
    number = text.strip()
    if not number.endswith("%") and _NUMBER.fullmatch(number) and 0 < float(number) < 1:
        return float(number)
    try:
        return parse_percent(option, text)
    except UsageError:
        raise UsageError(f"{option} {text!r}: give a percentage (99%) or a share (0.99), above 0 and below 1") from None


def parse_duration(option: str, text: str) -> float:
    """Read `90s`, `10m`, `1.5h`, `1d` or plain seconds, as seconds.

    Raises:
        UsageError: it is none of these.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{option} {text[:40]!r}: give a duration, such as 90s, 10m, 1h or 1d")
    return float(match[1]) * _SECONDS[match[2]]


def is_age(text: str) -> bool:
    """Whether a time is given as an age, such as `7d`, which is another time at every call."""
    return _AGE.fullmatch(text.strip()) is not None


def parse_since(option: str, text: str, now: datetime) -> str:
    """Read a date, a time, or an age before `now`, as RFC 3339 UTC in whole seconds.

    `2026-11-01` and times without an offset are UTC; ages are `30m`, `12h`, `7d` and `2w`.

    Raises:
        UsageError: it is none of these, or before the year 1.
    """
    word = text.strip()
    try:
        if age := _AGE.fullmatch(word):
            time = now - timedelta(**{_AGES[age[2]]: int(age[1])})
        else:
            time = datetime.fromisoformat(word if _DATE.match(word) else "")
            time = time.replace(tzinfo=UTC) if time.tzinfo is None else time
        return f"{time.astimezone(UTC).isoformat(timespec='seconds').removesuffix('+00:00')}Z"
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option} {text!r}: give a date (2026-11-01), a time (2026-11-01T12:00:00Z) or an age (30m, 12h, 7d, 2w)"
        ) from None


def size(number: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if number < 1024 or unit == "TiB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    raise AssertionError(number)


def percent(share: float) -> str:
    """A share as a percentage, rounded up: what is "at most" so much stays true. Three digits from 1 % on, two below."""
    value = Decimal(repr(share)) * 100
    if not value:
        return "0 %"
    digits = 3 if value >= 1 else 2
    rounded = value.quantize(Decimal(1).scaleb(value.adjusted() - digits + 1), rounding=ROUND_CEILING)
    if rounded == rounded.to_integral_value():
        return f"{rounded:.0f} %"
    return f"{rounded:f} %"


def exact_percent(share: float) -> str:
    """A share that somebody chose, as the percentage that it was: `95%`, `0.001%`."""
    return f"{(Decimal(repr(share)) * 100).normalize():f}%"


def money(dollars: float) -> str:
    """US dollars for people."""
    if not dollars:
        return "nothing"
    return f"about ${dollars:,.2f}" if dollars >= 0.01 else "less than $0.01"


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 object`, `2,000 objects`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def moment(seconds: float) -> str:
    """UTC seconds as a date and time."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def rfc3339(seconds: float) -> str:
    """UTC seconds as programs write a time."""
    return datetime.fromtimestamp(seconds, UTC).strftime(_TIME)


def duration(seconds: float) -> str:
    """Seconds for people."""
    whole = int(seconds)
    days, rest = divmod(whole, 86400)
    clock = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days} d {clock}" if days else clock


def plain(text: str) -> str:
    """A key or a provider's words, made harmless: no control character reaches a terminal or a log line."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
