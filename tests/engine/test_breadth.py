"""Listing widens where servers are far: more ranges at once, and those that are left are split; a busy run stays as it is."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from heavysync import breadth, passes
from heavysync.copying import CopyPool
from heavysync.inbox import Inbox
from heavysync.keyspace import KeyRange
from heavysync.objects import Page
from heavysync.runners import runner
from heavysync.stores.memory import MemoryStore
from pairs import Pair

COUNT = 600
PAGE_S = 0.01
OPTIONS = {"first_rows": 20, "range_rows": COUNT, "ranges_at_once": 2, "server_side_copy": False}


class Afar:
    """A pair whose lists take their time, and how many pages were under way at once.

    Args:
        pair: the pair.
    """

    def __init__(self, pair: Pair) -> None:
        self.most = self._now = 0
        self.listed: Counter[str] = Counter()  # source keys, in pages
        for store in (pair.source, pair.destination):
            store.list_page = partial(self._page, store, store.list_page)  # type: ignore[method-assign]
        self._source = pair.source

    async def _page(self, store: MemoryStore, page_of: Callable[..., Awaitable[Page]], *asked: Any) -> Page:
        is_page = len(asked) < 3  # else it looks for borders: lists of one key
        self._now += is_page
        self.most = max(self.most, self._now)
        try:
            await asyncio.sleep(PAGE_S)
            page = await page_of(*asked)
        finally:
            self._now -= is_page
        if is_page and store is self._source:
            self.listed.update(info.key for info in page.objects)
        return page


def pair_afar(directory: Path, monkeypatch: pytest.MonkeyPatch, *, load: float) -> tuple[Pair, Afar]:
    """A pair of 600 objects, looked at often by a process that is so busy."""
    for module in (passes, runner):
        monkeypatch.setattr(module, "LOOK_S", 2 * PAGE_S)
    clock = iter(range(1 << 30))
    busy = iter(float(number) * load for number in range(1 << 30))
    defaults = {"clock": lambda: float(next(clock)), "loads": (lambda: next(busy),)}
    monkeypatch.setattr(breadth.Breadth.__init__, "__kwdefaults__", defaults)
    pair = Pair(directory / "s", ("gs", "gs"), page_max=10)
    pair.fill(COUNT)
    return pair, Afar(pair)


def ranges(pair: Pair) -> list[KeyRange]:
    """The plan, by key."""
    with closing(sqlite3.connect(pair.directory / "job.db")) as job:
        return [KeyRange(*row) for row in job.execute("SELECT lo, hi FROM range ORDER BY coalesce(lo, '')")]


def assert_tiling(spans: list[KeyRange]) -> None:
    """Every key is in exactly one range."""
    assert (spans[0].lo, spans[-1].hi) == (None, None)
    assert all(before.hi == after.lo for before, after in zip(spans, spans[1:], strict=False))


def test_waiting_run_lists_many_ranges_at_once_and_each_key_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranges at first, that is four lists; then as many as `--concurrency` allows, cut from those at work."""
    pair, afar = pair_afar(tmp_path, monkeypatch, load=0.1)
    report = pair.run(concurrency=32, **OPTIONS)

    assert (report.status, report.totals.copied, report.totals.source_objects) == ("done", COUNT, COUNT)
    pair.assert_equal()
    assert 4 < afar.most <= 2 * 16
    assert len(afar.listed) == COUNT
    assert max(afar.listed.values()) <= 2  # a page that the other side had not reached when the range was split
    assert_tiling(ranges(pair))

    again = pair.run(concurrency=32, **OPTIONS)
    assert (again.status, again.totals.to_copy, again.totals.source_objects) == ("done", 0, COUNT)


def test_busy_run_keeps_to_few_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither more at once nor smaller ones: both would cost and gain nothing."""
    pair, afar = pair_afar(tmp_path, monkeypatch, load=0.95)
    report = pair.run(concurrency=32, **OPTIONS)

    assert (report.status, report.totals.copied) == ("done", COUNT)
    assert afar.most <= 4
    assert len(ranges(pair)) <= 1 + passes.FEW_PIECES


def test_run_that_waits_for_copies_keeps_to_few_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More ranges help only if the copiers have nothing to do."""
    monkeypatch.setattr(CopyPool, "is_hungry", False)
    pair, afar = pair_afar(tmp_path, monkeypatch, load=0.1)
    report = pair.run(concurrency=32, **OPTIONS)

    assert (report.status, report.totals.copied) == ("done", COUNT)
    assert afar.most <= 4
    assert len(ranges(pair)) <= 1 + passes.FEW_PIECES


