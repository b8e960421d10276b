"""What an encoder learned: one encoder, one budget, six ways to pre-train it, three tests.

The ways: BYOL; a context encoder by L2 and jointly with a critic; an autoencoder; a denoising
autoencoder; nothing (random weights). The tests: a linear probe of texture classes on frozen
features, retrieval of patches of one class, and damage segmentation, fine-tuned. BYOL gets the same
small batches as the others here, though it wants hundreds; training/byol.py is its real recipe.
"""

from __future__ import annotations

import copy
import csv
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from restorepix.models.detector import Detector, DetectorConfig
from restorepix.models.encoder import Encoder, EncoderConfig, activate
from restorepix.models.lab.answer import composite
from restorepix.models.lab.context_encoder import fill_hole
from training.byol import Byol, ByolConfig, augment, follow, target_momentum
from training.checkpoint import find_checkpoint
from training.data import open_cache, read_rgb
from training.lab.critics import ContextCritic
from training.lab.losses import adversarial_loss, critic_loss, weighted_l2
from training.lab.run import LabConfig, build_bank, open_batches, train
from training.lab.segmentation import (
    DAMAGE,
    SegmentationTrainer,
    SegmentationTraining,
    draw_damage,
    evaluate,
    list_held_out_damage,
)
from training.lab.trainer import Draw, LabTrainer, frozen, scale_rate, step_optimizer
from training.synthesis.sample import PhotoSource, open_library
from training.validation import list_validation, read_square

Way = Literal["byol", "context", "context, joint", "autoencoder", "denoising autoencoder", "random"]
WAYS: tuple[Way, ...] = (
    "byol",
    "context",
    "context, joint",
    "autoencoder",
    "denoising autoencoder",
    "random",
)

BATCH = 16
CROP_PX = 128
RATES = (1e-3, 3e-4)
"""Peak learning rates of reconstruction and of BYOL, which collapses at much higher ones."""

NOISE = 0.25
"""Deviation of the noise that the denoising autoencoder removes, in [-1, 1]."""


@dataclass(frozen=True)
class Comparison:
    """What one encoder is good for."""

    name: str
    probe: float
    """Percent of held-out textures that a linear probe names rightly."""
    miou: float
    """Mean IoU of damage segmentation on held-out photographs."""
    pq: float
    """Its panoptic quality."""
    retrieval: float
    """Percent of the nearest five patches that are of the query's class."""


