"""Google Cloud Storage behind the contract: the JSON API, one request for each step.

gcloud-aio turns credentials into tokens (`gcs_auth`); everything else is asked for directly, because its own
calls read whole objects into memory, decode gzip and hide retries.
Source: https://docs.cloud.google.com/storage/docs/json_api/v1
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import quote

from heavysync.errors import (
    ConditionError,
    DamagedError,
    FatalError,
    HeavysyncError,
    NotFoundError,
    PermanentError,
    TransientError,
    UploadGoneError,
)
from heavysync.objects import (
    BucketInfo,
    ByteRange,
    Content,
    Deletion,
    DeletionFailure,
    Digests,
    Examined,
    Limits,
    Location,
    Metadata,
    ObjectInfo,
    Page,
    UploadState,
    VersionCursor,
    VersionPage,
    Written,
)
from heavysync.stores import gcs_bucket, rules
from heavysync.stores.answers import is_text
from heavysync.stores.base import Store
from heavysync.stores.gcs_answers import info_in, rewritten_in, written_in
from heavysync.stores.gcs_auth import open_credentials
from heavysync.stores.gcs_batch import batch_answers, batch_body, deletion_query, failure_of, is_throttled
from heavysync.stores.gcs_json import FIELDS, crc32c_in, header_type, resource_of, text_of
from heavysync.stores.gcs_list import GcsListing
from heavysync.stores.gcs_upload import GcsUpload, is_checksum_refusal
from heavysync.stores.gcs_wire import ENDPOINT, GcsOptions, GcsWire, decoded, object_path
from heavysync.stores.http import Door, Response
from heavysync.stores.renewal import Patience

_WRITTEN_FIELDS = "bucket,name,size,md5Hash,crc32c,generation"
RAMP = (5000.0, 1000.0)
"""Reads (listings among them) and writes a second that a bucket takes at once; it learns to take twice as many in 20 minutes.

