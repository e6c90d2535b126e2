"""heavy-check killed, hindered and run beside others: what it has found is kept, and it ends with a verdict on everything."""

from __future__ import annotations

import random
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from commands import ended, until, watched
from damage import flipped, verdicts
from gateway import http_answer

PAIRINGS = [("s3", "gs"), ("gs", "s3")]
OBJECTS = 300
CONCURRENCY = 8


def fill(bucket, count: int = OBJECTS) -> dict[str, str]:
    """Some small objects; the verdicts on copies that are as they should be."""
    for number in range(count):
        bucket.put(f"dir{number % 3}/key-{number:03d}", b"%d" % number * 10, content_type="text/plain")
    return {f"dir{number % 3}/key-{number:03d}": "ok" for number in range(count)}


@pytest.fixture(params=PAIRINGS, ids="-".join)
def synced(request, new_bucket, sync_of, check_of):
    """Source, destination, the command that checks them, and what it should say: two copies are bad, one is missing."""
    source, destination = map(new_bucket, request.param)
    expected = fill(source)
    assert sync_of(source, destination)().code == 0
    for key in ("dir0/key-003", "dir1/key-100"):
        destination.put(key, flipped(destination.read(key)[0]), content_type="text/plain")
        expected[key] = "corrupt"
    destination.delete("dir2/key-200")
    expected["dir2/key-200"] = "missing"
    source.forget()
    destination.forget()
    return source, destination, check_of(source, destination), expected


def slow_reads(bucket, delay_s: float) -> None:
    """Each read takes a known time at least."""
    if bucket.scheme == "s3":
        bucket.gateway.fail(operation="get", delay_s=delay_s, count=None)
    else:
        bucket.rule(operation="get", action="pass", delay_s=delay_s, count=None)


def reads(bucket) -> Counter[str]:
    """How often each object was read."""
    if bucket.scheme == "s3":
        mine = (seen for seen in bucket.gateway.seen if seen.operation == "get" and seen.target.startswith(f"/{bucket.name}/"))
        return Counter(seen.key for seen in mine)
    return Counter(entry["key"] for entry in bucket.log() if entry["operation"] == "get")


def recorded(state: Path) -> dict[str, str]:
    """The verdicts in the state directory, as any SQLite client sees them."""
    with closing(sqlite3.connect(f"file:{state / 'job.db'}?mode=ro", uri=True)) as db:
        return dict(db.execute("SELECT key, verdict FROM checked WHERE verdict IS NOT NULL").fetchall())


