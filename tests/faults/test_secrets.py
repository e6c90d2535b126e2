"""No secret leaves the process, and no name forges anything: what the installed commands print, keep and show of themselves."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess

import pytest
from buckets import ends
from commands import Command, environment
from heavysync.stores.sigv4 import encode_path

MIB = 1 << 20
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "PLANTEDsecretkey0000000000000000000000000",
    "AWS_SESSION_TOKEN": "PLANTEDsessiontoken/+==",
}
REFRESH, CLIENT, BEARER = "PLANTEDrefreshtoken", "PLANTEDclientsecret", "PLANTEDbearer.token"

LOUD = "import logging\nlogging.basicConfig(level=1, format='%(name)s %(message)s')\n"
"""A sitecustomize that lets every library say all it has to say."""


@pytest.fixture
def planted(worlds, moto, tmp_path):
    """The command with planted secrets, from S3 to Google through the kits, louder than any option makes it."""
    (tmp_path / "loud").mkdir()
    (tmp_path / "loud" / "sitecustomize.py").write_text(LOUD)
    (tmp_path / "google.json").write_text(
        json.dumps(
            {
                "type": "authorized_user",
                "client_id": "id",
                "client_secret": CLIENT,
                "refresh_token": REFRESH,
                "token_uri": f"{worlds.kits['gs'].url}/token",
            }
        )
    )
    env = environment(tmp_path, moto.environment, SECRETS, {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "google.json")})
    env["PYTHONPATH"] = os.pathsep.join([str(tmp_path / "loud"), *filter(None, [env.get("PYTHONPATH")])])
    source, destination = worlds.bucket("s3"), worlds.bucket("gs")
    words = [*ends(source, destination), "--state", str(tmp_path / "state"), "-vv", "--part-size", "5MiB"]
    words = [worlds.kits["gs"].url if word == destination.url else word for word in words]
    words += ["--destination-credentials-file", str(tmp_path / "google.json")]
    answer = json.dumps({"access_token": BEARER, "expires_in": 3600, "token_type": "Bearer"}).encode()
    worlds.kits["gs"].add("answer", operation="token", status=200, body=answer, count=None)
    return source, destination, Command(env, tuple(words))


def _echoes(kits):
    """Answers of somebody in between who quotes what was sent."""
    sent = SECRETS["AWS_SESSION_TOKEN"].encode()
    s3 = b"<Error><Code>%s</Code><Message>bad: " + sent + b"</Message><StringToSign>" + sent + b"</StringToSign></Error>"
    gs = {"error": {"code": 400, "message": f"bad: Authorization: Bearer {BEARER}", "errors": [{"reason": "invalid"}]}}
    kits["s3"].add("answer", operation="get", key="^a$", status=403, body=s3 % b"AccessDenied", count=None)
    kits["s3"].add("answer", operation="get", key="^b$", status=500, body=s3 % b"InternalError")
    kits["s3"].add("reset in answer", operation="get", key="^c$")
    kits["gs"].add("answer", operation="insert", key="^d$", status=400, body=json.dumps(gs).encode())
    page = f"<html>Authorization: Bearer {BEARER}</html>".encode()
    kits["gs"].add("answer", operation="insert", key="^e$", status=502, body=page, content_type="text/html")
    kits["gs"].add("gateway", operation="chunk", status=502)
    kits["gs"].add("lose answer", operation="chunk")


@pytest.mark.parametrize("mode", ["text", "json", "fatal"])
def test_no_secret_is_printed_kept_open_or_shown(mode, planted, worlds, tmp_path):
    """At -vv with the debug logs of all libraries, under faults and echoes, in `ps`, and in files that others could read."""
    source, _, sync = planted
    for key in "abcdefg":
        source.put(key, key.encode() * 10)
    source.put("large", bytes(5 * MIB + 10))
    _echoes(worlds.kits)
    if mode == "fatal":
        echo = f"<Error><Code>AccessDenied</Code><Message>{SECRETS['AWS_SESSION_TOKEN']}</Message></Error>".encode()
        worlds.kits["s3"].add("answer", operation="list", status=403, body=echo, skip=1)
    before = os.umask(0o022)
    try:
        process = sync.start(*(["--json"] if mode == "json" else []))
    finally:
        os.umask(before)
    shown = subprocess.run(["ps", "-o", "args=", "-p", str(process.pid)], capture_output=True, text=True, check=False).stdout
    out, err = process.communicate(timeout=100)

    assert process.returncode == {"text": 1, "json": 1, "fatal": 3}[mode], err[-3000:]
    assert "heavysync" in err
    assert "PLANTED" not in out + err + shown, _around(out + err)
    sessions = set(worlds.kits["gs"].sessions)
    assert sessions or mode == "fatal"
    assert not [one for one in sessions if one in out + err], "the address of an upload session was printed"
    assert not re.search(r"(?i)signature=[0-9a-f]{8}", out + err), _around(out + err, "ignature")
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    folders = [tmp_path / "state", *(path for path in (tmp_path / "state").rglob("*") if path.is_dir())]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}
    assert not [path for path in files if b"PLANTED" in path.read_bytes()]


def _around(text, what="PLANTED"):
    return [text[max(0, at.start() - 300) : at.start() + 60] for at in re.finditer(what, text)][:3]


@pytest.mark.parametrize(
    ("words", "env"),
    [
        (["--source-endpoint-url", "https://user:PLANTED@h"], {}),
        (["--source-endpoint-url", "user:PLANTED@h"], {}),
        (["--destination-endpoint-url", "https://user:PLANTED@127.0.0.1:1"], {}),
        (
            [],
            {"AWS_ENDPOINT_URL": "http://user:PLANTED@127.0.0.1:1", "STORAGE_EMULATOR_HOST": "http://user:PLANTED@127.0.0.1:1"},
        ),
        ([], {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "STORAGE_EMULATOR_HOST": "http://user:PLANTED@127.0.0.1:1"}),
        ([], {"AWS_ENDPOINT_URL": "http://user:PLANTED@", "STORAGE_EMULATOR_HOST": "127.0.0.1:1"}),
    ],
)
@pytest.mark.parametrize("name", ["heavy-sync"])
def test_password_in_an_endpoint_is_refused_and_not_repeated(name, words, env, tmp_path, moto):
    """It would be sent to nobody who knows it, and shown to everybody."""
    command = Command(environment(tmp_path, moto.environment, env), ("s3://bkt", "gs://bkt", "-vv"), name)

    done = command(*words)

    done.refused(done.code, r"user name|endpoint")
    assert done.code in {2, 3}
    assert "PLANTED" not in done.said, done


NAMES = [
    "\x1b[31mred\x1b]0;title\x07",
    "a\nerror: forged",
    "b\r2026-11-22 10:00:00,000 ERROR heavysync: forged",
    "c\u202egpj.exe",
    "d\x85\x9b31m\x7f\x00",
    "e\u2028error: forged",
    'f"><script>alert(1)</script>,"=cmd',
    "g[bold red]x[/]",
    "h\u2066\u200f\ufeff",
]


@pytest.mark.parametrize("mode", [(), ("--json",), ("--dry-run",)])
def test_names_forge_nothing(mode, worlds, moto, tmp_path):
    """Escapes, line breaks, marks that turn the text around, tags: printed as what they are, one line an object."""
    source, destination = worlds.bucket("s3"), worlds.bucket("gs")
    rows = "".join(
        f"<Contents><Key>{encode_path(name)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        f'<ETag>"{"0" * 32}"</ETag><Size>1</Size><StorageClass>STANDARD</StorageClass></Contents>'
        for name in sorted(NAMES)
    )
    page = (
        f"<ListBucketResult><Name>{source.name}</Name><EncodingType>url</EncodingType><KeyCount>{len(NAMES)}</KeyCount>"
        f"<IsTruncated>false</IsTruncated><MaxKeys>1000</MaxKeys><Prefix></Prefix>{rows}</ListBucketResult>"
    )
    worlds.kits["s3"].add("answer", operation="list", bucket=source.name, status=200, body=page.encode(), count=None)
    refusal = b"<Error><Code>AccessDenied</Code><Message>\xc2\x9b31m\x1b[2J&#x202e;&#10;error: forged</Message></Error>"
    worlds.kits["s3"].add("answer", operation="get", status=403, body=refusal, count=None)
    words = (*ends(source, destination), "--state", str(tmp_path / "state"), "-vv")

    done = Command(environment(tmp_path, moto.environment), words)(*mode)

    assert done.code == (0 if mode == ("--dry-run",) else 1), done
    assert all(char.isprintable() or char == "\n" for char in done.said), repr(done.said)
    assert not [line for line in done.said.splitlines() if line.startswith(("error: forged", "2026-11-22"))]
    if mode == ("--json",):
        known = {trouble["key"] for trouble in done.summary["troubles"]}
        assert known == set(NAMES)
    else:
        assert "script" in done.out


def test_upload_session_never_leaves_the_server(worlds, moto, tmp_path):
    """A Location on another host is not followed there: neither bytes nor the session go to whoever it names."""
    source, destination = worlds.bucket("s3"), worlds.bucket("gs")
    source.put("large", bytes(5 * MIB + 10))
    kit = worlds.kits["gs"]
    elsewhere = kit.url.replace("127.0.0.1", "127.0.0.2")
    kit.add("elsewhere", operation="start", location=elsewhere, count=None)
    words = (*ends(source, destination), "--state", str(tmp_path / "state"), "--part-size", "5MiB")
    words = tuple(kit.url if word == destination.url else word for word in words)

    done = Command(environment(tmp_path, moto.environment), words)()

    assert done.code == 0, done
    assert destination.read("large")[0] == bytes(5 * MIB + 10)
