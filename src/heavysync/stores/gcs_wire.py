"""One request to the JSON API: where it goes, what every request carries, and what a refusal means."""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

import orjson

from heavysync.errors import ConditionError, FatalError, HeavysyncError, TransientError, UsageError
from heavysync.stores.answers import has_overgrown_json, without
from heavysync.stores.gcs_auth import Credentials
from heavysync.stores.gcs_batch import Inner
from heavysync.stores.gcs_errors import error_of, refusal_of
from heavysync.stores.gcs_keys import is_loopback
from heavysync.stores.http import STALL_S, Client, Door, Response
from heavysync.stores.rules import plain_http_caution, server_of

ENDPOINT = "https://storage.googleapis.com"
JSON_LIMIT = 16 << 20
"""Bytes of a JSON answer at most: a page of 1,000 objects with 8 KiB of metadata each has 10 MiB.

Where escapes make it larger yet, a page of fewer objects is asked for (`gcs_list`).
"""

_OK = frozenset({200})
_SECRET = 20  # characters; the id of a session has some hundred, "resumable" has nine


@dataclass(frozen=True, slots=True, kw_only=True)
class GcsOptions:
    """How Google Cloud Storage is reached.

    Args:
        endpoint_url: with scheme; None: STORAGE_EMULATOR_HOST, else Google's.
        anonymous: send no credentials.
        storage_class: of what is written; None: the bucket's default.
        project: that new buckets belong to; None: the one of the credentials.
        user_project: that pays for the requests; None: the bucket's owner.
        stall_s: seconds without a byte after which a request is given up.
        http_client: who speaks HTTP.
        ca_bundle: PEM file of certificate authorities.
        trust_env: use the proxies that the environment names.
        credentials_file: instead of what the environment has.
        shared_by: processes that share what a bucket takes.
    """

    endpoint_url: str | None = None
    anonymous: bool = False
    storage_class: str | None = None
    project: str | None = None
    user_project: str | None = None
    stall_s: float = STALL_S
    http_client: Client = "lean"
    ca_bundle: str | None = None
    trust_env: bool = False
    credentials_file: str | None = None
    shared_by: int = 1

    def __post_init__(self) -> None:
        if "@" in self.endpoint:
            raise UsageError("STORAGE_EMULATOR_HOST must not hold a user name or password")

    @property
    def endpoint(self) -> str:
        """Scheme and host that requests go to, without a slash at the end."""
        url = self.endpoint_url or _emulator() or ENDPOINT
        return url.rstrip("/")

    @property
    def needs_credentials(self) -> bool:
        """Whether requests are signed.

        An emulator is asked without, and so is plain http on this machine, unless there is a credentials file.

        Raises:
            UsageError: a token would travel over plain http to another machine.
        """
        if self.anonymous:
            return False
        parts = urlsplit(self.endpoint)
        is_plain = parts.scheme == "http"
        is_emulator = self.endpoint_url is None and _emulator() is not None
        is_here = is_loopback(parts.hostname or "")
        if is_plain and not is_here and (not is_emulator or self.credentials_file is not None):
            raise UsageError(
                f"{self.endpoint}: Google credentials are not sent over plain http to another machine; "
                "use https, or ask anonymously"
            )
        return self.credentials_file is not None if is_emulator or is_plain else True


