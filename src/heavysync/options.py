"""Every knob, once: what a run may be told, with its default and the reason for it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from heavysync.errors import UsageError
from heavysync.populations import Population

MIB = 1 << 20
MOST_DAYS = 36_500
MOST_PROCESSES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxDelete:
    """How much of the destination one run may delete: a number of objects, or a share of those it holds."""

    count: int | None = None
    percent: float | None = 50.0

    @classmethod
    def parse(cls, text: str) -> MaxDelete:
        """Read `1000` or `12.5%`.

        Raises:
            UsageError: neither a number from 0 nor a percentage from 0 to 100.
        """
        number = text.strip().removesuffix("%")
        is_share = number != text.strip()
        try:
            value = float(number) if is_share else int(number)
        except ValueError:
            value = -1
        if not 0 <= value <= (100 if is_share else value):
            raise UsageError(f"--max-delete {text!r}: give a number of objects (1000) or a share of the destination (50%)")
        return cls(percent=value) if is_share else cls(count=int(value), percent=None)

    def allows(self, extra: int, total: int) -> bool:
        """Whether `extra` of `total` destination objects may be deleted."""
        if self.count is not None:
            return extra <= self.count
        return extra * 100 <= (self.percent or 0.0) * total

    def __str__(self) -> str:
        return str(self.count) if self.count is not None else f"{self.percent:g}%"


@dataclass(frozen=True, slots=True, kw_only=True)
class SideOptions:
    """How one side is reached. None leaves it to the provider's own environment and files.

    Args:
        endpoint_url: with scheme; another server than the provider's own.
        profile: name in the AWS configuration files.
        region: AWS region, where it cannot be found out.
        anonymous: send no credentials.
        request_payer: pay for the requests (S3), or bill `project` (GCS).
        project: GCS project that new buckets belong to and that requests are billed to.
        credentials_file: a Google credentials file.
        ca_bundle: PEM file of certificate authorities.
        trust_env: use the proxies that the environment names.
        stall_s: seconds without a byte after which a request is given up.
        http_client: who speaks HTTP; "lean" becomes "aiohttp" where proxies are used.
        auth_grace_s: seconds that a run waits for other credentials once the ones it has are not accepted any more. An hour:
            time for somebody to log in again.
    """

    endpoint_url: str | None = None
    profile: str | None = None
    region: str | None = None
    anonymous: bool = False
    request_payer: bool = False
    project: str | None = None
    credentials_file: str | None = None
    ca_bundle: str | None = None
    trust_env: bool = False
    stall_s: float = 60.0
    http_client: Literal["lean", "aiohttp"] = "lean"
    auth_grace_s: float = 3600.0

    def __post_init__(self) -> None:
        url = self.endpoint_url
        if url is not None and "@" in url:
            raise UsageError("an endpoint must not hold a user name or password: use profiles or the environment")
        if url is not None and not url.startswith(("http://", "https://")):
            raise UsageError(f"endpoint {url!r} has no scheme: give http://host:port or https://host")
        _at_least("--stall-timeout", self.stall_s, 1)
        _at_least("--auth-grace", self.auth_grace_s, 0)
        if url is not None and not urlsplit(url).netloc:
            raise UsageError(f"endpoint {url!r} names no host: give http://host:port or https://host")


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncOptions:
    """What `sync` may be told.

    Args:
        state: the state directory; None: one per pair below the user's state directory.
        concurrency: objects in flight. 128: enough to fill a core at the 30-50 ms of a distant bucket.
        memory: bytes of object content in flight. 512 MiB: 64 parts of 8 MiB.
        processes: that do the work, sharing `concurrency` and `memory`; 1: this one alone. None: this one alone until it has
            kept a core busy for a while, then one a core.
        part_size: bytes of a part; None: 8 MiB, more for objects of over 10,000 parts, or as the source has it.
        delete: delete destination objects that the source does not have.
        max_delete: refuse to delete more than this.
        delete_despite_errors: delete also when some objects could not be copied.
        purge_noncurrent: days after which noncurrent destination versions are deleted; 0: never.
        server_side_copy: let the provider copy where it can.
        tags: copy object tags (S3), at one more request for each object.
        dry_run: list and compare, change nothing.
        restart: forget an unfinished run.
        retry_failed: take up the last run again, with what failed in it, without listing anew.
        create_bucket: create the destination bucket if it is missing.
        bucket_location: where to create it.
        enable_versioning: switch versioning on at the destination.
        storage_class: of the copies; None: the destination bucket's default.
        source: how the source is reached.
        destination: how the destination is reached.
        range_rows: keys that one range lists before it hands the rest back.
        first_rows: the same for the first range of a new plan; others may split a range that has listed half of it, the first
            one a quarter.
        ranges_at_once: ranges that a run begins with at the same time.
    """

    state: Path | None = None
    concurrency: int = 128
    memory: int = 512 * MIB
    processes: int | None = None
    part_size: int | None = None
    delete: bool = True
    max_delete: MaxDelete = field(default_factory=MaxDelete)
    delete_despite_errors: bool = False
    purge_noncurrent: float = 0.0
    server_side_copy: bool = True
    tags: bool = False
    dry_run: bool = False
    restart: bool = False
    retry_failed: bool = False
    create_bucket: bool = False
    bucket_location: str | None = None
    enable_versioning: bool = False
    storage_class: str | None = None
    source: SideOptions = field(default_factory=SideOptions)
    destination: SideOptions = field(default_factory=SideOptions)
    range_rows: int = 250_000
    first_rows: int = 16_000
    ranges_at_once: int = 8

    def __post_init__(self) -> None:
        _at_least("--concurrency", self.concurrency, 1)
        _at_least("--memory", self.memory, 16 * MIB)
        if self.processes is not None and not 1 <= self.processes <= MOST_PROCESSES:
            raise UsageError(f"--processes {self.processes}: give a number from 1 to {MOST_PROCESSES}, or leave it away")
        _at_least("--purge-noncurrent", self.purge_noncurrent, 0)
        if self.purge_noncurrent > MOST_DAYS:
            raise UsageError(f"--purge-noncurrent {self.purge_noncurrent}: give days, at most {MOST_DAYS}")
        if self.retry_failed and (self.restart or self.dry_run):
            raise UsageError("--retry-failed takes up the last run: leave --restart and --dry-run away")
        _at_least("range_rows", self.range_rows, 1)
        _at_least("first_rows", self.first_rows, 1)
        _at_least("ranges_at_once", self.ranges_at_once, 1)
        if self.part_size is not None:
            _at_least("--part-size", self.part_size, 5 * MIB)
            if self.part_size > self.memory:
                raise UsageError(f"--part-size {self.part_size} is more than --memory {self.memory}: a part is held in memory")

    def meaning(self) -> dict[str, Any]:
        """The options that decide what a run does; an unfinished run goes on only with the same ones."""
        return {
            "--delete": self.delete,
            "--purge-noncurrent": self.purge_noncurrent,
            "--storage-class": self.storage_class,
            "--tags": self.tags,
            "--server-side-copy": self.server_side_copy,  # an unfinished rewrite is no unfinished upload
            "--dry-run": self.dry_run,
        }

    def describe(self) -> dict[str, Any]:
        """All options as plain values, for the history of runs; there is no secret among them."""
        return {**asdict(self), "state": str(self.state), "max_delete": str(self.max_delete)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """How many objects a check draws: a number, or a share of the population."""

    count: int | None = 1
    percent: float | None = None

    @classmethod
    def parse(cls, text: str) -> Samples:
        """Read `50` or `0.1%`.

        Raises:
            UsageError: neither a number from 0 nor a percentage above 0 and up to 100.
        """
        number = text.strip().removesuffix("%")
        try:
            if number != text.strip():
                return cls(count=None, percent=_within(float(number), 1e-12, 100))
            return cls(count=int(_within(int(number), -1, MOST_SAMPLES)))
        except ValueError:
            raise UsageError(
                f"--samples {text!r}: give a number of objects (50, at most {MOST_SAMPLES:,}) or a share of them (0.1%)"
            ) from None

    def __str__(self) -> str:
        return str(self.count) if self.percent is None else f"{self.percent!r}%".replace(".0%", "%")


MOST_SAMPLES = 1_000_000
"""Objects that are drawn by number are held in memory (some 400 MB); a share of the population is not."""

MOST_SURE = 0.999999999


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """What `check` may be told.

    Args:
        state: the state directory; None: one per pair below the user's state directory.
        samples: how many objects are drawn.
        by: "objects": each as likely as the other; "bytes": in proportion to its size, an object may be drawn repeatedly.
        seed: makes the draw the same again while the source is; None: a new one.
        from_state: draw from the listing of the last finished run instead of listing the source.
        prove: draw as many as it takes to prove that at most this share is bad, if none is; in place of `samples`.
        confidence: of every bound.
        population: the objects that the check speaks of.
        read_source: read the source object where nothing else can decide.
        strict: a stale copy is as bad as a corrupt one.
        history: combine with what earlier checks of the same population have found.
        rotate: prefer objects never checked, then those checked longest ago; implies `history`.
        half_life: days after which an earlier check counts half. 180: then a daily check settles at 260 days' worth.
        restart: give an unfinished check up.
        dry_run: draw and tell the plan, read nothing.
        concurrency: objects read at the same time. 64: 8 MiB each is the default `memory`.
        memory: bytes of object content in flight.
        source: how the source is reached.
        destination: how the destination is reached.
    """

    state: Path | None = None
    samples: Samples = field(default_factory=Samples)
    by: Literal["objects", "bytes"] = "objects"
    seed: str | None = None
    from_state: bool = False
    prove: float | None = None
    confidence: float = 0.95
    population: Population = field(default_factory=Population)
    read_source: bool = True
    strict: bool = False
    history: bool = False
    rotate: bool = False
    half_life: float = 180.0
    restart: bool = False
    dry_run: bool = False
    concurrency: int = 64
    memory: int = 512 * MIB
    source: SideOptions = field(default_factory=SideOptions)
    destination: SideOptions = field(default_factory=SideOptions)

    def __post_init__(self) -> None:
        _at_least("--concurrency", self.concurrency, 1)
        _at_least("--memory", self.memory, 16 * MIB)
        if not 0.5 <= self.confidence <= MOST_SURE:
            raise UsageError(f"--confidence {self.confidence * 100:g}%: it must lie between 50% and {MOST_SURE * 100:.8g}%")
        if self.prove is not None and not 0 < self.prove < 1:
            raise UsageError(f"--prove {self.prove * 100:g}%: it must lie between 0% and 100%")
        if not self.half_life > 0:
            raise UsageError(f"--half-life {self.half_life:g}: give days, more than 0")
        if self.samples.count == 0 and not self.combines:
            raise UsageError("--samples 0 checks nothing: give a number, or --history to see what earlier checks have found")
        population = self.population
        for text in (self.seed or "", population.prefix, *population.include, *population.exclude):
            if any(0xD800 <= ord(char) < 0xE000 for char in text):
                raise UsageError(f"{text!r} is not valid Unicode: no key, glob or seed can be that")
        self._check_draw()

    def _check_draw(self) -> None:
        share = self.samples.percent is not None
        if share and self.by == "bytes":
            raise UsageError(f"--samples {self.samples} --by bytes: draws by bytes are counted: give a number, or --prove")
        if share and self.rotate:
            raise UsageError(f"--samples {self.samples} --rotate: give a number, such as the share of a day")
        if self.rotate and self.prove is not None:
            raise UsageError("--prove --rotate: what is proved is proved by random draws from all: leave one of them")
        if self.rotate and self.by == "bytes":
            raise UsageError("--rotate --by bytes: rotation goes object by object: leave one of them")

    @property
    def combines(self) -> bool:
        """Whether earlier checks are taken into account."""
        return self.history or self.rotate

    def meaning(self) -> dict[str, Any]:
        """The options that decide what is drawn; an unfinished check goes on only with the same ones."""
        return {
            "--samples": str(self.samples),
            "--prove": None if self.prove is None else [self.prove, self.confidence],
            "--by": self.by,
            "--from-state": self.from_state,
            "--rotate": self.rotate,
            "--history": self.combines,
            "--half-life": self.half_life if self.combines else None,
            "population": self.population.describe(),
        }


def _within(value: float, low: float, high: float) -> float:
    """The value, if it is above `low` and at most `high`; else ValueError."""
    if not low < value <= high:
        raise ValueError(value)
    return value


def _at_least(name: str, value: float, least: float) -> None:
    if not value >= least:
        raise UsageError(f"{name} {value}: it must be at least {least}")
