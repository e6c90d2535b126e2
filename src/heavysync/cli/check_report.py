"""What `heavy-check` says of its plan, of each object, and at the end of how sure one may be: in words and as JSON.

Words are chosen so that nothing is said of what was not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from heavysync.assurance import Bound, CheckPlan, CheckReport, bad_verdicts
from heavysync.cli import words
from heavysync.cli.plot import plot
from heavysync.options import CheckOptions
from heavysync.verdicts import SYMBOLS, Finding, Tally, Verdict

_SPOKEN: tuple[Verdict, ...] = ("ok", "stale", "vanished", "unverifiable", "missing", "corrupt")
_BY_WEIGHT: tuple[Verdict, ...] = ("corrupt", "missing", "unverifiable", "stale")
_MOST_STALE = 3  # lines of stale objects, which are no alarm


def plan_lines(plan: CheckPlan, options: CheckOptions) -> Iterator[str]:
    """What is going to be done."""
    yield f"population   {_population(plan.objects, plan.bytes, plan.population)}"
    if not plan.sample:
        yield "plan         nothing to read"
        return
    yield f"plan         read {words.counted(plan.sample, 'object')}, {words.size(plan.sample_bytes)}"
    yield (
        f"cost         {words.money(plan.cost)} for requests; {words.money(plan.egress_cost)} more for the bytes"
        " if they leave the provider's network, nothing inside one region"
    )
    if plan.proves is not None:
        what = f"the {options.by}" + (" never checked before" if options.rotate else "")
        proved = _at_most(plan.proves, what) if plan.proves else f"none of {what} is bad"
        yield f"proves       if nothing bad is found: with {_confidence(options.confidence)} confidence, {proved}"


def plan_fields(plan: CheckPlan, options: CheckOptions) -> dict[str, object]:
    """The same as plain values; costs are US dollars."""
    return {
        "event": "plan",
        "population": plan.population,
        "objects": plan.objects,
        "bytes": plan.bytes,
        "by": options.by,
        "confidence": options.confidence,
        "sample": plan.sample,
        "sample_bytes": plan.sample_bytes,
        "requests": plan.requests,
        "cost": plan.cost,
        "egress_cost": plan.egress_cost,
        "proves": plan.proves,
    }


def finding_line(finding: Finding) -> str:
    """One object that is not as it should be."""
    why = ": ".join(part for part in (finding.method, finding.reason) if part)
    return words.plain(f"{finding.verdict}: {finding.key}: {why}")


def finding_fields(finding: Finding) -> dict[str, object]:
    """One object as plain values."""
    return {"event": "finding", **_fields_of(finding)}


def _fields_of(finding: Finding) -> dict[str, object]:
    return {**finding._asdict(), "symbol": SYMBOLS[finding.verdict]}


def combined_line(finding: Finding) -> str:
    """One object as `rclone check --combined` writes it, in exactly one line.

    Source: https://rclone.org/commands/rclone_check/
    """
    return f"{SYMBOLS[finding.verdict]} {words.plain(finding.key)}\n"


def report_lines(report: CheckReport, seconds: float) -> Iterator[str]:
    """How a check ended."""
    drawn = report.drawn
    if report.status == "planned":
        yield f"nothing was read (seed {words.plain(report.seed)} draws this sample again; {words.duration(seconds)})"
        return
    listed = f"(listed {words.moment(drawn.listed_at)})"
    if drawn.objects:
        yield f"population   {_population(drawn.objects, drawn.bytes, report.population)} {listed}"
        yield checked_line(report)
        yield from _told(report)
        yield from _assurance(report)
    else:
        of = words.counted(drawn.all_objects, "listed object")
        yield f"population   0 of {of}: {words.plain(report.population)} {listed}"
        yield "checked      nothing: no object is of this population"
    yield from plot(report.curve)
    where = f"check {report.number} in {words.plain(str(report.state))}"
    yield f"(seed {words.plain(report.seed)}; {where}; {words.duration(seconds)})"


def checked_line(report: CheckReport) -> str:
    """How many objects were looked at, and what was found."""
    if not report.sample:
        return "checked      nothing: nothing was drawn"
    counts = [(report.tallies[verdict].objects, verdict) for verdict in _SPOKEN if verdict in report.tallies]
    told = ", ".join(f"{count:,} {verdict}" for count, verdict in counts) or "nothing yet"
    read = words.size(sum(tally.bytes_read for tally in report.tallies.values()))
    of = f"{report.checked:,} of {words.counted(report.sample, 'drawn object')}"
    return f"checked      {of}: {told}; {read} read"


def _told(report: CheckReport) -> Iterator[str]:
    """The objects that are not as they should be, the worst first."""
    for verdict in _BY_WEIGHT:
        found = [finding for finding in report.findings if finding.verdict == verdict]
        if verdict == "stale" and not report.is_strict:
            found = found[:_MOST_STALE]
        for finding in found:
            yield f"  {finding_line(finding)}"
        more = report.tallies.get(verdict, Tally()).objects - len(found)
        if more > 0:
            yield f"  {'and ' if found else ''}{more:,} {'more ' if found else ''}{verdict} (--combined FILE names them all)"
    for finding in report.metadata:
        yield words.plain(f"  metadata differ: {finding.key}: {'; '.join(finding.metadata)}")
    differing = sum(tally.metadata for tally in report.tallies.values())
    if differing:
        yield f"metadata     differ in {words.counted(differing, 'object')}, which is told apart and not counted as bad"


def _assurance(report: CheckReport) -> Iterator[str]:
    """How sure one may be."""
    everything = is_known(report)
    if everything:
        yield _known(report)
    elif report.bound is not None:
        yield _bound(report, report.bound, _spoken_of(report))
    elif report.checked and report.drawn.pool:
        yield "No random draw came to a verdict, so this check by itself says nothing of the objects that it did not look at."
    elif report.checked:
        yield "All objects had been checked before; this check looked again at those that were checked longest ago."
    else:
        yield "Nothing was checked, so this check by itself says nothing."
    if everything:
        return
    if report.history is not None:
        yield _bound(report, report.history, report.by, by="By all checks so far, with")
    if report.drawn.known_bad:
        known = words.counted(report.drawn.known_bad, "more object")
        yield f"{known} found bad earlier, unchanged, and not looked at again: counted as bad by all checks so far."
    if report.needed and not _bad(report) and not report.is_rotated:
        share, draws = report.needed[0]
        wish = words.exact_percent(share)
        told = f"0 bad in {words.counted(draws, 'draw')} would prove {wish.replace('%', ' %')}"
        yield f"{told}: --prove {wish} in place of --samples"


def is_known(report: CheckReport) -> bool:
    """Whether every object of the population has a verdict: then nothing has to be inferred."""
    return report.checked == report.drawn.objects


def _known(report: CheckReport) -> str:
    bad, unclear = _bad(report), report.tallies.get("unverifiable", Tally()).objects
    told = f"{bad:,} {'is' if bad == 1 else 'are'} {_badness(report)}" if bad else f"none is {_badness(report)}"
    if unclear:
        told += f", {unclear:,} could not be verified"
    total = report.drawn.objects
    return f"The only object was checked: {told}." if total == 1 else f"All {total:,} objects were checked: {told}."


def _bound(report: CheckReport, bound: Bound, what: str, by: str = "With") -> str:
    sure = f"{by} {_confidence(report.confidence)} confidence"
    bad = _badness(report) + (" or unverifiable" if "unverifiable" in report.tallies else "")
    if bound.size >= bound.of:
        return f"{sure}, nothing can be said of the {what} yet: all of them may be {bad}."
    if report.by == "bytes":
        amount = f"{words.size(bound.size)} of {words.size(bound.of)}"
    else:
        amount = f"{bound.size:,} of {bound.of:,}"
        if bound.bytes is not None and bound.size:
            amount += f"; at most {words.size(bound.bytes)}, if those are the largest"
    return f"{sure}, {_at_most(bound.share, f'the {what}', bad)} ({amount})."


def _spoken_of(report: CheckReport) -> str:
    """What the bound by this check alone speaks of."""
    whole = report.drawn.bytes if report.by == "bytes" else report.drawn.objects
    if report.drawn.pool < whole:
        return f"{report.drawn.pool:,} {report.by} never checked before"
    return report.by


def _at_most(share: float, what: str, bad: str = "bad") -> str:
    return f"at most {words.percent(share)} of {what} are {bad}"


def _badness(report: CheckReport) -> str:
    return "bad or stale" if report.is_strict else "bad"


def _bad(report: CheckReport) -> int:
    """Objects that count as bad, without those that could not be verified."""
    return sum(report.tallies.get(verdict, Tally()).objects for verdict in bad_verdicts(strict=report.is_strict))


def _confidence(share: float) -> str:
    return words.exact_percent(share).replace("%", " %")


def _population(objects: int, size: int, population: str) -> str:
    return f"{words.counted(objects, 'object')}, {words.size(size)}: {words.plain(population)}"


def report_fields(report: CheckReport, seconds: float) -> dict[str, object]:
    """The report as plain values; times are RFC 3339 UTC, shares go from 0 to 1."""
    drawn = report.drawn
    return {
        "event": "summary",
        "status": report.status,
        "exit_code": report.exit_code,
        "check": report.number,
        "resumed": report.resumed,
        "seconds": round(seconds, 3),
        "state": str(report.state),
        "seed": report.seed,
        "by": report.by,
        "strict": report.is_strict,
        "population": report.population,
        "listed_at": words.rfc3339(drawn.listed_at),
        "listed_objects": drawn.all_objects,
        "objects": drawn.objects,
        "bytes": drawn.bytes,
        "pool": drawn.pool,
        "known_bad": drawn.known_bad,
        "sample": report.sample,
        "checked": report.checked,
        "everything_checked": is_known(report),
        "verdicts": {verdict: report.tallies.get(verdict, Tally()).objects for verdict in _SPOKEN},
        "tallies": {verdict: tally._asdict() for verdict, tally in report.tallies.items()},
        "bytes_read": sum(tally.bytes_read for tally in report.tallies.values()),
        "metadata_differ": sum(tally.metadata for tally in report.tallies.values()),
        "confidence": report.confidence,
        "bound": None if report.bound is None else report.bound._asdict(),
        "history": None if report.history is None else report.history._asdict(),
        "needed": [{"share": share, "draws": draws} for share, draws in report.needed],
        "findings": [_fields_of(finding) for finding in report.findings],
        "metadata": [_fields_of(finding) for finding in report.metadata],
        "curve": [{**point._asdict(), "started_at": words.rfc3339(point.started_at)} for point in report.curve],
    }
