"""The soak: thousands of objects, faults on both sides, kills and changes; in the end everything is as it should be.

Settings of the environment: SOAK_MINUTES (begin further rounds for so long, each with the next seed), SOAK_KINDS (s3-gs, gs-s3),
SOAK_OBJECTS, SOAK_KILLS, SOAK_SEED, SOAK_PROCESSES (more than one: before most kills of a run one of its processes is killed).
Each round prints a line of figures, the last one is left in .pytest_cache/d/faults/soak.json:

    content_bytes  of all content versions that were read whole at least once, as the kit before the source saw it
    read_twice     bytes of content that came from the source, beyond content_bytes, as a share of these
    written_twice  the same for bytes that went to the destination; moved_twice is the mean of both

Bytes are counted at the kits, whatever became of them: faults and kills alike make them go twice. Heads are taken off by what
they are in a copy without faults.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from soak.rounds import seconds_of, weather

OBJECTS = int(os.environ.get("SOAK_OBJECTS", "24000"))
KILLS = int(os.environ.get("SOAK_KILLS", "20"))
KINDS = tuple(os.environ.get("SOAK_KINDS", "s3-gs").split("-"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
MOST_MOVED_TWICE = 0.05
ENOUGH = 20_000
"""Objects from which on the share of bytes moved twice is no matter of one large object."""


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_nothing_is_lost_in_bad_weather(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Killed at random moments, with 5 % of the requests failing and a source that changes, it ends equal; SOAK_MINUTES goes on."""
    until = time.monotonic() + seconds_of("SOAK_MINUTES")
    results = Path(request.config.cache.mkdir("faults")) / "soak.json"
    seed = SEED
    while True:
        began = time.monotonic()
        (directory := tmp_path / f"round-{seed}").mkdir()
        with weather(directory, KINDS, seed, OBJECTS) as soak:
            soak.suffer(KILLS, requests=2 * OBJECTS)
            soak.finish()
            figures = soak.figures()
            found = soak.differences()
        figures["seconds"] = round(time.monotonic() - began)
        print(json.dumps(figures))
        results.write_text(json.dumps(figures) + "\n", encoding="utf-8")
        assert not found, dict(list(found.items())[:20])
        assert figures["moved_twice"] < MOST_MOVED_TWICE or OBJECTS < ENOUGH, figures
        seed += 1
        if time.monotonic() >= until:
            return
