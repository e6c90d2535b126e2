"""Listings of Google Cloud Storage: resumed by key, proven to be listings, in order.

A page token is never kept: its life is not documented. A call follows one only where the page brought no key
that it could go on after. Source: https://docs.cloud.google.com/storage/docs/json_api/v1/objects/list
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from heavysync.errors import FatalError, NotFoundError, TransientError
from heavysync.objects import Location, ObjectInfo, ObjectVersion, Page, VersionCursor, VersionPage
from heavysync.stores.answers import MOST_EMPTY_PAGES, moment, words
from heavysync.stores.gcs_json import DAMAGE, FIELDS, VERSION_FIELDS, infos_of, version_of
from heavysync.stores.gcs_wire import GcsWire, decoded
from heavysync.stores.http import OversizeError, Response

PAGE_MAX = 1000
"""Most rows that Google puts on a page."""

VERSIONS_MAX = 1_000_000
"""Versions of one key that are held in memory at most; each takes some 500 bytes."""

_MEMBERS = {"kind", "nextPageToken", "prefixes", "items"}  # all that a page can have


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
        followed: set[str] = set()
        while True:
            answer, _ = await self._ask(query)
            try:
                found = infos_of(self._items(answer, query), len(self._prefix))
            except DAMAGE as error:
                raise TransientError(f"list {self._location}: an item of the page is damaged: {error!r}") from error
            _prove_order([info.key for info in found], operator.lt, self._location)
            token = self._token(answer, followed)
            page = _cut(found, after, until, limit, is_last=token is None)
            if page.objects or token is None or page.cursor is None:
                return page
            query["pageToken"] = token

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
        followed: set[str] = set()
        while True:
            answer, response = await self._ask(query)
            try:
                found = [version_of(item, len(self._prefix)) for item in self._items(answer, query)]
            except DAMAGE as error:
                raise TransientError(f"list versions of {self._location}: an item is damaged: {error!r}") from error
            _prove_order([row.key for row in (*rows[-1:], *found)], operator.le, self._location)
            wanted = [row for row in found if low is None or row.key > low]
            inside = [row for row in wanted if until is None or row.key <= until]
            rows += inside
            if len(rows) > VERSIONS_MAX:
                raise FatalError(f"{self._location}: {rows[0].key!r} has more than {VERSIONS_MAX} versions, too many to hold")
            token = self._token(answer, followed) if len(inside) == len(wanted) else None
            if token is None or (rows and rows[0].key != rows[-1].key):
                return _version_page(rows, is_last=token is None, server_time=_server_time(response))
            query["pageToken"] = token

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
        except OversizeError:
            rows = int(query["maxResults"]) // 8
            if rows < 1:
                raise
            query["maxResults"] = str(rows)
            return await self._ask(query)
        except NotFoundError as error:
            raise FatalError(f"{self._location}: there is no such bucket: {error}") from error
        answer = decoded(response, f"list {self._location}")
        if answer.get("kind") != "storage#objects":
            raise TransientError(f"list {self._location}: not a listing: it has no kind")
        if unknown := answer.keys() - _MEMBERS:  # a damaged name of a member would read as a page without it
            raise TransientError(f"list {self._location}: not a listing: it has {words(min(unknown), 60)!r}")
        return answer, response

    def _items(self, answer: dict[str, Any], query: dict[str, str]) -> list[dict[str, Any]]:
        """The resources of a page, all of them below the prefix, and the last one (they ascend) below the end."""
        items: list[dict[str, Any]] = answer.get("items", [])
        if type(items) is not list or set(map(type, items)) - {dict}:
            raise TypeError("items")
        prefix, end = self._prefix, query.get("endOffset")
        is_below = not prefix or all(item["name"].startswith(prefix) for item in items)
        if not is_below or (end is not None and items and items[-1]["name"] >= end):
            raise TransientError(f"list {self._location}: not the listing that was asked for")
        return items

    def _token(self, answer: dict[str, Any], followed: set[str]) -> str | None:
        """The token of the next page; None after the last one. It has to lead on."""
        if "nextPageToken" not in answer:
            return None
        token = answer["nextPageToken"]
        if not isinstance(token, str) or not token:
            raise TransientError(f"list {self._location}: the token of the next page is damaged")
        if token in followed or len(followed) >= MOST_EMPTY_PAGES:
            raise TransientError(f"list {self._location}: its pages lead in a circle, or nowhere")
        followed.add(token)
        return token


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
    when = moment(response.headers.get("date"))
    if when is None:
        raise TransientError("list versions: the answer has no date")
    return when.isoformat(timespec="seconds").replace("+00:00", "Z")
