"""The whole job over two memory stores."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from heavysync.errors import FatalError, NotFoundError, PermanentError, TransientError, UsageError
from heavysync.events import Finished, Listed, ListingDone, Notice, Retrying
from heavysync.objects import Metadata
from heavysync.options import MaxDelete
from heavysync.retry import StoppedError
from pairs import KIB, SMALL_S3, Pair, contents

MIB = 1 << 20
KINDS = [("s3", "gs"), ("gs", "s3"), ("s3", "s3"), ("gs", "gs")]


@pytest.mark.parametrize("kinds", KINDS)
def test_first_run_makes_the_destination_equal(tmp_path: Path, kinds: tuple[str, str]) -> None:
    """Every pairing ends with the same keys, bytes and metadata."""
    pair = Pair(tmp_path / "s", kinds)
    pair.fill(300)
    pair.put("with/metadata", b"x" * 50, content_type="text/x", cache_control="no-store", user={"a": "ä"})
    pair.put("empty", b"")

    report = pair.run()

    assert report.status == "done"
    assert report.totals.copied == 302
    pair.assert_equal()


@pytest.mark.parametrize("kinds", KINDS)
def test_second_run_only_lists(tmp_path: Path, kinds: tuple[str, str]) -> None:
    """An unchanged pair costs two listings and nothing else."""
    pair = Pair(tmp_path / "s", kinds)
    pair.fill(30)
    pair.run()
    pair.source.calls.clear()
    pair.destination.calls.clear()

    report = pair.run()

    assert report.totals.copied == 0
    assert set(pair.source.calls) == {"read_bucket", "list_page"}
    assert set(pair.destination.calls) == {"read_bucket", "list_page"}


def test_small_streamed_object_costs_one_read_and_one_write(tmp_path: Path) -> None:
    """There is no look at an object before or after it is copied."""
    pair = Pair(tmp_path / "s")
    pair.fill(20)

    pair.run()

    assert pair.source.calls["read"] == 20
    assert pair.destination.calls["write"] == 20
    assert pair.source.calls["stat"] + pair.destination.calls["stat"] == 0


def test_server_side_copy_costs_one_request(tmp_path: Path) -> None:
    """Inside one provider the bytes never come here."""
    pair = Pair(tmp_path / "s", ("s3", "s3"), shared=True)
    pair.fill(20)

    report = pair.run()

    assert pair.destination.calls["copy"] == 20
    assert pair.source.calls["read"] + pair.destination.calls["write"] + pair.source.calls["stat"] == 0
    assert report.totals.copied == 20
    pair.assert_equal()


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("size", [20 * KIB, 20 * KIB + 1, 20 * KIB - 1, 4 * KIB])
def test_objects_around_a_part_border_arrive_whole(tmp_path: Path, kinds: tuple[str, str], size: int) -> None:
    """One part, several parts, and one byte more or less."""
    limits = replace(SMALL_S3, parallel_parts=kinds[1] == "s3", write_max=4 * KIB)
    pair = Pair(tmp_path / "s", kinds, limits=limits)
    data = bytes(range(256)) * (size // 256 + 1)
    pair.put("large", data[:size], content_type="a/b", user={"k": "v"})
    pieces = [data[:size][start : start + 6 * KIB] for start in range(0, size, 6 * KIB)]
    pair.put("parts", data[:size], parts=pieces)

    report = pair.run()
    again = pair.run()

    assert report.totals.copied == 2
    assert again.totals.to_copy == 0
    pair.assert_equal()


def test_multipart_etag_comes_out_equal(tmp_path: Path) -> None:
    """S3 to S3 keeps the part boundaries, so that listings prove the equality even without state."""
    pair = Pair(tmp_path / "s", ("s3", "s3"), limits=SMALL_S3)
    pieces = [bytes([n]) * 5 * KIB for n in range(4)]
    pair.put("parts", b"".join(pieces), parts=pieces)
    pair.run()
    pair.directory = tmp_path / "other"

    report = pair.run()

    assert report.totals.to_copy == 0


def test_opaque_etags_are_proven_by_the_state(tmp_path: Path) -> None:
    """Where ETags are no md5 (KMS), the second run still copies nothing and looks at nothing."""
    pair = Pair(tmp_path / "s", ("s3", "s3"))
    pair.source.bucket.opaque_etags = True
    pair.destination.bucket.opaque_etags = True
    pair.fill(10)
    pair.run()
    pair.source.calls.clear()

    report = pair.run()

    assert report.totals.to_copy == 0
    assert set(pair.source.calls) == {"read_bucket", "list_page"}


def test_changed_object_is_copied_again(tmp_path: Path) -> None:
    """Same size, other bytes."""
    pair = Pair(tmp_path / "s")
    pair.fill(10)
    pair.run()
    pair.put("dir1/key-000001", b"y" * 100)

    report = pair.run()

    assert report.totals.copied == 1
    pair.assert_equal()


def test_extra_objects_are_deleted(tmp_path: Path) -> None:
    """What the source does not have goes, after the copies."""
    pair = Pair(tmp_path / "s")
    pair.fill(20)
    pair.run()
    for number in range(5):
        pair.source.bucket.delete(f"dir{number}/key-{number:06d}")

    report = pair.run()

    assert report.totals.deleted == 5
    pair.assert_equal()


def test_no_delete_keeps_extra_objects(tmp_path: Path) -> None:
    """--no-delete says that there are some."""
    pair = Pair(tmp_path / "s")
    pair.fill(20)
    pair.run()
    pair.source.bucket.delete("dir1/key-000001")

    report = pair.run(delete=False)

    assert (report.totals.extra, report.totals.deleted, report.exit_code) == (1, 0, 0)
    assert "1 destination objects" in report.message


def test_too_many_deletes_are_refused(tmp_path: Path) -> None:
    """More than --max-delete ends with exit code 4 and deletes nothing; a larger allowance then goes through."""
    pair = Pair(tmp_path / "s")
    pair.fill(20)
    pair.run()
    for number in range(12):
        pair.source.bucket.delete(f"dir{number % 7}/key-{number:06d}")

    refused = pair.run()
    allowed = pair.run(max_delete=MaxDelete.parse("60%"))

    assert (refused.exit_code, refused.totals.deleted) == (4, 0)
    assert (allowed.exit_code, allowed.totals.deleted) == (0, 12)


def test_empty_source_deletes_nothing(tmp_path: Path) -> None:
    """Even --max-delete 100% does not empty a destination because the source is empty."""
    pair = Pair(tmp_path / "s")
    pair.destination.bucket.put("key", b"x", Metadata())

    report = pair.run(max_delete=MaxDelete.parse("100%"))

    assert report.exit_code == 4
    assert pair.destination.bucket.live("key") is not None


def test_empty_prefix_is_refused(tmp_path: Path) -> None:
    """A mistyped prefix is not "in sync"."""
    pair = Pair(tmp_path / "s", prefixes=("typo", ""))

    report = pair.run()

    assert report.exit_code == 4
    assert "prefix" in report.message


def test_reappeared_key_is_not_deleted(tmp_path: Path) -> None:
    """The source is asked once more just before an object is deleted."""
    pair = Pair(tmp_path / "s")
    pair.fill(20)
    pair.run()
    pair.source.bucket.delete("dir1/key-000001")
    seen = Counter[str]()

    def reappear(operation: str, key: str) -> None:
        seen[operation] += 1
        if operation == "list_page" and seen["list_page"] == 2:
            pair.put("dir1/key-000001", b"z" * 10)

    pair.source.fault = reappear
    report = pair.run()

    assert (report.totals.deleted, report.totals.kept) == (0, 1)
    assert pair.destination.bucket.live("dir1/key-000001") is not None


def test_object_rewritten_at_the_destination_is_not_deleted(tmp_path: Path) -> None:
    """An extra object that somebody wrote after it was listed stays, and is reported."""
    pair = Pair(tmp_path / "s")
    pair.fill(20)
    pair.run()
    pair.source.bucket.delete("dir1/key-000001")

    def overwrite(operation: str, key: str) -> None:
        if operation == "delete":
            pair.destination.bucket.put("dir1/key-000001", b"new", Metadata())

    pair.destination.fault = overwrite
    report = pair.run()

    assert (report.totals.deleted, report.totals.delete_failed, report.exit_code) == (0, 1, 1)
    assert pair.destination.bucket.live("dir1/key-000001").data == b"new"


def test_partial_listing_never_deletes(tmp_path: Path) -> None:
    """A source whose listing breaks off for good ends the run before anything is deleted."""
    pair = Pair(tmp_path / "s", page_max=10)
    pair.fill(100)
    pair.run()
    calls = Counter[str]()

    def broken(operation: str, key: str) -> None:
        calls[operation] += 1
        if operation == "list_page" and calls["list_page"] > 4:
            raise FatalError("list: access denied")

    pair.source.fault = broken
    with pytest.raises(FatalError, match="access denied"):
        pair.run()

    assert pair.destination.calls["delete"] == 0
    pair.source.fault = None
    assert pair.run().totals.deleted == 0
    pair.assert_equal()


def test_transient_errors_are_retried_for_ever(tmp_path: Path) -> None:
    """Every third request fails in passing, on both sides; the end is the same."""
    pair = Pair(tmp_path / "s", limits=SMALL_S3)
    pair.fill(60)
    pair.put("large", b"l" * 50 * KIB)
    calls = Counter[str]()

    def flaky(operation: str, key: str) -> None:
        calls[operation] += 1
        if sum(calls.values()) % 3 == 0:
            raise TransientError("503")

    pair.source.fault = pair.destination.fault = flaky
    report = pair.run(part_size=None)

    assert report.status == "done"
    assert any(isinstance(event, Retrying) for event in pair.events)
    pair.assert_equal()


def test_lost_answers_are_settled(tmp_path: Path) -> None:
    """A write that took effect, but whose answer was lost, is recognised as our own."""
    pair = Pair(tmp_path / "s", limits=SMALL_S3)
    pair.fill(30)
    pair.put("large", b"l" * 50 * KIB)
    lost = Counter[str]()

    def lose(operation: str, key: str) -> None:
        lost[operation + key] += 1
        if lost[operation + key] == 1:
            raise TransientError("connection reset")

    pair.destination.lose = lose
    report = pair.run()

    assert (report.status, report.totals.failed) == ("done", 0)
    pair.assert_equal()


def test_forbidden_object_fails_alone(tmp_path: Path) -> None:
    """One object that may not be read leaves all others copied, exit code 1, and a row that names it."""
    pair = Pair(tmp_path / "s")
    pair.fill(20)

    def forbid(operation: str, key: str) -> None:
        if operation == "read" and key == "dir3/key-000003":
            raise PermanentError("read dir3/key-000003: AccessDenied", code="AccessDenied")

    pair.source.fault = forbid
    report = pair.run()

    assert (report.exit_code, report.totals.copied, report.totals.failed) == (1, 19, 1)
    assert [(trouble.key, trouble.code) for trouble in report.troubles] == [("dir3/key-000003", "AccessDenied")]


def test_failed_copy_prevents_deletes(tmp_path: Path) -> None:
    """As long as an object cannot be copied nothing is deleted, unless that is asked for."""
    pair = Pair(tmp_path / "s")
    pair.fill(20)
    pair.run()
    pair.source.bucket.delete("dir1/key-000001")
    pair.put("new", b"n")

    def forbid(operation: str, key: str) -> None:
        if operation == "read":
            raise PermanentError("no", code="AccessDenied")

    pair.source.fault = forbid
    careful = pair.run()
    bold = pair.run(delete_despite_errors=True)

    assert (careful.exit_code, careful.totals.deleted) == (1, 0)
    assert (bold.exit_code, bold.totals.deleted) == (1, 1)


def test_vanished_object_is_no_error(tmp_path: Path) -> None:
    """A source object that is removed between listing and reading is skipped."""
    pair = Pair(tmp_path / "s")
    pair.fill(20)

    def vanish(operation: str, key: str) -> None:
        if operation == "read" and key == "dir3/key-000003":
            pair.source.bucket.delete(key)

    pair.source.fault = vanish
    report = pair.run()

    assert (report.exit_code, report.totals.copied, report.totals.skipped) == (0, 19, 1)


def test_changed_source_is_copied_afresh(tmp_path: Path) -> None:
    """A source object that changes between listing and reading arrives as it is now."""
    pair = Pair(tmp_path / "s")
    pair.fill(20)
    changed = []

    def change(operation: str, key: str) -> None:
        if operation == "read" and key == "dir3/key-000003" and not changed:
            changed.append(key)
            pair.put(key, b"changed meanwhile")

    pair.source.fault = change
    report = pair.run()

    assert (report.exit_code, report.totals.copied) == (0, 20)
    pair.assert_equal()


def test_concurrent_writer_at_the_destination_is_left_alone(tmp_path: Path) -> None:
    """An object that appears at the destination after it was listed is not overwritten, but reported."""
    pair = Pair(tmp_path / "s")
    pair.fill(20)

    def intrude(operation: str, key: str) -> None:
        if operation == "write" and key == "dir3/key-000003" and pair.destination.bucket.live(key) is None:
            pair.destination.bucket.put(key, b"theirs", Metadata())

    pair.destination.fault = intrude
    report = pair.run()

    assert (report.exit_code, report.totals.copied) == (1, 19)
    assert report.troubles[0].code == "destination-changed"
    assert pair.destination.bucket.live("dir3/key-000003").data == b"theirs"


def test_name_that_the_other_side_forbids_is_recorded(tmp_path: Path) -> None:
    """A key that GCS cannot hold fails before any request, alone."""
    pair = Pair(tmp_path / "s")
    pair.fill(5)
    pair.put("line\nfeed", b"x")

    report = pair.run()

    assert (report.exit_code, report.totals.copied) == (1, 5)
    assert report.troubles[0].code == "name"


def test_prefixes_are_mapped(tmp_path: Path) -> None:
    """Only what lies below the source prefix goes below the destination prefix; the rest is not touched."""
    pair = Pair(tmp_path / "s", prefixes=("in/", "out/deep/"))
    pair.fill(5)
    pair.put("", b"")
    pair.source.bucket.put("elsewhere", b"no", Metadata())
    pair.destination.bucket.put("foreign", b"stay", Metadata())

    report = pair.run()

    assert report.totals.copied == 6
    assert pair.destination.bucket.live("foreign") is not None
    assert pair.destination.bucket.live("out/deep/") is not None
    pair.assert_equal()


def test_many_ranges_give_the_same_result(tmp_path: Path) -> None:
    """Hand-back, cutting and splitting lose and repeat nothing."""
    pair = Pair(tmp_path / "s", page_max=50)
    pair.fill(3000, size=5)

    report = pair.run(first_rows=100, range_rows=200)
    again = pair.run(first_rows=100, range_rows=200)

    assert (report.totals.source_objects, report.totals.copied) == (3000, 3000)
    assert (again.totals.source_objects, again.totals.destination_objects, again.totals.to_copy) == (3000, 3000, 0)
    assert len(list((tmp_path / "s" / "ranges").glob("*.db"))) > 8
    pair.assert_equal()


def test_dry_run_changes_nothing_and_tells_everything(tmp_path: Path) -> None:
    """What a dry run tells is what the run then does."""
    pair = Pair(tmp_path / "s")
    pair.fill(10)
    pair.run()
    pair.put("new", b"n")
    pair.source.bucket.delete("dir1/key-000001")
    told: list[tuple[str, str]] = []

    report = pair.run(dry_run=True, planned=lambda item: told.append((item.action, item.key)))

    assert report.dry_run
    assert sorted(told) == [("copy", "new"), ("delete", "dir1/key-000001")]
    assert pair.destination.bucket.live("new") is None
    assert pair.run().totals.copied == 1
    pair.assert_equal()


def test_stopped_run_goes_on_where_it_was(tmp_path: Path) -> None:
    """After a stop the next run copies only what was left, and no page is listed twice."""
    pair = Pair(tmp_path / "s", page_max=20)
    pair.fill(400)

    async def stopped() -> None:
        stop = asyncio.Event()
        seen = Counter[str]()

        def stop_soon(operation: str, key: str) -> None:
            seen[operation] += 1
            if seen["write"] == 100:
                stop.set()

        pair.destination.fault = stop_soon
        report = await pair.sync(stop=stop)
        assert (report.status, report.exit_code) == ("stopped", 130)

    asyncio.run(stopped())
    pair.destination.fault = None
    report = pair.run()

    assert report.resumed
    assert report.totals.copied == 400
    assert pair.destination.calls["write"] == 400
    assert pair.source.calls["list_page"] == 20
    pair.assert_equal()


def test_stop_during_an_outage_ends_the_run(tmp_path: Path) -> None:
    """A stop does not wait for a service that is down."""
    pair = Pair(tmp_path / "s")
    pair.fill(10)

    async def stopped() -> None:
        stop = asyncio.Event()

        def down(operation: str, key: str) -> None:
            if operation == "write":
                stop.set()
                raise TransientError("down")

        pair.destination.fault = down
        report = await asyncio.wait_for(pair.sync(stop=stop), 20)
        assert report.status == "stopped"

    asyncio.run(stopped())
    pair.destination.fault = None
    assert pair.run().resumed
    pair.assert_equal()


def test_unfinished_run_with_other_options_is_refused(tmp_path: Path) -> None:
    """The message names the option; --restart begins anew."""
    pair = Pair(tmp_path / "s")
    pair.fill(10)

    def broken(operation: str, key: str) -> None:
        if operation == "read":
            raise FatalError("credentials")

    pair.source.fault = broken
    with pytest.raises(FatalError):
        pair.run()
    pair.source.fault = None
    with pytest.raises(UsageError, match="--delete"):
        pair.run(delete=False)

    assert pair.run(delete=False, restart=True).status == "done"
    pair.assert_equal()


def test_corrupt_reads_are_never_written(tmp_path: Path) -> None:
    """Bytes that contradict the source's digest fail after three reads, and nothing arrives."""
    pair = Pair(tmp_path / "s")
    pair.fill(5)
    rows = pair.source.bucket.rows["dir3/key-000003"]
    rows[-1] = replace(rows[-1], data=b"flipped" + rows[-1].data[7:])

    report = pair.run()

    assert (report.exit_code, report.totals.copied, report.troubles[0].code) == (1, 4, "corrupt")
    assert pair.destination.bucket.live("dir3/key-000003") is None


