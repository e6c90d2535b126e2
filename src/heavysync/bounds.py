"""What a sample proves: how many may be bad though so few were seen to be. Pure: no input or output, no clock.

Every limit is one-sided: whatever the truth is, the limit lies below it in at most 1 - confidence of all samples. The tails
are exact, not approximated: binomial (through the incomplete beta function), hypergeometric and Poisson.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import NamedTuple

_TIE = 1 + 1e-9  # a probability this close to 1 - confidence counts as equal to it; rounding must not decide


def upper_share(bad: float, sample: float, confidence: float) -> float:
    """The share of bad ones, at most, after `bad` in a sample with replacement: Clopper-Pearson, one-sided.

    Exact for counts. Evidence that has lost weight may give fractions: the beta function interpolates, so that is a
    heuristic. 1.0 if nothing was sampled, or all of it is bad. Right to 1e-9 of itself for samples up to 1e9.

    Source: C. J. Clopper, E. S. Pearson, 1934, https://doi.org/10.1093/biomet/26.4.404

    Args:
        bad: bad ones in the sample, at least 0.
        sample: size of the sample, at least 0.
        confidence: in (0, 1).

    Raises:
        ValueError: an argument is out of bounds.
    """
    _check_confidence(confidence)
    if not (bad >= 0 and sample >= 0):
        raise ValueError(f"{bad} bad in a sample of {sample}")
    if sample - bad < 0.001:  # so little evidence excludes no share below 1 that a float can tell from it
        return 1.0
    if bad == 0:
        return -math.expm1(math.log1p(-confidence) / sample)
    share = _crossing(lambda share: _beta(sample - bad, bad + 1, 1 - share, share), 1 - confidence, (bad + 1) / sample)
    return min(share, 1.0)


def upper_count(bad: int, sample: int, population: int, confidence: float) -> int:
    """The number of bad ones, at most, after `bad` in a uniform sample without replacement: hypergeometric, exact.

    It is the largest number for which at most `bad` in the sample has a probability above 1 - confidence. A full sample
    answers `bad`. About 0.1 ms where few are bad, at a population of 1e10; below a second for a million bad ones.

    Args:
        bad: bad ones in the sample, 0 to `sample`.
        sample: 0 to `population`.
        population: of which the sample was drawn.
        confidence: in (0, 1).

    Raises:
        ValueError: an argument is out of bounds.
    """
    _check_confidence(confidence)
    if not 0 <= bad <= sample <= population:
        raise ValueError(f"{bad} bad in a sample of {sample} out of {population}")
    if sample == population:
        return bad
    impossible = (1 - confidence) * _TIE
    possible = range(bad, population - (sample - bad) + 1)
    first_impossible = bisect_left(
        possible, True, key=lambda all_bad: _sampled_at_most(bad, all_bad, sample, population) <= impossible
    )
    return possible[first_impossible - 1]


def sample_for(share: float, confidence: float, population: int | None = None) -> int:
    """The smallest sample that proves at most this share, if no bad one is in it.

    With a population (at least 0) the sample is drawn without replacement, and its limit is that of `upper_count`: it is
    never larger than the population. Without one it is drawn with replacement.

    Raises:
        ValueError: share or confidence is not in (0, 1), or the population negative.
    """
    _check_confidence(confidence)
    if not 0 < share < 1:
        raise ValueError(f"a share of {share} is not between 0 and 1")
    if population is None:
        return math.ceil(math.log1p(-confidence) / math.log1p(-share) * (1 - 1e-12))  # at a tie, rounding adds none
    if population < 0:
        raise ValueError(f"a population of {population}")
    return bisect_left(
        range(population), True, key=lambda sample: upper_count(0, sample, population, confidence) <= share * population
    )


def poisson_limit(bad: int, confidence: float) -> float:
    """The mean of a Poisson distribution, at most, after `bad` events: 3.0 for none, with 95 % confidence.

    Raises:
        ValueError: `bad` is negative or the confidence not in (0, 1).
    """
    _check_confidence(confidence)
    if bad < 0:
        raise ValueError(f"{bad} bad")
    if bad == 0:
        return -math.log1p(-confidence)
    return _crossing(lambda mean: _events_at_most(bad, mean), 1 - confidence, bad)


class Group(NamedTuple):
    """Things about which the same is known.

    Attributes:
        size: objects, or bytes; at least 0.
        evidence: -ln of the probability that one of them, if bad, was never noticed. 0: nobody looked; inf: surely noticed.
            Independent looks add up; a uniform sample of n out of N is worth -ln(1 - n / N) for each of the N.
    """

    size: int
    evidence: float


def most_bad(groups: Iterable[Group], bad: int, confidence: float) -> int:
    """The number of bad ones, at most, after `bad` of them were noticed, wherever they hide.

    The worst case is filled in from the least evidence upwards, until the evidence against it exceeds
    `poisson_limit(bad)`; then come the noticed ones themselves. Never below `bad`, else never above all there are. Where
    groups count bytes, `bad` still counts noticed objects: add the bytes of the `bad` largest objects to the answer.

    Why it holds. A set of bad ones stays unnoticed with the product of their probabilities, exp(-sum of evidence): so for
    `bad` == 0, any set whose evidence sums to more than -ln(1 - confidence) had less than that chance. For more: spread the
    looks over a time from 0 to 1, in which each bad one is noticed at the rate of its evidence. While at most `bad` are
    noticed, the others are noticed at a rate of at least R, the evidence of all but the `bad` with the most. So at most
    `bad` in the end is no more likely than at most `bad` events of a Poisson process of mean R, and R is what is filled in.
    In a sample without replacement bad ones crowd each other out, which only narrows the number noticed.

    Raises:
        ValueError: `bad`, a size or an evidence is negative, or the confidence not in (0, 1).
    """
    groups = list(groups)
    total = sum(group.size for group in groups)
    return max(min(most_hidden(groups, bad, confidence) + bad, total), bad)


def most_hidden(groups: Iterable[Group], noticed: int, confidence: float) -> int:
    """The number of bad ones, at most, that were never noticed, after `noticed` others were, mended since or not.

    Never above all there are. See `most_bad` for the reason. Where groups count bytes, add the `noticed` largest objects.

    Raises:
        ValueError: as `most_bad`.
    """
    rest = poisson_limit(noticed, confidence)
    hidden = 0
    is_full = False
    for group in sorted(groups, key=attrgetter("evidence")):
        if not (group.size >= 0 and group.evidence >= 0):
            raise ValueError(f"{group}")
        if is_full or group.size == 0:
            continue
        taken = group.size
        if group.size * group.evidence > rest:
            taken = min(group.size, int(rest / group.evidence * _TIE))
            is_full = True
        hidden += taken
        rest -= taken * group.evidence
    return hidden


def weight(age_s: float, half_life_s: float) -> float:
    """What evidence is worth after a time in seconds: 1 when new, 1/2 after a half-life; a half-life of inf keeps it whole.

    Raises:
        ValueError: the half-life is not above 0.
    """
    if not half_life_s > 0:
        raise ValueError(f"a half-life of {half_life_s} s")
    return 1.0 if age_s <= 0 or half_life_s == math.inf else 0.5 ** (age_s / half_life_s)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence of {confidence} is not between 0 and 1")


def _crossing(tail: Callable[[float], float], level: float, start: float) -> float:
    """Where a tail that falls from 1 at 0 reaches the level, rounded up by 1e-14 of it; `start` is near."""
    low, high = 0.0, start
    while tail(high) > level:
        low, high = high, 2 * high
    while high - low > 1e-14 * high:
        middle = (low + high) / 2
        if tail(middle) > level:
            low = middle
        else:
            high = middle
    return high


def _sampled_at_most(bad: int, all_bad: int, sample: int, population: int) -> float:
    """P(at most `bad` of `all_bad` in a sample without replacement), for `bad` that leave enough good ones to fill the rest.

    The terms are summed away from the mean, where each is smaller than the one before: some times sqrt(bad) of them.
    """
    spare = population - all_bad - sample  # good ones beyond the sample's size; may be negative

    def down(hits: int) -> float:
        return hits * (spare + hits) / ((all_bad - hits + 1) * (sample - hits + 1))

    def up(hits: int) -> float:
        return (all_bad - hits) * (sample - hits) / ((hits + 1) * (spare + hits + 1))

    def term(hits: int) -> float:
        share, rest = sample / population, (population - sample) / population
        log_term = (
            _log_binomial(hits, all_bad - hits, share, rest)
            + _log_binomial(sample - hits, spare + hits, share, rest)
            - _log_binomial(sample, population - sample, share, rest)
        )
        return math.exp(log_term)

    if bad * population < sample * all_bad:
        return _sum(term(bad), down, bad, -1)
    if bad >= min(sample, all_bad):
        return 1.0
    return 1 - _sum(term(bad + 1), up, bad + 1, 1)


def _events_at_most(bad: int, mean: float) -> float:
    """P(at most `bad` events) of a Poisson distribution, for `bad` of at least 1."""

    def term(events: int) -> float:
        return math.exp(-_deviance(events, mean) - _stirling(events)) / math.sqrt(2 * math.pi * events)

    if bad < mean:
        return _sum(term(bad), lambda events: events / mean, bad, -1)
    return 1 - _sum(term(bad + 1), lambda events: mean / (events + 1), bad + 1, 1)


def _sum(term: float, ratio: Callable[[int], float], place: int, step: int) -> float:
    """The sum of terms that fall ever faster, from the first and the ratio of each next one to it; ends at a ratio of 0."""
    total = term
    while term > 1e-17 * total:
        term *= ratio(place)
        total += term
        place += step
    return total


def _beta(a: float, b: float, x: float, y: float) -> float:
    """The regularised incomplete beta function I_x(a, b), with y = 1 - x; for whole numbers P(at least a of a + b - 1 hit).

    Source: https://dlmf.nist.gov/8.17
    """
    if x <= 0 or y <= 0:
        return float(y <= 0)
    if a * y < b * x:  # the fraction converges fast on the other side
        return 1 - _beta_fraction(b, a, y, x)
    return _beta_fraction(a, b, x, y)


def _beta_fraction(a: float, b: float, x: float, y: float) -> float:
    """I_x(a, b) for x up to the mean, by a continued fraction of some times sqrt(a + b) steps at the worst.

    The usual fraction loses all digits of y where x is near 1; its even part has none but harmless differences. Evaluated
    forwards (Lentz): `c` and `d` are the ratios of successive numerators and denominators.
    Source: A. R. DiDonato, A. H. Morris, 1992, formula 9, https://doi.org/10.1145/131766.131776
    """
    factor = math.exp(_log_binomial(a, b, x, y)) * a / (a + b) * b  # x**a * y**b / B(a, b)
    if factor == 0:
        return 0.0
    slack = a * y - b * x
    fraction = c = a * (slack + 1) / (a + 1)
    d = 0.0
    for m in range(1, 10_000_000):
        step = a + 2 * m - 1
        numerator = (a + m - 1) / step * ((a + b + m - 1) / step) * m * (b - m) * x * x
        denominator = m + m * (b - m) * x / step + (a + m) * (slack + 1 + m * (1 + y)) / (step + 2)
        d = 1 / (denominator + numerator * d)
        c = denominator + numerator / c
        before, fraction = fraction, fraction * c * d
        if abs(fraction - before) <= 1e-15 * fraction:
            return factor / fraction
    raise ArithmeticError(f"I_{x}({a}, {b}) does not converge")


def _log_binomial(hits: float, misses: float, share: float, rest: float) -> float:
    """The logarithm of the probability of so many hits and misses, with share + rest = 1.

    Right to some 1e-11 for counts up to 1e10. The factorials of such counts cancel away all digits that matter. So each is
    written as Stirling's formula and its small error, and the formulas are cancelled by hand: what remains are deviances.
    Source: C. Loader, "Fast and accurate computation of binomial probabilities", 2000
    """
    count = hits + misses
    if hits == 0 or misses == 0:
        small, chance = (share, rest) if hits == 0 else (rest, share)
        return count * (math.log1p(-small) if small < 0.5 else math.log(chance)) if count else 0.0
    return (
        _stirling(count)
        - _stirling(hits)
        - _stirling(misses)
        - _deviance(hits, count * share)
        - _deviance(misses, count * rest)
        + math.log(count / (2 * math.pi * hits * misses)) / 2
    )


def _deviance(found: float, mean: float) -> float:
    """The term found * ln(found / mean) + mean - found, right to 1e-16 * abs(found - mean)."""
    excess = (found - mean) / mean
    return mean * (found / mean * math.log1p(excess) - excess)


def _stirling(count: float) -> float:
    """ln(count!) less Stirling's formula for it, for counts above 0. Source: https://dlmf.nist.gov/5.11#E1."""
    if count < 16:  # above, the next term of the series is below 1e-16
        return math.lgamma(count + 1) - (count + 0.5) * math.log(count) + count - math.log(2 * math.pi) / 2
    square = count * count
    return (1 / 12 - (1 / 360 - (1 / 1260 - (1 / 1680 - 1 / (1188 * square)) / square) / square) / square) / count
