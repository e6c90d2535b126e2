"""Both sides of a soak as other people's clients use them: boto3 and plain HTTP, straight to the servers."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from buckets import GcsBucket, client_of
from servers import S3Server

Sums = dict[str, tuple[str, int]]
"""Key to md5 and size."""

_SIGNED = "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE12345/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


class S3Side:
    """A bucket on moto, which checks no signature."""

    scheme = "s3"

    def __init__(self, server: S3Server) -> None:
        self.url = server.url
        self._client: Any = client_of(server)

    def create(self, bucket: str) -> None:
        """Make a bucket."""
        self._client.create_bucket(Bucket=bucket)

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Write an object."""
        self._client.put_object(Bucket=bucket, Key=key, Body=data)

    def put_parts(self, bucket: str, key: str, pieces: list[bytes]) -> None:
        """Write an object in parts."""
        where = {"Bucket": bucket, "Key": key}
        where["UploadId"] = self._client.create_multipart_upload(**where)["UploadId"]
        parts = [
            {"PartNumber": number, "ETag": self._client.upload_part(**where, PartNumber=number, Body=piece)["ETag"]}
            for number, piece in enumerate(pieces, 1)
        ]
        self._client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object."""
        self._client.delete_object(Bucket=bucket, Key=key)

    def keys(self, bucket: str) -> list[str]:
        """All keys."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def sums(self, bucket: str, keys: Iterable[str]) -> Sums:
        """Read every object."""
        targets = {key: f"/{bucket}/{quote(key)}" for key in keys}
        return _sums(self.url, targets, {"Authorization": _SIGNED})

    def unfinished(self, bucket: str) -> int:
        """Uploads that were begun, and neither completed nor aborted."""
        return len(self._client.list_multipart_uploads(Bucket=bucket).get("Uploads", []))


class GsSide:
    """A bucket on the loopback server."""

    scheme = "gs"

    def __init__(self, url: str) -> None:
        self.url = url

    def create(self, bucket: str) -> None:
        """Make a bucket."""
        GcsBucket(self.url, bucket)

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Write an object."""
        self._ask("POST", f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(key, safe='')}", data)

    def put_parts(self, bucket: str, key: str, pieces: list[bytes]) -> None:
        """Write an object of several pieces, so that it has no md5."""
        GcsBucket(self.url, bucket, create=False).put_parts(key, pieces)

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object."""
        self._ask("DELETE", _object(bucket, key))

    def keys(self, bucket: str) -> list[str]:
        """All keys."""
        return GcsBucket(self.url, bucket, create=False).keys()

    def sums(self, bucket: str, keys: Iterable[str]) -> Sums:
        """Read every object."""
        return _sums(self.url, {key: _object(bucket, key) + "?alt=media" for key in keys}, {})

    def unfinished(self, _bucket: str) -> None:
        """Google lists no sessions."""

    def _ask(self, method: str, target: str, body: bytes | None = None) -> None:
        GcsBucket(self.url, "", create=False).ask(method, target, body)


Side = S3Side | GsSide


def _object(bucket: str, key: str) -> str:
    return f"/storage/v1/b/{bucket}/o/{quote(key, safe='')}"


def _sums(url: str, targets: dict[str, str], headers: dict[str, str]) -> Sums:
    found: Sums = {}
    with contextlib.closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)) as connection:
        for key, target in targets.items():
            connection.request("GET", target, headers=headers)
            answer = connection.getresponse()
            data = answer.read()
            assert answer.status == 200, (target, answer.status, data[:500])
            found[key] = hashlib.md5(data).hexdigest(), len(data)
    return found
