"""Our signature is botocore's, byte for byte."""

from __future__ import annotations

import datetime
from unittest import mock
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from heavysync.stores.sigv4 import Signer, encode_path, encode_query

NOW = datetime.datetime(2026, 11, 22, 10, 11, 12, tzinfo=datetime.UTC)

ODD = st.sampled_from(
    [
        "..",
        ".",
        "//",
        "/",
        "%",
        "%2F",
        "+",
        "?",
        "#",
        "&",
        "=",
        "\\",
        " ",
        "\x01",
        "\x7f",
        "\n",
        "🐙",
        "é",
        "~",
        "*",
        "'",
        "(",
        "﷽",
        "\ufffe",
    ]
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
KEYS = st.lists(st.one_of(ODD, TEXT), min_size=1, max_size=6).map("".join).filter(bool)
NAMES = st.from_regex(r"[a-z][a-z0-9%-]{0,15}", fullmatch=True).map("x-amz-meta-{}".format)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f"), max_size=30)
HEADERS = st.dictionaries(
    st.one_of(NAMES, st.sampled_from(["content-md5", "if-match", "range", "content-type", "cache-control"])),
    VALUES,
    max_size=6,
)
QUERIES = st.lists(st.tuples(TEXT.filter(bool), TEXT), max_size=5)


def botocore_authorization(method, url, headers, signer, secret, region):
    request = AWSRequest(method=method, url=url, headers=dict(headers))
    request.context["client_config"] = Config(s3={"payload_signing_enabled": False})
    auth = S3SigV4Auth(Credentials(signer.access_key, secret, signer.token), "s3", region)
    with mock.patch("botocore.auth.get_current_datetime", return_value=NOW.replace(tzinfo=None)):
        auth.add_auth(request)
    return dict(request.headers.items())


@settings(max_examples=400, deadline=None)
@given(
    method=st.sampled_from(["GET", "PUT", "HEAD", "POST", "DELETE"]),
    base=st.sampled_from(
        ["https://b.s3.eu-west-1.amazonaws.com/", "http://127.0.0.1:9000/bucket/", "https://[::1]:8443/b/", "http://h:80/b/"]
    ),
    key=KEYS,
    query=QUERIES,
    headers=HEADERS,
    token=st.one_of(st.none(), st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)),
    region=st.sampled_from(["us-east-1", "eu-west-1", "auto"]),
)
def test_signs_what_botocore_signs(method, base, key, query, headers, token, region):
    """For any key, query and headers, every header that carries the signature equals botocore's."""
    path = urlsplit(base).path + encode_path(key)
    text = encode_query(query)
    host = {"h:80": "h"}.get(urlsplit(base).netloc, urlsplit(base).netloc)
    url = base + encode_path(key) + (f"?{text}" if text else "")
    signer = Signer("AKIDEXAMPLE", "s3cr3t", token, region)

    ours = signer.sign(method, host, path, text, headers, now=NOW.timestamp())
    theirs = botocore_authorization(method, url, headers, signer, "s3cr3t", region)

    assert ours == {name.lower(): value for name, value in theirs.items()}


def test_key_changes_with_the_day():
    """A signer that lives past midnight UTC signs with the new day's key."""
    signer = Signer("A", "S", None, "us-east-1")
    args = ("GET", "h", "/k", "", {})
    before = signer.sign(*args, now=1_800_000_000 - 1_800_000_000 % 86400 - 1)
    after = signer.sign(*args, now=1_800_000_000 - 1_800_000_000 % 86400)
    again = Signer("A", "S", None, "us-east-1").sign(*args, now=1_800_000_000 - 1_800_000_000 % 86400)

    assert after == again
    assert before["authorization"][:40] != after["authorization"][:40]


def test_path_is_encoded_exactly_once():
    """Nothing but `/` and the unreserved characters stays as it is; nothing is normalised."""
    assert encode_path("a/../b//c%20+?#&\\ é~") == "a/../b//c%2520%2B%3F%23%26%5C%20%C3%A9~"


@pytest.mark.parametrize("around", ["", "a"])
def test_only_what_means_itself_is_not_escaped(around):
    """A `+` in a path, for one, is a space to some servers, and so another key."""
    for character in map(chr, range(0x250)):
        assert encode_path(around + character) == quote(around + character, safe="/")


def test_names_of_headers_do_not_fill_the_memory():
    """Those of user metadata are what somebody else likes."""
    signer = Signer("AK", "secret", None, "r")
    for number in range(1000):
        signer.sign("PUT", "h", "/k", "", {f"x-amz-meta-{number}": "v"}, now=NOW.timestamp())
    assert len(signer._forms) <= 500


def test_percent_sign_in_the_name_of_a_server_is_one():
    """Of an IPv6 address with a zone."""
    signers = [Signer("AK", "secret", None, "r") for _ in range(2)]
    one, other = (
        signer.sign("GET", host, "/k", "", {}, now=NOW.timestamp())
        for signer, host in zip(signers, ("[fe80::1%s]", "[fe80::1%%]"), strict=True)
    )
    theirs = botocore_authorization("GET", "http://[fe80::1%25s]/k", {"host": "[fe80::1%s]"}, signers[0], "secret", "r")
    assert one["authorization"] == theirs["Authorization"] != other["authorization"]


def test_lone_surrogates_are_no_keys():
    """A key that is not Unicode is refused before it is sent as something else."""
    with pytest.raises(UnicodeEncodeError):
        encode_path("\ud800")


def test_secret_stays_out_of_texts():
    """A signer that lands in a log shows no secret."""
    text = repr(Signer("A", "topsecret", "tokentoken", "r"))

    assert "topsecret" not in text
    assert "tokentoken" not in text
