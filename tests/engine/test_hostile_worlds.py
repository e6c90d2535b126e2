"""Servers that ignore conditions, writers that keep metadata, bytes that flip: what reviewers broke, and must stay mended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from heavysync.checksums import PartHasher, digest, multipart_etag
from heavysync.errors import TransientError
from heavysync.objects import VersionPage
from pairs import KIB, SMALL_S3, Pair

MIB = 1 << 20


def flip(pair: Pair, key: str) -> None:
    """Let every read of a source object deliver other bytes than its digests say."""
    rows = pair.source.bucket.rows[key]
    rows[-1] = replace(rows[-1], data=b"X" + rows[-1].data[1:])


@pytest.mark.parametrize(("size", "part"), [(20 * MIB, 6 * MIB), (6 * MIB, 5 * MIB)])
def test_multipart_source_is_verified_whatever_its_part_size_is(tmp_path: Path, size: int, part: int) -> None:
    """To GCS the parts have other borders than at the source, or there is one write only; the ETag is computed all the same."""
    pair = Pair(tmp_path / "s")
    data = bytes(size)
    pieces = [data[start : start + part] for start in range(0, size, part)]
    pair.put("good", data, parts=pieces)
    pair.put("bad", data, parts=pieces)
    flip(pair, "bad")

    report = pair.run()

    assert (report.totals.copied, report.totals.failed) == (1, 1)
    assert [(trouble.key, trouble.code) for trouble in report.troubles] == [("bad", "corrupt")]
    assert pair.destination.bucket.live("bad") is None


@pytest.mark.parametrize("part_size", [None, 3, 5, 10, 11])
@pytest.mark.parametrize("chunk", [1, 3, 4, 100])
def test_part_hasher_gives_the_etag_of_s3(part_size: int | None, chunk: int) -> None:
    """Whatever chunks the bytes come in."""
    data = b"0123456789"
    hasher = PartHasher(part_size)
    hasher.update(data[start : start + chunk] for start in range(0, len(data), chunk))

    if part_size is None:
        expected = digest([data]).md5.hex()
    else:
        expected = multipart_etag([digest([data[start : start + part_size]]).md5 for start in range(0, 10, part_size)])
    assert (hasher.etag(), hasher.size) == (expected, 10)


def test_torn_server_side_copy_is_noticed(tmp_path: Path) -> None:
    """The source is replaced between two parts, and the server heeds no condition: the upload is given up, then begun anew."""
    pair = Pair(tmp_path / "s", ("s3", "s3"), shared=True, limits=SMALL_S3)
    pieces = [b"a" * 5 * KIB] * 4
    pair.put("key", b"".join(pieces), parts=pieces)
    bucket = pair.source.bucket
    pinned = bucket.pinned
    bucket.pinned = lambda key, info, operation: bucket.live(key) or pinned(key, info, operation)
    calls = []

    def change(operation: str, key: str) -> None:
        calls.append(operation)
        if operation == "copy_part" and calls.count("copy_part") == 3:
            pair.put("key", b"b" * 20 * KIB, parts=[b"b" * 5 * KIB] * 4)

    pair.destination.fault = change
    report = pair.run()

    assert report.status == "done"
    assert pair.destination.bucket.live("key").data == b"b" * 20 * KIB


def test_foreign_bytes_under_our_stamp_are_not_ours(tmp_path: Path) -> None:
    """A writer that keeps user metadata rewrites the destination: neither overwritten nor taken for our copy."""
    pair = Pair(tmp_path / "s", ("gs", "s3"))
    pair.put("key", b"original")
    pair.run()
    stamped = pair.destination.bucket.live("key").metadata
    pair.destination.bucket.put("key", b"FOREIGN1", stamped)

    def rewrite(operation: str, key: str) -> None:
        if operation == "write":
            pair.destination.bucket.put("key", b"FOREIGN2", stamped)

    pair.destination.fault = rewrite
    report = pair.run()
    pair.destination.fault = None
    again = pair.run()

    assert (report.exit_code, report.troubles[0].code) == (1, "destination-changed")
    assert again.totals.copied == 1
    pair.assert_equal()


def test_source_is_asked_again_before_every_attempt_to_delete(tmp_path: Path) -> None:
    """The key comes back while the delete is being retried: it is kept."""
    pair = Pair(tmp_path / "s")
    pair.fill(20)
    pair.run()
    pair.source.bucket.delete("dir1/key-000001")
    failed = []

    def flaky(operation: str, key: str) -> None:
        if operation == "delete" and not failed:
            failed.append(key)
            pair.put("dir1/key-000001", b"back")
            raise TransientError("503")

    pair.destination.fault = flaky
    report = pair.run()

    assert (report.totals.deleted, report.totals.kept) == (0, 1)
    assert pair.destination.bucket.live("dir1/key-000001") is not None


def test_resumed_kms_upload_is_not_doubted(tmp_path: Path) -> None:
    """All parts were sent by a killed process: this one has read nothing that says whether the ETag is an md5."""
    pair = Pair(tmp_path / "s", ("s3", "s3"), limits=SMALL_S3)
    pair.source.bucket.opaque_etags = True
    pieces = [bytes([n]) * 5 * KIB for n in range(4)]
    pair.put("parts", b"".join(pieces), parts=pieces)
    row = pair.source.bucket.rows["parts"][-1]
    pair.source.bucket.rows["parts"][-1] = replace(row, etag="0" * 32 + "-4")
    calls = []

    def die(operation: str, key: str) -> None:
        calls.append(operation)
        if operation == "complete" and calls.count("complete") == 1:
            raise KeyboardInterrupt

    pair.destination.fault = die
    with pytest.raises((KeyboardInterrupt, BaseExceptionGroup)):
        pair.run()
    report = pair.run()

    assert report.status == "done"
    assert calls.count("write_part") == 4
    pair.assert_equal()


def test_object_that_does_not_fit_into_memory_is_told(tmp_path: Path) -> None:
    """Parts larger than --memory are not read all the same."""
    limits = replace(SMALL_S3, part_min=32 * MIB)
    pair = Pair(tmp_path / "s", ("gs", "s3"), limits=limits)
    pair.put("large", bytes(33 * MIB))

    report = pair.run(memory=16 * MIB)

    assert (report.exit_code, report.troubles[0].code) == (1, "memory")


def test_live_version_is_never_purged_whatever_its_dates_say(tmp_path: Path) -> None:
    """A server that gives the live version a date of having become noncurrent does not get it deleted."""
    pair = Pair(tmp_path / "s")
    pair.destination.bucket.versioning = "enabled"
    pair.put("key", b"x")
    honest = pair.destination.list_versions_page

    async def lying(*arguments: object) -> VersionPage:
        page = await honest(*arguments)
        return page._replace(versions=[version._replace(noncurrent_since="2000-01-01T00:00:00Z") for version in page.versions])

    pair.destination.list_versions_page = lying
    report = pair.run(purge_noncurrent=1)

    assert (report.totals.purged, pair.destination.bucket.live("key") is not None) == (0, True)
