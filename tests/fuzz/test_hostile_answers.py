"""Single answers that no good server gives, each as small as it can be: what fuzzing found, and what bounds it."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from fuzz.documents import (
    MODIFIED,
    gcs_batch,
    gcs_error,
    gcs_item,
    gcs_page,
    s3_error,
    s3_page,
    s3_row,
    s3_version,
    s3_versions,
)
from fuzz.kit import (
    Script,
    answer,
    cpu_limit,
    drive,
    gcs_store,
    outcome,
    peak,
    prove_info,
    prove_page,
    prove_versions,
    s3_store,
)

from heavysync.checksums import Stamp, crc32c_text, digest, md5_text
from heavysync.cli.words import parse_size
from heavysync.errors import FatalError, HeavysyncError, TransientError
from heavysync.objects import ByteRange, Content, Deletion, Metadata, ObjectInfo, Page, UploadState, VersionCursor
from heavysync.options import Samples
from heavysync.stores.gcs_auth import open_credentials
from heavysync.stores.gcs_wire import decoded
from heavysync.stores.s3_wire import parse_xml

DEEP = b"[" * 100_000
DIGITS = "9" * 5000  # Python reads no number of more than 4,300
FAR_ZONE = "Thu, 01 Jan 2026 00:00:00 +" + "9" * 20
S3_INFO = ObjectInfo("k", 10, "a" * 32, version=None)
GCS_INFO = ObjectInfo("k", 10, "", version="7")
TEN = Content([b"0123456789"], 10)
UPLOAD = UploadState(id="http://h/u", part_size=5, source_token="t")


def write(store: Any) -> Any:
    return store.write("k", TEN, Metadata(), digest(TEN.chunks), None)


async def complete(store: Any) -> object:
    upload = await store.resume_upload("k", UPLOAD, size=10, replaces=None)
    return await upload.complete(digest(TEN.chunks))


def ask(make: Any, call: Any, *answers: Any, most: int = 500) -> Any:
    """What a store makes of some answers: a value or an error of ours."""
    with cpu_limit(60):
        return outcome(lambda: drive(call(make(Script(*answers, most=most)))))


def page_of(store: Any) -> Any:
    return store.list_page(None, None)


def versions_of(store: Any) -> Any:
    return store.list_versions_page(None, None, None)


@pytest.mark.parametrize(
    ("make", "call", "given"),
    [
        pytest.param(
            s3_store,
            page_of,
            answer(503, s3_error(f"&#{DIGITS};")),
            id="s3-error-with-a-long-reference",
        ),
        pytest.param(
            s3_store,
            page_of,
            answer(503, s3_error(), {"Retry-After": FAR_ZONE}),
            id="s3-retry-after-of-an-impossible-zone",
        ),
        pytest.param(
            gcs_store,
            page_of,
            answer(503, b"{}", {"Retry-After": FAR_ZONE}),
            id="gcs-retry-after-of-an-impossible-zone",
        ),
        pytest.param(
            s3_store,
            versions_of,
            answer(200, s3_versions(), {"Date": FAR_ZONE}),
            id="s3-date-of-an-impossible-zone",
        ),
        pytest.param(
            gcs_store,
            versions_of,
            answer(200, json.dumps(gcs_page()).encode(), {"Date": FAR_ZONE}),
            id="gcs-date-of-an-impossible-zone",
        ),
        pytest.param(
            s3_store,
            lambda store: store.examine("k"),
            answer(200, b"", {"ETag": '"e"', "Content-Length": "10", "x-amz-checksum-md5": "é"}),
            id="s3-md5-that-is-not-ascii",
        ),
        pytest.param(
            s3_store,
            lambda store: store.examine("k"),
            answer(200, b"", {"ETag": '"e"', "Content-Length": DIGITS}),
            id="s3-long-content-length",
        ),
        pytest.param(
            s3_store,
            lambda store: store.read(S3_INFO, ByteRange(2, 5)),
            answer(206, b"234", {"ETag": f'"{S3_INFO.etag}"', "Content-Range": f"bytes {DIGITS}-4/10"}),
            id="s3-long-content-range",
        ),
        pytest.param(
            s3_store,
            lambda store: store.part_size(S3_INFO._replace(etag=f"a-{DIGITS}")),
            answer(200, b"", {"ETag": '"e"', "Content-Length": "1", "x-amz-mp-parts-count": DIGITS}),
            id="s3-long-number-of-parts",
        ),
        pytest.param(
            gcs_store,
            complete,
            answer(308, b"", {"Range": f"bytes=0-{DIGITS}"}),
            id="gcs-long-range",
        ),
        pytest.param(
            gcs_store,
            complete,
            answer(200, json.dumps(gcs_item("k", size="ten")).encode()),
            id="gcs-finished-object-of-odd-size",
        ),
        pytest.param(
            gcs_store,
            page_of,
            answer(200, DEEP),
            id="gcs-deep-answer",
        ),
        pytest.param(
            gcs_store,
            page_of,
            answer(503, DEEP),
            id="gcs-deep-error",
        ),
        pytest.param(
            gcs_store,
            lambda store: store.read_bucket(),
            answer(200, b'{"kind":"storage#bucket","versioning":"on"}'),
            id="gcs-bucket-of-odd-versioning",
        ),
        pytest.param(
            gcs_store,
            write,
            answer(200, b'{"generation":"7"}'),
            id="gcs-write-without-size",
        ),
        pytest.param(
            gcs_store,
            lambda store: store.examine("k"),
            answer(200, b'{"generation":"7"}'),
            id="gcs-look-without-size",
        ),
        pytest.param(
            gcs_store,
            lambda store: store.copy(store, GCS_INFO, replaces=None),
            answer(200, b'{"kind":"storage#rewriteResponse","done":true,"resource":{}}'),
            id="gcs-rewrite-without-members",
        ),
    ],
)
def test_answer_is_an_error_of_ours(make: Any, call: Any, given: Any) -> None:
    """Or something that the answer may stand for; never an error of Python's."""
    ask(make, call, given)


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(
            "-5",
        ),
        pytest.param(
            "9" * 20,
        ),
        "1.5",
        DIGITS,
    ],
)
def test_s3_sizes_fit_into_the_state(size: str) -> None:
    """From 0 to 2^63 - 1, or the page is damaged."""
    page = ask(s3_store, page_of, answer(200, s3_page(s3_row("a", size=size))))

    if isinstance(page, Page):
        prove_page(page, None, None)


