"""The source of a soak: a bucket that somebody else goes on using, and a record of what it holds at any time."""

from __future__ import annotations

import hashlib
import random
import threading

from soak.contents import BUCKET, PART, data_of, has_parts, key_of
from soak.sides import Side

CHANGES_S = 0.5
"""Seconds between two changes."""


class Source:
    """A filled bucket.

    Args:
        side: the server; on S3 it holds what needs no upload in parts already.
        seed: of the contents and of the changes.
        objects: at the start.

    Attributes:
        held: md5 and size of every object, by key, as written by this test.
        moved: size of every content version that was read whole at least once, as the kit saw it.
        changes: made so far.
    """

    def __init__(self, side: Side, seed: int, objects: int) -> None:
        self._side = side
        self._seed = seed
        self._next = objects
        self._versions: dict[int, int] = dict.fromkeys(range(objects), 0)
        self._live = list(range(objects))
        self.held: dict[str, tuple[str, int]] = {}
        self.moved: dict[tuple[str, str], int] = {}
        self.changes = 0
        for number in range(objects):
            data = data_of(seed, number)
            self._note(number, data)
            if has_parts(number):
                side.put_parts(BUCKET, key_of(number), [data[at : at + PART] for at in range(0, len(data), PART)])
            elif side.scheme != "s3":
                side.put(BUCKET, key_of(number), data)

    def _note(self, number: int, data: bytes) -> None:
        self.held[key_of(number)] = (hashlib.md5(data).hexdigest(), len(data))

    def note_read(self, key: str) -> None:
        """Take down that somebody has read what the key holds now."""
        if (held := self.held.get(key)) is not None:
            self.moved[key, held[0]] = held[1]

    def change(self, until: threading.Event) -> None:
        """Put, overwrite and delete objects now and then, until told to end."""
        chance = random.Random(f"changes {self._seed}")
        while not until.wait(CHANGES_S * chance.uniform(0, 2)):
            at = chance.randrange(len(self._live))
            number = self._live[at]
            match chance.choice(("new", "new", "overwrite", "overwrite", "delete")):
                case "new":
                    self._live.append(self._next)
                    self._put(self._next, 1)
                    self._next += 1
                case "overwrite":
                    self._put(number, self._versions[number] + 1)
                case _:
                    self._live[at] = self._live[-1]
                    self._live.pop()
                    self._side.delete(BUCKET, key_of(number))
                    del self.held[key_of(number)]
            self.changes += 1

    def _put(self, number: int, version: int) -> None:
        data = data_of(self._seed, number, version)
        self._side.put(BUCKET, key_of(number), data)
        self._versions[number] = version
        self._note(number, data)
