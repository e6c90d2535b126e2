"""The kit before real servers: signatures still verify, and Google's upload sessions do not go past it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
from dataclasses import replace

import pytest
from botocore.exceptions import ClientError
from buckets import GcsBucket, S3Bucket, client_of, loopback_server
from faults.kit import fault_kit
from servers import rclone_server


def test_signatures_verify_through_the_kit(tmp_path):
    """`rclone serve s3` checks every signature: right keys are let in through the kit, wrong ones are not."""
    served = tmp_path / "served"
    served.mkdir()
    with rclone_server(served) as server, fault_kit(server.url, "s3") as kit:
        straight = S3Bucket(server, kit, "bucket")
        through = client_of(_through(server, kit))
        data = os.urandom(100_000)
        through.put_object(Bucket="bucket", Key="a b+c/ü", Body=data, Metadata={"a": "b"})
        body = through.get_object(Bucket="bucket", Key="a b+c/ü")["Body"]
        with contextlib.closing(body):
            assert body.read() == data
        listed = through.list_objects_v2(Bucket="bucket")["Contents"]
        assert [entry["Key"] for entry in listed] == ["a b+c/ü"] == straight.keys()
        with pytest.raises(ClientError, match="SignatureDoesNotMatch|Forbidden|403|AccessDenied"):
            client_of(_through(server, kit, secret_key="wrong" * 5)).list_objects_v2(Bucket="bucket")

        kit.add("flip request", operation="put", count=None)
        with pytest.raises(ClientError, match="BadDigest|InvalidDigest|Content-MD5|XAmzContentSHA256Mismatch|400"):
            md5 = "rL0Y20zC+Fzt72VPzMSk2A=="  # of "foo"
            through.put_object(Bucket="bucket", Key="flipped", Body=b"foo", ContentMD5=md5)


def _through(server, kit, **how):
    return replace(server, url=kit.url, **how)


def test_upload_sessions_go_through_the_kit():
    """Google's session URI leads to the kit, chunks and questions are seen there, with the object's key."""
    with loopback_server() as url, fault_kit(url, "gs") as kit:
        bucket = GcsBucket(url)
        kit.add("status", operation="status", key="^large$", status=503)
        connection = http.client.HTTPConnection(kit.url.removeprefix("http://"), timeout=5)
        with contextlib.closing(connection):
            target = f"/upload/storage/v1/b/{bucket.name}/o?uploadType=resumable"
            connection.request("POST", target, json.dumps({"name": "large"}).encode(), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            place = answer.headers["Location"]
            assert place.startswith(kit.url + "/")
            statuses = []
            for content_range, data in [("bytes */6", b""), ("bytes */6", b""), ("bytes 0-5/6", b"abcdef")]:
                connection.request("PUT", place.removeprefix(kit.url), data, {"Content-Range": content_range})
                answer = connection.getresponse()
                answer.read()
                statuses.append(answer.status)

        assert statuses == [503, 308, 200]
        assert bucket.read("large")[0] == b"abcdef"
        assert kit.requests("chunk") == 1
        assert kit.requests("status") == 2