TYPES = (TypeError, AttributeError, OverflowError, KeyError, AssertionError, UnicodeEncodeError)
ODD_ITEMS: list[Any] = [
    {"name": 5},
    {"name": None},
    {"name": "\ud800"},
    {"size": None},
    {"size": float("inf")},
    {"size": 2**70},
    {"size": "-1"},
    {"md5Hash": 5},
    {"crc32c": 5},
    {"updated": None},
    {"generation": 5},
    {"storageClass": []},
    {"contentType": {}},
    {"contentType": 5},
    {"metadata": [1]},
    {"metadata": {"a": 1}},
]


@pytest.mark.parametrize("odd", ODD_ITEMS, ids=json.dumps)
def test_gcs_members_are_of_their_types(odd: dict[str, Any]) -> None:
    """A listing with a member of another type is damaged; nothing of the kind reaches the state."""
    page = ask(gcs_store, page_of, answer(200, json.dumps(gcs_page(gcs_item("a") | odd)).encode()))

    if isinstance(page, Page):
        prove_page(page, None, None)


@pytest.mark.parametrize("items", [5, "ab", {"a": 1}, [None], [[]], ["a"]])
def test_gcs_items_are_a_list_of_objects(items: object) -> None:
    """Or it is no listing."""
    ask(gcs_store, page_of, answer(200, json.dumps({"kind": "storage#objects", "items": items}).encode()))


