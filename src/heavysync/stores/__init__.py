"""The two sides: S3 and Google Cloud Storage behind one contract (`base.py`), and the memory store that tests use."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

from heavysync.events import Listener, ignore
from heavysync.objects import Location
from heavysync.options import SideOptions
from heavysync.stores.base import Store, Upload
from heavysync.stores.renewal import Patience

__all__ = ["Store", "Upload", "open_store"]


def open_store(
    location: Location,
    side: SideOptions,
    *,
    connections: int,
    storage_class: str | None = None,
    copy_tags: bool = False,
    stopping: asyncio.Event | None = None,
    listener: Listener = ignore,
    shared_by: int = 1,
) -> AbstractAsyncContextManager[Store]:
    """Open the store of a location; the provider's libraries are imported only here, so that `--help` stays quick.

    Args:
        location: an `s3://` or `gs://` location.
        side: how it is reached.
        connections: most requests at once.
        storage_class: of objects written; None: the bucket's default.
        copy_tags: server-side copies carry the tags.
        stopping: once it is set, no request waits for its turn, and nothing for other credentials.
        listener: is told when the store waits for other credentials.
        shared_by: processes of one run, of which the first has used this side's credentials before.

    Raises:
        FatalError: on entering: no credentials, a malformed endpoint, an untrusted certificate.
    """
    patience = Patience(
        name=str(location),
        grace_s=side.auth_grace_s,
        stopping=stopping or asyncio.Event(),
        listener=listener,
        is_proven=shared_by > 1,
    )
    if location.scheme == "s3":
        from heavysync.stores.s3 import S3Options, open_s3

        s3 = S3Options(
            endpoint_url=side.endpoint_url,
            profile=side.profile,
            region=side.region,
            anonymous=side.anonymous,
            request_payer=side.request_payer,
            storage_class=storage_class,
            copy_tags=copy_tags,
            stall_s=side.stall_s,
            http_client=side.http_client,
            ca_bundle=side.ca_bundle,
            trust_env=side.trust_env,
        )
        return open_s3(location, s3, connections=connections, patience=patience)
    from heavysync.stores.gcs import open_gcs
    from heavysync.stores.gcs_wire import GcsOptions

    gcs = GcsOptions(
        endpoint_url=side.endpoint_url,
        anonymous=side.anonymous,
        storage_class=storage_class,
        project=side.project,
        user_project=side.project if side.request_payer else None,
        stall_s=side.stall_s,
        http_client=side.http_client,
        ca_bundle=side.ca_bundle,
        trust_env=side.trust_env,
        credentials_file=side.credentials_file,
        shared_by=shared_by,
    )
    return open_gcs(location, gcs, connections=connections, patience=patience)