class Pretext(nn.Module):
    """An encoder and a decoder without skips: all that is known passes the deepest features."""

    def __init__(self, encoder: EncoderConfig) -> None:
        """Random weights."""
        super().__init__()
        self.encoder = Encoder(encoder)
        deepest = encoder.channels[-1]
        self.widen = nn.Conv2d(deepest, 4 * 96, 3, padding=1)
        self.middle = nn.Conv2d(96, 4 * 48, 3, padding=1)
        self.head = nn.Conv2d(48, 3 * 16, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, 3, H, W) in [-1, 1]; sides are multiples of 16."""
        x = activate(functional.pixel_shuffle(self.widen(self.encoder(image)[-1]), 2))
        x = activate(functional.pixel_shuffle(self.middle(x), 2))
        return torch.tanh(functional.pixel_shuffle(self.head(x), 4))


class PretextTrainer(LabTrainer):
    """Pre-training in one of the ``WAYS`` but ``random``."""

    def __init__(
        self, way: Way, encoder: EncoderConfig, *, steps: int, seed: int = 1, bf16: bool = True
    ) -> None:
        """Start a run; ``self.generator.encoder`` is what is learned."""
        torch.manual_seed(seed)
        network = Pretext(encoder)
        super().__init__(network, steps=steps, seed=seed, bf16=bf16)
        self.way = way
        learned: list[nn.Parameter] = list(network.parameters())
        self.byol: Byol | None = None
        self.critic: ContextCritic | None = None
        if way == "byol":
            sizes = ByolConfig(1, hidden=512, projection=64, bf16=bf16)
            self.byol = Byol(sizes, encoder)
            self.byol.online.encoder = network.encoder
            self.byol.target = copy.deepcopy(self.byol.online).requires_grad_(False)
            self.networks["byol"] = self.byol
            learned = [p for p in self.byol.parameters() if p.requires_grad]
        elif way == "context, joint":
            self.critic = ContextCritic(CROP_PX, 32)
            self.networks["critic"] = self.critic
            self.optimizers["critic"] = torch.optim.Adam(
                self.critic.parameters(), 2e-4, betas=(0.5, 0.999)
            )
        self.optimizers["generator"] = torch.optim.AdamW(learned)

    def compute_step(self, draw: Draw) -> dict[str, Tensor]:
        """One step on one batch."""
        for group in self.optimizers["generator"].param_groups:
            group["lr"] = RATES[self.way == "byol"] * scale_rate(self.step, self.steps)
        image, mask = draw(0)
        if self.byol is not None:
            return self._learn_views(image)
        seen = image
        weights = torch.ones_like(mask)
        if self.way.startswith("context"):
            seen, weights = fill_hole(image, mask), mask
        elif self.way == "denoising autoencoder":
            seen = image + NOISE * torch.randn_like(image)
        with self.mixed():
            predicted = self.generator(seen)
        predicted = predicted.float()
        losses = {"l2": weighted_l2(predicted, image, weights)}
        total = losses["l2"]
        if self.critic is not None:
            fake = composite(predicted, image, mask)
            scores = self.critic(image), self.critic(fake.detach())
            losses["critic"] = critic_loss(*scores, "standard")
            step_optimizer(self.optimizers["critic"], losses["critic"])
            with frozen(self.critic):
                losses["adversarial"] = adversarial_loss(self.critic(fake), "standard")
            total = 0.999 * total + 0.001 * losses["adversarial"]
        step_optimizer(self.optimizers["generator"], total, clip=1.0)
        return losses

    def _learn_views(self, image: Tensor) -> dict[str, Tensor]:
        assert self.byol is not None
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
        side = image.shape[-1] // 2
        first = augment(image, side, rng, blur=1.0, solarize=0.0, holes=0.0)
        second = augment(image, side, rng, blur=0.1, solarize=0.1, holes=0.5)
        loss, _ = self.byol(first, second)
        step_optimizer(self.optimizers["generator"], loss, clip=1.0)
        momentum = target_momentum(self.step, self.steps, 0.99)
        follow(self.byol.target, self.byol.online, momentum)
        return {"byol": loss}


@torch.no_grad()
def pool_features(encoder: Encoder, images: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
    """(N, D) features of square uint8 pictures: means of every level, side by side."""
    rows: list[Tensor] = []
    for image in images:
        side = min(image.shape[:2]) // 16 * 16
        batch = torch.from_numpy(image[:side, :side].copy()).permute(2, 0, 1)[None].float()
        levels = encoder(batch / 127.5 - 1)
        rows.append(torch.cat([level.mean((2, 3)) for level in levels], 1)[0])
    return torch.stack(rows)


def probe_linearly(features: Tensor, classes: Tensor, train: Tensor, steps: int = 60) -> float:
    """Percent right of a softmax regression on the rows that ``train`` (N,) bool leaves out.

    Features are standardised by the training rows; weights decay by 0.01.
    """
    mean, deviation = features[train].mean(0), features[train].std(0).clamp_min(1e-6)
    x = ((features - mean) / deviation).double()
    count = int(classes.max()) + 1
    weight = torch.zeros(x.shape[1], count, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(count, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def close() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(x[train] @ weight + bias, classes[train])
        loss = loss + 0.01 * weight.square().sum() / len(x)
        loss.backward()
        return loss

    optimizer.step(close)
    with torch.no_grad():
        right = (x[~train] @ weight + bias).argmax(1) == classes[~train]
    return 100 * float(right.float().mean())


def measure_retrieval(features: Tensor, classes: Tensor, count: int = 5) -> float:
    """Percent of each row's ``count`` nearest other rows (cosine) that are of its class."""
    unit = functional.normalize(features - features.mean(0), dim=1)
    similar = unit @ unit.T
    similar.fill_diagonal_(-math.inf)
    nearest = similar.topk(count, 1).indices
    return 100 * float((classes[nearest] == classes[:, None]).float().mean())


def read_textures(data: Path) -> tuple[list[Path], list[str]]:
    """Textures below ``data/textures`` and their classes, the names of their folders.

    Where the folder is flat, ``data/INDEX.csv`` (columns file, path_in_repo) says from which
    folder each file came.

    Raises:
        FileNotFoundError: no textures.
    """
    index = data / "INDEX.csv"
    if index.is_file():
        with index.open(newline="") as file:
            rows = [r for r in csv.DictReader(file) if r["file"].startswith("textures/")]
        paths = [data / row["file"] for row in rows]
        classes = [Path(row["path_in_repo"]).parent.name for row in rows]
    else:
        paths = sorted(p for p in (data / "textures").rglob("*") if p.is_file())
        classes = [path.parent.name for path in paths]
    found = [(p, c) for p, c in zip(paths, classes, strict=True) if p.is_file()]
    if not found:
        msg = f"{data / 'textures'}: no textures found for the linear probe"
        raise FileNotFoundError(msg)
    return [p for p, _ in found], [c for _, c in found]


