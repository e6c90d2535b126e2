"""objects.list: pages in UTF-8 byte order, with prefix, delimiter, offsets, versions and fields.

Source: https://cloud.google.com/storage/docs/json_api/v1/objects/list
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from heavysync.loopback.model import Bucket, State, StoredObject, resource
from heavysync.loopback.schema import Tree, selector
from heavysync.loopback.wire import Answer, Call, Json, invalid_parameter, json_answer

_BOUND = ("prefix", "delimiter", "startOffset", "endOffset", "versions", "includeTrailingDelimiter")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Query:
    prefix: str
    delimiter: str
    start: str
    end: str | None
    versions: bool
    trailing: bool
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a page goes on: at `name`, above `generation` of it."""

    name: str
    generation: int = 0


def list_objects(state: State, call: Call) -> Answer:
    """GET b/BUCKET/o."""
    bucket = state.bucket(call.bucket)
    tree = selector(call.operation, call.query.get("fields", ""))
    query = _read(state, call)
    place = _from_token(call)
    page = _Page(query)
    for stored_or_prefix in _walk(bucket, query, place):
        if not page.add(stored_or_prefix):
            break
    body: Json = {"kind": "storage#objects"}
    if page.next is not None:
        body["nextPageToken"] = _to_token(call, page.next)
    if page.prefixes:
        body["prefixes"] = page.prefixes
    if tree is not None:
        body = {name: value for name, value in body.items() if name in tree}
    wanted: Tree | None = tree.get("items", {}) if tree is not None else None
    if page.items and wanted != {}:
        body["items"] = [resource(stored, state.url, wanted) for stored in page.items]
    return json_answer(body)


class _Page:
    """Collects entries up to the limit and remembers where the next page starts."""

    def __init__(self, query: _Query) -> None:
        self._query = query
        self.items: list[StoredObject] = []
        self.prefixes: list[str] = []
        self.next: _Place | None = None

    def add(self, entry: StoredObject | str) -> bool:
        """Take one entry; False when the page is full and the entry begins the next one."""
        if len(self.items) + len(self.prefixes) >= self._query.limit:
            if isinstance(entry, str):
                self.next = _Place(name=entry)
            else:
                self.next = _Place(name=entry.name, generation=entry.generation)
            return False
        if isinstance(entry, str):
            self.prefixes.append(entry)
        else:
            self.items.append(entry)
        return True


def _walk(bucket: Bucket, query: _Query, place: _Place) -> Iterator[StoredObject | str]:
    """Objects and common prefixes in order, from the place on."""
    start = max(query.start, query.prefix, place.name)
    while True:
        skip_to = None
        for name in bucket.walk(start):
            if not name.startswith(query.prefix) or (query.end is not None and name >= query.end):
                return
            found = _entries(bucket, query, place, name)
            if not found:
                continue
            common = _common_prefix(name, query)
            if common is None:
                yield from found
                continue
            yield common
            if query.trailing and name == common:
                yield from found
            skip_to = _after_all(common)
            break
        if skip_to is None:
            return
        start = skip_to


def _entries(bucket: Bucket, query: _Query, place: _Place, name: str) -> list[StoredObject]:
    if not query.versions:
        live = bucket.live.get(name)
        return [live] if live else []
    least = place.generation if name == place.name else 0
    return [stored for stored in bucket.versions(name) if stored.generation >= least]


def _common_prefix(name: str, query: _Query) -> str | None:
    if not query.delimiter:
        return None
    end = name.find(query.delimiter, len(query.prefix))
    return None if end < 0 else name[: end + len(query.delimiter)]


def _after_all(prefix: str) -> str | None:
    """The least text above everything that starts with the prefix; None if there is none."""
    head = prefix.rstrip("\U0010ffff")
    if not head:
        return None
    point = ord(head[-1]) + 1
    return head[:-1] + chr(0xE000 if point == 0xD800 else point)  # no surrogates in UTF-8


def _read(state: State, call: Call) -> _Query:
    asked = call.number("maxResults")
    if asked is not None and asked < 0:
        raise invalid_parameter("maxResults", f"Invalid value '{asked}'. Values must be within the range: [0, ]")
    return _Query(
        prefix=call.query.get("prefix", ""),
        delimiter=call.query.get("delimiter", ""),
        start=call.query.get("startOffset", ""),
        end=call.query.get("endOffset") or None,
        versions=call.flag("versions"),
        trailing=call.flag("includeTrailingDelimiter"),
        limit=min(asked or 1000, 1000, state.settings.page_limit),
    )


def _bound(call: Call) -> list[str]:
    return [call.query.get(name, "") for name in _BOUND]


def _to_token(call: Call, place: _Place) -> str:
    content: list[Any] = [place.name, place.generation, *_bound(call)]
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


def _from_token(call: Call) -> _Place:
    token = call.query.get("pageToken", "")
    if not token:
        return _Place(name="")
    try:
        name, generation, *bound = json.loads(base64.urlsafe_b64decode(token))
    except (ValueError, binascii.Error):
        raise invalid_parameter("pageToken", f"Invalid value '{token}'.") from None
    if bound != _bound(call):
        raise invalid_parameter("pageToken", "The page token belongs to another query.")
    return _Place(name=name, generation=generation)
