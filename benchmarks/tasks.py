"""What is measured: each task with its buckets, its job and what its figures are divided by."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from jobs import Job, Service
from world import World

MIB = 1 << 20
_LATENCY_MS = 30.0
_LIST_MS = 100.0  # what S3 takes for a page of 1,000 keys
_EVERY = 100  # one in so many objects is changed
_KEPT = 100  # objects that stay where the others are deleted

Start = Literal["empty", "same", "changed", "extra"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task.

    Attributes:
        name: that `--tasks` selects by.
        about: in words.
        objects: at scale 1.
        size: bytes of each.
        job: see `Job`.
        start: what the destination has before: nothing, the same, the same but for one in a hundred, much more.
        scheme: of the keys, see `servers.keys`.
        made_up: whether the objects are computed instead of stored.
        latency_ms: of every answer.
        unit: "objects": figures are for 1,000; "GiB"; "run": they are not divided.
        scales: whether `--scale` applies.
    """

    name: str
    about: str
    objects: int
    size: int = 1024
    job: Job = field(default_factory=Job)
    start: Start = "empty"
    scheme: str = "flat"
    made_up: bool = False
    latency_ms: float = 0.0
    unit: Literal["objects", "GiB", "run"] = "objects"
    scales: bool = True

    def scaled(self, scale: float) -> Task:
        """The task with as many times its objects, at least one; where there is one large object, it shrinks."""
        if not self.scales or scale == 1:
            return self
        about = f"{self.about} (times {scale:g})"
        if self.objects == 1:
            return replace(self, about=about, size=max(1, int(self.size * scale)))
        return replace(self, about=about, objects=max(1, int(self.objects * scale)))

    @property
    def amount(self) -> float:
        """How many units one run is about."""
        if self.unit == "run":
            return 1
        return self.objects / 1000 if self.unit == "objects" else self.objects * self.size / (1 << 30)

    def set_up(self, world: World) -> None:
        """Fill what all runs share."""
        service, bucket = self.job.source
        if self.job.kind == "help":
            return
        count = _KEPT if self.start == "extra" else self.objects
        self._fill(world, service, bucket, count)
        if self.start == "changed":
            world.control("/clone", service=service, bucket=bucket, to_service=service, to_bucket="before")
            time.sleep(1.1)  # tools that compare times need a newer one, in whole seconds
            world.control("/change", service=service, bucket=bucket, every=_EVERY)

    def _fill(self, world: World, service: Service, bucket: str, count: int, *, is_full: bool = True) -> None:
        kind: dict[str, Any] = {"scheme": self.scheme, "made_up": self.made_up, "is_full": is_full}
        world.control("/fill", service=service, bucket=bucket, count=count, size=self.size, **kind)

    def begin(self, world: World) -> None:
        """Give the destination what it has before each run, and set the server's pace."""
        world.control("/pace", latency_ms=0)
        world.control("/reset")
        if self.job.kind == "help":
            return
        service, bucket = self.job.source
        to_service, to_bucket = self.job.destination
        to = {"to_service": to_service, "to_bucket": to_bucket}
        if self.start == "empty":
            self._fill(world, to_service, to_bucket, self.objects if self.made_up else 0, is_full=False)
        elif self.start == "extra" or (self.start == "same" and self.made_up):
            self._fill(world, to_service, to_bucket, self.objects + (_KEPT if self.start == "extra" else 0))
        else:
            world.control("/clone", service=service, bucket="before" if self.start == "changed" else bucket, **to)
        world.control("/pace", latency_ms=self.latency_ms)
        world.control("/reset")

    def verdict(self, world: World) -> str:
        """Why the destination is not what it has to be; empty if it is."""
        if self.job.kind != "sync":
            return ""
        service, bucket = self.job.source
        to_service, to_bucket = self.job.destination
        told = world.control("/compare", service=service, bucket=bucket, to_service=to_service, to_bucket=to_bucket)
        return "" if told["equal"] else f"{told['differing']} objects differ or are missing, one is {told['example']}"

    def clear(self, world: World) -> None:
        """Take all buckets away."""
        world.control("/pace", latency_ms=0)
        for bucket in ("source", "destination", "before"):
            for service in ("s3", "gs"):
                world.control("/drop", service=service, bucket=bucket)


_STREAMED = Job(streamed=True)
_S3_GS = Job(destination=("gs", "destination"), streamed=True)
_GS_S3 = Job(source=("gs", "source"), streamed=True)
_NUMBERS = (("100k", 100_000), ("1m", 1_000_000), ("10m", 10_000_000))


