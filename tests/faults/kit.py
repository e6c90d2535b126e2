"""The fault kit: a proxy before a real server that breaks what its rules pick, and passes on all else byte for byte.

It runs in a thread of the test process on a free port of 127.0.0.1. Host and path go on as they were sent, so that signatures
still verify. Three things are not passed on as they came: a server's `Connection: close` (the kit keeps its clients' connections,
so that what one exchange leaves on a connection meets the next one), the server's own address in a `Location` (an upload session
would go past the kit), and the framing of an answer that a rule changes (it has a Content-Length then).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

from faults.exchange import BROKEN, EndedError, Exchange
from faults.line import Line
from faults.operations import Asked, Side
from faults.rules import Rule

_LIMIT = 1 << 16
_RECEIVE_BUFFER = 1 << 16  # the kernel's own would swallow some MiB that "stop reading" leaves alone


class FaultKit:
    """See the module. Made by `fault_kit`.

    Args:
        upstream: the server's URL, without a path.
        side: what it speaks.

    Attributes:
        url: of the kit.
        rules: the first that hits a request decides.
        counts: requests by operation, fault ("" for none) and outcome: the status that was answered, "reset", "refused",
            "held" (never answered), "gone" (the client ended first), "no server".
        received: bytes that came from clients, by operation.
        sent: bytes that went to clients, by operation.
        refused: connections closed as they were accepted.
        sessions: keys of Google's upload sessions, by upload id.
    """

    def __init__(self, upstream: str, side: Side) -> None:
        self.upstream = upstream.rstrip("/")
        self.side: Side = side
        self.url = ""
        self.sessions: dict[str, str] = {}
        self._connections: dict[asyncio.Task[Any], Line] = {}
        self._forget()

    def _forget(self) -> None:
        self.rules: list[Rule] = []
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.received: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.refused = 0
        self._refusals = 0

    def add(self, fault: str, **how: Any) -> Rule:
        """Add a rule; see `Rule`."""
        rule = Rule(fault=fault, **how)
        self.rules.append(rule)
        return rule

    def clear(self) -> None:
        """End all connections, and start anew without rules and with counters at zero."""
        asyncio.run_coroutine_threadsafe(self._drop_all(), self._loop).result(10)
        self._forget()

    def requests(self, operation: str = "", fault: str | None = None) -> int:
        """How many requests there were of an operation ("" for all) with a fault (None: with any or none)."""
        found = (number for (name, hit, _), number in self.counts.items() if operation in {"", name} and fault in {None, hit})
        return sum(found)

    # what an exchange asks of the kit

    def pick(self, asked: Asked) -> Rule | None:
        """The rule that hits a request."""
        return next((rule for rule in self.rules if rule.hits(asked)), None)

    def refuse(self, times: int) -> None:
        """Close all connections, and the next `times` ones as they are accepted."""
        self._refusals += times
        for line in self._connections.values():
            line.reset()

    def count(self, exchange: Exchange, outcome: str) -> None:
        """Take an exchange into the counters."""
        self.counts[exchange.asked.operation, exchange.fault, outcome] += 1

    # connections

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Line(reader, writer)
        if self._refusals:
            self._refusals -= 1
            self.refused += 1
            client.reset()
            return
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = client  # asyncio itself holds it weakly
        servers: list[Line] = []
        try:
            with contextlib.suppress(asyncio.CancelledError):  # the kit ends, or is cleared: nobody else waits for this
                while await self._one(client, servers):
                    pass
        finally:
            del self._connections[task]
            for line in (client, *servers):
                line.writer.close()

    async def _one(self, client: Line, servers: list[Line]) -> bool:
        """One exchange; answer whether there may be another one."""

        async def open_server() -> Line:
            while servers:
                line = servers[-1]
                if not (line.reader.at_eof() or line.writer.is_closing()):
                    return line
                await servers.pop().close()
            host, _, port = self.upstream.removeprefix("http://").partition(":")
            servers.append(Line(*await asyncio.open_connection(host, int(port), limit=_LIMIT)))
            return servers[-1]

        exchange = Exchange(self, client, open_server)
        before = list(client.moved)
        outcome, goes_on = "gone", False
        try:
            outcome, goes_on = await exchange.run(), True
        except EndedError as ended:
            outcome = str(ended)
        except ConnectionRefusedError:
            outcome = "no server"
        except BROKEN:
            pass
        if hasattr(exchange, "fault"):
            self.received[exchange.asked.operation] += client.moved[0] - before[0]
            self.sent[exchange.asked.operation] += client.moved[1] - before[1]
            self.count(exchange, outcome)
        return goes_on

    async def _drop_all(self) -> None:
        left = list(self._connections.items())
        for task, line in left:
            line.reset()
            task.cancel()
        while any(not task.done() for task, _ in left):
            await asyncio.sleep(0.001)

    async def run(self, started: threading.Event, ended: asyncio.Event) -> None:
        """Serve until `ended`."""
        self._loop = asyncio.get_running_loop()
        # the protocol is named, or asyncio would leave Nagle's algorithm on: 40 ms a request
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        listener.bind(("127.0.0.1", 0))
        server = await asyncio.start_server(self._serve, sock=listener, limit=_LIMIT, backlog=512)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        started.set()
        await ended.wait()
        server.close()
        await self._drop_all()
        await server.wait_closed()


@contextlib.contextmanager
def fault_kit(upstream: str, side: Side) -> Iterator[FaultKit]:
    """Run a kit before the server at the URL `upstream`, in a thread of its own, for the time of the block."""
    kit = FaultKit(upstream, side)
    started, box = threading.Event(), []

    async def main() -> None:
        ended = asyncio.Event()
        box.append((asyncio.get_running_loop(), ended))
        await kit.run(started, ended)

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    assert started.wait(10)
    loop, ended = box[0]
    try:
        yield kit
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
