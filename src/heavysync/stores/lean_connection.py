"""One HTTP/1.1 connection of the lean client: a request goes out, an answer comes in.

A connection carries one exchange at a time, and is used again only after one that went by the book to its last byte: the
whole request was sent, the whole answer came, nothing came beyond it, and the server keeps the connection. Whatever else
happens, the connection is cut. Bytes that nobody asked for cut it, too: they would pass for the next answer.
All of this runs in callbacks of the event loop; a request costs one future, no task and no timer (`lean.py` looks for those
that hang).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from heavysync.stores.exchange import PIECE, PROGRESS, Response
from heavysync.stores.lean_answer import IDLE_S, Answer, BrokenError
from heavysync.stores.quiet import quietness_of

if TYPE_CHECKING:
    from heavysync.stores.lean_pool import Pool

_JOINED = 1 << 16  # bytes of a body up to which it is copied behind the head


class Connection(asyncio.BufferedProtocol):
    """See the module.

    Args:
        buffer: what is read into; all connections of a loop share it, since nothing outlives the callback.
        pool: that it belongs to.
        lost: is called when the connection is gone.
        sock: that the event loop is going to have; only looked at.

    Attributes:
        is_open: it is connected.
        is_reused: it has carried an exchange before the one under way.
        idle_at: seconds of the loop's clock at which it became idle.
        keeps_s: seconds for which it may be idle.
        noted: what `moved` was when somebody looked.
        noted_at: when that was; 0: nobody has looked yet.
        stall_s: seconds without progress that end the exchange.
        answered: whether a byte of an answer came in the last exchange.
        is_quiet: tells whether nothing waits to be read: neither bytes that nobody asked for nor the end.
    """

    __slots__ = (
        "_answer",
        "_buffer",
        "_is_cut",
        "_is_paused",
        "_is_sent",
        "_is_uvloop",
        "_loop",
        "_lost",
        "_transport",
        "_waiter",
        "answered",
        "idle_at",
        "is_open",
        "is_quiet",
        "is_reused",
        "keeps_s",
        "noted",
        "noted_at",
        "pool",
        "stall_s",
    )

    def __init__(self, buffer: memoryview, pool: Pool, lost: Callable[[Connection], None], sock: socket.socket) -> None:
        self._buffer = buffer
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._answer: Answer | None = None
        self._is_cut = self._is_paused = self._is_sent = self._is_uvloop = False
        self.pool = pool
        self.is_quiet = quietness_of(sock)
        self.is_open = self.is_reused = self.answered = False
        self.idle_at = self.noted_at = self.stall_s = 0.0
        self.keeps_s = IDLE_S
        self.noted = 0

    # what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected, with TLS where that is spoken."""
        self._transport = cast("asyncio.Transport", transport)
        # pause_writing means then: something is not sent yet. Plain transports pause above the mark, TLS at the mark.
        mark = 0 if transport.get_extra_info("sslcontext") is None else 1
        self._transport.set_write_buffer_limits(high=mark, low=0)
        self._is_uvloop = type(transport).__module__.startswith("uvloop")
        self.is_open = True

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop gives it
        """Where bytes go."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came."""
        answer = self._answer
        if answer is None:
            self.cut()
            return
        answer.feed(self._buffer[:nbytes])
        if answer.has_surplus:
            self.cut()
        if answer.is_over or not self._is_sent:
            self._wake()

    def eof_received(self) -> bool:
        """The server will send no more."""
        self._is_cut = True
        if self._answer is not None:
            self._answer.end()
            self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self.is_open = False
        self.fail(BrokenError("the server closed the connection" if exc is None else f"{type(exc).__name__}: {exc}"))
        self._lost(self)

    def pause_writing(self) -> None:
        """Something is not sent yet."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """All is sent."""
        self._is_paused = False
        self._wake()

    # what the client calls

    @property
    def is_fit(self) -> bool:
        """Whether it may be used again."""
        return self.is_open and not self._is_cut and not self._is_paused

    @property
    def moved(self) -> int:
        """Bytes of progress of the exchange under way; grows."""
        return 0 if self._answer is None else self._answer.moved

    async def exchange(self, method: str, head: bytes, body: Sequence[bytes], size: int, limit: int) -> Response:
        """Send one request and read its answer; whatever ends it before that cuts the connection.

        Args:
            method: upper case.
            head: of the request.
            body: its chunks.
            size: their bytes.
            limit: most bytes of the answer's body.

        Raises:
            BrokenError: what went wrong.
        """
        self._answer = answer = Answer(limit, is_to_head=method == "HEAD")
        self._is_sent = False
        try:
            if self._is_cut or not self.is_open:
                self.fail(BrokenError("the server closed the connection"))
            elif size <= _JOINED:
                self._transport.write(b"".join((head, *body)) if size else head)
                self._is_sent = True
            else:
                await self._send(answer, head, body)
            while not answer.is_over:
                self._waiter = self._loop.create_future()
                await self._waiter
        finally:
            self._waiter = self._answer = None
            self.answered = answer.has_begun
            answer.release()
            if not (answer.is_over and answer.failure is None and answer.keeps and self._is_sent):  # not over: cancelled
                self.cut()
        failure, answer.failure = answer.failure, None
        if failure is None and not self._is_sent and answer.status < 300:  # 3xx and above may come early, and count
            failure = BrokenError("the server said yes before it had the whole request: that answers another one")
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # or what had come so far would stay, in a cycle of traceback, frame and error
        self.keeps_s = answer.keeps_s
        return Response(answer.status, answer.headers, answer.chunks)

    def fail(self, failure: BrokenError) -> None:
        """End the exchange under way, if there is one."""
        if self._answer is not None and not self._answer.is_over:
            self._answer.fail(failure)
            self.cut()
            self._wake()

    def cut(self) -> None:
        """Close the connection at once, whatever is under way on it."""
        self._is_cut = True
        if self.is_open:
            self._transport.abort()

    # within

    async def _send(self, answer: Answer, head: bytes, body: Sequence[bytes]) -> None:
        """Send in pieces, as the server takes them; stop when it answers that it does not want it."""
        for piece in _pieces(head, body):
            if answer.is_over or answer.status >= 300:
                return
            self._write(piece)
            while self._is_paused:
                if answer.is_over or answer.status >= 300:
                    return
                self._waiter = self._loop.create_future()
                await self._waiter
            answer.moved += PROGRESS
        self._is_sent = True

    def _write(self, piece: Sequence[bytes | memoryview]) -> None:
        """Hand a piece to the loop.

        In Python 3.12.1 and 3.13.0 `writelines` of asyncio's own loop does not say when that is too much.
        Source: https://github.com/python/cpython/issues/127655
        """
        if self._is_uvloop:
            self._transport.writelines(piece)
            return
        for part in piece:
            self._transport.write(part)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _pieces(head: bytes, body: Sequence[bytes]) -> list[list[bytes | memoryview]]:
    """Head and chunks in groups of about PIECE bytes; nothing is copied."""
    groups: list[list[bytes | memoryview]] = [[head]]
    size = 0
    for chunk in body:
        for start in range(0, len(chunk), PIECE):
            part = chunk if len(chunk) <= PIECE else memoryview(chunk)[start : start + PIECE]
            if size and size + len(part) > PIECE:
                groups.append([])
                size = 0
            groups[-1].append(part)
            size += len(part)
    return groups
