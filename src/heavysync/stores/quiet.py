"""Whether something waits to be read on a socket, asked without giving the interpreter away.

`select.poll` gives it away for each call, as all that might block does. That is needless for a call that never waits, and was a
twentieth of the CPU of a copy: each time it wakes the thread of a state file, which finds it taken again (measured,
docs/design/0018-cpu-per-object.md). `ctypes.PyDLL` calls the same function of the system and keeps it.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable

try:
    import ctypes

    _poll: Callable[..., int] | None = ctypes.PyDLL(None).poll
except (ImportError, OSError, TypeError, AttributeError):  # built without libffi, or statically; Windows
    _poll = None


def quietness_of(sock: socket.socket) -> Callable[[], bool]:
    """What tells whether nothing waits on a socket: neither bytes nor the end. Always so where the system cannot tell.

    It goes by the number of the socket, and must not be asked when that is closed.
    """
    if _poll is not None:
        return _kept(sock, _poll)
    if not hasattr(select, "poll"):
        return lambda: True
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return lambda: not poller.poll(0)


def _kept(sock: socket.socket, poll: Callable[..., int]) -> Callable[[], bool]:
    """The same by `poll` of the system. https://pubs.opengroup.org/onlinepubs/9799919799/functions/poll.html."""
    pollfd = struct.pack("ihh", sock.fileno(), select.POLLIN, 0)
    asked = ctypes.create_string_buffer(pollfd, len(pollfd))
    one = ctypes.c_ulong(1)

    def is_quiet() -> bool:
        return poll(asked, one, 0) == 0  # -1: it could not tell

    return is_quiet
