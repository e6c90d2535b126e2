"""Uploads and rewrites across a kill, through the command: what goes on, what is aborted, and what is nobody's business."""

from __future__ import annotations

import random

import pytest
from commands import until, watched

MIB = 1 << 20
PART = 5 * MIB
DATA = random.Random(3).randbytes(6 * PART)
OTHER = random.Random(4).randbytes(6 * PART)
WORDS = ("--part-size", "5MiB")


def kill_after(parts, sync, destination, *words):
    """Start, and kill once so many parts have come to the destination."""
    with watched(sync.start(*WORDS, *words)) as process:
        assert until(lambda: destination.counts()["part"] >= parts, process)
        process.kill()


def slow(destination):
    """Parts take a while."""
    destination.forget()
    if destination.scheme == "s3":
        destination.gateway.fail(operation="part", delay_s=0.3, count=None)
    else:
        destination.rule(operation="chunk", action="pass", delay_s=0.3, count=None)


def uploads(bucket):
    """Ids of the unfinished uploads, as boto3 sees them."""
    return [upload["UploadId"] for upload in bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", [])]


def test_rewrite_goes_on_with_its_token(new_bucket, sync_of):
    """A copy inside Google that takes many calls is killed in the middle, and its later calls alone are made afterwards."""
    source, destination = new_bucket("gs"), new_bucket("gs", create=False)
    destination.ask("POST", "/storage/v1/b?project=p", {"name": destination.name, "location": "EU"})
    source.put("large", DATA)
    destination.forget()
    destination.settings(rewrite_bytes=2 * MIB)
    destination.rule(operation="rewrite", action="pass", delay_s=0.1, count=None)
    sync = sync_of(source, destination)
    try:
        with watched(sync.start()) as process:
            assert until(lambda: destination.counts()["copy"] >= 8, process)
            process.kill()
        assert destination.keys() == []
        done = sync()
    finally:
        destination.settings(rewrite_bytes=1024 * MIB)

    assert done.code == 0, done
    assert destination.read("large")[0] == DATA
    assert destination.counts()["copy"] <= 15 + 2


def test_restart_aborts_its_own_upload_only(new_bucket, sync_of):
    """--restart gives an unfinished upload up and says so; somebody else's upload of the same key stays."""
    source, destination = new_bucket("gs"), new_bucket("s3")
    source.put("large", DATA)
    slow(destination)
    sync = sync_of(source, destination)
    kill_after(2, sync, destination)
    theirs = destination.client.create_multipart_upload(Bucket=destination.name, Key="large")["UploadId"]
    assert len(uploads(destination)) == 2
    destination.forget()

    done = sync(*WORDS, "--restart")

    assert done.code == 0, done
    assert "1 unfinished uploads that nobody will complete were aborted" in done.said
    assert uploads(destination) == [theirs]
    assert destination.read("large")[0] == DATA


@pytest.mark.parametrize("kinds", [("s3", "gs"), ("gs", "s3")], ids="-".join)
def test_source_that_changed_between_two_runs_begins_anew(kinds, new_bucket, sync_of):
    """The upload of the old content is aborted; what arrives is the new content."""
    source, destination = map(new_bucket, kinds)
    source.put("large", DATA)
    slow(destination)
    sync = sync_of(source, destination)
    kill_after(2, sync, destination)
    source.put("large", OTHER)
    destination.forget()

    done = sync(*WORDS)

    assert done.code == 0, done
    assert destination.read("large")[0] == OTHER
    if destination.scheme == "s3":
        assert uploads(destination) == []
    else:
        assert destination.counts()["cancel"] == 1


def test_part_that_the_server_holds_otherwise_is_sent_again(new_bucket, sync_of):
    """ListParts tells another ETag for one part than was acknowledged: that part is sent once more, the others are not."""
    source, destination = new_bucket("gs"), new_bucket("s3")
    source.put("large", DATA)
    slow(destination)
    sync = sync_of(source, destination)
    kill_after(1, sync, destination, "--memory", "16MiB")
    until(lambda: parts_of(destination))
    (upload,) = uploads(destination)
    destination.client.upload_part(Bucket=destination.name, Key="large", UploadId=upload, PartNumber=1, Body=b"x" * PART)
    destination.forget()

    done = sync(*WORDS)

    assert done.code == 0, done
    assert destination.read("large")[0] == DATA
    assert destination.counts()["create"] == 0
    assert "1" in [seen.target.split("partNumber=")[1][0] for seen in destination.gateway.seen if seen.operation == "part"]


def parts_of(bucket):
    """The parts of the only upload."""
    (upload,) = uploads(bucket)
    return bucket.client.list_parts(Bucket=bucket.name, Key="large", UploadId=upload).get("Parts", [])
