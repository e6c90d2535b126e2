"""The log of requests: what was asked, how often, and what came of it."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any, NamedTuple

from heavysync.loopback.wire import Call

ENTRIES_MAX = 200_000
"""Entries kept; the counters go on."""


class Entry(NamedTuple):
    """One request.

    Attributes:
        operation: see `routes.OPERATIONS`; calls within a batch have their own entries beside the batch's.
        method: HTTP method.
        path: the request target as it was sent.
        bucket: decoded, "" where there is none.
        key: the object's name, decoded, "" where there is none.
        status: of the answer; 0 if the connection was reset instead.
        received: bytes of the request's body.
        sent: bytes of the answer's body.
        fault: the action of the rule that hit, else "".
    """

    operation: str
    method: str
    path: str
    bucket: str
    key: str
    status: int
    received: int
    sent: int
    fault: str


class RequestLog:
    """Counters per operation and per operation and status, and the last requests."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.entries: deque[Entry] = deque(maxlen=ENTRIES_MAX)

    def add(self, call: Call, status: int, sent: int, fault: str = "") -> None:
        """Record a request."""
        self.counts[call.operation] += 1
        self.statuses[f"{call.operation} {status}"] += 1
        self.entries.append(
            Entry(
                call.operation,
                call.method,
                call.path,
                call.names[0] if call.names else "",
                call.names[1] if len(call.names) > 1 else "",
                status,
                len(call.body),
                sent,
                fault,
            )
        )

    def clear(self) -> None:
        """Start anew."""
        self.counts.clear()
        self.statuses.clear()
        self.entries.clear()

    def as_json(self, *, entries: bool = True) -> dict[str, Any]:
        """The counters, and the entries if they are wanted."""
        result: dict[str, Any] = {"counts": dict(self.counts), "statuses": dict(self.statuses)}
        if entries:
            result["entries"] = [entry._asdict() for entry in self.entries]
        return result
