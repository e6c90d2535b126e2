"""`heavy-demo`: the whole thing on this machine, told step by step."""

from __future__ import annotations

import importlib.util
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heavysync.cli import words
from heavysync.errors import FatalError, RunError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from heavysync.cli.demo_stage import Interrupts
    from heavysync.cli.demo_story import Changed, Compared, Idle, Killed, Resumed, Story

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)

FAILED = 1
"""Exit code where something is not as the demo says it is."""

_NEEDED = ("moto", "flask", "flask_cors", "werkzeug")


@app.command()
def heavy_demo(
    objects: Annotated[
        int, typer.Option(min=100, max=100_000, envvar="HEAVYSYNC_OBJECTS", help="Plain small objects to begin with.")
    ] = 2000,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep what the commands wrote, and heavy-sync's state, in this new directory."),
    ] = None,
) -> None:
    """Show on this machine, without any account, what heavy-sync does.

    Two storage servers are started on 127.0.0.1, one that speaks S3 and one that speaks Google Cloud Storage. A bucket is
    filled, copied, the copying is killed and goes on, the source changes and is copied again; then both buckets are
    compared. Nothing is left behind. Exit codes: 0 all of it is so, 1 something is not, 2 usage, 3 cannot start.
    """
    from heavysync.cli.demo_http import HttpError
    from heavysync.cli.demo_stage import DemoError, Interrupted, Interrupts, StageError

    interrupts = Interrupts()
    try:
        with interrupts.raised():
            _check_moto()
            _play(objects, keep, interrupts)
    except RunError as error:
        _end(str(error), error.exit_code)
    except StageError as error:
        _end(str(error), FatalError.exit_code)
    except (DemoError, HttpError) as error:
        _end(f"the demo is not as it should be: {error}", FAILED)
    except Interrupted as error:
        _end("stopped; " + (f"files are in {keep}" if keep else "nothing is left behind"), 128 + error.number)


def _end(text: str, code: int) -> None:
    told = words.plain(text).encode(sys.stderr.encoding or "ascii", "backslashreplace").decode(sys.stderr.encoding or "ascii")
    typer.echo(f"error: {told}", err=True)
    raise typer.Exit(code) from None


def _check_moto() -> None:
    if any(importlib.util.find_spec(name) is None for name in _NEEDED):
        raise FatalError("heavy-demo needs moto, a loopback S3 server: pip install 'heavysync[demo]'")


@contextmanager
def _directory(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="heavy-demo-") as name:
            yield Path(name)
        return
    try:
        keep.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise UsageError(f"--keep {keep}: the directory is not empty")
    except OSError as error:
        raise UsageError(f"--keep {keep}: {error.strerror}") from error
    yield keep.resolve()


def _play(objects: int, keep: Path | None, interrupts: Interrupts) -> None:
    from rich.console import Console

    from heavysync.cli.demo_stage import Stage
    from heavysync.cli.demo_story import Story

    started = time.monotonic()
    teller = Teller(Console(markup=False, highlight=False, emoji=False), started)
    with _directory(keep) as directory:
        stage = Stage(directory, interrupts)
        try:
            teller.begin(directory, kept=keep is not None)
            story = Story(stage, objects)
            story.fill()
            teller.filled(story)
            killed = story.kill()
            teller.killed(story, killed)
            teller.resumed(killed, story.resume(killed))
            teller.changed(story.change())
            teller.idle(story.idle())
            teller.compared(story.compare())
        finally:
            stage.end()
    teller.end(keep)


