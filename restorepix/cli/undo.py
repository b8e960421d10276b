"""``restorepix undo``: put back the originals that were restored in place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restorepix.cli.common import (
    AsJson,
    Debug,
    LogFile,
    build_console,
    build_error,
    report_errors,
)
from restorepix.cli.streams import write_line
from restorepix.errors import ExitCode


def undo(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="The folder that was restored in place, or its backup tree."
        ),
    ],
    force: Annotated[
        bool,
        typer.Option("--force", help="Put originals back over files that changed since, too."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and stop.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print refusals only.")] = False,
    as_json: AsJson = False,
    log_file: LogFile = None,
    debug: Debug = False,
) -> None:
    """Put back the originals that fix --in-place replaced, byte for byte.

    [bold]Examples[/bold]

      restorepix undo photos/

      restorepix undo /backups/photos --dry-run

    Times and permissions come back too, and the backups leave their tree. A file that was changed
    since it was restored is left alone, which makes the exit code 1. Running it again is safe.
    """
    with report_errors(debug):
        raise typer.Exit(_undo_run(run, force=force, dry_run=dry_run, quiet=quiet, as_json=as_json))


_SUMMARY = {"was back": "back already"}


def _undo_run(run: Path, *, force: bool, dry_run: bool, quiet: bool, as_json: bool) -> ExitCode:
    from collections import Counter

    from restorepix.originals import find_run, undo_run
    from restorepix.report import encode_json, show_name

    console = build_console()
    counts: Counter[str] = Counter()
    for undone in undo_run(find_run(run), force=force, dry_run=dry_run):
        counts[undone.status] += 1
        if as_json:
            record = {
                "path": str(undone.path),
                "status": undone.status,
                "message": undone.message or None,
            }
            write_line(encode_json(record))
        if undone.message:
            console.print(build_error(undone.message), soft_wrap=True)
        elif not (quiet or as_json):
            line = f"{undone.status:<9}  {show_name(str(undone.path))}"
            console.print(line, soft_wrap=True, markup=False)
    code = ExitCode.SOME_FAILED if counts["refused"] else ExitCode.OK
    if as_json:
        words = ("put back", "was back", "refused")
        summary = {word: counts[word] for word in words}
        summary |= {"dry_run": dry_run, "exit_code": int(code)}
        write_line(encode_json({"summary": summary}))
    if not quiet:
        text = ", ".join(f"{count} {_SUMMARY.get(one, one)}" for one, count in counts.items())
        note = "; this was a dry run, nothing was changed" if dry_run else ""
        console.print(f"{counts.total()} originals: {text or 'nothing to do'}{note}")
    return code
