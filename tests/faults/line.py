"""One end of a connection: read and written with every byte counted, closed in good order or reset."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

PIECE = 1 << 16


@dataclass(slots=True)
class Line:
    """One end of a connection.

    Attributes:
        moved: bytes read from it and written to it.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    moved: list[int] = field(default_factory=lambda: [0, 0])

    async def head(self) -> bytes:
        """Read up to the empty line."""
        data = await self.reader.readuntil(b"\r\n\r\n")
        self.moved[0] += len(data)
        return data

    async def read(self, size: int) -> bytes:
        """Read from 1 to `size` bytes.

        Raises:
            IncompleteReadError: the other side has ended.
        """
        data = await self.reader.read(min(size, PIECE))
        if not data:
            raise asyncio.IncompleteReadError(data, size)
        self.moved[0] += len(data)
        return data

    async def line(self) -> bytes:
        """Read one line, with its end."""
        data = await self.reader.readuntil(b"\r\n")
        self.moved[0] += len(data)
        return data

    async def write(self, data: bytes) -> None:
        """Write all of it."""
        self.writer.write(data)
        self.moved[1] += len(data)
        await self.writer.drain()

    async def until_gone(self) -> None:
        """Wait until the other side gives up."""
        while data := await self.reader.read(PIECE):
            self.moved[0] += len(data)

    async def close(self) -> None:
        """In good order."""
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    def reset(self) -> None:
        """With RST, so that the other side sees an error and no end of file."""
        sock = self.writer.get_extra_info("socket")
        if sock is not None and not self.writer.transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


async def chunks(line: Line) -> AsyncIterator[bytes]:
    """A chunked body with its framing, piece by piece; one piece for each size line, and for the trailer."""
    while True:
        size_line = await line.line()
        yield size_line
        left = int(size_line.partition(b";")[0], 16)
        if left == 0:
            break
        left += 2
        while left:
            piece = await line.read(left)
            left -= len(piece)
            yield piece
    while True:
        trailer = await line.line()
        yield trailer
        if trailer == b"\r\n":
            return


def unchunked(pieces: list[bytes]) -> list[bytes]:
    """The content of a chunked body."""
    raw, found = b"".join(pieces), []
    while raw:
        size_line, _, raw = raw.partition(b"\r\n")
        size = int(size_line.partition(b";")[0], 16)
        if size == 0:
            break
        found.append(raw[:size])
        raw = raw[size + 2 :]
    return found
