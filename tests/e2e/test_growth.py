"""Without `--processes`: one process while there is little to do, then one a core; nothing is lost or done twice by the change."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

import pytest
from buckets import GcsBucket

import heavysync
from heavysync.events import Notice, Stuck
from heavysync.options import SideOptions, SyncOptions
from heavysync.runners import crew, growth

OBJECTS = 150


@pytest.fixture(scope="module")
def source(google):
    """Filled once; no test changes it."""
    bucket = GcsBucket(google)
    for number in range(OBJECTS):
        bucket.put(f"dir{number % 7}/key-{number:05d}", b"%d" % number * 50, content_type="text/plain")
    return bucket


@pytest.fixture
def run(source, new_bucket, tmp_path, monkeypatch):
    """Makes a destination, and what synchronises it in this process with small ranges on a machine of two cores."""
    monkeypatch.setattr(growth, "cores", lambda: 2)
    started = []
    start = crew.Crew._start

    async def counted(self):
        started.append(await start(self))
        return started[-1]

    monkeypatch.setattr(crew.Crew, "_start", counted)
    destination = new_bucket("gs")
    destination.settings(page_limit=15)
    side = SideOptions(endpoint_url=source.url)

    def once(*, stop_after: int | None = None, stop_at: type = (), stop_in=None, retry_base_s: float = 0.5, **more):
        events = []

        async def main():
            stop = asyncio.Event()
            if stop_in is not None:
                asyncio.get_running_loop().call_later(stop_in, stop.set)

            def listen(event):
                events.append(event)
                if isinstance(event, stop_at) or (stop_after is not None and len(started) >= stop_after):
                    stop.set()

            options = SyncOptions(
                state=tmp_path / "state",
                concurrency=8,
                first_rows=30,
                range_rows=60,
                server_side_copy=False,
                source=side,
                destination=side,
                **more,
            )
            return await heavysync.sync(
                source.address, destination.address, options, listener=listen, stop=stop, retry_base_s=retry_base_s
            )

        report = asyncio.run(main())
        return report, [event.text for event in events if isinstance(event, Notice)]

    once.destination, once.started = destination, started
    return once


def soon(monkeypatch) -> None:
    """Let others be worth their start at once."""
    monkeypatch.setattr(growth, "ENOUGH_S", 0.0)
    monkeypatch.setattr(growth, "BUSY", 0.0)
    monkeypatch.setattr(growth, "LOOK_S", 0.2)


def test_small_run_starts_no_process(run, source):
    """Neither the first run nor the one after it."""
    for copied in (OBJECTS, 0):
        report, _ = run()
        assert (report.exit_code, report.totals.copied) == (0, copied)

    assert run.started == []
    assert source.contents() == run.destination.contents()


def test_busy_run_hands_over_without_doing_anything_twice(run, source, monkeypatch):
    """What the first process has under way is finished and recorded; the others go on with its ranges."""
    soon(monkeypatch)
    run.destination.rule(operation="insert", action="pass", delay_s=0.1, count=None)

    report, notices = run()

    assert (report.exit_code, report.totals.copied, notices) == (0, OBJECTS, [])
    assert 1 <= len(run.started) <= 2
    assert source.contents() == run.destination.contents()
    assert Counter(run.destination.written()).most_common(1)[0][1] == 1
    assert run.destination.counts()["list"] <= 3 * 13 + 60


def test_large_plan_starts_processes_at_once(run, monkeypatch):
    """Where the plan has many ranges already, the first process lists nothing itself."""
    run()
    assert run.started == []
    monkeypatch.setattr(growth, "MANY", 3)

    report, _ = run()

    assert (report.exit_code, report.totals.copied, len(run.started)) == (0, 0, 2)


def test_stop_while_others_start_is_heeded(run, monkeypatch):
    """The run ends as stopped, and the next one goes on."""
    soon(monkeypatch)
    run.destination.rule(operation="insert", action="pass", delay_s=0.1, count=None)

    report, _ = run(stop_after=1)

    assert report.status == "stopped"
    run.destination.ask("DELETE", "/_loopback/rules")
    report, _ = run()
    assert (report.exit_code, report.resumed, report.totals.copied) == (0, True, OBJECTS)


def test_stuck_objects_of_other_processes_are_in_the_report(run, source):
    """An object fails in passing again and again while others go through: it is told, also when the run is stopped."""
    run.destination.rule(operation="insert", key="dir3/key-00003", action="status", status=503, count=None)

    report, _ = run(stop_at=Stuck, processes=2, retry_base_s=0.001)

    assert (report.status, [one.key for one in report.troubles], report.troubles[0].status) == (
        "stopped",
        ["dir3/key-00003"],
        "stuck",
    )
    run.destination.ask("DELETE", "/_loopback/rules")
    report, _ = run()
    assert (report.exit_code, report.totals.copied) == (0, OBJECTS)
    assert source.contents() == run.destination.contents()


def test_run_that_cannot_start_others_does_all_itself(run, source, monkeypatch):
    """It says so once; asked for processes by name, it ends."""
    soon(monkeypatch)
    run.destination.rule(operation="insert", action="pass", delay_s=0.1, count=40)
    monkeypatch.setattr(sys, "executable", "/bin/false")

    report, notices = run()

    assert report.exit_code == 0
    assert any("no other process can be started" in notice for notice in notices)
    assert source.contents() == run.destination.contents()
    with pytest.raises(heavysync.FatalError, match="do not start, the last one ended with exit code 1"):
        run(processes=2)


BROKEN = """#!{python}
import socket, sys, time
from heavysync.runners.wire import Broke, Ready, frame
end = socket.socket(fileno=int(sys.argv[-2]))
time.sleep({pause})
end.sendall(frame(Broke("FatalError", "nobody to ask for a password", "")))
"""


def instead_of_python(tmp_path, monkeypatch, text: str) -> None:
    """What is started in place of other processes."""
    program = tmp_path / "other"
    program.write_text(text)
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


@pytest.mark.parametrize("pause", [0.0, 0.8])
def test_process_that_breaks_at_its_start_does_not_end_a_run_that_can_do_without(pause, run, source, monkeypatch, tmp_path):
    """Nor if it breaks when nobody waits for it any more: the run says why it stays alone, and does all of the work."""
    soon(monkeypatch)
    monkeypatch.setattr(crew, "READY_S", 0.4 if pause else 60.0)
    instead_of_python(tmp_path, monkeypatch, BROKEN.format(python=sys.executable, pause=pause))
    run.destination.rule(operation="insert", action="pass", delay_s=0.1, count=None)

    report, notices = run()

    why = "it was not ready in 0.4 s" if pause else "nobody to ask for a password"
    assert (report.exit_code, report.totals.copied, len(run.started)) == (0, OBJECTS, 1)
    assert [notice.rpartition(": ")[2] for notice in notices] == [why]
    assert source.contents() == run.destination.contents()


def test_first_process_that_hangs_at_its_start_does_not_hold_a_stop_up(run, monkeypatch, tmp_path):
    """A large plan, and other processes that never get ready: the run ends when it is told to."""
    run()
    monkeypatch.setattr(growth, "MANY", 3)
    monkeypatch.setattr(crew, "READY_S", 1000.0)
    instead_of_python(tmp_path, monkeypatch, "#!/bin/sh\nexec sleep 1000\n")

    report, notices = run(stop_in=0.5)

    assert (report.status, len(run.started), notices) == ("stopped", 1, [])
    assert run.started[0].process.returncode is not None


@pytest.mark.parametrize(("memory", "processes", "most"), [(512, None, 8), (64, None, None), (512, 16, 16), (64, 4, 4)])
def test_processes_have_memory_for_parts(memory, processes, most, run, monkeypatch, tmp_path):
    """A run grows into no more than can hold parts of 64 MiB each; who asks for more by name has them."""
    monkeypatch.setattr(growth, "cores", lambda: 16)
    options = SyncOptions(memory=memory << 20, processes=processes)

    team = growth.team_for(options, (None, None), tmp_path, lock=0, stop=asyncio.Event(), retry_base_s=1.0)

    assert (team.most if team else None) == most


def test_cores_are_those_that_the_control_group_gives(tmp_path):
    """Rounded up, at least one, and never more than the process is bound to."""
    quota = tmp_path / "cpu.max"
    bound = growth.cores(quota)
    for text, cores in {
        "50000 100000": 1,
        "100000 100000": 1,
        "max 100000": bound,
        "99900000 100000": bound,
        "": bound,
    }.items():
        quota.write_text(text)
        assert growth.cores(quota) == cores