@pytest.mark.parametrize(
    "odd",
    [
        {"name": None},
        {"size": None},
        {"size": "x"},
        {"generation": None},
        {"generation": "x"},
        {"timeCreated": None},
        {"timeCreated": "x"},
    ],
)
def test_gcs_versions_are_proven(odd: dict[str, Any]) -> None:
    """A row without its members, or with others, is an error of ours; also for those who purge by its times."""
    item = {**gcs_item("a", timeDeleted=MODIFIED), **odd}
    item = {name: value for name, value in item.items() if value is not None}

    page = ask(gcs_store, versions_of, answer(200, json.dumps(gcs_page(item)).encode()))

    if not isinstance(page, HeavysyncError):
        prove_versions(page, None, None, None)


def test_gcs_versions_ascend_across_pages() -> None:
    """The second page goes back: an error, as it is within a page."""
    pages = [gcs_page(gcs_item("b", 1), gcs_item("b", 2), token="t"), gcs_page(gcs_item("a", 3))]

    found = ask(gcs_store, versions_of, *(answer(200, json.dumps(page).encode()) for page in pages))

    assert isinstance(found, HeavysyncError)


def test_s3_times_of_versions_can_be_read() -> None:
    """Ages are told by them."""
    page = ask(s3_store, versions_of, answer(200, s3_versions(s3_version("a", "v", modified="yesterday"))))

    if not isinstance(page, HeavysyncError):
        prove_versions(page, None, None, None)


@pytest.mark.parametrize("name", ["ETag", "x-amz-version-id"])
def test_text_from_headers_fits_into_the_state(name: str) -> None:
    """Bytes that are no UTF-8 come as surrogates."""
    headers = {"ETag": '"e"', "x-amz-version-id": "v", "Content-Length": "10", name: '"\udcff"'}
    for call in (write, lambda store: store.examine("k")):
        found = ask(s3_store, call, answer(200, b"", headers))
        for value in () if isinstance(found, HeavysyncError) else (getattr(found, "info", found)):
            str(value).encode()


# Walks that never end -------------------------------------------------------------------------------------------------


def empty_s3(token: str) -> Any:
    return answer(200, s3_page(truncated=True, more=f"<NextContinuationToken>{token}</NextContinuationToken>"))


def empty_gcs(token: str) -> Any:
    return answer(200, json.dumps(gcs_page(token=token)).encode())


async def walk_versions(store: Any) -> None:
    cursor: VersionCursor | None = None
    while True:
        page = await store.list_versions_page(cursor, None, None)
        cursor = page.cursor
        if cursor is None:
            return


@pytest.mark.parametrize(
    ("make", "call", "answers"),
    [
        pytest.param(s3_store, page_of, [empty_s3("a")], id="s3-one-token"),
        pytest.param(
            s3_store,
            page_of,
            [empty_s3("ab"[n % 2]) for n in range(20_000)],
            id="s3-two-tokens",
        ),
        pytest.param(
            s3_store,
            page_of,
            [empty_s3(str(n)) for n in range(20_000)],
            id="s3-new-tokens",
        ),
        pytest.param(
            s3_store,
            walk_versions,
            [answer(200, s3_versions(s3_version("a", "v"), truncated=True))],
            id="s3-one-page-of-versions",
        ),
        pytest.param(
            s3_store,
            complete,
            [
                answer(
                    200,
                    b"<ListPartsResult><UploadId>u</UploadId><IsTruncated>true</IsTruncated><Part><PartNumber>1</PartNumber>"
                    b"<ETag>e</ETag><Size>5</Size></Part></ListPartsResult>",
                )
            ],
            id="s3-one-page-of-parts",
        ),
        pytest.param(
            gcs_store,
            page_of,
            [empty_gcs("t")],
            id="gcs-one-token",
        ),
        pytest.param(
            gcs_store,
            page_of,
            [empty_gcs(str(n)) for n in range(20_000)],
            id="gcs-new-tokens",
        ),
        pytest.param(
            gcs_store,
            versions_of,
            [answer(200, json.dumps(gcs_page(gcs_item("a"), token="t")).encode())],
            id="gcs-one-page-of-versions",
        ),
    ],
)
def test_walk_ends(make: Any, call: Any, answers: list[Any]) -> None:
    """A server whose pages lead in a circle, or nowhere: an error, long before the ten thousandth request of one step."""
    found = ask(make, call, *answers, most=10_000)

    assert isinstance(found, HeavysyncError)


