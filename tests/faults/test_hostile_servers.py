"""No server can make the installed command take memory without end, or end it with anything but what it should say."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from commands import Command, environment, peak_kib
from faults.hostile import ANSWERS, JSON, hostile

MOST_MIB = 320
"""80 MiB is the program; an answer of 16 MiB is held as chunks, as one piece and as text at the same time."""

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secretsecret", "AWS_REGION": "us-east-1"}
S3 = [name for name in ANSWERS if name not in JSON]
GROUPS = [*(("s3", S3[at : at + 4]) for at in range(0, len(S3), 4)), ("gs", list(JSON[:4])), ("gs", list(JSON[4:]))]


def _meet(scheme, names, directory):
    """Run the command against a server that gives all of the answers, one after the other; then stop it."""
    directory.mkdir()
    other = "gs" if scheme == "s3" else "s3"
    with hostile(*names) as server:
        words = ("--source-endpoint-url", server.url, "--destination-endpoint-url", "http://127.0.0.1:9", "-v")
        command = Command(environment(directory, KEYS), (f"{scheme}://bkt", f"{other}://other", *words, "--stall-timeout", "1"))
        process = command.start()
        stopper = threading.Thread(target=_stop, args=(process, server, len(names)))
        stopper.start()
        done, peak = peak_kib(process)
        stopper.join()
    return names, list(server.given), done, peak // 1024


def _stop(process: subprocess.Popen[str], server, wanted):
    until = time.monotonic() + 60
    while len(server.given) <= wanted and time.monotonic() < until and process.returncode is None:
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)


@pytest.mark.slow
def test_memory_is_bounded_whatever_a_server_answers(tmp_path):
    """Endless heads and bodies, documents that grow when they are parsed: each is an answer that is asked for again."""
    with ThreadPoolExecutor(len(GROUPS)) as pool:
        met = list(pool.map(_meet, *zip(*GROUPS, strict=True), [tmp_path / str(n) for n in range(len(GROUPS))]))

    for names, given, done, peak in met:
        assert set(given) == set(names), given
        assert done.code == 143, done
        assert "defect in heavysync" not in done.said, done
        assert "Traceback" not in done.said, done
        assert peak < MOST_MIB, (names, peak)
        assert len(done.err) < 100_000, "the log is flooded"
