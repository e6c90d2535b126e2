"""Token servers asked through our own door: what gcloud-aio takes for its HTTP session.

gcloud-aio's own session follows redirections, with the credentials in its hands; it takes a cut answer for a broken file, and
does not know `Retry-After`. Here an answer is proven before gcloud-aio sees it, and nothing of it is quoted but error names.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any

from heavysync.errors import FatalError, PermanentError, TransientError
from heavysync.stores.gcs_errors import THROTTLES, refusal_of
from heavysync.stores.http import Door, Response

LIMIT = 1 << 18
"""Bytes of an answer; a token has some 200 to 2,000."""

_LATER = {408, 425, 429}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,60}")
_TOKEN = re.compile(r"[!-~]{1,16384}")
_TOKENS = ("access_token", "id_token", "accessToken")


class RefusedError(Exception):
    """The server does not take these credentials.

    Args:
        status: HTTP status.
        name: of the error, as OAuth or Google call it; or "".
    """

    def __init__(self, status: int, name: str) -> None:
        super().__init__(f"{status} {name}".strip())
        self.name = name


class UnreachableError(TransientError):
    """Nobody answers."""


class TokenServers:
    """Asks once, and does not follow redirections.

    Args:
        door: the network.
    """

    def __init__(self, door: Door) -> None:
        self._door = door

    async def post(self, url: str, data: str, headers: Mapping[str, str], timeout: float) -> Answer:
        """POST a form, or a JSON text."""
        return await self._ask("POST", url, {"Content-Type": "application/json", **headers}, data.encode(), timeout)

    async def get(self, url: str, headers: Mapping[str, str], timeout: float) -> Answer:
        """GET a text, or a JSON object."""
        return await self._ask("GET", url, headers, b"", timeout)

    async def _ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes, seconds: float) -> Answer:
        """Ask once.

        Raises:
            RefusedError: the server does not take the credentials.
            TransientError: no answer, or none that means anything.
            FatalError: there can be no such server.
        """
        try:
            async with asyncio.timeout(3 * seconds):  # a server that sends a byte now and then moves, but gets nowhere
                response = await self._door.request(method, url, headers, (body,) if body else (), limit=LIMIT, stall_s=seconds)
        except TimeoutError:
            raise UnreachableError(f"the token server did not answer in {3 * seconds:g} s") from None
        except TransientError as error:
            raise UnreachableError(f"the token server: {error}") from None
        except PermanentError as error:
            raise FatalError(f"the token server: {error}") from None
        if response.status == 200:
            return Answer(response)
        raise _error_of(response)


class Answer:
    """An answer 200, as gcloud-aio reads it."""

    def __init__(self, response: Response) -> None:
        self._body = response.body

    async def text(self) -> str:
        """All of it.

        Raises:
            TransientError: it is no text.
        """
        try:
            return self._body.decode()
        except ValueError:
            raise TransientError("the token server's answer is no text") from None

    async def json(self) -> dict[str, Any]:
        """The JSON object that it is; asking for a member that it does not have raises `TransientError`.

        Raises:
            TransientError: it is none, or holds a token that cannot be one.
        """
        try:
            found = json.loads(self._body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise TransientError("the token server's answer is no JSON object")
        for name in _TOKENS:
            if name in found and not (isinstance(found[name], str) and _TOKEN.fullmatch(found[name])):
                raise TransientError(f"the token server's answer has an {name} that is none")
        if "expires_in" in found:
            found["expires_in"] = _seconds(found["expires_in"])
        return _Members(found)


class _Members(dict[str, Any]):
    def __missing__(self, name: str) -> Any:
        told = self.get("error")
        error = f": {told}" if isinstance(told, str) and _NAME.fullmatch(told) else ""
        raise TransientError(f"the token server's answer has no {name}{error}")


def _seconds(value: object) -> int:
    try:
        seconds = int(str(value))
    except ValueError:
        seconds = 0
    if not 0 < seconds < 1 << 31:
        raise TransientError("the token server's answer does not say for how long the token is good")
    return seconds


def _error_of(response: Response) -> Exception:
    """What an answer other than 200 means.

    A refusal says so in JSON (OAuth: `{"error": "invalid_grant"}`); a page of HTML comes from somebody in between.
    Source: https://www.rfc-editor.org/rfc/rfc6749#section-5.2
    """
    status = response.status
    told = refusal_of(status, response.headers, response.body)
    try:
        error = json.loads(response.body)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        error = None
    name = error if isinstance(error, str) else told.reason
    name = name if _NAME.fullmatch(name) else ""
    is_json = error is not None or "metadata-flavor" in response.headers  # the metadata server refuses in plain text
    if is_json and 400 <= status < 500 and status not in _LATER and name not in THROTTLES:
        return RefusedError(status, name)
    what = "sends us elsewhere" if 300 <= status < 400 else f"answers {status} {name}".rstrip()
    return TransientError(f"the token server {what}", retry_after=told.retry_after)
