"""Which requests go wrong, how often, and in which way: the script that a fault kit follows."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from faults.operations import Asked

FAULTS = {
    "refuse": "close every connection, and the next `times` ones as they are accepted",
    "reset": "reset the connection when the head of the request has come; none of its body is read",
    "reset in request": "pass the first half of the request's body on, then reset both connections",
    "reset before answer": "read the request, do no work, reset the connection",
    "lose answer": "do the work, reset the connection",
    "reset in answer": "do the work, send the head and half of the body, reset the connection",
    "stall before headers": "do the work, never answer",
    "stall in answer": "do the work, send the head and half of the body, then nothing more",
    "stop reading": "read half of the request's body, then nothing more, and never answer",
    "status": "do no work, answer `status` with `code` in the words of the side, and with `retry_after`",
    "answer": "do no work, answer `status` with `body`",
    "gateway": "do no work, answer `status` with a page of HTML, as a proxy does",
    "redirect": "do no work, answer `status` with a Location",
    "error in 200": "do no work, answer 200 with an error in the body",
    "empty 200": "do no work, answer 200 with nothing",
    "html 200": "do no work, answer 200 with a page of HTML",
    "cut": "do the work, answer half of the body as if it were all",
    "too long": "do the work, state a Content-Length that is 100 bytes too large, close the connection after the body",
    "too short": "do the work, state half of the Content-Length, send all of the body",
    "flip answer": "do the work, flip a bit in the middle of the answer's body",
    "flip request": "flip a bit in the middle of the request's body, do the work",
    "twice": "do the work, send the answer, and `seconds` later the same bytes once more",
    "trickle": "do the work, send the first `amount` bytes of the answer one by one, `seconds` apart",
    "odd range": "do the work, answer with the header `Range: <code>`, if the answer is a 308",
    "other digest": "do the work, answer with another crc32c in the JSON",
    "elsewhere": "do the work, answer with a Location on `location`",
    "latency": "wait for `seconds` before anything else",
    "call after": "do the work, call `call`, send the answer; with every other fault `call` comes before anything else",
}
"""What can happen to a request."""

WORK_UNDONE = frozenset(
    (
        "refuse",
        "reset",
        "reset before answer",
        "stop reading",
        "status",
        "answer",
        "gateway",
        "redirect",
        "error in 200",
        "empty 200",
        "html 200",
    )
)
"""Faults that leave the work undone; after "reset in request" it depends on the server."""


@dataclass(slots=True, kw_only=True)
class Rule:
    """One fault. Patterns are regular expressions; "" is any.

    Args:
        fault: one of `FAULTS`.
        operation: the whole name, as in "list", "put|part"; see `operations.Asked`.
        side: "s3" or "gs": one script can serve several kits.
        bucket: the whole name.
        key: found anywhere in the decoded key.
        skip: so many matching requests pass first.
        count: so many are hit; None: all of them.
        probability: of a hit, drawn from `seed`.
        seed: makes the draws the same in every run.
        status: HTTP status.
        body: of the fault "answer".
        location: scheme and host, of the fault "elsewhere".
        content_type: of `body`; "" is that of the side's errors.
        code: of the error, in the provider's words; "" is what goes with the status. Of the fault "odd range" the header.
        retry_after: seconds for the header Retry-After.
        seconds: see `FAULTS`.
        amount: bytes, see `FAULTS`; None: all.
        times: connections, see `FAULTS`.
        call: something that happens at this very moment, such as somebody else's write; in a thread of its own.

    Raises:
        ValueError: an unknown fault.
    """

    fault: str
    operation: str = ""
    side: str = ""
    bucket: str = ""
    key: str = ""
    skip: int = 0
    count: int | None = 1
    probability: float = 1.0
    seed: int = 0
    status: int = 503
    body: bytes = b""
    content_type: str = ""
    location: str = ""
    code: str = ""
    retry_after: float | None = None
    seconds: float = 0.0
    amount: int | None = None
    times: int = 1
    call: Callable[[Asked], object] | None = None
    seen: int = 0
    fired: int = 0
    _random: random.Random = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.fault not in FAULTS:
            raise ValueError(f"unknown fault {self.fault!r}: one of {', '.join(FAULTS)}")
        self._random = random.Random(self.seed)

    def hits(self, asked: Asked) -> bool:
        """Whether this request is hit; counts it."""
        if not self._matches(asked) or (self.count is not None and self.fired >= self.count):
            return False
        self.seen += 1
        if self.seen <= self.skip or self._random.random() >= self.probability:
            return False
        self.fired += 1
        return True

    def _matches(self, asked: Asked) -> bool:
        return (
            self.side in {"", asked.side}
            and (not self.operation or re.fullmatch(self.operation, asked.operation) is not None)
            and (not self.bucket or re.fullmatch(self.bucket, asked.bucket) is not None)
            and (not self.key or re.search(self.key, asked.key, re.DOTALL) is not None)
        )
