"""Whether something waits to be read on a socket, asked without giving the interpreter away.

`select.poll` gives it away for each call, as all that might block does. That is needless for a call that never waits, and was a
twentieth of the CPU of a copy: each time it wakes the thread of a state file, which finds it taken again (measured,
docs/design/0018-cpu-per-object.md). `ctypes.PyDLL` calls the same function of the system and keeps it.
"""

from __future__ import annotations

import ctypes
import select
import socket
from collections.abc import Callable


class _PollFd(ctypes.Structure):
    """`struct pollfd`.

    Source: https://pubs.opengroup.org/onlinepubs/9799919799/functions/poll.html
    """

    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


_poll = None
if hasattr(select, "poll"):
    _poll = ctypes.PyDLL(None).poll
    _poll.argtypes = (ctypes.POINTER(_PollFd), ctypes.c_ulong, ctypes.c_int)


def quietness_of(sock: socket.socket) -> Callable[[], bool]:
    """What tells whether nothing waits on a socket: neither bytes nor the end. Always so where the system cannot tell.

    It goes by the number of the socket, and must not be asked when that is closed.
    """
    poll = _poll
    if poll is None:
        return lambda: True
    asked = ctypes.pointer(_PollFd(sock.fileno(), select.POLLIN, 0))

    def is_quiet() -> bool:
        return bool(poll(asked, 1, 0) == 0)

    return is_quiet