class Teller:
    """Tells what happened, in a sentence and a table for each step.

    Args:
        console: where to.
        started: when the demo began, on the monotonic clock.
    """

    def __init__(self, console: Console, started: float) -> None:
        self._console = console
        self._started = started
        self._steps = 0

    def begin(self, directory: Path, *, kept: bool) -> None:
        """What is going to happen, and where."""
        self._say("heavy-demo: two storage servers on this machine, one bucket on each, four runs of heavy-sync.")
        self._say("No account is used and nothing leaves this machine. With 2,000 objects it takes less than a minute.")
        self._say(f"All files are in {directory}, " + ("and stay there." if kept else "and are removed in the end."))

    def filled(self, story: Story) -> None:
        """What the source holds."""
        from heavysync.cli.demo_story import by_kind

        self._step("A bucket is filled", "This is what the source bucket, on the S3 server, holds now.")
        rows = [
            (kind, f"{count:,}", words.size(size), _short(example)) for kind, count, size, example in by_kind(story.samples)
        ]
        self._table(("objects", "how many", "together", "one of the names"), rows)

    def killed(self, story: Story, killed: Killed) -> None:
        """How far the first run came."""
        self._step(
            "The copying is killed",
            "heavy-sync makes the Google bucket equal to the S3 bucket; on the way, in the middle of the large object too, "
            "it is killed at once (SIGKILL).",
        )
        self._say(f"$ {shlex.join(['heavy-sync', *story.words])}")
        rows = [
            ("objects in the source", f"{killed.total:,}"),
            ("arrived when it was killed", f"{len(killed.arrived):,}"),
        ]
        self._table(("", ""), rows)

    def resumed(self, killed: Killed, resumed: Resumed) -> None:
        """What was left to do."""
        self._step("The same command again", "It goes on where it was: what had arrived is not copied again, not even parts.")
        rows = [
            ("were there already, not copied again", f"{resumed.kept:,}"),
            ("of these in flight at the kill: looked at again", f"{resumed.in_doubt:,}"),
            ("copied now", f"{resumed.copied:,}"),
            ("objects in the destination", f"{killed.total:,}"),
            ("bytes of the large object sent now", _of_large(resumed.large_bytes)),
        ]
        self._table(("", ""), rows)

    def changed(self, changed: Changed) -> None:
        """What the source's changes led to."""
        self._step("The source changes", "Some objects come, some change, some go; the next run does just that.")
        rows = [
            ("new in the source", f"{changed.new:,}"),
            ("changed in the source", f"{changed.changed:,}"),
            ("removed from the source", f"{changed.removed:,}"),
            ("copied by this run", f"{changed.copied:,}"),
            ("deleted by this run from the destination", f"{changed.deleted:,}"),
        ]
        self._table(("", ""), rows)

    def idle(self, idle: Idle) -> None:
        """What a run costs that has nothing to do."""
        self._step(
            "Nothing changes",
            f"The next run copies {idle.copied:,} objects; by the servers' own logs it asked for listings only.",
        )
        rows = [
            ("pages of listings", f"{idle.source.lists:,}", f"{idle.destination.lists:,}"),
            ("looks at the bucket itself", f"{idle.source.looks:,}", f"{idle.destination.looks:,}"),
            ("reads and writes of objects", f"{idle.source.objects:,}", f"{idle.destination.objects:,}"),
        ]
        self._table(("requests", "S3", "Google"), rows)

    def compared(self, compared: Compared) -> None:
        """That both sides are equal."""
        self._step(
            "Both buckets are compared",
            "Every object of both is read with plain HTTP requests, not by heavy-sync: bytes and metadata are equal.",
        )
        rows = [
            ("objects compared", f"{compared.objects:,}"),
            ("bytes compared", words.size(compared.size)),
            ("differences", "0"),
        ]
        self._table(("", ""), rows)

    def end(self, keep: Path | None) -> None:
        """That it is over."""
        kept = f"What the commands wrote is in {keep}." if keep else "The servers are stopped, their files are gone."
        self._say(f"All of it is as it should be, after {time.monotonic() - self._started:.0f} seconds. {kept}")

    def _step(self, title: str, sentence: str) -> None:
        self._steps += 1
        self._console.print()
        self._console.print(f"{self._steps}. {title} (second {time.monotonic() - self._started:.0f})", style="bold")
        self._say(sentence)

    def _say(self, text: str) -> None:
        self._console.print(self._shown(text), soft_wrap=not self._console.is_terminal)

    def _shown(self, text: str) -> str:
        """Text that this terminal can show: names may have anything in them."""
        return words.plain(text).encode(self._console.encoding, "backslashreplace").decode(self._console.encoding)

    def _table(self, headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
        from rich.box import SIMPLE
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE, show_header=any(headings), show_edge=False, pad_edge=True)
        for number, heading in enumerate(headings):
            is_number = number > 0 and all(row[number][:1].isdigit() for row in rows)
            table.add_column(heading, justify="right" if is_number else "left")
        for row in rows:
            table.add_row(*(Text(self._shown(cell)) for cell in row))
        self._console.print(table)


def _of_large(sent: int) -> str:
    from heavysync.cli.demo_story import large_size

    return f"{words.size(sent)} of {words.size(large_size())}"


def _short(name: str) -> str:
    return name if len(name) <= 30 else f"{name[:27]}..."
