"""How findings and progress reach the streams in each mode."""

from __future__ import annotations

from dataclasses import replace

import io
import json

import pytest

from heavysync.assurance import CheckPlan
from heavysync.cli.console import Console
from heavysync.cli.progress import CheckProgress, SyncProgress
from heavysync.cli.teller import MOST_TOLD, Teller
from heavysync.errors import FatalError, UsageError
from heavysync.events import Checked, Finished, Listed, Moved, Notice, PhaseStarted, Queued, Retrying
from heavysync.options import CheckOptions
from heavysync.verdicts import Finding

GOOD, STALE = Finding("good", "ok", "md5"), Finding("stale", "stale", "", "newer")
BAD, UNCLEAR = Finding("bad", "corrupt", "md5", "others"), Finding("dark", "unverifiable", "", "why")


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


PLAN = CheckPlan(
    population="all of them",
    objects=2,
    bytes=2,
    sample=2,
    sample_bytes=2,
    requests=6,
    cost=0.0,
    egress_cost=0.0,
    proves=None,
)


@pytest.fixture
def streams():
    return io.StringIO(), io.StringIO()


def console_of(mode, streams):
    return Console(mode, CheckProgress(Clock()), *streams)


@pytest.mark.parametrize("mode", ["live", "plain", "quiet"])
def test_only_what_is_bad_is_told_at_once(mode, streams):
    """One line on stdout, in every mode for people; all others wait for the end."""
    with Teller(console_of(mode, streams), CheckOptions(), None) as teller:
        for finding in (GOOD, STALE, UNCLEAR, BAD):
            teller.found(finding)

    assert streams[0].getvalue() == "corrupt: bad: md5: others\n"
    assert teller.found_bad


def test_strict_tells_stale_copies_at_once(streams):
    """They are bad then."""
    with Teller(console_of("plain", streams), CheckOptions(strict=True), None) as teller:
        teller.found(STALE)

    assert streams[0].getvalue() == "stale: stale: newer\n"
    assert teller.found_bad


def test_flood_of_bad_objects_is_cut_off(streams):
    """A destination that lost everything does not bury the terminal: the rest is counted, and named where asked for."""
    with Teller(console_of("plain", streams), CheckOptions(), None) as teller:
        for number in range(MOST_TOLD + 10):
            teller.found(BAD._replace(key=f"{number}"))

    lines = streams[0].getvalue().splitlines()
    assert len(lines) == MOST_TOLD + 1
    assert lines[-1] == "1,000 bad objects were named; --combined FILE or --json names them all"


def test_programs_are_told_every_finding(streams):
    """One JSON line each."""
    with Teller(console_of("json", streams), CheckOptions(), None) as teller:
        for finding in (GOOD, BAD):
            teller.found(finding)

    lines = [json.loads(line) for line in streams[0].getvalue().splitlines()]
    assert [(line["event"], line["key"], line["symbol"]) for line in lines] == [
        ("finding", "good", "="),
        ("finding", "bad", "*"),
    ]


def test_combined_file_has_each_line_at_once(streams, tmp_path):
    """Whoever reads it while the check runs sees whole lines; an earlier file is replaced."""
    path = tmp_path / "combined"
    path.write_text("earlier\n")
    with Teller(console_of("quiet", streams), CheckOptions(), path) as teller:
        teller.planned(PLAN)
        teller.found(GOOD)
        at_once = path.read_text()
        teller.found(BAD)

    assert at_once == "= good\n"
    assert path.read_text() == "= good\n* bad\n"


def test_a_call_that_is_refused_leaves_the_combined_file_alone(streams, tmp_path):
    """It is another one's, which may be writing it; and one that goes on adds to its own."""
    path = tmp_path / "combined"
    path.write_text("earlier\n")
    with Teller(console_of("quiet", streams), CheckOptions(), path):
        pass
    assert path.read_text() == "earlier\n"

    with Teller(console_of("quiet", streams), CheckOptions(), path) as teller:
        teller.planned(replace(PLAN, is_resumed=True, has_bad=True))
        teller.found(GOOD)
        assert teller.found_bad
    assert path.read_text() == "earlier\n= good\n"


def test_combined_file_that_cannot_be_written_is_refused(streams, tmp_path):
    """Before anything starts, as a mistake of usage."""
    with pytest.raises(UsageError, match="cannot be written: Is a directory"):
        Teller(console_of("plain", streams), CheckOptions(), tmp_path)


def test_combined_file_on_a_full_disk_ends_the_check(streams, tmp_path):
    """A list with gaps would be taken for complete."""
    path = tmp_path / "full"
    path.symlink_to("/dev/full")
    with (
        pytest.raises(FatalError, match="cannot be written: No space left"),
        Teller(console_of("quiet", streams), CheckOptions(), path) as teller,
    ):
        teller.found(GOOD)


def test_progress_of_a_check_tells_the_draw_then_the_objects():
    """What is listed while drawing; then what is done, read, bad and unclear, at which rate, and what is left."""
    clock = Clock()
    progress = CheckProgress(clock)
    progress.take(PhaseStarted("draw"))
    progress.mark()
    progress.take(Listed("source", 5_000, 10))
    clock.now = 1.0
    progress.mark()
    drawing = progress.line()
    progress.take(Queued(100, 1 << 20))
    progress.take(PhaseStarted("check"))
    progress.take(Moved(1 << 19))
    progress.take(Checked(20, 2, 1))
    clock.now = 2.0
    progress.mark()

    assert drawing == "draw; listed 5,000 (5,000/s)"
    assert progress.line() == (
        "check; checked 20 of 100 (10/s); read 512.0 KiB of 1.0 MiB (256.0 KiB/s); bad 2; unverifiable 1; 00:00:08 left"
    )
    assert ("bad", "2") in progress.rows()
    told = progress.as_dict()
    assert (told["checked"], told["sample"], told["bad"], told["unverifiable"], told["listed"]) == (20, 100, 2, 1, 5_000)


def test_progress_tells_what_is_being_retried():
    """In the line and in the table, for both commands."""
    for progress in (CheckProgress(Clock()), SyncProgress(Clock())):
        progress.take(Retrying("read key", "503", 1, 1.0))

        assert progress.line().endswith("retrying for 00:00:00: read key: 503")
        assert dict(progress.rows())["retries"].startswith("retrying for")
        assert progress.as_dict()["retries"] == 1


def test_progress_of_a_synchronisation_counts_outcomes():
    """Copied, proven, skipped and failed ones are done."""
    progress = SyncProgress(Clock())
    progress.take(Queued(10, 100))
    progress.take(Finished(1, 2, 3, 4))

    assert "done 10 of 10+" in progress.line()
    assert progress.line().endswith("failed 4")


def test_display_bears_that_retries_come_and_go_while_it_looks():
    """It reads from a thread of its own; here each retry ends another one while the eldest is looked for."""
    clock = Clock()
    progress = SyncProgress(clock)

    class Vanishing(float):
        """When a retry began; whoever compares it lets the last of the others end."""

        def __lt__(self, other):
            while len(progress.retrying) > 1:
                progress.retrying.popitem()
            return float(self) < float(other)

    progress.retrying = {f"read {number}": (Vanishing(number), "503") for number in range(3)}

    assert progress.trouble() == "retrying for 00:00:00: read 0 and 2 more: 503"


def test_quiet_console_says_what_only_a_person_can_mend(streams):
    """All other notices are left out."""
    console = console_of("quiet", streams)
    console.listener(Notice("by the way"))
    console.listener(Notice("renew them", urgent=True))

    assert (streams[0].getvalue(), streams[1].getvalue()) == ("", "renew them\n")