def test_copiers_are_hungry_while_nothing_waits_for_them() -> None:
    """What they have taken up does not count."""
    unused: Any = None

    async def look() -> tuple[bool, bool, bool]:
        inbox: Inbox[Any] = Inbox(4)
        pool = CopyPool(unused, inbox, unused, unused)
        before = pool.is_hungry
        inbox.put([unused])
        meanwhile = pool.is_hungry
        await inbox.get()
        return before, meanwhile, pool.is_hungry

    assert asyncio.run(look()) == (True, False, True)


def test_hot_prefix_is_split_as_soon_as_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One range of a kept plan turns out large: it is not listed to its end by one lister, though its quota allows that."""
    pair, afar = pair_afar(tmp_path, monkeypatch, load=0.95)
    for number in range(COUNT):
        pair.source.bucket.delete(f"dir{number % 7}/key-{number:06d}")
    for letter in "abcdefghijklmnopqrstuvwxyz":
        pair.put(f"{letter}/key", b"one")
    assert pair.run(**OPTIONS).status == "done"
    before = len(ranges(pair))
    for number in range(COUNT):
        pair.put(f"m/hot-{number:06d}", b"another")
    afar.most = 0
    busy = breadth.Breadth.__init__.__kwdefaults__
    monkeypatch.setattr(breadth.Breadth.__init__, "__kwdefaults__", busy | {"loads": (lambda: 0.0,)})

    report = pair.run(concurrency=32, **OPTIONS)

    assert (report.status, report.totals.copied) == ("done", COUNT)
    assert len(ranges(pair)) >= before + 3
    assert afar.most > 4
    assert_tiling(ranges(pair))


def test_split_leaves_small_rests_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each range has been listed for half of `first_rows` keys before it is split, the first one for a quarter."""
    pair, _ = pair_afar(tmp_path, monkeypatch, load=0.1)
    report = pair.run(concurrency=64, **(OPTIONS | {"first_rows": 100}))

    assert report.status == "done"
    assert len(ranges(pair)) <= 1 + COUNT // 100 * passes.MOST_PIECES
    with closing(sqlite3.connect(pair.directory / "job.db")) as job:
        split = "SELECT range, source_objects FROM range WHERE range IN (SELECT parent FROM range)"
        listed = dict(job.execute(split).fetchall())
    assert len(listed) > 1
    assert all(keys >= (25 if number == 1 else 50) for number, keys in listed.items())
    assert_tiling(ranges(pair))


def test_plan_of_a_moving_window_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New keys at one end, old ones gone at the other: the last range is split in each run, and ranges stay when they are empty."""
    for name, value in (("FEW_RANGES", 8), ("LEAST_KEYS", 1000)):
        monkeypatch.setattr(runner, name, value)
    pair, _ = pair_afar(tmp_path, monkeypatch, load=0.1)
    options = OPTIONS | {"concurrency": 8, "first_rows": 20}
    assert pair.run(**options).status == "done"
    grown = [len(ranges(pair))]
    for day in range(4):
        for number in range(150):
            pair.put(f"log/{day}/{number:06d}", b"new")
            pair.source.bucket.delete(f"log/{day - 1}/{number:06d}")
        assert pair.run(**options).status == "done"
        grown.append(len(ranges(pair)))

    assert grown[-1] <= 8 + 2 * passes.MOST_PIECES
    assert grown[-1] == grown[-2] == grown[-3]


def test_range_that_cannot_be_cut_is_not_asked_to_split_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys share more of their beginning than borders are looked for in: one lister has to walk them, without a search each time."""
    pair, afar = pair_afar(tmp_path, monkeypatch, load=0.1)
    for number in range(COUNT):
        pair.source.bucket.delete(f"dir{number % 7}/key-{number:06d}")
        pair.put(f"{'deep' * 200}/{number:06d}", b"far down")

    report = pair.run(concurrency=32, **OPTIONS)

    assert (report.status, report.totals.copied) == ("done", COUNT)
    assert len(ranges(pair)) <= 3
    assert len(afar.listed) == COUNT
