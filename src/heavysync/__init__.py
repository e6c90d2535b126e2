"""Make one huge bucket equal to another, S3 or Google Cloud Storage on either side, and finish.

>>> import asyncio, heavysync
>>> report = asyncio.run(heavysync.sync("s3://bucket", "gs://backup"))  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from heavysync.errors import (
    FatalError,
    GuardError,
    HeavysyncError,
    ObjectError,
    RunError,
    TransientError,
    UsageError,
)
from heavysync.options import CheckOptions, MaxDelete, Samples, SideOptions, SyncOptions
from heavysync.reports import SyncReport
from heavysync.sync import sync

if TYPE_CHECKING:
    from heavysync.assurance import Bound, CheckPlan, CheckReport
    from heavysync.checking import check
    from heavysync.populations import Population
    from heavysync.verdicts import Finding

__all__ = [
    "Bound",
    "CheckOptions",
    "CheckPlan",
    "CheckReport",
    "FatalError",
    "Finding",
    "GuardError",
    "HeavysyncError",
    "MaxDelete",
    "ObjectError",
    "Population",
    "RunError",
    "Samples",
    "SideOptions",
    "SyncOptions",
    "SyncReport",
    "TransientError",
    "UsageError",
    "__version__",
    "check",
    "sync",
]

__version__ = "0.1.0"

_LATE = {
    "Bound": "assurance",
    "CheckPlan": "assurance",
    "CheckReport": "assurance",
    "Finding": "verdicts",
    "Population": "populations",
    "check": "checking",
}
"""What only checks need, by module: a fifth of the start-up of heavy-sync."""


def __getattr__(name: str) -> object:
    """Import what is asked for only now and then."""
    if name not in _LATE:
        raise AttributeError(f"module 'heavysync' has no attribute {name!r}")
    value: object = getattr(import_module(f"heavysync.{_LATE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
