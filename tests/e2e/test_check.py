"""heavy-check over real servers: exactly the damaged copies are found, and what a sample proves is true."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import NamedTuple

import pytest
from buckets import Bucket, S3Bucket, ends
from commands import Command, environment
from damage import NearBucket, between, damages, near_server, rotten, small_objects, verdicts
from gateway import gateway
from servers import rclone_server

from heavysync.assurance import bound_alone, weigh
from heavysync.drawing import Drawing
from heavysync.objects import ObjectInfo
from heavysync.options import CheckOptions, Samples
from heavysync.state.checks import Draw
from heavysync.verdicts import Drawn, Inspection, Tally

OBJECTS = 10_000
BAD = 20
RUNS = 1_000


class Damaged(NamedTuple):
    """Two buckets that were synchronised before copies were damaged.

    Attributes:
        check: the command.
        bad: keys of the damaged copies.
    """

    check: Command
    bad: set[str]


def damage_half_silently(bucket: NearBucket, bad: dict[str, bytes]) -> None:
    """Every second object rots; the others are written over, digests and all."""
    for number, (key, data) in enumerate(bad.items()):
        if number % 2:
            bucket.rot(key, data)
        else:
            bucket.put(key, data, **({"content_encoding": "gzip"} if data[:2] == b"\x1f\x8b" else {}))


@pytest.fixture(scope="module")
def damaged(tmp_path_factory) -> Iterator[Damaged]:
    """10,000 objects on an S3 server, their copies on Google's, 20 of them damaged in five ways."""
    contents = small_objects(OBJECTS)
    bad = damages(contents)
    home = tmp_path_factory.mktemp("home")
    served = tmp_path_factory.mktemp("served")
    for key, data in contents.items():
        path = served / "bucket-s3" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with rclone_server(served) as server, gateway(server.url) as door, near_server() as near:
        source, destination = S3Bucket(server, door, "bucket-s3", create=False), NearBucket(near)
        source.url = server.url  # nothing to count or to break
        words = ("--state", str(home / "state-dir"), *ends(source, destination))
        env = environment(home, server.environment)
        assert Command(env, words)().code == 0
        damage_half_silently(destination, bad)
        yield Damaged(Command(env, words, "heavy-check"), set(bad))


@pytest.mark.slow
def test_exactly_the_damaged_of_10000_are_found(damaged):
    """All are read: the 20 whose damage no size shows are named, all others are well, and the exit code is 5."""
    told = damaged.check("--samples", "100%", "--json")

    found = verdicts(told)
    assert len(damaged.bad) == BAD
    assert {key for key, verdict in found.items() if verdict != "ok"} == damaged.bad
    assert {found[key] for key in damaged.bad} == {"corrupt"}
    assert (told.code, len(found)) == (5, OBJECTS)
    assert told.summary["bound"]["size"] == BAD  # all were seen, so it is known


@pytest.mark.slow
def test_bounds_of_samples_are_true_and_seeds_replay(damaged):
    """Samples of 300 say a bound that the 20 bad ones do not exceed, and the same seed draws the same objects again."""
    samples = {}
    for seed in ("a", "b", "c", "d", "a"):
        told = damaged.check("--samples", "300", "--seed", seed, "--json")
        found = verdicts(told)
        bad = {key for key, verdict in found.items() if verdict == "corrupt"}

        assert bad == damaged.bad & found.keys()
        assert (told.code, len(found)) == (5 if bad else 0, 300), told
        assert told.summary["bound"]["size"] >= BAD
        assert told.summary["bound"]["of"] == OBJECTS
        assert samples.setdefault(seed, found) == found
    assert len({frozenset(sample) for sample in samples.values()}) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kinds", "count"), [(("s3", "gs"), 250), (("gs", "s3"), 250), (("s3", "s3"), 250), (("gs", "gs"), 2_000)], ids=str
)
def test_exactly_the_damaged_are_found_in_every_pairing(kinds, count, moto, moto_door, new_bucket, sync_of, check_of):
    """Silent or written over, between any two providers; then without any memory of the copy."""
    contents = small_objects(count)
    bad = damages(contents)
    with near_server() as near:
        source, destination = (NearBucket(near) if kind == "gs" else new_bucket("s3") for kind in kinds)
        fill(source, contents)
        assert sync_of(source, destination)().code == 0
        rot = {}
        if destination.scheme == "gs":
            damage_half_silently(destination, bad)
        else:
            rot = dict(list(bad.items())[1::2])
            for key in bad.keys() - rot.keys():
                destination.put(key, bad[key])
        if source.scheme == destination.scheme == "gs":
            source.settings(page_limit=40)  # so many pages are listed in pieces
        with between(moto_door, rotten(rot, destination.name)):
            told = check_of(source, destination)("--samples", "100%", "--json")
            again = check_of(source, destination)("--samples", "100%", "--json", "--state", source.name)

    for one in (told, again):
        assert {key for key, verdict in verdicts(one).items() if verdict != "ok"} == set(bad)
        assert set(verdicts(one).values()) == {"ok", "corrupt"}
        assert (one.code, len(verdicts(one))) == (5, count)