def test_lost_state_is_rebuilt_from_stamps(tmp_path: Path) -> None:
    """With a new state directory the GCS copy of a multipart object is found equal by its stamp, without a copy."""
    pair = Pair(tmp_path / "s")
    pieces = [bytes([n]) * 5 * KIB for n in range(4)]
    pair.put("parts", b"".join(pieces), parts=pieces)
    pair.run()
    pair.directory = tmp_path / "other"

    report = pair.run()

    assert (report.totals.copied, report.totals.proven) == (0, 1)


def test_purge_deletes_only_old_noncurrent_versions(tmp_path: Path) -> None:
    """Live versions and young ones stay, on both providers; expired markers go."""
    for kind in ("s3", "gs"):
        pair = Pair(tmp_path / kind, ("s3", kind))
        now = datetime(2026, 1, 1, tzinfo=UTC)
        clock = [now]
        pair.destination.service.now = lambda clock=clock: clock[0]
        pair.destination.bucket.versioning = "enabled"
        for days, data in enumerate((b"one", b"two", b"three")):
            clock[0] = now + timedelta(days=10 * days)
            pair.put("key", data)
            pair.put("gone", data)
            pair.run()
        pair.source.bucket.delete("gone")
        clock[0] = now + timedelta(days=25)
        pair.run()
        clock[0] = now + timedelta(days=31)

        report = pair.run(purge_noncurrent=15)

        rows = pair.destination.bucket.rows
        assert [row.data for row in rows["key"]] == [b"two", b"three"] if kind == "s3" else True
        assert pair.destination.bucket.live("key").data == b"three"
        assert report.totals.purged == 2
        clock[0] = now + timedelta(days=100)
        pair.run(purge_noncurrent=15)
        assert [row.data for row in rows["key"]] == [b"three"]
        assert not rows.get("gone")


