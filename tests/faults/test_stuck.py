"""An upload whose end is answered with 500 for ever holds nobody up, and is begun anew, on both providers."""

from __future__ import annotations

import asyncio

import pytest
from buckets import GcsBucket, S3Bucket
from faults.kit import FaultKit

import heavysync
from heavysync import SyncOptions
from heavysync.events import Event, Stuck
from heavysync.options import SideOptions

MIB = 1 << 20

BEGIN_AND_END = {"s3": ("create", "complete"), "gs": ("start", "chunk")}


@pytest.mark.parametrize("kinds", [("gs", "s3"), ("s3", "gs")])
@pytest.mark.parametrize("others", [0, 40])
def test_upload_whose_end_always_fails_is_begun_anew(kinds, others, moto, google, s3_kit, gs_kit, worlds, tmp_path):
    """With others that go through, and as the only object there is."""
    kits: dict[str, FaultKit] = {"s3": s3_kit, "gs": gs_kit}
    source, destination = (GcsBucket(google) if kind == "gs" else S3Bucket(moto, s3_kit) for kind in kinds)
    source.put("large", b"x" * (6 * MIB), content_type="text/plain")
    for number in range(others):
        source.put(f"small-{number:02d}", b"y" * 100, content_type="text/plain")
    begin, end = BEGIN_AND_END[kinds[1]]
    kit = kits[kinds[1]]
    begun: list[object] = []
    first = 2 if kinds[1] == "s3" else 1  # moto says that it checks CRCs, and is found not to: another upload is begun at once

    def count(asked: object) -> None:
        begun.append(asked)
        broken.count = broken.fired if len(begun) > first else None

    kit.add("latency", operation=begin, key="large", seconds=0, call=count, count=None)
    broken = kit.add("status", operation=end, key="large", status=500, count=None)
    events: list[Event] = []
    options = SyncOptions(
        state=tmp_path / "state",
        part_size=5 * MIB,
        concurrency=4,
        source=SideOptions(endpoint_url=kits[kinds[0]].url),
        destination=SideOptions(endpoint_url=kit.url),
    )

    report = asyncio.run(
        heavysync.sync(source.address, destination.address, options, listener=events.append, retry_base_s=0.001)
    )

    stuck = [event.key for event in events if isinstance(event, Stuck)]
    assert report.status == "done"
    assert source.contents() == destination.contents()
    assert set(stuck) == {"large"}
    assert len(stuck) <= 2
    assert len(begun) == first + 1
