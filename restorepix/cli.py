"""The ``restorepix`` command: parse, call one function, turn errors into exit codes.

Only this module prints or exits. Data goes to stdout, everything else to stderr. Whatever is slow
to import (numpy, OpenCV, torch) is imported by the commands, not by ``--help``.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from restorepix import __version__
from restorepix.errors import ExitCode, RestorepixError, UsageError
from restorepix.options import RestoreOptions, WalkOptions

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from restorepix.pipeline import Network
    from restorepix.plan import Plan
    from restorepix.report import Result

STDIO = "-"
"""Input and output that mean stdin and stdout."""

_DEFAULTS = RestoreOptions()

app = typer.Typer(
    name="restorepix",
    epilog="Exit codes: 0 done, 1 some inputs failed, 2 refused, 3 wants a look (with "
    "--fail-on-review), 4 no weights or device, 70 a fault of ours, 130 interrupted.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line and exit with its code."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)


def _interrupt(number: int, frame: object) -> None:
    """Treat a polite kill like Ctrl-C, so that temporary files are removed."""
    raise KeyboardInterrupt


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


@app.command(no_args_is_help=True)
def fix(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Pictures, and folders of them (always with their subfolders); "
            "[bold]-[/bold] reads one picture from stdin and writes it to stdout.",
            show_default=False,
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            "--mask",
            "-m",
            help="A mask for all, or a folder of masks: for sub/a.jpg it is sub/a.jpg.png, "
            "sub/a.png or sub/a_mask.png. White is repainted.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder to write the same tree into, or the output file for one picture. "
            "Default: photos-restored/ beside photos/, a-restored.jpg beside a.jpg.",
            show_default=False,
        ),
    ] = None,
    dilate: Annotated[
        int, typer.Option(metavar="PX", help="Grow the holes by so many pixels.")
    ] = _DEFAULTS.dilate,
    files_from: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|-",
            help="Read more inputs from a file or stdin, one a line.",
            rich_help_panel="Inputs",
            show_default=False,
        ),
    ] = None,
    null: Annotated[
        bool,
        typer.Option(
            "-0", help="--files-from is separated by NUL (find -print0).", rich_help_panel="Inputs"
        ),
    ] = False,
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="In folders, take only names that match; repeatable. With a slash the path "
            "below the folder is matched.",
            rich_help_panel="Inputs",
            show_default=False,
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="In folders, leave out files and folders that match; repeatable.",
            rich_help_panel="Inputs",
            show_default=False,
        ),
    ] = None,
    follow_links: Annotated[
        bool,
        typer.Option(
            "--follow-links", help="Walk into linked folders too.", rich_help_panel="Inputs"
        ),
    ] = False,
    max_mpixels: Annotated[
        float,
        typer.Option(
            metavar="N",
            help="Refuse pictures with more million pixels.",
            rich_help_panel="Inputs",
        ),
    ] = _DEFAULTS.max_mpixels,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="Change the format to png, jpg, tiff or webp; by default each file keeps its own.",
            rich_help_panel="Outputs",
            show_default=False,
        ),
    ] = _DEFAULTS.to,
    accept_reencode: Annotated[
        bool,
        typer.Option(
            "--accept-reencode",
            help="Encode lossy WebP, AVIF and HEIC lossy again: smaller, but known pixels change.",
            rich_help_panel="Outputs",
        ),
    ] = _DEFAULTS.accept_reencode,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace outputs that exist. Originals are never replaced.",
            rich_help_panel="Outputs",
        ),
    ] = _DEFAULTS.overwrite,
    in_place: Annotated[
        bool,
        typer.Option(
            "--in-place",
            help="Give restored files the place of their originals, which go to a backup tree "
            "first; restorepix undo puts them back.",
            rich_help_panel="Outputs",
        ),
    ] = _DEFAULTS.in_place,
    backup: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The backup tree of --in-place. Default: photos-originals/ beside photos/.",
            rich_help_panel="Outputs",
            show_default=False,
        ),
    ] = _DEFAULTS.backup,
    strip: Annotated[
        bool,
        typer.Option(
            "--strip",
            help="Drop private metadata (EXIF, place, maker notes, XMP, IPTC, comments, "
            "thumbnails, sidecars); profile, orientation and resolution stay. Pictures without "
            "holes lose it too.",
            rich_help_panel="Outputs",
        ),
    ] = _DEFAULTS.strip,
    provenance: Annotated[
        bool,
        typer.Option(
            "--provenance/--no-provenance",
            help="Add a line on the repair to the XMP edit history of restored files.",
            rich_help_panel="Outputs",
        ),
    ] = _DEFAULTS.provenance,
    preserve_times: Annotated[
        bool,
        typer.Option(
            "--preserve-times/--no-preserve-times",
            help="Give outputs the file times of their inputs.",
            rich_help_panel="Outputs",
        ),
    ] = _DEFAULTS.preserve_times,
    device: Annotated[
        str,
        typer.Option(
            metavar="auto|cpu|cuda[:N]|mps",
            help="Where the network runs; a device that is named is never replaced by another.",
            rich_help_panel="Network",
        ),
    ] = _DEFAULTS.device,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A safetensors file in place of the bundled weights.",
            rich_help_panel="Network",
            show_default=False,
        ),
    ] = _DEFAULTS.weights,
    threads: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="CPU threads; default: one per core.",
            rich_help_panel="Network",
            show_default=False,
        ),
    ] = _DEFAULTS.threads,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the plan and stop.", rich_help_panel="Report"),
    ] = False,
    fail_on_review: Annotated[
        bool,
        typer.Option(
            "--fail-on-review",
            help="End with exit code 3 when nothing failed but a result wants a look.",
            rich_help_panel="Report",
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one JSON record a line to stdout, a summary last.",
            rich_help_panel="Report",
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print failures only.", rich_help_panel="Report")
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            help="Print files that are passed over, masks and times too.",
            rich_help_panel="Report",
        ),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", help="Stop at a fault of ours with its traceback.", rich_help_panel="Report"
        ),
    ] = False,
) -> None:
    """Repaint what masks show in white, in pictures and whole folders.

    [bold]Examples[/bold]

      restorepix fix photos/ --mask masks/ [dim]# into photos-restored/[/dim]

      restorepix fix photos/ --mask masks/ -o out/ --dry-run

      restorepix fix a.jpg --mask a_mask.png --dilate 2 [dim]# a-restored.jpg[/dim]

      find . -name '*.tif' -print0 | restorepix fix --files-from - -0 -m masks/

      restorepix fix photos/ --mask masks/ --in-place [dim]# originals to photos-originals/[/dim]

      restorepix fix - --mask mask.png < in.jpg > out.jpg

    Names, formats, metadata and every pixel outside the masks are kept, which is checked on the
    encoded file before it takes its name. A bad file is listed at the end; the others go on.
    """
    with _report_errors(debug):
        options = RestoreOptions(
            dilate=dilate,
            to=to,
            accept_reencode=accept_reencode,
            overwrite=overwrite,
            in_place=in_place,
            backup=backup,
            strip=strip,
            provenance=provenance,
            preserve_times=preserve_times,
            max_mpixels=max_mpixels,
            device=device,
            weights=weights,
            threads=threads,
        )
        walk = WalkOptions(tuple(include or ()), tuple(exclude or ()), follow_links)
        if mask is None:
            raise UsageError(
                "--mask is missing: damage is not detected automatically yet, so restorepix has "
                "to be told what to repaint. Pass --mask with a mask file or a folder of masks."
            )
        if null and files_from is None:
            raise UsageError("-0 says how --files-from is separated: pass --files-from too.")
        names = list(inputs or ())
        if STDIO in names:
            if len(names) > 1 or files_from is not None or as_json or dry_run or in_place:
                raise UsageError(
                    "- (stdin to stdout) cannot be combined with other inputs, --files-from, "
                    "--json, --dry-run or --in-place."
                )
            _fix_stdin(mask, output, options)
            return
        code = _fix_files(
            _collect_paths(names, files_from, null),
            mask,
            output,
            options,
            walk,
            _Talk(quiet=quiet, verbose=verbose, as_json=as_json, fail_on_review=fail_on_review),
            dry_run=dry_run,
            debug=debug,
        )
        raise typer.Exit(code)


@app.command(no_args_is_help=True)
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
    ] = _DEFAULTS.dilate,
    strip: Annotated[
        bool, typer.Option("--strip", help="OUT was made with --strip; a journal knows it.")
    ] = _DEFAULTS.strip,
    max_mpixels: Annotated[
        float, typer.Option(metavar="N", help="Refuse pictures with more million pixels.")
    ] = _DEFAULTS.max_mpixels,
    debug: Annotated[
        bool, typer.Option("--debug", help="Stop at a fault of ours with its traceback.")
    ] = False,
) -> None:
    """Prove that restored files hold everything of their originals outside the masks.

    [bold]Examples[/bold]

      restorepix verify a.jpg a-restored.jpg --mask a_mask.png

      restorepix verify photos/ photos-restored/ [dim]# with the masks that the run kept[/dim]

      restorepix verify photos-originals/ photos/ [dim]# after fix --in-place[/dim]

    Prints the SHA-256 over all known pixels (for JPEG: coefficients), which is the record's
    known_sha256; for folders, one line a file. Exit code 1 when anything known differs.
    """
    with _report_errors(debug):
        options = RestoreOptions(dilate=dilate, strip=strip, max_mpixels=max_mpixels)
        if before.is_dir() != after.is_dir():
            raise UsageError(f"{before} and {after}: expected two files or two folders.")
        if before.is_dir():
            raise typer.Exit(_verify_folders(before, after, mask, options))
        from restorepix.proof import verify_files

        typer.echo(verify_files(before, after, mask, options))


@app.command(no_args_is_help=True)
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
    debug: Annotated[
        bool, typer.Option("--debug", help="Stop at a fault of ours with its traceback.")
    ] = False,
) -> None:
    """Put back the originals that fix --in-place replaced, byte for byte.

    [bold]Examples[/bold]

      restorepix undo photos/

      restorepix undo /backups/photos --dry-run

    Times and permissions come back too, and the backups leave their tree. A file that was changed
    since it was restored is left alone, which makes the exit code 1. Running it again is safe.
    """
    with _report_errors(debug):
        raise typer.Exit(_undo_run(run, force=force, dry_run=dry_run, quiet=quiet))


def _verify_folders(
    before: Path, after: Path, mask: Path | None, options: RestoreOptions
) -> ExitCode:
    from restorepix.proof import verify_folders
    from restorepix.report import show_name

    console = _build_console()
    good = bad = 0
    for proof in verify_folders(before, after, mask, options):
        if proof.known_sha256 is not None:
            good += 1
            typer.echo(show_name(f"{proof.known_sha256}  {proof.output}"))
        else:
            bad += 1
            console.print(_build_error(proof.error), soft_wrap=True)
    console.print(f"{good + bad} photographs: {good} proved, {bad} not", soft_wrap=True)
    return ExitCode.SOME_FAILED if bad else ExitCode.OK


def _undo_run(run: Path, *, force: bool, dry_run: bool, quiet: bool) -> ExitCode:
    from collections import Counter

    from restorepix.originals import find_run, undo_run
    from restorepix.report import show_name

    console = _build_console()
    counts: Counter[str] = Counter()
    for undone in undo_run(find_run(run), force=force, dry_run=dry_run):
        counts[undone.status] += 1
        if undone.message:
            console.print(_build_error(undone.message), soft_wrap=True)
        elif not quiet:
            line = f"{undone.status:<9}  {show_name(str(undone.path))}"
            console.print(line, soft_wrap=True, markup=False)
    if not quiet:
        text = ", ".join(f"{count} {status}" for status, count in counts.items())
        note = "; nothing was changed" if dry_run else ""
        console.print(f"{counts.total()} originals: {text or 'nothing to do'}{note}")
    return ExitCode.SOME_FAILED if counts["refused"] else ExitCode.OK


class _Talk:
    """What is said while a run goes on: records on stdout, lines and progress on stderr."""

    def __init__(self, *, quiet: bool, verbose: bool, as_json: bool, fail_on_review: bool) -> None:
        self.console = _build_console()
        self.fail_on_review = fail_on_review
        self.quiet = quiet
        self.verbose = verbose
        self.as_json = as_json

    def say(self, message: Any) -> None:
        """Print a line to stderr unless quiet; never wrapped, so that names stay whole."""
        if not self.quiet:
            self.console.print(message, soft_wrap=True)

    def emit(self, value: dict[str, Any]) -> None:
        """Print a JSON line to stdout when asked for."""
        if self.as_json:
            from restorepix.report import encode_json

            typer.echo(encode_json(value))
            sys.stdout.flush()


def _fix_files(
    paths: Sequence[Path],
    mask: Path,
    output: Path | None,
    options: RestoreOptions,
    walk: WalkOptions,
    talk: _Talk,
    *,
    dry_run: bool,
    debug: bool,
) -> ExitCode:
    from restorepix.pipeline import load_network
    from restorepix.plan import build_plan

    plan = build_plan(paths, mask, output, options, walk)
    _say_ignored(plan, talk)
    if dry_run:
        _print_plan(plan, talk)
        return ExitCode.OK
    if not plan.jobs:
        return _finish([], 0.0, talk)
    network = load_network(options)
    talk.say(f"running on {network.device}")
    return _run(plan, options, network, talk, debug=debug)


def _run(
    plan: Plan, options: RestoreOptions, network: Network, talk: _Talk, *, debug: bool
) -> ExitCode:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from restorepix.pipeline import restore_batch
    from restorepix.report import render_result

    begin = time.perf_counter()
    results: list[Result] = []
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = talk.quiet or not talk.console.is_terminal
    try:
        with Progress(*columns, console=talk.console, transient=True, disable=hidden) as progress:
            task = progress.add_task("", total=len(plan.jobs))
            for job, result in zip(
                plan.jobs, restore_batch(plan, options, network, debug=debug), strict=True
            ):
                results.append(result)
                talk.emit(result.to_record())
                talk.say(render_result(result))
                if talk.verbose:
                    talk.say(_describe_details(result, job.mask))
                progress.advance(task)
    except KeyboardInterrupt:
        _finish(results, time.perf_counter() - begin, talk)
        talk.console.print(
            f"interrupted: {len(plan.jobs) - len(results)} of {len(plan.jobs)} not done. "
            "Run the same command again to go on.",
            soft_wrap=True,
        )
        raise
    return _finish(results, time.perf_counter() - begin, talk)


def _finish(results: Sequence[Result], seconds: float, talk: _Talk) -> ExitCode:
    """Print the failures and the summary; return the exit code."""
    from restorepix.report import build_summary, choose_exit_code, render_failure, render_summary

    code = choose_exit_code(results, fail_on_review=talk.fail_on_review)
    talk.emit(build_summary(results, seconds, code))
    failed = [result for result in results if result.error is not None]
    if failed:
        talk.console.print("failed:", style="bold red")
        for result in failed:
            talk.console.print(render_failure(result), soft_wrap=True)
    talk.say(render_summary(results, seconds))
    return code


def _describe_details(result: Result, mask: Path | None) -> Text:
    from rich.text import Text

    from restorepix.report import show_name

    parts = [f"mask {show_name(str(mask))}"] if mask is not None else []
    parts += [f"{stage} {spent:.2f} s" for stage, spent in result.seconds.items()]
    return Text(f"           {', '.join(parts)}", "dim")


def _say_ignored(plan: Plan, talk: _Talk) -> None:
    """Say how many files are passed over, and name those that claim to be pictures."""
    from rich.text import Text

    from restorepix.inputs import PICTURE_SUFFIXES
    from restorepix.report import show_name

    if plan.masks:
        talk.say(f"masks among the pictures, not restored: {len(plan.masks)}")
    if plan.ignored:
        talk.say(f"files that are no pictures, passed over: {len(plan.ignored)}")
    for path in plan.ignored:
        claims = path.suffix.lower() in PICTURE_SUFFIXES
        if talk.verbose or claims:
            note = " (named like a picture, but its content is none)" if claims else ""
            talk.say(Text(f"  {show_name(str(path))}{note}"))


def _print_plan(plan: Plan, talk: _Talk) -> None:
    """Print what would be done, to stdout."""
    from restorepix.report import show_name
    from restorepix.write import is_taken

    for job in plan.jobs:
        exists = job.backup is None and is_taken(job.output)
        if talk.as_json:
            talk.emit(
                {
                    "input": str(job.source.path),
                    "output": str(job.output),
                    "mask": None if job.mask is None else str(job.mask),
                    "output_exists": exists,
                }
            )
            continue
        notes = [f"mask {job.mask}" if job.mask is not None else job.mask_problem]
        if job.backup is not None:
            notes.append(f"original to {job.backup}")
        if exists:
            notes.append("output exists")
        line = f"{job.source.path} -> {job.output}  ({'; '.join(notes)})"
        typer.echo(show_name(line))
    missing = sum(job.mask is None for job in plan.jobs)
    talk.say(f"{len(plan.jobs)} photographs, {missing} without a mask; nothing was written")


def _fix_stdin(mask: Path, output: Path | None, options: RestoreOptions) -> None:
    from restorepix.pipeline import load_network, restore_stream

    if mask.is_dir():
        raise UsageError(f"--mask {mask}: expected a file, because a picture on stdin has no name.")
    if output is not None and str(output) != STDIO:
        raise UsageError(f"-o {output}: a picture on stdin is written to stdout.")
    if sys.stdin.buffer.isatty():
        raise UsageError("-: expected a picture on stdin, found a terminal.")
    if sys.stdout.buffer.isatty():
        raise UsageError("-: the picture would be written to a terminal. Redirect stdout.")
    data = sys.stdin.buffer.read()
    restored = restore_stream(data, mask, options, load_network(options))
    sys.stdout.buffer.write(restored)
    sys.stdout.buffer.flush()


def _collect_paths(names: Sequence[str], files_from: str | None, null: bool) -> list[Path]:
    from restorepix.inputs import read_file_list

    paths = [Path(name) for name in names]
    if files_from is not None:
        paths += read_file_list(files_from, null_separated=null)
    elif not paths:
        raise UsageError("no inputs: name pictures or folders, or pass --files-from.")
    return paths


@contextmanager
def _report_errors(debug: bool) -> Generator[None]:
    """Turn errors into a sentence on stderr and an exit code."""
    try:
        yield
    except RestorepixError as error:
        _fail(str(error), error.exit_code, debug)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever read our stdout has left. Python flushes it once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except typer.Exit:
        raise
    except Exception as error:  # noqa: BLE001 - the last place that can turn it into a sentence
        _fail(
            f"internal error: {type(error).__name__}: {error}. This is a fault of ours: run again "
            "with --debug and report what it prints.",
            ExitCode.INTERNAL,
            debug,
        )


def _fail(message: str, code: ExitCode, debug: bool) -> NoReturn:
    if debug:
        traceback.print_exc()
    _build_console().print(_build_error(message), soft_wrap=True)
    raise typer.Exit(code)


def _build_error(message: str) -> Text:
    from rich.text import Text

    from restorepix.report import show_name

    return Text.assemble(("error: ", "bold red"), show_name(message))


def _build_console() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False, emoji=False)
