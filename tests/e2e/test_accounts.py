"""What a run knows of the work of its processes: what went through in any of them, and whether they get on."""

from __future__ import annotations

import asyncio
import random
import sys
from contextlib import suppress

import pytest

import heavysync
from heavysync.events import Event, Moved, Notice
from heavysync.options import SideOptions, SyncOptions
from heavysync.runners import crew, growth
from heavysync.runners.member import Member

MIB = 1 << 20

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="one process does all of the work there")


@pytest.fixture
def pair_of(new_bucket, tmp_path):
    """Makes a pair of buckets, and what synchronises it in this process."""

    def make(*listeners, **more):
        source, destination = new_bucket("gs"), new_bucket("gs")
        side = SideOptions(endpoint_url=source.url)
        options = SyncOptions(
            state=tmp_path / "state", concurrency=8, server_side_copy=False, source=side, destination=side, **more
        )

        def listen(event: Event) -> None:
            for listener in listeners:
                listener(event)

        return (
            source,
            destination,
            lambda: asyncio.run(heavysync.sync(source.address, destination.address, options, listener=listen)),
        )

    return make


def test_what_went_through_before_others_took_over_counts(pair_of, monkeypatch):
    """Eight objects are copied by the first process, all others are refused in the next ones: each of them is recorded."""
    monkeypatch.setattr(growth, "cores", lambda: 2)
    monkeypatch.setattr(growth, "ENOUGH_S", 0.0)
    monkeypatch.setattr(growth, "BUSY", 0.0)
    monkeypatch.setattr(growth, "LOOK_S", 0.1)
    notices: list[str] = []
    source, destination, sync = pair_of(
        lambda event: notices.append(event.text) if isinstance(event, Notice) else None, first_rows=30, range_rows=60
    )
    for number in range(120):
        source.put(f"dir{number % 7}/key-{number:05d}")
    source.settings(page_limit=15)
    destination.rule(operation="insert", action="pass", delay_s=1.2, count=8)
    destination.rule(operation="insert", action="status", status=403, reason="forbidden", delay_s=0.05, skip=8, count=None)

    report = sync()

    assert (report.status, report.totals.copied, report.totals.failed) == ("failed", 8, 112), report
    assert notices == []


def test_parts_between_deaths_are_progress(pair_of, monkeypatch):
    """Processes die over one large object more often than they may, but its parts arrive: the run goes on."""
    monkeypatch.setattr(crew, "DEATHS", 2)
    members: list[Member] = []
    start = crew.Crew._start

    async def started(self, *args, **named):
        members.append(await start(self, *args, **named))
        return members[-1]

    monkeypatch.setattr(crew.Crew, "_start", started)
    kills: list[int] = []

    def kill(event: Event) -> None:
        if isinstance(event, Moved) and len(kills) < 3:
            kills.append(event.size)
            with suppress(ProcessLookupError):
                members[-1].process.kill()

    source, destination, sync = pair_of(kill, processes=2, part_size=5 * MIB)
    source.put("large", random.Random(1).randbytes(40 * MIB), content_type="text/plain")
    destination.rule(operation="chunk", action="pass", delay_s=0.3, count=None)

    report = sync()

    assert (report.status, report.totals.copied, len(kills)) == ("done", 1, 3), report
    assert source.contents() == destination.contents()
