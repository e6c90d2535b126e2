"""Digests, what they prove, and the stamp."""

from __future__ import annotations

import hashlib
import zlib

from hypothesis import given
from hypothesis import strategies as st

from heavysync.checksums import (
    Stamp,
    combine_crc32c,
    combine_crc64nvme,
    contradiction,
    crc32c_text,
    crc64nvme,
    crc64nvme_text,
    digest,
    md5_hex,
    md5_text,
    multipart_etag,
)
from heavysync.objects import Content, ObjectInfo

DATA = b"some bytes"


def info(**fields: object) -> ObjectInfo:
    return ObjectInfo(**{"key": "k", "size": len(DATA), "etag": "", **fields})


def content(data: bytes = DATA, **fields: object) -> Content:
    return Content([data], len(data), **fields)


def test_known_values() -> None:
    """The check values of the CRC catalogue for "123456789"."""
    data = b"123456789"

    assert digest([data]).crc32c == 0xE3069283
    assert crc64nvme([data]) == 0xAE8B14860A799888
    assert crc32c_text(0xE3069283) == "4waSgw=="
    assert digest([data[:4], data[4:]]) == digest([data])
    assert zlib.crc32(data) != digest([data]).crc32c


@given(st.lists(st.binary(max_size=50), max_size=6))
def test_sums_of_parts_combine_to_the_sum_of_the_whole(parts: list[bytes]) -> None:
    """CRCs can be combined, whatever the sizes are."""
    whole = b"".join(parts)

    assert combine_crc32c((digest([part]).crc32c, len(part)) for part in parts) == digest([whole]).crc32c
    assert combine_crc64nvme((crc64nvme([part]), len(part)) for part in parts) == crc64nvme([whole])


def test_multipart_etag_is_the_md5_of_md5s() -> None:
    """As S3 writes it."""
    md5s = [hashlib.md5(part).digest() for part in (b"a", b"b")]

    assert multipart_etag(md5s) == hashlib.md5(b"".join(md5s)).hexdigest() + "-2"


def test_an_etag_may_be_an_md5_if_it_is_hex() -> None:
    """In lower case, whatever the server writes."""
    md5 = digest([DATA]).md5.hex()

    assert info(etag=md5).candidate_md5 == md5
    assert info(etag=md5.upper()).candidate_md5 == md5
    assert contradiction(info(etag=md5.upper()), content(), digest([DATA])) is None
    for etag in ("NTVhYjM4ZTItZGVhZC1iZWVmLWNhZmUt", md5 + "-2", md5[:-1], md5[:-1] + "٣", md5[:-1] + "\n", ""):
        assert info(etag=etag).candidate_md5 is None


def test_wrong_bytes_contradict_each_known_digest() -> None:
    """md5, crc32c (listed or answered), crc64nvme, a plain ETag, a one-part ETag, the size."""
    good, bad = digest([DATA]), digest([b"other byte"])
    md5, crc = good.md5.hex(), crc32c_text(good.crc32c)
    crc64 = crc64nvme_text(crc64nvme([DATA]))
    cases = [
        (info(md5=md5), {}),
        (info(crc32c=crc), {}),
        (info(etag="x-2"), {"crc32c": crc}),
        (info(etag="x-2"), {"crc64nvme": crc64}),
        (info(etag=md5), {}),
        (info(etag=multipart_etag([good.md5])), {}),
    ]

    for listed, answered in cases:
        assert contradiction(listed, content(**answered), good) is None
        assert contradiction(listed, content(b"other byte", **answered), bad) is not None
    assert contradiction(info(), content(DATA + b"x"), good) is not None


def test_an_opaque_etag_is_no_contradiction() -> None:
    """Under KMS a plain ETag is no md5, and with another agreeing digest an invented one is not believed."""
    good = digest([DATA])
    invented = info(etag="0" * 32)

    assert contradiction(invented, content(is_md5_etag=False), good) is None
    assert contradiction(invented, content(crc32c=crc32c_text(good.crc32c)), good) is None
    assert contradiction(invented, content(), good) is not None


def test_stamp_round_trip() -> None:
    """A stamp reads back what it was; anything else is none."""
    stamp = Stamp(10, "etag:10", "nonce", md5_text(digest([DATA]).md5), "AAAAAA==")

    assert Stamp.parse(str(stamp)) == stamp
    assert len(str(stamp)) <= 200
    assert [Stamp.parse(text) for text in ("", "v2;size=1;src=x", "v1;size=x;src=y", "v1;size=1")] == [None] * 4
    assert md5_hex(stamp.md5) == digest([DATA]).md5.hex()
    assert md5_hex("?") is None
