"""The memory of checks in job.db, and what it reads of runs."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from heavysync.objects import Location
from heavysync.options import CheckOptions
from heavysync.state import job as job_module
from heavysync.state.checks import KNOWN, PENDING
from heavysync.verdicts import Drawn, Inspection, Known
from heavysync.state.database import open_database
from heavysync.state.job import Job, open_job
from heavysync.verdicts import Draw, Finding

ENDS = Location(scheme="s3", bucket="a"), Location(scheme="gs", bucket="b")
MEANING = CheckOptions().meaning()
DRAWN = Drawn(0, 3, 3, 30, 3, {4: 3}, [(3, 0.5, True)], 0)


def with_job(directory: Path, test: Callable[[Job], Awaitable[None]], clock: Callable[[], float] = lambda: 1000.0) -> None:
    """Run `test` on the job of a directory."""

    async def body() -> None:
        directory.mkdir(exist_ok=True)
        (directory / "ranges").mkdir(exist_ok=True)
        async with open_job(directory, *ENDS, clock) as job:
            await test(job)

    asyncio.run(body())


async def begin(job: Job, seed: str = "s", **more: object) -> Inspection:
    """Begin an inspection."""
    given = {
        "meaning": MEANING,
        "seed": seed,
        "is_given": False,
        "confidence": 0.95,
        "restart": False,
        "dry_run": False,
        **more,
    }
    return await job.checks.begin(**given)


async def known(job: Job, first: str, last: str, before: int) -> list[Known]:
    """The last verdicts on keys."""
    return await job.checks.known(first, last, before=before, meaning=MEANING)


def draws(*keys: str) -> list[Draw]:
    """A sample in the order given."""
    return [Draw(key, position / 10, 1, 10, f"token-{key}") for position, key in enumerate(keys, 1)]


def found(key: str, verdict: str = "ok", **more: object) -> Finding:
    """A finding."""
    return Finding(key, verdict, source_token=f"token-{key}", **more)


def test_a_job_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    """Its runs stay, and checks find their tables."""

    async def old() -> None:
        (tmp_path / "ranges").mkdir()
        async with open_database(tmp_path / "job.db", job_module.MIGRATIONS[:1]) as db:
            await db.write(lambda db: db.execute("INSERT INTO pair VALUES (1, 's3://a/', 'gs://b/')"))
            await db.write(
                lambda db: db.execute(
                    "INSERT INTO run (run, started_at, finished_at, status, dry_run, meaning, options)"
                    " VALUES (7, 5, 6, 'done', 0, '{}', '{}')"
                )
            )

    async def test(job: Job) -> None:
        run = await job.records.finished_run()
        assert (7, 5) == (run.number, run.started_at)
        assert 1 == (await begin(job)).number

    asyncio.run(old())
    with_job(tmp_path, test)


def test_two_processes_may_bring_a_file_up_to_date_at_once(tmp_path: Path) -> None:
    """heavy-check and heavy-sync started together: neither fails."""

    async def body() -> None:
        for number in range(20):
            directory = tmp_path / str(number)
            (directory / "ranges").mkdir(parents=True)
            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(once(directory))

    async def once(directory: Path) -> None:
        async with open_job(directory, *ENDS) as job:
            await job.checks.curve(MEANING)

    asyncio.run(body())


def test_an_interrupted_inspection_goes_on(tmp_path: Path) -> None:
    """With the same options, from where it was; its seed and sample are the ones it had."""

    async def test(job: Job) -> None:
        first = await begin(job, "one")
        await job.checks.add(first.number, draws("a", "b", "c"))
        assert not (await begin(job, "two")).resumed  # the sample did not stand yet
        second = await begin(job, "three")
        await job.checks.add(second.number, draws("a", "b", "c"))
        await job.checks.settle_draw(second.number, DRAWN)
        await job.checks.record(second.number, [found("a")])
        again = await begin(job, "four")

        assert (True, "three", second.number) == (again.resumed, again.seed, again.number)
        assert DRAWN == await job.checks.drawn(again.number)
        assert ["b", "c"] == [draw.key for draw in await job.checks.pending(again.number, -2.0, 10)]
        assert not (await begin(job, "five", is_given=True)).resumed

    with_job(tmp_path, test)


@pytest.mark.parametrize("more", [{"restart": True}, {"meaning": {**MEANING, "--samples": "7"}}, {"is_given": True}])
def test_another_inspection_ends_an_interrupted_one(tmp_path: Path, more: dict[str, object]) -> None:
    """What it had found stays, what it had not is dropped."""

    async def test(job: Job) -> None:
        first = await begin(job)
        await job.checks.add(first.number, draws("a", "b"))
        await job.checks.settle_draw(first.number, DRAWN)
        await job.checks.record(first.number, [found("a")])
        second = await begin(job, "other", **more)

        assert (False, "other") == (second.resumed, second.seed)
        assert (1, 1, 0, 0) == await job.checks.sample(first.number)
        assert ["a"] == [one.key for one in await known(job, "a", "z", second.number)]
        third = replace(second, number=99, seed="third")
        past = await job.checks.past(MEANING, before=third, since=0)
        assert [(3, 1)] == [(one.pool, one.hits) for one in past]

    with_job(tmp_path, test)


def test_a_verdict_is_never_overwritten(tmp_path: Path) -> None:
    """A second one for the same draw changes nothing."""

    async def test(job: Job) -> None:
        inspection = await begin(job)
        await job.checks.add(inspection.number, draws("a"))
        await job.checks.record(inspection.number, [found("a", "corrupt", reason="why", metadata=("x", "y"))])
        await job.checks.record(inspection.number, [found("a", "ok")])
        (kept,) = await job.checks.findings(inspection.number, ["ok", "corrupt"], 10)

        assert ("corrupt", "why", ("x", "y")) == (kept.verdict, kept.reason, kept.metadata)
        assert [kept] == await job.checks.differing(inspection.number, 10)

    with_job(tmp_path, test)


def test_the_first_of_a_sample_are_kept(tmp_path: Path) -> None:
    """Those with the lowest positions, exactly so many; none where none are wanted."""

    async def test(job: Job) -> None:
        inspection = await begin(job)
        await job.checks.add(inspection.number, draws(*"edcba"))
        for count, expected in ((7, "edcba"), (3, "edc"), (0, "")):
            await job.checks.keep_first(inspection.number, count)
            assert expected == "".join(draw.key for draw in await job.checks.pending(inspection.number, -2.0, 10))

    with_job(tmp_path, test)


def test_the_last_verdict_on_a_key_is_the_one_that_is_known(tmp_path: Path) -> None:
    """Whatever the order of the inspections' numbers; and the present inspection is no memory."""
    now = [0.0]

    async def test(job: Job) -> None:
        for moment, verdict in ((300.0, "corrupt"), (100.0, "ok"), (200.0, "missing")):
            now[0] = moment
            inspection = await begin(job)
            await job.checks.add(inspection.number, draws("k"))
            await job.checks.record(inspection.number, [found("k", verdict)])
        (one,) = await known(job, "k", "k", inspection.number + 1)
        assert ("corrupt", "token-k", 300) == one[1:]
        (one,) = await known(job, "a", "z", inspection.number)
        assert "corrupt" == one.verdict
        assert not await known(job, "l", "z", 99)
        assert not await known(job, "a", "z", 1)

    with_job(tmp_path, test, lambda: now[0])


