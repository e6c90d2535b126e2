"""All four pairings through the command: equal byte for byte, nothing twice, and no request too many."""

from __future__ import annotations

import gzip
import random

import pytest

MIB = 1 << 20
PAIRINGS = [("s3", "gs"), ("gs", "s3"), ("s3", "s3"), ("gs", "gs")]
SMALL = 40

ODD = [
    "a b",
    " leading and trailing ",
    "a+b",
    "a%b",
    "a%2Fb",
    "a%20b",
    "a#b",
    "a?b=c&d",
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
    "a\tb",
    "\U0001f600/\U0001f4a9",
    "e\u0301",
    "\u00e9",
    "日本語/キー",
    "*?[x]",
    "<&>\"'",
    "a&amp;b",
    "trailing/",
    "x" * 1000,
]
FIELDS = {
    "content_type": "text/plain; charset=utf-8",
    "cache_control": "max-age=60, public",
    "content_disposition": 'attachment; filename="a b.txt"',
    "content_language": "de",
}


def fill(bucket) -> None:
    """One object of every kind: names, metadata, gzip, empty, around the part size, multipart."""
    noise = random.Random(1)
    for number, key in enumerate(ODD):
        bucket.put(key, f"{number} {key}".encode(), content_type="text/plain", user={"number": str(number)})
    bucket.put("metadata", b"m", **FIELDS, user={"colour": "blue", "two-words": "a b; c=d"})
    packed = gzip.compress(b"packed " * 1000, mtime=0)
    bucket.put("packed.gz", packed, content_type="text/plain", content_encoding="gzip", user={"kind": "gzip"})
    bucket.put("empty", b"", content_type="application/x-empty")
    bucket.put("marker/", b"", content_type="application/x-directory")
    for name, size in (("below", 5 * MIB - 1), ("exact", 5 * MIB), ("above", 5 * MIB + 1)):
        bucket.put(name, noise.randbytes(size), **FIELDS, user={"size": name})
    bucket.put("large-packed.gz", noise.randbytes(6 * MIB), content_type="text/plain", content_encoding="gzip")
    pieces = [noise.randbytes(5 * MIB), noise.randbytes(5 * MIB), noise.randbytes(1000)]
    bucket.put_parts("parts", pieces, **FIELDS, user={"kind": "parts"})


@pytest.mark.parametrize("kinds", PAIRINGS, ids="-".join)
def test_destination_becomes_equal_and_then_costs_listings_only(kinds, new_bucket, sync_of):
    """Every kind of object arrives with its metadata; a second run copies nothing and only lists."""
    source, destination = map(new_bucket, kinds)
    fill(source)
    destination.put("extra", b"to be deleted")
    destination.put("empty", b"other content")
    sync = sync_of(source, destination)

    first = sync("--part-size", "5MiB", "--json", "--max-delete", "100%")

    assert first.code == 0, first
    assert source.contents() == destination.contents()
    assert first.summary["deleted"] == 1
    source.forget()
    destination.forget()

    again = sync("--part-size", "5MiB", "--json")

    assert (again.code, again.summary["copied"], again.summary["proven"]) == (0, 0, 0), again
    assert set(source.counts() + destination.counts()) == {"bucket", "list"}
    assert again.summary["source_objects"] == len(source.keys())


@pytest.mark.parametrize(
    ("kinds", "side"),
    [*((kinds, "streamed") for kinds in PAIRINGS), (("s3", "s3"), "server-side"), (("gs", "gs"), "server-side")],
)
def test_requests_per_small_object(kinds, side, new_bucket, sync_of):
    """Two requests for a streamed object, one for one that the provider copies; all others are listings and look-ups."""
    source, destination = map(new_bucket, kinds)
    for number in range(SMALL):
        source.put(f"small/{number}", b"%d" % number * 100, content_type="text/plain", user={"n": str(number)})
    source.forget()
    destination.forget()

    done = sync_of(source, destination)("--json", *(["--no-server-side-copy"] if side == "streamed" else []))

    counted = source.counts() + destination.counts()
    of_objects = {name: number for name, number in counted.items() if name not in {"bucket", "list"}}
    assert (done.code, done.summary["copied"]) == (0, SMALL), done
    assert {"get": SMALL, "put": SMALL} == of_objects if side == "streamed" else {"copy": SMALL} == of_objects
    assert counted["list"] <= 4
    assert source.contents() == destination.contents()


@pytest.mark.parametrize("kinds", PAIRINGS, ids="-".join)
def test_lost_state_costs_no_copies_of_small_objects(kinds, new_bucket, sync_of, tmp_path):
    """With a new state directory nothing that the listings prove equal is copied again."""
    source, destination = map(new_bucket, kinds)
    for number in range(10):
        source.put(f"small/{number}", b"%d" % number)
    sync = sync_of(source, destination)
    assert sync().code == 0

    again = sync("--state", tmp_path / "new", "--json")

    assert (again.code, again.summary["to_copy"]) == (0, 0), again


@pytest.mark.parametrize("kinds", PAIRINGS, ids="-".join)
def test_changes_and_deletions_follow(kinds, new_bucket, sync_of):
    """What is new or changed is copied, what has gone is deleted, and nothing else is touched."""
    source, destination = map(new_bucket, kinds)
    for number in range(10):
        source.put(f"dir/{number}", b"%d" % number, content_type="text/plain", user={"n": "1"})
    sync = sync_of(source, destination)
    assert sync().code == 0
    source.put("dir/3", b"changed", content_type="text/html")
    source.put("dir/new", b"new", content_type="text/plain")
    source.delete("dir/5")
    destination.forget()

    done = sync("--json")

    assert (done.code, done.summary["copied"], done.summary["deleted"]) == (0, 2, 1), done
    assert sorted(destination.written()) == ["dir/3", "dir/new"]
    assert source.contents() == destination.contents()


def test_prefixes_are_mapped(new_bucket, sync_of):
    """Only what lies below the source prefix goes below the destination prefix."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    source.put("in/deep/a", b"a")
    source.put("in", b"no")
    source.put("inside", b"no")
    destination.put("out/old", b"goes")
    destination.put("outside", b"stays")
    source.address, destination.address = f"{source.address}/in", f"{destination.address}/out/"

    done = sync_of(source, destination)("--max-delete", "1")

    assert done.code == 0, done
    assert sorted(destination.keys()) == ["out/deep/a", "outside"]
