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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from restorepix.models.encoder import Encoder, EncoderConfig
from restorepix.models.generator import Generator, GeneratorConfig
from restorepix.models.lab.byol_unet import ByolUnet
from restorepix.models.lab.catalogue import LAB_MODELS
from restorepix.models.lab.context_encoder import AlexContextEncoder, ContextEncoder
from restorepix.models.lab.deepfill import DeepFill
from restorepix.models.lab.glcic import Glcic
from restorepix.models.lab.shift_net import ShiftNet
from restorepix.models.registry import TWO_STAGE
from training.allocator import keep_freed_memory
from training.byol import load_encoder_state
from training.checkpoint import find_checkpoint
from training.data import Batches, open_cache
from training.lab import masks
from training.lab.byol_unet import ByolUnetTrainer, ByolUnetTraining
from training.lab.context_encoder import ContextTrainer, ContextTraining
from training.lab.deepfill import DeepFillTrainer, DeepFillTraining
from training.lab.glcic import GlcicTrainer, GlcicTraining
from training.lab.reconstruction import ReconstructionTrainer, ReconstructionTraining
from training.lab.shift_net import ShiftNetTrainer, ShiftTraining
from training.lab.trainer import Draw, LabTrainer
from training.masks import Mask, build_mask_bank, find_fonts

DEFAULT_SYSTEM = "restorepix"
"""The package's own generator, trained here by reconstruction alone, as a row to compare with."""

MASK_KINDS = ("damage", "box", "center", "blocks", "region")


@dataclass(frozen=True)
class LabConfig:
    """One run; every field is read from the recipe's ``[lab]`` table."""

    system: str
    """A name of ``LAB_MODELS``, or ``restorepix``."""
    steps: int
    """Steps of the generator."""
    batch: int = 16
    """Samples a step."""
    crop_px: int = 128
    """Side of the square crops."""
    masks: str = "damage"
    """``damage`` is the mix that the default inpainter trains on; ``box`` DeepFill's boxes;
    ``center``, ``blocks`` and ``region`` those of context encoders."""
    bank: int = 4096
    """Masks that are drawn, once."""
    scale: Literal["all", "smallest"] = "all"
    """Of the sizes that the cache has of each photograph, those that crops are cut from."""
    share: float = 1.0
    """Of the photographs that are used, spread over the cache."""
    labelled: float = 1.0
    """Of the photographs that the joint BYOL arm's L1 sees."""
    seed: int = 1
    """Of initial weights, masks and batches."""
    threads: int = 1
    """CPU threads."""
    bf16: bool = True
    """Autocast generators to bfloat16."""
    decay: bool = False
    """As ``LabTrainer.decay``."""


@dataclass(frozen=True)
class Recipe:
    """A run with its system's own settings."""

    lab: LabConfig
    model: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Fields of the system's config."""
    training: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Fields of the system's training settings."""


@dataclass(frozen=True)
class _System:
    training: type
    start: Callable[[nn.Module, Any, Recipe, Mapping[str, Any]], LabTrainer]


def _common(recipe: Recipe) -> dict[str, Any]:
    return {"steps": recipe.lab.steps, "seed": recipe.lab.seed, "bf16": recipe.lab.bf16}


def _start_deepfill(
    model: nn.Module, training: Any, recipe: Recipe, extra: Mapping[str, Any]
) -> LabTrainer:
    assert isinstance(model, DeepFill)
    side = recipe.lab.crop_px
    wants = training.perceptual_weight or training.style_weight
    features = extra.get("features") if wants else None
    return DeepFillTrainer(model, training, side_px=side, features=features, **_common(recipe))


def _start_context(
    model: nn.Module, training: Any, recipe: Recipe, _: Mapping[str, Any]
) -> LabTrainer:
    assert isinstance(model, ContextEncoder | AlexContextEncoder)
    return ContextTrainer(model, training, side_px=recipe.lab.crop_px, **_common(recipe))


def _start_glcic(
    model: nn.Module, training: Any, recipe: Recipe, _: Mapping[str, Any]
) -> LabTrainer:
    assert isinstance(model, Glcic)
    return GlcicTrainer(model, training, side_px=recipe.lab.crop_px, **_common(recipe))


