"""Many rows a step.

Each step of a statement gives the interpreter away and has to get it back from a busy event loop: four switches between
threads a row, and a tenth of the CPU of a copy (measured), where rows are stepped through one by one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from itertools import chain
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
def insert_of(table: str, width: int, most: int) -> str:
    """The statement that adds so many rows."""
    row = f"({', '.join('?' * width)})"
    return f"INSERT INTO {table} VALUES {', '.join([row] * most)}"


def insert_rows(db: sqlite3.Connection, table: str, width: int, rows: Sequence[Sequence[object]]) -> None:
    """Add rows, each of so many columns."""
    whole = len(rows) - len(rows) % INSERTED
    for start in range(0, whole, INSERTED):
        db.execute(insert_of(table, width, INSERTED), [*chain.from_iterable(rows[start : start + INSERTED])])
    db.executemany(insert_of(table, width, 1), rows[whole:])
