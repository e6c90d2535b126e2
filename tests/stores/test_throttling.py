"""A provider with a token bucket, over HTTP: it is driven close below its limit, and hardly anything is refused."""

from __future__ import annotations

import asyncio
import contextlib
import time

from heavysync.objects import Location
from heavysync.retry import Retrier, StoppedError
from heavysync.stores.renewal import Patience
from heavysync.stores.s3 import S3Options, open_s3

LIMIT = 120.0
"""Requests a second; low enough that a busy machine can serve them."""


class Provider:
    """Serves LIMIT looks at objects a second, and answers 503 to all others, as S3 does to a HEAD."""

    def __init__(self) -> None:
        self.served = self.refused = 0
        self._tokens = LIMIT / 10
        self._filled = time.monotonic()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(self._answer())
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    def _answer(self) -> bytes:
        now = time.monotonic()
        self._tokens = min(LIMIT / 10, self._tokens + (now - self._filled) * LIMIT)
        self._filled = now
        if self._tokens < 1:
            self.refused += 1
            return b"HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\n\r\n"
        self._tokens -= 1
        self.served += 1
        return b'HTTP/1.1 200 OK\r\ncontent-length: 3\r\netag: "x"\r\nlast-modified: Sun, 22 Nov 2026 10:00:00 GMT\r\n\r\n'


def test_provider_is_driven_close_below_its_limit():
    """After the first storm: at 90 % of its limit at least, with fewer than 2 % of the requests refused."""

    async def body() -> tuple[float, float]:
        provider = Provider()
        server = await asyncio.start_server(provider.talk, "127.0.0.1", 0)
        options = S3Options(endpoint_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", anonymous=True)
        retry = Retrier()
        async with (
            server,
            open_s3(
                Location.parse("s3://bucket"), options, connections=64, patience=Patience(stopping=retry.stopping)
            ) as store,
        ):

            async def worker() -> None:
                while not retry.stopping.is_set():
                    with contextlib.suppress(StoppedError):
                        await retry("look", lambda: store.stat("key"))

            async def watch() -> tuple[float, float]:
                await asyncio.sleep(10)  # the first storm, and what a busy machine mistook for a limit
                served, refused, since = provider.served, provider.refused, time.monotonic()
                await asyncio.sleep(8)
                served, refused = provider.served - served, provider.refused - refused
                took = time.monotonic() - since
                retry.stopping.set()
                return served / (LIMIT * took), refused / (served + refused)

            async with asyncio.TaskGroup() as group:
                for _ in range(64):
                    group.create_task(worker())
                watching = group.create_task(watch())
            return watching.result()

    use, refused = asyncio.run(body())
    print(f"driven at {use:.1%} of the limit, {refused:.2%} refused")
    assert use >= 0.9
    assert refused < 0.02
