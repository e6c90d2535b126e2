"""The space of all keys: ranges of it, and keys that lie between two others. Pure.

Keys are ordered by their UTF-8 bytes, which for Python strings is the order of code points. A cut need not be good to be
right: any key may be the border of a range.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

HIGHEST = chr(0x10FFFD)
"""`prefix + HIGHEST` lies above (nearly) every key that starts with `prefix`.

The two code points above it are no characters, and a provider may refuse them."""

KEY_MAX = 512
"""Bytes of UTF-8 up to which an offset is lengthened."""

OFFSET_MAX = 1024
"""Bytes of UTF-8 that a key can have with the prefix, and so an offset."""


class KeyRange(NamedTuple):
    """The keys above `lo` and up to `hi`; None is the open end."""

    lo: str | None
    hi: str | None

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        return (self.lo is None or key > self.lo) and (self.hi is None or key <= self.hi)


def cut(span: KeyRange, borders: list[str]) -> list[KeyRange]:
    """Cut a range at the borders that lie inside it; the pieces tile it exactly."""
    inside = sorted({key for key in borders if key in span and key != span.hi})
    edges = [span.lo, *inside, span.hi]
    return [KeyRange(lo, hi) for lo, hi in pairwise(edges)]


def room_below(prefix: str) -> int:
    """Bytes that an offset may have behind a prefix."""
    return OFFSET_MAX - len(prefix.encode())


def before(key: str, room: int = OFFSET_MAX) -> str | None:
    """A key below `key` with little room between them; None where there is none (the empty key).

    For `start-after`: listing from there shows `key` itself among the first. It has at most `room` bytes.
    """
    if not key:
        return None
    if len(key.encode()) > room:  # nothing there has this name: what follows from its beginning on is listed
        return key.encode()[:room].decode(errors="ignore")
    last = ord(key[-1])
    if last <= 0x20:  # no control character in an offset: some servers repeat it unescaped in their XML
        return key[:-1]
    lower = _BELOW.get(last - 1, last - 1)
    offset = key[:-1] + chr(lower) + HIGHEST
    return offset if len(offset.encode()) <= min(KEY_MAX, room) else offset[:-1]


_BELOW = {0xDFFF: 0xD7FF, 0xFFFF: 0xFFFD, 0xFFFE: 0xFFFD}
"""For what cannot stand in an offset (surrogates, non-characters) the next lower code point that can."""


def between(lo: str, hi: str) -> str | None:
    """A key strictly between two others, near the middle if keys are mostly ASCII; None if none was found.

    Printable ASCII gets nine tenths of the measure, as it has in real keys; every other code point can still be reached.
    """
    shared = 0
    for a, b in zip(lo, hi, strict=False):
        if a != b:
            break
        shared += 1
    low, high = _position(lo[shared:]), _position(hi[shared:])
    middle = _text((low + high) // 2)
    for length in range(1, len(middle) + 1):
        key = hi[:shared] + middle[:length]
        if lo < key < hi:
            return key
    return None


_SCALE = 1 << 160  # the measure of the whole space; enough for a dozen printable characters
# (first code point, one past the last, share of the measure in thousandths)
_BLOCKS = ((0x00, 0x20, 20), (0x20, 0x7F, 900), (0x7F, 0x110000, 80))


def _position(text: str) -> int:
    """Where a text lies in 0.._SCALE: each character narrows the place down to its share, as in arithmetic coding."""
    low, width = 0, _SCALE
    for char in text:
        if width < _SCALE >> 150:
            break
        start, width = _share(ord(char), low, width)
        low = start
    return low


def _share(code: int, low: int, width: int) -> tuple[int, int]:
    """The start and width of a code point's share of (low, width)."""
    past = 0
    for first, end, thousandths in _BLOCKS:
        if code < end:
            block = width * thousandths // 1000
            start = low + width * past // 1000 + block * (code - first) // (end - first)
            return start, block // (end - first)
        past += thousandths
    raise AssertionError(code)


def _text(place: int) -> str:
    """A short text at or just below a place."""
    low, width, text = 0, _SCALE, ""
    while width > _SCALE >> 60 and place > low:
        code = _code_at(place - low, width)
        start, width = _share(code, low, width)
        if start == low and code == 0:
            break
        low = start
        text += chr(0xE000 if 0xD800 <= code < 0xE000 else _BELOW.get(code, code))
    return text


def _code_at(offset: int, width: int) -> int:
    """The code point whose share of `width` holds `offset`."""
    past = 0
    for first, end, thousandths in _BLOCKS:
        start, block = width * past // 1000, width * thousandths // 1000
        if offset < start + block or end == 0x110000:
            return min(first + (offset - start) * (end - first) // block, end - 1)
        past += thousandths
    raise AssertionError(offset)
