"""Words that make no sense and places that are not there: each its own message and exit code, and nothing changes."""

from __future__ import annotations

import signal

import pytest
from commands import Command, ended, environment, watched
from servers import free_port

USAGE = {
    "unknown scheme": (["ftp://a", "gs://b"], r"'ftp://a'.*s3://bucket"),
    "no scheme": (["a", "gs://b"], r"'a'.*s3://bucket"),
    "unknown scheme of the destination": (["s3://a", "azure://b"], r"'azure://b'.*s3://bucket"),
    "no bucket name": (["s3://", "gs://bbb"], r"'s3://' names no bucket"),
    "no bucket name of the destination": (["s3://aaa", "gs:///prefix"], r"'gs:///prefix' names no bucket"),
    "equal": (["s3://aaa/p", "s3://aaa/p/"], r"both source and destination"),
    "destination inside": (["s3://aaa", "s3://aaa/backup"], r"inside each other"),
    "source inside": (["gs://aaa/deep/er", "gs://aaa/deep"], r"inside each other"),
    "negative concurrency": (["s3://aaa", "gs://bbb", "--concurrency", "-1"], r"--concurrency -1: .*at least 1"),
    "negative days": (["s3://aaa", "gs://bbb", "--purge-noncurrent", "-0.5"], r"--purge-noncurrent -0.5: .*at least 0"),
    "days that are no number": (["s3://aaa", "gs://bbb", "--purge-noncurrent", "nan"], r"--purge-noncurrent nan"),
    "negative deletions": (["s3://aaa", "gs://bbb", "--max-delete", "-5"], r"--max-delete '-5'"),
    "too many per cent": (["s3://aaa", "gs://bbb", "--max-delete", "101%"], r"--max-delete '101%'"),
    "negative memory": (["s3://aaa", "gs://bbb", "--memory", "-1GiB"], r"--memory '-1GiB'"),
    "too little memory": (["s3://aaa", "gs://bbb", "--memory", "1MiB"], r"--memory 1048576: .*at least"),
    "negative part size": (["s3://aaa", "gs://bbb", "--part-size", "-5MiB"], r"--part-size '-5MiB'"),
    "part larger than memory": (["s3://aaa", "gs://bbb", "--part-size", "1GiB"], r"--part-size .* more than --memory"),
    "endpoint without scheme": (
        ["s3://aaa", "gs://bbb", "--source-endpoint-url", "localhost:9000"],
        r"'localhost:9000' has no scheme",
    ),
    "endpoint without host": (["s3://aaa", "gs://bbb", "--source-endpoint-url", "http://"], r"'http://' names no host"),
    "not a number": (["s3://aaa", "gs://bbb", "--concurrency", "many"], r"concurrency"),
    "unknown option": (["s3://aaa", "gs://bbb", "--turbo"], r"--turbo"),
    "one word": (["s3://aaa"], r"DST"),
}


@pytest.mark.parametrize("name", USAGE)
def test_senseless_words_are_refused(name, tmp_path, moto):
    """Exit code 2, one message that quotes the word, and no state is made."""
    words, pattern = USAGE[name]

    Command(environment(tmp_path, moto.environment))(*words).refused(2, pattern)

    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("missing", ["source", "destination"])
@pytest.mark.parametrize("kinds", [("s3", "gs"), ("gs", "s3")], ids="-".join)
def test_missing_bucket_is_named(missing, kinds, new_bucket, sync_of):
    """Exit code 3 and a message with the bucket's name; the destination's advises --create-bucket."""
    source = new_bucket(kinds[0], create=missing != "source")
    destination = new_bucket(kinds[1], create=missing != "destination")
    if missing == "destination":
        source.put("key", b"x")
    name = (source if missing == "source" else destination).name

    told = sync_of(source, destination)()

    told.refused(3, rf"{missing} bucket of .*{name}.* does not exist")
    assert missing == "source" or "--create-bucket" in told.err


