"""The contract of `delete`."""

from __future__ import annotations

from contract.kit import everything, get, keys, put, see

from heavysync.objects import Deletion


async def test_batch_deletes_what_it_names(world):
    """All of a batch go, the others stay."""
    async with world.fresh("p/") as store:
        for name in ("a", "b c", "d", "e"):
            await put(store, name)
        listed = await everything(store)

        assert [] == await store.delete([Deletion(info.key, listed=info) for info in listed[:3]])
        assert ["e"] == await keys(store)


async def test_missing_object_counts_as_deleted(world):
    """What is not there any more needs no deleting."""
    async with world.fresh() as store:
        await put(store, "k")
        info = await see(store, "k")
        await store.delete([Deletion("k")])

        assert [] == await store.delete([Deletion("k"), Deletion("never was")])
        assert [] == await store.delete([Deletion("k", listed=info)])


async def test_object_that_changed_since_it_was_listed_stays(world):
    """Somebody else's new object is not deleted, and the failure names it as changed."""
    world.needs("conditional_delete")
    async with world.fresh() as store:
        await put(store, "k", b"one")
        await put(store, "other")
        listed = {info.key: info for info in await everything(store)}
        await put(store, "k", b"two", replaces=listed["k"])
        failures = await store.delete([Deletion(key, listed=info) for key, info in listed.items()])

        assert [("k", "changed", False)] == [(f.key, f.code, f.transient) for f in failures]
        assert ["k"] == await keys(store)
        assert b"two" == await get(store, await see(store, "k"))


async def test_empty_batch_does_nothing(world):
    """No deletions are no error."""
    async with world.fresh() as store:
        assert [] == await store.delete([])


async def test_full_batch_is_taken(world):
    """As many deletions as the limits promise go in one call."""
    async with world.fresh() as store:
        await put(store, "k0")
        count = min(store.limits.delete_batch, 100)

        assert [] == await store.delete([Deletion(f"k{number}") for number in range(count)])
        assert [] == await keys(store)
