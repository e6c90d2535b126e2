"""Headers of answers have names in lower case: who asked for another would not find what is there, a digest for instance."""

from __future__ import annotations

import ast
from importlib.resources import files
from pathlib import Path

import pytest

STORES = Path(str(files("heavysync.stores")))


def asked(tree: ast.AST) -> list[str]:
    """Names that are looked for in something that is called headers, or ends so."""
    names: list[ast.expr] = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=where, attr="get" | "setdefault" | "pop"), args=[name, *_]) if holds(where):
                names.append(name)
            case ast.Subscript(value=where, slice=name, ctx=ast.Load()) if holds(where):
                names.append(name)
            case ast.Compare(left=name, ops=[ast.In() | ast.NotIn()], comparators=[where]) if holds(where):
                names.append(name)
    return [name.value for name in names if isinstance(name, ast.Constant) and isinstance(name.value, str)]


def holds(where: ast.expr) -> bool:
    """Whether an expression is a set of headers."""
    return ast.unparse(where).rpartition(".")[2].endswith("headers")


@pytest.mark.parametrize("path", sorted(STORES.glob("*.py")), ids=lambda path: path.stem)
def test_headers_are_asked_for_in_lower_case(path: Path) -> None:
    """In all that reads answers; behind the door of aiohttp they still are as they came."""
    if path.stem == "http_aiohttp":
        pytest.skip("its own headers know no case")
    assert [name for name in asked(ast.parse(path.read_text("utf-8"))) if name != name.lower()] == []


def test_asking_is_recognised() -> None:
    """In each way in which it is done."""
    code = "h = response.headers.get('A')\nif 'B' in error.headers: pass\nreturn headers['C'], headers.get('D', '')"
    assert sorted(asked(ast.parse(code))) == ["A", "B", "C", "D"]
