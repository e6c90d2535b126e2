"""The server of `benchmarks/`, for tests: the only one here that checks CRCs as AWS does, and can do it wrongly."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE12345",
    "AWS_SECRET_ACCESS_KEY": "secretsecretsecret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


class Server:
    """The running server; see `benchmarks/servers`."""

    def __init__(self, urls: dict[str, str]) -> None:
        self.urls = urls

    def control(self, path: str, **asked: Any) -> dict[str, Any]:
        return json.loads(fetch(self.urls["control"] + path, json.dumps(asked).encode()))

    def names(self, service: str, bucket: str) -> list[str]:
        if service == "s3":
            root = ElementTree.fromstring(fetch(f"{self.urls['s3']}/{bucket}?list-type=2"))
            return [key.text or "" for key in root.iter("{http://s3.amazonaws.com/doc/2006-03-01/}Key")]
        return [item["name"] for item in json.loads(fetch(f"{self.urls['gs']}/storage/v1/b/{bucket}/o"))["items"]]

    def read(self, service: str, bucket: str, name: str) -> bytes:
        if service == "s3":
            return fetch(f"{self.urls['s3']}/{bucket}/{name}")
        return fetch(f"{self.urls['gs']}/download/storage/v1/b/{bucket}/o/{name}?alt=media")


def fetch(url: str, body: bytes | None = None, method: str | None = None, **headers: str) -> bytes:
    """One request; underscores in names of headers stand for dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with urllib.request.urlopen(urllib.request.Request(url, body, named, method=method), timeout=60) as answer:
        return answer.read()


@contextmanager
def running() -> Iterator[Server]:
    process = subprocess.Popen(
        [sys.executable, "-m", "servers"], cwd=BENCHMARKS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield Server(json.loads(process.stdout.readline()))
        finally:
            process.stdin.close()
