"""Fair samples of a stream whose length nobody knows, in one pass. Pure: no input or output, no clock.

A sampler costs next to nothing for a row that it does not take: it draws where the next row lies that it takes, and skips
to it by arithmetic. What a sample proves is in `bounds.py`. A `Random` belongs to one sampler; two that see different parts
of one listing need differently seeded ones. The same seed and the same rows give the same sample.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from random import Random
from typing import Generic, TypeVar

T = TypeVar("T")

_NEVER = 1 << 63  # a row number that no listing reaches
_BELOW_ONE = 1 - 2**-53  # the float just below 1
_SCALE = 1 << 96  # a uniform number is n / _SCALE: exact to the byte far beyond 1e18 bytes, where a float is wrong by 128


class Reservoir(Generic[T]):
    """Draws rows uniformly, without replacement, in O(most * log(seen / most)) random numbers: Algorithm L.

    Think of a uniform number on every row: the sample is the `most` lowest, and `_highest` the highest among those. Only
    that one number is kept. The sample does not depend on how the rows are cut into pages.

    Source: K.-H. Li, "Reservoir-sampling algorithms of time complexity O(n(1 + log(N/n)))", 1994,
    https://doi.org/10.1145/198429.198435

    Args:
        most: rows to draw, at least 0.
        random: used by this sampler alone.

    Attributes:
        seen: rows offered.
        items: the sample, min(most, seen) rows, in no meaningful order.

    Raises:
        ValueError: `most` is negative.
    """

    def __init__(self, most: int, random: Random) -> None:
        if most < 0:
            raise ValueError(f"a sample of {most} rows")
        self.most = most
        self.seen = 0
        self.items: list[T] = []
        self._random = random
        self._next = _NEVER  # number of the next row to take, from 0; meaningful once the sample is full
        self._highest = 1.0

    def add(self, rows: Sequence[T]) -> None:
        """Offer the next rows; those not taken cost nothing."""
        start = self.seen
        self.seen += len(rows)
        if len(self.items) < self.most:
            self.items.extend(rows[: self.most - len(self.items)])
            if len(self.items) == self.most:
                self._start(self.most)
        while self._next < self.seen:
            self.items[self._random.randrange(self.most)] = rows[self._next - start]
            self._highest *= math.exp(math.log(_uniform(self._random)) / self.most)
            self._skip(self._next + 1)

    def merge(self, other: Reservoir[T]) -> None:
        """Become a uniform sample of both, which saw disjoint rows; `other` stays as it is, and more rows may be added.

        Raises:
            ValueError: the other draws another number of rows.
        """
        if other.most != self.most:
            raise ValueError(f"samples of {self.most} and of {other.most} rows cannot be merged")
        mine, theirs = list(self.items), list(other.items)
        self._random.shuffle(mine)
        self._random.shuffle(theirs)
        my_rest, their_rest = self.seen, other.seen
        self.items = []
        for _ in range(min(self.most, self.seen + other.seen)):
            if self._random.randrange(my_rest + their_rest) < my_rest:
                self.items.append(mine.pop())
                my_rest -= 1
            else:
                self.items.append(theirs.pop())
                their_rest -= 1
        self.seen += other.seen
        if 0 < self.most == len(self.items):
            self._start(self.seen)

    def _start(self, seen: int) -> None:
        """Draw the `most`-th lowest of `seen` uniform numbers: Beta(most, seen - most + 1), whichever rows have them."""
        lower = self._random.gammavariate(self.most, 1)
        upper = self._random.gammavariate(seen - self.most + 1, 1)
        self._highest = lower / (lower + upper)
        self._skip(seen)

    def _skip(self, start: int) -> None:
        """Draw the first row from `start` on whose number is below the highest."""
        log_miss = math.log1p(-min(self._highest, _BELOW_ONE))
        self._next = start + int(math.log(_uniform(self._random)) / log_miss)


class ByteReservoir(Generic[T]):
    """Draws uniformly random bytes, independently and with replacement, and answers the object of each.

    An object replaces what a slot holds with probability size / (all bytes up to its end). So from byte E on, a slot keeps
    its object to the end of byte N with probability E / N: the byte that replaces it is the first above E / U, with U
    uniform. An object of 0 bytes is never drawn. The draws do not depend on how the rows are cut into pages.

    Args:
        draws: number of slots, at least 0.
        random: used by this sampler alone.

    Attributes:
        seen: rows offered.
        total: bytes offered.
        items: the object of each draw, so objects may appear repeatedly; empty while `total` is 0.

    Raises:
        ValueError: `draws` is negative.
    """

    def __init__(self, draws: int, random: Random) -> None:
        if draws < 0:
            raise ValueError(f"a sample of {draws} bytes")
        self.draws = draws
        self.seen = 0
        self.total = 0
        self.items: list[T] = []
        self._random = random
        self._due = [(1, slot) for slot in range(draws)]  # a heap: the byte, from 1, that replaces what the slot holds

    def add(self, rows: Sequence[T], sizes: Sequence[int]) -> None:
        """Offer the next rows and their sizes in bytes, each at least 0; a page without a draw costs one sum.

        Raises:
            ValueError: there are not as many sizes as rows.
        """
        if len(rows) != len(sizes):
            raise ValueError(f"{len(rows)} rows with {len(sizes)} sizes")
        start = self.total
        self.seen += len(rows)
        self.total += sum(sizes)
        if not self._due or self._due[0][0] > self.total:
            return
        ends = list(accumulate(sizes, initial=start))
        while self._due[0][0] <= self.total:
            place = bisect_left(ends, self._due[0][0])
            self._take(rows[place - 1], ends[place])

    def merge(self, other: ByteReservoir[T]) -> None:
        """Become a sample of both, which saw disjoint rows; `other` stays as it is, and more rows may be added.

        Raises:
            ValueError: the other has another number of draws.
        """
        if other.draws != self.draws:
            raise ValueError(f"samples of {self.draws} and of {other.draws} bytes cannot be merged")
        self.seen += other.seen
        if other.total == 0:
            return
        self.total += other.total
        mine = self.items or other.items
        self.items = [
            b if self._random.randrange(self.total) < other.total else a for a, b in zip(mine, other.items, strict=True)
        ]
        self._due = [(self._replacement(self.total), slot) for slot in range(self.draws)]
        heapq.heapify(self._due)

    def _take(self, row: T, end: int) -> None:
        """Let the object whose last byte is `end` replace what is due up to there."""
        if not self.items:
            self.items = [row] * self.draws
        while self._due[0][0] <= end:
            slot = self._due[0][1]
            self.items[slot] = row
            heapq.heapreplace(self._due, (self._replacement(end), slot))

    def _replacement(self, end: int) -> int:
        """Draw the byte above `end` that replaces a slot next."""
        return end * _SCALE // (self._random.getrandbits(96) + 1) + 1


class Thinning(Generic[T]):
    """Keeps a little more than a share of the rows, so that at the end exactly that share can be drawn from what was kept.

    Every row has a uniform number u in (0, 1]. With m rows seen before its page, a row is kept if u is at most
    t(m) = min(1, share + 8 * sqrt(share / m) + 32 / m). At the end of n rows the ceil(share * n) rows with the lowest u are
    a uniform sample of exactly that size, provided that at least so many of all u lie below t(n): t only falls, so none of
    those was dropped. The same holds for what several of them kept that saw disjoint rows, n in all.

    That fails with probability below e**-32 = 1.3e-14. With a = share * n, fewer than ceil(a) means at most a; the expected
    number is M = n * t(n) = a + 8 * sqrt(a) + 32 (where t is 1, nothing was dropped). Chernoff: P(at most a) is at most
    exp(-(M - a - a * ln(M / a))). M / a = 1 + y + y**2 / 2 with y = 8 / sqrt(a), which is at most e**y, so the exponent is
    at least 8 * sqrt(a) + 32 - a * y = 32.

    About share * n + 16 * sqrt(share * n) + 32 * ln(n) rows are kept, and the first page whole. Which rows are kept depends
    on the seed, the rows and how they were cut into pages.

    Args:
        share: of the rows, above 0 and up to 1.
        random: used by this sampler alone.

    Attributes:
        seen: rows offered.

    Raises:
        ValueError: the share is out of bounds.
    """

    def __init__(self, share: float, random: Random) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"a share of {share} is not above 0 and up to 1")
        self.share = share
        self.seen = 0
        self._random = random

    def add(self, rows: Sequence[T]) -> list[tuple[float, T]]:
        """Offer the next rows; those kept are answered, each with its number u. Those not kept cost nothing."""
        before = max(self.seen, 1)
        self.seen += len(rows)
        limit = self.share + 8 * math.sqrt(self.share / before) + 32 / before
        if limit >= 1:
            return [(_uniform(self._random), row) for row in rows]
        log_miss = math.log1p(-limit)
        kept = []
        place = int(math.log(_uniform(self._random)) / log_miss)
        while place < len(rows):
            kept.append((limit * _uniform(self._random), rows[place]))
            place += 1 + int(math.log(_uniform(self._random)) / log_miss)
        return kept


class SizeHistogram:
    """Counts sizes by their number of bits: enough to bound how many bytes the largest objects have.

    Attributes:
        counts: objects by the number of bits in their size.
    """

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def add(self, sizes: Iterable[int]) -> None:
        """Count sizes in bytes, each at least 0."""
        self.counts.update(map(int.bit_length, sizes))

    def merge(self, other: SizeHistogram) -> None:
        """Count what the other counted, too."""
        self.counts.update(other.counts)

    def largest(self, count: int) -> int:
        """The bytes that the `count` largest objects have together, at most; it may say up to twice as many as they have.

        Each counts as the largest object with as many bits in its size.

        Raises:
            ValueError: `count` is negative.
        """
        if count < 0:
            raise ValueError(f"the {count} largest objects")
        total = 0
        for bits in sorted(self.counts, reverse=True):
            taken = min(count, self.counts[bits])
            total += taken * ((1 << bits) - 1)
            count -= taken
        return total


def _uniform(random: Random) -> float:
    """A uniform number in (0, 1]: its logarithm exists."""
    return 1 - random.random()
