"""``restorepix verify``: prove restored files against their originals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restorepix.cli.common import (
    DEFAULTS,
    AsJson,
    Config,
    Debug,
    Exclude,
    FollowLinks,
    Include,
    LogFile,
    MaxMpixels,
    Quiet,
    Talk,
    build_error,
    get_settings,
    report_errors,
)
from restorepix.cli.settings import refuse_among_pictures
from restorepix.cli.streams import write_line
from restorepix.errors import ExitCode, NotRestoredError, PhotoError, PreservationError, UsageError
from restorepix.options import RestoreOptions, WalkOptions
from restorepix.stores.place import is_remote, parse_place

if TYPE_CHECKING:
    from restorepix.proof import Proof


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
    include: Include = None,
    exclude: Exclude = None,
    follow_links: FollowLinks = False,
    max_mpixels: MaxMpixels = DEFAULTS.max_mpixels,
    as_json: AsJson = False,
    quiet: Quiet = False,
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
    known_sha256; for folders, one line a file. Exit code 1 when anything known differs, and when
    a picture of the folder has no restored file.
    """
    with report_errors(debug):
        options = RestoreOptions(dilate=dilate, strip=strip, max_mpixels=max_mpixels)
        walk = WalkOptions(tuple(include or ()), tuple(exclude or ()), follow_links)
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
        from restorepix.proof import verify_folders

        of_folders = is_folder(before)
        if of_folders:
            proofs = verify_folders(before, after, mask, options, walk)
        else:
            proofs = iter([_verify_pair(before, after, mask, options)])
        raise typer.Exit(_tell(proofs, Talk(quiet=quiet, as_json=as_json), of_folders))


def _verify_pair(before: Path, after: Path, mask: Path | None, options: RestoreOptions) -> Proof:
    from restorepix.proof import Proof, verify_files

    try:
        return Proof(before, after, verify_files(before, after, mask, options))
    except PhotoError as error:
        advice = ""
        if mask is None and isinstance(error, PreservationError):
            advice = " Pass --mask with the mask that was used, if there was one."
        return Proof(before, after, None, f"{error}{advice}", error.code)


def _tell(proofs: Iterator[Proof], talk: Talk, of_folders: bool) -> ExitCode:
    """Print each proof as it comes, then how many there are; return the exit code."""
    from restorepix.report import count_noun, show_name

    counts: Counter[str] = Counter()
    for proof in proofs:
        counts["proved" if proof.known_sha256 else proof.code] += 1
        if talk.as_json:
            talk.emit(_build_record(proof))
        elif proof.known_sha256 is not None:
            name = f"  {proof.output}" if of_folders else ""
            write_line(show_name(f"{proof.known_sha256}{name}"))
        if proof.known_sha256 is None:
            talk.console.print(build_error(proof.error), soft_wrap=True)
    failed = counts.total() - counts["proved"]
    code = ExitCode.SOME_FAILED if failed else ExitCode.OK
    summary = {"inputs": counts.total(), "proved": counts["proved"], "failed": failed}
    talk.emit({"summary": {**summary, "exit_code": int(code)}})
    if of_folders:
        missing = counts[NotRestoredError.code]
        note = f" ({missing} without a restored file)" if missing else ""
        proved = f"{counts['proved']} proved, {failed} not{note}"
        talk.say(
            f"{count_noun(counts.total(), 'photograph')}: {proved}"
            if counts
            else "no pictures found: nothing to prove"
        )
    return code


def _build_record(proof: Proof) -> dict[str, object]:
    return {
        "input": str(proof.input),
        "output": str(proof.output),
        "status": "failed" if proof.known_sha256 is None else "proved",
        "known_sha256": proof.known_sha256,
        "error": {"code": proof.code, "message": proof.error} if proof.error else None,
    }
