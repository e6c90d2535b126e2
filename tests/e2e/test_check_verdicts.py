"""What heavy-check says of copies that are gone, old, new or out of reach, and how it ends."""

from __future__ import annotations

import time

import pytest
from commands import ended, until, watched
from damage import OpaqueEtags, between, flipped, verdicts
from gateway import http_answer, s3_error

PAIRINGS = [("s3", "gs"), ("gs", "s3")]


def fill(bucket, count: int = 20) -> dict[str, str]:
    """Some small objects; the verdicts on copies that are as they should be."""
    for number in range(count):
        bucket.put(f"dir{number % 3}/key-{number:03d}", b"%d" % number * 10, content_type="text/plain")
    return {f"dir{number % 3}/key-{number:03d}": "ok" for number in range(count)}


@pytest.fixture(params=PAIRINGS, ids="-".join)
def synced(request, new_bucket, sync_of, check_of):
    """Source, destination, the command that checks them, and what it should say."""
    source, destination = map(new_bucket, request.param)
    expected = fill(source)
    assert sync_of(source, destination)().code == 0
    source.forget()
    destination.forget()
    return source, destination, check_of(source, destination), expected


def test_deleted_copies_are_missing(synced):
    """Exit code 5, and the missing are named on the terminal, too."""
    _, destination, check, expected = synced
    for key in ("dir1/key-001", "dir2/key-005"):
        destination.delete(key)
        expected[key] = "missing"

    told = check("--samples", "100%", "--json")
    plain = check("--samples", "100%")

    assert (5, expected) == (told.code, verdicts(told))
    assert plain.code == 5
    assert {line.split(":")[1].strip() for line in plain.said.splitlines() if line.strip().startswith("missing:")} == {
        "dir1/key-001",
        "dir2/key-005",
    }


def test_sources_that_changed_since_are_stale(synced):
    """New and changed objects are no alarm: exit code 0; with --strict they are: 5."""
    source, _, check, expected = synced
    time.sleep(1.1)  # S3 tells times to the second: what comes in the second of a run's end may be of the run
    source.put("new", b"new")
    source.put("dir0/key-003", b"changed")
    source.put("dir1/key-001", b"%d" % 2 * 10)  # another content of the same size
    expected |= {"new": "stale", "dir0/key-003": "stale", "dir1/key-001": "stale"}

    told = check("--samples", "100%", "--json")
    strict = check("--samples", "100%", "--json", "--strict")

    assert (0, expected) == (told.code, verdicts(told))
    assert (5, expected) == (strict.code, verdicts(strict))


@pytest.mark.parametrize("kinds", PAIRINGS, ids="-".join)
def test_source_objects_that_go_meanwhile_have_vanished(kinds, new_bucket, sync_of, check_of):
    """Deleted between the listing and the look at it: exit code 0."""
    source, destination = map(new_bucket, kinds)
    expected = fill(source)
    assert sync_of(source, destination)().code == 0
    source.forget()
    if source.scheme == "s3":
        source.gateway.fail(operation="stat", key="dir0/key-003", delay_s=1.0, count=None)
    else:
        source.rule(operation="stat", key="key-003", action="pass", delay_s=1.0, count=None)

    with watched(check_of(source, destination).start("--samples", "100%", "--json", "--concurrency", "32")) as process:
        assert until(lambda: source.counts()["stat"] >= 10, process)
        source.delete("dir0/key-003")
        told = ended(process)

    assert (0, {**expected, "dir0/key-003": "vanished"}) == (told.code, verdicts(told))


def test_damage_is_found_by_the_listing_in_the_state(synced):
    """--from-state lists nothing, but for a look whether the buckets are there."""
    source, destination, check, expected = synced
    destination.put("dir1/key-004", flipped(b"4" * 10))

    told = check("--samples", "100%", "--json", "--from-state")

    assert (5, {**expected, "dir1/key-004": "corrupt"}) == (told.code, verdicts(told))
    assert all("max-keys=1" in page or "maxResults=1" in page for page in source.listed() + destination.listed())


def test_requests_of_a_check(synced):
    """A look at either side and one read for each object, one list page of the source, and nothing is written."""
    source, destination, check, _ = synced

    told = check("--samples", "5", "--json")

    assert (0, 5) == (told.code, len(verdicts(told)))
    of_source, of_destination = source.counts(), destination.counts()
    for counts in (of_source, of_destination):
        del counts["bucket"]
    assert (of_source.pop("list"), of_destination.pop("list", 0)) <= (2, 1)
    assert ({"stat": 5}, {"stat": 5, "get": 5}) == (of_source, of_destination)


