"""S3 credentials: found where AWS tools look, never passed over when they are broken, renewed once for all."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from wire_server import Answer, answer, wire_server

from heavysync.errors import FatalError, HeavysyncError, TransientError
from heavysync.events import Notice, Recovered, Retrying
from heavysync.stores.renewal import Patience
from heavysync.stores.s3_session import S3Options, Session

SECRETS = ("sEcReT", "tOkEn")
KEYS = "aws_access_key_id = AKIA{0}\naws_secret_access_key = sEcReT{0}\naws_session_token = tOkEn{0}\n"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A machine with no AWS settings but those of the test."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, file in (("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials")):
        monkeypatch.setenv(name, str(tmp_path / file))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return tmp_path


def _write(home, number, profile="default"):
    (home / "credentials").write_text(f"[{profile}]\n{KEYS.format(number)}")


def _session(profile=None, **patience):
    return Session(S3Options(endpoint_url="http://127.0.0.1:1", profile=profile), "bkt", Patience(name="s3://bkt", **patience))


def _refusal(profile=None) -> str:
    """Why a session cannot be opened."""
    with pytest.raises(FatalError) as caught:
        asyncio.run(_session(profile).open())
    told = str(caught.value)
    assert not any(secret in told for secret in SECRETS), told
    return told


def _helper(home, text, code=0):
    """A profile with a program that says `text`."""
    program = home / "helper"
    program.write_text(f"#!{sys.executable}\nimport sys\nprint({text!r})\nsys.exit({code})\n")
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    (home / "config").write_text(f"[default]\ncredential_process = {program}\n")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[default", "credentials"),
        ("aws_access_key_id = AKIA\n", "credentials"),
        (f"\ufeff[default]\n{KEYS.format(1)}", "credentials"),
        ("[default]\naws_access_key_id = AKIA\n", "aws_secret_access_key"),
        ("[default]\naws_access_key_id = \naws_secret_access_key = sEcReT\n", "access key id is malformed"),
        ("[default]\naws_access_key_id = AKIA\naws_secret_access_key = sEc ReT\n", "secret key is malformed"),
        (f"[default]\n{KEYS.format('é')}", "malformed"),
        ("\0", "credentials"),
        ("", "no credentials"),
        (None, "no credentials"),
        ("directory", "cannot read"),
    ],
)
def test_broken_file_is_named(home, text, why):
    """A file that cannot be parsed or read, or whose keys cannot be some, ends the run and is not taken for none."""
    file = home / "credentials"
    if text == "directory":
        file.mkdir()
    elif text is not None:
        file.write_text(text)

    assert why in _refusal()


@pytest.mark.parametrize("named", ["option", "variable", "file"])
def test_named_source_without_keys_does_not_lead_to_the_metadata_server(home, monkeypatch, named):
    """Another identity than the one that was meant could delete what this one may only read."""
    (home / "config").write_text("[profile mine]\nregion = us-east-1\n")
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    if named == "variable":
        monkeypatch.setenv("AWS_PROFILE", "mine")

    async def body():
        async with wire_server(answer(200, b"token")) as metadata:
            monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url)
            monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{metadata.url}/role")
            with pytest.raises(FatalError, match="no credentials in"):
                await _session("mine" if named == "option" else None).open()
            return metadata.requests

    assert [] == asyncio.run(body())


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("garbage sEcReT", 0),
        ("[]", 0),
        ("", 0),
        ('{"Version": 1}', 0),
        ('{"Version": 1, "AccessKeyId": "", "SecretAccessKey": "sEcReT"}', 0),
        ('{"Version": 1, "AccessKeyId": ["AKIA"], "SecretAccessKey": "sEcReT"}', 0),
        ('{"Version": 1, "AccessKeyId": "AKIA", "SecretAccessKey": "sEcReT", "Expiration": "soon"}', 0),
        ("", 3),
    ],
)
def test_helper_program_that_gives_no_keys_is_named(home, text, code):
    """What it prints is not quoted: it may hold half a secret."""
    _helper(home, text, code)

    assert "s3://bkt" in _refusal()


@pytest.mark.parametrize("command", ["/nowhere/at/all", "/", "'unbalanced"])
def test_helper_program_that_cannot_be_started_is_no_passing_trouble(home, command):
    """It would be tried for ever."""
    (home / "config").write_text(f"[default]\ncredential_process = {command}\n")

    assert "credentials" in _refusal()


@pytest.mark.parametrize(
    "reply", [answer(200, b"<html>Log in</html>"), answer(200, b""), answer(200, b"<AssumeRole"), answer(503)]
)
def test_service_of_roles_that_answers_nonsense_passes(home, monkeypatch, reply):
    """A page of somebody in between says nothing of the credentials."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    _write(home, 1, "base")
    (home / "config").write_text("[profile role]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = base\n")

    async def body():
        async with wire_server(reply) as server:
            monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.url)
            with pytest.raises(TransientError):
                await _session("role").open()

    asyncio.run(body())


