"""Draws the sample of a check: one pass over the source's listing, from the store or from the state.

A small bucket is listed from its start to its end. A larger one is cut into pieces that are listed at the same time; each
has a sampler of its own, and two samplers are merged as if one had seen everything. All random numbers come from the seed,
so the same seed over the same listing draws the same sample.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from random import Random

from heavysync.bounds import sample_for
from heavysync.errors import cause
from heavysync.events import Listed, Listener
from heavysync.evidence import Recollection
from heavysync.keyspace import KeyRange
from heavysync.objects import ObjectInfo
from heavysync.options import CheckOptions
from heavysync.planning import find_borders
from heavysync.retry import Retrier
from heavysync.sampling import ByteReservoir, Reservoir, SizeHistogram, Thinning
from heavysync.state.checks import Checks
from heavysync.stores.base import Store
from heavysync.verdicts import Draw, Drawn, Inspection

FIRST_PAGES = 16
"""Pages that are listed before the rest is cut into pieces: a bucket that ends within them is never probed."""

PIECES = 16
"""Pieces listed at the same time."""

_HELD = 100_000  # sampled objects that all pieces together may hold in memory, some 50 MB
_SPILL = 1_000  # kept rows that are written at once

Pages = AsyncIterator[Sequence[ObjectInfo]]


@dataclass(kw_only=True)
class Tray:
    """What a pass over a piece of the listing gathers.

    Args:
        sampler: takes the objects that may be drawn.
        recollection: what is known of them, shared by all pieces; None: it is not asked.
        all_objects: listed.
        objects: of the population.
        bytes: of the population.
        sizes: of the population.
        kept: rows that a thinning kept and that are not written yet.
    """

    sampler: Reservoir[ObjectInfo] | ByteReservoir[ObjectInfo] | Thinning[ObjectInfo]
    recollection: Recollection | None = None
    all_objects: int = 0
    objects: int = 0
    bytes: int = 0
    sizes: SizeHistogram = field(default_factory=SizeHistogram)
    kept: list[tuple[float, ObjectInfo]] = field(default_factory=list)

    def count(self, listed: int, rows: Sequence[ObjectInfo]) -> list[int]:
        """Count the rows of a page; answer their sizes."""
        sizes = [info.size for info in rows]
        self.all_objects += listed
        self.objects += len(rows)
        self.bytes += sum(sizes)
        self.sizes.add(sizes)
        return sizes

    def merge(self, other: Tray) -> None:
        """Add what another piece gathered."""
        self.all_objects += other.all_objects
        self.objects += other.objects
        self.bytes += other.bytes
        self.sizes.merge(other.sizes)
        match self.sampler, other.sampler:
            case Reservoir(), Reservoir():
                self.sampler.merge(other.sampler)
            case ByteReservoir(), ByteReservoir():
                self.sampler.merge(other.sampler)
            case Thinning(), Thinning():
                self.sampler.seen += other.sampler.seen
            case _:
                raise AssertionError(other)


def wanted_draws(options: CheckOptions) -> int:
    """Objects, or bytes, to draw; 0 where a share of the objects was asked for."""
    if options.prove is not None:
        return sample_for(options.prove, options.confidence)
    return options.samples.count or 0


class Drawing:
    """One draw.

    Args:
        inspection: that it is for.
        checks: where the sample is kept.
        options: what is drawn.
        recollection: what earlier checks know; None: they are not asked.
        skip_root: leave the empty key out: the destination's root has no place for the source prefix's own marker.
        listener: is told of every page.
    """

    def __init__(
        self,
        inspection: Inspection,
        checks: Checks,
        options: CheckOptions,
        *,
        recollection: Recollection | None,
        skip_root: bool,
        listener: Listener,
    ) -> None:
        self._number = inspection.number
        self._seed = inspection.seed
        self._checks = checks
        self._options = options
        self._recollection = recollection
        self._skip_root = skip_root
        self._listener = listener
        self._trays = 0
        self.wanted = wanted_draws(options)

    async def from_pages(self, pages: Pages, listed_at: int) -> Drawn:
        """Draw from a listing that is at hand."""
        tray = self._tray()
        async for page in pages:
            await self._take(page, tray)
        return await self._settle(tray, listed_at)

    async def from_store(self, store: Store, retry: Retrier, listed_at: int) -> Drawn:
        """Draw from a listing that is asked for now.

        Raises:
            StoppedError: the check is stopping.
        """
        span = self._options.population.span(store.location.prefix)
        tray = self._tray()
        pages = _Lister(store, retry, span)
        for _ in range(FIRST_PAGES):
            if pages.is_done:
                break
            await self._take(await pages.next(), tray)
        if not pages.is_done:
            await self._in_pieces(store, retry, KeyRange(pages.cursor, span.hi), tray)
        return await self._settle(tray, listed_at)

    async def _in_pieces(self, store: Store, retry: Retrier, span: KeyRange, tray: Tray) -> None:
        """List the rest of a range in several pieces at the same time."""
        pieces = max(1, min(PIECES, _HELD // max(self.wanted, 1)))
        borders = await find_borders(store, retry, span, pieces) if pieces > 1 else []
        edges = [span.lo, *borders, span.hi]
        trays = [self._tray() for _ in range(len(edges) - 1)]

        async def run(piece: KeyRange, own: Tray) -> None:
            pages = _Lister(store, retry, piece)
            while not pages.is_done:
                await self._take(await pages.next(), own)

        try:
            async with asyncio.TaskGroup() as group:
                for (lo, hi), own in zip(pairwise(edges), trays, strict=True):
                    group.create_task(run(KeyRange(lo, hi), own))
        except BaseExceptionGroup as errors:
            raise cause(errors) from errors
        for own in trays:
            await self._spill(own, 1)
            tray.merge(own)

    def _tray(self) -> Tray:
        options = self._options
        random = Random(f"{self._seed}/{self._trays}")  # noqa: S311 - a sample, not a secret
        self._trays += 1
        sampler: Reservoir[ObjectInfo] | ByteReservoir[ObjectInfo] | Thinning[ObjectInfo]
        if options.prove is None and options.samples.percent is not None:
            sampler = Thinning(options.samples.percent / 100, random)
        elif options.by == "bytes":
            sampler = ByteReservoir(self.wanted, random)
        else:
            sampler = Reservoir(self.wanted, random)
        return Tray(sampler=sampler, recollection=self._recollection)

    async def _take(self, page: Sequence[ObjectInfo], tray: Tray) -> None:
        listed = page
        if self._skip_root and page and not page[0].key:
            listed = page[1:]
        rows = self._options.population.select(listed)
        sizes = tray.count(len(listed), rows)
        if self._recollection is not None:
            fresh = await self._recollection.sort(rows)
            if self._options.rotate:
                rows = fresh
        match tray.sampler:
            case Reservoir():
                tray.sampler.add(rows)
            case ByteReservoir():
                tray.sampler.add(rows, sizes)
            case Thinning():
                tray.kept += tray.sampler.add(rows)
                await self._spill(tray, _SPILL)
        self._listener(Listed("source", len(page), sum(sizes)))

    async def _spill(self, tray: Tray, least: int) -> None:
        """Write rows that a thinning kept, once there are enough of them."""
        if len(tray.kept) >= least:
            await self._checks.add(self._number, [_draw(info, position, 1) for position, info in tray.kept])
            tray.kept.clear()

    async def _settle(self, tray: Tray, listed_at: int) -> Drawn:
        """Complete the sample and let it stand."""
        await self._spill(tray, 1)
        recollection = self._recollection
        sampled = self._sampled(tray)
        if isinstance(tray.sampler, Thinning):
            await self._checks.keep_first(self._number, math.ceil(tray.sampler.share * tray.sampler.seen))
        else:
            chosen = Counter(dict.fromkeys(self._taken(len(sampled)), 0))
            chosen.update(sampled)
            await self._checks.add(self._number, self._in_random_order(chosen))
        if recollection is not None and recollection.bad:
            random = self._random("bad")
            again = [_draw(info, -random.random(), 0) for info in recollection.bad]  # negative: they come first
            await self._checks.add(self._number, again)
        pool = tray.bytes if self._options.by == "bytes" else tray.objects
        if self._options.rotate and recollection is not None:
            pool = recollection.fresh_objects
        drawn = Drawn(
            listed_at=listed_at,
            all_objects=tray.all_objects,
            objects=tray.objects,
            bytes=tray.bytes,
            pool=pool,
            sizes=dict(tray.sizes.counts),
            groups=recollection.groups() if recollection is not None else [],
            known_bad=recollection.more_bad if recollection is not None else 0,
        )
        await self._checks.settle_draw(self._number, drawn)
        return drawn

    def _sampled(self, tray: Tray) -> list[ObjectInfo]:
        """The random draws; fewer than were gathered where the population turned out to be small enough to prove with less."""
        if isinstance(tray.sampler, Thinning):
            return []
        items = list(tray.sampler.items)
        options = self._options
        if options.prove is None or options.by == "bytes":
            return items
        items.sort(key=lambda info: info.key)
        least = sample_for(options.prove, options.confidence, tray.objects)
        return self._random("least").sample(items, min(least, len(items)))

    def _taken(self, sampled: int) -> list[ObjectInfo]:
        """In rotation: what was checked longest ago, where too few were never checked."""
        if self._recollection is None or not self._options.rotate:
            return []
        return self._recollection.oldest(max(self.wanted - sampled, 0))

    def _in_random_order(self, chosen: Counter[ObjectInfo]) -> list[Draw]:
        random = self._random("order")
        return [_draw(info, random.random(), chosen[info]) for info in sorted(chosen, key=lambda info: info.key)]

    def _random(self, use: str) -> Random:
        return Random(f"{self._seed}/{use}")  # noqa: S311 - a sample, not a secret


class _Lister:
    """Lists a range page by page, with retries.

    Raises:
        StoppedError: the check is stopping.
    """

    def __init__(self, store: Store, retry: Retrier, span: KeyRange) -> None:
        self._store = store
        self._retry = retry
        self._until = span.hi
        self.cursor = span.lo
        self.is_done = False

    async def next(self) -> list[ObjectInfo]:
        """The next page."""
        if self._retry.stopping.is_set():
            self._retry.stop_now()
        page = await self._retry("list source", partial(self._store.list_page, self.cursor, self._until))
        self.is_done = page.cursor is None
        self.cursor = page.cursor
        return page.objects


def _draw(info: ObjectInfo, position: float, hits: int) -> Draw:
    return Draw(info.key, position, hits, info.size, info.token)
