"""Make one huge bucket equal to another, S3 or Google Cloud Storage on either side, and finish.

>>> import asyncio, heavysync
>>> report = asyncio.run(heavysync.sync("s3://bucket", "gs://backup"))  # doctest: +SKIP
"""

from heavysync.assurance import Bound, CheckPlan, CheckReport
from heavysync.checking import check
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
from heavysync.populations import Population
from heavysync.reports import SyncReport
from heavysync.sync import sync
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
