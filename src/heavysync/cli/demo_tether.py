"""Runs a module as `python -m` does, and ends with the process that wanted it, however that one ends.

python -m heavysync.cli.demo_tether PARENT MODULE [ARGUMENT]...
"""

from __future__ import annotations

import os
import runpy
import sys
import threading
import time

_WATCH_S = 0.5


def main() -> None:
    """Run the module named on the command line."""
    parent, module, *arguments = sys.argv[1:]
    threading.Thread(target=_watch, args=(int(parent),), daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    os._exit(1)


if __name__ == "__main__":
    main()
