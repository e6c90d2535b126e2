"""The package as its users see it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import heavysync


def test_all_is_complete() -> None:
    """What `__all__` names is there, and what is public is named."""
    values = {name: getattr(heavysync, name) for name in dir(heavysync) if not name.startswith("_")}
    public = {name for name, value in values.items() if not is_module(value)} - {
        "annotations",
        "import_module",
        "TYPE_CHECKING",
    }

    assert public | {"__version__"} == set(heavysync.__all__)


def is_module(value: object) -> bool:
    return type(value).__name__ == "module"


def test_import_is_light() -> None:
    """No provider's library is imported before a store is opened."""
    libraries = {"aiobotocore", "botocore", "gcloud", "aiohttp", "rich", "httptools"}
    code = (
        f"import heavysync, sys; print([m for m in sys.modules if m.split('.')[0] in {libraries} or m == 'heavysync.checking'])"
    )

    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert output.strip() == "[]"


def test_check_is_a_function_and_what_is_unknown_is_told() -> None:
    """What is imported late is the same as what is imported at once."""
    assert callable(heavysync.check)
    assert heavysync.check.__module__ == "heavysync.checking"
    with pytest.raises(AttributeError, match="'chekc'"):
        _ = heavysync.chekc  # type: ignore[attr-defined]