@pytest.mark.slow
def test_killed_checks_lose_and_repeat_nothing(synced, tmp_path):
    """Killed six times at seeded moments: verdicts stay, the sample stays, and only reads in flight are repeated."""
    _, destination, check, expected = synced
    slow_reads(destination, 0.05)
    words = ("--samples", "100%", "--concurrency", str(CONCURRENCY), "--json")
    kept, moments, kills = {}, random.Random(7), 6
    for _ in range(kills):
        mark = reads(destination).total() + moments.randrange(5, OBJECTS // kills - 10)
        with watched(check.start(*words)) as process:
            assert until(lambda mark=mark: reads(destination).total() >= mark, process)
            process.kill()
        found = recorded(tmp_path / "state-dir")
        assert kept.items() <= found.items()
        kept = found
    assert 0 < len(kept) < OBJECTS

    told = check(*words)

    repeated = sum(count - (2 if expected[key] == "corrupt" else 1) for key, count in reads(destination).items())
    print(f"{kills} kills had left {len(kept)} of {OBJECTS} verdicts; {repeated} reads were repeated")
    assert told.code == 5, told
    assert expected == recorded(tmp_path / "state-dir")
    assert verdicts(told).keys() == expected.keys() - kept.keys()
    assert told.summary["resumed"]
    counted = {verdict: number for verdict, number in told.summary["verdicts"].items() if number}
    assert Counter(expected.values()) == counted
    assert repeated <= kills * (CONCURRENCY + 1)  # of those in flight one may be corrupt, which is read twice


@pytest.mark.parametrize("delay_s", [0.05, 0.4, 0.7, 1.0])
def test_kill_while_starting_or_drawing_leaves_a_usable_state(delay_s, new_bucket, check_of):
    """Killed at a moment of its start or its listing, whichever that is, the next check just works."""
    source, destination = new_bucket("gs"), new_bucket("gs")
    for bucket in (source, destination):
        expected = fill(bucket, 20)
    source.settings(page_limit=2)
    source.rule(operation="list", action="pass", delay_s=0.1, count=10)
    check = check_of(source, destination)
    with watched(check.start("--samples", "100%")) as process:
        try:
            process.wait(delay_s)
        except Exception:
            process.kill()

    told = check("--samples", "100%", "--json")

    assert (0, expected) == (told.code, verdicts(told))


def test_stopped_check_goes_on(synced, tmp_path):
    """SIGINT: exit code 130, or 5 where something bad was found; the next call checks the rest of the same sample."""
    _, destination, check, expected = synced
    slow_reads(destination, 0.05)
    words = ("--samples", "100%", "--concurrency", "4", "--json")
    with watched(check.start(*words)) as process:
        assert until(lambda: reads(destination).total() >= 40, process)
        process.send_signal(signal.SIGINT)
        stopped = ended(process)
    kept = recorded(tmp_path / "state-dir")
    destination.forget()

    told = check(*words)

    assert stopped.code == (5 if {"corrupt", "missing"} & set(kept.values()) else 130), stopped.err
    assert kept == verdicts(stopped)
    assert kept.keys().isdisjoint(verdicts(told))
    assert expected == kept | verdicts(told)
    assert kept.keys().isdisjoint(reads(destination))


def test_second_check_is_refused(synced):
    """Two checks at once on one state: the second ends with exit code 3 and the pid of the first, which is not disturbed."""
    _, destination, check, expected = synced
    slow_reads(destination, 0.2)
    with watched(check.start("--samples", "100%", "--concurrency", "4", "--json")) as process:
        assert until(lambda: reads(destination).total() >= 4, process)
        check("--samples", "5").refused(3, f"in use by another check .pid {process.pid}.")
        destination.forget()
        told = ended(process)

    assert (5, expected) == (told.code, verdicts(told))


@pytest.mark.parametrize("kinds", PAIRINGS, ids="-".join)
def test_check_beside_a_run_on_the_same_state(kinds, new_bucket, sync_of, check_of):
    """While heavy-sync copies what is new, a check says what is so; neither disturbs the other."""
    source, destination = map(new_bucket, kinds)
    expected = fill(source, 60)
    sync, check = sync_of(source, destination), check_of(source, destination)
    assert sync().code == 0
    time.sleep(1.1)  # S3 tells times to the second: what comes in the second of a run's end may be of the run
    for number in range(40):
        source.put(f"new/key-{number:03d}", b"new %d" % number, content_type="text/plain")
    source.forget()
    destination.forget()
    if destination.scheme == "s3":
        destination.gateway.fail(operation="put", delay_s=0.3, count=None)
    else:
        destination.rule(operation="insert", action="pass", delay_s=0.3, count=None)

    with watched(sync.start("--concurrency", "2")) as process:
        assert until(lambda: destination.counts()["put"] >= 2, process)
        told = check("--samples", "100%", "--json")
        assert process.poll() is None
        destination.forget()
        done = ended(process)
    after = check("--samples", "100%", "--json")

    found = verdicts(told)
    assert told.code == 0, told
    assert {key: found.pop(key) for key in expected} == expected
    assert set(found.values()) <= {"ok", "stale"}
    assert "stale" in found.values()
    assert done.code == 0, done
    assert (0, {"ok"}, 100) == (after.code, set(verdicts(after).values()), len(verdicts(after)))
    assert source.contents() == destination.contents()


@pytest.mark.parametrize("count", [1, None])
def test_body_damaged_on_its_way_is_read_again(count, new_bucket, sync_of, check_of):
    """One read with a flipped bit is no corruption, but if all are the copy is corrupt."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    expected = fill(source, 20)
    assert sync_of(source, destination)().code == 0
    destination.forget()
    destination.rule(operation="get", key="dir1/key-001", action="flip", amount=3, count=count)

    told = check_of(source, destination)("--samples", "100%", "--json")

    assert (0 if count else 5, {**expected, "dir1/key-001": "ok" if count else "corrupt"}) == (told.code, verdicts(told))
    assert {"dir1/key-001": 2} == {key: number for key, number in reads(destination).items() if number > 1}


@pytest.mark.slow
def test_errors_in_passing_cost_no_verdict(synced):
    """Every request fails now and then: with 503, 429, resets, cut bodies; in the end each object has its verdict."""
    source, destination, check, expected = synced
    google = source if source.scheme == "gs" else destination
    amazon = source if source.scheme == "s3" else destination
    how = [{"status": 503}, {"status": 429, "reason": "rateLimitExceeded"}, {"action": "reset"}, {"action": "cut_body"}]
    for seed, one in enumerate(how):
        google.rule(operation="list|stat|get", probability=0.05, seed=seed, count=5, **one)
    for skip in range(1, 260, 20):
        amazon.gateway.fail(operation="stat", answer=http_answer(503), skip=skip)
        amazon.gateway.fail(operation="stat", cut=0, skip=skip + 10)
    for operation in ("list", "get"):
        amazon.gateway.fail(operation=operation, cut=0, skip=1, count=2)

    told = check("--samples", "100%", "--json")

    assert (5, expected) == (told.code, verdicts(told))
    assert sum(fault.fired for fault in amazon.gateway.faults) >= 10