def test_marker_of_the_destination_prefix_is_no_surplus(tmp_path: Path) -> None:
    """A folder made in a console neither blocks the first run nor is it deleted."""
    pair = Pair(tmp_path / "s", prefixes=("", "backup/"))
    pair.fill(3)
    pair.destination.bucket.put("backup/", b"", Metadata())

    report = pair.run()

    assert (report.status, report.totals.extra) == ("done", 0)
    assert pair.destination.bucket.live("backup/") is not None


def test_proofs_outlive_a_split(tmp_path: Path) -> None:
    """A range that is split in a later run hands its proofs on, so nothing is copied again."""
    pair = Pair(tmp_path / "s", ("s3", "s3"), page_max=20)
    pair.source.bucket.opaque_etags = pair.destination.bucket.opaque_etags = True
    pair.fill(150, size=5)
    pair.run()

    report = pair.run(first_rows=40, range_rows=40)
    again = pair.run(first_rows=40, range_rows=40)

    assert len(list((tmp_path / "s" / "ranges").glob("*.db"))) > 2
    assert (report.totals.to_copy, again.totals.to_copy) == (0, 0)


def test_stop_before_the_run_begins(tmp_path: Path) -> None:
    """A stop while the buckets cannot be looked at ends the command; there is nothing to resume."""
    pair = Pair(tmp_path / "s")

    async def stopped() -> None:
        stop = asyncio.Event()

        def down(operation: str, key: str) -> None:
            stop.set()
            raise TransientError("down")

        pair.source.fault = down
        await pair.sync(stop=stop)

    with pytest.raises(StoppedError):
        asyncio.run(stopped())