def test_s3_parts_are_no_more_than_s3_allows() -> None:
    """Parts of one byte would be hashed one by one, and asked for one by one."""
    info = ObjectInfo("k", 10**12, f"{'a' * 32}-{10**12}")
    one = {"ETag": '"e"', "Content-Length": "1", "x-amz-mp-parts-count": str(10**12)}

    assert ask(s3_store, lambda store: store.part_size(info), answer(200, b"", one)) is None


# Memory and time ------------------------------------------------------------------------------------------------------


def test_entities_are_not_expanded() -> None:
    """A DOCTYPE is no S3 answer."""
    assert parse_xml(b'<!DOCTYPE a [<!ENTITY e "xxxxxxxxxx">]><a>&e;&e;</a>') is None


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_entities_are_not_expanded_in_any_encoding(encoding: str) -> None:
    """2 KB become 2 MB here; the parser stops at a hundredfold, which of 16 MiB is 1.6 GiB."""
    entities = "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in ("ab", "bc", "cd"))
    text = f'<!DOCTYPE a [<!ENTITY a "{"x" * 1000}">{entities}]><a>&d;&d;</a>'
    bom = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")

    assert parse_xml(bom + text.encode(encoding)) is None


@pytest.mark.parametrize(
    "body",
    [
        b"<a>" * 100_000 + b"</a>" * 100_000,
        b"<a>" * 100_000,
        b"<a " + b" ".join(b"b%d=''" % number for number in range(100_000)) + b"/>",
        b"<a>" + b"<a/>" * 200_000 + b"</a>",
        b' xmlns="' * 100_000,
    ],
    ids=["deep", "open", "attributes", "elements", "namespaces"],
)
def test_xml_takes_memory_in_proportion(body: bytes) -> None:
    """At most a hundred times its bytes, of which there are at most 16 MiB; and no more than seconds."""
    with cpu_limit(60):
        assert peak(lambda: parse_xml(body)) < 100 * len(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":[' + b"[]," * 100_000 + b"[]]}",
        b'{"a":[' + b"{}," * 100_000 + b"{}]}",
        b"{" + b",".join(b'"%d":0' % number for number in range(100_000)) + b"}",
        b'{"a":' + b"9" * 1_000_000 + b"}",
    ],
    ids=["lists", "objects", "members", "number"],
)
def test_json_takes_memory_in_proportion(body: bytes) -> None:
    """At most forty times its bytes, of which there are at most 64 MiB; and no more than seconds."""
    with cpu_limit(60):
        assert peak(lambda: decoded(answer(200, body), "list")) < 40 * len(body)


@pytest.mark.parametrize(
    ("make", "given"),
    [
        pytest.param(
            s3_store,
            answer(403, s3_error("x" * 100_000)),
        ),
        pytest.param(
            gcs_store,
            answer(403, json.dumps(gcs_error("forbidden", "x" * 100_000)).encode()),
        ),
        pytest.param(
            gcs_store,
            answer(403, json.dumps(gcs_error("x" * 100_000)).encode()),
        ),
    ],
)
def test_error_texts_are_bounded(make: Any, given: Any) -> None:
    """They are kept for each object that failed, and shown."""
    assert isinstance(ask(make, write, given), HeavysyncError)


# Batches --------------------------------------------------------------------------------------------------------------

BATCH = {"Content-Type": "multipart/mixed; boundary=bnd"}


