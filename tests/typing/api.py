"""How the public API is called: type-checked, never run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import heavysync


async def use() -> int:
    options = heavysync.SyncOptions(
        state=Path("state"),
        concurrency=64,
        max_delete=heavysync.MaxDelete.parse("10%"),
        source=heavysync.SideOptions(profile="production"),
        destination=heavysync.SideOptions(project="backups"),
    )
    stop = asyncio.Event()
    report: heavysync.SyncReport = await heavysync.sync("s3://a", "gs://b", options, stop=stop)
    copied: int = report.totals.copied
    return report.exit_code + copied


def main() -> None:
    try:
        asyncio.run(use())
    except heavysync.UsageError as error:
        raise SystemExit(str(error)) from error
    except heavysync.RunError as error:
        raise SystemExit(error.exit_code) from error
