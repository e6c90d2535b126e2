"""S3's XML answers and bodies, read with distrust: what is not proven to be a page is never an empty one.

Keys travel with `encoding-type=url`, since XML 1.0 cannot carry all of them.
"""

from __future__ import annotations

import functools
import itertools
import operator
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from urllib.parse import unquote_plus
from xml.sax.saxutils import escape

from heavysync.checksums import crc32c_text
from heavysync.errors import FatalError, TransientError
from heavysync.objects import Deletion, ObjectInfo, Page, PartDone
from heavysync.stores.answers import BIGGEST, number

_S3 = "http://s3.amazonaws.com/doc/2006-03-01/"

# What XML 1.0 can express, even as a reference: https://www.w3.org/TR/xml/#charsets
_CONTROLS = bytes(set(range(0x20)) - set(b"\t\n\r"))
_NOT_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")

_TEXT_ENTITIES = {"\r": "&#13;", "\n": "&#10;", "\t": "&#9;"}


class Scope(NamedTuple):
    """The slice of a listing that was asked for.

    Attributes:
        place: for messages.
        prefix: of the location; taken off the keys.
        after: relative; keys are above it; None: from the start.
        until: relative; keys above it are cut off; None: to the end.
    """

    place: str
    prefix: str
    after: str | None
    until: str | None


Row = tuple[str, str, str, str, str]
"""Key, LastModified, ETag, Size, StorageClass (or empty), as they stand in a listing."""

# A row as most servers write it, in one line (AWS, moto) or indented (rclone). It holds no other element, so that a page
# from which all such rows are taken is as well-formed as the page was.
_ROW = re.compile(
    r"<Contents>\s*<Key>([^<&>]*)</Key>\s*<LastModified>([^<&>]*)</LastModified>\s*"
    r"""<ETag>(?:&quot;|"|)([^<&>"]*)(?:&quot;|"|)</ETag>\s*"""
    r"(?:<Checksum(?:Algorithm|Type)>[^<&>]*</Checksum(?:Algorithm|Type)>\s*)*"
    r"<Size>([0-9]{1,19})</Size>\s*(?:<StorageClass>([^<&>]*)</StorageClass>\s*|)</Contents>"
)
_STAND_IN = "<Contents/>"
_LINE_END = re.compile("\r\n?")
_ROW_PARTS = 6


