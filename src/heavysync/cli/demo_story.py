"""What happens in the demo, step by step, and what has to come of each step; it prints nothing."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from heavysync.cli.demo_http import GcsBucket, S3Bucket, Seen
from heavysync.cli.demo_objects import LARGE, PARTS, Sample, changes, samples
from heavysync.cli.demo_stage import Child, DemoError, Stage

SOURCE, DESTINATION = "demo-source", "demo-copy"

_THREADS = 4
_POLL_S = 0.02
_DELAY_S = 0.05  # of a write in the first run: what it would take to a distant bucket
_HANG_S = 20.0  # of the large object's second part in the first run, which never arrives: the kill finds it half done
_KILL_SHARE = 0.4  # of the objects: from here on the first run is killed, once the large object is half done
_RUN_S = 120.0  # a run may take; far more than it does, so that nothing hangs for ever
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

T = TypeVar("T")
R = TypeVar("R")


class Killed(NamedTuple):
    """The first run.

    Attributes:
        total: objects in the source.
        arrived: keys that the destination had when it was over.
    """

    total: int
    arrived: set[str]


class Resumed(NamedTuple):
    """The second run.

    Attributes:
        kept: objects that were there and were not written again.
        copied: objects that were written.
        in_doubt: objects in flight at the kill: sent again, and refused because they were there.
        large_bytes: of the large object that were sent; the server had kept the others.
    """

    kept: int
    copied: int
    in_doubt: int
    large_bytes: int


class Changed(NamedTuple):
    """The run after the source was changed: what was changed, and what the run did."""

    new: int
    changed: int
    removed: int
    copied: int
    deleted: int


class Requests(NamedTuple):
    """Requests that one server saw.

    Attributes:
        lists: pages of a listing.
        looks: at the bucket itself.
        objects: reads and writes of objects.
    """

    lists: int
    looks: int
    objects: int


class Idle(NamedTuple):
    """The run that found nothing to do: objects copied, and what each server was asked."""

    copied: int
    source: Requests
    destination: Requests


class Compared(NamedTuple):
    """What both buckets hold."""

    objects: int
    size: int


class Story:
    """The steps, in the order of the methods.

    Args:
        stage: where it plays; the servers are started here.
        plain: plain small objects to begin with.
    """

    def __init__(self, stage: Stage, plain: int) -> None:
        self._stage = stage
        self._plain = plain
        self.samples = samples(plain)
        self._s3_server, source = stage.start_s3()
        _, destination = stage.start_gcs(DESTINATION)
        self._source, self._destination = S3Bucket(source, SOURCE), GcsBucket(destination, DESTINATION)
        self.words = [f"s3://{SOURCE}", f"gs://{DESTINATION}"]
        self.words += ["--source-endpoint-url", f"http://{source}", "--destination-endpoint-url", f"http://{destination}"]
        self.words += ["--destination-anonymous", "--state", str(stage.directory / "state"), "--concurrency", "16"]

    def fill(self) -> None:
        """Put all samples into the source."""
        self._source.create()
        each(self._source.put, self.samples)
        found = set(self._source.keys())
        expect(found == {sample.key for sample in self.samples}, "the source holds exactly what was put into it")

    def kill(self) -> Killed:
        """Start a run and kill it with SIGKILL when a share of the objects has arrived."""
        total = len(self.samples)
        self._destination.trouble(operation="insert", action="pass", delay_s=_DELAY_S)
        self._destination.trouble(operation="chunk", action="reset", delay_s=_HANG_S, skip=1)
        self._destination.forget_log()
        child = self._start()
        deadline = time.monotonic() + _RUN_S
        while not self._is_time(total):
            expect(child.is_alive, "the first run is still at work when it is to be killed", child)
            expect(time.monotonic() < deadline, "the first run gets ahead", child)
            time.sleep(_POLL_S)
        child.kill()
        time.sleep(4 * _DELAY_S)  # what it had sent before it died is still being served
        self._destination.end_trouble()
        arrived = set(self._destination.keys())
        expect(0 < len(arrived) < total, "the first run is killed midway")
        return Killed(total, arrived)

    def _is_time(self, total: int) -> bool:
        counts = self._destination.counts()
        arrived = counts.get("insert 200", 0)
        return arrived >= _KILL_SHARE * total and counts.get("chunk 308", 0) > 0

    def resume(self, killed: Killed) -> Resumed:
        """Run the same command again."""
        self._destination.forget_log()
        summary = self._run()
        written = Counter(entry["key"] for entry in self._destination.log() if _has_written(entry))
        refused = {entry["key"] for entry in self._destination.log() if entry["status"] == 412}
        again = killed.arrived & set(written)
        expect(summary["resumed"], "the second run knows that it goes on with the first")
        expect(not again, f"nothing that had arrived is written again, but this was: {sorted(again)[:3]!a}")
        expect(max(written.values(), default=1) == 1, "each object is written once")
        everything = {sample.key for sample in self.samples}
        expect(set(self._destination.keys()) == everything, "the destination has every object after the second run")
        sent = self._large_bytes()
        expect(0 < sent < large_size(), f"only the rest of the large object is sent, not {sent} of {large_size()} bytes")
        return Resumed(len(killed.arrived), len(written), len(refused & killed.arrived), sent)

    def change(self) -> Changed:
        """Add, change and remove source objects, and run again."""
        wanted = changes(self._plain)
        each(self._source.put, wanted.new + wanted.changed)
        each(self._source.delete, wanted.removed)
        summary = self._run()
        new, changed, removed = len(wanted.new), len(wanted.changed), len(wanted.removed)
        expect(summary["copied"] == new + changed, f"{new} new and {changed} changed are copied, not {summary['copied']}")
        expect(summary["deleted"] == removed, f"{removed} objects are deleted, not {summary['deleted']}")
        return Changed(new, changed, removed, summary["copied"], summary["deleted"])

    def idle(self) -> Idle:
        """Run once more, and look into the servers' logs."""
        self._destination.forget_log()
        start = self._s3_server.err.stat().st_size
        summary = self._run()
        source = s3_requests(self._s3_server.err.read_bytes()[start:].decode(errors="replace"))
        destination = gcs_requests(entry["operation"] for entry in self._destination.log())
        expect(summary["copied"] == 0 and summary["deleted"] == 0, "a run over equal buckets copies and deletes nothing")
        expect(source.lists > 0 and destination.lists > 0, "the logs show the listings of both buckets")
        expect(source.objects == 0 and destination.objects == 0, f"only listings are asked for: {source}, {destination}")
        return Idle(summary["copied"], source, destination)

    def compare(self) -> Compared:
        """Read every object of both buckets and hold them against each other."""
        resources = {resource["name"]: resource for resource in self._destination.resources()}
        keys = sorted(self._source.keys())
        expect(keys == sorted(resources), f"the names are the same, but for {sorted(set(keys) ^ set(resources))[:3]!a}")
        pairs = each(lambda key: (self._source.read(key), self._destination.read(resources[key])), keys)
        different = [key for key, (ours, theirs) in zip(keys, pairs, strict=True) if ours != theirs]
        expect(not different, f"all objects are equal, but these are not: {_differences(different, keys, pairs)}")
        return Compared(len(keys), sum(ours.size for ours, _ in pairs))

    def _start(self) -> Child:
        return self._stage.start("heavy-sync", "heavysync.cli", *self.words, "--json")

    def _run(self) -> dict[str, Any]:
        """Run the command to its end, and answer its summary."""
        child = self._start()
        deadline = time.monotonic() + _RUN_S
        while child.is_alive:
            expect(time.monotonic() < deadline, f"heavy-sync ends within {_RUN_S:g} s", child)
            time.sleep(_POLL_S)
        code = child.process.returncode
        lines = [json.loads(line) for line in child.out.read_text(encoding="utf-8").splitlines()]
        told = [line["text"] for line in lines if line["event"] == "error"]
        told += [f"{trouble['key']!a}: {trouble['message']}" for line in lines for trouble in line.get("troubles", ())]
        expect(code == 0, f"heavy-sync ends with exit code 0, not {code}; it says {told[:3]}", child)
        summary: dict[str, Any] = lines[-1]
        expect(summary["event"] == "summary" and summary["status"] == "done", "heavy-sync says that it is done", child)
        return summary

    def _large_bytes(self) -> int:
        """Bytes of the large object that the destination was sent, since its log was begun anew."""
        return sum(entry["received"] for entry in self._destination.log() if entry["operation"] == "chunk")


