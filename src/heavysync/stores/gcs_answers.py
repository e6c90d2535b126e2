"""The JSON API's answers about single objects, proven: about the object that was asked for, and complete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heavysync.errors import TransientError
from heavysync.objects import Location, ObjectInfo, UploadState, Written
from heavysync.stores.gcs_json import DAMAGE, infos_of, written_of

if TYPE_CHECKING:
    from collections.abc import Mapping


def checked(resource: object, operation: str, location: Location, key: str) -> Mapping[str, Any]:
    """The resource of an object, which has to be the one at `key`.

    Raises:
        TransientError: it is another one's, or none.
    """
    if not isinstance(resource, dict) or resource.get("name") != location.prefix + key:
        raise TransientError(f"{operation} {key!r}: the answer is not about this object")
    if resource.get("bucket", location.bucket) != location.bucket or resource.get("kind", _KIND) != _KIND:
        raise TransientError(f"{operation} {key!r}: the answer is not about an object in {location.bucket}")
    return resource


_KIND = "storage#object"


def info_in(resource: object, operation: str, location: Location, key: str) -> ObjectInfo:
    """What a look at an object found.

    Raises:
        TransientError: it is no answer to that.
    """
    try:
        return infos_of([checked(resource, operation, location, key)], len(location.prefix))[0]
    except DAMAGE as error:
        raise TransientError(f"{operation} {key!r}: no answer of the storage API: {error!r}") from error


def written_in(resource: object, operation: str, location: Location, key: str) -> Written:
    """What a finished write is answered with.

    Raises:
        TransientError: it is no answer to that.
    """
    try:
        return written_of(checked(resource, operation, location, key))
    except DAMAGE as error:
        raise TransientError(f"{operation} {key!r}: no answer of the storage API: {error!r}") from error


def rewritten_in(answer: Mapping[str, Any], location: Location, info: ObjectInfo) -> Written | UploadState:
    """What one step of a rewrite came to.

    Raises:
        TransientError: it is no answer to that, or the copy has other bytes than the source.
    """
    if answer.get("kind") != "storage#rewriteResponse" or not isinstance(answer.get("done"), bool):
        raise TransientError(f"copy {info.key!r}: the answer is no rewrite")
    if not answer["done"]:
        token = answer.get("rewriteToken")
        if not isinstance(token, str) or not token:
            raise TransientError(f"copy {info.key!r}: the answer has no token")
        return UploadState(kind="rewrite", id=token, part_size=0, source_token=info.token)
    written = written_in(answer.get("resource"), "copy", location, info.key)
    same_crc = info.crc32c is None or written.crc32c in {None, info.crc32c}
    same_md5 = info.md5 is None or written.md5 in {None, info.md5}
    if written.size != info.size or not same_crc or not same_md5:
        raise TransientError(f"copy {info.key!r}: the copy has other bytes than the source")
    return written
