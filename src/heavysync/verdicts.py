"""The nouns of checking: an object that was drawn, and what was found of it."""

from __future__ import annotations

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