Source: https://docs.cloud.google.com/storage/docs/request-rate
"""

_GONE = frozenset({200, 204, 404})


@asynccontextmanager
async def open_gcs(
    location: Location, options: GcsOptions, *, connections: int, patience: Patience | None = None
) -> AsyncIterator[GcsStore]:
    """Open a store; the first request is the one for a token, if there are credentials.

    Args:
        location: bucket and prefix.
        options: how it is reached.
        connections: most requests at once.
        patience: what to do while the credentials are not accepted; its `stopping` ends waits for a turn, too.

    Raises:
        FatalError: no credentials were found, or they are refused; says what to do.
        UsageError: the endpoint would expose them.
        TransientError: the token server cannot be reached for now.
    """
    async with AsyncExitStack() as stack:
        door = await stack.enter_async_context(
            Door(
                connections=connections,
                stall_s=options.stall_s,
                client=options.http_client,
                ca_bundle=options.ca_bundle,
                trust_env=options.trust_env,
                stopping=patience.stopping if patience else None,
                ramp=(RAMP[0] / options.shared_by, RAMP[1] / options.shared_by) if options.endpoint == ENDPOINT else None,
            )
        )
        credentials = None
        if options.needs_credentials:
            credentials = await stack.enter_async_context(
                open_credentials(
                    options.credentials_file,
                    patience,
                    ca_bundle=options.ca_bundle,
                    trust_env=options.trust_env,
                    client=options.http_client,
                )
            )
        yield GcsStore(location, options, GcsWire(door, options, credentials))


class GcsStore:
    """A bucket of Google Cloud Storage; see `Store`. Made by `open_gcs`."""

    limits: Limits = rules.GS_LIMITS

    def __init__(self, location: Location, options: GcsOptions, wire: GcsWire) -> None:
        self.location = location
        self.wire = wire
        self._options = options
        self._bucket_path = f"/storage/v1/b/{quote(location.bucket, safe='')}"
        self._listing = GcsListing(wire, location, self._bucket_path)

    @property
    def server(self) -> str:
        """Host and port."""
        return self.wire.server

    @property
    def caution(self) -> str | None:
        """See `Store`."""
        return self.wire.caution

    @property
    def copy_domain(self) -> str:
        """See `Store`."""
        return self.wire.domain

    def name_error(self, key: str) -> str | None:
        """See `Store`."""
        return rules.name_error(self.location.prefix + key, "gs")

    def metadata_error(self, metadata: Metadata) -> str | None:
        """See `Store`."""
        return rules.user_metadata_error(metadata, "gs")

    async def read_bucket(self) -> BucketInfo:
        """See `Store`."""
        return await gcs_bucket.read_bucket(self.wire, self._bucket_path, self.location, self._listing)

    async def create_bucket(self, location: str | None, storage_class: str | None) -> None:
        """See `Store`.

        Raises:
            FatalError: the name belongs to somebody else, or no project is known.
        """
        is_new = await gcs_bucket.create_bucket(
            self.wire,
            self.location.bucket,
            self._options.project,
            location=location,
            storage_class=storage_class,
        )
        if not is_new:
            await self._listing.objects(None, None, 1)  # raises, unless it is one that we may use

    async def enable_versioning(self) -> None:
        """See `Store`."""
        await gcs_bucket.enable_versioning(self.wire, self._bucket_path)

    async def list_page(self, after: str | None, until: str | None, limit: int = 1000) -> Page:
        """See `Store`."""
        return await self._listing.objects(after, until, limit)

    async def list_versions_page(self, after: VersionCursor | None, first: str | None, until: str | None) -> VersionPage:
        """See `Store`."""
        return await self._listing.versions(after, first, until)

    async def stat(self, key: str) -> ObjectInfo | None:
        """See `Store`."""
        try:
            response = await self.wire.call("look at", key, "GET", self._path(key), {"fields": FIELDS})
        except NotFoundError:
            return None
        return info_in(decoded(response, f"look at {key!r}"), "look at", self.location, key)

    async def examine(self, key: str) -> Examined | None:
        """See `Store`."""
        info = await self.stat(key)
        return None if info is None else Examined(info)

    async def part_size(self, info: ObjectInfo) -> int | None:  # noqa: ARG002
        """See `Store`. GCS does not tell how an object was written."""
        return None

    async def has_uniform_parts(self, info: ObjectInfo, part_size: int) -> bool:  # noqa: ARG002
        """See `Store`. No object here has parts."""
        return False

    async def read(self, info: ObjectInfo, span: ByteRange | None = None) -> Content:
        """See `Store`.

        `Accept-Encoding: gzip` keeps Google from decoding what is stored as gzip.
        Source: https://docs.cloud.google.com/storage/docs/transcoding
        """
        metadata = Metadata.from_json(info.metadata) if info.metadata else Metadata()
        start, end = span or ByteRange(0, info.size)
        if start >= end and span is not None:
            return Content((), 0, metadata, info.crc32c)
        query = {"alt": "media"}
        if info.version:
            query["generation"] = info.version
        headers = {"Accept-Encoding": "gzip"}
        if span is not None:
            headers["Range"] = f"bytes={start}-{end - 1}"
        try:
            response = await self.wire.call(
                "read",
                info.key,
                "GET",
                f"/download{self._path(info.key)}",
                query,
                headers=headers,
                limit=end - start,
                accept={200, 206},
            )
        except NotFoundError as error:
            raise await self._gone_or_changed(info, error) from error
        if response.size != end - start:
            raise TransientError(f"read {info.key!r}: {response.size} bytes came instead of {end - start}")
        return Content(
            response.chunks, end - start, metadata, info.crc32c or crc32c_in(response.headers.get("x-goog-hash", ""))
        )

    async def _gone_or_changed(self, info: ObjectInfo, error: NotFoundError) -> HeavysyncError:
        """A generation that is not found was deleted or replaced: one look tells."""
        if info.version and await self.stat(info.key) is not None:
            return ConditionError(f"read {info.key!r}: the object changed since it was listed")
        return error

    async def read_tags(self, info: ObjectInfo) -> tuple[tuple[str, str], ...]:  # noqa: ARG002
        """See `Store`. GCS has none."""
        return ()

    async def write(
        self, key: str, content: Content, metadata: Metadata, digests: Digests, replaces: ObjectInfo | None
    ) -> Written:
        """See `Store`. Google holds the bytes against the digests in the resource, and says what it has."""
        boundary = self.wire.boundary
        resource = resource_of(self.location.prefix + key, metadata, self._options.storage_class, digests)
        head = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode()
            + text_of(resource)
            + f"\r\n--{boundary}\r\nContent-Type: {header_type(metadata)}\r\n\r\n".encode()
        )
        response = await self._insert(
            key,
            {"uploadType": "multipart", "fields": _WRITTEN_FIELDS, **_replacing(replaces)},
            {"Content-Type": f"multipart/related; boundary={boundary}"},
            (head, *content.chunks, f"\r\n--{boundary}--\r\n".encode()),
        )
        return written_in(decoded(response, f"write {key!r}"), "write", self.location, key)

    async def _insert(self, key: str, query: dict[str, str], headers: dict[str, str], body: Sequence[bytes]) -> Response:
        """One request to the upload path."""
        try:
            return await self.wire.call(
                "write", key, "POST", f"/upload{self._bucket_path}/o", query, headers=headers, body=body
            )
        except PermanentError as error:
            if is_checksum_refusal(str(error)):
                raise DamagedError(f"{error} (damaged on the way)") from error
            raise
        except NotFoundError as error:
            raise FatalError(f"{self.location}: the bucket is missing: {error}") from error

    async def remove_generation(self, key: str, written: Written) -> None:
        """Take away exactly the object that was just written."""
        query = {"generation": written.version or ""}
        await self.wire.call("remove", key, "DELETE", self._path(key), query, accept=_GONE)

    async def begin_upload(
        self,
        key: str,
        metadata: Metadata,
        *,
        size: int,
        part_size: int,
        source_token: str,
        nonce: str,
        replaces: ObjectInfo | None,
        server_side: bool = False,  # noqa: ARG002
    ) -> GcsUpload:
        """See `Store`. An empty object has no bytes that a session could end with: use `write`."""
        if size < 1:
            raise ValueError("an empty object is written in one request")
        resource = resource_of(self.location.prefix + key, metadata, self._options.storage_class, None)
        response = await self._insert(
            key,
            {"uploadType": "resumable", **_replacing(replaces)},
            {
                "Content-Type": "application/json; charset=UTF-8",
                "X-Upload-Content-Type": header_type(metadata),
                "X-Upload-Content-Length": str(size),
            },
            (text_of(resource),),
        )
        session = response.headers.get("location")
        if not session or not is_text(session):
            raise TransientError(f"begin the upload of {key!r}: the answer has no session")
        state = UploadState(id=session, part_size=part_size, source_token=source_token, nonce=nonce)
        return GcsUpload(self, key, state, size)

    async def resume_upload(self, key: str, state: UploadState, *, size: int, replaces: ObjectInfo | None) -> GcsUpload:
        """See `Store`. A session that has finished the object is taken up too: nothing is sent then."""
        del replaces  # fixed when the session began
        upload = GcsUpload(self, key, state, size)
        await upload.agree()
        return upload

    async def abort_upload(self, key: str, state: UploadState) -> None:
        """See `Store`."""
        await GcsUpload(self, key, state, 0).abort()

    async def copy(
        self,
        source: Store,
        info: ObjectInfo,
        *,
        replaces: ObjectInfo | None,
        state: UploadState | None = None,
    ) -> Written | UploadState:
        """See `Store`. One step of a rewrite; its token lives for a week.

        Source: https://docs.cloud.google.com/storage/docs/json_api/v1/objects/rewrite
        """
        origin = object_path(source.location.bucket, source.location.prefix + info.key)
        target = self._path(info.key).removeprefix("/storage/v1")
        query = {"fields": f"kind,done,rewriteToken,resource({_WRITTEN_FIELDS})", **_replacing(replaces)}
        if info.version:
            query |= {"sourceGeneration": info.version, "ifSourceGenerationMatch": info.version}
        if state is not None:
            query["rewriteToken"] = state.id
        headers, body = self._rewrite_body(info)
        try:
            response = await self.wire.call(
                "copy",
                info.key,
                "POST",
                f"{origin}/rewriteTo{target}",
                query,
                headers=headers,
                body=body,
                accept={200, 410},
            )
        except NotFoundError as error:
            if info.version and await source.stat(info.key) is not None:
                raise ConditionError(f"copy {info.key!r}: the source changed since it was listed") from error
            raise
        if response.status == 410:
            raise UploadGoneError(f"copy {info.key!r}: the rewrite token is dead")
        return rewritten_in(decoded(response, f"copy {info.key!r}"), self.location, info)

    def _rewrite_body(self, info: ObjectInfo) -> tuple[dict[str, str], tuple[bytes, ...]]:
        """No body keeps all metadata; a storage class can only be set together with all of them."""
        if not self._options.storage_class:
            return {}, ()
        metadata = Metadata.from_json(info.metadata) if info.metadata else Metadata()
        resource = resource_of(self.location.prefix + info.key, metadata, self._options.storage_class, None)
        return {"Content-Type": "application/json; charset=UTF-8"}, (text_of(resource),)

    async def delete(self, batch: Sequence[Deletion]) -> list[DeletionFailure]:
        """See `Store`."""
        if len(batch) > self.limits.delete_batch:
            raise ValueError(f"{len(batch)} deletions, at most {self.limits.delete_batch} go in a batch")
        if not batch:
            return []
        header = await self.wire.header()
        targets = [self.wire.target(self._path(item.key), deletion_query(item)) for item in batch]
        response = await self.wire.call(
            "delete",
            "",
            "POST",
            "/batch/storage/v1",
            {},
            headers={"Content-Type": f"multipart/mixed; boundary={self.wire.boundary}"},
            body=(batch_body(targets, self.wire.boundary),),
        )
        inners = batch_answers(response, len(batch))
        self.wire.prove_authorized(header, inners)
        if any(is_throttled(inner) for inner in inners):
            self.wire.heed("POST", TransientError("delete: throttled", throttled=True))
        answers = zip(batch, inners, strict=True)
        return [failure for item, inner in answers if (failure := failure_of(item, inner))]

    def _path(self, key: str) -> str:
        return object_path(self.location.bucket, self.location.prefix + key)


def _replacing(replaces: ObjectInfo | None) -> dict[str, str]:
    """The precondition of a write. 0 means: there is no live object."""
    return {"ifGenerationMatch": (replaces.version or "0") if replaces else "0"}
