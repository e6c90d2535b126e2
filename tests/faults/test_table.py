"""The table says what the matrix found."""

from __future__ import annotations

import json

import pytest
from faults.table import replaced, tables


def test_table_shows_the_last_outcome_of_each_case():
    """A sign a case, each reason once, and what was not tried is seen."""
    rows = [
        ("cut", "s3 get", "fatal", ""),
        ("cut", "s3 get", "recovered", ""),
        ("cut", "s3 put", "-", "no body"),
        ("301", "s3 put", "fatal", "elsewhere"),
        ("301", "s3 get", "undetected", "no body"),
    ]
    lines = [json.dumps({"fault": f, "request": r, "outcome": o, "why": w}) for f, r, o, w in rows]

    text = tables(lines, ["s3 get", "s3 put", "gs list"], ["cut", "301"])

    assert "| S3 | get | put |\n|---|---|---|\n" in text
    assert "| cut | ✓ | ·<sup>1</sup> |" in text
    assert "| 301 | ✗<sup>1</sup> | F<sup>2</sup> |" in text
    assert "| cut | ? |" in text
    assert text.endswith("1. no body\n2. elsewhere\n")


def test_parts_of_a_document_are_exchanged():
    """What stands between two marks is replaced, the rest stays."""
    text = "a\n<!-- soak -->\nold\n<!-- /soak -->\nb\n"

    assert replaced(text, "soak", "new\n") == "a\n<!-- soak -->\nnew\n<!-- /soak -->\nb\n"
    with pytest.raises(ValueError, match="no marks of matrix"):
        replaced(text, "matrix", "new\n")
