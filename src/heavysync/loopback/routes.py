"""From a raw request line to the operation it asks for. Names stay exactly as the client encoded them."""

from __future__ import annotations

from collections.abc import Mapping

from heavysync.loopback.wire import ApiError, Call, parse_query, parse_segment

_NAMES = (1, 3, 6, 8)  # places of names in b/BUCKET/o/OBJECT/rewriteTo/b/BUCKET/o/OBJECT

OPERATIONS: dict[str, str] = {
    "storage GET b": "bucket.list",
    "storage POST b": "bucket.insert",
    "storage GET b/*": "bucket.get",
    "storage PATCH b/*": "bucket.patch",
    "storage DELETE b/*": "bucket.delete",
    "storage GET b/*/o": "list",
    "storage GET b/*/o/*": "stat",
    "download GET b/*/o/*": "stat",
    "storage PATCH b/*/o/*": "patch",
    "storage PUT b/*/o/*": "update",
    "storage DELETE b/*/o/*": "delete",
    "storage POST b/*/o/*/compose": "compose",
    "storage POST b/*/o/*/rewriteTo/b/*/o/*": "rewrite",
    "storage POST b/*/o/*/copyTo/b/*/o/*": "copy",
    "upload POST b/*/o": "insert",
    "upload PUT b/*/o": "chunk",
    "upload DELETE b/*/o": "cancel",
}
"""Area, method and shape of the path. Query and headers tell `get` (media), `start` and `status` apart."""

_PREFIXES = (
    ("/storage/v1/", "storage"),
    ("/upload/storage/v1/", "upload"),
    ("/download/storage/v1/", "download"),
)


def route(method: str, path: str, headers: Mapping[str, str]) -> Call:
    """Say what a request asks for.

    Args:
        method: upper case.
        path: the request target as it was sent.
        headers: looked up in lower case.

    Raises:
        ApiError: the path or query cannot be decoded; 404 for a path that is not of this API.
    """
    raw_path, _, raw_query = path.partition("?")
    query = parse_query(raw_query)
    if raw_path == "/token" and method == "POST":
        return Call(operation="token", method=method, path=path, query=query, headers=headers)
    if raw_path == "/batch/storage/v1" and method == "POST":
        return Call(operation="batch", method=method, path=path, query=query, headers=headers)
    for prefix, area in _PREFIXES:
        if raw_path.startswith(prefix):
            segments = [parse_segment(raw) for raw in raw_path[len(prefix) :].split("/")]
            return _route_storage(area, segments, Call(operation="", method=method, path=path, query=query, headers=headers))
    raise ApiError(404, "notFound", "Not Found", text=True)


def _route_storage(area: str, segments: list[str], call: Call) -> Call:
    shape = "/".join("*" if place in _NAMES else segment for place, segment in enumerate(segments))
    operation = OPERATIONS.get(f"{area} {call.method} {shape}")
    names = tuple(segments[place] for place in _NAMES if place < len(segments))
    if operation is None or not all(names):
        raise ApiError(404, "notFound", "Not Found", text=True)
    call.names = names
    call.operation = _refine(operation, call)
    return call


def _refine(operation: str, call: Call) -> str:
    """Tell apart what shares a path."""
    if operation == "insert" and "upload_id" in call.query:
        operation = "chunk"  # Google's Go library sends chunks by POST
    match operation:
        case "stat" if call.query.get("alt") == "media":
            return "get"
        case "insert" if call.query.get("uploadType") == "resumable":
            return "start"
        case "chunk" if call.headers.get("content-range", "").startswith("bytes */"):
            return "status"
        case _:
            return operation
