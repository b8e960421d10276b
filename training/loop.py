"""The training loop: one recipe in, checkpoints and a log out, resumable to the bit.

Run: ``python -m training.loop RECIPE --cache runs/cache --run runs/inpaint``.
With several GPUs or nodes: ``torchrun`` before it (``training.parallel``).
A run folder that holds a checkpoint is continued. Checkpoints are four safetensors files (model,
EMA, two optimizer moments) and one JSON file, written whole or not at all; no pickle.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import time
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from restorepix.models.generator import Generator, GeneratorConfig
from training.adversarial import (
    CriticConfig,
    HoleCritic,
    blend_gradients,
    critic_loss,
    draw_shift,
    generator_loss,
)
from training.augment import AugmentConfig, spoil_batch
from training.checkpoint import find_checkpoint, load_checkpoint, save_checkpoint
from training.data import Batches, open_cache
from training.losses import hole_dissimilarity, hole_l1, hole_log_mse, hole_texture
from training.masks import TRAINING_MIX, Mask, build_mask_bank, find_fonts
from training.muon import Muon
from training.parallel import Processes, join_processes, leave_processes


@dataclass(frozen=True)
class TrainConfig:
    """One training run; every field is read from the recipe's ``[train]`` table."""

    steps: int
    """Optimizer steps of the whole run."""
    batch: int = 16
    """Samples a step."""
    crop_px: int = 128
    """Side of the square crops."""
    masks: int = 16384
    """Masks in the bank."""
    thin_share: float = 0.0
    """Thin kinds are repeated until they cover a share between 0 and this; 0 draws them once."""
    mix: Mapping[str, float] = field(default_factory=lambda: dict(TRAINING_MIX))
    """Share of each kind of mask in the bank; the table ``[train.mix]`` of a recipe."""
    optimizer: str = "adamw"
    """``adamw``, or ``muon`` for the inner convolutions with AdamW for stems, heads and biases."""
    lr: float = 1e-3
    """Peak learning rate; a linear warm-up leads to it, a cosine from it to ``lr_end``."""
    adamw_lr: float = 4e-4
    """Peak rate of what AdamW trains beside Muon; it follows the same curve."""
    lr_end: float = 1e-6
    """Learning rate of the last step."""
    warmup: int = 200
    """Steps of linear warm-up."""
    weight_decay: float = 1e-3
    """AdamW's decoupled decay."""
    clip: float = 1.0
    """Largest gradient norm."""
    ema: float = 0.998
    """Decay of the weights' moving average, which is what is exported."""
    coarse_weight: float = 0.3
    """Weight of the coarse output's hole L1 beside the refined output's."""
    log_mse_weight: float = 0.0
    """Weight of ``hole_log_mse`` of the refined output."""
    ssim_weight: float = 0.0
    """Weight of ``hole_dissimilarity`` of the refined output."""
    texture_weight: float = 0.0
    """Weight of ``hole_texture`` of the refined output."""
    attention_from: float = 0.0
    """Share of the steps after which attention joins; 1 leaves it out."""
    seed: int = 1
    """Seed of initial weights, mask bank and batches."""
    threads: int = 1
    """CPU threads."""
    bf16: bool = True
    """Autocast to bfloat16."""
    compile: bool = False
    """Compile the step (needs a C++ compiler on a CPU); eager was as fast on Zen 5."""


class Recipe(NamedTuple):
    """The tables of a recipe file."""

    train: TrainConfig
    generator: GeneratorConfig
    critic: CriticConfig | None
    """None without such a table: no adversarial loss."""
    augment: AugmentConfig


def read_recipe(path: Path) -> Recipe:
    """The ``[train]``, ``[generator]``, ``[critic]`` and ``[augment]`` tables of a recipe.

    Raises:
        ValueError: an unknown table or key, naming it.
    """
    tables: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    if strange := set(tables) - {"data", "train", "generator", "critic", "augment"}:
        msg = f"{path}: unknown tables: {', '.join(sorted(strange))}"
        raise ValueError(msg)
    known_tables = {
        "train": TrainConfig,
        "generator": GeneratorConfig,
        "critic": CriticConfig,
        "augment": AugmentConfig,
    }
    for table, known in known_tables.items():
        unknown = set(tables.get(table, {})) - {known_field.name for known_field in fields(known)}
        if unknown:
            msg = f"{path}: unknown keys in [{table}]: {', '.join(sorted(unknown))}"
            raise ValueError(msg)
    if strange := set(tables["train"].get("mix", {})) - set(TRAINING_MIX):
        msg = f"{path}: unknown kinds of masks in [train.mix]: {', '.join(sorted(strange))}"
        raise ValueError(msg)
    generator = GeneratorConfig.from_mapping(tables.get("generator", {}))
    critic = CriticConfig(**tables["critic"]) if "critic" in tables else None
    augment = AugmentConfig(**tables.get("augment", {}))
    return Recipe(TrainConfig(**tables["train"]), generator, critic, augment)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Rate of ``step``: linear warm-up, then half a cosine down to ``lr_end``."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.lr_end + (config.lr - config.lr_end) * (1 + math.cos(math.pi * done)) / 2


