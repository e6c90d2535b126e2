"""Preconditions: which object must be there, or not, for a request to be done.

Source: https://cloud.google.com/storage/docs/request-preconditions
"""

from __future__ import annotations

from dataclasses import dataclass

from heavysync.loopback.model import Bucket, StoredObject
from heavysync.loopback.wire import ApiError, Call, condition_not_met


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The four conditions of a request, on its object or (`ifSource…`) on its source."""

    source: bool = False
    generation: int | None = None
    not_generation: int | None = None
    metageneration: int | None = None
    not_metageneration: int | None = None

    @classmethod
    def of(cls, call: Call, *, source: bool = False) -> Conditions:
        """Read them from the query.

        Raises:
            ApiError: 400, not a number.
        """
        start = "ifSource" if source else "if"
        return cls(
            source=source,
            generation=call.number(f"{start}GenerationMatch"),
            not_generation=call.number(f"{start}GenerationNotMatch"),
            metageneration=call.number(f"{start}MetagenerationMatch"),
            not_metageneration=call.number(f"{start}MetagenerationNotMatch"),
        )

    def check(self, current: StoredObject | None, *, failed_not_match: int = 412) -> None:
        """Compare with the object there is; a missing one has generation 0 and no metageneration.

        Args:
            current: the object, or None.
            failed_not_match: status for a failed `…NotMatch`: 304 on reads.

        Raises:
            ApiError: 412, or 304.
        """
        start = "ifSource" if self.source else "if"
        generation = current.generation if current else 0
        metageneration = current.metageneration if current else None
        if self.generation is not None and self.generation != generation:
            raise condition_not_met(f"{start}GenerationMatch")
        if self.metageneration is not None and self.metageneration != metageneration:
            raise condition_not_met(f"{start}MetagenerationMatch")
        unwanted = (
            (f"{start}GenerationNotMatch", self.not_generation, generation),
            (f"{start}MetagenerationNotMatch", self.not_metageneration, metageneration),
        )
        for name, value, actual in unwanted:
            # "If no live object exists, the precondition fails": the discovery document, objects.insert
            if value is not None and (current is None or value == actual):
                if failed_not_match == 304:
                    raise ApiError(304, "notModified", "Not Modified")
                raise condition_not_met(name)


def check_bucket(call: Call, bucket: Bucket, *, failed_not_match: int = 412) -> None:
    """The two conditions that a bucket knows.

    Raises:
        ApiError: 412, or 304 on reads.
    """
    wanted, unwanted = call.number("ifMetagenerationMatch"), call.number("ifMetagenerationNotMatch")
    if wanted is not None and wanted != bucket.metageneration:
        raise condition_not_met("ifMetagenerationMatch")
    if unwanted is not None and unwanted == bucket.metageneration:
        if failed_not_match == 304:
            raise ApiError(304, "notModified", "Not Modified")
        raise condition_not_met("ifMetagenerationNotMatch")


def check_etags(call: Call, stored: StoredObject) -> None:
    """`If-Match` and `If-None-Match` on reads.

    Raises:
        ApiError: 412 or 304.
    """
    wanted, unwanted = call.headers.get("if-match"), call.headers.get("if-none-match")
    if wanted and wanted != "*" and stored.etag not in _tags(wanted):
        raise condition_not_met("If-Match")
    if unwanted and (unwanted == "*" or stored.etag in _tags(unwanted)):
        raise ApiError(304, "notModified", "Not Modified")


def _tags(header: str) -> list[str]:
    return [tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")]
