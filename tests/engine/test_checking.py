"""heavy-check over two memory stores: what it says of copies that are good, bad, old or gone."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pairs import SMALL_S3, Pair, contents

from heavysync.errors import FatalError, TransientError, UsageError
from heavysync.objects import Metadata
from heavysync.options import CheckOptions, Samples
from heavysync.populations import Population
from heavysync.verdicts import Finding, Verdict

PAIRINGS = [("s3", "gs"), ("gs", "s3"), ("s3", "s3"), ("gs", "gs")]


@pytest.fixture(params=PAIRINGS, ids="-".join)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Pair:
    """Two buckets."""
    return Pair(tmp_path / "state", request.param)


def verdicts_of(pair: Pair, **options: object) -> dict[str, Verdict]:
    """The verdict on every object."""
    findings: list[Finding] = []
    pair.checked(found=findings.append, **options)
    assert len(findings) == len({finding.key for finding in findings})
    return {finding.key: finding.verdict for finding in findings}


def one(pair: Pair, key: str = "k", **options: object) -> Finding:
    """The finding on one object."""
    findings: list[Finding] = []
    pair.checked(found=findings.append, population=Population(prefix=key), **options)
    (found,) = [finding for finding in findings if finding.key == key]
    return found


def flipped(data: bytes) -> bytes:
    """The same but for one bit."""
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("silent", [True, False])
def test_exactly_the_damaged_objects_are_found(pair: Pair, silent: bool) -> None:
    """Damage that no size shows is found in every pairing, silent or written, and nothing else is."""
    pair.fill(400)
    pair.run()
    held = {key: data for key, (data, _) in contents(pair.destination).items()}
    keys = sorted(held)
    bad = random.Random(3).sample(keys, 8)
    for key in bad[:4]:
        pair.damage(key, flipped(held[key]), silent=silent)
    pair.damage(bad[4], held[bad[5]], silent=silent)
    pair.damage(bad[5], held[bad[4]], silent=silent)
    pair.damage(bad[6], held[bad[6]][:50].ljust(100, b"\0"), silent=silent)
    pair.damage(bad[7], bytes(100), silent=silent)

    expected: dict[str, Verdict] = {key: "corrupt" if key in bad else "ok" for key in keys}
    assert expected == verdicts_of(pair)


def test_damage_is_found_without_any_memory_of_the_copy(pair: Pair, tmp_path: Path) -> None:
    """With another state directory the source itself tells what is right."""
    pair.fill(50)
    pair.run()
    pair.damage("dir0/key-000000", bytes(100))
    pair.directory = tmp_path / "other"

    assert [("dir0/key-000000", "corrupt")] == [item for item in verdicts_of(pair).items() if item[1] != "ok"]


@pytest.mark.parametrize(
    "data",
    [b"", b"x", random.Random(1).randbytes(300_000), gzip.compress(b"x" * 1000, mtime=0)],
    ids=["empty", "byte", "chunks", "gzip"],
)
def test_objects_of_all_sizes_get_a_verdict(pair: Pair, data: bytes) -> None:
    """Empty, small, of several chunks, gzip as stored."""
    pair.put("k", data, content_encoding="gzip" if data[:2] == b"\x1f\x8b" else None)
    pair.run()

    assert "ok" == one(pair).verdict
    if data:
        pair.damage("k", flipped(data))
        assert "corrupt" == one(pair).verdict


def test_large_objects_are_read_in_parts_side_by_side(pair: Pair) -> None:
    """70 MiB: more than two windows; damage in the last byte is found."""
    data = random.Random(2).randbytes(70 << 20)
    pair.put("k", data)
    pair.run()
    assert ("ok", 70 << 20) == (one(pair).verdict, one(pair, restart=True).bytes_read)

    pair.damage("k", flipped(data))
    assert "corrupt" == one(pair).verdict


@pytest.mark.parametrize("kinds", [("s3", "gs"), ("s3", "s3")])
@pytest.mark.parametrize("sizes", [(10_000, 10_000, 1), (10_000, 7_000, 9_000)])
def test_multipart_sources_get_a_verdict(tmp_path: Path, kinds: tuple[str, str], sizes: tuple[int, ...]) -> None:
    """By their ETag where the parts are uniform, else in another way."""
    parts = [random.Random(size).randbytes(size) for size in sizes]
    pair = Pair(tmp_path / "state", kinds, limits=SMALL_S3)
    pair.put("k", b"".join(parts), parts=parts)
    pair.run()
    assert "ok" == one(pair).verdict

    pair.damage("k", flipped(b"".join(parts)))
    assert "corrupt" == one(pair).verdict
    pair.directory = tmp_path / "other"
    assert "corrupt" == one(pair).verdict


@pytest.mark.parametrize("with_state", [True, False])
def test_opaque_etags_get_a_verdict(tmp_path: Path, with_state: bool) -> None:
    """Where ETags are no md5 (KMS): by the memory of the copy, or by the source's own bytes."""
    pair = Pair(tmp_path / "state", ("s3", "s3"))
    pair.source.bucket.opaque_etags = pair.destination.bucket.opaque_etags = True
    hide_checksums(pair)
    pair.put("k", b"abc")
    pair.run()
    if not with_state:
        pair.directory = tmp_path / "other"
        drop_stamp(pair, "k")
    found = one(pair)
    assert ("ok", "the copy's stamp" if with_state else "source read") == (found.verdict, found.method)

    pair.damage("k", b"abd")
    assert "corrupt" == one(pair).verdict


