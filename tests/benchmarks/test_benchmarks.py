"""The benchmarks' own server tells the truth to heavy-sync, and the harness writes down what it measured."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest

from bench_server import BENCHMARKS, KEYS, Server, fetch, running
from commands import Command, environment, program

MIB = 1 << 20
SMALL, LARGE = 298, (40 * MIB + 1, 20 * MIB)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def source(server) -> dict[str, bytes]:
    """A bucket on both services: small objects, and two that are uploaded in parts."""
    server.control("/fill", service="s3", bucket="source", count=SMALL, size=1000)
    for number, size in enumerate(LARGE):
        body = hashlib.sha256(bytes([number])).digest() * (size // 32) + bytes(size % 32)
        fetch(f"{server.urls['s3']}/source/large-{number}", body, "PUT")
    server.control("/clone", service="s3", bucket="source", to_service="gs", to_bucket="source")
    return {name: server.read("s3", "source", name) for name in server.names("s3", "source")}


@pytest.mark.parametrize(("one", "two"), [("s3", "s3"), ("s3", "gs"), ("gs", "s3")])
def test_what_heavy_sync_copies_by_way_of_the_server_is_equal_byte_for_byte(one, two, server, source, tmp_path):
    """300 objects, large ones in parts, through the client, from and to both services: all bytes arrive, and stay."""
    command = Command(environment(tmp_path, KEYS))
    words = [f"{one}://source", f"{two}://to-{one}", f"--source-endpoint-url={server.urls[one]}"]
    words += [f"--destination-endpoint-url={server.urls[two]}", "--no-server-side-copy", "--create-bucket", "--project=p"]
    server.control("/reset")
    first = command(*words)
    assert first.code == 0, first
    assert {name: server.read(two, f"to-{one}", name) for name in server.names(two, f"to-{one}")} == source
    counts = server.control("/stats")["counts"][two]
    assert counts.get("begin upload", 0) in range(1, len(LARGE) + 1), counts  # the smaller one may go as a whole
    told = server.control("/compare", service=one, bucket="source", to_service=two, to_bucket=f"to-{one}")
    assert told == {"equal": True, "differing": 0, "example": "", "count": len(source)}
    server.control("/reset")
    assert command(*words).code == 0
    counts = server.control("/stats")["counts"][two]
    assert not {"put", "insert", "put part", "put chunk"} & set(counts), counts


def test_made_up_buckets_are_listed_and_compared_like_stored_ones(server, tmp_path):
    """Keys that are computed: whole listings in order, in pages, below a prefix, folded by a delimiter; writes are kept."""
    for scheme in ("flat", "deep", "hot"):
        for kind, made_up in (("made-up", True), ("stored", False)):
            server.control("/fill", service="s3", bucket=kind, count=12_000, size=8, scheme=scheme, made_up=made_up)
        same = server.control("/compare", service="s3", bucket="made-up", to_service="s3", to_bucket="stored")
        assert same["equal"], (scheme, same)
        for query in (
            "prefix=hot/",
            "delimiter=/",
            "prefix=area-000/&delimiter=/",
            "start-after=key-0000000500",
            "start-after=z",
        ):
            pages = {kind: listing(server, kind, query) for kind in ("made-up", "stored")}
            assert pages["made-up"] == pages["stored"], (scheme, query)
            assert pages["stored"] == sorted(set(pages["stored"]))
    url = f"{server.urls['s3']}/made-up/{listing(server, 'made-up', '')[7]}"
    told = [fetch(address, x_amz_checksum_mode="ENABLED") for address in (url, url.replace("made-up", "stored"))]
    assert told[0] == told[1]
    fetch(url, b"other", "PUT")
    assert fetch(url) == b"other"
    assert server.control("/compare", service="s3", bucket="made-up", to_service="s3", to_bucket="stored")["differing"] == 1


def listing(server: Server, bucket: str, query: str) -> list[str]:
    """All keys and folded prefixes, page after page."""
    found: list[str] = []
    token = ""
    while True:
        root = ElementTree.fromstring(fetch(f"{server.urls['s3']}/{bucket}?list-type=2&{query}{token}"))
        space = "{http://s3.amazonaws.com/doc/2006-03-01/}"
        places = (f"{space}Contents/{space}Key", f"{space}CommonPrefixes/{space}Prefix")
        found += sorted(one.text or "" for place in places for one in root.findall(place))
        if root.findtext(f"{space}IsTruncated") != "true":
            return found
        token = f"&continuation-token={root.findtext(f'{space}NextContinuationToken')}"


def test_the_harness_writes_figures_and_a_picture(tmp_path):
    """One small task: the run is verified, its requests are counted, JSON and SVG are written."""
    script = tmp_path / "heavy-sync"
    path = f"PYTHONPATH='{os.path.abspath(os.environ['PYTHONPATH'])}' " if "PYTHONPATH" in os.environ else ""
    script.write_text(f"#!/bin/sh\n{path}exec " + " ".join(f"'{word}'" for word in program()) + ' "$@"\n')
    script.chmod(0o755)
    figures, picture = tmp_path / "figures.json", tmp_path / "picture.svg"
    words = ["--tasks=streamed", "--tools=heavysync", "--scale=0.001", "--rounds=1", f"--json={figures}", f"--svg={picture}"]
    command = [sys.executable, str(BENCHMARKS / "bench.py"), *words, f"--heavysync={script}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(figures.read_text())
    (figure,) = told["figures"]
    assert figure["runs"][0]["counts"]["s3 put"] == told["tasks"]["streamed"]["objects"] == 50
    assert figure["runs"][0]["cpu_s"] > 0
    assert "heavysync" in done.stdout
    assert ElementTree.fromstring(picture.read_text()).tag.endswith("svg")
