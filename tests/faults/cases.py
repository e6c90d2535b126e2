"""What the matrix is made of: the kinds of request, the faults, which of them cannot meet, and what each meeting may cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from faults.operations import Side

Body = Literal["", "control", "content"]
"""Of a request or an answer: none, XML or JSON, or bytes of an object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One kind of request, and the run that makes it.

    Args:
        side: who is asked.
        operation: see `operations.Asked`.
        sends: body of the request.
        answers: body of the answer.
        kinds: of source and destination.
        large: the run copies an object in parts.
        server_side: the provider copies by itself.
        purge: the run purges noncurrent versions.
        resumed: an earlier run was stopped before the upload was complete.
        token: the run fetches an access token.
        replaced: the source object is another one by the time of the second run, so that the upload is given up.
        odd_key: the destination has an object too many whose name XML cannot express.
        tags: tags are copied.
        helpers: rules that bring heavysync to make the request at all.
        skip: requests of this kind that pass first.
        both: the fault hits source and destination.
    """

    side: Side
    operation: str
    kinds: tuple[str, str]
    sends: Body = ""
    answers: Body = ""
    large: bool = False
    server_side: bool = False
    purge: bool = False
    resumed: bool = False
    token: bool = False
    replaced: bool = False
    odd_key: bool = False
    tags: bool = False
    helpers: tuple[dict[str, Any], ...] = ()
    skip: int = 0
    both: bool = False

    @property
    def name(self) -> str:
        """For tables and test ids."""
        return f"{self.side} {self.operation}"


_S3_GS, _GS_S3 = ("s3", "gs"), ("gs", "s3")

REQUESTS = [
    Request(side="s3", operation="bucket", kinds=("s3", "s3"), answers="control", both=True),
    Request(side="s3", operation="list", kinds=("s3", "s3"), answers="control", both=True, skip=1),
    Request(side="s3", operation="get", kinds=_S3_GS, answers="content"),
    Request(side="s3", operation="get range", kinds=_S3_GS, answers="content", large=True),
    Request(side="s3", operation="stat", kinds=_S3_GS, large=True),
    Request(side="s3", operation="put", kinds=_GS_S3, sends="content"),
    Request(side="s3", operation="create", kinds=_GS_S3, answers="control", large=True),
    Request(side="s3", operation="question", kinds=_GS_S3, large=True),
    Request(side="s3", operation="part", kinds=_GS_S3, sends="content", large=True),
    Request(side="s3", operation="list parts", kinds=_GS_S3, answers="control", large=True, resumed=True),
    Request(side="s3", operation="complete", kinds=_GS_S3, sends="control", answers="control", large=True),
    Request(side="s3", operation="abort", kinds=_GS_S3, large=True, resumed=True, replaced=True),
    Request(side="s3", operation="copy", kinds=("s3", "s3"), answers="control", server_side=True),
    Request(side="s3", operation="copy part", kinds=("s3", "s3"), answers="control", large=True, server_side=True),
    Request(side="s3", operation="delete", kinds=_GS_S3, sends="control", answers="control"),
    Request(side="s3", operation="delete one", kinds=_GS_S3, odd_key=True),
    Request(side="s3", operation="tags", kinds=("s3", "s3"), answers="control", tags=True),
    Request(side="s3", operation="list versions", kinds=_GS_S3, answers="control", purge=True),
    Request(side="gs", operation="token", kinds=_S3_GS, sends="control", answers="control", token=True),
    Request(side="gs", operation="bucket", kinds=("gs", "gs"), answers="control", both=True),
    Request(side="gs", operation="list", kinds=("gs", "gs"), answers="control", both=True),
    Request(side="gs", operation="get", kinds=_GS_S3, answers="content"),
    Request(side="gs", operation="get range", kinds=_GS_S3, answers="content", large=True),
    Request(
        side="gs",
        operation="stat",
        kinds=_S3_GS,
        answers="control",
        helpers=({"fault": "lose answer", "operation": "insert"},),
    ),
    Request(side="gs", operation="insert", kinds=_S3_GS, sends="content", answers="control"),
    Request(side="gs", operation="start", kinds=_S3_GS, sends="control", large=True),
    Request(side="gs", operation="chunk", kinds=_S3_GS, sends="content", answers="control", large=True),
    Request(
        side="gs",
        operation="status",
        kinds=_S3_GS,
        answers="control",
        large=True,
        helpers=({"fault": "lose answer", "operation": "chunk", "skip": 1},),
    ),
    Request(side="gs", operation="cancel", kinds=_S3_GS, large=True, resumed=True, replaced=True),
    Request(side="gs", operation="rewrite", kinds=("gs", "gs"), answers="control", large=True, server_side=True, skip=1),
    Request(side="gs", operation="batch", kinds=_S3_GS, sends="control", answers="control"),
    Request(
        side="gs",
        operation="delete",
        kinds=_S3_GS,
        large=True,
        helpers=({"fault": "other digest", "operation": "chunk", "skip": 1},),
    ),
    Request(side="gs", operation="list versions", kinds=_S3_GS, answers="control", purge=True),
]
"""In the order in which a run makes them."""

TIMES = 2
"""So often each fault hits, unless it says otherwise: a second attempt must survive it, too."""

RETRY_AFTER_S = 0.25
"""What the header asks for: real servers count in seconds, which takes longer."""

FAULTS: dict[str, dict[str, Any]] = {
    "connections refused": {"fault": "refuse", "times": 2, "count": 1},
    "reset before the request is read": {"fault": "reset"},
    "reset inside the request": {"fault": "reset in request"},
    "reset before the answer": {"fault": "reset before answer"},
    "answer lost": {"fault": "lose answer"},
    "reset inside the answer": {"fault": "reset in answer"},
    "stall before the answer": {"fault": "stall before headers", "count": 1},
    "stall inside the answer": {"fault": "stall in answer", "count": 1},
    "server stops reading": {"fault": "stop reading", "count": 1},
    "500": {"fault": "status", "status": 500},
    "502, HTML": {"fault": "gateway", "status": 502},
    "503 SlowDown": {"fault": "status", "status": 503},
    "429, Retry-After": {"fault": "status", "status": 429, "retry_after": RETRY_AFTER_S, "count": 1},
    "408": {"fault": "status", "status": 408},
    "400 RequestTimeout": {"fault": "status", "status": 400, "code": "RequestTimeout"},
    "403 rateLimitExceeded": {"fault": "status", "status": 403, "code": "rateLimitExceeded"},
    "200 with an error": {"fault": "error in 200"},
    "200, empty": {"fault": "empty 200"},
    "200, HTML": {"fault": "html 200"},
    "cut answer": {"fault": "cut"},
    "length too long": {"fault": "too long"},
    "length too short": {"fault": "too short"},
    "bit flipped in the answer": {"fault": "flip answer"},
    "bit flipped in the request": {"fault": "flip request"},
    "301": {"fault": "redirect", "status": 301, "count": 1},
    "307": {"fault": "redirect", "status": 307},
    "308 that claims too much": {"fault": "odd range", "code": "bytes=0-999999999999"},
    "308 that claims less": {"fault": "odd range", "code": "bytes=0-262143", "count": 1},
    "308 without sense": {"fault": "odd range", "code": "bytes=7-5"},
    "answer twice": {"fault": "twice"},
    "answer twice, later": {"fault": "twice", "seconds": 0.02},
    "trickle": {"fault": "trickle", "seconds": 0.003, "amount": 50, "count": 1},
    "latency": {"fault": "latency", "seconds": 0.1},
}
"""By the name that people read; the values are those of a `Rule`."""

_IMPOSSIBLE: list[tuple[set[str], Callable[[Request], bool], str]] = [
    (
        {"reset inside the request", "server stops reading", "bit flipped in the request"},
        lambda request: not request.sends,
        "the request has no body",
    ),
    (
        {"reset inside the answer", "stall inside the answer", "cut answer", "bit flipped in the answer"},
        lambda request: not request.answers,
        "the answer has no body",
    ),
    (
        {"308 that claims too much", "308 that claims less", "308 without sense"},
        lambda request: request.operation not in {"chunk", "status"},
        "only an upload session answers 308",
    ),
    (
        {"length too short"},
        lambda request: not request.answers and request.operation != "stat",
        "the answer has no body that could be longer than stated",
    ),
    (
        {"bit flipped in the answer"},
        lambda request: request.answers != "content",
        "no digest covers XML and JSON: TLS does",
    ),
    (
        {"bit flipped in the request"},
        lambda request: request.sends != "content",
        "no digest covers XML and JSON: TLS does",
    ),
    (
        {"403 rateLimitExceeded"},
        lambda request: request.operation == "token",
        "that is the storage API's; a token server throttles with 429",
    ),
    ({"400 RequestTimeout"}, lambda request: request.side == "gs", "that is S3's; Google answers 408"),
    ({"403 rateLimitExceeded"}, lambda request: request.side == "s3", "that is Google's; S3 answers 503"),
]
"""Faults that cannot meet some requests: which, and why not."""


def impossible(fault: str, request: Request) -> str | None:
    """Why a fault cannot meet a request; None where it can."""
    found = (why for faults, applies, why in _IMPOSSIBLE if fault in faults and applies(request))
    return next(found, None)


class Expected(NamedTuple):
    """What may come of a case, other than "recovered".

    Attributes:
        outcome: "recorded": the object failed alone and was named; "fatal": the run ended and said why. Either way
            nothing was lost, and the next run ends with both sides equal.
        why: it cannot be otherwise.
    """

    outcome: Literal["recorded", "fatal"]
    why: str


_OTHER_REGION = Expected(
    "fatal", "S3's way of saying that the bucket is somewhere else; without the region's name nobody can go on"
)

EXPECTED: dict[tuple[str, str], Expected] = {
    ("301", request.name): _OTHER_REGION for request in REQUESTS if request.side == "s3" and request.operation != "bucket"
}
"""By fault and name of the request."""
