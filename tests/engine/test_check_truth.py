"""Ways in which a check could claim too much, or raise a false alarm: each was found by trying."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pairs import Pair

from heavysync.checksums import Stamp
from heavysync.errors import PermanentError, TransientError, UsageError
from heavysync.objects import Metadata
from heavysync.options import CheckOptions, Samples
from heavysync.populations import Population
from heavysync.verdicts import Finding

OLD = datetime(2026, 1, 1, tzinfo=UTC)


def old_pair(tmp_path: Path, kinds: tuple[str, str] = ("s3", "gs"), **more: object) -> Pair:
    """Buckets whose source objects were written long ago."""
    pair = Pair(tmp_path / "state", kinds, **more)
    pair.source.service.now = lambda: OLD
    return pair


def the(pair: Pair, **options: object) -> Finding:
    """The finding on the only object."""
    findings: list[Finding] = []
    pair.checked(found=findings.append, **options)
    (one,) = findings
    return one


def hide_checksums(pair: Pair) -> None:
    """Providers that state no digest in answers but an opaque ETag."""
    for side in (pair.source, pair.destination):
        side.bucket.opaque_etags = True
        show = side.show
        side.show = lambda *args, show=show, **kwargs: show(*args, **kwargs)._replace(crc32c=None)


@pytest.mark.parametrize("rotate", [False, True])
def test_mending_what_was_found_does_not_make_the_rest_better(tmp_path: Path, rotate: bool) -> None:
    """In at most one of twenty histories in which all that is found is mended is the truth above the bound."""
    wrong = 0
    for seed in range(40):
        pair = old_pair(tmp_path / str(seed))
        pair.fill(200, size=1, seed=seed)
        pair.run()
        good = {key: rows[-1].data for key, rows in pair.destination.bucket.rows.items()}
        bad = set(random.Random(seed).sample(sorted(good), 20))
        for key in bad:
            pair.damage(key, bytes([good[key][0] ^ 1]))
        for day in range(6):
            found: list[Finding] = []
            pair.checked("12", history=True, rotate=rotate, seed=f"{seed}-{day}", found=found.append)
            for finding in found:
                if finding.verdict == "corrupt":
                    pair.damage(finding.key, good[finding.key])
                    bad.discard(finding.key)
        report = pair.checked("0", history=True, rotate=rotate, seed=f"{seed}-end")
        wrong += report.history.size < len(bad)

    assert wrong <= 5  # 40 histories with a chance of 5 % each: more than 5 in one of 70 trials


def test_history_asked_for_later_is_not_made_up(tmp_path: Path) -> None:
    """A check that was begun without history does not go on with one: nothing was gathered for it."""
    pair = old_pair(tmp_path)
    pair.fill(100)
    pair.run()
    stop = asyncio.Event()
    asyncio.run(pair.check(samples=Samples.parse("20"), stop=stop, found=lambda _: stop.set(), concurrency=2))
    report = pair.checked("20", history=True)

    assert not report.resumed
    assert report.history.size > 5


def test_one_seed_is_one_sample_however_often_it_is_drawn(tmp_path: Path) -> None:
    """Thirty times the same twenty objects prove what twenty do."""
    pair = old_pair(tmp_path)
    pair.fill(1000, size=1)
    pair.run()
    sizes = {pair.checked("20", history=True, seed="x").history.size for _ in range(5)}

    assert min(sizes) > 120


def test_a_stale_copy_is_not_known_to_be_good_once_it_is_renewed(tmp_path: Path) -> None:
    """What the next run copies nobody has looked at."""
    pair = old_pair(tmp_path)
    pair.fill(100)
    pair.run()
    pair.fill(100, seed=2)
    assert {"stale"} == set(pair.checked().tallies)
    pair.run()
    report = pair.checked("1", history=True)

    assert report.history.size > 90
    assert 10 == pair.checked("10", rotate=True).tallies["ok"].hits


def test_a_check_before_the_copy_says_nothing_of_it(tmp_path: Path) -> None:
    """Objects older than a check, but copied after it, were not among what it could notice."""
    pair = old_pair(tmp_path)
    pair.fill(100)
    for seed in range(5):
        pair.checked("10", history=True, seed=str(seed), clock=lambda: 1_790_000_000.0)
    pair.run()
    report = pair.checked("1", history=True)

    assert report.history.size > 45  # those that were seen missing are looked at again, the others are unknown


def test_objects_that_arrive_late_with_old_dates_are_not_known(tmp_path: Path) -> None:
    """Replicas keep the dates of their originals; that there are more old objects than there were gives them away."""
    pair = old_pair(tmp_path)
    pair.fill(500, size=1)
    pair.run()
    assert 0 == pair.checked(history=True).history.size
    for number in range(500):
        pair.put(f"late/{number}", b"x")
    pair.run()

    assert pair.checked("1", history=True).history.size >= 480


def test_evidence_of_bytes_decays_as_that_of_objects_does(tmp_path: Path) -> None:
    """A full check ten half-lives ago proves nothing of the bytes either."""
    pair = old_pair(tmp_path)
    pair.fill(300, size=1000)
    pair.run()
    pair.checked("3000", by="bytes", history=True, half_life=1.0, clock=lambda: 1_900_000_000.0)
    later = pair.checked("0", by="bytes", history=True, half_life=1.0, clock=lambda: 1_900_000_000.0 + 10 * 86_400)

    assert later.history.share > 0.9


def test_history_is_of_these_buckets(tmp_path: Path) -> None:
    """The same names on another server are other buckets."""
    pair = old_pair(tmp_path)
    pair.fill(50)
    pair.run()
    assert 0 == pair.checked(history=True).history.size
    other = old_pair(tmp_path)
    other.fill(50)

    assert other.checked("1", history=True).history.size > 45


def test_what_cannot_be_read_counts_while_it_is_not_given_up(tmp_path: Path) -> None:
    """A copy whose reading fails for ever has no verdict; stopped, the check does not leave it out of its bound."""
    pair = old_pair(tmp_path)
    pair.fill(60)
    pair.run()
    stuck = {f"dir{number % 7}/key-{number:06d}" for number in range(0, 60, 10)}
    stop = asyncio.Event()

    async def hang(_operation: str, _key: str) -> None:
        await stop.wait()

    pair.destination.fault = lambda operation, key: hang(operation, key) if operation == "read" and key in stuck else None
    seen: list[Finding] = []

    def found(finding: Finding) -> None:
        seen.append(finding)
        if len(seen) == 54:
            stop.set()

    report = asyncio.run(pair.check(samples=Samples.parse("100%"), stop=stop, found=found, concurrency=16))

    assert report.status in {"stopped", "ok"}
    assert report.bound.size == 0 if report.status == "ok" else report.bound.size >= 1


@pytest.mark.parametrize("dry_run", [True, False])
def test_missing_stays_missing_when_another_run_has_begun(tmp_path: Path, dry_run: bool) -> None:
    """Without the listing of the last finished run, only what came after its end is new; what came meanwhile is unclear."""
    pair = Pair(tmp_path / "state")
    pair.source.service.now = lambda: OLD
    pair.put("old", b"x")
    pair.source.service.now = lambda: datetime.now(UTC)
    pair.put("k", b"x")
    pair.run()
    pair.source.service.now = lambda: datetime(2999, 1, 1, tzinfo=UTC)
    pair.put("new", b"x")
    for key in ("old", "k"):
        pair.destination.bucket.delete(key)
    before: list[Finding] = []
    pair.checked(found=before.append)
    stop = asyncio.Event()
    stop.set()
    asyncio.run(pair.sync(dry_run=True) if dry_run else pair.sync(stop=stop))
    after: list[Finding] = []
    pair.checked(found=after.append)

    assert {"old": "missing", "k": "missing", "new": "stale"} == {finding.key: finding.verdict for finding in before}
    verdicts = {finding.key: finding.verdict for finding in after}
    assert ("missing", "stale") == (verdicts["old"], verdicts["new"])
    assert verdicts["k"] in {"missing", "unverifiable"}


def test_a_source_that_contradicts_its_own_digest_proves_nothing(tmp_path: Path) -> None:
    """Both sides hold the same wrong bytes: the stated md5 is the truth, and the copy does not have it."""
    pair = Pair(tmp_path / "state", ("gs", "gs"))
    pair.put("k", b"good")
    pair.run()
    bucket = pair.source.bucket
    row = bucket.live("k")
    for one in (pair.source, pair.destination):
        rows = one.bucket.rows["k"]
        rows[-1] = type(row)(**{name: getattr(rows[-1], name) for name in row.__slots__} | {"data": b"evil"})

    assert "corrupt" == the(pair).verdict


def test_a_hostile_stamp_is_no_stamp(tmp_path: Path) -> None:
    """Anybody can write user metadata; a size of 5,000 digits is none."""
    assert Stamp.parse(f"v1;size={'9' * 5000};src=1") is None
    assert Stamp.parse("v1;size=٣;src=1") is None
    pair = Pair(tmp_path / "state")
    pair.put("k", b"x")
    pair.run()
    pair.destination.bucket.put("k", b"x", Metadata(user={"heavysync": f"v1;size={'9' * 5000};src=1"}))

    assert "ok" == the(pair).verdict


def test_a_stop_gives_up_a_large_object(tmp_path: Path) -> None:
    """Not after all of it was read, which may take hours."""
    pair = Pair(tmp_path / "state")
    pair.put("k", bytes(200 << 20))
    pair.run(memory=64 << 20)
    stop = asyncio.Event()
    reads = []

    def count(operation: str, _key: str) -> None:
        if operation == "read":
            reads.append(operation)
            stop.set()

    pair.destination.fault = count
    report = asyncio.run(pair.check(samples=Samples.parse("1"), stop=stop))

    assert "stopped" == report.status
    assert len(reads) <= 8


def test_a_copy_that_others_wrote_before_the_source_changed_is_stale(tmp_path: Path) -> None:
    """The state's proof is of a copy that is not there any more, so it does not make this one corrupt."""
    pair = old_pair(tmp_path, ("s3", "s3"))
    hide_checksums(pair)
    pair.destination.service.now = lambda: datetime(2026, 1, 2, tzinfo=UTC)
    pair.put("k", b"one")
    pair.run()
    pair.destination.bucket.put("k", b"two", Metadata())
    pair.source.service.now = lambda: datetime(2026, 1, 3, tzinfo=UTC)
    pair.put("k", b"three")

    assert "stale" == the(pair).verdict


