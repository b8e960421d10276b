"""Train the detector on synthesised damage: one recipe in, checkpoints and weights out.

Run: ``python -m training.detector RECIPE --bank runs/bank --run runs/detector``, with samples of
``training.synthesis.bank``, or with ``--cache runs/cache --elements ELEMENTS`` to draw them in
between; ``--encoder runs/byol/encoder.safetensors`` starts from a pre-trained encoder, ``--start
OTHER/checkpoint/ema.safetensors`` from the weights of another run, with a learning rate that begins
anew. A run folder that holds a checkpoint is continued; ``--minutes`` ends it by then, its learning
rate at the end of its curve. Last, the moving average is exported to
``runs/detector/detect.safetensors``; ``training.calibrate`` makes of it what is shipped.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from restorepix.models.detector import CLASSES, Detector, DetectorConfig
from restorepix.models.registry import DETECTOR
from restorepix.runtime import keep_freed_memory
from training.byol import load_encoder_state
from training.checkpoint import find_checkpoint, load_checkpoint, save_checkpoint
from training.muon import Muon
from training.synthesis.bank import Bank, BankBatches
from training.synthesis.canvas import IGNORE
from training.synthesis.sample import (
    Library,
    PhotoSource,
    SynthesisConfig,
    draw_sample,
    open_library,
)


@dataclass(frozen=True)
class DetectorTrainConfig:
    """One training run; every field is read from the recipe's ``[train]`` table."""

    steps: int
    """Optimizer steps of the whole run."""
    batch: int = 16
    """Samples a step."""
    crop_px: int = 160
    """Side of the square crops, a multiple of 16."""
    lr: float = 1e-3
    """Peak learning rate of decoder and head, after a warm-up, before a cosine to ``lr_end``."""
    lr_end: float = 1e-6
    """Learning rate of the last step."""
    optimizer: str = "adamw"
    """``adamw``, or ``muon`` for the inner convolutions with AdamW for stem, head and biases."""
    adamw_lr: float = 4e-4
    """Peak rate of what AdamW trains beside Muon; it follows the same curve."""
    encoder_lr: float = 0.1
    """The encoder's learning rate in units of ``lr``, when it was pre-trained; else 1 is used."""
    warmup: int = 200
    """Steps of linear warm-up."""
    weight_decay: float = 1e-3
    """AdamW's decoupled decay."""
    clip: float = 1.0
    """Largest gradient norm."""
    ema: float = 0.998
    """Decay of the weights' moving average, which is what is exported."""
    positive_weight: float = 1.0
    """Weight of a damaged pixel beside a sound one in the cross-entropy. Above 1 the answers are
    no probabilities any more and clean photographs are marked; recall is Dice's part."""
    dice_weight: float = 0.5
    """Weight of the Dice loss beside the cross-entropy."""
    seed: int = 1
    """Seed of initial weights and samples."""
    threads: int = 1
    """CPU threads of the network."""
    workers: int = 0
    """Processes that synthesise samples; 0 does it between the steps."""
    bf16: bool = True
    """Autocast to bfloat16."""


@dataclass(frozen=True)
class Recipe:
    """What a recipe file says."""

    train: DetectorTrainConfig
    detector: DetectorConfig
    synthesis: SynthesisConfig


def read_recipe(path: Path) -> Recipe:
    """The ``[train]``, ``[detector]``, ``[encoder]`` and ``[synthesis]`` tables of a recipe.

    Raises:
        ValueError: an unknown table or key, naming it.
    """
    tables: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    if strange := set(tables) - {"data", "train", "detector", "encoder", "synthesis"}:
        msg = f"{path}: unknown tables: {', '.join(sorted(strange))}"
        raise ValueError(msg)
    known_tables = (("train", DetectorTrainConfig), ("synthesis", SynthesisConfig))
    for table, known in known_tables:
        unknown = set(tables.get(table, {})) - {field.name for field in fields(known)}
        if unknown:
            msg = f"{path}: unknown keys in [{table}]: {', '.join(sorted(unknown))}"
            raise ValueError(msg)
    about = {**tables.get("detector", {}), "encoder": tables.get("encoder", {})}
    return Recipe(
        DetectorTrainConfig(**tables["train"]),
        DetectorConfig.from_mapping(about),
        SynthesisConfig(**tables.get("synthesis", {})),
    )


