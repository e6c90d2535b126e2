"""The package as its users see it."""

from __future__ import annotations

import subprocess
import sys

import heavysync


def test_all_is_complete() -> None:
    """What `__all__` names is there, and what is public is named."""
    public = {name for name, value in vars(heavysync).items() if not name.startswith("_") and not is_module(value)}

    assert public | {"__version__"} == set(heavysync.__all__)


def is_module(value: object) -> bool:
    return type(value).__name__ == "module"


def test_import_is_light() -> None:
    """No provider's library is imported before a store is opened."""
    code = "import heavysync, sys; print([m for m in sys.modules if m.split('.')[0] in {'aiobotocore','botocore','gcloud','aiohttp','rich'}])"

    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert output.strip() == "[]"