def test_a_source_that_changed_since_it_was_listed_is_stale_whatever_the_clocks_say(tmp_path: Path) -> None:
    """The copy was written in the second of the change, or after it: the listing tells that it is of the older content."""
    pair = Pair(tmp_path / "state", ("s3", "s3"), shared=True)
    pair.source.service.now = lambda: OLD
    hide_checksums(pair)
    pair.put("k", b"one")
    pair.run()
    pair.put("k", b"two")

    assert "stale" == the(pair).verdict


def test_the_source_s_own_stamp_is_not_the_copy_s(tmp_path: Path) -> None:
    """The source is itself a copy, and its stamp travelled along: it says nothing of this copy."""
    pair = Pair(tmp_path / "state", ("s3", "s3"), shared=True)
    hide_checksums(pair)
    pair.put("k", b"abc", user={"heavysync": str(Stamp(3, "other-token", "n", "kAFQmDzST7DWlj99KOF/cg==", ""))})
    pair.run()
    pair.directory = tmp_path / "other"

    assert ("ok", "source read") == the(pair)[1:3]
    assert "unverifiable" == the(pair, read_source=False).verdict


def test_an_etag_alone_does_not_condemn_where_the_source_cannot_be_read(tmp_path: Path) -> None:
    """Some servers invent their ETags, and archived objects cannot be read: nothing is known."""
    pair = Pair(tmp_path / "state", ("s3", "gs"))
    hide_checksums(pair)
    honest = pair.source.examine

    async def unmarked(key: str):
        found = await honest(key)
        return found._replace(is_md5_etag=True)

    def archived(operation: str, _key: str) -> None:
        if operation == "read":
            raise PermanentError("archived", code="InvalidObjectState")

    pair.put("k", b"abc")
    pair.run()
    pair.directory = tmp_path / "other"
    pair.destination.bucket.put("k", b"abc", Metadata())
    pair.source.examine = unmarked
    pair.source.fault = archived

    found = the(pair)
    assert "unverifiable" == found.verdict
    assert "InvalidObjectState" in found.reason


