"""A multipart upload to S3: parts in any order, then one completion that is proven or settled by looking.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from heavysync.checksums import Stamp, crc32c_text, md5_text, multipart_etag
from heavysync.errors import ConditionError, DamagedError, PermanentError, TransientError, UploadGoneError
from heavysync.hashing import digests_of
from heavysync.objects import (
    STAMP_KEY,
    ByteRange,
    Content,
    Digests,
    Metadata,
    ObjectInfo,
    Part,
    PartDone,
    UploadState,
    Written,
)
from heavysync.stores import s3_errors, s3_xml
from heavysync.stores.answers import is_text
from heavysync.stores.s3_wire import parse_xml
from heavysync.stores.sigv4 import encode_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heavysync.objects import Location
    from heavysync.stores.base import Store
    from heavysync.stores.http import Response
    from heavysync.stores.s3_wire import Wire

_EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"

_MD5 = re.compile("[0-9a-f]{32}")

_KMS = {"aws:kms", "aws:kms:dsse"}


def conditions(replaces: ObjectInfo | None) -> dict[str, str]:
    """The header that lets a write happen only if the destination is as it was listed.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
    """
    if replaces is None:
        return {"if-none-match": "*"}
    return {"if-match": f'"{replaces.etag}"'} if replaces.etag else {}


def copy_source(source: Location, info: ObjectInfo) -> dict[str, str]:
    """The headers that name an object to copy from, pinned to its listed ETag."""
    name = encode_path(f"{source.bucket}/{source.prefix}{info.key}")
    version = f"?versionId={encode_path(info.version)}" if info.version else ""
    pin = {"x-amz-copy-source-if-match": f'"{info.etag}"'} if info.etag else {}
    return {"x-amz-copy-source": name + version, **pin}


def is_encrypted(headers: Mapping[str, str]) -> bool:
    """Whether an answer says that the object's ETag has nothing to do with md5: KMS, or a key of the customer.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html (ETag)
    """
    if headers.get("x-amz-server-side-encryption") in _KMS:
        return True
    return "x-amz-server-side-encryption-customer-algorithm" in headers


class S3Upload:
    """One multipart upload under way.

    Args:
        wire: requests to the bucket.
        stat: looks at the destination.
        key: relative.
        state: what is known of the upload.
        size: of the whole object, in bytes.
        replaces: the object listed at the key.
        distrust: is told that an upload with CRCs cannot be completed; answers whether the next one will carry md5s.
    """

    def __init__(
        self,
        wire: Wire,
        stat: Callable[[str], Awaitable[ObjectInfo | None]],
        key: str,
        state: UploadState,
        size: int,
        replaces: ObjectInfo | None,
        distrust: Callable[[], bool],
    ) -> None:
        self._wire = wire
        self._stat = stat
        self._distrust = distrust
        self._key = key
        self._state = state
        self._size = size
        self._replaces = replaces
        self._parts = {part.number: part for part in state.parts}

    @property
    def state(self) -> UploadState:
        """What to keep so that the upload can be resumed."""
        return replace(self._state, parts=self._sorted())

    def _sorted(self) -> tuple[PartDone, ...]:
        return tuple(self._parts[number] for number in sorted(self._parts))

    def _query(self, part: Part) -> tuple[tuple[str, str], ...]:
        return (("partNumber", str(part.number)), ("uploadId", self._state.id))

    @property
    def needs_md5s(self) -> bool:
        """See `Upload`."""
        return not self._state.crcs

    async def write_part(self, part: Part, content: Content, digests: Digests, *, whole_md5: bytes = b"") -> PartDone:  # noqa: ARG002
        """See `Upload.write_part`. The answer says which CRC the part has; or its ETag is the md5, unless KMS encrypts it."""
        crc = crc32c_text(digests.crc32c)
        headers = {"content-md5": md5_text(digests.md5)} if digests.md5 else {}
        if self._state.crcs:
            headers["x-amz-checksum-crc32c"] = crc
        response = await self._wire.send(
            s3_errors.WRITE_PART, "PUT", self._key, query=self._query(part), headers=headers, body=content.chunks
        )
        etag, stated = etag_in(response.headers), response.headers.get("x-amz-checksum-crc32c")
        place = f"write part {part.number} of {self._place()}"
        if not etag:
            raise TransientError(f"{place}: the answer has no ETag")
        if self._state.crcs and stated not in {None, crc}:
            raise DamagedError(f"{place}: the crc32c {crc} was sent, what is there has {stated}")
        if is_md5(etag, response.headers) and (digests.md5 or stated is None):
            md5 = (digests.md5 or (await digests_of(content)).md5).hex()
            if etag != md5:
                raise DamagedError(
                    f"{place}: {md5} was sent, the ETag of what is there is {etag}"
                    " (or it is no md5: then this server cannot be trusted with parts)"
                )
        return self._done(PartDone(part.number, etag, digests.md5.hex(), digests.crc32c))

    async def copy_part(self, source: Store, info: ObjectInfo, part: Part) -> PartDone:
        """See `Upload.copy_part`.

        A server that does not know UploadPartCopy takes the request for an upload of an empty part (rclone 1.75);
        the upload then holds a wrong part and has to be aborted.
        """
        headers = copy_source(source.location, info)
        if part.size < info.size:
            headers["x-amz-copy-source-range"] = f"bytes={part.start}-{part.end - 1}"
        response = await self._wire.send(
            s3_errors.COPY_PART,
            "PUT",
            self._key,
            query=self._query(part),
            headers=headers,
        )
        etag = await self._copied_etag(response, part)
        return self._done(PartDone(part.number, etag))

    async def _copied_etag(self, response: Response, part: Part) -> str:
        place = f"copy part {part.number} to {self._place()}"
        root = parse_xml(response.body)
        if root is None:
            if not response.body and etag_in(response.headers) == _EMPTY_MD5:
                raise PermanentError(f"{place}: the server cannot copy parts", code="copy-part-unsupported")
            raise TransientError(f"{place}: {response.size} bytes came that are no S3 answer")
        if root.tag == "Error":
            raise await self._wire.failure(s3_errors.COPY_PART, self._key, response, None)
        etag = s3_xml.etag_of(root)
        if root.tag != "CopyPartResult":
            raise TransientError(f"{place}: the answer is <{root.tag}>")
        if not etag:
            raise PermanentError(f"{place}: the answer has no ETag", code="copy-part-unsupported")
        return etag

    def _done(self, done: PartDone) -> PartDone:
        self._parts[done.number] = done
        return done

    async def complete(self, digests: Digests | None) -> Written:
        """See `Upload.complete`. Each part carried its own md5 or CRC; the size of the whole, and its CRC, travel along.

        Servers that are not AWS's are looked at afterwards: some answer one ETag and list another (rclone 1.75).
        """
        parts = self._sorted()
        headers = conditions(self._replaces) | {
            "content-type": "application/xml",
            "x-amz-mp-object-size": str(self._size),
        }
        if self._state.crcs and digests is not None:
            headers |= {"x-amz-checksum-type": "FULL_OBJECT", "x-amz-checksum-crc32c": crc32c_text(digests.crc32c)}
        try:
            response, root = await self._wire.send_xml(
                s3_errors.COMPLETE,
                "POST",
                self._key,
                query=(("uploadId", self._state.id),),
                headers=headers,
                body=(s3_xml.complete_body(parts, crcs=self._state.crcs),),
            )
        except (UploadGoneError, ConditionError) as error:
            # An earlier attempt may have won, its answer lost on the way.
            written = await self._look(parts, digests)
            if written is None:
                if self._state.crcs and isinstance(error, UploadGoneError):
                    self._distrust()
                raise
            return written
        except (PermanentError, DamagedError) as error:
            if self._state.crcs and self._distrust():
                raise UploadGoneError(f"{error}; begun anew, with md5s") from error
            raise
        etag = s3_xml.etag_of(root)
        if etag and self._wire.session.endpoint.partition:
            return Written(etag, version_of(response.headers), self._size)
        written = await self._look(parts, digests, answered=etag)
        if written is None and etag:
            raise ConditionError(f"complete {self._place()}: somebody else's object is there right after ours was completed")
        if written is None:
            raise TransientError(f"complete {self._place()}: neither an ETag came nor is the object there")
        return written

    async def _look(self, parts: tuple[PartDone, ...], digests: Digests | None, *, answered: str = "") -> Written | None:
        """The destination, if it is what this upload makes: by an ETag, else by the nonce in our stamp."""
        found = await self._stat(self._key)
        if found is None or found.size != self._size:
            return None
        expected = {answered, digests.md5.hex() if digests else ""} - {""}
        if all(_MD5.fullmatch(part.etag) for part in parts):
            expected.add(multipart_etag([bytes.fromhex(part.etag) for part in parts]))
        if found.etag not in expected and not self._has_our_stamp(found):
            return None
        if self._state.crcs and digests is not None and found.crc32c not in {None, crc32c_text(digests.crc32c)}:
            return None
        return Written(found.etag, found.version, found.size)

    def _has_our_stamp(self, found: ObjectInfo) -> bool:
        text = Metadata.from_json(found.metadata).user.get(STAMP_KEY) if found.metadata else None
        stamp = Stamp.parse(text) if text else None
        return stamp is not None and bool(stamp.nonce) and stamp.nonce == self._state.nonce

    async def abort(self) -> None:
        """See `Upload.abort`."""
        try:
            await self._wire.send(s3_errors.ABORT, "DELETE", self._key, query=(("uploadId", self._state.id),))
        except UploadGoneError:
            return

    async def agree(self) -> None:
        """Keep those parts only that the server has too, with the same ETag and size: a request per 1,000 parts.

        Raises:
            UploadGoneError: the upload does not exist any more.
        """
        held: dict[int, s3_xml.ListedPart] = {}
        marker: str | None = "0"  # parts are asked for after this number
        while marker is not None:
            query = (("part-number-marker", marker), ("uploadId", self._state.id))
            _, root = await self._wire.send_xml(
                s3_errors.LIST_PARTS, "GET", self._key, query=query if marker != "0" else query[1:]
            )
            before, (parts, marker) = int(marker), s3_xml.read_parts(root)
            if marker is not None and int(marker) <= before:
                raise TransientError(f"list parts of {self._place()}: the list does not come on after part {before}")
            held.update((part.number, part) for part in parts)
        self._parts = {
            number: part
            for number, part in self._parts.items()
            if number in held and (held[number].etag, held[number].size) == (part.etag, self._span(number))
        }

    def _span(self, number: int) -> int:
        """Bytes of the part of this number."""
        span = ByteRange((number - 1) * self._state.part_size, min(number * self._state.part_size, self._size))
        return span.end - span.start

    def _place(self) -> str:
        return self._wire.place(self._key)


def version_of(headers: Mapping[str, str]) -> str | None:
    """The version id of an answer; the "null" version is none, since a later write replaces it in place."""
    version = headers.get("x-amz-version-id", "")
    if not is_text(version):
        raise TransientError("the version id of an answer is damaged")
    return None if version in {"", "null"} else version


def etag_in(headers: Mapping[str, str]) -> str:
    """The ETag of an answer without quotes; empty where there is none, or none that can be kept."""
    etag = headers.get("etag", "").strip('"')
    return etag if is_text(etag) else ""


def is_md5(etag: str, headers: Mapping[str, str]) -> bool:
    """Whether the ETag that answers a write looks like an md5, and the answer does not say that it is something else."""
    return _MD5.fullmatch(etag) is not None and not is_encrypted(headers)
