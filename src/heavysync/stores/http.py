"""The one door to the network for the hot requests of both providers: one request in, one whole answer out.

There are no redirects, no hidden second attempt, no decompression and no cookies behind it. An answer is held in memory
as the chunks that came off the wire, at most `limit` bytes of them. Whenever no byte has moved for `stall_s` seconds, in
either direction, the request ends with a `TransientError`; a request that moves is never cut, however long it takes.
Requests wait in lanes (`lanes.py`) while the provider wants it, or is down.
aiohttp does the work for now; what is behind the door can be exchanged without a store noticing.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

import aiohttp
from yarl import URL

from heavysync.errors import FatalError, HeavysyncError, PermanentError, TransientError
from heavysync.stores.lanes import Lane

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

STALL_S = 60.0
"""Seconds without a byte after which a request is given up (SEMANTICS: no bytes for 60 s, botocore: 60)."""

CONNECT_S = 10.0
"""Seconds to connect, TLS included (botocore: 60; a dead address should cost less)."""

ERROR_BODY_LIMIT = 1 << 20
"""Bytes of an error answer that are read; providers send below 2 KiB."""

PROGRESS = 4096
"""Bytes of an answer that count as progress: one byte a minute would hold a worker up for years."""

_NO_SUCCESS = frozenset({403, 408, 429})  # a server that says one of these may be overloaded; what it meant is heeded later

STOPPING_S = 2.0
"""The same once the run stops: what moves is finished, what hangs is given up, and the next run does it again."""

_LOOK_S = 0.25  # how often the door looks whether the run stops

_BUFFER = 1 << 18  # 256 KiB read buffer: 128-512 KiB make no difference, 64 KiB is slower (measured)
_SMALL = 1 << 18  # one chunk up to this goes out as plain bytes, without a generator

_log = logging.getLogger("heavysync")

_NO_AUTO = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class Response(NamedTuple):
    """A whole answer.

    Attributes:
        status: HTTP status.
        headers: case-insensitive.
        chunks: the body as it came off the wire.
    """

    status: int
    headers: Mapping[str, str]
    chunks: list[bytes]

    @property
    def body(self) -> bytes:
        """The joined body: for lists and error texts, not for objects."""
        return self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return sum(map(len, self.chunks))


class OversizeError(TransientError):
    """More bytes came than the caller had asked for; the headers may tell why.

    Args:
        message: operation, place, bytes.
        headers: of the answer, case-insensitive.
    """

    def __init__(self, message: str, headers: Mapping[str, str]) -> None:
        super().__init__(message)
        self.headers = headers


class Door:
    """A pool of connections; use it with `async with`.

    Args:
        connections: most connections open at once; a further request waits for one.
        stall_s: seconds without progress that end a request.
        ca_bundle: a PEM file of certificate authorities instead of the system's.
        trust_env: use the proxies that the environment names.
        stopping: once it is set, no request waits for its turn, and STOPPING_S are enough for a stall.
        ramp: reads and writes a second that it begins with at most, where the provider wants that.
    """

    def __init__(
        self,
        *,
        connections: int,
        stall_s: float = STALL_S,
        ca_bundle: str | None = None,
        trust_env: bool = False,
        stopping: asyncio.Event | None = None,
        ramp: tuple[float, float] | None = None,
    ) -> None:
        self._stopping = stopping or asyncio.Event()
        self._reads = Lane(time.monotonic, self._pause, ramp=ramp and ramp[0])
        self._writes = Lane(time.monotonic, self._pause, ramp=ramp and ramp[1])
        self._connections = connections
        self._slots = asyncio.Semaphore(connections)
        self._stall_s = stall_s
        self._ca_bundle = ca_bundle
        self._trust_env = trust_env
        self._proven = False
        self._watches: set[_Watch] = set()

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context(cafile=self._ca_bundle)
        self._session = aiohttp.ClientSession(
            connector=_Connector(limit=self._connections, ssl=context, ttl_dns_cache=60),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=self._trust_env,
            read_bufsize=_BUFFER,
            skip_auto_headers=_NO_AUTO,
        )
        # aiohttp sends GET, HEAD, PUT and DELETE a second time by itself when a kept connection turns out dead;
        # a conditional write would then fail against its own success. tests/stores/test_http.py holds this.
        self._session._retry_connection = False  # noqa: SLF001
        self._look_at = asyncio.get_running_loop().call_later(_LOOK_S, self._look)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._look_at.cancel()
        await self._session.close()
        await asyncio.sleep(0)  # closing transports close their sockets in the next turn of the loop

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | Callable[[], Mapping[str, str]],
        body: Sequence[bytes] = (),
        *,
        limit: int,
        stall_s: float | None = None,
    ) -> Response:
        """Send one request and read its whole answer.

        Args:
            method: upper case.
            url: percent-encoded already; sent as it is.
            headers: all that are sent, but for Host, Content-Length and Connection; or what makes them when the request's turn
                has come, which may be long after the call: signatures age.
            body: chunks, sent as they are.
            limit: most bytes of the answer's body; a longer one is an error.
            stall_s: overrides the door's.

        Raises:
            TransientError: anything that went wrong on the way; the request may have been carried out.
            FatalError: the server's certificate is not trusted (on the first contact).
        """
        watch = _Watch(stall_s or self._stall_s, self._stopping)
        lane = self._lane(method)
        if not lane.is_free:
            await lane.turn()
        try:
            # The slot comes first: waiting for a connection of the pool is no stall.
            async with self._slots, asyncio.timeout(watch.limit) as watch.timeout:
                self._watches.add(watch)
                sent = headers() if callable(headers) else headers
                response = await self._exchange(method, url, sent, body, limit, watch)
        except TransientError as error:
            self.heed(method, error)
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._told(error, method, url, watch.limit) from error
        finally:
            self._watches.discard(watch)
            lane.left()
        if response.status not in _NO_SUCCESS and response.status < 500:
            lane.went_through()
        return response

    def _look(self) -> None:
        """Once the run stops, requests that hang have less time left."""
        if self._stopping.is_set():
            for watch in self._watches:
                watch.hurry()
        else:
            self._look_at = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def _told(self, error: Exception, method: str, url: str, stall: float) -> HeavysyncError:
        """What an error of the network means; none of its words quotes a query."""
        where = f"{method} {_place(url)}"
        if isinstance(error, aiohttp.InvalidURL):
            return PermanentError(f"{method}: the address of the request is malformed", code="bad-url")
        if isinstance(error, aiohttp.ClientConnectorCertificateError) and not self._proven:
            return FatalError(
                f"{_place(url)}: the server's certificate is not trusted: {_words(error)}; "
                "check the endpoint, or name the certificate authority in AWS_CA_BUNDLE"
            )
        if isinstance(error, aiohttp.ClientError):  # its own timeouts (connecting) are TimeoutErrors too
            told = TransientError(f"{where}: {_words(error)}")
        elif isinstance(error, TimeoutError):
            told = TransientError(f"{where}: too little moved for {stall:g} s")
        else:
            told = TransientError(f"{where}: {type(error).__name__}: {error}")
        self.heed(method, told)
        return told

    def heed(self, method: str, error: Exception) -> None:
        """Take note that the answer to a request meant `error`: slower, or not at all for a while."""
        lane = self._lane(method)
        if isinstance(error, TransientError):
            lane.failed(error)
            error.answered = self._reads.served + self._writes.served
        else:
            lane.answered()

    def _lane(self, method: str) -> Lane:
        """Providers count reads and writes apart.

        Source: https://docs.cloud.google.com/storage/docs/request-rate
        """
        return self._reads if method in {"GET", "HEAD"} else self._writes

    async def _pause(self, seconds: float) -> None:
        """Wait for a turn, but not when the run stops.

        Raises:
            TransientError: it stops.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        if self._stopping.is_set():
            raise TransientError("a request waited for its turn when the run was stopped")

    async def _exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Sequence[bytes],
        limit: int,
        watch: _Watch,
    ) -> Response:
        data: bytes | AsyncIterator[bytes | memoryview] | None = None
        if len(body) == 1 and len(body[0]) <= _SMALL:
            data = body[0]
        elif body:
            headers = {**headers, "Content-Length": str(sum(map(len, body)))}
            data = _feed(body, watch)
        async with self._session.request(
            method, URL(url, encoded=True), headers=headers, data=data, allow_redirects=False
        ) as answer:
            self._proven = True
            if _log.isEnabledFor(logging.DEBUG):
                _log.debug("%s %s: %d", method, _place(url), answer.status)
            watch.moved()
            status = answer.status
            if status >= 300:
                limit = max(limit, ERROR_BODY_LIMIT)
            if method != "HEAD" and (answer.content_length or 0) > limit:
                raise _oversize(answer, limit)
            chunks = await _drain(answer, limit, watch)
            if method != "HEAD" and status in {200, 206} and not _is_framed(answer):
                raise TransientError(f"{method} {_place(url)}: the answer does not say where it ends")
            return Response(status, answer.headers, chunks)


