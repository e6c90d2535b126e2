"""Google credentials: found, proven at start, refreshed once for all, and never a riddle when they fail."""

from __future__ import annotations

import asyncio
import json
import time
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from wire_server import Answer, answer, wire_server

from heavysync.errors import FatalError, TransientError
from heavysync.events import Notice, Recovered, Retrying
from heavysync.loopback import LoopbackGcs
from heavysync.objects import Deletion, Location
from heavysync.stores import gcs_auth
from heavysync.stores.gcs import open_gcs
from heavysync.stores.gcs_auth import open_credentials
from heavysync.stores.gcs_wire import GcsOptions
from heavysync.stores.renewal import Patience

SECRETS = ("top-secret", "refresh-secret")
USER = {
    "type": "authorized_user",
    "client_id": "id",
    "client_secret": SECRETS[0],
    "refresh_token": SECRETS[1],
}


def _given(number: int, **more: object) -> Answer:
    """A token."""
    return _json({"access_token": f"token{number}", "expires_in": 3600, **more})


def _json(value: object, status: int = 200, **headers: str) -> Answer:
    return answer(status, json.dumps(value).encode(), content_type="application/json", **headers)


def _file(tmp_path, url, **more):
    """A credentials file that names a token server."""
    file = tmp_path / "credentials.json"
    file.write_text(json.dumps({**USER, "token_uri": f"{url}/token", **more}))
    return str(file)


def _open(file, patience=None):
    return open_credentials(file, patience, ca_bundle=None, trust_env=False)


def _with_tokens(tmp_path, answers, test, **patience):
    """Run `test` with credentials whose token server gives these answers; the first of them is used for opening."""

    async def body():
        async with wire_server(*answers) as server:
            told = []
            patient = Patience(listener=told.append, **patience)
            async with _open(_file(tmp_path, server.url), patient) as credentials:
                await test(credentials, server, told)

    asyncio.run(body())


def _grow_old(credentials, left_s=0.0):
    """As when all but `left_s` seconds of the token's life have passed."""
    credentials._fresh_until = 0.0
    credentials._ends_at = time.monotonic() + left_s


async def _refuse(credentials, message="401 words"):
    """The storage server refuses the present token."""
    return credentials.refused(credentials._header, message)


PEM = rsa.generate_private_key(65537, 2048).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"\0", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xef\xbb\xbf" + json.dumps(USER).encode(), "byte order mark"),
        (b"[]", "no type"),
        (b"{}", "no type"),
        (b'{"type": "nonsense"}', "nonsense"),
        (b'{"type": "gce_metadata"}', "none of"),
        (b'{"type": "authorized_user"}', "no client_id"),
        (json.dumps({**USER, "refresh_token": ""}).encode(), "no refresh_token"),
        (json.dumps({**USER, "token_uri": "x"}).encode(), "token_uri"),
        (json.dumps({**USER, "token_uri": "http://example.com/token"}).encode(), "no https address"),
        (b'{"type": "service_account", "client_email": "a@b"}', "no private_key"),
        (b'{"type": "service_account", "client_email": "a@b", "private_key": "top-secret"}', "private_key"),
        (b'{"type": "impersonated_service_account", "service_account_impersonation_url": "https://e.com"}', "source_cred"),
        (b'{"type": "external_account", "audience": "a", "subject_token_type": "b", "token_url": "https://e.com"}', "source"),
        (None, "No such file"),
        ("directory", "directory"),
    ],
)
def test_broken_file_is_named_and_never_passed_over(tmp_path, content, why):
    """A file that is missing, cut or cannot work ends the run with its name and what is wrong, and nothing of its content."""
    file = tmp_path / "broken.json"
    if content == "directory":
        file.mkdir()
    elif content is not None:
        file.write_bytes(content)

    async def body():
        with pytest.raises(FatalError, match=why) as caught:
            async with _open(str(file)):
                pass
        return str(caught.value)

    told = asyncio.run(body())

    assert "broken.json" in told
    assert not any(secret in told for secret in SECRETS)