def test_helper_program_is_asked_again_before_its_keys_end(home, monkeypatch):
    """Also where they live for seconds only; one question serves all."""
    counter = home / "counter"
    program = home / "helper"
    ends = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    program.write_text(
        f"#!{sys.executable}\nimport json\nfrom datetime import UTC, datetime, timedelta\n"
        f"with open({str(counter)!r}, 'a+') as file:\n    file.write('.')\n    file.seek(0)\n    number = len(file.read())\n"
        "ends = datetime.now(UTC) + timedelta(seconds=2 if number == 1 else 86400)\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': f'AKIA{number}', 'SecretAccessKey': 's',"
        " 'Expiration': ends.isoformat()}))\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    (home / "config").write_text(f"[default]\ncredential_process = {program}\n")

    async def body():
        session = _session()
        await session.open()
        keys = set()
        while "AKIA3" not in keys and "AKIA2" not in keys:
            keys |= {signer.access_key for signer in await asyncio.gather(*(session.signer() for _ in range(64)))}
            await asyncio.sleep(0.01)
        keys |= {(await session.signer()).access_key for _ in range(100)}
        return keys

    keys = asyncio.run(body())

    assert ends
    assert len(counter.read_text()) == len(keys | {"AKIA1"})


def _waiting(home, test, **patience):
    """Run `test` with a session whose first keys were accepted, and then refused."""
    told = []

    async def body():
        session = _session(listener=told.append, **patience)
        await session.open()
        signer = await session.signer()
        session.accepted(signer)
        await test(session, signer, told)

    _write(home, 1)
    asyncio.run(body())


async def _until(told, kind):
    while not any(isinstance(event, kind) for event in told):
        await asyncio.sleep(0.001)


def test_static_keys_that_end_wait_for_others_in_their_file(home):
    """One reads the file again, everybody waits, and it is told which file; then all go on with the new keys."""

    async def test(session, signer, told):
        renewals = [asyncio.ensure_future(session.renew(signer, "400 ExpiredToken")) for _ in range(30)]
        others = [asyncio.ensure_future(session.signer()) for _ in range(30)]
        await _until(told, Retrying)
        assert not any(task.done() for task in renewals + others)
        _write(home, 2)

        await asyncio.gather(*renewals)
        assert {"AKIA2"} == {(await task).access_key for task in others}
        kinds = [type(event) for event in told]
        assert (kinds[0], kinds[-1]) == (Notice, Recovered)
        assert all(str(home / "credentials") in str(event) and "profile default" in str(event) for event in told[:2])
        assert not any(secret in str(told) for secret in SECRETS)

    _waiting(home, test, grace_s=1.0)


def test_fresh_keys_are_found_without_a_wait(home):
    """Whoever keeps the file up to date does not lose a minute."""

    async def test(session, signer, told):
        _write(home, 2)
        await session.renew(signer, "400 ExpiredToken")

        assert (await session.signer()).access_key == "AKIA2"
        assert Retrying not in map(type, told)

    _waiting(home, test)


MALFORMED = "[default]\nmetadata_service_timeout = 5s\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_METADATA_SERVICE_TIMEOUT", "abc"),
        ("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "abc"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "weird"),
    ],
)
@pytest.mark.parametrize("profile", [None, "default"])
def test_malformed_setting_is_an_error_in_words(home, monkeypatch, name, value, profile):
    """Though the keys are in a file, and nobody would be asked."""
    _write(home, 1)
    monkeypatch.setenv(name, value)
    assert value in _refusal(profile)


def test_setting_that_is_malformed_for_a_while_is_waited_for(home):
    """Somebody puts new keys in, and mistypes a setting at first: the run waits, as for the keys."""

    async def test(session, signer, told):
        _write(home, 2)
        (home / "config").write_text(MALFORMED)
        renewal = asyncio.ensure_future(session.renew(signer, "400 ExpiredToken"))
        async with asyncio.timeout(5):
            await _until(told, Retrying)
        assert not renewal.done()
        (home / "config").write_text("")
        await renewal

        assert (await session.signer()).access_key == "AKIA2"

    _waiting(home, test, grace_s=10.0)


def test_keys_that_are_refused_as_well_wait_their_turn(home):
    """New keys that are refused before any success: the file is read again only when the next look is due."""

    async def test(session, signer, told):
        for number in range(2, 5):
            _write(home, number)
            await session.renew(signer, "400 ExpiredToken")
            signer = await session.signer()
        assert signer.access_key == "AKIA4"
        assert [Retrying, Retrying] == [type(event) for event in told if isinstance(event, Retrying)]

    _waiting(home, test, grace_s=0.3)


