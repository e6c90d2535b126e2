"""Numbers, times and texts of a server's answer, read with distrust: what is not what it should be is None, never an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

BIGGEST = (1 << 63) - 1
"""The largest number that is believed, and that the state can hold; no object has that many bytes."""

MOST_EMPTY_PAGES = 5000
"""So many pages without a key, one after the other, are followed; then a server leads nowhere."""

LONGEST_WAIT_S = 3600.0
"""No server is left alone for longer than this, whatever it says."""

_SECONDS = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")


def number(text: object) -> int | None:
    """A whole number from 0 to `BIGGEST`, written in decimal digits."""
    if not isinstance(text, str) or len(text) > 19 or not (text.isascii() and text.isdecimal()):
        return None
    value = int(text)
    return value if value <= BIGGEST else None


def moment(text: str | None) -> datetime | None:
    """An HTTP date, in UTC.

    Source: https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7
    """
    try:
        found = parsedate_to_datetime(text or "")
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def is_time(text: object) -> bool:
    """Whether it is an RFC 3339 time, as listings have them."""
    try:
        datetime.fromisoformat(text)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return False
    return True


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from 0 to `LONGEST_WAIT_S` that the header asks to wait, as a number or as a date; None where it does not."""
    text = headers.get("retry-after", "")
    if _SECONDS.fullmatch(text):
        return min(float(text), LONGEST_WAIT_S)
    when = moment(text)
    return None if when is None else min(max(0.0, (when - datetime.now(UTC)).total_seconds()), LONGEST_WAIT_S)


def is_text(value: str) -> bool:
    """Whether it can be kept as UTF-8: bytes of a header that are none come as surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def without(body: bytes, *secrets: str | None) -> bytes:
    """An answer without what was sent in confidence: some servers, and some proxies, quote the request in their errors."""
    for secret in secrets:
        if secret:
            body = body.replace(secret.encode(), b"[secret]")
    return body


def words(value: object, most: int = 300) -> str:
    """What a server says, for people: a text that can be kept, at most so many characters."""
    return value[:most].encode("utf-8", "replace").decode() if isinstance(value, str) else ""


GROWS_FROM = 1 << 20
"""Bytes of a document from which on its structure is looked at before it is parsed: each may become a hundred in memory."""

MOST_NODES = 200_000
"""Elements, members or entries that a document may have; a page of 1,000 versions has 13,000 of them."""

MOST_MARKUP = 4 << 20
"""Bytes that the tags of an XML document may have together."""

_TAG = re.compile(rb"<[^>]*+")
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)


def has_overgrown_xml(body: bytes) -> bool:
    """Whether a document would take far more memory than it has bytes: tags, or attributes, without number."""
    if len(body) < GROWS_FROM:
        return False
    tags = body.count(b"<")
    return tags > 2 * MOST_NODES or (tags > 0 and sum(map(len, _TAG.findall(body))) > MOST_MARKUP)


def has_overgrown_json(body: bytes) -> bool:
    """The same for JSON: lists, objects, members and entries without number. What stands in texts does not count."""
    if len(body) < GROWS_FROM or _joints(body, 0, len(body)) <= MOST_NODES:
        return False
    found = at = 0
    for text in _STRING.finditer(body):
        found += _joints(body, at, text.start())
        at = text.end()
        if found > MOST_NODES:
            return True
    return found + _joints(body, at, len(body)) > MOST_NODES


def _joints(body: bytes, start: int, end: int) -> int:
    return body.count(b",", start, end) + body.count(b"[", start, end) + body.count(b"{", start, end)
