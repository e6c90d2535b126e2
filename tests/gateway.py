"""A gateway before an S3 server: counts what goes through byte for byte, and answers or cuts what a test asks for."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import parse_qs, unquote

_SUBRESOURCES = ("versioning", "location", "encryption", "object-lock", "policy", "acl")


class Seen(NamedTuple):
    """One request: its operation in the words of `operation_of`, the decoded key, and what was sent."""

    operation: str
    key: str
    method: str
    target: str
    headers: dict[str, str]


@dataclass(slots=True, kw_only=True)
class Fault:
    """What happens to matching requests.

    Args:
        operation: as in `Seen`; "" matches all.
        key: the decoded key; "" matches all.
        answer: bytes sent instead of passing the request on; None: pass it on.
        cut: bytes of the real answer after which the connection ends; None: all of it.
        delay_s: seconds before anything else happens.
        skip: so many matching requests pass first.
        count: so many are hit; None: all.
    """

    operation: str = ""
    key: str = ""
    answer: bytes | None = None
    cut: int | None = None
    delay_s: float = 0.0
    skip: int = 0
    count: int | None = 1
    fired: int = 0

    def hits(self, seen: Seen) -> bool:
        """Whether this request is hit; counts it."""
        if self.operation not in {"", seen.operation} or self.key not in {"", seen.key}:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.count is not None and self.fired >= self.count:
            return False
        self.fired += 1
        return True


def http_answer(status: int, body: bytes = b"", content_type: str = "application/xml") -> bytes:
    """An answer as it goes over the wire."""
    head = f"HTTP/1.1 {status} Told so\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def s3_error(status: int, code: str) -> bytes:
    """An error as S3 tells it."""
    return http_answer(status, f"<Error><Code>{code}</Code><Message>told so</Message></Error>".encode())


_LAST_PART = "10000"  # by which heavysync asks whether a server checks CRCs; no object of a test has so many


def operation_of(method: str, target: str, headers: dict[str, str]) -> tuple[str, str]:
    """The operation and the decoded key of an S3 request in path style."""
    path, _, raw_query = target.partition("?")
    query = parse_qs(raw_query, keep_blank_values=True)
    _, _, raw_key = path[1:].partition("/")
    key = unquote(raw_key)
    if not key:
        if method == "GET" and "list-type" in query:
            return "list", ""
        if method == "GET" and "versions" in query:
            return "list versions", ""
        if method == "POST" and "delete" in query:
            return "delete", ""
        return "bucket", ""
    copies = "x-amz-copy-source" in headers
    part = "copy part" if copies else "question" if query.get("partNumber") == [_LAST_PART] else "part"
    names = {
        "GET": "get",
        "HEAD": "stat",
        "DELETE": "abort" if "uploadId" in query else "delete",
        "POST": "create" if "uploads" in query else "complete",
        "PUT": part if "partNumber" in query else ("copy" if copies else "put"),
    }
    return names[method], key


class Gateway:
    """See the module. Made by `gateway`.

    Args:
        upstream: host and port of the server.
    """

    def __init__(self, upstream: tuple[str, int]) -> None:
        self._upstream = upstream
        self.url = ""
        self.seen: list[Seen] = []
        self.faults: list[Fault] = []
        self.rewrite: Callable[[str], str] = str
        self.connections: set[asyncio.Task[None]] = set()

    @property
    def counts(self) -> Counter[str]:
        """Requests by operation."""
        return Counter(seen.operation for seen in self.seen)

    def forget(self) -> None:
        """Start counting anew, without faults."""
        self.seen, self.faults, self.rewrite = [], [], str

    def fail(self, **how: object) -> None:
        """Add a fault; the first that hits decides."""
        self.faults.append(Fault(**how))  # type: ignore[arg-type]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client connection over one connection to the server."""
        task = asyncio.current_task()
        assert task is not None
        self.connections.add(task)  # asyncio itself holds it weakly
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            try:
                await self._relay(reader, writer)
            finally:
                self.connections.discard(task)
                await _close(writer)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            method, target, headers = _parse(head)
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            seen = Seen(*operation_of(method, target, headers), method, target, headers)
            self.seen.append(seen)
            fault = next((fault for fault in self.faults if fault.hits(seen)), Fault())
            if fault.delay_s:
                await asyncio.sleep(fault.delay_s)
            if fault.answer is not None:
                writer.write(fault.answer)
                await writer.drain()
                continue
            line, _, rest = head.partition(b"\r\n")
            line = line.replace(target.encode(), self.rewrite(target).encode())
            rest = rest.replace(b"\r\nConnection: keep-alive", b"")
            answer = await self._ask(line + b"\r\nConnection: close\r\n" + rest + body)
            writer.write(answer[: fault.cut])
            await writer.drain()
            if fault.cut is not None or b"content-length" not in answer.partition(b"\r\n\r\n")[0].lower():
                return

    async def _ask(self, request: bytes) -> bytes:
        """Send a request on a connection of its own; answer all that comes back, without its `Connection: close`."""
        reader, writer = await asyncio.open_connection(*self._upstream)
        try:
            writer.write(request)
            answer = await reader.read(-1)
        finally:
            await _close(writer)
        head, mark, body = answer.partition(b"\r\n\r\n")
        kept = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        kept[0] = kept[0].replace(b"HTTP/1.0", b"HTTP/1.1")
        return b"\r\n".join(kept) + mark + body


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _parse(head: bytes) -> tuple[str, str, dict[str, str]]:
    line, *fields = head.decode("latin-1").split("\r\n")
    method, target, _ = line.split(" ")
    pairs = (field.partition(":") for field in fields if field)
    return method, target, {name.lower(): value.strip() for name, _, value in pairs}


@contextlib.contextmanager
def gateway(upstream: str) -> Iterator[Gateway]:
    """Run a gateway before the server at the URL `upstream`, in a thread of its own."""
    host, _, port = upstream.removeprefix("http://").partition(":")
    door = Gateway((host, int(port)))
    started, loop_box = threading.Event(), {}

    async def main() -> None:
        ended = asyncio.Event()
        server = await asyncio.start_server(door.serve, "127.0.0.1", 0, limit=1 << 20)
        door.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        loop_box["end"] = (asyncio.get_running_loop(), ended)
        started.set()
        await ended.wait()
        server.close()
        for task in door.connections:
            task.cancel()
        await server.wait_closed()

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield door
    finally:
        loop, ended = loop_box["end"]
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
