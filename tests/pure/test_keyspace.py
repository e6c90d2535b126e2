"""Ranges tile the key space, and keys can be found between any two others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heavysync.keyspace import KeyRange, before, between, cut

KEYS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)


@given(KEYS, KEYS)
def test_str_order_is_the_order_of_utf8_bytes(a: str, b: str) -> None:
    """So Python, SQLite and both stores agree."""
    assert (a < b) == (a.encode() < b.encode())


@given(st.one_of(st.none(), KEYS), st.one_of(st.none(), KEYS), st.lists(KEYS, max_size=8), KEYS)
def test_every_key_is_in_exactly_one_piece(lo: str | None, hi: str | None, borders: list[str], key: str) -> None:
    """Whatever the cuts are."""
    if lo is not None and hi is not None and lo >= hi:
        return
    span = KeyRange(lo, hi)

    pieces = cut(span, borders)

    assert sum(key in piece for piece in pieces) == (1 if key in span else 0)
    assert (pieces[0].lo, pieces[-1].hi) == (lo, hi)
    assert all(a.hi == b.lo for a, b in zip(pieces, pieces[1:], strict=False))


@given(KEYS, KEYS)
def test_between_lies_between(a: str, b: str) -> None:
    """It is a valid key, strictly inside, or there is none."""
    lo, hi = min(a, b), max(a, b)

    middle = between(lo, hi)

    if middle is not None:
        assert lo < middle < hi
        middle.encode()


def test_between_halves_printable_keys() -> None:
    """Thirty halvings of seven digits end close to the first key."""
    lo, hi = "k0000000", "k9999999"
    for _ in range(30):
        middle = between(lo, hi)
        if middle is None:
            break
        hi = middle

    assert hi < "k0000100"


@given(KEYS)
def test_before_is_below_and_nothing_is_missed(key: str) -> None:
    """Listing after it shows the key."""
    lower = before(key)

    if lower is None:
        assert key == ""
    else:
        assert lower < key
        lower.encode()
