"""What digests cost: CPU-seconds of a GiB, in chunks as they come off the wire.

python benchmarks/digests.py [--mib 1024] [--rounds 5]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

from heavysync.checksums import PartHasher, crc32c, crc64nvme, digest

PIECE = 1 << 18  # what is read at a time
DISTINCT = 256  # pieces, 64 MiB of them: more than caches hold


def seconds_of(step: Callable[[list[bytes]], object], chunks: list[bytes], times: int) -> float:
    """CPU-seconds of so many times the chunks."""
    began = time.process_time()
    for _ in range(times):
        step(chunks)
    return time.process_time() - began


def main() -> None:
    """Measure them in turn; medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    chunks = [os.urandom(PIECE) for _ in range(DISTINCT)]
    times = max(1, (asked.mib << 20) // (PIECE * DISTINCT))
    gib = times * PIECE * DISTINCT / (1 << 30)
    steps: dict[str, Callable[[list[bytes]], object]] = {
        "md5": lambda chunks: PartHasher(None).update(chunks),
        "crc32c": crc32c,
        "crc64nvme": crc64nvme,
        "md5 and crc32c": digest,
    }
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(asked.rounds):
        for name, step in steps.items():
            found[name].append(seconds_of(step, chunks, times) / gib)
    for name, seconds in found.items():
        print(f"{name:16}{statistics.median(seconds):7.3f} CPU-s a GiB  ({min(seconds):.3f}..{max(seconds):.3f})")


if __name__ == "__main__":
    main()
