"""Many rows a step.

Each step of a statement gives the interpreter away and has to get it back from a busy event loop: four switches between
threads a row, and a tenth of the CPU of a copy (measured), where rows are stepped through one by one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain
from operator import itemgetter
from typing import Any

import orjson

INSERTED = 200
"""Rows of one INSERT: one a row costs half as much again."""

UPDATED = 256
"""Keys that one UPDATE names at most."""


@cache
def in_one(query: str, width: int) -> str:
    """The statement that answers all rows of a query, each of so many columns, as one text of JSON. Blobs cannot be in it."""
    names = ", ".join(f"c{number}" for number in range(width))
    return f"WITH found({names}) AS ({query}) SELECT json_group_array(json_array({names})) FROM found"


def fetch_at_once(db: sqlite3.Connection, query: str, width: int, values: Sequence[object] = ()) -> list[list[Any]]:
    """All rows of a query, in its order, in one step. They are held twice for a moment: for some hundred rows."""
    (text,) = db.execute(in_one(query, width), values).fetchone()
    rows: list[list[Any]] = orjson.loads(text)
    return rows


@cache
def update_of(change: str, before: str, most: int, table: str = "transfer") -> str:
    """The statement that changes the rows of so many keys. Plan: single look-ups by key."""
    return f"UPDATE {table} SET {change} WHERE {before} AND key IN ({', '.join('?' * most)})"


def update_keys(db: sqlite3.Connection, change: str, before: str, keys: list[str], table: str = "transfer") -> None:
    """Change the rows of some keys that are as `before` says."""
    for start in range(0, len(keys), UPDATED):
        some = keys[start : start + UPDATED]
        most = 1 << (len(some) - 1).bit_length()  # few lengths, so that the statements stay prepared: the last key fills it up
        db.execute(update_of(change, before, most, table), [*some, *some[-1:] * (most - len(some))])


@cache
def insert_of(table: str, given: tuple[bool, ...], most: int) -> str:
    """The statement that adds so many rows, in which the columns that are not given are NULL."""
    row = f"({', '.join('?' if is_given else 'NULL' for is_given in given)})"
    return f"INSERT INTO {table} VALUES {', '.join([row] * most)}"


@cache
def picker_of(given: tuple[bool, ...]) -> Callable[[Sequence[object]], Sequence[object]]:
    """What takes the given columns, two or more, from a row."""
    if all(given):
        return tuple
    return itemgetter(*[column for column, is_given in enumerate(given) if is_given])


def insert_rows(db: sqlite3.Connection, table: str, rows: Sequence[Sequence[object]]) -> None:
    """Add rows of the same two or more columns, of which the first two are never None.

    To bind None is dear, since Python looks for an adapter first: columns that are None in all rows, as four of nine in a
    listing of S3, are not bound, which halves the cost of a page (measured).
    """
    if not rows:
        return
    given = tuple(
        value is not None or [*map(itemgetter(column), rows)].count(None) < len(rows) for column, value in enumerate(rows[0])
    )
    values = [*map(picker_of(given), rows)]
    whole = len(rows) - len(rows) % INSERTED
    for start in range(0, whole, INSERTED):
        db.execute(insert_of(table, given, INSERTED), [*chain.from_iterable(values[start : start + INSERTED])])
    db.executemany(insert_of(table, given, 1), values[whole:])
