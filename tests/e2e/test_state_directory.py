"""A state directory that cannot serve: each reason told, exit code 3, and what is in it stays as it was."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from commands import no_larger_files_than

OBJECTS = 40


@pytest.fixture
def state(tmp_path) -> Path:
    """Where `sync_of` keeps the state."""
    return tmp_path / "state-dir"


@pytest.fixture
def synced(new_bucket, sync_of):
    """Two equal buckets with an extra object at the destination, and the command that knows them."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    for number in range(OBJECTS):
        source.put(f"key-{number:03d}", b"%d" % number, content_type="text/plain")
    sync = sync_of(source, destination)
    assert sync().code == 0
    destination.put("extra", b"must stay for now")
    return source, destination, sync


def test_state_is_private(synced, state):
    """The directory is 0700 and every file in it 0600, whatever the umask: upload sessions are credentials."""
    _, _, sync = synced
    sync(preexec=lambda: os.umask(0))

    files = [path for path in state.rglob("*") if path.is_file()]
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in files}
    assert len(files) >= 3


def test_state_of_another_pair_is_refused(synced, new_bucket, sync_of):
    """The message names both pairs, and nothing is deleted."""
    source, destination, _ = synced
    other = new_bucket("s3")
    other.put("key", b"x")

    told = sync_of(other, destination)("--max-delete", "100%")

    told.refused(3, rf"belongs to {source.address}/ and {destination.address}/, not to {other.address}/")
    assert "extra" in destination.keys()


@pytest.mark.parametrize("file", ["job.db", "ranges/*.db"])
def test_state_of_a_newer_version_is_refused(file, synced, state):
    """A schema from the future is left alone: exit code 3 with both version numbers."""
    _, destination, sync = synced
    path = next(state.glob(file))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()

    sync().refused(3, r"newer heavysync .schema 99")

    assert before == path.read_bytes()
    assert "extra" in destination.keys()


@pytest.mark.parametrize("file", ["job.db", "ranges/*.db"])
@pytest.mark.parametrize("damage", ["garbage", "torn"])
def test_corrupt_state_is_refused(file, damage, synced, state):
    """Garbage, or pages torn out of the middle: exit code 3, the file's name and what to do; nothing is deleted."""
    source, destination, sync = synced
    path = next(state.glob(file))
    sound = path.read_bytes()
    for extra in state.rglob("*-wal"):
        extra.unlink()
    torn = sound[:4096] + os.urandom(len(sound) - 4096)
    path.write_bytes(os.urandom(20_000) if damage == "garbage" else torn)

    told = sync()

    told.refused(3, rf"{path.name}.*(damaged|not a state file|malformed)")
    assert "move it away and start again" in told.err
    assert "extra" in destination.keys()
    path.unlink()
    assert sync().code == 0
    assert source.contents() == destination.contents()


def test_full_disk_ends_the_run_and_loses_nothing(new_bucket, sync_of, state, tmp_path):
    """On a full disk the run ends with exit code 3; with room again it goes on where it was."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    for number in range(300):
        source.put(f"{'long-' * 60}{number:03d}", b"%d" % number, content_type="text/plain")
    destination.put("extra", b"stays for now")
    state.mkdir()
    size = "size=400k"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(state)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    sync = sync_of(source, destination)
    try:
        told = sync("--max-delete", "100%")

        told.refused(3, r"disk is full|No space left")
        assert "extra" in destination.keys()
        subprocess.run(["mount", "-o", "remount,size=64m", str(state)], check=True)
        done = sync("--max-delete", "100%")
        assert done.code == 0, done
    finally:
        subprocess.run(["umount", str(state)], check=True)
    assert source.contents() == destination.contents()


def test_file_that_may_not_grow_ends_the_run_and_loses_nothing(synced):
    """A limit on file sizes looks like a full disk to SQLite: exit code 3, and the next run goes on."""
    source, destination, sync = synced
    for number in range(300):
        source.put(f"{'long-' * 60}{number:03d}", b"%d" % number, content_type="text/plain")

    told = sync(preexec=no_larger_files_than(100_000))

    told.refused(3, r"state file .*(disk|full|I/O)")
    assert "extra" in destination.keys()
    assert sync().code == 0
    assert source.keys() == destination.keys()


def test_state_that_may_not_be_written_is_told(synced, state):
    """A read-only state directory: exit code 3 and the directory's name."""
    if os.geteuid() == 0:
        if subprocess.run(["mount", "--bind", str(state), str(state)], capture_output=True, check=False).returncode:
            pytest.skip("root writes everywhere, and mounting is not allowed")
        subprocess.run(["mount", "-o", "remount,bind,ro", str(state)], check=True)
    else:
        state.chmod(0o500)
    _, destination, sync = synced
    try:
        told = sync()
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", str(state)], check=True)
        else:
            state.chmod(0o700)

    told.refused(3, r"state-dir.*(read-only|Read-only|Permission|permission)")
    assert "extra" in destination.keys()


@pytest.mark.parametrize("kind", ["a file", "below a file"])
def test_state_that_is_no_directory_is_told(kind, synced, tmp_path):
    """A file where the directory should be: exit code 3 and its name."""
    _, _, sync = synced
    path = tmp_path / "file"
    path.write_text("x")

    told = sync("--state", path if kind == "a file" else path / "deep")

    told.refused(3, r"state directory .*file.*--state")
    assert path.read_text() == "x"


def test_unfinished_run_with_other_options_is_refused(new_bucket, sync_of):
    """What changes the meaning of an interrupted run is named (exit code 2); --restart begins anew."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    for number in range(50):
        source.put(f"key-{number}", b"x", content_type="text/plain")
    destination.forget()
    destination.rule(operation="insert", action="pass", delay_s=0.2, count=None)
    sync = sync_of(source, destination)
    process = sync.start("--concurrency", "2")
    while destination.counts()["put"] < 4:
        assert process.poll() is None
    process.kill()
    process.communicate()
    destination.forget()

    sync("--no-delete").refused(2, r"--delete .was True, now False.*--restart")
    assert sync("--no-delete", "--restart").code == 0
    assert source.contents() == destination.contents()


def test_default_state_is_one_directory_a_pair(synced, tmp_path):
    """Without --state it lies below XDG_STATE_HOME, named after the pair."""
    source, destination, sync = synced
    words = [word for word in sync.words if word not in {"--state", str(tmp_path / "state-dir")}]
    sync.words = tuple(words)

    done = sync("--json")

    made = Path(done.summary["state"])
    assert made.parent == tmp_path / "state" / "heavysync"
    assert source.name in made.name
    assert destination.name in made.name
