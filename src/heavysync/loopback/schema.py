"""The tables of the API that the server knows: fields, query parameters, and who may set what.

Truth: `storage.v1.json`, the API's discovery document; a test compares every name here with it.
Source: https://storage.googleapis.com/$discovery/rest?version=v1
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from heavysync.loopback.wire import ApiError, Json, invalid, invalid_parameter, not_served

Tree = dict[str, Any]
"""Names to subtrees; None means everything below."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


WRITABLE = _names(
    "cacheControl contentDisposition contentEncoding contentLanguage contentType customTime metadata storageClass"
)
"""Object fields that a client sets and the server keeps."""

IGNORED = _names(
    "bucket componentCount crc32c etag generation hardDeleteTime id kind md5Hash mediaLink "
    "metageneration name owner retentionExpirationTime selfLink size softDeleteTime timeCreated "
    "timeDeleted timeFinalized timeStorageClassUpdated updated"
)
"""Output-only object fields, or such with a meaning of their own in one call; accepted and not stored."""

UNSERVED = _names("acl contexts customerEncryption eventBasedHold kmsKeyName restoreToken retention temporaryHold")
"""Object fields that Google knows and this server refuses unless they are empty."""

STORAGE_CLASSES = _names("STANDARD NEARLINE COLDLINE ARCHIVE MULTI_REGIONAL REGIONAL DURABLE_REDUCED_AVAILABILITY")

BUCKET_WRITABLE = _names("cors iamConfiguration labels lifecycle logging softDeletePolicy storageClass versioning website")
BUCKET_IGNORED = _names(
    "etag generation hardDeleteTime id kind location locationType metageneration name owner "
    "projectNumber selfLink softDeleteTime timeCreated updated"
)
BUCKET_UNSERVED = _names(
    "acl autoclass billing customPlacementConfig defaultEventBasedHold defaultObjectAcl "
    "encryption hierarchicalNamespace ipFilter objectRetention retentionPolicy rpo satisfiesPZI "
    "satisfiesPZS"
)

_OBJECT: Tree = dict.fromkeys(WRITABLE | IGNORED | UNSERVED)
_BUCKET: Tree = dict.fromkeys(BUCKET_WRITABLE | BUCKET_IGNORED | BUCKET_UNSERVED)
_REWRITE = {
    **dict.fromkeys(("kind", "totalBytesRewritten", "objectSize", "done", "rewriteToken")),
    "resource": _OBJECT,
}
_PAGE = dict.fromkeys(("kind", "nextPageToken"))

RESPONSES: dict[str, Tree] = {
    "list": {**_PAGE, "prefixes": None, "items": _OBJECT},
    "rewrite": _REWRITE,
    "bucket.list": {**_PAGE, "items": _BUCKET, "unreachable": None},
    **dict.fromkeys(("stat", "insert", "start", "patch", "update", "copy", "compose"), _OBJECT),
    **dict.fromkeys(("bucket.get", "bucket.insert", "bucket.patch"), _BUCKET),
}
"""What each operation can answer, for the selector `fields`."""

_GLOBAL = _names("alt fields key oauth_token prettyPrint quotaUser uploadType userIp userProject")
_MATCH = _names("ifGenerationMatch ifGenerationNotMatch ifMetagenerationMatch ifMetagenerationNotMatch")
_SOURCE_MATCH = frozenset(name.replace("if", "ifSource", 1) for name in _MATCH)
_BUCKET_MATCH = frozenset(("ifMetagenerationMatch", "ifMetagenerationNotMatch"))
_INSERT = _MATCH | {"contentEncoding", "name", "predefinedAcl", "projection"}
_PATCH = _MATCH | {"generation", "predefinedAcl", "projection"}
_COPY = _MATCH | _SOURCE_MATCH | {"destinationPredefinedAcl", "projection", "sourceGeneration"}

PARAMETERS: dict[str, frozenset[str]] = {
    "list": _names("delimiter endOffset includeTrailingDelimiter maxResults pageToken prefix projection startOffset versions"),
    "stat": _MATCH | {"generation", "projection"},
    "get": _MATCH | {"generation", "projection"},
    "insert": _INSERT,
    "start": _INSERT,
    "patch": _PATCH,
    "update": _PATCH,
    "delete": _MATCH | {"generation"},
    "rewrite": _COPY | {"maxBytesRewrittenPerCall", "rewriteToken"},
    "copy": _COPY,
    "compose": frozenset(("destinationPredefinedAcl", "ifGenerationMatch", "ifMetagenerationMatch")),
    "bucket.list": frozenset(("maxResults", "pageToken", "prefix", "project", "projection")),
    "bucket.insert": frozenset(("predefinedAcl", "predefinedDefaultObjectAcl", "project", "projection")),
    "bucket.get": _BUCKET_MATCH | {"projection"},
    "bucket.patch": _BUCKET_MATCH | {"predefinedAcl", "predefinedDefaultObjectAcl", "projection"},
    "bucket.delete": _BUCKET_MATCH,
}
"""The query parameters that are served, beside the global ones."""

