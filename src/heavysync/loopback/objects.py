"""The methods on one object: its metadata, its bytes, patch, update, delete."""

from __future__ import annotations

import re
import zlib
from datetime import datetime
from email.utils import format_datetime

from heavysync.loopback.conditions import Conditions, check_etags
from heavysync.loopback.model import State, StoredObject, crc_text, resource
from heavysync.loopback.schema import WRITABLE, check_object_fields, selector
from heavysync.loopback.wire import (
    Answer,
    ApiError,
    Call,
    Json,
    invalid,
    json_answer,
    no_object,
)
from heavysync.loopback.writing import check_metadata, check_name, check_time

_GZIP = re.compile(r"gzip(\s*;\s*q=(1(\.0*)?|0\.\d*[1-9]\d*))?")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def object_answer(state: State, call: Call, stored: StoredObject) -> Answer:
    """The object's resource, as far as `fields` asks for it."""
    tree = selector(call.operation, call.query.get("fields", ""))
    return json_answer(resource(stored, state.url, tree), headers={"ETag": stored.etag})


def get_metadata(state: State, call: Call) -> Answer:
    """GET b/BUCKET/o/OBJECT."""
    return object_answer(state, call, _readable(state, call))


def get_media(state: State, call: Call) -> Answer:
    """GET b/BUCKET/o/OBJECT?alt=media, with ranges and decompressive transcoding.

    Source: https://cloud.google.com/storage/docs/transcoding
    """
    stored = _readable(state, call)
    headers = _media_headers(stored)
    if _transcoded(stored, call):
        body = _gunzip(stored.data)
        if body is not None:
            headers |= {
                "Warning": "214 UploadServer gunzipped",
                "X-GUploader-Response-Body-Transformations": "gunzipped",
            }
            return Answer(headers=headers, body=body, chunked=True)
    if encoding := stored.fields.get("contentEncoding"):
        headers["Content-Encoding"] = encoding
    headers["Accept-Ranges"] = "bytes"
    span = _span(call.headers.get("range", ""), len(stored.data))
    if span is None:
        return Answer(headers=headers, body=stored.data)
    first, last = span
    headers["Content-Range"] = f"bytes {first}-{last}/{len(stored.data)}"
    return Answer(status=206, headers=headers, body=stored.data[first : last + 1])


def patch(state: State, call: Call) -> Answer:
    """PATCH: what is given replaces, null removes, custom metadata is merged entry by entry."""
    stored = _changeable(state, call)
    wanted = call.json()
    check_object_fields(wanted)
    metadata = stored.metadata
    if "metadata" in wanted:
        metadata = _patched(stored.metadata, wanted["metadata"])
    fields = dict(stored.fields)
    for name in (WRITABLE - {"metadata"}) & wanted.keys():
        if wanted[name] is None:
            fields.pop(name, None)
        else:
            fields[name] = wanted[name]
    _change(state, stored, fields, metadata)
    return object_answer(state, call, stored)


def update(state: State, call: Call) -> Answer:
    """PUT: what is given is all there is afterwards."""
    stored = _changeable(state, call)
    wanted = call.json()
    check_object_fields(wanted)
    fields = {name: wanted[name] for name in WRITABLE & wanted.keys() if wanted[name]}
    fields.pop("metadata", None)
    _change(state, stored, fields, check_metadata(wanted.get("metadata")))
    return object_answer(state, call, stored)


def delete(state: State, call: Call) -> Answer:
    """DELETE: the live object retires, or with `generation` that version goes for good."""
    bucket = state.bucket(call.bucket)
    stored = _changeable(state, call)
    if call.number("generation") is None:
        bucket.retire(stored.name, state.now())
        bucket.forget(stored.name)
    else:
        bucket.remove(stored)
    return Answer(status=204)


