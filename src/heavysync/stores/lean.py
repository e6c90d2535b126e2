"""heavysync's own HTTP/1.1 client: five times cheaper than aiohttp on small requests, and with nothing hidden in it.

It knows what object stores need and no more: requests with bodies in memory, answers read whole, TLS with verification. It
never sends anything twice. What it does not do: proxies, redirects, cookies, decompression, HTTP/2. Why it exists, what it
risks and which test holds each risk: docs/design/0015-the-lean-door.md. aiohttp does the same work slower: `--http-client`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence

from heavysync.errors import FatalError, HeavysyncError, PermanentError, TransientError
from heavysync.stores.exchange import (
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
from heavysync.stores.lean_answer import BrokenError, StrictError, TooMuchError
from heavysync.stores.lean_connection import Connection
from heavysync.stores.lean_head import parse_origin, split_url, write_head
from heavysync.stores.lean_names import Names
from heavysync.stores.lean_pool import CONNECTS_AT_ONCE, Gate, Pool, Shared

_CLOSING_TURNS = 100  # turns of the loop in which all sockets are closed; TLS takes some


class LeanTransport:
    """See `Transport`.

    Args:
        setup: what it is told once.
    """

    def __init__(self, setup: Setup) -> None:
        self._stopping = setup.stopping
        self._make_context = setup.context
        self._context: ssl.SSLContext | None = None
        self._slots = Gate(setup.connections)
        self._pools: dict[str, Pool] = {}
        self._busy: set[Connection] = set()
        self._opening: set[asyncio.Timeout] = set()
        self._shared = Shared(Names(), memoryview(bytearray(PIECE)), self._tls, Gate(CONNECTS_AT_ONCE), set())
        self._proven = False
        self._is_hurried = False

    async def open(self) -> None:
        """See `Transport`."""
        self._loop = asyncio.get_running_loop()
        self._look_at = self._loop.call_later(LOOK_S, self._look)

    async def close(self) -> None:
        """See `Transport`."""
        self._look_at.cancel()
        for connection in tuple(self._shared.all):
            connection.fail(BrokenError("the connection was closed"))
            connection.cut()
        for _ in range(_CLOSING_TURNS):
            if not self._shared.all:
                break
            await asyncio.sleep(0)

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
        origin, target = split_url(url)
        if not self._slots.enter():
            await self._slots.wait()
        connection = None
        try:
            pool = self._pools.get(origin) or self._pool(origin, method)
            sent = headers() if callable(headers) else headers
            size = sum(map(len, body))
            head = write_head(method, pool.place, target, sent, size, has_body=bool(body))
            connection = pool.take() or await self._open(pool, method, url, stall_s)
            connection.stall_s = stall_s
            connection.noted_at = 0.0
            self._busy.add(connection)
            response = await connection.exchange(method, head, body, size, limit)
            self._proven = True
        except BrokenError as error:
            if connection is not None and connection.is_reused and not connection.answered:
                connection.pool.shun(connection)
            raise _told(error, f"{method} {place(url)}") from error
        finally:
            if connection is not None:
                self._busy.discard(connection)
                connection.pool.put_back(connection)
            self._slots.leave()
        return response

    async def _open(self, pool: Pool, method: str, url: str, stall_s: float) -> Connection:
        """A connection; opening one is the part of a request that may cost a timer and some tasks."""
        limit = self._limit(stall_s)
        timeout = asyncio.timeout(limit)
        try:
            async with timeout:
                self._opening.add(timeout)
                return await pool.open()
        except TimeoutError as error:
            raise TransientError(f"{method} {place(url)}: {stalled(self._limit(stall_s))}") from error
        except ssl.SSLCertVerificationError as error:
            if not self._proven:
                raise FatalError(
                    f"{place(url)}: the server's certificate is not trusted: {error}; "
                    "check the endpoint, or name the certificate authority in AWS_CA_BUNDLE"
                ) from error
            raise TransientError(f"{method} {place(url)}: {error}") from error
        except OSError as error:
            raise TransientError(f"{method} {place(url)}: {type(error).__name__}: {error}") from error
        finally:
            self._opening.discard(timeout)

    def _pool(self, origin: str, method: str) -> Pool:
        """The pool of a server that nobody has asked yet."""
        try:
            server = parse_origin(origin)
        except ValueError as error:
            raise PermanentError(f"{method}: the address of the request is malformed", code="bad-url") from error
        pool = self._pools[origin] = Pool(server, self._shared)
        return pool

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = self._make_context()
        return self._context

    def _limit(self, stall_s: float) -> float:
        return min(stall_s, STOPPING_S) if self._stopping.is_set() else stall_s

    def _look(self) -> None:
        """End the exchanges that hang, and close what has been idle for long. Runs every LOOK_S."""
        self._look_at = self._loop.call_later(LOOK_S, self._look)
        now = self._loop.time()
        hurries = self._stopping.is_set() and not self._is_hurried
        if hurries:
            self._is_hurried = True
            self._hurry(now)
        for connection in tuple(self._busy):
            if hurries or not connection.noted_at or connection.moved >= connection.noted + PROGRESS:
                connection.noted, connection.noted_at = connection.moved, now
            elif now >= connection.noted_at + self._limit(connection.stall_s):
                connection.fail(BrokenError(stalled(self._limit(connection.stall_s))))
        for pool in self._pools.values():
            pool.tidy(now)

    def _hurry(self, now: float) -> None:
        """The run stops: what is being opened has less time left."""
        for timeout in self._opening:
            end = timeout.when()
            if end is not None and now + STOPPING_S < end and not timeout.expired():
                timeout.reschedule(now + STOPPING_S)


def _told(error: BrokenError, where: str) -> HeavysyncError:
    """What an error of the connection means."""
    if isinstance(error, TooMuchError):
        return OversizeError(f"{where}: {error}", error.headers)
    if isinstance(error, StrictError):
        return TransientError(f"{where}: {error}; if this server is always like that, try --http-client aiohttp")
    return TransientError(f"{where}: {error}")