class _Watch:
    """Ends a request of which too little moves.

    Args:
        stall: seconds.
        stopping: see `Door`.
    """

    timeout: asyncio.Timeout

    def __init__(self, stall: float, stopping: asyncio.Event) -> None:
        self._stall = stall
        self._stopping = stopping

    @property
    def limit(self) -> float:
        """Seconds that nothing may move from now on."""
        return min(self._stall, STOPPING_S) if self._stopping.is_set() else self._stall

    def moved(self) -> None:
        """Something has moved."""
        if not self.timeout.expired():
            self.timeout.reschedule(asyncio.get_running_loop().time() + self.limit)

    def hurry(self) -> None:
        """The limit has become shorter."""
        end, soon = self.timeout.when(), asyncio.get_running_loop().time() + self.limit
        if end is not None and soon < end and not self.timeout.expired():
            self.timeout.reschedule(soon)


class _Connector(aiohttp.TCPConnector):
    """Does not use a kept connection again on which bytes came unasked: they would pass for the next answer.

    aiohttp 3.14 looks for them only when a connection comes back. tests/faults/test_door.py holds this.
    """

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()
        return None


async def _feed(body: Sequence[bytes], watch: _Watch) -> AsyncIterator[bytes | memoryview]:
    """Hand out the chunks of a body in small pieces; each one taken puts the watchdog off."""
    for chunk in body:
        view = memoryview(chunk)
        for start in range(0, len(chunk), _SMALL):
            yield chunk if len(chunk) <= _SMALL else view[start : start + _SMALL]
            watch.moved()


