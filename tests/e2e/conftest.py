"""The servers of the end-to-end tests: started once, buckets are new for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from buckets import Bucket, GcsBucket, S3Bucket, ends, loopback_server
from commands import Command, environment
from gateway import Gateway, gateway
from servers import S3Server, moto_server, rclone_server


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    """moto: conditions, versions, multipart; no signatures."""
    with moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def moto_door(moto: S3Server) -> Iterator[Gateway]:
    """The gateway before moto."""
    with gateway(moto.url) as door:
        yield door


@pytest.fixture(scope="session")
def google() -> Iterator[str]:
    """The URL of the loopback server."""
    with loopback_server() as url:
        yield url


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """`rclone serve s3`, which checks signatures."""
    with rclone_server(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture
def new_bucket(moto: S3Server, moto_door: Gateway, google: str) -> Callable[..., Bucket]:
    """Makes buckets: `new_bucket("s3")`, `new_bucket("gs", create=False)`."""
    made: list[Bucket] = []

    def make(scheme: str, **how: object) -> Bucket:
        made.append(S3Bucket(moto, moto_door, **how) if scheme == "s3" else GcsBucket(google, **how))
        return made[-1]

    moto_door.forget()
    GcsBucket(google, "unused", create=False).forget()
    return make


@pytest.fixture
def sync_of(tmp_path: Path, moto: S3Server) -> Callable[[Bucket, Bucket], Command]:
    """Makes the command that synchronises two buckets, with a state directory of its own."""

    def make(source: Bucket, destination: Bucket) -> Command:
        words = ("--state", str(tmp_path / "state-dir"), "--concurrency", "16", *ends(source, destination))
        return Command(environment(tmp_path, moto.environment), words)

    return make


@pytest.fixture
def check_of(tmp_path: Path, moto: S3Server) -> Callable[[Bucket, Bucket], Command]:
    """Makes the command that checks what `sync_of` copied, over the same state directory."""

    def make(source: Bucket, destination: Bucket) -> Command:
        words = ("--state", str(tmp_path / "state-dir"), "--concurrency", "16", *ends(source, destination))
        return Command(environment(tmp_path, moto.environment), words, "heavy-check")

    return make
