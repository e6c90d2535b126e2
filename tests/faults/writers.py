"""Somebody else writes at exact moments of a run: the buckets of such a run, who wrote what, and what must be true of it."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from buckets import Bucket, S3Bucket
from faults.kit import FaultKit
from faults.worlds import Worlds

import heavysync
from heavysync import SyncOptions
from heavysync.options import MaxDelete, SideOptions
from heavysync.reports import SyncReport

MIB = 1 << 20
RUN_S = 20.0

CHANGES = ("s-changed", "s-deleted", "s-rewritten", "d-new", "d-changed", "d-deleted")
"""One key for each: what happens to it at the moment, and on which side."""

HELD = ("d-changed", "d-deleted", "extra")
"""What the destination has before."""

WRITES = {"s3": ("create", "part", "complete", "put"), "gs": ("start", "chunk", "chunk", "insert")}
"""Names of: begin an upload, a part, the last request, a single write."""


@dataclass
class World:
    """One pair of buckets with writers.

    Args:
        worlds: the servers.
        kinds: of source and destination.
        directory: for the state.
        server_side: the provider copies.
        is_far: the destination is in another location, where a rewrite of Google takes several calls.
    """

    worlds: Worlds
    kinds: tuple[str, str]
    directory: Path
    server_side: bool = False
    is_far: bool = False
    history: dict[tuple[str, str], list[bytes]] = field(default_factory=lambda: defaultdict(list))
    done: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._numbers = itertools.count()
        self.source = self.worlds.bucket(self.kinds[0])
        self.destination = self.worlds.far_bucket() if self.is_far else self.worlds.bucket(self.kinds[1])

    def kit(self, bucket: Bucket) -> FaultKit:
        """The one that heavysync reaches a bucket through."""
        return self.worlds.kits[bucket.scheme]

    def write(self, side: str, key: str, size: int) -> None:
        """Write bytes that no other write has."""
        data = (f"{side} {key} {next(self._numbers)} ".encode() * (size // 8 + 1))[:size]
        self.history[side, key].append(data)
        bucket = self.source if side == "source" else self.destination
        if size >= 5 * MIB and isinstance(bucket, S3Bucket) and side == "source":
            bucket.put_parts(key, [data[: 5 * MIB], data[5 * MIB :]])
        else:
            bucket.put(key, data)

    def fill(self, size: int, keys: tuple[str, ...] = CHANGES) -> None:
        """Both sides as they are before the run."""
        for key in keys:
            self.write("source", key, size)
        for key in (*(key for key in HELD if key in keys), "extra"):
            self.write("destination", key, 300)

    def change(self, key: str, size: int, *_: object) -> None:
        """What somebody else does to a key, after the name of the key."""
        self.done.append(key)
        side, _, kind = key.partition("-")
        if kind == "deleted":
            (self.source if side == "s" else self.destination).delete(key)
        elif kind == "rewritten":
            data = self.history["source", key][-1]
            self.source.delete(key)
            self.source.put(key, data)
        else:
            self.write("source" if side == "s" else "destination", key, size if side == "s" or kind == "new" else 333)

    def at(self, operation: str, key: str, size: int, **how: Any) -> None:
        """Let the change of a key happen at a request about it; `on`: of which bucket (the destination's)."""
        on = how.pop("on", self.destination)
        how.setdefault("fault", "latency")
        call = how.pop("call", partial(self.change, key, size))
        self.kit(on).add(operation=operation, key=f"^{key}$", call=call, **how)

    def run(self, **options: Any) -> SyncReport:
        """Synchronise."""
        return asyncio.run(self._run(**options))

    async def _run(self, **more: Any) -> SyncReport:
        options = SyncOptions(
            state=self.directory / "state",
            concurrency=8,
            part_size=5 * MIB,
            max_delete=MaxDelete.parse("100%"),
            server_side_copy=self.server_side,
            source=self._side(self.source),
            destination=self._side(self.destination),
            **more,
        )
        async with asyncio.timeout(RUN_S):
            return await heavysync.sync(self.source.address, self.destination.address, options, retry_base_s=0.01)

    def _side(self, bucket: Bucket) -> SideOptions:
        return SideOptions(endpoint_url=self.kit(bucket).url, stall_s=5.0)

    def prove(self, report: SyncReport, *, overtaken: Callable[[str], bool]) -> None:
        """What must be true after a run, whoever wrote when.

        Args:
            report: of the run.
            overtaken: whether the foreign write to a key came after heavysync's own.
        """
        found = {key: data for key, (data, _) in self.destination.contents().items()}
        for key, data in found.items():
            whole = [*self.history["source", key], *self.history["destination", key]]
            assert data in whole, f"{key} is torn: {data[:40]!r}, {len(data)} bytes, of {[len(one) for one in whole]}"
        told = {trouble.key: trouble.code for trouble in report.troubles}
        for key in ("d-new", "d-changed"):
            if key in self.done:
                assert found[key] == self.history["destination", key][-1], f"{key}: somebody's newer object is gone"
                assert overtaken(key) or told[key] == "destination-changed", told
        for key in set(self.done) & {"s-changed", "s-rewritten"}:
            assert found[key] in self.history["source", key], key
        assert set(told.values()) <= {"destination-changed", "vanished"}, report.troubles
        assert report.status in {"done", "failed"}
        self.worlds.clear()
        again = self.run()
        assert again.status == "done", again
        source, destination = self.source.contents(), self.destination.contents()
        assert {key: data for key, (data, _) in source.items()} == {key: data for key, (data, _) in destination.items()}