def take_rows(body: bytes) -> tuple[bytes, list[Row]]:
    """Split a page into its rows and the rest, which still has to be proven; three times as fast as a parser.

    In the rest one empty row stands for them all, so that the parser tells whether they were in a good place. Where any
    row is written in another way, or stands apart, or where XML forbids a character, nothing is split off: the parser does
    it all.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return body, []
    parts = _ROW.split(text)
    between = "".join(parts[_ROW_PARTS:-1:_ROW_PARTS])
    if len(parts) == 1 or (between and not between.isspace()):
        return body, []
    if len(body.translate(None, _CONTROLS)) < len(body) or "\ufffe" in text or "\uffff" in text:
        return body, []
    rest = f"{parts[0]}{_STAND_IN}{parts[-1]}"
    if rest.count("<Contents") > 1 or "<!" in rest:
        return body, []
    columns = [parts[column::_ROW_PARTS] for column in range(1, _ROW_PARTS)]
    return rest.encode(), list(zip(*columns, strict=True))


def read_page(root: ET.Element, rows: list[Row], scope: Scope) -> Page:
    """Read a page of ListObjectsV2 from what `take_rows` split.

    `Name`, `IsTruncated` and `KeyCount` prove it (rclone leaves `KeyCount` out of an empty page).

    Raises:
        TransientError: it is no listing, or a piece of one.
        FatalError: keys out of order, outside of what was asked, or not UTF-8.
    """
    prove_listing(root, "ListBucketResult", scope)
    found = root.findall("Contents")
    if rows and len(found) != 1:
        raise TransientError(f"list {scope.place}: the rows of the page are in a wrong place")
    rows = rows or [_parsed_row(row) for row in found]
    count = root.findtext("KeyCount")
    if (count or "0") != str(len(rows)):
        raise TransientError(f"list {scope.place}: {len(rows)} keys came, KeyCount says {count}")
    keys = _decoded(root, rows, scope)
    _prove_order(keys, scope)
    _, modified_at, etags, texts, classes = zip(*rows, strict=True) if rows else ((),) * 5
    if not all(etags):
        raise FatalError(f"list {scope.place}: the server lists no ETags, so that no read could be pinned")
    try:
        sizes = _sizes(texts)
    except ValueError as error:
        raise TransientError(f"list {scope.place}: a row of the page is damaged: {error!r}") from error
    named = (name or None for name in classes) if "" in classes else classes
    # as ObjectInfo has its fields; repetitions have no end, the others are as long as the page has rows
    columns = zip(keys, sizes, etags, _NONE, _NONE, modified_at, _NONE, named, _NONE, strict=False)
    return _cut(list(map(_INFO, columns)), scope, is_truncated=is_truncated(root, scope))


_NONE = itertools.repeat(None)
_INFO = functools.partial(tuple.__new__, ObjectInfo)  # what ObjectInfo(...) does, without a Python call for each key


def _sizes(texts: Iterable[str]) -> list[int]:
    """The sizes of a page; ValueError, unless each is one that an object can have."""
    sizes = list(map(int, texts))
    if sizes and not (min(sizes) >= 0 and max(sizes) <= BIGGEST):
        raise ValueError(f"a size of {min(sizes) if min(sizes) < 0 else max(sizes)} bytes")
    return sizes


_KEY_OF_ROW = operator.itemgetter(0)


def _decoded(root: ET.Element, rows: list[Row], scope: Scope) -> list[str]:
    """The relative keys of a page; a page without any escape, which most are, needs no look at each key."""
    texts = list(map(_KEY_OF_ROW, rows))
    together = "".join(texts)
    if "%" in together or "+" in together:
        return list(map(key_decoder(root, scope), texts))
    prefix = scope.prefix
    if not prefix:
        return texts
    for text in texts:
        if not text.startswith(prefix):
            raise FatalError(f"list {scope.place}: the server lists {text!r}, which is not below it")
    cut = len(prefix)
    return [text[cut:] for text in texts]


def _prove_order(keys: list[str], scope: Scope) -> None:
    """Every key is above the one before it; code points sort as UTF-8 bytes do."""
    if scope.after is not None and keys and keys[0] <= scope.after:
        raise disorder(scope, scope.after, keys[0])
    if not all(map(operator.lt, keys, keys[1:])):
        before, key = next((a, b) for a, b in itertools.pairwise(keys) if a >= b)
        raise disorder(scope, before, key)


def token_after_nothing(root: ET.Element, rows: list[Row]) -> str | None:
    """The continuation token of a page that is truncated and yet holds no key (some servers send such); else None."""
    if rows or root.tag != "ListBucketResult" or root.find("Contents") is not None:
        return None
    is_truncated = root.findtext("IsTruncated") == "true"
    return root.findtext("NextContinuationToken") if is_truncated else None


def _parsed_row(row: ET.Element) -> Row:
    fields = {field.tag: field.text or "" for field in row}
    if "Key" not in fields:
        raise TransientError("list: a row of the page has no key")
    return (
        fields["Key"],
        fields.get("LastModified", ""),
        fields.get("ETag", "").strip('"'),
        fields.get("Size", ""),
        fields.get("StorageClass", ""),
    )


def _cut(objects: list[ObjectInfo], scope: Scope, *, is_truncated: bool) -> Page:
    """Cut a page at `until` and say where the next one begins."""
    if is_truncated and not objects:
        raise TransientError(f"list {scope.place}: more is promised after a page without keys, and no token came")
    cursor = objects[-1].key if is_truncated else None
    until = scope.until
    if until is not None and objects and objects[-1].key >= until:
        cursor = None
        while objects and objects[-1].key > until:
            objects.pop()
    return Page(objects, cursor)


def prove_listing(root: ET.Element, tag: str, scope: Scope) -> None:
    """Raise what an answer deserves that is no listing, or the one of another place."""
    if root.tag != tag or not root.findtext("Name"):
        raise TransientError(f"list {scope.place}: the answer is no listing but <{root.tag}>")
    for name, asked in (("Prefix", scope.prefix), ("StartAfter", scope.prefix + (scope.after or ""))):
        told = root.findtext(name)
        if told and _LINE_END.sub("\n", asked) not in {told, unquote_plus(told)}:  # some servers encode it, some do not
            raise TransientError(f"list {scope.place}: {name} {asked!r} was asked for, the answer is about {told!r}")


def is_truncated(root: ET.Element, scope: Scope) -> bool:
    """Whether more follows."""
    text = root.findtext("IsTruncated")
    if text not in {"true", "false"}:
        raise TransientError(f"list {scope.place}: the answer does not say whether it is truncated")
    return text == "true"


class key_decoder:  # noqa: N801 - used as a function
    """Decodes the keys of one page and takes the prefix off."""

    __slots__ = ("_cut", "_is_encoded", "_scope")

    def __init__(self, root: ET.Element, scope: Scope) -> None:
        self._is_encoded = root.findtext("EncodingType") == "url"
        self._scope = scope
        self._cut = len(scope.prefix)

    def __call__(self, text: str) -> str:
        """The relative key; a FatalError where it is not UTF-8, or not below the prefix."""
        if self._is_encoded and ("%" in text or "+" in text):
            try:
                text = unquote_plus(text, errors="strict")
            except UnicodeDecodeError as error:
                raise FatalError(f"list {self._scope.place}: the key {text!r} is not UTF-8") from error
        if not text.startswith(self._scope.prefix):
            raise FatalError(f"list {self._scope.place}: the server lists {text!r}, which is not below it")
        return text[self._cut :]


def disorder(scope: Scope, before: str, key: str) -> FatalError:
    """The error for keys that do not ascend."""
    return FatalError(
        f"list {scope.place}: {key!r} comes after {before!r}: the server does not list in the order of "
        "UTF-8 bytes (directory buckets do not), so nothing can be concluded from its listing"
    )


def size_of(text: str | None) -> int:
    """Bytes, or another number from 0 to 2^63 - 1.

    Raises:
        ValueError: it is none.
    """
    value = number(text)
    if value is None:
        raise ValueError(f"{(text or '')[:30]!r} is no size")
    return value


def etag_of(root: ET.Element) -> str:
    """The ETag of a copy or completion without quotes; empty where there is none."""
    return (root.findtext("ETag") or "").strip().strip('"')


_MEMBER = r"\s*<(LastModified|Checksum[0-9A-Za-z]+)>[^<&>]*</\{}>"
_COPIED = re.compile(
    rf"""(?:<\?xml [^<&>]*\?>)?\s*<CopyObjectResult(?: xmlns="[^"<&>]*")?>(?:{_MEMBER.format(1)})*\s*"""
    rf"""<ETag>(?:&quot;|"|)([!#-%'-;=?-~]+)(?:&quot;|"|)</ETag>(?:{_MEMBER.format(3)})*\s*</CopyObjectResult>\s*"""
)


