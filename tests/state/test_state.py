"""The state: files, transactions, the plan, the comparison, the queue."""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from heavysync.checksums import listing_proves
from heavysync.errors import FatalError, UsageError
from heavysync.keyspace import KeyRange
from heavysync.objects import Location, ObjectInfo, Page, PartDone, UploadState
from heavysync.outcomes import Changed, Done, Evidence, Failed, Released, Skipped
from heavysync.state import database
from heavysync.state.bulk import in_one, update_of
from heavysync.state.database import open_database
from heavysync.state.directory import default_directory, owned
from heavysync.state.inventory import COMPARE
from heavysync.state.job import Totals, open_job
from heavysync.state.extras import PENDING
from heavysync.state.queue import CLAIM, CLAIMED
from heavysync.state.ranges import open_range

A, B = Location.parse("s3://aaa"), Location.parse("gs://bbb")
ALL = KeyRange(None, None)
MEANING = {"--delete": True}


def s3(key: str, etag: str = "e" * 32, size: int = 1) -> ObjectInfo:
    return ObjectInfo(key, size, etag, modified_at="2026-01-01T00:00:00Z")


def begin(job, **fields):
    return job.begin(**{"meaning": MEANING, "options": {}, "dry_run": False, "restart": False, **fields})


def test_files_are_private(tmp_path: Path) -> None:
    """The directory is 0700, every file in it 0600: upload sessions are credentials."""

    async def run() -> None:
        with owned(tmp_path / "s"):
            async with open_job(tmp_path / "s", A, B) as job:
                await begin(job)
                async with open_range(job.range_file(1), run=1, span=ALL) as state:
                    await state.inventory.record_page("source", Page([s3("k")], None), None)
                    for path in (tmp_path / "s").rglob("*"):
                        mode = stat.S_IMODE(path.stat().st_mode)
                        assert mode == (0o700 if path.is_dir() else 0o600), path

    os.umask(0o022)
    asyncio.run(run())
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700


