"""CPU-seconds per 1,000 objects: listing, and copying objects of 1 KiB streamed and server side. `nox -s bench`.

Servers run on loopback (rclone's S3 in memory, the project's GCS server); only the client's CPU counts, as the kernel
reports it for the finished process. "pace" is the microseconds that the md5 of 1 KiB takes at that moment, to tell a slow
minute of the machine from a slow program. Start-up, measured by a run over ten objects, is shown apart and subtracted.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from heavysync.checksums import digest
from heavysync.objects import Content, Location, Metadata
from heavysync.options import SideOptions
from heavysync.stores import open_store

KEYS = ("AKIAEXAMPLE12345", "secretsecretsecret")
SCRIPTS = Path(sysconfig.get_path("scripts"))


class Cost(NamedTuple):
    """What one run of the command cost."""

    cpu_s: float
    wall_s: float
    peak_mib: float


class Servers(NamedTuple):
    """Where both servers listen."""

    s3: str
    gs: str


def environment() -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": tempfile.gettempdir(),
        "AWS_ACCESS_KEY_ID": KEYS[0],
        "AWS_SECRET_ACCESS_KEY": KEYS[1],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def servers(folder: Path) -> Iterator[Servers]:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    rclone = shutil.which("rclone", path=f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}") or "rclone"
    s3 = subprocess.Popen(
        [rclone, "serve", "s3", ":memory:", "--addr", f"127.0.0.1:{port}", "--auth-key", ",".join(KEYS), "-q"],
        env={**environment(), "RCLONE_CONFIG": str(folder / "rclone.conf")},
    )
    gs = subprocess.Popen(
        [sys.executable, "-m", "heavysync.loopback", "--parent", str(os.getpid())], stdout=subprocess.PIPE, text=True
    )
    try:
        assert gs.stdout is not None
        url = gs.stdout.readline().strip()
        wait_for(port)
        yield Servers(f"http://127.0.0.1:{port}", url)
    finally:
        for process in (s3, gs):
            process.terminate()
            process.wait()


def wait_for(port: int) -> None:
    import socket

    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit("the S3 server did not start")


async def fill(url: str, endpoint: str, count: int, size: int) -> None:
    """Make a bucket with `count` objects of `size` bytes."""
    side = SideOptions(endpoint_url=endpoint, project="bench")
    async with open_store(Location.parse(url), side, connections=64) as store:
        await store.create_bucket(None, None)
        numbers = iter(range(count))

        async def worker() -> None:
            for number in numbers:
                data = number.to_bytes(8, "big") * (size // 8)
                content = Content([data], len(data))
                key = f"part{number % 10}/key-{number:08d}"
                await store.write(key, content, Metadata(), digest([data]), None)

        async with asyncio.TaskGroup() as group:
            for _ in range(32):
                group.create_task(worker())


def sync(source: str, destination: str, where: Servers, state: Path, *more: str) -> Cost:
    """Run the command once and measure it."""
    ends = {"s3": where.s3, "gs": where.gs}
    command = [
        str(SCRIPTS / "heavy-sync"),
        source,
        destination,
        f"--source-endpoint-url={ends[source[:2]]}",
        f"--destination-endpoint-url={ends[destination[:2]]}",
        f"--state={state}",
        "--create-bucket",
        "--project=bench",
        "--json",
        *more,
    ]
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, env=environment(), stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - started
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {output.read()}")
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024)


def pace() -> float:
    """Microseconds that this machine needs for the md5 of 1 KiB at this moment: shared machines change by a factor of two."""
    data = bytes(1024)
    started = time.process_time()
    for _ in range(100_000):
        hashlib.md5(data, usedforsecurity=False).digest()
    return (time.process_time() - started) * 10


def report(name: str, costs: list[Cost], start_up: float, objects: int) -> dict[str, object]:
    cpu = statistics.median(cost.cpu_s for cost in costs)
    wall = statistics.median(cost.wall_s for cost in costs)
    peak = max(cost.peak_mib for cost in costs)
    each = (cpu - start_up) / objects * 1000
    spread = (max(cost.cpu_s for cost in costs) - min(cost.cpu_s for cost in costs)) / objects * 1000
    print(
        f"{name:34} {each:8.4f} CPU-s/1000  ±{spread / 2:.4f}   {wall:7.2f} s wall   {peak:5.0f} MiB peak   pace {pace():.2f}",
        flush=True,
    )
    return {"task": name, "cpu_s_per_1000": each, "spread": spread, "wall_s": wall, "objects": objects}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    os.environ.update(environment())
    folder = Path(tempfile.mkdtemp())
    try:
        with servers(folder) as where:
            figures = run(options.objects, options.rounds, where, folder)
    finally:
        shutil.rmtree(folder)
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1))


def run(objects: int, rounds: int, where: Servers, folder: Path) -> list[dict[str, object]]:
    asyncio.run(fill("s3://ten", where.s3, 10, 1024))
    asyncio.run(fill("s3://full", where.s3, objects, 1024))
    asyncio.run(fill("gs://full", where.gs, objects, 1024))
    sync("s3://ten", "s3://ten-copy", where, folder / "ten")
    start_up = statistics.median(sync("s3://ten", "s3://ten-copy", where, folder / "ten").cpu_s for _ in range(rounds))
    print(f"start-up, a no-op on ten objects: {start_up:.2f} CPU-s (subtracted below)")
    tasks = [
        ("copy streamed s3 to s3", "s3://full", "s3://streamed-{}", ["--no-server-side-copy"]),
        ("copy server side s3", "s3://full", "s3://copied-{}", []),
        ("copy s3 to gs", "s3://full", "gs://from-s3-{}", []),
        ("copy gs to s3", "gs://full", "s3://from-gs-{}", []),
        ("copy server side gs", "gs://full", "gs://copied-{}", []),
    ]
    figures = []
    for name, source, destination, more in tasks:
        costs, again = [], []
        for number in range(rounds):
            there, state = destination.format(number), folder / f"{name}-{number}"
            costs.append(sync(source, there, where, state, *more))
            again.append(sync(source, there, where, state, *more))
        figures.append(report(name, costs, start_up, objects))
        figures.append(report("  no-op, per 1000 keys of both sides", again, start_up, 2 * objects))
    return figures


if __name__ == "__main__":
    main()
