"""A destination that keeps other bytes than were sent, and does not notice: it is never said to be in sync."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from heavysync.errors import TransientError
from heavysync.objects import Content, Digests, Metadata, ObjectInfo, Written
from heavysync.stores.memory_bucket import StoredVersion
from pairs import Pair

Change = Callable[[Pair, str, StoredVersion], StoredVersion]


def damage(pair: Pair, times: int, *, lose: bool = False, change: Change | None = None, is_md5: bool = True) -> list[str]:
    """Let the destination keep changed bytes so often, whatever the digests say; answers the keys that were written."""
    store, written, left = pair.destination, list[str](), [times]

    async def write(key: str, content: Content, metadata: Metadata, digests: Digests, replaces: ObjectInfo | None) -> Written:
        await store.step("write", key)
        store.bucket.require(store.full(key), replaces)
        data = b"".join(content.chunks)
        is_hit = left[0] > 0
        left[0] -= 1
        row = store.bucket.put(store.full(key), flipped(data) if is_hit and change is None else data, metadata)
        if change is not None:
            row = store.bucket.rows[store.full(key)][-1] = change(pair, key, row)
        written.append(key)
        if is_hit and lose:
            raise TransientError("the answer was lost")
        return Written(
            row.etag,
            row.version,
            len(row.data),
            row.md5,
            row.crc32c if row.md5 else None,
            is_md5_etag=is_md5 and bool(row.etag),
        )

    store.write = write  # type: ignore[method-assign]
    return written


def flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def a_pair(directory: Path, kind: str, *, is_there: bool) -> Pair:
    pair = Pair(directory / "s", ("gs", kind))
    pair.put("k", b"what it should be")
    if is_there:
        pair.destination.bucket.put(pair.destination.full("k"), b"old", Metadata())
    return pair


@pytest.mark.parametrize("kind", ["s3", "gs"])
@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize("lose", [False, True])
def test_damaged_copy_is_written_again(tmp_path: Path, kind: str, is_there: bool, lose: bool) -> None:
    """Over what our own attempt has left, also where its answer was lost, and over nothing else."""
    pair = a_pair(tmp_path, kind, is_there=is_there)
    written = damage(pair, 2, lose=lose)

    report = pair.run()

    assert (report.status, report.totals.failed) == ("done", 0), report.troubles
    assert written == ["k"] * 3
    pair.assert_equal()


@pytest.mark.parametrize("kind", ["s3", "gs"])
def test_copy_that_is_always_damaged_fails_and_is_taken_away(tmp_path: Path, kind: str) -> None:
    """Three times are enough; wrong bytes under the right name are worse than none."""
    pair = a_pair(tmp_path, kind, is_there=False)
    damage(pair, 3)

    report = pair.run()

    assert (report.status, report.totals.failed) == ("failed", 1)
    assert "changes the bytes" in str(report.troubles)
    assert [name for name, _ in pair.destination.bucket.live_rows("", "")] == []
    assert pair.run().status == "done"
    pair.assert_equal()


def test_somebody_elses_object_is_not_written_over(tmp_path: Path) -> None:
    """Between a damaged attempt and the next one somebody writes: theirs stays."""
    pair = a_pair(tmp_path, "s3", is_there=False)
    damage(pair, 1)
    store = pair.destination

    def fault(operation: str, _key: str) -> None:
        if operation == "stat":
            store.bucket.put(store.full("k"), b"theirs", Metadata())

    store.fault = fault

    report = pair.run()

    assert (report.status, report.totals.failed) == ("failed", 1)
    assert "destination-changed" in str(report.troubles) or "somebody else" in str(report.troubles)
    assert store.bucket.live(store.full("k")).data == b"theirs"


def test_server_that_invents_etags_is_found_out(tmp_path: Path) -> None:
    """Its ETags look like md5s: the first copies are read back, and then it is known."""
    pair = Pair(tmp_path / "s", ("gs", "s3"))
    pair.fill(30)
    reads: list[str] = []
    pair.destination.fault = lambda operation, key: reads.append(key) if operation == "read" else None

    def invent(_pair: Pair, _key: str, row: StoredVersion) -> StoredVersion:
        return replace(row, etag=secrets.token_hex(16), md5=None)

    damage(pair, 0, change=invent)

    report = pair.run(concurrency=1)

    assert (report.status, report.totals.failed) == ("done", 0)
    assert len(reads) == 3
    pair.assert_equal()
    assert pair.run().totals.to_copy == 0


def test_etag_that_is_known_to_be_no_md5_is_not_doubted(tmp_path: Path) -> None:
    """KMS: no copy is read back."""
    pair = Pair(tmp_path / "s", ("gs", "s3"))
    pair.fill(5)
    reads: list[str] = []
    pair.destination.fault = lambda operation, key: reads.append(key) if operation == "read" else None
    damage(pair, 0, change=lambda _pair, _key, row: replace(row, etag=secrets.token_hex(16), md5=None), is_md5=False)

    assert pair.run().status == "done"
    assert reads == []