def fill(bucket: Bucket, contents: dict[str, bytes]) -> None:
    """Write many objects."""
    if isinstance(bucket, NearBucket):
        bucket.fill(contents)
        return
    for key, data in contents.items():
        bucket.put(key, data, **({"content_encoding": "gzip"} if data[:2] == b"\x1f\x8b" else {}))


class Kept:
    """Takes a drawn sample in place of the database."""

    def __init__(self) -> None:
        self.draws: list[Draw] = []

    async def add(self, number: int, draws: Sequence[Draw]) -> None:
        """Keep the sample."""
        self.draws += draws

    async def settle_draw(self, number: int, drawn: Drawn) -> None:
        """It stands."""


def bound_of(pages: list[list[ObjectInfo]], is_bad: Callable[[str], bool], seed: str, options: CheckOptions) -> int:
    """How many objects, or bytes, a check of these pages says are bad at most."""

    async def listed():
        for page in pages:
            yield page

    kept = Kept()
    inspection = Inspection(number=1, seed=seed, resumed=False, started_at=0)
    drawing = Drawing(inspection, kept, options, recollection=None, skip_root=True, listener=lambda _: None)
    drawn = asyncio.run(drawing.from_pages(listed(), 0))
    tallies: dict[str, Tally] = {}
    for verdict in ("ok", "corrupt"):
        mine = [draw for draw in kept.draws if is_bad(draw.key) == (verdict == "corrupt")]
        tallies[verdict] = Tally(len(mine), sum(draw.hits for draw in mine), sum(draw.size for draw in mine))
    bound = bound_alone(drawn, weigh(tallies, strict=False), by=options.by, confidence=options.confidence)
    assert bound is not None
    return bound.size


@pytest.mark.slow
@pytest.mark.parametrize("by", ["objects", "bytes"])
@pytest.mark.parametrize("share", [0.002, 0.01, 0.03])
def test_bounds_hold_in_95_of_100_checks(share, by):
    """1,000 checks of 300 out of 10,000 objects, of which 0.2 % are bad, or as many as a bound just misses at times."""
    sizes = Random(3)
    infos = [
        ObjectInfo(f"key-{number:06d}", int(sizes.expovariate(1e-4)), "e", modified_at="2026-01-01T00:00:00Z")
        for number in range(OBJECTS)
    ]
    pages = [infos[start : start + 1000] for start in range(0, OBJECTS, 1000)]

    def weight(info: ObjectInfo) -> int:
        return info.size if by == "bytes" else 1

    bad: dict[str, int] = {}
    total = sum(map(weight, infos))
    for info in Random(4).sample(infos, OBJECTS):
        if sum(bad.values()) < share * total:
            bad[info.key] = weight(info)
    truth = sum(bad.values())
    options = CheckOptions(samples=Samples(count=300), by=by)

    bounds = [bound_of(pages, bad.__contains__, f"seed {number}", options) for number in range(RUNS)]

    true = sum(bound >= truth for bound in bounds)
    print(f"{true} of {RUNS} bounds by {by} hold: they say {min(bounds)} to {max(bounds)} at most, and {truth} are bad")
    noise = 2.5 * (0.95 * 0.05 / RUNS) ** 0.5
    assert true >= (0.95 if share < 0.01 else 0.95 - noise) * RUNS
    assert share < 0.01 or true < RUNS  # it is no empty promise
