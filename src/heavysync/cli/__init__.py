"""The commands: words to options, events to the terminal, outcomes to exit codes. The only place that knows a terminal."""

from __future__ import annotations


def sync_main() -> None:
    """`heavy-sync`."""
    from heavysync.cli.sync import app

    app(prog_name="heavy-sync")


def check_main() -> None:
    """`heavy-check`."""
    from heavysync.cli.check import app

    app(prog_name="heavy-check")


def demo_main() -> None:
    """`heavy-demo`."""
    from heavysync.cli.demo import app

    app(prog_name="heavy-demo")
