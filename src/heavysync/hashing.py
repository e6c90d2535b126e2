"""Digests of bytes that are there, without holding up the event loop."""

from __future__ import annotations

import asyncio

from heavysync.checksums import digest
from heavysync.objects import Content, Digests

_THREAD_FROM = 1 << 18  # the md5 of 256 KiB takes 0.35 ms; above that it leaves the event loop


async def digests_of(content: Content) -> Digests:
    """Compute md5 and CRC32C, in a thread where that takes long."""
    if content.size <= _THREAD_FROM:
        return digest(content.chunks)
    return await asyncio.to_thread(digest, content.chunks)
