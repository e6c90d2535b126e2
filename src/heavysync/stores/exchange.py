"""What the door and the two clients behind it agree on: an answer, the limits of a request, and who carries it out."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from heavysync.errors import TransientError

Client = Literal["lean", "aiohttp"]
"""Who speaks HTTP: heavysync itself, or aiohttp."""

STALL_S = 60.0
"""Seconds without a byte after which a request is given up (SEMANTICS: no bytes for 60 s, botocore: 60)."""

CONNECT_S = 10.0
"""Seconds to connect (botocore: 60; a dead address should cost less)."""

ERROR_BODY_LIMIT = 1 << 20
"""Bytes of an error answer that are read; providers send below 2 KiB."""

PROGRESS = 4096
"""Bytes of an answer that count as progress: one byte a minute would hold a worker up for years."""

STOPPING_S = 2.0
"""The same once the run stops: what moves is finished, what hangs is given up, and the next run does it again."""

LOOK_S = 0.25
"""How often somebody looks whether the run stops, and which requests hang."""

PIECE = 1 << 18
"""Bytes that are read or written at a time: 128-512 KiB make no difference, 64 KiB is slower (measured)."""


class Response(NamedTuple):
    """A whole answer.

    Attributes:
        status: HTTP status.
        headers: names in lower case; several of one name are joined by ", ".
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
        headers: of the answer, names in lower case.
    """

    def __init__(self, message: str, headers: Mapping[str, str]) -> None:
        super().__init__(message)
        self.headers = headers


class Setup(NamedTuple):
    """What a client is told once.

    Attributes:
        connections: most requests under way at once.
        stopping: once it is set, STOPPING_S are enough for a stall.
        context: makes the TLS context; takes 20 ms.
        trust_env: use the proxies that the environment names.
    """

    connections: int
    stopping: asyncio.Event
    context: Callable[[], ssl.SSLContext]
    trust_env: bool


class Transport(Protocol):
    """Carries requests out; an instance lives in one event loop."""

    async def open(self) -> None:
        """Get ready; connects to nobody yet."""

    async def close(self) -> None:
        """Close all connections."""

    async def exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | Callable[[], Mapping[str, str]],
        body: Sequence[bytes],
        limit: int,
        stall_s: float,
    ) -> Response:
        """See `Door.request`."""
        ...


def place(url: str) -> str:
    """The part of a URL that may be shown: a query can hold signatures and upload credentials."""
    return url.partition("?")[0]


def stalled(seconds: float) -> str:
    """What is said of a request of which too little moved."""
    return f"too little moved for {seconds:g} s"
