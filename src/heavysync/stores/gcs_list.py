"""Listings of Google Cloud Storage: resumed by key, proven to be listings, in order.

A page token is never kept: its life is not documented. A call follows one only where the page brought no key
that it could go on after. Source: https://docs.cloud.google.com/storage/docs/json_api/v1/objects/list
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from heavysync.errors import FatalError, NotFoundError, TransientError
from heavysync.objects import Location, ObjectInfo, ObjectVersion, Page, VersionCursor, VersionPage
from heavysync.stores.gcs_json import FIELDS, VERSION_FIELDS, info_of, version_of
from heavysync.stores.gcs_wire import GcsWire, decoded
from heavysync.stores.http import Response

PAGE_MAX = 1000
"""Most rows that Google puts on a page."""


class GcsListing:
    """Lists one bucket below one prefix."""

    def __init__(self, wire: GcsWire, location: Location, bucket_path: str) -> None:
        self._wire = wire
        self._location = location
        self._prefix = location.prefix
        self._path = f"{bucket_path}/o"

    async def objects(self, after: str | None, until: str | None, limit: int) -> Page:
        """See `Store.list_page`."""
        # `startOffset` is inclusive: `after` itself may come once more, so one more is asked for
        most = min(PAGE_MAX, limit + (after is not None))
        query = self._query(after, until) | {
            "maxResults": str(most),
            "fields": f"kind,nextPageToken,items({FIELDS})",
        }
        while True:
            answer, _ = await self._ask(query)
            try:
                found = [info_of(item, len(self._prefix)) for item in self._items(answer)]
            except (KeyError, ValueError) as error:
                raise TransientError(f"list {self._location}: an item of the page is damaged: {error!r}") from error
            _prove_order([info.key for info in found], operator.lt, self._location)
            token = answer.get("nextPageToken") or None
            page = _cut(found, after, until, limit, is_last=token is None)
            if page.objects or page.cursor is None:
                return page
            query["pageToken"] = str(token)

    async def versions(self, after: VersionCursor | None, first: str | None, until: str | None) -> VersionPage:
        """See `Store.list_versions_page`.

        Google orders the versions of one key oldest first, so a page is cut after a whole key; the versions of
        one key are held in memory together.
        """
        low = max((key for key in (first, after.key if after else None) if key is not None), default=None)
        query = self._query(low, until) | {
            "versions": "true",
            "maxResults": str(PAGE_MAX),
            "fields": f"kind,nextPageToken,items({VERSION_FIELDS})",
        }
        rows: list[ObjectVersion] = []
        while True:
            answer, response = await self._ask(query)
            found = [version_of(item, len(self._prefix)) for item in self._items(answer)]
            _prove_order([row.key for row in found], operator.le, self._location)
            wanted = [row for row in found if low is None or row.key > low]
            inside = [row for row in wanted if until is None or row.key <= until]
            rows += inside
            token = answer.get("nextPageToken") if len(inside) == len(wanted) else None
            if token is None or (rows and rows[0].key != rows[-1].key):
                return _version_page(rows, is_last=token is None, server_time=_server_time(response))
            query["pageToken"] = str(token)

    def _query(self, after: str | None, until: str | None) -> dict[str, str]:
        """Prefix and offsets. `endOffset` is exclusive, so it is `until` and "!"; what lies between is cut."""
        query = {}
        if self._prefix:
            query["prefix"] = self._prefix
        if after is not None:
            query["startOffset"] = self._prefix + after
        if until is not None and len((self._prefix + until).encode()) < 1024:
            query["endOffset"] = f"{self._prefix}{until}!"
        return query

    async def _ask(self, query: dict[str, str]) -> tuple[dict[str, Any], Response]:
        try:
            response = await self._wire.call("list", "", "GET", self._path, query)
        except NotFoundError as error:
            raise FatalError(f"{self._location}: there is no such bucket: {error}") from error
        answer = decoded(response, f"list {self._location}")
        if answer.get("kind") != "storage#objects":
            raise TransientError(f"list {self._location}: not a listing: it has no kind")
        return answer, response

    def _items(self, answer: dict[str, Any]) -> list[dict[str, Any]]:
        """The resources of a page, all of them below the prefix."""
        items: list[dict[str, Any]] = answer.get("items") or []
        prefix = self._prefix
        if prefix and not all(item["name"].startswith(prefix) for item in items):
            raise TransientError(f"list {self._location}: not the listing that was asked for")
        return items


def _prove_order(keys: Sequence[str], in_order: Any, location: Location) -> None:
    """Code points sort as UTF-8 bytes do, so `str` can be compared."""
    if not all(map(in_order, keys, keys[1:])):
        raise FatalError(
            f"{location}: the listing is not in the order of UTF-8 bytes; is the endpoint really Google Cloud Storage?"
        )


def _cut(found: list[ObjectInfo], after: str | None, until: str | None, limit: int, *, is_last: bool) -> Page:
    """What is above `after` and up to `until`, at most `limit`; the cursor says whether there can be more."""
    ends = found[-1].key if found else None
    if after is not None and found and found[0].key <= after:
        if found[0].key < after:
            raise FatalError(f"a listing after {after!r} starts at {found[0].key!r}")
        found = found[1:]
    if until is not None and ends is not None and ends >= until:
        found = [info for info in found if info.key <= until]
        is_last = True
    if len(found) > limit:
        return Page(found[:limit], found[limit - 1].key)
    if is_last:
        return Page(found, None)
    return Page(found, found[-1].key if found else after or "")


def _version_page(rows: list[ObjectVersion], *, is_last: bool, server_time: str) -> VersionPage:
    """Newest first within a key; where more may come, the last key waits for the next page."""
    if not is_last:
        last = rows[-1].key
        rows = [row for row in rows if row.key != last]
    rows.sort(key=lambda row: (row.key, -int(row.version)))
    cursor = VersionCursor(rows[-1].key, rows[-1].version, rows[-1].modified_at) if not is_last else None
    return VersionPage(rows, cursor, server_time)


def _server_time(response: Response) -> str:
    """The `Date` of an answer as RFC 3339."""
    try:
        when = parsedate_to_datetime(response.headers["Date"])
    except (KeyError, ValueError, TypeError) as error:
        raise TransientError("list versions: the answer has no date") from error
    return f"{when.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
