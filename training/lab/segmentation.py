"""Training of segmentation networks: BYOL's encoder or ResNet-50, on VOC or painted damage.

The founding document's recipe, corrected: BYOL pre-training, then fine-tuning on labels, the
encoder at a tenth of the rate; pictures and labels move together; 255 counts neither way.

Run: ``python -m training.lab.segmentation RECIPE --run runs/voc`` with a recipe of
training/recipes/lab/segmentation, and ``--voc VOCdevkit/VOC2012`` or, for damage painted on
photographs (classes none, scratch, text, watermark), ``--cache runs/cache``; ``--encoder FILE`` for
pre-trained weights.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from restorepix.models.detector import Detector, DetectorConfig
from restorepix.models.encoder import EncoderConfig
from restorepix.models.lab.resnet import ResNetSegmenter
from training.byol import load_encoder_state
from training.lab.panoptic import average_quality, build_panoptic, panoptic_quality
from training.lab.run import train
from training.lab.trainer import Draw, LabTrainer, step_optimizer
from training.synthesis.sample import (
    Library,
    PhotoSource,
    SynthesisConfig,
    draw_sample,
    open_library,
    synthesise,
)
from training.validation import list_validation, read_square
from training.voc import (
    CLASSES,
    IGNORE,
    VocPhotos,
    collate,
    crop_for_training,
    crop_for_validation,
    mean_iou,
    segmentation_loss,
)

DAMAGE = 4
"""Classes of painted damage: none, scratch, text, watermark."""

Labels = npt.NDArray[np.uint8]
Labelled = tuple[npt.NDArray[np.uint8], Labels]
"""(H, W, 3) uint8 RGB and (H, W) uint8 classes, 255 counts neither way."""


@dataclass(frozen=True)
class SegmentationTraining:
    """Rates."""

    lr: float = 1e-3
    """Of AdamW, with warm-up and cosine."""
    encoder_lr_scale: float = 0.1
    """Of the encoder's rate beside the decoder's; 1 for an encoder that was not pre-trained."""
    weight_decay: float = 1e-4
    """Decoupled decay."""


@dataclass(frozen=True)
class SegmentationRecipe:
    """One run; every field is read from the recipe's ``[segmentation]`` table."""

    data: Literal["voc", "damage"]
    """Which data it is for: ``--voc`` or ``--cache`` says where they are."""
    steps: int
    """Steps of the network."""
    backbone: Literal["encoder", "resnet50"] = "encoder"
    """The package's own encoder, or ResNet-50."""
    batch: int = 32
    """Samples a step."""
    crop_px: int = 224
    """Side of the training crops; VOC is validated on the middle 224 px of 256."""
    lr: float = 1e-3
    """As ``SegmentationTraining``."""
    encoder_lr_scale: float = 0.1
    """As ``SegmentationTraining``; without pre-trained weights it is 1, whatever stands here."""
    weight_decay: float = 1e-4
    """As ``SegmentationTraining``."""
    seed: int = 1
    """Of initial weights and batches."""

    @property
    def classes(self) -> int:
        """How many classes its data have."""
        return CLASSES if self.data == "voc" else DAMAGE

    def build_training(self, pretrained: bool) -> SegmentationTraining:
        """The rates, for an encoder that was pre-trained or one that was not."""
        scale = self.encoder_lr_scale if pretrained else 1.0
        return SegmentationTraining(self.lr, scale, self.weight_decay)


def read_recipe(path: Path) -> SegmentationRecipe:
    """The ``[segmentation]`` table of a recipe.

    Raises:
        ValueError: another table, an unknown or a missing key, or data of another name.
    """
    tables: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    table: dict[str, Any] = tables.pop("segmentation", {})
    known = {item.name for item in fields(SegmentationRecipe)}
    if strange := [*tables, *(set(table) - known)]:
        raise ValueError(f"{path}: unknown tables or keys: {', '.join(sorted(strange))}")
    if missing := {"data", "steps"} - set(table):
        raise ValueError(f"{path}: [segmentation] lacks {', '.join(sorted(missing))}")
    if table["data"] not in ("voc", "damage"):
        raise ValueError(f"{path}: data must be voc or damage, found {table['data']!r}")
    return SegmentationRecipe(**table)


class SegmentationTrainer(LabTrainer):
    """Cross-entropy; ``draw`` gives pictures and (B, H, W) int64 labels."""

    decay = True

    def __init__(
        self,
        network: Detector | ResNetSegmenter,
        training: SegmentationTraining,
        *,
        steps: int,
        seed: int = 1,
        bf16: bool = True,
    ) -> None:
        """Start a run."""
        super().__init__(network, steps=steps, seed=seed, bf16=bf16)
        self.training = training
        encoder = {id(item) for item in network.encoder.parameters()}
        rest = [item for item in network.parameters() if id(item) not in encoder]
        slow = training.encoder_lr_scale * training.lr
        groups = [
            {"params": list(network.encoder.parameters()), "lr": slow},
            {"params": rest},
        ]
        self.optimizers["generator"] = torch.optim.AdamW(
            groups, training.lr, weight_decay=training.weight_decay
        )

    def compute_step(self, draw: Draw) -> dict[str, Tensor]:
        """One step on one batch."""
        image, labels = draw(0)
        with self.mixed():
            logits = self.generator(image)
        loss = segmentation_loss(logits.float(), labels)
        step_optimizer(self.optimizers["generator"], loss, clip=1.0)
        return {"loss": loss}


def flatten_targets(target: npt.NDArray[np.uint8]) -> Labels:
    """(3, H, W) independent maps {0, 1, 255} -> (H, W) classes 0 to 3; the last map wins.

    Doubt in any map is doubt, unless another map is sure of damage.
    """
    labels = np.where((target == IGNORE).any(0), IGNORE, 0).astype(np.uint8)
    for number, layer in enumerate(target, 1):
        labels[layer == 1] = number
    return labels


