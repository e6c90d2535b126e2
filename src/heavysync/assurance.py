"""What a check says: its plan, its verdicts, and how sure one may be of what was not looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from heavysync.bounds import Group, most_hidden, sample_for, upper_count, upper_share
from heavysync.evidence import CERTAIN, evidence_of
from heavysync.sampling import SizeHistogram
from heavysync.verdicts import Drawn, Finding, Point, Tally, Verdict

CheckStatus = Literal["ok", "bad", "unverifiable", "stopped", "planned"]
EXIT_CODES: dict[CheckStatus, int] = {"ok": 0, "bad": 5, "unverifiable": 1, "stopped": 130, "planned": 0}

TOLD = 20
"""Findings that a report names one by one."""

WISHES = (0.05, 0.01, 0.001, 0.0001, 0.00001)
"""Shares of which a report says how large a sample would prove them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckPlan:
    """What a check is going to do, once its sample stands.

    Args:
        population: in words.
        objects: of the population.
        bytes: of the population.
        sample: objects that will be read, without those that have a verdict already.
        sample_bytes: bytes they have.
        requests: GETs and HEADs about, listings apart.
        cost: US dollars for these and for the listing, about.
        egress_cost: US dollars more if the bytes leave the provider's network.
        proves: the share that will be proved if no object is bad; None: nothing was drawn at random.
        is_resumed: an interrupted check goes on.
        has_bad: it had found bad objects before.
    """

    population: str
    objects: int
    bytes: int
    sample: int
    sample_bytes: int
    requests: int
    cost: float
    egress_cost: float
    proves: float | None
    is_resumed: bool = False
    has_bad: bool = False


