"""A handful of the matrix through the installed command, and what takes a server that checks what it is sent."""

from __future__ import annotations

import pytest
from buckets import S3Bucket
from commands import Command, environment
from faults.cases import REQUESTS
from faults.kit import fault_kit
from faults.worlds import Pair
from servers import rclone_server

CASES = [
    ("s3 list", "reset inside the answer"),
    ("s3 get range", "stall inside the answer"),
    ("s3 part", "server stops reading"),
    ("s3 complete", "answer lost"),
    ("gs chunk", "answer lost"),
    ("gs insert", "cut answer"),
]


def request_of(name):
    """By its name."""
    return next(request for request in REQUESTS if request.name == name)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fault"), CASES)
def test_command_recovers(name, fault, worlds, moto, tmp_path):
    """Exit code 0, both buckets equal, and the fault was met."""
    pair = worlds.pair(request_of(name), tmp_path)
    rules = pair.break_as(fault)
    words = ["--state", tmp_path / "state", "--stall-timeout", 1, "--part-size", "5MiB", "--max-delete", "100%"]
    for side, bucket in (("source", pair.source), ("destination", pair.destination)):
        words += [f"--{side}-endpoint-url", pair.kits[bucket.scheme].url]
    words += [] if pair.request.server_side else ["--no-server-side-copy"]

    done = Command(environment(tmp_path, moto.environment))(pair.source.address, pair.destination.address, *words)

    assert done.code == 0, done
    assert all(rule.fired for rule in rules)
    assert pair.is_equal()


def test_server_that_checks_refuses_flipped_bits(worlds, tmp_path):
    """`rclone serve s3` holds a body against its Content-MD5 and verifies the signature: what was damaged is sent again."""
    served = tmp_path / "served"
    served.mkdir()
    known = worlds.pair(request_of("s3 put"), tmp_path)
    with rclone_server(served) as server, fault_kit(server.url, "s3") as kit:
        destination = S3Bucket(server, kit)
        pair = Pair(known.request, known.source, destination, {**worlds.kits, "s3": kit}, tmp_path)
        rules = pair.break_as("bit flipped in the request")

        said = pair.run()

        assert said.startswith("done")
        assert [rule.fired for rule in rules] == [2]
        assert {key: data for key, (data, _) in destination.contents().items()} == {
            key: data for key, (data, _) in pair.source.contents().items()
        }
