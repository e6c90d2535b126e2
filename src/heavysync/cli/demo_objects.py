"""What the demo's bucket holds: many plain small objects, and some of everything that goes wrong elsewhere."""

from __future__ import annotations

import gzip
import random
from dataclasses import dataclass, field

MIB = 1 << 20

PARTS = (5 * MIB, 5 * MIB, 5 * MIB + 1)
"""Bytes of the parts of the large object; 5 MiB is the least that S3 takes for all but the last.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
"""

LARGE = "backups/three parts.bin"

ODD_KEYS = (
    " ",
    " leading and trailing ",
    "a+b c",
    "a%2Fb",
    "a%20b",
    "a#b?c=d&e;f",
    "quotes \"and\" <angles> \\ 'too'",
    "a//b",
    "/leading",
    "a/../b",
    "a/./b",
    "../up",
    "*?[x]",
    "[bold]no markup[/bold]",
    "e\u0301 decomposed",
    "\u00e9 composed",
    "日本語/キー",
    "\u202eright-to-left",
    "party \U0001f600",
    "a\tb",
    "a\x7fb",
    "x" * 1024,
)
"""Names that S3 and Google both allow; no control character that XML lacks, as moto cannot list from there on."""

MARKERS = ("photos/", "photos/2024/", "empty//")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """An object to put into the source.

    Args:
        kind: what it is an example of.
        key: its name.
        data: its bytes.
        headers: what is sent with it, apart from user metadata.
        user: user metadata.
        parts: sizes of its parts; empty: put in one piece.
    """

    kind: str
    key: str
    data: bytes
    headers: dict[str, str] = field(default_factory=dict)
    user: dict[str, str] = field(default_factory=dict)
    parts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What happens to the source between two runs.

    Args:
        new: objects that were not there.
        changed: objects with new bytes.
        removed: keys that go.
    """

    new: list[Sample]
    changed: list[Sample]
    removed: list[str]


def samples(plain: int, seed: int = 1) -> list[Sample]:
    """`plain` small objects and all the special ones; the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - content, no secret
    found = [_plain(number, chance) for number in range(plain)]
    found += [Sample(kind="odd name", key=key, data=f"named {key!a}".encode()) for key in ODD_KEYS]
    found += [Sample(kind="directory marker", key=key, data=b"") for key in MARKERS]
    found += [Sample(kind="0 bytes", key=f"nothing/{number}", data=b"") for number in range(5)]
    found += [_gzipped(number) for number in range(10)]
    found += [_described(number) for number in range(10)]
    found.append(Sample(kind="in three parts", key=LARGE, data=chance.randbytes(sum(PARTS)), parts=PARTS))
    return found


def changes(plain: int, seed: int = 2) -> Changes:
    """Some new objects, some changed, some removed: a share of the plain ones, at least a few."""
    chance = random.Random(seed)  # noqa: S311 - content, no secret
    few = max(5, plain // 50)
    return Changes(
        new=[_plain(plain + number, chance) for number in range(2 * few)],
        changed=[_plain(number, chance) for number in range(few)],
        removed=[_key(number) for number in range(few, 2 * few)] + [MARKERS[1], ODD_KEYS[2]],
    )


def _key(number: int) -> str:
    return f"logs/{number % 12 + 1:02d}/{number:06d}.txt"


def _plain(number: int, chance: random.Random) -> Sample:
    return Sample(
        kind="plain",
        key=_key(number),
        data=chance.randbytes(chance.randint(1, 2000)),
        headers={"content-type": "text/plain"},
    )


def _gzipped(number: int) -> Sample:
    text = f"stored as gzip, number {number}\n".encode() * 50
    return Sample(
        kind="gzip",
        key=f"pages/{number}.html",
        data=gzip.compress(text, mtime=0),
        headers={"content-type": "text/html; charset=utf-8", "content-encoding": "gzip"},
    )


def _described(number: int) -> Sample:
    return Sample(
        kind="metadata",
        key=f"reports/{number}.csv",
        data=f"a;b\n{number};1\n".encode(),
        headers={
            "content-type": "text/csv",
            "cache-control": "private, max-age=60",
            "content-disposition": f'attachment; filename="report {number}.csv"',
            "content-language": "de",
        },
        user={"owner": f"team {number}", "reviewed-by": "nobody in particular"},
    )
