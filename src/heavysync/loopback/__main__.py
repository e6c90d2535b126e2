"""The loopback server as a process: prints its URL on one line, serves until it is told to end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from heavysync.loopback.model import Settings
from heavysync.loopback.server import LoopbackGcs

_WATCH_S = 0.5  # how often the parent is looked for


def main() -> int:
    """Run the server; SIGTERM, SIGINT or the end of the parent end it."""
    options = _options()
    uvloop_factory = None
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=uvloop_factory) as runner:
        runner.run(_serve(options))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m heavysync.loopback", description="A Google Cloud Storage JSON API in memory."
    )
    parser.add_argument("--port", type=int, default=0, help="to listen on; 0 takes a free one")
    parser.add_argument("--port-file", type=Path, help="the port is written there, too, once it listens")
    parser.add_argument("--parent", type=int, help="end when this process is not the parent any more")
    parser.add_argument("--bucket", action="append", default=[], help="make this bucket; may be repeated")
    parser.add_argument("--require-auth", action="store_true", help="refuse requests without a token")
    return parser.parse_args()


async def _serve(options: argparse.Namespace) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with LoopbackGcs(port=options.port, settings=Settings(require_auth=options.require_auth)) as server:
        for name in options.bucket:
            server.create_bucket(name)
        _announce(server.url, options.port_file)
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), _WATCH_S if options.parent else None)
            if options.parent and os.getppid() != options.parent:
                return


def _announce(url: str, port_file: Path | None) -> None:
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()
    if port_file is not None:
        part = port_file.with_name(f"{port_file.name}.part")
        part.write_text(url.rsplit(":", 1)[1], encoding="ascii")
        part.replace(port_file)


if __name__ == "__main__":
    sys.exit(main())
