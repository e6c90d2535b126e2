"""The server as a process of its own."""

import http.client
import signal
import subprocess
import sys
import time

import pytest

COMMAND = [sys.executable, "-m", "heavysync.loopback"]


def get(url, path):
    host, port = url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.request("GET", path)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_process_prints_its_url_and_ends_when_told(tmp_path, number):
    """One line on standard output, the port in a file, a bucket on request, exit code 0."""
    port_file = tmp_path / "port"
    command = [*COMMAND, "--port", "0", "--port-file", str(port_file), "--bucket", "bkt"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        assert get(url, "/storage/v1/b/bkt/o") == 200
        assert url.endswith(f":{port_file.read_text()}")
        process.send_signal(number)

        assert process.wait(20) == 0
        assert process.stdout.read() == ""


def test_process_ends_with_its_parent():
    """`--parent` names a process; when it is not the parent any more, the server ends."""
    parent = "\n".join(
        [
            "import os, subprocess, sys",
            f"command = {COMMAND!r} + ['--parent', str(os.getpid())]",
            "server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)",
            "print(server.stdout.readline().strip(), flush=True)",
            "sys.stdin.read()",
            "os._exit(0)",
        ]
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        assert get(url, "/storage/v1/b/bkt") == 404
        process.stdin.close()
        assert process.wait(20) == 0
        for _ in range(400):
            try:
                get(url, "/storage/v1/b/bkt")
            except ConnectionError:
                return
            time.sleep(0.05)
        pytest.fail("the server is still there")