def test_vanished_objects_are_no_evidence(tmp_path: Path) -> None:
    """A draw that fell on an object that was gone proves nothing of those that are there."""

    async def test(job: Job) -> None:
        inspection = await begin(job)
        await job.checks.add(inspection.number, draws("a", "b", "c"))
        await job.checks.settle_draw(inspection.number, DRAWN)
        await job.checks.record(inspection.number, [found("a"), found("b", "vanished"), found("c", "corrupt")])

        after = replace(inspection, number=99, seed="other")
        assert [2] == [past.hits for past in await job.checks.past(MEANING, before=after, since=0)]
        assert not await job.checks.past(MEANING, before=inspection, since=0)
        assert not await job.checks.past(MEANING, before=replace(after, seed=inspection.seed), since=0)  # the same sample
        assert not await job.checks.past(MEANING, before=after, since=1000)
        assert not await job.checks.past({**MEANING, "the source's server": "x"}, before=after, since=0)

    with_job(tmp_path, test)


def test_hot_queries_use_their_indexes(tmp_path: Path) -> None:
    """A page of a listing looks its keys up by index, and pending draws come by index in their order."""

    async def test(job: Job) -> None:
        def plan(db: sqlite3.Connection) -> str:
            known = db.execute(f"EXPLAIN QUERY PLAN {KNOWN}", ("a", "b", 3, "[]")).fetchall()
            pending = db.execute(f"EXPLAIN QUERY PLAN {PENDING}", (1, 0.0, 5)).fetchall()
            return "\n".join(row[3] for row in (*known, *pending))

        told = await job._db.read(plan)
        assert "SEARCH checked USING COVERING INDEX checked_key" in told
        assert "SEARCH checked USING INDEX checked_pending" in told
        assert "TEMP B-TREE" not in told

    with_job(tmp_path, test)