def test_grace_ends_for_everybody(home):
    """With what to do, and the refused keys sign nothing any more."""

    async def test(session, signer, _told):
        everybody = [session.renew(signer, "400 ExpiredToken"), *(session.signer() for _ in range(10))]
        results = await asyncio.gather(*everybody, return_exceptions=True)

        assert {FatalError} == set(map(type, results))
        assert "renew them and start again" in str(results[0])
        assert "--auth-grace" in str(results[0])
        with pytest.raises(FatalError):
            await session.signer()

    _waiting(home, test, grace_s=0.05)


def test_stop_ends_the_wait(home):
    """For everybody, at once; nothing is signed with the refused keys."""
    stopping = asyncio.Event()

    async def test(session, signer, told):
        everybody = asyncio.gather(
            session.renew(signer, "400 ExpiredToken"), *(session.signer() for _ in range(10)), return_exceptions=True
        )
        await _until(told, Retrying)
        stopping.set()

        assert {TransientError} == set(map(type, await everybody))

    _waiting(home, test, stopping=stopping)


def test_keys_of_the_environment_are_not_waited_for(home, monkeypatch):
    """Nobody can change the environment of a running program."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA9")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sEcReT")

    async def test(session, signer, told):
        with pytest.raises(FatalError, match=r"environment .*renew them"):
            await session.renew(signer, "400 ExpiredToken")
        assert Retrying not in map(type, told)

    _waiting(home, test)


def test_keys_of_the_environment_need_no_aiobotocore(home):
    """Its import is a fifth of a start; a profile does need it."""
    code = """
import asyncio, sys
from heavysync.stores.s3_session import S3Options, Session
session = Session(S3Options(endpoint_url="http://127.0.0.1:1"), "bkt")
asyncio.run(session.open())
print(session.identity, sorted({"aiobotocore", "aiohttp"} & set(sys.modules)))
"""
    _write(home, 1)
    keys = {"AWS_ACCESS_KEY_ID": "AKIA9", "AWS_SECRET_ACCESS_KEY": "sEcReT"}
    for given, told in ((keys, "key AKIA9 []"), ({}, "key AKIA1 ['aiobotocore', 'aiohttp']")):
        run = subprocess.run([sys.executable, "-c", code], env=os.environ | given, capture_output=True, text=True, check=True)
        assert run.stdout.strip() == told


@pytest.mark.parametrize(
    ("given", "identity"),
    [
        ({}, "key AKIA9"),  # the environment comes before the files
        ({"AWS_PROFILE": "default"}, "key AKIA9"),  # also before a profile that the environment names
        ({"AWS_ACCESS_KEY_ID": ""}, "key AKIA1"),
    ],
)
def test_keys_of_the_environment_come_first(given, identity, home, monkeypatch):
    """As for all AWS tools; those of a profile that an option names come before them."""
    _write(home, 1)
    for name, value in {"AWS_ACCESS_KEY_ID": "AKIA9", "AWS_SECRET_ACCESS_KEY": "sEcReT", **given}.items():
        monkeypatch.setenv(name, value)
    for profile, found in ((None, identity), ("default", "key AKIA1")):
        session = _session(profile)
        asyncio.run(session.open())
        assert session.identity == found


def test_half_of_the_keys_in_the_environment_is_an_error(home, monkeypatch):
    """Not those of a file in their place."""
    _write(home, 1)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA9")
    assert "secret" in _refusal().lower()


def test_keys_of_the_environment_that_end_are_known_to_end(home, monkeypatch):
    """AWS_CREDENTIAL_EXPIRATION: they count as temporary, as before."""
    for name, value in (("ACCESS_KEY_ID", "AKIA9"), ("SECRET_ACCESS_KEY", "sEcReT"), ("SESSION_TOKEN", "tOkEn")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2030-01-01T00:00:00Z")
    session = _session()
    asyncio.run(session.open())
    assert session.identity.startswith("profile")

    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "tomorrow")
    assert "credentials" in _refusal()


class _Machine(BaseHTTPRequestHandler):
    """A metadata server that hands out the rights of the machine."""

    def do_PUT(self):
        self._answer(b"token")

    def do_GET(self):
        keys = {"AccessKeyId": "MACHINE", "SecretAccessKey": "x", "Token": "t", "Expiration": "2099-01-01T00:00:00Z"}
        is_list = self.path.endswith(("credentials/", "credentials-extended/"))
        self._answer(b"role" if is_list else json.dumps({"Code": "Success", **keys}).encode())

    def _answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def machine(home, monkeypatch):
    """A machine that has rights of its own, and settings that nobody has named."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Machine)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.delenv("AWS_SHARED_CREDENTIALS_FILE")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield home / "config"
    server.shutdown()
    thread.join()
    server.server_close()


def test_machine_is_asked_where_nothing_else_is_set(machine):
    """As on any VM with a role."""
    session = _session()
    asyncio.run(session.open())
    assert session._signer.access_key == "MACHINE"


