"""Busy is who runs, and who would run if others let him."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from heavysync import occupancy
from heavysync.breadth import Breadth
from heavysync.occupancy import Waits, busy_s

S = 1_000_000_000


def account(threads: Path, thread: int, ready: int) -> None:
    """What Linux says of a thread: nanoseconds run, nanoseconds ready, timeslices."""
    (threads / str(thread)).mkdir(exist_ok=True)
    (threads / str(thread) / "schedstat").write_text(f"{5 * S} {ready} 7\n", "ascii")


def test_time_that_a_thread_is_kept_from_running_counts_as_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop's own thread, here."""
    account(tmp_path, 1, 2 * S)
    monkeypatch.setattr(occupancy, "_THREAD", tmp_path / "1")
    assert busy_s() == 7
    monkeypatch.setattr(occupancy, "_THREAD", tmp_path / "none")
    assert busy_s() == pytest.approx(time.thread_time(), abs=0.5)


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="Linux keeps this account")
def test_system_keeps_account_of_this_thread_and_of_all() -> None:
    """What the other tests stand in for."""
    before, ran = busy_s(), time.thread_time()
    while time.thread_time() < ran + 0.05:
        pass
    assert busy_s() - before >= 0.04
    assert str(threading.get_native_id()) in {thread.name for thread in occupancy._threads()}
    assert occupancy._schedule_of(occupancy._THREADS / str(threading.get_native_id()))[0] > 0


def test_waits_of_all_threads_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each thread, also one that began in between; one that ends takes nothing back."""
    monkeypatch.setattr(occupancy, "_THREADS", tmp_path)
    account(tmp_path, 1, 2 * S)
    account(tmp_path, 2, 0)
    waits = Waits()
    assert waits() == 2

    account(tmp_path, 1, 12 * S)
    account(tmp_path, 3, 100 * S)
    assert waits() == 112

    for thread in (1, 3):
        (tmp_path / str(thread) / "schedstat").unlink()
    assert waits() == 112  # they end while they are looked at
    for thread in (1, 3):
        (tmp_path / str(thread)).rmdir()
    account(tmp_path, 2, 1 * S)
    assert waits() == 113

    account(tmp_path, 2, S // 2)
    assert waits() == 113  # another one has got the number


def test_there_are_no_waits_where_nobody_keeps_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other systems than Linux, and a thread that ends while it is looked at."""
    monkeypatch.setattr(occupancy, "_THREADS", tmp_path / "none")
    assert Waits()() == 0
    (tmp_path / "9").mkdir()
    monkeypatch.setattr(occupancy, "_THREADS", tmp_path)
    assert Waits()() == 0


def test_process_that_waits_for_processors_takes_no_more_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks idle by what it ran, but more ranges would have it wait all the more."""
    monkeypatch.setattr(occupancy, "_THREADS", tmp_path)
    account(tmp_path, 1, 0)
    now = [0.0]
    breadth = Breadth(8, 32, clock=lambda: now[0])
    now[0] = 1000.0
    assert breadth.look(is_wanting=True)

    now[0], at_once = 2000.0, breadth.at_once
    account(tmp_path, 1, 900 * S)
    assert not breadth.look(is_wanting=True)
    assert (breadth.at_once, breadth.is_idle) == (at_once, False)


def test_process_that_runs_or_whose_loop_is_busy_takes_no_more_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """These two loads count beside the waits, each by itself."""
    monkeypatch.setattr(occupancy, "_THREADS", tmp_path)
    now, loop, cpu = [0.0], [0.0], [0.0]
    monkeypatch.setattr("heavysync.breadth.busy_s", lambda: loop[0])
    monkeypatch.setattr("heavysync.breadth.time.process_time", lambda: cpu[0])
    breadth = Breadth(8, 32, clock=lambda: now[0])
    for load in (loop, cpu):
        now[0] += 10
        load[0] += 9
        assert not breadth.look(is_wanting=True)
    now[0] += 10
    assert breadth.look(is_wanting=True)
