"""Bodies and their digests: made up from a number, or kept in the pieces they came in."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from random import Random

from awscrt import checksums as crt

from servers.http import Chunk

_REMEMBERED = 1 << 16  # bytes; md5 of larger pieces is remembered
_BLOCK = 1 << 20

_md5s: dict[tuple[int, int, int], bytes] = {}


def made_up(number: int, size: int) -> bytes:
    """The body of an object that a benchmark fills in: as long as asked, and unlike that of any other number."""
    if size <= _BLOCK:
        return (number.to_bytes(8, "big") * (size // 8 + 1))[:size]
    block = Random(number).randbytes(_BLOCK)
    whole = b"".join(at.to_bytes(8, "big") + block[8:] for at in range(size // _BLOCK + 1))
    return whole[:size]


def md5_of(pieces: Sequence[Chunk]) -> bytes:
    """The md5 of the pieces together.

    That of a large one is computed once for the same bytes: told by CRC32C, CRC64NVME and size, which cost a twentieth.
    """
    if len(pieces) == 1 and len(pieces[0]) < _REMEMBERED:
        return hashlib.md5(pieces[0], usedforsecurity=False).digest()
    size = crc = crc64 = 0
    for piece in pieces:
        size += len(piece)
        crc = crt.crc32c(piece, crc)
        crc64 = crt.crc64nvme(piece, crc64)
    known = _md5s.get((size, crc, crc64))
    if known is None:
        md5 = hashlib.md5(usedforsecurity=False)
        for piece in pieces:
            md5.update(piece)
        known = _md5s[size, crc, crc64] = md5.digest()
    return known


def crc32c_of(pieces: Sequence[Chunk]) -> str:
    """The CRC32C of the pieces together, as Google writes it."""
    crc = 0
    for piece in pieces:
        crc = crt.crc32c(piece, crc)
    return base64.b64encode(crc.to_bytes(4, "big")).decode()


def combined(sums: Iterable[tuple[str, int]]) -> str:
    """The CRC32C of a whole from those of its parts, and their sizes."""
    whole = 0
    for text, size in sums:
        whole = crt.combine_crc32c(whole, int.from_bytes(base64.b64decode(text), "big"), size)
    return base64.b64encode(whole.to_bytes(4, "big")).decode()


def crc64nvme_of(pieces: Sequence[Chunk]) -> str:
    """The CRC64NVME of the pieces together, as S3 writes it."""
    crc = 0
    for piece in pieces:
        crc = crt.crc64nvme(piece, crc)
    return base64.b64encode(crc.to_bytes(8, "big")).decode()


def span(pieces: Sequence[Chunk], start: int, end: int) -> list[memoryview]:
    """The bytes from `start` to before `end`, without copying."""
    found = []
    for piece in pieces:
        size = len(piece)
        if start < size and end > 0:
            found.append(memoryview(piece)[max(start, 0) : min(end, size)])
        start -= size
        end -= size
    return found
