"""Up to 100 calls in one request, each with its own answer.

Source: https://cloud.google.com/storage/docs/batch
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from email import message_from_bytes, policy
from http import HTTPStatus

from heavysync.loopback.wire import Answer, ApiError, Call, invalid

CALLS_MAX = 100
BYTES_MAX = 10_000_000
_NEVER = ("/upload/", "/download/", "/batch/", "/token", "/_loopback/")

Run = Callable[[str, str, dict[str, str], bytes], Answer]
"""Does one inner call: method, request target, headers in lower case, body."""


def batch(call: Call, run: Run) -> Answer:
    """POST batch/storage/v1, multipart/mixed of application/http.

    Raises:
        ApiError: 400 or 413 for the batch as a whole; the inner calls fail each for itself.
    """
    if len(call.body) > BYTES_MAX:
        raise ApiError(413, "uploadTooLarge", "The batch request is larger than 10 MB.")
    kind = call.headers.get("content-type", "")
    whole = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + call.body, policy=policy.compat32)
    if whole.get_content_type() != "multipart/mixed" or not whole.is_multipart():
        raise ApiError(400, "badRequest", "The batch request is no multipart/mixed.")
    parts = [part for part in whole.walk() if part is not whole]
    if len(parts) > CALLS_MAX:
        raise invalid(f"The batch request has {len(parts)} calls, more than {CALLS_MAX}.")
    boundary = f"batch_{secrets.token_urlsafe(18)}"
    pieces = []
    for part in parts:
        payload = part.get_payload(decode=True)
        if part.get_content_type() != "application/http" or not isinstance(payload, bytes):
            raise ApiError(400, "badRequest", "A part of the batch request is no application/http.")
        pieces.append(_piece(boundary, part.get("Content-ID"), _inner(payload, call, run)))
    body = b"".join(pieces) + f"--{boundary}--\r\n".encode()
    return Answer(headers={"Content-Type": f"multipart/mixed; boundary={boundary}"}, body=body)


def _inner(payload: bytes, call: Call, run: Run) -> Answer:
    """Read one HTTP request and do it; clients end its lines with CRLF or LF."""
    head, _, rest = payload.lstrip(b"\r\n").replace(b"\r\n", b"\n").partition(b"\n")
    words = head.decode("latin-1").split(" ")
    if len(words) not in (2, 3):
        return ApiError(400, "badRequest", "Failed to parse the request line.").answer()
    headers_text, _, body = rest.partition(b"\n\n") if not rest.startswith(b"\n") else (b"", b"", rest[1:])
    headers = {}
    for line in headers_text.decode("latin-1").split("\n"):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if "authorization" in call.headers:
        headers.setdefault("authorization", call.headers["authorization"])
    method, target = words[0].upper(), words[1]
    if target.startswith(("http://", "https://")):
        target = "/" + target.split("/", 3)[-1]
    if target.startswith(_NEVER) or "alt=media" in target:
        return invalid("Uploads and downloads cannot be batched.").answer()
    return run(method, target, headers, body.rstrip(b"\n"))


def _piece(boundary: str, content_id: str | None, answer: Answer) -> bytes:
    reason = HTTPStatus(answer.status).phrase
    lines = [f"--{boundary}", "Content-Type: application/http"]
    if content_id:
        lines.append(f"Content-ID: <response-{content_id.strip().removeprefix('<')}".removesuffix(">") + ">")
    lines += ["", f"HTTP/1.1 {answer.status} {reason}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    lines += [f"Content-Length: {len(answer.body)}", "", ""]
    return "\r\n".join(lines).encode() + answer.body + b"\r\n"
