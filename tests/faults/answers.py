"""Answers as they go over the wire: taken apart, put together, and made up in the words of each side."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from faults.operations import TRAP, Asked
from faults.rules import Rule

HTML = b"<!DOCTYPE html>\n<html><body>Please log in to this network.</body></html>\n"

_S3_CODES = {
    301: "PermanentRedirect",
    307: "TemporaryRedirect",
    408: "RequestTimeout",
    429: "TooManyRequests",
    500: "InternalError",
    503: "SlowDown",
}
_GS_CODES = {
    403: "rateLimitExceeded",
    408: "requestTimeout",
    429: "rateLimitExceeded",
    500: "internalError",
    503: "backendError",
}


@dataclass(slots=True)
class Answer:
    """A whole answer.

    Attributes:
        line: the status line.
        headers: names as they came, values.
        body: without any framing.
        has_body: False for the answer to a HEAD and the like: then Content-Length speaks of something else.
    """

    line: str
    headers: list[tuple[str, str]]
    body: bytes
    has_body: bool = True

    @property
    def status(self) -> str:
        """As text."""
        return self.line.split(" ", 2)[1]

    def get(self, name: str) -> str:
        """A header; "" where it is missing."""
        return next((value for known, value in self.headers if known.lower() == name), "")

    def set(self, name: str, value: str) -> None:
        """Replace a header, or add it."""
        self.headers = [(known, old) for known, old in self.headers if known.lower() != name.lower()] + [(name, value)]

    def drop(self, name: str) -> None:
        """Remove a header."""
        self.headers = [(known, value) for known, value in self.headers if known.lower() != name]

    @property
    def head(self) -> bytes:
        """With the empty line after it."""
        lines = [self.line, *(f"{name}: {value}" for name, value in self.headers)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    @property
    def length(self) -> int:
        """What Content-Length says."""
        return int(self.get("content-length") or 0)


def parse_head(head: bytes) -> Answer:
    """The head of an answer, as it came."""
    line, *fields = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    pairs = (field.partition(":") for field in fields)
    return Answer(line, [(name, value.strip()) for name, _, value in pairs], b"")


def flipped(body: bytes, at: int) -> bytes:
    """The same but for one bit."""
    changed = bytearray(body)
    changed[at] ^= 1
    return bytes(changed)


def made_up(rule: Rule, asked: Asked, method: str, target: str, url: str) -> Answer:
    """The answer of a fault that does no work."""
    answer = _MADE[rule.fault](rule, asked)
    if rule.retry_after is not None:
        answer.set("Retry-After", str(rule.retry_after))
    if rule.fault == "redirect":
        answer.set("Location", f"{url}{TRAP}{target}")
    if method == "HEAD":
        answer.body, answer.has_body = b"", False
    answer.set("Content-Length", str(len(answer.body)))
    return answer


def _told(rule: Rule, asked: Asked) -> Answer:
    return _error(asked, rule.status, rule.status, rule.code)


def _hidden_error(rule: Rule, asked: Asked) -> Answer:
    return _error(asked, 200, 500, rule.code)


def _error(asked: Asked, status: int, meant: int, code: str) -> Answer:
    """An error of the side; a status of 200 may hide it."""
    if asked.side == "s3":
        code = code or _S3_CODES.get(meant, "InternalError")
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>told so</Message></Error>'
        return _answer(status, text.encode(), "application/xml")
    code = code or _GS_CODES.get(meant, "backendError")
    error = {"code": meant, "message": "told so", "errors": [{"domain": "global", "reason": code, "message": "told so"}]}
    return _answer(status, json.dumps({"error": error}).encode(), "application/json; charset=UTF-8")


def _page(rule: Rule, _asked: Asked) -> Answer:
    return _answer(rule.status if rule.fault == "gateway" else 200, HTML, "text/html")


def _given(rule: Rule, asked: Asked) -> Answer:
    usual = "application/xml" if asked.side == "s3" else "application/json; charset=UTF-8"
    return _answer(rule.status, rule.body, rule.content_type or usual)


def _nothing(_rule: Rule, _asked: Asked) -> Answer:
    return _answer(200, b"", "")


def _answer(status: int, body: bytes, content_type: str) -> Answer:
    return Answer(f"HTTP/1.1 {status} Told so", [("Content-Type", content_type)] if content_type else [], body)


_MADE: dict[str, Callable[[Rule, Asked], Answer]] = {
    "status": _told,
    "redirect": _told,
    "answer": _given,
    "gateway": _page,
    "error in 200": _hidden_error,
    "empty 200": _nothing,
    "html 200": _page,
}
"""What makes the answers of the faults that do no work."""

MADE_UP = frozenset(_MADE)
