"""The demo's own look at both buckets: plain HTTP requests, none of heavysync's stores, no SDK, no environment.

The servers check no signatures, so none is computed; moto only wants to see that there is one.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote_plus, urlencode

from heavysync.cli.demo_objects import Sample

_AUTHORIZATION = "AWS4-HMAC-SHA256 Credential=demo/20250101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
_XML = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_TIMEOUT_S = 60.0
_FIXED = {
    "content-type": "contentType",
    "cache-control": "cacheControl",
    "content-disposition": "contentDisposition",
    "content-language": "contentLanguage",
    "content-encoding": "contentEncoding",
}
"""Names of the fixed metadata: S3's header, Google's field."""

STAMP = "heavysync"
"""The one entry of user metadata that heavysync adds to a copy."""


class HttpError(Exception):
    """A server of the demo answered what it should not."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """What a bucket holds at one key.

    Attributes:
        size: bytes as stored.
        md5: hex, computed here from the bytes that were read.
        metadata: the five fixed headers that are set, and user metadata with `x-amz-meta-` before the name.
    """

    size: int
    md5: str
    metadata: Mapping[str, str]


def request(
    address: str,
    method: str,
    target: str,
    *,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    expect: tuple[int, ...] = (200,),
) -> Answer:
    """One request on a connection of its own; no proxy is ever asked.

    Args:
        address: `127.0.0.1:port`.
        method: upper case.
        target: percent-encoded path and query.
        body: to send.
        headers: to send.
        expect: statuses that are an answer.

    Raises:
        HttpError: another status, or no answer.
    """
    connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_S)
    try:
        connection.request(method, target, body=body or None, headers=dict(headers or {}))
        response = connection.getresponse()
        answer = Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    except (OSError, http.client.HTTPException) as error:
        raise HttpError(f"{method} http://{address}{target}: {type(error).__name__}: {error}") from error
    finally:
        connection.close()
    if answer.status not in expect:
        raise HttpError(f"{method} http://{address}{target}: {answer.status} {answer.body[:300]!r}")
    return answer


class S3Bucket:
    """A bucket of the loopback S3 server.

    Args:
        address: `127.0.0.1:port`.
        name: of the bucket.
    """

    def __init__(self, address: str, name: str) -> None:
        self._address = address
        self.name = name

    def create(self) -> None:
        """Make the bucket."""
        self._request("PUT", f"/{self.name}")

    def put(self, sample: Sample) -> None:
        """Write an object, in parts where it has some."""
        headers = sample.headers | {f"x-amz-meta-{name}": value for name, value in sample.user.items()}
        if not sample.parts:
            self._request("PUT", self._target(sample.key), sample.data, headers)
            return
        target = self._target(sample.key)
        begun = _xml(self._request("POST", f"{target}?uploads", headers=headers))
        upload = {"uploadId": _text(begun, "UploadId")}
        parts, start = [], 0
        for number, size in enumerate(sample.parts, 1):
            query = urlencode({"partNumber": number, **upload})
            etag = self._request("PUT", f"{target}?{query}", sample.data[start : start + size]).headers["etag"]
            parts.append(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
            start += size
        body = f"<CompleteMultipartUpload>{''.join(parts)}</CompleteMultipartUpload>".encode()
        self._request("POST", f"{target}?{urlencode(upload)}", body)

    def delete(self, key: str) -> None:
        """Remove an object."""
        self._request("DELETE", self._target(key), expect=(204,))

    def keys(self) -> Iterator[str]:
        """All keys."""
        token: dict[str, str] = {}
        while True:
            query = urlencode({"list-type": 2, "encoding-type": "url", **token})
            page = _xml(self._request("GET", f"/{self.name}?{query}"))
            yield from (unquote_plus(_text(entry, "Key")) for entry in page.iter(f"{_XML}Contents"))
            if _text(page, "IsTruncated") != "true":
                return
            token = {"continuation-token": _text(page, "NextContinuationToken")}

    def read(self, key: str) -> Seen:
        """Read an object."""
        answer = self._request("GET", self._target(key))
        kept = {name: value for name, value in answer.headers.items() if name in _FIXED or name.startswith("x-amz-meta-")}
        return _seen(answer.body, kept)

    def _target(self, key: str) -> str:
        return f"/{self.name}/{quote(key, safe='/')}"

    def _request(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        expect: tuple[int, ...] = (200,),
    ) -> Answer:
        signed = {"Authorization": _AUTHORIZATION, **(headers or {})}
        return request(self._address, method, target, body=body, headers=signed, expect=expect)


class GcsBucket:
    """A bucket of the loopback Google Cloud Storage server, and the server's log and rules.

    Args:
        address: `127.0.0.1:port`.
        name: of the bucket.
    """

    def __init__(self, address: str, name: str) -> None:
        self._address = address
        self.name = name

    def keys(self) -> Iterator[str]:
        """All keys."""
        return (resource["name"] for resource in self.resources())

    def resources(self) -> Iterator[dict[str, Any]]:
        """What the server tells of each object."""
        token: dict[str, str] = {}
        while True:
            page = self._json("GET", f"/storage/v1/b/{self.name}/o?{urlencode(token)}")
            yield from page.get("items", ())
            if "nextPageToken" not in page:
                return
            token = {"pageToken": page["nextPageToken"]}

    def read(self, resource: Mapping[str, Any]) -> Seen:
        """Read an object's bytes as they are stored, and put them beside what its resource tells."""
        target = f"/storage/v1/b/{self.name}/o/{quote(resource['name'], safe='')}?alt=media"
        kept = {header: resource[field] for header, field in _FIXED.items() if resource.get(field)}
        user = {name: value for name, value in resource.get("metadata", {}).items() if name != STAMP}
        body = request(self._address, "GET", target, headers={"Accept-Encoding": "gzip"}).body
        return _seen(body, kept | {f"x-amz-meta-{name}": value for name, value in user.items()})

    def trouble(self, **rule: Any) -> None:
        """Add a rule that makes requests slow or fail; see `loopback.rules.Rule`."""
        self._json("POST", "/_loopback/rules", json.dumps({"count": None, **rule}).encode())

    def end_trouble(self) -> None:
        """Remove all rules."""
        request(self._address, "DELETE", "/_loopback/rules", expect=(204,))

    def counts(self) -> dict[str, int]:
        """How often the server gave which answer, as in `{"insert 200": 17}`."""
        found: dict[str, int] = self._json("GET", "/_loopback/log?entries=0")["statuses"]
        return found

    def log(self) -> list[dict[str, Any]]:
        """All requests since `forget_log`."""
        found: list[dict[str, Any]] = self._json("GET", "/_loopback/log")["entries"]
        return found

    def forget_log(self) -> None:
        """Let the log start anew."""
        request(self._address, "DELETE", "/_loopback/log", expect=(204,))

    def _json(self, method: str, target: str, body: bytes = b"") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(request(self._address, method, target, body=body).body)
        return found


def _seen(body: bytes, metadata: Mapping[str, str]) -> Seen:
    return Seen(len(body), hashlib.md5(body, usedforsecurity=False).hexdigest(), dict(metadata))


def _xml(answer: Answer) -> ET.Element:
    return ET.fromstring(answer.body)  # noqa: S314 - from a server that the demo itself has started


def _text(element: ET.Element, name: str) -> str:
    found = element.findtext(f"{_XML}{name}")
    if found is None:
        raise HttpError(f"no {name} in {ET.tostring(element)[:300]!r}")
    return found
