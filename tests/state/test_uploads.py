"""Uploads in the state: none is ever forgotten before it is completed, aborted or known to be dead."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from heavysync.keyspace import KeyRange
from heavysync.objects import ObjectInfo, Page, PartDone, UploadState
from heavysync.outcomes import Changed, Done, Failed, Skipped
from heavysync.state import ranges
from heavysync.state.database import open_database
from heavysync.state.ranges import RangeState, open_range

ALL = KeyRange(None, None)
BEGUN = UploadState(id="id", part_size=5, source_token="t", nonce="n")
STATE = replace(BEGUN, parts=(PartDone(1, "e", "m", 7),))


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
        assert await left(state) == [("a", BEGUN)]

    in_a_range(tmp_path / "r.db", work)


def test_upload_of_a_copied_object_is_done_with(tmp_path: Path) -> None:
    """It was completed."""

    async def work(state: RangeState) -> None:
        await fill(state)
        await state.queue.settle([Done("a", 10, copied=True)])
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
        assert await left(state) == [("a", BEGUN)]

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
        assert await left(state) == [("b", BEGUN)]

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


async def parts_in(path: Path) -> list[tuple[str, int]]:
    """All rows of parts in a file: key and number."""
    async with open_database(path, ranges.MIGRATIONS) as db:
        return await db.read(lambda db: db.execute("SELECT key, number FROM upload_part ORDER BY 1, 2").fetchall())


def test_parts_add_up_from_commit_to_commit(tmp_path: Path) -> None:
    """Each commit has the new parts only; who takes the upload up gets them all, the latest of each number."""
    again = PartDone(2, "other", "", 9)

    async def begin(state: RangeState) -> None:
        await fill(state, BEGUN)
        for part in (PartDone(2, "e2"), PartDone(1, "e1", "m", 4_294_967_295), again):
            await state.queue.save_upload("a", replace(BEGUN, parts=(part,)))

    async def later(state: RangeState) -> None:
        uploads = {transfer.source.key: transfer.upload for transfer in await state.queue.claim(10)}
        assert uploads == {
            "a": replace(BEGUN, parts=(PartDone(1, "e1", "m", 4_294_967_295), again)),
            "b": None,
            "c": None,
        }

    in_a_range(tmp_path / "r.db", begin)
    in_a_range(tmp_path / "r.db", later)


def test_part_is_kept_at_the_same_cost_however_many_there_are(tmp_path: Path) -> None:
    """The 2,000th part of an upload changes as many rows as the second, and the text of the upload does not grow."""

    async def work(state: RangeState) -> None:
        await fill(state, BEGUN)
        db = state.queue._db

        async def keep(*numbers: int) -> tuple[int, int]:
            before = await db.read(lambda db: db.total_changes)
            parts = tuple(PartDone(number, "e", "m", number) for number in numbers)
            await state.queue.save_upload("a", replace(BEGUN, parts=parts))
            sizes = "SELECT length(upload) FROM transfer WHERE key = 'a'"
            return await db.read(lambda db: (db.total_changes - before, db.execute(sizes).fetchone()[0]))

        second = await keep(2)
        await keep(*range(3, 2000))
        assert await keep(2000) == second

    in_a_range(tmp_path / "r.db", work)


@pytest.mark.parametrize("how", ["done", "skipped", "changed", "aborted", "begun anew", "new run"])
def test_parts_leave_with_their_upload(tmp_path: Path, how: str) -> None:
    """Nothing of them stays in the file, and no later upload of the key gets them."""
    path = tmp_path / "r.db"

    async def begin(state: RangeState) -> None:
        await fill(state)
        match how:
            case "done":
                await state.queue.settle([Done("a", 10, copied=True)])
            case "skipped":
                await state.queue.settle([Skipped("a", "vanished", "m")])
            case "changed":
                await state.queue.settle([Changed(info("a"))])
            case "aborted":
                await state.queue.save_upload("a", None)
            case "begun anew":
                await state.queue.save_upload("a", replace(BEGUN, id="new"))

    in_a_range(path, begin)
    if how == "new run":
        in_a_range(path, fill, run=2)
        assert asyncio.run(parts_in(path)) == [("a", 1)]
    else:
        assert asyncio.run(parts_in(path)) == []


def test_part_of_a_transfer_that_is_not_claimed_is_not_kept(tmp_path: Path) -> None:
    """A worker that comes too late changes nothing."""

    async def work(state: RangeState) -> None:
        await fill(state)
        await state.queue.settle([Done("a", 10, copied=True)])
        await state.queue.save_upload("a", replace(BEGUN, parts=(PartDone(2, "e"),)))

    in_a_range(tmp_path / "r.db", work)
    assert asyncio.run(parts_in(tmp_path / "r.db")) == []


def test_uploads_of_older_files_go_on(tmp_path: Path) -> None:
    """They kept all parts in one text: what was acknowledged then counts now, and an abandoned one is still aborted."""
    path = tmp_path / "r.db"
    text = (
        '{"kind": "upload", "id": "id", "part_size": 5, "source_token": "t", "nonce": "n",'
        ' "parts": [[1, "e", "m", 7], [3, "", "", 4294967295]]}'
    )

    async def begin() -> None:
        async with open_range(path, run=1, span=ALL) as state:
            await fill(state, None)
        async with open_database(path, ranges.MIGRATIONS) as db:
            await db.write(lambda db: as_of_version_3(db, text))

    async def later(state: RangeState) -> None:
        first = next(transfer for transfer in await state.queue.claim(10) if transfer.source.key == "a")
        assert first.upload == replace(BEGUN, parts=(PartDone(1, "e", "m", 7), PartDone(3, "", "", 4_294_967_295)))
        assert await left(state) == [("gone", BEGUN)]
        await state.queue.save_upload("a", replace(BEGUN, parts=(PartDone(2, "e"),)))

    asyncio.run(begin())
    in_a_range(path, later)
    assert asyncio.run(parts_in(path)) == [("a", 1), ("a", 2), ("a", 3)]


def as_of_version_3(db: sqlite3.Connection, upload: str) -> None:
    """Make a file one that a program from before parts had rows of their own has left, with uploads under way."""
    db.execute("DROP TRIGGER upload_left")
    db.execute("DROP TABLE upload_part")
    db.execute("UPDATE transfer SET upload = ? WHERE key = 'a'", (upload,))
    db.execute("INSERT INTO abandoned (key, upload) VALUES ('gone', ?)", (upload,))
    db.execute("PRAGMA user_version = 3")
