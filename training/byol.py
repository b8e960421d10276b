"""BYOL: an encoder that learns from photographs without labels.

After Grill et al., "Bootstrap your own latent" (2020, https://arxiv.org/abs/2006.07733), written
from the paper: an online branch (encoder, projector, predictor) predicts what a target branch
(encoder, projector; no gradient) says of another view of the same photograph; the target follows
the online branch as a moving average. There are no negatives. Differences: AdamW instead of LARS
(batches of hundreds on one machine), an encoder without batch normalisation (projector and
predictor have it), mild colour jitter (colour is evidence of damage), and one view may have holes
filled with grey, since detectors and inpainters will meet them.

Run: ``python -m training.byol RECIPE --cache runs/cache --run runs/byol``. The run fails when the
projections collapse to a point. The result is ``runs/byol/encoder.safetensors``.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import time
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from restorepix.models.encoder import Encoder, EncoderConfig
from training.checkpoint import find_checkpoint, load_checkpoint, save_checkpoint
from training.data import gather_crops, open_cache

ARCHITECTURE = "restorepix-encoder-1"
"""Name in the header of files that ``export_encoder`` writes."""


class CollapseError(RuntimeError):
    """The projections of different photographs have become the same; the run is worthless."""


@dataclass(frozen=True)
class ByolConfig:
    """One pre-training run; every field is read from the recipe's ``[byol]`` table."""

    steps: int
    """Optimizer steps of the whole run."""
    batch: int = 256
    """Photographs a step; each gives two views. Never split: batch statistics need it whole."""
    crop_px: int = 64
    """Side of the views; they are cut from windows of twice this side."""
    lr: float = 3e-4
    """Peak learning rate, after a linear warm-up, before a cosine to zero."""
    warmup: int = 200
    """Steps of linear warm-up."""
    weight_decay: float = 1e-4
    """AdamW's decoupled decay; biases and batch normalisation have none."""
    momentum: float = 0.99
    """First decay of the target's moving average; a cosine leads it to 1."""
    hidden: int = 1024
    """Units of the hidden layer of projector and predictor."""
    projection: int = 128
    """Dimensions of the space that is predicted."""
    min_spread: float = 0.3
    """Least ``measure_spread`` of the online projections; below it the run has collapsed."""
    spread_from: int = 500
    """Step from which ``min_spread`` holds."""
    seed: int = 1
    """Seed of initial weights and views."""
    threads: int = 1
    """CPU threads."""
    bf16: bool = True
    """Autocast the encoder to bfloat16; projector and predictor stay in float32."""


def read_recipe(path: Path) -> tuple[ByolConfig, EncoderConfig]:
    """The ``[byol]`` and ``[encoder]`` tables of a recipe.

    Raises:
        ValueError: an unknown table or key, naming it.
    """
    tables: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    if strange := set(tables) - {"data", "byol", "encoder"}:
        msg = f"{path}: unknown tables: {', '.join(sorted(strange))}"
        raise ValueError(msg)
    for table, known in (("byol", ByolConfig), ("encoder", EncoderConfig)):
        unknown = set(tables.get(table, {})) - {field.name for field in fields(known)}
        if unknown:
            msg = f"{path}: unknown keys in [{table}]: {', '.join(sorted(unknown))}"
            raise ValueError(msg)
    return ByolConfig(**tables["byol"]), EncoderConfig.from_mapping(tables.get("encoder", {}))


def byol_loss(predicted: Tensor, projected: Tensor) -> Tensor:
    """Squared distance of normalised vectors, 2 - 2 cos, of one order of the views (eq. 2).

    Args:
        predicted: (B, D) of the online predictor.
        projected: (B, D) of the target projector; no gradient goes into it.

    Returns:
        Scalar mean over the batch: 0 for equal directions, 4 for opposite ones.
    """
    cosine = functional.cosine_similarity(predicted, projected.detach(), dim=1)
    return (2 - 2 * cosine).mean()


def target_momentum(step: int, steps: int, base: float) -> float:
    """Decay of the target after ``step`` of ``steps``: ``base`` at 0, a cosine to 1 at the end."""
    return 1 - (1 - base) * (math.cos(math.pi * step / steps) + 1) / 2


