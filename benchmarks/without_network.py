"""What a run costs apart from the network: the real engine, state and S3 store over a door that answers at once.

    python benchmarks/without_network.py [streamed|copied|noop] --objects 50000 --rounds 5

CPU-seconds per 1,000 objects, start-up of the libraries included, in the thread of the event loop and in all others (SQLite's).
What the door itself takes to answer is measured and left out. `PYTHONPATH=OTHER/src` measures another tree.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import gc
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, quote

import uvloop

import heavysync.stores.s3 as s3_store
from heavysync import SideOptions, SyncOptions, sync
from heavysync.stores.http import Response

BODY = b"x" * 1024
ETAG = hashlib.md5(BODY, usedforsecurity=False).hexdigest()
_NS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_ROW = (
    "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;{}&quot;</ETag>"
    "<Size>1024</Size><StorageClass>STANDARD</StorageClass></Contents>"
)
_READ = {
    "etag": f'"{ETAG}"',
    "content-length": "1024",
    "content-type": "binary/octet-stream",
    "last-modified": "Thu, 01 Jan 2026 00:00:00 GMT",
    "x-amz-request-id": "0123456789ABCDEF",
}


class FastDoor:
    """Answers like S3, from two sets of keys."""

    buckets: dict[str, dict[str, str]]
    sorted_keys: dict[str, list[str]]
    spent = 0.0

    def __init__(self, **_: Any) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def heed(self, *_: object) -> None:
        """Nothing fails here."""

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | Callable[[], Mapping[str, str]],
        body: Sequence[bytes] = (),  # noqa: ARG002 - as the real one
        **_: Any,
    ) -> Response:
        """See `Door.request`."""
        sent = headers() if callable(headers) else headers
        await asyncio.sleep(0)
        began = time.thread_time()
        response = self._answer(method, url, sent)
        FastDoor.spent += time.thread_time() - began
        return response

    def _answer(self, method: str, url: str, sent: Mapping[str, str]) -> Response:
        path, _, query = url.partition("?")
        bucket, _, key = path.split("/", 3)[3].partition("/")
        if method == "GET" and key:
            return Response(200, _READ, [BODY])
        if method == "PUT" and key:
            self.buckets[bucket][key] = ETAG
            if "x-amz-copy-source" in sent:
                return Response(200, {}, [f'<CopyObjectResult {_NS}><ETag>"{ETAG}"</ETag></CopyObjectResult>'.encode()])
            return Response(200, {"etag": f'"{ETAG}"'}, [])
        asked = dict(parse_qsl(query, keep_blank_values=True))
        if "list-type" in asked:
            return Response(200, {}, [self._page(bucket, asked)])
        return Response(200, {}, [f"<VersioningConfiguration {_NS}/>".encode() if "versioning" in asked else b""])

    def _page(self, bucket: str, asked: dict[str, str]) -> bytes:
        keys = self.sorted_keys.get(bucket, [])
        start, most = bisect.bisect_right(keys, asked.get("start-after", "")), int(asked.get("max-keys", "1000"))
        page = keys[start : start + most]
        is_truncated = "true" if start + most < len(keys) else "false"
        rows = "".join([_ROW.format(quote(key), ETAG) for key in page])
        return (
            f"<ListBucketResult {_NS}><Name>{bucket}</Name><Prefix></Prefix><KeyCount>{len(page)}</KeyCount>"
            f"<MaxKeys>{most}</MaxKeys><EncodingType>url</EncodingType><IsTruncated>{is_truncated}</IsTruncated>"
            f"{rows}</ListBucketResult>"
        ).encode()


async def run(task: str, objects: int) -> tuple[float, float]:
    """One run; CPU-seconds per 1,000 objects of the loop's thread and of the others."""
    keys = sorted(f"part{number % 10}/key-{number:08d}" for number in range(objects))
    there = keys if task == "noop" else []
    FastDoor.buckets = {"full": dict.fromkeys(keys, ETAG), "copy": dict.fromkeys(there, ETAG)}
    FastDoor.sorted_keys = {"full": keys, "copy": there}
    FastDoor.spent = 0.0
    side = SideOptions(endpoint_url="http://127.0.0.1:1")
    with tempfile.TemporaryDirectory() as folder:
        options = SyncOptions(state=Path(folder) / "state", source=side, destination=side, server_side_copy=task == "copied")
        whole, loop = time.process_time(), time.thread_time()
        report = await sync("s3://full", "s3://copy", options)
        whole, loop = time.process_time() - whole, time.thread_time() - loop
    assert report.status == "done", report
    return (loop - FastDoor.spent) / objects * 1000, (whole - loop) / objects * 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=["streamed", "copied", "noop"])
    parser.add_argument("--objects", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "EXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}
    os.environ |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_CONFIG_FILE": os.devnull}
    s3_store.Door = FastDoor  # type: ignore[assignment, misc]
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    for task in options.tasks:
        figures = [uvloop.run(run(task, options.objects)) for _ in range(options.rounds)]
        loop, others = (statistics.median(column) for column in zip(*figures, strict=True))
        spread = max(map(sum, figures)) - min(map(sum, figures))
        print(
            f"{task:10} {loop + others:.4f} CPU-s/1000 ±{spread / 2:.4f}   event loop {loop:.4f}   others {others:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
