"""What earlier checks know of a population that is being listed: which objects they saw, and how likely they saw the others.

An object that was checked and is unchanged is known as well as its check is young. One that was not is known by the chance
that it would have been drawn, had it been bad: each earlier check whose listing it was on had that chance to notice it.
The model and its limits: docs/design/0009-how-checks-add-up.md
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from heapq import heappush, heapreplace
from typing import Literal

from heavysync.bounds import weight
from heavysync.objects import ObjectInfo
from heavysync.verdicts import Known, Past

SKEW_S = 300
"""Seconds by which the provider's clock and ours may differ: an object modified so shortly before a listing may be newer."""

CERTAIN = 1e9
"""Evidence that leaves no doubt; a number, so that it can be stored."""

MOST_BAD = 10_000
"""Objects found bad earlier that one check looks at again."""

DAY_S = 86_400

HALF_LIVES = 7
"""After so many an inspection is worth less than a hundredth: it counts neither for what it noticed nor for the rest."""

_BAD = frozenset({"corrupt", "missing", "unverifiable"})


def evidence_of(chance: float) -> float:
    """Minus the logarithm of the probability that something with this chance to be noticed was not."""
    return CERTAIN if chance >= 1 else min(CERTAIN, -math.log1p(-chance))


class Recollection:
    """Sorts the objects of a listing by what is known of them.

    Args:
        known: answers the last verdicts on the keys from one to another.
        past: the inspections that count, by what they speak of.
        now: UTC seconds.
        half_life: days.
        by: what the groups count, objects or bytes.
        oldest: keep so many of the objects that were checked longest ago.
    """

    def __init__(
        self,
        known: Callable[[str, str], Awaitable[list[Known]]],
        past: Sequence[Past],
        *,
        now: float,
        half_life: float,
        by: Literal["objects", "bytes"],
        oldest: int = 0,
    ) -> None:
        self._ask = known
        self._now = now
        self._half_life_s = half_life * DAY_S
        self._by = by
        self._most_old = oldest
        self._past = past
        self._times = [_text(one.speaks_of - SKEW_S) for one in past]
        self._all = [0] * (len(past) + 1)  # sizes, by how many of the inspections do not speak of an object
        self._fresh = [0] * (len(past) + 1)
        self._known: Counter[tuple[int, int]] = Counter()  # by the day of the last check and, for bytes, the bits of the size
        self._oldest: list[tuple[int, str, ObjectInfo]] = []
        self.fresh_objects = 0
        self.bad: list[ObjectInfo] = []
        self.more_bad = 0

    async def sort(self, rows: Sequence[ObjectInfo]) -> list[ObjectInfo]:
        """Take the rows of a page; answer those of which no good copy is known."""
        if not rows:
            return []
        known = {one.key: one for one in await self._ask(rows[0].key, rows[-1].key)}
        fresh = []
        for info in rows:
            size = 1 if self._by == "objects" else info.size
            index = bisect_right(self._times, info.modified_at)
            self._all[index] += size
            one = known.get(info.key)
            if one is None or one.source_token != info.token or one.verdict == "vanished":
                self._fresh[index] += size
                fresh.append(info)
            elif one.verdict == "stale":  # whatever copy there is now, nobody has seen it
                self._fresh[-1] += size
                fresh.append(info)
            else:
                self._take_known(info, one, size)
        self.fresh_objects += len(fresh)
        return fresh

    def _take_known(self, info: ObjectInfo, one: Known, size: int) -> None:
        if one.verdict in _BAD:
            if len(self.bad) < MOST_BAD:
                self.bad.append(info)
            else:
                self.more_bad += 1
            return
        self._known[one.checked_at // DAY_S, info.size.bit_length() if self._by == "bytes" else 1] += size
        if self._most_old:
            entry = (-one.checked_at, info.key, info)
            if len(self._oldest) < self._most_old:
                heappush(self._oldest, entry)
            elif entry > self._oldest[0]:
                heapreplace(self._oldest, entry)

    def oldest(self, count: int) -> list[ObjectInfo]:
        """Up to `count` of the objects that were checked longest ago."""
        return [info for _, _, info in sorted(self._oldest, key=lambda entry: -entry[0])[:count]]

    def groups(self) -> list[tuple[int, float, bool]]:
        """`(size, evidence, is_fresh)` of all parts of the population; those known to be bad are left out."""
        found = []
        for (day, bits), size in self._known.items():
            evidence = evidence_of(weight(self._now - day * DAY_S, self._half_life_s))
            largest = (1 << bits) - 1 if self._by == "bytes" else 1  # the evidence is an object's: a byte has its share
            found.append((size, evidence / max(largest, 1), False))
        return found + self._fresh_groups()

    def _fresh_groups(self) -> list[tuple[int, float, bool]]:
        """Fresh objects, by the inspections that could have noticed them: an object newer than one was on all that came after.

        Objects that are older than an inspection by their date and yet came later (replicas keep their dates) show as more
        old ones than there were then: so many, of those with the most evidence, count as never seen.
        """
        groups = []
        evidence = 0.0
        for index in range(len(self._fresh) - 1, -1, -1):
            groups.append((self._fresh[index], min(evidence, CERTAIN)))
            evidence += self._chance(self._past[index - 1]) if index else 0.0
        late = max((sum(self._all[: index + 1]) - one.size for index, one in enumerate(self._past)), default=0)
        found = []
        unseen = 0
        for size, amount in reversed(groups):
            moved = min(size, max(late - unseen, 0))
            unseen += moved
            found.append((size - moved, amount, True))
        return [(size, amount, True) for size, amount, _ in [*found, (unseen, 0.0, True)] if size]

    def _chance(self, past: Past) -> float:
        """Evidence that one inspection gives of each object, or byte, that it could have drawn and did not find bad."""
        chance = weight(self._now - past.started_at, self._half_life_s) * past.hits / max(past.pool, 1)
        return evidence_of(chance) if self._by == "objects" else min(CERTAIN, chance)


def _text(seconds: float) -> str:
    """UTC seconds as both providers begin a time."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
