"""The limits are exact, and hold as often as they promise."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from random import Random

import pytest

from heavysync.bounds import Group, most_bad, poisson_limit, sample_for, upper_count, upper_share, weight
from heavysync.sampling import Reservoir


def binomial_tail(bad: int, sample: int, share: float) -> Decimal:
    """P(at most `bad` in a sample with replacement), term by term in 60 digits."""
    with localcontext(prec=60):
        odds = Decimal(share) / (1 - Decimal(share))
        term = total = (1 - Decimal(share)) ** sample
        for hits in range(bad):
            term *= odds * (sample - hits) / (hits + 1)
            total += term
        return total


def poisson_tail(bad: int, mean: float) -> Decimal:
    """P(at most `bad` events), term by term in 60 digits."""
    with localcontext(prec=60):
        term = total = (-Decimal(mean)).exp()
        for events in range(bad):
            term *= Decimal(mean) / (events + 1)
            total += term
        return total


def hypergeometric_tail(bad: int, all_bad: int, sample: int, population: int) -> Fraction:
    """P(at most `bad` in a sample without replacement), by counting."""
    ways = sum(math.comb(all_bad, hits) * math.comb(population - all_bad, sample - hits) for hits in range(bad + 1))
    return Fraction(ways, math.comb(population, sample))


def noise(level: float, runs: int) -> float:
    """Three standard deviations of a frequency that is `level` in truth."""
    return 3 * math.sqrt(level * (1 - level) / runs)


@pytest.mark.parametrize(
    ("sample", "expected"),
    [(1, 0.95), (30, 0.0950), (100, 0.0295), (365, 0.00817), (1_000, 0.00299), (3_650, 0.000820)],
)
def test_a_clean_sample_proves_about_three_over_its_size(sample: int, expected: float) -> None:
    """The rule of three, with its exact values at 95 %."""
    assert upper_share(0, sample, 0.95) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(
    ("bad", "sample", "confidence", "expected"),
    [(1, 10, 0.95, 0.3942), (5, 10, 0.95, 0.7776), (5, 10, 0.975, 0.8129), (9, 10, 0.95, 0.9949), (1, 100, 0.975, 0.0545)],
)
def test_limits_are_those_of_the_tables(bad: int, sample: int, confidence: float, expected: float) -> None:
    """Clopper-Pearson as printed: 5 of 10 gives 0.8129 at 97.5 %, the upper end of the two-sided 95 % interval."""
    assert upper_share(bad, sample, confidence) == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize("confidence", [0.2, 0.5, 0.95, 0.999])
def test_the_tail_at_the_limit_is_the_risk_taken(confidence: float) -> None:
    """Summed term by term for every count of small samples."""
    for sample in (1, 2, 3, 7, 20, 33):
        for bad in range(sample):
            tail = binomial_tail(bad, sample, upper_share(bad, sample, confidence))
            assert float(tail) == pytest.approx(1 - confidence, rel=1e-9)


@pytest.mark.parametrize(
    ("bad", "sample"), [(0, 10**9), (1, 10**9), (5, 10**9), (1_000, 10**9), (20_000, 10**9), (3, 10**6), (4_000, 10**4)]
)
def test_the_limit_is_exact_for_samples_up_to_a_billion(bad: int, sample: int) -> None:
    """Neither factorials of 1e9 nor 1 - 1e-9 may cost a digit that matters."""
    assert float(binomial_tail(bad, sample, upper_share(bad, sample, 0.95))) == pytest.approx(0.05, rel=1e-9)


def test_fractions_of_evidence_lie_between_whole_ones() -> None:
    """Evidence that has lost weight moves the limit smoothly and never below that of full weight."""
    steps = [upper_share(bad / 10, 30, 0.95) for bad in range(41)]
    weaker = [upper_share(1.5, sample / 10, 0.95) for sample in range(300, 9, -1)]

    assert steps == sorted(steps)
    assert weaker == sorted(weaker)
    assert steps[0] == pytest.approx(upper_share(1e-9, 30, 0.95))
    assert upper_share(0, 0.5, 0.95) == pytest.approx(1 - 0.05**2)


@pytest.mark.parametrize(("bad", "sample"), [(0, 0), (0.0, 0.0), (3, 3), (4, 3), (1e-31, 2e-31), (5, 5 + 1e-12), (0, 1e-320)])
def test_no_evidence_proves_nothing(bad: float, sample: float) -> None:
    """Nothing looked at, or nothing of it good."""
    assert upper_share(bad, sample, 0.95) == 1.0


@pytest.mark.parametrize("confidence", ["0.5", "0.9", "0.95", "0.99"])
def test_a_finite_limit_is_that_of_counting(confidence: str) -> None:
    """For every population up to 14, every sample and every count, ties included."""
    risk = 1 - Fraction(confidence)
    for population in range(1, 15):
        for sample in range(population + 1):
            for bad in range(sample + 1):
                possible = range(bad, population - (sample - bad) + 1)
                expected = max(n for n in possible if hypergeometric_tail(bad, n, sample, population) > risk)
                assert upper_count(bad, sample, population, float(confidence)) == expected


@pytest.mark.parametrize(
    ("bad", "sample", "population"),
    [(0, 300, 10**4), (7, 300, 10**4), (150, 300, 10**4), (290, 300, 10**4), (0, 2_000, 10**10), (3, 2_000, 10**10)],
)
def test_a_finite_limit_is_the_last_number_that_is_likely_enough(bad: int, sample: int, population: int) -> None:
    """At larger populations: the limit is possible still, the next number is not."""
    limit = upper_count(bad, sample, population, 0.95)

    assert hypergeometric_tail(bad, limit, sample, population) > Fraction("0.05")
    assert hypergeometric_tail(bad, limit + 1, sample, population) <= Fraction("0.05")


def test_a_full_sample_knows() -> None:
    """Nothing is left to guess."""
    for bad in (0, 1, 20, 9_999, 10_000):
        assert upper_count(bad, 10_000, 10_000, 0.999) == bad
    assert upper_count(0, 0, 0, 0.95) == 0


def test_without_replacement_proves_more() -> None:
    """The finite limit is the binomial one at the most, and tends to it."""
    for bad in (0, 1, 10):
        for population in (100, 10**4, 10**7, 10**10):
            assert upper_count(bad, 90, population, 0.95) <= upper_share(bad, 90, 0.95) * population
        assert upper_count(bad, 90, 10**10, 0.95) == pytest.approx(upper_share(bad, 90, 0.95) * 10**10, rel=1e-6)


@pytest.mark.parametrize("bad", [100_000, 1_000_000])
def test_many_bad_ones_of_ten_billion_are_counted_too(bad: int) -> None:
    """The limit lies 1.645 standard deviations above what was seen; one in a thousand of the digits is the sample's share."""
    share = bad / 10**7
    expected = share + 1.645 * math.sqrt(share * (1 - share) / 10**7)

    assert upper_count(bad, 10**7, 10**10, 0.95) / 10**10 == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("population", [None, 10**10, 10**6, 5_000, 60, 1])
