"""The samplers are fair: every row has its chance, however the rows come."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import accumulate, combinations
from random import Random
from typing import TypeVar

import pytest

from heavysync.sampling import ByteReservoir, Reservoir, SizeHistogram, Thinning

T = TypeVar("T")


def chi_square_limit(freedom: int) -> float:
    """What chi-square exceeds in one of 10,000 fair trials (Wilson and Hilferty's approximation)."""
    spread = 2 / (9 * freedom)
    return freedom * (1 - spread + 3.719 * math.sqrt(spread)) ** 3


def chi_square(found: Counter[Hashable], expected: dict[Hashable, float]) -> float:
    """Pearson's statistic; what is not expected must not be found."""
    assert set(found) <= set(expected)
    return sum((found[item] - mean) ** 2 / mean for item, mean in expected.items())


def assert_equally_likely(draw: Callable[[Random], Iterable[int]], *, rows: int, size: int, runs: int) -> None:
    """Every subset of `rows` of this size is drawn equally often: more than that every row is."""
    found: Counter[Hashable] = Counter()
    for seed in range(runs):
        found[tuple(sorted(draw(Random(seed))))] += 1
    subsets = list(combinations(range(rows), size))

    assert chi_square(found, dict.fromkeys(subsets, runs / len(subsets))) < chi_square_limit(len(subsets) - 1)


def assert_proportional(draw: Callable[[Random], Iterable[int]], sizes: Sequence[int], *, draws: int, runs: int) -> None:
    """Every object is drawn as often as its size says, and one without bytes never."""
    found: Counter[Hashable] = Counter()
    for seed in range(runs):
        found.update(draw(Random(seed)))
    expected: dict[Hashable, float] = {row: runs * draws * size / sum(sizes) for row, size in enumerate(sizes) if size}

    assert found.total() == runs * draws
    assert chi_square(found, expected) < chi_square_limit(len(expected) - 1)


def pages(rows: Sequence[T], *lengths: int) -> Iterator[Sequence[T]]:
    """The rows in pages of these lengths, then the rest."""
    ends = [0, *accumulate(lengths), len(rows)]
    return (rows[start:end] for start, end in zip(ends, ends[1:], strict=False))


def reservoir(rows: Iterable[Sequence[T]], most: int, random: Random) -> Reservoir[T]:
    """A reservoir that saw these pages."""
    sample: Reservoir[T] = Reservoir(most, random)
    for page in rows:
        sample.add(page)
    return sample


def byte_reservoir(rows: Iterable[Sequence[int]], sizes: Sequence[int], draws: int, random: Random) -> ByteReservoir[int]:
    """A byte reservoir that saw these pages of row numbers."""
    sample: ByteReservoir[int] = ByteReservoir(draws, random)
    for page in rows:
        sample.add(page, [sizes[row] for row in page])
    return sample


def thinned(rows: Iterable[Sequence[T]], share: float, random: Random) -> tuple[list[T], int]:
    """What a caller of Thinning ends with, and how many rows it was handed."""
    thinning: Thinning[T] = Thinning(share, random)
    kept = [pair for page in rows for pair in thinning.add(page)]
    kept.sort(key=lambda pair: pair[0])
    return [row for _, row in kept[: math.ceil(share * thinning.seen)]], len(kept)


def merged(random: Random, most: int, *pieces: Sequence[int]) -> Reservoir[int]:
    """Reservoirs of the pieces, merged into the first."""
    first, *others = [reservoir([piece], most, random) for piece in pieces]
    for other in others:
        first.merge(other)
    return first


@pytest.mark.parametrize("lengths", [(), (1, 1, 1, 1), (3, 2)], ids=["one page", "single rows", "uneven pages"])
def test_every_subset_is_equally_likely(lengths: tuple[int, ...]) -> None:
    """A uniform sample without replacement, whatever the pages."""
    assert_equally_likely(lambda random: reservoir(pages(range(8), *lengths), 3, random).items, rows=8, size=3, runs=12_000)


def test_every_row_of_a_long_listing_is_equally_likely() -> None:
    """Many replacements later the chances are still equal; rows of one sample exclude each other, hence the factor."""
    rows, most, runs = 500, 20, 2_000
    found: Counter[int] = Counter()
    for seed in range(runs):
        found.update(reservoir(pages(range(rows), 30, 200, 7), most, Random(seed)).items)
    mean = runs * most / rows
    variance = mean * (1 - most / rows) * rows / (rows - 1)

    assert sum((found[row] - mean) ** 2 for row in range(rows)) / variance < chi_square_limit(rows - 1)


@pytest.mark.parametrize("cuts", [(1,), (4,), (6,), (2, 5)], ids=str)
def test_every_subset_is_equally_likely_after_a_merge(cuts: tuple[int, ...]) -> None:
    """Pieces smaller and larger than the sample weigh what they saw."""
    lengths = [end - start for start, end in zip((0, *cuts), cuts, strict=False)]
    assert_equally_likely(lambda random: merged(random, 3, *pages(range(8), *lengths)).items, rows=8, size=3, runs=12_000)


def test_a_merged_sample_takes_further_rows_fairly() -> None:
    """A merge in the middle of a listing is no end."""

    def draw(random: Random) -> list[int]:
        sample = merged(random, 2, range(3), range(3, 5))
        sample.add(range(5, 8))
        return sample.items

    assert_equally_likely(draw, rows=8, size=2, runs=12_000)


def test_a_merge_leaves_the_other_as_it_is() -> None:
    """It may be merged elsewhere, or shown."""
    random = Random(1)
    first, second = reservoir([range(50)], 5, random), reservoir([range(50, 70)], 5, random)
    before = list(second.items)

    first.merge(second)

    assert (second.items, second.seen) == (before, 20)
    assert (len(set(first.items)), first.seen) == (5, 70)


@pytest.mark.parametrize("most", [0, 1, 7, 40, 41, 100])
def test_a_reservoir_holds_what_it_can(most: int) -> None:
    """Neither more than was asked for nor more than there is, and no row twice."""
    sample = reservoir(pages(range(40), 0, 39), most, Random(0))

    assert sample.seen == 40
    assert len(sample.items) == len(set(sample.items)) == min(most, 40)
    assert len(set(merged(Random(0), most, range(25), range(25, 40)).items)) == min(most, 40)


@pytest.mark.parametrize("seed", range(20))
def test_pages_do_not_change_the_sample(seed: int) -> None:
    """The same seed and the same rows give the same sample, so a run can be replayed with other page sizes."""
    rows, sizes = range(3_000), [Random(seed).randrange(50) for _ in range(3_000)]
    cuts = [(), (1,) * 2_999, (0, 5, 5, 990, 1_000), tuple(Random(seed).randrange(200) for _ in range(14))]

    assert len({tuple(reservoir(pages(rows, *cut), 10, Random(seed)).items) for cut in cuts}) == 1
    assert len({tuple(byte_reservoir(pages(rows, *cut), sizes, 10, Random(seed)).items) for cut in cuts}) == 1


def test_a_seed_replays_and_another_does_not() -> None:
    """Randomness comes from the seed alone."""
    draws: list[Callable[[Random], list[int]]] = [
        lambda random: reservoir(pages(range(999), 100, 7), 10, random).items,
        lambda random: merged(random, 10, range(500), range(500, 999)).items,
        lambda random: byte_reservoir([range(999)], [3] * 999, 10, random).items,
        lambda random: thinned(pages(range(9_999), 500, 7), 0.01, random)[0],
    ]
    for draw in draws:
        assert draw(Random(7)) == draw(Random(7)) != draw(Random(8))


def test_rows_that_are_not_taken_cost_no_random_number() -> None:
    """A listing of 1e12 rows needs some most * ln(seen / most) of them: skipped by arithmetic."""

    class Counting(Random):
        calls = 0

        def random(self) -> float:
            Counting.calls += 1
            return super().random()

    sample: Reservoir[int] = Reservoir(10, Counting(3))
    for start in range(0, 10**12, 10**9):
        sample.add(range(start, start + 10**9))

    assert sample.seen == 10**12
    assert Counting.calls < 5 * 10 * math.log(10**11)


@pytest.mark.parametrize("lengths", [(), (1, 1, 1, 1, 1), (2, 3)], ids=["one page", "single rows", "uneven pages"])
def test_bytes_are_equally_likely(lengths: tuple[int, ...]) -> None:
    """So objects are drawn in proportion to their sizes, first, last and in between."""
    sizes = [0, 5, 1, 0, 10, 3, 1, 80, 0]
    assert_proportional(
        lambda random: byte_reservoir(pages(range(9), *lengths), sizes, 4, random).items, sizes, draws=4, runs=5_000
    )


def test_one_huge_object_takes_no_more_than_its_share() -> None:
    """An exabyte among kilobytes: the draws are exact to the byte."""
    sizes = [10**18, *[10**15] * 200, 0, 2 * 10**17]
    assert_proportional(
        lambda random: byte_reservoir(pages(range(203), 3, 90), sizes, 10, random).items, sizes, draws=10, runs=3_000
    )


def test_small_objects_after_an_exabyte_keep_their_chance() -> None:
    """Where floats are 128 bytes apart, the threshold still falls on single bytes."""
    due: Counter[int] = Counter()
    for seed in range(2_000):
        sample: ByteReservoir[int] = ByteReservoir(1, Random(seed))
        sample.add([0], [2**60])
        due[sample._due[0][0] % 4] += 1

    assert chi_square(Counter(due), dict.fromkeys(range(4), 500.0)) < chi_square_limit(3)


@pytest.mark.parametrize("cut", [1, 3, 6, 8])
def test_merged_byte_samples_weigh_their_bytes(cut: int) -> None:
    """And take further rows afterwards."""
    sizes = [0, 5, 1, 0, 10, 3, 1, 80, 0, 20]

    def draw(random: Random) -> list[int]:
        first = byte_reservoir([range(cut)], sizes, 3, random)
        first.merge(byte_reservoir([range(cut, 9)], sizes, 3, random))
        first.add([9], [20])
        assert (first.seen, first.total) == (10, 120)
        return first.items

    assert_proportional(draw, sizes, draws=3, runs=5_000)


def test_draws_of_bytes_are_independent() -> None:
    """Two draws of three equal objects: all nine pairs alike, also the equal ones."""
    found: Counter[Hashable] = Counter()
    for seed in range(9_000):
        found[tuple(byte_reservoir(pages(range(3), 1), [7, 7, 7], 2, Random(seed)).items)] += 1

    assert chi_square(found, {(a, b): 1_000.0 for a in range(3) for b in range(3)}) < chi_square_limit(8)


def test_nothing_is_drawn_where_there_are_no_bytes() -> None:
    """Empty objects alone give no sample, and none is asked for with 0 draws."""
    empty = byte_reservoir([range(5)], [0] * 5, 3, Random(0))
    empty.merge(byte_reservoir([range(5)], [0] * 5, 3, Random(0)))

    assert (empty.items, empty.total, empty.seen) == ([], 0, 10)
    assert byte_reservoir([range(5)], [9] * 5, 0, Random(0)).items == []


@pytest.mark.parametrize("lengths", [(1, 1, 1, 1), (2, 4)], ids=["single rows", "uneven pages"])
def test_thinning_leaves_every_subset_equally_likely(lengths: tuple[int, ...]) -> None:
    """Exactly the share, rounded up, and uniform."""
    assert_equally_likely(lambda random: thinned(pages(range(9), *lengths), 0.3, random)[0], rows=9, size=3, runs=12_000)


def test_thinning_is_uniform_over_a_listing_that_it_thins() -> None:
    """Where most rows are dropped at once, early and late rows still have the same chance."""
    rows, runs, share = 4_000, 2_000, 0.005
    found: Counter[Hashable] = Counter()
    for seed in range(runs):
        sample, kept = thinned(pages(range(rows), *[100] * 39), share, Random(seed))
        assert len(set(sample)) == 20
        assert kept < rows / 4
        found.update(row // 100 for row in sample)
    mean = runs * 20 / 40

    assert sum((found[page] - mean) ** 2 for page in range(40)) / mean < chi_square_limit(39)


@pytest.mark.parametrize("share", [1e-7, 1e-4, 0.01, 0.3, 0.95, 1])
def test_thinning_gives_exactly_the_share(share: float) -> None:
    """However small the share or the listing: some rows too many are kept, never one too few."""
    for rows in (0, 1, 2, 999, 30_000):
        sample, kept = thinned(pages(range(rows), *[1_000] * (rows // 1_000)), share, Random(rows))

        assert len(set(sample)) == len(sample) == math.ceil(share * rows)
        assert kept <= min(rows, 1_000 + 2 * share * rows + 40 * math.sqrt(share * rows) + 200)


def test_kept_numbers_are_uniform() -> None:
    """Each kept row has its own number in (0, 1], below the threshold of its page."""
    thinning: Thinning[int] = Thinning(0.5, Random(1))
    thinning.add(range(100_000))
    kept = thinning.add(range(100_000))
    limit = 0.5 + 8 * math.sqrt(0.5 / 100_000) + 32 / 100_000
    found: Counter[Hashable] = Counter(math.ceil(u / limit * 20) for u, _ in kept)

    assert chi_square(found, {part: len(kept) / 20 for part in range(1, 21)}) < chi_square_limit(19)
    assert abs(len(kept) - 100_000 * limit) < 4 * math.sqrt(25_000)


def test_the_largest_objects_are_bounded_within_a_factor_of_two() -> None:
    """Never less than the truth, never more than twice as much; merged as if seen together."""
    sizes = [int(1.01**i) for i in range(3_000)] + [0] * 50
    Random(5).shuffle(sizes)
    histogram, other = SizeHistogram(), SizeHistogram()
    histogram.add(sizes[:1_000])
    other.add(sizes[1_000:])
    histogram.merge(other)
    sizes.sort(reverse=True)

    for count in (0, 1, 2, 100, 3_000, 3_050, 10_000):
        assert sum(sizes[:count]) <= histogram.largest(count) <= 2 * sum(sizes[:count])


def test_arguments_out_of_bounds_are_named() -> None:
    """A sample of another size or share than asked for would prove something else."""
    wrong: list[tuple[str, Callable[[], object]]] = [
        ("-1", lambda: Reservoir[int](-1, Random(0))),
        ("-2", lambda: ByteReservoir[int](-2, Random(0))),
        ("0", lambda: Thinning[int](0, Random(0))),
        ("1.5", lambda: Thinning[int](1.5, Random(0))),
        ("nan", lambda: Thinning[int](math.nan, Random(0))),
        ("-3", lambda: SizeHistogram().largest(-3)),
        ("4 rows with 1 sizes", lambda: ByteReservoir[int](1, Random(0)).add(range(4), [1])),
        ("5 and of 6", lambda: Reservoir[int](5, Random(0)).merge(Reservoir(6, Random(0)))),
        ("5 and of 6", lambda: ByteReservoir[int](5, Random(0)).merge(ByteReservoir(6, Random(0)))),
    ]
    for value, call in wrong:
        with pytest.raises(ValueError, match=value):
            call()
