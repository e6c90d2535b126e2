"""A signed S3 request over the door, and what goes wrong with it: credentials, clock, region, errors.

Everything that the store asks of S3 goes through `Wire.send`: one request, no second attempt; what heals by
asking again (fresh credentials, the right region, the server's clock) is put right here and raised as a
`TransientError`.
"""

from __future__ import annotations

import math
import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from heavysync.errors import FatalError, HeavysyncError, PermanentError, TransientError
from heavysync.stores import s3_errors
from heavysync.stores.answers import has_overgrown_xml, moment, without
from heavysync.stores.sigv4 import encode_path, encode_query

if TYPE_CHECKING:
    from heavysync.objects import Location
    from heavysync.stores.http import Door, Response
    from heavysync.stores.s3_errors import Operation
    from heavysync.stores.s3_session import Session
    from heavysync.stores.sigv4 import Signer

Query = Sequence[tuple[str, str]]

XML_LIMIT = 16 << 20  # bytes; 1,000 keys of 1,024 bytes, each byte escaped as %XX, come to 4 MB

_SLOW = 10  # times the stall limit: S3 copies 5 GB, or joins 10,000 parts, before it says a word

_SKEW_S = 60  # S3 bears 15 minutes

_NAMESPACE = re.compile(rb"""\sxmlns=(?:"[^"]*"|'[^']*')""")


class Sent(NamedTuple):
    """What a request was sent with, to tell an old fault from a new one.

    Attributes:
        signer: of the request; None: anonymous.
        region: it was signed for.
        clock_offset: it was signed with, in seconds.
    """

    signer: Signer | None
    region: str
    clock_offset: float


