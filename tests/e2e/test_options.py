"""Options through the command: dry run, new buckets, versions, what is said and what is kept quiet."""

from __future__ import annotations

import time
from importlib.metadata import version

import pytest
from buckets import GcsBucket, client_of
from commands import Command, environment, until, watched

import heavysync

DAY_S = 86400.0
MIB = 1 << 20


@pytest.mark.parametrize("kinds", [("s3", "gs"), ("gs", "s3")], ids="-".join)
def test_dry_run_changes_nothing_and_tells(kinds, new_bucket, sync_of):
    """It lists and compares for real, names every copy and deletion, and sends nothing but look-ups and listings."""
    source, destination = map(new_bucket, kinds)
    source.put("new", b"12345", content_type="text/plain")
    source.put("same", b"same", content_type="text/plain")
    source.put("changed", b"now", content_type="text/plain")
    destination.put("same", b"same", content_type="text/plain")
    destination.put("changed", b"then", content_type="text/plain")
    destination.put("extra", b"gone soon", content_type="text/plain")
    before = destination.contents()
    source.forget()
    destination.forget()
    sync = sync_of(source, destination)

    told = sync("--dry-run")
    lines = sync("-n", "--json")

    assert (told.code, lines.code) == (0, 0), told
    assert {"bucket", "list"} >= set(source.counts() + destination.counts())
    assert "(dryrun) copy: new (5 B)" in told.out
    planned = {(line["action"], line["key"]) for line in lines.lines if line["event"] == "planned"}
    assert {("copy", "new"), ("copy", "changed"), ("delete", "extra")} == planned
    assert before == destination.contents()
    assert sync("--max-delete", "100%").code == 0
    assert source.contents() == destination.contents()


def test_dry_run_beside_an_unfinished_run_leaves_it_alone(new_bucket, sync_of):
    """A dry run of an interrupted synchronisation says so, instead of giving it up in silence."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    for number in range(40):
        source.put(f"key-{number}", b"x", content_type="text/plain")
    destination.forget()
    destination.rule(operation="insert", action="pass", delay_s=0.2, count=None)
    sync = sync_of(source, destination)
    with watched(sync.start("--concurrency", "2")) as process:
        assert until(lambda: destination.counts()["put"] >= 4, process)
    destination.forget()

    sync("--dry-run").refused(2, r"unfinished run.*--state")
    assert sync("--json").summary["resumed"]


def test_created_bucket_is_as_asked(new_bucket, sync_of, tmp_path):
    """--create-bucket with --location, --storage-class and --enable-versioning, on both providers."""
    google, amazon = new_bucket("gs", create=False), new_bucket("s3", create=False)
    source = new_bucket("s3")
    source.put("key", b"x", content_type="text/plain")
    words = ("--create-bucket", "--enable-versioning", "--project", "p")

    to_google = sync_of(source, google)(
        *words, "--location", "EUROPE-WEST3", "--storage-class", "NEARLINE", "--state", tmp_path / "a"
    )
    to_amazon = sync_of(source, amazon)(*words, "--location", "eu-central-1", "--storage-class", "STANDARD_IA", "--state", "b")

    assert (to_google.code, to_amazon.code) == (0, 0), (to_google, to_amazon)
    bucket = google.ask("GET", f"/storage/v1/b/{google.name}")
    assert (bucket["location"], bucket["versioning"]) == ("EUROPE-WEST3", {"enabled": True})
    assert google.resources()["key"]["storageClass"] == "NEARLINE"
    assert amazon.client.get_bucket_location(Bucket=amazon.name)["LocationConstraint"] == "eu-central-1"
    assert amazon.client.get_bucket_versioning(Bucket=amazon.name)["Status"] == "Enabled"
    listed = amazon.client.list_objects_v2(Bucket=amazon.name)["Contents"]
    assert [entry["StorageClass"] for entry in listed] == ["STANDARD_IA"]


def test_purge_deletes_only_old_noncurrent_versions_on_google(new_bucket, sync_of):
    """Live versions and young noncurrent ones stay; what has been noncurrent for longer goes."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    sync = sync_of(source, destination)
    source.put("gone", b"x", content_type="text/plain")
    for days, data in ((-30, b"one"), (-20, b"two"), (-5, b"three")):
        destination.settings(clock_offset_s=days * DAY_S)
        source.put("key", data, content_type="text/plain")
        if days == -5:
            source.delete("gone")
        assert sync("--enable-versioning").code == 0
    destination.settings(clock_offset_s=0.0)
    assert len(destination.versions()) == 4

    done = sync("--purge-noncurrent", "15", "--json")
    left = [(item["name"], item.get("timeDeleted") is None) for item in destination.versions()]
    all_old = sync("--old-threshold", "1.5", "--json")

    assert (done.code, done.summary["purged"]) == (0, 1), done
    assert [("gone", False), ("key", False), ("key", True)] == sorted(left)
    assert (all_old.code, all_old.summary["purged"]) == (0, 2), all_old
    assert [item["name"] for item in destination.versions()] == ["key"]
    assert destination.read("key")[0] == b"three"


