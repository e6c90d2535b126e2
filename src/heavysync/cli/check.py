"""`heavy-check SRC DST`."""

from __future__ import annotations

import asyncio
import shlex
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from heavysync.checking import check
from heavysync.cli import sides, words
from heavysync.cli.console import Console, choose_mode
from heavysync.cli.progress import CheckProgress
from heavysync.cli.running import run, set_up_logging
from heavysync.cli.teller import Teller
from heavysync.errors import UsageError
from heavysync.objects import Location
from heavysync.options import CheckOptions, Samples
from heavysync.populations import Population

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, context_settings={"max_content_width": 110})

BAD = 5
STOPPING = "stopping: what was found so far is recorded, what hangs is given 2 seconds; once more to stop at once"
_POPULATION = "Which objects are spoken of"
_PAST = "Earlier checks"


@app.command()
def heavy_check(  # noqa: PLR0913, PLR0917 - a command has the options it has
    source: Annotated[str, typer.Argument(metavar="SRC", help="s3://bucket[/prefix] or gs://bucket[/prefix]")],
    destination: Annotated[str, typer.Argument(metavar="DST", help="the same; the copy of SRC that is checked")],
    samples: Annotated[
        str | None,
        typer.Option(envvar="HEAVYSYNC_SAMPLES", metavar="N|P%", help="Objects to draw, or a share of them; default 1."),
    ] = None,
    by: Annotated[
        Literal["objects", "bytes"],
        typer.Option(envvar="HEAVYSYNC_BY", help="What is as likely to be drawn as any other: an object, or a byte."),
    ] = "objects",
    prove: Annotated[
        str | None,
        typer.Option(
            envvar="HEAVYSYNC_PROVE",
            metavar="P%",
            help="Draw as many as it takes to prove that at most P% are bad, if none is; instead of --samples.",
        ),
    ] = None,
    confidence: Annotated[
        str, typer.Option(envvar="HEAVYSYNC_CONFIDENCE", metavar="P%", help="Of what is said about all objects.")
    ] = "95%",
    seed: Annotated[
        str | None,
        typer.Option(envvar="HEAVYSYNC_SEED", metavar="TEXT", help="Draw the same sample again, while SRC is the same."),
    ] = None,
    from_state: Annotated[
        bool,
        typer.Option(
            "--from-state", envvar="HEAVYSYNC_FROM_STATE", help="Draw from heavy-sync's last finished listing; list nothing."
        ),
    ] = False,
    read_source: Annotated[
        bool,
        typer.Option(
            "--read-source/--no-read-source",
            envvar="HEAVYSYNC_READ_SOURCE",
            help="Read the source object, too, where nothing else can decide.",
        ),
    ] = True,
    strict: Annotated[
        bool, typer.Option("--strict", envvar="HEAVYSYNC_STRICT", help="Stale copies are bad, too: exit code 5.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("-n", "--dry-run", "--dryrun", envvar="HEAVYSYNC_DRY_RUN", help="Draw, tell the plan, read nothing."),
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", envvar="HEAVYSYNC_RESTART", help="Give an unfinished check up.")
    ] = False,
    combined: Annotated[
        Path | None,
        typer.Option(
            envvar="HEAVYSYNC_COMBINED",
            metavar="FILE",
            help="Write a line for each object that this call checks, with rclone's symbols:"
            " = ok, * corrupt or stale, + missing, - vanished, ! unverifiable.",
        ),
    ] = None,
    state: sides.State = None,
    prefix: Annotated[
        str, typer.Option(envvar="HEAVYSYNC_PREFIX", help="Keys that begin with this.", rich_help_panel=_POPULATION)
    ] = "",
    since: Annotated[
        str | None,
        typer.Option(
            envvar="HEAVYSYNC_SINCE",
            metavar="TIME",
            help="Modified since then: 2026-11-01, 2026-11-01T12:00:00Z, or an age: 30m, 12h, 7d, 2w.",
            rich_help_panel=_POPULATION,
        ),
    ] = None,
    min_size: Annotated[
        str | None,
        typer.Option(envvar="HEAVYSYNC_MIN_SIZE", metavar="BYTES", help="At least so large.", rich_help_panel=_POPULATION),
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option(envvar="HEAVYSYNC_MAX_SIZE", metavar="BYTES", help="At most so large.", rich_help_panel=_POPULATION),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            envvar="HEAVYSYNC_INCLUDE",
            metavar="GLOB",
            help="Keys that match; * matches / too. Repeatable: any of them.",
            rich_help_panel=_POPULATION,
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            envvar="HEAVYSYNC_EXCLUDE",
            metavar="GLOB",
            help="Keys that do not match. Repeatable: none of them.",
            rich_help_panel=_POPULATION,
        ),
    ] = None,
    history: Annotated[
        bool,
        typer.Option(
            "--history",
            envvar="HEAVYSYNC_HISTORY",
            help="Say what all checks of these objects prove together.",
            rich_help_panel=_PAST,
        ),
    ] = False,
    rotate: Annotated[
        bool,
        typer.Option(
            "--rotate",
            envvar="HEAVYSYNC_ROTATE",
            help="Prefer objects never checked, then those checked longest ago; implies --history.",
            rich_help_panel=_PAST,
        ),
    ] = False,
    half_life: Annotated[
        float,
        typer.Option(
            envvar="HEAVYSYNC_HALF_LIFE",
            metavar="DAYS",
            help="Days after which an earlier check counts half.",
            rich_help_panel=_PAST,
        ),
    ] = 180.0,
    concurrency: sides.Concurrency = 64,
    memory: sides.Memory = "512MiB",
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
    project: Annotated[
        str | None,
        typer.Option(
            envvar=["HEAVYSYNC_PROJECT", "GOOGLE_CLOUD_PROJECT"],
            help="Google project that is billed.",
            rich_help_panel=sides.SIDES,
        ),
    ] = None,
    stall_timeout: sides.StallTimeout = 60.0,
    auth_grace: sides.AuthGrace = "1h",
    http_client: sides.HttpClient = "lean",
    quiet: Annotated[
        bool,
        typer.Option(
            "-q",
            "--quiet",
            envvar="HEAVYSYNC_QUIET",
            help="Only errors, and objects that are bad or unverifiable.",
            rich_help_panel=sides.TERMINAL,
        ),
    ] = False,
    verbose: sides.Verbose = 0,
    as_json: sides.AsJson = False,
    version: sides.Version = False,  # noqa: ARG001 - has ended the command
) -> None:
    """Read a random sample of DST whole, compare it with SRC, and say how sure one may be of the rest. Nothing is written.

    Interrupted, started again with the same words, it goes on where it was. Exit codes: 0 all that was checked is as it
    should be (ok, stale, vanished), 1 some objects could not be verified, 2 usage, 3 cannot start or go on, 5 something is
    corrupt or missing, 130/143 stopped by a signal (5 if something bad was found before).
    """
    set_up_logging(verbose)
    console = Console(choose_mode(quiet=quiet, as_json=as_json), CheckProgress(time.monotonic))
    try:
        ends = Location.parse(source), Location.parse(destination)
        both = sides.Sides(stall_s=stall_timeout, auth_grace=auth_grace, project=project, http_client=http_client)
        _refuse_contradictions(samples, prove, since, combines=history or rotate)
        population = Population(
            prefix=prefix,
            since="" if since is None else words.parse_since("--since", since, datetime.now(UTC)),
            min_size=0 if min_size is None else words.parse_size("--min-size", min_size),
            max_size=None if max_size is None else words.parse_size("--max-size", max_size),
            include=tuple(include or ()),
            exclude=tuple(exclude or ()),
        )
        options = CheckOptions(
            state=state or both.state(ends),
            samples=Samples() if samples is None else Samples.parse(samples),
            by=by,
            seed=seed or None,
            from_state=from_state,
            prove=None if prove is None else words.parse_percent("--prove", prove),
            confidence=words.parse_confidence("--confidence", confidence),
            population=population,
            read_source=read_source,
            strict=strict,
            history=history,
            rotate=rotate,
            half_life=half_life,
            restart=restart,
            dry_run=dry_run,
            concurrency=concurrency,
            memory=words.parse_size("--memory", memory),
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
            ),
        )
        teller = Teller(console, options, combined)
    except UsageError as error:
        console.error(str(error))
        raise typer.Exit(error.exit_code) from None
    again = ["heavy-check", *sys.argv[1:]]
    if since is not None and words.is_age(since):
        again += ["--since", population.since]  # the last one counts; the age would mean other objects then
    with teller:
        call = _Call(source, destination, options, console, teller, shlex.join(again))
        code = run(call.run, console, stopping=STOPPING)
    raise typer.Exit(BAD if teller.found_bad and code > 128 else code)