def test_history_counts_what_was_begun_and_not_ended(tmp_path: Path) -> None:
    """A stopped check with copies that cannot be read: by all checks together as little is known as by it alone."""
    pair = old_pair(tmp_path)
    pair.fill(300)
    pair.run()
    stuck = {f"dir{number % 7}/key-{number:06d}" for number in range(0, 300, 10)}
    stop = asyncio.Event()

    async def hang(_operation: str, _key: str) -> None:
        await stop.wait()
        raise TransientError("still not")

    pair.destination.fault = lambda operation, key: hang(operation, key) if operation == "read" and key in stuck else None
    seen: list[Finding] = []

    def found(finding: Finding) -> None:
        seen.append(finding)
        if len(seen) == 100:
            stop.set()

    report = asyncio.run(
        pair.check(samples=Samples.parse("150"), history=True, seed="s", stop=stop, found=found, concurrency=40)
    )

    assert "stopped" == report.status
    assert report.history.size > 20
    assert report.history.size > 0.8 * report.bound.size


def test_unreadable_copies_that_are_mended_are_not_forgotten(tmp_path: Path) -> None:
    """They were bad, and say how many more there are; those that can be read again without being written were not."""
    pair = old_pair(tmp_path)
    pair.fill(200, size=1)
    pair.run()
    broken = {f"dir{number % 7}/key-{number:06d}" for number in range(0, 200, 10)}

    def refuse(operation: str, key: str) -> None:
        if operation == "read" and key in broken:
            raise PermanentError("bad sector", code="EIO")

    pair.destination.fault = refuse
    first = pair.checked("60", history=True, seed="one")
    bad = first.tallies["unverifiable"].objects
    assert bad > 2
    for finding in first.findings:
        row = pair.destination.bucket.live(finding.key)
        pair.destination.bucket.put(finding.key, row.data, row.metadata)
        broken.discard(finding.key)
    report = pair.checked("0", history=True, seed="two")

    assert {"ok"} == set(report.tallies)
    assert report.history.size >= len(broken)
    broken.clear()
    assert "ok" == pair.checked(seed="three").status


