"""``restorepix remove-watermark``: take a watermark off that repeats over a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from restorepix.cli.batch import (
    check_page,
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
    AsJson,
    Backup,
    Compile,
    Config,
    Debug,
    Device,
    Dilate,
    Download,
    DryRun,
    Exclude,
    FailOnReview,
    FilesFrom,
    FollowLinks,
    Force,
    Grain,
    Include,
    InPlace,
    Jobs,
    LogFile,
    MaxMpixels,
    Null,
    Output,
    Overwrite,
    Pictures,
    PreserveTimes,
    Provenance,
    Quiet,
    ReportPage,
    Resume,
    RetryFailed,
    Strip,
    Talk,
    Texture,
    Threads,
    Timeout,
    To,
    Verbose,
    Weights,
    WeightsRepo,
    report_errors,
)
from restorepix.cli.models import fetch_missing
from restorepix.errors import ExitCode, UsageError
from restorepix.options import DetectOptions, Region, RestoreOptions, WalkOptions
from restorepix.stores.place import check_local, parse_place

if TYPE_CHECKING:
    from restorepix.plan import Plan
    from restorepix.watermark.study import Study

WATERMARK = "Watermark"

KnownMask = Annotated[
    Path | None,
    typer.Option(
        "--mask",
        "-m",
        metavar="FILE",
        help="Where the watermark is, white, when that is known; a folder of masks also works. "
        "What cannot be un-blended there is repainted.",
        show_default=False,
    ),
]
KnownOverlay = Annotated[
    Path | None,
    typer.Option(
        "--overlay",
        metavar="FILE",
        help="The watermark itself, a picture with alpha: a logo, or what --save-overlay kept.",
        rich_help_panel=WATERMARK,
        show_default=False,
    ),
]
SaveOverlay = Annotated[
    Path | None,
    typer.Option(
        "--save-overlay",
        metavar="FILE",
        help="Keep the watermark that was estimated, as a PNG with alpha, for --overlay.",
        rich_help_panel=WATERMARK,
        show_default=False,
    ),
]
PerImage = Annotated[
    bool,
    typer.Option(
        "--per-image",
        help="Learn nothing from the other photographs.",
        rich_help_panel=WATERMARK,
    ),
]
Regions = Annotated[
    list[str] | None,
    typer.Option(
        "--region",
        metavar="L,T,R,B",
        help="Look only between left, top, right, bottom, in pixels or percent "
        "(0,80%,100%,100%); repeatable.",
        rich_help_panel=WATERMARK,
        show_default=False,
    ),
]


def remove_watermark(
    inputs: Pictures = None,
    mask: KnownMask = None,
    output: Output = None,
    overlay: KnownOverlay = None,
    save_overlay: SaveOverlay = None,
    per_image: PerImage = False,
    region: Regions = None,
    dilate: Dilate = DEFAULTS.dilate,
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
    dry_run: DryRun = False,
    fail_on_review: FailOnReview = False,
    as_json: AsJson = False,
    report: ReportPage = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    config: Config = None,
    log_file: LogFile = None,
    debug: Debug = False,
) -> None:
    """Take off a watermark that repeats over your photographs, and repaint only what is lost.

    [bold]Examples[/bold]

      restorepix remove-watermark photos/ [dim]# into photos-restored/[/dim]

      restorepix remove-watermark photos/ --region 50%,80%,100%,100%

      restorepix remove-watermark photos/ --save-overlay logo.png

      restorepix remove-watermark more/ --overlay logo.png [dim]# even a single photograph[/dim]

    For photographs of your own, or with their owner's leave. Five photographs that carry the
    watermark are needed, twenty are better. Those without it stay byte for byte. Where nothing is
    shared, what the detector sees of writing and marks is repainted.
    """
    with report_errors(debug):
        options = RestoreOptions(
            dilate=dilate,
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
            jobs=jobs,
            threads=threads,
            compile=compile,
            timeout_s=timeout,
        )
        walk = WalkOptions(tuple(include or ()), tuple(exclude or ()), follow_links)
        regions = tuple(Region.parse(text) for text in region or ())
        if STDIO in (inputs or ()):
            raise UsageError(
                "-: a single picture on stdin has no others to learn from. Save it to a file and "
                "pass --overlay or --mask."
            )
        if save_overlay is not None and (per_image or overlay is not None):
            raise UsageError("--save-overlay keeps what is estimated from a folder: leave out "
                             "--per-image and --overlay.")  # fmt: skip
        check_local("--overlay", overlay)
        check_local("--save-overlay", save_overlay)
        if overlay is not None and mask is not None:
            raise UsageError("--overlay says where the watermark is: leave --mask out.")
        paths = [parse_place(path) for path in collect_paths(list(inputs or ()), files_from, null)]
        mask = None if mask is None else parse_place(mask)
        output = None if output is None else parse_place(output)
        check_page(report, (*paths, mask, output))
        code = _remove(
            paths,
            mask,
            output,
            options,
            walk,
            _Source(overlay, per_image, regions, save_overlay),
            Talk(quiet=quiet, verbose=verbose, as_json=as_json, fail_on_review=fail_on_review),
            dry_run=dry_run,
            debug=debug,
            page=report,
        )
        raise typer.Exit(code)


class _Source:
    """Where the overlay is known from."""

    def __init__(
        self,
        overlay: Path | None,
        per_image: bool,
        regions: tuple[Region, ...],
        save: Path | None,
    ) -> None:
        self._overlay, self._per_image = overlay, per_image
        self._regions, self._save = regions, save

    def ask_detector(self, options: RestoreOptions, mask: Path | None) -> RestoreOptions:
        """Return options by which a detector looks at photographs that share nothing.

        Unchanged where a user knows the place or the overlay, or no detector is there.
        """
        from restorepix.detect.weights import DETECTOR_MODEL
        from restorepix.weights import list_models

        if mask is not None or self._overlay is not None or DETECTOR_MODEL not in list_models():
            return options
        detect = DetectOptions(
            classes=("text", "watermark"), regions=self._regions, dilate=options.dilate
        )
        return replace(options, detect=detect)

    def learn(
        self,
        plan: Plan,
        mask: Path | None,
        options: RestoreOptions,
        talk: Talk,
        *,
        keep: bool = True,
    ) -> Study:
        """Return what is known of overlays, from a file or from the folder.

        Args:
            plan: the photographs.
            mask: ``--mask``, if any.
            options: how they would be restored.
            talk: where to tell what is found.
            keep: write what ``--save-overlay`` asks for.
        """
        from restorepix.inputs import is_folder
        from restorepix.runtime import prepare_runtime
        from restorepix.watermark.files import read_overlay, save_overlays
        from restorepix.watermark.study import Study, read_support, study_folder

        # The study brings PyTorch, before the network does: without this it took eight times as
        # long beside other load.
        prepare_runtime()
        if self._overlay is not None:
            family = read_overlay(self._overlay, max_mpixels=options.max_mpixels)
            return Study((family,), tiles=False)
        if self._per_image:
            return Study(tiles=mask is None)
        support = None
        if mask is not None and not is_folder(mask):
            support = read_support(mask, max_mpixels=options.max_mpixels)
        study = study_folder(
            [job.source.path for job in plan.jobs],
            regions=self._regions,
            support=support,
            max_mpixels=options.max_mpixels,
            progress=talk.say,
        )
        for family in study.families:
            height, width = family.overlay.shape
            talk.say(f"found a watermark of {width}x{height} px on {family.photos} photographs")
        for stamp in study.stamps:
            talk.say(f"found a date stamp of {stamp.box.width}x{stamp.box.height} px, of "
                     f"characters that differ, on {stamp.photos} photographs")  # fmt: skip
        if not study.families and not study.stamps:
            talk.say("no watermark repeats over these photographs")
        if not keep or self._save is None:
            return study
        if not study.families:
            talk.say("--save-overlay: no overlay was estimated, so none is kept")
        else:
            for path in save_overlays(study.families, self._save, overwrite=options.overwrite):
                talk.say(f"watermark kept: {path}")
        return study


def _remove(
    paths: Sequence[Path],
    mask: Path | None,
    output: Path | None,
    options: RestoreOptions,
    walk: WalkOptions,
    source: _Source,
    talk: Talk,
    *,
    dry_run: bool,
    debug: bool,
    page: Path | None,
) -> ExitCode:
    from restorepix.engine.run import share_cores
    from restorepix.plan import build_plan
    from restorepix.watermark.repair import build_marks_finder, build_watermark_repair

    plan = build_plan(paths, mask, output, options, walk)
    say_ignored(plan, talk)
    if dry_run:
        from restorepix.watermark.forecast import estimate_removal

        study = source.learn(plan, mask, options, talk, keep=False)
        options = source.ask_detector(options, mask)
        finder = build_marks_finder(study, options)
        print_plan(plan, talk, options, partial(estimate_removal, study, finder))
        return ExitCode.OK
    if not plan.jobs:
        return finish_run([], 0.0, talk)
    options = source.ask_detector(share_cores(options, len(plan.jobs)), mask)
    fetch_missing(options, talk)
    study = source.learn(plan, mask, options, talk)
    build = partial(build_watermark_repair, study)
    repair = build(options)
    talk.say(f"running on {repair.device}")
    return run_plan(plan, options, repair, talk, build=build, debug=debug, page=page)