def find(state: State, call: Call) -> StoredObject:
    """The version that the call names.

    Raises:
        ApiError: 404, or 400 for a name that cannot be.
    """
    bucket, name = state.bucket(call.bucket), check_name(call.name)
    stored = bucket.find(name, call.number("generation"))
    if stored is None:
        raise no_object(call.bucket, name)
    return stored


def _readable(state: State, call: Call) -> StoredObject:
    stored = find(state, call)
    Conditions.of(call).check(stored, failed_not_match=304)
    check_etags(call, stored)
    return stored


def _changeable(state: State, call: Call) -> StoredObject:
    conditions = Conditions.of(call)
    stored = find(state, call)
    conditions.check(stored)
    return stored


def _patched(old: dict[str, str] | None, wanted: Json | None) -> dict[str, str] | None:
    if wanted is None:
        return None
    if not isinstance(wanted, dict):
        raise invalid("Invalid value for field 'metadata'.")
    merged = {**(old or {}), **wanted}
    return check_metadata({key: value for key, value in merged.items() if value is not None})


def _change(state: State, stored: StoredObject, fields: dict[str, str], metadata: dict[str, str] | None) -> None:
    storage_class = fields.pop("storageClass", stored.storage_class)
    if storage_class != stored.storage_class:
        raise invalid("The storage class of an object is changed by rewriting it.")
    before, after = check_time(stored.fields.get("customTime")), check_time(fields.get("customTime"))
    if before and (after is None or after < before):
        raise invalid("Custom time cannot be removed or set to an earlier time.")
    stored.fields, stored.metadata = fields, metadata
    stored.metageneration += 1
    stored.updated = state.now()


def _media_headers(stored: StoredObject) -> dict[str, str]:
    digests = f"crc32c={crc_text(stored.sums.crc32c)}"
    if stored.md5_text:
        digests += f",md5={stored.md5_text}"
    headers = {
        "Content-Type": stored.fields.get("contentType", "application/octet-stream"),
        "Cache-Control": stored.fields.get("cacheControl", "no-cache, no-store, max-age=0, must-revalidate"),
        "ETag": stored.etag,
        "Last-Modified": format_datetime(datetime.fromisoformat(stored.created), usegmt=True),
        "X-Goog-Generation": str(stored.generation),
        "X-Goog-Metageneration": str(stored.metageneration),
        "X-Goog-Stored-Content-Encoding": stored.fields.get("contentEncoding", "identity"),
        "X-Goog-Stored-Content-Length": str(len(stored.data)),
        "X-Goog-Storage-Class": stored.storage_class,
        "X-Goog-Hash": digests,
    }
    for header in ("Content-Disposition", "Content-Language"):
        value = stored.fields.get(header[0].lower() + header[1:].replace("-", ""))
        if value:
            headers[header] = value
    return headers


def _transcoded(stored: StoredObject, call: Call) -> bool:
    if stored.fields.get("contentEncoding") != "gzip":
        return False
    if "no-transform" in stored.fields.get("cacheControl", ""):
        return False
    return not any(_GZIP.fullmatch(coding.strip().lower()) for coding in call.headers.get("accept-encoding", "").split(","))


def _gunzip(data: bytes) -> bytes | None:
    """The decoded body, or None where it is no gzip: then it is served as it is stored."""
    decoder = zlib.decompressobj(wbits=31)
    try:
        body = decoder.decompress(data)
    except zlib.error:
        return None
    return body if decoder.eof else None


def _span(header: str, size: int) -> tuple[int, int] | None:
    """First and last byte asked for; None for all of them, which a header that makes no sense means too."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first_text, last_text = match.groups()
    if first_text:
        first, last = int(first_text), min(int(last_text or size), size - 1)
        if last_text and int(last_text) < first:
            return None
    else:
        first, last = max(size - int(last_text), 0), size - 1
    if first >= size:
        raise ApiError(416, "requestedRangeNotSatisfiable", "The requested range cannot be satisfied.")
    return first, last
