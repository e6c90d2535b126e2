"""The one door to the network for the hot requests of both providers: one request in, one whole answer out.

There are no redirects, no hidden second attempt, no decompression and no cookies behind it. An answer is held in memory
as the chunks that came off the wire, at most `limit` bytes of them. Whenever no byte has moved for `stall_s` seconds, in
either direction, the request ends with a `TransientError`; a request that moves is never cut, however long it takes.
aiohttp does the work for now; what is behind the door can be exchanged without a store noticing.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, Self

import aiohttp
from yarl import URL

from heavysync.errors import FatalError, PermanentError, TransientError

STALL_S = 60.0
"""Seconds without a byte after which a request is given up (SEMANTICS: no bytes for 60 s, botocore: 60)."""

CONNECT_S = 10.0
"""Seconds to connect, TLS included (botocore: 60; a dead address should cost less)."""

ERROR_BODY_LIMIT = 1 << 20
"""Bytes of an error answer that are read; providers send below 2 KiB."""

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
    """

    def __init__(
        self,
        *,
        connections: int,
        stall_s: float = STALL_S,
        ca_bundle: str | None = None,
        trust_env: bool = False,
    ) -> None:
        self._connections = connections
        self._slots = asyncio.Semaphore(connections)
        self._stall_s = stall_s
        self._ca_bundle = ca_bundle
        self._trust_env = trust_env
        self._proven = False

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context(cafile=self._ca_bundle)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, ssl=context, ttl_dns_cache=60),
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
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()
        await asyncio.sleep(0)  # closing transports close their sockets in the next turn of the loop

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Sequence[bytes] = (),
        *,
        limit: int,
        stall_s: float | None = None,
    ) -> Response:
        """Send one request and read its whole answer.

        Args:
            method: upper case.
            url: percent-encoded already; sent as it is.
            headers: all that are sent, but for Host, Content-Length and Connection.
            body: chunks, sent as they are.
            limit: most bytes of the answer's body; a longer one is an error.
            stall_s: overrides the door's.

        Raises:
            TransientError: anything that went wrong on the way; the request may have been carried out.
            FatalError: the server's certificate is not trusted (on the first contact).
        """
        stall = stall_s or self._stall_s
        try:
            # The slot comes first: waiting for a connection of the pool is no stall.
            async with self._slots, asyncio.timeout(stall) as watchdog:
                return await self._exchange(method, url, headers, body, limit, watchdog, stall)
        except aiohttp.ClientConnectorCertificateError as error:
            if not self._proven:
                raise FatalError(
                    f"{_place(url)}: the server's certificate is not trusted: {_words(error)}; "
                    "check the endpoint, or name the certificate authority in AWS_CA_BUNDLE"
                ) from error
            raise TransientError(f"{method} {_place(url)}: {_words(error)}") from None
        except aiohttp.InvalidURL:
            raise PermanentError(f"{method}: the address of the request is malformed", code="bad-url") from None
        except aiohttp.ClientError as error:  # its own timeouts (connecting) are TimeoutErrors too
            raise TransientError(f"{method} {_place(url)}: {_words(error)}") from None
        except TimeoutError as error:
            raise TransientError(f"{method} {_place(url)}: no byte moved for {stall:g} s") from error
        except OSError as error:
            raise TransientError(f"{method} {_place(url)}: {type(error).__name__}: {error}") from error

    async def _exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Sequence[bytes],
        limit: int,
        watchdog: asyncio.Timeout,
        stall: float,
    ) -> Response:
        data: bytes | AsyncIterator[bytes | memoryview] | None = None
        if len(body) == 1 and len(body[0]) <= _SMALL:
            data = body[0]
        elif body:
            headers = {**headers, "Content-Length": str(sum(map(len, body)))}
            data = _feed(body, watchdog, stall)
        async with self._session.request(
            method, URL(url, encoded=True), headers=headers, data=data, allow_redirects=False
        ) as answer:
            self._proven = True
            if _log.isEnabledFor(logging.DEBUG):
                _log.debug("%s %s: %d", method, _place(url), answer.status)
            watchdog.reschedule(asyncio.get_running_loop().time() + stall)
            status = answer.status
            if status >= 300:
                limit = max(limit, ERROR_BODY_LIMIT)
            if method != "HEAD" and (answer.content_length or 0) > limit:
                raise _oversize(answer, limit)
            chunks = await _drain(answer, limit, watchdog, stall)
            if method != "HEAD" and status in {200, 206} and not _is_framed(answer):
                raise TransientError(f"{method} {_place(url)}: the answer does not say where it ends")
            return Response(status, answer.headers, chunks)


async def _feed(body: Sequence[bytes], watchdog: asyncio.Timeout, stall: float) -> AsyncIterator[bytes | memoryview]:
    """Hand out the chunks of a body in small pieces; each one taken puts the watchdog off."""
    clock = asyncio.get_running_loop().time
    for chunk in body:
        view = memoryview(chunk)
        for start in range(0, len(chunk), _SMALL):
            yield chunk if len(chunk) <= _SMALL else view[start : start + _SMALL]
            watchdog.reschedule(clock() + stall)


async def _drain(answer: aiohttp.ClientResponse, limit: int, watchdog: asyncio.Timeout, stall: float) -> list[bytes]:
    """Read a body to its end; each chunk puts the watchdog off."""
    chunks: list[bytes] = []
    size = 0
    read = answer.content.readany
    clock = asyncio.get_running_loop().time
    while chunk := await read():
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise _oversize(answer, limit)
        watchdog.reschedule(clock() + stall)
    return chunks


def _oversize(answer: aiohttp.ClientResponse, limit: int) -> OversizeError:
    """Drop the connection, with what else would come over it, and say so."""
    answer.close()
    return OversizeError(f"{answer.method} {_place(str(answer.url))}: more than {limit} bytes came", answer.headers)


def _is_framed(answer: aiohttp.ClientResponse) -> bool:
    """Whether the end of the body can be told from a cut connection."""
    headers = answer.headers
    return "Content-Length" in headers or "chunked" in headers.get("Transfer-Encoding", "").lower()


def _words(error: aiohttp.ClientError) -> str:
    """What an error says, but for the URL that some of them quote: a query can be a credential."""
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{type(error).__name__}: {error.status} {error.message.splitlines()[0] if error.message else ''}"
    return f"{type(error).__name__}: {error}"


def _place(url: str) -> str:
    """The part of a URL that may be shown: a query can hold signatures and upload credentials."""
    return url.partition("?")[0]