@torch.no_grad()
def follow(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """Move the target's parameters: momentum x target + (1 - momentum) x online.

    Modules are paired by the names in the target; what only the online branch has stays out.
    """
    sources = dict(online.named_parameters())
    for name, parameter in target.named_parameters():
        parameter.mul_(momentum).add_(sources[name].detach(), alpha=1 - momentum)


def measure_spread(projections: Tensor) -> float:
    """How far a batch of projections is from a single point.

    Args:
        projections: (B, D) float.

    Returns:
        Standard deviation of the normalised projections over the batch, mean over dimensions,
        in units of 1 / sqrt(D): near 1 for directions spread evenly, 0 for a collapse.
    """
    unit = functional.normalize(projections.detach().float(), dim=1)
    return float(unit.std(dim=0).mean()) * math.sqrt(projections.shape[1])


def _build_mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, outputs, bias=False),
    )


class Branch(nn.Module):
    """Encoder and projector: the part that both branches have."""

    def __init__(self, encoder: EncoderConfig, hidden: int, projection: int) -> None:
        """Build both with fresh weights."""
        super().__init__()
        self.encoder = Encoder(encoder)
        self.projector = _build_mlp(encoder.channels[-1], hidden, projection)

    def forward(self, views: Tensor, bf16: bool = False) -> Tensor:
        """(B, C, H, W) views in [-1, 1] -> (B, D) float32 projections."""
        with torch.autocast(views.device.type, torch.bfloat16, enabled=bf16):
            deepest = self.encoder(views)[-1]
        return self.projector(deepest.float().mean((2, 3)))


class Byol(nn.Module):
    """Online branch with its predictor, and the target branch."""

    def __init__(self, config: ByolConfig, encoder: EncoderConfig, predictor: bool = True) -> None:
        """Build both; the target starts as a copy.

        Args:
            config: sizes.
            encoder: the encoder of both branches.
            predictor: False leaves it out, a control that is expected to collapse.
        """
        super().__init__()
        self.online = Branch(encoder, config.hidden, config.projection)
        self.predictor = (
            _build_mlp(config.projection, config.hidden, config.projection)
            if predictor
            else nn.Identity()
        )
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.bf16 = config.bf16

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Symmetric loss of two views (B, C, H, W), and the online projections of the first.

        The loss is the sum over both orders, between 0 and 8. Batch normalisation sees one view
        at a time, and that of the target stays in training mode, as in the authors' code.
        """
        first_online = self.online(first, self.bf16)
        second_online = self.online(second, self.bf16)
        with torch.no_grad():
            first_target = self.target(first, self.bf16)
            second_target = self.target(second, self.bf16)
        loss = byol_loss(self.predictor(first_online), second_target) + byol_loss(
            self.predictor(second_online), first_target
        )
        return loss, first_online.detach()


class ByolTrainer:
    """The state of a run."""

    def __init__(
        self,
        config: ByolConfig,
        encoder: EncoderConfig,
        device: torch.device,
        *,
        predictor: bool = True,
    ) -> None:
        """Build a fresh run."""
        torch.manual_seed(config.seed)
        self.config = config
        self.encoder_config = encoder
        self.model = Byol(config, encoder, predictor).to(device).train()
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        named = {
            name: parameter
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad
        }
        self.parameters = named
        plain = [p for p in named.values() if p.ndim < 2]
        decayed = [p for p in named.values() if p.ndim >= 2]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": config.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=config.lr,
        )
        self.step = 0
        self.spread = 1.0

    def take_step(self, first: Tensor, second: Tensor) -> float:
        """One step on two views of a batch; returns the loss.

        Raises:
            FloatingPointError: the loss is not finite.
            CollapseError: the projections have collapsed.
        """
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = _learning_rate(config, self.step)
        layout = torch.channels_last
        loss, projections = self.model(
            first.contiguous(memory_format=layout), second.contiguous(memory_format=layout)
        )
        if not bool(torch.isfinite(loss)):
            msg = f"loss is {loss.item()} at step {self.step}; lower the learning rate"
            raise FloatingPointError(msg)
        self.spread = measure_spread(projections)
        if self.step >= config.spread_from and self.spread < config.min_spread:
            msg = (
                f"collapse at step {self.step}: the projections spread {self.spread:.3f}, expected "
                f"{config.min_spread} at least. Lower the learning rate or enlarge the batch."
            )
            raise CollapseError(msg)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        # The target moves after the step, with the decay of this step.
        momentum = target_momentum(self.step, config.steps, config.momentum)
        follow(self.model.target, self.model.online, momentum)
        self.step += 1
        return float(loss.item())

    def save(self, folder: Path) -> None:
        """Write a checkpoint that replaces the one in ``folder`` as a whole."""
        about = {
            "step": self.step,
            "byol": asdict(self.config),
            "encoder": asdict(self.encoder_config),
        }
        save_checkpoint(folder, {"byol": self.model}, [self.optimizer], self.parameters, about)

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint that ``save`` wrote."""
        networks = {"byol": self.model}
        about = load_checkpoint(folder, networks, [self.optimizer], self.parameters)
        self.step = about["step"]


