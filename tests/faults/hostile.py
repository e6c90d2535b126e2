"""A server that means harm: whatever is asked, it answers bytes without end, or small ones that would grow."""

from __future__ import annotations

import contextlib
import socketserver
import threading
import time
import zlib
from collections.abc import Callable, Iterator

MIB = 1 << 20
ENDLESS_S = 5.0
"""So long an endless answer goes on if nobody hangs up."""

Answer = Iterator[bytes]


def _head(*lines: bytes, kind: bytes = b"application/xml") -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Type: " + kind, *lines, b"", b""])


def _sized(body: bytes, *lines: bytes, kind: bytes = b"application/xml") -> Answer:
    yield _head(b"Content-Length: %d" % len(body), *lines, kind=kind) + body


def _json(body: bytes, *lines: bytes) -> Answer:
    return _sized(body, *lines, kind=b"application/json")


def _endless(first: bytes, more: bytes) -> Answer:
    yield first
    until = time.monotonic() + ENDLESS_S
    while time.monotonic() < until:
        yield more


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


_CHUNKED = _head(b"Transfer-Encoding: chunked")
_LINE = b"X-A: " + b"a" * 8000 + b"\r\n"
_ENTITIES = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
_LAUGHS = f'<?xml version="1.0"%s?><!DOCTYPE a [<!ENTITY a0 "{"ha" * 20}">{_ENTITIES}]><a>&a11;</a>'


def _bomb() -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(bytes(MIB)) for _ in range(512)) + packer.flush()


ANSWERS: dict[str, Callable[[], Answer]] = {
    "a header without end": lambda: _endless(b"HTTP/1.1 200 OK\r\nX-A: ", b"a" * MIB),
    "headers without end": lambda: _endless(b"HTTP/1.1 200 OK\r\n", _LINE * 128),
    "small headers without end": lambda: _endless(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 100_000),
    "a status line without end": lambda: _endless(b"HTTP/1.1 200 ", b"a" * MIB),
    "chunks without end": lambda: _endless(_CHUNKED, _chunk(b"<a>" + b"a" * MIB)),
    "a chunk extension without end": lambda: _endless(_CHUNKED + b"1;", b"a" * MIB),
    "trailers without end": lambda: _endless(_CHUNKED + _chunk(b"<a/>") + b"0\r\n", _LINE * 128),
    "a body of an exabyte": lambda: _endless(_head(b"Content-Length: 1000000000000000000"), bytes(MIB)),
    "an error without end": lambda: _endless(_CHUNKED.replace(b"200 OK", b"500 No"), _chunk(b"<Error>" * 100_000)),
    "a billion laughs": lambda: _sized((_LAUGHS % "").encode()),
    "a billion laughs in UTF-16": lambda: _sized((_LAUGHS % "").encode("utf-16")),
    "a billion laughs in EBCDIC": lambda: _sized(b'<?xml version="1.0" encoding="cp037"?>' + (_LAUGHS % "").encode("cp037")),
    "deep XML": lambda: _sized(b"<a>" * (5 * MIB)),
    "wide XML": lambda: _sized(b"<a>" + b"<a/>" * (4 * MIB - 100) + b"</a>"),
    "attributes": lambda: _sized(b"<a " + b" ".join(b'a%d=""' % n for n in range(MIB)) + b"/>"),
    "deep JSON": lambda: _json(b"[" * (15 * MIB)),
    "deep objects": lambda: _json(b'{"a":' * (3 * MIB)),
    "wide JSON": lambda: _json(b'{"kind":"storage#objects","items":[' + b"{}," * (5 * MIB) + b"{}]}"),
    "wide lists": lambda: _json(b"[" + b"[]," * (5 * MIB) + b"[]]"),
    "many names": lambda: _json(b"{" + b",".join(b'"%x":0' % n for n in range(MIB)) + b"}"),
    "a number of a million digits": lambda: _json(b'{"kind":"storage#objects","items":[%s]}' % (b"9" * MIB)),
    "a gzip bomb": lambda: _json(_bomb(), b"Content-Encoding: gzip"),
}
"""By name."""

JSON = ("deep JSON", "deep objects", "wide JSON", "wide lists", "many names", "a number of a million digits", "a gzip bomb")
"""Those in the words of Google."""


class Hostile(socketserver.ThreadingTCPServer):
    """Answers each request with the next of its answers, and with the last one for ever.

    Args:
        names: of `ANSWERS`.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, names: list[str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.names = names
        self.given: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def next_answer(self) -> Answer:
        """What to say now."""
        name = self.names[min(len(self.given), len(self.names) - 1)]
        self.given.append(name)
        return ANSWERS[name]()

    def handle_error(self, request: object, client_address: object) -> None:
        """That they hang up is what is hoped for."""


class _Handler(socketserver.StreamRequestHandler):
    server: Hostile

    def handle(self) -> None:
        while line := self.rfile.readline():
            if line != b"\r\n":
                continue
            for piece in self.server.next_answer():
                self.wfile.write(piece)


@contextlib.contextmanager
def hostile(*names: str) -> Iterator[Hostile]:
    """Run such a server for the time of the block."""
    with Hostile(list(names)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
