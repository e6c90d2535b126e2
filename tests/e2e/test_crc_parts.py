"""A large object whose parts carry CRCs instead of md5s, by the installed command: killed, taken up, and equal."""

from __future__ import annotations

import hashlib
import json
import time
from base64 import b64decode
from urllib.request import Request, urlopen

import pytest

from bench_server import KEYS, fetch, running
from commands import Command, environment, until, watched
from heavysync.checksums import crc32c

MIB = 1 << 20
BODY = b"".join(hashlib.sha256(bytes([number])).digest() * (MIB // 32) for number in range(72)) + b"!"
PARTS = 10


@pytest.mark.parametrize("one", ["s3", "gs"])
def test_killed_upload_of_parts_with_crcs_goes_on(one, tmp_path):
    """No part that was acknowledged is sent again, nothing is hashed by md5, and the destination states the CRC of the whole."""
    with running() as server:
        fetch(f"{server.urls['s3']}/source", b"", "PUT")
        fetch(f"{server.urls['s3']}/source/large", BODY, "PUT")
        server.control("/clone", service="s3", bucket="source", to_service="gs", to_bucket="source")
        command = Command(environment(tmp_path, KEYS))
        words = [f"{one}://source", "s3://to", f"--source-endpoint-url={server.urls[one]}", "--memory=32MiB", "--project=p"]
        words += [f"--destination-endpoint-url={server.urls['s3']}", "--no-server-side-copy", "--create-bucket"]
        server.control("/reset")
        server.control("/pace", bandwidth=16 * MIB)
        with watched(command.start(*words)) as process:
            assert until(lambda: parts_of(server) >= 9, process)  # the question, and of 8 parts at most 4 were in flight
            time.sleep(0.3)  # those before them are in the state
            process.kill()
        before = parts_of(server)
        server.control("/pace", bandwidth=0)
        ended = command(*words, "--json")
        assert ended.code == 0, ended
        assert 9 <= before <= PARTS + 1
        assert server.read("s3", "to", "large") == BODY
        asked = Request(f"{server.urls['s3']}/to/large", method="HEAD", headers={"x-amz-checksum-mode": "ENABLED"})
        with urlopen(asked, timeout=60) as answer:
            assert int.from_bytes(b64decode(answer.headers["x-amz-checksum-crc32c"]), "big") == crc32c([BODY])
        # a question whether the server checks, by each process that began one; a part in flight at the kill may come twice
        assert parts_of(server) <= PARTS + 1 + 4
        counts = server.control("/stats")["counts"]["s3"]
        assert (counts["begin upload"], counts["complete upload"]) == (1, 1), json.dumps(counts)


def parts_of(server) -> int:
    return server.control("/stats")["counts"]["s3"].get("put part", 0)
