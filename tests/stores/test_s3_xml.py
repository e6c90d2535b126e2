"""Listings are proven, or they are errors."""

from __future__ import annotations

import itertools
from urllib.parse import quote_plus
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavysync.errors import FatalError, HeavysyncError, TransientError
from heavysync.objects import Deletion, ObjectInfo, PartDone, VersionCursor
from heavysync.stores.s3_versions import read_versions
from heavysync.stores.s3_wire import parse_xml
from heavysync.stores.s3_xml import (
    copied_etag,
    etag_of,
    Scope,
    complete_body,
    delete_body,
    is_expressible,
    read_delete_errors,
    read_page,
    read_parts,
    take_rows,
)

NS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
T0, T1, T2, T3, T4 = (f"2026-01-01T00:00:0{second}.000Z" for second in range(5))
KEYS = st.sets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), max_size=12)


def page(*rows, truncated="false", count=None, name="<Name>b</Name>", root="ListBucketResult", more=""):
    count = len(rows) if count is None else count
    key_count = f"<KeyCount>{count}</KeyCount>" if count != "" else ""
    head = f"{name}<EncodingType>url</EncodingType>{key_count}<IsTruncated>{truncated}</IsTruncated>{more}"
    return f"<?xml version='1.0'?><{root} {NS}>{head}{''.join(rows)}</{root}>".encode()


def row(key, size=3, etag="&quot;abc&quot;"):
    return (
        f"<Contents><Key>{quote_plus(key)}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
        f"<ETag>{etag}</ETag><ChecksumType>x</ChecksumType><Size>{size}</Size><StorageClass>GLACIER</StorageClass></Contents>"
    )


def read(body, prefix="", after=None, until=None):
    scope = Scope("s3://b/", prefix, after, until)
    by_parser = outcome(parse_xml(body), [], scope)
    rest, rows = take_rows(body)
    by_expression = outcome(parse_xml(rest), rows, scope)
    assert repr(by_parser) == repr(by_expression)
    if isinstance(by_parser, Exception):
        raise by_parser
    return by_parser


def outcome(root, rows, scope):
    try:
        return read_page(root, rows, scope)
    except HeavysyncError as error:
        return error


def test_row_becomes_an_object():
    """Every field, verbatim."""
    expected = ObjectInfo("a+b", 3, "abc", modified_at="2026-01-02T03:04:05.000Z", storage_class="GLACIER")

    assert ([expected], None) == read(page(row("p/a+b")), prefix="p/")


@given(keys=KEYS, prefix=st.sampled_from(["", "p/", "ü +/"]))
def test_any_key_is_decoded(keys, prefix):
    """Plus, percent, control characters, astral ones: all come back."""
    ordered = sorted(keys)
    body = page(*[row(prefix + key) for key in ordered])

    assert ordered == [info.key for info in read(body, prefix=prefix).objects]


@given(keys=KEYS.filter(bool), until=st.text(st.characters(exclude_categories=["Cs"]), max_size=4), truncated=st.booleans())
def test_until_cuts_and_ends(keys, until, truncated):
    """No key above `until` is answered, and past it there is no next page."""
    ordered = sorted(keys)
    body = page(*map(row, ordered), truncated="true" if truncated else "false")
    answer = read(body, until=until)

    assert [key for key in ordered if key <= until] == [info.key for info in answer.objects]
    if truncated and ordered[-1] < until:
        assert ordered[-1] == answer.cursor
    else:
        assert answer.cursor is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>It works!</body></html>",
        b"<Error><Code>SlowDown</Code></Error>",
        page(name=""),
        page(truncated=""),
        page(row("a"), count=2),
        page(row("a"), count=""),
        page(truncated="true"),
        page(row("a").replace("<Key>a</Key>", "")),
        page(row("a", size="")),
        page(row("a", size="many")),
        page(row("a"))[:-30],
        page(root="ListAllMyBucketsResult"),
        b"<!DOCTYPE x [<!ENTITY e 'y'>]>" + page(row("a"))[21:],
    ],
)
def test_what_is_no_listing_is_never_an_empty_page(body):
    """Empty, HTML, an error, cut or damaged: asked again, nothing concluded."""
    root = parse_xml(body)
    if root is None:
        return  # `Wire.send_xml` raises TransientError
    with pytest.raises(TransientError):
        read(body)


@pytest.mark.parametrize("odd", ["<Owner><ID>x</ID></Owner>", "<!-- x -->", "<![CDATA[]]>", "<New a='b'/>"])
def test_rows_in_another_layout_are_left_to_the_parser(odd):
    """One strange row, and nothing is taken out of the page beforehand."""
    body = page(row("a"), row("b").replace("<Size>", odd + "<Size>"), row("c"))

    assert (body, []) == take_rows(body)
    assert ["a", "b", "c"] == [info.key for info in read(body).objects]


