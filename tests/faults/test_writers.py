"""Somebody writes to either side in every phase of a run: nothing torn, nothing newer overwritten, nothing deleted that is back."""

from __future__ import annotations

from functools import partial

import pytest
from faults.writers import CHANGES, MIB, WRITES, World

PAIRS = [("s3", "gs"), ("gs", "s3"), ("s3", "s3"), ("gs", "gs")]
SMALL = 2000
LARGE = 5 * MIB + 100
FEW = ("s-changed", "d-new", "d-changed")
"""Of the changes, for large objects."""

REFUSED = {"fault": "status", "status": 412, "code": "PreconditionFailed"}
MISSING = {"fault": "status", "status": 404, "code": "NoSuchKey"}
"""As AWS answers where moto does not look at a condition."""


@pytest.fixture
def world(worlds, tmp_path):
    """Makes worlds."""

    def make(kinds, **how):
        return World(worlds, kinds, tmp_path, **how)

    return make


@pytest.mark.parametrize("moment", ["before the read", "after the read", "before the write", "after the write"])
@pytest.mark.parametrize("kinds", PAIRS)
def test_small_objects_survive_other_writers(kinds, moment, world):
    """Streamed: one read, one write."""
    world = world(kinds)
    world.fill(SMALL)
    when, _, what = moment.partition(" the ")
    for key in CHANGES:
        on, operation = (world.source, "get") if what == "read" else (world.destination, WRITES[kinds[1]][3])
        world.at(operation, key, SMALL, on=on, fault="latency" if when == "before" else "call after")

    report = world.run()

    assert sorted(world.done) == sorted(CHANGES)
    world.prove(report, overtaken=lambda _: moment == "after the write")


@pytest.mark.parametrize("moment", ["before the begin", "before a part", "after a read", "before the end", "after the end"])
@pytest.mark.parametrize("kinds", PAIRS[:2])
def test_large_objects_survive_other_writers(kinds, moment, world):
    """Streamed in parts: somebody writes while an upload is under way."""
    world = world(kinds)
    world.fill(LARGE, FEW)
    begin, part, end, _ = WRITES[kinds[1]]
    last = {"skip": 1} if kinds[1] == "gs" else {}
    for key in FEW:
        how = {
            "before the begin": {"operation": begin},
            "before a part": {"operation": part, "skip": 1},
            "after a read": {"operation": "get range", "on": world.source, "fault": "call after"},
            "before the end": {"operation": end, **last},
            "after the end": {"operation": end, "fault": "call after", **last},
        }[moment]
        if key == "d-changed" and kinds[1] == "s3" and moment == "before the end":
            how |= REFUSED  # moto completes whatever If-Match says
        elif key == "d-changed" and kinds[1] == "s3" and moment != "after the end":
            world.kit(world.destination).add(operation=end, key=f"^{key}$", **REFUSED)
        world.at(how.pop("operation"), key, LARGE, **how)

    report = world.run()

    assert sorted(world.done) == sorted(FEW)
    world.prove(report, overtaken=lambda key: moment == "after the end" and not (kinds[1] == "s3" and key == "d-new"))


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("kinds", [("s3", "s3"), ("gs", "gs")])
def test_copies_of_the_provider_survive_other_writers(kinds, moment, world):
    """One call; for S3 also where the server does not look at the condition on the source (moto)."""
    world = world(kinds, server_side=True)
    world.fill(SMALL)
    for key in CHANGES:
        how = {"fault": "latency" if moment == "before" else "call after"}
        if kinds[1] == "s3" and key[0] == "d" and moment == "before":
            how = MISSING if key == "d-deleted" else REFUSED
        world.at("copy" if kinds[1] == "s3" else "rewrite", key, SMALL, **how)

    report = world.run()

    assert sorted(world.done) == sorted(CHANGES)
    world.prove(report, overtaken=lambda _: moment == "after")


@pytest.mark.parametrize("step", ["first", "second", "last"])
@pytest.mark.parametrize("kinds", [("s3", "s3"), ("gs", "gs")])
def test_copies_in_steps_survive_other_writers(kinds, step, world):
    """UploadPartCopy and a rewrite of several calls: the source changes between two of them, or the destination does."""
    world = world(kinds, server_side=True, is_far=kinds[1] == "gs")
    world.fill(LARGE, FEW)
    for key in FEW:
        if kinds[1] == "gs":
            world.at("rewrite", key, LARGE, skip={"first": 0, "second": 1, "last": 2}[step])
            continue
        if key == "d-changed":
            world.kit(world.destination).add(operation="complete", key=f"^{key}$", **REFUSED)
        operation = "complete" if step == "last" and key != "d-changed" else "copy part"
        world.at(operation, key, LARGE, skip=1 if step == "second" else 0)

    report = world.run()

    assert sorted(world.done) == sorted(FEW)
    world.prove(report, overtaken=lambda _: False)


