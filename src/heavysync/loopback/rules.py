"""Faults and latency on demand: rules that pick requests and say what goes wrong with them."""

from __future__ import annotations

import random
import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

from heavysync.loopback.wire import Answer, ApiError, Call

ACTIONS = {
    "pass": "serve it, after `delay_s`",
    "status": "answer `status` with `reason` (and `retry_after`) instead of doing the work",
    "html": "answer 200 with a page of HTML instead of doing the work",
    "empty": "answer 200 with an empty body instead of doing the work",
    "reset": "reset the connection instead of doing the work",
    "drop": "do the work, then reset the connection without an answer",
    "reset_body": "do the work, send `amount` bytes of the body, reset the connection",
    "cut_body": "do the work, send `amount` bytes of the body, close the connection in good order",
    "stall_body": "do the work, send `amount` bytes of the body, the rest after `stall_s`",
    "flip": "do the work, flip the lowest bit of the byte at `amount` in the body",
    "persist": "keep at most `amount` bytes of a resumable chunk, a multiple of 256 KiB on Google's side",
}
"""What can happen to a request."""

INSTEAD = frozenset(("status", "html", "empty", "reset"))
"""Actions that leave the work undone."""


@dataclass(slots=True, kw_only=True)
class Rule:
    """Which requests, how often, and what happens to them. Patterns are regular expressions; "" is any.

    Args:
        operation: the whole name of the operation, as in "list", "insert|start", "bucket[.].*".
        method: the whole HTTP method.
        path: found anywhere in the request target as it was sent, percent-encoded and with its query.
        key: found anywhere in the decoded object name (the source's, where there are two).
        action: one of `ACTIONS`.
        skip: so many matching requests pass first.
        count: so many are hit, None is all of them.
        probability: of a hit, drawn from `seed`.
        seed: makes the draws the same in every run.
        delay_s: seconds to wait before the body is read.
        status: of the action "status".
        reason: of the action "status".
        retry_after: seconds for the header Retry-After of the action "status".
        amount: bytes, see the actions; negative counts from the end of the body.
        stall_s: seconds of the action "stall_body".

    Raises:
        ValueError: an unknown action, a pattern that is none, a number out of bounds.
    """

    operation: str = ""
    method: str = ""
    path: str = ""
    key: str = ""
    action: str = "status"
    skip: int = 0
    count: int | None = 1
    probability: float = 1.0
    seed: int = 0
    delay_s: float = 0.0
    status: int = 503
    reason: str = "backendError"
    retry_after: float | None = None
    amount: int = 0
    stall_s: float = 0.0
    seen: int = 0
    fired: int = 0
    _random: random.Random = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"unknown action {self.action!r}: one of {', '.join(ACTIONS)}")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability {self.probability} is not within 0 and 1")
        try:
            for pattern in (self.operation, self.method, self.path, self.key):
                re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        self._random = random.Random(self.seed)  # noqa: S311 - faults, not secrets

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Rule:
        """Make a rule of a JSON object with the same names.

        Raises:
            ValueError: an unknown name or a value that does not fit.
        """
        if not isinstance(value, dict):
            raise ValueError(f"a rule is a JSON object, not {value!r}")  # noqa: TRY004 - one kind of error
        known = {entry.name for entry in fields(cls) if entry.init} - {"seen", "fired"}
        if unknown := value.keys() - known:
            raise ValueError(f"unknown field {min(unknown)!r} of a rule")
        return cls(**value)

    def as_json(self) -> dict[str, Any]:
        """The rule and how often it was seen and has fired."""
        return {name: value for name, value in asdict(self).items() if not name.startswith("_")}

    def fires(self, call: Call) -> bool:
        """Whether it hits this request; counts it."""
        if not self._matches(call) or (self.count is not None and self.fired >= self.count):
            return False
        self.seen += 1
        if self.seen <= self.skip or self._random.random() >= self.probability:
            return False
        self.fired += 1
        return True

    def _matches(self, call: Call) -> bool:
        name = call.names[1] if len(call.names) > 1 else ""
        return (
            (not self.operation or re.fullmatch(self.operation, call.operation) is not None)
            and (not self.method or re.fullmatch(self.method, call.method) is not None)
            and (not self.path or re.search(self.path, call.path) is not None)
            and (not self.key or re.search(self.key, name, re.DOTALL) is not None)
        )

    def answer(self) -> Answer:
        """What is sent instead of the work's answer."""
        if self.action == "html":
            page = b"<!DOCTYPE html>\n<html><body>Please log in to this network.</body></html>\n"
            return Answer(headers={"Content-Type": "text/html; charset=UTF-8"}, body=page)
        if self.action == "empty":
            return Answer()
        answer = ApiError(self.status, self.reason, f"A rule of the loopback server: {self.reason}.").answer()
        if self.retry_after is not None:
            answer.headers["Retry-After"] = f"{self.retry_after:g}"
        return answer


class Fault(NamedTuple):
    """What is to happen to a request: seconds of delay, and the rule that hit, if any."""

    delay_s: float
    rule: Rule | None


class RuleBook:
    """The rules, in order. Those that only delay add up; the first other one that fires decides."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []

    def add(self, rule: Rule) -> Rule:
        """Append a rule."""
        self.rules.append(rule)
        return rule

    def clear(self) -> None:
        """Remove all rules."""
        self.rules.clear()

    def pick(self, call: Call) -> Fault:
        """Find what is to happen to the request."""
        delay_s = 0.0
        for rule in self.rules:
            if rule.fires(call):
                delay_s += rule.delay_s
                if rule.action != "pass":
                    return Fault(delay_s, rule)
        return Fault(delay_s, None)
