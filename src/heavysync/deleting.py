"""The destination objects that the source does not have: deleted in batches, each looked for at the source once more.

Only `sync` calls this, after both listings are complete and the guards have passed.
"""

from __future__ import annotations

from heavysync.errors import ObjectError, TransientError
from heavysync.events import Deleted, Listener, Stuck
from heavysync.keyspace import before, room_below
from heavysync.objects import Deletion, DeletionFailure, ObjectInfo
from heavysync.retry import STUCK_AFTER, Retrier, StuckError
from heavysync.state.extras import ExtraOutcome, Extras
from heavysync.stores.base import Store

BATCH = 250
"""Keys a request: S3 takes 1,000, but each counts against 3,500 writes a second of a partition (SEMANTICS 4)."""


async def delete_extras(extras: Extras, *, source: Store, destination: Store, retry: Retrier, listener: Listener) -> bool:
    """Delete what `extras` holds of a range; answer False if the run stopped first. Can be repeated at any time.

    A key that the source has again is kept. An object that somebody wrote since it was listed is left alone and recorded
    as failed. One that fails in passing again and again waits until all others are done.
    """
    await extras.find()
    limit = min(BATCH, destination.limits.delete_batch)
    bounded = retry.bounded(STUCK_AFTER)
    times, are_left = 0, True
    while are_left:
        times, are_left = times + 1, False
        after: str | None = None
        while batch := await extras.pending(after, limit):
            if retry.stopping.is_set():
                return False
            after = batch[-1].key
            outcomes, stuck = await _delete(source, destination, bounded, batch)
            await extras.settle(outcomes)
            deleted = sum(1 for outcome in outcomes if outcome.status == "deleted")
            failed = sum(1 for outcome in outcomes if outcome.status == "failed")
            listener(Deleted(deleted, failed))
            if stuck is not None:
                are_left = True
                listener(
                    Stuck(
                        batch[-1].key if len(batch) == 1 else f"{len(batch) - len(outcomes)} deletions",
                        str(stuck),
                        times,
                        stuck.alone,
                    )
                )
    return True


async def _present(source: Store, keys: list[str]) -> set[str]:
    """Which of the ascending keys the source has now, by list pages: one where keys lie close together.

    Never by a look at a single object: that a page lacks a key is proven by the page, a bare 404 may be anybody's.
    """
    found: set[str] = set()
    position = 0
    room = room_below(source.location.prefix)
    after = before(keys[0], room)
    while position < len(keys):
        page = await source.list_page(after, keys[-1])
        found.update(info.key for info in page.objects)
        if page.cursor is None:
            break
        while position < len(keys) and keys[position] <= page.cursor:
            position += 1
        if position < len(keys):  # skip what lies between, but never go back
            after = max(page.cursor, before(keys[position], room) or "")
    return found.intersection(keys)


async def _delete(
    source: Store, destination: Store, retry: Retrier, infos: list[ObjectInfo]
) -> tuple[list[ExtraOutcome], StuckError | None]:
    """Delete objects as they were listed; before each attempt the source is asked for those still owed."""
    outcomes: dict[str, ExtraOutcome] = {}
    owed = infos

    async def step() -> None:
        nonlocal owed
        present = await _present(source, [info.key for info in owed])
        outcomes.update((key, ExtraOutcome(key, "kept")) for key in present)
        owed = [info for info in owed if info.key not in present]
        failures = await destination.delete([Deletion(info.key, listed=info) for info in owed]) if owed else []
        outcomes.update((info.key, ExtraOutcome(info.key, "deleted")) for info in owed)
        outcomes.update((failure.key, _failed(failure)) for failure in failures)
        again = {failure.key: failure for failure in failures if failure.transient}
        owed = [info for info in owed if info.key in again]
        if owed:
            first = again[owed[0].key]
            raise TransientError(f"delete {first.key}: {first.code}: {first.message}")

    try:
        await retry("delete", step)
    except StuckError as error:
        left = {info.key for info in owed}
        return [outcome for key, outcome in outcomes.items() if key not in left], error
    except ObjectError as error:
        outcomes.update((info.key, ExtraOutcome(info.key, "failed", error.code, str(error))) for info in owed)
    return list(outcomes.values()), None


def _failed(failure: DeletionFailure) -> ExtraOutcome:
    if failure.code == "changed":
        message = f"{failure.key}: written by somebody else since it was listed, so it was not deleted"
        return ExtraOutcome(failure.key, "failed", "destination-changed", message)
    return ExtraOutcome(failure.key, "failed", failure.code, f"delete {failure.key}: {failure.message}")
