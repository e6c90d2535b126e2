"""The pure rules of checking: what digests prove, which metadata differ, what a population is, what evidence adds up to."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavysync.assurance import History, Weighed, bound_alone, bound_by_history, weigh, wishes
from heavysync.checksums import ObjectHasher, ObjectSums, digest, multipart_etag
from heavysync.costs import list_cost, read_cost
from heavysync.errors import UsageError
from heavysync.evidence import CERTAIN, evidence_of
from heavysync.objects import Examined, Metadata, ObjectInfo
from heavysync.populations import Population
from heavysync.verdicts import Drawn, Tally
from heavysync.verifying import Copied, Match, compare, differences

MD5 = "900150983cd24fb0d6963f7d28e17f72"
SUMS = ObjectSums(3, MD5, "Nks/tw==", "crc64", "etag-2")


def source(etag: str = "", *, size: int = 3, crc64nvme: str | None = None, is_md5_etag: bool = True, **more: str) -> Examined:
    """A source object as a look shows it."""
    return Examined(ObjectInfo("k", size, etag, **more), crc64nvme, is_md5_etag)


@pytest.mark.parametrize(
    ("looked", "expected"),
    [
        (source(MD5, size=4), Match(False, "size")),
        (source(md5=MD5), Match(True, "md5")),
        (source(md5="0" * 32), Match(False, "md5")),
        (source(md5="0" * 32, crc32c="Nks/tw=="), Match(False, "md5")),
        (source(MD5), Match(True, "md5")),
        (source("etag-2"), Match(True, "multipart ETag")),
        (source("0" * 32), Match(False, "ETag")),
        (source("0" * 32, is_md5_etag=False), Match(None)),
        (source("other-2"), Match(None)),
        (source("other-2", is_md5_etag=False), Match(None)),
        (source("0" * 32, crc32c="Nks/tw=="), Match(True, "crc32c")),
        (source("other-2", crc32c="AAAAAA=="), Match(False, "crc32c")),
        (source("0" * 32, is_md5_etag=False, crc64nvme="crc64"), Match(True, "crc64nvme")),
        (source("0" * 32, is_md5_etag=False, crc64nvme="other"), Match(False, "crc64nvme")),
        (source(crc32c="Nks/tw=="), Match(True, "crc32c")),
        (source(), Match(None)),
    ],
)
def test_what_the_source_states_decides_in_this_order(looked: Examined, expected: Match) -> None:
    """The table of docs/design/0008-what-a-check-says.md, row by row."""
    assert expected == compare(looked, SUMS)


def test_only_an_etag_that_differs_may_be_overruled() -> None:
    """It may be no md5; a stated digest that differs is the last word of what is stated."""
    assert [True, True, False, False, False] == [
        Match(*match).is_weak for match in ((None,), (False, "ETag"), (False, "md5"), (False, "size"), (True, "md5"))
    ]


def test_what_was_copied_is_known_by_its_strongest_digest() -> None:
    """md5 before crc32c; without either nothing is known."""
    assert [True, False, True, False, None] == [
        Copied("t", md5, crc32c, "").is_in(SUMS)
        for md5, crc32c in ((MD5, "x"), ("x", "Nks/tw=="), (None, "Nks/tw=="), (None, "x"), (None, None))
    ]


@given(st.lists(st.binary(max_size=40), max_size=12), st.integers(1, 30))
def test_digests_do_not_depend_on_how_bytes_come(chunks: list[bytes], part_size: int) -> None:
    """All of them are those of the whole, the ETag that of its parts."""
    whole = b"".join(chunks)
    hasher = ObjectHasher(part_size, crc64nvme=True)
    for chunk in chunks:
        hasher.update([chunk])
    once = ObjectHasher(part_size, crc64nvme=True)
    once.update([whole])
    parts = [whole[at : at + part_size] for at in range(0, max(len(whole), 1), part_size)]

    assert once.sums() == hasher.sums()
    assert (len(whole), digest([whole]).md5.hex()) == hasher.sums()[:2]
    assert multipart_etag([digest([part]).md5 for part in parts]) == hasher.sums().etag


def test_metadata_differences_are_told_one_by_one() -> None:
    """Our stamp, the case of names and a missing content type make no difference; what GCS cannot keep neither."""

    def between(ours: Metadata | None, theirs: Metadata | None, scheme: str = "s3") -> tuple[str, ...]:
        first, second = (ObjectInfo("k", 1, "e", metadata=None if one is None else one.to_json()) for one in (ours, theirs))
        return differences(first, second, scheme)

    assert not between(None, Metadata(user={"heavysync": "v1;…"}))
    assert not between(Metadata(user={"A": "1"}), Metadata(user={"a": "1"}))
    assert not between(Metadata(content_type="binary/octet-stream"), None)
    assert not between(Metadata(expires="x", website_redirect="/y"), None, "gs")
    assert 2 == len(between(Metadata(expires="x", website_redirect="/y"), None))
    assert ("content_encoding: 'gzip' at the source, None at the destination",) == between(
        Metadata(content_encoding="gzip"), Metadata()
    )
    assert ("user metadata a: '1' at the source, '2' at the destination",) == between(
        Metadata(user={"a": "1"}), Metadata(user={"a": "2"})
    )


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8)),
)
def test_the_span_of_a_prefix_holds_every_key_with_it(prefix: str, endings: list[str]) -> None:
    """What is listed is never less than what was asked for."""
    population = Population(prefix=prefix)
    for ending in endings:
        if prefix + ending:
            assert prefix + ending in population.span()
            assert prefix + ending in population.span("p" * 1023)


def test_a_population_is_told_in_words_and_values() -> None:
    """Without filters it is all; each filter is named."""
    assert ("all of them", {}) == (str(Population()), Population().describe())
    filters = {"prefix": "a", "since": "2026", "min_size": 1, "max_size": 0, "include": ("*",), "exclude": ("b",)}
    with pytest.raises(UsageError, match="--max-size 0"):
        Population(**filters)
    filters["min_size"] = 0
    assert filters == {"min_size": 0, **Population(**filters).describe()}
    assert "modified since 2026, of at most 0 bytes, matching '*', not matching 'b'" in str(Population(**filters))


def drawn(objects: int = 1000, pool: int | None = None, **more: object) -> Drawn:
    """What a sample was drawn from."""
    fields = {"sizes": {10: objects}, "groups": [], "known_bad": 0, **more}
    return Drawn(0, objects, objects, 1000 * objects, objects if pool is None else pool, **fields)


def test_what_could_not_be_verified_counts_as_bad_in_a_bound() -> None:
    """And what has vanished does not count at all."""
    tallies = {"ok": Tally(5, 5, 50), "unverifiable": Tally(1, 1, 10), "vanished": Tally(2, 2, 20), "stale": Tally(1, 1, 7)}

    assert Weighed(7, 1, 2, 1, 10) == weigh(tallies, strict=False)
    assert Weighed(7, 2, 2, 2, 17) == weigh(tallies, strict=True)
    assert Weighed(10, 4, 2, 1, 10, 3) == weigh(tallies, gaps=3, strict=False)


def test_a_full_check_knows() -> None:
    """No bound is left: so many are bad, with so many bytes."""
    bound = bound_alone(drawn(10), Weighed(10, 2, 0, 2, 300), by="objects", confidence=0.95)

    assert (2, 10, 300) == (bound.size, bound.of, bound.bytes)
    assert bound_alone(drawn(10), Weighed(0, 0, 0, 0, 0), by="objects", confidence=0.95) is None


def test_the_bytes_of_a_bound_are_those_of_the_largest_objects() -> None:
    """Were all that may be bad the largest ones, it could not be more."""
    bound = bound_alone(drawn(1000, sizes={4: 990, 20: 10}), Weighed(100, 0, 0, 0, 0), by="objects", confidence=0.95)

    assert bound.bytes == min(1_000_000, 10 * (2**20 - 1) + (bound.size - 10) * 15)


def test_history_without_evidence_proves_nothing() -> None:
    """Objects that no check could have noticed may all be bad."""
    nothing = Weighed(0, 0, 0, 0, 0)
    given = History(by="objects", confidence=0.95, noticed=0, rotated=False)
    assert 1000 == bound_by_history(drawn(groups=[(1000, 0.0, True)]), nothing, given).size
    assert 0 == bound_by_history(drawn(groups=[(1000, CERTAIN, False)]), nothing, given).size
    assert 400 == bound_by_history(drawn(groups=[(400, 0.0, True), (600, CERTAIN, False)]), nothing, given).size
    assert 3 == bound_by_history(drawn(groups=[(997, CERTAIN, False)], known_bad=1), Weighed(0, 0, 0, 2, 9), given).size
    assert bound_by_history(drawn(0), nothing, given) is None


def test_a_draw_of_today_adds_to_the_history() -> None:
    """Ten draws of 1,000 ten times over are as good as 100 (all but what repeats)."""
    ten = Weighed(10, 0, 0, 0, 0)
    groups = [(1000, 9 * evidence_of(0.01), True)]
    given = History(by="objects", confidence=0.95, noticed=0, rotated=False)
    bound = bound_by_history(drawn(groups=groups), ten, given)

    assert math.ceil(-math.log(0.05) / (10 * evidence_of(0.01))) - 1 <= bound.size <= 30
    rotated = bound_by_history(drawn(pool=100, groups=[(100, 0.0, True), (900, 3.0, False)]), ten, given._replace(rotated=True))
    assert rotated.size == math.floor(-math.log(0.05) / evidence_of(0.1))


def test_bytes_add_up_like_objects() -> None:
    """3,000 draws from the bytes leave a thousandth of them, and objects known to be bad come on top."""
    given = History(by="bytes", confidence=0.95, noticed=0, rotated=False)
    some = drawn(1000, pool=1_000_000, groups=[(1_000_000, 0.0, True)])
    bound = bound_by_history(some, Weighed(3000, 0, 0, 0, 0), given)
    assert 990 < bound.size < 1010
    assert bound_by_history(some, Weighed(3000, 1, 0, 1, 1000), given).size > bound.size + 1000


def test_what_was_mended_still_says_how_many_there_are() -> None:
    """Ten bad ones noticed and mended: about as many again per share that was not looked at are still hidden."""
    given = History(by="objects", confidence=0.95, noticed=10, rotated=False)
    groups = [(900, evidence_of(0.1), True), (100, CERTAIN, False)]
    bound = bound_by_history(drawn(groups=groups), Weighed(0, 0, 0, 0, 0), given)

    assert 90 < bound.size < 200


def test_wishes_are_the_next_better_bounds() -> None:
    """None that is proved already, none where there is nothing."""
    assert [0.05, 0.01, 0.001] == [share for share, _ in wishes(10_000, None, by="objects", confidence=0.95)]
    assert (0.001, 2995) == wishes(
        10**9, bound_alone(drawn(10**6), Weighed(1000, 0, 0, 0, 0), by="objects", confidence=0.95), by="bytes", confidence=0.95
    )[0]
    assert not wishes(0, None, by="objects", confidence=0.95)


def test_costs_are_those_of_the_price_list() -> None:
    """A million requests of reading 0.40, a million listed objects half a cent, a GiB from S3 nine cents."""
    assert (0.4, 0.09) == pytest.approx(read_cost("s3", requests=1_000_000, size=1 << 30))
    assert 0.005 == pytest.approx(list_cost("gs", 1_000_000))


def test_evidence_is_never_more_than_certain() -> None:
    """It can be stored and added up."""
    assert [0.0, CERTAIN, CERTAIN] == [evidence_of(chance) for chance in (0.0, 1.0, 7.0)]
    assert evidence_of(0.5) == pytest.approx(math.log(2))
    assert all(evidence_of(random.Random(seed).random()) >= 0 for seed in range(100))
