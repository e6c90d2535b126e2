"""Objects whose md5 both ends state: none is computed, and yet nothing wrong is ever taken for a copy."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from heavysync.checksums import digest
from heavysync.errors import TransientError
from heavysync.objects import ByteRange, Content, Digests, Metadata, ObjectInfo, Written
from heavysync.stores.memory_bucket import StoredVersion
from pairs import Pair

Read = Callable[..., Awaitable[Content]]

DATA = random.Random(1).randbytes(300_000)
KINDS = [("s3", "gs"), ("gs", "s3"), ("s3", "s3"), ("gs", "gs")]

every_pair = pytest.mark.parametrize("kinds", KINDS, ids="-".join)
from_s3 = pytest.mark.parametrize("kinds", [("s3", "gs"), ("s3", "s3")], ids="-".join)


def a_pair(directory: Path, kinds: tuple[str, str], *, count: int = 1, states_crc: bool = False) -> Pair:
    """A pair whose source has large enough objects, and states no digest but what it lists."""
    pair = Pair(directory / "s", kinds, crc="crc32c" if states_crc else "")
    for number in range(count):
        pair.put(f"k{number}", number.to_bytes(8, "big") + DATA)
    return pair


def flip_reads(pair: Pair, times: int) -> None:
    """Let so many reads of the source come with a changed byte."""
    read: Read = pair.source.read
    left = [times]

    async def read_wrongly(info: ObjectInfo, span: ByteRange | None = None) -> Content:
        content = await read(info, span)
        left[0] -= 1
        if left[0] < 0:
            return content
        return content._replace(chunks=[b"\xff" + content.chunks[0][1:], *content.chunks[1:]])

    pair.source.read = read_wrongly


def believe_all(pair: Pair, change: Callable[[StoredVersion], StoredVersion] | None = None) -> list[bytes]:
    """Let the destination keep whatever comes, whatever the digests say; answers the first bytes of what was written."""
    store, firsts = pair.destination, list[bytes]()

    async def write(key: str, content: Content, metadata: Metadata, digests: Digests, replaces: ObjectInfo | None) -> Written:
        await store.step("write", key)
        store.bucket.require(store.full(key), replaces)
        data = b"".join(content.chunks)
        row = store.bucket.put(store.full(key), data, metadata)
        if change is not None:
            row = store.bucket.rows[store.full(key)][-1] = change(row)
        firsts.append(data[:1])
        return Written(row.etag, row.version, len(data), row.md5, row.crc32c if row.md5 else None, is_md5_etag=bool(row.etag))

    store.write = write
    return firsts


def invented(row: StoredVersion) -> StoredVersion:
    return replace(row, etag=secrets.token_hex(16), md5=None)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of what an md5 was computed of while copying."""
    sizes: list[int] = []

    def counting(chunks: list[bytes]) -> Digests:
        sizes.append(sum(map(len, chunks)))
        return digest(chunks)

    monkeypatch.setattr("heavysync.hashing.digest", counting)
    return sizes


@every_pair
def test_no_md5_is_computed_where_both_ends_state_it(tmp_path: Path, kinds: tuple[str, str], hashed: list[int]) -> None:
    """One read, one write, no look; and the next run knows by the listings alone."""
    pair = a_pair(tmp_path, kinds)

    report = pair.run(server_side_copy=False)

    assert (report.status, report.totals.copied) == ("done", 1)
    pair.assert_equal()
    assert hashed == []
    assert (pair.source.calls["read"], pair.destination.calls["write"], pair.destination.calls["stat"]) == (1, 1, 0)
    assert pair.run(server_side_copy=False).totals.to_copy == 0


@from_s3
def test_damaged_read_is_refused_and_read_again(tmp_path: Path, kinds: tuple[str, str]) -> None:
    """The destination holds the bytes against the md5 that the source states: nothing wrong ever appears."""
    pair = a_pair(tmp_path, kinds)
    flip_reads(pair, 1)

    assert pair.run(server_side_copy=False).status == "done"
    pair.assert_equal()
    assert len(pair.destination.bucket.rows[pair.destination.full("k0")]) == 1


