"""Opens the two sides of a pair, and refuses those that are one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from heavysync.errors import FatalError, NotFoundError, UsageError
from heavysync.events import Listener, Notice, ignore
from heavysync.objects import BucketInfo, Location
from heavysync.options import SideOptions
from heavysync.retry import Retrier
from heavysync.stores import open_store
from heavysync.stores.base import Store


def check_apart(source: Location, destination: Location, *, same_server: bool) -> None:
    """Refuse two addresses of which one lies inside the other.

    Raises:
        UsageError: they do.
    """
    if not same_server:
        return
    if source == destination:
        raise UsageError(f"{source} is both source and destination")
    if source.contains(destination) or destination.contains(source):
        raise UsageError(f"{source} and {destination} lie inside each other: a run would copy or delete its own copies")


def parse_ends(source: str, destination: str, sides: tuple[SideOptions, SideOptions]) -> tuple[Location, Location]:
    """Read two addresses and refuse those that look like one.

    Raises:
        UsageError: they make no sense.
    """
    ends = Location.parse(source), Location.parse(destination)
    spelt = [(side.endpoint_url, side.profile) for side in sides]
    check_apart(*ends, same_server=spelt[0] == spelt[1])
    return ends


@asynccontextmanager
async def open_stores(
    ends: tuple[Location, Location],
    sides: tuple[SideOptions, SideOptions],
    retry: Retrier,
    *,
    connections: int,
    storage_class: str | None = None,
    copy_tags: bool = False,
    listener: Listener = ignore,
    shared_by: int = 1,
) -> AsyncIterator[tuple[Store, Store]]:
    """Open both stores; transient errors are tried again.

    Args:
        ends: source and destination.
        sides: how they are reached.
        retry: the retry policy.
        connections: most of each store.
        storage_class: of what is written to the destination.
        copy_tags: tags are copied.
        listener: is told when a side waits for other credentials.
        shared_by: processes of one run, of which the first has opened and looked at both sides before.

    Raises:
        UsageError: the servers tell that both sides are one.
        FatalError: a side cannot be reached.
    """
    async with AsyncExitStack() as stack:

        async def enter(end: Location, side: SideOptions, storage_class: str | None) -> Store:
            return await stack.enter_async_context(
                open_store(
                    end,
                    side,
                    connections=connections,
                    storage_class=storage_class,
                    copy_tags=copy_tags,
                    stopping=retry.stopping,
                    listener=listener,
                    shared_by=shared_by,
                )
            )

        source = await retry(f"open {ends[0]}", partial(enter, ends[0], sides[0], None))
        destination = await retry(f"open {ends[1]}", partial(enter, ends[1], sides[1], storage_class))
        check_apart(*ends, same_server=source.server == destination.server)
        for caution in {} if shared_by > 1 else {store.caution: None for store in (source, destination) if store.caution}:
            listener(Notice(caution))
        yield source, destination


async def look_at_bucket(store: Store, side: str, retry: Retrier, *, advice: str = "") -> BucketInfo:
    """Look at a store's bucket before anything else.

    Raises:
        FatalError: there is none.
    """
    try:
        return await retry(f"look at {store.location}", store.read_bucket)
    except NotFoundError as error:
        raise FatalError(f"{side} bucket of {store.location} does not exist: {advice or 'check its name'}") from error
