"""Files with Google credentials: which one is meant, and whether it can work at all.

gcloud-aio takes a file that it cannot parse for none, and asks the machine's metadata server: that ends with somebody else's
rights. So a file is read here, once, and what gcloud-aio gets is what was found good.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from heavysync.errors import FatalError

ADVICE = (
    "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to a file with them; "
    "for a public bucket ask anonymously"
)

_USER = ("client_id", "client_secret", "refresh_token")
_MEMBERS = {
    "authorized_user": _USER,
    "service_account": ("client_email", "private_key"),
    "impersonated_service_account": ("service_account_impersonation_url",),
    "external_account": ("audience", "subject_token_type", "token_url"),
}
_ADDRESSES = ("token_uri", "token_url", "service_account_impersonation_url")


def find_file(file: str | None) -> Path | None:
    """The credentials file that is meant; None leaves the metadata server.

    `file`, else GOOGLE_APPLICATION_CREDENTIALS, else gcloud's application default ones.
    Source: https://docs.cloud.google.com/docs/authentication/application-default-credentials
    """
    named = file or os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if named:
        return Path(named)
    home = os.environ.get("CLOUDSDK_CONFIG")
    if home is None and os.name == "nt":
        home = str(Path(os.environ.get("APPDATA", "C:\\")) / "gcloud")
    known = Path(home or "~/.config/gcloud").expanduser() / "application_default_credentials.json"
    return known if os.path.lexists(known) else None


def read_file(path: Path) -> str:
    """The text of a credentials file that can work, as far as one can see.

    Raises:
        FatalError: it cannot; with its name and what is wrong, and nothing of what is in it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise FatalError(f"{path}: cannot read the Google credentials: {error.strerror}; {ADVICE}") from None
    except ValueError:
        raise _wrong(path, "are not JSON in UTF-8") from None
    if text.startswith("\ufeff"):
        raise _wrong(path, "begin with a byte order mark: save the file as UTF-8 without one")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise _wrong(path, "are not JSON") from None
    if not isinstance(data, dict) or not isinstance(data.get("type"), str):
        raise _wrong(path, "name no type")
    _check(path, data)
    return text


def _check(path: Path, data: Mapping[str, Any]) -> None:
    kind = data["type"]
    if kind not in _MEMBERS:
        raise _wrong(path, f"have the type {kind[:40]!r}, which is none of {', '.join(sorted(_MEMBERS))}")
    _check_members(path, data, _MEMBERS[kind])
    if kind == "impersonated_service_account":
        source = data.get("source_credentials")
        if not isinstance(source, dict):
            raise _wrong(path, "have no source_credentials")
        _check_members(path, source, _USER)
    if kind == "external_account" and not isinstance(data.get("credential_source"), dict):
        raise _wrong(path, "have no credential_source")
    for name in _ADDRESSES:
        if name in data and not _is_safe(data[name]):
            raise _wrong(path, f"would be sent to what is no https address: {name}")
    if kind == "service_account":
        _check_key(path, data["private_key"])


def _check_members(path: Path, data: Mapping[str, Any], names: Iterable[str]) -> None:
    for name in names:
        if not isinstance(data.get(name), str) or not data[name]:
            raise _wrong(path, f"have no {name}")


def _check_key(path: Path, key: str) -> None:
    import jwt

    try:
        jwt.encode({}, key, algorithm="RS256")
    except (ValueError, TypeError, AttributeError, jwt.PyJWTError):
        raise _wrong(path, "have a private_key that is none (PEM, RSA)") from None


def _is_safe(address: object) -> bool:
    """Whether credentials may be sent there: over TLS, or to this machine."""
    if not isinstance(address, str):
        return False
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _wrong(path: Path, what: str) -> FatalError:
    return FatalError(f"{path}: the Google credentials {what}; {ADVICE}")