@every_pair
def test_damaged_read_that_the_destination_swallows_is_found(tmp_path: Path, kinds: tuple[str, str]) -> None:
    """Its answer says what it has, so the wrong copy is replaced before it counts."""
    pair = a_pair(tmp_path, kinds)
    flip_reads(pair, 1)
    firsts = believe_all(pair)

    report = pair.run(server_side_copy=False)

    assert (report.status, report.totals.copied) == ("done", 1)
    assert firsts == ([b"\xff", b"\0"] if kinds[0] == "s3" else [b"\0"])  # what GCS says of its objects is checked before
    pair.assert_equal()


def test_damaged_read_is_found_where_etags_are_invented(tmp_path: Path) -> None:
    """The answer tells nothing: the md5 is computed after all, of the bytes that were sent."""
    pair = a_pair(tmp_path, ("s3", "s3"))
    flip_reads(pair, 1)
    firsts = believe_all(pair, invented)

    report = pair.run(server_side_copy=False)

    assert (report.status, report.totals.copied) == ("done", 1)
    assert firsts[0] == b"\xff"
    assert firsts[-1] == b"\0"
    pair.assert_equal()


def test_source_that_is_always_damaged_fails(tmp_path: Path) -> None:
    """Bytes that contradict the listing are never passed off as a copy."""
    pair = a_pair(tmp_path, ("s3", "s3"))
    flip_reads(pair, 100)

    report = pair.run(server_side_copy=False)

    assert (report.status, [trouble.code for trouble in report.troubles]) == ("failed", ["corrupt"])
    assert list(pair.destination.bucket.live_rows("", "")) == []


@pytest.mark.parametrize("is_there", [False, True])
def test_damaged_bytes_that_a_destination_swallows_are_taken_away(tmp_path: Path, is_there: bool) -> None:
    """The source cannot be read rightly, and the destination looks at nothing and invents its ETags: wrong bytes do not stay."""
    pair = a_pair(tmp_path, ("s3", "s3"))
    if is_there:
        pair.destination.bucket.put("k0", b"old", Metadata())
    flip_reads(pair, 100)
    believe_all(pair, invented)

    report = pair.run(server_side_copy=False)

    assert (report.status, [trouble.code for trouble in report.troubles]) == ("failed", ["corrupt"])
    assert list(pair.destination.bucket.live_rows("", "")) == []


def test_etags_of_the_source_that_are_no_md5s_are_found_out(tmp_path: Path) -> None:
    """Three writes are refused, then md5s are computed again."""
    pair = a_pair(tmp_path, ("s3", "s3"), count=9, states_crc=True)
    bucket = pair.source.bucket
    for key, rows in bucket.rows.items():
        bucket.rows[key] = [replace(row, etag=secrets.token_hex(16)) for row in rows]

    assert pair.run(server_side_copy=False, concurrency=1).status == "done"
    pair.assert_equal()
    assert pair.destination.calls["write"] == 9 + 3


