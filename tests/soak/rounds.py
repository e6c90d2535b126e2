"""One round of the soak: a bucket full of objects, bad weather, kills, changes; then calm at the source, until all is equal."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from buckets import loopback_server
from commands import environment, program
from crews import children_of, kill
from faults.exchange import Exchange
from faults.kit import FaultKit, fault_kit
from servers import S3Server, free_port, running
from soak.contents import BUCKET, MIB, PART
from soak.sides import GsSide, S3Side, Side
from soak.source import Source
from soak.weather import READS, WRITES, Overheads, break_everything, faults_of, share_of

RUN_S = 900.0
PROCESSES = int(os.environ.get("SOAK_PROCESSES", "1"))
RUNS = 8
"""Runs after the last change until one must have ended with exit code 0 and nothing left to do."""


@contextlib.contextmanager
def filled_moto(seed: int, objects: int) -> Iterator[S3Server]:
    """Run moto with the bucket of a soak."""
    port = free_port()
    tests = Path(__file__).parents[1]
    code = f"import sys; sys.path.insert(0, {str(tests)!r}); import runpy; runpy.run_module('soak.filled_moto', run_name='__main__')"
    command = [sys.executable, "-c", code, str(seed), str(objects), "-H", "127.0.0.1", "-p", str(port)]
    with running(command, f"http://127.0.0.1:{port}") as url:
        yield S3Server(name="moto", url=url)


@contextlib.contextmanager
def weather(directory: Path, kinds: tuple[str, str], seed: int, objects: int) -> Iterator[Round]:
    """Both servers, a kit before each, and all that a round needs; `kinds` of source and destination."""
    with contextlib.ExitStack() as stack:
        moto = stack.enter_context(filled_moto(seed, objects if kinds[0] == "s3" else 0))
        google = stack.enter_context(loopback_server())
        kits = {"s3": stack.enter_context(fault_kit(moto.url, "s3")), "gs": stack.enter_context(fault_kit(google, "gs"))}
        sides: dict[str, Side] = {"s3": S3Side(moto), "gs": GsSide(google)}
        ends = [(sides[kind], kits[kind]) for kind in kinds]
        yield Round(directory, seed, objects, environment(directory, moto.environment), ends)


class Round:
    """See the module. Made by `weather`.

    Args:
        directory: for state and logs.
        seed: of everything that is random.
        objects: at the start.
        env: of the command.
        ends: source and destination, each with the kit before it.
    """

    def __init__(
        self, directory: Path, seed: int, objects: int, env: dict[str, str], ends: list[tuple[Side, FaultKit]]
    ) -> None:
        self._directory = directory
        self._chance = random.Random(f"kills {seed}")
        self._seed = seed
        self._env = env
        (self._from, self._from_kit), (self._to, self._to_kit) = ends
        self._logs = 0
        self.codes: list[int] = []
        self.killed = 0  # processes of a run that went on
        for side in (self._from, self._to):
            if side.scheme != "s3":
                side.create(BUCKET)  # moto comes with it
        self.source = Source(self._from, seed, objects)
        self.overheads = self._learn()

    def _start(self, bucket: str = BUCKET) -> subprocess.Popen[bytes]:
        """The installed command; what it says goes into a file."""
        self._logs += 1
        words = ["--source-endpoint-url", self._from_kit.url, "--destination-endpoint-url", self._to_kit.url]
        words += ["--state", str(self._directory / f"state-{bucket}"), "--part-size", str(PART)]
        words += ["--processes", str(PROCESSES), "--memory", f"{16 * PROCESSES}MiB"]
        words += ["--concurrency", "8", "--stall-timeout", "3", "--max-delete", "100%", "--json"]
        with (self._directory / f"log-{self._logs:03d}").open("wb") as log:
            return subprocess.Popen(
                [*program(), f"{self._from.scheme}://{bucket}", f"{self._to.scheme}://{bucket}", *words],
                env=self._env,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _learn(self) -> Overheads:
        """Copy a little in good weather: what heads add to the content."""
        small, large = 20, PART + MIB
        for side in (self._from, self._to):
            side.create("calm")
        for number in range(small):
            self._from.put("calm", f"small-{number}", b"x" * 1000)
        self._from.put("calm", "large", b"x" * large)
        assert self._start("calm").wait(RUN_S) == 0, self.last_words()
        sizes = (small * 1000, large)
        overheads = Overheads((self._from_kit, self._to_kit), sizes)
        self._from_kit.clear()
        self._to_kit.clear()
        self._watch(self._from_kit)
        return overheads

    def _watch(self, kit: FaultKit) -> None:
        """Take down which content versions were read."""
        count = kit.count

        def watch(exchange: Exchange, outcome: str) -> None:
            count(exchange, outcome)
            if exchange.asked.operation in READS and outcome in {"200", "206"}:
                self.source.note_read(exchange.asked.key)

        kit.count = watch

    def last_words(self) -> str:
        """The end of what the last process said."""
        return (self._directory / f"log-{self._logs:03d}").read_text("utf-8", "replace")[-4000:]

    def requests(self) -> int:
        """Seen by both kits."""
        return sum(sum(kit.counts.copy().values()) for kit in (self._from_kit, self._to_kit))

    def suffer(self, kills: int, requests: int) -> None:
        """Start the command and kill it, again and again, while the source changes and requests fail.

        Four of five kills come after a random number of requests, spread over the whole; the others at a random moment of the
        start. Where a run has several processes, one of them is killed half-way before.
        """
        break_everything(self._from_kit, self._seed, READS[0])
        break_everything(self._to_kit, self._seed, WRITES[self._to.scheme][0])
        marks = sorted(self._chance.randrange(requests) for _ in range(kills))
        ended = threading.Event()
        changing = threading.Thread(target=self.source.change, args=(ended,))
        changing.start()
        try:
            for number, mark in enumerate(marks):
                delay = self._chance.uniform(0.05, 1.5) if number % 5 == 4 else None
                self._kill(mark, delay)
        finally:
            ended.set()
            changing.join()

    def _kill(self, mark: int, delay: float | None) -> None:
        process = self._start()
        begun = time.monotonic()
        halfway = (self.requests() + mark) // 2 if PROCESSES > 1 and delay is None else mark
        while self.requests() < mark if delay is None else time.monotonic() < begun + delay:
            if process.poll() is not None:
                break
            assert time.monotonic() < begun + RUN_S, "it hangs: " + self.last_words()
            if halfway < mark and self.requests() >= halfway and (victims := children_of(process.pid)):
                kill(self._chance.choice(victims))
                self.killed, halfway = self.killed + 1, mark
            time.sleep(0.002)
        process.kill()
        self.codes.append(process.wait())

    def finish(self) -> None:
        """Run until a run that was not resumed ends with exit code 0."""
        for _ in range(RUNS):
            code = self._start().wait(RUN_S)
            self.codes.append(code)
            summary = json.loads(self.last_words().splitlines()[-1])
            if code == 0 and not summary["resumed"]:
                return
        raise AssertionError(f"it does not come to an end: {self.codes}: {self.last_words()}")

    def differences(self) -> dict[str, str]:
        """Every key whose bytes are not what the test wrote last, on either side; read by boto3 and plain HTTP."""
        held = self.source.held
        found = dict.fromkeys(held.keys() ^ set(self._from.keys(BUCKET)), "the source is not what the test thinks")
        there = self._to.sums(BUCKET, self._to.keys(BUCKET))
        found |= {
            key: f"{there.get(key)} in place of {held.get(key)}"
            for key in held.keys() | there.keys()
            if there.get(key) != held.get(key)
        }
        return found

    def figures(self) -> dict[str, object]:
        """What docs/reliability.md tells."""
        ever = sum(self.source.moved.values())
        read, written = self.overheads.read(), self.overheads.written()
        return {
            "kinds": f"{self._from.scheme}-{self._to.scheme}",
            "seed": self._seed,
            "objects": len(self.source.held),
            "changes": self.source.changes,
            "content_bytes": ever,
            "kills": self.codes.count(-9),
            "processes_killed": self.killed,
            "exit_codes": [code for code in self.codes if code != -9],
            "requests": self.requests(),
            "uploads_left": self._to.unfinished(
                BUCKET
            ),  # those whose id was never known: its answer lost, or the process killed
            "share_of_faults": [round(share_of(kit), 4) for kit in (self._from_kit, self._to_kit)],
            "faults": [dict(faults_of(kit).most_common()) for kit in (self._from_kit, self._to_kit)],
            "read_twice": round(read / ever - 1, 4),
            "written_twice": round(written / ever - 1, 4),
            "moved_twice": round((read + written) / (2 * ever) - 1, 4),
        }


def seconds_of(environment_name: str) -> float:
    """Minutes given in the environment, in seconds; 0 without."""
    return 60 * float(os.environ.get(environment_name, "0"))
