"""The contract of buckets, limits and closing."""

from __future__ import annotations

import asyncio
import gc

import pytest
from contract.kit import keys, put

from heavysync.errors import NotFoundError


async def test_bucket_is_created_once(world):
    """Creating a bucket that is ours already is no error."""
    async with world.fresh() as store:
        await put(store, "k")
        await store.create_bucket(None, None)

        assert (await store.stat("k")).size == 1


async def test_versioning_is_read_back(world):
    """A new bucket has no versioning; switched on, it says so."""
    world.needs("versions")
    async with world.fresh() as store:
        assert (await store.read_bucket()).versioning == "off"
        await store.enable_versioning()

        assert (await store.read_bucket()).versioning == "enabled"


async def test_missing_bucket_is_not_found(world):
    """The look at start tells a missing bucket from everything else."""
    async with world.fresh() as store:
        where = type(store.location)(scheme=world.scheme, bucket="there-is-no-such-bucket", prefix="")
        async with world.open(where) as missing:
            with pytest.raises(NotFoundError):
                await missing.read_bucket()


async def test_limits_are_consistent(world):
    """What a store promises to take makes sense together."""
    async with world.fresh() as store:
        limits = store.limits

        assert limits.part_min <= limits.part_max
        assert limits.part_min % limits.part_multiple == 0
        assert limits.part_max * limits.part_count >= limits.object_max
        assert limits.copy_max <= limits.object_max
        assert 1 <= limits.delete_batch <= 1000


async def test_closing_leaves_nothing_open(world):
    """After the `async with` no task runs, and nothing warns of an unclosed connection."""
    before = len(asyncio.all_tasks())
    async with world.fresh() as store:
        await put(store, "k")
        await store.read(await store.stat("k"))
    await asyncio.sleep(0)
    gc.collect()

    assert before == len(asyncio.all_tasks())


async def test_cancelled_request_leaves_the_store_usable(world):
    """A call that is cancelled passes the cancellation on and spoils nothing."""
    async with world.fresh() as store:
        await put(store, "k", b"abc")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await store.list_page(None, None)

        assert ["k"] == await keys(store)
