"""Parts tile an object exactly, within the limits of the store."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavysync.errors import PermanentError
from heavysync.parts import part_size_for, plan_parts
from heavysync.stores.rules import GS_LIMITS, S3_LIMITS

MIB = 1 << 20
LIMITS = st.sampled_from([S3_LIMITS, GS_LIMITS])


@given(st.integers(1, 5 << 40), LIMITS, st.one_of(st.none(), st.integers(5 * MIB, 100 * MIB)))
def test_part_sizes_keep_the_limits(size: int, limits: object, wanted: int | None) -> None:
    """Any object up to 5 TiB can be cut."""
    part = part_size_for(size, limits, wanted=wanted)

    assert limits.part_min <= part <= limits.part_max
    assert part % limits.part_multiple == 0
    assert -(-size // part) <= limits.part_count


@given(st.integers(0, 1000), st.integers(1, 50))
def test_parts_tile_the_object(size: int, part_size: int) -> None:
    """No byte is left out or sent twice; numbers count from 1."""
    parts = plan_parts(size, part_size)

    covered = [byte for part in parts for byte in range(part.start, part.end)]
    assert covered == list(range(size))
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))


@pytest.mark.parametrize("size", [8 * MIB - 1, 8 * MIB, 8 * MIB + 1])
def test_sizes_around_one_part(size: int) -> None:
    """One part, and one byte more makes two."""
    assert len(plan_parts(size, part_size_for(size, S3_LIMITS))) == (2 if size > 8 * MIB else 1)


def test_source_boundaries_are_kept_on_s3_only() -> None:
    """So that the multipart ETag comes out equal; a GCS session has its own rule."""
    odd = 7 * MIB + 13

    assert part_size_for(100 * MIB, S3_LIMITS, source_part_size=odd) == odd
    assert part_size_for(100 * MIB, GS_LIMITS, source_part_size=odd) == 8 * MIB


def test_objects_over_5_gb_and_the_largest() -> None:
    """By arithmetic: 5 GB and more need no larger parts until 10,000 are not enough."""
    assert part_size_for(5 * 10**9 + 1, S3_LIMITS) == 8 * MIB
    assert part_size_for(50 * 10**12, S3_LIMITS) % MIB == 0
    assert len(plan_parts(50 * 10**12, part_size_for(50 * 10**12, S3_LIMITS))) <= 10_000


def test_too_large_object_is_a_permanent_error() -> None:
    """6 TiB do not fit into one GCS object."""
    with pytest.raises(PermanentError, match="more than the destination"):
        part_size_for(6 << 40, GS_LIMITS)