def draw_damage(source: PhotoSource, library: Library, size_px: int, batch: int, seed: int) -> Draw:
    """Batches of painted damage by number."""
    config = SynthesisConfig()

    def draw(number: int) -> tuple[Tensor, Tensor]:
        samples: list[Labelled] = []
        for place in range(batch):
            sample = draw_sample(source, library, config, size_px, (seed, number, place))
            samples.append((sample.image, flatten_targets(sample.target)))
        return collate(samples)

    return draw


def draw_voc(photos: VocPhotos, size_px: int, batch: int, seed: int) -> Draw:
    """Batches of VOC's training photographs by number."""
    names = photos.names()

    def draw(number: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([seed, number])
        chosen = rng.integers(0, len(names), batch).tolist()
        read = [photos.read(names[index]) for index in chosen]
        return collate([crop_for_training(*pair, size_px, rng) for pair in read])

    return draw


def list_held_out_damage(
    truths: Sequence[npt.NDArray[np.uint8]], elements: Path | None, seed: int
) -> list[Labelled]:
    """Held-out photographs with damage from fonts and elements that training never paints."""
    library = open_library(elements, held_out=True)
    cases: list[Labelled] = []
    for number, truth in enumerate(truths):
        kind = ("scratch", "text", "watermark")[number % 3]
        rng = np.random.default_rng([seed, number])
        sample = synthesise(truth, rng, library, SynthesisConfig(negative=0), classes=[kind])
        cases.append((sample.image, flatten_targets(sample.target)))
    return cases


def build_network(backbone: str, classes: int, encoder: Path | None) -> Detector | ResNetSegmenter:
    """A segmentation network, with a pre-trained encoder if one is given.

    Raises:
        ValueError: an unknown backbone, or pre-trained weights for ResNet-50, of which none exist.
    """
    if backbone == "resnet50":
        if encoder is not None:
            msg = f"{encoder}: these weights are of the small encoder; resnet50 takes none"
            raise ValueError(msg)
        return ResNetSegmenter(classes)
    if backbone != "encoder":
        msg = f"expected the backbone encoder or resnet50, found {backbone!r}"
        raise ValueError(msg)
    state, config = (None, EncoderConfig()) if encoder is None else load_encoder_state(encoder)
    network = Detector(DetectorConfig(encoder=config, outputs=classes))
    if state is not None:
        network.encoder.load_state_dict(state)
    return network


def evaluate(
    network: Callable[[Tensor], Tensor], cases: Sequence[Labelled], classes: int
) -> tuple[float, float]:
    """Mean IoU over all pixels of all pictures, and PQ of the classes but 0.

    Args:
        network: (1, 3, H, W) -> (1, classes, H, W) logits; sides of cases are cut to multiples of
            32.
        cases: pictures with their labels.
        classes: how many.
    """
    predicted: list[Tensor] = []
    truths: list[Tensor] = []
    qualities: list[dict[int, tuple[float, int, int, int]]] = []
    things = range(1, classes)
    for image, labels in cases:
        height, width = (side // 32 * 32 for side in labels.shape)
        batch, truth = collate([(image[:height, :width], labels[:height, :width])])
        with torch.inference_mode():
            found = network(batch).argmax(1)
        predicted.append(found.flatten())
        truths.append(truth.flatten())
        ours = build_panoptic(found[0].numpy().astype(np.uint8), things=things, min_pixels=9)
        theirs = build_panoptic(truth[0].numpy().astype(np.uint8), things=things)
        qualities.append(panoptic_quality(ours, theirs, things))
    return mean_iou(torch.cat(predicted), torch.cat(truths), classes), average_quality(qualities)


def main() -> None:
    """Train and evaluate from the command line; the scores go to standard output."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipe", type=Path)
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--voc", type=Path, help="folder such as VOCdevkit/VOC2012")
    data.add_argument("--cache", type=Path, help="folder of training.data: painted damage")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, help="encoder.safetensors of training.byol")
    parser.add_argument("--elements", type=Path, help="folder of damage elements")
    parser.add_argument("--validation", type=Path, help="data folder, for damage: held-out photos")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after this long")
    options = parser.parse_args()
    recipe = read_recipe(options.recipe)
    if (recipe.data == "voc") != bool(options.voc):
        parser.error(f"{options.recipe} is for {recipe.data}: pass --voc or --cache as it needs")
    torch.manual_seed(recipe.seed)
    network = build_network(recipe.backbone, recipe.classes, options.encoder)
    training = recipe.build_training(options.encoder is not None)
    trainer = SegmentationTrainer(network, training, steps=recipe.steps, seed=recipe.seed)
    cases: list[Labelled] = []
    if options.voc:
        draw = draw_voc(VocPhotos(options.voc), recipe.crop_px, recipe.batch, recipe.seed)
        held_out = VocPhotos(options.voc, "val")
        cases = [crop_for_validation(*held_out.read(name)) for name in held_out.names()]
    else:
        library = open_library(options.elements, held_out=False)
        source = PhotoSource.open(options.cache)
        draw = draw_damage(source, library, recipe.crop_px, recipe.batch, recipe.seed)
        if options.validation:
            truths = [read_square(path) for path in list_validation(options.validation, 60)]
            cases = list_held_out_damage(truths, options.elements, recipe.seed)
    train(trainer, draw, options.run, minutes=options.minutes)
    if cases:
        miou, quality = evaluate(network.eval(), cases, recipe.classes)
        line = {"step": trainer.step, "miou": round(miou, 4), "pq": round(quality, 4)}
        sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
