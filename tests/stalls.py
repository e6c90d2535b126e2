"""Connections that hang: a relay before any TCP server, for some connections of which nothing moves, or nearly nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

DRIP_S = 0.3
"""Seconds between two bytes of a connection that nearly hangs: shorter than the limit that tests give, so each byte is movement."""

HOLD_S = 3600.0
_RECEIVE_BUFFER = 1 << 16  # the kernel's own would swallow MiBs of what nobody reads

KINDS = {
    "mute": "all is read, nothing is answered",
    "deaf": "nothing is read",
    "sip": "one byte is read now and then",
    "drip": "one byte of the answers goes out now and then",
    "no handshake": "the client's hello is read, TLS never begins",
}


class Relay:
    """See the module. Made by `relay`.

    Args:
        upstream: host and port of the server.
        tls: what it speaks TLS with to clients; None: it does not.

    Attributes:
        url: of the relay.
        script: what happens to the next connections, one entry each, one of `KINDS`; "" and after the end: nothing.
        beside: the script waits until so many other connections are open, since one after the other would take long.
        met: the faults that connections have met.
        moved: bytes that came from the server.
        death: "silent": nothing moves on any connection, and none is closed; "refused": all are reset at once; "": it lives.
    """

    def __init__(self, upstream: tuple[str, int], tls: ssl.SSLContext | None) -> None:
        self._upstream = upstream
        self._tls = tls
        self.url = ""
        self.script: list[str] = []
        self.met: list[str] = []
        self.beside = 0
        self.moved = 0
        self.death = ""
        self._generation = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    def freeze(self) -> None:
        """Let all connections that there are hang, as when a router forgets them; new ones work."""
        self._generation += 1

    def die(self, how: str) -> None:
        """Let the server be dead for good, or until `die("")`."""
        self._loop.call_soon_threadsafe(self._die, how)

    def _die(self, how: str) -> None:
        self.death = how
        for writer in self._writers if how == "refused" else ():
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        fault = self.script.pop(0) if self.script and len(self._tasks) > self.beside else ""
        if fault:
            self.met.append(fault)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._relay(fault, reader, writer)
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()

    async def _relay(self, fault: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.death == "refused":
            writer.transport.abort()
            return
        if self._tls is not None and fault != "no handshake":
            await writer.start_tls(self._tls)
        if fault in {"mute", "no handshake"}:
            while await reader.read(1 << 16):
                pass
            return
        if fault == "deaf" or self.death:
            await asyncio.sleep(HOLD_S)
        server_reader, server_writer = await asyncio.open_connection(*self._upstream)
        generation = self._generation
        try:
            async with asyncio.TaskGroup() as group:
                there = group.create_task(self._pump(reader, server_writer, generation, slow=fault == "sip"))
                back = group.create_task(self._pump(server_reader, writer, generation, slow=fault == "drip"))
                done, _ = await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
                if back in done:
                    there.cancel()
                else:
                    back.cancel()
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            server_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, generation: int, *, slow: bool) -> None:
        while data := await reader.read(1 if slow else 1 << 16):
            while self.death or generation != self._generation:
                if reader.at_eof() or writer.is_closing():
                    return
                await asyncio.sleep(0.02)
            self.moved += len(data)
            writer.write(data)
            await writer.drain()
            if slow:
                await asyncio.sleep(DRIP_S)

    async def run(self, started: threading.Event, ended: asyncio.Event) -> None:
        """Serve until `ended`."""
        self._loop = asyncio.get_running_loop()
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        listener.bind(("127.0.0.1", 0))
        server = await asyncio.start_server(self.serve, sock=listener, limit=1 << 12, backlog=512)
        scheme = "http" if self._tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        started.set()
        await ended.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.sleep(0.05)


@contextlib.contextmanager
def relay(upstream: str, tls: ssl.SSLContext | None = None) -> Iterator[Relay]:
    """Run a relay before the server at the URL `upstream`, in a thread of its own."""
    parts = urlsplit(upstream)
    between = Relay((parts.hostname or "", parts.port or 80), tls)
    started, box = threading.Event(), []

    async def main() -> None:
        ended = asyncio.Event()
        box.append((asyncio.get_running_loop(), ended))
        await between.run(started, ended)

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    assert started.wait(10)
    loop, ended = box[0]
    try:
        yield between
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
