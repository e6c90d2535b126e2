"""START HERE for heavy-check: one check, from two addresses to a report.

`check` opens the state and the stores; `CheckRun.run` is the steps in order: draw, tell the plan, verify, weigh.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from secrets import token_hex

from heavysync.assurance import (
    TOLD,
    CheckPlan,
    CheckReport,
    CheckStatus,
    History,
    Weighed,
    bad_verdicts,
    bound_alone,
    bound_by_history,
    weigh,
    wishes,
)
from heavysync.bounds import upper_share
from heavysync.costs import list_cost, read_cost
from heavysync.drawing import Drawing, wanted_draws
from heavysync.errors import FatalError, StoppedEarlyError, UsageError, cause
from heavysync.events import Checked, Listener, Moved, Notice, PhaseStarted, Queued, ignore
from heavysync.evidence import DAY_S, HALF_LIVES, Recollection
from heavysync.opening import look_at_bucket, open_stores, parse_ends
from heavysync.options import MOST_SAMPLES, CheckOptions
from heavysync.pacing import ByteBudget
from heavysync.parts import DEFAULT_PART_SIZE
from heavysync.retry import BASE_S, Retrier, StoppedError
from heavysync.state.directory import default_directory, owned
from heavysync.state.job import Job, open_job
from heavysync.state.records import FinishedRun, Record
from heavysync.stores.base import Store
from heavysync.verdicts import VERDICTS, Draw, Drawn, Finding, Inspection
from heavysync.verifying import Bench, verify

_BATCH = 256  # draws that are looked up in the state at once


async def check(
    source: str,
    destination: str,
    options: CheckOptions | None = None,
    *,
    listener: Listener = ignore,
    stop: asyncio.Event | None = None,
    found: Callable[[Finding], None] | None = None,
    planned: Callable[[CheckPlan], None] | None = None,
    retry_base_s: float = BASE_S,
) -> CheckReport:
    """Find out how sure one may be that `destination` holds what `source` does.

    Args:
        source: `s3://bucket[/prefix]` or `gs://bucket[/prefix]`.
        destination: the same.
        options: see `CheckOptions`.
        listener: is told what happens, a page or a batch at a time.
        stop: when it is set, what is under way is given up, and the report says "stopped".
        found: is told of every finding, once it is recorded.
        planned: is told what is going to be done, once the sample stands.
        retry_base_s: seconds of the first wait after a transient error.

    Raises:
        UsageError: the addresses or options make no sense.
        FatalError: the check cannot start or go on; started again, it goes on where it was.
    """
    options = options or CheckOptions()
    sides = options.source, options.destination
    ends = parse_ends(source, destination, sides)
    directory = options.state or default_directory(*ends, Path.home() / ".local" / "state")
    retry = Retrier(listener, base_s=retry_base_s)
    retry.stopping = stop or retry.stopping
    tell = Tellers(listener, found or (lambda _: None), planned or (lambda _: None))
    try:
        async with AsyncExitStack() as stack:
            stack.enter_context(owned(directory, "check"))
            job = await stack.enter_async_context(open_job(directory, *ends))
            opening = open_stores(ends, sides, retry, connections=2 * options.concurrency + 64, listener=listener)
            stores = await stack.enter_async_context(opening)
            return await CheckRun(job, *stores, options, retry, tell).run()
    except StoppedError:
        raise StoppedEarlyError("stopped before the sample was drawn; nothing was checked") from None
    except BaseExceptionGroup as group:
        raise cause(group) from group


@dataclass(frozen=True, slots=True)
class Tellers:
    """Who is told what."""

    listener: Listener
    found: Callable[[Finding], None]
    planned: Callable[[CheckPlan], None]


class CheckRun:
    """One check over open state and stores."""

    def __init__(
        self,
        job: Job,
        source: Store,
        destination: Store,
        options: CheckOptions,
        retry: Retrier,
        tell: Tellers,
    ) -> None:
        self._job = job
        self._checks = job.checks
        self._source = source
        self._destination = destination
        self._options = options
        self._retry = retry
        self._tell = tell
        self._meaning = {
            **options.meaning(),
            "the source's server": source.server,
            "the destination's server": destination.server,
        }

    async def run(self) -> CheckReport:
        """The steps in order.

        Raises:
            UsageError: what is to be proved takes too many draws.
            StoppedError: it was stopped before the sample stood.
        """
        options = self._options
        if (draws := wanted_draws(options)) > MOST_SAMPLES:
            raise UsageError(
                f"that takes {draws:,} draws, more than {MOST_SAMPLES:,}: prove less, or check a share of the objects"
            )
        await look_at_bucket(self._source, "source", self._retry)
        await look_at_bucket(self._destination, "destination", self._retry)
        finished = await self._job.records.finished_run()
        inspection = await self._checks.begin(
            meaning=self._meaning,
            seed=options.seed or token_hex(8),
            is_given=options.seed is not None,
            confidence=options.confidence,
            restart=options.restart,
            dry_run=options.dry_run,
        )
        if inspection.resumed:
            self._tell.listener(Notice(f"going on with check {inspection.number}, which was interrupted"))
            drawn = await self._checks.drawn(inspection.number)
        else:
            drawn = await self._draw(inspection, finished)
        self._tell.planned(await self._plan(inspection, drawn))
        if options.dry_run:
            report = await self._report(inspection, drawn, "planned")
            await self._checks.forget(inspection.number)
            return report
        self._tell.listener(PhaseStarted("check"))
        await _Checking(self._job, self._bench(finished), inspection, finished, options, self._tell).run()
        is_done = not await self._checks.pending(inspection.number, -2.0, 1)
        return await self._report(inspection, drawn, "ok" if is_done else "stopped")

    async def _draw(self, inspection: Inspection, finished: FinishedRun | None) -> Drawn:
        """Draw the sample.

        Raises:
            FatalError: the source has no objects, or the state has no listing.
        """
        options = self._options
        self._tell.listener(PhaseStarted("draw"))
        drawing = Drawing(
            inspection,
            self._checks,
            options,
            recollection=await self._recollect(inspection),
            skip_root=not self._destination.location.prefix,
            listener=self._tell.listener,
        )
        if options.from_state:
            run = _listed_run(finished, self._job.directory)
            drawn = await drawing.from_pages(self._job.records.pages(run), run.started_at)
        else:
            drawn = await drawing.from_store(self._source, self._retry, inspection.started_at)
        if not drawn.all_objects:
            raise FatalError(
                f"the source {self._source.location} has no objects"
                + (f" {options.population}" if options.population.prefix else "")
                + ": there is nothing to check; is its name right?"
            )
        return drawn

    async def _recollect(self, inspection: Inspection) -> Recollection | None:
        options = self._options
        if not options.combines:
            return None
        return Recollection(
            partial(self._checks.known, before=inspection.number, meaning=self._meaning),
            await self._checks.past(self._meaning, before=inspection, since=self._oldest(inspection)),
            now=inspection.started_at,
            half_life=options.half_life,
            by=options.by,
            oldest=(options.samples.count or 0) if options.rotate else 0,
        )

    def _oldest(self, inspection: Inspection) -> float:
        """UTC seconds; what was checked before counts no more."""
        return inspection.started_at - HALF_LIVES * DAY_S * self._options.half_life

    def _bench(self, finished: FinishedRun | None) -> Bench:
        options = self._options
        return Bench(
            source=self._source,
            destination=self._destination,
            retry=self._retry,
            budget=ByteBudget(options.memory),
            moved=lambda size: self._tell.listener(Moved(size)),
            read_source=options.read_source,
            last_run=None if finished is None else (_text(finished.started_at), _text(finished.finished_at)),
        )

    async def _plan(self, inspection: Inspection, drawn: Drawn) -> CheckPlan:
        options = self._options
        _, hits, objects, size = await self._checks.sample(inspection.number)
        tallies = await self._checks.tallies(inspection.number)
        self._tell.listener(Queued(objects, size))
        requests = 3 * objects + size // DEFAULT_PART_SIZE  # a look at each side and a read; more reads where it is large
        cost, egress = read_cost(self._destination.location.scheme, requests=requests, size=size)
        proves = upper_share(0, hits, options.confidence) if hits else None
        if hits and options.by == "objects":
            bound = bound_alone(drawn, Weighed(hits, 0, 0, 0, 0), by=options.by, confidence=options.confidence)
            proves = bound.share if bound else None
        listed = 0 if options.from_state or inspection.resumed else drawn.all_objects
        return CheckPlan(
            population=str(options.population),
            objects=drawn.objects,
            bytes=drawn.bytes,
            sample=objects,
            sample_bytes=size,
            requests=requests,
            cost=cost + list_cost(self._source.location.scheme, listed),
            egress_cost=egress,
            proves=proves,
            is_resumed=inspection.resumed,
            has_bad=any(verdict in tallies for verdict in bad_verdicts(strict=options.strict)),
        )

    async def _report(self, inspection: Inspection, drawn: Drawn, status: CheckStatus) -> CheckReport:
        options, checks, number = self._options, self._checks, inspection.number
        tallies = await checks.tallies(number)
        bad = bad_verdicts(strict=options.strict)
        weighed = weigh(tallies, gaps=await checks.gaps(number), strict=options.strict)
        bound = bound_alone(drawn, weighed, by=options.by, confidence=options.confidence)
        history = None
        if options.combines:
            noticed = await checks.noticed(self._meaning, since=self._oldest(inspection), bad=bad)
            combined = History(by=options.by, confidence=options.confidence, noticed=noticed, rotated=options.rotate)
            history = bound_by_history(drawn, weighed, combined)
        if status != "planned":
            await checks.finish(
                number,
                share=None if bound is None else bound.share,
                history_share=None if history is None else history.share,
                done=status != "stopped",
            )
        if any(verdict in tallies for verdict in bad):
            status = "bad"  # also when it was stopped: who waits for an alarm must hear it
        elif status == "ok" and "unverifiable" in tallies:
            status = "unverifiable"
        sample = await checks.sample(number)
        return CheckReport(
            status=status,
            number=number,
            resumed=inspection.resumed,
            seed=inspection.seed,
            by=options.by,
            population=str(options.population),
            drawn=drawn,
            sample=sample.objects,
            tallies=tallies,
            confidence=options.confidence,
            bound=bound,
            history=history,
            needed=wishes(drawn.objects, history or bound, by=options.by, confidence=options.confidence),
            findings=await checks.findings(
                number, [verdict for verdict in VERDICTS if verdict not in {"ok", "vanished"}], TOLD
            ),
            metadata=await checks.differing(number, TOLD),
            curve=await checks.curve(self._meaning) if options.combines else [],
            is_strict=options.strict,
            is_rotated=options.rotate,
            state=self._job.directory,
        )


class _Checking:
    """Verifies what is left of a sample: a feeder and `--concurrency` workers.

    A worker goes on when its finding is committed; what others found meanwhile goes into the same transaction.
    """

    def __init__(
        self,
        job: Job,
        bench: Bench,
        inspection: Inspection,
        finished: FinishedRun | None,
        options: CheckOptions,
        tell: Tellers,
    ) -> None:
        self._job = job
        self._bench = bench
        self._number = inspection.number
        self._finished = finished
        self._workers = options.concurrency
        self._bad = bad_verdicts(strict=options.strict)
        self._tell = tell
        self._inbox: asyncio.Queue[tuple[Draw, Record] | None] = asyncio.Queue(options.concurrency)
        self._found: list[Finding] = []
        self._recording = asyncio.Lock()

    async def run(self) -> None:
        """Verify until nothing is left, or the check is stopped."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._workers):
                    group.create_task(self._work())
                await self._feed()
        except BaseExceptionGroup as errors:
            raise cause(errors) from errors

    async def _feed(self) -> None:
        after = -2.0  # below all positions
        stopping = self._bench.retry.stopping
        while not stopping.is_set() and (draws := await self._job.checks.pending(self._number, after, _BATCH)):
            records = await self._job.records.look_up([draw.key for draw in draws], self._finished)
            for draw in draws:
                await self._inbox.put((draw, records[draw.key]))
            after = draws[-1].position
        for _ in range(self._workers):
            await self._inbox.put(None)

    async def _work(self) -> None:
        while (item := await self._inbox.get()) is not None:
            if self._bench.retry.stopping.is_set():
                continue
            try:
                finding = await verify(*item, self._bench)
            except StoppedError:
                continue
            await self._record(finding)

    async def _record(self, finding: Finding) -> None:
        self._found.append(finding)
        async with self._recording:
            if not self._found:  # it went along with another one's
                return
            batch, self._found = self._found, []
            await self._job.checks.record(self._number, batch)
        for one in batch:
            self._tell.found(one)
        bad = sum(one.verdict in self._bad for one in batch)
        self._tell.listener(Checked(len(batch), bad, sum(one.verdict == "unverifiable" for one in batch)))


def _text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _listed_run(finished: FinishedRun | None, directory: Path) -> FinishedRun:
    """The run whose listing the state holds.

    Raises:
        FatalError: there is none.
    """
    if finished is not None and finished.is_listed:
        return finished
    if finished is None:
        why = "no run of heavy-sync has finished there"
    elif finished.unfinished is not None:
        why = f"run {finished.unfinished} is under way or was interrupted: wait for it, or finish it"
    else:
        why = "its last listing is that of a dry run"
    raise FatalError(f"--from-state: {directory} holds no listing of a finished run: {why}; or leave --from-state away")
