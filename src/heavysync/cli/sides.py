"""What the commands have in common: the options for state, sides and terminal, and what they read of the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from heavysync import __version__
from heavysync.cli import words
from heavysync.objects import Location
from heavysync.options import SideOptions
from heavysync.state.directory import default_directory

SIDES = "How the two sides are reached"
SPEED = "Speed"
TERMINAL = "Terminal"

State = Annotated[
    Path | None,
    typer.Option(
        "--state", "--db", envvar="HEAVYSYNC_STATE", help="Directory of the state; default: one a pair below ~/.local/state."
    ),
]
Concurrency = Annotated[int, typer.Option(envvar="HEAVYSYNC_CONCURRENCY", help="Objects in flight.", rich_help_panel=SPEED)]
Memory = Annotated[str, typer.Option(envvar="HEAVYSYNC_MEMORY", help="Bytes of content in flight.", rich_help_panel=SPEED)]
StallTimeout = Annotated[
    float,
    typer.Option(
        envvar="HEAVYSYNC_STALL_TIMEOUT",
        help="Seconds without a byte after which a request is tried again.",
        rich_help_panel=SPEED,
    ),
]
AuthGrace = Annotated[
    str,
    typer.Option(
        envvar="HEAVYSYNC_AUTH_GRACE",
        metavar="DURATION",
        help="How long to wait for new credentials once those in use are not accepted any more: 90s, 10m, 1h; 0: not at all.",
        rich_help_panel=SIDES,
    ),
]
HttpClient = Annotated[
    Literal["lean", "aiohttp"],
    typer.Option(
        envvar="HEAVYSYNC_HTTP_CLIENT",
        help="Who speaks HTTP: heavysync itself, or aiohttp, which is slower, and is always taken where proxies are used.",
        rich_help_panel=SPEED,
    ),
]
SourceCredentialsFile = Annotated[
    str | None,
    typer.Option(envvar="HEAVYSYNC_SOURCE_CREDENTIALS_FILE", metavar="FILE", help="Google credentials.", rich_help_panel=SIDES),
]
DestinationCredentialsFile = Annotated[
    str | None,
    typer.Option(
        envvar="HEAVYSYNC_DESTINATION_CREDENTIALS_FILE", metavar="FILE", help="Google credentials.", rich_help_panel=SIDES
    ),
]
SourceEndpointUrl = Annotated[str | None, typer.Option(envvar="HEAVYSYNC_SOURCE_ENDPOINT_URL", rich_help_panel=SIDES)]
DestinationEndpointUrl = Annotated[str | None, typer.Option(envvar="HEAVYSYNC_DESTINATION_ENDPOINT_URL", rich_help_panel=SIDES)]
SourceProfile = Annotated[str | None, typer.Option(envvar="HEAVYSYNC_SOURCE_PROFILE", rich_help_panel=SIDES)]
DestinationProfile = Annotated[str | None, typer.Option(envvar="HEAVYSYNC_DESTINATION_PROFILE", rich_help_panel=SIDES)]
SourceRegion = Annotated[str | None, typer.Option(envvar="HEAVYSYNC_SOURCE_REGION", rich_help_panel=SIDES)]
DestinationRegion = Annotated[str | None, typer.Option(envvar="HEAVYSYNC_DESTINATION_REGION", rich_help_panel=SIDES)]
SourceAnonymous = Annotated[
    bool, typer.Option(envvar="HEAVYSYNC_SOURCE_ANONYMOUS", help="Send no credentials.", rich_help_panel=SIDES)
]
DestinationAnonymous = Annotated[
    bool, typer.Option(envvar="HEAVYSYNC_DESTINATION_ANONYMOUS", help="Send no credentials.", rich_help_panel=SIDES)
]
RequestPayer = Annotated[
    bool, typer.Option(envvar="HEAVYSYNC_REQUEST_PAYER", help="Pay for requests to SRC.", rich_help_panel=SIDES)
]
Project = Annotated[
    str | None,
    typer.Option(
        envvar=["HEAVYSYNC_PROJECT", "GOOGLE_CLOUD_PROJECT"],
        help="Google project of new buckets, and the one that is billed.",
        rich_help_panel=SIDES,
    ),
]
Verbose = Annotated[
    int,
    typer.Option(
        "-v", "--verbose", count=True, envvar="HEAVYSYNC_VERBOSE", help="More; twice: every request.", rich_help_panel=TERMINAL
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", envvar="HEAVYSYNC_JSON", help="JSON lines on stdout.", rich_help_panel=TERMINAL)
]


def _tell_version(ctx: typer.Context, asked: bool) -> None:  # noqa: FBT001 - typer calls it
    if asked:
        typer.echo(f"{ctx.info_name} {__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", callback=_tell_version, is_eager=True, help="Tell the version.", rich_help_panel=TERMINAL),
]


class Sides:
    """Makes the options of both sides from the words of a command and the environment.

    Args:
        stall_s: see `SideOptions`.
        http_client: see `SideOptions`.
        auth_grace: see `SideOptions`, in words.
        project: see `SideOptions`.
        environment: where proxies, authorities and the user's state directory are named.
    """

    def __init__(
        self,
        *,
        stall_s: float,
        auth_grace: str,
        project: str | None,
        http_client: Literal["lean", "aiohttp"] = "lean",
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._environment = environment
        self.make = partial(
            SideOptions,
            ca_bundle=environment.get("AWS_CA_BUNDLE"),
            trust_env=_has_proxy(environment),
            stall_s=stall_s,
            http_client=http_client,
            auth_grace_s=words.parse_duration("--auth-grace", auth_grace),
            project=project,
        )

    def state(self, ends: tuple[Location, Location]) -> Path:
        """The state directory of a pair, where none is asked for."""
        home = self._environment.get("XDG_STATE_HOME")
        return default_directory(*ends, Path(home) if home else Path.home() / ".local" / "state")


def _has_proxy(environment: Mapping[str, str]) -> bool:
    return any(name.lower() in {"http_proxy", "https_proxy", "all_proxy"} for name in environment)