def build_optimizers(model: torch.nn.Module, train: TrainConfig) -> list[torch.optim.Optimizer]:
    """The optimizers of a run; each group's ``peak`` is its rate where the curve is highest.

    Raises:
        ValueError: ``train.optimizer`` is not known.
    """
    if train.optimizer not in ("adamw", "muon"):
        msg = f"optimizer: expected 'adamw' or 'muon', found {train.optimizer!r}"
        raise ValueError(msg)
    inner: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in model.named_parameters():
        is_edge = name.endswith(("stem.weight", "head.weight"))
        is_inner = train.optimizer == "muon" and parameter.ndim == 4 and not is_edge
        (inner if is_inner else others).append(parameter)
    peak = train.adamw_lr if inner else train.lr
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            [{"params": others, "peak": peak}],
            lr=peak, betas=(0.9, 0.99), weight_decay=train.weight_decay,
        )
    ]  # fmt: skip
    if inner:
        groups = [{"params": inner, "peak": train.lr}]
        optimizers.append(Muon(groups, lr=train.lr, weight_decay=train.weight_decay))
    return optimizers


class Losses(NamedTuple):
    """What one forward pass gives."""

    total: Tensor
    """Scalar to minimise."""
    refined: Tensor
    """Scalar hole L1 of the refined output, for the log."""
    coarse: Tensor
    """The same of the coarse output."""
    prediction: Tensor
    """(B, 3, H, W) float32, the refined output."""


class Trainer:
    """The state of a run: model, its moving average, critic, optimizers, and the step reached."""

    def __init__(
        self,
        train: TrainConfig,
        generator: GeneratorConfig,
        device: torch.device,
        processes: Processes | None = None,
        critic: CriticConfig | None = None,
        augment: AugmentConfig | None = None,
    ) -> None:
        """Build a fresh run; ``load`` or ``start_from`` put earlier state into it.

        Args:
            train: the run.
            generator: its network.
            device: where to train.
            processes: those that share each batch; None for this one alone.
            critic: adds an adversarial loss (``training.adversarial``); None trains without.
            augment: how often known pixels and masks are spoilt; None leaves them as they are.
        """
        torch.manual_seed(train.seed)
        self.config = train
        self.device = device
        model = Generator(generator).to(device)
        self.model = model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).eval()
        self.optimizers = build_optimizers(self.model, train)
        self.judging = critic
        self.critic: HoleCritic | None = None
        if critic is not None:
            self.critic = HoleCritic(critic.channels).to(device)
            self.optimizers.append(
                torch.optim.AdamW(
                    [{"params": list(self.critic.parameters()), "peak": critic.lr}],
                    lr=critic.lr, betas=(0.5, 0.99), weight_decay=train.weight_decay,
                )
            )  # fmt: skip
        self.augment = augment or AugmentConfig()
        self.step = 0
        self._attends = generator.attention
        self.processes = processes or Processes()
        self._called = self.processes.wrap(self.model, device)
        compute = self._compute_losses
        self._losses = torch.compile(compute) if train.compile else compute

    def _compute_losses(self, image: Tensor, seen: Tensor, mask: Tensor) -> Losses:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bf16):
            stages = self._called(seen, mask)
        refined = stages.refined.float()
        refined_l1 = hole_l1(refined, image, mask)
        coarse_l1 = hole_l1(stages.coarse.float(), image, mask)
        loss = refined_l1 + self.config.coarse_weight * coarse_l1
        if self.config.log_mse_weight:
            loss = loss + self.config.log_mse_weight * hole_log_mse(refined, image, mask)
        if self.config.ssim_weight:
            loss = loss + self.config.ssim_weight * hole_dissimilarity(refined, image, mask)
        if self.config.texture_weight:
            loss = loss + self.config.texture_weight * hole_texture(refined, image, mask)
        return Losses(loss, refined_l1.detach(), coarse_l1.detach(), refined)

    def _judge(self, refined: Tensor, image: Tensor, mask: Tensor, rng: torch.Generator) -> Tensor:
        """Teach the critic one step; returns its gradient on the prediction."""
        critic, config = self.critic, self.judging
        assert critic is not None
        assert config is not None
        painted = torch.where(mask > 0, refined.detach(), image).requires_grad_()
        cut = draw_shift(image.shape, rng)
        given = (painted[cut], image[cut], mask[cut])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bf16):
            critic.train()
            critic_loss(critic, *given).backward()  # type: ignore[no-untyped-call]
            self.processes.average_gradients(critic)
            critic.eval()  # the power iteration rests, so that both pictures meet the same weights
            verdict = generator_loss(critic, *given, config.matching)
        (pull,) = torch.autograd.grad(verdict, painted)
        return pull * mask

    def take_step(self, image: Tensor, mask: Tensor) -> tuple[float, float]:
        """One optimizer step on this process's share of a batch.

        Returns the hole L1 of refined and coarse, of this share.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        config = self.config
        attends = self._attends and self.step >= config.attention_from * config.steps
        self.model.config = self.average.config = replace(self.model.config, attention=attends)
        share = learning_rate(config, self.step) / config.lr
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = share * group["peak"]
        image = image.contiguous(memory_format=torch.channels_last)
        rng = torch.Generator(self.device)
        rng.manual_seed(
            config.seed * 1_000_003 + self.step * self.processes.count + self.processes.rank
        )
        seen, mask = spoil_batch(image, mask, self.augment, rng)
        losses = self._losses(image, seen.contiguous(memory_format=torch.channels_last), mask)
        if not bool(torch.isfinite(losses.total)):
            msg = f"loss is {losses.total.item()} at step {self.step}; lower the learning rate"
            raise FloatingPointError(msg)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        if self.judging is not None:
            pull = self._judge(losses.prediction, image, mask, rng)
            grown = min(1.0, self.step / max(1, self.judging.ramp))
            losses.prediction.register_hook(
                lambda gradient: blend_gradients(gradient, pull, grown * self.judging.share)
            )
        losses.total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        for optimizer in self.optimizers:
            optimizer.step()
        decay = min(config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            averages = list(self.average.parameters())
            torch._foreach_lerp_(averages, list(self.model.parameters()), 1 - decay)
        self.step += 1
        return losses.refined.item(), losses.coarse.item()

    def save(self, folder: Path) -> None:
        """Write a checkpoint that replaces the one in ``folder`` as a whole."""
        about = {
            "step": self.step,
            "train": asdict(self.config),
            "generator": asdict(self.model.config),
        }
        save_checkpoint(folder, self._networks, self.optimizers, self._parameters, about)

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint that ``save`` wrote."""
        about = load_checkpoint(folder, self._networks, self.optimizers, self._parameters)
        self.step = about["step"]

    @property
    def _networks(self) -> dict[str, torch.nn.Module]:
        networks: dict[str, torch.nn.Module] = {"model": self.model, "ema": self.average}
        return networks if self.critic is None else {**networks, "critic": self.critic}

    @property
    def _parameters(self) -> dict[str, torch.nn.Parameter]:
        named = dict(self.model.named_parameters())
        if self.critic is not None:
            named |= {f"critic.{name}": item for name, item in self.critic.named_parameters()}
        return named

    def start_from(self, weights: Path) -> None:
        """Take initial weights from a safetensors file of the same architecture."""
        self.model.load_state_dict(load_file(weights))
        self.average.load_state_dict(self.model.state_dict())


