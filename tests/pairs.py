"""Two memory stores, a state directory, and a way to synchronise them: what the tests of the engine start with."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from heavysync.assurance import CheckPlan, CheckReport
from heavysync.checking import CheckRun, Tellers
from heavysync.events import Event
from heavysync.objects import STAMP_KEY, Limits, Location, Metadata
from heavysync.options import CheckOptions, Samples, SyncOptions
from heavysync.retry import Retrier
from heavysync.state.directory import owned
from heavysync.state.job import open_job
from heavysync.stores.memory import MemoryStore
from heavysync.stores.memory_bucket import MemoryService
from heavysync.reports import Planned, SyncReport
from heavysync.sync import SyncRun
from heavysync.verdicts import Finding

KIB = 1 << 10

SMALL_S3 = Limits(
    write_max=5 << 30,
    part_min=4 * KIB,
    part_max=5 << 30,
    part_count=10_000,
    part_multiple=1,
    parallel_parts=True,
    object_max=50 << 40,
    copy_max=64 * KIB,
    delete_batch=1000,
)


class Pair:
    """A source and a destination in memory.

    Args:
        directory: for the state.
        kinds: flavour of source and destination; the same flavour twice shares one service.
        prefixes: of both locations.
        stores: further arguments of both stores.
    """

    def __init__(
        self,
        directory: Path,
        kinds: tuple[str, str] = ("s3", "gs"),
        prefixes: tuple[str, str] = ("", ""),
        *,
        shared: bool = False,
        **stores: Any,
    ) -> None:
        first = MemoryService(flavour=kinds[0])
        second = first if shared else MemoryService(flavour=kinds[1])
        first.create("a")
        second.create("b")
        self.source = MemoryStore(Location(scheme=kinds[0], bucket="a", prefix=prefixes[0]), first, **stores)
        self.destination = MemoryStore(Location(scheme=kinds[1], bucket="b", prefix=prefixes[1]), second, **stores)
        self.directory = directory
        self.events: list[Event] = []

    def put(self, key: str, data: bytes, **metadata: Any) -> None:
        """Write a source object."""
        parts = metadata.pop("parts", None)
        self.source.bucket.put(self.source.full(key), data, Metadata(**metadata), parts=parts)

    def fill(self, count: int, *, size: int = 100, seed: int = 1) -> None:
        """Write many source objects."""
        random_bytes = random.Random(seed)
        for number in range(count):
            self.put(f"dir{number % 7}/key-{number:06d}", random_bytes.randbytes(size))

    async def sync(
        self,
        *,
        stop: asyncio.Event | None = None,
        planned: Callable[[Planned], None] | None = None,
        **options: Any,
    ) -> SyncReport:
        """Run once over the pair's state directory."""
        chosen = SyncOptions(**{"concurrency": 16, **options})
        retry = Retrier(self.events.append, base_s=0.0)
        retry.stopping = stop or retry.stopping
        with owned(self.directory):
            async with open_job(self.directory, self.source.location, self.destination.location) as job:
                run = SyncRun(job, self.source, self.destination, chosen, retry, self.events.append)
                return await run.run(planned)

    def run(self, **options: Any) -> SyncReport:
        """The same, outside of a loop."""
        return asyncio.run(self.sync(**options))

    async def check(
        self,
        *,
        stop: asyncio.Event | None = None,
        found: Callable[[Finding], None] | None = None,
        plans: list[CheckPlan] | None = None,
        clock: Callable[[], float] = time.time,
        **options: Any,
    ) -> CheckReport:
        """Check once over the pair's state directory."""
        chosen = CheckOptions(**{"concurrency": 16, **options})
        retry = Retrier(self.events.append, base_s=0.0)
        retry.stopping = stop or retry.stopping
        tell = Tellers(self.events.append, found or (lambda _: None), ([] if plans is None else plans).append)
        with owned(self.directory, "check"):
            async with open_job(self.directory, self.source.location, self.destination.location, clock) as job:
                return await CheckRun(job, self.source, self.destination, chosen, retry, tell).run()

    def checked(self, samples: str = "100%", **options: Any) -> CheckReport:
        """The same, outside of a loop."""
        return asyncio.run(self.check(samples=Samples.parse(samples), **options))

    def damage(self, key: str, data: bytes, *, silent: bool = True) -> None:
        """Change the bytes of a copy; silently, as a failing disk does: its digests stay what they were."""
        bucket = self.destination.bucket
        row = bucket.live(self.destination.full(key))
        assert row is not None
        if silent:
            bucket.rows[self.destination.full(key)][-1] = replace(row, data=data)
        else:
            bucket.put(self.destination.full(key), data, row.metadata)

    def assert_equal(self) -> None:
        """Both sides hold the same keys, bytes and metadata, but for our stamp."""
        assert contents(self.source) == contents(self.destination)


def contents(store: MemoryStore) -> dict[str, tuple[bytes, Metadata]]:
    """Every live object below the store's root."""
    prefix = store.location.prefix
    found = {}
    for name, row in store.bucket.live_rows("", prefix):
        user = {key: value for key, value in row.metadata.user.items() if key != STAMP_KEY}
        fixed = {field: getattr(row.metadata, field) for field in Metadata.__slots__ if field not in {"user", "tags"}}
        found[name[len(prefix) :]] = (row.data, Metadata(**fixed, user=user))
    return found
