"""The one door to the network for the hot requests of both providers: one request in, one whole answer out.

There are no redirects, no hidden second attempt, no decompression and no cookies behind it. An answer is held in memory
as the chunks that came off the wire, at most `limit` bytes of them. Whenever no byte has moved for `stall_s` seconds, in
either direction, the request ends with a `TransientError`; a request that moves is never cut, however long it takes.
Requests wait in lanes (`lanes.py`) while the provider wants it, or is down.
Behind the door a request is carried out by heavysync's own lean client (`lean.py`) or by aiohttp (`http_aiohttp.py`).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from heavysync.errors import FatalError, TransientError
from heavysync.stores.exchange import (
    PROGRESS,
    STALL_S,
    STOPPING_S,
    Client,
    OversizeError,
    Response,
    Setup,
    Transport,
    place,
)
from heavysync.stores.lanes import Lane

__all__ = ["PROGRESS", "STALL_S", "STOPPING_S", "Client", "Door", "OversizeError", "Response"]

_NO_SUCCESS = frozenset({403, 408, 429})  # a server that says one of these may be overloaded; what it meant is heeded later

_log = logging.getLogger("heavysync")


class Door:
    """A pool of connections; use it with `async with`.

    Args:
        connections: most connections open at once; a further request waits for one.
        stall_s: seconds without progress that end a request.
        ca_bundle: a PEM file of certificate authorities instead of the system's.
        trust_env: use the proxies that the environment names: by aiohttp, whatever `client` says.
        stopping: once it is set, no request waits for its turn, and STOPPING_S are enough for a stall.
        ramp: reads and writes a second that it begins with at most, where the provider wants that.
        client: who speaks HTTP.
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
        client: Client = "lean",
    ) -> None:
        self._stopping = stopping or asyncio.Event()
        self._reads = Lane(time.monotonic, self._pause, ramp=ramp and ramp[0])
        self._writes = Lane(time.monotonic, self._pause, ramp=ramp and ramp[1])
        self._stall_s = stall_s
        self._is_logged = _log.isEnabledFor(logging.DEBUG)  # asked once: it costs a hundredth of an object
        self._client: Client = "aiohttp" if trust_env else client
        if self._client != client:
            _log.info("requests go over aiohttp: the environment names proxies, which the lean client does not speak with")
        # a file that cannot be read is found out at once; the authorities of the system are read when somebody speaks TLS
        context = ssl.create_default_context(cafile=ca_bundle) if ca_bundle else None
        self._setup = Setup(connections, self._stopping, lambda: context or ssl.create_default_context(), trust_env)

    async def __aenter__(self) -> Self:
        transport = _transport(self._client, self._setup)
        await transport.open()
        self._transport = transport
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.close()

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
            PermanentError: the address or a header cannot be sent.
            FatalError: the server's certificate is not trusted (on the first contact).
        """
        lane = self._lane(method)
        if not lane.is_free:
            await lane.turn()
        try:
            response = await self._transport.exchange(method, url, headers, body, limit, stall_s or self._stall_s)
        except TransientError as error:
            self.heed(method, error)
            raise
        finally:
            lane.left()
        status = response.status
        if self._is_logged:
            _log.debug("%s %s: %d", method, place(url), status)
        if status < 500 and status not in _NO_SUCCESS:
            lane.went_through()
        return response

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


def _transport(client: Client, setup: Setup) -> Transport:
    """The client; its libraries are imported only when they are used.

    Raises:
        FatalError: they are not installed.
    """
    try:
        if client == "aiohttp":
            from heavysync.stores.http_aiohttp import AiohttpTransport

            return AiohttpTransport(setup)
        from heavysync.stores.lean import LeanTransport

        return LeanTransport(setup)
    except ImportError as error:
        other = "lean" if client == "aiohttp" else "aiohttp"
        raise FatalError(f"--http-client {client} cannot be used: {error}; install it, or say --http-client {other}") from error
