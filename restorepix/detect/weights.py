"""Which weights find damage, and what to say when there are none."""

from __future__ import annotations

from typing import Final

from restorepix.errors import UsageError
from restorepix.options import DetectOptions, RestoreOptions
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