@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.001])
def test_a_planned_sample_is_the_smallest_that_proves(share: float, population: int | None) -> None:
    """It proves, one less does not."""

    def proves(sample: int) -> bool:
        if population is None:
            return upper_share(0, sample, 0.95) <= share * (1 + 1e-14)
        return upper_count(0, sample, population, 0.95) <= share * population

    sample = sample_for(share, 0.95, population)

    assert proves(sample)
    assert sample == 0 or not proves(sample - 1)


def test_planned_samples_have_their_known_sizes() -> None:
    """2,995 clean ones prove 0.1 %; a small population needs fewer; an exact tie adds none."""
    assert [sample_for(0.001, 0.95, n) for n in (None, 10**10, 5_000, 0)] == [2_995, 2_995, 1_965, 0]
    assert [sample_for(0.95, 0.95), sample_for(0.5, 0.875), sample_for(0.1, 1 - 0.9**7)] == [1, 3, 7]
    assert [sample_for(0.9, 0.9999), sample_for(0.99, 0.9999)] == [4, 2]
    assert sample_for(1e-9, 0.95) == pytest.approx(2.9957e9, rel=1e-4)


@pytest.mark.parametrize(("bad", "expected"), [(0, 2.996), (1, 4.744), (2, 6.296), (5, 10.513), (10, 16.962)])
def test_poisson_limits_are_those_of_the_tables(bad: int, expected: float) -> None:
    """Half the chi-square quantile of 2 * bad + 2 degrees of freedom."""
    assert poisson_limit(bad, 0.95) == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize("confidence", [0.1, 0.5, 0.95, 0.9999])
