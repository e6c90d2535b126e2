"""Large objects: how many parts are under way, which digests are computed, and what holds when only the provider can check."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from heavysync.checksums import PartHasher, digest
from heavysync.objects import ByteRange, Content, Digests, ObjectInfo, Part, PartDone, Written
from heavysync.stores.memory_upload import MemoryUpload
from heavysync.transfer import large
from pairs import SMALL_S3, Pair

MIB = 1 << 20
PART = 5 * MIB
DATA = random.Random(1).randbytes(2 * PART + MIB)

Read = Callable[..., Awaitable[Content]]


class Flow:
    """What is under way at a pair, with waits that let others run.

    Args:
        pair: its reads and writes of parts take time.
        part_size: bytes.
        slow: sleeps of a write; a read takes one.
    """

    def __init__(self, pair: Pair, *, part_size: int = PART, slow: int = 1) -> None:
        self.log: list[tuple[str, int]] = []
        self.most = 0
        self._now = 0
        read: Read = pair.source.read
        write_part = MemoryUpload.write_part

        async def slow_read(info: ObjectInfo, span: ByteRange | None = None) -> Content:
            number = 0 if span is None else 1 + span.start // part_size
            self._now += 1
            self.most = max(self.most, self._now)
            self.log.append(("read", number))
            await asyncio.sleep(0.005)
            return await read(info, span)

        async def slow_write(upload: MemoryUpload, part: Part, content: Content, digests: Digests, **more: bytes) -> PartDone:
            self.log.append(("write", part.number))
            await asyncio.sleep(0.005 * slow)
            done = await write_part(upload, part, content, digests, **more)
            self.log.append(("written", part.number))
            self._now -= 1
            return done

        pair.source.read = slow_read
        self.write_part = slow_write


@pytest.fixture
def slow_parts(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Flow]:
    def make(pair: Pair, **how: int) -> Flow:
        flow = Flow(pair, **how)
        monkeypatch.setattr(MemoryUpload, "write_part", flow.write_part)
        return flow

    return make


def test_next_part_is_read_while_the_last_is_written(tmp_path: Path, slow_parts: Callable[..., Flow]) -> None:
    """A session takes one part after the other: each but the first is at hand when its turn comes, and few are."""
    pair = Pair(tmp_path / "s", ("gs", "gs"))
    pair.put("large", bytes(6 * PART))
    flow = slow_parts(pair, slow=3)

    assert pair.run(part_size=PART, server_side_copy=False).status == "done"
    pair.assert_equal()
    writes = [entry for entry in flow.log if entry[0] != "read"]
    assert writes == [(what, number) for number in range(1, 7) for what in ("write", "written")]
    for number in range(1, 6):
        assert flow.log.index(("read", number + 1)) < flow.log.index(("written", number))
    assert flow.most <= large.IN_ORDER_PARTS


def a_large_one(directory: Path, parts: int, part_size: int) -> Pair:
    """A pair of S3 stores, and a source object in parts that are kept."""
    pair = Pair(directory / "s", ("s3", "s3"), limits=SMALL_S3)
    pair.put("large", bytes(parts * part_size), parts=[bytes(part_size)] * parts)
    return pair


@pytest.mark.parametrize(("memory", "part_size", "expected"), [(512, 1, 16), (24, 1, 12), (16, 1, 8), (16, 4, 4)])
def test_parts_of_a_lonely_object_share_half_of_the_memory(
    tmp_path: Path, slow_parts: Callable[..., Flow], memory: int, part_size: int, expected: int
) -> None:
    """To S3 there are as many under way as that gives, between 8 and 16, and never more than there is memory (all in MiB)."""
    pair = a_large_one(tmp_path, 24 // part_size, part_size * MIB)
    flow = slow_parts(pair, part_size=part_size * MIB)

    assert pair.run(memory=memory * MIB, server_side_copy=False).status == "done"
    pair.assert_equal()
    assert flow.most == expected


def test_small_objects_do_not_wait_for_a_large_one(tmp_path: Path, slow_parts: Callable[..., Flow]) -> None:
    """Memory goes to who asked first, and a large object asks for one part at a time."""
    pair = a_large_one(tmp_path, 60, MIB)
    for number in range(9):
        pair.put(f"small{number}", bytes(1000))
    flow = slow_parts(pair, part_size=MIB, slow=4)

    assert pair.run(memory=16 * MIB, concurrency=4, server_side_copy=False).status == "done"
    pair.assert_equal()
    last_small = max(at for at, entry in enumerate(flow.log) if entry == ("read", 0))
    assert sum(entry[0] == "written" for entry in flow.log[:last_small]) < 45


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that an md5 was computed of while copying."""
    sizes: list[int] = []
    update = PartHasher.update

    def counting(chunks: Sequence[bytes]) -> Digests:
        sizes.append(sum(map(len, chunks)))
        return digest(chunks)

    def counted(self: PartHasher, chunks: Sequence[bytes]) -> None:
        sizes.append(sum(map(len, chunks)))
        update(self, chunks)

    monkeypatch.setattr("heavysync.hashing.digest", counting)
    monkeypatch.setattr(PartHasher, "update", counted)
    return sizes


