"""The state behind the API: buckets, objects with their versions, the clock, the settings."""

from __future__ import annotations

import base64
import hashlib
import itertools
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from awscrt import checksums as crt

from heavysync.loopback.schema import Tree
from heavysync.loopback.wire import ApiError, Json

if TYPE_CHECKING:
    from heavysync.loopback.rewrites import Rewrite
    from heavysync.loopback.sessions import Session


class Sums(NamedTuple):
    """The digests of a body; composite objects have no md5."""

    crc32c: int
    md5: bytes | None


def sums(data: bytes) -> Sums:
    """Compute both digests."""
    return Sums(crt.crc32c(data), hashlib.md5(data, usedforsecurity=False).digest())


def crc_text(crc: int) -> str:
    """Base64 of the four big-endian bytes."""
    return base64.b64encode(crc.to_bytes(4, "big")).decode()


@dataclass(slots=True, kw_only=True)
class StoredObject:
    """One version of an object.

    Attributes:
        fields: the writable fields that were given, `metadata` apart.
        metadata: custom metadata, None where there is none.
        components: how many objects were composed into it; None unless it is composite.
        deleted: when it became noncurrent, "" while it is live.
    """

    bucket: str
    name: str
    generation: int
    data: bytes
    sums: Sums
    fields: dict[str, str]
    metadata: dict[str, str] | None
    storage_class: str
    created: str
    updated: str
    metageneration: int = 1
    components: int | None = None
    deleted: str = ""

    @property
    def etag(self) -> str:
        """Changes with the content and with the metadata."""
        return base64.b64encode(f"{self.generation}/{self.metageneration}".encode()).decode()

    @property
    def md5_text(self) -> str | None:
        """Base64 of the md5, if there is one."""
        return None if self.sums.md5 is None else base64.b64encode(self.sums.md5).decode()


def _path(stored: StoredObject) -> str:
    return f"storage/v1/b/{stored.bucket}/o/{quote(stored.name, safe='')}"


def _plain(name: str) -> Callable[[StoredObject, str], Any]:
    return lambda stored, _url: stored.fields.get(name)


_SETTABLE = (
    "contentType",
    "contentEncoding",
    "contentDisposition",
    "contentLanguage",
    "cacheControl",
    "customTime",
)

GETTERS: dict[str, Callable[[StoredObject, str], Any]] = {
    "kind": lambda _stored, _url: "storage#object",
    "id": lambda stored, _url: f"{stored.bucket}/{stored.name}/{stored.generation}",
    "selfLink": lambda stored, url: f"{url}/{_path(stored)}",
    "mediaLink": lambda stored, url: f"{url}/download/{_path(stored)}?generation={stored.generation}&alt=media",
    "name": lambda stored, _url: stored.name,
    "bucket": lambda stored, _url: stored.bucket,
    "generation": lambda stored, _url: str(stored.generation),
    "metageneration": lambda stored, _url: str(stored.metageneration),
    **{name: _plain(name) for name in _SETTABLE},
    "storageClass": lambda stored, _url: stored.storage_class,
    "size": lambda stored, _url: str(len(stored.data)),
    "md5Hash": lambda stored, _url: stored.md5_text,
    "crc32c": lambda stored, _url: crc_text(stored.sums.crc32c),
    "componentCount": lambda stored, _url: stored.components,
    "etag": lambda stored, _url: stored.etag,
    "metadata": lambda stored, _url: stored.metadata,
    "timeCreated": lambda stored, _url: stored.created,
    "timeFinalized": lambda stored, _url: stored.created,
    "timeStorageClassUpdated": lambda stored, _url: stored.created,
    "updated": lambda stored, _url: stored.updated,
    "timeDeleted": lambda stored, _url: stored.deleted or None,
}
"""Every object field that the server emits; a value of None is left out."""


def resource(stored: StoredObject, url: str, wanted: Tree | None = None) -> Json:
    """The object as the API shows it, only the wanted fields of it computed."""
    result: Json = {}
    for name in GETTERS if wanted is None else wanted:
        getter = GETTERS.get(name)
        value = getter(stored, url) if getter else None
        if value is None:
            continue
        below = wanted[name] if wanted else None
        if below is not None and isinstance(value, dict):
            value = {key: value[key] for key in below if key in value}
        result[name] = value
    return result


