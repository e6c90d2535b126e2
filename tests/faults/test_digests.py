"""A bit flips in what is read: whatever digest the source knows of an object, it is noticed, and read again."""

from __future__ import annotations

import random

import pytest
from faults.cases import Request

MIB = 1 << 20
SMALL = random.Random(5).randbytes(3000)
MEDIUM = random.Random(7).randbytes(200_000)
PIECES = [random.Random(6).randbytes(5 * MIB), SMALL]


def _plain(bucket):
    bucket.put("k", SMALL)


def _in_parts(bucket):
    bucket.put_parts("k", PIECES)


def _in_one_part(bucket):
    bucket.put_parts("k", [SMALL])


def _composed(bucket):
    bucket.put_parts("k", [SMALL[:1000], SMALL[1000:]])


def _with_checksum(algorithm):
    def put(bucket):
        bucket.put_parts("k", [SMALL])  # an ETag that is no md5 of the whole
        bucket.client.put_object(
            Bucket=bucket.name, Key="k", Body=SMALL, ChecksumAlgorithm=algorithm, ServerSideEncryption="aws:kms"
        )

    return put


CASES = {
    "md5 that is the ETag": ("s3", _plain, "get"),
    "md5 that is passed on": ("s3", lambda bucket: bucket.put("k", MEDIUM), "get"),
    "md5 that a session checks": ("s3", lambda bucket: bucket.put("k", b"".join(PIECES)), "get range"),
    "ETag of one part": ("s3", _in_one_part, "get"),
    "ETag of parts": ("s3", _in_parts, "get range"),
    "crc32c under KMS": ("s3", _with_checksum("CRC32C"), "get"),
    "crc64nvme under KMS": ("s3", _with_checksum("CRC64NVME"), "get"),
    "md5 and crc32c": ("gs", _plain, "get"),
    "md5 and crc32c in parts": ("gs", lambda bucket: bucket.put("k", b"".join(PIECES)), "get range"),
    "crc32c alone": ("gs", _composed, "get"),
}


@pytest.mark.parametrize("known", list(CASES))
def test_flipped_bit_meets_every_digest(known, worlds, tmp_path):
    """Twice flipped, and equal in the end."""
    side, put, operation = CASES[known]
    kinds = ("s3", "gs") if side == "s3" else ("gs", "s3")
    pair = worlds.pair(Request(side=side, operation=operation, kinds=kinds, large="range" in operation), tmp_path)
    pair.source = worlds.bucket(side)
    put(pair.source)
    rule = pair.kit.add("flip answer", operation=operation, key="^k$", count=2)

    said = pair.run()

    assert said.startswith("done"), said
    assert rule.fired == 2
    assert {key: data for key, (data, _) in pair.source.contents().items()} == {
        key: data for key, (data, _) in pair.destination.contents().items()
    }
