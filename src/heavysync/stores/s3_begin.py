"""How multipart uploads to S3 begin: with parts that carry CRC32C instead of md5, on servers that check these.

An md5 costs more than all else that is done with the bytes of a large object, a CRC32C a seventieth of it. AWS checks the CRC
of every part, and at the completion that of the whole, which it keeps: a later look tells it. Other servers are asked. One
that does not know the headers leaves them out of its answer, or refuses them. One that knows them has to prove that it
checks: it is sent a part whose CRC is wrong, and has to refuse it. All others, those that stumble over the question, and those
that then cannot complete such an upload, get md5s.
Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from heavysync.checksums import crc32c, crc32c_text
from heavysync.errors import DamagedError, ObjectError, PermanentError, TransientError, UploadGoneError
from heavysync.stores import s3_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heavysync.stores.s3_wire import Wire

_WANTED = {"x-amz-checksum-algorithm": "CRC32C", "x-amz-checksum-type": "FULL_OBJECT"}

_BYTES, _OTHERS = b"these", b"other"
_LAST = 10_000  # the highest number of a part
_ABORTS, _PAUSE_S = 4, 0.25  # attempts, and seconds between them

_log = logging.getLogger("heavysync")


class Beginner:
    """Begins uploads to one bucket, and remembers whether its server checks CRCs.

    Args:
        wire: requests to the bucket.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._is_aws = bool(wire.session.endpoint.partition)
        self._checks = True if self._is_aws else None  # None: not known yet
        self._asking = asyncio.Lock()

    async def __call__(self, key: str, headers: Mapping[str, str], *, crcs: bool) -> tuple[str, bool]:
        """Begin an upload; answer its id, and whether its parts have to carry their CRC32C.

        Args:
            key: relative.
            headers: of the object to be.
            crcs: its bytes come from here, so that their CRCs are known.

        Raises:
            HeavysyncError: as `Wire.send_xml`.
        """
        if crcs and self._checks is None:
            async with self._asking:
                return await self._begin(key, headers, crcs=self._checks is not False)
        return await self._begin(key, headers, crcs=crcs and self._checks is True)

    def distrust(self) -> bool:
        """An upload with CRCs could not be completed: the next ones carry md5s. False: it is AWS, the reason is another."""
        if not self._is_aws:
            self._checks = False
        return not self._is_aws

    async def _begin(self, key: str, headers: Mapping[str, str], *, crcs: bool) -> tuple[str, bool]:
        if crcs and (upload := await self._with_crcs(key, headers)):
            return upload, True
        upload, _ = await self._create(key, headers)
        if crcs:
            self._checks = False  # refused with the headers, and taken without them
        return upload, False

    async def _with_crcs(self, key: str, headers: Mapping[str, str]) -> str | None:
        """The id of an upload whose parts the server will check; None: ask without.

        Raises:
            TransientError: the server is busy; or it is known to check, and cannot be reached.
        """
        try:
            upload, stated = await self._create(key, {**headers, **_WANTED})
        except PermanentError:  # of the headers, or of the object: the next request tells
            return None
        except TransientError as error:  # some servers stumble over what they do not know
            if self._checks or error.throttled:
                raise
            return None
        try:
            if stated == _WANTED and (self._checks or await self._refuses_damage(key, upload)):
                self._checks = True
                return upload
        except BaseException:
            await self._abort(key, upload)  # nobody would know of it
            raise
        await self._abort(key, upload)  # it may expect CRCs after all
        return None

    async def _create(self, key: str, headers: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        """The id of a new upload, and what the answer says of checksums."""
        response, root = await self._wire.send_xml(s3_errors.BEGIN, "POST", key, query=(("uploads", ""),), headers=headers)
        upload = root.findtext("UploadId")
        if not upload:
            raise TransientError(f"begin upload of {self._wire.place(key)}: the answer has no UploadId")
        return upload, {name: response.headers[name].upper() for name in _WANTED if name in response.headers}

    async def _refuses_damage(self, key: str, upload: str) -> bool:
        """Send a part that does not have the CRC that travels with it: will the server say so?"""
        query = (("partNumber", str(_LAST)), ("uploadId", upload))
        headers = {"x-amz-checksum-crc32c": crc32c_text(crc32c([_OTHERS]))}
        try:
            await self._wire.send(s3_errors.WRITE_PART, "PUT", key, query=query, headers=headers, body=(_BYTES,))
        except DamagedError:
            return True
        except PermanentError:  # for some other reason: that shows nothing
            return False
        except TransientError as error:
            if error.throttled:
                raise
        return False

    async def _abort(self, key: str, upload: str) -> None:
        """Give an upload up that no state knows of."""
        for left in range(_ABORTS - 1, -1, -1):
            try:
                await self._wire.send(s3_errors.ABORT, "DELETE", key, query=(("uploadId", upload),))
            except UploadGoneError:
                return
            except (ObjectError, TransientError) as error:
                if not left:
                    _log.warning("the upload %s, begun to ask whether CRCs are checked, stays: %s", upload, error)
                    return
                await asyncio.sleep(_PAUSE_S)
            else:
                return