@pytest.mark.parametrize("how", ["gone", "unreadable", "empty"])
def test_settings_that_go_while_credentials_are_waited_for_do_not_lead_to_the_machine(how, machine, home):
    """Its rights are not those that were meant; the wait goes on with what was set."""
    _helper(home, "no", code=1)
    session = _session(is_proven=True, grace_s=2.5)

    async def body():
        async with asyncio.TaskGroup() as group:
            opening = group.create_task(_caught(session.open()))
            await asyncio.sleep(0.5)
            _break(machine, how)
        return opening.result()

    assert "custom-process" in str(asyncio.run(body()))
    assert session._signer is None


@pytest.mark.parametrize("how", ["gone", "unreadable", "empty"])
def test_settings_that_go_later_do_not_lead_to_the_machine(how, machine):
    """Where others were used, the machine's are never taken."""
    machine.write_text(f"[default]\n{KEYS.format(1)}")
    session = _session()

    async def body():
        await session.open()
        _break(machine, how)
        await session._loading(session._new_session())()

    with pytest.raises(FatalError, match="no credentials|cannot read"):
        asyncio.run(body())


async def _caught(step):
    try:
        return await step
    except FatalError as error:
        return error


def _break(file, how):
    if how == "empty":
        file.write_text("")
        return
    file.rename(file.with_suffix(".old"))
    if how == "unreadable":
        file.mkdir()


def test_keys_refused_before_any_success_are_not_waited_for(home):
    """A typo ends the run at once."""
    _write(home, 1)

    async def body():
        session = _session()
        await session.open()
        with pytest.raises(FatalError, match="not accepted: renew them"):
            await session.renew(await session.signer(), "403 InvalidAccessKeyId")

    asyncio.run(body())


def test_profile_that_is_gone_meanwhile_may_come_back(home):
    """Somebody rewrites the file."""

    async def test(session, signer, told):
        (home / "credentials").write_text("[default")
        task = asyncio.ensure_future(session.renew(signer, "400 ExpiredToken"))
        await _until(told, Retrying)
        (home / "credentials").unlink()
        await asyncio.sleep(0.15)
        _write(home, 2)
        await task

        assert (await session.signer()).access_key == "AKIA2"

    _waiting(home, test, grace_s=1.0)


def test_role_that_cannot_be_assumed_for_now_does_not_spoil_live_keys(home, monkeypatch):
    """While they live everybody goes on with them; then the service's trouble is everybody's, asked about by one."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    _write(home, 1, "base")
    (home / "config").write_text("[profile role]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = base\n")

    async def body():
        ends = datetime.now(UTC) + timedelta(seconds=300)
        async with wire_server(_role(ends), answer(503)) as server:
            monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.url)
            session = _session("role")
            await session.open()
            asked = len(server.requests)
            session._good_until = 0.0
            signers = await asyncio.gather(*(session.signer() for _ in range(20)))
            assert {"ASIA1"} == {signer.access_key for signer in signers}
            session._signer = None
            results = await asyncio.gather(*(session.signer() for _ in range(20)), return_exceptions=True)
            assert {TransientError} == set(map(type, results))
            return asked, len(server.requests)

    opened, asked = asyncio.run(body())

    assert asked <= opened + 2


def _role(ends):
    keys = {"AccessKeyId": "ASIA1", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": ends.isoformat()}
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in keys.items())
    text = f"<AssumeRoleResponse><AssumeRoleResult><Credentials>{inner}</Credentials></AssumeRoleResult></AssumeRoleResponse>"
    return answer(200, text.encode(), content_type="text/xml")


def test_stop_ends_a_question_that_is_not_answered(home, monkeypatch):
    """The service of roles accepts the request and says nothing."""
    _write(home, 1, "base")
    (home / "config").write_text("[profile role]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = base\n")
    stopping = asyncio.Event()

    async def body():
        async with wire_server(_role(datetime.now(UTC) + timedelta(hours=1)), answer(200, then="hang")) as server:
            monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.url)
            session = _session("role", stopping=stopping)
            await session.open()
            signer = await session.signer()
            session.accepted(signer)
            server.answers[:] = [Answer(then="hang")]
            everybody = asyncio.gather(
                session.renew(signer, "400 ExpiredToken"), *(session.signer() for _ in range(5)), return_exceptions=True
            )
            while len(server.requests) < 2:
                await asyncio.sleep(0.001)
            stopping.set()
            return await everybody

    assert {TransientError} == set(map(type, asyncio.run(body())))


def test_all_errors_are_ours(home):
    """JSON that is no keys at all."""
    for value in ("null", "1", '"x"', json.dumps({"Version": 2})):
        _helper(home, value)
        with pytest.raises(HeavysyncError):
            asyncio.run(_session().open())