@dataclass(slots=True, kw_only=True)
class Bucket:
    """A bucket; `names` has every name with a version, in UTF-8 byte order (which is the order of `str`)."""

    name: str
    location: str
    created: str
    updated: str
    storage_class: str = "STANDARD"
    config: Json = field(default_factory=dict)
    metageneration: int = 1
    live: dict[str, StoredObject] = field(default_factory=dict)
    noncurrent: dict[str, list[StoredObject]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    @property
    def versioned(self) -> bool:
        """Whether overwritten and deleted objects stay as noncurrent versions."""
        return bool((self.config.get("versioning") or {}).get("enabled"))

    def versions(self, name: str) -> Sequence[StoredObject]:
        """All versions of a name, oldest first."""
        live = self.live.get(name)
        return [*self.noncurrent.get(name, ()), *([live] if live else [])]

    def find(self, name: str, generation: int | None = None) -> StoredObject | None:
        """The live object, or the version with that generation."""
        live = self.live.get(name)
        if generation is None or (live and live.generation == generation):
            return live
        return next((old for old in self.noncurrent.get(name, ()) if old.generation == generation), None)

    def put(self, stored: StoredObject) -> None:
        """Make it the live object; the one before becomes noncurrent or is gone."""
        if stored.name in self.live:
            self.retire(stored.name, stored.created)
        if not self._has(stored.name):
            insort(self.names, stored.name)
        self.live[stored.name] = stored

    def retire(self, name: str, now: str) -> None:
        """End the live object: noncurrent with versioning, else gone."""
        stored = self.live.pop(name)
        if self.versioned:
            stored.deleted = now
            self.noncurrent.setdefault(name, []).append(stored)

    def remove(self, stored: StoredObject) -> None:
        """Remove one version for good."""
        if self.live.get(stored.name) is stored:
            del self.live[stored.name]
        else:
            self.noncurrent[stored.name].remove(stored)
        self.forget(stored.name)

    def forget(self, name: str) -> None:
        """Take a name without versions off the index."""
        if name in self.live or self.noncurrent.get(name):
            return
        self.noncurrent.pop(name, None)
        if self._has(name):
            del self.names[bisect_left(self.names, name)]

    def walk(self, start: str) -> Iterator[str]:
        """Names from `start` on."""
        return itertools.islice(self.names, bisect_left(self.names, start), None)

    def _has(self, name: str) -> bool:
        place = bisect_left(self.names, name)
        return place < len(self.names) and self.names[place] == name


@dataclass(slots=True)
class Settings:
    """What may be changed while the server runs.

    Attributes:
        clock_offset_s: seconds added to the clock; negative to make things old.
        page_limit: most entries of a list page, whatever `maxResults` asks.
        rewrite_bytes: bytes that one rewrite call moves between locations or classes without being told.
        require_auth: a request needs a bearer token that `/token` gave out.
        token_lifetime_s: seconds that a token lives.
    """

    clock_offset_s: float = 0.0
    page_limit: int = 1000
    rewrite_bytes: int = 1 << 30
    require_auth: bool = False
    token_lifetime_s: float = 3600.0


@dataclass(slots=True)
class State:
    """Everything the server holds.

    Attributes:
        url: the server's own base, for the links it hands out.
        uploads: resumable sessions by id; see `sessions`.
        rewrites: rewrites under way by token, None for an expired one; see `rewrites`.
        tokens: access tokens and when (time.monotonic) they end.
    """

    url: str = ""
    settings: Settings = field(default_factory=Settings)
    buckets: dict[str, Bucket] = field(default_factory=dict)
    uploads: dict[str, Session] = field(default_factory=dict)
    rewrites: dict[str, Rewrite | None] = field(default_factory=dict)
    tokens: dict[str, float] = field(default_factory=dict)
    _last: int = 0

    def now(self) -> str:
        """The time as RFC 3339 in UTC, with milliseconds."""
        moment = datetime.fromtimestamp(time.time() + self.settings.clock_offset_s, UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"

    def next_generation(self) -> int:
        """A number in microseconds that only ever grows."""
        moment = time.time_ns() // 1000 + int(self.settings.clock_offset_s * 1e6)
        self._last = max(self._last + 1, moment)
        return self._last

    def bucket(self, name: str) -> Bucket:
        """The bucket of that name.

        Raises:
            ApiError: 404.
        """
        if name not in self.buckets:
            raise ApiError(404, "notFound", "The specified bucket does not exist.")
        return self.buckets[name]
