"""What a provider refuses for good is told in plain words, object by object, by the installed command; the others get done."""

from __future__ import annotations

import json

import pytest
from buckets import ends
from commands import Command, environment

LOCKED = b"Access Denied because object protected by object lock."
DENIED = b"User: arn:aws:iam::1:user/u is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:k"


def _s3(code, message=b"told so", more=b""):
    return b"<Error><Code>%s</Code><Message>%s</Message>%s</Error>" % (code, message, more)


def _gs(code, reason, message="told so"):
    error = {"code": code, "message": message, "errors": [{"domain": "global", "reason": reason, "message": message}]}
    return json.dumps({"error": error}).encode()


ARCHIVED = _s3(b"InvalidObjectState", more=b"<StorageClass>DEEP_ARCHIVE</StorageClass>")
RETAINED = _gs(403, "retentionPolicyNotMet", "Object is subject to the bucket's retention policy")
CASES = {
    "archived": (("s3", "gs"), "get", 403, ARCHIVED, "InvalidObjectState", "archived (DEEP_ARCHIVE): restore it first"),
    "KMS key": (("s3", "gs"), "get", 403, _s3(b"AccessDenied", DENIED), "KMS.AccessDeniedException", "need kms:Decrypt"),
    "object lock": (("gs", "s3"), "put", 403, _s3(b"AccessDenied", LOCKED), "locked", "its retention has ended"),
    "metadata": (("gs", "s3"), "put", 400, _s3(b"MetadataTooLarge"), "MetadataTooLarge", "S3 takes 2 KiB"),
    "name": (("gs", "s3"), "put", 400, _s3(b"KeyTooLongError"), "KeyTooLongError", "no name as long"),
    "damaged": (("gs", "s3"), "put", 400, _s3(b"BadDigest"), "corrupt", "something between here and the destination"),
    "retention": (("s3", "gs"), "insert", 403, RETAINED, "locked", "its retention has ended"),
    "hold": (("s3", "gs"), "insert", 403, _gs(403, "objectUnderActiveHold"), "locked", "the hold on it is released"),
    "CMEK": (("s3", "gs"), "insert", 400, _gs(400, "cloudKmsDisabledKey"), "cloudKmsDisabledKey", "cryptoKeyEncrypter"),
    "CSEK": (
        ("gs", "s3"),
        "get",
        400,
        _gs(400, "resourceIsEncryptedWithCustomerEncryptionKey"),
        "resourceIsEncryptedWithCustomerEncryptionKey",
        "which heavysync cannot send",
    ),
}


@pytest.fixture
def pair(worlds, moto, tmp_path):
    """Makes two buckets and the command that synchronises them."""

    def make(kinds):
        source, destination = worlds.bucket(kinds[0]), worlds.bucket(kinds[1])
        words = ["--state", str(tmp_path / "state"), *ends(source, destination)]
        for bucket in (source, destination):
            words = [worlds.kits["gs"].url if word == bucket.url and bucket.scheme == "gs" else word for word in words]
        return source, destination, Command(environment(tmp_path, moto.environment), tuple(words))

    return make


@pytest.mark.parametrize("case", CASES)
def test_one_refused_object_is_named_and_the_others_are_copied(case, pair, worlds):
    """Exit code 1; the stable code and the advice are in the JSON summary."""
    kinds, operation, status, body, code, words = CASES[case]
    source, destination, sync = pair(kinds)
    for key in ("a", "refused", "z"):
        source.put(key, key.encode())
    kit = worlds.kits[kinds[0] if operation == "get" else kinds[1]]
    kit.add("answer", operation=operation, key="^refused$", status=status, body=body, count=None)

    done = sync("--json")

    assert done.code == 1, done
    (trouble,) = done.summary["troubles"]
    assert (trouble["key"], trouble["status"], trouble["code"]) == ("refused", "failed", code)
    assert words in trouble["message"]
    assert destination.keys() == ["a", "z"]


def test_names_and_metadata_that_the_other_side_forbids(pair):
    """Seen before any request: what Google cannot name, and what S3 has no room for."""
    source, _, sync = pair(("s3", "gs"))
    source.put("fine")
    source.put(".well-known/acme-challenge/x")
    back, _, sync_back = pair(("gs", "s3"))
    back.put("fine")
    back.put("large", user={"a": "x" * 3000})

    there, here = sync("--json"), sync_back("--json", "--state", sync_back.env["HOME"] + "/back")

    assert (there.code, here.code) == (1, 1)
    (name,), (metadata,) = there.summary["troubles"], here.summary["troubles"]
    assert (name["code"], "cannot have an object of this name" in name["message"]) == ("name", True), name
    assert (metadata["code"], "S3 keeps at most 2048" in metadata["message"]) == ("metadata", True), metadata


@pytest.mark.parametrize("kinds", [("gs", "s3"), ("s3", "gs")])
def test_locked_objects_are_neither_deleted_nor_purged_and_named(kinds, pair, worlds):
    """A deletion that a lock forbids, and a version that it keeps: both are recorded with their own words."""
    source, destination, sync = pair(kinds)
    source.put("a", b"a")
    worlds.leave_versions(destination)
    source.put("changed", b"22")
    destination.put("extra", b"x")
    kit = worlds.kits[kinds[1]]
    if kinds[1] == "s3":
        versions = destination.client.list_object_versions(Bucket=destination.name)["Versions"]
        (old,) = [row["VersionId"] for row in versions if row["Key"] == "changed" and not row["IsLatest"]]
        row = (
            b"<Error><Key>%s</Key><VersionId>%s</VersionId><Code>AccessDenied</Code><Message>" + LOCKED + b"</Message></Error>"
        )
        for key, version in ((b"extra", b""), (b"changed", old.encode())):
            body = b"<DeleteResult>" + row % (key, version) + b"</DeleteResult>"
            kit.add("answer", operation="delete", status=200, body=body)
    else:
        inner = b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\n\r\n" + RETAINED
        part = b"--b\r\nContent-Type: application/http\r\nContent-ID: <response-heavysync+0>\r\n\r\n" + inner
        kit.add(
            "answer",
            operation="batch",
            status=200,
            body=part + b"\r\n--b--\r\n",
            content_type="multipart/mixed; boundary=b",
            count=2,
        )

    done = sync("--json", "--max-delete", "100%", "--purge-noncurrent", "1" if kinds[1] == "gs" else "1e-9")

    assert done.code == 1, done
    told = {trouble["key"]: trouble for trouble in done.summary["troubles"]}
    assert {key: trouble["code"] for key, trouble in told.items()} == {"extra": "locked", "changed": "locked"}
    assert all("its retention has ended" in trouble["message"] for trouble in told.values())
    assert done.summary["purge_failed"] == 1
    assert "extra" in destination.keys()


def test_requester_pays_is_said_at_once(pair, worlds):
    """Google names it, S3 only refuses: the advice comes with both."""
    source, destination, sync = pair(("s3", "gs"))
    source.put("a", b"a")
    pays = _gs(400, "required", "Bucket is a requester pays bucket but no user project provided.")
    worlds.kits["gs"].add("answer", operation="list|bucket", status=400, body=pays, count=None)
    at_google = sync()
    worlds.kits["gs"].clear()
    worlds.kits["s3"].add("answer", operation="list|bucket", status=403, body=_s3(b"AccessDenied"), count=None)
    at_amazon = sync()

    at_google.refused(3, "--request-payer, and --project")
    at_amazon.refused(3, "or --request-payer")
    assert destination.keys() == []
