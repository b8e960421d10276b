"""``restorepix report``: a run as a contact sheet in one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restorepix.cli.common import (
    DEFAULTS,
    Config,
    Debug,
    LogFile,
    MaxMpixels,
    Quiet,
    Talk,
    get_settings,
    report_errors,
)
from restorepix.cli.settings import refuse_among_pictures
from restorepix.cli.streams import write_line
from restorepix.options import RestoreOptions

if TYPE_CHECKING:
    from restorepix.gallery.entries import Entry

Originals = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Where the originals are, under the names of the outputs, when they have moved.",
        show_default=False,
    ),
]
Run = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="The output folder of a run; after fix --in-place the folder itself, or its backups.",
    ),
]


def report(
    run: Run,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The page to write. Default: photos-restored-report.html beside photos-restored/.",
            show_default=False,
        ),
    ] = None,
    originals: Originals = None,
    max_mpixels: MaxMpixels = DEFAULTS.max_mpixels,
    quiet: Quiet = False,
    config: Config = None,
    log_file: LogFile = None,
    debug: Debug = False,
) -> None:
    """Show a run as a contact sheet: a page with every photograph before and after.

    [bold]Examples[/bold]

      restorepix report photos-restored/

      restorepix report photos-restored/ -o sheet.html --originals /archive/photos

    The page needs no network and no other file; with many photographs the pictures lie in a
    folder beside it. Prints the name of the page.
    """
    with report_errors(debug):
        from restorepix.gallery.entries import read_run
        from restorepix.gallery.page import title_run
        from restorepix.report import show_name

        refuse_among_pictures(get_settings(), [run])
        limit = RestoreOptions(max_mpixels=max_mpixels).max_mpixels  # refuses what is no limit
        found = read_run(run, originals)
        title = title_run(found)
        page = output or found.folder.resolve().with_name(f"{title}-report.html")
        save_page(found.entries, page, title, Talk(quiet=quiet), limit)
        write_line(show_name(str(page)))


def save_page(
    entries: Sequence[Entry], page: Path, title: str, talk: Talk, max_mpixels: float
) -> None:
    """Write a page, with a bar on a terminal while its pictures are made.

    Raises:
        UsageError: something else is in the page's place.
        WriteError: it cannot be written.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from restorepix.gallery.page import write_report

    columns = ("previews", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = talk.quiet or not talk.console.is_terminal
    with Progress(*columns, console=talk.console, transient=True, disable=hidden) as progress:
        task = progress.add_task("", total=len(entries))
        for done in write_report(entries, page, title, max_mpixels=max_mpixels):
            progress.update(task, completed=done)
