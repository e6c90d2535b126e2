"""HTTP/1.1 for a benchmark: the least work for each request that well-behaved clients can live with.

A body of known length is received straight into the buffer that will be stored; a large answer is sent in slices as the
client takes them. There is no pipelining, and no defence against hostile clients.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from email.utils import formatdate
from typing import Any, NamedTuple, Protocol

Chunk = bytes | bytearray | memoryview

_HEAD_BUFFER = 1 << 18
_SLICE = 1 << 18
_WHOLE = 1 << 18  # answers up to this are written at once
_TICK_S = 0.005  # bandwidth is kept in steps of this

REASONS = {
    200: "OK",
    201: "Created",
    204: "No Content",
    206: "Partial Content",
    304: "Not Modified",
    308: "Resume Incomplete",
    400: "Bad Request",
    404: "Not Found",
    409: "Conflict",
    411: "Length Required",
    412: "Precondition Failed",
    416: "Range Not Satisfiable",
    499: "Client Closed Request",
    501: "Not Implemented",
}


class Request(NamedTuple):
    """One request.

    Attributes:
        method: as sent.
        target: path and query, as sent.
        headers: names in lower case.
        body: all of it, unchunked.
        base: the URL of the server as this connection sees it.
    """

    method: str
    target: str
    headers: dict[str, str]
    body: Chunk
    base: str


class Answer(NamedTuple):
    """One answer.

    Attributes:
        status: HTTP status.
        headers: lines, each ended by CR LF; not Content-Length.
        body: in pieces.
        size: the Content-Length of an answer without a body (HEAD); None: what the body has.
    """

    status: int = 200
    headers: str = ""
    body: Sequence[Chunk] = ()
    size: int | None = None


class Service(Protocol):
    """What answers requests."""

    def answer(self, request: Request) -> Answer:
        """Answer one request; it is never suspended."""


class Pace:
    """How slow the server pretends to be; may be changed while it runs.

    Attributes:
        latency_s: before every answer.
        bandwidth: bytes per second of one connection and direction; 0: as fast as it goes.
    """

    def __init__(self) -> None:
        self.latency_s = 0.0
        self.bandwidth = 0.0


class Clock:
    """The text of the Date header, made once a second."""

    def __init__(self) -> None:
        self._at = 0
        self._text = ""

    def __call__(self) -> str:
        now = int(time.time())
        if now != self._at:
            self._at, self._text = now, formatdate(now, usegmt=True)
        return self._text


class Connection(asyncio.BufferedProtocol):
    """One connection of a client."""

    _clock = Clock()
    _shared = memoryview(bytearray(_HEAD_BUFFER))  # all connections': what is read is taken out before the next read

    def __init__(self, service: Service, pace: Pace, scheme: str) -> None:
        self._service = service
        self._pace = pace
        self._scheme = scheme
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._pending = b""
        self._head: tuple[str, str, dict[str, str]] | None = None
        self._body: bytearray | None = None
        self._view: memoryview | None = None
        self._at = 0
        self._chunked: bytearray | None = None
        self._rest: list[memoryview] = []
        self._is_paused = False
        self._free_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._rest.clear()
        self._transport = None
        self._view = self._body = None

    # reading

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return self._shared if self._view is None else self._view[self._at :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._view is not None and self._body is not None:
            self._at += nbytes
            if self._pace.bandwidth:
                self._hold_back(nbytes)
            if self._at == len(self._body):
                self._finish(self._body)
            return
        data = bytes(self._shared[:nbytes])
        if self._chunked is not None:
            self._chunked += data
            self._take_chunks()
            return
        self._feed(self._pending + data if self._pending else data)

    def _hold_back(self, nbytes: int) -> None:
        """Read no more until these bytes would have come at the bandwidth."""
        now = self._loop.time()
        self._free_at = max(self._free_at, now) + nbytes / self._pace.bandwidth
        if self._free_at - now > _TICK_S:
            self._transport.pause_reading()
            self._loop.call_later(self._free_at - now, self._read_on)

    def _read_on(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def _feed(self, data: bytes) -> None:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._pending = data
            return
        self._pending = b""
        lines = data[:end].decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        rest = data[end + 4 :]
        length = headers.get("content-length")
        if length is None and "transfer-encoding" not in headers:
            self._answer(Request(method, target, headers, b"", self._base(headers)))
            return
        self._head = (method, target, headers)
        if "expect" in headers:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if length is None:
            self._chunked = bytearray(rest)
            self._take_chunks()
        elif int(length) == len(rest):
            self._finish(rest)
        else:
            self._body = bytearray(int(length))
            self._body[: len(rest)] = rest
            self._view, self._at = memoryview(self._body), len(rest)

    def _take_chunks(self) -> None:
        """Finish the request once its chunked body has come; `_chunked` holds it raw."""
        raw = self._chunked
        if raw is None or not raw.endswith(b"\r\n\r\n"):
            return
        body = unchunked(raw)
        if body is not None:
            self._chunked = None
            self._finish(body)

    def _finish(self, body: Chunk) -> None:
        assert self._head is not None
        method, target, headers = self._head
        self._head = self._body = self._view = None
        if "aws-chunked" in headers.get("content-encoding", "") or headers.get("x-amz-content-sha256", "")[:9] == "STREAMING":
            body = unchunked(body, partial=True) or b""
        self._answer(Request(method, target, headers, body, self._base(headers)))

    def _base(self, headers: dict[str, str]) -> str:
        return f"{self._scheme}://{headers.get('host', '')}"

    # answering

    def _answer(self, request: Request) -> None:
        try:
            answer = self._service.answer(request)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            answer = Answer(501, "", (f"this server cannot: {error!r}\n".encode(),))
            print(f"{request.method} {request.target}: {error!r}", file=sys.stderr, flush=True)
        wait = self._pace.latency_s
        if self._pace.bandwidth:
            wait += max(0.0, self._free_at - self._loop.time())
        if wait:
            self._loop.call_later(wait, self._send, answer)
        else:
            self._send(answer)

    def _send(self, answer: Answer) -> None:
        if self._transport is None:
            return
        status, lines, body, size = answer
        if size is None:
            size = sum(map(len, body))
        length = "" if status in {204, 304} else f"Content-Length: {size}\r\n"
        head = f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}\r\nDate: {self._clock()}\r\n{length}{lines}\r\n"
        raw = head.encode("utf-8")
        if size <= _WHOLE or not body:
            self._transport.write(b"".join((raw, *body)))
            return
        self._transport.write(raw)
        views = [memoryview(piece) for piece in body]
        self._rest = [view[at : at + _SLICE] for view in views for at in range(0, len(view), _SLICE)]
        self._rest.reverse()
        self._free_at = self._loop.time()
        self._pump()

    def _pump(self) -> None:
        """Send slices while the client takes them."""
        while self._rest and not self._is_paused and self._transport is not None:
            piece = self._rest.pop()
            self._transport.write(piece)
            if self._pace.bandwidth:
                self._free_at += len(piece) / self._pace.bandwidth
                wait = self._free_at - self._loop.time()
                if wait > _TICK_S:
                    self._loop.call_later(wait, self._pump)
                    return

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._pump()


def unchunked(raw: Chunk, *, partial: bool = False) -> bytes | None:
    """Take a chunked body apart; None where its last chunk has not come. `partial`: it may end without a trailer's end."""
    pieces: list[bytes] = []
    data = bytes(raw)
    at = 0
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        size = int(data[at:end].partition(b";")[0], 16)
        if size == 0:
            return b"".join(pieces) if partial or data.find(b"\r\n\r\n", end - 2) >= 0 else None
        if end + 2 + size > len(data):
            return None
        pieces.append(data[end + 2 : end + 2 + size])
        at = end + 4 + size


Factory = Callable[[], Connection]
