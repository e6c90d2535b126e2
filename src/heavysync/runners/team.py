"""What it takes to start processes for a run, and what each of them may use: an equal share of what the options give."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from heavysync.errors import FatalError
from heavysync.objects import Location
from heavysync.options import SyncOptions
from heavysync.passes import share_of
from heavysync.runners.wire import Setup
from heavysync.state.job import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """What it takes to start processes for a run.

    Args:
        most: processes.
        at_once: they do all of the work; False: this process begins, and they follow when it pays.
        ends: source and destination.
        options: of the run.
        directory: of the state.
        lock: the descriptor by which it is owned.
        stop: ends the run.
        retry_base_s: see `Retrier`.
    """

    most: int
    at_once: bool
    ends: tuple[Location, Location]
    options: SyncOptions
    directory: Path
    lock: int
    stop: asyncio.Event
    retry_base_s: float

    def setup(self, *, run: Run, is_watched: bool, null_is_safe: bool) -> Setup:
        """What each process is told first."""
        return Setup(
            ends=self.ends,
            options=self.options,
            directory=str(self.directory.absolute()),
            share=share_of(self.options, self.most),
            run=run,
            is_watched=is_watched,
            null_is_safe=null_is_safe,
            retry_base_s=self.retry_base_s,
            log_level=logging.getLogger("heavysync").getEffectiveLevel(),
        )

    async def start(self) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader, asyncio.StreamWriter]:
        """Start a process; answer it, what it says, and what it is told.

        Raises:
            FatalError: it cannot be started.
        """
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                reader, writer = await _stream(ours)
                try:
                    process = await asyncio.create_subprocess_exec(
                        *(sys.executable or "python3", "-P", "-m", "heavysync.runners.child"),
                        *(str(theirs.fileno()), str(self.lock)),
                        stdin=asyncio.subprocess.DEVNULL,
                        stdout=asyncio.subprocess.DEVNULL,
                        stderr=asyncio.subprocess.PIPE,  # not this one's: whoever reads that would wait for orphans
                        pass_fds=(theirs.fileno(), self.lock),
                        start_new_session=True,  # Ctrl-C in a terminal is for this process
                    )
                except (OSError, asyncio.CancelledError):
                    writer.close()  # which ends the process, if there is one
                    raise
        except OSError as error:
            raise FatalError(f"another process cannot be started: {error}: give --processes 1") from error
        return process, reader, writer


async def _stream(end: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_unix_connection(sock=end)
    except asyncio.CancelledError:
        end.close()
        raise
