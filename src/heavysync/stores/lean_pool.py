"""The connections of the lean client to one server: the one used last is used next, and few are opened at the same time.

Kept connections die unseen: a server restarts, a router forgets. Where one turns out dead, those that have been idle for at
least as long are closed with it, or each of them would cost somebody an attempt.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from aiohappyeyeballs import start_connection

from heavysync.stores.exchange import CONNECT_S
from heavysync.stores.lean_connection import Connection
from heavysync.stores.lean_head import Place
from heavysync.stores.lean_names import Names

CONNECTS_AT_ONCE = 64
"""Connections that are being opened: a start at --concurrency 1024 would else be a storm of handshakes, of 1-2 ms CPU each."""

NEXT_ADDRESS_S = 0.25
"""Seconds after which the next address is tried beside the first.

Source: https://www.rfc-editor.org/rfc/rfc8305#section-5
"""


class Shared(NamedTuple):
    """What all pools of a client have in common.

    Attributes:
        names: addresses of servers.
        buffer: what is read into.
        context: makes the TLS context, or hands out the one that there is.
        gate: limits what is opened at the same time.
        all: every connection that is not gone.
    """

    names: Names
    buffer: memoryview
    context: Callable[[], ssl.SSLContext]
    gate: Gate
    all: set[Connection]


class Gate:
    """Lets so many through at the same time, in the order in which they came.

    Args:
        width: how many.
    """

    def __init__(self, width: int) -> None:
        self._free = width
        self._queue: deque[asyncio.Future[None]] = deque()

    def enter(self) -> bool:
        """Get through if that is possible at once."""
        if self._free and not self._queue:
            self._free -= 1
            return True
        return False

    async def wait(self) -> None:
        """Get through when it is one's turn."""
        waiter = asyncio.get_running_loop().create_future()
        self._queue.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():  # it had got its turn, in the same turn of the loop
                self.leave()
            elif waiter in self._queue:
                self._queue.remove(waiter)
            raise

    def leave(self) -> None:
        """Whoever got through is done: the next one."""
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1


class Pool:
    """Connections to one server.

    Args:
        place: the server.
        shared: see `Shared`.
    """

    def __init__(self, place: Place, shared: Shared) -> None:
        self.place = place
        self.idle: list[Connection] = []
        self._shared = shared
        self._loop = asyncio.get_running_loop()

    def take(self) -> Connection | None:
        """The connection that became idle last and is good for another exchange."""
        while self.idle:
            connection = self.idle.pop()
            if connection.is_fit and connection.is_quiet() and self._loop.time() < connection.idle_at + connection.keeps_s:
                return connection
            connection.cut()
        return None

    def put_back(self, connection: Connection) -> None:
        """An exchange is over: keep its connection, or close it."""
        if connection.is_fit:
            connection.idle_at = self._loop.time()
            connection.is_reused = True
            self.idle.append(connection)
        else:
            connection.cut()

    def shun(self, dead: Connection) -> None:
        """A kept connection turned out dead: so are those that have been idle for at least as long."""
        kept = []
        for connection in self.idle:
            if connection.idle_at <= dead.idle_at:
                connection.cut()
            else:
                kept.append(connection)
        self.idle = kept

    def tidy(self, now: float) -> None:
        """Close what has been idle for too long."""
        if any(now >= connection.idle_at + connection.keeps_s for connection in self.idle):
            kept = []
            for connection in self.idle:
                if now < connection.idle_at + connection.keeps_s:
                    kept.append(connection)
                else:
                    connection.cut()
            self.idle = kept

    async def open(self) -> Connection:
        """A connection: a new one, or one that has become idle while this waited to open it.

        Raises:
            OSError: the server cannot be reached.
            TimeoutError: not within CONNECT_S.
        """
        gate = self._shared.gate
        if not gate.enter():
            await gate.wait()
        try:
            return self.take() or await self._connect()
        finally:
            gate.leave()

    async def _connect(self) -> Connection:
        place, shared = self.place, self._shared
        try:
            async with asyncio.timeout(CONNECT_S):
                addresses = await shared.names.addresses(place.host, place.port)
                sock = await start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_S)
        except OSError:
            shared.names.forget(place.host, place.port)
            raise
        connection = Connection(shared.buffer, self, self._lost, sock)
        shared.all.add(connection)
        try:
            # From here on the socket is the loop's: closed by us as well, its number could be another connection's already
            # while asyncio still believes in it.
            await self._loop.create_connection(
                lambda: connection,
                sock=sock,
                ssl=shared.context() if place.is_tls else None,
                server_hostname=place.host if place.is_tls else None,
            )
        except BaseException:
            shared.all.discard(connection)
            raise
        return connection

    def _lost(self, connection: Connection) -> None:
        self._shared.all.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)