class GcsWire:
    """Sends requests of one bucket's store through the door.

    Args:
        door: to the network.
        options: how Google Cloud Storage is reached.
        credentials: None: anonymous.
    """

    def __init__(self, door: Door, options: GcsOptions, credentials: Credentials | None) -> None:
        self._door = door
        self._endpoint = options.endpoint
        self._credentials = credentials
        self._user_project = options.user_project
        # 128 random bits: no object can contain it but by chance
        self.boundary = f"heavysync-{secrets.token_hex(16)}"

    @property
    def server(self) -> str:
        """Who answers."""
        return f"gs {server_of(self._endpoint)}"

    @property
    def caution(self) -> str | None:
        """See `Store`."""
        return plain_http_caution(self._endpoint)

    @property
    def domain(self) -> str:
        """What two stores must share to copy server side."""
        name = self._credentials.name if self._credentials else "anonymous"
        return f"gs:{self._endpoint}:{name}"

    async def project(self) -> str | None:
        """The project of the credentials, where they tell."""
        return await self._credentials.project() if self._credentials else None

    @property
    def is_anonymous(self) -> bool:
        """Whether requests carry no credentials."""
        return self._credentials is None

    def target(self, path: str, query: Mapping[str, str]) -> str:
        """Path and query of a request, encoded."""
        if self._user_project:
            query = {**query, "userProject": self._user_project}
        if not query:
            return path
        return f"{path}?" + "&".join([f"{name}={_quoted(value)}" for name, value in query.items()])

    async def call(  # noqa: PLR0913 - a request has these parts
        self,
        operation: str,
        key: str,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        headers: Mapping[str, str] | None = None,
        body: Sequence[bytes] = (),
        limit: int = JSON_LIMIT,
        accept: Collection[int] = _OK,
    ) -> Response:
        """Send one request with credentials; any status but those in `accept` is raised as its error class.

        Args:
            operation: for messages.
            key: relative key that an error concerns; "" where it concerns the run.
            method: upper case.
            path: encoded, from `/`.
            query: decoded.
            headers: besides those that every request has.
            body: chunks.
            limit: bytes of the answer.
            accept: statuses that are no errors.
        """
        sent = dict(headers or ())
        if header := await self.header():
            sent["Authorization"] = header
        response = await self._door.request(method, self._endpoint + self.target(path, query), sent, body, limit=limit)
        if response.status == 401:
            raise self.unauthorized(header, response)
        if self._credentials:
            self._credentials.accepted(header)
        if response.status not in accept:
            told = without(response.body, header.removeprefix("Bearer "))
            error = error_of(operation, key, refusal_of(response.status, response.headers, told))
            if isinstance(error, ConditionError) and "Range" not in sent and not any("if" in name[:2] for name in query):
                error = TransientError(f"{error} (there was no condition: the answer is to another request)")
            raise self.heed(method, error)
        return response

    async def session(self, method: str, url: str, headers: Mapping[str, str], body: Sequence[bytes] = ()) -> Response:
        """Send one request to an upload session; its URL is the credential, so none is sent along.

        Whatever host the URL names, it is the endpoint that is asked: the bytes go to nobody else. An error does not repeat
        the URL, as Google's pages do.

        Source: https://docs.cloud.google.com/storage/docs/resumable-uploads#session-uris
        """
        parts = urlsplit(url)
        target = urlunsplit(urlsplit(self._endpoint)[:2] + parts[2:4] + ("",))
        response = await self._door.request(method, target, headers, body, limit=JSON_LIMIT)
        if response.status < 400:
            return response
        secrets = [value for _, value in parse_qsl(parts.query) if len(value) >= _SECRET]
        return response._replace(chunks=[without(response.body, url, *secrets)])

    def heed(self, method: str, error: HeavysyncError) -> HeavysyncError:
        """Let the door know what an answer meant; answer the error."""
        self._door.heed(method, error)
        return error

    async def header(self) -> str:
        """What a request is authorized by; empty: anonymous."""
        return await self._credentials.header() if self._credentials else ""

    def prove_authorized(self, header: str, inners: Sequence[Inner]) -> None:
        """Look at the answers within one that was given to a request with this header.

        Raises:
            TransientError: one of them is 401: the credentials are renewed.
            FatalError: there are none.
        """
        for inner in inners:
            if inner.status == 401:
                raise self.unauthorized(header, Response(401, {}, [inner.body]))

    def unauthorized(self, header: str, response: Response) -> HeavysyncError:
        """What an answer 401 means."""
        refusal = refusal_of(response.status, response.headers, without(response.body, header.removeprefix("Bearer ")))
        if self._credentials is None:
            return FatalError(f"{self._endpoint} wants credentials: {refusal.message}")
        return self._credentials.refused(header, refusal.message)


def _quoted(text: str) -> str:
    return text if text.isalnum() and text.isascii() else _quote(text)


@lru_cache(maxsize=256)
def _quote(text: str) -> str:
    """The members that are asked for are the same each time."""
    return quote(text, safe="")


def decoded(response: Response, operation: str) -> dict[str, Any]:
    """The JSON object of an answer.

    Raises:
        TransientError: it is none: a proxy's page, an empty answer, a cut one.
    """
    body = response.body
    try:
        # neither NaN, nor half of a character, nor more than 1,024 levels are read
        value = None if has_overgrown_json(body) else orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise TransientError(f"{operation}: the answer is no JSON object")
    return value


def object_path(bucket: str, name: str) -> str:
    """The path of an object, every reserved character of its name encoded."""
    return f"/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}"


def _emulator() -> str | None:
    """STORAGE_EMULATOR_HOST as a URL; Google's clients take it with and without a scheme."""
    host = os.environ.get("STORAGE_EMULATOR_HOST")
    if not host:
        return None
    return host if "://" in host else f"http://{host}"
