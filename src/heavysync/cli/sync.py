"""`heavy-sync SRC DST`."""

from __future__ import annotations

import asyncio
import shlex
import sys
import time
from functools import partial
from typing import Annotated

import typer

from heavysync.cli import sides, words
from heavysync.cli.console import Console, choose_mode
from heavysync.cli.progress import SyncProgress
from heavysync.cli.running import run, set_up_logging
from heavysync.cli.sync_report import tell_planned, tell_summary
from heavysync.errors import UsageError
from heavysync.objects import Location
from heavysync.options import MaxDelete, SyncOptions
from heavysync.sync import sync

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, context_settings={"max_content_width": 110})

_BUCKETS = "Buckets"


@app.command()
def heavy_sync(  # noqa: PLR0913, PLR0917 - a command has the options it has
    source: Annotated[str, typer.Argument(metavar="SRC", help="s3://bucket[/prefix] or gs://bucket[/prefix]")],
    destination: Annotated[str, typer.Argument(metavar="DST", help="the same; it is made equal to SRC")],
    state: sides.State = None,
    concurrency: sides.Concurrency = 128,
    memory: sides.Memory = "512MiB",
    processes: Annotated[
        int | None,
        typer.Option(
            envvar="HEAVYSYNC_PROCESSES",
            help="Processes that do the work; default: this one, and one a core once it is busy.",
            rich_help_panel=sides.SPEED,
        ),
    ] = None,
    part_size: Annotated[
        str | None,
        typer.Option(
            envvar="HEAVYSYNC_PART_SIZE",
            help="Bytes of a part; default 8MiB, or as the source has it.",
            rich_help_panel=sides.SPEED,
        ),
    ] = None,
    delete: Annotated[
        bool, typer.Option("--delete/--no-delete", envvar="HEAVYSYNC_DELETE", help="Delete what SRC does not have.")
    ] = True,
    max_delete: Annotated[
        str, typer.Option(envvar="HEAVYSYNC_MAX_DELETE", metavar="N|P%", help="Refuse to delete more than this.")
    ] = "50%",
    delete_despite_errors: Annotated[
        bool, typer.Option(envvar="HEAVYSYNC_DELETE_DESPITE_ERRORS", help="Delete also when some objects failed.")
    ] = False,
    purge_noncurrent: Annotated[
        float,
        typer.Option(
            "--purge-noncurrent",
            "--old-threshold",
            envvar="HEAVYSYNC_PURGE_NONCURRENT",
            metavar="DAYS",
            help="Delete versions of DST that have been noncurrent for longer; 0: never.",
        ),
    ] = 0.0,
    server_side_copy: Annotated[
        bool,
        typer.Option(
            "--server-side-copy/--no-server-side-copy",
            envvar="HEAVYSYNC_SERVER_SIDE_COPY",
            help="Let the provider copy where it can.",
            rich_help_panel=sides.SPEED,
        ),
    ] = True,
    tags: Annotated[bool, typer.Option(envvar="HEAVYSYNC_TAGS", help="Copy S3 object tags.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("-n", "--dry-run", "--dryrun", envvar="HEAVYSYNC_DRY_RUN", help="List, compare, tell, change nothing."),
    ] = False,
    restart: Annotated[bool, typer.Option(envvar="HEAVYSYNC_RESTART", help="Forget an unfinished run.")] = False,
    retry_failed: Annotated[
        bool,
        typer.Option(envvar="HEAVYSYNC_RETRY_FAILED", help="Take up what failed in the last run, without listing anew."),
    ] = False,
    create_bucket: Annotated[
        bool,
        typer.Option(envvar="HEAVYSYNC_CREATE_BUCKET", help="Create DST's bucket if it is missing.", rich_help_panel=_BUCKETS),
    ] = False,
    location: Annotated[
        str | None,
        typer.Option(envvar="HEAVYSYNC_LOCATION", help="Region or location to create it in.", rich_help_panel=_BUCKETS),
    ] = None,
    enable_versioning: Annotated[
        bool,
        typer.Option(envvar="HEAVYSYNC_ENABLE_VERSIONING", help="Switch DST's versioning on.", rich_help_panel=_BUCKETS),
    ] = False,
    storage_class: Annotated[
        str | None,
        typer.Option(envvar="HEAVYSYNC_STORAGE_CLASS", help="Storage class of the copies.", rich_help_panel=_BUCKETS),
    ] = None,
    source_endpoint_url: sides.SourceEndpointUrl = None,
    destination_endpoint_url: sides.DestinationEndpointUrl = None,
    source_profile: sides.SourceProfile = None,
    destination_profile: sides.DestinationProfile = None,
    source_credentials_file: sides.SourceCredentialsFile = None,
    destination_credentials_file: sides.DestinationCredentialsFile = None,
    source_region: sides.SourceRegion = None,
    destination_region: sides.DestinationRegion = None,
    source_anonymous: sides.SourceAnonymous = False,
    destination_anonymous: sides.DestinationAnonymous = False,
    request_payer: sides.RequestPayer = False,
    project: sides.Project = None,
    stall_timeout: sides.StallTimeout = 60.0,
    auth_grace: sides.AuthGrace = "1h",
    http_client: sides.HttpClient = "lean",
    quiet: Annotated[
        bool,
        typer.Option(
            "-q", "--quiet", envvar="HEAVYSYNC_QUIET", help="Only errors, and waits for you.", rich_help_panel=sides.TERMINAL
        ),
    ] = False,
    verbose: sides.Verbose = 0,
    as_json: sides.AsJson = False,
    version: sides.Version = False,  # noqa: ARG001 - has ended the command
) -> None:
    """Make the bucket (or prefix) DST equal to SRC, and finish.

    A prefix means the keys below it: s3://b/p is s3://b/p/. Wildcards are literal. Interrupted, started again with the
    same words, it goes on where it was. Exit codes: 0 in sync, 1 some objects failed, 2 usage, 3 cannot start or go on,
    4 refused by a guard, 130/143 stopped by a signal.
    """
    set_up_logging(verbose)
    console = Console(choose_mode(quiet=quiet, as_json=as_json), SyncProgress(time.monotonic))
    try:
        ends = Location.parse(source), Location.parse(destination)
        both = sides.Sides(stall_s=stall_timeout, auth_grace=auth_grace, project=project, http_client=http_client)
        options = SyncOptions(
            state=state or both.state(ends),
            concurrency=concurrency,
            memory=words.parse_size("--memory", memory),
            processes=processes,
            part_size=None if part_size is None else words.parse_size("--part-size", part_size),
            delete=delete,
            max_delete=MaxDelete.parse(max_delete),
            delete_despite_errors=delete_despite_errors,
            purge_noncurrent=purge_noncurrent,
            server_side_copy=server_side_copy,
            tags=tags,
            dry_run=dry_run,
            restart=restart,
            retry_failed=retry_failed,
            create_bucket=create_bucket,
            bucket_location=location,
            enable_versioning=enable_versioning,
            storage_class=storage_class,
            source=both.make(
                endpoint_url=source_endpoint_url,
                profile=source_profile,
                credentials_file=source_credentials_file,
                region=source_region,
                anonymous=source_anonymous,
                request_payer=request_payer,
            ),
            destination=both.make(
                endpoint_url=destination_endpoint_url,
                profile=destination_profile,
                credentials_file=destination_credentials_file,
                region=destination_region,
                anonymous=destination_anonymous,
                # a server-side copy is a request to the destination that reads the source
                request_payer=request_payer and ends[1].scheme == "s3",
            ),
        )
    except UsageError as error:
        console.error(str(error))
        raise typer.Exit(error.exit_code) from None
    raise typer.Exit(run(lambda stop: _run(source, destination, options, console, stop), console))


async def _run(source: str, destination: str, options: SyncOptions, console: Console, stop: asyncio.Event) -> int:
    started = time.monotonic()
    planned = partial(tell_planned, console)
    with console.showing():
        report = await sync(source, destination, options, listener=console.listener, stop=stop, planned=planned)
    tell_summary(console, report, time.monotonic() - started)
    if report.status == "stopped":
        console.note(f"to go on, run it again: {shlex.join(['heavy-sync', *sys.argv[1:]])}")
    return report.exit_code
