"""What fails alone holds nobody up; what fails everywhere ends the run; what failed is taken up again on request."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import count
from pathlib import Path

import pytest

from heavysync.errors import FatalError, PermanentError, TransientError, UsageError
from heavysync.events import Stuck
from heavysync.objects import Deletion, DeletionFailure, Metadata
from heavysync.options import MaxDelete
from heavysync.retry import STUCK_AFTER
from heavysync.streaks import LONGEST
from pairs import KIB, SMALL_S3, Pair


ALL = MaxDelete.parse("100%")


def failing(served: count[int] | None = None, message: str = "500 InternalError") -> TransientError:
    """A failure in passing; with `served`, others went through since the last one."""
    error = TransientError(message)
    if served is not None:
        error.served = error.answered = next(served)
    return error


@pytest.mark.parametrize("operation", ["read", "write"])
@pytest.mark.parametrize("concurrency", [1, 16])
def test_object_that_always_fails_holds_nobody_up(tmp_path: Path, operation: str, concurrency: int) -> None:
    """All others are written before it is tried a second time, even by a single worker."""
    pair = Pair(tmp_path / "s", ("s3", "s3"))
    for number in range(40):
        pair.put(f"key-{number:02d}", b"x" * 100)
        pair.destination.bucket.put(f"key-{number:02d}", b"y" * 100, Metadata())
    failed = Counter[int]()

    def fault(what: str, key: str) -> None:
        if what == operation and key == "key-07":
            done = sum(1 for _, row in pair.destination.bucket.live_rows("", "") if row.data == b"x" * 100)
            failed[done] += 1
            if failed.total() < 3 * STUCK_AFTER:
                raise failing()

    side = pair.source if operation == "read" else pair.destination
    side.fault = fault

    report = pair.run(concurrency=concurrency)

    stuck = [event for event in pair.events if isinstance(event, Stuck)]
    assert [(event.key, event.times) for event in stuck] == [("key-07", 1), ("key-07", 2)]
    assert failed[39] >= 2 * STUCK_AFTER
    assert report.status == "done"
    pair.assert_equal()


def test_upload_that_fails_while_others_go_through_is_begun_anew(tmp_path: Path) -> None:
    """Some servers answer 500 for ever to the completion of an upload that is gone."""
    pair = Pair(tmp_path / "s", ("s3", "s3"), limits=SMALL_S3)
    pair.put("large", b"abcd" * 5 * KIB, parts=[b"abcd" * KIB] * 5)
    served = count()

    def fault(what: str, key: str) -> None:
        if what == "complete" and pair.destination.calls["begin_upload"] == 1:
            raise failing(served)

    pair.destination.fault = fault

    assert pair.run().status == "done"
    pair.assert_equal()
    assert pair.destination.calls["begin_upload"] == 2
    assert pair.destination.calls["complete"] == STUCK_AFTER + 1
    assert not pair.destination.service.uploads


def test_upload_that_fails_all_alone_is_begun_anew_at_the_second_time(tmp_path: Path) -> None:
    """There is nothing else to do, so nothing tells an outage but that the server answers other questions."""
    pair = Pair(tmp_path / "s", ("s3", "s3"), limits=SMALL_S3)
    pair.put("large", b"abcd" * 5 * KIB, parts=[b"abcd" * KIB] * 5)

    def fault(what: str, key: str) -> None:
        if what == "complete" and pair.destination.calls["begin_upload"] == 1:
            error = failing()
            error.served = 0
            error.answered = pair.destination.calls["resume_upload"]
            raise error

    pair.destination.fault = fault

    assert pair.run().status == "done"
    pair.assert_equal()
    assert pair.destination.calls["begin_upload"] == 2
    assert pair.destination.calls["complete"] == 2 * STUCK_AFTER + 1


def test_outage_loses_no_upload(tmp_path: Path) -> None:
    """As long as nothing goes through, an upload is continued, not begun anew."""
    pair = Pair(tmp_path / "s", ("s3", "s3"), limits=SMALL_S3)
    pair.put("large", b"abcd" * 5 * KIB, parts=[b"abcd" * KIB] * 5)

    def fault(what: str, key: str) -> None:
        if what == "complete" and pair.destination.calls["complete"] < 5 * STUCK_AFTER:
            error = failing()
            error.served = error.answered = 3
            raise error

    pair.destination.fault = fault

    assert pair.run().status == "done"
    pair.assert_equal()
    assert pair.destination.calls["begin_upload"] == 1
    assert pair.destination.calls["write_part"] == 5


def test_stuck_upload_that_had_been_completed_is_found(tmp_path: Path) -> None:
    """Its completion took effect, the answer was lost, and the server knows nothing of it any more."""
    pair = Pair(tmp_path / "s", ("s3", "s3"), limits=SMALL_S3)
    pair.put("large", b"abcd" * 5 * KIB, parts=[b"abcd" * KIB] * 5)
    served = count()

    def fault(what: str, key: str) -> None:
        if what == "complete" and pair.destination.calls["complete"] > 1:
            raise failing(served)

    def lose(what: str, key: str) -> None:
        if what == "complete":
            raise failing(served)

    pair.destination.fault, pair.destination.lose = fault, lose

    assert pair.run().status == "done"
    pair.assert_equal()
    assert pair.destination.calls["begin_upload"] == 1


def test_stopped_run_names_what_is_stuck(tmp_path: Path) -> None:
    """Whoever stops it learns which object went wrong, and why."""

    async def body() -> None:
        pair = Pair(tmp_path / "s", ("s3", "s3"))
        pair.fill(20)
        pair.put("bad", b"bad")
        stop = asyncio.Event()

        def fault(what: str, key: str) -> None:
            if what == "write" and key == "bad":
                if sum(1 for event in pair.events if isinstance(event, Stuck)) == 2:
                    stop.set()
                raise failing(message="500 of its own")

        pair.destination.fault = fault
        report = await pair.sync(stop=stop)

        assert report.status == "stopped"
        assert [(trouble.key, trouble.status) for trouble in report.troubles] == [("bad", "stuck")]
        assert "500 of its own" in report.troubles[0].message
        pair.destination.fault = None
        assert (await pair.sync()).status == "done"
        pair.assert_equal()

    asyncio.run(body())


def test_same_refusal_of_every_object_ends_the_run(tmp_path: Path) -> None:
    """A missing permission is said once, after fifty objects, and the objects are taken up again when it is there."""
    pair = Pair(tmp_path / "s", ("s3", "s3"))
    pair.fill(500)

    def fault(what: str, key: str) -> None:
        if what == "write":
            raise PermanentError("write x: 403 AccessDenied; the credentials need s3:PutObject", code="AccessDenied")

    pair.destination.fault = fault
    with pytest.raises(FatalError, match=r"the first \d+ objects failed.*s3:PutObject"):
        pair.run()
    assert pair.destination.calls["write"] < LONGEST + 2 * 16
    pair.destination.fault = None
    report = pair.run()

    assert report.status == "done"
    assert report.resumed
    pair.assert_equal()


def test_refusal_that_lasts_is_recorded_at_the_second_start(tmp_path: Path) -> None:
    """Whoever starts it again after such an end gets all others done, and each refusal recorded."""
    pair = Pair(tmp_path / "s", ("s3", "s3"))
    pair.fill(200)

    def fault(what: str, key: str) -> None:
        if what == "write" and not key.endswith("0"):
            raise PermanentError("write x: 403 AccessDenied", code="AccessDenied")
        if what == "write" and pair.destination.calls["write"] < 150:
            raise PermanentError("write x: 403 AccessDenied", code="AccessDenied")

    pair.destination.fault = fault
    with pytest.raises(FatalError, match="the first"):
        pair.run()
    report = pair.run()

    assert (report.status, report.totals.failed + report.totals.copied) == ("failed", 200)


@pytest.mark.parametrize("concurrency", [1, 128])
def test_refusals_beside_a_bucket_in_sync_end_no_run(tmp_path: Path, concurrency: int) -> None:
    """Sixty objects that may never be read hold up no new ones, night after night."""
    pair = Pair(tmp_path / "s", ("s3", "s3"))
    pair.fill(300)
    pair.run()
    for number in range(60):
        pair.put(f"secret/{number}", b"secret")

    def fault(what: str, key: str) -> None:
        if what == "read" and key.startswith("secret/"):
            raise PermanentError("read x: 403 AccessDenied", code="AccessDenied")

    pair.source.fault = fault
    for night in range(3):
        pair.put(f"new/{night}", b"new")
        report = pair.run(concurrency=concurrency)
        assert (report.status, report.totals.failed, report.totals.copied) == ("failed", 60, 1)


def test_refusals_between_successes_are_recorded(tmp_path: Path) -> None:
    """Where others go through, what is refused is a matter of the objects."""
    pair = Pair(tmp_path / "s", ("s3", "s3"))
    pair.fill(300)
    calls = count()

    def fault(what: str, key: str) -> None:
        if what == "write" and next(calls) % 20:
            raise PermanentError("write x: 403 AccessDenied", code="AccessDenied")

    pair.destination.fault = fault
    report = pair.run()

    assert report.status == "failed"
    assert report.totals.failed == 285


def test_archived_objects_in_a_row_end_no_run(tmp_path: Path) -> None:
    """Each of them has to be restored; that says nothing of the others."""
    pair = Pair(tmp_path / "s", ("s3", "s3"))
    pair.fill(3 * LONGEST)

    def fault(what: str, key: str) -> None:
        if what == "read":
            raise PermanentError("read x: 403 InvalidObjectState", code="InvalidObjectState")

    pair.source.fault = fault
    report = pair.run()

    assert report.totals.failed == 3 * LONGEST


def test_retry_failed_takes_up_a_finished_run(tmp_path: Path) -> None:
    """What failed is copied, what waited for it is deleted, in all ranges, and nothing is listed again but to be sure."""
    pair = Pair(tmp_path / "s", ("s3", "s3"))
    pair.fill(400)
    for number in range(20):
        pair.destination.bucket.put(f"dir{number % 7}/extra-{number}", b"old", Metadata())

    def fault(what: str, key: str) -> None:
        if what == "write" and key.endswith("7"):
            raise PermanentError("write: 400 InvalidRequest", code="InvalidRequest")

    pair.destination.fault = fault
    shape = {"delete": True, "max_delete": ALL, "range_rows": 60, "first_rows": 60}
    first = pair.run(**shape)
    assert (first.status, first.totals.failed, first.totals.deleted) == ("failed", 40, 0)
    pair.destination.fault = None
    listed = pair.destination.calls["list"]
    written = pair.destination.calls["write"]

    second = pair.run(**shape, retry_failed=True)

    assert (second.status, second.run, second.totals.failed, second.totals.deleted) == ("done", first.run, 0, 20)
    assert second.totals.copied == 400
    assert pair.destination.calls["write"] - written == 40
    assert pair.destination.calls["list"] == listed
    assert "when run 1 began" in second.message
    pair.assert_equal()


def test_retry_failed_deletes_again_what_could_not_be_deleted(tmp_path: Path) -> None:
    """A deletion that was refused is a failure like any other."""
    pair = Pair(tmp_path / "s", ("s3", "s3"))
    pair.fill(30)
    pair.destination.bucket.put("extra", b"old", Metadata())

    def fault(what: str, key: str) -> None:
        if what == "delete":
            raise PermanentError("delete: 403 AccessDenied", code="AccessDenied")

    pair.destination.fault = fault
    assert pair.run(delete=True, max_delete=ALL).totals.delete_failed == 1
    pair.destination.fault = None
    report = pair.run(delete=True, max_delete=ALL, retry_failed=True)

    assert (report.status, report.totals.deleted, report.totals.delete_failed) == ("done", 1, 0)
    pair.assert_equal()


def test_retry_failed_goes_on_with_an_interrupted_run(tmp_path: Path) -> None:
    """Without it, what failed before the interruption stays recorded; with it, it is owed again."""
    pair = Pair(tmp_path / "s", ("s3", "s3"))
    pair.fill(100)

    def fault(what: str, key: str) -> None:
        if what == "write" and key.endswith("3"):
            raise PermanentError("write: 400 InvalidRequest", code="InvalidRequest")
        if what == "write" and pair.destination.calls["write"] > 60:
            raise FatalError("power")

    pair.destination.fault = fault
    with pytest.raises(FatalError):
        pair.run(concurrency=1)
    pair.destination.fault = None
    report = pair.run(retry_failed=True)

    assert (report.status, report.totals.failed, report.resumed) == ("done", 0, True)
    pair.assert_equal()


def test_retry_failed_without_failures_is_refused(tmp_path: Path) -> None:
    """It would claim "in sync" of a listing that may be old."""
    pair = Pair(tmp_path / "s", ("s3", "s3"))
    pair.fill(10)
    with pytest.raises(UsageError, match="no object failed in the last run"):
        pair.run(retry_failed=True)
    pair.run()
    with pytest.raises(UsageError, match="no object failed in the last run"):
        pair.run(retry_failed=True)


def test_deletion_that_always_fails_holds_no_other_up(tmp_path: Path) -> None:
    """Batches behind it are deleted before it is tried on."""
    pair = Pair(tmp_path / "s", ("s3", "s3"))
    pair.fill(1000)
    for number in range(600):
        pair.destination.bucket.put(f"extra-{number:04d}", b"old", Metadata())
    left: list[int] = []
    delete = pair.destination.delete

    async def but_one(batch: list[Deletion]) -> list[DeletionFailure]:
        bad = [one for one in batch if one.key == "extra-0007"]
        failures = await delete([one for one in batch if one not in bad])
        if bad:
            left.append(sum(1 for name, _ in pair.destination.bucket.live_rows("extra", "extra")))
            if len(left) > 3 * STUCK_AFTER:
                return failures + await delete(bad)
        return failures + [DeletionFailure(one.key, None, "InternalError", "500", True) for one in bad]

    pair.destination.delete = but_one
    report = pair.run(delete=True, max_delete=ALL)

    assert report.status == "done"
    assert left[STUCK_AFTER] == 1
    pair.assert_equal()


def test_flaky_source_costs_no_upload(tmp_path: Path) -> None:
    """That reads fail again and again says nothing of the upload: its parts are kept."""
    pair = Pair(tmp_path / "s", ("s3", "s3"), limits=SMALL_S3)
    pair.put("large", b"abcd" * 20 * KIB, parts=[b"abcd" * KIB] * 20)
    served = count()

    def fault(what: str, key: str) -> None:
        if what == "read" and pair.source.calls["read"] % 240 >= 6:
            raise failing(served)

    pair.source.fault = fault

    assert pair.run().status == "done"
    pair.assert_equal()
    assert pair.destination.calls["begin_upload"] == 1
    assert pair.destination.calls["write_part"] == 20
    assert any(isinstance(event, Stuck) for event in pair.events)


def test_throttled_completion_costs_no_upload(tmp_path: Path) -> None:
    """That others are served while this one is refused for a while is what throttling is."""
    pair = Pair(tmp_path / "s", ("s3", "s3"), limits=SMALL_S3)
    pair.put("large", b"abcd" * 5 * KIB, parts=[b"abcd" * KIB] * 5)
    served = count()

    def fault(what: str, key: str) -> None:
        if what == "complete" and pair.destination.calls["complete"] < 5 * STUCK_AFTER:
            error = TransientError("503 SlowDown", throttled=True)
            error.served = error.answered = next(served)
            raise error

    pair.destination.fault = fault

    assert pair.run().status == "done"
    assert pair.destination.calls["begin_upload"] == 1


@pytest.mark.parametrize("kinds", [("s3", "s3"), ("s3", "gs")])
def test_completed_upload_that_lacks_bytes_is_not_taken_for_a_copy(tmp_path: Path, kinds: tuple[str, str]) -> None:
    """Its nonce is ours, its bytes are not the source's: it is said, and the next run brings them."""
    pair = Pair(tmp_path / "s", kinds)
    pair.put("large", b"abcd" * 1536 * KIB)
    served = count()

    def fault(what: str, key: str) -> None:
        if what == "complete" and pair.destination.calls["complete"] > 1 and pair.destination.calls["begin_upload"] == 1:
            raise failing(served)

    def lose(what: str, key: str) -> None:
        if what == "complete" and pair.destination.calls["complete"] == 1:
            row = pair.destination.bucket.live("large")
            assert row is not None
            pair.destination.bucket.put("large", row.data[:-4], row.metadata)  # a part of it was dropped on the way
            raise failing(served)

    pair.destination.fault, pair.destination.lose = fault, lose
    report = pair.run(part_size=5 << 20)

    assert (report.status, report.totals.failed) == ("failed", 1)
    pair.destination.fault = pair.destination.lose = None
    assert pair.run(part_size=5 << 20).status == "done"
    pair.assert_equal()


def test_fatal_error_is_told_by_its_own_words(tmp_path: Path) -> None:
    """What workers meet when the state closes under them does not stand in its place."""
    pair = Pair(tmp_path / "s", ("s3", "s3"), limits=SMALL_S3)
    for number in range(40):
        pair.put(f"large-{number}", b"abcd" * 10 * KIB, parts=[b"abcd" * KIB] * 10)

    def fault(what: str, key: str) -> None:
        if what == "write_part" and pair.destination.calls["write_part"] > 60:
            raise FatalError("the disk of the server burns")

    pair.destination.fault = fault
    with pytest.raises(FatalError, match="the disk of the server burns"):
        pair.run(range_rows=5, first_rows=5)
