"""An answer of HTTP/1.1, made of bytes as they come: llhttp (by httptools) reads them, this keeps the account. Pure.

An answer is whole only if it said where it ends, and came to that end. All that a server could send without end is bounded:
heads, headers, trailers, answers 1xx, bodies. What comes beyond the end is surplus, and the connection must not be used again.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from heavysync.stores.exchange import ERROR_BODY_LIMIT, PROGRESS
from heavysync.stores.lean_head import read_headers

HEAD_LIMIT = 1 << 16
"""Bytes of a head with the 1xx before it, of trailers, and of what may stand between two pieces of a body."""

HEADERS_MOST = 2048
"""Headers of an answer; S3 keeps 2 KiB of user metadata, Google 8 KiB."""

IDLE_S = 15.0
"""Seconds for which an idle connection is kept, where the server does not say; aiohttp does the same."""

IDLE_MOST_S = 300.0

_SMALL = 4096  # bytes; a smaller chunk is joined with the one before it: its object would be larger than its bytes
_HEAD_END = b"\r\n\r\n"
_NO_BODY = frozenset({204, 304})


class BrokenError(Exception):
    """The exchange failed on the way; the message is for people, without the address."""


class TooMuchError(BrokenError):
    """More bytes came than were asked for.

    Args:
        limit: bytes that were asked for.
        headers: of the answer.
    """

    def __init__(self, limit: int, headers: Mapping[str, str]) -> None:
        super().__init__(f"more than {limit} bytes came")
        self.headers = headers


class StrictError(BrokenError):
    """The answer is none by the letter of HTTP/1.1."""


class Answer:
    """One answer; a new one for each request, so that nothing of an old one is left.

    Args:
        is_to_head: it answers a HEAD: no body comes, whatever the headers say.
        limit: most bytes of the body; error texts may have ERROR_BODY_LIMIT.

    Attributes:
        status: HTTP status; 0: the head is not complete yet.
        headers: of the answer.
        chunks: of the body.
        is_over: it is complete, or has failed.
        failure: why it has failed.
        has_surplus: bytes came that do not belong to it, or that make no sense.
        keeps: the server will answer another request on this connection.
        moved: bytes of progress, in both directions; grows.
        has_begun: a byte of it has come.
    """

    __slots__ = (
        "_is_interim",
        "_is_to_head",
        "_is_until_end",
        "_limit",
        "_pairs",
        "_parser",
        "_quiet",
        "_size",
        "chunks",
        "failure",
        "has_begun",
        "has_surplus",
        "headers",
        "is_over",
        "keeps",
        "moved",
        "status",
    )

    def __init__(self, limit: int, *, is_to_head: bool) -> None:
        self._is_to_head = is_to_head
        self._limit = limit
        self._pairs: list[tuple[bytes, bytes]] = []
        self._size = self._quiet = 0
        self._is_interim = self._is_until_end = False
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self.chunks: list[bytes] = []
        self.failure: BrokenError | None = None
        self.has_begun = self.has_surplus = self.is_over = self.keeps = False
        self.headers: Mapping[str, str] = _NONE
        self.moved = self.status = 0

    def feed(self, data: memoryview) -> None:
        """Take bytes in; `data` may be overwritten afterwards."""
        self.has_begun = True
        if self.is_over or self._parser is None:
            self.has_surplus = True
            return
        count = len(data)
        self._quiet += count
        before = len(self.chunks)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self.has_surplus = True
            self.fail(StrictError("the server wants to speak another protocol"))
        except HttpParserError as error:
            self.has_surplus = True
            self.fail(StrictError(f"no HTTP/1.1 as it should be ({error})"))
        if self.is_over:
            if self._is_to_head and data[-4:] != _HEAD_END:
                self.has_surplus = True
        elif self._quiet > HEAD_LIMIT:
            self.fail(BrokenError(f"the answer has a head or trailer of more than {HEAD_LIMIT} bytes"))
        elif count < _SMALL or len(self.chunks) > before + 1:
            self._join(before)

    def end(self) -> None:
        """The server sends no more: that ends the text of an error, and nothing else."""
        if not self.is_over and self._is_until_end:
            self.is_over = True
        self.fail(BrokenError("the server closed the connection"))

    def release(self) -> None:
        """Let go of the parser, which points back here: memory is freed at once then, not by the collector of cycles."""
        self._parser = None

    def fail(self, failure: BrokenError) -> None:
        """It ends here, unless it is over already."""
        if not self.is_over:
            self.is_over = True
            self.failure = failure

    @property
    def keeps_s(self) -> float:
        """Seconds for which the connection may be idle."""
        hint = self.headers.get("keep-alive")
        return IDLE_S if hint is None else _idle_time(hint)

    # what the parser calls

    def on_message_begin(self) -> None:
        """An answer begins: the first, one after a 1xx, or one that nobody asked for."""
        if self.is_over:
            self.has_surplus = True
        self._is_interim = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or a trailer: those are dropped, they could forge an ETag."""
        if not self.status:
            self._pairs.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is complete."""
        if self.is_over or self._parser is None:
            return
        pairs = self._pairs
        if len(pairs) > HEADERS_MOST:
            self.fail(BrokenError(f"the answer has more than {HEADERS_MOST} headers"))
            return
        status = self._parser.get_status_code()
        if status < 200:
            self._is_interim = True  # nobody asked for any; they count as part of the head
            pairs.clear()
            return
        if self._quiet > HEAD_LIMIT and sum([len(name) + len(value) for name, value in pairs]) > HEAD_LIMIT:
            self.fail(BrokenError(f"the answer has a head of more than {HEAD_LIMIT} bytes"))
            return
        self.keeps = self._parser.should_keep_alive()
        self.headers = read_headers(pairs)
        self.status = status
        self._quiet = 0
        self.moved += PROGRESS
        if status >= 300:
            self._limit = max(self._limit, ERROR_BODY_LIMIT)
        if self._is_to_head:
            self.is_over = True
        else:
            self._frame()

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if self.is_over:
            self.has_surplus = True
            return
        self._quiet = 0
        self.moved += len(data)
        self._size += len(data)
        if self._size > self._limit:
            self.fail(TooMuchError(self._limit, self.headers))
        else:
            self.chunks.append(data)

    def on_message_complete(self) -> None:
        """The answer is complete, if it was one."""
        if not self._is_interim:
            self.is_over = True

    # within

    def _frame(self) -> None:
        """See how the end of the body will be known."""
        length = self.headers.get("content-length")
        coding = self.headers.get("transfer-encoding")
        if coding is not None:
            if coding.lower() != "chunked":
                self.fail(StrictError("a Transfer-Encoding other than chunked"))
        elif length is not None:
            if int(length) > self._limit:
                self.fail(TooMuchError(self._limit, self.headers))
        elif self.status not in _NO_BODY:
            self._is_until_end = True
            self.keeps = False
            if self.status < 300:
                self.fail(BrokenError("the answer does not say where it ends"))

    def _join(self, first: int) -> None:
        """Join the pieces from `first` on, and with the one before if that is small, too."""
        chunks = self.chunks
        if first and len(chunks[first - 1]) < _SMALL:
            first -= 1
        if len(chunks) > first + 1:
            chunks[first:] = [b"".join(chunks[first:])]


_NONE: Mapping[str, str] = MappingProxyType({})


def _idle_time(hint: str) -> float:
    """Seconds for which a connection may be idle, by its `Keep-Alive: timeout=5, max=100`; a little less than stated."""
    for pair in hint.split(","):
        name, _, value = pair.strip().partition("=")
        if name.lower() == "timeout" and value.isdecimal() and value.isascii():
            seconds = min(float(value[:6]), IDLE_MOST_S)
            return seconds - min(1.0, seconds / 2)
    return IDLE_S