def test_the_poisson_tail_at_the_limit_is_the_risk_taken(confidence: float) -> None:
    """Summed term by term."""
    for bad in (0, 1, 2, 15, 100, 3_000):
        assert float(poisson_tail(bad, poisson_limit(bad, confidence))) == pytest.approx(1 - confidence, rel=1e-9)


def test_bad_ones_hide_where_least_is_known() -> None:
    """The worst case fills the least evidence first: 10 never seen, then 2.996 / 0.5 of the next."""
    groups = [Group(100, math.inf), Group(50, 0.5), Group(10, 0.0), Group(1_000, 3.0)]

    assert most_bad(groups, 0, 0.95) == 10 + 5
    assert most_bad(groups, 1, 0.95) == 10 + 9 + 1


def test_groups_without_evidence_may_all_be_bad_and_surely_noticed_ones_are_counted() -> None:
    """Between the two ends everything is evidence."""
    assert most_bad([Group(7, 0.0), Group(0, math.inf)], 0, 0.95) == 7
    assert most_bad([Group(7, math.inf)], 0, 0.95) == 0
    assert most_bad([Group(7, math.inf)], 3, 0.95) == 3
    assert most_bad([Group(2, 0.1)], 2, 0.95) == most_bad([Group(2, 0.1)], 0, 0.95) == 2
    assert most_bad([Group(0, math.inf), Group(5, math.inf), Group(0, 0.0)], 0, 0.95) == 0
    assert most_bad([], 0, 0.95) == 0
    assert most_bad([], 2, 0.95) == 2


def test_one_uniform_sample_gives_nearly_its_own_exact_limit() -> None:
    """As history of a single check, the finite limit comes out again, or a little above it."""
    for population, sample in ((10_000, 300), (10_000, 9_000), (50, 20)):
        for bad in (0, 1, 4):
            exact = upper_count(bad, sample, population, 0.95)
            history = most_bad([Group(population, -math.log1p(-sample / population))], bad, 0.95)
            assert exact <= history <= 1.25 * exact + 1


@pytest.mark.parametrize(
    ("population", "all_bad", "sample"), [(10_000, 20, 300), (1_000, 3, 50), (1_000, 80, 60), (400, 8, 300)]
)
def test_limits_of_one_sample_hold_as_often_as_promised(population: int, all_bad: int, sample: int) -> None:
    """1,000 simulated damages of a copy: the truth lies above the limit in at most 5 % of them."""
    shares = cache(lambda bad: upper_share(bad, sample, 0.95))
    counts = cache(lambda bad: upper_count(bad, sample, population, 0.95))
    missed: Counter[str] = Counter()
    for seed in range(1_000):
        drawn: Reservoir[int] = Reservoir(sample, Random(seed))
        drawn.add(range(population))
        bad = sum(row < all_bad for row in drawn.items)
        missed["share"] += shares(bad) * population < all_bad
        missed["count"] += counts(bad) < all_bad

    assert missed["share"] <= missed["count"] <= 1_000 * (0.05 + noise(0.05, 1_000))


