"""Making a new version of an object: names, fields, digests and preconditions are checked here."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import datetime

from heavysync.loopback.conditions import Conditions
from heavysync.loopback.model import Bucket, State, StoredObject, Sums, crc_text
from heavysync.loopback.schema import WRITABLE, check_object_fields
from heavysync.loopback.wire import Json, invalid, required

METADATA_MAX = 8192
"""Bytes of custom metadata, keys and values. Source: https://cloud.google.com/storage/quotas#objects"""

_HASH = re.compile(r"(crc32c|md5)=([A-Za-z0-9+/=]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewObject:
    """What is to be written.

    Attributes:
        name: the object's name, not checked yet.
        resource: the object resource that came with it.
        content_type: used where the resource has no `contentType`; "" is none.
        goog_hash: the header `X-Goog-Hash`.
        components: set for a composite object.
    """

    name: str
    resource: Json
    data: bytes
    sums: Sums
    content_type: str = ""
    goog_hash: str = ""
    components: int | None = None


def check_name(name: object) -> str:
    """Refuse names that GCS cannot hold.

    Source: https://cloud.google.com/storage/docs/objects#naming

    Raises:
        ApiError: 400.
    """
    if name is None or name == "":
        raise required("name")
    if not isinstance(name, str):
        raise invalid("Invalid value for field 'name'.")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise invalid("The object name is not Unicode text.") from None
    if size > 1024:
        raise invalid(f"The maximum object length is 1024 characters, but got a name with {size} characters.")
    if "\r" in name or "\n" in name:
        raise invalid("Disallowed unicode characters present in object name.")
    if name in (".", "..") or name.startswith(".well-known/acme-challenge/"):
        raise invalid(f"Invalid object name: '{name}'.")
    return name


def check_metadata(value: object) -> dict[str, str] | None:
    """Refuse custom metadata that is no map of text to text or is too big.

    Raises:
        ApiError: 400.
    """
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(entry, str) for entry in value.values()):
        raise invalid("Invalid value for field 'metadata'.")
    if sum(len(key.encode()) + len(entry.encode()) for key, entry in value.items()) > METADATA_MAX:
        raise invalid(f"The metadata of the object is larger than {METADATA_MAX} bytes.")
    return value or None


def write(state: State, bucket: Bucket, new: NewObject, conditions: Conditions) -> StoredObject:
    """Check everything, then make the new live version.

    Raises:
        ApiError: 400 for what was sent, 412 for a precondition.
    """
    name = check_name(new.name)
    check_object_fields(new.resource)
    metadata = check_metadata(new.resource.get("metadata"))
    conditions.check(bucket.find(name))
    check_sums(new)
    fields = {key: str(new.resource[key]) for key in WRITABLE & new.resource.keys() if new.resource[key]}
    fields.pop("metadata", None)
    check_time(fields.get("customTime"))
    if new.content_type:
        fields.setdefault("contentType", new.content_type)
    now = state.now()
    stored = StoredObject(
        bucket=bucket.name,
        name=name,
        generation=state.next_generation(),
        data=new.data,
        sums=new.sums,
        storage_class=fields.pop("storageClass", bucket.storage_class),
        fields=fields,
        metadata=metadata,
        created=now,
        updated=now,
        components=new.components,
    )
    bucket.put(stored)
    return stored


def check_sums(new: NewObject) -> None:
    """Compare the digests that came along with those of the body.

    Source: https://cloud.google.com/storage/docs/data-validation

    Raises:
        ApiError: 400.
    """
    given = [(kind, value) for kind, value in _HASH.findall(new.goog_hash)]
    given += [
        (kind, str(new.resource[key])) for kind, key in (("md5", "md5Hash"), ("crc32c", "crc32c")) if new.resource.get(key)
    ]
    md5 = base64.b64encode(new.sums.md5).decode() if new.sums.md5 else ""
    actual = {"md5": md5, "crc32c": crc_text(new.sums.crc32c)}
    for kind, value in given:
        _check_base64(value, 16 if kind == "md5" else 4)
        if value != actual[kind]:
            label = "MD5 hash" if kind == "md5" else "CRC32C"
            raise invalid(f'Provided {label} "{value}" doesn\'t match calculated {label} "{actual[kind]}".')


def check_time(value: str | None) -> datetime | None:
    """Read an RFC 3339 time with its zone.

    Raises:
        ApiError: 400.
    """
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise invalid(f"Invalid value for field 'customTime': {value}") from None
    if moment.tzinfo is None:
        raise invalid(f"Invalid value for field 'customTime': {value}")
    return moment


def _check_base64(value: str, size: int) -> None:
    try:
        if len(base64.b64decode(value, validate=True)) == size:
            return
    except binascii.Error:
        pass
    raise invalid(f'Invalid hash: "{value}".')