def _refuse_contradictions(samples: str | None, prove: str | None, since: str | None, *, combines: bool) -> None:
    """Refuse words that would silently not mean what they say.

    Raises:
        UsageError: some contradict each other.
    """
    if samples is not None and prove is not None:
        raise UsageError(f"--samples {samples} --prove {prove}: both say how many objects are drawn: leave one of them")
    if combines and since is not None and words.is_age(since):
        raise UsageError(
            f"--since {since} with --history or --rotate: an age means other objects at every call, so that earlier checks"
            " would never count: give a date"
        )


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of the command.

    Args:
        source: as it was typed.
        destination: the same.
        options: what was asked for.
        console: where it speaks.
        teller: who is told of plan and findings.
        again: the command that goes on with this check.
    """

    source: str
    destination: str
    options: CheckOptions
    console: Console
    teller: Teller
    again: str

    async def run(self, stop: asyncio.Event) -> int:
        """Check, and answer the exit code."""
        started = time.monotonic()
        with self.console.showing():
            report = await check(
                self.source,
                self.destination,
                self.options,
                listener=self.console.listener,
                stop=stop,
                found=self.teller.found,
                planned=self.teller.planned,
            )
        self.teller.ended(report, time.monotonic() - started)
        if report.checked < report.sample and report.status != "planned":
            self.console.note(
                f"stopped: {report.sample - report.checked:,} objects are left; to go on, run it again: {self.again}"
            )
        return report.exit_code
