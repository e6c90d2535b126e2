"""Metadata survive the way through S3's headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavysync.objects import Metadata
from heavysync.stores import lean_head
from heavysync.stores.lean_head import read_headers
from heavysync.stores.s3_metadata import from_headers, problem, tag_header, to_headers

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)
LATIN = st.text(st.characters(min_codepoint=32, max_codepoint=0x24F, exclude_characters="\x7f"), min_size=1)
NAMES = st.from_regex(r"[a-z0-9_.-]{1,20}", fullmatch=True)


@given(user=st.dictionaries(NAMES, st.one_of(TEXT, st.text("=?UTF-8Bb \t")), max_size=4), disposition=LATIN)
def test_metadata_round_trip(user, disposition):
    """What is written is what is read, whatever the values hold; values travel as printable ASCII."""
    metadata = Metadata(content_type="a/b", content_disposition=disposition, user=user)
    headers = to_headers(metadata)

    assert metadata == from_headers(headers)
    assert all(value.isascii() for name, value in headers.items() if name.startswith("x-amz-meta-"))


@given(st.text(st.characters(min_codepoint=0, max_codepoint=0xFF)))
def test_no_value_makes_reading_fail(value):
    """Damaged encoded words stay as they are."""
    from_headers({"x-amz-meta-a": f"=?{value}?=", "x-amz-meta-b": f"=?utf-8?Q?{value}?="})


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("=?UTF-8?B?YsOkcg==?=", "bär"),
        ("=?utf-8?q?b=C3=A4r_x?=", "bär x"),
        ("=?UTF-8?B?YsOk?= =?UTF-8?B?cg==?=", "bär"),
        ("=?nonsense?B?YsOkcg==?=", "=?nonsense?B?YsOkcg==?="),
        ("=?UTF-8?B?!!?=", "=?UTF-8?B?!!?="),
        ("b\udce4r", "bär"),  # a Latin-1 byte, as aiohttp shows it
        ("bär", "bär"),
    ],
)
def test_reads_what_s3_and_others_write(raw, text):
    """RFC 2047 in both encodings, raw UTF-8 and raw Latin-1."""
    assert text == from_headers({"x-amz-meta-name": raw}).user["name"]


@pytest.mark.parametrize(
    ("encoding", "kept"),
    [
        ("aws-chunked", None),
        ("gzip,aws-chunked", "gzip"),
        ("aws-chunked, gzip", "gzip"),
        ("gzip, br", "gzip, br"),
        ("", None),
    ],
)
def test_aws_chunked_is_no_encoding(encoding, kept):
    """How a client sent the object is not how it is encoded."""
    assert kept == from_headers({"content-encoding": encoding}).content_encoding


@pytest.mark.parametrize(
    ("metadata", "word"),
    [
        (Metadata(user={"a": "x" * 2048}), "2049 bytes"),
        (Metadata(user={"a": "é" * 1024}), "2049 bytes"),
        (Metadata(user={"A": "1", "a": "2"}), "case"),
        (Metadata(user={"a b": "1"}), "HTTP header"),
        (Metadata(user={"": "1"}), "HTTP header"),
        (Metadata(user={"ä": "1"}), "HTTP header"),
        (Metadata(user={"a": "\ud800"}), "Unicode"),
        (Metadata(cache_control="a\r\nx-amz-acl: public-read"), "control character"),
        (Metadata(tags=tuple((str(n), "") for n in range(11))), "10 tags"),
    ],
)
def test_what_s3_cannot_keep_is_said(metadata, word):
    """A plain sentence before the transfer, instead of a refusal after it."""
    assert word in problem(metadata)


def test_what_s3_can_keep_passes():
    """Full, odd and empty metadata are no problem."""
    assert problem(Metadata()) is None
    assert problem(Metadata(user={"a": "x" * 2046, "B": ""}, expires="never", tags=(("k", "v"),))) is None


def test_tags_are_a_query():
    """Names and values are escaped as S3 wants them."""
    assert {"x-amz-tagging": "a%26b=c%20d&e="} == tag_header(Metadata(tags=(("a&b", "c d"), ("e", ""))))


def test_only_text_charsets_are_decoded():
    """A word in a codec whose output could not be written again stays as it is."""
    odd = "=?unicode_escape?Q?=5Cud800?="

    assert odd == from_headers({"x-amz-meta-a": odd}).user["a"]


def test_names_of_headers_do_not_fill_the_memory():
    """Those of user metadata are what somebody else likes."""
    for number in range(5000):
        long = b"x-amz-meta-" + b"n" * 200 + str(number).encode()
        headers = read_headers([(long, b"v"), (b"x-amz-meta-%d" % number, b"v")])
        assert len(from_headers(headers).user) == 2
    assert max(map(len, lean_head._read_before)) <= 128
    assert len(lean_head._read_before) <= 4096


def test_sets_of_names_do_not_fill_the_memory():
    """Nor do those that are sent; a percent sign in a name is one."""
    place = lean_head.parse_origin("http://h")
    for number in range(1000):
        sent = {f"x-amz-meta-{number}": "v", "x-amz-meta-a%%b%s": "%s%d"}
        head = lean_head.write_head("PUT", place, "/k", sent, 0, has_body=True)
        assert f"\r\nx-amz-meta-{number}: v\r\nx-amz-meta-a%%b%s: %s%d\r\n\r\n".encode() in head
    assert len(lean_head._forms) <= 500