def test_the_source_is_not_read_where_that_is_forbidden(tmp_path: Path) -> None:
    """Then what nothing else tells is unverifiable, with the reason, and the exit code is 1."""
    pair = Pair(tmp_path / "state", ("s3", "s3"))
    pair.source.bucket.opaque_etags = True
    hide_checksums(pair)
    pair.put("k", b"abc")
    pair.run()
    pair.directory = tmp_path / "other"
    drop_stamp(pair, "k")
    pair.source.calls.clear()
    report = pair.checked(read_source=False)

    assert ("unverifiable", 1) == (report.status, report.exit_code)
    assert "--no-read-source" in report.findings[0].reason
    assert 0 == pair.source.calls["read"]
    assert report.bound is not None
    assert 1.0 == report.bound.share  # what cannot be verified may be bad


def test_missing_copies_are_missing(pair: Pair) -> None:
    """Deleted at the destination behind our back: exit code 5."""
    pair.fill(10)
    pair.run()
    pair.destination.bucket.delete("dir1/key-000001")
    report = pair.checked()

    assert ("bad", 5) == (report.status, report.exit_code)
    assert ["dir1/key-000001"] == [finding.key for finding in report.findings if finding.verdict == "missing"]


def test_a_copy_that_never_was_is_missing(pair: Pair) -> None:
    """Without any finished run there is no excuse for an absent copy."""
    pair.put("k", b"x")

    assert "missing" == one(pair).verdict


def test_new_and_changed_source_objects_are_stale(pair: Pair) -> None:
    """What came or changed after the last run is no alarm, unless that is asked for."""
    pair.put("changed", b"before")
    pair.put("same", b"same")
    pair.run()
    pair.put("changed", b"after!")
    pair.put("new", b"x")
    expected = {"changed": "stale", "new": "stale", "same": "ok"}
    assert expected == verdicts_of(pair)

    assert [0, 5] == [pair.checked(strict=strict).exit_code for strict in (False, True)]


def test_a_stale_copy_that_is_damaged_as_well_is_corrupt(tmp_path: Path) -> None:
    """The copy's stamp tells what was copied, and these bytes are neither that nor the source's."""
    pair = Pair(tmp_path / "state")
    pair.put("k", b"before")
    pair.run()
    pair.put("k", b"after!")
    pair.damage("k", b"wrong!")

    assert "corrupt" == one(pair).verdict


def test_a_copy_put_back_to_an_older_content_is_corrupt(tmp_path: Path) -> None:
    """The present content had been copied, so an older one there is not due to the source's change."""
    pair = Pair(tmp_path / "state")
    pair.put("k", b"first!")
    pair.run()
    old = pair.destination.bucket.live("k")
    pair.put("k", b"second")
    pair.run()
    pair.destination.bucket.put("k", old.data, old.metadata)

    assert "corrupt" == one(pair).verdict


