"""``restorepix mask``: find damage and write it as masks, without repairing anything."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restorepix.cli.batch import check_pipe, collect_paths, say_ignored
from restorepix.cli.common import (
    DEFAULTS,
    STDIO,
    AsJson,
    Config,
    Debug,
    Device,
    Download,
    Exclude,
    FailOnReview,
    FilesFrom,
    FollowLinks,
    Force,
    Include,
    Inputs,
    LogFile,
    MaxMpixels,
    Null,
    Overwrite,
    Quiet,
    Talk,
    Threads,
    Timeout,
    Verbose,
    WeightsRepo,
    report_errors,
    say_interrupted,
)
from restorepix.cli.detection import (
    Detect,
    Detector,
    IgnoreRegions,
    Infrared,
    MinArea,
    Regions,
    Sensitivity,
    read_detection,
)
from restorepix.cli.models import fetch_missing
from restorepix.cli.streams import write_bytes
from restorepix.errors import ExitCode, PhotoError, UsageError
from restorepix.options import RestoreOptions, WalkOptions
from restorepix.stores.place import parse_place

if TYPE_CHECKING:
    from restorepix.detect.repair import Finder
    from restorepix.plan import Job


def mask(
    inputs: Inputs = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder of masks to write: sub/a.jpg becomes sub/a.jpg.png, where fix --mask "
            "finds it; or the mask file for one picture.",
            show_default=False,
        ),
    ] = None,
    preview: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also write pictures with their mask drawn on, as JPEG.",
            show_default=False,
        ),
    ] = None,
    dilate: Annotated[
        int, typer.Option(metavar="PX", help="Grow the masks beyond their own margin.")
    ] = 0,
    detect: Detect = None,
    sensitivity: Sensitivity = None,
    region: Regions = None,
    ignore_region: IgnoreRegions = None,
    min_area: MinArea = None,
    infrared: Infrared = None,
    detector: Detector = None,
    files_from: FilesFrom = None,
    null: Null = False,
    include: Include = None,
    exclude: Exclude = None,
    follow_links: FollowLinks = False,
    max_mpixels: MaxMpixels = DEFAULTS.max_mpixels,
    timeout: Timeout = DEFAULTS.timeout_s,
    overwrite: Overwrite = DEFAULTS.overwrite,
    force: Force = DEFAULTS.force,
    device: Device = DEFAULTS.device,
    download: Download = DEFAULTS.download,
    weights_repo: WeightsRepo = DEFAULTS.weights_repo,
    threads: Threads = DEFAULTS.threads,
    fail_on_review: FailOnReview = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    config: Config = None,
    log_file: LogFile = None,
    debug: Debug = False,
) -> None:
    """Find damage in pictures and whole folders, and write it as masks.

    [bold]Examples[/bold]

      restorepix mask photos/ -o masks/ --preview look/

      restorepix mask photos/ -o masks/ --detect scratch --sensitivity high

      restorepix mask scans/ -o masks/ --ignore-region 0,90%,100%,100%

      restorepix mask s3://scans/1950 -o s3://scans/masks/1950

      restorepix mask - < in.jpg > mask.png

      restorepix fix photos/ --mask masks/ [dim]# after a look at them, and corrections[/dim]

    White is what fix would repaint, margin included. No picture is changed.
    """
    with report_errors(debug):
        found = read_detection(
            detect, sensitivity, region, ignore_region, min_area, infrared, detector, dilate=dilate
        )
        options = RestoreOptions(
            detect=found,
            overwrite=overwrite,
            force=force,
            max_mpixels=max_mpixels,
            device=device,
            download=download,
            weights_repo=weights_repo,
            threads=threads,
            timeout_s=timeout,
        )
        names = list(inputs or ())
        if STDIO in names:
            if len(names) > 1 or files_from or null or as_json or preview is not None:
                raise UsageError(
                    "- (stdin to stdout) cannot be combined with other inputs, --files-from, "
                    "--json or --preview."
                )
            _write_to_stdout(output, options)
            return
        if output is None:
            raise UsageError("-o is missing: name the folder that the masks are written to.")
        walk = WalkOptions(tuple(include or ()), tuple(exclude or ()), follow_links)
        talk = Talk(quiet=quiet, verbose=verbose, as_json=as_json, fail_on_review=fail_on_review)
        paths = [parse_place(path) for path in collect_paths(names, files_from, null)]
        output = parse_place(output)
        preview = None if preview is None else parse_place(preview)
        raise typer.Exit(_write_masks(paths, output, preview, options, walk, talk, debug=debug))


def _load_finder(options: RestoreOptions, talk: Talk) -> Finder:
    from dataclasses import replace

    from restorepix.detect.repair import build_finder
    from restorepix.detect.weights import DETECTOR_MODEL, check_detector
    from restorepix.engine.run import count_cores

    assert options.detect is not None, "this command always detects"
    check_detector(options.detect)
    if options.detect.weights is None:
        fetch_missing(options, talk, models=(DETECTOR_MODEL,))
    return build_finder(replace(options, threads=options.threads or count_cores()))


def _write_to_stdout(output: Path | None, options: RestoreOptions) -> None:
    from restorepix.detect.masks import make_mask

    check_pipe(output)
    finder = _load_finder(options, Talk(quiet=True))
    data = sys.stdin.buffer.read()
    made = make_mask(data, "stdin", finder, max_mpixels=options.max_mpixels, preview=False)
    write_bytes(made.data)


def _write_masks(
    paths: list[Path],
    output: Path,
    preview: Path | None,
    options: RestoreOptions,
    walk: WalkOptions,
    talk: Talk,
    *,
    debug: bool,
) -> ExitCode:
    from restorepix.cli.progress import show_progress
    from restorepix.plan import build_plan, check_folder

    plan = build_plan(paths, None, output, options, walk)
    if preview is not None:
        check_folder(preview, "--preview")
    say_ignored(plan, talk)
    finder = _load_finder(options, talk)
    began = time.perf_counter()
    counts = {"written": 0, "failed": 0, "empty": 0, "review": 0}
    codes: set[str] = set()
    is_interrupted = False
    try:
        with show_progress(talk, len(plan.jobs)) as advance:
            for job in plan.jobs:
                record = _write_mask(job, output, preview, finder, options, debug=debug)
                counts[record["status"]] += 1
                counts["empty"] += record["status"] == "written" and not record["hole_pixels"]
                counts["review"] += bool(record["review"])
                if record["error"] is not None:
                    codes.add(record["error"]["code"])
                talk.emit(record)
                _say_record(record, talk)
                advance()
    except KeyboardInterrupt:
        is_interrupted = True
        left = len(plan.jobs) - counts["written"] - counts["failed"]
        say_interrupted(f"{left} of {len(plan.jobs)} not done")
    seconds = round(time.perf_counter() - began, 3)
    code = ExitCode.OK
    if is_interrupted:
        code = ExitCode.INTERRUPTED
    elif "internal" in codes:
        code = ExitCode.INTERNAL
    elif codes:
        code = ExitCode.SOME_FAILED
    elif counts["review"] and talk.fail_on_review:
        code = ExitCode.REVIEW
    talk.emit({"summary": {**counts, "seconds": seconds, "exit_code": int(code)}})
    talk.say(
        f"{counts['written']} masks written ({counts['empty']} empty), {counts['failed']} failed, "
        f"{counts['review']} want a look; {seconds:.1f} s"
    )
    return code


def _write_mask(
    job: Job,
    output: Path,
    preview: Path | None,
    finder: Finder,
    options: RestoreOptions,
    *,
    debug: bool,
) -> dict[str, Any]:
    """Write one mask; return its record, which for an error says what was wrong."""
    from restorepix.detect.masks import make_mask, place_mask_file
    from restorepix.pipeline import read_stable
    from restorepix.write import write_output

    path = job.source.path
    record: dict[str, Any] = {"input": str(path), "output": None, "status": "failed"}
    try:
        data = read_stable(path, options.timeout_s)
        made = make_mask(
            data, str(path), finder, max_mpixels=options.max_mpixels, preview=preview is not None
        )
        exact = job.run_folder is None and job.output == output
        place = place_mask_file(job.output, made.suffix, exact=exact)
        _write(made.data, place, path, options, write_output)
        if preview is not None and made.preview is not None:
            relative = Path(place.name) if exact else place.relative_to(output)
            shown = preview.joinpath(*relative.parts).with_suffix(".jpg")
            _write(made.preview, shown, path, options, write_output)
    except PhotoError as error:
        return {**record, "review": [], "error": {"code": error.code, "message": str(error)}}
    except Exception as error:  # noqa: BLE001 - one file's trouble must not end the batch
        if debug:
            raise
        message = f"{path}: internal error: {type(error).__name__}: {error}"
        return {**record, "review": [], "error": {"code": "internal", "message": message}}
    return {**record, "output": str(place), "status": "written", **made.record, "error": None}


def _write(data: bytes, place: Path, source: Path, options: RestoreOptions, write: Any) -> None:
    from restorepix.errors import OutputExistsError
    from restorepix.write import is_taken

    if is_taken(place) and not options.overwrite:
        raise OutputExistsError(
            f"{place}: there is a file already. Pass --overwrite to replace it, or choose another "
            "-o; masks that were corrected by hand are worth keeping."
        )
    write(
        data,
        place,
        source,
        preserve_times=False,
        overwrite=options.overwrite,
        timeout_s=options.timeout_s,
    )


def _say_record(record: dict[str, Any], talk: Talk) -> None:
    from rich.text import Text

    from restorepix.report import show_name

    name = show_name(record["input"])
    if record["error"] is not None:
        talk.console.print(Text(f"failed     {record['error']['message']}", "red"), soft_wrap=True)
        return
    parts = [
        f"{kind} {found['pixels']} px ({found['confidence']:.2f})"
        for kind, found in record["detected"].items()
        if found["pixels"]
    ]
    line = f"mask       {name}  {', '.join(parts)}" if parts else f"clean      {name}"
    talk.say(Text(line))
    for reason in record["review"]:
        talk.say(Text(f"           look: {reason}", "yellow"))
