"""Which source objects a check speaks of. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from heavysync.errors import UsageError
from heavysync.keyspace import HIGHEST, KeyRange, before, room_below
from heavysync.objects import ObjectInfo

_SECOND = len("2026-01-01T00:00:00")


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """The objects of the source that pass all of these filters; without any, all of them.

    Directory markers and empty objects are objects.

    Args:
        prefix: keys that begin with this text (not only whole directories).
        since: RFC 3339 UTC; objects modified then or later.
        min_size: bytes at least.
        max_size: bytes at most.
        include: globs, of which one has to match the whole key; `*` and `?` also stand for `/`.
        exclude: globs, of which none may match.
    """

    prefix: str = ""
    since: str = ""
    min_size: int = 0
    max_size: int | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    _filters: tuple[Callable[[ObjectInfo], bool], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.min_size < 0:
            raise UsageError(f"--min-size {self.min_size}: it must be at least 0")
        if self.max_size is not None and self.max_size < self.min_size:
            raise UsageError(
                f"--max-size {self.max_size} is less than --min-size {self.min_size}: no object could be that large"
            )
        object.__setattr__(self, "_filters", tuple(self._make_filters()))

    def _make_filters(self) -> list[Callable[[ObjectInfo], bool]]:
        filters: list[Callable[[ObjectInfo], bool]] = []
        prefix, since, least, most = self.prefix, self.since, self.min_size, self.max_size
        if prefix:
            filters.append(lambda info: info.key.startswith(prefix))
        if since:
            # to the second: the providers write fractions differently
            filters.append(lambda info: info.modified_at[:_SECOND] >= since[:_SECOND])
        if least:
            filters.append(lambda info: info.size >= least)
        if most is not None:
            filters.append(lambda info: info.size <= most)
        if self.include:
            wanted = _any_of(self.include)
            filters.append(lambda info: wanted(info.key) is not None)
        if self.exclude:
            unwanted = _any_of(self.exclude)
            filters.append(lambda info: unwanted(info.key) is None)
        return filters

    def span(self, below: str = "") -> KeyRange:
        """The keys that have to be listed in a store with the prefix `below`; some more than the prefix has may lie in it."""
        if not self.prefix:
            return KeyRange(None, None)
        return KeyRange(before(self.prefix, room_below(below)), _end_of(self.prefix))

    def select(self, objects: Sequence[ObjectInfo]) -> Sequence[ObjectInfo]:
        """Those of a page that belong to it, in order."""
        if not self._filters:
            return objects
        return [info for info in objects if all(test(info) for test in self._filters)]

    def describe(self) -> dict[str, Any]:
        """The filters as plain values, without those that are not set."""
        names = ("prefix", "since", "min_size", "max_size", "include", "exclude")
        fields = {name: getattr(self, name) for name in names}
        return {name: value for name, value in fields.items() if value or (name == "max_size" and value == 0)}

    def __str__(self) -> str:
        words = []
        if self.prefix:
            words.append(f"with keys that begin with {self.prefix!r}")
        if self.since:
            words.append(f"modified since {self.since}")
        if self.min_size:
            words.append(f"of at least {self.min_size} bytes")
        if self.max_size is not None:
            words.append(f"of at most {self.max_size} bytes")
        words += [f"matching {glob!r}" for glob in self.include]
        words += [f"not matching {glob!r}" for glob in self.exclude]
        return ", ".join(words) if words else "all of them"


def _any_of(globs: Sequence[str]) -> Callable[[str], re.Match[str] | None]:
    return re.compile("|".join(fnmatch.translate(glob) for glob in globs)).match


def _end_of(prefix: str) -> str | None:
    """A key that no key with this prefix lies above; None: the end of all keys."""
    for length in range(len(prefix), 0, -1):
        code = ord(prefix[length - 1]) + 1
        code = 0xE000 if code == 0xD800 else 0x10000 if code == 0xFFFE else code
        if code <= ord(HIGHEST):
            return prefix[: length - 1] + chr(code)
    return None