def _start_shift_net(
    model: nn.Module, training: Any, recipe: Recipe, _: Mapping[str, Any]
) -> LabTrainer:
    assert isinstance(model, ShiftNet)
    return ShiftNetTrainer(model, training, **_common(recipe))


def _start_byol_unet(
    model: nn.Module, training: Any, recipe: Recipe, extra: Mapping[str, Any]
) -> LabTrainer:
    assert isinstance(model, ByolUnet)
    wants = training.arm in ("finetuned", "frozen")
    return ByolUnetTrainer(
        model, training, pretrained=extra.get("pretrained") if wants else None,
        labelled=extra.get("labelled") if training.arm == "joint" else None, **_common(recipe),
    )  # fmt: skip


def _start_reconstruction(
    model: nn.Module, training: Any, recipe: Recipe, _: Mapping[str, Any]
) -> LabTrainer:
    return ReconstructionTrainer(model, training, **_common(recipe))


SYSTEMS: dict[str, _System] = {
    DEFAULT_SYSTEM: _System(ReconstructionTraining, _start_reconstruction),
    "deepfill-v1": _System(DeepFillTraining, _start_deepfill),
    "context-encoder": _System(ContextTraining, _start_context),
    "context-encoder-alexnet": _System(ContextTraining, _start_context),
    "glcic": _System(GlcicTraining, _start_glcic),
    "shift-net": _System(ShiftTraining, _start_shift_net),
    "byol-unet": _System(ByolUnetTraining, _start_byol_unet),
}
"""How each system is trained."""


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


def build_model(system: str, config: Mapping[str, Any]) -> nn.Module:
    """A system's network with random weights."""
    if system == DEFAULT_SYSTEM:
        return Generator(GeneratorConfig.from_mapping(config))
    return LAB_MODELS[system].build(config)


def start_run(
    recipe: Recipe, device: torch.device, extra: Mapping[str, Any] | None = None
) -> LabTrainer:
    """A fresh trainer.

    Args:
        recipe: system and settings.
        device: where it runs.
        extra: ``pretrained`` encoder state and ``labelled`` draw for the BYOL U-Net, ``features``
            for perceptual terms; those that a system does not want are left alone. ``start``, the
            state of a network to go on from (``adopt_state``).
    """
    extra = extra or {}
    torch.manual_seed(recipe.lab.seed)
    model = build_model(recipe.lab.system, recipe.model).to(device)
    if "start" in extra:
        adopt_state(model, extra["start"])
    system = SYSTEMS[recipe.lab.system]
    trainer = system.start(model, system.training(**recipe.training), recipe, extra)
    trainer.decay = recipe.lab.decay
    for network in trainer.networks.values():
        # A quarter to a third faster on a CPU (docs/systems.md), and what tensor cores want.
        network.to(memory_format=torch.channels_last)
    return trainer