def test_vanished_source_objects_are_no_alarm(pair: Pair) -> None:
    """An object that goes between the listing and the look at it."""
    pair.fill(5)
    pair.run()

    def vanish(operation: str, key: str) -> None:
        if operation == "stat" and key == "dir2/key-000002":
            pair.source.bucket.delete(key)

    pair.source.fault = vanish
    report = pair.checked()

    assert (0, 1, 4) == (report.exit_code, report.tallies["vanished"].objects, report.tallies["ok"].objects)
    assert (0, 4) == (report.bound.size, report.bound.of)


def test_a_404_is_not_believed(tmp_path: Path) -> None:
    """What a listing shows is there, whatever a look says: not missing, not vanished, but unverifiable."""
    pair = Pair(tmp_path / "state")
    pair.put("k", b"x")
    pair.run()
    for side in (pair.source, pair.destination):
        honest = side.examine

        async def blind(key: str) -> None:
            return None

        side.examine = blind
        assert "unverifiable" == one(pair, restart=True).verdict
        side.examine = honest


def test_one_bad_read_is_no_corruption(tmp_path: Path) -> None:
    """Bytes damaged on the way are read again before anything is said."""
    pair = Pair(tmp_path / "state")
    pair.put("k", b"x" * 100)
    pair.run()
    honest = pair.destination.read
    reads = []

    async def noisy(info, span=None):
        content = await honest(info, span)
        reads.append(info)
        return content._replace(chunks=[b"y" * 100]) if len(reads) == 1 else content

    pair.destination.read = noisy
    found = one(pair)

    assert "ok" == found.verdict
    assert len(reads) > 1


def test_an_object_that_changes_under_our_hands_is_looked_at_again(tmp_path: Path) -> None:
    """The copy is overwritten between the look and the read: no verdict mixes two contents."""
    pair = Pair(tmp_path / "state", ("s3", "s3"))
    pair.put("k", b"x" * 100)
    pair.run()
    hits = []

    def overwrite(operation: str, key: str) -> None:
        if operation == "read" and not hits:
            hits.append(key)
            pair.destination.bucket.put("k", b"z" * 100, Metadata())
            pair.destination.bucket.put("k", b"x" * 99 + b"!", Metadata())

    pair.destination.fault = overwrite

    assert "corrupt" == one(pair).verdict


def test_transient_errors_are_retried_for_ever(tmp_path: Path) -> None:
    """Every second request fails in passing."""
    pair = Pair(tmp_path / "state")
    pair.fill(50)
    pair.run()
    numbers = Counter()

    def flaky(operation: str, _key: str) -> None:
        numbers[operation] += 1
        if numbers[operation] % 2:
            raise TransientError("try again")

    pair.source.fault = pair.destination.fault = flaky

    assert {"ok"} == set(verdicts_of(pair).values())


def test_metadata_are_compared_apart(tmp_path: Path) -> None:
    """Other metadata with the same bytes is ok, and told."""
    pair = Pair(tmp_path / "state", ("s3", "s3"))
    pair.put("k", b"x", content_type="text/plain", user={"colour": "blue"})
    pair.put("same", b"x", content_type="text/plain", user={"colour": "blue"})
    pair.run()
    row = pair.destination.bucket.live("k")
    pair.destination.bucket.put("k", row.data, Metadata(content_type="text/html", user={"colour": "red"}))
    report = pair.checked()

    assert (0, ["k"]) == (report.exit_code, [finding.key for finding in report.metadata])
    assert 2 == len(report.metadata[0].metadata)
    assert "'text/plain' at the source, 'text/html' at the destination" in report.metadata[0].metadata[0]


def test_names_that_the_destination_cannot_hold_are_missing(tmp_path: Path) -> None:
    """They are not in the backup, so they must not pass for checked."""
    pair = Pair(tmp_path / "state")
    pair.put("a\nb", b"x")
    pair.run()

    assert "missing" == one(pair, "a\nb").verdict