def test_file_named_by_the_environment_is_used(tmp_path, monkeypatch):
    """GOOGLE_APPLICATION_CREDENTIALS counts, also when it names nothing that exists."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))

    async def body():
        with pytest.raises(FatalError, match=r"missing\.json"):
            async with _open(None):
                pass

    asyncio.run(body())


def test_dangling_default_file_is_no_reason_to_ask_the_metadata_server(tmp_path, monkeypatch):
    """Gcloud's own file that leads nowhere is an error, not another identity."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    (tmp_path / "application_default_credentials.json").symlink_to(tmp_path / "gone")

    async def body():
        with pytest.raises(FatalError, match="application_default"):
            async with _open(None):
                pass

    asyncio.run(body())


def test_service_account_signs_and_gets_a_token(tmp_path):
    """The assertion is signed with the key of the file, for the token server and the scope that is needed."""

    async def body():
        async with wire_server(_given(1)) as server:
            more = {"type": "service_account", "client_email": "me@example.com", "private_key": PEM.decode()}
            async with _open(_file(tmp_path, server.url, **more)) as credentials:
                assert await credentials.header() == "Bearer token1"
            return server.requests[0].body.decode()

    (assertion,) = parse_qs(asyncio.run(body()))["assertion"]

    assert jwt.decode(assertion, options={"verify_signature": False})["scope"] == gcs_auth.SCOPE


def test_one_refresh_serves_all_who_wait(tmp_path):
    """A hundred requests that need a token at once fetch one."""

    async def test(credentials, server, _told):
        _grow_old(credentials)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(credentials.header()) for _ in range(100)]

        assert {"Bearer token2"} == {task.result() for task in tasks}
        assert len(server.requests) == 2

    _with_tokens(tmp_path, [_given(1), _given(2)], test)


def test_cancelling_one_who_waits_spares_the_others(tmp_path):
    """The one whose task refreshes is cancelled; the next one refreshes instead."""

    async def test(credentials, _server, _told):
        _grow_old(credentials)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(credentials.header()) for _ in range(4)]
            await asyncio.sleep(0)
            tasks[0].cancel()

        assert tasks[0].cancelled()
        assert 1 == len({task.result() for task in tasks[1:]})

    _with_tokens(tmp_path, [_given(1), _given(2)], test)


@pytest.mark.parametrize(
    "odd",
    [
        _json({"error": "invalid_grant"}),
        _json({}),
        _json([]),
        _json({"access_token": "", "expires_in": 3600}),
        _json({"access_token": "a\nb", "expires_in": 3600}),
        _json({"access_token": 7, "expires_in": 3600}),
        _json({"access_token": "token", "expires_in": "soon"}),
        _json({"access_token": "token", "expires_in": -1}),
        answer(200, b'{"access_tok'),
        answer(200, b"<html>Please log in to this network.</html>"),
        answer(200, b"[" * 100_000),
        answer(403, b"<html>Please log in to this network.</html>"),
        answer(200, b"x" * (1 << 19)),
        answer(200, b""),
        answer(408),
        answer(500),
        _json({"error": "slow_down"}, 429),
        Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", "close"),
        Answer(then="close"),
        Answer(then="reset"),
    ],
)
def test_answer_that_means_nothing_passes(tmp_path, odd):
    """At the first fetch as at any other: what no token server says of bad credentials is tried again."""

    async def body():
        async with wire_server(odd, _given(1)) as server:
            file = _file(tmp_path, server.url)
            with pytest.raises(TransientError):
                async with _open(file):
                    pass
            async with _open(file) as credentials:
                return await credentials.header()

    assert asyncio.run(body()) == "Bearer token1"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirection_of_a_token_server_is_not_followed(tmp_path, status):
    """The refresh token goes to the server that the file names, and to nobody else."""

    async def body():
        async with wire_server(_given(1)) as other, wire_server(answer(status, location=f"{other.url}/token")) as server:
            with pytest.raises(TransientError, match="elsewhere"):
                async with _open(_file(tmp_path, server.url)):
                    pass
            return other.requests, len(server.requests)

    assert asyncio.run(body()) == ([], 1)