def test_records_of_a_missing_file_are_empty(tmp_path: Path) -> None:
    """A pair that was never synchronised has nothing to tell, and nothing is made."""

    async def test(job: Job) -> None:
        records = await job.records.look_up(["a", "b"], await job.records.finished_run())
        assert {(None, None, None)} == {(record.proof, record.listed, record.outcome) for record in records.values()}
        assert not list((tmp_path / "ranges").iterdir())

    with_job(tmp_path, test)


def test_checks_are_there_for_sql(tmp_path: Path) -> None:
    """Time, key, tokens, bytes, verdict and seed of every check are kept."""

    async def test(job: Job) -> None:
        inspection = await begin(job, "my seed")
        await job.checks.add(inspection.number, draws("a"))
        await job.checks.record(inspection.number, [found("a", destination_token="there", bytes_read=10)])

    with_job(tmp_path, test)
    with closing(sqlite3.connect(tmp_path / "job.db")) as db:
        rows = db.execute(
            "SELECT checked_at, key, source_token, destination_token, bytes_read, verdict, seed"
            " FROM checked JOIN inspection USING (inspection)"
        ).fetchall()
    assert [(1000, "a", "token-a", "there", 10, "ok", "my seed")] == rows


def test_what_was_begun_and_given_up_is_unverifiable(tmp_path: Path) -> None:
    """A copy that can never be read must not drop out; what had not been begun does."""

    async def test(job: Job) -> None:
        first = await begin(job)
        await job.checks.add(first.number, draws(*"abcde"))
        await job.checks.settle_draw(first.number, DRAWN)
        await job.checks.record(first.number, [found("a"), found("c")])
        assert 1 == await job.checks.gaps(first.number)
        second = await begin(job, "other", restart=True)

        assert {"ok": 2, "unverifiable": 1} == {
            key: tally.objects for key, tally in (await job.checks.tallies(first.number)).items()
        }
        assert (3, 3, 0, 0) == await job.checks.sample(first.number)
        assert 0 == await job.checks.gaps(second.number)

    with_job(tmp_path, test)


def test_an_inspection_of_long_ago_is_not_gone_on_with(tmp_path: Path) -> None:
    """After a month most of what it was drawn from may be another population."""
    now = [1000.0]

    async def test(job: Job) -> None:
        first = await begin(job)
        await job.checks.add(first.number, draws("a"))
        await job.checks.settle_draw(first.number, DRAWN)
        for days, resumed in ((29, True), (31, False)):
            now[0] = 1000.0 + days * 86_400
            assert resumed is (await begin(job)).resumed

    with_job(tmp_path, test, lambda: now[0])


def test_noticed_contents_count_once_and_for_good(tmp_path: Path) -> None:
    """Mended or not, found again or not; but what could only not be read for a while was not bad."""
    now = [0.0]

    async def test(job: Job) -> None:
        verdicts = (
            {"a": "corrupt", "b": "missing", "c": "unverifiable", "d": "stale"},
            {"a": "corrupt", "c": "ok"},
            {"a": "ok"},
        )
        for verdict_of in verdicts:
            now[0] += 100
            inspection = await begin(job, str(now[0]))
            await job.checks.add(inspection.number, draws(*verdict_of))
            await job.checks.record(inspection.number, [found(key, verdict) for key, verdict in verdict_of.items()])
        bad = ["corrupt", "missing"]
        assert [2, 3, 1] == [
            await job.checks.noticed(MEANING, since=since, bad=wanted)
            for since, wanted in ((0, bad), (0, [*bad, "stale"]), (150, bad))
        ]

    with_job(tmp_path, test, lambda: now[0])


def test_large_samples_are_written_and_dropped_in_steps(tmp_path: Path) -> None:
    """A run on the same directory never waits long: no transaction has more than some thousand rows."""

    async def test(job: Job) -> None:
        inspection = await begin(job)
        sizes: list[int] = []
        write = job._db.write

        async def counting(work):
            def measured(db):
                before = db.total_changes
                answer = work(db)
                sizes.append(db.total_changes - before)
                return answer

            return await write(measured)

        job._db.write = counting
        await job.checks.add(inspection.number, [Draw(f"k{n:05d}", n / 9000, 1, 1, "t") for n in range(9000)])
        await job.checks.keep_first(inspection.number, 7000)
        assert 7000 == (await job.checks.sample(inspection.number)).objects
        await job.checks.forget(inspection.number)
        assert 0 == (await job.checks.sample(inspection.number)).objects
        assert max(sizes) <= 2000

    with_job(tmp_path, test)
