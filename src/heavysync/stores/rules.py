"""What each provider can name and hold. Pure; every number with its source."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from heavysync.objects import Limits, Metadata

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40

S3_LIMITS = Limits(
    write_max=5 * GIB,
    part_min=5 * MIB,
    part_max=5 * GIB,
    part_count=10_000,
    part_multiple=1,
    parallel_parts=True,
    object_max=50 * 10**12,
    copy_max=5 * GIB,
    delete_batch=1000,
)
"""Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""

GS_LIMITS = Limits(
    write_max=5 * TIB,
    part_min=256 * KIB,
    part_max=5 * TIB,
    part_count=5 * TIB // (256 * KIB),
    part_multiple=256 * KIB,
    parallel_parts=False,
    object_max=5 * TIB,
    copy_max=5 * TIB,
    delete_batch=100,
)
"""Source: https://docs.cloud.google.com/storage/quotas, resumable-uploads (256 KiB) and batch (100 calls)."""

USER_METADATA_MAX = {"s3": 2 * KIB, "gs": 8 * KIB}
"""Bytes of all names and values together.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html and
https://docs.cloud.google.com/storage/quotas
"""

_RESERVED = ".well-known/acme-challenge/"


def server_of(url: str) -> str:
    """Host and port that a URL reaches, the same for all its spellings: case, default port, names of this machine."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    try:
        is_here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_here = host == "localhost" or host.endswith(".localhost")
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return f"{'loopback' if is_here else host}:{port}"


def plain_http_caution(url: str) -> str | None:
    """What it means to reach another machine by plain http; None where that is not so."""
    if urlsplit(url).scheme != "http" or server_of(url).startswith("loopback:"):
        return None
    return (
        f"{url} is plain http: whoever is on the way can read what is copied, and the session token if there is one,"
        " and can change it; https:// prevents that"
    )


def name_error(name: str, scheme: str) -> str | None:
    """Why `name` (with its prefix) cannot be an object's, or None.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html and
    https://docs.cloud.google.com/storage/docs/objects#naming
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "the name is no valid Unicode"
    if not 1 <= size <= 1024:
        return f"the name has {size} bytes, 1 to 1,024 are allowed"
    return _gs_name_error(name) if scheme == "gs" else None


def _gs_name_error(name: str) -> str | None:
    if name in {".", ".."}:
        return f"the name {name!r} is not allowed"
    if "\r" in name or "\n" in name:
        return "the name has a line break"
    if name.startswith(_RESERVED):
        return f"names that start with {_RESERVED} are reserved"
    if "\ufffe" in name or "\uffff" in name:
        return "the name has U+FFFE or U+FFFF"
    return None


def user_metadata_error(metadata: Metadata, scheme: str) -> str | None:
    """Why the user metadata are too large, or None; bytes are counted as UTF-8."""
    size = sum(len(name.encode()) + len(value.encode()) for name, value in metadata.user.items())
    most = USER_METADATA_MAX[scheme]
    return f"user metadata have {size} bytes, {most} are allowed" if size > most else None