def test_usual_rows_need_no_parser():
    """What is left is a page with one empty row in their place, to be proven."""
    rest, rows = take_rows(page(row("a"), row("b").replace("><", ">\n    <")))

    assert page("<Contents/>", count=2) == rest
    assert ["a", "b"] == [key for key, *_ in rows]


@pytest.mark.parametrize(
    "told", ["<Prefix>p+q%2F</Prefix>", "<Prefix>p q/</Prefix>", "<StartAfter>p+q/a+b</StartAfter>", "<Prefix/>"]
)
def test_page_may_say_what_was_asked_for(told):
    """Encoded or not."""
    assert ["c"] == [info.key for info in read(page(row("p q/c"), more=told), prefix="p q/", after="a b").objects]


@pytest.mark.parametrize("told", ["<Prefix>p/</Prefix>", "<StartAfter>p q/b</StartAfter>"])
def test_page_of_another_listing_is_none_of_ours(told):
    """An answer that belongs to another request would lose the keys between."""
    with pytest.raises(TransientError, match="was asked for"):
        read(page(row("p q/c"), more=told), prefix="p q/", after="a b")


def test_empty_page_may_lack_key_count():
    """Rclone leaves it out where it is zero."""
    assert ([], None) == read(page(count=""))


@pytest.mark.parametrize(
    ("rows", "after", "prefix"),
    [
        (["b", "a"], None, ""),
        (["a", "a"], None, ""),
        (["a"], "a", ""),
        (["a"], "b", ""),
        (["q/x"], None, "p/"),
        (["\ue000", "\U00010000", "\uffff"], None, ""),
    ],
)
def test_disorder_ends_the_run(rows, after, prefix):
    """Out of order, not above `after`, or outside the prefix: no conclusion can be drawn from such a server."""
    with pytest.raises(FatalError):
        read(page(*map(row, rows)), after=after, prefix=prefix)


def test_key_that_is_not_utf8_ends_the_run():
    """It could be neither compared nor copied, and skipping it in silence would be a lie."""
    with pytest.raises(FatalError, match="UTF-8"):
        read(page(row("x").replace("<Key>x", "<Key>%FF")))


def version(key, version_id, modified, latest="false", tag="Version"):
    size = "<Size>3</Size>" if tag == "Version" else ""
    return (
        f"<{tag}><Key>{quote_plus(key)}</Key><VersionId>{version_id}</VersionId><IsLatest>{latest}</IsLatest>"
        f"<LastModified>{modified}</LastModified>{size}</{tag}>"
    )


def versions(*rows, after=None, first=None, until=None, **how):
    root = parse_xml(page(*rows, root="ListVersionsResult", **how))
    return read_versions(root, Scope("s3://b/", "", first, until), after, "NOW")


def test_version_became_noncurrent_when_its_successor_came():
    """Versions and markers interleave; the row before is the successor."""
    rows, cursor = versions(
        version("a", "4", T4, "true", "DeleteMarker"),
        version("a", "3", T3),
        version("a", "2", T2, tag="DeleteMarker"),
        version("a", "null", T1),
        version("b", "1", T0, "true"),
    )

    assert [None, T4, T3, T2, None] == [row.noncurrent_since for row in rows]
    assert [True, False, True, False, False] == [row.is_marker for row in rows]
    assert cursor is None


def test_successor_is_carried_across_pages():
    """The first row of a page follows the cursor's; without one its age is not guessed early."""
    after = VersionCursor("a", "4", T4)
    assert versions(version("a", "3", T3), after=after).versions[0].noncurrent_since == T4
    assert versions(version("b", "3", T3), after=after).versions[0].noncurrent_since == "NOW"
    assert versions(version("a", "3", T3)).versions[0].noncurrent_since == "NOW"


def test_version_page_ends_with_a_cursor():
    """The last row is where it goes on, unless that is past `until`."""
    rows = (version("a", "1", T1, "true"), version("c", "9", T2, "true"))
    assert versions(*rows, truncated="true").cursor == VersionCursor("c", "9", T2)
    assert versions(*rows, truncated="true", until="b").cursor is None
    assert ["a"] == [row.key for row in versions(*rows, truncated="true", until="b").versions]


def test_markers_after_all_versions_are_sorted_in():
    """Moto lists so; newest first is restored."""
    rows, _ = versions(
        version("a", "1", "2026-01-01T00:00:00.000Z"),
        version("b", "2", "2026-01-01T00:00:00.000Z", "true"),
        version("a", "3", "2026-01-02T00:00:00.000Z", "true", "DeleteMarker"),
    )

    assert [("a", "3"), ("a", "1"), ("b", "2")] == [(row.key, row.version) for row in rows]
    assert rows[1].noncurrent_since == "2026-01-02T00:00:00.000Z"


def test_versions_out_of_order_end_the_run():
    """As with keys."""
    with pytest.raises(FatalError):
        versions(version("b", "1", T1, "true"), version("a", "1", T1, "true"))


