"""The server against Google's own discovery document."""

import json
from pathlib import Path

import googleapiclient
import pytest

from heavysync.loopback import schema
from heavysync.loopback.buckets import bucket_resource
from heavysync.loopback.model import GETTERS
from heavysync.loopback.service import HANDLERS

DOCUMENT = Path(googleapiclient.__file__).parent / "discovery_cache/documents/storage.v1.json"
METHODS = {
    "list": ("objects", "list"),
    "stat": ("objects", "get"),
    "get": ("objects", "get"),
    "insert": ("objects", "insert"),
    "start": ("objects", "insert"),
    "patch": ("objects", "patch"),
    "update": ("objects", "update"),
    "delete": ("objects", "delete"),
    "rewrite": ("objects", "rewrite"),
    "copy": ("objects", "copy"),
    "compose": ("objects", "compose"),
    "bucket.list": ("buckets", "list"),
    "bucket.insert": ("buckets", "insert"),
    "bucket.get": ("buckets", "get"),
    "bucket.patch": ("buckets", "patch"),
    "bucket.delete": ("buckets", "delete"),
}


@pytest.fixture(scope="module")
def document():
    return json.loads(DOCUMENT.read_text())


def properties(document, name):
    return document["schemas"][name]["properties"]


def test_every_parameter_exists(document):
    """Each operation takes only parameters that its method has, and knows all of them."""
    everywhere = set(document["parameters"]) | {"userProject"}
    for operation, allowed in schema.PARAMETERS.items():
        resource, method = METHODS[operation]
        known = document["resources"][resource]["methods"][method]["parameters"]
        assert allowed <= known.keys(), operation
        in_query = {name for name, entry in known.items() if entry["location"] == "query"}
        assert in_query <= allowed | schema.UNSERVED_PARAMETERS | everywhere | {"generation"}, operation
    assert schema._GLOBAL <= everywhere


def test_every_operation_has_its_parameters(document):
    """No method is served without a list of what it takes."""
    sessions = {"chunk", "status", "cancel"}

    assert HANDLERS.keys() - sessions == schema.PARAMETERS.keys() == METHODS.keys()


def test_every_field_exists(document):
    """What is emitted, stored, ignored and refused: together the document's fields, no more, no less."""
    objects, buckets = properties(document, "Object"), properties(document, "Bucket")

    assert GETTERS.keys() <= objects.keys()
    assert schema.WRITABLE | schema.IGNORED | schema.UNSERVED == objects.keys()
    assert schema.BUCKET_WRITABLE | schema.BUCKET_IGNORED | schema.BUCKET_UNSERVED == buckets.keys()
    for operation, name in (("list", "Objects"), ("rewrite", "RewriteResponse"), ("bucket.list", "Buckets")):
        assert schema.RESPONSES[operation].keys() == properties(document, name).keys()


def test_what_is_answered_has_the_documents_types(document, api):
    """Every field of every answer, by its type: int64 is text, int32 a number."""
    api.server.create_bucket("far", location="EU", versioning={"enabled": True}, labels={"k": "v"})
    full = dict.fromkeys(schema.WRITABLE - {"metadata", "customTime", "storageClass"}, "x")
    full |= {"customTime": "2024-05-01T00:00:00Z", "metadata": {"k": "v"}}
    api.server.put("far", "x", b"1", **full)
    api.server.put("far", "x", b"2", **full)
    api.call("POST", "b/far/o/y/compose", {"sourceObjects": [{"name": "x"}]})
    page = api.list("far", versions="true", maxResults=2)
    whole = api.list("far", versions="true")
    copied = api.call("POST", "b/far/o/x/rewriteTo/b/bkt/o/x", maxBytesRewrittenPerCall=1 << 20)

    emitted = set()
    for item in whole["items"]:
        emitted |= item.keys()
        check(properties(document, "Object"), item)
    assert emitted == GETTERS.keys()
    check(properties(document, "Objects"), page)
    check(properties(document, "RewriteResponse"), copied.json)
    check(properties(document, "Bucket"), bucket_resource(api.server.state, api.server.state.bucket("far")))
    check(properties(document, "Buckets"), api.call("GET", "b", project="p").json)


TYPES = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}


def check(known, value):
    for name, entry in value.items():
        expected = TYPES[known[name].get("type", "object")]
        assert isinstance(entry, expected), name