def read_elements(folder: Path | None) -> list[Mask]:
    """Scanned damage elements, (h, w) uint8 alpha each; empty without a folder."""
    if folder is None:
        return []
    paths = sorted(folder.rglob("*.png"))
    return [
        np.asarray(cv2.imdecode(np.frombuffer(p.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE))
        for p in paths
    ]


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--cache", type=Path, required=True, help="folder of training.data")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoints and log")
    parser.add_argument("--elements", type=Path, help="folder of damage elements (grey PNG)")
    parser.add_argument("--start", type=Path, help="safetensors file to start from")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after this long")
    parser.add_argument("--save-every", type=float, default=180, help="seconds")
    options = parser.parse_args()

    train, generator, critic, augment = read_recipe(options.recipe)
    torch.set_num_threads(train.threads)
    processes, device = join_processes(torch.device(options.device))
    trainer = Trainer(train, generator, device, processes, critic, augment)
    checkpoint = options.run / "checkpoint"
    if found := find_checkpoint(options.run):
        trainer.load(found)
    elif options.start:
        trainer.start_from(options.start)
    processes.check_equal(trainer.step, "the step reached", device)
    pixels, index = open_cache(options.cache, device)
    bank = build_mask_bank(
        train.crop_px, train.masks, train.seed, mix=train.mix,
        fonts=find_fonts(), elements=read_elements(options.elements), thin_share=train.thin_share,
    )  # fmt: skip
    batches = Batches(
        pixels, index, torch.from_numpy(bank).to(device), train.batch, train.seed,
        processes.rank, processes.count,
    )  # fmt: skip
    began = saved = time.monotonic()
    recent: list[tuple[float, float]] = []
    options.run.mkdir(parents=True, exist_ok=True)
    while trainer.step < train.steps and processes.agree(
        time.monotonic() - began < options.minutes * 60, device
    ):
        recent.append(trainer.take_step(*batches.draw(trainer.step)))
        if trainer.step % 100 == 0:
            means = processes.average(np.mean(recent, axis=0).tolist(), device)
            line = {
                "step": trainer.step,
                "refined": round(means[0], 5),
                "coarse": round(means[1], 5),
                "lr": learning_rate(train, trainer.step),
                "seconds": round(time.monotonic() - began, 1),
            }
            recent.clear()
            if not processes.is_first:
                continue
            with (options.run / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            sys.stderr.write(json.dumps(line) + "\n")
        if processes.is_first and time.monotonic() - saved > options.save_every:
            trainer.save(checkpoint)
            saved = time.monotonic()
    if processes.is_first:
        trainer.save(checkpoint)
    leave_processes()


if __name__ == "__main__":
    main()
