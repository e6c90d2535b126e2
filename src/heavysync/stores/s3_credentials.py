"""Where S3 credentials come from: what AWS tools look at, as aiobotocore reads it, and nothing passed over in silence.

botocore takes a file that it cannot read for none, and asks the machine's metadata server when a profile has no keys. Both end
with somebody else's rights, so they are refused here.
"""

from __future__ import annotations

import asyncio
import errno
import os
from inspect import isawaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heavysync.errors import FatalError, HeavysyncError, TransientError
from heavysync.stores import s3_program

if TYPE_CHECKING:
    from aiobotocore.session import AioSession
    from botocore.session import Session

ASK_S = 60.0
"""Seconds after which a service or program that hands out credentials is given up; botocore has no limit for programs."""

_FILES = {"shared-credentials-file": "credentials_file", "config-file": "config_file"}
_METADATA = ("container-role", "iam-role")
_LOCAL = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ENOEXEC}
_WORDS = 300  # characters of what a helper program or service says


def check_files(session: Session) -> None:
    """Refuse credential files that are there and cannot be read.

    Raises:
        FatalError: with the file's name.
    """
    for variable in ("credentials_file", "config_file"):
        path = _path(session, variable)
        try:
            with path.open("rb"):
                pass
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise FatalError(f"{path}: cannot read the AWS credentials or settings: {error.strerror}") from None


def is_of_machine(credentials: Any) -> bool:
    """Whether they come from the metadata server of this machine."""
    return credentials.method in _METADATA


def from_environment(where: str) -> Any:
    """The keys that the environment holds, which come before all but those of a profile by name; None: none, or they end.

    Raises:
        FatalError: half of them is missing.
    """
    from botocore.credentials import EnvProvider
    from botocore.exceptions import BotoCoreError

    if os.environ.get("AWS_CREDENTIAL_EXPIRATION"):
        return None
    try:
        return EnvProvider().load()
    except BotoCoreError as error:
        raise FatalError(f"{where}: credentials: {short(error)}") from None


async def load(session: AioSession, where: str, *, is_ours: bool = False) -> Any:
    """Find credentials as AWS tools do; a profile, or a credentials file, that was named has its own, or none.

    Args:
        session: has read the files.
        where: for messages.
        is_ours: there were some that were not the machine's: nor are the next ones.

    Raises:
        FatalError: there are none, or they are malformed.
        TransientError: whoever hands them out did not answer.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        s3_program.tie_programs(session)
        named = _named(session)
        resolver = session.get_component("credential_provider")
        for method in _METADATA if named or is_ours else ():
            resolver.remove(method)
    except (BotoCoreError, ValueError) as error:  # a setting of who hands out credentials is no number, or no address
        raise FatalError(f"{where}: credentials: {short(error)}") from None
    try:
        async with asyncio.timeout(ASK_S):
            found = await session.get_credentials()
    except (BotoCoreError, ClientError, ResponseParserError, TimeoutError, OSError) as error:
        raise credentials_error(f"{where}: credentials: {short(error)}", error) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # what a helper program says is not what it should be
        # not `from error`: a parser's error holds the text that it could not parse
        raise FatalError(
            f"{where}: credentials: {_helper(session)} gives none that can be read: {type(error).__name__}"
        ) from None
    if found is None:
        raise FatalError(
            f"{where}: no credentials{named}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile, "
            "or ask for anonymous access"
        )
    return found


async def freeze(credentials: Any, where: str) -> Any:
    """What the credentials are now: key, secret and token; those that are about to end are refreshed.

    Raises:
        FatalError: they are refused, or malformed.
        TransientError: whoever hands them out did not answer.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    where = f"{where}: refreshing credentials"
    try:
        async with asyncio.timeout(ASK_S):
            frozen = credentials.get_frozen_credentials()
            frozen = await frozen if isawaitable(frozen) else frozen
    except (BotoCoreError, ClientError, ResponseParserError, TimeoutError, OSError) as error:
        raise credentials_error(f"{where}: {short(error)}", error) from None
    except RuntimeError as error:  # "refreshed credentials are still expired" (botocore)
        raise FatalError(f"{where}: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        kind = FatalError if credentials.method == s3_program.METHOD else TransientError  # else: a page of somebody in between
        raise kind(f"{where}: the answer is not what it should be ({type(error).__name__})") from None
    for name, value in (
        ("access key id", frozen.access_key),
        ("secret key", frozen.secret_key),
        ("session token", frozen.token),
    ):
        if not _is_sendable(value) and not (value is None and name == "session token"):
            raise FatalError(f"{where}: the {name} is malformed: it is empty, or holds blanks or other than ASCII characters")
    return frozen


def source_of(session: Session, credentials: Any) -> tuple[str, bool]:
    """Where credentials come from, in words, and whether that may hold others while this process runs."""
    method = str(credentials.method)
    if method in {"env", "explicit"}:
        return "the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN)", False
    if method in _METADATA:
        return "the metadata server of this machine", True
    file = _path(session, _FILES.get(method, "config_file"))
    how = "" if method in _FILES else f" ({method})"
    return f"{file}, profile {session.profile or 'default'}{how}", True


def credentials_error(text: str, error: Exception) -> HeavysyncError:
    """Whether credentials that could not be had may be had later: the network, or a service that is busy or down.

    botocore has two roots for network errors; `ConnectionError` there is not the built-in one.
    """
    from botocore.exceptions import ClientError, HTTPClientError
    from botocore.exceptions import ConnectionError as BotoConnectionError
    from botocore.parsers import ResponseParserError

    if isinstance(error, OSError) and error.errno in _LOCAL:  # the program of credential_process, or a file
        return FatalError(text)
    if isinstance(error, (HTTPClientError, BotoConnectionError, ResponseParserError, TimeoutError, OSError)):
        return TransientError(text)
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status == 429 or status >= 500 or "Throttl" in error.response.get("Error", {}).get("Code", ""):
            return TransientError(text, throttled=status == 429)
    return FatalError(text)


def short(error: Exception) -> str:
    """The words of an error, in one line; a parser's are left out, since they quote what it could not parse."""
    from botocore.parsers import ResponseParserError

    if isinstance(error, ResponseParserError):
        return "the answer is not what it should be"
    if isinstance(error, TimeoutError) and not str(error):
        return f"there was no answer for {ASK_S:g} s"
    text = " ".join(str(error).split())
    return text if len(text) <= _WORDS else f"{text[:_WORDS]}…"


def _named(session: Session) -> str:
    """What somebody has said where the credentials are, for people; empty where nobody has."""
    if session.profile is not None:
        return f" in profile {session.profile!r}"
    return f" in {_path(session, 'credentials_file')}" if "AWS_SHARED_CREDENTIALS_FILE" in os.environ else ""


def _path(session: Session, variable: str) -> Path:
    return Path(os.path.expandvars(str(session.get_config_variable(variable)))).expanduser()


def _helper(session: Session) -> str:
    return f"profile {session.profile or 'default'} in {_path(session, 'config_file')}"


def _is_sendable(value: object) -> bool:
    return isinstance(value, str) and bool(value) and value.isascii() and value.isprintable() and " " not in value
