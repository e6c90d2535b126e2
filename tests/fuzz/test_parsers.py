"""Whatever a server, a file or a person says: an answer that holds what it promises, or an error of ours; never a hang."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any
from unittest import mock

import pytest
from fuzz.documents import (
    GCS_OTHERS,
    MODIFIED,
    S3_OTHERS,
    gcs_batch,
    gcs_item,
    gcs_page,
    gcs_pages,
    s3_page,
    s3_pages,
    s3_row,
    s3_version_pages,
)
from fuzz.kit import (
    Script,
    answer,
    cpu_limit,
    damaged,
    drive,
    fuzz,
    gcs_store,
    outcome,
    prove_info,
    prove_metadata,
    prove_page,
    prove_versions,
    s3_store,
    warped,
)
from hypothesis import Phase, given
from hypothesis import strategies as st

from heavysync.checksums import Stamp, digest
from heavysync.cli.words import parse_confidence, parse_percent, parse_since, parse_size
from heavysync.errors import HeavysyncError, TransientError, UsageError
from heavysync.objects import (
    ByteRange,
    Content,
    Deletion,
    DeletionFailure,
    Examined,
    Location,
    Metadata,
    ObjectInfo,
    Page,
    Part,
    PartDone,
    UploadState,
    VersionCursor,
    VersionPage,
    Written,
)
from heavysync.options import MaxDelete, Samples
from heavysync.stores import s3_xml
from heavysync.stores.gcs_auth import open_credentials
from heavysync.stores.s3_metadata import from_headers
from heavysync.stores.s3_wire import parse_xml

DATA = b"0123456789"
CURSOR = VersionCursor("b", "1", MODIFIED)


async def _resume(store: Any, info: ObjectInfo) -> object:
    state = UploadState(id="http://h/u", part_size=5, source_token="t", parts=(PartDone(1, "e"),))
    upload = await store.resume_upload("k", state, size=10, replaces=None)
    await upload.write_part(Part(2, 5, 10), Content([DATA[5:]], 5), digest([DATA[5:]]))
    return await upload.complete(digest([DATA]))


async def _upload(store: Any, info: ObjectInfo) -> object:
    upload = await store.begin_upload("k", Metadata(), size=10, part_size=10, source_token="", nonce="", replaces=None)
    await upload.write_part(Part(1, 0, 10), Content([DATA], 10), digest([DATA]))
    return await upload.complete(digest([DATA]))


async def _abort(store: Any, info: ObjectInfo) -> object:
    upload = await store.begin_upload("k", Metadata(), size=10, part_size=10, source_token="", nonce="", replaces=None)
    return await upload.abort()


CALLS: dict[str, Any] = {
    "list": lambda store, _info: store.list_page(None, None),
    "list between": lambda store, _info: store.list_page("a", "y"),
    "list versions": lambda store, _info: store.list_versions_page(None, "a", "y"),
    "list more versions": lambda store, _info: store.list_versions_page(CURSOR, None, None),
    "examine": lambda store, _info: store.examine("k"),
    "part size": lambda store, _info: store.part_size(_info),
    "parts": lambda store, _info: store.has_uniform_parts(_info, 5),
    "read": lambda store, _info: store.read(_info),
    "read a span": lambda store, _info: store.read(_info, ByteRange(2, 5)),
    "tags": lambda store, _info: store.read_tags(_info),
    "write": lambda store, _info: store.write("k", Content([DATA], 10), Metadata(), digest([DATA]), None),
    "upload": _upload,
    "resume": _resume,
    "abort": _abort,
    "copy": lambda store, _info: store.copy(store, _info, replaces=None),
    "delete": lambda store, _info: store.delete([Deletion("k", listed=_info), Deletion("l", "7")]),
    "bucket": lambda store, _info: store.read_bucket(),
    "create": lambda store, _info: store.create_bucket(None, None),
    "versioning": lambda store, _info: store.enable_versioning(),
}

STATUSES = st.sampled_from(
    [200] * 14 + [201, 204, 206, 301, 304, 307, 308, 400, 401, 403, 404, 405, 409, 410, 412, 416, 429, 500, 503]
)
HEADERS = st.dictionaries(
    st.sampled_from(
        """Date Content-Length ETag Content-Range Range Retry-After Last-Modified x-amz-version-id x-amz-meta-a
        x-amz-checksum-crc32c x-amz-checksum-md5 x-amz-checksum-type x-amz-mp-parts-count x-amz-bucket-region
        x-amz-delete-marker x-amz-server-side-encryption x-amz-missing-meta Location X-Goog-Hash Content-Type""".split()
    ),
    st.one_of(
        st.sampled_from(
            [
                "",
                "x",
                "-1",
                "3",
                "10",
                "1e99",
                "nan",
                "inf",
                "é",
                "true",
                '"e"',
                "bytes 2-4/10",
                "bytes=0-9",
                "9" * 20,
                "²",
                "Thu, 01 Jan 1970 00:00:00 -0000",
                "Fri, 31 Dec 9999 23:59:59 -2359",
                "=?utf-8?B?gICA?=",
                "crc32c=AAAAAA==",
                'multipart/mixed; boundary="b n d"',
            ]
        ),
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20),
    ),
    max_size=3,
).map(
    lambda odd: {
        "Content-Length": "10",
        "ETag": '"e"',
        "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
        "Location": "http://h/u",
        "Content-Type": "multipart/mixed; boundary=bnd",
        **odd,
    }
)
S3_BODIES = damaged(st.one_of(s3_pages(), s3_version_pages(), st.sampled_from(S3_OTHERS), st.binary(max_size=30)))
BATCH = gcs_batch(("0", 204, b""), ("1", 404, b'{"error":{"errors":[{"reason":"notFound"}]}}'))
GCS_BODIES = st.one_of(
    warped(st.one_of(gcs_pages(), st.sampled_from(GCS_OTHERS))),
    damaged(warped(gcs_pages())),
    damaged(st.one_of(st.just(BATCH), st.binary(max_size=30))),
)


def prove(name: str, found: object) -> None:
    """What an answer has to be, if it is no error."""
    match found:
        case Page():
            prove_page(found, *(("a", "y") if name == "list between" else (None, None)))
        case VersionPage():
            prove_versions(found, *((None, "a", "y") if name == "list versions" else (CURSOR, None, None)))
        case Examined():
            prove_info(found.info)
        case Content():
            prove_metadata(found.metadata)
        case Written():
            prove_info(ObjectInfo("k", found.size or 0, found.etag, found.md5, found.crc32c, version=found.version))
        case UploadState():
            assert isinstance(found.id, str)
        case [*rows]:
            assert all(isinstance(row, (DeletionFailure, tuple)) for row in rows)


def say(make: Any, info: ObjectInfo, name: str, answers: list[Any]) -> None:
    """Ask a store one thing, let its server say `answers`, and prove what comes of it."""
    store = make(Script(*(answer(*one) for one in answers)))
    with cpu_limit(20):
        prove(name, outcome(lambda: drive(CALLS[name](store, info))))


ANSWERS = {
    kind: st.lists(st.tuples(STATUSES, bodies, HEADERS), min_size=1, max_size=3)
    for kind, bodies in (("s3", S3_BODIES), ("gs", GCS_BODIES))
}


@fuzz(600)
@given(name=st.sampled_from(sorted(CALLS)), answers=ANSWERS["s3"])
def test_s3_bears_any_answer(name: str, answers: list[Any]) -> None:
    """Every request of the store, answered with damaged and foreign documents, statuses and headers."""
    say(s3_store, ObjectInfo("k", 10, "a" * 32 + "-2"), name, answers)


@fuzz(600)
@given(name=st.sampled_from([name for name in CALLS if name.startswith("list")]), answers=ANSWERS["s3"])
def test_s3_listings_bear_any_answer(name: str, answers: list[Any]) -> None:
    """What comes is proven, in order and in bounds."""
    say(s3_store, ObjectInfo("k", 10, "a" * 32 + "-2"), name, answers)


@fuzz(600, phases=[Phase.generate])
@given(name=st.sampled_from(sorted(CALLS)), answers=ANSWERS["gs"])
def test_gcs_bears_any_answer(name: str, answers: list[Any]) -> None:
    """The same for the JSON API: members of other types, other names, or missing."""
    say(gcs_store, ObjectInfo("k", 10, "", version="7"), name, answers)


@fuzz(300)
@given(body=st.one_of(st.binary(max_size=200), S3_BODIES))
def test_rows_by_expression_are_those_of_the_parser(body: bytes) -> None:
    """Taking rows off first is three times as fast, and finds nothing but what the parser finds."""
    scope = s3_xml.Scope("s3://b/", "", None, None)

    def read(rest: bytes, rows: list[s3_xml.Row]) -> object:
        root = parse_xml(rest)
        return None if root is None else outcome(lambda: s3_xml.read_page(root, rows, scope))

    fast, slow = read(*s3_xml.take_rows(body)), read(body, [])

    assert not isinstance(fast, Page) or fast == slow


def test_no_lost_slice_of_an_s3_page_makes_it_empty() -> None:
    """Whatever single piece of a page is lost on the way, in any length: it is an error, or still shows its objects."""
    body = s3_page(s3_row("a"))
    start = body.index(b"<Name>")
    for first in range(start, len(body), 3):
        for last in range(first + 1, len(body), 3):
            page = outcome(
                lambda cut=body[:first] + body[last:]: drive(s3_store(Script(answer(200, cut))).list_page(None, None))
            )
            assert not isinstance(page, Page) or page.objects


@pytest.mark.parametrize(
    ("make", "body"),
    [
        (s3_store, s3_page(s3_row("a"), s3_row("b"), truncated=True)),
        pytest.param(
            gcs_store,
            json.dumps(gcs_page(gcs_item("a"), gcs_item("b"), token="t")).encode(),
        ),
    ],
)
def test_no_flipped_bit_loses_rows_or_what_follows(make: Any, body: bytes) -> None:
    """Of a truncated page of two rows: an error, or two rows and a cursor. Members that were not asked for are an error, too."""
    for place in range(8 * len(body)):
        flipped = bytearray(body)
        flipped[place // 8] ^= 1 << place % 8
        page = outcome(lambda cut=bytes(flipped): drive(make(Script(answer(200, cut))).list_page(None, None)))
        if isinstance(page, Page):
            assert (len(page.objects), page.cursor is None) == (2, False), bytes(flipped)


@pytest.mark.parametrize("make", [s3_store, gcs_store])
def test_no_cut_off_page_is_a_page(make: Any) -> None:
    """At whatever byte the answer ends."""
    bodies = {s3_store: s3_page(s3_row("a")), gcs_store: json.dumps(gcs_page(gcs_item("a"))).encode()}
    for length in range(len(bodies[make])):
        page = outcome(lambda cut=bodies[make][:length]: drive(make(Script(answer(200, cut))).list_page(None, None)))
        assert isinstance(page, HeavysyncError)


RAW_HEADERS = st.binary(max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape"))  # as aiohttp gives them


@fuzz(400)
@given(
    fixed=st.dictionaries(st.sampled_from(["content-type", "Content-Encoding", "expires"]), RAW_HEADERS),
    user=st.dictionaries(st.text(max_size=5), st.one_of(RAW_HEADERS, RAW_HEADERS.map("=?utf-8?q?{}?=".format))),
)
def test_metadata_of_any_headers_are_text(fixed: dict[str, str], user: dict[str, str]) -> None:
    """They can be kept as JSON and be written again."""
    metadata = from_headers({**fixed, **{f"X-Amz-Meta-{name}": value for name, value in user.items()}})

    prove_metadata(metadata)
    assert Metadata.from_json(metadata.to_json()) == metadata
    "".join([*metadata.user.values(), metadata.content_type or "", metadata.expires or ""]).encode()


NUMBERS = st.one_of(
    st.text(max_size=12),
    st.from_regex(r"\s?[+-]?[0-9_]{0,4}(\.[0-9]{0,4})?(e[+-]?[0-9]{1,4})? ?(%|[kmgtKMGT]?i?[bB]?|[mhdw])\s?", fullmatch=True),
    st.sampled_from(["inf%", "nan%", "1e5", "٣", "²", "1\0", "K", "1K", "0" * 400 + "1", "0." + "0" * 400 + "1%"]),
)


@fuzz(600)
@given(text=NUMBERS)
def test_numbers_that_people_type(text: str) -> None:
    """Each is read as what it says, or refused in words."""
    size = outcome(lambda: parse_size("--memory", text))
    assert isinstance(size, UsageError) or (type(size) is int and size >= 0)
    for parse in (parse_percent, parse_confidence):
        share = outcome(lambda parse=parse: parse("--prove", text))
        assert isinstance(share, UsageError) or 0 < share < 1
    most = outcome(lambda: MaxDelete.parse(text))
    assert isinstance(most, UsageError) or (most.allows(0, 0) and (most.count is None) != (most.percent is None))
    samples = outcome(lambda: Samples.parse(text))
    assert isinstance(samples, UsageError) or (samples.count is None) != (samples.percent is None)


@fuzz(500)
@given(
    text=st.one_of(
        st.text(max_size=12),
        st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:.]{0,12}(Z|[+-][0-9:]{2,9})?)?", fullmatch=True),
        st.from_regex(r"[0-9]{1,12} ?[mhdw]", fullmatch=True),
    ),
    now=st.datetimes(timezones=st.timezones()),
)
def test_times_that_people_type(text: str, now: Any) -> None:
    """RFC 3339 to the second comes out, or words."""
    since = outcome(lambda: parse_since("--since", text, now))

    assert isinstance(since, UsageError) or (len(since) == 20 and since[10] == "T" and since.endswith("Z"))


@fuzz(500)
@given(text=st.one_of(st.text(), st.tuples(st.sampled_from(["s3://", "gs://", "S3://", "s3:/"]), st.text()).map("".join)))
def test_locations_that_people_type(text: str) -> None:
    """A location can be read again from its own words."""
    location = outcome(lambda: Location.parse(text))

    assert isinstance(location, UsageError) or Location.parse(str(location)) == location


@fuzz(500)
@given(
    text=st.one_of(st.text(), st.text("v1;=srcmd5ize90", max_size=30)),
    stamp=st.builds(
        Stamp, st.integers(0, 10**18), *[st.text(st.characters(exclude_characters=";"), max_size=9) for _ in range(4)]
    ),
)
def test_stamps_that_anybody_writes(text: str, stamp: Stamp) -> None:
    """Any text is a stamp or none; a stamp survives as text."""
    found = Stamp.parse(text)

    assert found is None or 0 <= found.size < 10**19
    assert Stamp.parse(str(stamp)) == stamp


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just({}), st.just([]), st.just("http://127.0.0.1:1/token")
)
CREDENTIALS = st.fixed_dictionaries(
    {
        "type": st.one_of(
            VALUES, st.sampled_from(["authorized_user", "service_account", "external_account", "impersonated_service_account"])
        )
    },
    optional=dict.fromkeys(
        """client_id client_secret refresh_token token_uri private_key client_email audience token_url\n        subject_token_type credential_source service_account_impersonation_url source_credentials project_id""".split(),
        VALUES,
    ),
)


@fuzz(250)
@given(text=st.one_of(CREDENTIALS.map(json.dumps).map(str.encode), damaged(CREDENTIALS.map(json.dumps).map(str.encode))))
def test_credentials_files_of_any_content(text: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An error of ours that names the file; nobody is asked but whom the file names, least of all a metadata server."""
    file = tmp_path_factory.getbasetemp() / "any-credentials.json"
    file.write_bytes(text)
    asked: list[object] = []

    async def refuse(_self: object, _method: str, url: str, *_: object, **__: object) -> None:
        asked.append(url)
        raise TransientError("nobody is there")

    async def run() -> None:
        async with open_credentials(str(file), ca_bundle=None, trust_env=False):
            raise AssertionError("a token came from nowhere")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with (
        mock.patch("heavysync.stores.gcs_auth.Door.request", refuse),
        mock.patch("heavysync.stores.http.ssl.create_default_context", return_value=context),
    ):
        error = outcome(lambda: asyncio.run(run()))

    assert isinstance(error, HeavysyncError)
    assert file.name in str(error)
    assert not any("metadata" in str(url) or "computeMetadata" in str(url) for url in asked)
