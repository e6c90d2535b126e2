"""Every kind of object gets a real verdict, in every pairing, with the memory of its copy and without."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from random import Random

import pytest
from buckets import Bucket
from damage import NearBucket, OpaqueEtags, between, flipped, near_server, rotten, verdicts

MIB = 1 << 20
PAIRINGS = [("s3", "gs"), ("gs", "s3"), ("s3", "s3"), ("gs", "gs")]

ODD = [
    "a b",
    " at both ends ",
    "a+b",
    "a%b",
    "a%2Fb",
    "a#b",
    "a?b=c&d",
    "a\\b",
    "a//b",
    "/leading",
    "a/../b",
    "a\tb",
    "\U0001f600/\U0001f4a9",
    "e\u0301",
    "\u00e9",
    "*?[x]",
    "<&>\"'",
    "a&amp;b",
    "x" * 1000,
]


def fill(bucket: Bucket) -> None:
    """One object of every kind that the bucket can hold."""
    noise = Random(1)
    for number, key in enumerate(ODD):
        bucket.put(key, f"{number} {key}".encode(), content_type="text/plain")
    packed = gzip.compress(b"packed " * 1000, mtime=0)
    bucket.put("packed.gz", packed, content_type="text/plain", content_encoding="gzip", user={"kind": "gzip"})
    bucket.put("no-gzip", b"it only says so", content_type="text/plain", content_encoding="gzip")
    bucket.put("empty", b"", content_type="text/plain")
    bucket.put("dir/", b"", content_type="application/x-directory")
    bucket.put("large", noise.randbytes(20 * MIB), user={"colour": "blue"})
    bucket.put_parts("parts", [noise.randbytes(5 * MIB), noise.randbytes(5 * MIB), noise.randbytes(1000)])
    if bucket.scheme == "s3":
        bucket.put_parts("parts-of-any-size", [noise.randbytes(5 * MIB), noise.randbytes(6 * MIB), noise.randbytes(5 * MIB)])
        bucket.put_parts("one-part", [noise.randbytes(3000)])
    else:
        bucket.put_parts("composite", [noise.randbytes(3000), b"", noise.randbytes(5)], content_encoding="gzip")


def rot_all(destination: Bucket) -> dict[str, bytes]:
    """Flip a bit in all objects but the empty ones; on S3 the answer has to be given to `rotten`."""
    rot = {key: flipped(data, -2) for key, (data, _) in destination.contents().items() if data}
    if isinstance(destination, NearBucket):
        for key, data in rot.items():
            destination.rot(key, data)
    return rot


@pytest.fixture
def pair_of(new_bucket, moto_door):
    """Makes two buckets by their kinds."""
    with near_server() as near:

        def make(kinds: tuple[str, str]) -> tuple[Bucket, Bucket]:
            source, destination = (NearBucket(near) if kind == "gs" else new_bucket("s3") for kind in kinds)
            return source, destination

        yield make


@pytest.mark.slow
@pytest.mark.parametrize("kinds", PAIRINGS, ids="-".join)
def test_every_kind_of_object_gets_a_verdict(kinds, pair_of, sync_of, check_of, moto_door):
    """Intact it is ok, rotten or overwritten it is corrupt: with the state, and with another that knows nothing."""
    source, destination = pair_of(kinds)
    fill(source)
    done = sync_of(source, destination)("--part-size", "8MiB")
    assert done.code == 0, done.out
    check = check_of(source, destination)
    keys = set(source.keys())

    checked = [check("--samples", "100%", "--json", *state) for state in ((), ("--state", "other"))]

    for told in checked:
        assert dict.fromkeys(keys, "ok") == verdicts(told)
        assert (0, []) == (told.code, [line for line in told.lines if line.get("metadata")]), told

    rot = rot_all(destination)
    with between(moto_door, rotten(rot, destination.name)):
        checked = [check("--samples", "100%", "--json", *state) for state in ((), ("--state", "other"))]

    expected = {key: "corrupt" if key in rot else "ok" for key in keys}
    assert keys - rot.keys() == {"empty", "dir/"}
    for told in checked:
        assert (5, expected) == (told.code, verdicts(told))

    for key in keys:
        destination.put(key, rot.get(key, b"no longer empty"))
    checked = [check("--samples", "100%", "--json", *state) for state in ((), ("--state", "other"))]

    for told in checked:
        assert (5, dict.fromkeys(keys, "corrupt")) == (told.code, verdicts(told))


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [("s3", "gs"), ("gs", "s3"), ("s3", "s3")], ids="-".join)
@pytest.mark.parametrize("side", ["streamed", "server-side"])
def test_objects_with_opaque_etags_get_a_verdict(kinds, side, pair_of, sync_of, check_of, moto_door):
    """Encrypted with SSE-KMS, so that no ETag is an md5: ok or corrupt all the same, with the state and without."""
    source, destination = pair_of(kinds)
    encrypt(source)
    encrypt(destination)
    etags = OpaqueEtags()
    noise = Random(2)
    with between(moto_door, etags.change, etags.ask):
        source.put("small", b"small" * 100)
        source.put("empty", b"")
        source.put("packed.gz", gzip.compress(b"x" * 100), content_encoding="gzip")
        source.put_parts("parts", [noise.randbytes(5 * MIB), noise.randbytes(1000)])
        done = sync_of(source, destination)(*(["--no-server-side-copy"] if side == "streamed" else []))
        assert done.code == 0, done
        check, keys = check_of(source, destination), set(source.keys())
        checked = [check("--samples", "100%", "--json", *state) for state in ((), ("--state", "other"))]

    for told in checked:
        assert (0, dict.fromkeys(keys, "ok")) == (told.code, verdicts(told)), told.out

    rot = rot_all(destination)
    rotten_answers = rotten(rot, destination.name)
    with between(moto_door, both(etags.change, rotten_answers), etags.ask):
        checked = [check("--samples", "100%", "--json", *state) for state in ((), ("--state", "other"))]

    for told in checked:
        assert (5, {key: "corrupt" if key in rot else "ok" for key in keys}) == (told.code, verdicts(told)), told.out


@pytest.fixture
def crooked():
    """Parts of unlike sizes that are as many as uniform ones of the first one's size would be."""
    return [Random(number).randbytes(number * MIB) for number in (6, 5, 7)]


def test_parts_that_only_look_uniform_get_a_verdict(crooked, pair_of, check_of, moto_door):
    """The ETag that uniform parts would give is not the source's; then its bytes decide."""
    source, destination = pair_of(("s3", "gs"))
    source.put_parts("crooked", crooked)
    destination.put("crooked", b"".join(crooked))
    check = check_of(source, destination)

    assert {"crooked": "ok"} == verdicts(check("--json"))
    rot_all(destination)
    assert {"crooked": "corrupt"} == verdicts(check("--json"))


def test_parts_that_only_look_uniform_are_copied(crooked, pair_of, sync_of):
    """heavy-sync copies them, too."""
    source, destination = pair_of(("s3", "gs"))
    source.put_parts("crooked", crooked)

    assert sync_of(source, destination)().code == 0


def encrypt(bucket: Bucket) -> None:
    """Let an S3 bucket encrypt with a key of its own."""
    if bucket.scheme == "s3":
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "key"}}
        bucket.client.put_bucket_encryption(Bucket=bucket.name, ServerSideEncryptionConfiguration={"Rules": [rule]})


def both(first: Callable[[bytes, bytes], bytes], second: Callable[[bytes, bytes], bytes]) -> Callable[[bytes, bytes], bytes]:
    """One change after the other."""
    return lambda request, answer: second(request, first(request, answer))