def detection_loss(
    logits: Tensor, target: Tensor, *, positive_weight: float, dice_weight: float
) -> Tensor:
    """Cross-entropy plus Dice, each class for itself, over the pixels that count.

    Args:
        logits: (B, C, H, W) float.
        target: (B, C, H, W) uint8: 1 damage, 0 none, 255 counts neither way.
        positive_weight: weight of damaged pixels in the cross-entropy.
        dice_weight: weight of the Dice loss (Milletari et al. 2016, over the whole batch, so
            that samples without a class only count by what they mark wrongly).

    Returns:
        Scalar, mean over classes.
    """
    counts = (target != IGNORE).float()
    truth = (target == 1).float()
    entropy = functional.binary_cross_entropy_with_logits(
        logits, truth, reduction="none", pos_weight=logits.new_tensor(positive_weight)
    )
    axes = (0, 2, 3)
    entropy = (entropy * counts).sum(axes) / counts.sum(axes).clamp_min(1)
    predicted = torch.sigmoid(logits) * counts
    overlap = (predicted * truth).sum(axes)
    dice = 1 - (2 * overlap + 1) / (predicted.sum(axes) + truth.sum(axes) + 1)
    return (entropy + dice_weight * dice).mean()


class SampleBatches(Dataset[tuple[Tensor, Tensor]]):
    """Batches by step number: (B, 3, S, S) float in [-1, 1] and (B, 3, S, S) uint8 targets."""

    def __init__(self, source: PhotoSource, library: Library, recipe: Recipe) -> None:
        """Draw crops from ``source`` and damage from ``library``."""
        self._source, self._library, self._recipe = source, library, recipe

    def __len__(self) -> int:
        """Steps of the run."""
        return self._recipe.train.steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch of a step; depends on the recipe's seed and the step alone."""
        train = self._recipe.train
        samples = [
            draw_sample(
                self._source, self._library, self._recipe.synthesis, train.crop_px,
                (train.seed, step, place),
            )
            for place in range(train.batch)
        ]  # fmt: skip
        images = torch.from_numpy(np.stack([sample.image for sample in samples]))
        targets = torch.from_numpy(np.stack([sample.target for sample in samples]))
        return images.movedim(3, 1).float() / 127.5 - 1, targets

    def follow(self, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches from a step on, made ahead by the recipe's worker processes."""
        steps = range(start, len(self))
        yield from DataLoader(
            self, batch_size=None, sampler=steps, num_workers=self._recipe.train.workers,
            worker_init_fn=_calm_worker,
        )  # fmt: skip


def _calm_worker(_number: int) -> None:
    cv2.setNumThreads(1)


class DetectorTrainer:
    """The state of a run: detector, its moving average, optimizer, and the step reached."""

    def __init__(
        self, recipe: Recipe, device: torch.device, encoder: dict[str, Tensor] | None = None
    ) -> None:
        """Build a fresh run.

        Args:
            recipe: what to train and how.
            device: where.
            encoder: tensors of a pre-trained encoder, which then learns more slowly; None starts
                from scratch.
        """
        torch.manual_seed(recipe.train.seed)
        self.recipe, self.config, self.device = recipe, recipe.train, device
        model = Detector(recipe.detector)
        if encoder is not None:
            model.encoder.load_state_dict(encoder)
        model = model.to(device)
        self.model = model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).eval()
        self.pretrained = encoder is not None
        self.parameters = dict(self.model.named_parameters())
        self.optimizers = build_optimizers(
            self.parameters, self.config, self.config.encoder_lr if self.pretrained else 1.0
        )
        self.step = 0
        self.done = 0.0
        """How far along the learning rate's curve, 0 to 1; by steps, or ``train`` by time."""

    def take_step(self, images: Tensor, targets: Tensor) -> float:
        """One optimizer step on a batch; returns the loss.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        config = self.config
        self.done = max(self.done, self.step / config.steps)
        share = learning_rate(config, self.step, self.done) / config.lr
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = share * group["peak"]
        images = images.to(self.device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.bf16):
            logits = self.model(images)
        loss = detection_loss(
            logits.float(), targets.to(self.device),
            positive_weight=config.positive_weight, dice_weight=config.dice_weight,
        )  # fmt: skip
        if not bool(torch.isfinite(loss)):
            msg = f"loss is {loss.item()} at step {self.step}; lower the learning rate"
            raise FloatingPointError(msg)
        self.model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        for optimizer in self.optimizers:
            optimizer.step()
        decay = min(config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            averages = list(self.average.parameters())
            torch._foreach_lerp_(averages, list(self.model.parameters()), 1 - decay)
        self.step += 1
        return float(loss.item())

    def save(self, folder: Path) -> None:
        """Write a checkpoint that replaces the one in ``folder`` as a whole."""
        about = {
            "step": self.step,
            "done": self.done,
            "pretrained": self.pretrained,
            "train": asdict(self.config),
            "detector": asdict(self.recipe.detector),
            "synthesis": asdict(self.recipe.synthesis),
        }
        networks = {"model": self.model, "ema": self.average}
        save_checkpoint(folder, networks, self.optimizers, self.parameters, about)

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint that ``save`` wrote.

        Raises:
            ValueError: it began from a pre-trained encoder and this run does not, or vice versa.
        """
        networks = {"model": self.model, "ema": self.average}
        about = load_checkpoint(folder, networks, self.optimizers, self.parameters)
        if about["pretrained"] != self.pretrained:
            state = "with" if about["pretrained"] else "without"
            msg = f"{folder}: the run began {state} a pre-trained encoder; continue it {state} one"
            raise ValueError(msg)
        self.step, self.done = about["step"], about["done"]

    def start_from(self, weights: Path) -> None:
        """Take initial weights from the moving average of another run, raw: not calibrated."""
        self.model.load_state_dict(load_file(weights))
        self.average.load_state_dict(self.model.state_dict())