@pytest.mark.parametrize("kinds", PAIRS)
def test_writes_while_listing(kinds, world):
    """Right after a side was listed: what is new comes with the next run, what is gone or other is seen by the conditions."""
    world = world(kinds)
    world.fill(SMALL)
    for side, bucket in (("s", world.source), ("d", world.destination)):
        looks = 1 if bucket.scheme == "s3" else 0  # S3 is asked for a key before all else
        call = partial(_change_all, world, side)
        world.kit(bucket).add("call after", operation="list", bucket=bucket.name, skip=looks, call=call)

    report = world.run()

    assert sorted(world.done) == sorted(CHANGES)
    world.prove(report, overtaken=lambda _: False)


def _change_all(world, side, _):
    for key in (key for key in CHANGES if key[0] == side):
        world.change(key, SMALL)
    world.write("source" if side == "s" else "destination", "0-new", SMALL)


SECOND_LOOK = {"s3": 2, "gs": 1}
"""List requests before the one that asks whether the source still lacks a key."""


@pytest.mark.parametrize("moment", ["before the second look", "after the second look", "before the delete"])
@pytest.mark.parametrize("kinds", PAIRS[:2])
def test_key_that_comes_back_is_not_deleted(kinds, moment, world):
    """Up to the second look; after it no request could know, and the next run brings the object again."""
    world = world(kinds)
    world.fill(SMALL, ("s-calm",))

    def come_back(_):
        world.write("source", "extra", SMALL)
        world.done.append("extra")

    if moment == "before the delete":
        world.kit(world.destination).add("latency", operation="delete|batch", call=come_back)
    else:
        how = {"skip": SECOND_LOOK[kinds[0]], "bucket": world.source.name, "call": come_back}
        world.kit(world.source).add("latency" if "before" in moment else "call after", operation="list", **how)

    report = world.run()

    assert world.done == ["extra"]
    kept = moment == "before the second look"
    assert (report.totals.deleted, report.totals.kept) == ((0, 1) if kept else (1, 0))
    assert ("extra" in world.destination.keys()) == kept
    world.prove(report, overtaken=lambda _: True)


@pytest.mark.parametrize("change", ["changed", "deleted"])
@pytest.mark.parametrize("kinds", PAIRS[:2])
def test_extra_that_somebody_wrote_is_not_deleted(kinds, change, world):
    """It is not what was listed: left alone, and named; one that is gone already is as good as deleted."""
    world = world(kinds)
    world.fill(SMALL, ("s-calm",))
    how = {"fault": "latency"}
    if kinds[1] == "s3" and change == "changed":  # moto ignores the ETag of a key in DeleteObjects; AWS answers this
        error = b"<Error><Key>extra</Key><Code>PreconditionFailed</Code><Message>told so</Message></Error>"
        how = {"fault": "answer", "status": 200, "body": b"<DeleteResult>" + error + b"</DeleteResult>"}

    def write(_):
        world.done.append("extra")
        if change == "deleted":
            world.destination.delete("extra")
        else:
            world.write("destination", "extra", SMALL)

    world.kit(world.destination).add(operation="delete|batch", call=write, **how)
    report = world.run()

    assert world.done == ["extra"]
    told = [(trouble.key, trouble.code) for trouble in report.troubles]
    assert told == ([("extra", "destination-changed")] if change == "changed" else [])
    assert report.exit_code == (1 if change == "changed" else 0)
    assert ("extra" in world.destination.keys()) == (change == "changed")


@pytest.mark.parametrize("change", ["overwritten", "deleted"])
@pytest.mark.parametrize("kinds", PAIRS[:2])
def test_live_version_survives_a_purge_whoever_writes(kinds, change, world):
    """Between the list of versions and their deletion the key gets another live version, or a marker: that is not touched."""
    world = world(kinds)
    world.worlds.leave_versions(world.destination)
    world.fill(SMALL, ("s-calm",))
    world.write("source", "changed", SMALL)

    def write(_):
        world.done.append("changed")
        world.destination.put("changed", b"newest") if change == "overwritten" else world.destination.delete("changed")

    world.kit(world.destination).add("call after", operation="list versions", call=write)
    report = world.run(purge_noncurrent=1.0 if kinds[1] == "gs" else 1e-9)

    assert world.done == ["changed"]
    assert report.totals.purged >= 1
    found = world.destination.contents()
    assert found["changed"][0] == b"newest" if change == "overwritten" else "changed" not in found
    world.worlds.clear()
    assert world.run().status == "done"
    assert world.destination.read("changed")[0] == world.history["source", "changed"][-1]
