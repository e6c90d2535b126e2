"""A client that sees every byte, and how a connection ends."""

from __future__ import annotations

import socket


class Raw:
    """A client that sees every byte."""

    def __init__(self, kit, *, send_buffer=None):
        self._socket = socket.socket()
        if send_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        self._socket.settimeout(5)
        self._socket.connect(("127.0.0.1", int(kit.url.rpartition(":")[2])))
        self.got = b""

    def send(self, method, target, body=b"", *, claimed=None):
        head = f"{method} {target} HTTP/1.1\r\nHost: some.where:1\r\nContent-Length: {len(body) if claimed is None else claimed}\r\n\r\n"
        self._socket.sendall(head.encode() + body)
        return self

    def read(self, size):
        """Exactly so many bytes, or fewer where the other side ends."""
        while len(self.got) < size and (data := self._socket.recv(size - len(self.got))):
            self.got += data
        found, self.got = self.got[:size], self.got[size:]
        return found

    def head(self):
        """Read up to the empty line."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = self.read(1)
            if not piece:
                break
            head += piece
        return head.decode()

    def is_silent(self, seconds=0.15):
        """Whether nothing comes for a while, the connection staying open."""
        self._socket.settimeout(seconds)
        try:
            return self._socket.recv(1) is None
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(5)

    def ends(self):
        """How it ends: "reset" or "closed"."""
        try:
            return "closed" if self._socket.recv(1) == b"" else "goes on"
        except ConnectionResetError:
            return "reset"

    def fill(self, size, seconds=0.3):
        """Send as much of `size` bytes as the other side takes; answer how much that was."""
        self._socket.settimeout(seconds)
        sent, data = 0, b"f" * (1 << 16)
        try:
            while sent < size:
                sent += self._socket.send(data)
        except TimeoutError:
            pass
        return sent

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()


def length_of(head):
    """What Content-Length says."""
    return int(next(line.partition(":")[2] for line in head.splitlines() if line.lower().startswith("content-length")))
