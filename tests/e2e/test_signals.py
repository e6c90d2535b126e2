"""Ctrl-C and SIGTERM: drain, commit, say how to go on; twice: at once."""

from __future__ import annotations

import signal
import subprocess

import pytest
from commands import ended, until, watched

OBJECTS = 120


@pytest.fixture
def slow_pair(new_bucket):
    """A source, and a destination that takes its time for every object."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    for number in range(OBJECTS):
        source.put(f"key-{number:04d}", b"%d" % number, content_type="text/plain")
    source.forget()
    destination.forget()
    destination.rule(operation="insert", action="pass", delay_s=0.2, count=None)
    return source, destination


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_drains_and_tells_how_to_go_on(number, code, slow_pair, sync_of):
    """The exit code names the signal, the last line resumes, and what was written is not written again."""
    source, destination = slow_pair
    sync = sync_of(source, destination)
    with watched(sync.start("--concurrency", "4")) as process:
        assert until(lambda: destination.counts()["put"] >= 8, process)
        process.send_signal(number)
        stopped = ended(process)
    destination.ask("DELETE", "/_loopback/rules")

    assert code == stopped.code, stopped
    last = stopped.said.strip().splitlines()[-1] if not stopped.err else stopped.err.strip().splitlines()[-1]
    assert "run it again: heavy-sync" in last
    assert source.address in last
    assert "Traceback" not in stopped.said
    assert 0 < len(destination.keys()) < OBJECTS
    assert f"copied       {len(destination.keys())} objects" in stopped.said  # though their range is not finished

    done = sync("--concurrency", "4", "--json")

    assert (done.code, done.summary["resumed"], done.summary["copied"]) == (0, True, OBJECTS), done
    assert source.contents() == destination.contents()
    assert len(destination.written()) == OBJECTS
    assert "in sync" in sync().said


def test_second_signal_ends_at_once(slow_pair, sync_of):
    """A write that hangs does not hold the program: the second Ctrl-C ends it, and the next run goes on."""
    source, destination = slow_pair
    destination.ask("DELETE", "/_loopback/rules")
    destination.rule(operation="insert", action="pass", delay_s=1000, skip=20, count=None)
    sync = sync_of(source, destination)
    with watched(sync.start("--concurrency", "4")) as process:
        assert until(lambda: len(destination.keys()) >= 20, process)
        process.send_signal(signal.SIGINT)
        with pytest.raises(TimeoutError):
            _wait(process, 1)
        process.send_signal(signal.SIGINT)
        stopped = ended(process)
    destination.ask("DELETE", "/_loopback/rules")

    assert stopped.code == 130, stopped
    assert "Traceback" not in stopped.said
    assert sync().code == 0
    assert source.contents() == destination.contents()


@pytest.mark.parametrize(
    ("operation", "skip", "told"), [("bucket", 0, "nothing was changed"), ("list", 1, "run it again: heavy-sync")]
)
def test_signal_ends_a_run_whose_source_is_down(operation, skip, told, new_bucket, sync_of):
    """A source that answers only errors is tried for ever, visibly; SIGTERM ends that, resumable, with nothing deleted."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    source.put("key", b"x")
    destination.put("key", b"old")
    destination.put("extra", b"stays")
    down = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
    source.gateway.fail(operation=operation, answer=down, skip=skip, count=None)
    sync = sync_of(source, destination)
    with watched(sync.start("--max-delete", "100%")) as process:
        assert until(lambda: source.counts()[operation] >= 3 + skip, process)
        process.send_signal(signal.SIGTERM)
        stopped = ended(process)

    assert stopped.code == 143, stopped
    assert "defect" not in stopped.said
    assert told in stopped.err
    assert sorted(destination.keys()) == ["extra", "key"]


def _wait(process, seconds):
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