def copied_etag(body: bytes) -> str | None:
    """The ETag of a copy, where its answer is written as most servers do; None: a parser has to tell what it says.

    An eighth of the CPU of a copy by the server was the parser.
    """
    try:
        found = _COPIED.fullmatch(body.decode("ascii"))
    except UnicodeDecodeError:
        return None
    return found and found[2]


class ListedPart(NamedTuple):
    """A part that the server holds.

    Attributes:
        number: from 1.
        etag: without quotes.
        size: bytes.
    """

    number: int
    etag: str
    size: int


def read_parts(root: ET.Element) -> tuple[list[ListedPart], str | None]:
    """Read a page of ListParts: the parts, and the marker of the next page.

    Raises:
        TransientError: it is no list of parts.
    """
    if not root.findtext("UploadId"):
        raise TransientError(f"the answer is no list of parts but <{root.tag}>")
    try:
        parts = [
            ListedPart(size_of(row.findtext("PartNumber")), etag_of(row), size_of(row.findtext("Size")))
            for row in root.findall("Part")
        ]
    except ValueError as error:
        raise TransientError(f"the list of parts is damaged: {error}") from error
    if root.findtext("IsTruncated") != "true" or not parts:
        return parts, None
    return parts, str(parts[-1].number)


def complete_body(parts: Iterable[PartDone], *, crcs: bool) -> bytes:
    """The body of CompleteMultipartUpload; `crcs`: with the CRC32C of each part."""
    rows = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><ETag>&quot;{escape(part.etag)}&quot;</ETag>"
        + (f"<ChecksumCRC32C>{crc32c_text(part.crc32c)}</ChecksumCRC32C></Part>" if crcs else "</Part>")
        for part in parts
    )
    return f'<CompleteMultipartUpload xmlns="{_S3}">{rows}</CompleteMultipartUpload>'.encode()


def is_expressible(key: str) -> bool:
    """Whether XML 1.0 can carry the key at all."""
    return _NOT_XML.search(key) is None


def delete_body(batch: Iterable[Deletion], prefix: str, *, conditions: bool) -> bytes:
    """The body of DeleteObjects; `conditions`: with the listed ETag of each object."""
    rows = "".join(_delete_row(one, prefix, conditions=conditions) for one in batch)
    return f'<Delete xmlns="{_S3}"><Quiet>true</Quiet>{rows}</Delete>'.encode()


def _delete_row(one: Deletion, prefix: str, *, conditions: bool) -> str:
    row = f"<Key>{escape(prefix + one.key, _TEXT_ENTITIES)}</Key>"
    if one.version is not None:
        row += f"<VersionId>{escape(one.version)}</VersionId>"
    elif conditions and one.listed is not None and one.listed.etag:
        row += f"<ETag>&quot;{escape(one.listed.etag)}&quot;</ETag>"
    return f"<Object>{row}</Object>"


class DeleteError(NamedTuple):
    """One `<Error>` of a DeleteObjects answer, as it stands there."""

    key: str
    version: str
    code: str
    message: str


def read_delete_errors(root: ET.Element) -> Iterator[DeleteError]:
    """Read the failures of DeleteObjects.

    Raises:
        TransientError: it is no answer to a deletion.
    """
    if root.tag != "DeleteResult":
        raise TransientError(f"the answer is no result of a deletion but <{root.tag}>")
    for row in root.findall("Error"):
        text = {field.tag: field.text or "" for field in row}
        yield DeleteError(text.get("Key", ""), text.get("VersionId", ""), text.get("Code", ""), text.get("Message", ""))
