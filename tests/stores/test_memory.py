"""The memory store as a test double: it can be made to fail before and after an operation, and it counts."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from contract.kit import all_versions, everything, get, keys, noise, put, put_large, see

from heavysync.errors import PermanentError, TransientError
from heavysync.objects import Deletion, Location
from heavysync.stores.memory import MemoryStore
from heavysync.stores.memory_bucket import MemoryService


def _store(flavour="s3", **how):
    service = MemoryService(flavour=flavour)
    service.create("bucket")
    return MemoryStore(Location(scheme="memory", bucket="bucket"), service, **how)


def test_fault_before_an_operation_leaves_nothing_done():
    """A fault comes before the effect; the count tells that it was tried."""

    def fault(operation, key):
        if (operation, key) == ("write", "k"):
            raise TransientError("injected")

    store = _store(fault=fault)
    with pytest.raises(TransientError):
        asyncio.run(put(store, "k"))
    asyncio.run(put(store, "other"))

    assert ["other"] == asyncio.run(keys(store))
    assert store.calls["write"] == 2


def test_lost_answer_leaves_the_effect():
    """What took effect stays when its answer is lost."""

    async def lose(operation, key):
        await asyncio.sleep(0)
        raise TransientError(f"lost the answer to {operation} {key}")

    store = _store(lose=lose)
    with pytest.raises(TransientError, match="write k"):
        asyncio.run(put(store, "k", b"abc"))
    store.lose = None

    assert b"abc" == asyncio.run(get(store, asyncio.run(see(store, "k"))))


def test_opaque_etags_are_no_md5():
    """Under KMS an ETag looks like an md5 and is none, and a read says so."""

    async def body():
        store = _store()
        store.bucket.opaque_etags = True
        written = await put(store, "k", b"abc")
        info = await see(store, "k")

        assert (written.etag, 32) == (info.etag, len(info.etag))
        assert info.etag != "900150983cd24fb0d6963f7d28e17f72"
        assert not (await store.read(info)).is_md5_etag
        assert not (await store.examine("k")).is_md5_etag

    asyncio.run(body())


def test_clock_makes_versions_age():
    """The service's clock dates versions and the server time."""

    async def body():
        store = _store("gs")
        await store.enable_versioning()
        start = datetime(2026, 1, 1, tzinfo=UTC)
        store.service.now = lambda: start
        await put(store, "k", b"1")
        store.service.now = lambda: start + timedelta(days=3)
        await put(store, "k", b"22", replaces=await see(store, "k"))
        store.service.now = lambda: start + timedelta(days=9)
        page = await store.list_versions_page(None, None, None)

        assert page.versions[1].noncurrent_since == "2026-01-04T00:00:00.000Z"
        assert page.server_time == "2026-01-10T00:00:00.000Z"

    asyncio.run(body())


def test_small_parts_are_refused_as_s3_refuses_them():
    """A part in the middle below the minimum fails at completion; smaller limits make small objects large."""

    async def body():
        store = _store()
        store.limits = _small(store.limits)
        await put_large(store, "k", noise(2500))
        assert (await see(store, "k")).etag.endswith("-3")
        info = await see(store, "k")
        assert await store.part_size(info) == 1000

        upload = await store.begin_upload(
            "odd",
            (await store.read(info)).metadata,
            size=1000,
            part_size=500,
            source_token="",
            nonce="",
            replaces=None,
        )
        from contract.kit import send

        await send(upload, noise(1000))
        with pytest.raises(PermanentError):
            await upload.complete(None)

    asyncio.run(body())


def _small(limits):
    from dataclasses import replace

    return replace(limits, part_min=1000)


def test_deleting_a_marker_makes_the_version_below_it_live():
    """On S3 the newest row is the live one, whatever is removed above it."""

    async def body():
        store = _store()
        await store.enable_versioning()
        await put(store, "k", b"abc")
        await store.delete([Deletion("k")])
        marker = (await all_versions(store))[0]
        assert marker.is_marker
        await store.delete([Deletion("k", marker.version)])

        assert ["k"] == [info.key for info in await everything(store)]

    asyncio.run(body())
