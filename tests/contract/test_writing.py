"""The contract of `write`: conditions, digests and metadata."""

from __future__ import annotations

import pytest
from contract.kit import get, held, keys, noise, part_size, put, put_large, see
from contract.test_reading import FULL

from heavysync.checksums import digest
from heavysync.errors import ConditionError, ObjectError, TransientError
from heavysync.objects import Deletion, Digests, Metadata


async def test_write_answers_the_token_of_the_listing(world):
    """What a write answers is enough to know the object again in a listing, without a request."""
    async with world.fresh() as store:
        written = await put(store, "k", b"abc")
        info = await see(store, "k")

        if world.scheme == "gs":
            assert info.version == written.version
        else:
            assert info.etag == written.etag


async def test_write_where_nothing_was_listed_never_overwrites(world):
    """An object that appeared since the listing stays."""
    world.needs("conditional_put")
    async with world.fresh() as store:
        await put(store, "k", b"theirs")

        with pytest.raises(ConditionError):
            await put(store, "k", b"ours")
        assert b"theirs" == await get(store, await see(store, "k"))


async def test_write_replaces_exactly_the_listed_object(world):
    """The listed object is replaced; one that changed since, or went, is not."""
    world.needs("conditional_put")
    async with world.fresh() as store:
        await put(store, "k", b"one")
        first = await see(store, "k")
        await put(store, "k", b"two", replaces=first)

        with pytest.raises(ConditionError):
            await put(store, "k", b"three", replaces=first)
        assert b"two" == await get(store, await see(store, "k"))
        await store.delete([Deletion("k")])
        with pytest.raises(ConditionError):
            await put(store, "k", b"three", replaces=first)
        assert [] == await keys(store)


@pytest.mark.parametrize("which", ["md5", "both"])
async def test_damaged_bytes_are_refused(world, which):
    """A body that does not match the digests that travel with it leaves no object behind."""
    world.needs("digests")
    async with world.fresh() as store:
        right = digest([b"right"])
        wrong = digest([b"wrong"])
        digests = Digests(wrong.md5, right.crc32c) if which == "md5" else wrong

        with pytest.raises((TransientError, ObjectError)):
            await store.write("k", held(b"right"), Metadata(), digests, None)
        assert [] == await keys(store)


async def test_metadata_travel_with_a_small_object(world):
    """Four headers and user metadata, non-ASCII too, come back as they were given."""
    async with world.fresh() as store:
        await put(store, "k", b"x", FULL)
        content = await store.read(await see(store, "k"))

        assert FULL == content.metadata


async def test_metadata_travel_with_a_large_object(world):
    """The same above the multipart threshold, Content-Encoding included."""
    async with world.fresh() as store:
        everything = Metadata(
            content_type=FULL.content_type,
            cache_control=FULL.cache_control,
            content_disposition=FULL.content_disposition,
            content_language=FULL.content_language,
            content_encoding="gzip",
            user=FULL.user,
        )
        data = noise(part_size(store) + 1)
        await put_large(store, "k", data, metadata=everything)
        info = await see(store, "k")

        assert everything == (await store.read(info)).metadata
        assert data == await get(store, info)


async def test_too_much_metadata_is_told_beforehand(world):
    """2 KiB on S3 and 8 KiB on GCS are the most; the answer costs no request."""
    async with world.fresh() as store:
        most = {"s3": 2048, "gs": 8192}[world.scheme]

        assert store.metadata_error(Metadata(user={"k": "v" * (most - 1)})) is None
        assert store.metadata_error(Metadata(user={"k": "v" * most}))
        assert store.metadata_error(FULL) is None


async def test_unusual_user_metadata_survive_or_are_refused(world):
    """Empty values, percent signs, quotes and long non-ASCII text come back, unless the store said no."""
    async with world.fresh() as store:
        wanted = {"percent": "100%2F", "quote": 'a"b', "long": "ü" * 100, "emoji": "😀", "comma": "a, b"}
        metadata = Metadata(content_type="a/b", user=wanted)
        assert store.metadata_error(metadata) is None
        await put(store, "k", b"x", metadata)

        assert wanted == (await store.read(await see(store, "k"))).metadata.user


async def test_bodies_of_many_chunks_arrive(world):
    """A body is sent as the chunks it came in, whatever their sizes."""
    async with world.fresh() as store:
        data = noise(700_000)
        content = held(data, 999)
        await store.write("k", content, Metadata(), digest([data]), None)

        assert data == await get(store, await see(store, "k"))
