"""Somebody writes to both sides at random between any two steps: what must be true of every write and every delete."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from heavysync.errors import TransientError
from heavysync.objects import Metadata
from heavysync.options import MaxDelete
from pairs import KIB, SMALL_S3, Pair, contents

KEYS = [f"{letter}/{number}" for letter in "abc" for number in range(4)]
SEEDS = int(os.environ.get("WRITER_SEEDS", "10"))
"""Runs of each case; a larger number looks further."""


class Crowd:
    """The writers, and what is known of every row that lies at the destination.

    Args:
        pair: of stores; watched from now on.
        seed: of all they do.
    """

    def __init__(self, pair: Pair, seed: int) -> None:
        self.pair = pair
        self.random = random.Random(seed)
        self.written: dict[str, set[bytes]] = {key: set() for key in KEYS}
        self.foreign: set[int] = set()  # serials of rows at the destination that are not heavysync's
        self.listed: set[int] = set()  # serials that heavysync has seen in a listing
        self.seen: set[str] = set()  # keys of the source as it last answered a list
        self.wrongs: list[str] = []
        self.busy = True
        self._theirs = False
        for store in (pair.source, pair.destination):
            store.fault = store.lose = self.step
        self._watch_lists()
        self._watch_writes()

    def step(self, operation: str, key: str) -> None:
        """Between any two requests: with some chance somebody writes, and with some chance the request fails."""
        if not self.busy:
            return
        while self.random.random() < 0.35:
            self.act(self.random.choice(KEYS))
        if self.random.random() < 0.05:
            raise TransientError(f"{operation} {key}: told so")

    def act(self, key: str) -> None:
        """One write or delete."""
        self._theirs = True
        try:
            bucket = self.random.choice((self.pair.source, self.pair.destination)).bucket
            if self.random.random() < 0.3:
                bucket.delete(key)
                return
            size = self.random.choice((10, 10, 3 * KIB, 9 * KIB))
            data = self.random.randbytes(size)
            self.written[key].add(data)
            parts = [data[: 4 * KIB], data[4 * KIB :]] if size > 4 * KIB and self.random.random() < 0.5 else None
            row = bucket.put(key, data, Metadata(), parts=parts)
            if bucket is self.pair.destination.bucket:
                self.foreign.add(row.serial)
        finally:
            self._theirs = False

    def _watch_lists(self) -> None:
        for store in (self.pair.source, self.pair.destination):
            honest = store.list_page

            async def listing(*arguments, store=store, honest=honest, **how):
                page = await honest(*arguments, **how)
                if store is self.pair.source:
                    self.seen = {key for key in KEYS if store.bucket.live(key)}
                else:
                    self.listed |= {store.bucket.live(info.key).serial for info in page.objects}
                return page

            store.list_page = listing

    def _watch_writes(self) -> None:
        bucket = self.pair.destination.bucket
        put, delete = bucket.put, bucket.delete

        def overwriting(key, *arguments, **how):
            self._judge("overwrote", key)
            return put(key, *arguments, **how)

        def deleting(key):
            self._judge("deleted", key)
            if not self._theirs and key in self.seen:
                self.wrongs.append(f"deleted {key}, which the source had at the second look")
            return delete(key)

        bucket.put, bucket.delete = overwriting, deleting

    def _judge(self, what: str, key: str) -> None:
        row = self.pair.destination.bucket.live(key)
        if not self._theirs and row is not None and row.serial in self.foreign and row.serial not in self.listed:
            self.wrongs.append(f"{what} {key}, which somebody wrote after it was listed")


@pytest.mark.parametrize("kinds", [("s3", "gs"), ("gs", "s3"), ("s3", "s3"), ("gs", "gs")])
@pytest.mark.parametrize("shared", [False, True])
def test_no_write_of_others_is_lost_or_torn(tmp_path: Path, kinds: tuple[str, str], shared: bool) -> None:
    """Many seeds; after each run in the crowd a run in peace makes both sides equal."""
    if shared and kinds[0] != kinds[1]:
        pytest.skip("no provider copies from another one")
    conflicts = 0
    for seed in range(SEEDS):
        pair = Pair(
            tmp_path / str(seed), kinds, shared=shared, limits=SMALL_S3 if "s3" in kinds else None, rewrite_step=2 * KIB
        )
        crowd = Crowd(pair, seed)
        for _ in range(10):
            crowd.act(crowd.random.choice(KEYS))
        pair.source.bucket.put(KEYS[0], b"never empty", Metadata())
        crowd.written[KEYS[0]].add(b"never empty")

        report = pair.run(max_delete=MaxDelete.parse("100%"))

        assert crowd.wrongs == [], seed
        for key, (data, _) in contents(pair.destination).items():
            assert data in crowd.written[key], (seed, key)
        conflicts += sum(1 for trouble in report.troubles if trouble.code == "destination-changed")
        codes = {trouble.code for trouble in report.troubles}
        assert codes <= {"destination-changed", "vanished", "unstable", "upload-gone"}, (seed, report)
        assert report.status in {"done", "failed", "refused"}, (seed, report)
        crowd.busy = False
        pair.source.bucket.put(KEYS[0], b"never empty again", Metadata())
        again = pair.run(max_delete=MaxDelete.parse("100%"))
        assert again.status == "done", (seed, again)
        pair.assert_equal()
    assert conflicts, "nobody ever wrote between a listing and a write"
