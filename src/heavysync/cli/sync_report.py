"""What `heavy-sync` says of a run: the plan of a dry run, and how it ended, in words and as JSON."""

from __future__ import annotations

from collections.abc import Iterator

from heavysync.cli import words
from heavysync.cli.console import Console
from heavysync.reports import Planned, SyncReport


def tell_planned(console: Console, item: Planned) -> None:
    """Say what a dry run would do."""
    if console.mode == "json":
        console.emit({"event": "planned", "action": item.action, "key": item.key, "size": item.size})
    elif console.mode != "quiet":
        console.tell(f"(dryrun) {item.action}: {words.plain(item.key)} ({words.size(item.size)})")


def tell_summary(console: Console, report: SyncReport, seconds: float) -> None:
    """Say how a run ended."""
    if console.mode == "json":
        console.emit(_fields(report, seconds))
        return
    if console.mode == "quiet" and report.status == "done":
        return
    for line in _lines(report, seconds):
        console.tell(line)


def _fields(report: SyncReport, seconds: float) -> dict[str, object]:
    return {
        "event": "summary",
        "status": report.status,
        "exit_code": report.exit_code,
        "message": report.message,
        "run": report.run,
        "resumed": report.resumed,
        "dry_run": report.dry_run,
        "seconds": round(seconds, 3),
        "state": str(report.state),
        **report.totals._asdict(),
        "troubles": [trouble._asdict() for trouble in report.troubles],
    }


def _lines(report: SyncReport, seconds: float) -> Iterator[str]:
    totals = report.totals
    yield f"source       {totals.source_objects:,} objects, {words.size(totals.source_bytes)}"
    yield f"destination  {totals.destination_objects:,} objects, {words.size(totals.destination_bytes)} before this run"
    if report.dry_run:
        yield f"to copy      {totals.to_copy:,} objects, {words.size(totals.to_copy_bytes)}"
        yield f"to delete    {totals.extra:,} objects"
    else:
        yield f"copied       {totals.copied:,} objects, {words.size(totals.copied_bytes)}"
        rest = [
            ("proven       ", totals.proven, "found equal by a closer look"),
            ("skipped      ", totals.skipped, "vanished meanwhile"),
            ("deleted      ", totals.deleted, "not in the source"),
            ("kept         ", totals.kept, "in the source again"),
            ("purged       ", totals.purged, "old versions"),
            ("failed       ", totals.failed + totals.delete_failed + totals.purge_failed, "see below"),
        ]
        for name, count, meaning in rest:
            if count:
                yield f"{name}{count:,} ({meaning})"
    for trouble in report.troubles:
        yield f"  {trouble.status}: {words.plain(trouble.key)}: {trouble.code}: {words.plain(trouble.message)}"
    yield f"{report.message} ({words.duration(seconds)}; run {report.run} in {report.state})"