def delete(store: Any) -> Any:
    return store.delete([Deletion("k", listed=GCS_INFO), Deletion("l", "7")])


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(
            gcs_batch((DIGITS, 204, b""), ("1", 204, b"")),
            BATCH,
            id="long-id",
        ),
        pytest.param(
            b"",
            {"Content-Type": 'multipart/mixed; boundary="\udcff"'},
            id="odd-boundary",
        ),
        pytest.param(
            gcs_batch(("0", 503, b""), ("0", 204, b""), ("1", 204, b"")),
            BATCH,
            id="answered-twice",
        ),
        pytest.param(
            gcs_batch(("0", 503, DEEP), ("1", 204, b"")),
            BATCH,
            id="deep",
        ),
        pytest.param(gcs_batch(("0", 204, b"")), BATCH, id="one-missing"),
        pytest.param(gcs_batch(("1", 204, b""), ("2", 204, b"")), BATCH, id="other-numbers"),
    ],
)
def test_batch_is_answered_as_a_whole_or_not_at_all(body: bytes, headers: dict[str, str]) -> None:
    """What does not fit says nothing about any of the calls."""
    found = ask(gcs_store, delete, answer(200, body, headers))

    assert isinstance(found, TransientError) or [failure.transient for failure in found] == [True]


def test_batch_is_read_in_linear_time() -> None:
    """Eight times as long an answer takes about eight times as long, not sixty-four times."""

    def seconds(lines: int) -> float:
        body = b"--bnd\r\n" + b"content-id:<\n" * lines + b"HTTP/1.1 204 x\r\n--bnd--"
        start = time.process_time()
        ask(gcs_store, delete, answer(200, body, BATCH))
        return time.process_time() - start

    seconds(100)
    assert min(seconds(8000) for _ in range(2)) < 25 * max(min(seconds(1000) for _ in range(5)), 0.001)


# Pages by expression --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        s3_page(s3_row("a").replace("<Key>a", "<Key>\x01a")),
        s3_page(s3_row("a").replace("STANDARD", "]]>")),
        s3_page().replace(b"<KeyCount>0", b"<KeyCount>1").replace(b"<Name>", b"<Na" + s3_row("a").encode() + b"me>"),
        s3_page().replace(b"<KeyCount>0", b"<KeyCount>1").replace(b"</Name>", b"<x>" + s3_row("a").encode() + b"</x></Name>"),
    ],
    ids=["control character", "end of a section", "within a tag", "elsewhere"],
)
def test_page_by_expression_is_a_page_to_the_parser(body: bytes) -> None:
    """What the parser refuses, or does not see, is no row either way."""
    root = parse_xml(body)
    assert root is None or root.find("Contents") is None or b"]]>" in body

    assert isinstance(ask(s3_store, page_of, answer(200, body)), HeavysyncError)


# Words and files ------------------------------------------------------------------------------------------------------


def test_size_of_many_digits_is_refused() -> None:
    """In words."""
    assert isinstance(outcome(lambda: parse_size("--memory", "9" * 400)), HeavysyncError)


def test_plain_bytes_are_exact() -> None:
    """Of any size that an object can be compared with."""
    assert parse_size("--max-size", str(2**53 + 1)) == 2**53 + 1


def test_different_samples_have_different_names() -> None:
    """Else another share than the one asked for would be drawn on."""
    assert str(Samples.parse("12.34567%")) != str(Samples.parse("12.34568%"))


def test_stamp_with_an_odd_token_is_itself_or_none() -> None:
    """An ETag is anything that a server likes."""
    stamp = Stamp(5, "a;size=7", "n")

    assert Stamp.parse(str(stamp)) in {stamp, None}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            '{"type": "authorized_user", "a": ' + "[" * 100_000,
            id="deep",
        ),
        pytest.param(
            json.dumps(
                {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r", "token_uri": "x"}
            ),
            id="address",
        ),
        pytest.param(json.dumps({"type": "authorized_user"}), id="members"),
        pytest.param("\0", id="binary"),
    ],
)
def test_credentials_file_that_cannot_work_fails_at_once(text: str, tmp_path: Path) -> None:
    """With its name; it is never tried for ever."""
    file = tmp_path / "key.json"
    file.write_text(text)

    async def run() -> None:
        async with open_credentials(str(file), ca_bundle=None, trust_env=False):
            pass

    error = outcome(lambda: asyncio.run(run()))

    assert isinstance(error, FatalError)
    assert "key.json" in str(error)


