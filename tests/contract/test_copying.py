"""The contract of server-side copies."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
from contract.kit import begin, copied, get, keys, noise, part_size, put, put_large, see
from contract.test_reading import FULL

from heavysync.checksums import digest
from heavysync.errors import ConditionError, NotFoundError
from heavysync.objects import Deletion
from heavysync.parts import plan_parts


@asynccontextmanager
async def _pair(world):
    """Two buckets of one provider, each with a prefix of its own."""
    async with world.fresh("from/") as source, world.fresh("to+%2F/") as destination:
        assert source.copy_domain == destination.copy_domain
        yield source, destination


async def test_copy_keeps_bytes_and_metadata(world):
    """The provider copies content, headers and user metadata unchanged, empty objects too."""
    async with _pair(world) as (source, destination):
        for key, data in (("a b+c", noise(5000)), ("empty", b"")):
            await put(source, key, data, FULL)
            info = await see(source, key)
            written, _ = await copied(destination, source, info)
            result = await see(destination, key)

            assert data == await get(destination, result)
            if "exact_metadata" not in world.lacks:
                assert FULL == (await destination.read(result)).metadata
            assert result.candidate_md5 == info.candidate_md5
            assert written.etag == result.etag
            if world.scheme == "gs":
                assert written.version == result.version


async def test_copy_of_a_large_object_may_take_steps(world):
    """A rewrite goes on with its token until the object is there, and only then is it there."""
    async with _pair(world) as (source, destination):
        data = noise(3 * part_size(source) + 1)
        await put_large(source, "k", data)
        info = await see(source, "k")
        state = await destination.copy(source, info, replaces=None)
        if hasattr(state, "part_size"):
            assert [] == await keys(destination)
            assert state.source_token == info.token
            while hasattr(state, "part_size"):
                state = await destination.copy(source, info, replaces=None, state=state)

        assert data == await get(destination, await see(destination, "k"))


async def test_copy_is_pinned_to_the_listed_source(world):
    """A source that changed or went is not copied."""
    world.needs("pinned_copy")
    async with _pair(world) as (source, destination):
        await put(source, "k", b"one")
        info = await see(source, "k")
        await put(source, "k", b"two", replaces=info)
        with pytest.raises(ConditionError):
            await destination.copy(source, info, replaces=None)
        await source.delete([Deletion("k")])
        with pytest.raises(NotFoundError):
            await destination.copy(source, info, replaces=None)

        assert [] == await keys(destination)


async def test_copy_is_conditional_on_the_listed_destination(world):
    """The copy replaces what was listed, and nothing else."""
    world.needs("conditional_copy")
    async with _pair(world) as (source, destination):
        await put(source, "k", b"ours")
        info = await see(source, "k")
        await put(destination, "k", b"theirs")
        listed = await see(destination, "k")

        with pytest.raises(ConditionError):
            await destination.copy(source, info, replaces=None)
        await copied(destination, source, info, replaces=listed)
        assert b"ours" == await get(destination, await see(destination, "k"))
        with pytest.raises(ConditionError):
            await destination.copy(source, info, replaces=listed)


async def test_parts_are_copied_server_side(world):
    """An upload may take its parts from another bucket, and comes out with the same ETag."""
    world.needs("copy_part")
    async with _pair(world) as (source, destination):
        data = noise(2 * part_size(source) + 9)
        await put_large(source, "k", data)
        info = await see(source, "k")
        upload = await begin(destination, "k", data, metadata=FULL)
        for part in plan_parts(len(data), part_size(source)):
            await upload.copy_part(source, info, part)
        await upload.complete(digest([data]))
        result = await see(destination, "k")

        assert data == await get(destination, result)
        assert (info.etag, FULL) == (result.etag, (await destination.read(result)).metadata)
