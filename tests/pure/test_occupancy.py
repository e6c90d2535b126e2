"""Busy is who runs, and who would run if others let him."""

from __future__ import annotations

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


def test_time_that_a_thread_is_kept_from_running_counts_as_busy() -> None:
    """It grows at least with the time that the thread runs."""
    before, ran = busy_s(), time.thread_time()
    while time.thread_time() < ran + 0.05:
        pass
    assert busy_s() - before >= 0.04


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
        (tmp_path / str(thread)).rmdir()
    account(tmp_path, 2, 1 * S)
    assert waits() == 113


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
