"""What BYOL is worth to the detector: the same training from scratch and from its encoder.

    python -m training.byol training/recipes/byol-ablation.toml --cache runs/cache \
        --run runs/byol-ablation
    python -m training.ablation training/recipes/detector.toml --cache runs/cache \
        --elements DATA/damage_elements --encoder runs/byol-ablation/encoder.safetensors \
        --data DATA --runs runs/ablation --steps 600

Both arms see the same batches for the same number of steps and are scored on the same held-out
samples (``benchmarks.detection``), each at the threshold that suits it best: probabilities of a
detector that has hardly begun are not calibrated. The table goes to stdout and
``RUNS/ablation.md``. Arms that are done are not trained again. ``--bank`` takes samples that
``training.synthesis.bank`` drew, in place of ``--cache`` and ``--elements``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.detection import CLASSES, Scan, build_sample, open_scanner, score_peer
from benchmarks.detection_peers import Peer, Rgb, Scores
from training.byol import load_encoder_state
from training.data import read_rgb
from training.detector import (
    DetectorTrainer,
    Recipe,
    export_detector,
    find_checkpoint,
    open_batches,
    read_recipe,
    train,
)
from training.synthesis.sample import open_library
from training.validation import list_validation

Follow = Callable[[int], Iterator[tuple[Tensor, Tensor]]]
"""The batches from a step on."""

LOGGED_STEPS = 50
"""As ``training.detector.train`` logs."""

THRESHOLDS = range(8, 256, 8)
"""Of a map in 0 to 255, to choose the best one from."""


def train_arm(recipe: Recipe, follow: Follow, run: Path, encoder: Path | None) -> Path:
    """Train one arm to the recipe's last step, or go on with it; returns its weights."""
    state = None if encoder is None else load_encoder_state(encoder)[0]
    trainer = DetectorTrainer(recipe, torch.device("cpu"), state)
    if (checkpoint := find_checkpoint(run)) is not None:
        trainer.load(checkpoint)
    if trainer.step < recipe.train.steps:
        train(trainer, follow(trainer.step), run)
    export_detector(run / "checkpoint", run / "detect.safetensors")
    return run / "detect.safetensors"


def main() -> None:
    """Train and score both arms from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--cache", type=Path, help="folder of training.data; or --bank")
    parser.add_argument("--bank", type=Path, help="samples of training.synthesis.bank")
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="held-out photographs")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--elements", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    if (options.cache is None) == (options.bank is None):
        parser.error("pass either --cache (and --elements) or --bank")
    if options.steps < LOGGED_STEPS:
        parser.error(f"--steps: expected {LOGGED_STEPS} or more, the steps of a line of the log")
    recipe = read_recipe(options.recipe)
    recipe = replace(recipe, train=replace(recipe.train, steps=options.steps))
    torch.set_num_threads(recipe.train.threads)
    batches = open_batches(recipe, options.bank, options.cache, options.elements)
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
    lines = [f"| encoder | loss | {heads} |", "|---|" + "---|" * (len(CLASSES) + 1)]
    for name, encoder in (("from scratch", None), ("BYOL", options.encoder)):
        run = options.runs / name.replace(" ", "-").lower()
        scan = open_scanner(train_arm(recipe, batches.follow, run, encoder), 1)
        scores = [
            f"{score_peer(samples[kind], kind, _choose_map(scan, channel))['f1']:.3f}"
            for channel, kind in enumerate(CLASSES)
        ]
        lines.append(f"| {name} | {read_loss(run):.4f} | {' | '.join(scores)} |")
        sys.stdout.write(lines[-1] + "\n")
    text = (
        f"{options.steps} steps, {len(photos)} photographs, seed {recipe.train.seed}; loss: mean "
        f"of the last tenth of training; F1 at the best of {len(THRESHOLDS)} thresholds\n\n"
    )
    (options.runs / "ablation.md").write_text(text + "\n".join(lines) + "\n")


def read_loss(run: Path) -> float:
    """Mean loss of the last tenth of a run's log, at least of its last line."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    last = lines[-1]["step"]
    return float(np.mean([x["loss"] for x in lines if x["step"] > 0.9 * last]))


def _choose_map(scan: Scan, channel: int) -> Peer:
    """One class of a detector as something to score."""

    def score(image: Rgb) -> Scores:
        return np.asarray(scan(image)[channel], np.float32)

    return Peer(CLASSES[channel], (CLASSES[channel],), score, THRESHOLDS)


if __name__ == "__main__":
    main()
