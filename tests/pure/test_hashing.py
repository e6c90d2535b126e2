"""Digests of bytes that are there: large ones are computed beside the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from heavysync import hashing
from heavysync.checksums import digest
from heavysync.hashing import digests_of
from heavysync.objects import Content, Digests


@pytest.mark.parametrize(("size", "is_beside"), [(1 << 10, False), (1 << 18, False), ((1 << 18) + 1, True)])
def test_large_digests_leave_the_event_loop(monkeypatch: pytest.MonkeyPatch, size: int, is_beside: bool) -> None:
    """The md5 of 8 MiB would hold it up for 11 ms."""
    threads: list[threading.Thread] = []

    def noted(chunks: Sequence[bytes]) -> Digests:
        threads.append(threading.current_thread())
        return digest(chunks)

    monkeypatch.setattr(hashing, "digest", noted)
    content = Content([bytes(size - 1), b"x"], size)

    assert asyncio.run(digests_of(content)) == digest(content.chunks)
    assert [thread is not threading.main_thread() for thread in threads] == [is_beside]