def test_totals_are_final_once_everything_is_listed(tmp_path: Path) -> None:
    """The event comes exactly once, after the last page and before the last copy, however the ranges were cut."""
    pair = Pair(tmp_path / "s", page_max=50)
    pair.fill(1500, size=5)

    pair.run(first_rows=100, range_rows=200)

    kinds = [type(event) for event in pair.events]
    assert kinds.count(ListingDone) == 1
    assert Listed not in kinds[kinds.index(ListingDone) :]
    assert Finished in kinds[kinds.index(ListingDone) :]


def test_tags_are_copied_when_asked_for(tmp_path: Path) -> None:
    """One more request an object; without the option none."""
    pair = Pair(tmp_path / "s", ("s3", "s3"))
    pair.source.bucket.put("key", b"x", Metadata(tags=(("a", "b"),)))
    pair.source.bucket.put("large", b"x", Metadata(tags=(("c", "d"),)), parts=[b"x"])

    pair.run(tags=True)

    assert pair.destination.bucket.live("key").metadata.tags == (("a", "b"),)
    assert pair.destination.bucket.live("large").metadata.tags == (("c", "d"),)
    assert pair.source.calls["read_tags"] == 2


def test_storage_class_is_that_of_the_option(tmp_path: Path) -> None:
    """Whole objects and large ones."""
    pair = Pair(tmp_path / "s", limits=SMALL_S3, storage_class="COLDLINE")
    pair.fill(2)
    pair.put("large", b"l" * 50 * KIB)

    pair.run()

    assert {row.storage_class for _, row in pair.destination.bucket.live_rows("", "")} == {"COLDLINE"}


