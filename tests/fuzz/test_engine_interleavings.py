"""The engine over two memory stores, a hundred short stories: faults, stops and crashes at any operation, a source that moves.

Whatever happened, the end is the source as it then is, and nothing was deleted that the source has.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fuzz.kit import FACTOR

from heavysync import breadth, copying, pacing, passes
from heavysync.errors import (
    ConditionError,
    FatalError,
    HeavysyncError,
    NotFoundError,
    PermanentError,
    TransientError,
    UploadGoneError,
)
from heavysync.events import Event, PhaseStarted
from heavysync.keyspace import KeyRange
from heavysync.objects import Deletion, Metadata, Page
from heavysync.options import MaxDelete
from heavysync.runners import runner
from pairs import KIB, SMALL_S3, Pair

KINDS = [("s3", "gs"), ("gs", "s3"), ("s3", "s3"), ("gs", "gs")]
ANCHOR = "~anchor"  # never deleted: an empty source is refused
STORIES = 8 * FACTOR
POOL = [f"{folder}{name}" for folder in ("", "a/", "ü/😀") for name in ("", "b", "b\0", "c d", "key-1", "key-2", "\ue000", "z")]
OPTIONS = {"concurrency": 4, "first_rows": 6, "range_rows": 5, "ranges_at_once": 3, "max_delete": MaxDelete.parse("100%")}


class Events(list[Event]):
    """Where a pair keeps what it is told; somebody listens."""

    def __init__(self, listener: Callable[[Event], None]) -> None:
        super().__init__()
        self._listener = listener

    def append(self, event: Event) -> None:
        self._listener(event)


@dataclass
class Story:
    """What happens to one pair while it is synchronised again and again.

    Args:
        pair: the pair.
        chance: the source of randomness.
        faults: share of operations that fail.
        moves: share of operations during which somebody writes to the source, or deletes there.
    """

    pair: Pair
    chance: random.Random
    faults: float
    moves: float
    ends_at: str = ""
    left: int = 0
    task: asyncio.Task[object] | None = None
    stop: asyncio.Event | None = None
    wrong: list[str] = field(default_factory=list)
    looks: list[tuple[KeyRange, set[str]]] = field(default_factory=list)
    tried: dict[str, int] = field(default_factory=dict)
    begun: int = 0
    is_deleting: bool = False
    deletions: int = 0

    def __post_init__(self) -> None:
        self.resume()
        self._list = self.pair.source.list_page
        self._delete = self.pair.destination.delete
        self.pair.source.list_page = self._listed  # type: ignore[method-assign]
        self.pair.destination.delete = self._deleted  # type: ignore[method-assign]

    async def _listed(self, after: str | None, until: str | None, limit: int = 1000) -> Page:
        page = await self._list(after, until, limit)
        self.looks.append((KeyRange(after, until if page.cursor is None else page.cursor), {info.key for info in page.objects}))
        return page

    async def _deleted(self, batch: list[Deletion]) -> Any:
        """Each key was looked for at the source since it was tried last, in this very pass, and was not there."""
        for key in [one.key for one in batch if one.version is None]:
            since = max(self.tried.get(key, 0), self.begun)
            found = [keys for span, keys in self.looks[since:] if key in span]
            if not found or key in found[-1]:
                self.wrong.append(key)
            self.tried[key] = len(self.looks)
        self.deletions += len(batch)
        return await self._delete(batch)

    def told(self, event: Event) -> None:
        """What the run tells: a pass begins."""
        if isinstance(event, PhaseStarted):
            self.begun, self.is_deleting = len(self.looks), event.phase == "delete"

    def resume(self) -> None:
        self.pair.source.fault = self._source
        self.pair.destination.fault = self._destination
        self.pair.destination.lose = self._lose

    def quiet(self) -> None:
        """From now on nothing happens."""
        self.pair.source.fault = self.pair.destination.fault = self.pair.destination.lose = None

    def move(self) -> None:
        """Somebody writes to the source, or deletes there."""
        key = self.chance.choice(POOL)
        source = self.pair.source
        if self.chance.random() < 0.4:
            source.bucket.delete(source.full(key))
            return
        size = self.chance.choice([0, 1, 30, 30, 9 * KIB])
        data = self.chance.randbytes(size)
        parts = (
            [data[at : at + 4 * KIB] for at in range(0, size, 4 * KIB)] if size > KIB and self.chance.random() < 0.5 else None
        )
        source.bucket.put(source.full(key), data, Metadata(content_type=self.chance.choice([None, "a/b"])), parts=parts)

    def _source(self, operation: str, key: str) -> Awaitable[None] | None:
        if self.chance.random() < (0.5 if self.is_deleting and self.moves else self.moves):
            self.move()
        return self._happen(operation, key)

    def _destination(self, operation: str, key: str) -> Awaitable[None] | None:
        if operation in {"write", "write_part", "complete"} and self.chance.random() < self.moves:
            self.move()
        return self._happen(operation, key)

    def _happen(self, operation: str, key: str) -> Awaitable[None] | None:
        if self.ends_at in {"", operation}:
            self.left -= 1
        if self.left == 0 and self.task is not None:
            self.left = -1
            if self.stop is not None:
                self.stop.set()
            else:
                self.task.cancel()
                return asyncio.sleep(0) if self.chance.random() < 0.7 else None  # it ends before the operation, or after it
        if self.chance.random() < self.faults:
            raise self._error(operation, key)
        return None

    def _error(self, operation: str, key: str) -> HeavysyncError:
        kinds: list[HeavysyncError] = [TransientError("503"), TransientError("slow down", throttled=True)]
        if operation in {"read", "write", "write_part", "complete", "copy", "stat"} and self.chance.random() < 0.2:
            kinds = [PermanentError("403", code="AccessDenied"), ConditionError("412")]
            kinds += [NotFoundError("404")] if operation in {"read", "copy"} else []
            kinds += [UploadGoneError("410")] if operation in {"write_part", "complete"} else []
        elif self.chance.random() < 0.01:
            kinds = [FatalError("the end")]
        return self.chance.choice(kinds)

    def _lose(self, operation: str, key: str) -> None:
        if self.chance.random() < self.faults:
            raise TransientError("the answer was lost")

    async def run(self) -> None:
        """One run, which may be cut off or stopped at any operation, or end by a fatal error."""
        self.is_deleting = False
        self.ends_at = self.chance.choice(["", "", "read", "write", "write", "copy", "write_part", "delete"])
        self.left = self.chance.randrange(1, 5) if self.ends_at else self.chance.randrange(1, 60)
        stop = asyncio.Event()
        self.stop = stop if self.chance.random() < 0.3 else None
        with suppress(asyncio.CancelledError, FatalError):
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                self.task = group.create_task(self._sync(stop))
        self.task = None

    async def _sync(self, stop: asyncio.Event) -> None:
        with suppress(FatalError):
            self.pair.events = Events(self.told)
            await self.pair.sync(stop=stop, **OPTIONS)


def tell(directory: Path, seed: int, kinds: tuple[str, str], *, shared: bool) -> Story:
    """Some runs of one pair, in all of which something happens."""
    chance = random.Random(seed)
    limits = SMALL_S3 if kinds[1] == "s3" else None
    prefixes = ("p/", "q/r/") if chance.random() < 0.5 else ("", "")
    pair = Pair(directory / "s", kinds, prefixes, shared=shared, limits=limits, page_max=chance.choice([1, 3, 7]))
    story = Story(pair, chance, faults=chance.choice([0.0, 0.03, 0.1]), moves=chance.choice([0.0, 0.05, 0.2]))
    pair.put(ANCHOR, b"stays")
    for _ in range(chance.randrange(30)):
        story.move()
    for _ in range(chance.randrange(20)):  # what is there already, some of it equal
        key = chance.choice(POOL)
        live = pair.source.bucket.live(pair.source.full(key))
        data = live.data if live and chance.random() < 0.5 else chance.randbytes(30)
        pair.destination.bucket.put(pair.destination.full(key), data, Metadata())
    for _ in range(chance.randrange(1, 5)):
        asyncio.run(story.run())
        if story.moves:
            for _ in range(chance.randrange(20)):
                story.move()
    return story


def assert_copied(pair: Pair) -> None:
    """Every source object whose name the destination can have is there with its bytes, and nothing else is."""
    expected, found = (
        {
            name.removeprefix(store.location.prefix): row.data
            for name, row in store.bucket.live_rows("", store.location.prefix)
            if name != store.location.prefix and not pair.destination.name_error(name.removeprefix(store.location.prefix))
        }
        for store in (pair.source, pair.destination)
    )
    assert found == expected


@pytest.mark.parametrize(
    ("kinds", "shared"), [*((kinds, False) for kinds in KINDS), *((kinds, True) for kinds in KINDS if kinds[0] == kinds[1])]
)
def test_any_story_ends_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinds: tuple[str, str], shared: bool) -> None:
    """After the last event two quiet runs: one that finishes what was begun, one that sees the source as it is.

    Half of them are so eager that they widen and split what they list all the time.
    """
    monkeypatch.setattr(copying, "GATHER_S", 0.0)
    for seed in range(STORIES):
        for module in (passes, runner):
            monkeypatch.setattr(module, "LOOK_S", 0.0 if seed % 2 else breadth.LOOK_S)
        monkeypatch.setattr(breadth, "IDLE", math.inf if seed % 2 else pacing.IDLE)
        story = tell(tmp_path / str(seed), seed, kinds, shared=shared)
        story.quiet()
        pair = story.pair
        first = pair.run(**OPTIONS)
        if first.status == "done" and not story.moves:
            assert_copied(pair)  # what an interrupted run goes on with is still true
        second = pair.run(**OPTIONS)

        assert story.wrong == [], f"seed {seed}: deleted what the source has"
        assert first.status in {"done", "failed"}, f"seed {seed}: {first.message}"
        assert (second.status, second.totals.failed) == ("done", 0), f"seed {seed}: {second.message} {second.troubles}"
        assert_copied(pair)
        third = pair.run(**OPTIONS)
        assert (third.totals.to_copy - third.totals.skipped, third.totals.extra) == (0, 0), f"seed {seed}"
