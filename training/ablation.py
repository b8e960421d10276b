"""What BYOL is worth to the detector: the same training from scratch and from its encoder.

    python -m training.ablation training/recipes/detector.toml --cache runs/cache \
        --elements DATA/damage_elements --encoder runs/byol/encoder.safetensors \
        --data DATA --runs runs/ablation --steps 2000

Both arms see the same batches for the same number of steps and are scored on the same held-out
samples (``benchmarks.detection``); the table goes to stdout and ``RUNS/ablation.md``. Arms that are
done are not trained again.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.detection import CLASSES, build_sample, open_scanner, score_clean, score_ours
from restorepix.options import DetectOptions
from training.byol import load_encoder_state
from training.data import read_rgb
from training.detector import (
    DetectorTrainer,
    Recipe,
    SampleBatches,
    export_detector,
    find_checkpoint,
    read_recipe,
    train,
)
from training.synthesis.sample import Library, PhotoSource, open_library
from training.validation import list_validation


def train_arm(
    recipe: Recipe, source: PhotoSource, library: Library, run: Path, encoder: Path | None
) -> Path:
    """Train one arm to the recipe's last step, or go on with it; returns its weights."""
    state = None if encoder is None else load_encoder_state(encoder)[0]
    trainer = DetectorTrainer(recipe, torch.device("cpu"), state)
    if (checkpoint := find_checkpoint(run)) is not None:
        trainer.load(checkpoint)
    if trainer.step < recipe.train.steps:
        train(trainer, SampleBatches(source, library, recipe).follow(trainer.step), run)
    export_detector(run / "checkpoint", run / "detect.safetensors")
    return run / "detect.safetensors"


def main() -> None:
    """Train and score both arms from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="held-out photographs")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--elements", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--photos", type=int, default=100)
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    recipe = read_recipe(options.recipe)
    recipe = replace(recipe, train=replace(recipe.train, steps=options.steps))
    torch.set_num_threads(recipe.train.threads)
    source = PhotoSource.open(options.cache)
    library = open_library(options.elements, held_out=False)
    photos = [read_rgb(path) for path in list_validation(options.data, options.photos)]
    unseen = open_library(options.elements, held_out=True)
    samples = {
        kind: [
            build_sample(photo, kind, unseen, (options.seed, channel, number))
            for number, photo in enumerate(photos)
        ]
        for channel, kind in enumerate(CLASSES)
    }
    heads = " | ".join(f"{kind} F1" for kind in CLASSES)
    lines = [f"| encoder | {heads} | clean pixels marked |", "|---|" + "---|" * (len(CLASSES) + 1)]
    for name, encoder in (("from scratch", None), ("BYOL", options.encoder)):
        run = options.runs / name.replace(" ", "-").lower()
        weights = train_arm(recipe, source, library, run, encoder)
        scan, detect = open_scanner(weights, 1), DetectOptions()
        rows = score_ours(samples, scan, detect, {})
        clean = score_clean(photos, lambda photo, scan=scan: (scan(photo)[:2] >= 128).any(0))
        scores = " | ".join(f"{rows[kind]['f1']:.3f}" for kind in CLASSES)
        lines.append(f"| {name} | {scores} | {100 * clean['mean_share']:.3f} % |")
        sys.stdout.write(lines[-1] + "\n")
    text = f"{options.steps} steps, {len(photos)} photographs, seed {recipe.train.seed}\n\n"
    (options.runs / "ablation.md").write_text(text + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
