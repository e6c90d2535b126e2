"""Credentials that end in mid-run: renewed once for all, waited for visibly, and never the end of what was done."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from buckets import GcsBucket, S3Bucket
from commands import ended, until, watched
from gateway import s3_error

OBJECTS = 120
SECRET = "sEcReT-of-the-test"
EXPIRED = s3_error(400, "ExpiredToken")


class Expiry:
    """A fault of the gateway: session tokens end, each after `after` requests that were signed with it."""

    delay_s = 0.0
    cut = None

    def __init__(self, after: int, answer: bytes = EXPIRED) -> None:
        self.after, self.answer, self._whole = after, answer, answer
        self.used: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def hits(self, seen) -> bool:
        """Whether the request is refused."""
        token = seen.headers.get("x-amz-security-token")
        if token is None or seen.target == "/":
            return False
        self.answer = self._whole.partition(b"<")[0] if seen.method == "HEAD" else self._whole
        self.used[token] += 1
        self.refused[token] += self.used[token] > self.after
        return self.used[token] > self.after


def fill(bucket):
    """Put the objects of all tests into a bucket, which no test changes."""
    for number in range(OBJECTS):
        bucket.put(f"key-{number:04d}", b"%d" % number, content_type="text/plain")
    return bucket


@pytest.fixture(scope="module")
def s3_source(moto, moto_door):
    """On S3."""
    return fill(S3Bucket(moto, moto_door))


@pytest.fixture(scope="module")
def google_source(google):
    """On Google Storage."""
    return fill(GcsBucket(google))


@pytest.fixture
def pair(s3_source, new_bucket):
    """A source on S3 and a destination on Google Storage."""
    destination = new_bucket("gs")
    s3_source.forget()
    destination.forget()
    return s3_source, destination


@pytest.fixture
def keys(tmp_path):
    """The user's file of static keys with a session token, in the profile `temp`."""
    file = tmp_path / "credentials"

    class Keys:
        words = ("--source-profile", "temp")
        env = {"AWS_SHARED_CREDENTIALS_FILE": str(file)}

        def write(self, number: int) -> None:
            new = file.with_suffix(".new")
            new.write_text(
                f"[temp]\naws_access_key_id = ASIA{number}\naws_secret_access_key = {SECRET}\naws_session_token = token{number}\n"
            )
            new.rename(file)

    made = Keys()
    made.write(1)
    return made


def said(process, text: str) -> str:
    """Read what a process says until a line with `text`."""
    lines = itertools.chain.from_iterable(iter(lambda: [process.stderr.readline()], [""]))
    seen = []
    for line in lines:
        seen.append(line)
        if text in line:
            return "".join(seen)
    raise AssertionError(f"{text!r} was not said: {seen}")


def test_role_that_ends_is_assumed_again_once_for_all_workers(pair, sync_of, tmp_path, moto):
    """64 workers meet the end of a session at once, again and again: each time one of them assumes the role anew."""
    source, destination = pair
    config = tmp_path / "config"
    config.write_text(
        "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/copier\nsource_profile = base\nregion = us-east-1\n"
        f"[profile base]\naws_access_key_id = {moto.access_key}\naws_secret_access_key = {moto.secret_key}\n"
    )
    expiry = Expiry(after=70)  # so many that one has succeeded before the next is refused
    source.gateway.faults.append(expiry)

    done = sync_of(source, destination)(
        *("--concurrency", "64", "--source-profile", "role", "--json"),
        AWS_CONFIG_FILE=str(config),
        AWS_ENDPOINT_URL_STS=source.url,
    )

    assert (done.code, done.summary["copied"]) == (0, OBJECTS), done
    assumed = [seen for seen in source.gateway.seen if (seen.method, seen.target) == ("POST", "/")]
    assert len(assumed) == len(expiry.used) >= 2
    assert len(destination.keys()) == OBJECTS


def test_static_token_that_ends_is_waited_for(pair, keys, sync_of):
    """No request goes out meanwhile; it says which file it reads; with new keys in it the run goes on by itself."""
    source, destination = pair
    expiry = Expiry(after=50)
    source.gateway.faults.append(expiry)
    sync = sync_of(source, destination)
    with watched(sync.start("-v", "--auth-grace", "6s", *keys.words, **keys.env)) as process:
        waits = said(process, "failed 1 times")
        refused = expiry.refused.total()
        waits += said(process, "failed 2 times")
        assert refused == expiry.refused.total()
        expiry.after = OBJECTS * 10
        keys.write(2)
        done = ended(process)

    assert done.code == 0, done
    assert "not accepted any more: waiting for others in" in waits
    assert keys.env["AWS_SHARED_CREDENTIALS_FILE"] in waits
    assert set(expiry.refused.elements()) == {"token1"}
    assert expiry.refused.total() <= 16 + 2  # what was under way: workers and listers
    assert SECRET not in waits + done.said
    assert source.contents() == destination.contents()
    assert len(destination.written()) == OBJECTS


