"""START HERE: one synchronisation, from two addresses to a report.

`sync` opens the state and the stores; `SyncRun.run` is the passes in order: list and copy, the guards, delete, purge.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from heavysync.copying import CopyPool, open_pool
from heavysync.engine import Engine
from heavysync.errors import FatalError, GuardError, HeavysyncError, NotFoundError, StoppedEarlyError, cause
from heavysync.events import Listener, ListingDone, Moved, Notice, PhaseStarted, ignore
from heavysync.objects import BucketInfo
from heavysync.opening import look_at_bucket, open_stores, parse_ends
from heavysync.options import SyncOptions
from heavysync.pacing import ByteBudget
from heavysync.reports import TOLD, Planned, Status, SyncReport, find_troubles, tell_plan
from heavysync.retry import BASE_S, STUCK_AFTER, Retrier, StoppedError
from heavysync.runners.inline import InlineRunner
from heavysync.state.directory import default_directory, owned
from heavysync.state.job import Job, PlannedRange, Run, Totals, open_job
from heavysync.state.queue import Trouble
from heavysync.stores.base import Store
from heavysync.streaks import MARK, Streak
from heavysync.transfer import Context


async def sync(
    source: str,
    destination: str,
    options: SyncOptions | None = None,
    *,
    listener: Listener = ignore,
    stop: asyncio.Event | None = None,
    planned: Callable[[Planned], None] | None = None,
    retry_base_s: float = BASE_S,
) -> SyncReport:
    """Make `destination` equal to `source`.

    Args:
        source: `s3://bucket[/prefix]` or `gs://bucket[/prefix]`.
        destination: the same.
        options: see `SyncOptions`.
        listener: is told what happens, a page or a batch at a time.
        stop: when it is set, the run finishes what is under way, commits, and reports "stopped".
        planned: a dry run calls it for everything that would be done.
        retry_base_s: seconds of the first wait after a transient error.

    Raises:
        UsageError: the addresses or options make no sense.
        FatalError: the run cannot start or go on; started again, it goes on where it was.
    """
    options = options or SyncOptions()
    sides = options.source, options.destination
    ends = parse_ends(source, destination, sides)
    directory = options.state or default_directory(*ends, Path.home() / ".local" / "state")
    retry = Retrier(listener, base_s=retry_base_s)
    retry.stopping = stop or retry.stopping
    try:
        with owned(directory):
            opening = open_stores(
                ends,
                sides,
                retry,
                connections=2 * options.concurrency + 64,  # one a worker, more for parts of large objects and for listers
                storage_class=options.storage_class,
                copy_tags=options.tags,
                listener=listener,
            )
            async with open_job(directory, *ends) as job, opening as stores:
                return await SyncRun(job, *stores, options, retry, listener).run(planned)
    except StoppedError:
        raise StoppedEarlyError("stopped while the buckets were looked at; nothing was changed") from None
    except BaseExceptionGroup as group:
        raise cause(group) from group


class SyncRun:
    """One run over open state and stores."""

    def __init__(
        self,
        job: Job,
        source: Store,
        destination: Store,
        options: SyncOptions,
        retry: Retrier,
        listener: Listener,
    ) -> None:
        self._job = job
        self._source = source
        self._destination = destination
        self._options = options
        self._retry = retry
        self._listener = listener
        self._unlisted = 0  # ranges of the present pass
        self._stuck: list[Trouble] = []
        self._changed: list[str] = []  # before the run began

    async def run(self, planned: Callable[[Planned], None] | None) -> SyncReport:
        """The passes in order."""
        options = self._options
        try:
            bucket = await self._prepare()
        except StoppedError:
            if not self._changed:
                raise
            raise StoppedEarlyError(f"stopped while the buckets were looked at; {', '.join(self._changed)}") from None
        run = await self._job.begin(
            meaning={
                **options.meaning(),
                "the source's server": self._source.server,
                "the destination's server": self._destination.server,
            },
            options=options.describe(),
            dry_run=options.dry_run,
            restart=options.restart,
            retry_failed=options.retry_failed,
        )
        try:
            status, message = await self._passes(run, bucket)
        except (HeavysyncError, BaseExceptionGroup) as error:
            shown = cause(error) if isinstance(error, BaseExceptionGroup) else error
            await self._job.finish(run, status="stopped", message=str(shown), totals=await self._job.totals())
            raise shown from None
        totals = await self._job.totals()
        if options.dry_run and planned is not None and status != "stopped":
            await tell_plan(self._job, run, planned, delete=options.delete)
        is_troubled = totals.failed or totals.skipped or totals.delete_failed or totals.purge_failed
        troubles = await find_troubles(self._job, run) if is_troubled else []
        await self._job.finish(run, status=status, message=message, totals=totals)
        return SyncReport(
            status=status,
            run=run.number,
            resumed=run.resumed,
            dry_run=options.dry_run,
            totals=totals,
            message=message,
            troubles=self._stuck + troubles,
            state=self._job.directory,
        )

    async def _passes(self, run: Run, bucket: BucketInfo) -> tuple[Status, str]:
        options = self._options
        if lost := await self._job.plan_lost():
            self._listener(Notice(f"state files of {lost} ranges are missing: these are listed anew"))
        runner = InlineRunner(self._job, at_once=options.ranges_at_once, stopping=self._retry.stopping)
        streak = Streak(is_watched=not (await self._job.message(run)).startswith(MARK))
        async with self._pool(streak) as pool:
            engine = Engine(
                job=self._job,
                run=run,
                source=self._source,
                destination=self._destination,
                retry=self._retry,
                pool=pool,
                listener=self._listener,
                on_listed=lambda: self._count_unlisted(-1),
                purge_days=options.purge_noncurrent,
                null_is_safe=bucket.versioning == "enabled",
                retry_failed=options.retry_failed,
            )
            self._listener(PhaseStarted("list and copy"))
            self._count_unlisted((await self._job.count_ranges()).get("planned", 0))
            if not await runner.run("planned", partial(self._copy, engine, runner)):
                self._stuck = stuck_troubles(pool)
                return "stopped", "stopped while listing and copying"
        totals = await self._job.totals()
        try:
            may_delete = self._guard(totals)
        except GuardError as error:
            return "refused", str(error)
        if options.dry_run:
            return "done", "dry run: nothing was changed"
        if may_delete:
            self._listener(PhaseStarted("delete"))
            if not await runner.run("copied", engine.delete):
                return "stopped", "stopped while deleting"
        else:
            await self._job.skip_pass(before="copied", after="deleted")
        if options.purge_noncurrent > 0 and bucket.versioning != "off":
            self._listener(PhaseStarted("purge"))
            if not await runner.run("deleted", engine.purge):
                return "stopped", "stopped while purging"
        else:
            await self._job.skip_pass(before="deleted", after="purged")
        status, message = self._verdict(await self._job.totals(), may_delete=may_delete)
        if run.reopened and status == "done":
            began = datetime.fromtimestamp(run.started_at, UTC)
            message += f" with what was listed when run {run.number} began, {began:%Y-%m-%d %H:%M} UTC"
        return status, message

    async def _copy(self, engine: Engine, runner: InlineRunner, planned: PlannedRange) -> bool:
        """List and copy a range; what it hands back becomes a range of its own."""
        options = self._options
        planned, pieces = await engine.cut(planned)
        if planned.to_cut:
            return False
        self._count_unlisted(pieces - 1)
        is_first = planned.span.lo is None and planned.span.hi is None
        most = min(options.first_rows, options.range_rows) if is_first else options.range_rows
        wanted = 2 * options.ranges_at_once if is_first else 2

        async def hand_back(at: str) -> None:
            await self._job.hand_back(planned.range, at, pieces=wanted)
            self._count_unlisted(1)
            await runner.announce()

        return await engine.copy(planned, most=most, hand_back=hand_back)

    def _count_unlisted(self, change: int) -> None:
        """Keep count of ranges whose listing is not complete; totals are final when there is none."""
        self._unlisted += change
        if self._unlisted == 0:
            self._listener(ListingDone())

    @asynccontextmanager
    async def _pool(self, streak: Streak) -> AsyncIterator[CopyPool | None]:
        options = self._options
        if options.dry_run:
            yield None
            return
        context = Context(
            source=self._source,
            destination=self._destination,
            retry=self._retry.bounded(STUCK_AFTER),
            budget=ByteBudget(options.memory),
            moved=lambda size: self._listener(Moved(size)),
            server_side=options.server_side_copy and self._source.copy_domain == self._destination.copy_domain,
            part_size=options.part_size,
            tags=options.tags,
        )

        async def is_proven() -> bool:
            totals = await self._job.totals()
            return totals.source_objects > totals.to_copy or totals.copied > 0

        async with open_pool(context, concurrency=options.concurrency, streak=streak, is_proven=is_proven) as pool:
            yield pool

    async def _prepare(self) -> BucketInfo:
        """Look at both buckets before anything else; create the destination where that was asked for.

        Raises:
            FatalError: a bucket is missing, or purging is impossible there.
        """
        options, there = self._options, self._destination.location
        await look_at_bucket(self._source, "source", self._retry)
        try:
            bucket = await self._retry(f"look at {there}", self._destination.read_bucket)
        except NotFoundError as error:
            if not options.create_bucket or options.dry_run:
                raise FatalError(f"destination bucket of {there} does not exist: create it, or give --create-bucket") from error
            create = partial(self._destination.create_bucket, options.bucket_location, options.storage_class)
            await self._change(f"create {there}", create, f"{there} may have been created", f"{there} was created")
            bucket = await self._retry(f"look at {there}", self._destination.read_bucket)
        if options.enable_versioning and bucket.versioning != "enabled" and not options.dry_run:
            what = f"versioning of {there}"
            enable = self._destination.enable_versioning
            await self._change(f"enable {what}", enable, f"{what} may have been enabled", f"{what} was enabled")
            self._listener(
                Notice(f"versioning of {there} is on from now; S3 may need 15 minutes, GCS 30 s until it holds for every write")
            )
            bucket = await self._retry(f"look at {there}", self._destination.read_bucket)
        if options.purge_noncurrent > 0 and bucket.mfa_delete:
            raise FatalError(f"{there} demands a one-time password for every deleted version: it cannot be purged")
        if options.purge_noncurrent > 0 and bucket.versioning == "off":
            self._listener(Notice(f"{there} has no versioning, so there is nothing to purge"))
        return bucket

    async def _change(self, operation: str, step: Callable[[], Awaitable[None]], perhaps: str, done: str) -> None:
        """Change the destination bucket, and keep in words what was changed: the answer may be lost, or the run be stopped."""
        self._changed.append(perhaps)
        await self._retry(operation, step)
        self._changed[-1] = done

    def _guard(self, totals: Totals) -> bool:
        """Whether the deleting pass may run.

        Raises:
            GuardError: what the listings say looks like a mistake.
        """
        options, source = self._options, self._source.location
        if totals.source_objects == 0 and (source.prefix or (options.delete and totals.destination_objects)):
            raise GuardError(
                f"the source {source} has no objects: nothing was deleted; check its name"
                + (" (a prefix means the keys below it)" if source.prefix else "")
                + ", or empty the destination by other means"
            )
        if not options.delete or totals.extra == 0:
            return False
        if not options.max_delete.allows(totals.extra, totals.destination_objects):
            raise GuardError(
                f"{totals.extra} of {totals.destination_objects} destination objects are not in the source: that is more "
                f"than --max-delete {options.max_delete} allows, so nothing was deleted"
            )
        if totals.failed and not options.delete_despite_errors:
            self._listener(
                Notice(
                    f"{totals.failed} objects could not be copied, so nothing is deleted (--delete-despite-errors lifts that)"
                )
            )
            return False
        return True

    def _verdict(self, totals: Totals, *, may_delete: bool) -> tuple[Status, str]:
        failed = totals.failed + totals.delete_failed + totals.purge_failed
        if failed:
            return "failed", f"finished, but {failed} objects failed"
        if totals.extra and not may_delete:
            return (
                "done",
                f"in sync, but for {totals.extra} destination objects that the source does not have",
            )
        return "done", "in sync"


def stuck_troubles(pool: CopyPool | None) -> list[Trouble]:
    """The first objects that were still stuck when the run was stopped."""
    stuck = sorted(pool.stuck.values())[:TOLD] if pool else []
    return [Trouble(one.key, "stuck", "stuck", one.message) for one in stuck]
