"""Five per cent of all requests go wrong, in every way that the fault matrix knows; and what went over the lines meanwhile."""

from __future__ import annotations

from collections import Counter

from faults.cases import EXPECTED, FAULTS, REQUESTS, impossible
from faults.kit import FaultKit

SHARE = 0.05
IN_FLIGHT = 8
"""Requests that a refusal of connections breaks, about: it closes all that there are."""

READS = ("get", "get range")
WRITES = {"s3": ("put", "part"), "gs": ("insert", "chunk")}
"""Requests that carry bytes of objects, the most common one first."""


def operations_of(side: str, fault: str) -> list[str]:
    """The requests of a side that a fault may meet and that recover by themselves."""
    mine = [request for request in REQUESTS if request.side == side]
    return [request.operation for request in mine if not impossible(fault, request) and (fault, request.name) not in EXPECTED]


def break_everything(kit: FaultKit, seed: int, common: str) -> None:
    """Add a rule for each fault; together they hit `SHARE` of the `common` requests, which most objects need."""
    faults = [fault for fault in FAULTS if operations_of(kit.side, fault)]
    kinds = sum(1 for fault in faults if common in operations_of(kit.side, fault))
    for number, fault in enumerate(faults):
        how = {name: value for name, value in FAULTS[fault].items() if name not in {"count", "skip"}}
        if fault == "bit flipped in the request":
            how["key"] = "medium|large"  # the middle of a small body is no content: no digest covers the rest, TLS does
        share = SHARE / kinds / (IN_FLIGHT if how["fault"] == "refuse" else 1)
        kit.add(
            **how,
            operation="|".join(operations_of(kit.side, fault)),
            count=None,
            probability=share,
            seed=f"{seed} {kit.side} {number}",
        )


class Overheads:
    """Bytes of heads that a request of each kind has beside the content; learnt from a copy without faults.

    Args:
        kits: before source and destination, after that copy.
        sizes: bytes of content in small and in large objects.
    """

    def __init__(self, kits: tuple[FaultKit, FaultKit], sizes: tuple[int, int]) -> None:
        self._from, self._to = kits
        self._each = {
            (kit, operation): (_bytes(kit, operation) - size) / max(1, kit.requests(operation))
            for kit, operations in ((self._from, READS), (self._to, WRITES[self._to.side]))
            for operation, size in zip(operations, sizes, strict=True)
        }

    def read(self) -> int:
        """Bytes of content that came from the source since the kits were cleared."""
        return self._moved(self._from)

    def written(self) -> int:
        """Bytes of content that went to the destination since then."""
        return self._moved(self._to)

    def _moved(self, mine: FaultKit) -> int:
        kinds = [(name, each) for (kit, name), each in self._each.items() if kit is mine]
        return round(sum(_bytes(mine, name) - mine.requests(name) * each for name, each in kinds))


def _bytes(kit: FaultKit, operation: str) -> int:
    """What the requests of an operation brought, in the direction of the content."""
    return kit.sent[operation] if operation in READS else kit.received[operation]


def faults_of(kit: FaultKit) -> Counter[str]:
    """How often each fault has hit."""
    found: Counter[str] = Counter()
    for (_, fault, _), number in kit.counts.items():
        found[fault] += number
    del found[""]
    return found


def share_of(kit: FaultKit) -> float:
    """The share of the requests that went wrong."""
    return sum(faults_of(kit).values()) / max(1, kit.requests())
