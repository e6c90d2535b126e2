"""What a tool is asked to do in one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["help", "list", "sync"]
Service = Literal["s3", "gs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run.

    Attributes:
        kind: show the help, list the source, or make the destination equal to it.
        source: service and bucket.
        destination: service and bucket.
        streamed: bytes must go through the client, also where the server could copy.
        deletes: the destination has what the source does not.
        compares: objects of the same size differ.
        large: objects are of many MiB.
        tls: whether to use it.
        concurrency: of requests; None: what suits the tool best.
        number: of the run, for state and file names.
    """

    kind: Kind = "sync"
    source: tuple[Service, str] = ("s3", "source")
    destination: tuple[Service, str] = ("s3", "destination")
    streamed: bool = False
    deletes: bool = False
    compares: bool = False
    large: bool = False
    tls: bool = False
    concurrency: int | None = None
    number: str = ""

    @property
    def services(self) -> set[Service]:
        """The services that it takes."""
        return {self.source[0], self.destination[0]} if self.kind == "sync" else {self.source[0]}


class CannotError(Exception):
    """A tool cannot do this job; says why."""
