"""Servers that talk HTTP as a test tells them, plain or with TLS, in the loop of the test; and the loops and ways to run it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
import struct
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from heavysync.stores.http import Door

WAYS = ["asyncio-plain", "asyncio-tls", "uvloop-plain", "uvloop-tls"]
"""Event loops and transports that a client must behave the same over."""


@functools.cache
def certificate() -> tuple[str, ssl.SSLContext]:
    """A certificate of 127.0.0.1 and localhost, as a file and as what a server needs."""
    home = Path(tempfile.mkdtemp(prefix="talkers-"))
    key, path = home / "key.pem", home / "certificate.pem"
    names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command = ["openssl", "req", "-x509", *kind, "-nodes", "-subj", "/CN=test", "-days", "2", "-addext", names]
    subprocess.run([*command, "-keyout", key, "-out", path], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    return str(path), context


@dataclass
class Peer:
    """One connection, as the server sees it.

    Attributes:
        number: 1 for the first connection.
        heads: of the requests that came over it.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    heads: list[bytes] = field(default_factory=list)

    async def request(self) -> bytes:
        """Read one request; answer its body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        return await self.reader.readexactly(length_of(head))

    async def head(self) -> bytes:
        """Read the head of one request."""
        self.heads.append(await self.reader.readuntil(b"\r\n\r\n"))
        return self.heads[-1]

    async def say(self, *pieces: bytes, pause: float = 0.0) -> None:
        """Send bytes, with pauses between them."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            if pause:
                await asyncio.sleep(pause)

    async def ended(self, seconds: float = 5.0) -> bool:
        """Whether the client ends the connection; what it still sends is read."""
        try:
            async with asyncio.timeout(seconds):
                while await self.reader.read(1 << 16):
                    pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    def close(self) -> None:
        """By the book: with close_notify."""
        self.writer.close()

    def reset(self) -> None:
        """With a reset, so that no end is seen."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    def cut(self) -> None:
        """Without a word."""
        self.writer.transport.abort()


Talk = Callable[[Peer], Awaitable[None]]


@dataclass
class Server:
    """See `serving`."""

    url: str
    peers: list[Peer]

    @property
    def requests(self) -> int:
        """How many came, over all connections."""
        return sum(len(peer.heads) for peer in self.peers)


@contextlib.asynccontextmanager
async def serving(talk: Talk, *, tls: bool = False, name: str = "127.0.0.1") -> AsyncIterator[Server]:
    """Let `talk` have each connection; whatever it leaves open is cut in the end."""
    peers: list[Peer] = []
    tasks: set[asyncio.Task[None]] = set()

    async def one(peer: Peer) -> None:
        # uvloop raises a RuntimeError where something is written to what has been closed
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, RuntimeError):
            await talk(peer)

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer, len(peers) + 1)
        peers.append(peer)
        tasks.add(asyncio.get_running_loop().create_task(one(peer)))

    context = certificate()[1] if tls else None
    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context, limit=1 << 20)
    scheme = "https" if tls else "http"
    try:
        yield Server(f"{scheme}://{name}:{server.sockets[0].getsockname()[1]}", peers)
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        for peer in peers:
            peer.cut()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for _ in range(20):
            await asyncio.sleep(0)


def run(way: str, main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine in the loop of a way."""
    factory = uvloop.new_event_loop if way.startswith("uvloop") else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


def talked(way: str, talk: Talk, test: Callable[[Any, Server], Awaitable[Any]], **how: Any) -> Any:
    """Run `test(door, server)` against a server that talks like this."""

    async def main() -> Any:
        tls = way.endswith("tls")
        bundle = certificate()[0] if tls else None
        settings = {"connections": 4, "stall_s": 5.0, "ca_bundle": bundle, "client": "lean", **how}
        async with serving(talk, tls=tls) as server, Door(**settings) as door:
            found = await test(door, server)
            await asyncio.sleep(0)
            return found

    return run(way, main)


def sized(body: bytes = b"", *lines: str, status: str = "200 OK") -> bytes:
    """An answer with a Content-Length."""
    head = "".join(f"{line}\r\n" for line in lines)
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body


def length_of(head: bytes) -> int:
    """What Content-Length says; 0 without."""
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def repeating(*answers: bytes) -> Talk:
    """Gives these answers to the requests of a connection, in turn."""

    async def talk(peer: Peer) -> None:
        while True:
            for given in answers:
                await peer.request()
                await peer.say(given)

    return talk