def test_purge_deletes_only_old_noncurrent_versions_on_s3(new_bucket, sync_of):
    """The threshold may be a fraction of a day; expired delete markers go after the versions they hid."""
    source, destination = new_bucket("gs"), new_bucket("s3")
    sync = sync_of(source, destination)
    source.put("gone", b"x", content_type="text/plain")
    for data in (b"one", b"two"):
        source.put("key", data, content_type="text/plain")
        assert sync("--enable-versioning").code == 0
    source.delete("gone")
    assert sync().code == 0

    early = sync("--purge-noncurrent", "1", "--json")
    time.sleep(2.1)  # the server's clock has seconds
    late = sync("--purge-noncurrent", 1 / DAY_S, "--json")

    assert (early.code, early.summary["purged"]) == (0, 0), early
    assert (late.code, late.summary["purged"]) == (0, 3), late
    left = destination.client.list_object_versions(Bucket=destination.name)
    assert [(entry["Key"], entry["IsLatest"]) for entry in left["Versions"]] == [("key", True)]
    assert "DeleteMarkers" not in left
    assert destination.read("key")[0] == b"two"


def test_json_lines_parse_and_tell_everything(new_bucket, sync_of, tmp_path):
    """With --json stdout holds JSON lines only, the last one the summary."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    source.put("key", b"12345", content_type="text/plain")

    done = sync_of(source, destination)("--json")
    failed = sync_of(source, new_bucket("gs", create=False))("--json", "--state", tmp_path / "other")

    assert (done.summary["status"], done.summary["copied"], done.summary["copied_bytes"]) == ("done", 1, 5)
    assert (failed.code, failed.lines[-1]["event"]) == (3, "error")
    assert "does not exist" in failed.lines[-1]["text"]


def test_quiet_is_quiet(new_bucket, sync_of):
    """-q says nothing when all is well, and still says what is not."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    source.put("key", b"x", content_type="text/plain")
    sync = sync_of(source, destination)

    well = sync("-q")
    source.put(".well-known/acme-challenge/x", b"x")
    ill = sync("-q")

    assert (well.code, well.said) == (0, ""), well
    assert ill.code == 1
    assert "acme-challenge" in ill.out


@pytest.mark.parametrize("kinds", [("s3", "gs"), ("gs", "s3")], ids="-".join)
def test_no_secret_is_shown(kinds, new_bucket, sync_of, moto):
    """At -vv, with retries and large uploads: every request is told, but no key, signature or session URI."""
    source, destination = map(new_bucket, kinds)
    source.put("large", b"l" * (11 * MIB), content_type="text/plain")
    source.put("small", b"s", content_type="text/plain")
    source.forget()
    destination.forget()
    if destination.scheme == "gs":
        destination.rule(operation="chunk", action="drop", count=1)
        destination.rule(operation="insert", action="reset", count=1)
    else:
        destination.gateway.fail(operation="part", cut=0, count=1)

    done = sync_of(source, destination)("-vv", "--part-size", "5MiB")

    assert done.code == 0, done
    assert "PUT http" in done.err
    assert "again in" in done.err
    for secret in (moto.secret_key, "upload_id", "uploadId", "Signature", "Authorization", "Bearer"):
        assert secret not in done.said, secret


def test_options_come_from_the_environment(new_bucket, sync_of, tmp_path):
    """HEAVYSYNC_<OPTION>, AWS_ENDPOINT_URL_S3 and STORAGE_EMULATOR_HOST are honoured."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    source.put("key", b"x", content_type="text/plain")
    destination.put("extra", b"stays")
    sync = Command(sync_of(source, destination).env, (source.address, destination.address))

    done = sync(
        AWS_ENDPOINT_URL_S3=source.url,
        STORAGE_EMULATOR_HOST=destination.url,
        HEAVYSYNC_DELETE="false",
        HEAVYSYNC_STATE=str(tmp_path / "elsewhere"),
        HEAVYSYNC_JSON="1",
    )

    assert done.code == 0, done
    assert done.summary["state"] == str(tmp_path / "elsewhere")
    assert sorted(destination.keys()) == ["extra", "key"]


def test_signatures_are_accepted_by_a_server_that_checks_them(rclone, new_bucket, sync_of, tmp_path):
    """From Google to a server that checks every signature and Content-MD5, and back again."""
    source = new_bucket("gs")
    for number, key in enumerate(["a b", "a+b", "a%2Fb", "dir/ü", "dir/a#b?c=d"]):
        source.put(key, b"%d" % number, content_type="text/plain")
    source.put("large", b"l" * (11 * MIB), content_type="text/plain")
    client_of(rclone).create_bucket(Bucket="checked")
    back = GcsBucket(source.url)
    env = environment(tmp_path, rclone.environment)
    there = Command(env, (source.address, "s3://checked", "--source-endpoint-url", source.url))
    again = Command(env, ("s3://checked", back.address, "--destination-endpoint-url", source.url))

    first = there("--destination-endpoint-url", rclone.url, "--part-size", "5MiB")
    second = again("--source-endpoint-url", rclone.url)

    assert (first.code, second.code) == (0, 0), (first, second)
    assert {key: data for key, (data, _) in source.contents().items()} == {k: d for k, (d, _) in back.contents().items()}


def test_help_names_options_and_exit_codes(tmp_path):
    """--help is documentation."""
    told = Command(environment(tmp_path))("--help", COLUMNS="100").out

    for word in ("--state", "--db", "--max-delete", "--purge-noncurrent", "--old-threshold", "--restart", "130/143"):
        assert word in told


@pytest.mark.parametrize("name", ["heavy-sync", "heavy-check"])
def test_version_is_that_of_the_package(name, tmp_path):
    """Also without the two addresses."""
    told = Command(environment(tmp_path), name=name)("--version")

    assert (told.code, told.out) == (0, f"{name} {version('heavysync')}\n"), told
    assert version("heavysync") == heavysync.__version__