@pytest.mark.parametrize(
    ("kinds", "crc", "parted", "times"),
    [
        ("gs gs", "", 0, 0),
        ("s3 gs", "", 0, 0),  # the session holds the whole against the md5 that the source states
        ("s3 gs", "", PART, 1),
        ("s3 gs", "", PART // 2, 1),
        ("s3 gs", "crc64nvme", PART, 0),
        ("s3 gs", "crc32c", PART // 2, 0),
        ("gs s3", "", 0, 1),
        ("s3 s3", "", PART, 1),
        ("s3 s3", "", 0, 2),
        ("s3 s3", "crc64nvme", 0, 1),
    ],
)
def test_no_byte_is_hashed_oftener_than_need_be(
    tmp_path: Path, hashed: list[int], kinds: str, crc: str, parted: int, times: int
) -> None:
    """How often each byte goes through an md5: once for parts to S3, once where nothing cheaper proves the source."""
    pair = Pair(tmp_path / "s", (kinds[:2], kinds[3:]), crc=crc)
    pieces = [DATA[at : at + parted] for at in range(0, len(DATA), parted)] if parted else None
    pair.put("large", DATA, parts=pieces)

    assert pair.run(part_size=PART, server_side_copy=False).status == "done"
    pair.assert_equal()
    assert sum(hashed) == times * len(DATA)


def flip_first_part(pair: Pair, times: int) -> None:
    """Let the first part come with a changed byte so often."""
    read: Read = pair.source.read
    left = [times]

    async def read_wrongly(info: ObjectInfo, span: ByteRange | None = None) -> Content:
        content = await read(info, span)
        if span is None or span.start or not left[0]:
            return content
        left[0] -= 1
        return content._replace(chunks=[b"\0" + b"".join(content.chunks)[1:]])

    pair.source.read = read_wrongly


@pytest.mark.parametrize(
    ("kinds", "crc"), [("s3 gs", ""), ("s3 s3", ""), ("s3 gs", "crc64nvme"), ("s3 s3", "crc32c"), ("gs s3", ""), ("gs gs", "")]
)
@pytest.mark.parametrize("times", [1, 100])
def test_damaged_part_never_becomes_a_copy(tmp_path: Path, kinds: str, crc: str, times: int) -> None:
    """Whoever checks the whole: read wrongly once it is copied anew, read wrongly always it fails, and nothing appears."""
    pair = Pair(tmp_path / "s", (kinds[:2], kinds[3:]), crc=crc)
    pair.put("large", DATA)
    flip_first_part(pair, times)

    report = pair.run(part_size=PART, server_side_copy=False)

    if times == 1:
        assert (report.status, report.totals.copied) == ("done", 1)
        pair.assert_equal()
        assert len(pair.destination.bucket.rows["large"]) == 1
    else:
        assert (report.status, [trouble.code for trouble in report.troubles]) == ("failed", ["corrupt"])
        assert list(pair.destination.bucket.live_rows("", "")) == []
    assert [upload for upload in pair.destination.service.uploads.values() if upload.finished is None] == []


def test_session_that_looks_at_no_md5_is_not_relied_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a damaged part and says nothing of what it has: the object is hashed here, and what appeared is replaced."""
    pair = Pair(tmp_path / "s", ("s3", "gs"), crc="")
    pair.put("large", DATA)
    flip_first_part(pair, 1)
    complete = MemoryUpload.complete

    async def say_little(self: MemoryUpload, digests: Digests | None) -> Written:
        return (await complete(self, digests and digests._replace(md5=b"")))._replace(md5=None)

    monkeypatch.setattr(MemoryUpload, "complete", say_little)
    monkeypatch.setattr(MemoryUpload, "_check_whole", lambda *_: None)

    report = pair.run(part_size=PART)

    assert (report.status, report.totals.copied) == ("done", 1)
    pair.assert_equal()
    assert pair.destination.calls["begin_upload"] == 2
