"""Requests by aiohttp: for proxies, and for servers that the lean client cannot speak with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from heavysync.errors import FatalError, HeavysyncError, PermanentError, TransientError
from heavysync.stores.exchange import (
    CONNECT_S,
    ERROR_BODY_LIMIT,
    LOOK_S,
    PIECE,
    PROGRESS,
    STOPPING_S,
    OversizeError,
    Response,
    Setup,
    place,
    stalled,
)
from heavysync.stores.lean_head import read_headers

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

_NO_AUTO = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class AiohttpTransport:
    """See `Transport`.

    Args:
        setup: what it is told once.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._stopping = setup.stopping
        self._slots = asyncio.Semaphore(setup.connections)
        self._proven = False
        self._watches: set[_Watch] = set()

    async def open(self) -> None:
        """See `Transport`."""
        self._session = aiohttp.ClientSession(
            connector=_Connector(limit=self._setup.connections, ssl=self._setup.context(), ttl_dns_cache=60),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=self._setup.trust_env,
            read_bufsize=PIECE,
            skip_auto_headers=_NO_AUTO,
        )
        # aiohttp sends GET, HEAD, PUT and DELETE a second time by itself when a kept connection turns out dead;
        # a conditional write would then fail against its own success. tests/stores/test_http.py holds this.
        self._session._retry_connection = False  # noqa: SLF001
        self._look_at = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    async def close(self) -> None:
        """See `Transport`."""
        self._look_at.cancel()
        await self._session.close()
        await asyncio.sleep(0)  # closing transports close their sockets in the next turn of the loop

    async def exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | Callable[[], Mapping[str, str]],
        body: Sequence[bytes],
        limit: int,
        stall_s: float,
    ) -> Response:
        """See `Transport`."""
        watch = _Watch(stall_s, self._stopping)
        try:
            # The slot comes first: waiting for a connection of the pool is no stall.
            async with self._slots, asyncio.timeout(watch.limit) as watch.timeout:
                self._watches.add(watch)
                sent = headers() if callable(headers) else headers
                return await self._exchange(method, url, sent, body, limit, watch)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._told(error, method, url, watch.limit) from error
        finally:
            self._watches.discard(watch)

    def _look(self) -> None:
        """Once the run stops, requests that hang have less time left."""
        if self._stopping.is_set():
            for watch in self._watches:
                watch.hurry()
        else:
            self._look_at = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _told(self, error: Exception, method: str, url: str, stall: float) -> HeavysyncError:
        """What an error of the network means; none of its words quotes a query."""
        where = f"{method} {place(url)}"
        if isinstance(error, aiohttp.InvalidURL):
            return PermanentError(f"{method}: the address of the request is malformed", code="bad-url")
        if isinstance(error, aiohttp.ClientConnectorCertificateError) and not self._proven:
            return FatalError(
                f"{place(url)}: the server's certificate is not trusted: {_words(error)}; "
                "check the endpoint, or name the certificate authority in AWS_CA_BUNDLE"
            )
        if isinstance(error, aiohttp.ClientError):  # its own timeouts (connecting) are TimeoutErrors too
            return TransientError(f"{where}: {_words(error)}")
        if isinstance(error, TimeoutError):
            return TransientError(f"{where}: {stalled(stall)}")
        return TransientError(f"{where}: {type(error).__name__}: {error}")

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
        if len(body) == 1 and len(body[0]) <= PIECE:
            data = body[0]
        elif body:
            headers = {**headers, "Content-Length": str(sum(map(len, body)))}
            data = _feed(body, watch)
        async with self._session.request(
            method, URL(url, encoded=True), headers=headers, data=data, allow_redirects=False
        ) as answer:
            self._proven = True
            watch.moved()
            status = answer.status
            if status >= 300:
                limit = max(limit, ERROR_BODY_LIMIT)
            if method != "HEAD" and (answer.content_length or 0) > limit:
                raise _oversize(answer, limit)
            chunks = await _drain(answer, limit, watch)
            if status < 300 and isinstance(data, AsyncIterator) and not await watch.all_sent():
                answer.close()
                raise TransientError(
                    f"{method} {place(url)}: the server said yes before it had the whole request: that answers another one"
                )
            if method != "HEAD" and status in {200, 206} and not _is_framed(answer):
                raise TransientError(f"{method} {place(url)}: the answer does not say where it ends")
            return Response(status, read_headers(answer.raw_headers), chunks)


_TURNS = 5


class _Watch:
    """Ends a request of which too little moves.

    Args:
        stall: seconds.
        stopping: see `Setup`.
    """

    timeout: asyncio.Timeout

    def __init__(self, stall: float, stopping: asyncio.Event) -> None:
        self._stall = stall
        self._stopping = stopping
        self.is_sent = False

    async def all_sent(self) -> bool:
        """Whether the last piece of the body was taken; that may be told some turns of the loop after the answer."""
        for _ in range(_TURNS):
            if self.is_sent:
                break
            await asyncio.sleep(0)
        return self.is_sent

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
        for start in range(0, len(chunk), PIECE):
            yield chunk if len(chunk) <= PIECE else view[start : start + PIECE]
            watch.moved()
    watch.is_sent = True


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
    return OversizeError(
        f"{answer.method} {place(str(answer.url))}: more than {limit} bytes came", read_headers(answer.raw_headers)
    )


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
