"""The bucket methods: insert, get, patch, delete, list."""

from __future__ import annotations

import base64
import re

from heavysync.loopback.conditions import check_bucket
from heavysync.loopback.model import Bucket, State
from heavysync.loopback.schema import BUCKET_WRITABLE, check_bucket_fields, select, selector
from heavysync.loopback.wire import (
    Answer,
    ApiError,
    Call,
    Json,
    invalid,
    invalid_parameter,
    json_answer,
    required,
)

# Source: https://cloud.google.com/storage/docs/buckets#naming (names with dots need a verified domain)
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{1,220}[a-z0-9]")
_MULTI_REGIONS = ("US", "EU", "ASIA")


def bucket_resource(state: State, bucket: Bucket) -> Json:
    """The bucket as the API shows it."""
    etag = base64.b64encode(f"b/{bucket.metageneration}".encode()).decode()
    region = "multi-region" if bucket.location in _MULTI_REGIONS else "region"
    return {
        "kind": "storage#bucket",
        "id": bucket.name,
        "selfLink": f"{state.url}/storage/v1/b/{bucket.name}",
        "projectNumber": "1",
        "name": bucket.name,
        "location": bucket.location,
        "locationType": region,
        "storageClass": bucket.storage_class,
        "metageneration": str(bucket.metageneration),
        "etag": etag,
        "timeCreated": bucket.created,
        "updated": bucket.updated,
        **bucket.config,
    }


def make_bucket(state: State, name: str, wanted: Json) -> Bucket:
    """Create a bucket from a bucket resource.

    Raises:
        ApiError: 400 for a bad name or field, 409 if there is one.
    """
    check_bucket_fields(wanted)
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.startswith("goog"):
        raise invalid(f"Invalid bucket name: '{name}'")
    if name in state.buckets:
        raise ApiError(
            409,
            "conflict",
            "Your previous request to create the named bucket succeeded and you already own it.",
        )
    now = state.now()
    bucket = Bucket(name=name, location=str(wanted.get("location") or "US").upper(), created=now, updated=now)
    _configure(bucket, wanted)
    state.buckets[name] = bucket
    return bucket


def insert_bucket(state: State, call: Call) -> Answer:
    """POST b."""
    if not call.query.get("project"):
        raise required("project")
    wanted = call.json()
    if not wanted.get("name"):
        raise required("name")
    return _answer(state, call, make_bucket(state, wanted["name"], wanted))


def get_bucket(state: State, call: Call) -> Answer:
    """GET b/BUCKET."""
    bucket = state.bucket(call.bucket)
    check_bucket(call, bucket, failed_not_match=304)
    return _answer(state, call, bucket)


def patch_bucket(state: State, call: Call) -> Answer:
    """PATCH b/BUCKET."""
    bucket = state.bucket(call.bucket)
    check_bucket(call, bucket)
    wanted = call.json()
    check_bucket_fields(wanted)
    _configure(bucket, wanted)
    bucket.metageneration += 1
    bucket.updated = state.now()
    return _answer(state, call, bucket)


def delete_bucket(state: State, call: Call) -> Answer:
    """DELETE b/BUCKET; it must hold nothing, noncurrent versions included."""
    bucket = state.bucket(call.bucket)
    check_bucket(call, bucket)
    if bucket.names:
        raise ApiError(409, "conflict", "The bucket you tried to delete is not empty.")
    del state.buckets[call.bucket]
    return Answer(status=204)


def list_buckets(state: State, call: Call) -> Answer:
    """GET b?project=…; the page token is the last name."""
    if not call.query.get("project"):
        raise required("project")
    limit = call.number("maxResults")
    if limit is not None and limit < 0:
        raise invalid_parameter("maxResults", "Invalid value.")
    after, prefix = call.query.get("pageToken", ""), call.query.get("prefix", "")
    names = sorted(name for name in state.buckets if name > after and name.startswith(prefix))
    page = names[: min(limit or 1000, 1000)]
    body: Json = {"kind": "storage#buckets"}
    if page:
        body["items"] = [bucket_resource(state, state.buckets[name]) for name in page]
    if len(page) < len(names):
        body["nextPageToken"] = page[-1]
    return json_answer(select(selector(call.operation, call.query.get("fields", "")), body))


def _configure(bucket: Bucket, wanted: Json) -> None:
    for name in BUCKET_WRITABLE & wanted.keys():
        value = wanted[name]
        if name == "storageClass":
            bucket.storage_class = value or "STANDARD"
        elif value is None:
            bucket.config.pop(name, None)
        else:
            bucket.config[name] = value


def _answer(state: State, call: Call, bucket: Bucket) -> Answer:
    tree = selector(call.operation, call.query.get("fields", ""))
    return json_answer(select(tree, bucket_resource(state, bucket)))
