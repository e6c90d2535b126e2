"""What goes wrong on the way: one object, one listing, one answer at a time."""

from __future__ import annotations

import signal

import pytest
from commands import ended, until, watched
from gateway import http_answer, s3_error

HTML = b"<!DOCTYPE html>\n<html><body>Please log in to this network.</body></html>\n"
LISTING = b"""<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>%b</Name><KeyCount>0</KeyCount>"""
DOWN = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


def fill(bucket, count: int = 40) -> None:
    """Some small objects."""
    for number in range(count):
        bucket.put(f"key-{number:03d}", b"%d" % number * 10, content_type="text/plain")


@pytest.fixture
def changed_pair(new_bucket, sync_of):
    """Makes two buckets that are equal but for one object that is new at the source and one that has gone from it."""

    def make(kinds: str):
        source, destination = map(new_bucket, kinds.split("-"))
        fill(source, 20)
        fill(destination, 20)
        source.put("new", b"n", content_type="text/plain")
        source.delete("key-007")
        source.forget()
        destination.forget()
        return source, destination, sync_of(source, destination)

    return make


def break_listing(source, kind: str, count: int | None) -> None:
    """Let list requests of the source fail in one way, after the one that looks at the bucket."""
    if source.scheme == "gs":
        how = {
            "503": {"action": "status", "status": 503},
            "empty": {"action": "empty"},
            "html": {"action": "html"},
            "cut": {"action": "cut_body", "amount": 100},
            "reset": {"action": "reset"},
        }[kind]
        source.rule(operation="list", path=f"/b/{source.name}/", count=count, **how)
        return
    answers = {
        "503": DOWN,
        "empty": http_answer(200),
        "html": http_answer(200, HTML, "text/html"),
        "cut": http_answer(200, LISTING % source.name.encode()),
        "reset": b"",
    }
    how = {"cut": 0} if kind == "reset" else {"answer": answers[kind]}
    source.gateway.fail(operation="list", skip=1, count=count, **how)


@pytest.mark.parametrize("kind", ["503", "empty", "html", "cut", "reset"])
@pytest.mark.parametrize("kinds", ["s3-gs", "gs-s3"])
def test_listing_that_breaks_for_a_while_does_no_harm(kind, kinds, changed_pair):
    """However a source listing breaks, it is asked for again; in the end only what has gone is deleted."""
    source, destination, sync = changed_pair(kinds)
    break_listing(source, kind, 2)

    done = sync("--json")

    assert done.code == 0, done
    assert (done.summary["copied"], done.summary["deleted"]) == (1, 1)
    assert source.contents() == destination.contents()


@pytest.mark.parametrize(
    ("kinds", "kind"), [("s3-gs", "503"), ("s3-gs", "empty"), ("s3-gs", "html"), ("s3-gs", "cut"), ("gs-s3", "html")]
)
def test_listing_that_breaks_for_ever_deletes_nothing(kind, kinds, changed_pair):
    """A run whose source listing never works tries on until it is told to stop, and has deleted nothing by then."""
    source, destination, sync = changed_pair(kinds)
    before = destination.keys()
    source.forget()
    destination.forget()
    break_listing(source, kind, None)
    with watched(sync.start("--max-delete", "100%")) as process:
        assert until(lambda: source.counts()["list"] >= 4, process)
        process.send_signal(signal.SIGTERM)
        stopped = ended(process)

    assert stopped.code == 143, stopped
    assert before == destination.keys()


def test_object_removed_midway_is_no_error(new_bucket, sync_of):
    """An object that goes away between its listing and its copy is skipped, exit code 0."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    fill(source)
    source.gateway.fail(operation="get", delay_s=0.1, count=None)
    with watched(sync_of(source, destination).start("--concurrency", "2", "--json")) as process:
        assert until(lambda: source.counts()["get"] >= 4, process)
        got = {seen.key for seen in source.gateway.seen if seen.operation == "get"}
        victims = [key for key in source.keys() if key not in got][:5]
        for key in victims:
            source.delete(key)
        source.gateway.faults.clear()
        done = ended(process)

    assert done.code == 0, done
    assert done.summary["skipped"] >= 1
    assert {trouble["code"] for trouble in done.summary["troubles"]} == {"vanished"}
    assert sorted(source.keys()) == sorted(key for key in destination.keys() if key not in victims)


@pytest.mark.parametrize("kinds", [("s3", "gs"), ("gs", "s3"), ("s3", "s3")], ids="-".join)
def test_forbidden_object_fails_alone(kinds, new_bucket, sync_of):
    """All others are copied, nothing is deleted, the exit code is 1, and the report names the object."""
    source, destination = map(new_bucket, kinds)
    fill(source)
    destination.put("extra", b"stays")
    source.forget()
    destination.forget()
    if source.scheme == "gs":
        source.rule(operation="get", key="^key-033$", status=403, reason="forbidden", count=None)
    else:
        source.gateway.fail(operation="get", key="key-033", answer=s3_error(403, "AccessDenied"), count=None)
    sync = sync_of(source, destination)

    told = sync("--no-server-side-copy", "--max-delete", "100%")

    assert told.code == 1, told
    assert "failed: key-033: " in told.out
    assert {*source.keys(), "extra"} - {"key-033"} == set(destination.keys())

    again = sync("--no-server-side-copy", "--max-delete", "100%", "--json")

    assert (again.code, again.summary["failed"], again.summary["to_copy"]) == (1, 1, 1), again
    trouble = again.summary["troubles"][0]
    assert (trouble["key"], trouble["status"]) == ("key-033", "failed")
    assert "403" in trouble["message"] or "denied" in trouble["message"].lower() or "forbidden" in trouble["message"].lower()

    source.forget()
    mended = sync("--no-server-side-copy", "--max-delete", "100%")

    assert mended.code == 0, mended
    assert source.contents() == destination.contents()


def test_errors_in_passing_cost_nothing(new_bucket, sync_of):
    """Every tenth request to Google fails in passing, some after they took effect; the end is the same."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    fill(source)
    source.forget()
    destination.forget()
    destination.rule(operation="insert", probability=0.1, seed=1, status=503, count=None)
    destination.rule(operation="insert", probability=0.1, seed=2, action="drop", count=None)
    destination.rule(operation="insert", probability=0.1, seed=3, action="reset", count=None)

    done = sync_of(source, destination)("--json")

    assert (done.code, done.summary["failed"]) == (0, 0), done
    destination.forget()
    assert source.contents() == destination.contents()


def test_flipped_bits_never_arrive(new_bucket, sync_of):
    """A body that was damaged on its way is read again."""
    source, destination = new_bucket("gs"), new_bucket("s3")
    fill(source, 20)
    source.forget()
    source.rule(operation="get", action="flip", amount=3, count=2)

    done = sync_of(source, destination)("--json")

    assert done.code == 0, done
    assert source.contents() == destination.contents()


def test_name_that_the_destination_forbids_is_reported(new_bucket, sync_of):
    """An S3 key that Google cannot hold fails before any transfer, alone, and terminal escapes in it are shown harmless."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    fill(source, 3)
    source.put(".well-known/acme-challenge/\x1b[31mred", b"x")
    source.put("\x1b]0;title\x07", b"y", content_type="text/plain")

    told = sync_of(source, destination)("--dry-run")
    done = sync_of(source, destination)("--json")
    plain = sync_of(source, destination)()

    assert "\x1b" not in told.said + done.said + plain.said
    assert "\\x1b[31mred" in plain.out
    assert (done.code, done.summary["failed"], plain.code) == (1, 1, 1)
    assert len(destination.keys()) == 4
