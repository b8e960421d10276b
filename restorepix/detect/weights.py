"""Which weights find damage, and what to say when there are none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast, get_args

from restorepix.detect.findings import DEFAULT_MARKING, Marking
from restorepix.errors import UsageError, WeightsError
from restorepix.models.header import read_header
from restorepix.options import DamageClass, DetectOptions, RestoreOptions
from restorepix.weights import WeightsFile, find_weights, list_models

DETECTOR_MODEL: Final = "detect"
"""The model of the manifest that finds damage."""


def find_detector(options: RestoreOptions) -> WeightsFile:
    """Return the checked weights file of the detector that the options ask for."""
    detect = options.detect or DetectOptions()
    return find_weights(
        detect.weights,
        DETECTOR_MODEL,
        kind="detector",
        download=options.download,
        repo=options.weights_repo,
    )


def check_detector(options: DetectOptions) -> None:
    """Say what to do where no detector is named and this version knows none.

    Raises:
        UsageError: as said.
    """
    if options.weights is None and DETECTOR_MODEL not in list_models():
        raise UsageError(
            "no detector is installed: this version comes without weights that find damage. Pass "
            "--mask with a mask file or a folder of masks, or --detector FILE with weights that "
            "training/detector.py made."
        )


def read_markings(path: Path) -> dict[DamageClass, Marking]:
    """Return what the header of a detector's weights says of each class; empty for nothing.

    The header's ``marking`` is a JSON object: by class ``grow``, ``min_area``, ``evidence``,
    ``floor``, ``sure`` and ``share``, as :class:`restorepix.detect.findings.Marking` has them. The
    thresholds are in the weights: 0.5 is where sensitivity ``normal`` begins a piece
    (training/calibrate.py).

    Raises:
        WeightsError: it is there and means something else.
    """
    with path.open("rb") as file:
        text = read_header(path, file).metadata.get("marking", "{}")
    markings: dict[DamageClass, Marking] = {}
    try:
        tables = cast("dict[DamageClass, dict[str, Any]]", json.loads(text))
        for name, table in tables.items():
            marking = Marking(**table)
            share, area = float(marking.grow), int(marking.min_area)
            evidence, floor = int(marking.evidence), float(marking.floor)
            sure, core = float(marking.sure), float(marking.share)
            if name not in get_args(DamageClass) or not (
                0 < share <= 1 <= area
                and evidence >= 0
                and floor < 0 <= sure < 20
                and 0 <= core < 1
            ):
                raise ValueError(name)
            markings[name] = Marking(share, area, evidence, floor, sure, core)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise WeightsError(
            f"{path}: the header's marking is {text[:80]!r}, expected for some of the classes grow "
            "(above 0, at most 1), min_area (1 or more), evidence (0 or more), floor (below 0), "
            "sure (0 to 20) and share (0 or more, below 1). Export the weights again."
        ) from error
    return markings


def list_floors(markings: Mapping[DamageClass, Marking]) -> tuple[float, ...]:
    """Return ``Marking.floor`` of every class, in the order of the detector's outputs."""
    return tuple(markings.get(name, DEFAULT_MARKING).floor for name in get_args(DamageClass))
