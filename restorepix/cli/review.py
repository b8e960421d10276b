"""``restorepix review``: decide about a run's photographs in a browser."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restorepix.cli.common import (
    DEFAULTS,
    Config,
    Debug,
    Device,
    LogFile,
    MaxMpixels,
    Quiet,
    Talk,
    Threads,
    Weights,
    get_settings,
    report_errors,
)
from restorepix.cli.models import fetch_missing
from restorepix.cli.report import Originals, Run
from restorepix.cli.settings import refuse_among_pictures
from restorepix.cli.streams import write_line
from restorepix.errors import ExitCode
from restorepix.options import RestoreOptions

if TYPE_CHECKING:
    from restorepix.gallery.server import ReviewServer


def review(
    run: Run,
    opens: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser of this machine.")
    ] = False,
    originals: Originals = None,
    max_mpixels: MaxMpixels = DEFAULTS.max_mpixels,
    device: Device = DEFAULTS.device,
    weights: Weights = DEFAULTS.weights,
    threads: Threads = DEFAULTS.threads,
    quiet: Quiet = False,
    config: Config = None,
    log_file: LogFile = None,
    debug: Debug = False,
) -> None:
    """Look through a run in a browser: accept, reject, or paint a mask and repaint.

    [bold]Examples[/bold]

      restorepix review photos-restored/ --open

      restorepix review photos-restored/ [dim]# prints the address; Ctrl-C ends it[/dim]

    Only this machine can reach the page, and only with the address that is printed. A rejected
    photograph gets its original back as output, a repainted one is done again and proved; both
    are in the journal, and restorepix fix leaves them alone from then on.
    """
    with report_errors(debug):
        from restorepix.gallery.entries import read_run
        from restorepix.gallery.review import Reviewer
        from restorepix.gallery.server import ReviewServer
        from restorepix.pipeline import build_repair

        options = RestoreOptions(
            max_mpixels=max_mpixels, device=device, weights=weights, threads=threads
        )
        refuse_among_pictures(get_settings(), [run])
        talk = Talk(quiet=quiet)
        found = read_run(run, originals)
        fetch_missing(options, talk)
        server = ReviewServer(Reviewer(found, options, build_repair), max_mpixels=max_mpixels)
        raise typer.Exit(_serve(server, talk, opens))


def _serve(server: ReviewServer, talk: Talk, opens: bool) -> ExitCode:
    """Serve until Ctrl-C, which is how a review ends."""
    talk.say(f"{len(server.reviewer.entries)} photographs; Ctrl-C ends the review")
    write_line(server.address)
    with tempfile.TemporaryDirectory(prefix="restorepix-") as folder:
        if opens:
            _open_browser(server.address, Path(folder))
        try:
            server.serve()
        except KeyboardInterrupt:
            talk.say("ending the review")
        finally:
            server.close()
    counts = server.reviewer.count()
    talk.say(", ".join(f"{count} {choice}" for choice, count in sorted(counts.items())))
    return ExitCode.OK


def _open_browser(address: str, folder: Path) -> None:
    """Open an address by way of a private file: a command line can be seen by other users."""
    import webbrowser

    page = folder / "review.html"
    page.touch(mode=0o600)
    page.write_text(f'<!doctype html><meta http-equiv="refresh" content="0;url={address}">')
    webbrowser.open(page.as_uri())
