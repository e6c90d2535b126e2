"""Proof by rclone's gcs backend, which nobody here wrote."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LARGE = (16 << 20) + (1 << 18) + 5  # above the 16 MiB chunk of Google's Go library

BINARY = shutil.which("rclone", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


@pytest.fixture
def rclone(api, tmp_path):
    environment = {
        **os.environ,
        "RCLONE_CONFIG": str(tmp_path / "none.conf"),
        "RCLONE_CONFIG_G_TYPE": "google cloud storage",
        "RCLONE_CONFIG_G_ANONYMOUS": "true",
        "RCLONE_CONFIG_G_ENDPOINT": f"{api.server.url}/storage/v1/",
        "RCLONE_CONFIG_G_PROJECT_NUMBER": "1",
        "RCLONE_LOW_LEVEL_RETRIES": "3",
    }

    def run(*words):
        done = subprocess.run([BINARY, *words], env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    for name, data in {
        "small.txt": b"small",
        "empty": b"",
        "deep/er/ü \U0001f600 +#%?.bin": os.urandom(1000),
        "large.bin": os.urandom(LARGE),
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def files(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_up_and_down_and_gone(api, rclone, tree, tmp_path):
    """Copied up, looked at, compared by md5, copied down, synchronised again, deleted."""
    rclone("copy", str(tree), "g:bkt/up")
    listed = json.loads(rclone("lsjson", "-R", "--hash", "--files-only", "g:bkt/up"))
    sums = dict(reversed(line.split("  ", 1)) for line in rclone("md5sum", "g:bkt/up").splitlines())

    assert api.server.log.counts["start"] == 1
    assert api.server.log.counts["chunk"] == 2
    assert {entry["Path"]: entry["Size"] for entry in listed} == {name: len(data) for name, data in files(tree).items()}
    assert {entry["Path"]: entry["Hashes"]["md5"] for entry in listed} == sums
    rclone("check", "--download", str(tree), "g:bkt/up")
    rclone("copy", "g:bkt/up", str(tmp_path / "down"))
    assert files(tmp_path / "down") == files(tree)

    api.server.log.clear()
    rclone("sync", str(tree), "g:bkt/up")
    assert not {"insert", "start", "delete"} & api.server.log.counts.keys()
    (tree / "small.txt").unlink()
    (tree / "empty").write_bytes(b"no more")
    rclone("sync", str(tree), "g:bkt/up")
    assert {name.removeprefix("up/") for name in api.names()} == set(files(tree))
    rclone("sync", "g:bkt/up", "g:bkt/copy")
    assert api.server.log.counts["rewrite"] + api.server.log.counts["copy"] == len(files(tree))
    rclone("delete", "g:bkt/up")
    assert len(api.names()) == len(files(tree))


def test_buckets_and_versions(api, rclone, tmp_path):
    """mkdir, lsd, versioning, rcat of unknown size, purge."""
    rclone("mkdir", "g:theirs")
    assert {line.split()[-1] for line in rclone("lsd", "g:").splitlines()} == {"bkt", "theirs"}
    api.call("PATCH", "b/theirs", {"versioning": {"enabled": True}})
    for text in ("one", "three"):
        (tmp_path / "x").write_text(text)
        rclone("copyto", str(tmp_path / "x"), "g:theirs/x")

    assert len(api.list("theirs", versions="true")["items"]) == 2
    assert rclone("cat", "g:theirs/x") == "three"
    api.call("PATCH", "b/theirs", {"versioning": {"enabled": False}})
    for item in api.list("theirs", versions="true")["items"]:
        if "timeDeleted" in item:
            api.object("DELETE", "x", bucket="theirs", generation=item["generation"])
    rclone("purge", "g:theirs")
    assert api.call("GET", "b/theirs").status == 404


def test_faults_are_survived(api, rclone, tree, tmp_path):
    """Errors on chunks, listings and reads: the copy is right in the end."""
    api.server.add_rule(operation="chunk", status=503)
    api.server.add_rule(operation="insert", status=429, reason="rateLimitExceeded")
    api.server.add_rule(operation="list", skip=1, status=500)
    api.server.add_rule(operation="get", action="cut_body", amount=100, key="large")
    rclone("copy", str(tree), "g:bkt")
    rclone("copy", "g:bkt", str(tmp_path / "down"))

    assert files(tmp_path / "down") == files(tree)
