"""What the fuzz tests share: settings, guards against hanging, damage, and stores whose server says anything at all.

Everything is drawn deterministically. `HEAVYSYNC_FUZZ=20` draws twenty times as much, at random.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from heavysync.errors import HeavysyncError
from heavysync.objects import Location, Metadata, ObjectInfo, Page, VersionPage
from heavysync.purging import parse_time
from heavysync.stores.gcs import GcsStore
from heavysync.stores.gcs_wire import GcsOptions, GcsWire
from heavysync.stores.http import Door, OversizeError, Response
from heavysync.stores.s3 import S3Options, S3Store
from heavysync.stores.s3_session import Endpoint
from heavysync.stores.s3_wire import Wire

FACTOR = int(os.environ.get("HEAVYSYNC_FUZZ", "1"))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
"""Keys, and whatever else a person may call a thing: all Unicode but surrogates."""


def fuzz(examples: int, **more: Any) -> settings:
    """Settings of a test: so many examples, always the same ones."""
    return settings(
        **{
            "max_examples": examples * FACTOR,
            "derandomize": FACTOR == 1,
            "deadline": None,
            "database": None,
            "phases": [Phase.explicit, Phase.generate, Phase.shrink],
            "suppress_health_check": list(HealthCheck),
            **more,
        }
    )


class HangError(AssertionError):
    """It does not come to an end."""


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Give up after so many seconds of processor time: hundreds of times what is needed, so that load is no matter."""

    def ring(*_: object) -> None:
        raise HangError(f"not done after {seconds} s of processor time")

    before = signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def outcome(call: Callable[[], Any]) -> Any:
    """The answer, or the error of ours; any other error goes through."""
    try:
        return call()
    except HeavysyncError as error:
        found = error
    assert len(str(found)) < 20_000, "a server can fill logs and state with its error message"
    return found


def peak(call: Callable[[], object]) -> int:
    """Bytes of memory that a call takes at most."""
    tracemalloc.start()
    try:
        outcome(call)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def drive(step: Any) -> Any:
    """Run a coroutine that never waits."""
    try:
        step.send(None)
    except StopIteration as end:
        return end.value
    step.close()
    raise AssertionError("it waits for something")


class Script(Door):
    """Stands in for the door: gives the answers in order, the last one for ever, and tells when there is no end."""

    def __init__(self, *answers: Response, most: int = 500) -> None:
        super().__init__(connections=1)
        self._answers = list(answers)
        self._most = most
        self.requests: list[tuple[str, str]] = []

    async def request(
        self, method: str, url: str, headers: object, body: object = (), *, limit: int, stall_s: float | None = None
    ) -> Response:
        self.requests.append((method, url))
        if len(self.requests) > self._most:
            raise HangError(f"{len(self.requests)} requests, and no end")
        response = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if method == "HEAD":
            return Response(response.status, response.headers, [])
        if response.size > (limit if response.status < 300 else max(limit, 1 << 20)):
            raise OversizeError("more bytes came than were asked for", response.headers)
        return response


def answer(status: int = 200, body: bytes = b"", headers: dict[str, str] | None = None) -> Response:
    """An answer as the door gives it."""
    return Response(
        status,
        {"date": "Thu, 01 Jan 2026 00:00:00 GMT", **{name.lower(): value for name, value in (headers or {}).items()}},
        [body],
    )


def s3_store(door: Script, prefix: str = "") -> S3Store:
    """An S3 store that asks anonymously."""

    async def nothing(*_: object) -> None:
        return None

    session = SimpleNamespace(
        endpoint=Endpoint("http://h", "h", "/b", "r", ""),
        clock_offset=0.0,
        identity="",
        secrets=(),
        signer=nothing,
        renew=nothing,
        relocate=nothing,
    )
    wire = Wire(Location(scheme="s3", bucket="b", prefix=prefix), session, door, request_payer=False, stall_s=1)
    return S3Store(wire, S3Options())


def gcs_store(door: Script, prefix: str = "") -> GcsStore:
    """A GCS store that asks anonymously."""
    options = GcsOptions(endpoint_url="http://127.0.0.1:1", anonymous=True)
    return GcsStore(Location(scheme="gs", bucket="b", prefix=prefix), options, GcsWire(door, options, None))


def prove_info(info: ObjectInfo) -> None:
    """Every field is what `ObjectInfo` says, and fits into the state."""
    assert type(info.size) is int
    assert 0 <= info.size < 1 << 63
    for name in ("key", "etag", "modified_at"):
        assert isinstance(getattr(info, name), str), name
    for name in ("md5", "crc32c", "version", "storage_class", "metadata"):
        assert getattr(info, name) is None or isinstance(getattr(info, name), str), name
    for value in info:
        if isinstance(value, str):
            value.encode()
    prove_metadata(Metadata.from_json(info.metadata) if info.metadata is not None else Metadata())


