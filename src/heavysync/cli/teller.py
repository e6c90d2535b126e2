"""Tells what a check plans and finds, object by object: on the terminal, as JSON lines and in the file of `--combined`."""

from __future__ import annotations

from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from heavysync.assurance import CheckPlan, CheckReport, bad_verdicts
from heavysync.cli import check_report
from heavysync.cli.console import Console
from heavysync.errors import FatalError, UsageError
from heavysync.options import CheckOptions
from heavysync.verdicts import Finding

MOST_TOLD = 1_000
"""Lines of bad objects: more of them would bury what a person should read, and slow the check down."""


class Teller:
    """Told of the plan, of every finding and of the end of one check. Used in a `with` block, which closes the file.

    Args:
        console: where to.
        options: of the check.
        combined: a file that gets a line for each object. A new check empties it when its sample stands, a dry run never, and
            one that goes on adds to it.

    Raises:
        UsageError: the file cannot be written.
    """

    def __init__(self, console: Console, options: CheckOptions, combined: Path | None) -> None:
        self._console = console
        self._options = options
        self._path = combined
        self._bad = bad_verdicts(strict=options.strict)
        self._told: set[str] = set()
        self._stack = ExitStack()
        self._file: FileIO | None = None
        self.found_bad = False
        if combined is not None and not options.dry_run:
            try:
                self._file = self._stack.enter_context(combined.open("ab", buffering=0))
            except OSError as error:
                raise UsageError(f"--combined {str(combined)!r} cannot be written: {error.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    def planned(self, plan: CheckPlan) -> None:
        """Say what is going to be done: the result of a dry run, else a note."""
        console = self._console
        self.found_bad = plan.has_bad
        if self._file is not None and not plan.is_resumed:
            self._file.truncate(0)  # not before: a call that is refused must not empty another one's file
        if console.mode == "json":
            console.emit(check_report.plan_fields(plan, self._options))
        elif console.mode != "quiet":
            for line in check_report.plan_lines(plan, self._options):
                console.tell(line) if self._options.dry_run else console.note(line)

    def found(self, finding: Finding) -> None:
        """Record a finding in the file, and say at once what is bad.

        Raises:
            FatalError: the file cannot be written any more.
        """
        is_bad = finding.verdict in self._bad
        self.found_bad = self.found_bad or is_bad
        if self._file is not None:
            self._write(self._file, check_report.combined_line(finding).encode())
        if self._console.mode == "json":
            self._console.emit(check_report.finding_fields(finding))
        elif is_bad and len(self._told) < MOST_TOLD:
            self._told.add(finding.key)
            self._console.tell(check_report.finding_line(finding))
            if len(self._told) == MOST_TOLD:
                self._console.tell(f"{MOST_TOLD:,} bad objects were named; --combined FILE or --json names them all")

    def _write(self, file: FileIO, line: bytes) -> None:
        try:
            written = file.write(line)
        except OSError as error:
            raise FatalError(f"--combined {str(self._path)!r} cannot be written: {error.strerror}") from error
        if written != len(line):
            raise FatalError(f"--combined {str(self._path)!r} cannot be written: only {written} of {len(line)} bytes fit")

    def ended(self, report: CheckReport, seconds: float) -> None:
        """Say how it ended; quietly: only what is wrong and was not said yet."""
        console = self._console
        if console.mode == "json":
            console.emit(check_report.report_fields(report, seconds))
        elif console.mode == "quiet":
            for line in self._wrong(report):
                console.tell(line)
        else:
            for line in check_report.report_lines(report, seconds):
                console.tell(line)

    def _wrong(self, report: CheckReport) -> list[str]:
        wrong = {*self._bad, "unverifiable"}
        lines = [
            check_report.finding_line(finding)
            for finding in report.findings
            if finding.verdict in wrong and finding.key not in self._told
        ]
        if wrong & set(report.tallies) and report.status != "planned":
            lines.append(check_report.checked_line(report))
        return lines
