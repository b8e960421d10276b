"""What an encoder learned: one encoder, one budget, six ways to pre-train it, three tests.

The ways are those of ``training.lab.pretext``. The tests: a linear probe of texture classes on
frozen features, retrieval of patches of one class, and damage segmentation, fine-tuned.
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self, cast

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from restorepix.models.detector import Detector, DetectorConfig
from restorepix.models.encoder import Encoder, EncoderConfig
from training.byol import ARCHITECTURE
from training.checkpoint import find_checkpoint
from training.data import open_cache, read_rgb
from training.lab.batches import build_bank, open_batches
from training.lab.pretext import BATCH, CROP_PX, WAYS, Pretext, PretextTrainer, Way
from training.lab.recipe import LabConfig
from training.lab.run import train
from training.lab.segmentation import (
    DAMAGE,
    SegmentationTrainer,
    SegmentationTraining,
    draw_damage,
    evaluate,
    list_held_out_damage,
)
from training.synthesis.sample import PhotoSource, open_library
from training.validation import list_validation, read_square

TEXTURE_PX = 128

LABELLED_BATCH = 16
LABELLED_PX = 96
LABELLED_SHARE = 1 / 8
"""Pictures with labels that segmentation is fine-tuned on, for each window of pre-training."""


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


def cut_middle(image: npt.NDArray[np.uint8], side: int = TEXTURE_PX) -> npt.NDArray[np.uint8]:
    """The middle square of at most twice ``side`` pixels, at half its size."""
    size = min(2 * side, *image.shape[:2])
    top, left = ((length - size) // 2 for length in image.shape[:2])
    square = image[top : top + size, left : left + size]
    half = (max(1, size // 2),) * 2
    return np.asarray(cv2.resize(square, half, interpolation=cv2.INTER_AREA), np.uint8)


@dataclass(frozen=True)
class Textures:
    """What encoders are probed with."""

    images: Sequence[npt.NDArray[np.uint8]]
    classes: Tensor
    """(N,) int64."""

    @classmethod
    def read(cls, data: Path) -> Self:
        """As ``read_textures``, decoded and cut."""
        paths, names = read_textures(data)
        order = sorted(set(names))
        classes = torch.tensor([order.index(name) for name in names])
        return cls([cut_middle(read_rgb(path)) for path in paths], classes)


@dataclass(frozen=True)
class Budget:
    """What every way of pre-training gets, and how long this call may take."""

    crops: int
    """Windows of pre-training."""
    seed: int = 1
    minutes: float = math.inf
    """For one training; what is not finished goes on with the next call."""
    deadline: float = math.inf
    """On ``time.monotonic``'s clock: when to begin nothing more."""
    encoder: EncoderConfig = EncoderConfig()
    """Default: sizes of the detector and of the BYOL U-Net."""
    photos: int = 30
    """Held-out photographs for segmentation."""

    def find_folder(self, runs: Path, way: Way) -> Path:
        """Where the checkpoints and the result of a way are kept."""
        name = way.replace(", ", "-").replace(" ", "-")
        sizes = "x".join(str(n) for n in (*self.encoder.channels, *self.encoder.depths))
        return runs / f"{name}-{self.crops}-{self.seed}-{sizes}"

    @property
    def left(self) -> float:
        """Minutes that a training may take if it begins now."""
        return min(self.minutes, (self.deadline - time.monotonic()) / 60)