def prove_metadata(metadata: Metadata) -> None:
    """Text in every place."""
    for name in Metadata.__slots__[:7]:
        assert getattr(metadata, name) is None or isinstance(getattr(metadata, name), str), name
    assert all(isinstance(name, str) and isinstance(value, str) for name, value in metadata.user.items())


def prove_page(page: Page, after: str | None, until: str | None) -> None:
    """Strictly ascending keys above `after` and up to `until`; a cursor that leads on."""
    keys = [info.key for info in page.objects]
    assert keys == sorted(set(keys))
    assert after is None or not keys or keys[0] > after
    assert until is None or not keys or keys[-1] <= until
    if page.cursor is not None:
        assert not keys or page.cursor >= keys[-1]
        assert after is None or page.cursor > after, "a walk would not come on"
    for info in page.objects:
        prove_info(info)


def prove_versions(page: VersionPage, after: object, first: str | None, until: str | None) -> None:
    """Ascending keys in bounds, times that can be read, a cursor that leads on."""
    keys = [row.key for row in page.versions]
    assert keys == sorted(keys)
    assert first is None or not keys or keys[0] > first
    assert until is None or not keys or keys[-1] <= until
    assert page.cursor is None or page.cursor != after, "a walk would not come on"
    parse_time(page.server_time)
    for row in page.versions:
        assert isinstance(row.version, str)
        assert type(row.size) is int
        row.key.encode()
        row.version.encode()
        parse_time(row.modified_at)
        if row.noncurrent_since is not None:
            parse_time(row.noncurrent_since)


_PIECES = [
    b"<",
    b">",
    b"&lt;",
    b"&#0;",
    b"&#xD800;",
    b"&#" + b"9" * 5000 + b";",
    b"%",
    b"%ED%A0%80",
    b"%FF",
    b"+",
    b"<Contents>",
    b"</Contents>",
    b"<!--",
    b"-->",
    b"<![CDATA[",
    b"]]>",
    b"<!DOCTYPE a>",
    b"<?x ?>",
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\r\n",
    b"-",
    b"9" * 25,
    b"9" * 5000,
    b"1e999",
    b"NaN",
    b"Infinity",
    b"null",
    b"true",
    b"false",
    b"[",
    b"]",
    b"{",
    b"}",
    b'"',
    b"\\ud800",
    b",",
    b"\xe2\x80\xa8",
]


@st.composite
def damaged(draw: Any, documents: st.SearchStrategy[bytes]) -> bytes:
    """A document with up to four damages: bytes flipped, cut out, doubled, put in; or cut off; or none."""
    body = draw(documents)
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(body)))
        end = min(len(body), start + draw(st.integers(0, 60)))
        match draw(st.sampled_from(["flip", "cut", "double", "put", "replace", "end"])):
            case "flip" if start < len(body):
                body = body[:start] + bytes([body[start] ^ 1 << draw(st.integers(0, 7))]) + body[start + 1 :]
            case "cut":
                body = body[:start] + body[end:]
            case "double":
                body = body[:end] + body[start:end] + body[end:]
            case "put":
                body = body[:start] + draw(st.sampled_from(_PIECES)) + body[start:]
            case "replace":
                body = body[:start] + draw(st.sampled_from(_PIECES)) + body[end:]
            case "end":
                body = body[:start]
    return body


_ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    2**70,
    1.5,
    float("inf"),
    float("nan"),
    "",
    "x",
    "-1",
    "9" * 30,
    "\ud800",
    "é",
    [],
    {},
    [1],
    {"a": 1},
]


@st.composite
def warped(draw: Any, values: st.SearchStrategy[Any]) -> bytes:
    """A JSON document in which up to three members have other values, other names, or are gone."""
    value = json.loads(json.dumps(draw(values)))
    for _ in range(draw(st.integers(0, 3))):
        places = list(_places(value))
        if not places:
            break
        holder, name = draw(st.sampled_from(places))
        match draw(st.sampled_from(["odd", "odd", "odd", "gone", "named", "double"])):
            case "odd":
                holder[name] = copy.copy(draw(st.sampled_from(_ODD)))
            case "gone":
                del holder[name]
            case "named" if isinstance(holder, dict):
                holder[f"{name}x"] = holder.pop(name)
            case "double" if isinstance(holder, list):
                holder.append(holder[name])
    return json.dumps(value).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in list(pairs):
        yield value, name
        yield from _places(inner)
