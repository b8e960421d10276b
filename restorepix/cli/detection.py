"""The options of commands that find damage, and what they mean together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, cast

import typer

from restorepix.errors import UsageError
from restorepix.options import DamageClass, DetectOptions, Region
from restorepix.stores.place import check_local

DETECTION = "Detection"

DETECT_DEFAULTS = DetectOptions()
"""Where commands take the defaults of these options from."""

Detect = Annotated[
    str | None,
    typer.Option(
        metavar="CLASSES",
        help="What to find: scratch (with dust, hair, folds, stains, tears), text (captions, "
        "dates) and watermark, with commas between. Default: scratch,text.",
        rich_help_panel=DETECTION,
        show_default=False,
    ),
]
Sensitivity = Annotated[
    str | None,
    typer.Option(
        metavar="low|normal|high|0..1",
        help="How readily to mark; more marks more. Default: normal, which is 0.5.",
        rich_help_panel=DETECTION,
        show_default=False,
    ),
]
Regions = Annotated[
    list[str] | None,
    typer.Option(
        "--region",
        metavar="L,T,R,B",
        help="Look for damage only between left, top, right, bottom, in pixels or percent "
        "(0,80%,100%,100%); repeatable.",
        rich_help_panel=DETECTION,
        show_default=False,
    ),
]
IgnoreRegions = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore-region",
        metavar="L,T,R,B",
        help="Never mark anything there; repeatable.",
        rich_help_panel=DETECTION,
        show_default=False,
    ),
]
MinArea = Annotated[
    int | None,
    typer.Option(
        metavar="PX",
        help="Leave smaller pieces alone. Default: what the weights say of each class.",
        rich_help_panel=DETECTION,
        show_default=False,
    ),
]
Infrared = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="The infrared plane of a film scan, or a folder of them named like the pictures. "
        "A second, grey page of a scan is used anyway.",
        rich_help_panel=DETECTION,
        show_default=False,
    ),
]
Detector = Annotated[
    Path | None,
    typer.Option(
        "--detector",
        metavar="FILE|NAME",
        help="The detector's weights, in place of the default ones.",
        rich_help_panel=DETECTION,
        show_default=False,
    ),
]


def read_detection(
    detect: str | None,
    sensitivity: str | None,
    regions: Sequence[str] | None,
    ignore_regions: Sequence[str] | None,
    min_area: int | None,
    infrared: Path | None,
    detector: Path | None,
    *,
    dilate: int = 0,
    optional: bool = False,
) -> DetectOptions | None:
    """Return what is to be detected.

    Args:
        detect: ``--detect``.
        sensitivity: ``--sensitivity``.
        regions: each ``--region``.
        ignore_regions: each ``--ignore-region``.
        min_area: ``--min-area``.
        infrared: ``--infrared``.
        detector: ``--detector``.
        dilate: pixels by which pieces grow beyond their margin.
        optional: a mask is given, so nothing is detected unless ``--detect`` asks for it.

    Returns:
        The options, or None where nothing is to be detected.

    Raises:
        UsageError: a value means nothing, or has no effect without ``--detect``.
    """
    if optional and detect is None:
        given = {
            "--sensitivity": sensitivity,
            "--region": regions,
            "--ignore-region": ignore_regions,
            "--min-area": min_area,
            "--infrared": infrared,
            "--detector": detector,
        }
        for option, value in given.items():
            if value:
                raise UsageError(
                    f"{option} says how damage is found, but with --mask none is looked for: pass "
                    "--detect scratch,text to unite both."
                )
        return None
    check_local("--infrared", infrared)
    if infrared is not None and not infrared.exists():
        raise UsageError(f"--infrared {infrared}: no such file or folder.")
    defaults = DETECT_DEFAULTS
    names = None if detect is None else tuple(name.strip() for name in detect.split(","))
    return DetectOptions(
        classes=defaults.classes if names is None else cast("tuple[DamageClass, ...]", names),
        sensitivity=defaults.sensitivity if sensitivity is None else sensitivity,
        regions=tuple(Region.parse(text) for text in regions or ()),
        ignore_regions=tuple(
            Region.parse(text, "--ignore-region") for text in ignore_regions or ()
        ),
        min_area=min_area,
        dilate=dilate,
        infrared=infrared,
        weights=detector,
    )
