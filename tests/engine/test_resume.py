"""A large object that was interrupted: what goes on, what begins anew, and what becomes of the uploads nobody will complete."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from heavysync.errors import ObjectError, PermanentError, TransientError
from heavysync.events import Notice
from heavysync.objects import ByteRange, Content, Metadata, ObjectInfo, UploadState
from heavysync.state.queue import Queue
from heavysync.stores.memory import MemoryStore
from pairs import SMALL_S3, Pair

MIB = 1 << 20
PART = 5 * MIB
DATA = random.Random(1).randbytes(2 * PART + MIB)
OTHER = random.Random(2).randbytes(2 * PART + MIB)
KINDS = [("s3", "gs"), ("gs", "s3"), ("s3", "s3")]

every_pair = pytest.mark.parametrize("kinds", KINDS, ids="-".join)
both_destinations = pytest.mark.parametrize("kinds", KINDS[:2], ids="-".join)


def run_killed(pair: Pair, operation: str, number: int, *, after: bool = False, **options: object) -> None:
    """Run, and cut the run off at the n-th such operation on the destination, before or after it takes effect."""
    box: list[asyncio.Task[object]] = []
    seen = 0

    async def kill(name: str, _key: str) -> None:
        nonlocal seen
        seen += name == operation
        if name == operation and seen >= number:
            box[0].cancel()
            await asyncio.Event().wait()

    async def run() -> None:
        with suppress(asyncio.CancelledError):
            async with asyncio.TaskGroup() as group:
                box.append(group.create_task(pair.sync(concurrency=2, part_size=PART, **options)))

    if after:
        pair.destination.lose = kill
    else:
        pair.destination.fault = kill
    asyncio.run(run())
    pair.destination.fault = pair.destination.lose = None
    assert seen >= number
    pair.destination.calls.clear()
    pair.source.calls.clear()


def unfinished(pair: Pair) -> list[str]:
    """Keys of the uploads that the destination holds parts of."""
    return [upload.key for upload in pair.destination.service.uploads.values() if upload.finished is None]


def notices(pair: Pair) -> str:
    return " ".join(event.text for event in pair.events if isinstance(event, Notice))


def refuse(operation: str, error: type[ObjectError | TransientError] = PermanentError) -> Callable[[str, str], None]:
    """A hook that lets an operation fail."""

    def fault(name: str, _key: str) -> None:
        if name == operation:
            raise error("told so")

    return fault


@every_pair
def test_large_object_goes_on_where_it_was(tmp_path: Path, kinds: tuple[str, str]) -> None:
    """Killed at its last part, only what was not acknowledged is sent again."""
    pair = Pair(tmp_path / "s", kinds)
    pair.put("large", DATA)
    run_killed(pair, "write_part", 3)

    report = pair.run(part_size=PART)

    assert report.exit_code == 0
    pair.assert_equal()
    assert pair.destination.calls["begin_upload"] == 0
    assert pair.destination.calls["write_part"] <= 3
    assert unfinished(pair) == []


@every_pair
@pytest.mark.parametrize("operation", ["write_part", "complete"])
def test_object_that_was_finished_unseen_is_not_sent_again(tmp_path: Path, kinds: tuple[str, str], operation: str) -> None:
    """Killed when the last request had taken effect, the next run finds the object at the destination."""
    pair = Pair(tmp_path / "s", kinds)
    pair.put("large", DATA)
    run_killed(pair, operation, 3 if operation == "write_part" else 1, after=True)

    report = pair.run(part_size=PART)

    assert (report.exit_code, report.totals.copied) == (0, 1)
    pair.assert_equal()
    assert pair.destination.calls["begin_upload"] == 0
    assert pair.destination.calls["write_part"] <= 1


@both_destinations
def test_dead_upload_begins_anew(tmp_path: Path, kinds: tuple[str, str]) -> None:
    """A session or upload that the provider has forgotten is begun afresh, after a look at the destination."""
    pair = Pair(tmp_path / "s", kinds)
    pair.put("large", DATA)
    run_killed(pair, "write_part", 3)
    pair.destination.service.uploads.clear()

    assert pair.run(part_size=PART).exit_code == 0
    pair.assert_equal()
    assert pair.destination.calls["stat"] == 1
    assert pair.destination.calls["begin_upload"] == 1


@both_destinations
def test_source_that_changed_meanwhile_is_begun_anew(tmp_path: Path, kinds: tuple[str, str]) -> None:
    """The upload of the old content is aborted, no part of it is used."""
    pair = Pair(tmp_path / "s", kinds)
    pair.put("large", DATA)
    run_killed(pair, "write_part", 3)
    pair.put("large", OTHER)

    assert pair.run(part_size=PART).exit_code == 0
    pair.assert_equal()
    assert unfinished(pair) == []


@both_destinations
def test_source_that_vanished_meanwhile_leaves_no_upload(tmp_path: Path, kinds: tuple[str, str]) -> None:
    """Nobody will complete it, so it is aborted, and that is said."""
    pair = Pair(tmp_path / "s", kinds)
    pair.put("large", DATA)
    pair.put("other", b"x")
    run_killed(pair, "write_part", 3)
    pair.source.bucket.delete("large")

    report = pair.run(part_size=PART)

    assert (report.exit_code, report.totals.skipped) == (0, 1)
    assert unfinished(pair) == []


@both_destinations
@pytest.mark.parametrize("moment", ["begin_upload", "write_part"])
def test_restart_aborts_what_the_old_run_had_begun(tmp_path: Path, kinds: tuple[str, str], moment: str) -> None:
    """--restart forgets the unfinished run, not its uploads; those of other people are left alone."""
    pair = Pair(tmp_path / "s", kinds)
    pair.put("large", DATA)
    run_killed(pair, moment, 2 if moment == "write_part" else 1, after=True)
    theirs = asyncio.run(
        pair.destination.begin_upload(
            "large", Metadata(), size=len(DATA), part_size=PART, source_token="t", nonce="n", replaces=None
        )
    )
    lost = moment == "begin_upload"  # killed before its id was known to anybody

    assert pair.run(part_size=PART, restart=True).exit_code == 0
    pair.assert_equal()
    assert theirs.state.id in pair.destination.service.uploads
    assert unfinished(pair) == ["large"] * (2 if lost else 1)
    assert lost or "1 unfinished uploads that nobody will complete were aborted" in notices(pair)


@both_destinations
def test_upload_that_may_not_be_aborted_is_kept_in_mind(tmp_path: Path, kinds: tuple[str, str]) -> None:
    """Without the permission to abort, the object is copied all the same; the upload is named, and aborted once that is allowed."""
    pair = Pair(tmp_path / "s", kinds)
    pair.put("large", DATA)
    run_killed(pair, "write_part", 3)
    pair.put("large", OTHER)
    pair.destination.fault = refuse("abort")

    assert pair.run(part_size=PART).exit_code == 0
    pair.assert_equal()
    assert unfinished(pair) == ["large"]
    assert "could not be aborted" in notices(pair)
    assert "told so" in notices(pair)

    pair.destination.fault = None
    pair.events.clear()
    assert pair.run(part_size=PART).exit_code == 0
    assert unfinished(pair) == []
    assert "1 unfinished uploads" in notices(pair)


def test_abort_that_fails_in_passing_for_ever_holds_nobody_up(tmp_path: Path) -> None:
    """A server that answers 503 to every abort does not keep the run from ending."""
    pair = Pair(tmp_path / "s", ("gs", "s3"))
    for number in range(6):
        pair.put(f"large{number}", DATA)
    run_killed(pair, "write_part", 3)
    for number in range(6):
        pair.put(f"large{number}", OTHER)
    pair.destination.fault = refuse("abort", TransientError)

    assert pair.run(part_size=PART).exit_code == 0
    pair.assert_equal()
    assert len(unfinished(pair)) == 6

    pair.destination.fault = None
    pair.run(part_size=PART)
    assert unfinished(pair) == []


def test_object_that_fails_leaves_no_upload(tmp_path: Path) -> None:
    """Refused for good in the middle, its upload is aborted."""
    pair = Pair(tmp_path / "s", ("gs", "s3"))
    pair.put("large", DATA)
    pair.destination.fault = refuse("complete")

    assert pair.run(part_size=PART).totals.failed == 1
    assert unfinished(pair) == []


@pytest.mark.parametrize("kinds", [("s3", "gs"), ("s3", "s3")], ids="-".join)
@pytest.mark.parametrize("part", [1, 2])
@pytest.mark.parametrize(("crc", "parted"), [("", 0), ("", PART), ("", PART // 2), ("crc32c", 0), ("crc64nvme", PART)])
def test_bytes_that_were_damaged_before_a_kill_are_found(
    tmp_path: Path, kinds: tuple[str, str], part: int, crc: str, parted: int
) -> None:
    """Whatever the source states of the whole: a part was read wrongly by the process that was killed, and it is sent anew."""
    pair = Pair(tmp_path / "s", kinds, crc=crc)
    pieces = [DATA[at : at + parted] for at in range(0, len(DATA), parted)] if parted else None
    pair.put("large", DATA, parts=pieces)
    read = pair.source.read

    async def read_wrongly(info, span):
        content = await read(info, span)
        if span is not None and span.start == (part - 1) * PART:
            content = content._replace(chunks=[b"\0" + b"".join(content.chunks)[1:]])
        return content

    pair.source.read = read_wrongly
    run_killed(pair, "write_part", 3, server_side_copy=False)
    pair.source.read = read

    assert pair.run(part_size=PART, server_side_copy=False).exit_code == 0
    pair.assert_equal()


def flip_one_read(pair: Pair) -> None:
    """Let the next read of a part come with a changed byte."""
    read = pair.source.read
    left = [True]

    async def read_wrongly(info: ObjectInfo, span: ByteRange | None = None) -> Content:
        content = await read(info, span)
        if span is None or not left:
            return content
        left.clear()
        first = content.chunks[0]
        return content._replace(chunks=[bytes([first[0] ^ 255]) + first[1:], *content.chunks[1:]])

    pair.source.read = read_wrongly


@pytest.mark.parametrize("stopped", [False, True])
def test_damage_that_was_in_doubt_when_the_attempt_ended_is_found_by_the_next(tmp_path: Path, stopped: bool) -> None:
    """All parts are there, one was read wrongly, and nobody could be asked whether the ETag says so: the next one asks again."""
    pair = Pair(tmp_path / "s", ("s3", "s3"), limits=SMALL_S3, crc="")
    data = DATA[:32768]
    pair.put("large", data, parts=[data[at : at + 8192] for at in range(0, len(data), 8192)])
    flip_one_read(pair)
    stop = asyncio.Event()
    asked = 0

    def fault(operation: str, _key: str) -> None:
        nonlocal asked
        asked += operation == "has_uniform_parts"
        if operation == "has_uniform_parts" and asked <= (1 if stopped else 8):
            if stopped:
                stop.set()
            raise TransientError("503")

    pair.source.fault = fault
    if stopped:
        assert asyncio.run(pair.sync(stop=stop, server_side_copy=False)).status == "stopped"

    assert pair.run(server_side_copy=False).status == "done"
    pair.assert_equal()
    assert asked >= (2 if stopped else 9)


@pytest.mark.parametrize("copied_first", [False, True])
def test_parts_that_were_sent_are_not_mixed_with_parts_that_the_provider_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied_first: bool
) -> None:
    """Those of the other way were never verified in this one, or have no digests: they are brought again."""
    pair = Pair(tmp_path / "s", ("s3", "s3"), shared=True, crc="")
    pair.put("large", DATA, parts=[DATA[at : at + PART] for at in range(0, len(DATA), PART)])
    apart = property(lambda store: f"memory:{id(store)}")
    together = MemoryStore.copy_domain
    monkeypatch.setattr(MemoryStore, "copy_domain", together if copied_first else apart)
    flip_one_read(pair)
    run_killed(pair, "copy_part" if copied_first else "write_part", 3)
    monkeypatch.setattr(MemoryStore, "copy_domain", apart if copied_first else together)

    assert pair.run(part_size=PART).status == "done"
    pair.assert_equal()
    assert pair.destination.calls["write_part" if copied_first else "copy_part"] >= 3


@pytest.mark.parametrize(("crc", "parted"), [("", 0), ("", PART), ("crc32c", 0), ("crc64nvme", PART)])
def test_finished_session_whose_source_is_then_read_wrongly_is_not_taken_for_somebody_elses(
    tmp_path: Path, crc: str, parted: int
) -> None:
    """Killed before its last part was recorded, and that part comes damaged now: the object there is our own, and replaced."""
    pair = Pair(tmp_path / "s", ("s3", "gs"), crc=crc)
    pair.put("large", DATA, parts=[DATA[at : at + parted] for at in range(0, len(DATA), parted)] if parted else None)
    run_killed(pair, "write_part", 3, after=True)
    flip_one_read(pair)

    report = pair.run(part_size=PART)

    assert (report.status, report.troubles) == ("done", [])
    pair.assert_equal()
    assert unfinished(pair) == []


def test_part_that_the_server_holds_otherwise_is_sent_again(tmp_path: Path) -> None:
    """Parts are compared with what the server lists; one that it lost is sent again."""
    pair = Pair(tmp_path / "s", ("gs", "s3"))
    pair.put("large", DATA)
    run_killed(pair, "write_part", 3)
    (upload,) = pair.destination.service.uploads.values()
    assert upload.parts.pop(min(upload.parts))

    assert pair.run(part_size=PART).exit_code == 0
    pair.assert_equal()
    assert pair.destination.calls["begin_upload"] == 0


@every_pair
def test_source_that_changed_after_an_unseen_write_is_brought_over(tmp_path: Path, kinds: tuple[str, str]) -> None:
    """The copy that a killed process had made of the old content is taken for ours, and replaced."""
    pair = Pair(tmp_path / "s", kinds)
    pair.put("small", b"old")
    run_killed(pair, "write", 1, after=True, server_side_copy=False)
    pair.put("small", b"new content")

    report = pair.run(part_size=PART, server_side_copy=False)

    assert (report.status, report.troubles) == ("done", [])
    pair.assert_equal()


@every_pair
def test_what_somebody_else_wrote_meanwhile_is_left_alone(tmp_path: Path, kinds: tuple[str, str]) -> None:
    """The same, but the object at the destination is no copy of the old content: it is reported."""
    pair = Pair(tmp_path / "s", kinds)
    pair.put("small", b"old")
    run_killed(pair, "write", 1, after=True, server_side_copy=False)
    pair.put("small", b"new content")
    pair.destination.bucket.put("small", b"theirs", Metadata())

    report = pair.run(part_size=PART, server_side_copy=False)

    assert [trouble.code for trouble in report.troubles] == ["destination-changed"]
    assert pair.destination.bucket.live("small").data == b"theirs"


def test_parts_share_commits_when_these_are_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part is committed before its worker goes on, but not each in a commit of its own; no part is in two of them."""
    pair = Pair(tmp_path / "s", ("gs", "s3"))
    pair.put("large", random.Random(3).randbytes(16 * PART))
    kept: list[int] = []
    save = Queue.save_upload

    async def slow(self: Queue, key: str, state: UploadState | None) -> None:
        await asyncio.sleep(0.1)
        kept.append(len(state.parts) if state else 0)
        await save(self, key, state)

    monkeypatch.setattr(Queue, "save_upload", slow)

    assert pair.run(part_size=PART).exit_code == 0
    pair.assert_equal()
    assert sum(kept) == 16
    assert len(kept) < 16