class Bound(NamedTuple):
    """How much may be bad, at the confidence of the report.

    Attributes:
        share: at most this part of what is spoken of, 0 to 1.
        size: the same as a number: objects, or bytes where bytes were drawn.
        of: what is spoken of, as a number of the same.
        bytes: at most so many bytes, were the bad objects the largest; None where that is not known.
    """

    share: float
    size: int
    of: int
    bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What a check found.

    Args:
        status: "bad": something is corrupt or missing (or stale, where that was asked for). "unverifiable": nothing bad, but
            something could not be found out. "stopped": it can be resumed. "planned": it was a dry run.
        number: of the check in the state directory.
        resumed: it went on with an interrupted one.
        seed: draws the same sample again.
        by: what was drawn.
        population: in words.
        drawn: what the sample was drawn from.
        sample: objects in the sample.
        tallies: what was found, by verdict.
        confidence: of the bounds.
        bound: by this check alone; None: it says nothing.
        history: by all checks of this population; None: they were not asked.
        needed: `(share, draws)`: so many draws without a bad one would prove the share.
        findings: the first 20 objects that are not as they should be.
        metadata: the first 20 objects whose metadata differ.
        curve: the bounds of all checks of this population, where history was asked for.
        is_strict: stale copies count as bad.
        is_rotated: random draws were made from objects never checked before only.
        state: the state directory.
    """

    status: CheckStatus
    number: int
    resumed: bool
    seed: str
    by: Literal["objects", "bytes"]
    population: str
    drawn: Drawn
    sample: int
    tallies: dict[Verdict, Tally]
    confidence: float
    bound: Bound | None
    history: Bound | None
    needed: list[tuple[float, int]]
    findings: list[Finding] = field(default_factory=list)
    metadata: list[Finding] = field(default_factory=list)
    curve: list[Point] = field(default_factory=list)
    is_strict: bool = False
    is_rotated: bool = False
    state: Path

    @property
    def exit_code(self) -> int:
        """The exit code of the command: 0, 1, 5 or 130."""
        return EXIT_CODES[self.status]

    @property
    def checked(self) -> int:
        """Objects with a verdict."""
        return sum(tally.objects for tally in self.tallies.values())


class Weighed(NamedTuple):
    """What the random draws of a check came to.

    Attributes:
        draws: that fell on objects which still existed.
        bad: of these, on objects that are bad or could not be verified.
        gone: draws that fell on objects which have vanished.
        objects: bad or unverifiable objects, also those that were looked at for another reason.
        bytes: that these have.
        gaps: draws among these that were begun and did not come to an end.
    """

    draws: int
    bad: int
    gone: int
    objects: int
    bytes: int
    gaps: int = 0


def weigh(tallies: dict[Verdict, Tally], *, gaps: int = 0, strict: bool) -> Weighed:
    """Add the verdicts up. What could not be verified may be bad, so a bound has to count it.

    So do `gaps`, draws that were begun and did not come to an end: a copy that cannot be read stays among them.
    """
    bad = [tallies.get(verdict, Tally()) for verdict in bad_verdicts(strict=strict, unverifiable=True)]
    gone = tallies.get("vanished", Tally()).hits
    return Weighed(
        draws=sum(tally.hits for tally in tallies.values()) - gone + gaps,
        bad=sum(tally.hits for tally in bad) + gaps,
        gone=gone,
        objects=sum(tally.objects for tally in bad),
        bytes=sum(tally.size for tally in bad),
        gaps=gaps,
    )


def bad_verdicts(*, strict: bool, unverifiable: bool = False) -> tuple[Verdict, ...]:
    """The verdicts that count as bad."""
    bad: tuple[Verdict, ...] = ("corrupt", "missing")
    return bad + (("stale",) if strict else ()) + (("unverifiable",) if unverifiable else ())


def bound_alone(drawn: Drawn, weighed: Weighed, *, by: str, confidence: float) -> Bound | None:
    """What this check proves of what it drew from; None: no draw came to a verdict."""
    if not weighed.draws or not drawn.pool:
        return None
    if by == "bytes":
        share = upper_share(weighed.bad, weighed.draws, confidence)
        size = min(drawn.pool, int(share * drawn.pool) + 1)
        return Bound(share, size, drawn.pool, size)
    pool = drawn.pool - weighed.gone
    size = upper_count(weighed.bad, weighed.draws, pool, confidence)
    histogram = SizeHistogram()
    histogram.counts.update(drawn.sizes)
    if drawn.pool != drawn.objects:
        return Bound(size / pool, size, pool)
    largest = weighed.bytes if weighed.draws == pool else min(drawn.bytes, histogram.largest(size))
    return Bound(size / pool, size, pool, largest)


class History(NamedTuple):
    """What is combined with a check.

    Attributes:
        by: what is counted, objects or bytes.
        confidence: of the bound.
        noticed: contents found bad by all inspections that are combined, this one included, mended since or not.
        rotated: this check drew from objects never checked only.
    """

    by: Literal["objects", "bytes"]
    confidence: float
    noticed: int
    rotated: bool


def bound_by_history(drawn: Drawn, weighed: Weighed, history: History) -> Bound | None:
    """What all checks together prove of the population as it is now; None: it is empty."""
    is_bytes = history.by == "bytes"
    total = drawn.bytes if is_bytes else drawn.objects
    if not total:
        return None
    chance = weighed.draws / max(drawn.pool, 1)
    now = min(CERTAIN, chance) if is_bytes else evidence_of(chance)
    groups = [
        Group(size, earlier + (now if is_fresh or not history.rotated else 0.0)) for size, earlier, is_fresh in drawn.groups
    ]
    still_bad = weighed.objects + drawn.known_bad + weighed.gaps
    noticed = max(history.noticed + weighed.gaps, still_bad)
    hidden = most_hidden(groups, noticed, history.confidence)
    if is_bytes:
        histogram = SizeHistogram()
        histogram.counts.update(drawn.sizes)
        size = min(total, hidden + histogram.largest(noticed))
        return Bound(size / total, size, total, size)
    size = min(total, hidden + still_bad)
    return Bound(size / total, size, total)


def wishes(population: int, bound: Bound | None, *, by: str, confidence: float) -> list[tuple[float, int]]:
    """The next shares below what is proved, and how many draws without a bad one would prove each."""
    if not population:
        return []
    now = bound.share if bound is not None else 1.0
    size = population if by == "objects" else None
    return [(share, sample_for(share, confidence, size)) for share in WISHES if share < now][:3]