@from_s3
@pytest.mark.parametrize("crc", ["", "crc32c"])
@pytest.mark.parametrize("etag", ["NTVhYjM4ZTItZGVhZC1iZWVmLWNhZmUt", "upper case"])
def test_etags_of_32_characters_may_be_anything(tmp_path: Path, kinds: tuple[str, str], crc: str, etag: str) -> None:
    """In one piece and in parts: what is no hex is no md5, and hex in upper case is one, which finds a damaged read."""
    pair = Pair(tmp_path / "s", kinds, crc=crc)
    bucket = pair.source.bucket
    for key, size in (("small", 1000), ("medium", 300_000), ("large", 6_000_000)):
        pair.put(key, DATA[:1000] * (size // 1000))
        bucket.rows[key] = [replace(row, etag=row.etag.upper() if " " in etag else etag) for row in bucket.rows[key]]
    if " " in etag:
        flip_reads(pair, 1)

    report = pair.run(server_side_copy=False, part_size=5 << 20)

    assert (report.status, report.troubles) == ("done", [])
    pair.assert_equal()


def test_stamp_vouches_for_nothing_that_was_not_proven(tmp_path: Path) -> None:
    """Killed before the answer to a damaged write was judged: the CRC32C of the wrong bytes never passes for the source's."""
    pair = a_pair(tmp_path, ("s3", "s3"))
    pair.destination.crc = "crc32c"
    flip_reads(pair, 1)
    believe_all(pair, invented)
    write = pair.destination.write
    box: list[asyncio.Task[object]] = []

    async def write_and_die(*what: object) -> Written:
        await write(*what)
        box[0].cancel()
        return await asyncio.Future()

    async def run() -> None:
        pair.destination.write = write_and_die
        with suppress(asyncio.CancelledError):
            async with asyncio.TaskGroup() as group:
                box.append(group.create_task(pair.sync(server_side_copy=False)))
        pair.destination.write = write

    asyncio.run(run())
    pair.run(server_side_copy=False)  # finds its own copy there, and leaves it alone

    report = pair.run(server_side_copy=False)

    assert (report.status, report.totals.copied, report.totals.proven) == ("done", 1, 0)
    pair.assert_equal()


def test_encrypted_sources_are_not_passed_on(tmp_path: Path) -> None:
    """A read that says that the ETag is no md5 sends nothing; after three of them none is tried."""
    pair = a_pair(tmp_path, ("s3", "gs"), count=9)
    pair.source.bucket.opaque_etags = True
    for number in range(9):
        pair.put(f"k{number}", number.to_bytes(8, "big") + DATA)

    assert pair.run(concurrency=1).status == "done"
    pair.assert_equal()
    assert (pair.source.calls["read"], pair.destination.calls["write"]) == (9 + 3, 9)


@every_pair
def test_lost_answer_is_settled_without_a_second_copy(tmp_path: Path, kinds: tuple[str, str]) -> None:
    """The write took effect: the object that is there states the md5."""
    pair = a_pair(tmp_path, kinds)
    lost = [True]

    def lose(operation: str, _key: str) -> None:
        if operation == "write" and lost and lost.pop():
            raise TransientError("lost")

    pair.destination.lose = lose

    report = pair.run(server_side_copy=False)

    assert (report.status, report.totals.copied) == ("done", 1)
    pair.assert_equal()
    assert len(pair.destination.bucket.rows[pair.destination.full("k0")]) == 1


def test_somebody_elses_object_is_left_alone(tmp_path: Path) -> None:
    """Written between the listing and the copy."""
    pair = a_pair(tmp_path, ("s3", "s3"))
    store = pair.destination

    def fault(operation: str, _key: str) -> None:
        if operation == "write":
            store.bucket.put(store.full("k0"), b"theirs", Metadata())

    store.fault = fault

    report = pair.run(server_side_copy=False)

    assert [trouble.code for trouble in report.troubles] == ["destination-changed"]
    assert store.bucket.live(store.full("k0")).data == b"theirs"


@pytest.mark.parametrize(("memory", "whole"), [(512 << 20, True), (64 << 20, False)])
def test_medium_objects_go_in_one_piece_where_memory_allows(tmp_path: Path, memory: int, whole: bool) -> None:
    """Both ends state their md5: 12 MiB are written at once, unless they would take more than an eighth of the memory."""
    pair = Pair(tmp_path / "s", ("s3", "s3"))
    pair.put("k", bytes(12 << 20))

    assert pair.run(server_side_copy=False, memory=memory).status == "done"
    pair.assert_equal()
    assert pair.destination.calls["write"] == whole
    assert (pair.destination.bucket.live("k").etag == pair.source.bucket.live("k").etag) == whole
