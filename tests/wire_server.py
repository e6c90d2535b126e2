"""A server that answers exactly the bytes it is told to, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What to do with one request.

    Args:
        data: bytes to write.
        then: "keep" the connection, "close" it, "reset" it, or "hang" with it open.
        reads_body: False answers, or hangs, before the body was read.
    """

    data: bytes = b""
    then: str = "keep"
    reads_body: bool = True


def answer(status: int = 200, body: bytes = b"", then: str = "keep", **headers: str) -> Answer:
    """A whole answer; `content_type="x"` becomes `content-type: x`."""
    lines = {"content-length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return Answer(f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode() + body, then)


@dataclass(slots=True)
class WireServer:
    """The answers in order; the last one is repeated."""

    answers: list[Answer]
    requests: list[Request] = field(default_factory=list)
    url: str = ""
    connections: int = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        body = b""
        if given.reads_body:
            body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append(Request(method, target, headers, body))
        writer.write(given.data)
        await writer.drain()
        if given.then == "hang":
            await asyncio.sleep(3600)
        if given.then == "reset":
            writer.transport.abort()
        return given.then == "keep"


@contextlib.asynccontextmanager
async def wire_server(*answers: Answer) -> AsyncIterator[WireServer]:
    """Serve these answers on a free port of 127.0.0.1."""
    script = WireServer(list(answers))
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(script._serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 20)
    script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield script
    finally:
        server.close()
        left = list(tasks)
        for task in left:
            task.cancel()
        for task in left:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await server.wait_closed()
        await asyncio.sleep(0.01)  # so that clients see their connections end, and close their side
