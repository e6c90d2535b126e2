"""The disk fails or fills up while a command works: it says so and ends with 3, and goes on once that is mended."""

from __future__ import annotations

import errno
import os
import subprocess
from collections import Counter

import pytest
from broken_disk import COMPILER, broken, build
from buckets import S3Bucket
from commands import no_larger_files_than, program

OBJECTS = 200
IN_FLIGHT = 16 * 6
"""See test_kills.UNRECORDED."""

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler; a limit on file sizes is tested without")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """What lets system calls fail."""
    return build(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def source(moto, moto_door):
    """Many small objects with long names, which fill a disk sooner."""
    bucket = S3Bucket(moto, moto_door)
    for number in range(OBJECTS):
        bucket.put(f"{'long-' * 30}{number:04d}", b"%d" % number, content_type="text/plain")
    return bucket


@pytest.fixture
def pair(source, new_bucket, sync_of):
    """The source, a destination that is not quick and has one object too many, and the command for both."""
    destination = new_bucket("gs")
    destination.put("extra", b"must stay for now")
    source.forget()
    destination.forget()
    destination.rule(operation="insert", action="pass", delay_s=0.08, count=None)
    return source, destination, sync_of(source, destination)


def goes_on(source, destination, sync) -> dict[str, object]:
    """The next run ends with both sides equal, and repeats only what was in flight; its summary."""
    done = sync("--max-delete", "100%", "--json")

    writes = Counter(destination.written())
    assert done.code == 0, done
    assert source.keys() == destination.keys()
    assert writes.total() - len(writes) <= IN_FLIGHT
    return done.summary


@needs_compiler
@pytest.mark.parametrize(
    ("file", "call", "error", "skip", "told"),
    [
        ("ranges/", "write", errno.ENOSPC, 100, "disk is full: make room and start again"),
        ("job.db", "write", errno.ENOSPC, 12, "disk is full: make room and start again"),
        ("ranges/", "write", errno.EDQUOT, 100, "disk reports errors .or a quota"),
        ("ranges/", "write", errno.EIO, 8, "disk reports errors"),
        ("ranges/", "read", errno.EIO, 3, "disk (reports|cannot)"),
        ("job.db", "sync", errno.EIO, 3, "disk reports errors"),
        ("ranges/", "sync", errno.EIO, 2, "disk reports errors|mend its disk"),
    ],
)
def test_failing_disk_is_told_and_costs_nothing(file, call, error, skip, told, pair, library):
    """Exit code 3, the file, what to do, no traceback; nothing is deleted; the next run goes on where it was."""
    source, destination, sync = pair

    failed = sync("--max-delete", "100%", **broken(library, file=file, call=call, error=error, skip=skip))

    failed.refused(3, rf"state (file|directory) \S*({file}|state-dir)\S*: .*({told})")
    assert "extra" in destination.keys()
    summary = goes_on(source, destination, sync)
    assert summary["deleted"] == 1


def test_progress_survives_a_full_disk(pair):
    """What was listed is not listed again, and what was recorded is not copied again."""
    source, destination, sync = pair
    failed = sync("--max-delete", "100%", preexec=no_larger_files_than(700_000))
    failed.refused(3, "disk reports errors .or a quota or a limit on file sizes")
    copied = len(destination.written())
    listed = len(destination.listed())
    assert copied > 20

    summary = goes_on(source, destination, sync)

    assert summary["resumed"]
    assert len(destination.listed()) - listed <= 1


@needs_compiler
def test_disk_that_fills_during_a_check_is_told(pair, check_of, library):
    """What was found is kept, and the next call goes on with the same sample."""
    source, destination, sync = pair
    assert sync("--max-delete", "100%").code == 0
    check = check_of(source, destination)

    failed = check("--samples", "100%", **broken(library, file="job.db", call="write", error=errno.ENOSPC, skip=500))
    done = check("--samples", "100%")

    failed.refused(3, r"state file \S*job.db: .*disk is full: make room")
    assert done.code == 0, done
    assert "going on with check 1" in done.err
    assert f"{OBJECTS} ok" in done.out


def into(path: str, command, *words: str, stream: str = "stdout") -> subprocess.CompletedProcess[str]:
    """Run a command with one stream into a file, the other kept."""
    with open(path, "w") as file:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: file}
        words = [*program(command.name), *command.words, *words]
        return subprocess.run(words, env=command.env, text=True, check=False, timeout=120, **streams)


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_output_into_a_full_disk_is_told_and_the_work_is_done(words, pair, check_of):
    """All is copied all the same; the exit code 3 and a sentence say that the result could not be written."""
    source, destination, sync = pair

    synced = into("/dev/full", sync, "--max-delete", "100%", *words)
    checked = into("/dev/full", check_of(source, destination), *words)

    for ended in (synced, checked):
        assert ended.returncode == 3, ended
        assert "standard output cannot be written: No space left on device" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert "Exception" not in ended.stderr
    assert source.keys() == destination.keys()


def test_notes_into_a_full_disk_are_no_failure(pair):
    """Progress and notes are no result: exit code 0."""
    source, destination, sync = pair

    ended = into("/dev/full", sync, "--max-delete", "100%", "-vv", stream="stderr")

    assert ended.returncode == 0, ended
    assert "in sync" in ended.stdout
    assert source.keys() == destination.keys()


@pytest.mark.parametrize("words", [("--dry-run",), ("--json",)])
def test_output_into_a_closed_pipe_ends_quietly(words, pair):
    """As other programs do when nobody reads on (`| head`): exit code 141, not a word."""
    _, _, sync = pair
    reading, writing = os.pipe()
    os.close(reading)
    try:
        process = subprocess.run(
            [*program(), *sync.words, *words], env=sync.env, stdout=writing, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(writing)

    assert process.returncode == 141, process
    assert "Traceback" not in process.stderr
    assert "Exception" not in process.stderr
