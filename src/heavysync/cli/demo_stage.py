"""Where the demo plays: a directory, an environment that knows nothing of the user's, processes that all end."""

from __future__ import annotations

import os
import signal
import site
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from heavysync.cli.demo_http import HttpError, request

_START_S = 60.0  # a server may take to answer
_TRIES = 3  # a free port may be taken by somebody else meanwhile
_POLL_S = 0.02
_KEPT = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "PYTHONHOME",
    "PYTHONDONTWRITEBYTECODE",
)
"""All that the processes get of the user's environment: what Python itself may need."""


class DemoError(Exception):
    """Something is not as the demo says it is."""


class StageError(Exception):
    """The demo cannot start."""


class Interrupted(BaseException):
    """A signal asks the demo to end.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Interrupts:
    """Turns SIGINT, SIGTERM and SIGHUP into `Interrupted`, but never while a process is being started or ended."""

    def __init__(self) -> None:
        self._held = 0
        self._pending = 0

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Have them raised in the block."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._on_signal) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let them wait until the end of the block."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._pending and not self._held:
            raise Interrupted(self._pending)

    def ignored(self) -> None:
        """From now on there is nothing left to interrupt but the end itself."""
        self._held += 1

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._held:
            self._pending = number
        else:
            raise Interrupted(number)


class Child:
    """A process of the demo.

    Args:
        process: it.
        out: the file that its standard output goes to.
        err: the file that its standard error goes to.
    """

    def __init__(self, process: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.process = process
        self.out = out
        self.err = err

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def last_words(self) -> str:
        """The end of what it wrote on standard error, or else on standard output."""
        return (self.err.read_text(errors="replace") or self.out.read_text(errors="replace"))[-1000:]

    def kill(self) -> None:
        """End it at once (SIGKILL), if it still runs; none of them has anything to lose."""
        if self.is_alive:
            self.process.kill()
        self.process.wait()


class Stage:
    """The directory, and all processes that were started there.

    Args:
        directory: exists; everything that any of the processes writes is below it.
        interrupts: of the demo.
    """

    def __init__(self, directory: Path, interrupts: Interrupts) -> None:
        self.directory = directory
        self._interrupts = interrupts
        self._environment = clean_environment(os.environ, directory)
        self._count = 0
        self._stack = ExitStack()
        for name in ("home", "tmp", "output"):
            (directory / name).mkdir()

    def start(self, name: str, module: str, *arguments: str) -> Child:
        """Start `python -m module arguments`, tied to this process.

        Args:
            name: of its output files.
            module: with a main program.
            arguments: for it.
        """
        self._count += 1
        base = self.directory / "output" / f"{self._count:02d}-{name}"
        out, err = base.with_suffix(".out"), base.with_suffix(".err")
        tether = [sys.executable, "-m", "heavysync.cli.demo_tether", str(os.getpid())]
        with self._interrupts.held(), out.open("wb") as to_out, err.open("wb") as to_err:
            process = subprocess.Popen(  # noqa: S603 - our own modules, and moto's
                [*tether, module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=to_out,
                stderr=to_err,
                cwd=self.directory,
                env=self._environment,
                start_new_session=True,  # Ctrl-C reaches only the demo, which ends them in order
            )
            child = Child(process, out, err)
            self._stack.callback(child.kill)
        return child

    def end(self) -> None:
        """End all processes; signals do not interrupt it."""
        self._interrupts.ignored()
        self._stack.close()

    def start_s3(self) -> tuple[Child, str]:
        """Start moto.

        Returns:
            the process, and its `127.0.0.1:port`; its standard error has a line for each request.

        Raises:
            StageError: it does not answer.
        """
        for _ in range(_TRIES):
            address = f"127.0.0.1:{_free_port()}"
            child = self.start("s3-server", "moto.server", "-H", "127.0.0.1", "-p", address.rpartition(":")[2])
            if _wait(lambda: not child.is_alive or _answers(address)) and child.is_alive:  # noqa: B023 - used at once
                return child, address
            child.kill()
        return _give_up("the S3 server (moto)", child)

    def start_gcs(self, bucket: str) -> tuple[Child, str]:
        """Start the loopback Google Cloud Storage server with one bucket.

        Raises:
            StageError: it does not answer.
        """
        child = self.start("gcs-server", "heavysync.loopback", "--parent", str(os.getpid()), "--bucket", bucket)
        if not _wait(lambda: not child.is_alive or child.out.read_bytes().endswith(b"\n")) or not child.is_alive:
            return _give_up("the Google Cloud Storage server", child)
        return child, child.out.read_text(encoding="ascii").strip().removeprefix("http://")


def clean_environment(environment: Mapping[str, str], directory: Path) -> dict[str, str]:
    """An environment in which no account, configuration, proxy or state of the user can be found.

    Args:
        environment: the user's.
        directory: holds `home` and `tmp`.
    """
    home = directory / "home"
    kept = {name: environment[name] for name in _KEPT if name in environment}
    if path := environment.get("PYTHONPATH"):
        kept["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in path.split(os.pathsep) if entry)
    if site.ENABLE_USER_SITE and (base := site.getuserbase()):
        kept["PYTHONUSERBASE"] = base  # it would be looked for below HOME
    return kept | {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "CLOUDSDK_CONFIG": str(home / "gcloud"),
        "TMPDIR": str(directory / "tmp"),
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _wait(condition: Callable[[], bool]) -> bool:
    """Wait until the condition holds; False if that takes too long."""
    deadline = time.monotonic() + _START_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _give_up(name: str, child: Child) -> NoReturn:
    raise StageError(f"{name} did not start: {child.last_words() or 'it says nothing'}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _answers(address: str) -> bool:
    try:
        request(address, "GET", "/moto-api/", expect=tuple(range(200, 600)))
    except HttpError:
        return False
    return True
