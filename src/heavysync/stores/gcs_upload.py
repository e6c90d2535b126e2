"""A resumable session: one stream of bytes that the server holds the place of.

Theory of operation. The server knows how many bytes it has kept (`_offset`); a part is sent from there on, again
and again until the server has it all, for it may keep less than was sent. Any attempt whose answer did not arrive
leaves the offset in doubt; the next step then asks for it first (`Content-Range: bytes */SIZE`). The last byte
finishes the object, so the answer to the last part, or to a question after it, is the object itself (`_object`),
or that somebody else wrote the destination meanwhile (`_refusal`); `complete` hands out either.

    308 + Range  the offset is one past its end       200, 201  finished, the object's resource
    308          the offset is 0                      404, 410, 499  the session is dead

Source: https://docs.cloud.google.com/storage/docs/performing-resumable-uploads
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from heavysync.checksums import combine_crc32c, crc32c_text, md5_text
from heavysync.errors import (
    ConditionError,
    HeavysyncError,
    PermanentError,
    TransientError,
    UploadGoneError,
)
from heavysync.objects import Content, Digests, ObjectInfo, Part, PartDone, UploadState, Written
from heavysync.stores.gcs_answers import written_in
from heavysync.stores.gcs_errors import error_of, refusal_of
from heavysync.stores.gcs_wire import decoded

if TYPE_CHECKING:
    from heavysync.stores.base import Store
    from heavysync.stores.gcs import GcsStore
    from heavysync.stores.http import Response

_RANGE = re.compile(r"bytes=0-([0-9]{1,19})")


class GcsUpload:
    """See `Upload`. Made by `GcsStore.begin_upload` and `resume_upload`.

    Args:
        store: that it writes to.
        key: relative.
        state: as kept.
        size: bytes of the whole object.
    """

    def __init__(self, store: GcsStore, key: str, state: UploadState, size: int) -> None:
        self._state = state
        self._parts = {done.number: done for done in state.parts}
        self._store = store
        self._key = key
        self._size = size
        self._offset = 0
        self._object: Written | None = None
        self._refusal: ConditionError | None = None
        self._is_in_doubt = False

    @property
    def state(self) -> UploadState:
        """What to keep so that the session can be taken up again."""
        return replace(self._state, parts=tuple(sorted(self._parts.values())))

    @property
    def needs_md5s(self) -> bool:
        """See `Upload`. The CRC32C of the whole goes with the last part, and comes back with the object."""
        return False

    async def agree(self) -> None:
        """Ask the server what it has, and forget the parts that it does not."""
        await self._ask()
        size = self._state.part_size
        self._parts = {number: done for number, done in self._parts.items() if min(number * size, self._size) <= self._offset}

    async def write_part(self, part: Part, content: Content, digests: Digests, *, whole_md5: bytes = b"") -> PartDone:
        """See `Upload`."""
        if self._is_in_doubt:
            await self._ask()
        if self._offset < part.start:
            raise UploadGoneError(
                f"part {part.number} of {self._key!r}: the session has {self._offset} bytes, not {part.start}"
            )
        done = PartDone(part.number, "", digests.md5.hex(), digests.crc32c)
        while self._offset < part.end:
            before = self._offset
            await self._send(part, content.chunks, self._hashes(done, whole_md5))
            if self._offset <= before:
                raise TransientError(f"part {part.number} of {self._key!r}: the session kept nothing of it")
        self._parts[part.number] = done
        return done

    def _hashes(self, last: PartDone, md5: bytes) -> str:
        """The digests of the whole object that are known; they go with its last part. Empty before that.

        Source: https://docs.cloud.google.com/storage/docs/data-validation
        """
        size = self._state.part_size
        if last.number * size < self._size:
            return ""
        hashes = [f"md5={md5_text(md5)}"] if md5 else []
        parts = self._parts | {last.number: last}
        if all(number in parts for number in range(1, last.number + 1)):
            sizes = [min(size, self._size - at) for at in range(0, self._size, size)]
            sums = [parts[number].crc32c for number in range(1, last.number + 1)]
            hashes.append(f"crc32c={crc32c_text(combine_crc32c(zip(sums, sizes, strict=True)))}")
        return ",".join(hashes)

    async def _send(self, part: Part, chunks: Sequence[bytes], hashes: str) -> None:
        """Send the rest of a part, from the offset on."""
        headers = {"Content-Range": f"bytes {self._offset}-{part.end - 1}/{self._size}"}
        if hashes:
            headers["X-Goog-Hash"] = hashes
        body = rest_of(chunks, self._offset - part.start)
        self._is_in_doubt = True
        response = await self._store.wire.session("PUT", self._state.id, headers, body)
        self._note(response, f"write part {part.number} of", part.end)

    async def _ask(self) -> None:
        """Ask for the offset."""
        headers = {"Content-Range": f"bytes */{self._size}"}
        response = await self._store.wire.session("PUT", self._state.id, headers)
        self._note(response, "ask for the upload of", self._size)

    def _kept(self, text: str | None, most: int, operation: str) -> int:
        """How many bytes the server says that it has; it cannot have more than were ever sent."""
        if text is None:
            return 0
        found = _RANGE.fullmatch(text)
        if found is None or int(found[1]) >= most:
            raise TransientError(f"{operation} {self._key!r}: the session cannot have {text[:60]!r}")
        return int(found[1]) + 1

    def _note(self, response: Response, operation: str, most: int) -> None:
        """Take in what the server says about the session, which may have got bytes up to `most`."""
        if response.status == 308:
            self._offset = self._kept(response.headers.get("range"), most, operation)
        elif response.status in {200, 201}:
            written = written_in(decoded(response, operation), operation, self._store.location, self._key)
            if written.size != self._size:
                raise TransientError(f"{operation} {self._key!r}: the answer is not the finished object")
            self._object = written
            self._offset = self._size
        elif response.status == 412:
            refusal = refusal_of(response.status, response.headers, response.body)
            self._refusal = ConditionError(f"{operation} {self._key!r}: {refusal.message}")
            self._offset = self._size
        else:
            raise self._error(response, operation)
        self._is_in_doubt = False

    def _error(self, response: Response, operation: str) -> HeavysyncError:
        refusal = refusal_of(response.status, response.headers, response.body)
        text = f"{operation} {self._key!r}: {refusal.status}: {refusal.message}"
        if response.status in {404, 410, 499}:
            return UploadGoneError(text)
        if response.status == 400 and is_checksum_refusal(refusal.message):
            return UploadGoneError(text, code="BadDigest")
        if response.status in {401, 403} and not refusal.reason:
            return UploadGoneError(text)
        return self._store.wire.heed("PUT", error_of(operation, self._key, refusal))

    async def copy_part(self, source: Store, info: ObjectInfo, part: Part) -> PartDone:
        """A rewrite moves objects of any size, so there is nothing to do in parts."""
        raise PermanentError(
            f"copy part {part.number} of {info.key!r} from {source.location}: GCS copies whole objects",
            code="not-supported",
        )

    async def complete(self, digests: Digests | None) -> Written:
        """See `Upload`; an object that does not match `digests` is taken away again."""
        if self._object is None and self._refusal is None:
            await self._ask()
        if self._refusal is not None:
            raise self._refusal
        if self._object is None:
            raise UploadGoneError(f"complete {self._key!r}: the session has only {self._offset} bytes")
        written = self._object
        if digests is not None and not matches(written, digests):
            await self._store.remove_generation(self._key, written)
            raise UploadGoneError(f"complete {self._key!r}: the object has another checksum", code="BadDigest")
        return written

    async def abort(self) -> None:
        """See `Upload`. Google answers 499 to a cancelled session, and refuses to cancel one that has finished its object."""
        response = await self._store.wire.session("DELETE", self._state.id, {})
        if response.status >= 500 or response.status in {408, 429}:
            raise self._error(response, "abort the upload of")


def matches(written: Written, digests: Digests) -> bool:
    """Whether the digests that the server states, if any, are these; an md5 may be unknown (empty)."""
    if written.crc32c is not None and written.crc32c != crc32c_text(digests.crc32c):
        return False
    return not digests.md5 or written.md5 is None or written.md5 == digests.md5.hex()


def is_checksum_refusal(message: str) -> bool:
    """Whether a 400 says that the bytes do not match the checksum that came with them.

    Google's words: 'Provided CRC32C "…" doesn't match calculated CRC32C "…"'.
    """
    words = message.lower()
    return "match" in words and ("crc32c" in words or "md5" in words or "hash" in words)


def rest_of(chunks: Sequence[bytes], skip: int) -> list[bytes]:
    """The chunks without their first `skip` bytes; nothing is joined."""
    rest: list[bytes] = []
    for chunk in chunks:
        if skip >= len(chunk):
            skip -= len(chunk)
        else:
            rest.append(chunk[skip:] if skip else chunk)
            skip = 0
    return rest