def build_optimizers(
    parameters: Mapping[str, nn.Parameter], train: DetectorTrainConfig, encoder_scale: float
) -> list[torch.optim.Optimizer]:
    """The optimizers of a run; each group's ``peak`` is its rate where the curve is highest.

    Args:
        parameters: the detector's, by name.
        train: the run.
        encoder_scale: the encoder's rates in units of the others'.

    Raises:
        ValueError: ``train.optimizer`` is not known.
    """
    if train.optimizer not in ("adamw", "muon"):
        msg = f"optimizer: expected 'adamw' or 'muon', found {train.optimizer!r}"
        raise ValueError(msg)
    groups: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for by_muon in (True, False):
        for in_encoder in (True, False):
            chosen = [
                parameter
                for name, parameter in parameters.items()
                if name.startswith("encoder.") == in_encoder
                and by_muon == (train.optimizer == "muon" and _is_inner(name, parameter))
            ]
            rate = train.adamw_lr if train.optimizer == "muon" and not by_muon else train.lr
            peak = rate * (encoder_scale if in_encoder else 1)
            if chosen:
                groups[by_muon].append({"params": chosen, "peak": peak})
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            groups[False], lr=train.lr, betas=(0.9, 0.99), weight_decay=train.weight_decay
        )
    ]
    if groups[True]:
        optimizers.append(Muon(groups[True], lr=train.lr, weight_decay=train.weight_decay))
    return optimizers


def _is_inner(name: str, parameter: Tensor) -> bool:
    return parameter.ndim == 4 and not name.endswith(("stem.weight", "head.weight"))


def learning_rate(config: DetectorTrainConfig, step: int, done: float) -> float:
    """Rate of ``step``: linear warm-up, then half a cosine down to ``lr_end``.

    Args:
        config: the run.
        step: steps taken.
        done: where on the cosine, 0 to 1.
    """
    curve = config.lr_end + (config.lr - config.lr_end) * (1 + math.cos(math.pi * done)) / 2
    return curve * min(1.0, (step + 1) / max(1, config.warmup))


