"""Deleting in batches: what XML can carry goes in one request, the rest one by one.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html and
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-deletes.html
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from heavysync.errors import ConditionError, NotFoundError, ObjectError, TransientError
from heavysync.objects import Deletion, DeletionFailure
from heavysync.stores import s3_errors, s3_read, s3_xml
from heavysync.stores.answers import words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from heavysync.stores.s3_wire import Wire

_REFUSED = {"MalformedXML", "NotImplemented"}


class Deleter:
    """Deletes objects of one bucket, and remembers whether the server knows conditions.

    Args:
        wire: requests to the bucket.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._conditions = True

    async def delete(self, batch: Sequence[Deletion]) -> list[DeletionFailure]:
        """See `Store.delete`."""
        prefix = self._wire.location.prefix
        together = [one for one in batch if s3_xml.is_expressible(prefix + one.key)]
        single = [one for one in batch if not s3_xml.is_expressible(prefix + one.key)]
        failures = await self._delete_together(together) if together else []
        return failures + await self._delete_singly(single)

    async def _delete_together(self, batch: Sequence[Deletion]) -> list[DeletionFailure]:
        try:
            return await self._send(batch)
        except ObjectError as error:
            if error.code not in _REFUSED:
                return [_failure(one, error) for one in batch]
        is_aws = bool(self._wire.session.endpoint.partition)
        if self._conditions and not is_aws and any(one.listed for one in batch):
            self._conditions = False  # the listing is fresh; the server offers nothing better
            return await self._delete_together(batch)
        return await self._delete_singly(batch)

    async def _send(self, batch: Sequence[Deletion]) -> list[DeletionFailure]:
        body = s3_xml.delete_body(batch, self._wire.location.prefix, conditions=self._conditions)
        md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        _, root = await self._wire.send_xml(
            s3_errors.DELETE,
            "POST",
            None,
            query=(("delete", ""),),
            headers={"content-md5": md5, "content-type": "application/xml"},
            body=(body,),
        )
        failures, unclear = self._match(batch, list(s3_xml.read_delete_errors(root)))
        return failures + await self._delete_singly(unclear)

    def _match(
        self, batch: Sequence[Deletion], errors: list[s3_xml.DeleteError]
    ) -> tuple[list[DeletionFailure], list[Deletion]]:
        """Find the deletions that the errors are about, and those of which it cannot be told: some servers name no version."""
        cut = len(self._wire.location.prefix)
        asked = {(one.key, one.version or ""): one for one in batch}
        failures = []
        unclear: dict[str, list[Deletion]] = {}
        for error in errors:
            kind = s3_errors.classify(400, error.code, s3_errors.DELETE)
            if kind == "missing":
                continue
            one = asked.get((error.key[cut:], error.version)) or asked.get((error.key[cut:], ""))
            if one is None and not error.version:
                versions = [each for each in batch if each.key == error.key[cut:]]
                if len(versions) > 1:
                    unclear[error.key] = versions
                    continue
                one = versions[0] if versions else None
            if one is None:
                raise TransientError(
                    f"delete in {self._wire.place(None)}: an error about a key that was not asked for: "
                    f"{error.key!r} {error.code} {error.message}"
                )
            text = s3_errors.ErrorText(error.code, words(error.message), "")
            code, advice = s3_errors.advise(text, s3_errors.DELETE, refused=error.code == "AccessDenied")
            if kind == "changed":
                code = ConditionError.default_code
            told = f"{error.code}: {text.message}"
            message = f"{told}; {advice}" if advice else told
            transient = kind in {"transient", "throttled", "auth", "clock"}
            if kind == "throttled":
                self._wire.heed("POST", TransientError(error.code, throttled=True))
            failures.append(DeletionFailure(one.key, one.version, code, message, transient))
        return failures, [one for versions in unclear.values() for one in versions]

    async def _delete_singly(self, batch: Sequence[Deletion]) -> list[DeletionFailure]:
        failures = []
        for one in batch:
            try:
                await self._delete_one(one)
            except NotFoundError:
                continue
            except (ObjectError, TransientError) as error:
                if isinstance(error, TransientError) and (error.throttled or error.retry_after):
                    raise  # not the object's fault: all wait
                failures.append(_failure(one, error))
        return failures

    async def _delete_one(self, one: Deletion) -> None:
        query = (("versionId", one.version),) if one.version is not None else ()
        headers = {}
        if one.version is None and one.listed is not None and one.listed.etag and self._conditions:
            headers["if-match"] = f'"{one.listed.etag}"'
        response = await self._wire.send(s3_errors.DELETE_ONE, "DELETE", one.key, query=query, headers=headers)
        if response.status != 204:  # S3 says nothing else; some server may, and so may a proxy that has done nothing
            await s3_read.head(self._wire, one.key, {}, query)  # raises NotFoundError, if all is well
            raise TransientError(f"delete {self._wire.place(one.key)}: {response.status}, and it is still there")


def _failure(one: Deletion, error: ObjectError | TransientError) -> DeletionFailure:
    if isinstance(error, TransientError):
        return DeletionFailure(one.key, one.version, "transient", str(error), transient=True)
    return DeletionFailure(one.key, one.version, error.code, str(error), transient=False)
