"""What becomes of an object does not depend on the number of processes."""

from __future__ import annotations

import os
import sys

import pytest
from crews import SmallRanges

MIB = 1 << 20

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="one process does all of the work there")


@pytest.mark.parametrize("processes", [1, 2])
def test_source_parts_are_kept_by_any_number_of_processes(processes, new_bucket, sync_of):
    """Parts that fit into --memory, but not into a process's share of it."""
    source, destination = new_bucket("s3"), new_bucket("s3")
    upload = {"Bucket": source.name, "Key": "big"}
    upload["UploadId"] = source.client.create_multipart_upload(**upload)["UploadId"]
    parts = []
    for number, size in enumerate((20, 20, 5), 1):
        answer = source.client.upload_part(**upload, PartNumber=number, Body=os.urandom(size * MIB))
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    source.client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    sync = sync_of(source, destination)

    done = SmallRanges(sync.env, sync.words)("--processes", processes, "--memory", "32MiB", "--no-server-side-copy")

    assert done.code == 0, done
    etags = [bucket.client.head_object(Bucket=bucket.name, Key="big")["ETag"] for bucket in (source, destination)]
    assert etags[0] == etags[1]
    assert etags[1].endswith('-3"')
