"""Addresses and options: what is refused, and in which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavysync.cli.words import duration, parse_size, plain, size
from heavysync.errors import UsageError
from heavysync.objects import Location, Metadata
from heavysync.options import MaxDelete, SideOptions, SyncOptions
from heavysync.stores.rules import server_of


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bucket", ("s3", "bucket", "")),
        ("s3://bucket/", ("s3", "bucket", "")),
        ("gs://bucket/a/b", ("gs", "bucket", "a/b/")),
        ("gs://bucket/a/b/", ("gs", "bucket", "a/b/")),
        ("s3://bucket/*", ("s3", "bucket", "*/")),
        ("s3://bucket//", ("s3", "bucket", "/")),
    ],
)
def test_locations_are_directory_like(url: str, expected: tuple[str, str, str]) -> None:
    """A prefix ends with a slash; wildcards are literal."""
    location = Location.parse(url)

    assert (location.scheme, location.bucket, location.prefix) == expected


@pytest.mark.parametrize("url", ["bucket", "http://bucket/x", "s3:/bucket", "s3://", "gs:///x", ""])
def test_bad_locations_are_refused(url: str) -> None:
    """The message shows what was given."""
    with pytest.raises(UsageError, match="give"):
        Location.parse(url)


@pytest.mark.parametrize("text", ["-1", "101%", "-5%", "many", "", "%", "nan%", "1.5"])
def test_bad_max_delete_is_refused(text: str) -> None:
    """A number or a percentage, nothing else."""
    with pytest.raises(UsageError, match="--max-delete"):
        MaxDelete.parse(text)


@pytest.mark.parametrize(
    ("text", "extra", "total", "allowed"),
    [("50%", 50, 100, True), ("50%", 51, 100, False), ("0", 0, 9, True), ("0", 1, 9, False), ("100%", 9, 9, True)],
)
def test_max_delete_allows(text: str, extra: int, total: int, allowed: bool) -> None:
    """The border is inside."""
    assert MaxDelete.parse(text).allows(extra, total) is allowed


@pytest.mark.parametrize(
    "options",
    [{"concurrency": 0}, {"memory": 1}, {"purge_noncurrent": -1}, {"part_size": 1}, {"purge_noncurrent": float("nan")}],
)
def test_bad_numbers_are_refused(options: dict[str, float]) -> None:
    """The message names the option and the value."""
    with pytest.raises(UsageError, match="at least"):
        SyncOptions(**options)


def test_part_size_must_fit_into_memory() -> None:
    """A part is held in memory."""
    with pytest.raises(UsageError, match="held in memory"):
        SyncOptions(memory=16 << 20, part_size=32 << 20)


def test_endpoint_needs_a_scheme() -> None:
    """localhost:9000 alone is ambiguous."""
    with pytest.raises(UsageError, match="no scheme"):
        SideOptions(endpoint_url="localhost:9000")


@pytest.mark.parametrize(("text", "expected"), [("8MiB", 8 << 20), ("1g", 1 << 30), ("5", 5), ("1.5 KB", 1536)])
def test_sizes(text: str, expected: int) -> None:
    """All units are binary."""
    assert parse_size("--memory", text) == expected


@pytest.mark.parametrize("text", ["-1", "8 apples", "", "1e9"])
def test_bad_sizes_are_refused(text: str) -> None:
    """The message names the option."""
    with pytest.raises(UsageError, match="--memory"):
        parse_size("--memory", text)


def test_words_for_people() -> None:
    """Bytes, durations, keys."""
    assert [size(0), size(1536), size(5 << 40)] == ["0 B", "1.5 KiB", "5.0 TiB"]
    assert [duration(61), duration(90061)] == ["00:01:01", "1 d 01:01:01"]
    assert plain("a\x1b[31m\nü") == "a\\x1b[31m\\nü"


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3), st.one_of(st.none(), st.text(max_size=5)))
def test_metadata_survive_as_text(user: dict[str, str], content_type: str | None) -> None:
    """JSON and back."""
    metadata = Metadata(user=user, content_type=content_type)

    assert Metadata.from_json(metadata.to_json()) == metadata


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("http://localhost:9000", "http://127.0.0.1:9000/", True),
        ("https://S3.example.com", "https://s3.example.com:443/", True),
        ("http://[::1]:1", "http://localhost:1", True),
        ("https://a.example.com", "https://b.example.com", False),
        ("http://localhost:9000", "http://localhost:9001", False),
    ],
)
def test_servers_are_told_apart_by_what_they_are(a: str, b: str, same: bool) -> None:
    """Not by how they are spelt: else a bucket could be synchronised into itself."""
    assert (server_of(a) == server_of(b)) is same


@pytest.mark.parametrize(
    "side", [{"stall_s": 0}, {"stall_s": -1}, {"endpoint_url": "http://"}, {"endpoint_url": "http://u:p@h"}]
)
def test_bad_sides_are_refused(side: dict[str, object]) -> None:
    """Before anything is tried."""
    with pytest.raises(UsageError):
        SideOptions(**side)


def test_purge_threshold_has_an_end() -> None:
    """Infinity is no number of days."""
    with pytest.raises(UsageError, match="at most"):
        SyncOptions(purge_noncurrent=float("inf"))