async def _drain(answer: aiohttp.ClientResponse, limit: int, watch: _Watch) -> list[bytes]:
    """Read a body to its end; each PROGRESS bytes put the watchdog off."""
    chunks: list[bytes] = []
    size = noted = 0
    read = answer.content.readany
    while chunk := await read():
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise _oversize(answer, limit)
        if size >= noted + PROGRESS:
            noted = size
            watch.moved()
    return chunks


def _oversize(answer: aiohttp.ClientResponse, limit: int) -> OversizeError:
    """Drop the connection, with what else would come over it, and say so."""
    answer.close()
    return OversizeError(f"{answer.method} {_place(str(answer.url))}: more than {limit} bytes came", answer.headers)


def _is_framed(answer: aiohttp.ClientResponse) -> bool:
    """Whether the end of the body can be told from a cut connection."""
    headers = answer.headers
    return "Content-Length" in headers or "chunked" in headers.get("Transfer-Encoding", "").lower()


_WORDS = 300  # characters; aiohttp quotes up to 8 KiB of a header that is too long


def _words(error: aiohttp.ClientError) -> str:
    """What an error says, but for the URL that some of them quote: a query can be a credential."""
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{type(error).__name__}: {error.status} {error.message.splitlines()[0][:_WORDS] if error.message else ''}"
    return f"{type(error).__name__}: {error}"[:_WORDS]


def _place(url: str) -> str:
    """The part of a URL that may be shown: a query can hold signatures and upload credentials."""
    return url.partition("?")[0]
