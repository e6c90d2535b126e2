"""The contract of keys: opaque text, byte-exact, through every operation."""

from __future__ import annotations

import pytest
from contract.kit import everything, get, keys, put

from heavysync.objects import Deletion

ODD = [
    " ",
    " leading and trailing ",
    "a b",
    "a+b",
    "a%b",
    "a%2Fb",
    "a%2fb",
    "a%20b",
    "a#b",
    "a?b=c&d",
    "a&amp;b<c>d\"e'f",
    "a\\b",
    "a//b",
    "a///",
    "/leading",
    "//",
    "a/./b",
    "a/../b",
    "../up",
    "./here",
    "...",
    "trailing/",
    "*?[x]",
    "~$^`{|}@!():;,=",
    "e\u0301",
    "\u00e9",
    "日本語/キー",
    "\uff61",
    "\ufffd",
    "\U0001f600",
    "\u202eright-to-left",
    "x" * 1024,
    "é" * 512,
    "upload_id",
    "a\u2028b\u00a0c",
]
CONTROL = ["a\x01b", "a\tb", "a\x7fb", "\x1b[31m", "a\x0bb", "\x02"]
LINE_BREAKS = ["a\nb", "a\rb", "a\r\nb"]
DOTS = [".", ".."]


async def _round_trip(store, names):
    """Write, list, stat, read and delete each; every one must be told from all others."""
    for name in names:
        assert store.name_error(name) is None, name
        await put(store, name, name.encode())
    assert sorted(names) == await keys(store)
    listed = await everything(store)
    for info in listed:
        assert info.key.encode() == await get(store, info)
        assert (await store.stat(info.key)).key == info.key
        assert [other for other in sorted(names) if other > info.key] == await keys(store, after=info.key)
    assert [] == await store.delete([Deletion(info.key, listed=info) for info in listed])
    assert [] == await keys(store)


async def test_odd_keys_round_trip(world):
    """Spaces, escapes, slashes, dot segments, composed and decomposed letters all survive."""
    world.needs("odd_keys")
    async with world.fresh() as store:
        await _round_trip(store, ODD)


async def test_odd_keys_round_trip_below_a_prefix(world):
    """They survive below a prefix that is odd itself."""
    world.needs("odd_keys")
    async with world.fresh("a+b %2F/é/") as store:
        await _round_trip(store, [name for name in ODD if len(name.encode()) < 1000])


async def test_control_characters_round_trip(world):
    """What XML 1.0 cannot even write survives."""
    world.needs("odd_keys", "control_keys")
    async with world.fresh() as store:
        await _round_trip(store, CONTROL)


@pytest.mark.parametrize("name", [*LINE_BREAKS, *DOTS])
async def test_names_that_gcs_forbids_are_refused_or_survive(world, name):
    """A name is either refused before any request, or it round-trips."""
    world.needs("odd_keys", "line_breaks" if "." not in name else "dot_keys")
    async with world.fresh() as store:
        if world.scheme == "gs":
            assert store.name_error(name)
        else:
            await _round_trip(store, [name])


async def test_name_error_costs_no_request_and_counts_bytes(world):
    """1,024 bytes of UTF-8, prefix included, are the most; the empty name and broken Unicode are none."""
    async with world.fresh() as store, world.beside(store, "p/") as below:
        assert store.name_error("x" * 1024) is None
        assert store.name_error("x" * 1025)
        assert store.name_error("é" * 513)
        assert below.name_error("x" * 1023)
        assert store.name_error("")
        assert below.name_error("") is None
        assert store.name_error("\ud800")
