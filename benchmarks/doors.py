"""CPU-milliseconds of signed GETs and PUTs of 1 KiB by HTTP client, CPU-seconds a GiB relayed: `python benchmarks/doors.py`.

A raw server in a process of its own answers from memory. The clients take turns within one process, round by round, so that
a slow minute of the machine meets all of them. pyreqwest (Rust, hyper) is measured for the record where it is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

from heavysync.stores.http import Door
from heavysync.stores.sigv4 import Signer

KIB, MIB = 1 << 10, 1 << 20
BIG = 16 * MIB
HOST = "127.0.0.1"


# the server


class Raw(asyncio.Protocol):
    """Answers GET /<size> with so many bytes, and everything else with 200, once the body has come."""

    bodies: dict[int, bytes] = {}  # noqa: RUF012

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.data = b""
        self.left = 0

    def data_received(self, data: bytes) -> None:
        if self.left:
            taken = min(self.left, len(data))
            self.left -= taken
            data = data[taken:]
            if self.left:
                return
            self.transport.write(OK)
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            head, self.data = self.data[: end + 4], self.data[end + 4 :]
            if head.startswith(b"GET"):
                self.answer(int(head[5 : head.index(b" ", 5)]))
                continue
            at = head.lower().index(b"content-length: ") + 16
            size = int(head[at : head.index(b"\r", at)])
            here = min(size, len(self.data))
            self.data = self.data[here:]
            self.left = size - here
            if not self.left:
                self.transport.write(OK)

    def answer(self, size: int) -> None:
        body = self.bodies.get(size)
        if body is None:
            body = self.bodies[size] = bytes(size)
        self.transport.writelines([HEAD % size, body])


HEAD = (
    b"HTTP/1.1 200 OK\r\nx-amz-request-id: 4442587FB7D0A2F9\r\nDate: Sun, 22 Nov 2026 10:00:00 GMT\r\nServer: raw\r\n"
    b'Last-Modified: Sun, 22 Nov 2026 10:00:00 GMT\r\nETag: "0f343b0931126a20f133d67c2b018a3b"\r\nAccept-Ranges: bytes\r\n'
    b"Content-Type: binary/octet-stream\r\nContent-Length: %d\r\n\r\n"
)
OK = HEAD % 0


async def serve(folder: str) -> None:
    loop = asyncio.get_running_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/c.pem", f"{folder}/k.pem")
    plain = await loop.create_server(Raw, HOST, 0, backlog=2048)
    secure = await loop.create_server(Raw, HOST, 0, ssl=context, backlog=2048)
    print(json.dumps([server.sockets[0].getsockname()[1] for server in (plain, secure)]), flush=True)
    parent = os.getppid()
    while os.getppid() == parent:  # noqa: ASYNC110 - nobody could set an event
        await asyncio.sleep(0.5)


# the clients: each gives get(url, headers, limit) -> chunks and put(url, headers, chunks)

Get = Callable[[str, dict[str, str], int], Awaitable[list[bytes]]]
Put = Callable[[str, dict[str, str], list[bytes]], Awaitable[None]]


@contextlib.asynccontextmanager
async def door(client: Any, connections: int, ca: str) -> AsyncIterator[tuple[Get, Put]]:
    async with Door(connections=connections, ca_bundle=ca, client=client) as opened:

        async def get(url: str, headers: dict[str, str], limit: int) -> list[bytes]:
            return (await opened.request("GET", url, headers, limit=limit)).chunks

        async def put(url: str, headers: dict[str, str], chunks: list[bytes]) -> None:
            await opened.request("PUT", url, headers, chunks, limit=KIB)

        yield get, put


@contextlib.asynccontextmanager
async def pyreqwest(connections: int, authority: bytes) -> AsyncIterator[tuple[Get, Put]]:
    from pyreqwest.client import ClientBuilder

    builder = ClientBuilder().max_connections(connections).add_root_certificate_pem(authority)
    async with builder.build() as client:

        async def get(url: str, headers: dict[str, str], limit: int) -> list[bytes]:  # noqa: ARG001
            answer = await client.get(url).headers(headers).build().send()
            return [(await answer.bytes()).to_bytes()]

        async def put(url: str, headers: dict[str, str], chunks: list[bytes]) -> None:
            await client.put(url).headers(headers).body_bytes(b"".join(chunks)).build().send()

        yield get, put


def clients(names: list[str], connections: int, ca: str) -> dict[str, Any]:
    made: dict[str, Any] = {name: door(name, connections, ca) for name in names if name != "pyreqwest"}
    if "pyreqwest" in names:
        made["pyreqwest"] = pyreqwest(connections, Path(ca).read_bytes())
    return made


# the tasks


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def crowd(workers: int, count: int, step: Callable[[int], Awaitable[None]]) -> tuple[float, float]:
    """CPU and wall seconds of `count` steps by so many workers."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await step(number)

    before, started = cpu(), time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(worker())
    return cpu() - before, time.monotonic() - started


