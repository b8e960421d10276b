"""From a checkpoint to the detector that is shipped: thresholds chosen, then written into it.

    python -m training.calibrate runs/detector/checkpoint DATA \
        --recipe training/recipes/detector.toml --out weights/detect.safetensors

Which answer counts as damage is chosen on photographs that the detector was not trained on and that
validation does not use either: for each class the setting with the highest F1 among those that mark
at most ``--limit`` of the clean ones and ``--pixels`` of their pixels. The threshold goes into the
weights (the head's bias is lowered by it, so that 0.5 is where sensitivity ``normal`` begins a
piece), how pieces grow and how small they may be into the header. Then ``benchmarks.detection``
measures on the validation photographs what was chosen here. Takes about five minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import torch

from benchmarks.detection import build_sample, open_scanner
from benchmarks.detection_sweep import CLASSES, SHIFT, Setting, choose, format_table, sweep
from restorepix.masks import DamageClass
from training.data import list_images, read_rgb
from training.detector import export_detector
from training.synthesis.sample import open_library
from training.validation import list_validation

LIMITS: Final = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Rows of the table: shares of clean photographs marked."""


def list_unseen(data: Path, recipe: Path, count: int, seed: int) -> list[Path]:
    """Photographs that neither training nor validation uses, in an order that the seed decides.

    They lie in the folders that validation's come from: those are photographs without damage.

    Raises:
        FileNotFoundError: there are none.
    """
    folders = tomllib.loads(recipe.read_text("utf-8"))["data"]["folders"]
    trained = [data / folder for folder in folders]
    held_out = set(list_validation(data))
    paths = [
        path
        for folder in sorted({path.parent for path in held_out})
        if not any(folder.is_relative_to(other) for other in trained)
        for path in list_images(folder)
        if path not in held_out
    ]
    if not paths:
        msg = f"{data}: expected photographs that neither training nor validation uses, found none"
        raise FileNotFoundError(msg)
    order = np.random.default_rng(seed).permutation(len(paths))
    return [paths[index] for index in order[:count]]


def read_limited(path: Path, long_px: int = 640) -> npt.NDArray[np.uint8]:
    """A photograph, (H, W, 3) uint8, reduced to a long side of ``long_px`` if it is larger."""
    image = read_rgb(path)
    scale = long_px / max(image.shape[:2])
    if scale >= 1:
        return image
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def main() -> None:
    """Calibrate and export from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", type=Path, required=True, help="names the folders trained on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clean", type=int, default=1600, help="clean photographs")
    parser.add_argument("--damaged", type=int, default=150, help="damaged pictures of each class")
    parser.add_argument(
        "--limit", type=float, nargs=3, default=(0.02, 0.02, 0.02), metavar=CLASSES,
        help="largest share of clean photographs that each class may mark",
    )  # fmt: skip
    parser.add_argument(
        "--pixels", type=float, nargs=3, default=(0.0005, 0.0004, 0.0007), metavar=CLASSES,
        help="largest share of the clean photographs' pixels, on average",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    raw = options.out.with_name(options.out.stem + ".raw.safetensors")
    export_detector(options.checkpoint, raw)
    scan = open_scanner(raw, 1, shift=SHIFT)
    raw.unlink()
    count = max(options.clean, len(CLASSES) * options.damaged)
    paths = list_unseen(options.data, options.recipe, count, options.seed)
    photos = [read_limited(path) for path in paths]
    library = open_library(options.data / "damage_elements", held_out=True)
    damaged = {
        kind: [
            build_sample(photo, kind, library, (options.seed, channel, number))
            for number, photo in enumerate(photos[: len(CLASSES) * options.damaged])
            if number % len(CLASSES) == channel
        ]
        for channel, kind in enumerate(CLASSES)
    }
    clean = photos[: options.clean]
    table = sweep(scan, damaged, clean)
    sys.stderr.write(format_table(table, len(clean), LIMITS))
    chosen: dict[DamageClass, Setting] = {}
    for kind, limit, pixels in zip(CLASSES, options.limit, options.pixels, strict=True):
        setting = choose(table[kind], len(clean), limit, pixels)
        if setting is None:
            parser.error(
                f"{kind}: no setting finds any and marks at most {limit:g} of the clean "
                f"photographs and {pixels:g} of their pixels"
            )
        chosen[kind] = setting
        sys.stderr.write(f"{kind}: {setting}\n")
    sys.stdout.write(export_calibrated(options.checkpoint, options.out, chosen) + "\n")


def export_calibrated(checkpoint: Path, out: Path, chosen: Mapping[DamageClass, Setting]) -> str:
    """Write a checkpoint's moving average with the settings of each class; returns its sha256."""
    begins = {kind: setting.begin for kind, setting in chosen.items()}
    marking = {kind: setting.marking._asdict() for kind, setting in chosen.items()}
    return export_detector(checkpoint, out, begins=begins, marking=json.dumps(marking))


if __name__ == "__main__":
    main()
