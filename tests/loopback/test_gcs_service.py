"""Buckets, batches and tokens."""

import asyncio
import json
from email import message_from_bytes
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from gcloud.aio.auth import Token

from heavysync.loopback import Settings
from loopback.loopback_client import running


def test_bucket_life(api):
    """Insert, get, patch, list, delete."""
    made = api.call("POST", "b", {"name": "new-one", "location": "eu", "storageClass": "NEARLINE"}, project="p")

    found = made.json
    assert made.status == 200
    assert (found["kind"], found["id"], found["location"]) == ("storage#bucket", "new-one", "EU")
    assert (found["storageClass"], found["metageneration"], found["locationType"]) == ("NEARLINE", "1", "multi-region")
    assert "versioning" not in found
    assert api.call("GET", "b/new-one").json == found
    again = api.call("POST", "b", {"name": "new-one"}, project="p")
    assert (again.status, again.reason) == (409, "conflict")
    patched = api.call("PATCH", "b/new-one", {"versioning": {"enabled": True}}, ifMetagenerationMatch=1).json
    assert (patched["versioning"], patched["metageneration"]) == ({"enabled": True}, "2")
    assert api.call("PATCH", "b/new-one", {}, ifMetagenerationMatch=1).status == 412
    assert api.call("GET", "b/new-one", ifMetagenerationNotMatch=2).status == 304
    listed = api.call("GET", "b", project="p", fields="kind,items(name)").json
    assert listed == {"kind": "storage#buckets", "items": [{"name": "bkt"}, {"name": "new-one"}]}
    assert api.call("DELETE", "b/new-one").status == 204
    assert api.call("GET", "b/new-one").status == 404


def test_new_objects_take_the_buckets_class(api):
    """Unless they name one."""
    api.server.create_bucket("cold", storageClass="COLDLINE")

    assert api.insert("x", b"", bucket="cold").json["storageClass"] == "COLDLINE"
    assert api.multipart({"name": "x", "storageClass": "LUKEWARM"}, b"").status == 400


def test_bucket_with_anything_in_it_stays(api):
    """409, also for noncurrent versions only."""
    api.call("PATCH", "b/bkt", {"versioning": {"enabled": True}})
    api.insert("x", b"")
    api.object("DELETE", "x")

    assert api.call("DELETE", "b/bkt").status == 409


@pytest.mark.parametrize("name", ["a", "UPPER", "goog-x", "-x-", "x" * 300])
def test_bucket_names_are_checked(api, name):
    """Lower case, 3 to 63 characters without dots; nothing of Google's."""
    assert api.call("POST", "b", {"name": name}, project="p").status == 400


def test_bucket_calls_need_a_project(api):
    """Insert and list name it."""
    assert api.call("POST", "b", {"name": "new-one"}).reason == "required"
    assert api.call("GET", "b").reason == "required"


def batch(api, calls, newline="\r\n"):
    parts = []
    for number, (method, target, body) in enumerate(calls):
        request = [f"{method} {target} HTTP/1.1", "Content-Type: application/json", "", body]
        parts += ["--q", "Content-Type: application/http", f"Content-ID: <n+{number}>", "", *request]
    text = newline.join([*parts, "--q--", ""])
    headers = {"Content-Type": 'multipart/mixed; boundary="q"'}
    reply = api.raw("POST", "/batch/storage/v1", text.encode(), headers)
    if reply.status != 200:
        return reply, []
    whole = message_from_bytes(f"Content-Type: {reply.headers['Content-Type']}\r\n\r\n".encode() + reply.body)
    found = []
    for part in whole.get_payload():
        status, _, rest = part.get_payload().partition("\r\n")
        found.append((part["Content-ID"], int(status.split()[1]), rest.partition("\r\n\r\n")[2].strip()))
    return reply, found


