"""One process of a crew, as the process that has started it sees it: what it has to do, and how it is told and ended."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from heavysync.runners.wire import Message, frame

_log = logging.getLogger("heavysync")


class GoneError(Exception):
    """A process has died; its ranges are nobody's.

    Args:
        how: in words.
    """

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


class Member:
    """One process of a crew, as this one sees it.

    Args:
        process: the process.
        reader: what it says.
        writer: what it is told.
        number: unique in the crew.
        at_once: ranges that it should have, to begin with.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        number: int,
        at_once: int,
    ) -> None:
        self.process = process
        self.reader = reader
        self.writer = writer
        self.number = number
        self.load = 0  # ranges it has, or is about to have
        self.at_once = at_once
        self.works: dict[int, asyncio.Future[bool]] = {}  # by number of the range
        self.ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.retrying: set[str] = set()
        self.last_words = ""
        self.is_on_trial = False  # the run can do without it
        self.trouble = ""  # why it cannot go on
        self.is_dismissed = False  # it was killed from here
        self.silence = 0  # looks since it said something

    async def overhear(self) -> None:
        """Log what it writes to its standard error: what Python itself says when it breaks."""
        assert self.process.stderr is not None
        while heard := await self.process.stderr.read(1 << 14):
            for line in heard.decode("utf-8", "replace").split("\n"):
                self.last_words = line.strip() or self.last_words
                _log.warning("process %d: %s", self.process.pid, line)

    def tell(self, message: Message) -> None:
        """Send a message; one that has died is noticed by whoever listens to it."""
        if not self.writer.is_closing():
            self.writer.write(frame(message))

    def dismiss(self) -> None:
        """End it now."""
        self.is_dismissed = True
        with suppress(ProcessLookupError):
            self.process.kill()
        self.writer.transport.abort()  # what it has started may hold the other end

    def gone(self, how: str) -> None:
        """It has died."""
        settle(self.ready, False)
        for work in self.works.values():
            if not work.done():
                work.set_exception(GoneError(how))


def settle(future: asyncio.Future[bool], answer: bool) -> None:  # noqa: FBT001 - it is what is answered
    """Answer somebody who may have been cancelled while he waited."""
    if not future.done():
        future.set_result(answer)
