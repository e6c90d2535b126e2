"""The heads of HTTP/1.1 messages: how a request's is written, and what an answer's is read into. Pure.

Nothing that could begin another line gets into a request: names of headers are tokens, values and targets hold neither
CR nor LF nor NUL, whatever a key or a metadata entry tries.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

from heavysync.errors import PermanentError

_Default = TypeVar("_Default")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2

_NO_LENGTH = frozenset({"GET", "HEAD"})  # without a body these say nothing of its length

_KNOWN_MOST = 4096  # names that are remembered; user metadata make ever new ones
_KNOWN_SIZE = 128  # bytes of such a name at most; a server could send 64 KiB

_sent_before: set[str] = set()
_read_before: dict[bytes, str] = {}


class Headers(dict[str, str]):
    """Headers of an answer, names in lower case; asked for in any case. Several of one name are joined by ", "."""

    __slots__ = ()

    def __getitem__(self, name: str) -> str:
        return dict.__getitem__(self, name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and dict.__contains__(self, name.lower())

    def get(self, name: str, default: _Default = None) -> str | _Default:  # type: ignore[assignment]
        """The value, or `default`."""
        return dict.get(self, name.lower(), default)


def read_headers(pairs: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers as text; bytes that are no UTF-8 become surrogates."""
    headers = Headers()
    count = 0
    for raw, data in pairs:
        name = _read_before.get(raw) or _read_name(raw)
        try:
            value = data.decode()
        except UnicodeDecodeError:
            value = data.decode(errors="surrogateescape")
        old = headers.setdefault(name, value)
        count += 1
        if len(headers) != count:
            count -= 1
            headers[name] = f"{old}, {value}"
    return headers


def _read_name(raw: bytes) -> str:
    name = raw.decode("latin-1").lower()
    if len(_read_before) < _KNOWN_MOST and len(raw) <= _KNOWN_SIZE:
        _read_before[raw] = name
    return name


class Place(NamedTuple):
    """A server, as URLs name it.

    Attributes:
        host: to connect to.
        port: to connect to.
        is_tls: whether TLS is spoken.
        shown: the value of the Host header.
    """

    host: str
    port: int
    is_tls: bool
    shown: str


def parse_origin(origin: str) -> Place:
    """Read `https://host:port`.

    Raises:
        ValueError: it names no server.
    """
    parts = urlsplit(origin)
    if parts.scheme not in {"http", "https"} or "@" in parts.netloc or not parts.hostname:
        raise ValueError(origin)
    is_tls = parts.scheme == "https"
    host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
    usual = 443 if is_tls else 80
    port = parts.port or usual
    shown = f"[{host}]" if ":" in host else host
    if any(char <= " " or char == "\x7f" for char in shown):
        raise ValueError(origin)
    return Place(host, port, is_tls, shown if port == usual else f"{shown}:{port}")


def split_url(url: str) -> tuple[str, str]:
    """Origin and target of a URL."""
    end = url.find("/", 8)
    if end < 0:
        end = url.find("?", 8)
        return (url, "/") if end < 0 else (url[:end], "/" + url[end:])
    return url[:end], url[end:]


def write_head(method: str, place: Place, target: str, headers: Mapping[str, str], size: int, *, has_body: bool) -> bytes:
    """The head of a request.

    Args:
        method: upper case.
        place: who is asked.
        target: path and query, percent-encoded.
        headers: all but Host and Content-Length.
        size: bytes of the body.
        has_body: False: there is none, which is not the same as an empty one.

    Raises:
        PermanentError: something in it cannot be sent.
    """
    if not (target.isascii() and target.isprintable()) or " " in target:
        raise PermanentError(f"{method}: the address of the request is malformed", code="bad-url")
    if not headers.keys() <= _sent_before:
        _prove_names(method, headers)
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    length = f"Content-Length: {size}\r\n" if has_body or method not in _NO_LENGTH else ""
    try:
        head = f"{method} {target} HTTP/1.1\r\nHost: {place.shown}\r\n{length}{lines}\r\n".encode()
    except UnicodeEncodeError:
        head = b""
    values = "".join(headers.values())
    if not head or "\n" in values or "\r" in values or "\0" in values:
        raise PermanentError(f"{method}: the value of a header holds what HTTP cannot carry", code="bad-header")
    return head


def _prove_names(method: str, headers: Mapping[str, str]) -> None:
    for name in headers:
        if not _TOKEN.fullmatch(name):
            raise PermanentError(f"{method}: {name!r} cannot be the name of a header", code="bad-header")
    if len(_sent_before) < _KNOWN_MOST:
        _sent_before.update(headers)