def test_token_server_is_asked_again_when_it_says(tmp_path):
    """Its Retry-After is told to whoever waits, and nobody asks before."""

    async def test(credentials, server, _told):
        _grow_old(credentials)
        for _ in range(3):
            with pytest.raises(TransientError) as caught:
                await credentials.header()
            assert 100 < caught.value.retry_after <= 120

        assert len(server.requests) == 2

    _with_tokens(tmp_path, [_given(1), _json({"error": "slow_down"}, 429, retry_after="120")], test)


def test_outage_of_the_token_server_does_not_spoil_a_live_token(tmp_path):
    """While the token lives everybody goes on with it, and the server is not asked by each of them."""

    async def test(credentials, server, _told):
        _grow_old(credentials, left_s=200)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(credentials.header()) for _ in range(50)]

        assert {"Bearer token1"} == {task.result() for task in tasks}
        assert len(server.requests) == 2
        _grow_old(credentials)
        with pytest.raises(TransientError):
            await credentials.header()

    _with_tokens(tmp_path, [_given(1), answer(503)], test)


def test_refused_grant_ends_the_run_at_once_before_any_success(tmp_path):
    """A typo does not wait for an hour; the message names file and error, and no secret."""

    async def body():
        refusal = _json({"error": "invalid_grant", "error_description": "refresh-secret is bad"}, 400)
        async with wire_server(refusal) as server:
            with pytest.raises(FatalError, match=r"credentials\.json \(400 invalid_grant\)") as caught:
                async with _open(_file(tmp_path, server.url)):
                    pass
            return str(caught.value)

    assert not any(secret in asyncio.run(body()) for secret in SECRETS)


def test_revoked_grant_waits_for_another_file(tmp_path):
    """One at a time looks into the file again; with good credentials in it everybody goes on."""
    refusals = [_json({"error": "invalid_grant"}, 400)] * 3

    async def test(credentials, server, told):
        credentials.accepted(await credentials.header())
        _grow_old(credentials)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(credentials.header()) for _ in range(20)]
            while len(server.requests) < 4:
                await asyncio.sleep(0.001)
            _file(tmp_path, server.url, refresh_token="another")

        assert {"Bearer token2"} == {task.result() for task in tasks}
        assert len(server.requests) == 5
        assert b"refresh_token=another" in server.requests[-1].body
        assert "credentials.json" in next(event.text for event in told if isinstance(event, Notice))
        waits = [event for event in told if isinstance(event, Retrying)]
        assert [1, 2, 3] == [event.attempt for event in waits]
        assert all("credentials.json" in event.error and "invalid_grant" in event.error for event in waits)
        assert isinstance(told[-1], Recovered)

    _with_tokens(tmp_path, [_given(1), *refusals, _given(2)], test, grace_s=1.0)


def test_file_that_is_broken_meanwhile_is_looked_at_again(tmp_path):
    """Somebody writes it while it is read."""

    async def test(credentials, server, told):
        credentials.accepted(await credentials.header())
        _grow_old(credentials)
        file = tmp_path / "credentials.json"
        good, _ = file.read_text(), file.write_text("{")
        task = asyncio.create_task(credentials.header())
        while not any("not JSON" in event.error for event in told if isinstance(event, Retrying)):
            await asyncio.sleep(0.001)
        file.write_text(good)

        assert await task == "Bearer token2"

    _with_tokens(tmp_path, [_given(1), _json({"error": "invalid_grant"}, 400), _given(2)], test, grace_s=1.0)


def test_grace_ends_with_what_to_do(tmp_path):
    """Then the run ends for all who wait, and whoever comes later sends nothing any more."""

    async def test(credentials, server, told):
        credentials.accepted(await credentials.header())
        _grow_old(credentials)
        results = await asyncio.gather(*(credentials.header() for _ in range(5)), return_exceptions=True)
        asked = len(server.requests)
        with pytest.raises(FatalError):
            await credentials.header()

        assert {FatalError} == set(map(type, results))
        assert "--auth-grace" in str(results[0])
        assert "it goes on where it was" in str(results[0])
        assert asked == len(server.requests)
        assert isinstance(told[-1], Recovered)

    _with_tokens(tmp_path, [_given(1), _json({"error": "invalid_grant"}, 400)], test, grace_s=0.05)


