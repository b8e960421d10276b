"""``restorepix fix``: repaint what masks show, in pictures and whole folders."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import typer

from restorepix.cli.batch import (
    check_page,
    check_pipe,
    collect_paths,
    finish_run,
    print_plan,
    run_plan,
    say_ignored,
)
from restorepix.cli.common import (
    DEFAULTS,
    STDIO,
    AcceptReencode,
    Address,
    AsJson,
    Backup,
    Compile,
    Config,
    Debug,
    Device,
    Dilate,
    Download,
    DryRun,
    Engine,
    Exclude,
    FailOnReview,
    FilesFrom,
    FollowLinks,
    Force,
    GpuShare,
    Grain,
    Include,
    InPlace,
    Inputs,
    Jobs,
    LogFile,
    Mask,
    MaxMpixels,
    Null,
    Output,
    Overwrite,
    PreserveTimes,
    Provenance,
    Quiet,
    ReportPage,
    Resume,
    RetryFailed,
    ShowAttention,
    Strip,
    Talk,
    Texture,
    Threads,
    Timeout,
    To,
    Verbose,
    Watch,
    Weights,
    WeightsRepo,
    report_errors,
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
from restorepix.errors import ExitCode, UsageError
from restorepix.options import ClusterOptions, RestoreOptions, WalkOptions
from restorepix.stores.place import check_local, is_remote, parse_place


def fix(
    inputs: Inputs = None,
    mask: Mask = None,
    output: Output = None,
    dilate: Dilate = DEFAULTS.dilate,
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
    to: To = DEFAULTS.to,
    accept_reencode: AcceptReencode = DEFAULTS.accept_reencode,
    force: Force = DEFAULTS.force,
    resume: Resume = DEFAULTS.resume,
    retry_failed: RetryFailed = DEFAULTS.retry_failed,
    overwrite: Overwrite = DEFAULTS.overwrite,
    in_place: InPlace = DEFAULTS.in_place,
    backup: Backup = DEFAULTS.backup,
    strip: Strip = DEFAULTS.strip,
    provenance: Provenance = DEFAULTS.provenance,
    preserve_times: PreserveTimes = DEFAULTS.preserve_times,
    device: Device = DEFAULTS.device,
    weights: Weights = DEFAULTS.weights,
    download: Download = DEFAULTS.download,
    weights_repo: WeightsRepo = DEFAULTS.weights_repo,
    texture: Texture = DEFAULTS.texture,
    grain: Grain = DEFAULTS.grain,
    jobs: Jobs = DEFAULTS.jobs,
    threads: Threads = DEFAULTS.threads,
    compile: Compile = DEFAULTS.compile,
    engine: Engine = "local",
    address: Address = None,
    gpu_share: GpuShare = ClusterOptions.gpu_share,
    watch: Watch = False,
    dry_run: DryRun = False,
    fail_on_review: FailOnReview = False,
    as_json: AsJson = False,
    report: ReportPage = None,
    show_attention: ShowAttention = DEFAULTS.show_attention,
    quiet: Quiet = False,
    verbose: Verbose = False,
    config: Config = None,
    log_file: LogFile = None,
    debug: Debug = False,
) -> None:
    """Repaint damage that is found, or that masks show in white, in pictures and whole folders.

    [bold]Examples[/bold]

      restorepix fix photos/ --mask masks/ [dim]# into photos-restored/[/dim]

      restorepix fix photos/ --mask masks/ -o out/ --dry-run

      restorepix fix a.jpg --mask a_mask.png --dilate 2 [dim]# a-restored.jpg[/dim]

      find . -name '*.tif' -print0 | restorepix fix --files-from - -0 -m masks/

      restorepix fix photos/ --mask masks/ --in-place [dim]# originals to photos-originals/[/dim]

      restorepix fix - --mask mask.png < in.jpg > out.jpg

      restorepix fix photos/ --mask masks/ --detect scratch [dim]# both[/dim]

      restorepix fix s3://scans/1950 -m s3://scans/masks -o s3://scans/restored --jobs 16

    Without --mask, scratches (with dust, folds, stains, tears) and writing laid over the picture
    are looked for. Plain damage is found and faint damage missed: look with restorepix mask first.

    Names, formats, metadata and every pixel outside the masks are kept, which is checked on the
    encoded file before it takes its name. A bad file is listed at the end; the others go on.
    """
    with report_errors(debug):
        found = read_detection(
            detect,
            sensitivity,
            region,
            ignore_region,
            min_area,
            infrared,
            detector,
            dilate=dilate,
            optional=mask is not None,
        )
        options = RestoreOptions(
            dilate=dilate,
            detect=found,
            to=to,
            accept_reencode=accept_reencode,
            force=force,
            resume=resume or retry_failed,
            retry_failed=retry_failed,
            overwrite=overwrite,
            in_place=in_place,
            backup=backup,
            strip=strip,
            provenance=provenance,
            preserve_times=preserve_times,
            max_mpixels=max_mpixels,
            device=device,
            weights=weights,
            download=download,
            weights_repo=weights_repo,
            texture=texture,
            grain=grain,
            show_attention=show_attention,
            jobs=jobs,
            threads=threads,
            compile=compile,
            timeout_s=timeout,
        )
        check_local("--show-attention", show_attention)
        cluster = _choose_cluster(engine, address, gpu_share)
        walk = WalkOptions(tuple(include or ()), tuple(exclude or ()), follow_links)
        mask = None if mask is None else parse_place(mask)
        output = None if output is None else parse_place(output)
        if found is not None:
            from restorepix.detect.weights import check_detector

            check_detector(found)
        names = list(inputs or ())
        if STDIO in names:
            if len(names) > 1 or files_from or null or as_json or dry_run or in_place:
                raise UsageError(
                    "- (stdin to stdout) cannot be combined with other inputs, --files-from, "
                    "--json, --dry-run or --in-place."
                )
            if cluster is not None:
                raise UsageError("--engine ray: not for a picture on stdin.")
            if report is not None:
                raise UsageError("--report shows files: a picture on stdin leaves none.")
            _fix_stdin(mask, output, options)
            return
        talk = Talk(quiet=quiet, verbose=verbose, as_json=as_json, fail_on_review=fail_on_review)
        paths = [parse_place(path) for path in collect_paths(names, files_from, null)]
        check_page(report, (*paths, mask, output))
        if watch:
            if in_place or dry_run or report is not None or cluster is not None:
                raise UsageError(
                    "--watch: not with --in-place, --dry-run, --report or --engine ray."
                )
            _watch_files(paths, mask, output, options, walk, talk, debug=debug)
        code = _fix_files(
            paths,
            mask,
            output,
            options,
            walk,
            talk,
            dry_run=dry_run,
            debug=debug,
            page=report,
            cluster=cluster,
        )
        raise typer.Exit(code)


def _choose_cluster(engine: str, address: str | None, gpu_share: float) -> ClusterOptions | None:
    """Return where ``--engine`` says to run; None for this machine."""
    if engine not in ("local", "ray"):
        raise UsageError(f"--engine: expected local or ray, found {engine!r}.")
    cluster = ClusterOptions(address, gpu_share)
    if engine == "ray":
        return cluster
    if cluster != ClusterOptions():
        raise UsageError("--address and --gpu-share belong to --engine ray: pass that too.")
    return None


def _fix_files(
    paths: Sequence[Path],
    mask: Path | None,
    output: Path | None,
    options: RestoreOptions,
    walk: WalkOptions,
    talk: Talk,
    *,
    dry_run: bool,
    debug: bool,
    page: Path | None,
    cluster: ClusterOptions | None,
) -> ExitCode:
    from restorepix.engine.run import share_cores
    from restorepix.pipeline import build_repair
    from restorepix.plan import build_plan

    plan = build_plan(paths, mask, output, options, walk)
    say_ignored(plan, talk)
    if dry_run:
        print_plan(plan, talk, options)
        return ExitCode.OK
    if not plan.jobs:
        return finish_run([], 0.0, talk)
    if cluster is None:
        options = share_cores(options, len(plan.jobs))
    _fetch(options, talk)
    # A cluster's GPUs are not this machine's; what is asked of its repair here needs none.
    repair = build_repair(options if cluster is None else replace(options, device="cpu"))
    talk.say(f"running on {repair.device if cluster is None else 'a Ray cluster'}")
    return run_plan(
        plan,
        options,
        repair,
        talk,
        build=build_repair,
        debug=debug,
        page=page,
        cluster=cluster,
    )


def _watch_files(
    paths: Sequence[Path],
    mask: Path | None,
    output: Path | None,
    options: RestoreOptions,
    walk: WalkOptions,
    talk: Talk,
    *,
    debug: bool,
) -> None:
    """Restore what lands in a folder until interrupted."""
    from restorepix.engine.run import count_cores, share_cores
    from restorepix.engine.watch import watch_folder
    from restorepix.pipeline import build_repair
    from restorepix.plan import build_plan
    from restorepix.report import show_name

    if len(paths) != 1 or is_remote(paths[0]) or not paths[0].is_dir():
        raise UsageError("--watch: expected one folder, and no other inputs.")
    options = share_cores(options, count_cores())
    _fetch(options, talk)
    repair = build_repair(options)
    plans = watch_folder(
        paths[0],
        lambda: build_plan(paths, mask, output, options, walk),
        needs_mask=repair.needs_mask,
    )
    talk.say(show_name(f"watching {paths[0]}, running on {repair.device}; Ctrl-C ends it"))
    for plan in plans:
        run_plan(plan, options, repair, talk, build=build_repair, debug=debug)


def _fetch(options: RestoreOptions, talk: Talk) -> None:
    """Fetch whatever weights the options need and this machine lacks."""
    names = ["inpaint"]
    if options.detect is not None and options.detect.weights is None:
        from restorepix.detect.weights import DETECTOR_MODEL

        names.append(DETECTOR_MODEL)
    fetch_missing(options, talk, models=names)


def _fix_stdin(mask: Path | None, output: Path | None, options: RestoreOptions) -> None:
    from restorepix.inputs import is_folder
    from restorepix.masks import MaskFinder
    from restorepix.pipeline import build_repair, restore_stream

    if mask is not None and is_folder(mask):
        raise UsageError(f"--mask {mask}: expected a file, because a picture on stdin has no name.")
    if mask is not None:
        MaskFinder(mask)  # refuses what is not there
    check_pipe(output)
    _fetch(options, Talk(quiet=True))
    data = sys.stdin.buffer.read()
    write_bytes(restore_stream(data, mask, options, build_repair(options)))