def test_empty_prefix_is_refused(new_bucket, sync_of):
    """A source prefix without keys is a mistake, not an order to delete everything: exit code 4."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    source.put("data/key", b"x")
    destination.put("key", b"stays")
    source.address += "/date"

    told = sync_of(source, destination)("--max-delete", "100%")

    assert told.code == 4, told
    assert "no objects" in told.said
    assert "Traceback" not in told.said
    assert destination.keys() == ["key"]


def test_empty_source_is_refused(new_bucket, sync_of):
    """The same for a whole bucket."""
    source, destination = new_bucket("gs"), new_bucket("s3")
    destination.put("key", b"stays")

    told = sync_of(source, destination)("--max-delete", "100%")

    assert (told.code, "no objects" in told.said) == (4, True), told
    assert destination.keys() == ["key"]


def test_too_many_deletions_are_refused(new_bucket, sync_of):
    """Exit code 4, the message has both numbers, nothing is deleted; a larger allowance goes through."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    source.put("key", b"x", content_type="text/plain")
    for number in range(9):
        destination.put(f"old-{number}", b"stays")
    sync = sync_of(source, destination)

    told = sync()

    assert told.code == 4, told
    assert "9 of 9" in told.said
    assert len(destination.keys()) == 10
    assert sync("--max-delete", "9").code == 0
    assert destination.keys() == ["key"]


def test_missing_aws_credentials_are_told(tmp_path, new_bucket, sync_of):
    """Exit code 3, and the message says where credentials can come from."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    sync = sync_of(source, destination)
    env = {name: value for name, value in sync.env.items() if not name.startswith("AWS_") or "METADATA" in name}

    Command(env, sync.words)().refused(3, r"no credentials: set AWS_ACCESS_KEY_ID")


def test_unknown_profile_is_told(new_bucket, sync_of):
    """Exit code 3 with the profile's name."""
    sync = sync_of(new_bucket("s3"), new_bucket("gs"))

    sync("--source-profile", "nobody").refused(3, "nobody")


def test_wrong_aws_credentials_are_told(rclone, new_bucket, sync_of, tmp_path):
    """A server that checks signatures refuses a wrong secret: exit code 3, and the secret is not shown."""
    destination = new_bucket("gs")
    wrong = "wrong-secret-that-nobody-shall-see"
    words = ("s3://bucket", destination.address, "--source-endpoint-url", rclone.url)
    words += ("--destination-endpoint-url", destination.url)
    told = Command(environment(tmp_path, rclone.environment), words)("-vv", AWS_SECRET_ACCESS_KEY=wrong)

    told.refused(3, r"SignatureDoesNotMatch|credentials")
    assert wrong not in told.said


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        (None, r"gone\.json"),
        ("no json", r"not JSON"),
        ("{}", r"no type"),
        ('{"type": "service_account"}', r"cannot be used|gcloud"),
    ],
)
def test_broken_google_credentials_are_told(content, pattern, new_bucket, tmp_path, moto):
    """A credentials file that is missing or broken: exit code 3, its name, and what to do."""
    file = tmp_path / "gone.json"
    if content is not None:
        file.write_text(content)
    source = new_bucket("s3")
    words = (source.address, "gs://some-bucket", "--source-endpoint-url", source.url)
    command = Command(environment(tmp_path, moto.environment), words)

    told = command(GOOGLE_APPLICATION_CREDENTIALS=str(file))

    told.refused(3, pattern)
    assert "gone.json" in told.err


def test_server_that_is_not_there_is_retried_visibly(new_bucket, sync_of):
    """A refused connection is no reason to give up; what is being retried is told with -v."""
    source, destination = new_bucket("s3"), new_bucket("gs")
    source.url = f"http://127.0.0.1:{free_port()}"
    with watched(sync_of(source, destination).start("-v")) as process:
        lines = iter(process.stderr.readline, "")
        seen = next(line for line in lines if "failed 2 times, again in" in line)
        process.send_signal(signal.SIGTERM)
        told = ended(process)

    assert source.address in seen
    assert told.code == 143, told
    assert "Traceback" not in told.err