def test_stop_ends_the_wait(tmp_path):
    """For all who wait, at once, however long the grace is."""
    stopping = asyncio.Event()

    async def test(credentials, _server, told):
        credentials.accepted(await credentials.header())
        _grow_old(credentials)
        waiting = asyncio.gather(*(credentials.header() for _ in range(5)), return_exceptions=True)
        while not any(isinstance(event, Retrying) for event in told):
            await asyncio.sleep(0.001)
        stopping.set()

        assert {TransientError} == set(map(type, await waiting))

    _with_tokens(tmp_path, [_given(1), _json({"error": "invalid_grant"}, 400)], test, stopping=stopping)


def test_token_refused_in_mid_run_is_fetched_anew(tmp_path):
    """401 after a success means refresh, once for all; if the fresh one is refused too, the next look waits its turn."""

    async def test(credentials, server, told):
        header = await credentials.header()
        credentials.accepted(header)

        assert isinstance(credentials.refused(header, f"{header} is bad"), TransientError)
        assert isinstance(credentials.refused(header, "from another task"), TransientError)
        fresh = await credentials.header()
        assert (fresh, len(server.requests), told) == ("Bearer token2", 2, [Recovered(told[0].operation)])
        assert isinstance(credentials.refused(header, "late"), TransientError)
        assert await credentials.header() == fresh
        error = credentials.refused(fresh, f"{fresh} is bad")
        assert "token2" not in str(error)
        assert await credentials.header() == "Bearer token3"
        assert len([event for event in told if isinstance(event, Retrying)]) == 1
        assert "token2" not in str(told)

    _with_tokens(tmp_path, [_given(1), _given(2), _given(3)], test, grace_s=0.5)


def test_token_refused_before_any_success_is_fatal(tmp_path):
    """Nothing is fetched anew, and nobody waits."""

    async def test(credentials, server, _told):
        assert isinstance(await _refuse(credentials), FatalError)
        assert len(server.requests) == 1

    _with_tokens(tmp_path, [_given(1)], test)


def test_server_that_wants_credentials_is_told_apart():
    """An anonymous request that is answered 401 says so."""

    async def body():
        async with LoopbackGcs() as server:
            server.create_bucket("bucket-b")
            server.state.settings.require_auth = True
            options = GcsOptions(endpoint_url=server.url, anonymous=True)
            async with open_gcs(Location(scheme="gs", bucket="bucket-b"), options, connections=1) as store:
                with pytest.raises(FatalError, match="credentials"):
                    await store.list_page(None, None)

    asyncio.run(body())


def test_token_that_ended_within_a_batch_is_fetched_anew(tmp_path):
    """Google accepts a batch as a whole, and refuses each call in it."""

    def batch(status):
        inner = "--b\r\nContent-Type: application/http\r\nContent-ID: <response-heavysync+0>\r\n\r\nHTTP/1.1 {} Told\r\n\r\n\r\n--b--\r\n"
        return answer(200, inner.format(status).encode(), content_type="multipart/mixed; boundary=b")

    async def body():
        async with wire_server(_given(1), batch(401), _given(2), batch(204)) as server:
            options = GcsOptions(endpoint_url=server.url, credentials_file=_file(tmp_path, server.url))
            async with open_gcs(Location(scheme="gs", bucket="bucket-b"), options, connections=1) as store:
                with pytest.raises(TransientError, match="fetched anew"):
                    await store.delete([Deletion("key", "1")])
                assert await store.delete([Deletion("key", "1")]) == []
            return [request.headers.get("authorization") for request in server.requests]

    assert asyncio.run(body()) == [None, "Bearer token1", None, "Bearer token2"]