def test_a_copy_of_a_run_that_is_under_way_is_no_alarm(tmp_path: Path) -> None:
    """The source changed between that run's listing and its copy: the copy is newer, and of an older content."""
    pair = Pair(tmp_path / "state", ("gs", "gs"), shared=True)
    now = [datetime(2999, 1, 1, tzinfo=UTC)]
    pair.source.service.now = lambda: now[0]
    pair.put("k", b"one")
    pair.run()
    stop = asyncio.Event()
    stop.set()
    asyncio.run(pair.sync(stop=stop))
    pair.put("k", b"three")
    now[0] = datetime(2999, 1, 2, tzinfo=UTC)
    pair.destination.bucket.put("k", b"two", Metadata())

    assert "unverifiable" == the(pair).verdict


def test_another_confidence_takes_another_sample_to_prove(tmp_path: Path) -> None:
    """What is to be proved at 99 % is not gone on with from 90 %."""
    pair = old_pair(tmp_path)
    pair.fill(300, size=1)
    pair.run()
    stop = asyncio.Event()
    options = {"prove": 0.02, "stop": stop, "found": lambda _: stop.set(), "concurrency": 2}
    first = asyncio.run(pair.check(confidence=0.9, **options))
    report = pair.checked("1", prove=0.02, confidence=0.99)

    assert (False, True) == (report.resumed, report.sample > first.sample)
    assert report.bound.share <= 0.02


@pytest.mark.parametrize("options", [{"seed": "\udcff"}, {"population": Population(prefix="\udcff")}])
def test_what_is_no_unicode_is_refused(options: dict[str, object]) -> None:
    """A shell hands such bytes on."""
    with pytest.raises(UsageError, match="not valid Unicode"):
        CheckOptions(**options)
