"""The power fails at any moment, and files lose what was not flushed: the next run ends as if nothing had happened.

The argument is docs/design/0011-power-cut.md.
"""

from __future__ import annotations

import random
import re
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
from pairs import KIB, SMALL_S3, Pair
from power import Power, PowerCutError, watch_power

from heavysync.errors import FatalError, PermanentError
from heavysync.objects import Metadata
from heavysync.options import MaxDelete
from heavysync.stores.memory import MemoryStore

OBJECTS = 80
OPTIONS = {"first_rows": 40, "range_rows": 50, "concurrency": 8, "max_delete": MaxDelete.parse("100%")}
KINDS = [("s3", "gs"), ("gs", "s3")]


@pytest.fixture(params=[0, 12], ids=["log not emptied", "log emptied often"])
def power(request, monkeypatch) -> Power:
    """What fails, with logs that are never emptied, and with some that begin anew every few pages."""
    return watch_power(monkeypatch, autocheckpoint=request.param)


class Ledger:
    """Every content that a store has had, by the token that the engine knows it by; and that no delete is wrong."""

    def __init__(self, pair: Pair) -> None:
        self.contents: dict[tuple[str, str, str], bytes] = {}
        for side in ("source", "destination"):
            self._watch(side, getattr(pair, side))
        delete = pair.destination.delete
        source = pair.source.bucket

        async def checked(batch):
            wrong = [one.key for one in batch if one.version is None and source.live(one.key) is not None]
            assert not wrong, "deleted although the source has it"
            return await delete(batch)

        pair.destination.delete = checked

    def _watch(self, side: str, store: MemoryStore) -> None:
        bucket, push = store.bucket, store.bucket._push

        def noted(key, row):
            token = f"{row.etag}:{len(row.data)}" if row.etag else row.version
            self.contents[side, key, token] = row.data
            push(key, row)

        bucket._push = noted

    def prove(self, directory: Path) -> int:
        """Every proof in the state is true; answer how many there are."""
        count = 0
        for path in directory.glob("ranges/*.db"):
            with closing(sqlite3.connect(path)) as db:
                rows = db.execute("SELECT key, source_token, destination_token FROM proof").fetchall()
            for key, source, destination in rows:
                assert self.contents["source", key, source] == self.contents["destination", key, destination], key
            count += len(rows)
        return count


def make_pair(directory: Path, kinds: tuple[str, str], chance: random.Random) -> Pair:
    """A pair with a first run behind it, and of everything something to do."""
    pair = Pair(directory / "s", kinds, limits=SMALL_S3 if kinds[1] == "s3" else None, page_max=15)
    pair.ledger = Ledger(pair)
    pair.fill(OBJECTS, size=20)
    for number in range(12):
        put_pieces(pair, number, chance)
    pair.put("large", chance.randbytes(40 * KIB))
    pair.run(**OPTIONS)
    change(pair, chance, 0)
    for number in range(30):
        pair.destination.bucket.put(f"old/{number:03d}", b"old", Metadata())
    return pair


def put_pieces(pair: Pair, number: int, chance: random.Random) -> None:
    """An object whose equality to its copy no listing shows, so that it takes a proof."""
    pieces = [chance.randbytes(10), chance.randbytes(5)]
    pair.put(f"pieces/{number:02d}", b"".join(pieces), parts=pieces)


def change(pair: Pair, chance: random.Random, turn: int) -> None:
    """The source goes on living: objects come, change and go."""
    for number in chance.sample(range(OBJECTS), 10):
        key = f"dir{number % 7}/key-{number:06d}"
        if pair.source.bucket.live(key) is not None:
            pair.source.bucket.delete(key)
    for number in chance.sample(range(OBJECTS), 15):
        pair.put(f"dir{number % 7}/key-{number:06d}", chance.randbytes(25))
    for number in range(15):
        pair.put(f"new{turn}/{number:03d}", chance.randbytes(12))
    put_pieces(pair, chance.randrange(12), chance)
    pair.put(f"large{turn % 2}", chance.randbytes(30 * KIB))


