"""The search for garbage: off while everything is imported, on while there is work."""

from __future__ import annotations

import subprocess
import sys

LOOK = """
import gc
from heavysync import cli
from heavysync.looping import calm_collector
cli._start()
print(gc.isenabled())
calm_collector()
print(gc.isenabled(), gc.get_threshold()[0] > 10_000)
"""


def test_cycles_of_garbage_are_collected_while_a_command_works() -> None:
    """Days of work would else fill the memory."""
    told = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["False", "True", "True"]