def test_metadata_that_differ_are_reported_apart(synced):
    """The bytes are well, so the verdict is ok and the exit code 0; the difference is told."""
    _, destination, check, expected = synced
    destination.put("dir1/key-004", b"4" * 10, content_type="text/html", user={"colour": "blue"})

    told = check("--samples", "100%", "--json")

    assert (0, expected) == (told.code, verdicts(told))
    (found,) = [line for line in told.lines if line["event"] == "finding" and line["metadata"]]
    assert found["key"] == "dir1/key-004"
    assert "content_type" in str(found["metadata"])
    assert "colour" in str(found["metadata"])


def test_prefix_restricts_what_is_listed_and_checked(synced):
    """Only keys that begin so are drawn."""
    _, _, check, expected = synced

    told = check("--samples", "100%", "--json", "--prefix", "dir1/")

    assert {key: "ok" for key in expected if key.startswith("dir1/")} == verdicts(told)


@pytest.mark.parametrize("kinds", PAIRINGS, ids="-".join)
@pytest.mark.parametrize("lacking", ["source", "destination"])
def test_bucket_that_is_missing_is_told(kinds, lacking, new_bucket, check_of):
    """Exit code 3, naming the bucket."""
    buckets = [new_bucket(kind, create=which != lacking) for kind, which in zip(kinds, ("source", "destination"), strict=True)]
    fill(buckets[lacking == "source"], 1)

    check_of(*buckets)("--samples", "5").refused(3, buckets[lacking == "destination"].name)


@pytest.mark.parametrize("kinds", PAIRINGS, ids="-".join)
def test_empty_source_is_no_success(kinds, new_bucket, check_of):
    """Most likely a wrong name: exit code 3."""
    source, destination = map(new_bucket, kinds)
    destination.put("key", b"x")

    check_of(source, destination)("--samples", "5").refused(3, "has no objects")


def test_state_that_never_saw_a_run_has_no_listing(new_bucket, check_of):
    """--from-state before any heavy-sync: exit code 3, with the reason."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    source.put("key", b"x")

    check_of(source, destination)("--from-state").refused(3, "no run of heavy-sync has finished")


@pytest.mark.parametrize("is_opaque", [False, True])
def test_source_is_not_read_where_that_is_forbidden(is_opaque, new_bucket, check_of, moto_door):
    """What the source states decides; where it states nothing the object is unverifiable, exit code 1."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    etags = OpaqueEtags()
    change, ask = (etags.change, etags.ask) if is_opaque else (lambda _, answer: answer, bytes)
    expected = fill(source, 5)
    fill(destination, 5)
    destination.put("dir0/key-003", b"longer than the source")
    with between(moto_door, change, ask):
        told = check_of(source, destination)("--samples", "100%", "--json", "--no-read-source")
        found = verdicts(told)
        assert source.counts()["get"] == 0

        read = check_of(source, destination)("--samples", "100%", "--json", "--state", "other")

    assert found.pop("dir0/key-003") == "corrupt"  # by its size
    assert set(found.values()) == {"unverifiable" if is_opaque else "ok"}
    assert told.code == 5
    assert (5, {**expected, "dir0/key-003": "corrupt"}) == (read.code, verdicts(read))

    destination.delete("dir0/key-003")
    source.delete("dir0/key-003")
    with between(moto_door, change, ask):
        told = check_of(source, destination)("--samples", "100%", "--json", "--no-read-source", "--restart")

    assert told.code == (1 if is_opaque else 0)
    assert all("--no-read-source" in line["reason"] for line in told.lines[:-1] if line.get("verdict") == "unverifiable")


def test_forbidden_source_object_is_unverifiable_alone(new_bucket, sync_of, check_of):
    """Exit code 1, with the provider's words; the others get their verdicts."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    expected = fill(source)
    assert sync_of(source, destination)().code == 0
    source.forget()
    for operation, answer in (("stat", http_answer(403)), ("get", s3_error(403, "AccessDenied"))):
        source.gateway.fail(operation=operation, key="dir1/key-001", answer=answer, count=None)

    told = check_of(source, destination)("--samples", "100%", "--json")

    assert (1, {**expected, "dir1/key-001": "unverifiable"}) == (told.code, verdicts(told))
    (found,) = [line for line in told.lines if line["event"] == "finding" and line["verdict"] == "unverifiable"]
    assert "told so" in found["reason"]
