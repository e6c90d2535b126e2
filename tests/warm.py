"""A warm start: the commands as children of a process that has imported them already, for tests that only look at how one ends.

A cold start costs some half a second of CPU, most of it imports, and tests start commands more than a thousand times. A warm one
is a process of its own all the same, with its own environment, directory, words, streams and exit code. Tests that send signals,
measure memory, or break the start itself get the installed script: see `Command.__call__`.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

_LIBRARIES = ("aiobotocore.session", "aiohttp", "rich.console", "uvloop")


class Nursery:
    """Starts commands, one at a time.

    Args:
        env: of the process itself; children get their own, but what Python and the system read at a start is from this one.
    """

    def __init__(self, env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self._lock = threading.Lock()
        atexit.register(self.end)

    def end(self) -> None:
        """End it."""
        self._process.communicate()

    def run(self, how: dict[str, Any], timeout_s: float) -> tuple[int | None, str, str]:
        """The exit code, None if it had to be killed after `timeout_s` seconds, and what it said on both streams.

        `how`: the function of heavysync.cli to call (`main`), and with what `argv`, `env` and `cwd`.
        """
        with self._lock, tempfile.TemporaryDirectory() as directory:
            streams = [Path(directory) / stream for stream in ("out", "err")]
            self._tell({**how, "streams": [str(path) for path in streams]})
            late = threading.Timer(timeout_s, os.kill, (int(self._told()), signal.SIGKILL))
            late.start()
            code = int(self._told())
            is_late = not late.is_alive()
            late.cancel()
            out, err = (path.read_text("utf-8") for path in streams)
        return None if is_late else code, out, err

    def _tell(self, what: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def _told(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the nursery has ended"
        return line


def _prepare() -> None:
    """Import what any command may need."""
    import heavysync

    for module in pkgutil.walk_packages(heavysync.__path__, "heavysync."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in _LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _serve() -> dict[str, Any]:
    """Answer each line with a child's pid and, when it has ended, its exit code; in the child, return what it has to be."""
    answers = os.dup(1)
    for line in iter(sys.stdin.buffer.readline, b""):
        if not (pid := os.fork()):
            os.close(answers)
            what: dict[str, Any] = json.loads(line)
            return what
        os.write(answers, b"%d\n" % pid)
        os.write(answers, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os._exit(0)


def _become(what: dict[str, Any]) -> None:
    """Take over directory, environment, words and streams."""
    os.environ.clear()
    os.environ.update(what["env"])
    os.chdir(what["cwd"])
    sys.argv = what["argv"]
    handles = [
        os.open(os.devnull, os.O_RDONLY),
        *(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) for path in what["streams"]),
    ]
    for number, handle in enumerate(handles):
        os.dup2(handle, number)
        os.close(handle)


if __name__ == "__main__":
    _prepare()
    part = _serve()
    _become(part)
    import heavysync.cli

    getattr(heavysync.cli, part["main"])()