def test_object_that_is_listed_but_never_found_is_a_failure(tmp_path: Path) -> None:
    """A 404 on every read (a broken proxy, say) is not "vanished": the listing still has the objects."""
    pair = Pair(tmp_path / "s")
    pair.fill(5)

    def missing(operation: str, key: str) -> None:
        if operation == "read":
            raise NotFoundError("404")

    pair.source.fault = missing
    report = pair.run()

    assert (report.exit_code, report.totals.failed, report.totals.skipped) == (1, 5, 0)
    assert {trouble.code for trouble in report.troubles} == {"unreadable"}


def test_corrupt_parts_never_replace_a_good_object_on_gcs(tmp_path: Path) -> None:
    """A session's last part makes the object appear, so the whole is verified before that part is sent."""
    pair = Pair(tmp_path / "s", ("gs", "gs"))
    pair.put("key", b"good" * 3 * MIB)
    pair.run()
    good = pair.destination.bucket.live("key").data
    pair.put("key", b"next" * 3 * MIB)
    rows = pair.source.bucket.rows["key"]
    rows[-1] = replace(rows[-1], data=b"X" + rows[-1].data[1:])

    report = pair.run(server_side_copy=False)

    assert (report.exit_code, report.troubles[0].code) == (1, "corrupt")
    assert pair.destination.bucket.live("key").data == good


