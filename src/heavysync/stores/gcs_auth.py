"""Who asks: Google credentials, found as Google's own tools find them, and one refresh for all who wait.

gcloud-aio knows how each kind of credentials becomes a token, in one request; when that happens is decided here, and how
the request is sent in `gcs_token`. Its own refresh cancels everybody who waits when one of them is cancelled.
Design: docs/design/0010-credentials.md
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from heavysync.errors import FatalError, HeavysyncError, TransientError
from heavysync.stores.gcs_keys import ADVICE, find_file, read_file
from heavysync.stores.gcs_token import RefusedError, TokenServers, UnreachableError
from heavysync.stores.http import Client, Door
from heavysync.stores.renewal import Patience, Renewal

SCOPE = "https://www.googleapis.com/auth/devstorage.full_control"
"""Reading and writing objects, and switching versioning on."""

EARLY_S = 300
"""Seconds before a token ends that a new one is fetched; Google's tokens live for an hour. Shorter ones: at half their life."""

LAST_S = 10
"""Seconds before its end that a token is not used any more."""

REFRESH_S = 10
"""Seconds without a byte after which the fetching of a token is given up."""

_METADATA = "the metadata server"


class Credentials:
    """Gives the Authorization header, and learns when it was refused. Made by `open_credentials`.

    Args:
        make: reads the credentials anew; answers gcloud-aio's token, used for its single-attempt `refresh` only.
        name: of the file, or of the metadata server; for people.
        patience: what to do while they are not accepted.
    """

    def __init__(self, make: Callable[[], Any], name: str, patience: Patience | None) -> None:
        self._make = make
        self._token = make()
        self._renewal = Renewal(patience or Patience(name="Google"))
        self._renewal.source = name
        self._header = ""
        self._fresh_until = 0.0  # monotonic
        self._ends_at = 0.0
        self.name = name

    async def header(self) -> str:
        """The header's value, fetched anew where it is about to end.

        Raises:
            TransientError: the token server cannot be reached for now; or the run stops.
            FatalError: it refuses these credentials, at the start, or for longer than the grace.
        """
        if not self._is_due() or (self._lives and self._renewal.is_under_way):
            return self._header
        try:
            await self._renewal(self._is_due, self._refresh)
        except TransientError:
            if not self._lives:
                raise
        return self._header

    async def project(self) -> str | None:
        """The project that the credentials belong to, where they tell."""
        if self._token.service_data:
            found: str | None = await self._token.get_project()
            return found
        from gcloud.aio.auth import token

        named = os.environ.get("GOOGLE_CLOUD_PROJECT") or os.environ.get("GCLOUD_PROJECT")
        try:
            return (
                named
                or await (
                    await self._token.session.get(token.GCE_ENDPOINT_PROJECT, token.GCE_METADATA_HEADERS, REFRESH_S)
                ).text()
            )
        except (TransientError, RefusedError):
            return None

    def accepted(self, header: str) -> None:
        """A request with this header got past authentication."""
        if header == self._header:
            self._renewal.accepted()

    def refused(self, header: str, message: str) -> HeavysyncError:
        """A request was answered 401: after a success that means "refresh", before any it means "wrong"."""
        message = message.replace(header.removeprefix("Bearer "), "…") if header else message
        if header == self._header and self._ends_at:
            refusal = f"Google refuses the credentials in {self.name}: {message}; {ADVICE}"
            if not self._renewal.is_proven:
                return FatalError(refusal)
            self._ends_at = self._fresh_until = 0.0
            self._renewal.refuse(refusal)
        return TransientError(f"the access token was refused and is fetched anew: {message}")

    def _is_due(self) -> bool:
        return time.monotonic() >= self._fresh_until

    @property
    def _lives(self) -> bool:
        return time.monotonic() < self._ends_at - LAST_S

    async def _refresh(self) -> None:
        import jwt

        try:
            if self._renewal.is_in_grace:
                self._token = self._make()
            answer = await self._token.refresh(timeout=REFRESH_S)
        except RefusedError as error:
            why = "; they have ended or were revoked, or this machine's clock is wrong" * (error.name == "invalid_grant")
            raise FatalError(f"Google refuses the credentials in {self.name} ({error}){why}; {ADVICE}") from None
        except UnreachableError as error:
            if not self._header and self.name == _METADATA:
                raise FatalError(f"no Google credentials were found: {ADVICE}") from None
            raise TransientError(f"{self.name}: {error}") from None
        except TransientError as error:
            raise TransientError(f"{self.name}: {error}", retry_after=error.retry_after) from None
        except (KeyError, ValueError, TypeError, AttributeError, OSError, jwt.PyJWTError) as error:
            raise FatalError(f"the credentials in {self.name} cannot be used: {type(error).__name__}; {ADVICE}") from None
        now = time.monotonic()
        self._header = f"Bearer {answer.value}"
        self._fresh_until = now + max(answer.expires_in - EARLY_S, answer.expires_in / 2)
        self._ends_at = now + answer.expires_in


@asynccontextmanager
async def open_credentials(
    file: str | None,
    patience: Patience | None = None,
    *,
    ca_bundle: str | None,
    trust_env: bool,
    client: Client = "lean",
) -> AsyncIterator[Credentials]:
    """Find the credentials and prove them by fetching a first token.

    Looked for in this order: `file`, GOOGLE_APPLICATION_CREDENTIALS, gcloud's application default ones, the
    metadata server. Source: https://docs.cloud.google.com/docs/authentication/application-default-credentials

    Args:
        file: a credentials file; None: look for one.
        patience: what to do while they are not accepted.
        ca_bundle: PEM file of certificate authorities.
        trust_env: use the proxies that the environment names.
        client: who speaks HTTP.

    Raises:
        FatalError: none was found, or the file is broken, or Google refuses them; says what to do.
        TransientError: the token server cannot be reached for now.
    """
    from gcloud.aio.auth.token import Token

    path = find_file(file)
    stopping = patience.stopping if patience else None
    async with Door(
        connections=1, stall_s=REFRESH_S, ca_bundle=ca_bundle, trust_env=trust_env, stopping=stopping, client=client
    ) as door:

        def make() -> Any:
            text = "{}" if path is None else read_file(path)
            try:
                token = Token(service_file=io.StringIO(text), scopes=[SCOPE])
            except (ValueError, KeyError) as error:
                raise FatalError(f"{path}: the credentials cannot be used: {error}; {ADVICE}") from None
            token.session = TokenServers(door)  # type: ignore[assignment]
            return token

        credentials = Credentials(make, _METADATA if path is None else str(path), patience)
        await credentials.header()
        yield credentials
