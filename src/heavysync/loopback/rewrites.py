"""Server-side copies: rewrite with its token, copyTo, compose.

Source: https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass

from awscrt import checksums as crt

from heavysync.loopback.conditions import Conditions
from heavysync.loopback.model import Bucket, State, StoredObject, Sums, resource
from heavysync.loopback.objects import object_answer
from heavysync.loopback.schema import WRITABLE, check_object_fields, select, selector
from heavysync.loopback.wire import (
    Answer,
    ApiError,
    Call,
    Json,
    condition_not_met,
    invalid,
    invalid_parameter,
    json_answer,
    no_object,
    required,
)
from heavysync.loopback.writing import NewObject, check_name, write

MIB = 1 << 20
COMPOSE_MAX = 32
"""Source objects of one compose: https://cloud.google.com/storage/docs/composite-objects"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """A rewrite under way: which request it was, which generation it reads, how far it is."""

    request: str
    generation: int
    done: int


def rewrite(state: State, call: Call) -> Answer:
    """POST …/rewriteTo/…: in one call within a location and storage class, else in steps with a token."""
    token = call.query.get("rewriteToken")
    progress = _progress(state, call, token) if token is not None else None
    source = _source(state, call, progress.generation if progress else None)
    target, name = state.bucket(call.names[2]), check_name(call.names[3])
    wanted = call.json()
    check_object_fields(wanted)
    Conditions.of(call).check(target.find(name))
    step = _step(state, call, source, target, wanted)
    done = min((progress.done if progress else 0) + step, len(source.data))
    body: Json = {
        "kind": "storage#rewriteResponse",
        "totalBytesRewritten": str(done),
        "objectSize": str(len(source.data)),
        "done": done == len(source.data),
    }
    tree = selector(call.operation, call.query.get("fields", ""))
    if not body["done"]:
        body["rewriteToken"] = secrets.token_urlsafe(48)
        state.rewrites[body["rewriteToken"]] = Rewrite(request=_request(call), generation=source.generation, done=done)
        return json_answer(select(tree, body))
    stored = _copy(state, call, source, target, wanted)
    body["resource"] = resource(stored, state.url)
    return json_answer(select(tree, body))


def copy(state: State, call: Call) -> Answer:
    """POST …/copyTo/…: the same in one call, whatever the size."""
    source = _source(state, call, None)
    target, wanted = state.bucket(call.names[2]), call.json()
    check_object_fields(wanted)
    return object_answer(state, call, _copy(state, call, source, target, wanted))


def compose(state: State, call: Call) -> Answer:
    """POST …/compose: the sources one after the other; the result has no md5.

    Source: https://cloud.google.com/storage/docs/json_api/v1/objects/compose
    """
    bucket, request = state.bucket(call.bucket), call.json()
    unknown = request.keys() - {"kind", "destination", "sourceObjects", "deleteSourceObjects"}
    if unknown:
        raise invalid(f"Unknown field '{min(unknown)}'.")
    entries = request.get("sourceObjects")
    if not entries:
        raise required("sourceObjects")
    if not isinstance(entries, list) or len(entries) > COMPOSE_MAX:
        raise invalid(f"The number of source components provided ({len(entries)}) exceeds the maximum ({COMPOSE_MAX}).")
    sources = [_component(bucket, entry) for entry in entries]
    wanted = request.get("destination") or {}
    check_object_fields(wanted)
    crc = 0
    for source in sources:
        crc = crt.combine_crc32c(crc, source.sums.crc32c, len(source.data))
    new = NewObject(
        name=call.name,
        resource=wanted,
        data=b"".join(source.data for source in sources),
        sums=Sums(crc, None),
        components=sum(source.components or 1 for source in sources),
    )
    stored = write(state, bucket, new, Conditions.of(call))
    if request.get("deleteSourceObjects"):
        for source in {id(source): source for source in sources}.values():
            if bucket.live.get(source.name) is source:
                bucket.retire(source.name, state.now())
                bucket.forget(source.name)
    return object_answer(state, call, stored)


def _source(state: State, call: Call, generation: int | None) -> StoredObject:
    bucket, name = state.bucket(call.bucket), check_name(call.name)
    if generation is None:
        generation = call.number("sourceGeneration")
    source = bucket.find(name, generation)
    if source is None:
        raise no_object(call.bucket, name)
    Conditions.of(call, source=True).check(source)
    return source


def _request(call: Call) -> str:
    """All that makes two calls the same rewrite."""
    query = sorted((name, value) for name, value in call.query.items() if name != "rewriteToken")
    return json.dumps([call.names, query, call.json()], sort_keys=True)


def _progress(state: State, call: Call, token: str) -> Rewrite:
    if token not in state.rewrites:
        raise invalid_parameter("rewriteToken", "Invalid argument: the rewrite token is not known.")
    progress = state.rewrites[token]
    if progress is None:
        raise ApiError(410, "gone", "The rewrite token has expired.")
    if progress.request != _request(call):
        raise invalid_parameter("rewriteToken", "The request is not the one that the rewrite token is for.")
    return progress


def _step(state: State, call: Call, source: StoredObject, target: Bucket, wanted: Json) -> int:
    """How many bytes this call moves; the limits count only between locations or storage classes."""
    asked = call.number("maxBytesRewrittenPerCall")
    if asked is not None and (asked <= 0 or asked % MIB):
        raise invalid_parameter("maxBytesRewrittenPerCall", "maxBytesRewrittenPerCall must be an integral multiple of 1 MiB.")
    storage_class = wanted.get("storageClass") or target.storage_class
    if state.bucket(call.bucket).location == target.location and storage_class == source.storage_class:
        return len(source.data)
    return asked or state.settings.rewrite_bytes


def _copy(state: State, call: Call, source: StoredObject, target: Bucket, wanted: Json) -> StoredObject:
    given = {name: value for name, value in wanted.items() if name in WRITABLE and value is not None}
    if not given:
        given = {**source.fields, "metadata": source.metadata}
    checks = {name: wanted[name] for name in ("md5Hash", "crc32c") if wanted.get(name)}
    moved = state.bucket(call.bucket).location != target.location
    new = NewObject(
        name=call.names[3],
        resource={**given, **checks},
        data=source.data,
        sums=source.sums,
        components=1 if source.components and moved else source.components,
    )
    return write(state, target, new, Conditions.of(call))


def _component(bucket: Bucket, entry: Json) -> StoredObject:
    if not isinstance(entry, dict) or not entry.get("name"):
        raise required("sourceObjects.name")
    unknown = entry.keys() - {"name", "generation", "objectPreconditions"}
    if unknown:
        raise invalid(f"Unknown field '{min(unknown)}'.")
    source = bucket.find(entry["name"], _int64(entry.get("generation")))
    if source is None:
        raise no_object(bucket.name, entry["name"])
    wanted = _int64((entry.get("objectPreconditions") or {}).get("ifGenerationMatch"))
    if wanted is not None and wanted != source.generation:
        raise condition_not_met("ifGenerationMatch")
    return source


def _int64(value: str | int | None) -> int | None:
    if value is None:
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise invalid(f"Invalid value: '{value}'.") from None