def _tls(task: Task) -> Task:
    return replace(task, name=f"{task.name}-tls", about=f"{task.about}, TLS", job=replace(task.job, tls=True))


def _small() -> list[Task]:
    return [
        Task(name="streamed", about="first sync of 50,000 x 1 KiB, S3 to S3 through the client", objects=50_000, job=_STREAMED),
        Task(name="copied", about="first sync of 50,000 x 1 KiB, S3 to S3, copied by the server", objects=50_000),
        Task(name="s3-gs", about="first sync of 50,000 x 1 KiB, S3 to GCS", objects=50_000, job=_S3_GS),
        Task(name="gs-s3", about="first sync of 50,000 x 1 KiB, GCS to S3", objects=50_000, job=_GS_S3),
    ]


def _large() -> list[Task]:
    sizes = (("medium", "64 x 16 MiB", 64, 16 * MIB), ("gib", "1 x 1 GiB", 1, 1 << 30))
    routes = (("", "S3 to S3 through the client", _STREAMED), ("-s3-gs", "S3 to GCS", _S3_GS), ("-gs-s3", "GCS to S3", _GS_S3))
    return [
        Task(
            name=f"{name}{suffix}",
            about=f"{words}, {route}",
            objects=objects,
            size=size,
            job=replace(job, large=True),
            unit="GiB",
        )
        for name, words, objects, size in sizes
        for suffix, route, job in routes
    ]


def _lists() -> list[Task]:
    return [
        Task(
            name=f"list-{scheme}-{label}",
            about=f"list {label} keys, {scheme}",
            objects=objects,
            size=8,
            job=Job(kind="list"),
            scheme=scheme,
            made_up=True,
        )
        for label, objects in _NUMBERS[:2]
        for scheme in ("flat", "deep", "hot")
    ]


def _lists_from_afar() -> list[Task]:
    return [
        Task(
            name=f"list-{scheme}-1m-{_LIST_MS:g}ms",
            about=f"sync again of 1m empty objects, nothing to do, {scheme}, {_LIST_MS:g} ms before each page",
            objects=1_000_000,
            size=0,
            start="same",
            scheme=scheme,
            made_up=True,
            latency_ms=_LIST_MS,
        )
        for scheme in ("flat", "hot")
    ]


def _again() -> list[Task]:
    about = "sync again of 100,000 x 1 KiB, 1 in 100 changed"
    return [
        *(
            Task(name=f"noop-{label}", about=f"sync again of {label} x 1 KiB, nothing to do", objects=objects, start="same")
            for label, objects in (("10k", 10_000), ("100k", 100_000))
        ),
        Task(name="changed", about=about, objects=100_000, job=Job(compares=True), start="changed"),
        Task(name="delete", about="delete 10,000 objects", objects=10_000, job=Job(deletes=True), start="extra"),
    ]


def _delayed() -> list[Task]:
    jobs = (
        ("streamed", "20,000 x 1 KiB through the client", _STREAMED),
        ("copied", "20,000 x 1 KiB copied by the server", Job()),
    )
    return [
        Task(
            name=f"{name}-30ms-{concurrency}",
            about=f"{about}, 30 ms latency, {concurrency} requests at once",
            objects=20_000,
            job=replace(job, concurrency=concurrency),
            latency_ms=_LATENCY_MS,
        )
        for name, about, job in jobs
        for concurrency in (64, 256, 1024)
    ]


def _memory() -> list[Task]:
    about = "sync again of {} empty objects, nothing to do (memory)"
    return [
        Task(name=f"memory-{label}", about=about.format(label), objects=objects, size=0, start="same", made_up=True)
        for label, objects in _NUMBERS
    ]


def _scale() -> list[Task]:
    about = "first sync of {} x 8 bytes, S3 to S3 through the client"
    return [
        Task(name=f"scale-{label}", about=about.format(label), objects=objects, size=8, job=_STREAMED, made_up=True)
        for label, objects in _NUMBERS
    ]


def _all() -> list[Task]:
    return [
        Task(name="help", about="--help", objects=1, job=Job(kind="help"), unit="run", scales=False),
        Task(name="noop-ten", about="sync again of ten objects", objects=10, start="same", unit="run", scales=False),
        *_lists(),
        *_lists_from_afar(),
        *_small(),
        *_again(),
        *_large(),
        *_delayed(),
        *_memory(),
        *_scale(),
        *map(_tls, [*_small(), *_large()]),
    ]


TASKS = {task.name: task for task in _all()}
"""By name."""
