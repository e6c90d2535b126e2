"""Whether something waits on a socket is seen, and looking holds nobody up."""

from __future__ import annotations

import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from heavysync.stores import quiet
from heavysync.stores.quiet import quietness_of

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(autouse=True, params=["kept", "given away"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """By the system's function, and by Python's where that one is not to be had."""
    if request.param == "given away":
        monkeypatch.setattr(quiet, "_poll", None)
    return str(request.param)


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    with near, far:
        yield near, far


def test_bytes_are_seen_until_they_are_read(pair: Pair) -> None:
    """Also the first one."""
    near, far = pair
    is_quiet = quietness_of(near)
    assert is_quiet()
    far.send(b"x")
    assert not eventually(is_quiet)
    near.recv(10)
    assert is_quiet()


def test_end_is_seen(pair: Pair) -> None:
    """Of a server that closes an idle connection."""
    near, far = pair
    is_quiet = quietness_of(near)
    far.shutdown(socket.SHUT_WR)
    assert not eventually(is_quiet)


def test_reset_is_seen(pair: Pair) -> None:
    """Of a server that was killed, or a router that forgot."""
    near, far = pair
    is_quiet = quietness_of(near)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    assert not eventually(is_quiet)


def test_closed_socket_is_not_quiet(pair: Pair) -> None:
    """Nobody asks then; whoever did would not take it for a good one."""
    near, _ = pair
    is_quiet = quietness_of(near)
    near.close()
    assert not is_quiet()


def test_who_cannot_be_asked_is_not_quiet(pair: Pair, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal came in between, or memory ran out: the connection is not used again."""
    if way == "kept":
        monkeypatch.setattr(quiet, "_poll", lambda *_: -1)
        assert not quietness_of(pair[0])()


def test_looking_does_not_give_the_interpreter_away(pair: Pair, way: str) -> None:
    """A thread that wants it, as that of a state file does, does not get it by that."""
    is_quiet = quietness_of(pair[0])
    turns = 0
    stop = False

    def want() -> None:
        nonlocal turns
        while not stop:
            turns += 1
            time.sleep(0)  # gives it away, and wants it back

    before = sys.getswitchinterval()
    sys.setswitchinterval(60)  # nobody has to hand it over
    other = threading.Thread(target=want)
    try:
        other.start()
        time.sleep(0.05)
        seen = turns
        looks = 500_000 if way == "kept" else 10_000_000  # whoever is woken may not find a processor at once
        while looks and turns == seen:
            is_quiet()
            looks -= 1
        assert (turns == seen) == (way == "kept")
    finally:
        stop = True
        sys.setswitchinterval(before)
        other.join()


def eventually(is_quiet) -> bool:
    """What it says when the packet has arrived."""
    for _ in range(500):
        if not is_quiet():
            return False
        time.sleep(0.01)
    return True
