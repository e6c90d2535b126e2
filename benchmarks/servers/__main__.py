"""Run the server: prints one line of JSON with its URLs, ends when its standard input does.

{"s3": "http://127.0.0.1:PORT", "gs": ..., "control": ..., "s3s": "https://...", "gss": ..., "certificate": "FILE"}
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import socket
import sys
import tempfile
from functools import partial
from pathlib import Path

import uvloop

from servers import gcs_uploads, s3_uploads
from servers.control import Control
from servers.gcs import Gcs
from servers.http import Connection, Pace, Service
from servers.s3 import S3
from servers.tls import make_certificate, server_context

_BACKLOG = 4096


async def main(*, with_tls: bool, latency_ms: float, bandwidth: float) -> None:
    """Serve until standard input ends."""
    s3, gcs, pace = S3(), Gcs(), Pace()
    s3.uploads, gcs.uploads = s3_uploads.Uploads(), gcs_uploads.Uploads()
    pace.latency_s, pace.bandwidth = latency_ms / 1000, bandwidth
    loop = asyncio.get_running_loop()
    urls = {}

    async def listen(name: str, service: Service, how: Pace, context: object = None) -> None:
        scheme = "https" if context else "http"
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        made = partial(Connection, service, how, scheme)
        await loop.create_server(made, sock=listener, backlog=_BACKLOG, ssl=context)  # type: ignore[call-overload]
        urls[name] = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"

    with tempfile.TemporaryDirectory() as folder:
        await listen("s3", s3, pace)
        await listen("gs", gcs, pace)
        await listen("control", Control({"s3": s3, "gs": gcs}, pace), Pace())
        if with_tls:
            certificate = make_certificate(Path(folder))
            context = server_context(certificate)
            await listen("s3s", s3, pace, context)
            await listen("gss", gcs, pace, context)
            urls["certificate"] = str(certificate)
        print(json.dumps(urls), flush=True)
        gc.freeze()
        gc.disable()
        await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tls", action="store_true", help="listen with TLS, too")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--bandwidth", type=float, default=0.0, help="bytes a second of one connection")
    options = parser.parse_args()
    uvloop.run(main(with_tls=options.tls, latency_ms=options.latency_ms, bandwidth=options.bandwidth))