def expect(holds: bool, claim: str, child: Child | None = None) -> None:  # noqa: FBT001 - reads as an assertion
    """Check what the demo is about to claim.

    Raises:
        DemoError: it is not so.
    """
    if not holds:
        words = child.last_words() if child is not None else ""
        raise DemoError(f"expected: {claim}" + (f"; the command's own words: {words}" if words else ""))


def each(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Call the function for each item, several at a time; the first error ends it."""
    pool = ThreadPoolExecutor(_THREADS)
    try:
        return list(pool.map(function, items))
    finally:
        pool.shutdown(cancel_futures=True)


def s3_requests(log: str) -> Requests:
    """Count the requests in moto's log, which has a line for each as web servers write it."""
    lists = looks = objects = 0
    for line in _COLOUR.sub("", log).splitlines():
        match = re.search(r'"([A-Z]+) (.*) HTTP/1\.[01]" \d{3}', line)
        if match is None:
            continue
        path, _, query = match[2].partition("?")
        if path.strip("/") != SOURCE or match[1] not in {"GET", "HEAD"}:
            objects += 1
        elif "list-type=2" in query:
            lists += 1
        else:
            looks += 1
    return Requests(lists, looks, objects)


def gcs_requests(operations: Iterable[str]) -> Requests:
    """Count the requests in the loopback server's log, by the names of `loopback.routes`."""
    found = Counter(operations)
    lists, looks = found["list"], found["bucket.get"]
    return Requests(lists, looks, found.total() - lists - looks)


def large_size() -> int:
    """Bytes of the large object."""
    return sum(PARTS)


def by_kind(found: Iterable[Sample]) -> list[tuple[str, int, int, str]]:
    """Kind, objects, bytes and an example's name, in the order of their first appearance."""
    kinds: dict[str, list[Sample]] = {}
    for sample in found:
        kinds.setdefault(sample.kind, []).append(sample)
    return [(kind, len(group), sum(len(one.data) for one in group), _example(group)) for kind, group in kinds.items()]


def _example(group: list[Sample]) -> str:
    return next((one.key for one in group if one.key in {LARGE, "a/../b"}), group[0].key)


def _has_written(entry: dict[str, Any]) -> bool:
    return entry["operation"] in {"insert", "chunk"} and entry["status"] == 200


def _differences(different: Sequence[str], keys: Sequence[str], pairs: Sequence[tuple[Seen, Seen]]) -> str:
    told = dict(zip(keys, pairs, strict=True))
    return "; ".join(f"{key!a}: {told[key][0]} and {told[key][1]}" for key in different[:3])
