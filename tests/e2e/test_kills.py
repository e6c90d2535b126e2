"""SIGKILL at any moment: nothing that was committed is lost, and nothing is done twice but what was in flight."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from commands import ended, until, watched

MIB = 1 << 20
CONCURRENCY = 16
OBJECTS = 500
PAGE = 25

UNRECORDED = 6
"""Objects that a worker may have in flight or finished but not yet recorded when the process dies.

Outcomes are written down together after 50 ms, and each object here takes at least 20: three finished, two more while that
batch is written, and one in flight.
"""


def fill(source, destination) -> None:
    """Many small objects, and some at the destination that have to go."""
    for number in range(OBJECTS):
        source.put(f"dir{number % 7}/key-{number:05d}", b"%d" % number * 50, content_type="text/plain")
    for number in range(100):
        destination.put(f"dir{number % 7}/old-{number:05d}", b"old")


def small_pages(source, destination) -> None:
    """Both servers answer short pages, slowly, so that kills hit them."""
    for side in (source, destination):
        if side.scheme == "s3":
            side.gateway.rewrite = short
            side.gateway.fail(operation="list", delay_s=0.05, count=None)
        else:
            side.settings(page_limit=PAGE)
            side.rule(operation="list", action="pass", delay_s=0.05, count=None)


def short(target: str) -> str:
    """The same list request for short pages; those of one key look for borders."""
    return f"{target}&max-keys={PAGE}" if "list-type=2" in target and "max-keys" not in target else target


def slow_writes(destination) -> None:
    """Each small object takes a known time at least."""
    if destination.scheme == "s3":
        destination.gateway.fail(operation="put", delay_s=0.02, cut=None, count=None)
    else:
        destination.rule(operation="insert", action="pass", delay_s=0.02, count=None)


@pytest.mark.slow
@pytest.mark.parametrize(("kinds", "kills"), [(("s3", "gs"), 10), (("gs", "s3"), 4)])
def test_kills_repeat_only_what_was_in_flight(kinds, kills, new_bucket, sync_of):
    """Killed again and again at seeded moments, then left alone: equal, each object written once but for those in flight."""
    source, destination = map(new_bucket, kinds)
    fill(source, destination)
    source.forget()
    destination.forget()
    small_pages(source, destination)
    slow_writes(destination)
    sync, moments = sync_of(source, destination), random.Random(7)
    door = (source if source.scheme == "s3" else destination).gateway
    for _ in range(kills):
        mark = len(door.seen) + moments.randrange(1, OBJECTS // kills - 10)
        with watched(sync.start("--max-delete", "100%")) as process:
            assert until(lambda mark=mark: len(door.seen) >= mark, process)
            process.kill()
    last = sync("--max-delete", "100%", "--json")

    writes = Counter(destination.written())
    lists = Counter(
        page for side in (source, destination) for page in side.listed() if "=1&" not in page and not page.endswith("=1")
    )
    repeated_writes, repeated_lists = writes.total() - len(writes), lists.total() - len(lists)
    print(
        f"{kinds}: of {len(writes)} objects {repeated_writes} written again, of {len(lists)} pages {repeated_lists} listed again"
    )
    assert last.code == 0, last
    assert last.summary["resumed"]
    assert source.contents() == destination.contents()
    assert len(writes) == OBJECTS
    assert repeated_writes <= kills * CONCURRENCY * UNRECORDED
    assert repeated_lists <= kills * 2


@pytest.mark.parametrize("kinds", [("s3", "gs"), ("gs", "s3")], ids="-".join)
def test_large_object_goes_on_at_its_last_part(kinds, new_bucket, sync_of):
    """Killed in the middle of a large object, the next run sends only the parts that were not acknowledged."""
    source, destination = map(new_bucket, kinds)
    data = random.Random(3).randbytes(100 * MIB)
    source.put("large", data, content_type="text/plain")
    source.forget()
    destination.forget()
    if destination.scheme == "s3":
        destination.gateway.fail(operation="part", delay_s=0.2, count=None)
    else:
        destination.rule(operation="chunk", action="pass", delay_s=0.1, count=None)
    sync = sync_of(source, destination)
    with watched(sync.start("--part-size", "5MiB")) as process:
        assert until(lambda: destination.counts()["part"] >= 6, process)
        process.kill()
    before = destination.counts()["part"]
    assert before < 20

    done = sync("--part-size", "5MiB")

    assert done.code == 0, done
    assert destination.read("large")[0] == data
    in_flight = 16 if destination.scheme == "s3" else 4
    assert destination.counts()["part"] <= 20 + in_flight
    # moto says that it checks CRCs, and is found not to: the upload that was begun to ask is given up at once; while it is
    # busy it is asked again
    assert destination.counts()["create"] in (range(2, 10) if destination.scheme == "s3" else {1})


def test_kill_while_deleting_loses_nothing(new_bucket, sync_of):
    """Killed between two batches of deletions, the next run deletes the rest and lists nothing anew."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    for number in range(200):
        source.put(f"key-{number:04d}", b"x", content_type="text/plain")
    sync = sync_of(source, destination)
    assert sync().code == 0
    for number in range(250):
        destination.put(f"old-{number:04d}", b"old")
    source.forget()
    destination.forget()
    destination.rule(operation="batch", action="pass", delay_s=0.3, skip=1, count=None)
    with watched(sync.start("--max-delete", "100%")) as process:
        assert until(lambda: destination.counts()["batch"] >= 1, process)
        process.kill()
    destination.forget()

    done = sync("--max-delete", "100%", "--json")

    assert done.code == 0, done
    assert done.summary["resumed"]
    assert source.keys() == destination.keys()
    assert destination.counts()["list"] <= 1
    assert destination.counts()["get"] == 0


@pytest.mark.parametrize("delay", [0.05, 0.3, 0.7])
def test_kill_while_starting_leaves_a_usable_state(delay, new_bucket, sync_of, tmp_path):
    """Killed at a moment of its start-up, whichever that is, the next run just works."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    source.put("key", b"x", content_type="text/plain")
    sync = sync_of(source, destination)
    process = sync.start()
    try:
        process.wait(delay)
    except Exception:
        process.kill()
    process.communicate()

    assert sync().code == 0
    assert source.contents() == destination.contents()


def test_state_that_is_in_use_names_its_owner(new_bucket, sync_of):
    """A second run on the same state is refused with the first one's pid; the first is not disturbed."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    for number in range(30):
        source.put(f"key-{number}", b"x", content_type="text/plain")
    destination.forget()
    destination.rule(operation="insert", action="pass", delay_s=0.2, count=None)
    sync = sync_of(source, destination)
    with watched(sync.start("--concurrency", "1")) as process:
        assert until(lambda: destination.counts()["put"] >= 1, process)
        second = sync()
        second.refused(3, f"in use by another run .pid {process.pid}.")
        destination.ask("DELETE", "/_loopback/rules")
        first = ended(process)

    assert first.code == 0, first
    assert source.contents() == destination.contents()
