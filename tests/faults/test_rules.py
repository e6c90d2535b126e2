"""Rules pick what they name, and every kind of request has its name."""

from __future__ import annotations

import pytest
from faults.answers import MADE_UP
from faults.exchange import _FAULTS
from faults.operations import asked
from faults.rules import FAULTS, Rule


def test_every_fault_is_known_here():
    """Each fault has an action in the kit, and an unknown one is refused."""
    assert MADE_UP | set(_FAULTS) == set(FAULTS)
    with pytest.raises(ValueError):
        Rule(fault="nonsense")


def test_rules_pick_by_operation_bucket_key_and_number():
    """A rule hits what it names, after `skip`, at most `count` times."""
    rule = Rule(fault="reset", operation="get|put", side="s3", bucket="b", key="^k", skip=1, count=2)
    wanted = asked("s3", "GET", "/b/key", {})
    others = [
        asked("s3", "HEAD", "/b/key", {}),
        asked("s3", "GET", "/other/key", {}),
        asked("s3", "GET", "/b/another", {}),
        asked("gs", "GET", "/storage/v1/b/b/o/key?alt=media", {}),
    ]

    assert not any(rule.hits(other) for other in others)
    assert [rule.hits(wanted) for _ in range(4)] == [False, True, True, False]
    assert (rule.seen, rule.fired) == (3, 2)


def test_chances_are_the_same_for_the_same_seed():
    """Some are hit, by the seed."""
    request = asked("s3", "GET", "/b/key", {})
    drawn = [[Rule(fault="reset", probability=0.3, seed=seed, count=None)] * 100 for seed in (1, 1, 2)]
    hits = [[rule.hits(request) for rule in rules] for rules in drawn]

    assert hits[0] == hits[1] != hits[2]
    assert 10 < sum(hits[0]) < 50


@pytest.mark.parametrize(
    ("method", "target", "headers", "expected"),
    [
        ("GET", "/b?list-type=2&prefix=x", {}, "list"),
        ("GET", "/b?versions&prefix=x", {}, "list versions"),
        ("GET", "/b?versioning", {}, "bucket"),
        ("GET", "/b/k%20y", {}, "get"),
        ("GET", "/b/k%20y", {"range": "bytes=0-1"}, "get range"),
        ("GET", "/b/k%20y?uploadId=u", {}, "list parts"),
        ("GET", "/b/k%20y?tagging", {}, "tags"),
        ("HEAD", "/b/k%20y?partNumber=1", {}, "stat"),
        ("PUT", "/b/k%20y", {}, "put"),
        ("PUT", "/b/k%20y", {"x-amz-copy-source": "b/a"}, "copy"),
        ("PUT", "/b/k%20y?partNumber=1&uploadId=u", {}, "part"),
        ("PUT", "/b/k%20y?partNumber=10000&uploadId=u", {}, "question"),
        ("PUT", "/b/k%20y?partNumber=1&uploadId=u", {"x-amz-copy-source": "b/a"}, "copy part"),
        ("POST", "/b/k%20y?uploads", {}, "create"),
        ("POST", "/b/k%20y?uploadId=u", {}, "complete"),
        ("DELETE", "/b/k%20y?uploadId=u", {}, "abort"),
        ("POST", "/b?delete", {}, "delete"),
    ],
)
def test_operations_of_s3(method, target, headers, expected):
    """Each kind of request has its name."""
    found = asked("s3", method, target, headers)
    assert (found.operation, found.bucket) == (expected, "b")
    assert found.key == ("k y" if "/k" in target else "")


@pytest.mark.parametrize(
    ("method", "target", "headers", "expected", "key"),
    [
        ("GET", "/storage/v1/b/b", {}, "bucket", ""),
        ("GET", "/storage/v1/b/b/o?prefix=x", {}, "list", ""),
        ("GET", "/storage/v1/b/b/o?versions=true", {}, "list versions", ""),
        ("GET", "/storage/v1/b/b/o/k%2Fy", {}, "stat", "k/y"),
        ("GET", "/download/storage/v1/b/b/o/k%2Fy?alt=media", {}, "get", "k/y"),
        ("GET", "/download/storage/v1/b/b/o/k%2Fy?alt=media", {"range": "bytes=0-1"}, "get range", "k/y"),
        ("POST", "/upload/storage/v1/b/b/o?uploadType=multipart", {}, "insert", ""),
        ("POST", "/upload/storage/v1/b/b/o?uploadType=resumable", {}, "start", ""),
        ("PUT", "/upload/storage/v1/b/b/o?upload_id=u", {"content-range": "bytes 0-1/2"}, "chunk", ""),
        ("PUT", "/upload/storage/v1/b/b/o?upload_id=u", {"content-range": "bytes */2"}, "status", ""),
        ("DELETE", "/upload/storage/v1/b/b/o?upload_id=u", {}, "cancel", ""),
        ("POST", "/storage/v1/b/a/o/k%2Fy/rewriteTo/b/b/o/z", {}, "rewrite", "k/y"),
        ("DELETE", "/storage/v1/b/b/o/k%2Fy", {}, "delete", "k/y"),
    ],
)
def test_operations_of_google(method, target, headers, expected, key):
    """Each kind of request has its name."""
    found = asked("gs", method, target, headers)
    assert (found.operation, found.bucket, found.key) == (expected, "b", key)


def test_operations_of_google_without_a_bucket():
    """A batch and the token endpoint."""
    assert asked("gs", "POST", "/batch/storage/v1", {}).operation == "batch"
    assert asked("gs", "POST", "/token", {}).operation == "token"
