"""The buckets of the fault matrix: small ones that make heavysync send every kind of request, and how a case is run."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buckets import Bucket, GcsBucket, S3Bucket
from faults.cases import FAULTS, TIMES, Request
from faults.kit import FaultKit
from faults.rules import Rule
from servers import S3Server

import heavysync
from heavysync import SyncOptions
from heavysync.errors import RunError
from heavysync.events import Event, Retrying
from heavysync.options import MaxDelete, SideOptions

MIB = 1 << 20
SIZE = 2000
RUN_S = 60.0
DAY_S = 86_400.0


class Pair:
    """Source and destination of one case, and the kits before them.

    Args:
        request: what the run is to make.
        source: filled.
        destination: with one object too many, and one that is not as at the source.
        kits: of both sides' servers.
        directory: for state and credentials.
    """

    def __init__(
        self, request: Request, source: Bucket, destination: Bucket, kits: dict[str, FaultKit], directory: Path
    ) -> None:
        self.request = request
        self.source = source
        self.destination = destination
        self.kits = kits
        self.directory = directory
        self.events: list[Event] = []

    @property
    def kit(self) -> FaultKit:
        """The one before the server that the request goes to."""
        return self.kits[self.request.side]

    def break_as(self, fault: str) -> list[Rule]:
        """Add the rules of a case; answer those that have to fire."""
        request, kit = self.request, self.kit
        helpers = [kit.add(**how) for how in request.helpers]
        how: dict[str, Any] = {"operation": request.operation, "count": TIMES, "skip": request.skip, **FAULTS[fault]}
        if request.operation == "chunk" and fault in _ON_LAST_CHUNK:
            how |= {"skip": 1, "count": 1}  # the chunks before it are answered without a body
        if fault.startswith("308 ") and request.operation == "status":
            helpers[0].skip = 0  # the question after the last chunk is answered with the object
        buckets = [self.source.name, self.destination.name] if request.both else [""]
        return helpers + [kit.add(**how, bucket=bucket) for bucket in buckets]

    def side(self, bucket: Bucket, **how: Any) -> SideOptions:
        """How heavysync reaches a bucket: through the kit."""
        return SideOptions(endpoint_url=self.kits[bucket.scheme].url, stall_s=1.0, **how)

    def options(self) -> SyncOptions:
        """Of every run of the case."""
        credentials = {"credentials_file": str(self._credentials())} if self.request.token else {}
        return SyncOptions(
            state=self.directory / "state",
            concurrency=4,
            part_size=5 * MIB,
            max_delete=MaxDelete.parse("100%"),
            purge_noncurrent=_purge_days(self.destination) if self.request.purge else 0.0,
            server_side_copy=self.request.server_side,
            tags=self.request.tags,
            source=self.side(self.source),
            destination=self.side(self.destination, **credentials),
        )

    def _credentials(self) -> Path:
        file = self.directory / "credentials.json"
        known = {"client_id": "id", "client_secret": "secret", "refresh_token": "refresh"}
        file.write_text(json.dumps({"type": "authorized_user", **known, "token_uri": f"{self.kits['gs'].url}/token"}))
        return file

    def interrupt(self) -> None:
        """A first run, stopped before the upload of the large object is complete; the object may be replaced after it."""
        replaced = self.request.replaced
        self.kit.add("status", operation="part|chunk" if replaced else "complete", skip=replaced, status=500, count=None)
        assert self.run(stop_at="write part" if replaced else "complete").startswith("stopped")
        self.kit.clear()
        if self.request.replaced:
            self.source.put("large", random.Random(2).randbytes(5 * MIB + SIZE), content_type="text/plain")

    def run(self, *, stop_at: str = "") -> str:
        """Run heavysync; answer the report's status, or "fatal: …". `stop_at`: an operation whose first failure ends the run."""
        return asyncio.run(self._run(stop_at))

    async def _run(self, stop_at: str) -> str:
        stop = asyncio.Event()

        def listen(event: Event) -> None:
            self.events.append(event)
            if stop_at and isinstance(event, Retrying) and event.operation.startswith(stop_at):
                stop.set()

        ends = self.source.address, self.destination.address
        try:
            async with asyncio.timeout(RUN_S):
                report = await heavysync.sync(*ends, self.options(), listener=listen, stop=stop, retry_base_s=0.01)
        except RunError as error:
            return f"fatal: {error}"
        return f"{report.status}: {report.message} {report.troubles or ''}"

    @property
    def waits(self) -> list[float]:
        """Seconds that were waited before each further attempt."""
        return [event.wait_s for event in self.events if isinstance(event, Retrying)]

    def is_equal(self) -> bool:
        """Whether both buckets hold the same, as other people's clients see it."""
        return self.source.contents() == self.destination.contents() and not self.old_versions()

    def old_versions(self) -> int:
        """Noncurrent versions at the destination that should have been purged."""
        if not self.request.purge:
            return 0
        if isinstance(self.destination, GcsBucket):
            found = [_text_age(row["timeDeleted"]) for row in self.destination.versions() if "timeDeleted" in row]
            return sum(1 for age in found if age > DAY_S)
        rows = self.destination.client.list_object_versions(Bucket=self.destination.name).get("Versions", [])
        return sum(1 for row in rows if row["Key"] == "changed" and not row["IsLatest"] and row["Size"] == 1)


