"""The contract of `stat`, `read` and `part_size`."""

from __future__ import annotations

import gzip

import pytest
from contract.kit import get, held, noise, part_size, put, put_large, see

from heavysync.errors import ConditionError, NotFoundError
from heavysync.checksums import digest
from heavysync.objects import Deletion, Metadata, Part

FULL = Metadata(
    content_type="text/html; charset=utf-8",
    cache_control="max-age=60, no-transform",
    content_disposition='attachment; filename="a b.html"',
    content_language="de, en",
    user={"colour": "grün ✓", "plain": "value with spaces"},
)


async def test_object_reads_back_whole(world):
    """The bytes that were written come back, as chunks whose lengths add up."""
    async with world.fresh() as store:
        for size in (1, 1000, 300_000):
            await put(store, f"k{size}", noise(size))

            assert noise(size) == await get(store, await see(store, f"k{size}"))


async def test_empty_object_reads_back(world):
    """0 bytes are an object like any other."""
    async with world.fresh() as store:
        await put(store, "k", b"", FULL)
        info = await see(store, "k")
        content = await store.read(info)

        assert info.size == content.size == 0
        assert content.metadata.user == FULL.user


async def test_span_is_exact(world):
    """A span gives exactly its bytes, to the first and to the last."""
    async with world.fresh() as store:
        data = noise(100_000)
        await put(store, "k", data)
        info = await see(store, "k")
        for start, end in ((0, 1), (0, 100_000), (99_999, 100_000), (1, 70_001), (0, 99_999)):
            assert data[start:end] == await get(store, info, start, end)


async def test_span_of_a_changed_object_is_refused(world):
    """Parts of two different contents are never mixed."""
    world.needs("pinned_reads")
    async with world.fresh() as store:
        await put(store, "k", noise(1000))
        info = await see(store, "k")
        await put(store, "k", noise(1000, 2), replaces=info)

        with pytest.raises(ConditionError):
            await store.read(info)
        with pytest.raises(ConditionError):
            await get(store, info, 10, 20)


async def test_object_that_has_gone_is_not_found(world):
    """Reading a deleted object says so, and is no other error."""
    async with world.fresh() as store:
        await put(store, "k")
        info = await see(store, "k")
        await store.delete([Deletion("k")])

        with pytest.raises(NotFoundError):
            await store.read(info)


async def test_stat_tells_what_the_listing_tells_and_more(world):
    """One look gives the token, the size and the metadata; an absent object is None."""
    async with world.fresh() as store:
        await put(store, "k", noise(500), FULL)
        listed, info = await see(store, "k"), await store.stat("k")

        assert (listed.key, listed.size, listed.token) == (info.key, info.size, info.token)
        assert Metadata.from_json(info.metadata).user == FULL.user
        assert Metadata.from_json(info.metadata).content_type == FULL.content_type
        assert await store.stat("absent") is None


async def test_gzip_stays_as_stored(world):
    """Bytes labelled gzip are never decoded, whole or in spans, and sizes are those stored."""
    async with world.fresh() as store:
        data = gzip.compress(b"hello " * 1000, mtime=0)
        await put(store, "k", data, Metadata(content_encoding="gzip", content_type="text/plain"))
        info = await see(store, "k")
        content = await store.read(info)

        assert len(data) == info.size
        assert data == b"".join(content.chunks)
        assert content.metadata.content_encoding == "gzip"
        assert data[5:20] == await get(store, info, 5, 20)


async def test_part_size_is_known_only_of_objects_in_parts(world):
    """S3 tells the part size of a multipart object; a plain one has none, and GCS never does."""
    world.needs("part_number")
    async with world.fresh() as store:
        await put(store, "plain")
        await put_large(store, "parts", noise(2 * part_size(store) + 1))

        assert await store.part_size(await see(store, "plain")) is None
        expected = part_size(store) if world.scheme == "s3" else None
        assert expected == await store.part_size(await see(store, "parts"))


async def test_examining_tells_what_a_look_tells(world):
    """`examine` is `stat` with more; of an object that is not there both say so."""
    async with world.fresh() as store:
        await put(store, "k", noise(1000), FULL)
        found = await store.examine("k")

        assert found is not None
        assert found.info == await store.stat("k")
        assert found.is_md5_etag
        assert await store.examine("other") is None


async def test_parts_of_different_sizes_are_told_from_uniform_ones(world):
    """The first part's size and the number of parts may fit both; asking for each part tells."""
    world.needs("part_sizes")
    async with world.fresh() as store:
        if not store.limits.parallel_parts:
            pytest.skip("no object here has parts")
        small = store.limits.part_min
        for key, sizes, uniform in (("even", (small, small, 9), True), ("odd", (small + 9, small, small + 8), False)):
            upload = await store.begin_upload(
                key,
                Metadata(),
                size=sum(sizes),
                part_size=sizes[0],
                source_token="source",
                nonce="nonce",
                replaces=None,
            )
            start = 0
            for number, size in enumerate(sizes, 1):
                data = noise(size, number)
                await upload.write_part(Part(number, start, start + size), held(data), digest([data]))
                start += size
            await upload.complete(None)
            info = await see(store, key)

            assert sizes[0] == await store.part_size(info)
            assert uniform is await store.has_uniform_parts(info, sizes[0])