def test_second_owner_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    """And the lock of a killed owner holds nobody up."""
    code = (
        "import sys, time; from pathlib import Path; from heavysync.state.directory import owned\n"
        "with owned(Path(sys.argv[1])): print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "s")], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(FatalError, match=f"pid {other.pid}"), owned(tmp_path / "s"):
            pass
        other.kill()
        other.wait()
    with owned(tmp_path / "s"):
        pass


def test_directory_of_another_pair_is_refused(tmp_path: Path) -> None:
    """The message names both pairs."""

    async def run() -> None:
        with owned(tmp_path / "s"):
            async with open_job(tmp_path / "s", A, B):
                pass
            with pytest.raises(FatalError, match="belongs to s3://aaa/ and gs://bbb/, not to gs://bbb/"):
                async with open_job(tmp_path / "s", B, A):
                    pass

    asyncio.run(run())


def test_default_directories_differ_for_each_pair() -> None:
    """Also where their readable part is the same."""
    found = {
        default_directory(Location.parse(a), Location.parse(b), Path("/x"))
        for a, b in itertools.permutations(["s3://a/b", "s3://a-b", "gs://a/b", "s3://a"], 2)
    }

    assert len(found) == 12


def test_newer_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    """In plain words, and they are not touched."""

    async def open_it(path: Path) -> None:
        async with open_database(path, ("job.sql",)):
            pass

    newer = tmp_path / "newer.db"
    with closing(sqlite3.connect(newer)) as db, db:
        db.execute("PRAGMA user_version = 99")
    foreign = tmp_path / "foreign.db"
    foreign.write_bytes(b"not a database" * 100)

    with pytest.raises(FatalError, match="newer heavysync"):
        asyncio.run(open_it(newer))
    with pytest.raises(FatalError, match="not a state file"):
        asyncio.run(open_it(foreign))
    with pytest.raises(FatalError, match="check the state directory"):
        asyncio.run(open_it(tmp_path / "nowhere" / "x.db"))
    assert foreign.read_bytes() == b"not a database" * 100


def test_old_files_are_migrated_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of version 1 gets only what came later, in one transaction for each step."""
    (tmp_path / "one.sql").write_text("CREATE TABLE one (x INTEGER) STRICT;")
    (tmp_path / "two.sql").write_text("ALTER TABLE one ADD COLUMN y INTEGER;")
    (tmp_path / "bad.sql").write_text("ALTER TABLE one ADD COLUMN z INTEGER; SELECT nonsense;")
    monkeypatch.setattr(database, "files", lambda _: tmp_path)

    async def open_with(names: tuple[str, ...]) -> tuple[int, list[str]]:
        async with open_database(tmp_path / "m.db", names) as db:
            (version,) = await db.read(lambda c: c.execute("PRAGMA user_version").fetchone())
            columns = await db.read(lambda c: [row[1] for row in c.execute("PRAGMA table_info(one)").fetchall()])
            return version, columns

    assert asyncio.run(open_with(("one.sql",))) == (1, ["x"])
    assert asyncio.run(open_with(("one.sql", "two.sql"))) == (2, ["x", "y"])
    with pytest.raises(FatalError):
        asyncio.run(open_with(("one.sql", "two.sql", "bad.sql")))
    assert asyncio.run(open_with(("one.sql", "two.sql"))) == (2, ["x", "y"])


def test_cancelled_write_happens_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    """It never leaves a transaction open for the next one to commit."""

    async def run() -> None:
        async with open_database(tmp_path / "x.db", ("job.sql",)) as db:

            def slow(connection: sqlite3.Connection) -> None:
                for number in range(2000):
                    connection.execute("INSERT INTO range (lo, phase) VALUES (?, 'planned')", (str(number),))

            async with asyncio.TaskGroup() as group:
                task = group.create_task(db.write(slow))
                await asyncio.sleep(0)
                task.cancel()
            with pytest.raises(ZeroDivisionError):
                await db.write(lambda c: (c.execute("DELETE FROM range"), 1 / 0))
            (count,) = await db.read(lambda c: c.execute("SELECT count(*) FROM range").fetchone())
            assert count == 2000
            assert not await db.read(lambda c: c.in_transaction)

    asyncio.run(run())


def test_runs_resume_finish_and_begin_anew(tmp_path: Path) -> None:
    """A killed or stopped run goes on; a finished one does not; other options are refused by name."""

    async def run() -> None:
        with owned(tmp_path / "s"):
            async with open_job(tmp_path / "s", A, B) as job:
                first = await begin(job)
                assert (first.number, first.resumed) == (1, False)
                assert (await begin(job)).resumed
                await job.finish(first, status="stopped", message="x", totals=Totals())
                assert (await begin(job)).resumed
                with pytest.raises(UsageError, match="--delete .was True, now False."):
                    await begin(job, meaning={"--delete": False})
                with pytest.raises(UsageError, match="unfinished"):
                    await begin(job, meaning={"--delete": False}, dry_run=True)
                again = await begin(job, restart=True)
                assert (again.number, again.resumed) == (2, False)
                await job.finish(again, status="done", message="", totals=Totals())
                dry = await begin(job, dry_run=True)
                assert (await begin(job)).number == dry.number + 1

    asyncio.run(run())


def test_hand_back_and_cut_keep_the_tiling(tmp_path: Path) -> None:
    """Ranges stay disjoint and without gaps; a split range knows whose proofs are its own."""

    async def run() -> None:
        with owned(tmp_path / "s"):
            async with open_job(tmp_path / "s", A, B) as job:
                await begin(job)
                await job.hand_back(1, "m", pieces=3)
                assert await job.cut(2, ["p", "t", "a", "p"]) == [("m", "p"), ("p", "t"), ("t", None)]
                found = await job.next_ranges("planned", after=0, limit=9)
                spans = [(row.range, *row.span, row.to_cut, row.parent) for row in found]
                assert spans == [
                    (1, None, "m", 0, None),
                    (2, "m", "p", 0, 1),
                    (3, "p", "t", 0, 1),
                    (4, "t", None, 0, 1),
                ]

    asyncio.run(run())


def infos() -> list[ObjectInfo]:
    """All kinds of objects, with equal and different contents."""
    plain = [ObjectInfo("k", size, etag) for size in (1, 2) for etag in ("a" * 32, "b" * 32, "a" * 32 + "-2")]
    gcs = [
        ObjectInfo("k", size, "", md5=md5, crc32c=crc, version="7")
        for size in (1, 2)
        for md5 in (None, "a" * 32, "b" * 32)
        for crc in (None, "AAAAAA==", "BBBBBB==")
    ]
    return plain + gcs


def test_sql_and_python_agree_on_equality(tmp_path: Path) -> None:
    """Every pair of listed objects: the truth table in SQL says what `listing_proves` says."""

    async def run() -> None:
        pairs = list(itertools.product(infos(), infos()))
        source = [a._replace(key=f"{n:05d}") for n, (a, _) in enumerate(pairs)]
        there = [b._replace(key=f"{n:05d}") for n, (_, b) in enumerate(pairs)]
        async with open_range(tmp_path / "r.db", run=1, span=ALL) as state:
            await state.inventory.record_page("source", Page(source, None), None)
            await state.inventory.record_page("destination", Page(there, None), None)
            owed = {transfer.source.key for transfer in await state.queue.claim(10_000)}
        expected = {a.key for a, b in zip(source, there, strict=True) if not listing_proves(a, b)}
        assert owed == expected
        assert 0 < len(expected) < len(pairs)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("source", "there", "reason"),
    [
        (s3("k"), None, "new"),
        (s3("k", size=2), s3("k"), "changed"),
        (s3("k", "a" * 32), s3("k", "b" * 32), "unproven"),
        (s3("k", "a" * 32 + "-2"), ObjectInfo("k", 1, "", md5="b" * 32, version="1"), "unproven"),
    ],
)
def test_reasons(tmp_path: Path, source: ObjectInfo, there: ObjectInfo | None, reason: str) -> None:
    """What is known to differ is told from what the listings cannot tell."""

    async def run() -> None:
        async with open_range(tmp_path / "r.db", run=1, span=ALL) as state:
            await state.inventory.record_page("source", Page([source], None), None)
            await state.inventory.record_page("destination", Page([there] if there else [], None), None)
            (transfer,) = await state.queue.claim(10)
            assert (transfer.reason, transfer.source, transfer.destination) == (reason, source, there)

    asyncio.run(run())


def test_proof_holds_while_both_tokens_are_unchanged(tmp_path: Path) -> None:
    """A changed source is "changed", a foreign write at the destination "unproven"."""

    async def listed(run: int, source: ObjectInfo, there: ObjectInfo) -> list[str]:
        async with open_range(tmp_path / "r.db", run=run, span=ALL) as state:
            await state.inventory.record_page("source", Page([source], None), None)
            await state.inventory.record_page("destination", Page([there], None), None)
            claimed = await state.queue.claim(10)
            done = [Done("k", 1, copied=True, evidence=Evidence(source.token, there.token)) for _ in claimed]
            if run == 1:
                await state.queue.settle(done)
            return [transfer.reason for transfer in claimed]

    async def run() -> None:
        source, there = s3("k", "a" * 32 + "-2"), ObjectInfo("k", 1, "", md5="b" * 32, version="1")
        assert await listed(1, source, there) == ["unproven"]
        assert await listed(2, source, there) == []
        assert await listed(3, s3("k", "c" * 32 + "-2"), there) == ["changed"]
        assert await listed(4, source, there._replace(version="2")) == ["unproven"]

    asyncio.run(run())


def test_comparison_waits_for_both_sides(tmp_path: Path) -> None:
    """Nothing is owed above the lower cursor, and each key is decided once."""

    async def run() -> None:
        async with open_range(tmp_path / "r.db", run=1, span=ALL) as state:
            record = state.inventory.record_page
            assert (await record("source", Page([s3(""), s3("a"), s3("c")], "c"), None)).queued == 0
            assert (await record("destination", Page([], "b"), None)).queued == 2
            assert (await record("destination", Page([s3("c", "e" * 32)], None), None)).queued == 0
            assert (await record("source", Page([s3("d")], None), None)).queued == 1

    asyncio.run(run())


def test_trim_forgets_what_lies_beyond(tmp_path: Path) -> None:
    """A range that was ended earlier keeps just its own rows, counts them anew, and is completely listed."""

    async def run() -> None:
        async with open_range(tmp_path / "r.db", run=1, span=ALL) as state:
            await state.inventory.record_page("source", Page([s3("a"), s3("c", size=5)], "c"), None)
            await state.inventory.record_page("destination", Page([s3("b")], "b"), None)
        async with open_range(tmp_path / "r.db", run=1, span=KeyRange(None, "b")) as state:
            sides = await state.inventory.listings()
            assert all(side.done for side in sides.values())
            assert (sides["source"].objects, sides["source"].size, sides["destination"].objects) == (1, 1, 1)
            totals = await state.totals()
            assert (totals.to_copy, totals.to_copy_bytes, totals.extra) == (1, 1, 1)

    asyncio.run(run())


def test_split_range_inherits_its_proofs(tmp_path: Path) -> None:
    """Those of its own span, once."""

    async def run() -> None:
        async with open_range(tmp_path / "1.db", run=1, span=ALL) as state:
            await state.inventory.record_page("source", Page([s3("a"), s3("x")], None), None)
            await state.inventory.record_page("destination", Page([], None), None)
            await state.queue.claim(10)
            await state.queue.settle([Done(k, 1, copied=True, evidence=Evidence(s3(k).token, "t")) for k in "ax"])
        async with open_range(tmp_path / "2.db", run=2, span=KeyRange("m", None), parent=tmp_path / "1.db"):
            pass
        with closing(sqlite3.connect(tmp_path / "2.db")) as db:
            assert db.execute("SELECT key FROM proof").fetchall() == [("x",)]

    asyncio.run(run())


def test_outcomes_follow_the_chart(tmp_path: Path) -> None:
    """Each outcome moves a claimed row, and only a claimed one."""

    async def run() -> None:
        async with open_range(tmp_path / "r.db", run=1, span=ALL) as state:
            keys = "abcdef"
            await state.inventory.record_page("source", Page([s3(k) for k in keys], None), None)
            await state.inventory.record_page("destination", Page([], None), None)
            assert len(await state.queue.claim(100)) == 6
            assert await state.queue.claim(100) == []
            now = s3("d", "f" * 32, size=9)
            await state.queue.settle(
                [
                    Done("a", 1, copied=True),
                    Skipped("b", "vanished", "gone"),
                    Failed("c", "AccessDenied", "no"),
                    Changed(now),
                    Released("e"),
                ]
            )
            await state.queue.settle([Failed("a", "late", "ignored")])
            totals = await state.totals()
            assert (totals.copied, totals.copied_bytes, totals.skipped, totals.failed) == (1, 1, 1, 1)
            again = {transfer.source.key: transfer for transfer in await state.queue.claim(100)}
            assert set(again) == {"d", "e"}
            assert (again["d"].source, again["d"].attempts) == (now, 1)
            assert [trouble.key for trouble in await state.queue.troubles(9)] == ["c", "b"]
        async with open_range(tmp_path / "r.db", run=1, span=ALL) as state:
            assert {transfer.source.key for transfer in await state.queue.claim(100)} == {"d", "e", "f"}

    asyncio.run(run())


def test_what_a_closer_look_found_equal_does_not_count_as_copied(tmp_path: Path) -> None:
    """Alone as among others."""

    async def run() -> None:
        async with open_range(tmp_path / "r.db", run=1, span=ALL) as state:
            await state.inventory.record_page("source", Page([s3("a")], None), None)
            await state.inventory.record_page("destination", Page([], None), None)
            await state.queue.claim(1)
            await state.queue.settle([Done("a", 1, copied=False)])
            totals = await state.totals()
            assert (totals.copied, totals.proven) == (0, 1)

    asyncio.run(run())


def test_plain_copies_take_three_statements(tmp_path: Path) -> None:
    """Two to claim them, one to record them: each has to get the interpreter back from the event loop some times."""

    async def run() -> None:
        async with open_range(tmp_path / "r.db", run=1, span=ALL) as state:
            keys = [f"{number:03}" for number in range(256)]
            await state.inventory.record_page("source", Page([s3(key) for key in keys], None), None)
            await state.inventory.record_page("destination", Page([], None), None)
            said: list[str] = []
            await state.queue._db.read(lambda db: db.set_trace_callback(lambda text: said.append(text.split()[0])))
            claimed = await state.queue.claim(256)
            assert said == ["WITH", "UPDATE"]
            said.clear()
            await state.queue.settle([Done(one.source.key, 1, copied=True) for one in claimed])
            assert set(said) == {"UPDATE"}  # each row that its trigger looks at is told as one more
            assert (await state.totals()).copied == 256

    asyncio.run(run())


def test_upload_state_survives(tmp_path: Path) -> None:
    """As it was saved, for the next claim of the same row."""

    async def run() -> None:
        upload = UploadState(
            id="id", part_size=5, source_token="t", nonce="n", parts=(PartDone(1, "e", "ff", 7), PartDone(2, "f"))
        )
        async with open_range(tmp_path / "r.db", run=1, span=ALL) as state:
            await state.inventory.record_page("source", Page([s3("a")], None), None)
            await state.inventory.record_page("destination", Page([], None), None)
            await state.queue.claim(1)
            await state.queue.save_upload("a", upload)
            await state.queue.settle([Released("a")])
            assert (await state.queue.claim(1))[0].upload == upload

    asyncio.run(run())


def test_keys_of_any_unicode_survive(tmp_path: Path) -> None:
    """NUL, control characters, astral planes: stored, ordered and compared as they are."""

    async def run() -> None:
        keys = sorted(["", "\0", "a\0b", "a", "ä", "\uffff", "\U0001f600", "\t", "a/../b", "'", '"', "\ue000"])
        async with open_range(tmp_path / "r.db", run=1, span=ALL) as state:
            await state.inventory.record_page("source", Page([s3(key) for key in keys], None), None)
            await state.inventory.record_page("destination", Page([], None), None)
            assert [row[0] for row in await state.queue.pending_keys(None, 100)] == keys

    asyncio.run(run())


def test_file_that_is_open_can_be_opened_again(tmp_path: Path) -> None:
    """Its locks stay: else another process that reads it would take itself for the last one and remove the log under us."""
    path = tmp_path / "r.db"
    read_it = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('SELECT * FROM span').fetchall(); db.close()"

    async def run() -> None:
        async with open_range(path, run=1, span=ALL):
            async with open_range(path, run=1, span=ALL):
                pass
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", read_it, str(path))
            assert await process.wait() == 0
            assert path.with_name("r.db-wal").exists()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        (CLAIM, (10,)),
        (in_one(CLAIM, CLAIMED), (10,)),
        (in_one(PENDING, len(ObjectInfo._fields)), ("a", 10)),
        (COMPARE.format(above=">"), {"low": "a", "high": "b", "scatter": 1}),
        (update_of("status = 'claimed'", "status = 'pending'", 1), ("a",)),
        (update_of("status = 'claimed'", "status = 'pending'", 256), ("a",) * 256),
        (update_of("status = 'done', copied = 1, upload = NULL", "status = 'claimed'", 64), ("a",) * 64),
        ("UPDATE transfer SET status = 'pending' WHERE status = 'claimed'", ()),
        ("SELECT 1 FROM transfer WHERE status = 'pending' LIMIT 1", ()),
        ("SELECT e.key FROM extra AS e INDEXED BY extra_pending WHERE e.status = 'pending' AND e.key > 'a'", ()),
    ],
)
def test_hot_queries_never_scan_a_table(tmp_path: Path, query: str, parameters: object) -> None:
    """The plan has searches, and scans of partial indexes only."""

    async def plan() -> list[str]:
        async with open_range(tmp_path / "r.db", run=1, span=ALL):
            with closing(sqlite3.connect(tmp_path / "r.db")) as db:
                rows = db.execute(f"EXPLAIN QUERY PLAN {query}", parameters).fetchall()
            return [row[3] for row in rows]

    for step in asyncio.run(plan()):
        partial = any(name in step for name in ("transfer_pending", "transfer_claimed", "extra_pending"))
        is_of_rows_found = step.startswith(("SCAN (subquery", "SCAN found"))  # not a table: what the searches gave, numbered
        assert partial or is_of_rows_found or not step.startswith("SCAN"), step
        assert "TEMP B-TREE" not in step, step


def test_proofs_beyond_the_end_wait_for_the_new_range(tmp_path: Path) -> None:
    """A range that was ended earlier forgets stale proofs of its own keys only."""

    async def run() -> None:
        async with open_range(tmp_path / "1.db", run=1, span=ALL) as state:
            await state.inventory.record_page("source", Page([s3(k) for k in "abx"], None), None)
            await state.inventory.record_page("destination", Page([], None), None)
            await state.queue.claim(10)
            await state.queue.settle([Done(k, 1, copied=True, evidence=Evidence(s3(k).token, "t")) for k in "abx"])
        async with open_range(tmp_path / "1.db", run=2, span=KeyRange(None, "m")) as state:
            await state.inventory.record_page("source", Page([s3("a")], None), "m")
            await state.queue.forget_stale_proofs()
        async with open_range(tmp_path / "2.db", run=2, span=KeyRange("m", None), parent=tmp_path / "1.db"):
            pass
        for name, expected in (("1.db", ["a", "x"]), ("2.db", ["x"])):
            with closing(sqlite3.connect(tmp_path / name)) as db:
                assert [key for (key,) in db.execute("SELECT key FROM proof ORDER BY key")] == expected

    asyncio.run(run())
