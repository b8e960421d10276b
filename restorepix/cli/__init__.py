"""The ``restorepix`` command: parse, call one function, turn errors into exit codes.

Only this package prints or exits. Data goes to stdout, everything else to stderr. Whatever is slow
to import (numpy, OpenCV, torch) is imported by the commands, not by ``--help``. One module holds
one command; it is registered here, in the order of ``--help``.
"""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer

from restorepix import __version__
from restorepix.cli import (
    config,
    doctor,
    fix,
    mask,
    models,
    report,
    review,
    undo,
    verify,
    watermark,
)
from restorepix.cli.common import say_interrupted
from restorepix.cli.help import Command, Group
from restorepix.cli.streams import escape_what_cannot_be_encoded, open_missing_streams
from restorepix.errors import ExitCode

app = typer.Typer(
    name="restorepix",
    cls=Group,
    epilog="Exit codes: 0 done, 1 some inputs failed, 2 refused, 3 wants a look (with "
    "--fail-on-review), 4 no weights or device, 70 a fault of ours, 130 interrupted.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=Command, no_args_is_help=True)(fix.fix)
app.command(cls=Command, no_args_is_help=True)(watermark.remove_watermark)
app.command(cls=Command, no_args_is_help=True)(mask.mask)
app.command(cls=Command, no_args_is_help=True)(verify.verify)
app.command(cls=Command, no_args_is_help=True)(undo.undo)
app.command(cls=Command, no_args_is_help=True)(report.report)
app.command(cls=Command, no_args_is_help=True)(review.review)
app.command(cls=Command)(doctor.doctor)
app.add_typer(config.app, name="config", cls=Group)
app.add_typer(models.app, name="models", cls=Group)


def main() -> None:
    """Run the command line and exit with its code."""
    # A polite kill is like Ctrl-C, so that temporary files are removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    open_missing_streams()
    escape_what_cannot_be_encoded()
    try:
        app()
    except KeyboardInterrupt:
        say_interrupted()
        sys.exit(ExitCode.INTERRUPTED)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"restorepix {__version__}")
        raise typer.Exit


@app.callback()
def restorepix(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version"),
    ] = False,
) -> None:
    """Repaint damage in photographs, and change nothing else.

    [bold]Examples[/bold]

      restorepix fix photos/ --mask masks/

      restorepix fix photo.jpg --mask photo_mask.png -o repaired.jpg

      restorepix verify photos/ photos-restored/

      restorepix undo photos/ [dim]# after fix --in-place[/dim]
    """
