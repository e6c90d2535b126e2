"""`--processes N`: the promises of one process, with the work in several."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter

import pytest
from commands import ended, until, watched
from buckets import GcsBucket, S3Bucket
from crews import SmallRanges, children_of, is_alive, is_stopped, kill, words_of
from gateway import s3_error

OBJECTS = 150
EXTRA = 20
PAGE = 15
TWO = ("--processes", "2", "--max-delete", "100%", "--no-server-side-copy")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")


def key_of(number: int) -> str:
    """So spread that each range has some."""
    return f"dir{number % 7}/key-{number:05d}"


def slow(destination, seconds: float = 0.2) -> None:
    """Each object takes a known time at least."""
    if destination.scheme == "s3":
        destination.gateway.fail(operation="put", delay_s=seconds, cut=None, count=None)
    else:
        destination.rule(operation="insert", action="pass", delay_s=seconds, count=None)


def short(target: str) -> str:
    """The same list request for short pages; those of one key look for borders."""
    return f"{target}&max-keys={PAGE}" if "list-type=2" in target and "max-keys" not in target else target


def filled(bucket):
    """Put the objects of all tests into a bucket, which no test changes."""
    for number in range(OBJECTS):
        bucket.put(key_of(number), b"%d" % number * 50, content_type="text/plain")
    return bucket


@pytest.fixture(scope="module")
def sources(moto, moto_door, google):
    """One on each kind of server."""
    return {"s3": filled(S3Bucket(moto, moto_door)), "gs": filled(GcsBucket(google))}


@pytest.fixture
def pair_of(sources, new_bucket, sync_of, moto_door):
    """Makes a pair with objects at the destination that have to go, and the command for it; all pages are short."""

    def make(kinds=("gs", "gs")):
        source, destination = sources[kinds[0]], new_bucket(kinds[1])
        for number in range(EXTRA):
            destination.put(f"dir{number % 7}/old-{number:05d}", b"old")
        destination.forget()
        moto_door.rewrite = short
        sources["gs"].settings(page_limit=PAGE)
        sync = sync_of(source, destination)
        return source, destination, SmallRanges(sync.env, sync.words)

    return make


@pytest.mark.parametrize("kinds", [("s3", "gs"), ("gs", "s3")], ids="-".join)
def test_two_processes_make_buckets_equal(kinds, pair_of):
    """Listed, copied and deleted by two processes, nothing twice; the second run copies nothing; no secret is in `ps`."""
    source, destination, sync = pair_of(kinds)
    slow(destination, 0.02)
    with watched(sync.start(*TWO, "--json")) as process:
        assert until(lambda: len(children_of(process.pid)) == 2, process)
        assert until(lambda: all("runners.child" in words_of(pid) for pid in children_of(process.pid)), process)
        told = "".join(map(words_of, children_of(process.pid)))
        done = ended(process)

    assert done.code == 0, done
    assert source.contents() == destination.contents()
    counted = {name: done.summary[name] for name in ("copied", "deleted", "failed", "source_objects")}
    assert counted == {"copied": OBJECTS, "deleted": EXTRA, "failed": 0, "source_objects": OBJECTS}
    assert Counter(destination.written()).most_common(1)[0][1] == 1
    assert not [
        word for word in (*sync.env.values(), *sync.words) if len(word) > 8 and word in told and word not in sys.executable
    ]
    again = sync(*TWO, "--json")
    assert (again.code, again.summary["copied"], again.summary["deleted"]) == (0, 0, 0), again


def test_killed_processes_are_noticed_and_their_ranges_run_again(pair_of):
    """SIGKILL of one process after the other, at random moments: told, and in the end equal and exit code 0."""
    source, destination, sync = pair_of()
    slow(destination)
    moments, killed = random.Random(5), 0
    with watched(sync.start(*TWO, "--concurrency", "8")) as process:
        while killed < 4 and process.poll() is None:
            count = len(destination.written()) + moments.randrange(5, 20)
            if not until(lambda count=count: len(destination.written()) >= count, process):
                break
            victims = children_of(process.pid)
            if victims:
                kill(moments.choice(victims))
                killed += 1
        destination.ask("DELETE", "/_loopback/rules")
        done = ended(process)

    assert done.code == 0, done
    assert killed >= 3
    assert done.err.count("was killed by SIGKILL") == killed, done
    assert source.contents() == destination.contents()


def test_killed_run_leaves_no_orphans_and_goes_on(pair_of):
    """SIGKILL of the run: its processes end; the next run lists only what was in flight, and writes little twice."""
    source, destination, sync = pair_of()
    slow(destination)
    with watched(sync.start(*TWO, "--concurrency", "8")) as process:
        assert until(lambda: len(destination.written()) >= 40, process)
        orphans = children_of(process.pid)
        process.kill()
        process.wait()
    assert until(lambda: not any(map(is_alive, orphans)))
    destination.ask("DELETE", "/_loopback/rules")

    done = sync(*TWO, "--json")

    assert len(orphans) == 2
    assert (done.code, done.summary["resumed"]) == (0, True), done
    assert source.contents() == destination.contents()
    pages = [page for side in (source, destination) for page in side.listed()]
    twice = [page for page, times in Counter(pages).items() if times > 1 and "=1&" not in page and not page.endswith("=1")]
    assert len(twice) <= 8, twice
    assert len(destination.written()) - OBJECTS <= 8 * 6


def test_orphan_that_cannot_end_holds_the_state(pair_of):
    """While a stopped process of a killed run may still write to its files, the next run is refused; then it goes on."""
    source, destination, sync = pair_of()
    slow(destination)
    with watched(sync.start(*TWO)) as process:
        assert until(lambda: len(children_of(process.pid)) == 2 and len(destination.written()) >= 20, process)
        orphan = children_of(process.pid)[0]
        os.kill(orphan, signal.SIGSTOP)
        assert until(lambda: is_stopped(orphan), process)
        process.kill()
        process.wait()
    try:
        refused = sync(*TWO)
    finally:
        os.kill(orphan, signal.SIGCONT)
    destination.ask("DELETE", "/_loopback/rules")
    refused.refused(3, f"in use by processes of a run that has ended .pid {process.pid}.: end those .* pid {orphan},")

    assert sync(*TWO).code == 0
    assert source.contents() == destination.contents()


def test_sigterm_drains_all_processes(pair_of):
    """Also if everybody in the group gets it; exit code 143, nothing is written twice, no process is left."""
    _, destination, sync = pair_of()
    slow(destination)
    with watched(sync.start(*TWO, "--concurrency", "8")) as process:
        assert until(lambda: len(children_of(process.pid)) == 2 and len(destination.written()) >= 20, process)
        children = children_of(process.pid)
        for pid in (process.pid, *children):
            os.kill(pid, signal.SIGTERM)
        stopped = ended(process)
    destination.ask("DELETE", "/_loopback/rules")

    assert stopped.code == 143, stopped
    assert "run it again: " in stopped.said
    assert "was killed" not in stopped.said
    assert not any(map(is_alive, children))
    assert 0 < len(destination.written()) < OBJECTS
    assert f"copied       {len(destination.written())} objects" in stopped.said

    done = sync(*TWO, "--json")

    assert (done.code, done.summary["resumed"], done.summary["copied"]) == (0, True, OBJECTS), done
    assert len(destination.written()) == OBJECTS


@pytest.mark.parametrize("signals", [1, 2])
def test_writes_that_hang_do_not_hold_processes_up(signals, pair_of):
    """One signal ends the run when they have made no progress for a while, the second at once; no process is left."""
    _, destination, sync = pair_of()
    destination.rule(operation="insert", action="pass", delay_s=1000, skip=20, count=None)
    with watched(sync.start(*TWO)) as process:
        assert until(lambda: len(destination.written()) >= 20, process)
        children = children_of(process.pid)
        for _ in range(signals):
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        stopped = ended(process)
    destination.ask("DELETE", "/_loopback/rules")

    assert stopped.code == 130, stopped
    assert "Traceback" not in stopped.said
    assert not any(map(is_alive, children))


def test_process_that_hangs_does_not_hold_a_stop_up(pair_of):
    """One signal ends the run, though a process of it is stopped; what is done is kept."""
    source, destination, sync = pair_of()
    slow(destination)
    with watched(sync.start(*TWO, "--concurrency", "8")) as process:
        assert until(lambda: len(children_of(process.pid)) == 2 and len(destination.written()) >= 20, process)
        hung = children_of(process.pid)[0]
        os.kill(hung, signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        stopped = ended(process)
    destination.ask("DELETE", "/_loopback/rules")

    assert stopped.code == 143, stopped
    assert f"(pid {hung}) does not stop: it is killed" in stopped.err
    assert not is_alive(hung)
    assert sync(*TWO).code == 0
    assert source.contents() == destination.contents()


def test_guard_holds_over_processes(pair_of):
    """More to delete than allowed: exit code 4, and all of it is still there."""
    _, destination, sync = pair_of()

    done = sync("--processes", "2", "--max-delete", "19", "--json")

    assert done.code == 4, done
    assert "20 of 20 destination objects are not in the source" in done.summary["message"]

    assert sum("/old-" in key for key in destination.keys()) == EXTRA


def test_failed_objects_are_told_over_processes(pair_of):
    """Exit code 1; the others are done, nothing is deleted, and the reasons are told; --retry-failed takes them up."""
    source, destination, sync = pair_of(("gs", "s3"))
    bad = {key_of(number) for number in (3, 60, 120)}
    for key in bad:
        destination.gateway.fail(operation="put", key=key, answer=s3_error(400, "InvalidRequest"), count=None)

    done = sync(*TWO, "--json")

    assert (done.code, done.summary["failed"], done.summary["copied"]) == (1, 3, OBJECTS - 3), done
    assert bad == {one["key"] for one in done.summary["troubles"]}
    assert sum("/old-" in key for key in destination.keys()) == EXTRA
    destination.gateway.faults.clear()

    assert sync(*TWO, "--retry-failed").code == 0
    assert source.contents() == destination.contents()


def test_refusals_of_all_processes_add_up(pair_of):
    """Fifty objects refused for one reason, whichever process had them, end the run; started again, each is recorded."""
    _, destination, sync = pair_of(("gs", "s3"))
    destination.gateway.fail(operation="put", answer=s3_error(403, "AccessDenied"), count=None)

    sync(*TWO).refused(3, "the first [0-9]+ objects failed for the same reason and none went through.*AccessDenied")

    assert 50 <= len(destination.written()) <= 100
    done = sync(*TWO, "--json")
    assert (done.code, done.summary["failed"]) == (1, OBJECTS), done


def test_processes_that_die_at_once_end_the_run(pair_of):
    """Each is killed before it has done anything: the run gives up after five in a row, with the signal's name."""
    _, destination, sync = pair_of()
    with watched(sync.start(*TWO)) as process:
        while process.poll() is None:
            for pid in children_of(process.pid):
                kill(pid)
            time.sleep(0.005)
        done = ended(process)

    done.refused(3, "do not start, the last one was killed by SIGKILL")
    assert not destination.written()


