"""START HERE: one synchronisation, from two addresses to a report.

`sync` opens the state and the stores; `SyncRun.run` is the passes in order: list and copy, the guards, delete, purge.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from heavysync.engine import Engine
from heavysync.errors import FatalError, GuardError, HeavysyncError, NotFoundError, StoppedEarlyError, cause
from heavysync.events import Listener, Notice, PhaseStarted, ignore
from heavysync.objects import BucketInfo
from heavysync.opening import look_at_bucket, open_stores, parse_ends
from heavysync.options import SyncOptions
from heavysync.passes import Passes, open_passes, share_of
from heavysync.reports import Planned, Status, SyncReport, find_troubles, tell_plan
from heavysync.retry import BASE_S, Retrier, StoppedError
from heavysync.runners.crew import open_crew
from heavysync.runners.growth import Outlook, growing, linked, team_for
from heavysync.runners.ledger import Ledger
from heavysync.runners.runner import Place, Runner
from heavysync.runners.team import Team
from heavysync.state.directory import default_directory, owned
from heavysync.state.job import Job, Run, Totals, open_job
from heavysync.state.queue import Trouble
from heavysync.state.totals import totals_so_far
from heavysync.stores.base import Store
from heavysync.streaks import MARK, Streak


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
    stop = stop or asyncio.Event()
    retry = Retrier(listener, base_s=retry_base_s)
    try:
        with owned(directory) as lock:
            team = team_for(options, ends, directory, lock=lock, stop=stop, retry_base_s=retry_base_s)
            async with linked(stop, team) as retry.stopping:
                opening = open_stores(
                    ends,
                    sides,
                    retry,
                    connections=share_of(options).connections,
                    storage_class=options.storage_class,
                    copy_tags=options.tags,
                    listener=listener,
                )
                async with open_job(directory, *ends) as job, opening as stores:
                    return await SyncRun(job, *stores, options, retry, listener, team).run(planned)
    except (StoppedError, BaseExceptionGroup) as error:
        shown = cause(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(shown, StoppedError):
            raise StoppedEarlyError("stopped while the buckets were looked at; nothing was changed") from None
        raise shown from error


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
        team: Team | None = None,
    ) -> None:
        self._job = job
        self._source = source
        self._destination = destination
        self._options = options
        self._retry = retry
        self._listener = listener
        self._team = team  # what it takes to start other processes; None: there are none
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
            await self._job.finish(run, status="stopped", message=str(shown), totals=await totals_so_far(self._job, run))
            raise shown from None
        totals = await totals_so_far(self._job, run) if status == "stopped" else await self._job.totals()
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
        if lost := await self._job.plan_lost():
            self._listener(Notice(f"state files of {lost} ranges are missing: these are listed anew"))
        stop = self._team.stop if self._team else self._retry.stopping
        runner = Runner(self._job, stopping=stop)
        outlook = Outlook(self._listener)
        ledger = Ledger(self._job, outlook, runner.announce)
        async with self._place(run, bucket, ledger, outlook) as place:
            self._listener(PhaseStarted("list and copy"))
            await ledger.begin()
            if not await runner.run("planned", place):
                self._stuck = place.stuck
                return "stopped", "stopped while listing and copying"
            return await self._then(run, bucket, runner, place)

    async def _then(self, run: Run, bucket: BucketInfo, runner: Runner, place: Place) -> tuple[Status, str]:
        """The passes that follow once all is listed and copied."""
        options = self._options
        totals = await self._job.totals()
        try:
            may_delete = self._guard(totals)
        except GuardError as error:
            return "refused", str(error)
        if options.dry_run:
            return "done", "dry run: nothing was changed"
        if may_delete:
            self._listener(PhaseStarted("delete"))
            if not await runner.run("copied", place):
                return "stopped", "stopped while deleting"
        else:
            await self._job.skip_pass(before="copied", after="deleted")
        if options.purge_noncurrent > 0 and bucket.versioning != "off":
            self._listener(PhaseStarted("purge"))
            if not await runner.run("deleted", place):
                return "stopped", "stopped while purging"
        else:
            await self._job.skip_pass(before="deleted", after="purged")
        status, message = self._verdict(await self._job.totals(), may_delete=may_delete)
        if run.reopened and status == "done":
            began = datetime.fromtimestamp(run.started_at, UTC)
            message += f" with what was listed when run {run.number} began, {began:%Y-%m-%d %H:%M} UTC"
        return status, message

    @asynccontextmanager
    async def _place(self, run: Run, bucket: BucketInfo, ledger: Ledger, outlook: Outlook) -> AsyncIterator[Place]:
        """Who runs the passes: this process, others, or first the one and then the others."""
        is_watched = not (await self._job.message(run)).startswith(MARK)
        null_is_safe = bucket.versioning == "enabled"
        async with AsyncExitStack() as stack:
            passes: Passes | None = None
            if self._team is None or not self._team.at_once:
                engine = Engine(
                    plan=ledger,
                    run=run,
                    source=self._source,
                    destination=self._destination,
                    retry=self._retry,
                    pool=None,
                    listener=ledger.noting(outlook),
                    purge_days=self._options.purge_noncurrent,
                    null_is_safe=null_is_safe,
                    retry_failed=self._options.retry_failed,
                )
                streak = Streak(is_watched=is_watched)
                opening = open_passes(engine, self._options, share_of(self._options), streak=streak, is_proven=ledger.is_proven)
                passes = await stack.enter_async_context(opening)
                if self._team is None:
                    yield passes
                    return
            setup = self._team.setup(run=run, is_watched=is_watched, null_is_safe=null_is_safe)
            crew = await stack.enter_async_context(open_crew(self._job, ledger, self._team, setup, self._listener))
            if passes is not None:
                yield await stack.enter_async_context(
                    growing(self._job, passes, crew, self._retry.stopping, self._team, outlook)
                )
            else:
                yield crew

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