def compare_representations(
    data: Path,
    cache: Path,
    runs: Path,
    budget: Budget,
    *,
    ways: Sequence[Way] = WAYS,
    only_kept: bool = False,
) -> list[Comparison]:
    """Pre-train, test, keep; those that time did not suffice for are left out.

    Args:
        data: folder with textures and the held-out photographs.
        cache: of ``training.data``.
        runs: where checkpoints and results are kept.
        budget: see there.
        ways: which.
        only_kept: train nothing, tell what is there.
    """
    results: list[Comparison] = []
    textures: Textures | None = None
    for way in ways:
        folder = budget.find_folder(runs, way)
        kept = folder / f"comparison-{budget.photos}.json"
        if kept.is_file():
            results.append(Comparison(**json.loads(kept.read_text())))
            continue
        learned = None if only_kept else pretrain(way, cache, folder, budget)
        scores = None if learned is None else _segment(learned, way, data, cache, folder, budget)
        if learned is None or scores is None:
            continue
        textures = textures or Textures.read(data)
        classes = textures.classes
        features = pool_features(learned, textures.images)
        rng = torch.Generator().manual_seed(budget.seed)
        split = torch.rand(len(classes), generator=rng) < 0.7
        result = Comparison(
            way, probe_linearly(features, classes, split), *scores,
            measure_retrieval(features, classes),
        )  # fmt: skip
        kept.write_text(json.dumps(asdict(result)))
        results.append(result)
    return results


def pretrain(way: Way, cache: Path, folder: Path, budget: Budget) -> Encoder | None:
    """An encoder after its budget, from its checkpoint or trained now; None when time ran out."""
    run = folder / "pretext"
    steps = max(1, budget.crops // BATCH)
    trainer = PretextTrainer(way, budget.encoder, steps=steps, seed=budget.seed)
    network = cast(Pretext, trainer.generator)
    checkpoint = find_checkpoint(run)
    done = checkpoint and json.loads((checkpoint / "state.json").read_text())["step"] >= steps
    if checkpoint and done:
        network.load_state_dict(load_file(checkpoint / "generator.safetensors"))
    elif way != "random":
        if budget.left <= 0:
            return None
        for part in trainer.networks.values():
            part.to(memory_format=torch.channels_last)
        pixels, index = open_cache(cache, torch.device("cpu"))
        lab = LabConfig(
            "restorepix", steps, BATCH, CROP_PX, "region", bank=512, scale="smallest",
            seed=budget.seed,
        )  # fmt: skip
        draw = open_batches(lab, pixels, index, build_bank(lab))
        train(trainer, draw, run, minutes=budget.left)
        if trainer.step < steps:
            return None
    folder.mkdir(parents=True, exist_ok=True)
    return network.encoder.eval()


def export_learned(encoder: Encoder, out: Path) -> Path:
    """Write an encoder as ``training.byol`` does, for whatever reads its files."""
    state = {name: value.contiguous() for name, value in encoder.state_dict().items()}
    header = {"architecture": ARCHITECTURE, "config": json.dumps(asdict(encoder.config))}
    save_file(state, out, metadata=header)
    return out


def _segment(
    learned: Encoder, way: Way, data: Path, cache: Path, folder: Path, budget: Budget
) -> tuple[float, float] | None:
    """Mean IoU and PQ of damage segmentation after fine-tuning; None when time ran out."""
    steps = max(1, int(budget.crops * LABELLED_SHARE) // LABELLED_BATCH)
    torch.manual_seed(budget.seed)
    network = Detector(DetectorConfig(encoder=learned.config, outputs=DAMAGE))
    network.encoder.load_state_dict(learned.state_dict())
    network.to(memory_format=torch.channels_last)
    training = SegmentationTraining(encoder_lr_scale=1.0 if way == "random" else 0.1)
    trainer = SegmentationTrainer(network, training, steps=steps, seed=budget.seed)
    elements = data / "damage_elements"
    found = elements if elements.is_dir() else None
    library = open_library(found, held_out=False)
    draw = draw_damage(PhotoSource.open(cache), library, LABELLED_PX, LABELLED_BATCH, budget.seed)
    if budget.left <= 0:
        return None
    train(trainer, draw, folder / "damage", minutes=budget.left)
    if trainer.step < steps:
        return None
    truths = [read_square(path) for path in list_validation(data, budget.photos)]
    return evaluate(network.eval(), list_held_out_damage(truths, found, budget.seed), DAMAGE)
