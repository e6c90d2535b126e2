"""The heads of HTTP/1.1 messages: how a request's is written, and what an answer's is read into. Pure.

Nothing that could begin another line gets into a request: names of headers are tokens, values and targets hold neither
CR nor LF nor NUL, whatever a key or a metadata entry tries.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from heavysync.errors import PermanentError

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2

_NO_LENGTH = frozenset({"GET", "HEAD"})  # without a body these say nothing of its length

_FORMS_MOST = 500  # sets of headers that are remembered; user metadata make ever new ones
_KNOWN_MOST = 4096  # names that are remembered
_KNOWN_SIZE = 128  # bytes of such a name at most; a server could send 64 KiB

_forms: dict[tuple[str, ...], str] = {}
_read_before: dict[bytes, str] = {}


def read_headers(pairs: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers as text, names in lower case; several of one name are joined by ", ", bytes that are no UTF-8 surrogates."""
    if not pairs:
        return {}
    names, values = zip(*pairs, strict=True)
    try:
        headers = dict(zip(map(_read_before.__getitem__, names), map(bytes.decode, values), strict=True))
    except (KeyError, UnicodeDecodeError):
        return _read_singly(pairs)
    return headers if len(headers) == len(pairs) else _read_singly(pairs)


def _read_singly(pairs: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """The same where a name is new or comes twice, or the bytes are odd."""
    headers: dict[str, str] = {}
    for raw, data in pairs:
        name = _read_before.get(raw) or _read_name(raw)
        value = data.decode(errors="surrogateescape")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
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
    names = tuple(headers)
    values = tuple(headers.values())
    lines = (_forms.get(names) or _form(method, names)) % values
    length = f"Content-Length: {size}\r\n" if has_body or method not in _NO_LENGTH else ""
    try:
        head = f"{method} {target} HTTP/1.1\r\nHost: {place.shown}\r\n{length}{lines}\r\n".encode()
    except UnicodeEncodeError:
        head = b""
    joined = "".join(values)
    if not head or "\n" in joined or "\r" in joined or "\0" in joined:
        raise PermanentError(f"{method}: the value of a header holds what HTTP cannot carry", code="bad-header")
    return head


def _form(method: str, names: tuple[str, ...]) -> str:
    """The lines of headers of these names, with `%s` for each value."""
    for name in names:
        if not _TOKEN.fullmatch(name):
            raise PermanentError(f"{method}: {name!r} cannot be the name of a header", code="bad-header")
    if len(_forms) >= _FORMS_MOST:
        _forms.clear()
    _forms[names] = form = "".join([f"{name.replace('%', '%%')}: %s\r\n" for name in names])
    return form