def test_run_ends_after_the_grace_and_goes_on_with_good_keys(pair, keys, sync_of):
    """Exit code 3, what to do, all that was done is kept and not done again."""
    source, destination = pair
    source.gateway.faults.append(Expiry(after=50, answer=s3_error(403, "InvalidToken")))
    sync = sync_of(source, destination)

    sync("-vv", "--auth-grace", "1s", *keys.words, **keys.env).refused(
        3,
        r"InvalidToken.*credentials in .*credentials, profile temp.*renew them.*waited 1 s .*--auth-grace.*goes on where it was",
    )
    written = len(destination.written())
    source.gateway.faults.clear()
    done = sync("--json", *keys.words, **keys.env)

    assert 0 < written < OBJECTS
    assert (done.code, done.summary["resumed"]) == (0, True), done
    assert len(destination.written()) == OBJECTS == len(destination.keys())


def test_signal_ends_the_wait(pair, keys, sync_of):
    """However long the grace is; a later run finishes."""
    source, destination = pair
    source.gateway.faults.append(Expiry(after=50))
    sync = sync_of(source, destination)
    with watched(sync.start("--auth-grace", "1d", *keys.words, **keys.env)) as process:
        said(process, "waiting for others in")
        process.send_signal(signal.SIGTERM)
        stopped = ended(process)
    source.gateway.faults.clear()

    assert stopped.code == 143, stopped
    assert "run it again: heavy-sync" in stopped.said
    assert sync(*keys.words, **keys.env).code == 0
    assert len(destination.written()) == OBJECTS


def test_keys_that_were_never_good_are_not_waited_for(pair, keys, sync_of):
    """A typo ends the run at once, whatever the grace."""
    source, destination = pair
    source.gateway.faults.append(Expiry(after=0, answer=s3_error(403, "InvalidAccessKeyId")))

    sync_of(source, destination)("--auth-grace", "1d", *keys.words, **keys.env).refused(3, "InvalidAccessKeyId.*renew them")


def test_role_that_is_refused_in_mid_run_is_waited_for(pair, sync_of, tmp_path, moto):
    """Somebody takes the permission away, and gives it back."""
    source, destination = pair
    config = tmp_path / "config"
    config.write_text(
        "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/copier\nsource_profile = base\nregion = us-east-1\n"
        f"[profile base]\naws_access_key_id = {moto.access_key}\naws_secret_access_key = {moto.secret_key}\n"
    )
    source.gateway.faults.append(Expiry(after=60))
    denied = b"<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
    denied = b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n" % len(denied) + denied
    source.gateway.fail(operation="bucket", answer=denied, skip=3, count=None)
    env = {"AWS_CONFIG_FILE": str(config), "AWS_ENDPOINT_URL_STS": source.url}
    sync = sync_of(source, destination)
    with watched(sync.start("--auth-grace", "5s", "--source-profile", "role", **env)) as process:
        told = said(process, "waiting for others in")
        source.gateway.faults.clear()
        done = ended(process)

    assert done.code == 0, (told, done)
    assert "Traceback" not in told + done.said
    assert len(destination.keys()) == OBJECTS


def test_check_waits_and_ends_alike(pair, keys, sync_of, check_of):
    """What was found before is kept."""
    source, destination = pair
    assert sync_of(source, destination)().code == 0
    check = check_of(source, destination)
    source.gateway.faults.append(Expiry(after=3))

    check("--samples", "50", "--auth-grace", "0.5s", *keys.words, **keys.env).refused(3, "renew them.*waited 0.5 s")
    source.gateway.faults.clear()

    assert check("--samples", "50", *keys.words, **keys.env).code == 0


# Google ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(google_source, new_bucket, tmp_path):
    """A source on Google Storage that wants tokens, a destination on S3, and the words that name the credentials file."""
    source, destination = google_source, new_bucket("s3")
    source.forget()
    destination.forget()
    file = tmp_path / "google.json"
    known = {"client_id": "id", "client_secret": SECRET, "refresh_token": "refresh"}
    file.write_text(json.dumps({"type": "authorized_user", **known, "token_uri": f"{source.url}/token"}))
    source.settings(require_auth=True)
    yield source, destination, ("--source-credentials-file", file)
    source.settings(require_auth=False)


def test_google_token_that_ends_is_fetched_once_for_all_workers(guarded, sync_of):
    """64 workers are refused at once, again and again: each time one of them asks for a token."""
    source, destination, words = guarded
    source.rule(operation="get", action="pass", delay_s=0.2, count=None)
    sync = sync_of(source, destination)
    with watched(sync.start("--concurrency", "64", "--json", *words)) as process:
        for expired in range(2):
            assert until(lambda: source.counts()["token"] == expired + 1, process)  # noqa: B023 - called at once
            assert until(lambda: destination.counts()["put"] > 64 * expired, process)  # noqa: B023
            source.ask("DELETE", "/_loopback/tokens")
        done = ended(process)

    assert (done.code, done.summary["copied"]) == (0, OBJECTS), done
    assert source.counts()["token"] == 3
    assert len(destination.keys()) == OBJECTS


