"""The contract of a store: what the engine may ask of S3, of Google Cloud Storage and of the memory store.

A store is rooted at a `Location`: it adds the location's prefix to every key it sends and takes it off every key it
answers, so above it there are only relative keys, the same on both sides.

Every method is one retriable step and answers a page, a part or a batch. It makes no hidden second attempt, follows
no redirect, and raises only classes of `heavysync.errors`: `TransientError` where the same call may succeed later,
`ObjectError` for this object, `FatalError` for the run. `asyncio.CancelledError` passes through. One conformance
suite (`tests/contract`) runs against every implementation and every server that can be started.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

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
    Part,
    PartDone,
    UploadState,
    VersionCursor,
    VersionPage,
    Written,
)


class Upload(Protocol):
    """An upload under way: an S3 multipart upload or a GCS resumable session."""

    @property
    def state(self) -> UploadState:
        """What to keep so that the upload can be resumed; `parts` are the acknowledged ones."""

    @property
    def needs_md5s(self) -> bool:
        """Whether a part has to come with its md5: nothing else would show the store that it was damaged on the way."""

    async def write_part(self, part: Part, content: Content, digests: Digests, *, whole_md5: bytes = b"") -> PartDone:
        """Send one part; when it returns, the store has all its bytes and `state` says so.

        `whole_md5`, with the last part, is what the whole has to have: a store that takes parts in order lets its provider
        check it before the object appears.

        Without `Limits.parallel_parts` parts come in order, one at a time. The last part of a GCS session is held
        by the server as the end of the object, so there `complete` may find the object finished already.

        Raises:
            UploadGoneError: the upload does not exist any more.
        """

    async def copy_part(self, source: Store, info: ObjectInfo, part: Part) -> PartDone:
        """Let the provider copy one part from `source` (same `copy_domain`), pinned to `info`'s ETag.

        Raises:
            NotFoundError: the source object is gone.
            ConditionError: the source object changed.
            PermanentError: this store cannot copy parts.
        """

    async def complete(self, digests: Digests | None) -> Written:
        """Make the object appear, if the destination still is as it was when the upload began.

        An answer that does not prove success (no ETag, or one lost on the way and asked again) is settled by looking
        at the destination. `digests` are those of the whole object where they are known; a store that can, lets the
        provider check them.

        Raises:
            ConditionError: somebody else wrote the destination meanwhile; nothing was overwritten.
            UploadGoneError: the upload is gone and the destination is not what it would have become.
        """

    async def abort(self) -> None:
        """Give the upload up and free what it holds. An upload that is gone already is no error."""


class Store(Protocol):
    """One side of a synchronisation. Made by `stores.open_store`, closed by its `async with`."""

    @property
    def location(self) -> Location:
        """Where the store is rooted."""

    @property
    def limits(self) -> Limits:
        """What the store can take."""

    @property
    def server(self) -> str:
        """Who answers: two stores with equal servers mean the same bucket by the same name, however it was spelt."""

    @property
    def caution(self) -> str | None:
        """What whoever runs this should know about the way to the store, in one sentence; None: nothing."""

    @property
    def copy_domain(self) -> str:
        """Two stores with equal domains can copy server side: same provider, endpoint and credentials."""

    def name_error(self, key: str) -> str | None:
        """Why `key` (relative) cannot be a name here, in plain words; None if it can. Costs no request."""

    def metadata_error(self, metadata: Metadata) -> str | None:
        """Why `metadata` cannot be kept here, in plain words; None if it can. Costs no request."""

    async def read_bucket(self) -> BucketInfo:
        """Look at the bucket: one or two requests, made once at start.

        Raises:
            NotFoundError: there is no such bucket.
            FatalError: no permission, wrong credentials, wrong endpoint; says which and what to do.
        """

    async def create_bucket(self, location: str | None, storage_class: str | None) -> None:
        """Create the bucket; one that exists already and is ours is no error."""

    async def enable_versioning(self) -> None:
        """Switch object versioning on."""

    async def list_page(self, after: str | None, until: str | None, limit: int = 1000) -> Page:
        """List live objects with key > `after` (None: from the start) and <= `until` (None: to the end): one request.

        The answer is proven to be a listing (S3: `Name` and `KeyCount`; GCS: `kind`) and its keys to be strictly
        ascending in UTF-8 bytes and above `after`; anything else is a `TransientError` ("not a listing") or, where
        the order is wrong, a `FatalError`; it is never an empty page. A page may hold fewer than `limit` objects,
        even none, and yet have a cursor.
        """

    async def list_versions_page(self, after: VersionCursor | None, first: str | None, until: str | None) -> VersionPage:
        """List versions and delete markers of keys > `first` and <= `until`: one request.

        `after` continues a former page (then `first` is only a bound). On S3 the rows of one key are newest first and
        `noncurrent_since` is the creation of the row before it (taken from `after` for the first row of a page).
        On GCS `noncurrent_since` is `timeDeleted`; rows are ordered newest first here too.
        """

    async def stat(self, key: str) -> ObjectInfo | None:
        """Look at one live object, with everything the provider tells (metadata, checksums); None if there is none.

        One request. `md5` is filled where the provider states a real md5 (GCS; S3 `x-amz-checksum-md5`), `crc32c`
        where it states a full-object one, `version` where it has one.
        """

    async def examine(self, key: str) -> Examined | None:
        """The same look as `stat`, with the digests that a listing has no room for; None if there is no object."""

    async def part_size(self, info: ObjectInfo) -> int | None:
        """The part size that a multipart object was written with, if it may be uniform: at most one request.

        None without a request where the listing shows that the object has no parts.
        """

    async def has_uniform_parts(self, info: ObjectInfo, part_size: int) -> bool:
        """Whether all parts of a multipart object but the last have the size that `part_size` answered.

        It answers by the first part and the number of parts, which parts of different sizes may fit as well. This asks for
        each part: up to as many requests. For when bytes seem to contradict the object's ETag.
        """

    async def read(self, info: ObjectInfo, span: ByteRange | None = None) -> Content:
        """Read an object, or a span of it, into memory as stored bytes (gzip is never decoded): one request.

        Pinned to the listed object (S3 `If-Match`, GCS `generation`). Exactly the bytes asked for arrive, or an error.
        `metadata` is set on every read of S3 and taken from `info.metadata` on GCS.

        Raises:
            NotFoundError: the object is gone.
            ConditionError: the object is not the listed one any more.
            PermanentError: it cannot be read: archived, forbidden, encrypted with an unknown key.
        """

    async def read_tags(self, info: ObjectInfo) -> tuple[tuple[str, str], ...]:
        """The object's tags; empty where the provider has none (GCS)."""

    async def write(
        self, key: str, content: Content, metadata: Metadata, digests: Digests, replaces: ObjectInfo | None
    ) -> Written:
        """Write a whole object of at most `limits.write_max` bytes: one request.

        The digests travel with it, so most stores refuse what was damaged on the way; what is stored is in the answer, for the
        caller to compare (`transfer.writing`). `replaces` is the object that was
        listed at this key; None: there was none. The write happens only if that is still so.

        Raises:
            ConditionError: the destination is not as listed (or an earlier attempt succeeded unseen).
            PermanentError: the provider refuses the object.
        """

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
        """Begin a multipart upload or a resumable session for an object of `size` bytes: mostly one request.

        `server_side`: all its parts will come by `Upload.copy_part`.
        """

    async def resume_upload(self, key: str, state: UploadState, *, size: int, replaces: ObjectInfo | None) -> Upload:
        """Take up an upload again after asking the server what it has; its `state.parts` are what both agree on.

        Raises:
            UploadGoneError: it does not exist any more (it may also have been completed).
        """

    async def abort_upload(self, key: str, state: UploadState) -> None:
        """Give an upload of an earlier attempt up, without taking it up first; see `Upload.abort`."""

    async def copy(
        self,
        source: Store,
        info: ObjectInfo,
        *,
        replaces: ObjectInfo | None,
        state: UploadState | None = None,
    ) -> Written | UploadState:
        """Let the provider copy `info` from `source` (same `copy_domain`) to the same key here: one request.

        Metadata travel unchanged. Pinned to the listed source and conditional on the listed destination. GCS may
        answer an `UploadState` (rewrite token): call again with it, until `Written`. At most `limits.copy_max` bytes.

        Raises:
            NotFoundError: the source object is gone.
            ConditionError: the source or the destination is not as listed.
            UploadGoneError: the rewrite token is dead: begin again without it.
        """

    async def delete(self, batch: Sequence[Deletion]) -> list[DeletionFailure]:
        """Delete up to `limits.delete_batch` objects; answer those that were not. A missing one counts as deleted.

        Raises:
            TransientError: nothing is known about any of them; asking again is safe.
        """
