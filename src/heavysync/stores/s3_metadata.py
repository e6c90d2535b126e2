"""Metadata as S3 headers, both ways. Pure.

User metadata names are lower case; values outside printable ASCII travel as RFC 2047 words, which S3
decodes on a write and produces on a read. Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
"""

from __future__ import annotations

import base64
import binascii
import quopri
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from urllib.parse import quote

from heavysync.objects import Metadata

_USER = "x-amz-meta-"
_USER_LIMIT = 2048  # bytes of UTF-8 of all names and values (UsingMetadata.html)

_FIXED = {
    "content_type": "content-type",
    "cache_control": "cache-control",
    "content_disposition": "content-disposition",
    "content_language": "content-language",
    "content_encoding": "content-encoding",
    "expires": "expires",
    "website_redirect": "x-amz-website-redirect-location",
}

_FIELDS = {header: name for name, header in _FIXED.items()}

_NAMES = Metadata._fields[:-2]

_HEADERS = tuple(_FIXED[name] for name in _NAMES)

_NONE = Metadata()

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PLAIN = re.compile(r"[\x20-\x7e]*")
_WORD = re.compile(r"=\?([\w-]+)\?([BbQq])\?([^?\s]*)\?=")
_BETWEEN = re.compile(r"(\?=)[ \t]+(=\?)")

_WORD_BYTES = 45  # 60 characters of base64: RFC 2047 allows words of 75


def to_headers(metadata: Metadata) -> dict[str, str]:
    """The headers that give an object this metadata; tags travel apart, in `tag_header`."""
    headers = {header: value for header, value in zip(_HEADERS, metadata.fixed, strict=True) if value is not None}
    for name, value in metadata.user.items():
        headers[_USER + name.lower()] = _encode(value)
    return headers


def tag_header(metadata: Metadata) -> dict[str, str]:
    """The header that gives an object its tags; empty without tags."""
    if not metadata.tags:
        return {}
    return {"x-amz-tagging": "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in metadata.tags)}


def from_headers(headers: Mapping[str, str]) -> Metadata:
    """The metadata that an answer with these headers, their names in lower case, carries."""
    telling = _telling(tuple(headers))
    if not telling:
        return _NONE
    fixed: dict[str, str | None] = {}
    user: dict[str, str] = {}
    for header, name, is_user in telling:
        value = text(headers[header])
        if is_user:
            user[name] = decode_words(value)
        else:
            fixed[name] = value
    if (encoding := fixed.get("content_encoding")) is not None:
        fixed["content_encoding"] = _without_chunking(encoding)
    return Metadata._make([*map(fixed.get, _NAMES), user, ()])


@lru_cache(maxsize=64)
def _telling(headers: tuple[str, ...]) -> tuple[tuple[str, str, bool], ...]:
    """Which headers hold metadata, the name of each, and whether the user gave it. Few sets of names come from a server."""
    found = []
    for header in headers:
        if header in _FIELDS:
            found.append((header, _FIELDS[header], False))
        elif header.startswith(_USER):
            found.append((header, header[len(_USER) :], True))
    return tuple(found)


def problem(metadata: Metadata) -> str | None:
    """Why S3 cannot keep this metadata, in plain words; None if it can."""
    if not metadata.tags and _is_plain(metadata):
        return None
    return next(_problems(metadata), None)


def _is_plain(metadata: Metadata) -> bool:
    """Whether there surely is nothing to say about metadata without tags, as of most objects: a look at all texts at once."""
    user = metadata.user
    names, values = "".join(user), "".join(user.values())
    fixed = "".join(filter(None, metadata.fixed))
    return (
        len(names) + len(values) <= _USER_LIMIT
        and values.isascii()
        and (not user or ("" not in user and _TOKEN.fullmatch(names) is not None))
        and _PLAIN.fullmatch(fixed) is not None
    )


def _problems(metadata: Metadata) -> Iterator[str]:
    for name, header in _FIXED.items():
        if _CONTROL.search(getattr(metadata, name) or ""):
            yield f"{header} holds a control character"
    names = [name.lower() for name in metadata.user]
    if len(set(names)) < len(names):
        yield "two names of user metadata differ in case only, and S3 keeps lower case"
    for name in names:
        if not _TOKEN.fullmatch(name):
            yield f"the user metadata name {name!r} cannot be the name of an HTTP header"
    try:
        size = sum(len(name.encode()) + len(value.encode()) for name, value in metadata.user.items())
    except UnicodeEncodeError:
        yield "user metadata hold invalid Unicode"
        return
    if size > _USER_LIMIT:
        yield f"user metadata take {size} bytes and S3 keeps at most {_USER_LIMIT}"
    if len(metadata.tags) > 10 or any(len(k) > 128 or len(v) > 256 for k, v in metadata.tags):
        yield "S3 keeps at most 10 tags of 128 and 256 characters"


def _without_chunking(encoding: str) -> str | None:
    """`aws-chunked` is how a client sent the object, not how it is encoded; S3-likes let it through. None: nothing is left."""
    if "aws-chunked" not in encoding.lower():
        return encoding or None
    kept = [part for part in map(str.strip, encoding.split(",")) if part.lower() != "aws-chunked"]
    return encoding if len(kept) == encoding.count(",") + 1 else ",".join(filter(None, kept)) or None


def text(value: str) -> str:
    """A header value as text: aiohttp keeps bytes that are not UTF-8 as surrogates; they are Latin-1 then."""
    if value.isascii():
        return value
    raw = value.encode("utf-8", "surrogateescape")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _encode(value: str) -> str:
    """A value as a header can carry it, so that `decode_words` gives it back."""
    if _PLAIN.fullmatch(value) and value == value.strip() and "  " not in value and decode_words(value) == value:
        return value
    words = []
    chunk = b""
    for character in value:
        raw = character.encode()
        if len(chunk) + len(raw) > _WORD_BYTES:
            words.append(chunk)
            chunk = b""
        chunk += raw
    return " ".join(f"=?UTF-8?B?{base64.b64encode(word).decode()}?=" for word in [*words, chunk])


def decode_words(value: str) -> str:
    """Decode RFC 2047 words; what is none, or is damaged, stays as it is."""
    if "=?" not in value:
        return value
    try:
        return _WORD.sub(_decode_word, _BETWEEN.sub(r"\1\2", value))
    except (ValueError, LookupError, binascii.Error):
        return value


_CHARSETS = {"utf-8", "us-ascii", "iso-8859-1"}
"""What is decoded; Python would know codecs whose output cannot be written again."""


def _decode_word(word: re.Match[str]) -> str:
    charset, encoding, text = word.groups()
    if charset.lower() not in _CHARSETS:
        raise LookupError(charset)
    if encoding in "bB":
        return base64.b64decode(text, validate=True).decode(charset)
    return quopri.decodestring(text.encode(), header=True).decode(charset)
