"""The nouns of checking: an object that was drawn, what was found of it, and what is known of whole checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Verdict = Literal["ok", "corrupt", "missing", "stale", "vanished", "unverifiable"]
"""What a check may find of an object.

ok: the destination holds the source's bytes. corrupt: it holds other bytes than were copied. missing: it has no such object.
stale: the source changed, or is new, since the last copy. vanished: the source object is gone meanwhile. unverifiable: it could
not be found out, for the reason given.
"""

VERDICTS: tuple[Verdict, ...] = ("ok", "corrupt", "missing", "stale", "vanished", "unverifiable")

SYMBOLS: dict[Verdict, str] = {
    "ok": "=",
    "corrupt": "*",
    "missing": "+",
    "stale": "*",
    "vanished": "-",
    "unverifiable": "!",
}
"""As `rclone check --combined` writes them. Source: https://rclone.org/commands/rclone_check/"""


class Draw(NamedTuple):
    """An object that was drawn.

    Attributes:
        key: relative to the prefixes.
        position: the order of checking; random.
        hits: random draws that fell on it; 0: it was taken in rotation.
        size: bytes, as listed.
        source_token: `ObjectInfo.token`, as listed.
    """

    key: str
    position: float
    hits: int
    size: int
    source_token: str


class Finding(NamedTuple):
    """What was found of one object.

    Attributes:
        key: which.
        verdict: see `Verdict`.
        method: the digest or way that decided, such as "md5" or "source read"; empty where none did.
        reason: in words; empty for ok.
        size: bytes, at the source.
        source_token: of the source object that was compared.
        destination_token: of the copy; empty where there is none.
        bytes_read: from both sides, all attempts.
        metadata: how the metadata differ, one text each; empty: they do not, or were not compared.
    """

    key: str
    verdict: Verdict
    method: str = ""
    reason: str = ""
    size: int = 0
    source_token: str = ""
    destination_token: str = ""
    bytes_read: int = 0
    metadata: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """A check that is under way.

    Args:
        number: from 1, growing.
        seed: of its draw.
        resumed: its sample stands already, and it goes on.
        started_at: UTC seconds.
    """

    number: int
    seed: str
    resumed: bool
    started_at: int


class Drawn(NamedTuple):
    """What a sample was drawn from.

    Attributes:
        listed_at: UTC seconds when the listing began.
        all_objects: listed, before the filters of the population.
        objects: of the population.
        bytes: of the population.
        pool: what the random draws were made from: objects, or bytes where bytes were drawn.
        sizes: how many objects have sizes of so many bits.
        groups: `(size, evidence, is_fresh)` of parts of the population, as `bounds.Group`, by what earlier inspections saw
            of them; fresh are objects never checked in their present content.
        known_bad: objects that were found bad earlier, are unchanged, and are not in the sample.
    """

    listed_at: int
    all_objects: int
    objects: int
    bytes: int
    pool: int
    sizes: dict[int, int]
    groups: list[tuple[int, float, bool]]
    known_bad: int


class Tally(NamedTuple):
    """What was found with one verdict.

    Attributes:
        objects: how many.
        hits: random draws that fell on them.
        size: bytes they have at the source.
        bytes_read: from both sides.
        metadata: objects whose metadata differ.
    """

    objects: int = 0
    hits: int = 0
    size: int = 0
    bytes_read: int = 0
    metadata: int = 0


class Sample(NamedTuple):
    """How large a sample is.

    Attributes:
        objects: in it.
        hits: random draws that fell on them.
        pending: objects without a verdict.
        pending_bytes: that these have.
    """

    objects: int
    hits: int
    pending: int
    pending_bytes: int


class Past(NamedTuple):
    """One earlier inspection as evidence.

    Attributes:
        started_at: UTC seconds.
        speaks_of: UTC seconds; objects modified later were not listed then, or not copied.
        size: of the population then, in objects or bytes.
        pool: what the draws were made from, in the same.
        hits: random draws that came to a verdict on an object that still existed.
    """

    started_at: int
    speaks_of: int
    size: int
    pool: int
    hits: int


class Known(NamedTuple):
    """The last verdict on a key.

    Attributes:
        key: which.
        verdict: what was found.
        source_token: of the content it was found for.
        checked_at: UTC seconds.
    """

    key: str
    verdict: Verdict
    source_token: str
    checked_at: int


class Point(NamedTuple):
    """How sure an inspection had made us.

    Attributes:
        started_at: UTC seconds.
        share: at most so much is bad, by this inspection alone; None: it was not finished.
        history_share: by all up to then; None: they were not combined.
    """

    started_at: int
    share: float | None
    history_share: float | None