SLOTS, DAYS, DAILY, REPLACED = 2_000, 30, 20, 20
BIRTHDAYS = [
    max(0, DAYS + 1 - (slot // REPLACED + 1)) for slot in range(SLOTS)
]  # slot 0 holds the newest; 0: before the checks
EVIDENCE = -math.log1p(-DAILY / SLOTS)
HISTORY = [Group(n, looks * EVIDENCE) for looks, n in Counter(min(DAYS, DAYS + 1 - day) for day in BIRTHDAYS).items()]


@cache
def history_limit(bad: int) -> int:
    """The limit after 30 daily checks of 20 out of 2,000, of which 20 are replaced by new ones each day."""
    return most_bad(HISTORY, bad, 0.95)


@pytest.mark.parametrize("placed", ["newest", "spread", "oldest"])
@pytest.mark.parametrize("hidden_of", [0, 1, 4])
def test_limits_of_a_history_hold_wherever_bad_ones_hide(placed: str, hidden_of: int) -> None:
    """The truth lies above the limit in at most 5 % of 2,000 histories, with one bad one more than a limit allows."""
    hidden, runs = history_limit(hidden_of) + 1, 2_000
    slots = {"newest": range(hidden), "oldest": range(SLOTS - hidden, SLOTS), "spread": range(0, SLOTS, SLOTS // hidden)}[
        placed
    ]
    birthdays = {slot: BIRTHDAYS[slot] for slot in list(slots)[:hidden]}
    random = Random(f"{placed} {hidden_of}")
    missed = 0
    for _ in range(runs):
        noticed = {
            slot
            for day in range(1, DAYS + 1)
            for slot in random.sample(range(SLOTS), DAILY)
            if slot in birthdays and birthdays[slot] <= day
        }
        missed += history_limit(len(noticed)) < hidden

    assert missed <= runs * (0.05 + noise(0.05, runs))
    assert placed != "newest" or hidden_of > 0 or missed >= runs * (0.05 - noise(0.05, runs) - 0.01)  # it is tight, too


def test_evidence_halves_with_every_half_life() -> None:
    """And is whole when new, from the future, or with a half-life without end."""
    ages = [weight(age_s, 60.0) for age_s in (-5, 0, 60, 120, 90, 1e9)]

    assert ages == [1, 1, 0.5, 0.25, pytest.approx(0.5**1.5), 0]
    assert [weight(1e9, math.inf), weight(math.inf, math.inf), weight(math.inf, 1.0)] == [1, 1, 0]


@pytest.mark.parametrize("confidence", [0.0, 1.0, -0.5, 95.0, math.nan])
def test_a_confidence_outside_zero_to_one_is_named(confidence: float) -> None:
    """95 instead of 0.95 must not become a limit."""
    calls: list[Callable[[], object]] = [
        lambda: upper_share(0, 1, confidence),
        lambda: upper_count(0, 1, 2, confidence),
        lambda: sample_for(0.1, confidence),
        lambda: poisson_limit(0, confidence),
        lambda: most_bad([], 0, confidence),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=str(confidence)):
            call()


def test_counts_and_shares_out_of_bounds_are_named() -> None:
    """A wrong count would become a wrong promise."""
    wrong: list[tuple[str, Callable[[], object]]] = [
        ("-1 bad", lambda: upper_share(-1, 5, 0.95)),
        ("nan", lambda: upper_share(0, math.nan, 0.95)),
        ("sample of -5", lambda: upper_share(0, -5, 0.95)),
        ("-1 bad", lambda: upper_count(-1, 5, 9, 0.95)),
        ("6 bad", lambda: upper_count(6, 5, 9, 0.95)),
        ("10 out of 9", lambda: upper_count(0, 10, 9, 0.95)),
        ("share of 0", lambda: sample_for(0, 0.95)),
        ("share of 1", lambda: sample_for(1, 0.95)),
        ("-7", lambda: sample_for(0.5, 0.95, -7)),
        ("-1 bad", lambda: poisson_limit(-1, 0.95)),
        ("size=-1", lambda: most_bad([Group(-1, 0.5)], 0, 0.95)),
        ("evidence=-0.5", lambda: most_bad([Group(1, -0.5)], 0, 0.95)),
        ("half-life of 0", lambda: weight(1, 0)),
        ("half-life of nan", lambda: weight(1, math.nan)),
    ]
    for value, call in wrong:
        with pytest.raises(ValueError, match=value):
            call()
