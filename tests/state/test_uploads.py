"""Uploads in the state: none is ever forgotten before it is completed, aborted or known to be dead."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from heavysync.keyspace import KeyRange
from heavysync.objects import ObjectInfo, Page, PartDone, UploadState
from heavysync.outcomes import Changed, Done, Failed, Skipped
from heavysync.state import ranges
from heavysync.state.database import open_database
from heavysync.state.ranges import RangeState, open_range

ALL = KeyRange(None, None)
STATE = UploadState(id="id", part_size=5, source_token="t", nonce="n", parts=(PartDone(1, "e", "m", 7),))


def info(key: str) -> ObjectInfo:
    return ObjectInfo(key, 10, "e" * 32, modified_at="2026-01-01T00:00:00Z")


async def fill(state: RangeState, upload: UploadState | None = STATE, *, keys: str = "abc") -> None:
    """Transfers that are claimed, the first with an upload."""
    await state.inventory.record_page("source", Page([info(key) for key in keys], None), None)
    await state.inventory.record_page("destination", Page([], None), None)
    assert len(await state.queue.claim(10)) == len(keys)
    await state.queue.save_upload(keys[0], upload)


async def left(state: RangeState) -> list[tuple[str, UploadState]]:
    return [(upload.key, upload.state) for upload in await state.abandoned.next(10)]


def in_a_range(path: Path, work: Callable[[RangeState], Awaitable[None]], *, run: int = 1, span: KeyRange = ALL) -> None:
    async def go() -> None:
        async with open_range(path, run=run, span=span) as state:
            await work(state)

    asyncio.run(go())


@pytest.mark.parametrize("outcome", [Skipped("a", "vanished", "m"), Failed("a", "code", "m"), Changed(info("a"))], ids=str)
def test_upload_of_an_object_that_is_not_copied_is_abandoned(tmp_path: Path, outcome: Skipped | Failed | Changed) -> None:
    """In the transaction that settles the object."""

    async def work(state: RangeState) -> None:
        await fill(state)
        await state.queue.settle([outcome])
        assert await left(state) == [("a", STATE)]

    in_a_range(tmp_path / "r.db", work)


def test_upload_of_a_copied_object_is_done_with(tmp_path: Path) -> None:
    """It was completed."""

    async def work(state: RangeState) -> None:
        await fill(state)
        await state.queue.settle([Done("a", "t", "d", 10, None, None, listing_proves=True, copied=True)])
        assert await left(state) == []

    in_a_range(tmp_path / "r.db", work)


def test_upload_that_another_takes_the_place_of_is_abandoned(tmp_path: Path) -> None:
    """Begun anew; progress of the same upload, and its end, abandon nothing."""
    new = UploadState(id="new", part_size=5, source_token="t")

    async def work(state: RangeState) -> None:
        await fill(state)
        await state.queue.save_upload("a", STATE)
        assert await left(state) == []
        await state.queue.save_upload("a", new)
        await state.queue.save_upload("a", None)
        assert await left(state) == [("a", STATE)]

    in_a_range(tmp_path / "r.db", work)


def test_token_of_a_rewrite_is_just_forgotten(tmp_path: Path) -> None:
    """There is nothing to abort."""

    async def work(state: RangeState) -> None:
        await fill(state, UploadState(kind="rewrite", id="token", part_size=0, source_token="t"))
        await state.queue.settle([Skipped("a", "vanished", "m")])
        assert await left(state) == []

    in_a_range(tmp_path / "r.db", work)


@pytest.mark.parametrize("how", ["new run", "shorter range", "file that is too narrow"])
def test_uploads_survive_what_becomes_of_the_range(tmp_path: Path, how: str) -> None:
    """A new run empties the file, a shorter plan trims it, a file that does not fit begins again: uploads are kept."""
    path = tmp_path / "r.db"

    async def begin(state: RangeState) -> None:
        await fill(state, keys="b")

    async def later(state: RangeState) -> None:
        assert await state.queue.claim(10) == []
        assert await left(state) == [("b", STATE)]

    in_a_range(path, begin, span=KeyRange(None, "b") if how.startswith("file") else ALL)
    in_a_range(path, later, run=2 if how == "new run" else 1, span=KeyRange(None, "a") if how.startswith("short") else ALL)


def test_files_of_the_first_version_are_brought_up_to_date(tmp_path: Path) -> None:
    """Their uploads are known afterwards."""
    path = tmp_path / "r.db"

    async def begin() -> None:
        async with open_database(path, ranges.MIGRATIONS[:1]) as db:
            await db.write(lambda db: db.execute("INSERT INTO span VALUES (1, 1, NULL, NULL)"))
            await db.write(
                lambda db: db.execute(
                    "INSERT INTO transfer (key, scatter, reason, size, upload) VALUES ('a', 1, 'new', 10, ?)",
                    ('{"kind": "upload", "id": "id", "part_size": 5, "source_token": "t", "nonce": "n", "parts": []}',),
                )
            )

    async def later(state: RangeState) -> None:
        assert [upload.state.id for upload in await state.abandoned.next(10)] == ["id"]

    asyncio.run(begin())
    in_a_range(path, later, run=2)


def test_uploads_that_could_not_be_aborted_come_last(tmp_path: Path) -> None:
    """One that fails for ever does not keep the others from their turn; what is aborted is forgotten."""

    async def work(state: RangeState) -> None:
        await fill(state)
        await state.queue.save_upload("b", STATE)
        await state.queue.settle([Skipped("a", "vanished", "m"), Skipped("b", "vanished", "m")])
        first, second = await state.abandoned.next(10)
        await state.abandoned.failed(first.number)
        assert await state.abandoned.next(10) == [second, first]
        await state.abandoned.aborted(second.number)
        assert await state.abandoned.next(10) == [first]

    in_a_range(tmp_path / "r.db", work)
