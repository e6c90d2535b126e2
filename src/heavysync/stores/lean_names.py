"""Where a server is: addresses by DNS, remembered for a minute, each connection beginning with another one.

Names are looked up in threads of their own, since a look-up can hang for a minute and cannot be cancelled: nobody waits for
such a thread, not even the end of the program, and all who want the same name wait for the same look-up.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from itertools import groupby
from typing import TypeAlias

KEPT_S = 60.0
"""Seconds for which addresses are believed; aiohttp does the same. Providers' names live for 5 to 300 s."""

PENDING_S = 15.0
"""Seconds after which a look-up that hangs gets company."""

Address: TypeAlias = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]
"""As `socket.getaddrinfo` gives it, and `aiohappyeyeballs` takes it."""


class Names:
    """The addresses of servers, for one event loop."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[float, list[Address]]] = {}
        self._waiting: dict[tuple[str, int], list[asyncio.Future[list[Address]]]] = {}
        self._asked_at: dict[tuple[str, int], float] = {}
        self._turn = 0

    async def addresses(self, host: str, port: int) -> list[Address]:
        """All addresses, in the order in which they are to be tried; each call begins with another one.

        Raises:
            OSError: the name is not known, or nobody can be asked.
        """
        if number := _literal(host, port):
            return [number]
        loop = asyncio.get_running_loop()
        at, found = self._known.get((host, port), (0.0, []))
        if not found or loop.time() >= at + KEPT_S:
            found = await self._look_up(host, port, loop)
        self._turn += 1
        families = [list(group) for _, group in groupby(found, key=lambda address: address[0])]
        return [address for group in families for address in _rotated(group, self._turn)]

    def forget(self, host: str, port: int) -> None:
        """None of the addresses answers: look them up anew next time."""
        self._known.pop((host, port), None)

    async def _look_up(self, host: str, port: int, loop: asyncio.AbstractEventLoop) -> list[Address]:
        key = (host, port)
        waiter: asyncio.Future[list[Address]] = loop.create_future()
        waiting = self._waiting.setdefault(key, [])
        if not waiting or loop.time() >= self._asked_at[key] + PENDING_S:
            self._asked_at[key] = loop.time()
            threading.Thread(target=self._ask, args=(key, loop), daemon=True, name="heavysync-names").start()
        waiting.append(waiter)
        try:
            return await waiter
        finally:
            if waiter.cancelled() and waiter in waiting and len(waiting) > 1:
                waiting.remove(waiter)  # the last one stays: it tells that somebody is being asked

    def _ask(self, key: tuple[str, int], loop: asyncio.AbstractEventLoop) -> None:
        """In a thread: ask, and hand the answer over."""
        found: list[Address] | OSError
        try:
            found = socket.getaddrinfo(*key, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)  # type: ignore[assignment]
        except OSError as error:
            found = error
        except UnicodeError as error:  # a label of more than 63 characters
            found = OSError(f"{key[0]!r} cannot be looked up: {error}")
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(self._answered, key, found, loop)

    def _answered(self, key: tuple[str, int], found: list[Address] | OSError, loop: asyncio.AbstractEventLoop) -> None:
        if not isinstance(found, OSError):
            self._known[key] = (loop.time(), found)
        for waiter in self._waiting.pop(key, ()):
            if waiter.done():
                continue
            if isinstance(found, OSError):
                waiter.set_exception(found)
            else:
                waiter.set_result(found)


def _rotated(group: list[Address], turn: int) -> list[Address]:
    first = turn % len(group)
    return group[first:] + group[:first]


def _literal(host: str, port: int) -> Address | None:
    """An address that needs no look-up."""
    for family, where in ((socket.AF_INET, (host, port)), (socket.AF_INET6, (host, port, 0, 0))):
        with suppress(OSError, ValueError):
            socket.inet_pton(family, host)
            return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where
    return None
