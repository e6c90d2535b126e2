"""S3's listing of versions and delete markers, read with the same distrust as a listing of objects."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import NamedTuple

from heavysync.errors import TransientError
from heavysync.objects import ObjectVersion, VersionCursor
from heavysync.stores.answers import is_time
from heavysync.stores.s3_xml import Scope, disorder, is_truncated, key_decoder, prove_listing, size_of


class VersionRows(NamedTuple):
    """A page of ListObjectVersions.

    Attributes:
        versions: in the order of the document, cut at `until`.
        cursor: where to go on; None: nothing follows.
    """

    versions: list[ObjectVersion]
    cursor: VersionCursor | None


def read_versions(root: ET.Element, scope: Scope, after: VersionCursor | None, server_time: str) -> VersionRows:
    """Read a page of ListObjectVersions: `Version` and `DeleteMarker` rows, interleaved as they come.

    A row became noncurrent when the row before it was created. One whose predecessor is unknown counts from
    `server_time`: late rather than early.
    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html

    Raises:
        TransientError: it is no listing.
        FatalError: keys out of order, outside of what was asked, or not UTF-8.
    """
    prove_listing(root, "ListVersionsResult", scope)
    decode = key_decoder(root, scope)
    versions: list[ObjectVersion] = []
    previous = (after.key, after.modified_at) if after else ("", "")
    try:
        rows = _in_order([_row(child, decode) for child in root if child.tag in _ROWS])
    except (KeyError, ValueError) as error:
        raise TransientError(f"list versions of {scope.place}: a row is damaged: {error!r}") from error
    for row in rows:
        if row.key == scope.after:
            continue  # moto lists the marker's own versions again
        if row.key < max(previous[0], scope.after or ""):
            raise disorder(scope, previous[0], row.key)
        since = previous[1] if previous[0] == row.key and previous[1] else server_time
        versions.append(row if row.is_live else row._replace(noncurrent_since=since))
        previous = (row.key, row.modified_at)
    truncated = is_truncated(root, scope)
    if truncated and not rows:
        raise TransientError(f"list versions of {scope.place}: more is promised after a page without rows")
    cursor = VersionCursor(rows[-1].key, rows[-1].version, rows[-1].modified_at) if truncated else None
    if cursor is not None and after is not None and cursor[:2] == after[:2]:
        raise TransientError(f"list versions of {scope.place}: more is promised, but the list does not come on")
    if scope.until is not None and versions and versions[-1].key > scope.until:
        cursor = None
        versions = [row for row in versions if row.key <= scope.until]
    return VersionRows(versions, cursor)


_ROWS = {"Version", "DeleteMarker"}


def _row(row: ET.Element, decode: Callable[[str], str]) -> ObjectVersion:
    fields = {field.tag: field.text or "" for field in row}
    is_marker = row.tag == "DeleteMarker"
    if not is_time(fields["LastModified"]):
        raise ValueError(fields["LastModified"])
    return ObjectVersion(
        decode(fields["Key"]),
        fields["VersionId"],
        {"true": True, "false": False}[fields["IsLatest"]],
        is_marker,
        fields["LastModified"],
        None,
        0 if is_marker else size_of(fields["Size"]),
    )


def _in_order(rows: list[ObjectVersion]) -> list[ObjectVersion]:
    """The rows as they came, unless markers come after all versions (moto): then by key, newest first."""
    pairs = list(itertools.pairwise(rows))
    if all(a.key < b.key or (a.key == b.key and not b.is_live) for a, b in pairs):
        return rows
    borders = [index for index, (a, b) in enumerate(pairs) if a.is_marker != b.is_marker]
    disorder = [index for index, (a, b) in enumerate(pairs) if a.key > b.key]
    if len(borders) != 1 or not set(disorder) <= set(borders):
        return rows  # the order is the server's own, and wrong
    rows = sorted(rows, key=lambda row: row.modified_at, reverse=True)
    return sorted(rows, key=lambda row: (row.key, not row.is_live))
