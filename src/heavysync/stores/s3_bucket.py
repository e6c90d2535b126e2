"""Requests about the bucket itself, once per run: does it exist, may we list it, its versioning, its making."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from heavysync.errors import ConditionError, FatalError, TransientError
from heavysync.objects import BucketInfo
from heavysync.stores import s3_errors

if TYPE_CHECKING:
    from heavysync.stores.s3_errors import Operation
    from heavysync.stores.s3_wire import Wire

_S3 = "http://s3.amazonaws.com/doc/2006-03-01/"

_VERSIONING = {"Enabled": "enabled", "Suspended": "suspended", "": "off"}


async def read_bucket(wire: Wire) -> BucketInfo:
    """Prove that the bucket can be listed, in its own region; see `Store.read_bucket`.

    A HEAD would not prove that we may list, and its errors do not say what is wrong.
    `versioning` is "unknown" where we may not ask for it.
    """
    region = wire.session.endpoint.region
    try:
        await probe(wire, s3_errors.PROBE)
    except TransientError:
        if wire.session.endpoint.region == region:
            raise
        await probe(wire, s3_errors.PROBE)  # in the region that the first answer named
    try:
        _, root = await wire.send_xml(s3_errors.READ_VERSIONING, "GET", None, query=(("versioning", ""),))
    except FatalError:
        return BucketInfo(versioning="unknown", location=wire.session.endpoint.region)
    return BucketInfo(
        versioning=_VERSIONING.get(root.findtext("Status") or "", "unknown"),
        mfa_delete=root.findtext("MfaDelete") == "Enabled",
        location=wire.session.endpoint.region,
    )


async def probe(wire: Wire, operation: Operation) -> None:
    """List one key: the cheapest question about a bucket whose errors have a text.

    Raises:
        NotFoundError: there is no such bucket (`PROBE`); for any other operation that is a FatalError.
    """
    query = [("list-type", "2"), ("max-keys", "1"), ("encoding-type", "url")]  # XML 1.0 cannot hold every key
    if wire.location.prefix:
        query.append(("prefix", wire.location.prefix))
    _, root = await wire.send_xml(operation, "GET", None, query=query)
    if root.tag != "ListBucketResult":
        raise TransientError(f"list {wire.place(None)}: the answer is no listing but <{root.tag}>")


async def create_bucket(wire: Wire, region: str | None) -> None:
    """Create the bucket; see `Store.create_bucket`.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html
    """
    if region and region != wire.session.endpoint.region:
        await wire.session.relocate(region)
    region = wire.session.endpoint.region
    body = b""
    if region != "us-east-1":
        body = (
            f'<CreateBucketConfiguration xmlns="{_S3}"><LocationConstraint>{region}</LocationConstraint>'
            "</CreateBucketConfiguration>"
        ).encode()
    try:
        await wire.send(s3_errors.CREATE_BUCKET, "PUT", None, body=(body,))
    except ConditionError:  # there already: ours if we may list it (rclone never says whose it is)
        await probe(wire, s3_errors.LIST)


async def enable_versioning(wire: Wire) -> None:
    """Switch versioning on; see `Store.enable_versioning`."""
    body = (f'<VersioningConfiguration xmlns="{_S3}"><Status>Enabled</Status></VersioningConfiguration>').encode()
    md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    await wire.send(
        s3_errors.WRITE_VERSIONING,
        "PUT",
        None,
        query=(("versioning", ""),),
        headers={"content-md5": md5, "content-type": "application/xml"},
        body=(body,),
    )