def test_the_marker_of_the_source_prefix_itself_is_left_out(tmp_path: Path) -> None:
    """It has no name at the root of a bucket, and heavy-sync leaves it out as well."""
    pair = Pair(tmp_path / "state", prefixes=("p/", ""))
    pair.put("", b"")
    pair.put("k", b"x")
    pair.run()

    assert {"k": "ok"} == verdicts_of(pair)


def test_an_empty_source_is_an_error(tmp_path: Path) -> None:
    """Nothing to check is not the same as all is well."""
    pair = Pair(tmp_path / "state")
    with pytest.raises(FatalError, match="no objects"):
        pair.checked()


def test_filters_that_match_nothing_say_so(tmp_path: Path) -> None:
    """No error: nothing new since yesterday is a good answer."""
    pair = Pair(tmp_path / "state")
    pair.put("k", b"x")
    report = pair.checked(population=Population(since="2999-01-01T00:00:00Z"))

    assert (0, 0, 1, None) == (report.exit_code, report.drawn.objects, report.drawn.all_objects, report.bound)


def test_population_filters(tmp_path: Path) -> None:
    """Prefix, sizes and globs decide what is drawn from, together."""
    pair = Pair(tmp_path / "state")
    for key, size in (("a/1", 10), ("a/2", 20), ("a/3.tmp", 15), ("b/1", 10), ("a0", 10)):
        pair.put(key, bytes(size))
    pair.run()

    def found(**filters: object) -> list[str]:
        return sorted(verdicts_of(pair, population=Population(**filters)))

    assert ["a/1", "a/2", "a/3.tmp"] == found(prefix="a/")
    assert ["a/1", "a/2", "a/3.tmp", "a0"] == found(prefix="a")
    assert ["a/2", "a/3.tmp"] == found(min_size=11)
    assert ["a/1", "a0", "b/1"] == found(max_size=14)
    assert ["a/1", "b/1"] == found(include=("*/1",))
    assert ["a/1", "a/2", "a0", "b/1"] == found(exclude=("*.tmp",))
    assert ["a/2"] == found(prefix="a/", min_size=12, exclude=("*.tmp",))


@pytest.mark.parametrize("options", [{}, {"by": "bytes"}])
@pytest.mark.parametrize("from_state", [False, True])
def test_a_seed_replays_the_sample(tmp_path: Path, options: dict[str, object], from_state: bool) -> None:
    """The same seed over the same listing draws the same objects, whatever was checked meanwhile."""
    pair = Pair(tmp_path / "state", page_max=10)
    pair.fill(500)
    pair.run()

    def drawn(seed: str) -> list[str]:
        findings: list[Finding] = []
        pair.checked("20", seed=seed, found=findings.append, from_state=from_state, **options)
        return sorted(finding.key for finding in findings)

    assert drawn("one") == drawn("one")
    assert drawn("one") != drawn("two")


