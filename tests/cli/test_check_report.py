"""The words of a check's plan and report, over reports made by hand: what is said, and what must not be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heavysync.assurance import Bound, CheckPlan, CheckReport
from heavysync.cli.check_report import (
    combined_line,
    finding_fields,
    finding_line,
    plan_fields,
    plan_lines,
    report_fields,
    report_lines,
)
from heavysync.options import CheckOptions
from heavysync.verdicts import Drawn, Point, Tally
from heavysync.verdicts import SYMBOLS, VERDICTS, Finding

MILLION = 1_000_000
TIB = 1 << 40
DRAWN = Drawn(
    listed_at=1_795_341_600,
    all_objects=MILLION,
    objects=MILLION,
    bytes=3 * TIB,
    pool=MILLION,
    sizes={},
    groups=[],
    known_bad=0,
)
PLAN = CheckPlan(
    population="all of them",
    objects=MILLION,
    bytes=3 * TIB,
    sample=300,
    sample_bytes=12 << 30,
    requests=900,
    cost=0.004,
    egress_cost=1.44,
    proves=0.0099,
)
CORRUPT = Finding("dir/key", "corrupt", "md5", "its bytes are others", 5, "t", "d", 10)


def made(*, drawn: Drawn = DRAWN, **changes: Any) -> CheckReport:
    """A report of 300 good ones in a million, but for what a test says."""
    fields: dict[str, Any] = {
        "status": "ok",
        "number": 12,
        "resumed": False,
        "seed": "abc",
        "by": "objects",
        "population": "all of them",
        "sample": 300,
        "tallies": {"ok": Tally(300, 300, 10, 12 << 30, 0)},
        "confidence": 0.95,
        "bound": Bound(0.009935, 9_935, MILLION, TIB),
        "history": None,
        "needed": [(0.001, 2_995), (0.0001, 29_956)],
        "state": Path("/state"),
    }
    return CheckReport(drawn=drawn, **{**fields, **changes})


def said(report: CheckReport) -> str:
    return "\n".join(report_lines(report, 62.0))


def test_bound_is_told_in_words_and_numbers():
    """The share, the number and the bytes, and what would prove more; the whole report is this short."""
    assert said(made()).splitlines() == [
        "population   1,000,000 objects, 3.0 TiB: all of them (listed 2026-11-22 10:00 UTC)",
        "checked      300 of 300 drawn objects: 300 ok; 12.0 GiB read",
        "With 95 % confidence, at most 1 % of the objects are bad (9,935 of 1,000,000; at most 1.0 TiB, if those are the largest).",
        "0 bad in 2,995 draws would prove 0.1 %: --prove 0.1% in place of --samples",
        "(seed abc; check 12 in /state; 00:01:02)",
    ]


def test_bad_objects_are_named_the_worst_first():
    """Corrupt before missing, and nothing is said of what more good draws would prove."""
    tallies = {"ok": Tally(297, 297), "stale": Tally(1, 1), "missing": Tally(1, 1), "corrupt": Tally(1, 1)}
    missing = Finding("a", "missing", "", "the destination has no such object")
    stale = Finding("b", "stale", "", "the source changed")
    text = said(made(status="bad", tallies=tallies, findings=[missing, stale, CORRUPT]))

    assert "checked      300 of 300 drawn objects: 297 ok, 1 stale, 1 missing, 1 corrupt; " in text
    lines = [line.strip() for line in text.splitlines() if line.startswith("  ")]
    assert lines == [
        "corrupt: dir/key: md5: its bytes are others",
        "missing: a: the destination has no such object",
        "stale: b: the source changed",
    ]
    assert "--prove" not in text


def test_more_than_are_named_are_counted():
    """A report names 20; how many there are beside is said, and few of those that are no alarm are named."""
    findings = [Finding(f"c{number}", "corrupt", "md5", "other") for number in range(16)]
    findings += [Finding(f"s{number}", "stale", "", "newer") for number in range(4)]
    text = said(made(status="bad", tallies={"corrupt": Tally(100, 100), "stale": Tally(200, 200)}, findings=findings))

    assert "and 84 more corrupt (--combined FILE names them all)" in text
    assert "and 197 more stale" in text
    assert text.count("stale: s") == 3


@pytest.mark.parametrize(
    ("tallies", "words"),
    [
        ({"ok": Tally(10, 10)}, "All 10 objects were checked: none is bad."),
        ({"ok": Tally(8, 8), "corrupt": Tally(2, 2)}, "All 10 objects were checked: 2 are bad."),
        ({"ok": Tally(9, 9), "missing": Tally(1, 1)}, "All 10 objects were checked: 1 is bad."),
        (
            {"ok": Tally(9, 9), "unverifiable": Tally(1, 1)},
            "All 10 objects were checked: none is bad, 1 could not be verified.",
        ),
    ],
)
def test_what_was_checked_wholly_is_known_and_not_bounded(tallies, words):
    """When everything was looked at there is nothing to infer."""
    drawn = DRAWN._replace(objects=10, all_objects=10, pool=10)
    text = said(made(drawn=drawn, tallies=tallies, sample=10, history=Bound(0.5, 5, 10)))

    assert words in text
    assert "confidence" not in text
    assert "--prove" not in text


def test_nothing_drawn_says_nothing():
    """Without a draw there is no word of how things are; earlier checks may have one."""
    alone = said(made(sample=0, tallies={}, bound=None))
    with_history = said(made(sample=0, tallies={}, bound=None, history=Bound(0.0031, 3_100, MILLION)))

    assert "checked      nothing: nothing was drawn" in alone
    assert "Nothing was checked, so this check by itself says nothing." in alone
    assert " ok" not in alone
    assert (
        "By all checks so far, with 95 % confidence, at most 0.31 % of the objects are bad (3,100 of 1,000,000)."
        in with_history
    )


def test_draws_without_a_verdict_say_nothing():
    """All that was drawn has vanished: that is no evidence."""
    text = said(made(sample=1, tallies={"vanished": Tally(1, 1)}, bound=None))

    assert "1 of 1 drawn object: 1 vanished" in text
    assert "No random draw came to a verdict" in text


def test_empty_population_is_told():
    """Filters that match nothing: how many objects there are without them, and no bound."""
    drawn = DRAWN._replace(objects=0, bytes=0, pool=0)
    text = said(made(drawn=drawn, population="matching '*.jpg'", sample=0, tallies={}, bound=None, needed=[]))

    assert "population   0 of 1,000,000 listed objects: matching '*.jpg' (listed " in text
    assert "confidence" not in text
    assert "checked:" not in text


def test_bound_of_bytes_speaks_of_bytes():
    """Draws by bytes prove something of bytes."""
    text = said(made(by="bytes", bound=Bound(0.0099, 32 << 30, 3 * TIB, 32 << 30), drawn=DRAWN._replace(pool=3 * TIB)))

    assert "at most 0.99 % of the bytes are bad (32.0 GiB of 3.0 TiB)." in text
    assert "of the objects" not in text


def test_rotation_speaks_of_what_was_never_checked():
    """The draws came from the objects never checked before, so the bound by this check alone is about these."""
    drawn = DRAWN._replace(pool=400_000)
    text = said(made(drawn=drawn, bound=Bound(0.01, 4_000, 400_000), history=Bound(0.006, 6_000, MILLION)))

    assert "at most 1 % of the 400,000 objects never checked before are bad (4,000 of 400,000)." in text
    assert "By all checks so far, with 95 % confidence, at most 0.60 % of the objects are bad (6,000 of 1,000,000)." in text


def test_rotation_that_has_come_round_says_so():
    """When all were checked before, this check alone proves nothing of the rest."""
    text = said(made(drawn=DRAWN._replace(pool=0), bound=None, history=Bound(0.0003, 300, MILLION)))

    assert "All objects had been checked before" in text
    assert "at most 0.030 % of the objects are bad" in text


def test_what_was_found_bad_earlier_is_not_forgotten():
    """Objects that were bad and were not looked at again are told."""
    text = said(made(drawn=DRAWN._replace(known_bad=5), history=Bound(0.01, 10_000, MILLION)))

    assert "5 more objects found bad earlier, unchanged, and not looked at again" in text


def test_unverifiable_objects_count_in_the_bound():
    """What could not be verified may be bad, and the words say so."""
    unclear = Finding("k", "unverifiable", "", "the source cannot be read")
    text = said(made(status="unverifiable", tallies={"ok": Tally(299, 299), "unverifiable": Tally(1, 1)}, findings=[unclear]))

    assert "of the objects are bad or unverifiable (" in text
    assert "  unverifiable: k: the source cannot be read" in text


def test_strict_counts_stale_copies():
    """With --strict stale copies are bad, and the words say so."""
    stale = [Finding(f"k{number}", "stale", "", "newer") for number in range(5)]
    text = said(made(status="bad", is_strict=True, tallies={"ok": Tally(295, 295), "stale": Tally(5, 5)}, findings=stale))

    assert "of the objects are bad or stale (" in text
    assert text.count("stale: k") == 5


def test_bound_that_excludes_nothing_says_so():
    """Where all may be bad no percentage is told."""
    text = said(made(sample=1, tallies={"corrupt": Tally(1, 1)}, bound=Bound(1.0, MILLION, MILLION, 3 * TIB), status="bad"))

    assert "nothing can be said of the objects yet: all of them may be bad." in text
    assert "100 %" not in text


def test_stopped_check_tells_what_was_found_so_far():
    """The bound stands for the draws that came to a verdict."""
    text = said(made(status="stopped", tallies={"ok": Tally(120, 120)}, bound=Bound(0.0246, 24_600, MILLION)))

    assert "checked      120 of 300 drawn objects: 120 ok; " in text
    assert "at most 2.46 %" in text


def test_differing_metadata_are_told_apart():
    """They are named and counted, and are not bad."""
    found = Finding("k", "ok", "md5", metadata=("content_type: 'a' at the source, 'b' at the destination",))
    text = said(made(tallies={"ok": Tally(300, 300, 1, 1, 2)}, metadata=[found]))

    assert "  metadata differ: k: content_type: 'a' at the source, 'b' at the destination" in text
    assert "differ in 2 objects, which is told apart and not counted as bad" in text


def test_curve_is_drawn_where_there_is_one():
    """The plot stands before the last line."""
    text = said(made(curve=[Point(0, 0.06, 0.06), Point(86_400, 0.06, 0.03)]))

    assert "●" in text
    assert text.splitlines()[-1].startswith("(seed abc")


def test_dry_run_says_that_nothing_was_read():
    """No verdict, no bound."""
    text = said(made(status="planned", tallies={}, bound=None))

    assert text == "nothing was read (seed abc draws this sample again; 00:01:02)"


def test_plan_tells_cost_and_proof():
    """What is read, what it costs inside and outside of the provider, what it proves if nothing is bad."""
    cost = "cost         less than $0.01 for requests; about $1.44 more for the bytes if they leave the provider's network"
    assert list(plan_lines(PLAN, CheckOptions(confidence=0.999))) == [
        "population   1,000,000 objects, 3.0 TiB: all of them",
        "plan         read 300 objects, 12.0 GiB",
        f"{cost}, nothing inside one region",
        "proves       if nothing bad is found: with 99.9 % confidence, at most 0.99 % of the objects are bad",
    ]
    assert plan_fields(PLAN, CheckOptions())["egress_cost"] == 1.44


def test_plan_promises_no_more_than_it_proves():
    """Nothing to read, nothing drawn at random, everything drawn, and what was never checked before."""
    nothing, no_draw, all_drawn = (replace(PLAN, **how) for how in ({"sample": 0}, {"proves": None}, {"proves": 0.0}))
    options = CheckOptions()

    assert list(plan_lines(nothing, options))[1:] == ["plan         nothing to read"]
    assert "confidence" not in "".join(plan_lines(no_draw, options))
    assert list(plan_lines(all_drawn, options))[-1].endswith("confidence, none of the objects is bad")
    assert list(plan_lines(PLAN, CheckOptions(rotate=True)))[-1].endswith("of the objects never checked before are bad")


@pytest.mark.parametrize("key", ["a\nb", "a\r= b", "a\u2028= b", "a\x85= b", "a\x1b[2J", "a\x0b\x0cb", "\udc80"])
def test_no_key_forges_a_line(key):
    """Whatever a key holds, it has one line, without control characters."""
    finding = CORRUPT._replace(key=key, reason=key, metadata=(key,))
    report = made(findings=[finding], metadata=[finding], tallies={"corrupt": Tally(1, 1, 0, 0, 1)}, seed=key, population=key)
    lines = [finding_line(finding), combined_line(finding).rstrip("\n"), *report_lines(report, 0)]

    assert all(line.isprintable() for line in lines)
    assert combined_line(finding).startswith("* a" if key != "\udc80" else "* ")
    assert json.loads(json.dumps(finding_fields(finding)))["key"] == key


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_verdict_has_rclones_symbol(verdict):
    """One symbol, one blank, the key."""
    assert combined_line(Finding("k", verdict)) == f"{SYMBOLS[verdict]} k\n"


def test_summary_has_everything_as_json():
    """All fields of the report are plain values."""
    report = made(findings=[CORRUPT], metadata=[CORRUPT], curve=[Point(0, 0.1, None)], history=Bound(0.1, 1, 10), status="bad")
    fields = json.loads(json.dumps(report_fields(report, 1.5)))

    assert (fields["event"], fields["status"], fields["exit_code"], fields["check"]) == ("summary", "bad", 5, 12)
    assert fields["verdicts"] == {"ok": 300, "stale": 0, "vanished": 0, "unverifiable": 0, "missing": 0, "corrupt": 0}
    assert fields["bound"] == {"share": 0.009935, "size": 9_935, "of": MILLION, "bytes": TIB}
    assert fields["needed"][0] == {"share": 0.001, "draws": 2_995}
    assert fields["listed_at"] == "2026-11-22T10:00:00Z"
    assert fields["findings"][0]["symbol"] == "*"
    assert fields["curve"] == [{"started_at": "1970-01-01T00:00:00Z", "share": 0.1, "history_share": None}]
