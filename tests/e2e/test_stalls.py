"""Nothing hangs: whatever stops moving, wherever, is given up after --stall-timeout and done again."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import ssl
import subprocess
import time
from contextlib import ExitStack

import pytest
from broken_disk import COMPILER, build, hanging_names
from commands import Command, ended, environment, until, watched
from stalls import relay

from heavysync.errors import TransientError
from heavysync.stores import gcs_auth

MIB = 1 << 20
WORDS = ("--stall-timeout", "1", "--concurrency", "8", "--part-size", "5MiB", "--max-delete", "100%")


@pytest.fixture
def relayed(new_bucket, moto, tmp_path):
    """Two buckets of given kinds with a relay before each, and the command that goes through both."""

    def make(kinds, tls=None, **env):
        source, destination = map(new_bucket, kinds.split("-"))
        relays = [stack.enter_context(relay(bucket.url, tls)) for bucket in (source, destination)]
        words = ["--state", str(tmp_path / "state-dir"), source.address, destination.address, *WORDS]
        words += ["--source-endpoint-url", relays[0].url, "--destination-endpoint-url", relays[1].url]
        return source, destination, relays, Command(environment(tmp_path, moto.environment, env), tuple(words))

    with ExitStack() as stack:
        yield make


def fill(bucket) -> None:
    """Some objects that are larger than what systems buffer, and one that goes in parts."""
    noise = random.Random(3)
    for number in range(10):
        bucket.put(f"key-{number}", noise.randbytes(MIB), content_type="text/plain")
    bucket.put("large", noise.randbytes(11 * MIB), content_type="text/plain")


DEATHS = [("s3-gs", "refused"), ("gs-s3", "refused"), ("s3-gs", "silent"), ("gs-s3", "silent")]
PAGES, PAGE = 8, 5
NAME = "localhost.localdomain"
STOPPED_S = 5.0
"""The one time that is asserted here: an operator who stops a run waits for it."""


@pytest.mark.parametrize("kinds", ["s3-gs", "gs-s3"])
def test_connections_that_hang_are_given_up(kinds, relayed):
    """Servers that never answer, never read, read or answer a byte now and then, and connections that die without a word."""
    source, destination, relays, sync = relayed(kinds)
    fill(source)
    if destination.scheme == "s3":
        destination.gateway.fail(operation="put", delay_s=0.3, count=None)
    else:
        destination.rule(operation="insert", action="pass", delay_s=0.3, count=None)
    for between in relays:
        between.beside, between.script = 1, ["mute", "deaf", "sip", "drip"]
    with watched(sync.start()) as process:
        until(lambda: not any(between.script for between in relays), process)
        for between in relays:
            between.freeze()
        done = ended(process)

    assert done.code == 0, done
    for between in relays:
        assert {"mute", "deaf", "sip", "drip"} <= set(between.met), between.met
    assert source.contents() == destination.contents()


def small_pages(source, destination) -> None:
    """Both servers answer short pages, slowly."""
    for side in (source, destination):
        if side.scheme == "s3":
            side.gateway.rewrite = lambda target: f"{target}&max-keys={PAGE}" if "list-type=2" in target else target
            side.gateway.fail(operation="list", delay_s=0.1, count=None)
        else:
            side.settings(page_limit=PAGE)
            side.rule(operation="list", action="pass", delay_s=0.1, count=None)


def told_by(process) -> str:
    """The next line on stderr."""
    return process.stderr.readline()


@pytest.mark.parametrize(("kinds", "death"), DEATHS)
def test_run_whose_source_has_died_waits_is_stopped_and_finishes_later(kinds, death, relayed):
    """Dead for good in the middle of the listing: it says so, SIGTERM ends it soon, nothing is deleted, a later run finishes."""
    source, destination, (before_source, _), sync = relayed(kinds)
    for number in range(PAGES * PAGE):
        source.put(f"key-{number:03d}", b"%d" % number, content_type="text/plain")
    for number in range(0, PAGES * PAGE + 10, 2):
        destination.put(f"key-{number:03d}", b"old", content_type="text/plain")
    source.forget()
    small_pages(source, destination)
    kept = set(destination.keys())
    with watched(sync.start("--stall-timeout", "60")) as process:
        assert until(lambda: len(source.listed()) >= 1 + PAGES // 2, process)
        before_source.die(death)
        if (kinds, death) == DEATHS[0]:
            assert "retrying for" in told_by(process)
        else:
            time.sleep(0.5)  # by then a request hangs, or waits for its turn
        stopped_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        stopped = ended(process)
        took = time.monotonic() - stopped_at
    listed = len(source.listed())
    before_source.die("")

    assert stopped.code == 143, stopped
    assert kept <= set(destination.keys())
    assert listed < 2 + PAGES
    assert took < STOPPED_S

    done = sync("--json")

    assert done.code == 0, done
    assert done.summary["resumed"]
    assert len(source.listed()) - listed < PAGES
    assert source.contents() == destination.contents()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for this machine and for a name that leads to it, and what a server needs to speak TLS with it."""
    home = tmp_path_factory.mktemp("tls")
    key, path = home / "key.pem", home / "certificate.pem"
    names = f"subjectAltName=IP:127.0.0.1,DNS:{NAME}"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-days", "2", "-addext", names]
    try:
        subprocess.run([*command, "-keyout", key, "-out", path], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no openssl here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    return path, context


def test_handshakes_that_hang_are_given_up(certificate, relayed):
    """A server that takes the client's hello and never answers it is asked again."""
    path, context = certificate
    source, destination, relays, sync = relayed("s3-gs", context, AWS_CA_BUNDLE=str(path))
    source.put("key", b"x", content_type="text/plain")
    for between in relays:
        between.script = ["no handshake"]

    done = sync("--destination-anonymous")

    assert done.code == 0, done
    assert all(between.met for between in relays)
    assert source.contents() == destination.contents()


@pytest.mark.skipif(COMPILER is None, reason="no C compiler")
def test_names_that_are_not_resolved_hold_nothing_up(certificate, relayed, tmp_path):
    """A look-up that hangs shows as a retry, a signal ends the run all the same, and the next one goes on."""
    path, context = certificate
    source, destination, _, sync = relayed("s3-gs", context, AWS_CA_BUNDLE=str(path))
    source.put("key", b"x", content_type="text/plain")
    sync.words = tuple(word.replace("127.0.0.1", NAME) for word in sync.words)
    hanging = hanging_names(build(tmp_path), NAME, times=9, seconds=60)
    with watched(sync.start("--destination-anonymous", "-v", **hanging)) as process:
        assert "too little moved for 1 s" in process.stderr.readline()
        stopped_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        stopped = ended(process)
        took = time.monotonic() - stopped_at

    done = sync("--destination-anonymous", **{**hanging, "HANGING_NAME": f"{NAME}:0:0"})

    assert stopped.code == 143, stopped
    assert took < STOPPED_S
    assert done.code == 0, done
    assert source.contents() == destination.contents()


def test_service_of_roles_that_does_not_answer_is_asked_again(relayed, tmp_path, moto):
    """STS takes the question and is silent: given up after twice the --stall-timeout, visibly, and asked anew; or by a signal."""
    source, destination, _, sync = relayed("s3-gs")
    source.put("key", b"x", content_type="text/plain")
    config = tmp_path / "config"
    config.write_text(
        "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/copier\nsource_profile = base\nregion = us-east-1\n"
        f"[profile base]\naws_access_key_id = {moto.access_key}\naws_secret_access_key = {moto.secret_key}\n"
    )
    with relay(moto.url) as sts:
        sts.script = ["mute"]
        env = {"AWS_CONFIG_FILE": str(config), "AWS_ENDPOINT_URL_STS": sts.url}
        done = sync("--source-profile", "role", "-v", **env)
        sts.script = ["mute"]
        with watched(sync.start("--source-profile", "role", "--stall-timeout", "60", **env)) as process:
            assert until(lambda: not sts.script, process)
            stopped_at = time.monotonic()
            process.send_signal(signal.SIGTERM)
            stopped = ended(process)
            took = time.monotonic() - stopped_at

    assert done.code == 0, done
    assert "credentials: no answer for 2 s" in done.err
    assert source.contents() == destination.contents()
    assert stopped.code == 143, stopped
    assert took < STOPPED_S


def test_token_server_that_does_not_answer_is_asked_again(google, tmp_path, monkeypatch):
    """Google's token server takes the question and is silent: that passes, and the next attempt has a token."""
    monkeypatch.setattr(gcs_auth, "REFRESH_S", 0.3)
    file = tmp_path / "credentials.json"
    user = {"type": "authorized_user", "client_id": "id", "client_secret": "secret", "refresh_token": "refresh"}

    async def token() -> str:
        async with gcs_auth.open_credentials(str(file), ca_bundle=None, trust_env=False) as credentials:
            return await credentials.header()

    with relay(google) as server:
        file.write_text(json.dumps({**user, "token_uri": f"{server.url}/token"}))
        server.script = ["mute"]
        with pytest.raises(TransientError, match="token server"):
            asyncio.run(token())
        assert asyncio.run(token()).startswith("Bearer ")