def adopt_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Go on from a trained network that lacks a part of this one.

    Layers that the state lacks keep their random weights. A convolution that reads more channels
    than its like in the state gets zeros for the new ones, so that the network answers as the
    trained one did until training finds use for the new part.

    Args:
        network: changed in place.
        state: of a network whose parts are a subset.

    Raises:
        ValueError: a tensor that this network lacks, or of a shape that does not grow into its.
    """
    own = network.state_dict()
    for name, value in state.items():
        if name not in own:
            raise ValueError(f"{name}: the network to go on from has it, this one does not")
        target = own[name]
        if target.shape == value.shape:
            target.copy_(value)
            continue
        grows = target.ndim == value.ndim == 4 and target.shape[1] > value.shape[1]
        if not grows or target[:, : value.shape[1]].shape != value.shape:
            found = f"{tuple(value.shape)}, expected {tuple(target.shape)}"
            raise ValueError(f"{name}: it is {found} or the same with fewer input channels")
        target.zero_()
        target[:, : value.shape[1]].copy_(value)


def build_bank(config: LabConfig, elements: Sequence[Mask] = ()) -> Tensor:
    """(bank, S, S) uint8 masks of the recipe's kind.

    Raises:
        ValueError: a kind of another name.
    """
    side, count = config.crop_px, config.bank
    if config.masks == "damage":
        bank = build_mask_bank(side, count, config.seed, fonts=find_fonts(), elements=elements)
        return torch.from_numpy(bank)
    if config.masks not in MASK_KINDS:
        msg = f"masks must be one of {', '.join(MASK_KINDS)}, found {config.masks!r}"
        raise ValueError(msg)
    rng = np.random.default_rng(config.seed)
    draw = {
        "box": lambda: masks.draw_deepfill_box(side, rng),
        "center": lambda: masks.draw_center(side),
        "blocks": lambda: masks.draw_blocks(side, rng),
        "region": lambda: masks.draw_region(side, rng),
    }[config.masks]
    return torch.from_numpy(np.stack([draw() for _ in range(count)]))


def open_batches(
    config: LabConfig, pixels: Tensor, index: Tensor, bank: Tensor, share: float | None = None
) -> Draw:
    """Batches of a run by number, from ``share`` (the recipe's by default) of the photographs."""
    chosen = pick_photographs(index, config.share if share is None else share)
    if config.scale == "smallest":
        chosen = pick_smallest(chosen)
    batches = Batches(pixels, chosen, bank.to(pixels.device), config.batch, config.seed)
    return batches.draw


def pick_photographs(index: Tensor, share: float) -> Tensor:
    """Rows of a cache's index that belong to an even ``share`` of its photographs.

    A photograph is stored at several scales, largest first, so a row starts a new one where the
    area does not shrink. (Two neighbours of which the second is smaller count as one.)

    Args:
        index: (P, 3) int64 rows: offset, height, width.
        share: in (0, 1].
    """
    starts = _find_starts(index)
    photograph = starts.long().cumsum(0) - 1
    # Photograph k is taken when k * share passes a whole number.
    taken = (photograph + 1).double().mul(share).floor() > photograph.double().mul(share).floor()
    if not bool(taken.any()):
        taken = photograph == 0
    return index[taken]


def pick_smallest(index: Tensor) -> Tensor:
    """The last row of each photograph in a cache's index, which has it at its smallest."""
    starts = _find_starts(index)
    return index[starts.roll(-1)]  # where the next one starts; after the last comes the first


def _find_starts(index: Tensor) -> Tensor:
    """(P,) bool: rows of a cache's index with which a photograph starts."""
    area = index[:, 1] * index[:, 2]
    starts = torch.ones(len(index), dtype=torch.bool)
    starts[1:] = area[1:] >= area[:-1]
    return starts


def train(
    trainer: LabTrainer,
    draw: Draw,
    run: Path,
    *,
    minutes: float = math.inf,
    save_every: float = 180,
    log_every: int = 50,
) -> float:
    """Run to the end, or for so long; returns the seconds it took this time.

    A run folder with a checkpoint is continued. Losses go to ``RUN/log.jsonl`` and stderr.
    """
    run.mkdir(parents=True, exist_ok=True)
    if (checkpoint := find_checkpoint(run)) is not None:
        trainer.load(checkpoint)
    began = saved = time.monotonic()
    recent: list[dict[str, float]] = []
    while trainer.step < trainer.steps and time.monotonic() - began < minutes * 60:
        recent.append(trainer.take_step(draw))
        if trainer.step % log_every == 0 or trainer.step == trainer.steps:
            names = {name for losses in recent for name in losses}
            line: dict[str, float] = {"step": trainer.step}
            for name in sorted(names):
                line[name] = round(float(np.mean([x[name] for x in recent if name in x])), 5)
            line["seconds"] = round(time.monotonic() - began, 1)
            recent.clear()
            with (run / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            sys.stderr.write(f"{run.name}: {json.dumps(line)}\n")
        if time.monotonic() - saved > save_every:
            trainer.save(run / "checkpoint")
            saved = time.monotonic()
    trainer.save(run / "checkpoint")
    return time.monotonic() - began


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
    if recipe.lab.labelled < 1:
        extra["labelled"] = open_batches(recipe.lab, pixels, index, bank, recipe.lab.labelled)
    trainer = start_run(recipe, device, extra)
    draw = open_batches(recipe.lab, pixels, index, bank)
    train(trainer, draw, options.run, minutes=options.minutes)
    out = options.run / f"{recipe.lab.system}.safetensors"
    sys.stdout.write(f"{export_run(trainer, recipe, out)}  {out}\n")


if __name__ == "__main__":
    main()
