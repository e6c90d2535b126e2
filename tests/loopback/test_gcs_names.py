"""Object names arrive exactly as they were sent, or are refused."""

import socket
from urllib.parse import quote, unquote

import pytest

ODD = [
    "a/b",
    "a//b",
    "/leading",
    "trailing/",
    "//",
    "a/./b",
    "a/../b",
    "../../etc",
    "%2F",
    "a%20b",
    "100%",
    "a+b c",
    "a?b=c&d",
    "a#b",
    "a\\b",
    "a;b:c@d,e=f$g!h'i(j)*k",
    "é",
    "é",
    "日本",
    "\U0001f600",
    "\x01\x7f",
    "o",
    "rewriteTo",
    "...",
    " ",
    "~",
    "x" * 1024,
]


@pytest.mark.parametrize("name", ODD, ids=range(len(ODD)))
def test_any_name_survives(api, name):
    """Written by query, by JSON and by session, read by path and listing, then deleted."""
    assert api.insert(name, b"1").json["name"] == name
    assert api.multipart({"name": name}, b"2").json["name"] == name
    assert api.put(api.session(name), "bytes 0-0/1", b"3").json["name"] == name

    assert api.names() == [name]
    assert api.object("GET", name).json["name"] == name
    assert api.media(name).body == b"3"
    target = f"b/bkt/o/{quote(name, safe='')}/rewriteTo/b/bkt/o/{quote(name, safe='')}"
    assert api.call("POST", target).json["resource"]["name"] == name
    assert api.object("DELETE", name).status == 204
    assert api.names() == []


@pytest.mark.parametrize(
    "name",
    [".", "..", "a\nb", "a\rb", ".well-known/acme-challenge/x", "x" * 1025, "é" * 513],
    ids=range(7),
)
def test_impossible_names_are_refused(api, name):
    """As documented, in every way in; nothing is normalised into another name."""
    everywhere = [
        api.insert(name, b""),
        api.multipart({"name": name}, b""),
        api.start({"name": name}),
        api.object("GET", name),
        api.object("DELETE", name),
        api.media(name),
    ]

    assert [reply.status for reply in everywhere] == [400] * len(everywhere)
    assert everywhere[0].reason == "invalid"
    assert api.call("GET", "b/bkt").status == 200


def test_missing_name_is_refused(api):
    """No name anywhere is reason `required`."""
    assert api.multipart({}, b"").reason == "required"
    assert api.start({}).reason == "required"


def send(api, target):
    with socket.create_connection((api.host, int(api.port))) as raw:
        raw.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while piece := raw.recv(65536):
            answer += piece
    return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2]


def test_the_raw_path_counts(api):
    """Dots in the request line are not resolved: that path is no object, least of all the bucket."""
    api.insert("..x", b"dots")

    assert send(api, "/storage/v1/b/bkt/o/..")[0] == 400
    assert send(api, "/storage/v1/b/bkt/o/%2E%2E")[0] == 400
    assert send(api, "/storage/v1/b/bkt/o/../o/..x?alt=media")[0] == 404
    assert send(api, "/storage/v1/b/bkt/o/%2E%2Ex?alt=media") == (200, b"dots")
    assert send(api, "/storage/v1/b/bkt/o/a/b")[0] == 404  # a slash in a name must be encoded
    assert send(api, "/storage/v1/b/bkt/o/%FF")[0] == 400  # no UTF-8


def test_log_keeps_the_raw_path_and_the_decoded_key(api):
    """So that a test can say how a client encoded what."""
    api.object("GET", "a+b/c")

    entry = api.server.log.entries[-1]
    assert (entry.path, entry.key) == ("/storage/v1/b/bkt/o/a%2Bb%2Fc", "a+b/c")
    assert unquote(entry.path).endswith(entry.key)
