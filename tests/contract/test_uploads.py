"""The contract of `Upload`: parts, resuming, completing, giving up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from contract.kit import (
    all_versions,
    begin,
    get,
    held,
    keys,
    noise,
    part_size,
    put,
    put_large,
    refused,
    see,
    send,
    whole,
)

from heavysync.checksums import digest
from heavysync.errors import ConditionError, ObjectError, TransientError, UploadGoneError
from heavysync.objects import Digests, PartDone
from heavysync.parts import plan_parts


@pytest.mark.parametrize(("parts", "extra"), [(1, 0), (1, -1), (1, 1), (2, 0), (3, -1)])
async def test_upload_makes_the_object(world, parts, extra):
    """One part, exactly n parts, one byte less, one byte more: the object is what was sent."""
    async with world.fresh() as store:
        data = noise(parts * part_size(store) + extra)
        written = await put_large(store, "k", data)
        info = await see(store, "k")

        assert data == await get(store, info)
        assert len(data) == info.size
        if "multipart_etag" not in world.lacks:
            assert written.etag == info.etag
        if world.scheme == "gs":
            assert written.version == info.version


async def test_nothing_appears_before_the_upload_is_complete(world):
    """Parts alone make no object."""
    async with world.fresh() as store:
        data = noise(2 * part_size(store) + 5)
        upload = await begin(store, "k", data)
        await send(upload, data, {1, 2})

        assert [] == await keys(store)
        await upload.abort()


async def test_upload_is_resumed_at_its_last_acknowledged_part(world):
    """A new process goes on with the kept state, and sends only what is missing."""
    world.needs("resume")
    async with world.fresh() as store, world.beside(store) as later:
        data = noise(2 * part_size(store) + 5)
        upload = await begin(store, "k", data)
        await send(upload, data, {1})
        again = await later.resume_upload("k", upload.state, size=len(data), replaces=None)

        assert [1] == [done.number for done in again.state.parts]
        assert upload.state.nonce == again.state.nonce == "nonce"
        await send(again, data, {2, 3})
        await again.complete(digest([data]))
        assert data == await get(later, await see(later, "k"))


async def test_part_that_was_never_acknowledged_is_sent_again(world):
    """A part whose answer was lost may be sent a second time, or found to be there."""
    world.needs("resume")
    async with world.fresh() as store:
        data = noise(2 * part_size(store) + 5)
        upload = await begin(store, "k", data)
        before = upload.state
        await send(upload, data, {1})
        again = await store.resume_upload("k", before, size=len(data), replaces=None)
        assert () == again.state.parts
        await send(again, data)
        await again.complete(digest([data]))

        assert data == await get(store, await see(store, "k"))


async def test_state_that_claims_more_than_the_server_has_is_cut_down(world):
    """A part that the server does not have, or on S3 has with another ETag, counts as missing and is sent again."""
    world.needs("resume")
    async with world.fresh() as store:
        data = noise(3 * part_size(store) + 5)
        upload = await begin(store, "k", data)
        await send(upload, data, {1})
        first, wrong = upload.state.parts[0], PartDone(2, "0" * 32, "0" * 32, 0)
        agreed = [1]
        if store.limits.parallel_parts:
            await send(upload, data, {3})
            agreed, first = [3], first._replace(etag="1" * 32)
        parts = (first, wrong, *upload.state.parts[1:])
        again = await store.resume_upload("k", replace(upload.state, parts=parts), size=len(data), replaces=None)

        assert agreed == [done.number for done in again.state.parts]
        await send(again, data, {1, 2, 3, 4} - set(agreed))
        await again.complete(digest([data]))
        assert data == await get(store, await see(store, "k"))


async def test_parts_go_at_once_where_the_store_allows_it(world):
    """With parallel parts any order will do."""
    async with world.fresh() as store:
        if not store.limits.parallel_parts:
            pytest.skip("this store takes parts in order")
        data = noise(2 * part_size(store) + 5)
        upload = await begin(store, "k", data)
        for number in (3, 1, 2):
            await send(upload, data, {number})
        assert [1, 2, 3] == [done.number for done in upload.state.parts]
        await upload.complete(digest([data]))

        assert data == await get(store, await see(store, "k"))


async def test_aborted_upload_is_gone(world):
    """After an abort there is nothing to resume, no object, and a second abort is no error."""
    async with world.fresh() as store:
        data = noise(2 * part_size(store))
        upload = await begin(store, "k", data)
        await send(upload, data, {1})
        await upload.abort()
        await upload.abort()

        with pytest.raises(UploadGoneError):
            await store.resume_upload("k", upload.state, size=len(data), replaces=None)
        assert [] == await keys(store)


async def test_upload_is_aborted_by_what_was_kept_of_it(world):
    """Another process gives it up without taking it up; a second time, or for one that nobody knows, is no error."""
    async with world.fresh() as store, world.beside(store) as later:
        data = noise(2 * part_size(store))
        upload = await begin(store, "k", data)
        await send(upload, data, {1})

        await later.abort_upload("k", upload.state)
        await later.abort_upload("k", upload.state)
        with pytest.raises(UploadGoneError):
            await later.resume_upload("k", upload.state, size=len(data), replaces=None)


async def test_part_of_an_aborted_upload_is_refused(world):
    """A part that comes too late finds no upload."""
    world.needs("late_part")
    async with world.fresh() as store:
        data = noise(2 * part_size(store))
        upload = await begin(store, "k", data)
        await send(upload, data, {1})
        await upload.abort()

        with pytest.raises(UploadGoneError):
            await send(upload, data, {2})


async def test_completing_twice_does_no_harm(world):
    """A second Complete, after the answer to the first was lost, is settled by looking."""
    async with world.fresh() as store:
        data = noise(part_size(store) + 7)
        upload = await begin(store, "k", data)
        await send(upload, data)
        first = await upload.complete(digest([data]))
        try:
            second = await upload.complete(digest([data]))
            assert (first.etag, first.version) == (second.etag, second.version)
        except UploadGoneError:
            pass

        assert data == await get(store, await see(store, "k"))


async def test_upload_where_nothing_was_listed_never_overwrites(world):
    """An object that appeared before or during the upload stays."""
    world.needs("conditional_complete")
    async with world.fresh() as store:
        data = noise(part_size(store) + 7)
        await put(store, "before", b"theirs")
        await refused(store, "before", data)
        assert b"theirs" == await get(store, await see(store, "before"))

        upload = await begin(store, "during", data)
        await send(upload, data, {1})
        await put(store, "during", b"theirs")
        await send(upload, data, {2})
        with pytest.raises(ConditionError):
            await upload.complete(digest([data]))
        assert b"theirs" == await get(store, await see(store, "during"))


async def test_upload_replaces_exactly_the_listed_object(world):
    """The listed object is replaced; one that changed since is not."""
    world.needs("conditional_complete", "complete_if_match")
    async with world.fresh() as store:
        data = noise(part_size(store) + 7)
        await put(store, "k", b"one")
        first = await see(store, "k")
        await put_large(store, "k", data, replaces=first)
        await refused(store, "k", data + b"x", replaces=first)

        assert data == await get(store, await see(store, "k"))


async def test_wrong_digest_of_a_part_or_of_the_whole_is_noticed(world):
    """Bytes that do not match the part's digests, or an object that does not match the whole's, never stand."""
    world.needs("part_digests")
    async with world.fresh() as store:
        data = noise(part_size(store) + 7)
        wrong = digest([b"wrong"])
        upload = await begin(store, "k", data)
        with pytest.raises((TransientError, ObjectError)):
            for part in plan_parts(len(data), part_size(store)):
                await upload.write_part(part, held(data[part.start : part.end]), wrong)
            await upload.complete(Digests(wrong.md5, wrong.crc32c))
        await upload.abort()

        assert [] == await keys(store)


async def test_combined_digest_is_that_of_the_whole(world):
    """The CRC32C put together from the parts' is accepted as the whole object's."""
    async with world.fresh() as store:
        size = part_size(store)
        data = noise(2 * size + 9)
        upload = await begin(store, "k", data)
        await send(upload, data)
        written = await upload.complete(whole([data[:size], data[size : 2 * size], data[2 * size :]]))

        assert written.crc32c is None or written.crc32c == (await store.stat("k")).crc32c


async def test_upload_leaves_one_version(world):
    """However many parts it took, the object has one version."""
    world.needs("versions")
    async with world.fresh(versioned=True) as store:
        await put_large(store, "k", noise(part_size(store) + 7))

        assert 1 == len(await all_versions(store))
