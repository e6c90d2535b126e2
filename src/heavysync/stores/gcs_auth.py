"""Who asks: Google credentials, found as Google's own tools find them, and one refresh for all who wait.

gcloud-aio knows how each kind of credentials becomes a token, in one request; when that happens is decided
here. Its own refresh cancels everybody who waits when one of them is cancelled, and takes a broken file for none.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from heavysync.errors import FatalError, HeavysyncError, TransientError

SCOPE = "https://www.googleapis.com/auth/devstorage.full_control"
"""Reading and writing objects, and switching versioning on."""

EARLY_S = 300
"""Seconds before a token ends that a new one is fetched; Google's tokens live for an hour."""

REFRESH_S = 10
"""Seconds that fetching a token may take."""

ADVICE = (
    "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to a file with them; "
    "for a public bucket ask anonymously"
)


class Credentials:
    """Gives the Authorization header, and learns when it was refused. Made by `open_credentials`.

    Args:
        token: gcloud-aio's, used for its single-attempt `refresh` only.
        name: of the file, or of the metadata server; for people.
    """

    def __init__(self, token: Any, name: str) -> None:
        self._token = token
        self._lock = asyncio.Lock()
        self._header = ""
        self._ends_at = 0.0
        self._accepted = False
        self.name = name

    async def header(self) -> str:
        """The header's value, fetched anew where it is about to end.

        Raises:
            TransientError: the token server cannot be reached for now.
            FatalError: it refuses these credentials.
        """
        if time.monotonic() < self._ends_at - EARLY_S:
            return self._header
        # Whoever holds the lock refreshes in its own task; if it is cancelled, the next one does.
        async with self._lock:
            if time.monotonic() >= self._ends_at - EARLY_S:
                await self._refresh()
        return self._header

    async def project(self) -> str | None:
        """The project that the credentials belong to, where they tell."""
        try:
            found: str | None = await self._token.get_project()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None
        return found

    def accepted(self, header: str) -> None:
        """A request with this header got past authentication."""
        if header == self._header:
            self._accepted = True

    def refused(self, header: str, message: str) -> HeavysyncError:
        """A request was answered 401: after a success that means "refresh", before any it means "wrong"."""
        if header == self._header and self._ends_at:
            if not self._accepted:
                return FatalError(f"Google refuses the credentials in {self.name}: {message}; {ADVICE}")
            self._ends_at = 0.0
            self._accepted = False
        return TransientError(f"the access token was refused and is fetched anew: {message}")

    async def _refresh(self) -> None:
        import jwt

        try:
            answer = await self._token.refresh(timeout=REFRESH_S)
        except aiohttp.ClientResponseError as error:
            if error.status in {400, 401, 403}:
                raise FatalError(f"Google refuses the credentials in {self.name} ({error.status}); {ADVICE}") from error
            self._keep_or_raise(f"the token server answers {error.status}", error)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if not self._header and self._is_metadata_server:
                raise FatalError(f"no Google credentials were found: {ADVICE}") from error
            self._keep_or_raise(f"the token server cannot be reached: {type(error).__name__}", error)
        except (KeyError, ValueError, TypeError, jwt.PyJWTError) as error:
            if not self._header:
                raise FatalError(f"the credentials in {self.name} cannot be used: {type(error).__name__}; {ADVICE}") from error
            self._keep_or_raise(f"the token server's answer has no token: {type(error).__name__}", error)
        else:
            self._header = f"Bearer {answer.value}"
            self._ends_at = time.monotonic() + max(answer.expires_in, EARLY_S + 30)

    def _keep_or_raise(self, message: str, error: BaseException) -> None:
        """The old token serves as long as it lives."""
        if time.monotonic() >= self._ends_at - 30:
            raise TransientError(f"{self.name}: {message}") from error

    @property
    def _is_metadata_server(self) -> bool:
        return not self._token.service_data


@asynccontextmanager
async def open_credentials(file: str | None, *, ca_bundle: str | None, trust_env: bool) -> AsyncIterator[Credentials]:
    """Find the credentials and prove them by fetching a first token.

    Looked for in this order: `file`, GOOGLE_APPLICATION_CREDENTIALS, gcloud's application default ones, the
    metadata server. Source: https://docs.cloud.google.com/docs/authentication/application-default-credentials

    Raises:
        FatalError: none was found, or the file is broken, or Google refuses them; says what to do.
        TransientError: the token server cannot be reached for now.
    """
    from gcloud.aio.auth.token import Token

    path = _find(file)
    if path is not None:
        _validate(path)
    context = ssl.create_default_context(cafile=ca_bundle)
    session: Any
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), trust_env=trust_env) as session:
        try:
            token = Token(service_file=str(path) if path else None, session=session, scopes=[SCOPE])
        except (ValueError, KeyError) as error:
            raise FatalError(f"{path}: the credentials cannot be used: {error}") from error
        credentials = Credentials(token, str(path) if path else "the metadata server")
        await credentials.header()
        yield credentials


def _find(file: str | None) -> Path | None:
    """The credentials file that is meant; None leaves the metadata server."""
    named = file or os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if named:
        return Path(named)
    home = os.environ.get("CLOUDSDK_CONFIG")
    if home is None and os.name == "nt":
        home = str(Path(os.environ.get("APPDATA", "C:\\")) / "gcloud")
    folder = Path(home) if home else Path.home() / ".config" / "gcloud"
    known = folder / "application_default_credentials.json"
    return known if known.exists() else None


def _validate(path: Path) -> None:
    """Refuse a file that gcloud-aio would pass over in silence."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FatalError(f"{path}: cannot read the Google credentials: {error.strerror}; {ADVICE}") from error
    except ValueError as error:
        raise FatalError(f"{path}: the Google credentials are not JSON; {ADVICE}") from error
    if not isinstance(data, dict) or not isinstance(data.get("type"), str):
        raise FatalError(f"{path}: the Google credentials name no type; {ADVICE}")
