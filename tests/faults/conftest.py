"""The servers of the fault matrix, each with a kit before it, started once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from buckets import loopback_server
from faults.kit import FaultKit, fault_kit
from faults.worlds import Results, Worlds
from servers import S3Server, moto_server


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    """moto: conditions, versions, multipart; no signatures."""
    with moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def google() -> Iterator[str]:
    """The URL of the loopback server."""
    with loopback_server() as url:
        yield url


@pytest.fixture(scope="session")
def s3_kit(moto: S3Server) -> Iterator[FaultKit]:
    """Before moto."""
    with fault_kit(moto.url, "s3") as kit:
        yield kit


@pytest.fixture(scope="session")
def gs_kit(google: str) -> Iterator[FaultKit]:
    """Before the loopback server."""
    with fault_kit(google, "gs") as kit:
        yield kit


@pytest.fixture(scope="session")
def all_worlds(moto: S3Server, s3_kit: FaultKit, google: str, gs_kit: FaultKit) -> Worlds:
    """The sources, made once."""
    return Worlds(moto, s3_kit, google, gs_kit)


@pytest.fixture
def worlds(all_worlds: Worlds, moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> Worlds:
    """The same with kits as new, and with credentials in the environment."""
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    all_worlds.clear()
    return all_worlds


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest) -> Results:
    """Where outcomes are written down: .pytest_cache/d/faults/matrix.jsonl; table.py reads it."""
    cache = request.config.cache
    assert cache is not None, "the matrix needs pytest's cache directory"
    return Results(Path(cache.mkdir("faults")) / "matrix.jsonl")