def _learning_rate(config: ByolConfig, step: int) -> float:
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.lr * (1 + math.cos(math.pi * done)) / 2


def export_encoder(trainer: ByolTrainer, out: Path) -> None:
    """Write the online encoder as float32 safetensors with its config in the header."""
    encoder = trainer.model.online.encoder
    state = {
        name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()
    }
    header = {
        "architecture": ARCHITECTURE,
        "config": json.dumps(asdict(trainer.encoder_config)),
        "step": str(trainer.step),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, out, metadata=header)


def load_encoder_state(path: Path) -> tuple[dict[str, Tensor], EncoderConfig]:
    """Tensors and config of a file that ``export_encoder`` wrote.

    Raises:
        ValueError: the file is of another architecture.
    """
    with safe_open(path, "pt") as file:
        about = file.metadata() or {}
    if about.get("architecture") != ARCHITECTURE:
        found = about.get("architecture")
        msg = f"{path}: architecture is {found!r}, expected {ARCHITECTURE!r}"
        raise ValueError(msg)
    return load_file(path), EncoderConfig.from_mapping(json.loads(about["config"]))


# Views.


@dataclass
class Views:
    """Pairs of views of random photographs, by step number."""

    pixels: Tensor
    """Flat uint8 RGB storage, any device."""
    index: Tensor
    """(P, 3) int64 rows: offset, height, width (on the CPU)."""
    batch: int
    crop_px: int
    seed: int

    def __post_init__(self) -> None:
        """Keep the pictures that a window of twice the crop fits into.

        Raises:
            ValueError: there are none.
        """
        self._fitting = self.index[self.index[:, 1:].min(dim=1).values >= 2 * self.crop_px]
        if not len(self._fitting):
            msg = f"no picture in the cache is {2 * self.crop_px} px wide and high"
            raise ValueError(msg)

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Two views of batch ``step``, each (B, 3, S, S) float RGB in [-1, 1]."""
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        device = self.pixels.device
        chosen = torch.randint(len(self._fitting), (self.batch,), generator=rng)
        offset, height, width = self._fitting[chosen].unbind(1)
        side = 2 * self.crop_px
        top = (torch.rand(self.batch, generator=rng) * (height - side + 1)).long()
        left = (torch.rand(self.batch, generator=rng) * (width - side + 1)).long()
        windows = gather_crops(
            self.pixels,
            (offset + (top * width + left) * 3).to(device),
            (width * 3).to(device),
            torch.zeros(self.batch, dtype=torch.int64, device=device),
            side,
            3,
        ).float()
        windows = windows / 127.5 - 1
        return (
            augment(windows, self.crop_px, rng, blur=1.0, solarize=0.0, holes=0.0),
            augment(windows, self.crop_px, rng, blur=0.1, solarize=0.1, holes=0.5),
        )


def augment(
    windows: Tensor,
    crop_px: int,
    rng: torch.Generator,
    *,
    blur: float,
    solarize: float,
    holes: float,
) -> Tensor:
    """One view of each window: cropped, mirrored, recoloured, blurred, some with grey holes.

    Args:
        windows: (B, 3, S, S) float in [-1, 1].
        crop_px: side of the views.
        rng: source of all randomness.
        blur: share of views that are blurred (sigma 0.1 to 2 px).
        solarize: share of views whose bright half is inverted.
        holes: share of views with one to three grey boxes.

    Returns:
        (B, 3, crop_px, crop_px) float in [-1, 1].
    """
    count, device = len(windows), windows.device

    def dice(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=rng).to(device)

    # Crops of 0.12 to 1 of the window's area, sides up to 3:4, anywhere inside it; mirrored.
    scale = (0.12 + 0.88 * dice()).sqrt()
    aspect = torch.exp((dice() * 2 - 1) * math.log(4 / 3) / 2)
    wide, tall = (scale * aspect).clamp(max=1), (scale / aspect).clamp(max=1)
    flip = torch.where(dice() < 0.5, -1.0, 1.0)
    theta = torch.zeros(count, 2, 3, device=device)
    theta[:, 0, 0], theta[:, 1, 1] = wide * flip, tall
    theta[:, 0, 2] = (1 - wide) * (dice() * 2 - 1)
    theta[:, 1, 2] = (1 - tall) * (dice() * 2 - 1)
    grid = functional.affine_grid(theta, [count, 3, crop_px, crop_px], align_corners=False)
    view = functional.grid_sample(windows, grid, align_corners=False, padding_mode="reflection")

    # Brightness, contrast, saturation by up to 0.2 (half of the paper's: colour is evidence).
    jitter = torch.where(dice(1, 1, 1) < 0.8, 1.0, 0.0)
    view = view + jitter * (dice(1, 1, 1) - 0.5) * 0.4
    mean = view.mean((1, 2, 3), keepdim=True)
    view = mean + (view - mean) * (1 + jitter * (dice(1, 1, 1) - 0.5) * 0.4)
    grey = view.mean(1, keepdim=True)
    saturation = 1 + jitter * (dice(1, 1, 1) - 0.5) * 0.4
    saturation = torch.where(dice(1, 1, 1) < 0.2, 0.0, saturation)
    view = (grey + (view - grey) * saturation).clamp(-1, 1)
    view = torch.where((dice(1, 1, 1) < solarize) & (view > 0), -view, view)
    view = torch.where(dice(1, 1, 1) < blur, _blur(view, 0.1 + 1.9 * dice()), view)

    rows = torch.arange(crop_px, device=device)
    punched = dice() < holes
    for _ in range(3):
        low, size = dice(2), 0.1 + 0.3 * dice(2)
        start, stop = (low * (1 - size) * crop_px)[..., None], ((low + size) * crop_px)[..., None]
        inside = (rows >= start) & (rows < stop)
        hole = inside[:, 0, :, None] & inside[:, 1, None, :]
        hole &= (punched & (dice() < 0.7))[:, None, None]
        view = torch.where(hole[:, None], 0.0, view)
    return view


def _blur(view: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with one sigma a sample, 7 taps."""
    away = torch.arange(-3, 4, device=view.device)
    taps = torch.exp(-away.square() / (2 * sigma[:, None].square()))
    taps = taps / taps.sum(1, keepdim=True)
    count, channels = view.shape[:2]
    flat = view.reshape(1, count * channels, *view.shape[2:])
    kernel = taps.repeat_interleave(channels, 0)[:, None, None, :]
    flat = functional.pad(flat, (3, 3, 3, 3), mode="reflect")
    flat = functional.conv2d(flat, kernel, groups=count * channels)
    flat = functional.conv2d(flat, kernel.mT, groups=count * channels)
    return flat.reshape(view.shape)


