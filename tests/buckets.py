"""Buckets as other people's clients see them: boto3 for S3, plain HTTP for Google's JSON API. Nothing of heavysync."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import Any
from urllib.parse import quote, urlencode

import boto3
from botocore.config import Config
from gateway import Gateway
from servers import S3Server

Contents = dict[str, tuple[bytes, dict[str, Any]]]
"""Key to bytes and metadata: content_type, cache_control, …, user."""

STAMP = "heavysync"
_NUMBERS = count(1)
_FIELDS = ("content_type", "cache_control", "content_disposition", "content_language", "content_encoding")


def camel(name: str, *, first: bool) -> str:
    """`content_type` as S3 (`ContentType`) or Google (`contentType`) spell it."""
    head, *rest = name.split("_")
    return "".join([head.title() if first else head, *(part.title() for part in rest)])


class S3Bucket:
    """A bucket on an S3 server.

    Args:
        server: where it is.
        gateway: what heavysync is sent through; this client goes straight to the server.
        name: of the bucket; None: a new one.
        create: make it.
    """

    scheme = "s3"

    def __init__(self, server: S3Server, gateway: Gateway, name: str | None = None, *, create: bool = True) -> None:
        self.gateway = gateway
        self.url = gateway.url
        self.name = name or f"bucket-{next(_NUMBERS)}"
        self.address = f"s3://{self.name}"
        self.env = server.environment
        self.client = client_of(server)
        if create:
            self.client.create_bucket(Bucket=self.name)

    def put(self, key: str, data: bytes = b"x", *, user: dict[str, str] | None = None, **fields: str) -> None:
        """Write an object."""
        named = {camel(name, first=True): value for name, value in fields.items()}
        self.client.put_object(Bucket=self.name, Key=key, Body=data, Metadata=user or {}, **named)

    def put_parts(self, key: str, pieces: list[bytes], *, user: dict[str, str] | None = None, **fields: str) -> None:
        """Write an object by a multipart upload."""
        named = {camel(name, first=True): value for name, value in fields.items()}
        where = {"Bucket": self.name, "Key": key}
        upload = self.client.create_multipart_upload(**where, Metadata=user or {}, **named)["UploadId"]
        where["UploadId"] = upload
        parts = [
            {"PartNumber": number, "ETag": self.client.upload_part(**where, PartNumber=number, Body=piece)["ETag"]}
            for number, piece in enumerate(pieces, 1)
        ]
        self.client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})

    def delete(self, key: str) -> None:
        """Delete an object."""
        self.client.delete_object(Bucket=self.name, Key=key)

    def keys(self) -> list[str]:
        """All live keys."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def read(self, key: str) -> tuple[bytes, dict[str, Any]]:
        """Bytes as stored, and metadata but for the stamp."""
        found = self.client.get_object(Bucket=self.name, Key=key)
        fields = {name: found.get(camel(name, first=True)) or None for name in _FIELDS}
        user = {name: value for name, value in found["Metadata"].items() if name != STAMP}
        with contextlib.closing(found["Body"]) as body:
            return body.read(), {**fields, "user": user}

    def contents(self) -> Contents:
        """Everything."""
        return {key: self.read(key) for key in self.keys()}

    def forget(self) -> None:
        """Start counting anew, without faults."""
        self.gateway.forget()

    def counts(self) -> Counter[str]:
        """Requests for this bucket by operation, as the gateway saw them."""
        mark = f"/{self.name}"
        return Counter(seen.operation for seen in self.gateway.seen if seen.target.split("?")[0].split("/")[1] == mark[1:])

    def listed(self) -> list[str]:
        """The list requests, one text each."""
        return [seen.target for seen in self.gateway.seen if seen.operation == "list" and seen.target[1:].startswith(self.name)]

    def written(self) -> list[str]:
        """Keys in the order they were written by single requests."""
        return [seen.key for seen in self.gateway.seen if seen.operation in {"put", "copy", "complete"}]