def test_corrupt_multipart_source_is_noticed(tmp_path: Path) -> None:
    """S3 to S3, the parts' md5s must give the source's ETag."""
    pair = Pair(tmp_path / "s", ("s3", "s3"), limits=SMALL_S3)
    pieces = [bytes([n]) * 5 * KIB for n in range(4)]
    pair.put("parts", b"".join(pieces), parts=pieces)
    rows = pair.source.bucket.rows["parts"]
    rows[-1] = replace(rows[-1], data=b"X" + rows[-1].data[1:])

    report = pair.run()

    assert (report.exit_code, report.troubles[0].code) == (1, "corrupt")
    assert pair.destination.bucket.live("parts") is None


@pytest.mark.parametrize("kind", ["missing", "empty", "of another run"])
def test_range_whose_file_is_lost_is_listed_anew(kind: str, tmp_path: Path) -> None:
    """Where the plan says "listed" and the file does not, nothing is concluded; without the file the run goes on."""
    pair = Pair(tmp_path / "s")
    pair.fill(20)
    pair.run()
    pair.source.bucket.delete("dir1/key-000001")

    def broken(operation: str, key: str) -> None:
        if operation == "delete":
            raise FatalError("access denied")

    pair.destination.fault = broken
    with pytest.raises(FatalError, match="access denied"):
        pair.run()
    pair.destination.fault = None
    path = tmp_path / "s" / "ranges" / "000001.db"
    if kind == "of another run":
        with closing(sqlite3.connect(path)) as db:
            db.execute("UPDATE span SET run = run - 1")
            db.commit()
    elif kind == "empty":
        path.write_bytes(b"")
    if kind != "missing":
        with pytest.raises(FatalError, match="000001.db: .*move it away and start again"):
            pair.run()
        assert "dir1/key-000001" in contents(pair.destination)
    path.unlink()

    report = pair.run()

    assert (report.resumed, report.totals.deleted, report.totals.copied) == (True, 1, 0)
    assert any("are listed anew" in event.text for event in pair.events if isinstance(event, Notice))
    pair.assert_equal()


