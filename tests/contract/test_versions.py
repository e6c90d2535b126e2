"""The contract of `list_versions_page` and of deleting versions."""

from __future__ import annotations

from contract.kit import all_versions, get, keys, put, see

from heavysync.objects import Deletion, VersionCursor


async def _overwrite(store, key: str, *contents: bytes) -> None:
    for data in contents:
        await put(store, key, data, replaces=await see(store, key))


async def test_versions_are_newest_first_within_a_key(world):
    """Keys ascend, versions of one key descend, and exactly the newest is live."""
    world.needs("versions")
    async with world.fresh("p/", versioned=True) as store:
        await _overwrite(store, "b", b"1", b"22", b"333")
        await _overwrite(store, "a", b"1")
        rows = await all_versions(store)

        assert [("a", 1), ("b", 3), ("b", 2), ("b", 1)] == [(row.key, row.size) for row in rows]
        assert [True, True, False, False] == [row.is_live for row in rows]
        assert not any(row.is_marker for row in rows)


async def test_noncurrent_since_is_when_the_successor_came(world):
    """The live one has no such time; the others have one not before they were created."""
    world.needs("versions")
    async with world.fresh(versioned=True) as store:
        await _overwrite(store, "k", b"1", b"22", b"333")
        rows = await all_versions(store)

        assert rows[0].noncurrent_since is None
        for newer, older in zip(rows, rows[1:], strict=False):
            assert older.noncurrent_since >= older.modified_at
            if world.scheme == "s3":
                assert newer.modified_at == older.noncurrent_since


async def test_deleted_object_leaves_a_marker_or_only_noncurrent_versions(world):
    """S3 puts a live delete marker on top; GCS has none, and no live version."""
    world.needs("versions", "marker_order")
    async with world.fresh(versioned=True) as store:
        await _overwrite(store, "k", b"1")
        await store.delete([Deletion("k")])
        rows = await all_versions(store)

        assert [] == await keys(store)
        if world.scheme == "s3":
            assert [(True, True), (False, False)] == [(row.is_marker, row.is_live) for row in rows]
        else:
            assert [(False, False)] == [(row.is_marker, row.is_live) for row in rows]
        assert rows[-1].noncurrent_since is not None


async def test_noncurrent_version_is_deleted_and_the_live_one_stays(world):
    """Purging versions does not touch what a plain read sees; purging one twice is no error."""
    world.needs("versions")
    async with world.fresh(versioned=True) as store:
        await _overwrite(store, "k", b"1", b"22", b"333")
        old = [Deletion(row.key, row.version) for row in await all_versions(store) if not row.is_live]

        assert [] == await store.delete(old)
        assert [] == await store.delete(old)
        assert [3] == [row.size for row in await all_versions(store)]
        assert b"333" == await get(store, await see(store, "k"))


async def test_versions_go_on_from_any_row(world):
    """A cursor made of any row gives exactly the rows behind it, with the same times."""
    world.needs("versions", "marker_order")
    async with world.fresh("p/", versioned=True) as store:
        for key in ("a", "b+c", "d"):
            await _overwrite(store, key, b"1", b"22", b"333")
        await store.delete([Deletion("b+c")])
        rows = await all_versions(store)
        for index, row in enumerate(rows):
            if world.scheme == "gs" and index + 1 < len(rows) and rows[index + 1].key == row.key:
                continue  # a page of GCS never ends within a key
            cursor = VersionCursor(row.key, row.version, row.modified_at)
            assert rows[index + 1 :] == await all_versions(store, after=cursor)


async def test_versions_are_bounded_like_keys(world):
    """`first` is exclusive, `until` inclusive, and versions outside the prefix are not seen."""
    world.needs("versions")
    async with world.fresh(versioned=True) as root:
        for key in ("p/a", "p/b", "p/c", "q"):
            await put(root, key)
        async with world.beside(root, "p/") as store:
            assert ["a", "b", "c"] == [row.key for row in await all_versions(store)]
            assert ["b"] == [row.key for row in await all_versions(store, "a", "b")]
            assert [] == await all_versions(store, "c", None)


async def test_server_time_comes_with_versions(world):
    """Ages are measured by the server's own clock."""
    world.needs("versions")
    async with world.fresh(versioned=True) as store:
        await put(store, "k")
        page = await store.list_versions_page(None, None, None)

        assert page.server_time.endswith("Z")
        assert page.server_time[:16] >= page.versions[0].modified_at[:16]


async def test_unversioned_bucket_has_one_version_of_each(world):
    """Without versioning the listing of versions shows the live objects."""
    world.needs("versions")
    async with world.fresh() as store:
        await _overwrite(store, "k", b"1", b"22")

        assert [(2, True)] == [(row.size, row.is_live) for row in await all_versions(store)]
