"""Damage to copies that no size shows: written over them, or silent as a failing disk does it, and servers that allow it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import random
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

from buckets import GcsBucket
from commands import Ended
from gateway import Gateway, operation_of

from heavysync.loopback import LoopbackGcs

SIZE = 200


class NearBucket(GcsBucket):
    """A bucket of a loopback server in this process: what is in it can be put and damaged without a request.

    Args:
        server: that it is on; started by `near_server`.
    """

    def __init__(self, server: LoopbackGcs, **how: Any) -> None:
        super().__init__(server.url, **how)
        self._server = server

    def fill(self, contents: dict[str, bytes]) -> None:
        """Write many objects."""
        for key, data in contents.items():
            encoding = {"contentEncoding": "gzip"} if data[:2] == b"\x1f\x8b" else {}
            self._server.put(self.name, key, data, contentType="text/plain", **encoding)

    def rot(self, key: str, data: bytes) -> None:
        """Change the bytes of an object and nothing else: digests and generation stay as they were."""
        stored = self._server.read(self.name, key)
        assert stored is not None
        stored.data = data


@contextlib.contextmanager
def near_server() -> Iterator[LoopbackGcs]:
    """Run a loopback server in a thread of this process."""
    box: list[tuple[LoopbackGcs, asyncio.AbstractEventLoop, asyncio.Event]] = []
    started = threading.Event()

    async def main() -> None:
        ended = asyncio.Event()
        async with LoopbackGcs() as server:
            box.append((server, asyncio.get_running_loop(), ended))
            started.set()
            await ended.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    assert started.wait(10)
    server, loop, ended = box[0]
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)


Filter = Callable[[bytes, bytes], bytes]
"""Makes what the client gets of a request and its answer."""


@contextlib.contextmanager
def between(door: Gateway, change: Filter, ask: Callable[[bytes], bytes] = bytes) -> Iterator[None]:
    """Let every request through the gateway be changed by `ask` and its answer by `change`, for the time of the block."""
    honest = door._ask

    async def changed(request: bytes) -> bytes:
        return change(request, await honest(ask(request)))

    door._ask = changed
    try:
        yield
    finally:
        del door._ask


def rotten(rot: dict[str, bytes], bucket: str) -> Filter:
    """Reads of the bucket's objects named in `rot` give those bytes; what the server states of them stays true of the old.

    The bytes are as many as the object has.
    """

    def change(request: bytes, answer: bytes) -> bytes:
        line = request.split(b"\r\n", 1)[0].decode("latin-1")
        method, target, _ = line.split(" ")
        operation, key = operation_of(method, target, {})
        if operation != "get" or key not in rot or target[1:].split("/")[0] != bucket:
            return answer
        head, mark, body = answer.partition(b"\r\n\r\n")
        found = re.search(rb"content-range: bytes (\d+)-", head, re.IGNORECASE)
        start = int(found[1]) if found else 0
        return head + mark + rot[key][start : start + len(body)]

    return change


class OpaqueEtags:
    """Lets every ETag of a server be another text of the same form, as where objects are encrypted with SSE-KMS.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html (ETag)
    """

    def __init__(self) -> None:
        self._real: dict[bytes, bytes] = {}

    def ask(self, request: bytes) -> bytes:
        """A request with the ETags that the server knows."""
        head, mark, body = request.partition(b"\r\n\r\n")
        head = re.sub(rb"(?i)\n[a-z-]*if-(?:none-)?match:[^\r]*", lambda match: self._reveal(match[0]), head)
        return head + mark + (self._reveal(body) if body[:1] == b"<" else body)

    def change(self, request: bytes, answer: bytes) -> bytes:
        """An answer with ETags that tell nothing."""
        head, mark, body = answer.partition(b"\r\n\r\n")
        head = re.sub(rb"(?i)(\netag: *\"?)([0-9a-f]{32})", self._hide, head)
        if b"\netag:" in head.lower() and b"x-amz-server-side-encryption:" not in head.lower():
            head += b"\r\nx-amz-server-side-encryption: aws:kms"  # moto does not say it of parts
        if b"xml" in head.lower():
            body = re.sub(rb"(<ETag>(?:\"|&quot;|&#34;)?)([0-9a-f]{32})", self._hide, body)
        return head + mark + body

    def _hide(self, match: re.Match[bytes]) -> bytes:
        fake = match[2][::-1].translate(bytes.maketrans(b"0123456789abcdef", b"fedcba9876543210"))
        self._real[fake] = match[2]
        return match[1] + fake

    def _reveal(self, text: bytes) -> bytes:
        return re.sub(rb"[0-9a-f]{32}", lambda match: self._real.get(match[0], match[0]), text)


def small_objects(count: int) -> dict[str, bytes]:
    """Keys and contents, all of one size but every tenth, which is packed by gzip."""
    noise = random.Random(11)
    found = {}
    for number in range(count):
        data = b"%08d" % number + noise.randbytes(SIZE - 8)
        found[f"dir{number % 7}/key-{number:06d}"] = gzip.compress(data, mtime=0) if number % 10 == 0 else data
    return found


def damages(contents: dict[str, bytes], each: int = 4) -> dict[str, bytes]:
    """Five kinds of damage to `each` objects; every object keeps its size.

    One flipped bit, two objects swapped, cut and padded, packed again by gzip (same content, same length), other content.
    """
    chosen = random.Random(5)
    packed = chosen.sample([key for key, data in contents.items() if data[:2] == b"\x1f\x8b"], each)
    plain = iter(chosen.sample([key for key, data in contents.items() if data[:2] != b"\x1f\x8b"], 4 * each))
    bad = {key: gzip.compress(gzip.decompress(contents[key]), mtime=1) for key in packed}
    for place in range(each):
        key = next(plain)
        bad[key] = flipped(contents[key], place * 60)
    for _ in range(each // 2):
        one, other = next(plain), next(plain)
        bad[one], bad[other] = contents[other], contents[one]
    for _ in range(each):
        key = next(plain)
        bad[key] = contents[key][: SIZE // 2].ljust(SIZE, b"\0")
    for _ in range(each):
        bad[next(plain)] = chosen.randbytes(SIZE)
    assert all(len(data) == len(contents[key]) and data != contents[key] for key, data in bad.items())
    return bad


def flipped(data: bytes, place: int = -1) -> bytes:
    """The same but for one bit."""
    changed = bytearray(data)
    changed[place] ^= 1
    return bytes(changed)


def verdicts(ended: Ended) -> dict[str, str]:
    """The verdict on every object, as the JSON lines tell it; none twice."""
    found = [line for line in ended.lines if line["event"] == "finding"]
    by_key = {line["key"]: line["verdict"] for line in found}
    assert len(found) == len(by_key)
    return by_key
