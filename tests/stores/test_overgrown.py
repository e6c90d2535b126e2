"""Documents that would grow a hundredfold in memory are told from large ones that somebody may really have."""

from __future__ import annotations

import json

import pytest

from heavysync.stores.answers import MOST_NODES, has_overgrown_json, has_overgrown_xml
from heavysync.stores.s3_wire import parse_xml

MIB = 1 << 20


@pytest.mark.parametrize("body", [b"<a>" * MIB, b"<a/>" * MIB, b"<a " + b'b="" ' * MIB + b"/>"])
def test_overgrown_xml_is_no_answer(body):
    """Depth, width, attributes."""
    assert has_overgrown_xml(body)
    assert parse_xml(body) is None


def test_large_xml_is_read():
    """A page of 1,000 versions with keys of 1,024 bytes and all that S3 can tell of each."""
    fields = "".join(f"<Field{number}>x</Field{number}>" for number in range(14))
    row = f"<Version><Key>{'%C3' * 1024}</Key>{fields}</Version>"
    root = parse_xml(f"<R>{row * 1000}</R>".encode())

    assert root is not None
    assert len(root) == 1000


@pytest.mark.parametrize("body", [b"[" * MIB, b'{"a":' * MIB, b"[" + b"{}," * MIB, b'{"' + b'x":"","' * MIB + b'a":0}'])
def test_overgrown_json_is_no_answer(body):
    """Depth, width, members."""
    assert has_overgrown_json(body)


def test_large_json_is_read():
    """A page of 1,000 objects; what stands in their metadata counts for nothing, quotes and backslashes included."""
    item = {"name": "n" * 1000, "metadata": {"k": '{[,"\\' * 1500}}
    body = json.dumps({"items": [item] * 1000}).encode()

    assert body.count(b",") > MOST_NODES
    assert not has_overgrown_json(body)