def test_range_that_kills_its_processes_ends_the_run(pair_of):
    """Each process is killed once it works, before it gets on: the message says what to do, and the state is good."""
    source, destination, sync = pair_of(("s3", "gs"))
    source.forget()
    source.gateway.fail(operation="list", delay_s=60, skip=1, count=None)
    with watched(sync.start(*TWO)) as process:
        asked = 1
        while until(lambda asked=asked: source.counts()["list"] > asked, process):
            asked = source.counts()["list"]
            for pid in children_of(process.pid):
                kill(pid)
        done = ended(process)
    source.forget()

    done.refused(3, "ended 5 times over range 1 .*SIGKILL.*fewer --processes")
    assert sync(*TWO).code == 0
    assert source.contents() == destination.contents()


def test_dry_run_over_processes_tells_all_and_changes_nothing(pair_of):
    """What would be copied and deleted, as one process tells it."""
    _, destination, sync = pair_of()

    done = sync(*TWO, "--dry-run", "--json")

    assert done.code == 0, done
    told = Counter(line["action"] for line in done.lines if line["event"] == "planned")
    assert told == {"copy": OBJECTS, "delete": EXTRA}
    assert not destination.written()
    assert len(destination.keys()) == EXTRA


def test_hot_prefix_is_split_for_a_process_that_has_nothing_to_do(new_bucket, sync_of, tmp_path):
    """One range of a kept plan turns out large: it does not stay with the one lister that has it, though its quota allows that."""

    class Whole(SmallRanges):
        range_rows = 100_000

    source, destination = new_bucket("gs"), new_bucket("gs")
    for letter in "abcdefghijklmnopqrstuvwxyz":
        for number in range(2):
            source.put(f"{letter}/key-{number}", b"some", content_type="text/plain")
    settled = sync_of(source, destination)
    sync = Whole(settled.env, settled.words)
    source.settings(page_limit=PAGE)
    assert sync(*TWO).code == 0
    before = len(list((tmp_path / "state-dir" / "ranges").glob("*.db")))
    for number in range(300):
        source.put(f"m/hot-{number:05d}", b"more", content_type="text/plain")
    source.rule(operation="list", action="pass", delay_s=0.15, count=None)

    done = sync(*TWO, "--json")

    assert (done.code, done.summary["copied"], done.summary["source_objects"]) == (0, 300, 352), done
    assert len(list((tmp_path / "state-dir" / "ranges").glob("*.db"))) > before
    assert source.contents() == destination.contents()