def test_google_grant_that_is_revoked_is_waited_for(guarded, sync_of):
    """It says which file it reads, and goes on when what is in there is good."""
    source, destination, words = guarded
    source.rule(operation="get", action="pass", delay_s=0.1, count=None)
    sync = sync_of(source, destination)
    with watched(sync.start("--auth-grace", "5s", *words)) as process:
        assert until(lambda: source.counts()["get"] > 16, process)
        source.rule(operation="token", status=400, reason="invalid_grant", count=None)
        source.ask("DELETE", "/_loopback/tokens")
        told = said(process, "not accepted any more")
        source.ask("DELETE", "/_loopback/rules")
        done = ended(process)

    assert done.code == 0, done
    assert str(words[1]) in told
    assert SECRET not in told + done.said
    assert len(destination.keys()) == OBJECTS


def test_google_grant_that_stays_revoked_ends_the_run(guarded, sync_of):
    """Exit code 3 after the grace; then it goes on."""
    source, destination, words = guarded
    source.rule(operation="get", action="pass", delay_s=0.1, count=None)
    sync = sync_of(source, destination)
    with watched(sync.start("-vv", "--auth-grace", "0.5s", *words)) as process:
        assert until(lambda: source.counts()["get"] > 16, process)
        source.rule(operation="token", status=400, reason="invalid_grant", count=None)
        source.ask("DELETE", "/_loopback/tokens")
        done = ended(process)

    done.refused(3, r"google\.json \(400 invalid_grant\).*waited 0\.5 s")
    assert SECRET not in done.said
    source.ask("DELETE", "/_loopback/rules")
    assert sync(*words).code == 0
    assert sorted(destination.written()) == sorted(set(destination.keys()))


def test_broken_file_ends_the_run_at_once(pair, sync_of, tmp_path):
    """Nobody else is asked for credentials in its place."""
    source, destination = pair
    file = tmp_path / "broken"
    file.write_text('{"type": ')

    sync_of(destination, source)("--source-credentials-file", file).refused(3, "broken: the Google credentials are not JSON")


# Whoever hands out credentials hangs ----------------------------------------------------------------------------------

HUNG_S = 60.0
"""Seconds after which a program that hands out credentials is given up, unless --stall-timeout is shorter."""


def lives(number: int) -> bool:
    """Whether a process still runs."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{number}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def hanging(tmp_path):
    """A program for credentials that hangs, in the profiles `own` and, by way of that, `role`; and the processes it started."""
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc here")
    numbers, program = tmp_path / "numbers", tmp_path / "helper"
    program.write_text(f"#!/bin/sh\nsleep {10 * HUNG_S:.0f} &\necho $$ $! >> {numbers}\nwait\n")
    program.chmod(0o700)
    (tmp_path / "config").write_text(
        f"[profile own]\ncredential_process = {program}\n"
        "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/copier\nsource_profile = own\nregion = us-east-1\n"
    )

    def started() -> list[int]:
        return [int(word) for word in numbers.read_text().split()] if numbers.exists() else []

    yield started
    for number in filter(lives, started()):
        os.kill(number, signal.SIGKILL)


def test_program_that_hangs_is_ended_with_its_attempt(pair, hanging, sync_of, tmp_path):
    """What is given up runs no longer when the next attempt has begun, and nothing of it is left after the run."""
    sync = sync_of(*pair)
    words = ("--source-profile", "own", "--stall-timeout", "1")
    with watched(sync.start(*words, preexec=os.setsid, AWS_CONFIG_FILE=str(tmp_path / "config"))) as process:
        assert until(lambda: len(hanging()) >= 4, process)
        left = [*map(lives, hanging()[:2])]
        process.send_signal(signal.SIGTERM)
        stopped = ended(process)

    assert stopped.code == 143, stopped
    assert not any(left)
    assert not any(map(lives, hanging()))


@pytest.mark.parametrize("profile", ["own", "role"])
def test_signal_ends_a_program_that_hangs(profile, pair, hanging, sync_of, tmp_path):
    """At once, though nothing is open yet; also one that a role asks for its keys."""
    sync = sync_of(*pair)
    words = ("--source-profile", profile)
    with watched(sync.start(*words, preexec=os.setsid, AWS_CONFIG_FILE=str(tmp_path / "config"))) as process:
        assert until(hanging, process)
        stopped_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        stopped = ended(process)
        took = time.monotonic() - stopped_at

    assert stopped.code == 143, stopped
    assert took < HUNG_S / 6
    assert not any(map(lives, hanging()))


def test_quiet_run_says_that_it_waits_for_a_person(pair, keys, sync_of):
    """With -q, too: nobody else will renew them."""
    source, destination = pair
    source.gateway.faults.append(Expiry(after=50))
    sync = sync_of(source, destination)
    with watched(sync.start("-q", "--auth-grace", "1d", *keys.words, **keys.env)) as process:
        told = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        stopped = ended(process)

    assert stopped.code == 143, stopped
    assert "not accepted any more: waiting for others in" in told
