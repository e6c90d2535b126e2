"""What earlier checks know of a population that is being listed: which objects they saw, and how likely they saw the others.

An object that was checked and is unchanged is known as well as its check is young. One that was not is known by the chance
that it would have been drawn, had it been bad: each earlier check whose listing it was on had that chance to notice it.
The model and its limits: docs/design/0009-how-checks-add-up.md
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from heapq import heappush, heapreplace
from typing import Literal

from heavysync.bounds import weight
from heavysync.objects import ObjectInfo
from heavysync.state.checks import Checks
from heavysync.verdicts import Known, Past

SKEW_S = 300
"""Seconds by which the provider's clock and ours may differ: an object modified so shortly before a listing may be newer."""

CERTAIN = 1e9
"""Evidence that leaves no doubt; a number, so that it can be stored."""

MOST_BAD = 10_000
"""Objects found bad earlier that one check looks at again."""

DAY_S = 86_400
_BAD = frozenset({"corrupt", "missing", "unverifiable"})


def evidence_of(chance: float) -> float:
    """Minus the logarithm of the probability that something with this chance to be noticed was not."""
    return CERTAIN if chance >= 1 else min(CERTAIN, -math.log1p(-chance))


class Recollection:
    """Sorts the objects of a listing by what is known of them.

    Args:
        checks: the inspections of the pair.
        before: only those with a lower number are earlier ones.
        past: they, by the time of their listing.
        now: UTC seconds.
        half_life: days.
        by: what the groups count, objects or bytes.
        oldest: keep so many of the objects that were checked longest ago.
    """

    def __init__(
        self,
        checks: Checks,
        past: Sequence[Past],
        *,
        before: int,
        now: float,
        half_life: float,
        by: Literal["objects", "bytes"],
        oldest: int = 0,
    ) -> None:
        self._checks = checks
        self._before = before
        self._now = now
        self._half_life_s = half_life * DAY_S
        self._by = by
        self._most_old = oldest
        self._times = [_text(one.listed_at - SKEW_S) for one in past]
        self._seen = [self._chance(one) for one in past]
        self._fresh = [0] * (len(past) + 1)  # by how many of the listings each object is newer than
        self._known: Counter[int] = Counter()  # by the day of their last check
        self._oldest: list[tuple[int, str, ObjectInfo]] = []
        self.fresh_objects = 0
        self.bad: list[ObjectInfo] = []
        self.more_bad = 0

    def _chance(self, past: Past) -> float:
        """Evidence that one inspection gives of each object, or byte, that it did not draw."""
        chance = weight(self._now - past.started_at, self._half_life_s) * past.hits / max(past.pool, 1)
        return evidence_of(chance) if self._by == "objects" else min(CERTAIN, chance)

    async def sort(self, rows: Sequence[ObjectInfo]) -> list[ObjectInfo]:
        """Take the rows of a page; answer those never checked in their present content."""
        if not rows:
            return []
        known = await self._checks.known(rows[0].key, rows[-1].key, before=self._before)
        current = {one.key: one for one in known if one.verdict != "vanished"}
        fresh = []
        for info in rows:
            one = current.get(info.key)
            if one is None or one.source_token != info.token:
                fresh.append(info)
            else:
                self._take_known(info, one)
        for info in fresh:
            self._fresh[bisect_right(self._times, info.modified_at)] += self._size(info)
        self.fresh_objects += len(fresh)
        return fresh

    def _take_known(self, info: ObjectInfo, one: Known) -> None:
        if one.verdict in _BAD:
            if len(self.bad) < MOST_BAD:
                self.bad.append(info)
            else:
                self.more_bad += 1
            return
        self._known[one.checked_at // DAY_S] += self._size(info)
        if self._most_old:
            entry = (-one.checked_at, info.key, info)
            if len(self._oldest) < self._most_old:
                heappush(self._oldest, entry)
            elif entry > self._oldest[0]:
                heapreplace(self._oldest, entry)

    def _size(self, info: ObjectInfo) -> int:
        return 1 if self._by == "objects" else info.size

    def oldest(self, count: int) -> list[ObjectInfo]:
        """Up to `count` of the objects that were checked longest ago."""
        return [info for _, _, info in sorted(self._oldest, key=lambda entry: -entry[0])[:count]]

    def groups(self) -> list[tuple[int, float, bool]]:
        """`(size, evidence, is_fresh)` of all parts of the population; those known to be bad are left out."""
        found = []
        evidence = 0.0
        # an object newer than `index` listings was on all that came after: the newest on none
        for index in range(len(self._fresh) - 1, -1, -1):
            if self._fresh[index]:
                found.append((self._fresh[index], min(evidence, CERTAIN), True))
            evidence += self._seen[index - 1] if index else 0.0
        for day, size in self._known.items():
            found.append((size, evidence_of(weight(self._now - day * DAY_S, self._half_life_s)), False))
        return found


def _text(seconds: float) -> str:
    """UTC seconds as both providers begin a time."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
