"""Rows that are read, changed and added many at once are the same rows as one at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavysync.state.bulk import INSERTED, UPDATED, fetch_at_once, insert_rows, update_keys

QUERY = "SELECT key, size, note FROM item ORDER BY key"
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    """A table."""
    connection = table()
    yield connection
    connection.close()


def table() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE item (key TEXT PRIMARY KEY, size INTEGER NOT NULL, note TEXT) STRICT, WITHOUT ROWID")
    return connection


@given(st.dictionaries(TEXT, st.tuples(st.integers(-(1 << 63), (1 << 63) - 1), st.none() | TEXT), max_size=20))
def test_any_row_comes_back_as_it_is(rows: dict[str, tuple[int, str | None]]) -> None:
    """Control characters, NUL, quotes, what looks like JSON, the largest numbers, nothing at all; in the query's order."""
    connection = table()
    insert_rows(connection, "item", [(key, *rest) for key, rest in rows.items()])
    found = fetch_at_once(connection, QUERY, 3)
    assert found == [list(row) for row in connection.execute(QUERY)]
    assert {key: (size, note) for key, size, note in found} == rows
    connection.close()


@pytest.mark.parametrize("number", ["\0", 'a"b', "a\\u0000b", '["x"]', "{}", "1", "null", "\x7f\x85\u2028", "\U0010ffff"])
def test_awkward_text_comes_back_as_it_is(db: sqlite3.Connection, number: str) -> None:
    """The same for some that a drawn test may miss."""
    insert_rows(db, "item", [(number, 0, number)])
    assert fetch_at_once(db, QUERY, 3) == [[number, 0, number]]


@pytest.mark.parametrize("number", [0, 1, INSERTED - 1, INSERTED, INSERTED + 1, 2 * INSERTED + 7])
def test_every_row_is_added_once(db: sqlite3.Connection, number: int) -> None:
    """Whole statements and what is left over."""
    rows = [[f"{n:05}", n, None] for n in range(number)]
    insert_rows(db, "item", rows)
    assert fetch_at_once(db, QUERY, 3) == rows


@pytest.mark.parametrize("number", [0, 1, 2, 3, 5, 64, UPDATED - 1, UPDATED, UPDATED + 1, 3 * UPDATED + 100])
def test_keys_that_are_named_change_and_no_others(db: sqlite3.Connection, number: int) -> None:
    """What fills a statement up changes nothing more, and what is not as it has to be stays."""
    insert_rows(db, "item", [(f"{n:05}", n % 2, None) for n in range(2000)])
    update_keys(db, "note = 'x'", "size = 1", [f"{n:05}" for n in range(number)], "item")
    changed = {key for key, _, note in fetch_at_once(db, QUERY, 3) if note == "x"}
    assert changed == {f"{n:05}" for n in range(1, number, 2)}


@pytest.mark.parametrize("noted", [(), (0,), (INSERTED + 3,), (0, 2 * INSERTED)])
def test_column_that_some_rows_have_is_kept(db: sqlite3.Connection, noted: tuple[int, ...]) -> None:
    """A column is left out of the statement only if no row at all has it, also where the first one has not."""
    rows = [[f"{n:05}", n, "noted" if n in noted else None] for n in range(2 * INSERTED + 7)]
    insert_rows(db, "item", rows)
    assert fetch_at_once(db, QUERY, 3) == rows