@pytest.mark.parametrize("newline", ["\r\n", "\n"])
def test_batch_answers_each_call_for_itself(api, newline):
    """Conditions are honoured, ids are echoed, one failure does not touch the others."""
    generation = api.insert("a/b", b"").json["generation"]
    api.insert("y", b"")
    _, found = batch(
        api,
        [
            ("DELETE", f"/storage/v1/b/bkt/o/a%2Fb?ifGenerationMatch={generation}", ""),
            ("DELETE", "/storage/v1/b/bkt/o/y?ifGenerationMatch=1", ""),
            ("DELETE", "/storage/v1/b/bkt/o/none", ""),
            ("PATCH", "/storage/v1/b/bkt/o/y", '{"metadata": {"k": "v"}}'),
            ("GET", "/storage/v1/b/bkt/o/y?alt=media", ""),
        ],
        newline,
    )

    assert [entry[1] for entry in found] == [204, 412, 404, 200, 400]
    assert [entry[0] for entry in found] == [f"<response-n+{number}>" for number in range(5)]
    assert json.loads(found[1][2])["error"]["errors"][0]["reason"] == "conditionNotMet"
    assert json.loads(found[3][2])["metadata"] == {"k": "v"}
    assert api.names() == ["y"]
    assert api.server.log.counts["delete"] == 3
    assert api.server.log.counts["batch"] == 1


def test_batch_has_at_most_100_calls(api):
    """101 are refused as a whole."""
    call = ("DELETE", "/storage/v1/b/bkt/o/none", "")

    assert len(batch(api, [call] * 100)[1]) == 100
    assert batch(api, [call] * 101)[0].status == 400
    assert api.raw("POST", "/batch/storage/v1", b"x", {"Content-Type": "text/plain"}).status == 400


def test_rules_hit_single_calls_of_a_batch(api):
    """So that a client has to read every inner status."""
    api.insert("x", b"")
    api.server.add_rule(operation="delete", status=503)
    call = ("DELETE", "/storage/v1/b/bkt/o/x", "")

    assert [entry[1] for entry in batch(api, [call, call])[1]] == [503, 204]


def grant(api, **form):
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return api.raw("POST", "/token", urlencode(form).encode(), headers)


def test_token_opens_a_closed_server():
    """Without one 401 required, with a wrong or expired one 401 authError."""
    with running(settings=Settings(require_auth=True, token_lifetime_s=1000.0)) as api:
        nobody = api.call("GET", "b/bkt")
        assert (nobody.status, nobody.reason) == (401, "required")
        stranger = api.call("GET", "b/bkt", headers={"Authorization": "Bearer made-up"})
        assert (stranger.status, stranger.reason) == (401, "authError")
        assert stranger.json["error"]["errors"][0]["location"] == "Authorization"
        jwt = grant(api, grant_type="urn:ietf:params:oauth:grant-type:jwt-bearer", assertion="a.b.c").json
        refreshed = grant(api, grant_type="refresh_token", refresh_token="1//x").json
        assert jwt["access_token"] != refreshed["access_token"]
        assert (jwt["token_type"], jwt["expires_in"]) == ("Bearer", 1000)
        bearer = {"Authorization": f"Bearer {jwt['access_token']}"}
        assert api.call("GET", "b/bkt", headers=bearer).status == 200
        session = api.start({"name": "x"}, headers=bearer).headers["Location"]
        assert api.put(session.removeprefix(api.server.url), "bytes */0").status == 200  # its URI is the key
        assert api.control("DELETE", "tokens").status == 204
        assert api.call("GET", "b/bkt", headers=bearer).reason == "authError"
        assert grant(api, grant_type="password").status == 400
        assert grant(api, grant_type="refresh_token").status == 400


def test_foreign_token_client_gets_in(tmp_path):
    """gcloud-aio's Token signs an assertion with a service account's key and sends what it gets."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with running(settings=Settings(require_auth=True)) as api:
        account = {
            "type": "service_account",
            "private_key": pem.decode(),
            "client_email": "x@example.com",
            "token_uri": f"{api.server.url}/token",
        }
        (tmp_path / "account.json").write_text(json.dumps(account))

        async def get():
            scopes = ["https://www.googleapis.com/auth/devstorage.read_write"]
            async with Token(service_file=str(tmp_path / "account.json"), scopes=scopes) as token:
                return await token.get()

        bearer = {"Authorization": f"Bearer {asyncio.run(get())}"}
        assert api.call("GET", "b/bkt", headers=bearer).status == 200


def test_unknown_paths_are_404(api):
    """They are counted, so that a stray request does not go unseen."""
    for method, target in (("GET", "/"), ("GET", "/storage/v1/x"), ("PUT", "/storage/v1/b/bkt/o"), ("GET", "/b/x")):
        assert api.raw(method, target).status == 404

    assert api.server.log.counts["unknown"] == 4
