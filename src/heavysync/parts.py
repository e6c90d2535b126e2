"""How an object is cut into parts. Pure arithmetic."""

from __future__ import annotations

from heavysync.errors import PermanentError
from heavysync.objects import Limits, Part

DEFAULT_PART_SIZE = 8 << 20
"""8 MiB: S3 allows 5 MiB-5 GiB and 10,000 parts; s3transfer, too, uses 8 MiB, and ranged reads like 8-16 MB."""

_ROUND = 1 << 20


def part_size_for(size: int, limits: Limits, *, wanted: int | None = None, source_part_size: int | None = None) -> int:
    """Choose the part size for an object of `size` bytes.

    The source's own part size is kept where the destination can take it, so that an S3 ETag comes out equal; else
    `wanted` (default 8 MiB), raised until the number of parts is allowed and rounded up to what the store demands.

    Raises:
        PermanentError: the destination cannot hold an object of this size.
    """
    if size > limits.object_max:
        raise PermanentError(
            f"{size} bytes are more than the destination can hold in one object ({limits.object_max})",
            code="too-large",
        )
    if source_part_size is not None and _fits(size, source_part_size, limits):
        return source_part_size
    least = max(wanted or DEFAULT_PART_SIZE, limits.part_min, -(-size // limits.part_count))
    step = max(_ROUND, limits.part_multiple)
    return min(-(-least // step) * step, limits.part_max)


def _fits(size: int, part_size: int, limits: Limits) -> bool:
    count = -(-size // part_size)
    return (
        limits.parallel_parts
        and count <= limits.part_count
        and part_size <= limits.part_max
        and part_size % limits.part_multiple == 0
        and (part_size >= limits.part_min or count == 1)
    )


def plan_parts(size: int, part_size: int) -> list[Part]:
    """Tile `size` bytes with parts of `part_size`; only the last may be smaller. An empty object has one empty part."""
    starts = range(0, max(size, 1), part_size)
    return [Part(number, start, min(start + part_size, size)) for number, start in enumerate(starts, 1)]