def export_detector(
    checkpoint: Path, out: Path, *, begins: Mapping[str, float] | None = None, marking: str = ""
) -> str:
    """Write the moving average of a checkpoint as float16 safetensors; returns its sha256.

    Args:
        checkpoint: folder written by a run.
        out: file to write; its header carries architecture and config.
        begins: by class, the logit from which on a pixel shall begin a piece of damage; all logits
            of the class are lowered by it. None leaves them as they were trained.
        marking: JSON for the header (``restorepix.detect.weights.read_markings``); empty for none.

    Raises:
        OverflowError: a weight does not fit into float16.
    """
    about = json.loads((checkpoint / "state.json").read_text())
    average = load_file(checkpoint / "ema.safetensors")
    for name, begin in (begins or {}).items():
        first = 4 * CLASSES.index(name)  # the four pixels that the head's cell is shuffled to
        average["head.bias"][first : first + 4] -= begin
    half = {name: tensor.to(torch.float16) for name, tensor in average.items()}
    for name, tensor in half.items():
        if not bool(torch.isfinite(tensor).all()):
            msg = f"{checkpoint}: {name} does not fit into float16; train with more decay"
            raise OverflowError(msg)
    header = {
        "architecture": DETECTOR,
        "config": json.dumps(about["detector"]),
        "classes": json.dumps(CLASSES),
        "step": str(about["step"]),
        **({"marking": marking} if marking else {}),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(half, out, metadata=header)
    return hashlib.sha256(out.read_bytes()).hexdigest()


def train(
    trainer: DetectorTrainer,
    batches: Iterator[tuple[Tensor, Tensor]],
    run: Path,
    *,
    minutes: float = math.inf,
    save_every_s: float = 180.0,
) -> None:
    """Take steps until the recipe's last one, with a log and checkpoints.

    Args:
        trainer: the run's state.
        batches: from the trainer's step on.
        run: folder of log and checkpoint.
        minutes: end after this long at the latest, with the learning rate at its end by then: it
            falls as fast as steps or time demand. Such a run is not repeatable to the bit.
        save_every_s: seconds between checkpoints.
    """
    run.mkdir(parents=True, exist_ok=True)
    began = saved = time.monotonic()
    start = trainer.done
    recent: list[float] = []
    for images, targets in batches:
        passed = (time.monotonic() - began) / (minutes * 60)
        if start + (1 - start) * passed >= 1:
            break
        trainer.done = max(trainer.done, start + (1 - start) * passed)
        recent.append(trainer.take_step(images, targets))
        if trainer.step % 50 == 0:
            line = {
                "step": trainer.step,
                "loss": round(float(np.mean(recent)), 5),
                "lr": learning_rate(trainer.config, trainer.step, trainer.done),
                "done": round(trainer.done, 4),
                "seconds": round(time.monotonic() - began, 1),
            }
            recent.clear()
            with (run / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            sys.stderr.write(json.dumps(line) + "\n")
        if time.monotonic() - saved > save_every_s:
            trainer.save(run / "checkpoint")
            saved = time.monotonic()
    trainer.save(run / "checkpoint")


def open_batches(
    recipe: Recipe, bank: Path | None, cache: Path | None, elements: Path | None
) -> SampleBatches | BankBatches:
    """The batches of a recipe: out of a bank, or drawn from a cache while training goes on."""
    if bank is not None:
        train = recipe.train
        found = Bank.open(bank)
        sys.stderr.write(f"{len(found.samples)} samples in {bank}\n")
        return BankBatches(
            found, batch=train.batch, crop_px=train.crop_px, seed=train.seed, steps=train.steps
        )
    assert cache is not None, "the command line asks for one of both"
    library = open_library(elements, held_out=False)
    sys.stderr.write(f"{len(library.fonts)} fonts, {len(library.elements)} elements\n")
    return SampleBatches(PhotoSource.open(cache), library, recipe)


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--cache", type=Path, help="folder of training.data; or --bank")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoints and log")
    parser.add_argument("--elements", type=Path, help="folder of damage elements (grey PNG)")
    parser.add_argument("--bank", type=Path, help="samples of training.synthesis.bank")
    parser.add_argument("--encoder", type=Path, help="pre-trained encoder of training.byol")
    parser.add_argument("--start", type=Path, help="ema.safetensors of a checkpoint to start from")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=math.inf, help="end by then")
    parser.add_argument("--save-every", type=float, default=180, help="seconds")
    options = parser.parse_args()

    if (options.cache is None) == (options.bank is None):
        parser.error("pass either --cache (and --elements) or --bank")
    recipe = read_recipe(options.recipe)
    keep_freed_memory()
    torch.set_num_threads(recipe.train.threads)
    cv2.setNumThreads(recipe.train.threads)
    encoder = None
    if options.encoder:
        encoder, config = load_encoder_state(options.encoder)
        if config != recipe.detector.encoder:
            parser.error(f"{options.encoder}: its layers are not those of {options.recipe}")
    trainer = DetectorTrainer(recipe, torch.device(options.device), encoder)
    if (checkpoint := find_checkpoint(options.run)) is not None:
        trainer.load(checkpoint)
    elif options.start:
        trainer.start_from(options.start)
    batches = open_batches(recipe, options.bank, options.cache, options.elements)
    train(
        trainer,
        batches.follow(trainer.step),
        options.run,
        minutes=options.minutes,
        save_every_s=options.save_every,
    )
    digest = export_detector(options.run / "checkpoint", options.run / "detect.safetensors")
    sys.stdout.write(digest + "\n")


if __name__ == "__main__":
    main()
