"""Every fault meets every kind of request that heavysync makes, and both buckets end equal."""

from __future__ import annotations

import os
import random
import ssl

import pytest
from faults.cases import EXPECTED, FAULTS, RETRY_AFTER_S, REQUESTS, impossible

from heavysync import copying, pacing
from heavysync.stores import gcs, gcs_auth, s3, s3_wire
from heavysync.stores.http import Door

STALL_S = 0.5
_CONTEXT = ssl.create_default_context()


_SAMPLE = 24
"""Cases that aiohttp meets, besides the lean client that meets all; drawn anew by each run."""


def pytest_generate_tests(metafunc):
    """Every case over the lean client, and a sample of them over aiohttp, or all."""
    cases = [(fault, request) for request in REQUESTS for fault in FAULTS]
    every = [(fault, request, "lean") for fault, request in cases]
    possible = [case for case in cases if not impossible(*case)]
    if not metafunc.config.getoption("all_doors"):
        seed = os.environ.get("PYTEST_XDIST_TESTRUNUID", "alone")  # the same in all workers
        possible = random.Random(seed).sample(possible, _SAMPLE)
    every += [(fault, request, "aiohttp") for fault, request in possible]
    ids = [f"{request.name}-{fault}" + ("-aiohttp" if client == "aiohttp" else "") for fault, request, client in every]
    metafunc.parametrize(("fault", "asked", "client"), every, ids=ids)


@pytest.fixture(autouse=True)
def _short_waits(client, monkeypatch):
    """What takes ten times the stall limit in earnest (S3 at work on a copy), and ten seconds (a token), takes half a second.

    Once throttled, so few requests as there are here would go out at one a second. The certificates of the system, which
    nobody needs here, are read once and not twice a run.
    """
    monkeypatch.setattr(ssl, "create_default_context", lambda **_: _CONTEXT)
    monkeypatch.setattr(pacing, "FLOOR", 50.0, raising=False)
    monkeypatch.setattr(s3_wire, "_SLOW", STALL_S)
    for module in (s3, gcs):
        monkeypatch.setattr(module, "Door", lambda **how: Door(**{**how, "stall_s": STALL_S, "client": client}))
    monkeypatch.setattr(gcs_auth, "Door", lambda **how: Door(**{**how, "client": client}))
    monkeypatch.setattr(gcs_auth, "REFRESH_S", STALL_S)
    monkeypatch.setattr(copying, "GATHER_S", 0.0)


def test_buckets_end_equal(fault, asked, client, worlds, results, tmp_path):
    """The fault is met, nobody follows a redirection, and the run recovers; where that cannot be, the next run does."""
    if reason := impossible(fault, asked):
        results.add(fault, asked, "-", reason)
        pytest.skip(f"cannot be: {reason}")
    pair = worlds.pair(asked, tmp_path)
    if asked.resumed:
        pair.interrupt()
    rules = pair.break_as(fault)

    said = pair.run()

    fired = [rule.fired for rule in rules]
    refused, followed = pair.kit.refused, pair.kit.requests("trap")
    outcome = {"done": "recovered", "failed": "recorded", "fatal": "fatal"}.get(said.partition(":")[0], said)
    equal = pair.is_equal()
    if outcome == "recovered" and not equal:
        outcome = "undetected"
    elif outcome in {"recorded", "fatal"}:
        worlds.clear()
        again = pair.run()
        equal = again.startswith("done") and pair.is_equal()
        outcome = outcome if equal else f"{outcome}, and not mended by the next run"
    if followed:
        outcome += ", redirection followed"
    expected, why = EXPECTED.get((fault, asked.name), ("recovered", ""))
    if client == "lean":  # the table shows what users meet
        results.add(fault, asked, outcome, why)
    assert all(fired), (rules, said)
    assert refused or FAULTS[fault]["fault"] != "refuse", "no connection was refused"
    assert expected == outcome, said
    if "Retry-After" in fault and asked.operation not in {"abort", "cancel"}:  # these nobody waits for
        assert max(pair.waits) >= RETRY_AFTER_S