def test_a_bucket_of_many_pages_is_drawn_from_in_pieces(tmp_path: Path) -> None:
    """Each key is as likely as the other, and a share of them is that share exactly."""
    pair = Pair(tmp_path / "state", page_max=10)
    pair.fill(1000, size=1)
    pair.run()
    hits: Counter[int] = Counter()
    for seed in range(60):
        plans: list = []
        pair.checked("50", seed=str(seed), plans=plans, found=lambda finding: hits.update([int(finding.key[-6:]) // 250]))
        assert 50 == plans[0].sample
    assert 3000 == sum(hits.values())
    assert all(650 < count < 850 for count in hits.values())

    for share, expected in (("1%", 10), ("33.34%", 334), ("100%", 1000), ("0.01%", 1)):
        assert expected == pair.checked(share).sample


def test_draws_by_bytes_follow_the_size(tmp_path: Path) -> None:
    """An object with nearly all the bytes is nearly all that is drawn, and its repeated draws count."""
    pair = Pair(tmp_path / "state")
    pair.fill(100, size=10)
    pair.put("large", bytes(99_000))
    pair.run()
    findings: list[Finding] = []
    report = pair.checked("200", by="bytes", seed="s", found=findings.append)

    assert 200 == sum(tally.hits for tally in report.tallies.values())
    assert "large" in {finding.key for finding in findings}
    assert len(findings) < 12
    assert 0.014 < report.bound.share < 0.016
    assert report.bound.of == 100_000


def test_prove_draws_as_many_as_it_takes(tmp_path: Path) -> None:
    """A small population is proved with less, and the bound holds what was wished."""
    pair = Pair(tmp_path / "state")
    pair.fill(500, size=1)
    pair.run()
    plans: list = []
    report = pair.checked(prove=0.01, plans=plans)

    assert report.bound.share <= 0.01
    assert report.sample == plans[0].sample < 299
    assert 0 < plans[0].proves <= 0.01
    assert plans[0].sample_bytes == report.sample


def test_a_dry_run_reads_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    """The plan is told; a later check has nothing to go on with."""
    pair = Pair(tmp_path / "state")
    pair.fill(20)
    pair.run()
    pair.source.calls.clear()
    pair.destination.calls.clear()
    plans: list = []
    report = pair.checked("10", dry_run=True, plans=plans)

    assert ("planned", 0, 10) == (report.status, report.exit_code, plans[0].sample)
    assert not {"read", "stat"} & {*pair.source.calls, *pair.destination.calls}
    assert not pair.checked("10").resumed


def test_an_interrupted_check_goes_on(tmp_path: Path) -> None:
    """What was found is kept, nothing is read twice, and the whole sample is reported."""
    pair = Pair(tmp_path / "state")
    pair.fill(100)
    pair.run()
    stop = asyncio.Event()
    first: list[Finding] = []

    def found(finding: Finding) -> None:
        first.append(finding)
        if len(first) == 20:
            stop.set()

    report = asyncio.run(pair.check(samples=Samples.parse("100%"), stop=stop, found=found, concurrency=4))
    assert ("stopped", 130) == (report.status, report.exit_code)
    assert 20 <= report.checked == len(first) < 40
    assert report.bound is not None

    rest: list[Finding] = []
    report = pair.checked(found=rest.append)
    assert (True, "ok", 100) == (report.resumed, report.status, report.checked)
    assert not {finding.key for finding in first} & {finding.key for finding in rest}
    assert not pair.checked().resumed


def test_what_was_found_before_a_fatal_error_is_kept(tmp_path: Path) -> None:
    """Credentials that end in mid-check: the next check goes on."""
    pair = Pair(tmp_path / "state")
    pair.fill(50)
    pair.run()

    def refuse(operation: str, _key: str) -> None:
        if operation == "read" and pair.destination.calls["read"] >= 30:
            raise FatalError("the token has expired")

    pair.destination.fault = refuse
    with pytest.raises(FatalError, match="expired"):
        pair.checked(concurrency=4)
    pair.destination.fault = None
    report = pair.checked()

    assert (True, 50) == (report.resumed, report.checked)


def test_another_check_gives_an_interrupted_one_up_but_its_verdicts_count(tmp_path: Path) -> None:
    """A daily check is not bound to yesterday's, and loses nothing of it."""
    pair = Pair(tmp_path / "state")
    pair.fill(100)
    pair.run()
    stop = asyncio.Event()
    asyncio.run(pair.check(samples=Samples.parse("80"), stop=stop, found=lambda _: stop.set(), concurrency=4))
    report = pair.checked("10", history=True)

    assert not report.resumed
    assert 0 < sum(size for size, _, is_fresh in report.drawn.groups if not is_fresh) < 20


def test_from_state_asks_no_listing(tmp_path: Path) -> None:
    """The listing of the last finished run serves; what has gone since is vanished."""
    pair = Pair(tmp_path / "state", page_max=10)
    pair.fill(100)
    pair.run(range_rows=30, first_rows=30)
    pair.source.bucket.delete("dir3/key-000003")
    pair.source.calls.clear()
    verdicts = verdicts_of(pair, from_state=True)

    assert 100 == len(verdicts)
    assert Counter(ok=99, vanished=1) == Counter(verdicts.values())
    assert pair.source.calls["list_page"] == 1  # to believe that it is gone


def test_from_state_needs_a_finished_run(tmp_path: Path) -> None:
    """No run, an interrupted one, and a dry run are each told apart."""
    pair = Pair(tmp_path / "state")
    pair.fill(10)
    with pytest.raises(FatalError, match="no run of heavy-sync has finished"):
        pair.checked(from_state=True)
    pair.run()
    assert 10 == len(verdicts_of(pair, from_state=True))
    pair.run(dry_run=True)
    with pytest.raises(FatalError, match="dry run"):
        pair.checked(from_state=True)
    stop = asyncio.Event()
    stop.set()
    asyncio.run(pair.sync(stop=stop))
    with pytest.raises(FatalError, match="under way or was interrupted"):
        pair.checked(from_state=True)


def test_history_makes_certainty_grow(tmp_path: Path) -> None:
    """Thirty days of 20 draws each prove more than any one of them, and a look at the curve shows it."""
    pair = Pair(tmp_path / "state")
    pair.source.service.now = lambda: datetime(2026, 1, 1, tzinfo=UTC)  # else they might be newer than the first listing
    pair.fill(1000, size=1)
    pair.run()
    shares = [pair.checked("20", history=True, seed=str(day)).history.share for day in range(30)]
    alone = pair.checked("20").bound.share

    assert shares[-1] < shares[0] / 15
    assert shares[-1] < alone / 15
    assert shares == sorted(shares, reverse=True)
    assert 30 == len(pair.checked("20", history=True, seed="x", dry_run=True).curve) - 1


def test_history_forgets_what_changed(tmp_path: Path) -> None:
    """Objects written anew since they were checked are not known any more."""
    pair = Pair(tmp_path / "state")
    pair.fill(100, size=10)
    pair.run()
    assert 0 == pair.checked(history=True).history.size
    pair.fill(100, size=10, seed=2)
    pair.run()

    assert pair.checked("1", history=True).history.size > 90


def test_evidence_decays_with_its_half_life(tmp_path: Path) -> None:
    """A full check is worth everything today, half in a half-life, nearly nothing after ten."""
    pair = Pair(tmp_path / "state")
    pair.fill(300, size=1)
    pair.run()
    now = 1_900_000_000.0
    sizes = []
    for days in (0, 10, 100):
        moment = now + days * 86_400
        options = {"history": True, "half_life": 10.0, "clock": lambda moment=moment: moment}
        sizes.append(pair.checked("0" if days else "100%", **options).history.size)

    assert 0 == sizes[0]
    assert 0 < sizes[1] < 10
    assert sizes[2] > 250


def test_rotation_checks_everything_in_turn(tmp_path: Path) -> None:
    """Objects never checked come first; when all were, those checked longest ago."""
    pair = Pair(tmp_path / "state")
    pair.fill(50)
    pair.run()
    seen: list[set[str]] = []
    for day in range(10):
        findings: list[Finding] = []
        pair.checked("10", rotate=True, found=findings.append, clock=lambda day=day: 1_900_000_000.0 + day * 86_400)
        seen.append({finding.key for finding in findings})

    assert 50 == len(set().union(*seen[:5]))
    assert seen[:5] == seen[5:]


def test_what_was_bad_is_looked_at_again(tmp_path: Path) -> None:
    """With history: a bad copy stays an alarm until it is mended, also when it is not drawn."""
    pair = Pair(tmp_path / "state")
    pair.fill(200)
    pair.run()
    good = pair.destination.bucket.live("dir0/key-000000").data
    pair.damage("dir0/key-000000", bytes(100))
    assert 5 == pair.checked().exit_code
    report = pair.checked("1", history=True, seed="far")
    assert (5, 1) == (report.exit_code, report.history.size)
    assert report.tallies["corrupt"].hits == 0
    pair.damage("dir0/key-000000", good)
    report = pair.checked("1", history=True, seed="far")

    assert (0, 0) == (report.exit_code, report.history.size)


def test_another_population_is_another_history(tmp_path: Path) -> None:
    """Draws from a part prove nothing of the whole, but what was checked is known all the same."""
    pair = Pair(tmp_path / "state")
    pair.fill(700, size=1)
    pair.run()
    part = Population(prefix="dir0/")
    for _ in range(5):
        pair.checked("20", history=True, population=part)
    report = pair.checked("20", history=True)

    assert report.history.share > 0.1


def test_a_check_runs_beside_a_run(tmp_path: Path) -> None:
    """heavy-sync holds its own lock; a check only reads what it writes."""
    pair = Pair(tmp_path / "state")
    pair.fill(100)
    pair.run()

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(pair.sync())
            check = group.create_task(pair.check(samples=Samples.parse("100%")))
        assert {"ok"} == set(check.result().tallies)

    asyncio.run(both())


def test_two_checks_at_once_are_refused(tmp_path: Path) -> None:
    """The second one would take the first one's sample for an interrupted one."""
    pair = Pair(tmp_path / "state")
    pair.fill(10)

    async def both() -> None:
        async def second(*_: object) -> None:
            with pytest.raises(FatalError, match="in use by another check"):
                await pair.check()

        pair.source.fault = lambda operation, _key: second() if operation == "list_page" else None
        await pair.check()

    asyncio.run(both())


@pytest.mark.parametrize(
    "options",
    [
        {"samples": Samples.parse("0")},
        {"samples": Samples.parse("1%"), "by": "bytes"},
        {"samples": Samples.parse("1%"), "rotate": True},
        {"by": "bytes", "rotate": True},
        {"prove": 0.1, "rotate": True},
        {"prove": 1.0},
        {"confidence": 1.0},
        {"half_life": 0.0},
        {"concurrency": 0},
        {"memory": 1},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    """With the option's name and what to do."""
    with pytest.raises(UsageError, match="--"):
        CheckOptions(**options)


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "0%", "101%", "%", "nan%", "100000000"])
def test_samples_that_are_none_are_refused(text: str) -> None:
    """The message has the text."""
    with pytest.raises(UsageError, match="--samples"):
        Samples.parse(text)


def hide_checksums(pair: Pair) -> None:
    """A provider that states no crc32c, as S3 did for most of its life."""
    for side in (pair.source, pair.destination):
        show = side.show
        side.show = lambda *args, show=show, **kwargs: show(*args, **kwargs)._replace(crc32c=None)


def drop_stamp(pair: Pair, key: str) -> None:
    """A copy that carries nothing of ours."""
    row = pair.destination.bucket.live(key)
    pair.destination.bucket.put(key, row.data, Metadata())


def test_a_dry_run_leaves_an_interrupted_check_alone(tmp_path: Path) -> None:
    """The plan is of a new draw; what was interrupted goes on afterwards."""
    pair = Pair(tmp_path / "state")
    pair.fill(40)
    pair.run()
    stop = asyncio.Event()
    first = asyncio.run(pair.check(samples=Samples.parse("30"), stop=stop, found=lambda _: stop.set(), concurrency=4))
    assert "planned" == pair.checked("30", dry_run=True, restart=True).status
    plans: list = []
    report = pair.checked("30", plans=plans)

    assert (True, first.number, 30) == (report.resumed, report.number, report.checked)
    assert plans[0].sample == 30 - first.checked


def test_the_worst_findings_come_first(tmp_path: Path) -> None:
    """Twenty stale copies do not hide a corrupt one."""
    pair = Pair(tmp_path / "state")
    pair.fill(60)
    pair.run()
    pair.fill(30, seed=2)
    pair.damage("dir6/key-000055", bytes(100))
    report = pair.checked()

    assert (20, "dir6/key-000055") == (len(report.findings), report.findings[0].key)


def test_a_wish_that_takes_too_many_draws_is_refused(tmp_path: Path) -> None:
    """Before anything is listed."""
    pair = Pair(tmp_path / "state")
    with pytest.raises(UsageError, match="more than 1,000,000"):
        pair.checked(prove=1e-9)


def test_since_is_compared_to_the_second(tmp_path: Path) -> None:
    """An object of 12:00:00.500 is one since 12:00:00."""
    pair = Pair(tmp_path / "state")
    pair.source.bucket.put("k", b"x", Metadata(), modified_at="2026-01-01T12:00:00.500Z")

    for since, expected in (("2026-01-01T12:00:00Z", 1), ("2026-01-01T12:00:01Z", 0)):
        assert expected == pair.checked(population=Population(since=since), dry_run=True).drawn.objects