UNSERVED_PARAMETERS = _names(
    "contextKey destinationKmsKeyName dropContextGroups enableObjectRetention filter "
    "includeFoldersAsPrefixes kmsKeyName matchGlob overrideUnlockedRetention restoreToken "
    "returnPartialSuccess softDeleted"
)
SESSION_PARAMETERS = frozenset(("uploadType", "upload_id"))
"""Of a resumable session's own URI, which is opaque to clients and in no document."""

_PROJECTIONS = ("full", "noAcl")


def check_query(operation: str, query: dict[str, str]) -> None:
    """Refuse what the API does not know, where Google itself is silent about a misspelt parameter."""
    if operation in ("chunk", "status", "cancel"):
        allowed = SESSION_PARAMETERS | _GLOBAL | {"name"}
    else:
        allowed = PARAMETERS.get(operation, frozenset()) | _GLOBAL
    for name, value in query.items():
        if name in allowed:
            continue
        if name not in UNSERVED_PARAMETERS:
            raise invalid_parameter(name, f"Unknown parameter '{name}' for {operation}.")
        if value not in ("", "false"):
            raise not_served(f"the parameter '{name}'")
    if query.get("projection", "noAcl") not in _PROJECTIONS:
        raise invalid_parameter("projection", f"Invalid value: '{query['projection']}'.")
    if query.get("alt", "json") not in ("json", "media"):
        raise invalid_parameter("alt", f"Invalid value: '{query['alt']}'.")


def check_object_fields(resource: Json) -> None:
    """Refuse fields of an object that nobody knows (Google drops them), wrong types, and unserved ones."""
    for name, value in resource.items():
        if name in UNSERVED and value:
            raise not_served(f"the object field '{name}'")
        if name not in _OBJECT:
            raise invalid(f"Unknown object field '{name}'.")
        if name in WRITABLE and name != "metadata" and not isinstance(value, str | None):
            raise invalid(f"Invalid value for field '{name}'.")
    if (resource.get("storageClass") or "STANDARD") not in STORAGE_CLASSES:
        raise invalid(f"Invalid storage class: {resource['storageClass']}.")


def check_bucket_fields(resource: Json) -> None:
    """The same for a bucket."""
    for name, value in resource.items():
        if name in BUCKET_UNSERVED and value:
            raise not_served(f"the bucket field '{name}'")
        if name not in _BUCKET:
            raise invalid(f"Unknown bucket field '{name}'.")
    if (resource.get("storageClass") or "STANDARD") not in STORAGE_CLASSES:
        raise invalid(f"Invalid storage class: {resource['storageClass']}.")


@lru_cache(maxsize=256)
def selector(operation: str, fields: str) -> Tree | None:
    """Read the parameter `fields`, as in `kind,items(name,metadata/a)`; None selects everything.

    Source: https://cloud.google.com/storage/docs/json_api#partial-response
    """
    if not fields:
        return None
    try:
        return _known(_read_all(fields), RESPONSES[operation])
    except ValueError as error:
        raise ApiError(
            400,
            "invalidParameter",
            f"Invalid field selection {error}",
            location="fields",
            location_type="parameter",
        ) from None


def _read_all(text: str) -> Tree:
    tree, rest = _read_list(text)
    if rest:
        raise ValueError(rest)
    return tree


def _read_list(text: str) -> tuple[Tree, str]:
    tree: Tree = {}
    while True:
        name, below, text = _read_item(text)
        tree[name] = _merged(tree.get(name, {}), below)
        if not text.startswith(","):
            return tree, text
        text = text[1:]


def _read_item(text: str) -> tuple[str, Tree | None, str]:
    end = next((place for place, char in enumerate(text) if char in ",/()"), len(text))
    name, text = text[:end].strip(), text[end:]
    if not name:
        raise ValueError(text)
    if text.startswith("/"):
        inner, below, text = _read_item(text[1:])
        return name, {inner: below}, text
    if text.startswith("("):
        tree, text = _read_list(text[1:])
        if not text.startswith(")"):
            raise ValueError(name)
        return name, tree, text[1:]
    return name, None, text


def _merged(one: Tree | None, other: Tree | None) -> Tree | None:
    return None if one is None or other is None else {**one, **other}


def _known(tree: Tree, schema: Tree) -> Tree | None:
    if "*" in tree:
        return None
    for name, below in tree.items():
        if name not in schema:
            raise ValueError(name)
        if below is not None and schema[name] is not None:
            tree[name] = _known(below, schema[name])
    return tree


def select(tree: Tree | None, value: Any) -> Any:
    """Keep what the selector names."""
    if tree is None:
        return value
    if isinstance(value, list):
        return [select(tree, item) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: select(below, value[name]) for name, below in tree.items() if name in value}