class Wire:
    """Signed requests to one bucket.

    Args:
        location: where the store is rooted; its prefix is added to every key.
        session: credentials and endpoint.
        door: the network.
        request_payer: say that we pay.
        stall_s: seconds without progress that end a request.
    """

    def __init__(self, location: Location, session: Session, door: Door, *, request_payer: bool, stall_s: float) -> None:
        self.location = location
        self.session = session
        self._door = door
        self._payer = {"x-amz-request-payer": "requester"} if request_payer else {}
        self._slow_s = stall_s * _SLOW
        self._regions: set[str] = set()
        self.bucket_seen_at = -math.inf  # monotonic seconds at the last success

    async def send(
        self,
        operation: Operation,
        method: str,
        key: str | None,
        *,
        query: Query = (),
        headers: Mapping[str, str] | None = None,
        body: Sequence[bytes] = (),
        limit: int = XML_LIMIT,
    ) -> Response:
        """Send one request about a relative key, or about the bucket (None); answer any 2xx.

        Args:
            operation: what it is for.
            method: upper case.
            key: relative; None for the bucket itself.
            query: decoded names and values.
            headers: names in lower case.
            body: chunks.
            limit: most bytes of the answer's body.

        Raises:
            HeavysyncError: of the class that the answer means.
        """
        endpoint = self.session.endpoint
        signer = await self.session.signer()
        offset = self.session.clock_offset
        path = self._path(endpoint.root, key)
        text = encode_query(query) if query else ""
        plain = {**self._payer, **headers} if headers else self._payer

        def signed() -> Mapping[str, str]:
            if signer is None:
                return plain
            return signer.sign(method, endpoint.host, path, text, plain, now=time.time() + offset)

        url = f"{endpoint.origin}{path}?{text}" if text else endpoint.origin + path
        stall_s = self._slow_s if operation.is_slow else None
        response = await self._door.request(method, url, signed, body, limit=limit, stall_s=stall_s)
        if 200 <= response.status < 300:
            self.bucket_seen_at = time.monotonic()
            if signer is not None:
                self.session.accepted(signer)
            return response
        error = await self.failure(operation, key, response, Sent(signer, endpoint.region, offset))
        self._door.heed(method, error)
        raise error

    async def send_xml(
        self,
        operation: Operation,
        method: str,
        key: str | None,
        *,
        query: Query = (),
        headers: Mapping[str, str] | None = None,
        body: Sequence[bytes] = (),
    ) -> tuple[Response, ET.Element]:
        """Send a request whose answer is XML; answer it parsed, without its namespace.

        Raises:
            TransientError: a 200 with an error in it, an empty or cut one, or something that is not XML.
            HeavysyncError: as `send`.
        """
        response = await self.send(operation, method, key, query=query, headers=headers, body=body)
        return response, await self.prove(operation, key, response, response.body)

    async def prove(self, operation: Operation, key: str | None, response: Response, body: bytes) -> ET.Element:
        """Parse `body`, what is left to parse of an answer; raises as `send_xml`."""
        root = parse_xml(body)
        if root is not None and root.tag != "Error":
            return root
        error: HeavysyncError = TransientError(
            f"{operation.name} {self.place(key)}: {response.status} with {response.size} bytes that are no S3 answer"
        )
        if root is not None:
            error = await self.failure(operation, key, response, None)
        self.heed("GET" if operation.name.startswith("list") else "POST", error)
        raise error

    def heed(self, method: str, error: HeavysyncError) -> None:
        """Let the door know what an answer meant."""
        self._door.heed(method, error)

    def place(self, key: str | None) -> str:
        """Bucket and key, for messages."""
        name = f"s3://{self.location.bucket}" + ("" if key is None else f"/{self.location.prefix}{key}")
        return name if name.isprintable() else repr(name)

    async def failure(self, operation: Operation, key: str | None, response: Response, sent: Sent | None) -> HeavysyncError:
        """The error that an answer means, after putting right what can be put right."""
        headers = response.headers
        body = without(response.body, *self.session.secrets)
        text = s3_errors.read_error(headers, body)
        error = s3_errors.error_for(operation, self.place(key), response.status, headers, body)
        if sent is None:
            return error
        kind = s3_errors.classify(response.status, text.code, operation)
        if kind == "auth" and sent.signer is not None:
            await self.session.renew(sent.signer, str(error))
        elif kind == "clock":
            self._set_clock(headers, sent, error)
        elif kind == "region" or (response.status in {307, 400} and not text.code):
            return await self._relocate(text.region, sent, error)
        return error

    async def _relocate(self, region: str, sent: Sent, error: HeavysyncError) -> HeavysyncError:
        """Go on with the region that the answer names, if it is another than the one just asked."""
        if not region or region == sent.region:
            return error
        if region != self.session.endpoint.region:
            if region in self._regions:
                return FatalError(f"{error}; the servers send us in a circle of regions")
            self._regions.add(region)
            await self.session.relocate(region)
        return TransientError(f"{error}; going on with region {region}")

    def _set_clock(self, headers: Mapping[str, str], sent: Sent, error: HeavysyncError) -> None:
        """Take the server's clock; if we had it already, there is nothing left to try."""
        theirs = moment(headers.get("date"))
        if theirs is None:
            raise FatalError(str(error))
        offset = theirs.timestamp() - time.time()
        if abs(offset - sent.clock_offset) < _SKEW_S:
            raise FatalError(str(error))
        self.session.clock_offset = offset

    def _path(self, root: str, key: str | None) -> str:
        if key is None:
            return root or "/"
        name = self.location.prefix + key
        if not name:  # the request would be about the bucket: DELETE would remove it
            raise PermanentError(f"{self.place(key)}: S3 has no empty names", code="empty-name")
        try:
            return f"{root}/{encode_path(name)}"
        except UnicodeEncodeError as error:
            raise PermanentError(f"{self.place(key)}: not valid Unicode", code="bad-name") from error


def parse_xml(body: bytes) -> ET.Element | None:
    """Parse an answer without its namespace; None where it is no XML in UTF-8, or has a DOCTYPE (no S3 sends one)."""
    if not body or b"<!DOCTYPE" in body or b"<!ENTITY" in body or b"\0" in body or has_overgrown_xml(body):
        return None
    try:
        # The encoding is not left to the document (nor, by the "\0" of UTF-16, to the parser): in another one the bytes of a
        # DOCTYPE would look different.
        parser = ET.XMLParser(encoding="utf-8")  # noqa: S314 - no DOCTYPE, bounded
        return ET.fromstring(_NAMESPACE.sub(b"", body, count=1), parser)  # noqa: S314
    except (ET.ParseError, ValueError, LookupError):
        return None