def fail(pair: Pair, power: Power, at: int) -> bool:
    """Run until the power fails; answer whether it did."""
    power.arm(pair.directory, at)
    try:
        pair.run(**OPTIONS)
    except PowerCutError:
        return True
    except FatalError:
        return power.saved.exists()
    return False


def finish(pair: Pair, *, is_changed: bool = False) -> list[str]:
    """Start the run again and again, doing what its messages say; answer the messages.

    A copy that was written, whose listing was lost, and whose source changed since then looks like somebody else's: it is left
    to the next run.
    """
    told: list[str] = []
    while True:
        try:
            report = pair.run(**OPTIONS)
        except FatalError as error:
            told.append(str(error))
            found = re.match(r"state file (\S+): .*move it away and start again", told[-1])
            if not found or len(told) > 20:
                raise
            Path(found[1]).unlink()
            continue
        failed = {trouble.code for trouble in report.troubles if trouble.status == "failed"}
        assert report.status == "done" or (is_changed and failed == {"destination-changed"}), report.troubles
        return told


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
@pytest.mark.parametrize("honest", [True, False], ids=["flushed is flushed", "a disk that lies"])
def test_power_cut_at_any_moment_costs_only_work(kinds, honest, power, tmp_path):
    """Whatever the logs lose, each on its own: the end is equal, no delete was wrong, every proof is true."""
    chance = random.Random(f"{kinds}{honest}")
    pair = make_pair(tmp_path, kinds, chance)
    proofs, cuts, seen = 0, 0, set()
    for turn in range(1, 6):
        if not fail(pair, power, chance.randrange(1, 300)):
            change(pair, chance, turn)
            continue
        cuts += 1
        seen |= {what.partition(":")[0] for what in power.restore(chance, honest=honest).values()}
        power.arm(pair.directory, 0)
        is_changed = chance.random() < 0.5
        if is_changed:
            change(pair, chance, turn)

        told = finish(pair, is_changed=is_changed)

        assert not (honest and told), told
        if is_changed:
            assert finish(pair) == []  # what was listed before the change is brought by the next run
        pair.assert_equal()
        proofs += pair.ledger.prove(pair.directory)
        change(pair, chance, turn + 100)
    print(kinds, honest, f"{cuts} cuts, {proofs} proofs, {sorted(seen)}")
    assert cuts >= 2
    assert proofs > 0 or kinds[0] == "gs"  # whose listings show every equality
    assert len(seen) > 1


class Worst(random.Random):
    """Lets a log lose all that it may lose."""

    def randint(self, a: int, b: int) -> int:
        return a


@pytest.mark.parametrize("power", [0], indirect=True, ids=["log not emptied"])
def test_failures_are_not_forgotten_in_a_power_cut(power, tmp_path):
    """At whatever moment after copying it comes, and though all is lost that was not flushed: what could not be deleted is told."""
    pair = Pair(tmp_path / "s", page_max=2)
    pair.destination.bucket.versioning = "enabled"
    pair.fill(8)
    for number in range(8):
        pair.destination.bucket.put(f"dir{number}/stuck", b"old", Metadata())
    options = {**OPTIONS, "first_rows": 4, "range_rows": 4, "purge_noncurrent": 1.0}
    deletes: list[int] = []

    def fault(operation: str, key: str) -> None:
        if operation == "delete":
            deletes.append(power.done)
            raise PermanentError("access denied")

    pair.destination.fault = fault
    pair.run(**options)
    power.arm(pair.directory, 0)
    deletes.clear()
    pair.run(**options)
    first, last = deletes[0], power.done
    for at in range(first, last - 5, (last - first) // 8):
        power.arm(pair.directory, at)
        with suppress(PowerCutError):
            pair.run(**options)
            continue
        power.restore(Worst(0), honest=True)
        power.arm(pair.directory, 0)

        report = pair.run(**options)

        assert (report.status, report.totals.delete_failed) == ("failed", 8), (at, report.totals)
    assert len(deletes) > 14