def main() -> None:
    """Pre-train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--cache", type=Path, required=True, help="folder of training.data")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoints and log")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after this long")
    parser.add_argument("--save-every", type=float, default=300, help="seconds")
    parser.add_argument("--no-predictor", action="store_true", help="control: expected to collapse")
    options = parser.parse_args()

    config, encoder = read_recipe(options.recipe)
    torch.set_num_threads(config.threads)
    device = torch.device(options.device)
    trainer = ByolTrainer(config, encoder, device, predictor=not options.no_predictor)
    if (checkpoint := find_checkpoint(options.run)) is not None:
        trainer.load(checkpoint)
    pixels, index = open_cache(options.cache, device)
    views = Views(pixels, index, config.batch, config.crop_px, config.seed)
    options.run.mkdir(parents=True, exist_ok=True)
    began = saved = time.monotonic()
    recent: list[float] = []
    while trainer.step < config.steps and time.monotonic() - began < options.minutes * 60:
        recent.append(trainer.take_step(*views.draw(trainer.step)))
        if trainer.step % 20 == 0:
            line = {
                "step": trainer.step,
                "loss": round(float(np.mean(recent)), 4),
                "spread": round(trainer.spread, 4),
                "momentum": round(target_momentum(trainer.step, config.steps, config.momentum), 5),
                "seconds": round(time.monotonic() - began, 1),
            }
            recent.clear()
            with (options.run / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            sys.stderr.write(json.dumps(line) + "\n")
        if time.monotonic() - saved > options.save_every:
            trainer.save(options.run / "checkpoint")
            saved = time.monotonic()
    trainer.save(options.run / "checkpoint")
    export_encoder(trainer, options.run / "encoder.safetensors")


if __name__ == "__main__":
    main()
