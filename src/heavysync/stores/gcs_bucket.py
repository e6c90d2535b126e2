"""The bucket itself: looked at, created, made to keep versions.

Source: https://docs.cloud.google.com/storage/docs/json_api/v1/buckets
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from heavysync.errors import FatalError, NotFoundError, TransientError
from heavysync.objects import BucketInfo
from heavysync.stores.answers import words
from heavysync.stores.gcs_errors import error_of, refusal_of
from heavysync.stores.gcs_json import text_of
from heavysync.stores.gcs_wire import decoded

if TYPE_CHECKING:
    from heavysync.objects import Location
    from heavysync.stores.gcs_list import GcsListing
    from heavysync.stores.gcs_wire import GcsWire

_JSON = {"Content-Type": "application/json; charset=UTF-8"}


async def read_bucket(wire: GcsWire, path: str, location: Location, listing: GcsListing) -> BucketInfo:
    """See `Store.read_bucket`. Who may only list (that is tried, too) is told that versioning is unknown."""
    query = {"fields": "kind,name,location,versioning"}
    response = await wire.call("look at the bucket", "", "GET", path, query, accept={200, 403, 404})
    if response.status != 200:
        refusal = refusal_of(response.status, response.headers, response.body)
        error = error_of(f"look at {location}", "", refusal)
        if response.status == 404:
            raise NotFoundError(str(error))
        if isinstance(error, TransientError):
            raise error
        await listing.objects(None, None, 1)
        return BucketInfo(versioning="unknown")
    bucket = decoded(response, "look at the bucket")
    if bucket.get("kind") != "storage#bucket":
        raise TransientError(f"{location}: the answer is no bucket")
    versioning = bucket.get("versioning") or {}
    if not isinstance(versioning, dict) or bucket.get("name", location.bucket) != location.bucket:
        raise TransientError(f"{location}: the answer is not about this bucket")
    enabled = versioning.get("enabled", False) is True
    return BucketInfo(versioning="enabled" if enabled else "off", location=words(bucket.get("location")))


async def create_bucket(
    wire: GcsWire, name: str, project: str | None, *, location: str | None, storage_class: str | None
) -> bool:
    """Create a bucket; False: the name is taken already, perhaps by ourselves.

    Raises:
        FatalError: no project is known.
    """
    project = project or await wire.project()
    if project is None:
        if not wire.is_anonymous:
            raise FatalError(f"create gs://{name}: name the project that the bucket shall belong to")
        project = "emulator"
    resource = {"name": name}
    if location:
        resource["location"] = location
    if storage_class:
        resource["storageClass"] = storage_class
    response = await wire.call(
        "create the bucket",
        "",
        "POST",
        "/storage/v1/b",
        {"project": project},
        headers=_JSON,
        body=(text_of(resource),),
        accept={200, 409},
    )
    return response.status == 200


async def enable_versioning(wire: GcsWire, path: str) -> None:
    """See `Store.enable_versioning`."""
    body = text_of({"versioning": {"enabled": True}})
    await wire.call("enable versioning", "", "PATCH", path, {"fields": "versioning"}, headers=_JSON, body=(body,))