def cut_middle(image: npt.NDArray[np.uint8], side: int = 256) -> npt.NDArray[np.uint8]:
    """The middle square of at most ``side`` pixels."""
    size = min(side, *image.shape[:2])
    top, left = ((length - size) // 2 for length in image.shape[:2])
    return image[top : top + size, left : left + size]


def compare_representations(
    data: Path,
    cache: Path,
    runs: Path,
    *,
    crops: int,
    seed: int,
    minutes: float = math.inf,
    encoder: EncoderConfig | None = None,
    photos: int = 30,
    ways: Sequence[Way] = WAYS,
) -> list[Comparison]:
    """Pre-train, test, keep; those that time did not suffice for are left out.

    Args:
        data: folder with textures and the held-out photographs.
        cache: of ``training.data``.
        runs: where checkpoints and results are kept.
        crops: seen in pre-training; segmentation fine-tunes on half as many.
        seed: of everything random.
        minutes: stop after about so long.
        encoder: sizes; default those of the detector.
        photos: held-out photographs for segmentation.
        ways: which.
    """
    config = encoder or EncoderConfig()
    deadline = time.monotonic() + minutes * 60
    results: list[Comparison] = []
    for way in ways:
        folder = runs / f"{way.replace(', ', '-').replace(' ', '-')}-{crops}-{seed}"
        kept = folder / "comparison.json"
        if kept.is_file():
            results.append(Comparison(**json.loads(kept.read_text())))
            continue
        left = (deadline - time.monotonic()) / 60
        learned = _pretrain(way, config, cache, folder / "pretext", crops, seed, left)
        left = (deadline - time.monotonic()) / 60
        if learned is None or left <= 0:
            continue
        paths, names = read_textures(data)
        classes = torch.tensor([sorted(set(names)).index(name) for name in names])
        features = pool_features(learned, [cut_middle(read_rgb(path)) for path in paths])
        split = torch.rand(len(paths), generator=torch.Generator().manual_seed(seed)) < 0.7
        scores = _segment(
            learned, way, data, cache, folder / "damage", crops // 2, seed, photos, left
        )
        if scores is None:
            continue
        result = Comparison(
            way, probe_linearly(features, classes, split), *scores,
            measure_retrieval(features, classes),
        )  # fmt: skip
        kept.write_text(json.dumps(asdict(result)))
        results.append(result)
    return results


def _pretrain(
    way: Way, config: EncoderConfig, cache: Path, run: Path, crops: int, seed: int, minutes: float
) -> Encoder | None:
    steps = max(1, crops // BATCH)
    trainer = PretextTrainer(way, config, steps=steps, seed=seed)
    network = cast(Pretext, trainer.generator)
    if way == "random":
        run.mkdir(parents=True, exist_ok=True)
        return network.encoder.eval()
    checkpoint = find_checkpoint(run)
    done = checkpoint and json.loads((checkpoint / "state.json").read_text())["step"] >= steps
    if checkpoint and done:
        network.load_state_dict(load_file(checkpoint / "generator.safetensors"))
        return network.encoder.eval()
    pixels, index = open_cache(cache, torch.device("cpu"))
    lab = LabConfig("restorepix", steps, BATCH, CROP_PX, "region", bank=512, seed=seed)
    train(trainer, open_batches(lab, pixels, index, build_bank(lab)), run, minutes=minutes)
    return network.encoder.eval() if trainer.step >= steps else None


def _segment(
    learned: Encoder, way: Way, data: Path, cache: Path, run: Path, crops: int, seed: int,
    photos: int, minutes: float,
) -> tuple[float, float] | None:  # fmt: skip
    steps = max(1, crops // BATCH)
    torch.manual_seed(seed)
    network = Detector(DetectorConfig(encoder=learned.config, outputs=DAMAGE))
    network.encoder.load_state_dict(learned.state_dict())
    training = SegmentationTraining(encoder_lr_scale=1.0 if way == "random" else 0.1)
    trainer = SegmentationTrainer(network, training, steps=steps, seed=seed)
    elements = data / "damage_elements"
    found = elements if elements.is_dir() else None
    draw = draw_damage(
        PhotoSource.open(cache), open_library(found, held_out=False), CROP_PX, BATCH, seed
    )
    train(trainer, draw, run, minutes=minutes)
    if trainer.step < steps:
        return None
    truths = [read_square(path) for path in list_validation(data, photos)]
    return evaluate(network.eval(), list_held_out_damage(truths, found, seed), DAMAGE)