_ON_LAST_CHUNK = {"reset inside the answer", "stall inside the answer", "cut answer", "length too short"}


def _text_age(text: str) -> float:
    from datetime import UTC, datetime

    return (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()


def _purge_days(destination: Bucket) -> float:
    return 1.0 if destination.scheme == "gs" else 1e-9


class Worlds:
    """Makes pairs; sources are made once and never changed."""

    def __init__(self, moto: S3Server, s3_kit: FaultKit, google: str, gs_kit: FaultKit) -> None:
        self._moto = moto
        self._google = google
        self.kits = {"s3": s3_kit, "gs": gs_kit}
        self._sources: dict[tuple[str, bool], Bucket] = {}
        self._aged: dict[str, list[Bucket]] = {}

    def clear(self) -> None:
        """Kits as new."""
        for kit in self.kits.values():
            kit.clear()

    def pair(self, request: Request, directory: Path) -> Pair:
        """A fresh destination for the source that the request needs."""
        source = (
            self._new_source(request.kinds[0], large=True)
            if request.replaced
            else self._source(request.kinds[0], large=request.large)
        )
        return Pair(request, source, self._destination(request), self.kits, directory)

    def bucket(self, kind: str) -> Bucket:
        """A new one, empty."""
        return self._new(kind)

    def far_bucket(self) -> GcsBucket:
        """A new one in another location, where a rewrite takes several calls."""
        return self._far_destination()

    def _new(self, kind: str) -> Bucket:
        return S3Bucket(self._moto, self.kits["s3"]) if kind == "s3" else GcsBucket(self._google)

    def _source(self, kind: str, *, large: bool) -> Bucket:
        if (kind, large) not in self._sources:
            self._sources[kind, large] = self._new_source(kind, large=large)
        return self._sources[kind, large]

    def _new_source(self, kind: str, *, large: bool) -> Bucket:
        bucket = self._new(kind)
        noise = random.Random(1)
        for key in ("changed",) if large else ("a/1", "b b/2", "c/ü", "changed"):
            bucket.put(key, noise.randbytes(SIZE), content_type="text/plain", user={"key": "v"})
        if large:
            data = noise.randbytes(5 * MIB + SIZE)
            if isinstance(bucket, S3Bucket):
                bucket.put_parts("large", [data[: 5 * MIB], data[5 * MIB :]], content_type="text/plain", user={"l": "1"})
            else:
                bucket.put("large", data, content_type="text/plain", user={"l": "1"})
        return bucket

    def _destination(self, request: Request) -> Bucket:
        if request.operation == "rewrite":
            return self._far_destination()
        bucket = self._aged_bucket(request.kinds[1]) if request.purge else self._new(request.kinds[1])
        if request.odd_key:
            bucket.put("odd\x01", b"goes", content_type="text/plain")
        bucket.put("changed", b"old", content_type="text/plain")
        bucket.put("extra", b"goes", content_type="text/plain")
        return bucket

    def _far_destination(self) -> GcsBucket:
        """In another location, where a rewrite takes several calls."""
        bucket = GcsBucket(self._google, create=False)
        bucket.settings(rewrite_bytes=2 * MIB)
        bucket.ask("POST", "/storage/v1/b?project=p", {"name": bucket.name, "location": "EU"})
        return bucket

    def _aged_bucket(self, kind: str) -> Bucket:
        """One with old versions; moto's ages take a second, so some are made at a time."""
        aged = self._aged.setdefault(kind, [])
        if not aged:
            aged += [self._new(kind) for _ in range(8)]
            for bucket in aged:
                self.leave_versions(bucket, wait=False)
            if kind == "s3":
                time.sleep(1.01 - time.time() % 1)
        return aged.pop()

    def leave_versions(self, bucket: Bucket, *, wait: bool = True) -> None:
        """A version that was replaced long ago; on moto, which has no clock of its own, in the second before."""
        if isinstance(bucket, GcsBucket):
            bucket.ask("PATCH", f"/storage/v1/b/{bucket.name}", {"versioning": {"enabled": True}})
            bucket.settings(clock_offset_s=-10 * DAY_S)
            bucket.put("changed", b"1")
            bucket.put("changed", b"22")
            bucket.settings(clock_offset_s=0.0)
            return
        bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
        bucket.put("changed", b"1")
        bucket.put("changed", b"22")
        if wait:
            time.sleep(1.01 - time.time() % 1)


@dataclass(frozen=True, slots=True)
class Results:
    """The outcomes, a JSON line each; the last one of a case counts."""

    file: Path

    def add(self, fault: str, request: Request, outcome: str, why: str = "") -> None:
        """Write one down; several processes may, at the same time."""
        line = json.dumps({"fault": fault, "request": request.name, "outcome": outcome, "why": why}) + "\n"
        handle = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)
