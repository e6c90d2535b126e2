"""heavy-demo as it is installed: what it shows is so, and nothing is left of it."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from heavysync.cli import demo, demo_stage, demo_story
from heavysync.cli.demo_objects import changes, samples
from heavysync.cli.demo_story import Requests

WAIT_S = 60.0

needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")


class Home:
    """A user's machine with settings that would lead the demo astray, and a folder for temporary files."""

    def __init__(self, directory: Path) -> None:
        self.home, self.tmp = directory / "home", directory / "tmp"
        self.home.mkdir()
        self.tmp.mkdir()
        nowhere = "http://127.0.0.1:9"
        self.environment = {
            **{name: value for name, value in os.environ.items() if name in {"PATH", "PYTHONPATH", "LANG"}},
            "HOME": str(self.home),
            "TMPDIR": str(self.tmp),
            "AWS_PROFILE": "missing",
            "AWS_ENDPOINT_URL": nowhere,
            "AWS_ENDPOINT_URL_S3": nowhere,
            "STORAGE_EMULATOR_HOST": nowhere,
            "GOOGLE_APPLICATION_CREDENTIALS": str(self.home / "missing.json"),
            "HTTP_PROXY": nowhere,
            "http_proxy": nowhere,
            "ALL_PROXY": nowhere,
            "HEAVYSYNC_DRY_RUN": "1",
            "HEAVYSYNC_STATE": str(self.home / "state"),
            "MOTO_PORT": "9",
            "COLUMNS": "100",
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        script = Path(sysconfig.get_path("scripts")) / "heavy-demo"
        code = "from heavysync.cli import demo_main; demo_main()"
        command = [str(script)] if script.exists() else [sys.executable, "-c", code]
        return subprocess.Popen(
            [*command, *arguments], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def processes(self) -> list[int]:
        """Processes that have our folder for temporary files, or one below it, in their environment."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/environ"):
            try:
                if os.fsencode(f"TMPDIR={self.tmp}") in entry.read_bytes():
                    found.append(int(entry.parent.name))
            except OSError:
                continue  # it has just ended, or is not ours
        return found


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def number(text: str, label: str) -> int:
    match = re.search(rf"{label} +([\d,]+)", text)
    assert match, (label, text)
    return int(match[1].replace(",", ""))


@pytest.mark.slow
def test_demo_shows_that_all_is_so_and_leaves_nothing(home: Home) -> None:
    """Killed midway, resumed, changed, idle, equal; no process, no file, and nothing of the user's settings is used."""
    process = home.start("--objects", "300")
    text, _ = process.communicate(timeout=240)

    assert process.returncode == 0, text
    total = len(samples(300))
    arrived = number(text, "arrived when it was killed")
    assert 0 < arrived < total
    assert arrived == number(text, "not copied again")
    assert total - arrived == number(text, "copied now")
    wanted = changes(300)
    assert len(wanted.new) + len(wanted.changed) == number(text, "copied by this run")
    assert len(wanted.removed) == number(text, "deleted by this run from the destination")
    assert number(text, "pages of listings") > 0
    assert re.search(r"reads and writes of objects +0 +0", text)
    assert total + len(wanted.new) - len(wanted.removed) == number(text, "objects compared")
    assert "All of it is as it should be" in text
    assert [] == home.processes()
    assert [] == list(home.tmp.iterdir())
    assert [] == list(home.home.iterdir())


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("moment", ["All files are in", "1. A bucket is filled"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_demo_leaves_nothing(home: Home, number: signal.Signals, moment: str) -> None:
    """A signal while the servers start, or while a run is under way, ends every process and removes every file."""
    process = home.start("--objects", "300")
    assert process.stdout is not None
    while not process.stdout.readline().startswith(moment):
        assert process.poll() is None
    until(lambda: len(home.processes()) > (1 if moment == "All files are in" else 3))
    process.send_signal(number)
    text, _ = process.communicate(timeout=WAIT_S)

    assert 128 + number == process.returncode
    assert "stopped; nothing is left behind" in text
    assert [] == home.processes()
    assert [] == list(home.tmp.iterdir())


@needs_proc
@pytest.mark.slow
def test_servers_end_with_a_demo_that_is_killed(home: Home) -> None:
    """SIGKILL leaves no time to clean up, but the servers notice by themselves."""
    process = home.start("--objects", "300")
    until(lambda: len(home.processes()) == 3)
    process.kill()
    process.communicate(timeout=WAIT_S)

    until(lambda: not home.processes())


def test_missing_moto_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the demo says how to get it, and exits with 3."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "moto" else find_spec(name))

    result = CliRunner().invoke(demo.app, [])

    assert result.exit_code == 3
    assert "pip install 'heavysync[demo]'" in result.output


def test_failed_expectation_ends_with_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is not as the demo claims is said, and is no success; files are removed all the same."""

    def fail(*_: object) -> None:
        demo_story.expect(False, "the bucket is \x1b[31mred")

    monkeypatch.setattr(demo_story.Story, "__init__", fail)
    monkeypatch.setattr(demo.tempfile, "tempdir", str(tmp_path))

    result = CliRunner().invoke(demo.app, [])

    assert result.exit_code == 1
    assert r"expected: the bucket is \x1b[31mred" in result.output
    assert [] == list(tmp_path.iterdir())


def test_directory_to_keep_must_be_empty(tmp_path: Path) -> None:
    """Files of other people are never mixed with the demo's."""
    (tmp_path / "file").touch()

    result = CliRunner().invoke(demo.app, ["--keep", str(tmp_path)])

    assert result.exit_code == 2
    assert "not empty" in result.output


def test_environment_has_nothing_of_the_users(tmp_path: Path) -> None:
    """Accounts, endpoints, proxies and options do not get through; relative paths of modules do, made absolute."""
    given = {"AWS_PROFILE": "p", "https_proxy": "x", "HEAVYSYNC_DELETE": "0", "PATH": "/bin", "PYTHONPATH": "src"}

    found = demo_stage.clean_environment(given, tmp_path)

    assert {"AWS_PROFILE", "https_proxy", "HEAVYSYNC_DELETE"}.isdisjoint(found)
    assert found["PATH"] == "/bin"
    assert found["PYTHONPATH"] == str(Path("src").absolute())
    assert found["HOME"].startswith(str(tmp_path))


@pytest.mark.parametrize("plain", [100, 2000])
def test_changes_are_what_they_are_called(plain: int) -> None:
    """New keys were not there, changed and removed ones were, and none is in two lists."""
    before = {sample.key: sample.data for sample in samples(plain)}
    wanted = changes(plain)

    assert len(before) == len(samples(plain))
    assert before.keys().isdisjoint(sample.key for sample in wanted.new)
    assert all(before[sample.key] != sample.data for sample in wanted.changed)
    assert before.keys() >= set(wanted.removed)
    assert set(wanted.removed).isdisjoint(sample.key for sample in wanted.changed)


def test_requests_are_told_apart_in_the_logs() -> None:
    """Pages of listings, looks at the bucket, and all else."""
    line = '127.0.0.1 - - [01/Jan/2026 00:00:00] "{}" 200 -\n'
    asked = [
        "GET /demo-source?list-type=2&prefix= HTTP/1.1",
        "GET /demo-source?versioning HTTP/1.1",
        "HEAD /demo-source HTTP/1.1",
        'GET /demo-source/a "b" HTTP/1.1',
        "HEAD /demo-source/x HTTP/1.1",
        "POST /demo-source?delete HTTP/1.1",
    ]
    coloured = "\x1b[32m" + line.format(asked[0]).replace("\n", "\x1b[0m\n")

    assert Requests(lists=2, looks=2, objects=3) == demo_story.s3_requests("".join(map(line.format, asked)) + coloured)
    assert Requests(lists=1, looks=1, objects=2) == demo_story.gcs_requests(["list", "bucket.get", "insert", "stat"])