class GcsBucket:
    """A bucket on the loopback server.

    Args:
        url: of the server.
        name: of the bucket; None: a new one.
        create: make it.
    """

    scheme = "gs"

    def __init__(self, url: str, name: str | None = None, *, create: bool = True) -> None:
        self.url = url
        self.name = name or f"bucket-{next(_NUMBERS)}"
        self.address = f"gs://{self.name}"
        self.env: dict[str, str] = {}
        if create:
            self.ask("POST", "/storage/v1/b?project=p", {"name": self.name})

    def ask(self, method: str, target: str, body: object = None, headers: dict[str, str] | None = None) -> Any:
        """One request; the answer's JSON, or its bytes."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=30)
        with contextlib.closing(connection):
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            sent = {"Content-Type": "application/json"} if data is not None else {}
            connection.request(method, target, data, {**sent, **(headers or {})})
            answer = connection.getresponse()
            content = answer.read()
            assert answer.status < 300, (method, target, answer.status, content)
            is_json = answer.headers.get("Content-Type", "").startswith("application/json") and "alt=media" not in target
            return json.loads(content) if is_json and content else content

    def put(self, key: str, data: bytes = b"x", *, user: dict[str, str] | None = None, **fields: str) -> None:
        """Write an object."""
        resource = {"name": key, "metadata": user or {}, **{camel(name, first=False): v for name, v in fields.items()}}
        session = {"X-Upload-Content-Length": str(len(data))}
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=30)
        with contextlib.closing(connection):
            target = f"/upload/storage/v1/b/{self.name}/o?uploadType=resumable"
            sent = {"Content-Type": "application/json", **session}
            connection.request("POST", target, json.dumps(resource).encode(), sent)
            answer = connection.getresponse()
            answer.read()
            place = answer.headers["Location"].removeprefix(self.url)
        self.ask("PUT", place, data)

    def put_parts(self, key: str, pieces: list[bytes], **how: Any) -> None:
        """Write an object of several pieces as a composite: it has no md5."""
        for number, piece in enumerate(pieces):
            self.put(f"piece-{number}", piece)
        user = how.pop("user", None)
        resource = {"metadata": user or {}, **{camel(name, first=False): value for name, value in how.items()}}
        sources = [{"name": f"piece-{number}"} for number in range(len(pieces))]
        self.ask("POST", f"{self._object(key)}/compose", {"sourceObjects": sources, "destination": resource})
        for number in range(len(pieces)):
            self.delete(f"piece-{number}")

    def delete(self, key: str) -> None:
        """Delete an object."""
        self.ask("DELETE", self._object(key))

    def keys(self) -> list[str]:
        """All live keys."""
        return list(self.resources())

    def resources(self, **query: str) -> dict[str, dict[str, Any]]:
        """All object resources by name."""
        found: dict[str, dict[str, Any]] = {}
        while True:
            page = self.ask("GET", f"/storage/v1/b/{self.name}/o?{urlencode({'projection': 'full', **query})}")
            found |= {item["name"]: item for item in page.get("items", [])}
            if "nextPageToken" not in page:
                return found
            query["pageToken"] = page["nextPageToken"]

    def versions(self) -> list[dict[str, Any]]:
        """All versions of all objects."""
        return self.ask("GET", f"/storage/v1/b/{self.name}/o?versions=true").get("items", [])

    def contents(self) -> Contents:
        """Everything."""
        return {key: self._read(key, item) for key, item in self.resources().items()}

    def read(self, key: str) -> tuple[bytes, dict[str, Any]]:
        """Bytes as stored, and metadata but for the stamp."""
        return self._read(key, self.ask("GET", self._object(key)))

    def _read(self, key: str, item: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
        data = self.ask("GET", f"{self._object(key)}?alt=media", headers={"Accept-Encoding": "gzip"})
        fields = {name: item.get(camel(name, first=False)) for name in _FIELDS}
        user = {name: value for name, value in item.get("metadata", {}).items() if name != STAMP}
        return data, {**fields, "user": user}

    def _object(self, key: str) -> str:
        return f"/storage/v1/b/{self.name}/o/{quote(key, safe='')}"

    def rule(self, **how: object) -> None:
        """Add a rule of the server."""
        self.ask("POST", "/_loopback/rules", how)

    def settings(self, **how: object) -> None:
        """Change settings of the server."""
        self.ask("POST", "/_loopback/settings", how)

    def forget(self) -> None:
        """Start counting anew, without rules."""
        self.ask("DELETE", "/_loopback/rules")
        self.ask("DELETE", "/_loopback/log")
        self.settings(clock_offset_s=0.0, page_limit=1000)

    def log(self) -> list[dict[str, Any]]:
        """The requests for this bucket."""
        entries = self.ask("GET", "/_loopback/log")["entries"]
        return [entry for entry in entries if self._is_mine(entry)]

    def _is_mine(self, entry: dict[str, Any]) -> bool:
        if entry["operation"] == "rewrite":
            return f"/rewriteTo/b/{self.name}/" in entry["path"]
        return entry["bucket"] in {self.name, ""}

    def counts(self) -> Counter[str]:
        """Requests for this bucket by operation, in the words of the gateway."""
        names = {"bucket.get": "bucket", "insert": "put", "rewrite": "copy", "chunk": "part", "start": "create"}
        return Counter(names.get(entry["operation"], entry["operation"]) for entry in self.log())

    def listed(self) -> list[str]:
        """The list requests, one text each."""
        return [entry["path"] for entry in self.log() if entry["operation"] == "list"]

    def written(self) -> list[str]:
        """Keys in the order they were written by single requests."""
        return [entry["key"] for entry in self.log() if entry["operation"] in {"insert", "rewrite"}]


Bucket = S3Bucket | GcsBucket


def ends(source: Bucket, destination: Bucket) -> tuple[str, ...]:
    """The words that name two buckets and their servers."""
    return (
        source.address,
        destination.address,
        "--source-endpoint-url",
        source.url,
        "--destination-endpoint-url",
        destination.url,
    )


def client_of(server: S3Server) -> Any:
    """boto3 for a server."""
    config = Config(
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.client(
        "s3",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=config,
    )


@contextlib.contextmanager
def loopback_server(*more: str) -> Iterator[str]:
    """The loopback server as a process; its URL."""
    command = [sys.executable, "-m", "heavysync.loopback", "--parent", str(os.getpid()), *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip() if process.stdout else ""
        finally:
            process.terminate()