@pytest.mark.parametrize("rows", [(), (version("a", "1", T1, "perhaps"),)])
def test_damaged_version_pages_are_asked_again(rows):
    """Truncated without rows, or with a damaged one."""
    with pytest.raises(TransientError):
        versions(*rows, truncated="true")


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=5).map(
        lambda keys: [k for k in keys if is_expressible(k)]
    )
)
def test_deletions_survive_xml(keys):
    """Line ends, tabs, brackets and ampersands in keys reach the server as they are."""
    body = delete_body([Deletion(key, "v<1>") for key in keys], "p&/", conditions=True)
    root = parse_xml(body)

    assert ["p&/" + key for key in keys] == [found.text for found in root.iter("Key")]
    assert ["v<1>"] * len(keys) == [found.text for found in root.iter("VersionId")]


@pytest.mark.parametrize("key", ["\x00", "a\x08b", "\x1f", "\ufffe", "\uffff"])
def test_some_keys_cannot_be_expressed(key):
    """XML 1.0 has no way to write them."""
    assert not is_expressible(key)


def test_deletion_is_conditional_on_the_listed_etag():
    """Only for the live object, and only while the server takes it."""
    listed = ObjectInfo("k", 1, "abc")
    assert b"<ETag>&quot;abc&quot;</ETag>" in delete_body([Deletion("k", listed=listed)], "", conditions=True)
    assert b"ETag" not in delete_body([Deletion("k", listed=listed)], "", conditions=False)
    assert b"ETag" not in delete_body([Deletion("k", "v1", listed)], "", conditions=True)


def test_completion_lists_the_parts():
    """Numbers, quoted ETags, and CRCs only where the upload was begun with them."""
    parts = [PartDone(1, "a", crc32c=1), PartDone(2, "b", crc32c=2)]
    for crcs, first, second in ((True, "AAAAAQ==", "AAAAAg=="), (False, None, None)):
        root = parse_xml(complete_body(parts, crcs=crcs))
        found = [tuple(map(part.findtext, ("PartNumber", "ETag", "ChecksumCRC32C"))) for part in root]
        assert found == [("1", '"a"', first), ("2", '"b"', second)]


def test_parts_are_paged():
    """The marker of the next page is the last number of this one."""
    rows = "<Part><PartNumber>7</PartNumber><ETag>&quot;e&quot;</ETag><Size>5</Size></Part>"
    for truncated, marker in (("true", "7"), ("false", None)):
        root = ElementTree.fromstring(f"<X><UploadId>u</UploadId><IsTruncated>{truncated}</IsTruncated>{rows}</X>")
        assert ([(7, "e", 5)], marker) == read_parts(root)


@pytest.mark.parametrize("reader", [read_parts, lambda root: list(read_delete_errors(root))])
def test_other_answers_are_proven_too(reader):
    """A proxy's page is no list of parts and no result of a deletion."""
    with pytest.raises(TransientError):
        reader(ElementTree.fromstring("<html/>"))


def test_order_is_that_of_utf8_bytes():
    """Python's str order is the same; UTF-16's is not."""
    keys = ["\ud7ff", "\ue000", "\uffff", "\U00010000", "a", "ä", ""]
    for one, other in itertools.product(keys, keys):
        assert (one < other) == (one.encode() < other.encode())


_COPIED = (
    "{}<CopyObjectResult{}><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
    "<ETag>{}</ETag><ChecksumCRC32C>AAAAAA==</ChecksumCRC32C></CopyObjectResult>"
)


@pytest.mark.parametrize("declaration", ["", '<?xml version="1.0" encoding="UTF-8"?>', '<?xml version="1.0"?>\n'])
@pytest.mark.parametrize("namespace", ["", ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'])
@pytest.mark.parametrize("quote", ["&quot;", '"', ""])
def test_answer_to_a_copy_is_read_without_a_parser(declaration: str, namespace: str, quote: str) -> None:
    """It says the same as the parser."""
    body = _COPIED.format(declaration, namespace, f"{quote}0123456789abcdef0123456789abcdef-3{quote}").encode()
    root = parse_xml(body)

    assert root is not None
    assert copied_etag(body) == etag_of(root) == "0123456789abcdef0123456789abcdef-3"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<Error><Code>InternalError</Code></Error>",
        _COPIED.format("", "", "").encode(),
        _COPIED.format("", "", "a&#34;b").encode(),
        _COPIED.format("", "", "a").encode()[:-3],
        _COPIED.format("", "", "a").encode() + b"<Error/>",
        _COPIED.format("", "", "a").replace("</ChecksumCRC32C>", "</ChecksumCRC32>").encode(),
        _COPIED.format("<!DOCTYPE x>", "", "a").encode(),
        _COPIED.format("", "", "\u00e9").encode(),
        b"<CopyObjectResult><Error><Code>SlowDown</Code></Error><ETag>a</ETag></CopyObjectResult>",
    ],
)
def test_what_is_no_plain_answer_to_a_copy_is_left_to_the_parser(body: bytes) -> None:
    """An error, a piece of an answer, anything odd."""
    assert copied_etag(body) is None
