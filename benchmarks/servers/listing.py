"""A page of a listing, as both services cut it."""

from __future__ import annotations

from typing import NamedTuple

from servers.buckets import Bucket, Thing


class Ask(NamedTuple):
    """What is asked for.

    Attributes:
        prefix: of all keys.
        start: the first key that may come.
        end: the first that may not; empty: none.
        delimiter: that ends a folded prefix; empty: none.
        limit: most rows and prefixes together.
    """

    prefix: str = ""
    start: str = ""
    end: str = ""
    delimiter: str = ""
    limit: int = 1000


class Page(NamedTuple):
    """What comes.

    Attributes:
        rows: keys and objects.
        prefixes: what the delimiter folded.
        following: where the next page starts; empty: this was the last.
    """

    rows: list[tuple[str, Thing]]
    prefixes: list[str]
    following: str


def page_of(bucket: Bucket, ask: Ask) -> Page:
    """Cut a page."""
    rows: list[tuple[str, Thing]] = []
    prefixes: list[str] = []
    start: str | None = max(ask.start, ask.prefix)
    while start is not None:
        start, following = _run(bucket, ask, start, (rows, prefixes))
        if following:
            return Page(rows, prefixes, following)
    return Page(rows, prefixes, "")


def _run(bucket: Bucket, ask: Ask, start: str, found: tuple[list[tuple[str, Thing]], list[str]]) -> tuple[str | None, str]:
    """Take rows up to a folded prefix (then answer where to go on), the end, or the limit (then answer what follows)."""
    rows, prefixes = found
    prefix, end, delimiter = ask.prefix, ask.end, ask.delimiter
    room = ask.limit - len(rows) - len(prefixes)
    for row in bucket.rows(bucket.find(start)):
        key = row[0]
        if (prefix and not key.startswith(prefix)) or (end and key >= end):
            return None, ""
        if not room:
            return None, key
        room -= 1
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        if cut >= 0:
            fold = key[: cut + len(delimiter)]
            prefixes.append(fold)
            return beyond(fold), ""
        rows.append(row)
    return None, ""


def beyond(prefix: str) -> str:
    """The first text above all that start with this prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