def test_valid_answers_pass() -> None:
    """What the others damage is good as it is."""
    assert len(ask(s3_store, page_of, answer(200, s3_page(s3_row("a")))).objects) == 1
    (info,) = ask(gcs_store, page_of, answer(200, json.dumps(gcs_page(gcs_item("a"))).encode())).objects
    prove_info(info)
    prove_versions(ask(s3_store, versions_of, answer(200, s3_versions(s3_version("a", "v")))), None, None, None)
    assert (
        ask(
            gcs_store,
            delete,
            answer(200, gcs_batch(("0", 204, b""), ("1", 404, json.dumps(gcs_error("notFound")).encode())), BATCH),
        )
        == []
    )


# Answers to other requests --------------------------------------------------------------------------------------------


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize("other", [{"name": "other"}, {"bucket": "other"}, {"kind": "storage#bucket"}], ids=str)
@pytest.mark.parametrize(
    ("call", "shape"),
    [
        (write, lambda item: item),
        (lambda store: store.stat("k"), lambda item: item),
        (complete, lambda item: item),
        (
            lambda store: store.copy(store, GCS_INFO, replaces=None),
            lambda item: {"kind": "storage#rewriteResponse", "done": True, "resource": item},
        ),
    ],
    ids=["write", "stat", "complete", "copy"],
)
def test_gcs_answer_is_about_the_object_that_was_asked_for(call: Any, shape: Any, other: dict[str, str]) -> None:
    """What belongs to another object, or to another bucket, is no answer; what belongs to this one is."""
    sums = digest(TEN.chunks)
    known = {"md5Hash": md5_text(sums.md5), "crc32c": crc32c_text(sums.crc32c)}
    item = gcs_item("k", size="10", bucket="b", kind="storage#object", **known)

    assert not isinstance(ask(gcs_store, call, answer(200, as_json(shape(item)))), HeavysyncError)
    assert isinstance(ask(gcs_store, call, answer(200, as_json(shape(item | other)))), TransientError)


@pytest.mark.parametrize(
    "page",
    [
        gcs_page(gcs_item("b"), gcs_item("x")),
        gcs_page(gcs_item("b")) | {"nextPageTokem": "t"},
        gcs_page(gcs_item("b")) | {"nextPageToken": ""},
        gcs_page(gcs_item("b")) | {"nextPageToken": 5},
    ],
    ids=["beyond the end", "unknown member", "empty token", "odd token"],
)
def test_gcs_page_is_the_one_that_was_asked_for(page: dict[str, Any]) -> None:
    """Of objects and of versions: nothing beyond the end, no member that nobody knows, a token that is one."""
    assert isinstance(ask(gcs_store, lambda store: store.list_page("a", "m"), answer(200, as_json(page))), TransientError)
    versions = ask(gcs_store, lambda store: store.list_versions_page(None, "a", "m"), answer(200, as_json(page)))
    assert isinstance(versions, TransientError)


@pytest.mark.parametrize("make", [s3_store, gcs_store])
@pytest.mark.parametrize("call", [page_of, versions_of, lambda store: store.stat("k")], ids=["list", "versions", "stat"])
@pytest.mark.parametrize("status", [412, 304])
def test_condition_that_nobody_set_cannot_have_failed(make: Any, call: Any, status: int) -> None:
    """Such an answer belongs to another request: it says nothing of this one."""
    body = s3_error("PreconditionFailed") if make is s3_store and status == 412 else b""

    found = ask(make, call, answer(status, body))

    assert isinstance(found, TransientError) or (status, make) == (304, s3_store)


@pytest.mark.parametrize("text", ["bytes=0-99", "bytes=5-9", "bytes=0-", "0-4", "nonsense"])
def test_session_cannot_have_what_nobody_sent(text: str) -> None:
    """A Range of a 308 that is none, or that is beyond the object: asked again."""
    assert isinstance(ask(gcs_store, complete, answer(308, b"", {"Range": text})), TransientError)
