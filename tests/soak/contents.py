"""What the source of a soak holds: keys, sizes and bytes follow from a seed, so that nobody has to keep or send them."""

from __future__ import annotations

import random

MIB = 1 << 20
PART = 5 * MIB
BUCKET = "soak"
LARGE = "large"

_LARGE_EVERY = 4000
_MEDIUM_EVERY = 5


def key_of(number: int) -> str:
    """Keys of some directories that tell the size, some of them with characters that have to be quoted."""
    word = LARGE if is_large(number) else "medium" if _is_medium(number) else "small"
    return f"{number % 13:x}/{'ü +%' if number % 7 == 0 else 'key'}-{word}-{number:06d}"


def _is_medium(number: int) -> bool:
    return number % _MEDIUM_EVERY == 1


def is_large(number: int) -> bool:
    """Whether the object goes in parts."""
    return number % _LARGE_EVERY == _LARGE_EVERY // 2


def has_parts(number: int) -> bool:
    """Whether it came in parts, so that its ETag is no md5."""
    return is_large(number) and number % (2 * _LARGE_EVERY) > _LARGE_EVERY


def data_of(seed: int, number: int, version: int = 0) -> bytes:
    """The bytes of an object; versions of it have other sizes, too."""
    chance = random.Random(f"{seed} {number} {version}")
    if is_large(number):
        return chance.randbytes(chance.randrange(PART + 1, 2 * PART + MIB))
    least, most = (2_000, 300_000) if _is_medium(number) else (0, 2_000)
    return chance.randbytes(chance.randrange(least, most))
