"""The stores that the suite runs over, each with the deviations of its server declared as data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

from contract.kit import World
from servers import moto_server, rclone_server

from heavysync.stores.gcs import open_gcs
from heavysync.stores.gcs_wire import GcsOptions
from heavysync.stores.memory import MemoryStore
from heavysync.stores.memory_bucket import MemoryService
from heavysync.stores.rules import S3_LIMITS
from heavysync.stores.s3 import S3Options, open_s3

NO_COPY_PART = {"copy_part": "a rewrite moves objects of any size, so there are no parts to copy"}
"""Of Google Cloud Storage itself."""

MOTO = {
    "line_breaks": "moto cannot list a key with a line break",
    "control_keys": "moto repeats start-after unencoded, so its XML is broken where that has a control character",
    "pinned_copy": "moto ignores x-amz-copy-source-if-match",
    "conditional_copy": "moto ignores If-Match of a copy",
    "conditional_delete": "moto ignores the ETag of a deletion",
    "complete_if_match": "moto ignores If-Match of CompleteMultipartUpload",
    "part_number": "moto compares If-Match with the ETag of the part",
    "late_part": "moto answers 500 to a part of an aborted upload",
    "digests": "moto ignores Content-MD5",
    "marker_order": "moto lists delete markers after all versions of a page",
}

RCLONE = {
    "nested_keys": "rclone keeps files: there cannot be both `a` and `a/b`",
    "odd_keys": "rclone keeps files: no //, leading /, dot segments, directory markers",
    "versions": "rclone answers NotImplemented",
    "conditional_put": "rclone ignores If-Match and If-None-Match",
    "conditional_complete": "rclone ignores If-Match and If-None-Match",
    "conditional_copy": "rclone ignores If-Match and If-None-Match",
    "conditional_delete": "rclone ignores the ETag of a deletion",
    "pinned_copy": "rclone ignores x-amz-copy-source-if-match",
    "copy_part": "rclone answers UploadPartCopy without an ETag and copies nothing",
    "multipart_etag": "rclone lists a multipart object with its md5, not with the ETag it answered",
    "part_number": "rclone ignores partNumber",
    "part_sizes": "rclone ignores partNumber",
    "late_part": "rclone answers before it has read the part, and keeps the connection open for a while",
    "exact_metadata": "rclone adds mtime to the metadata of a copy",
}


@contextmanager
def memory_s3() -> Iterator[World]:
    """The reference store in the ways of S3."""
    yield World(scheme="s3", open=_memory("s3"))


@contextmanager
def memory_s3_short_pages() -> Iterator[World]:
    """The same with three rows on a page, and parts from 1 KiB."""
    yield World(scheme="s3", open=_memory("s3", page_max=3, limits=replace(S3_LIMITS, part_min=1 << 10)))


@contextmanager
def memory_gs() -> Iterator[World]:
    """The reference store in the ways of Google Cloud Storage."""
    yield World(scheme="gs", open=_memory("gs", page_max=3), lacks=NO_COPY_PART)


@contextmanager
def gcs_loopback() -> Iterator[World]:
    """The store of Google Cloud Storage over the project's own server."""
    with _loopback() as url:
        yield _gcs(url)


@contextmanager
def gcs_loopback_short_pages() -> Iterator[World]:
    """The same with three rows on a page, and rewrites in small steps."""
    with _loopback(page_limit=3, rewrite_bytes=1 << 18) as url:
        yield _gcs(url, storage_class="NEARLINE")


@contextmanager
def s3_moto() -> Iterator[World]:
    """The store of S3 over moto, which knows conditions, versions and multipart."""
    with moto_server() as server:
        yield _s3(server, MOTO)


@contextmanager
def s3_rclone() -> Iterator[World]:
    """The store of S3 over rclone, which checks every signature and Content-MD5."""
    with tempfile.TemporaryDirectory() as directory, rclone_server(Path(directory)) as server:
        yield _s3(server, RCLONE)


def _memory(flavour, **how):
    service = MemoryService(flavour=flavour)

    @asynccontextmanager
    async def opened(location):
        yield MemoryStore(location, service, rewrite_step=1 << 18, **how)

    return opened


def _gcs(url, **how):
    def opened(location):
        options = GcsOptions(endpoint_url=url, http_client=world.client, **how)
        return open_gcs(location, options, connections=8)

    world = World(
        scheme="gs",
        open=opened,
        lacks=NO_COPY_PART,
    )
    return world


def _s3(server, lacks):
    @asynccontextmanager
    async def opened(location):
        options = S3Options(endpoint_url=server.url, region="us-east-1", http_client=world.client)
        with mock.patch.dict(os.environ, server.environment):
            async with open_s3(location, options, connections=8) as store:
                yield store

    world = World(scheme="s3", open=opened, lacks=lacks)
    return world


@contextmanager
def _loopback(**settings) -> Iterator[str]:
    """The loopback server as a process; its first line is its URL."""
    command = [sys.executable, "-m", "heavysync.loopback", "--parent", str(os.getpid())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip()
            if settings:
                data = json.dumps(settings).encode()
                urllib.request.urlopen(f"{url}/_loopback/settings", data, timeout=10).close()
            yield url
        finally:
            process.terminate()


WORLDS = [
    memory_s3,
    memory_s3_short_pages,
    memory_gs,
    gcs_loopback,
    gcs_loopback_short_pages,
    s3_moto,
    s3_rclone,
]

ON_A_WIRE = [gcs_loopback, gcs_loopback_short_pages, s3_moto, s3_rclone]

OVER_BOTH = [gcs_loopback, s3_moto, s3_rclone]
