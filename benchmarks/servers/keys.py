"""Keys that are computed from their index, in order: buckets of millions that nobody has to store.

flat   one level: what a listing by "directories" cannot split
deep   three levels of up to a hundred names each, a hundred keys in every folder
hot    one prefix with 98 in 100 keys, a hundred other prefixes beside it
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass

SCHEMES = ("flat", "deep", "hot")

_FLAT = re.compile(r"key-(\d{10})")
_DEEP = re.compile(r"area-(\d{3})/part-(\d{2})/day-(\d{2})/key-(\d{2})")
_COLD = 100  # prefixes beside the hot one; each has one key in 5,000


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a bucket.

    Attributes:
        scheme: one of `SCHEMES`.
        count: how many there are.
    """

    scheme: str
    count: int

    def key(self, index: int) -> str:
        """The key of an index from 0 to `count` - 1; keys ascend with it."""
        if self.scheme == "flat":
            return f"key-{index:010d}"
        if self.scheme == "deep":
            rest, key = divmod(index, 100)
            rest, day = divmod(rest, 100)
            area, part = divmod(rest, 100)
            return f"area-{area:03d}/part-{part:02d}/day-{day:02d}/key-{key:02d}"
        each = self.count // 5000
        cold = each * _COLD
        if index < cold:
            return f"cold-{index // each:03d}/key-{index % each:010d}"
        return f"hot/key-{index - cold:010d}"

    def find(self, key: str) -> int:
        """How many keys are below this text."""
        return bisect_left(range(self.count), key, key=self.key)

    def index(self, key: str) -> int | None:
        """The index of a key, if it is one."""
        if self.scheme == "flat":
            found = _FLAT.fullmatch(key)
            index = int(found[1]) if found else self.count
        elif self.scheme == "deep":
            found = _DEEP.fullmatch(key)
            index = self.count
            if found:
                area, part, day, last = map(int, found.groups())
                index = ((area * 100 + part) * 100 + day) * 100 + last
        else:
            index = self.find(key)
            if index < self.count and self.key(index) != key:
                return None
        return index if index < self.count else None
