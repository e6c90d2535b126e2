"""The search for garbage: off while everything is imported, on while there is work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LOOK = """
import gc, sys
from heavysync import cli
from heavysync.cli import running

main, state = sys.argv[1:]
start, is_on = cli._start, [gc.isenabled()]

def begin():
    start()
    is_on.append(gc.isenabled())

def work(runner, body, *more):
    body.close()
    is_on.append(gc.isenabled() and gc.get_threshold()[0] > 10_000)
    print(*is_on)
    return 0

cli._start, running._end = begin, work
sys.argv[1:] = ["s3://one", "s3://two", "--state", state]
getattr(cli, main)()
"""


@pytest.mark.parametrize("command", ["sync_main", "check_main"])
def test_cycles_of_garbage_are_collected_while_a_command_works(command: str, tmp_path: Path) -> None:
    """Days of work would else fill the memory."""
    words = [sys.executable, "-c", LOOK, command, str(tmp_path / "state")]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert told.split() == ["True", "False", "True"]
