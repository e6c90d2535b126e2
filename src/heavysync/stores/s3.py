"""The S3 store: the contract of `base.py` in signed requests.

Every request goes through `s3_wire`, rare ones too: one way of sending, one table of errors. aiobotocore gives
what is hard to get right by hand, in `s3_session`: credentials, their refresh, region and endpoint.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from heavysync.checksums import crc32c_text, md5_text
from heavysync.errors import ConditionError, FatalError, NotFoundError, PermanentError, TransientError
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
from heavysync.stores import s3_begin, s3_bucket, s3_delete, s3_errors, s3_metadata, s3_read, s3_versions, s3_xml
from heavysync.stores.answers import MOST_EMPTY_PAGES
from heavysync.stores.base import Store, Upload
from heavysync.stores.http import Door
from heavysync.stores.renewal import Patience
from heavysync.stores.rules import plain_http_caution, server_of
from heavysync.stores.s3_session import S3Options, Session
from heavysync.stores.s3_upload import S3Upload, conditions, copy_source, etag_in, is_md5, version_of
from heavysync.stores.s3_wire import Wire

__all__ = ["S3Options", "S3Store", "open_s3"]

_GIB = 1 << 30
_MIB = 1 << 20

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html; the largest object follows from the parts.
# 250 keys a deletion instead of 1,000: each counts as a write, and 1,000 at once come as a spike.
_LIMITS = Limits(
    write_max=5 * _GIB,
    part_min=5 * _MIB,
    part_max=5 * _GIB,
    part_count=10_000,
    part_multiple=1,
    parallel_parts=True,
    object_max=10_000 * 5 * _GIB,
    copy_max=5 * _GIB,
    delete_batch=250,
)

_KEY_BYTES = 1024  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html


@asynccontextmanager
async def open_s3(
    location: Location,
    options: S3Options,
    *,
    connections: int,
    patience: Patience | None = None,
) -> AsyncIterator[S3Store]:
    """Open one side. Sends nothing to S3 yet.

    Args:
        location: bucket and prefix.
        options: how to reach it.
        connections: most requests under way at once.
        patience: what to do while the credentials are not accepted; its `stopping` ends waits for a turn, too.

    Raises:
        FatalError: no credentials, no such profile, no endpoint for this bucket.
        TransientError: the service that hands out credentials did not answer.
    """
    if location.bucket.endswith("--x-s3"):
        raise FatalError(f"{location}: directory buckets do not list in order, which heavysync needs")
    session = Session(options, location.bucket, patience)
    endpoint = await session.open()
    speaks_tls = endpoint.origin.startswith("https:") or options.trust_env  # else nobody needs the authorities
    door = Door(
        connections=connections,
        stall_s=options.stall_s,
        client=options.http_client,
        ca_bundle=session.ca_bundle if speaks_tls else None,
        trust_env=options.trust_env,
        stopping=patience.stopping if patience else None,
    )
    async with door:
        wire = Wire(location, session, door, request_payer=options.request_payer, stall_s=options.stall_s)
        yield S3Store(wire, options)


class S3Store:
    """One side of a synchronisation, on S3. Made by `open_s3`; implements `stores.base.Store`."""

    def __init__(self, wire: Wire, options: S3Options) -> None:
        self._wire = wire
        self._options = options
        self._deleter = s3_delete.Deleter(wire)
        self._begin = s3_begin.Beginner(wire)
        self._keepable: Metadata | None = None  # looked at last, and found good
        endpoint = wire.session.endpoint
        self._copy_domain = f"s3 {endpoint.partition or endpoint.origin} {wire.session.identity}"

    @property
    def location(self) -> Location:
        """Where the store is rooted."""
        return self._wire.location

    @property
    def limits(self) -> Limits:
        """What S3 can take."""
        return _LIMITS

    @property
    def server(self) -> str:
        """AWS partition (bucket names are unique in it), else host and port."""
        endpoint = self._wire.session.endpoint
        return f"s3 {endpoint.partition or server_of(endpoint.origin)}"

    @property
    def caution(self) -> str | None:
        """See `Store`."""
        return plain_http_caution(self._wire.session.endpoint.origin)

    @property
    def copy_domain(self) -> str:
        """AWS partition or endpoint, and who we are there."""
        return self._copy_domain

    @property
    def _is_aws(self) -> bool:
        return bool(self._wire.session.endpoint.partition)

    def name_error(self, key: str) -> str | None:
        """See `Store.name_error`: anything of 1 to 1,024 bytes of UTF-8 is a name."""
        name = self.location.prefix + key
        if not name:
            return "S3 has no empty names"
        try:
            size = len(name.encode())
        except UnicodeEncodeError:
            return "the name is not valid Unicode"
        return f"the name takes {size} bytes and S3 allows {_KEY_BYTES}" if size > _KEY_BYTES else None

    def metadata_error(self, metadata: Metadata) -> str | None:
        """See `Store.metadata_error`. Asked before an object is written, and by the write once more, which then is free."""
        if metadata is self._keepable:
            return None
        problem = s3_metadata.problem(metadata)
        if problem is None:
            self._keepable = metadata
        return problem

    async def read_bucket(self) -> BucketInfo:
        """See `Store.read_bucket`. Finds the bucket's region where another was configured."""
        return await s3_bucket.read_bucket(self._wire)

    async def create_bucket(self, location: str | None, storage_class: str | None) -> None:  # noqa: ARG002
        """See `Store.create_bucket`; `location` is a region; S3 buckets have no storage class."""
        await s3_bucket.create_bucket(self._wire, location)

    async def enable_versioning(self) -> None:
        """See `Store.enable_versioning`. S3 asks to wait 15 minutes before the first write."""
        await s3_bucket.enable_versioning(self._wire)

    async def list_page(self, after: str | None, until: str | None, limit: int = 1000) -> Page:
        """See `Store.list_page`."""
        prefix = self.location.prefix
        query = [("encoding-type", "url"), ("list-type", "2")]
        if prefix:
            query.append(("prefix", prefix))
        if after is not None and prefix + after:
            query.append(("start-after", prefix + after))
        if limit < 1000:
            query.append(("max-keys", str(limit)))
        followed: dict[str, None] = {}
        while True:
            more = [("continuation-token", token) for token in [*followed][-1:]]
            response = await self._wire.send(s3_errors.LIST, "GET", None, query=query + more)
            rest, rows = s3_xml.take_rows(response.body)
            root = await self._wire.prove(s3_errors.LIST, None, response, rest)
            token = s3_xml.token_after_nothing(root, rows)
            if token is None or token in followed or len(followed) >= MOST_EMPTY_PAGES:
                return s3_xml.read_page(root, rows, s3_xml.Scope(self._wire.place(""), prefix, after, until))
            followed[token] = None  # a page without keys: only its token leads on

    async def list_versions_page(self, after: VersionCursor | None, first: str | None, until: str | None) -> VersionPage:
        """See `Store.list_versions_page`."""
        prefix = self.location.prefix
        query = [("encoding-type", "url"), ("versions", "")]
        if prefix:
            query.append(("prefix", prefix))
        if after is not None:
            query += [("key-marker", prefix + after.key), ("version-id-marker", after.version)]
        elif first is not None and prefix + first:
            query.append(("key-marker", prefix + first))
        response, root = await self._wire.send_xml(s3_errors.LIST_VERSIONS, "GET", None, query=query)
        server_time = s3_read.server_time(response.headers)
        scope = s3_xml.Scope(self._wire.place(""), prefix, first, until)
        rows = s3_versions.read_versions(root, scope, after, server_time)
        return VersionPage(rows.versions, rows.cursor, server_time)

    async def stat(self, key: str) -> ObjectInfo | None:
        """See `Store.stat`."""
        found = await self.examine(key)
        return None if found is None else found.info

    async def examine(self, key: str) -> Examined | None:
        """See `Store.examine`."""
        try:
            response = await s3_read.head(self._wire, key, {"x-amz-checksum-mode": "ENABLED"})
        except NotFoundError:
            return None
        return s3_read.examined(key, response.headers)

    async def part_size(self, info: ObjectInfo) -> int | None:
        """See `Store.part_size`."""
        return await s3_read.part_size(self._wire, info)

    async def has_uniform_parts(self, info: ObjectInfo, part_size: int) -> bool:
        """See `Store.has_uniform_parts`."""
        return await s3_read.has_uniform_parts(self._wire, info, part_size)

    async def read(self, info: ObjectInfo, span: ByteRange | None = None) -> Content:
        """See `Store.read`."""
        return await s3_read.read(self._wire, info, span)

    async def read_tags(self, info: ObjectInfo) -> tuple[tuple[str, str], ...]:
        """See `Store.read_tags`."""
        return await s3_read.read_tags(self._wire, info)

    async def write(
        self, key: str, content: Content, metadata: Metadata, digests: Digests, replaces: ObjectInfo | None
    ) -> Written:
        """See `Store.write`."""
        headers = self._creation_headers(key, metadata) | conditions(replaces)
        headers["content-md5"] = md5_text(digests.md5)
        if self._is_aws:  # S3-likes may refuse what they do not know
            headers["x-amz-checksum-crc32c"] = crc32c_text(digests.crc32c)
        response = await self._wire.send(s3_errors.WRITE, "PUT", key, headers=headers, body=content.chunks or (b"",))
        etag = etag_in(response.headers)
        if etag:
            plain = is_md5(etag, response.headers)
            return Written(etag, version_of(response.headers), content.size, is_md5_etag=plain)
        found = await self.stat(key)
        if found is None or (found.etag, found.size) != (digests.md5.hex(), content.size):
            raise TransientError(f"write {self._wire.place(key)}: the answer has no ETag")
        return Written(found.etag, found.version, found.size, is_md5_etag=True)

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
        server_side: bool = False,
    ) -> Upload:
        """See `Store.begin_upload`."""
        upload, crcs = await self._begin(key, self._creation_headers(key, metadata), crcs=not server_side)
        state = UploadState(id=upload, part_size=part_size, source_token=source_token, nonce=nonce, crcs=crcs)
        return S3Upload(self._wire, self.stat, key, state, size, replaces, self._begin.distrust)

    async def resume_upload(self, key: str, state: UploadState, *, size: int, replaces: ObjectInfo | None) -> Upload:
        """See `Store.resume_upload`."""
        upload = S3Upload(self._wire, self.stat, key, state, size, replaces, self._begin.distrust)
        await upload.agree()
        return upload

    async def abort_upload(self, key: str, state: UploadState) -> None:
        """See `Store`."""
        await S3Upload(self._wire, self.stat, key, state, 0, None, self._begin.distrust).abort()

    async def copy(
        self,
        source: Store,
        info: ObjectInfo,
        *,
        replaces: ObjectInfo | None,
        state: UploadState | None = None,
    ) -> Written | UploadState:
        """See `Store.copy`. Metadata and tags travel; storage class, ACL and annotations do not."""
        del state  # S3 copies in one request
        headers = copy_source(source.location, info) | conditions(replaces) | self._storage_headers()
        headers["x-amz-metadata-directive"] = "COPY"
        headers["x-amz-tagging-directive"] = "COPY" if self._options.copy_tags else "REPLACE"
        if self._is_aws:  # each annotation would cost a write, and needs permissions of its own
            headers["x-amz-object-annotation-directive"] = "EXCLUDE"
        try:
            response = await self._wire.send(s3_errors.COPY, "PUT", info.key, headers=headers)
        except NotFoundError as error:  # the source, or the object to replace: the answer does not say which
            if replaces is not None and await self.stat(info.key) is None:
                raise ConditionError(str(error)) from error
            raise
        etag = s3_xml.copied_etag(response.body)
        if etag is None:
            root = await self._wire.prove(s3_errors.COPY, info.key, response, response.body)
            etag = s3_xml.etag_of(root) if root.tag == "CopyObjectResult" else ""
        if etag:
            return Written(etag, version_of(response.headers), info.size)
        found = await self.stat(info.key)
        if found is None or (found.etag, found.size) != (info.etag, info.size):
            raise TransientError(f"copy to {self._wire.place(info.key)}: the answer has no ETag")
        return Written(found.etag, found.version, found.size)

    async def delete(self, batch: Sequence[Deletion]) -> list[DeletionFailure]:
        """See `Store.delete`."""
        return await self._deleter.delete(batch)

    def _storage_headers(self) -> dict[str, str]:
        name = self._options.storage_class
        return {"x-amz-storage-class": name} if name else {}

    def _creation_headers(self, key: str, metadata: Metadata) -> dict[str, str]:
        """Metadata, tags and storage class of a new object."""
        problem = self.metadata_error(metadata)
        if problem is not None:
            raise PermanentError(f"write {self._wire.place(key)}: {problem}", code="metadata")
        return s3_metadata.to_headers(metadata) | s3_metadata.tag_header(metadata) | self._storage_headers()
