"""What goes in and out of the server, apart from any socket: call, answer, error with Google's own body.

Source of the error format: https://cloud.google.com/storage/docs/json_api/v1/status-codes
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

TYPE_JSON = "application/json; charset=UTF-8"
TYPE_TEXT = "text/html; charset=UTF-8"

Json = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Call:
    """One request, routed.

    Attributes:
        operation: what it asks for, see `routes.OPERATIONS`.
        method: upper case.
        path: the request target exactly as it was sent, still percent-encoded, query included.
        names: the decoded names in the path, in order: bucket, object, target bucket, target object.
        query: decoded parameters.
        headers: looked up in lower case.
        body: the whole body.
        persist: a resumable chunk keeps at most so many of its bytes; None keeps all.
    """

    operation: str
    method: str
    path: str
    names: tuple[str, ...] = ()
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    persist: int | None = None

    @property
    def bucket(self) -> str:
        """The (source) bucket in the path."""
        return self.names[0]

    @property
    def name(self) -> str:
        """The (source) object in the path."""
        return self.names[1]

    def json(self) -> Json:
        """Read the body as a JSON object; no body, or `null`, is an empty object."""
        if not self.body:
            return {}
        try:
            value = json.loads(self.body)
        except ValueError:
            raise ApiError(400, "parseError", "Parse Error") from None
        if value is None:  # so Google's Go library sends no resource
            return {}
        if not isinstance(value, dict):
            raise ApiError(400, "parseError", "Parse Error")
        return value

    def flag(self, parameter: str) -> bool:
        """Read a boolean parameter, false when it is absent."""
        value = self.query.get(parameter, "false").lower()  # Google's Python library sends "True"
        if value not in ("true", "false"):
            raise invalid_parameter(parameter, f"Invalid boolean value: '{value}'.")
        return value == "true"

    def number(self, parameter: str) -> int | None:
        """Read a parameter that is a decimal int64, None when it is absent."""
        value = self.query.get(parameter)
        if value is None:
            return None
        if not (value.isascii() and value.removeprefix("-").isdigit()):
            raise invalid_parameter(parameter, f"Invalid value '{value}'.")
        return int(value)


@dataclass(slots=True, kw_only=True)
class Answer:
    """One answer.

    Attributes:
        status: HTTP status.
        headers: without the length, which the server adds.
        body: the whole body.
        chunked: send it in chunks and without a length.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    chunked: bool = False


class ApiError(Exception):
    """An error answer in the JSON API's format.

    Args:
        status: HTTP status.
        reason: Google's short name, in the field `reason`.
        message: what a person reads.
        location: the parameter or header at fault.
        location_type: "parameter" or "header".
        text: send the message alone, as uploads and media downloads do.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        location: str = "",
        location_type: str = "",
        text: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.location = location
        self.location_type = location_type
        self.text = text

    def answer(self, *, text: bool = False) -> Answer:
        """The error as it is sent: JSON, or the bare message where Google sends that."""
        if self.status == 304:
            return Answer(status=304)
        if text or self.text:
            return Answer(status=self.status, headers={"Content-Type": TYPE_TEXT}, body=self.message.encode())
        detail = {"message": self.message, "domain": "global", "reason": self.reason}
        if self.location:
            detail |= {"locationType": self.location_type, "location": self.location}
        body = {"error": {"code": self.status, "message": self.message, "errors": [detail]}}
        return json_answer(body, status=self.status)


def json_answer(body: Json, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer with a JSON body."""
    raw = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    return Answer(status=status, headers={"Content-Type": TYPE_JSON, **(headers or {})}, body=raw)


def invalid(message: str) -> ApiError:
    """400 with reason `invalid`."""
    return ApiError(400, "invalid", message)


def invalid_parameter(parameter: str, message: str) -> ApiError:
    """400 that names a query parameter."""
    return ApiError(400, "invalidParameter", message, location=parameter, location_type="parameter")


def required(what: str) -> ApiError:
    """400 because something was left out."""
    return ApiError(400, "required", f"Required parameter: {what}", location=what, location_type="parameter")


def not_served(what: str) -> ApiError:
    """501: Google knows this, the loopback server does not."""
    return ApiError(501, "notImplemented", f"The loopback server does not serve {what}.")


def no_object(bucket: str, name: str) -> ApiError:
    """404 for an object or a version of it."""
    return ApiError(404, "notFound", f"No such object: {bucket}/{name}")


def condition_not_met(parameter: str) -> ApiError:
    """412, as every failed precondition is answered."""
    return ApiError(
        412,
        "conditionNotMet",
        "At least one of the pre-conditions you specified did not hold.",
        location=parameter,
        location_type="parameter" if parameter.startswith("if") else "header",
    )


def parse_query(raw: str) -> dict[str, str]:
    """Decode a query string; a repeated parameter or broken UTF-8 is an error, which Google lets pass."""
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, errors="strict", strict_parsing=bool(raw))
    except ValueError:
        raise invalid("The query string cannot be read.") from None
    query = dict(pairs)
    if len(query) != len(pairs):
        raise invalid("A query parameter was given twice.")
    return query


def parse_segment(raw: str) -> str:
    """Decode one path segment; `+` is a plus sign there."""
    try:
        return unquote(raw, errors="strict")
    except UnicodeDecodeError:
        raise invalid("The path is not UTF-8.") from None