def test_old_versions_are_purged_over_processes(pair_of):
    """Each range's noncurrent versions go, live ones stay."""
    source, destination, sync = pair_of()
    destination.ask("PATCH", f"/storage/v1/b/{destination.name}", {"versioning": {"enabled": True}})
    destination.settings(clock_offset_s=-20 * 86_400.0, page_limit=PAGE)
    for number in range(0, OBJECTS, 10):
        destination.put(key_of(number), b"old")
    destination.settings(clock_offset_s=-10 * 86_400.0, page_limit=PAGE)
    assert sync(*TWO).code == 0
    destination.settings(clock_offset_s=0.0, page_limit=1000)
    assert len(destination.versions()) == OBJECTS + EXTRA + OBJECTS // 10

    done = sync(*TWO, "--purge-noncurrent", "5", "--json")

    assert (done.code, done.summary["purged"]) == (0, EXTRA + OBJECTS // 10), done
    assert len(destination.versions()) == OBJECTS
    assert source.contents() == destination.contents()


def test_credentials_that_end_are_waited_for_once(pair_of, tmp_path):
    """All processes wait, the run says so once, and ends with exit code 3 when the grace is over; then it goes on."""
    file = tmp_path / "credentials"
    file.write_text("[temp]\naws_access_key_id = ASIA1\naws_secret_access_key = sEcReT\naws_session_token = token1\n")
    source, destination, sync = pair_of(("s3", "gs"))
    slow(destination, 0.02)
    sync.env["AWS_SHARED_CREDENTIALS_FILE"] = str(file)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        sync.env.pop(name)
    source.gateway.faults.clear()
    source.gateway.fail(operation="get", answer=s3_error(400, "ExpiredToken"), skip=60, count=None)
    words = (*TWO, "--source-profile", "temp", "--auth-grace", "2s")

    ended_so = sync(*words)

    ended_so.refused(3, "waited 2 s for others in .*what is done is kept")
    assert ended_so.err.count("not accepted any more: waiting for others") == 1, ended_so
    source.gateway.faults.clear()
    assert sync(*words).code == 0
    assert source.contents() == destination.contents()


LOGIN = """#!/bin/sh
if [ -e {over} ]; then echo 'log in again' >&2; exit 1; fi
echo '{{"Version": 1, "AccessKeyId": "AKIAX", "SecretAccessKey": "secret"}}'
"""


def test_process_that_starts_late_waits_for_credentials(pair_of, tmp_path):
    """A program that gave them at first has none when a process is replaced: the run waits, says so, and goes on with others."""
    source, destination, sync = pair_of(("gs", "s3"))
    slow(destination, 0.3)
    over, program, config = tmp_path / "over", tmp_path / "program", tmp_path / "config"
    program.write_text(LOGIN.format(over=over))
    program.chmod(0o755)
    config.write_text(f"[profile login]\nregion = us-east-1\ncredential_process = {program}\n")
    sync.env["AWS_CONFIG_FILE"] = str(config)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        sync.env.pop(name)
    words = (*TWO, "--destination-profile", "login", "--concurrency", "4", "--auth-grace", "60s", "--json")
    with watched(sync.start(*words)) as process:
        assert until(lambda: len(children_of(process.pid)) == 2 and len(destination.written()) >= 10, process)
        first = children_of(process.pid)
        over.touch()
        kill(first[0])
        assert until(lambda: set(children_of(process.pid)) - set(first), process)
        time.sleep(1.5)
        is_patient = process.poll() is None
        over.unlink()
        destination.gateway.faults.clear()
        done = ended(process)

    assert is_patient, done
    assert (done.code, done.summary["failed"]) == (0, 0), done
    assert source.contents() == destination.contents()