def test_narrower_range_file_begins_again(tmp_path: Path) -> None:
    """A file that was trimmed when the plan was not (a power cut in between) is not taken for complete."""
    pair = Pair(tmp_path / "s", page_max=20)
    pair.fill(100, size=5)

    def broken(operation: str, key: str) -> None:
        if operation == "read":
            raise FatalError("credentials")

    pair.source.fault = broken
    with pytest.raises(FatalError):
        pair.run()
    pair.source.fault = None
    with closing(sqlite3.connect(tmp_path / "s" / "ranges" / "000001.db")) as db, db:
        db.execute("UPDATE span SET hi = 'dir2'")
        db.execute("DELETE FROM source WHERE key > 'dir2'")
        db.execute("DELETE FROM transfer WHERE key > 'dir2'")
        db.execute("UPDATE listing SET done = 1, cursor = 'dir2'")

    report = pair.run()

    assert report.totals.copied == 100
    pair.assert_equal()


def test_resume_on_another_server_is_refused(tmp_path: Path) -> None:
    """The environment may name another endpoint than the one the run began with."""
    pair = Pair(tmp_path / "s")
    pair.fill(5)

    def broken(operation: str, key: str) -> None:
        if operation == "read":
            raise FatalError("credentials")

    pair.source.fault = broken
    with pytest.raises(FatalError):
        pair.run()
    other = Pair(tmp_path / "s")

    with pytest.raises(UsageError, match="server"):
        other.run()


def test_kms_copies_whose_answers_were_lost_are_recognised(tmp_path: Path) -> None:
    """Server-side copies carry no stamp, and their ETags are no md5: the stated crc32c of both sides decides."""
    pair = Pair(tmp_path / "s", ("s3", "s3"), shared=True)
    pair.source.bucket.opaque_etags = pair.destination.bucket.opaque_etags = True
    pair.fill(3)
    lost = Counter[str]()

    def lose(operation: str, key: str) -> None:
        lost[operation + key] += 1
        if lost[operation + key] == 1:
            raise TransientError("connection reset")

    pair.destination.lose = lose
    report = pair.run()

    assert (report.exit_code, report.totals.copied) == (0, 3)


def test_lost_state_with_opaque_etags_is_rebuilt_from_stamps(tmp_path: Path) -> None:
    """An ETag that is no md5 does not contradict the stamp; the crc32c that the object states confirms it."""
    pair = Pair(tmp_path / "s", ("gs", "s3"))
    pair.destination.bucket.opaque_etags = True
    pair.fill(5)
    pair.run()
    pair.directory = tmp_path / "other"

    report = pair.run()

    assert (report.totals.copied, report.totals.proven) == (0, 5)
