"""``restorepix verify``: prove restored files against their originals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restorepix.cli.common import (
    DEFAULTS,
    Config,
    Debug,
    LogFile,
    MaxMpixels,
    build_console,
    build_error,
    get_settings,
    report_errors,
)
from restorepix.cli.settings import refuse_among_pictures
from restorepix.cli.streams import write_line
from restorepix.errors import ExitCode, PreservationError, UsageError
from restorepix.options import RestoreOptions
from restorepix.stores.place import is_remote, parse_place


def verify(
    before: Annotated[Path, typer.Argument(metavar="IN", help="The original, or a folder.")],
    after: Annotated[Path, typer.Argument(metavar="OUT", help="The restored file, or folder.")],
    mask: Annotated[
        Path | None,
        typer.Option(
            "--mask",
            "-m",
            help="The mask that was used, or a folder of masks. Without it, folders take what "
            "their run's journal kept; else all of IN is known.",
            show_default=False,
        ),
    ] = None,
    dilate: Annotated[
        int, typer.Option(metavar="PX", help="The --dilate that was used with --mask.")
    ] = DEFAULTS.dilate,
    strip: Annotated[
        bool, typer.Option("--strip", help="OUT was made with --strip; a journal knows it.")
    ] = DEFAULTS.strip,
    max_mpixels: MaxMpixels = DEFAULTS.max_mpixels,
    config: Config = None,
    log_file: LogFile = None,
    debug: Debug = False,
) -> None:
    """Prove that restored files hold everything of their originals outside the masks.

    [bold]Examples[/bold]

      restorepix verify a.jpg a-restored.jpg --mask a_mask.png

      restorepix verify photos/ photos-restored/ [dim]# with the masks that the run kept[/dim]

      restorepix verify s3://scans/1950 s3://scans/restored/1950

      restorepix verify photos-originals/ photos/ [dim]# after fix --in-place[/dim]

    Prints the SHA-256 over all known pixels (for JPEG: coefficients), which is the record's
    known_sha256; for folders, one line a file. Exit code 1 when anything known differs.
    """
    with report_errors(debug):
        options = RestoreOptions(dilate=dilate, strip=strip, max_mpixels=max_mpixels)
        refuse_among_pictures(get_settings(), [before, after])
        before, after = parse_place(before), parse_place(after)
        mask = None if mask is None else parse_place(mask)
        from restorepix.inputs import is_folder
        from restorepix.write import is_taken

        if is_folder(before) != is_folder(after):
            for path in (before, after):
                if not is_remote(path) and not is_taken(path):
                    raise UsageError(f"{path}: no such file or folder.")
            raise UsageError(f"{before} and {after}: expected two files or two folders.")
        if is_folder(before):
            raise typer.Exit(_verify_folders(before, after, mask, options))
        from restorepix.proof import verify_files

        try:
            write_line(verify_files(before, after, mask, options))
        except PreservationError as error:
            if mask is not None:
                raise
            advice = "Pass --mask with the mask that was used, if there was one."
            raise PreservationError(f"{error} {advice}") from error


def _verify_folders(
    before: Path, after: Path, mask: Path | None, options: RestoreOptions
) -> ExitCode:
    from restorepix.proof import verify_folders
    from restorepix.report import show_name

    console = build_console()
    good = bad = 0
    for proof in verify_folders(before, after, mask, options):
        if proof.known_sha256 is not None:
            good += 1
            write_line(show_name(f"{proof.known_sha256}  {proof.output}"))
        else:
            bad += 1
            console.print(build_error(proof.error), soft_wrap=True)
    console.print(f"{good + bad} photographs: {good} proved, {bad} not", soft_wrap=True)
    return ExitCode.SOME_FAILED if bad else ExitCode.OK
