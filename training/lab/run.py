"""One system from its recipe: trained, resumable, and exported to a file that ``fix`` loads.

Run: ``python -m training.lab.run RECIPE --cache runs/cache --run runs/deepfill-v1``. A run folder
that holds a checkpoint is continued. The result is ``RUN/SYSTEM.safetensors``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from restorepix.models.encoder import Encoder, EncoderConfig
from restorepix.models.lab.catalogue import LAB_MODELS
from restorepix.models.registry import TWO_STAGE
from restorepix.runtime import keep_freed_memory
from training.byol import load_encoder_state
from training.checkpoint import find_checkpoint
from training.data import open_cache
from training.lab.batches import build_bank, open_batches, open_labelled
from training.lab.recipe import DEFAULT_SYSTEM, LabConfig, Recipe
from training.lab.systems import SYSTEMS, start_run
from training.lab.trainer import Draw, LabTrainer


def read_recipe(path: Path) -> Recipe:
    """The ``[lab]``, ``[model]`` and ``[training]`` tables of a recipe.

    Raises:
        ValueError: an unknown table, system or key, naming it.
    """
    tables: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    if strange := set(tables) - {"data", "lab", "model", "training"}:
        msg = f"{path}: unknown tables: {', '.join(sorted(strange))}"
        raise ValueError(msg)
    lab: dict[str, Any] = tables.get("lab", {})
    system = lab.get("system")
    if system not in SYSTEMS:
        msg = f"{path}: expected a system of {', '.join(SYSTEMS)}, found {system!r}"
        raise ValueError(msg)
    training = SYSTEMS[system].training
    for table, known in (("lab", LabConfig), ("training", training)):
        if strange := set(tables.get(table, {})) - {item.name for item in fields(known)}:
            msg = f"{path}: unknown keys in [{table}]: {', '.join(sorted(strange))}"
            raise ValueError(msg)
    return Recipe(LabConfig(**lab), tables.get("model", {}), tables.get("training", {}))


def train(
    trainer: LabTrainer,
    draw: Draw,
    run: Path,
    *,
    minutes: float = math.inf,
    save_every: float = 60,
    log_every: int = 50,
) -> None:
    """Run to the end, or for so long.

    A run folder with a checkpoint is continued. Losses go to ``RUN/log.jsonl`` and stderr.
    ``trainer.seconds`` counts the processor's time on a CPU, which other work beside it does not
    lengthen, and the clock's on other devices.
    """
    run.mkdir(parents=True, exist_ok=True)
    if (checkpoint := find_checkpoint(run)) is not None:
        trainer.load(checkpoint)
    on_cpu = next(trainer.generator.parameters()).device.type == "cpu"
    clock = time.process_time if on_cpu else time.monotonic
    began = saved = time.monotonic()
    recent: list[dict[str, float]] = []
    while trainer.step < trainer.steps and time.monotonic() - began < minutes * 60:
        before = clock()
        recent.append(trainer.take_step(draw))
        trainer.seconds += clock() - before
        if trainer.step % log_every == 0 or trainer.step == trainer.steps:
            names = {name for losses in recent for name in losses}
            line: dict[str, float] = {"step": trainer.step}
            for name in sorted(names):
                line[name] = round(float(np.mean([x[name] for x in recent if name in x])), 5)
            line["seconds"] = round(trainer.seconds, 1)
            recent.clear()
            with (run / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            sys.stderr.write(f"{run.name}: {json.dumps(line)}\n")
        if time.monotonic() - saved > save_every:
            trainer.save(run / "checkpoint")
            saved = time.monotonic()
    trainer.save(run / "checkpoint")


def export_run(trainer: LabTrainer, recipe: Recipe, out: Path) -> str:
    """Write a run's generator as ``export_network`` does; returns its sha256."""
    return export_network(trainer.generator, recipe, trainer.step, out)


def export_network(network: nn.Module, recipe: Recipe, step: int, out: Path) -> str:
    """Write a network as float16 safetensors that the package loads; returns its sha256.

    Raises:
        OverflowError: a weight does not fit into float16.
    """
    state: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        plain = value.detach().cpu().contiguous()
        if plain.is_floating_point():
            plain = plain.half()
            if not bool(torch.isfinite(plain).all()):
                msg = f"{name} does not fit into float16"
                raise OverflowError(msg)
        state[name] = plain
    system = recipe.lab.system
    named = TWO_STAGE if system == DEFAULT_SYSTEM else LAB_MODELS[system].architecture
    header = {
        "architecture": named,
        "config": json.dumps(dict(recipe.model)),
        "step": str(step),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, out, metadata=header)
    return hashlib.sha256(out.read_bytes()).hexdigest()


def load_features(path: Path) -> tuple[dict[str, Tensor], Encoder]:
    """The state of an encoder that ``training.byol`` exported, and the encoder with it."""
    state, config = load_encoder_state(path)
    encoder = Encoder(cast(EncoderConfig, config))
    encoder.load_state_dict(state)
    return state, encoder


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--cache", type=Path, required=True, help="folder of training.data")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoint and log")
    parser.add_argument("--encoder", type=Path, help="encoder.safetensors of training.byol")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after this long")
    options = parser.parse_args()

    recipe = read_recipe(options.recipe)
    keep_freed_memory()
    torch.set_num_threads(recipe.lab.threads)
    device = torch.device(options.device)
    pixels, index = open_cache(options.cache, device)
    bank = build_bank(recipe.lab)
    extra: dict[str, Any] = {}
    if options.encoder:
        extra["pretrained"], extra["features"] = load_features(options.encoder)
        extra["features"].to(device)
    extra["labelled"] = open_labelled(recipe.lab, pixels, index, bank)
    trainer = start_run(recipe, device, extra)
    draw = open_batches(recipe.lab, pixels, index, bank)
    train(trainer, draw, options.run, minutes=options.minutes)
    out = options.run / f"{recipe.lab.system}.safetensors"
    sys.stdout.write(f"{export_run(trainer, recipe, out)}  {out}\n")


if __name__ == "__main__":
    main()