async def measure(options: argparse.Namespace, url: str, ca: str) -> dict[str, dict[str, list[float]]]:
    signer = Signer("AKIAEXAMPLE12345", "secretsecretsecret", None, "us-east-1")
    host = url.partition("//")[2]
    small = bytes(KIB)
    found: dict[str, dict[str, list[float]]] = {}
    async with contextlib.AsyncExitStack() as stack:
        made = clients(options.clients, options.concurrency, ca)
        ready = {name: await stack.enter_async_context(client) for name, client in made.items()}
        for turn in range(options.rounds + 1):
            for name, (get, put) in ready.items():

                async def one_get(number: int, get: Get = get) -> None:  # noqa: ARG001
                    headers = signer.sign("GET", host, f"/{KIB}", "", {}, now=time.time())
                    await get(f"{url}/{KIB}", headers, KIB)

                async def one_put(number: int, put: Put = put) -> None:
                    path = f"/key-{number}"
                    headers = signer.sign("PUT", host, path, "", {"content-md5": "x" * 24}, now=time.time())
                    await put(url + path, headers, [small])

                async def relay(number: int, get: Get = get, put: Put = put) -> None:
                    chunks = await get(f"{url}/{BIG}", {}, BIG)
                    await put(f"{url}/key-{number}", {}, chunks)

                costs = found.setdefault(name, {"get": [], "put": [], "relay": [], "wall": []})
                gets, wall = await crowd(options.concurrency, options.count, one_get)
                puts, _ = await crowd(options.concurrency, options.count, one_put)
                relays, _ = await crowd(16, options.relay, relay)
                if turn:  # the first one warms up
                    costs["get"].append(gets / options.count * 1000)
                    costs["put"].append(puts / options.count * 1000)
                    costs["wall"].append(options.count / wall)
                    costs["relay"].append(relays / max(1, options.relay) / BIG * (1 << 30))
    return found


def show(title: str, found: dict[str, dict[str, list[float]]]) -> None:
    print(f"\n{title}: CPU-ms a request (least-most), requests/s, CPU-s per GiB relayed")
    for name, costs in found.items():
        cells = [f"{statistics.median(costs[k]):.3f} ({min(costs[k]):.3f}-{max(costs[k]):.3f})" for k in ("get", "put")]
        relay = f"{statistics.median(costs['relay']):.2f} ({min(costs['relay']):.2f}-{max(costs['relay']):.2f})"
        print(f"{name:10} GET {cells[0]}  PUT {cells[1]}  {statistics.median(costs['wall']):6.0f}/s  relay {relay}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--clients", nargs="+", default=["lean", "aiohttp"], choices=["lean", "aiohttp", "pyreqwest"])
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--relay", type=int, default=16, help="objects of 16 MiB")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    parser.add_argument("--tls", choices=["no", "yes", "both"], default="both")
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve(options.serve))
        return
    with tempfile.TemporaryDirectory() as folder:
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=raw", "-days", "2"]
        command += ["-addext", f"subjectAltName=IP:{HOST}", "-keyout", f"{folder}/k.pem", "-out", f"{folder}/c.pem"]
        subprocess.run(command, check=True, capture_output=True)
        with subprocess.Popen([sys.executable, __file__, "--serve", folder], stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            ports = json.loads(server.stdout.readline())
            for scheme, port in zip(("http", "https"), ports, strict=True):
                if options.tls == ("yes" if scheme == "http" else "no"):
                    continue
                job = measure(options, f"{scheme}://{HOST}:{port}", f"{folder}/c.pem")
                factory = uvloop.new_event_loop if options.loop == "uvloop" else asyncio.new_event_loop
                with asyncio.Runner(loop_factory=factory) as runner:
                    show(f"{scheme}, {options.loop}, {options.concurrency} at once", runner.run(job))
            server.terminate()


if __name__ == "__main__":
    main()
