"""Make one huge bucket equal to another, S3 or Google Cloud Storage on either side, and finish.

>>> import asyncio, heavysync
>>> report = asyncio.run(heavysync.sync("s3://bucket", "gs://backup"))  # doctest: +SKIP
"""

from heavysync.errors import (
    FatalError,
    GuardError,
    HeavysyncError,
    ObjectError,
    RunError,
    TransientError,
    UsageError,
)
from heavysync.options import MaxDelete, SideOptions, SyncOptions
from heavysync.reports import SyncReport
from heavysync.sync import sync

__all__ = [
    "FatalError",
    "GuardError",
    "HeavysyncError",
    "MaxDelete",
    "ObjectError",
    "RunError",
    "SideOptions",
    "SyncOptions",
    "SyncReport",
    "TransientError",
    "UsageError",
    "__version__",
    "sync",
]

__version__ = "0.1.0"
