"""The contract of `list_page` and of the root that a store has."""

from __future__ import annotations

import pytest
from contract.kit import everything, keys, noise, put, put_large, see

from heavysync.checksums import crc32c_text, digest
from heavysync.errors import FatalError
from heavysync.objects import Metadata, Page

NAMES = ["a", "a!", "a0", "b", "ba", "bb", "c", "é", "｡", "😀"]
NESTED = [*NAMES, "a/", "a/b"]


def _names(world):
    """A file system cannot have `a` and `a/b`."""
    return NAMES if "nested_keys" in world.lacks else NESTED


async def test_empty_bucket_lists_as_nothing(world):
    """An empty bucket is one proven page without a cursor."""
    async with world.fresh() as store:
        assert Page([], None) == await store.list_page(None, None)


async def test_pages_tile_the_listing(world):
    """Small pages, one after the other, give every key once, in order, and the last has no cursor."""
    async with world.fresh() as store:
        names = _names(world)
        for name in names:
            await put(store, name)

        for limit in (1, 2, 5, len(names), 1000):
            assert sorted(names) == await keys(store, limit=limit)


async def test_cursor_is_the_last_key_of_its_page(world):
    """What a page speaks for ends with its last key."""
    async with world.fresh() as store:
        names = _names(world)
        for name in names:
            await put(store, name)
        page = await store.list_page(None, None, 5)

        assert page.objects[-1].key == page.cursor


async def test_after_is_exclusive_and_until_inclusive(world):
    """Every slice holds exactly the keys above its lower and up to its upper bound, existing or not."""
    async with world.fresh() as store:
        names = _names(world)
        for name in names:
            await put(store, name)
        bounds = [None, "A", "a", "a.", "b", "bz", "é", "😀", "😁"]
        for after in bounds:
            for until in bounds:
                expected = [
                    name for name in sorted(names) if (after is None or name > after) and (until is None or name <= until)
                ]
                assert expected == await keys(store, after, until), (after, until)


async def test_listing_goes_on_after_a_key_that_has_gone(world):
    """A cursor is a place in the key space, not an object."""
    async with world.fresh() as store:
        for name in ("a", "c"):
            await put(store, name)

        assert ["c"] == await keys(store, after="b")


async def test_order_is_that_of_utf8_bytes(world):
    """Astral characters come after the rest of the BMP, which UTF-16 order would turn round."""
    async with world.fresh() as store:
        names = ["\uff61", "\U0001f600", "\ue000", "z", "Z", "é", "e"]
        for name in names:
            await put(store, name)

        assert sorted(names, key=str.encode) == await keys(store, limit=2)


async def test_prefix_roots_the_store(world):
    """Keys outside the prefix are never seen, and what is inside is relative to it."""
    world.needs("nested_keys")
    async with world.fresh() as root:
        for name in ("p", "p/x", "p/y/z", "p0", "q/x", "P/x"):
            await put(root, name)
        async with world.beside(root, "p/") as store:
            await put(store, "w", b"new")

            assert ["w", "x", "y/z"] == await keys(store, limit=1)
            assert ["x"] == await keys(store, after="w", until="y")
            assert await store.stat("p") is None
        assert (await see(root, "p/w")).size == 3


async def test_directory_marker_of_the_root_is_the_empty_key(world):
    """The object named exactly like the prefix has the empty relative key, and comes first."""
    world.needs("odd_keys")
    async with world.fresh("p/") as store:
        await put(store, "", b"")
        await put(store, "a")

        assert ["", "a"] == await keys(store)
        assert ["a"] == await keys(store, after="")
        assert (await store.stat("")).size == 0


async def test_listing_shows_what_was_written(world):
    """Size, digest and token in the listing are those that the write was answered with."""
    async with world.fresh() as store:
        data = noise(1000)
        written = await put(store, "k", data, Metadata(content_type="text/plain"))
        info = await see(store, "k")

        assert len(data) == info.size
        assert digest([data]).md5.hex() == info.candidate_md5
        assert written.etag == info.etag
        assert info.modified_at.endswith("Z")
        if world.scheme == "gs":
            assert written.version == info.version == info.token
            assert crc32c_text(digest([data]).crc32c) == info.crc32c
            assert Metadata.from_json(info.metadata).content_type == "text/plain"


async def test_multipart_object_has_no_md5_etag_on_s3(world):
    """An object in parts shows an ETag with the number of its parts; GCS knows its md5 all the same."""
    world.needs("multipart_etag")
    async with world.fresh() as store:
        data = noise(2 * max(store.limits.part_min, store.limits.part_multiple) + 1)
        await put_large(store, "k", data)
        info = (await everything(store))[0]

        assert len(data) == info.size
        if world.scheme == "gs":
            assert digest([data]).md5.hex() == info.md5
        else:
            assert info.etag.endswith("-3")
            assert info.candidate_md5 is None


async def test_missing_bucket_is_fatal_and_never_an_empty_page(world):
    """Listing a bucket that does not exist ends the run instead of looking like an empty one."""
    async with world.fresh() as store:
        where = type(store.location)(scheme=world.scheme, bucket="there-is-no-such-bucket", prefix="")
        async with world.open(where) as missing:
            with pytest.raises(FatalError):
                await missing.list_page(None, None)
