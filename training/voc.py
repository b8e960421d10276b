"""Semantic segmentation in the manner of Pascal VOC: 21 classes, 255 ignored.

A loader for the published folder layout (``JPEGImages``, ``SegmentationClass``,
``ImageSets/Segmentation``), transforms that move picture and labels together, the loss and mean
IoU, and the detector's network with 21 outputs. It shows what a BYOL encoder is worth on another
task; nothing of it runs in the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from restorepix.models.detector import Detector, DetectorConfig
from restorepix.models.encoder import EncoderConfig
from training.data import read_rgb

CLASSES = 21
"""Background and twenty kinds of things."""

IGNORE = 255
"""Label of pixels that count neither way: the outlines in VOC, padding in crops."""

Labels = npt.NDArray[np.uint8]
Rgb = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class VocPhotos:
    """The photographs of one split."""

    root: Path
    """Folder that holds ``JPEGImages`` and the others, such as ``VOCdevkit/VOC2012``."""
    split: str = "train"

    def names(self) -> list[str]:
        """Names in the split's list, without suffix.

        Raises:
            FileNotFoundError: the split has no list.
        """
        listing = self.root / "ImageSets" / "Segmentation" / f"{self.split}.txt"
        return listing.read_text("utf-8").split()

    def read(self, name: str) -> tuple[Rgb, Labels]:
        """(H, W, 3) uint8 RGB and (H, W) uint8 labels of one photograph.

        Raises:
            ValueError: sizes differ, or a label is neither a class nor 255.
        """
        image = read_rgb(self.root / "JPEGImages" / f"{name}.jpg")
        path = self.root / "SegmentationClass" / f"{name}.png"
        with Image.open(path) as file:  # a palette picture: its indices are the labels
            labels = np.asarray(file, np.uint8)
        if labels.shape != image.shape[:2]:
            msg = f"{path}: labels are {labels.shape}, the photograph is {image.shape[:2]}"
            raise ValueError(msg)
        strange = np.setdiff1d(np.unique(labels), [*range(CLASSES), IGNORE])
        if strange.size:
            msg = f"{path}: expected labels 0 to {CLASSES - 1} and {IGNORE}, found {strange[0]}"
            raise ValueError(msg)
        return image, labels


def crop_for_training(
    image: Rgb, labels: Labels, size_px: int, rng: np.random.Generator
) -> tuple[Rgb, Labels]:
    """A random crop of a random enlargement (0.5 to 2), mirrored half of the time.

    Labels move with the picture by nearest neighbour; what lies outside the photograph is grey
    and ignored.
    """
    scale = float(np.exp(rng.uniform(np.log(0.5), np.log(2))))
    image, labels = _resize(image, labels, scale)
    height, width = labels.shape
    bottom, right = max(0, size_px - height), max(0, size_px - width)
    image = np.pad(image, ((0, bottom), (0, right), (0, 0)), constant_values=128)
    labels = np.pad(labels, ((0, bottom), (0, right)), constant_values=IGNORE)
    top = int(rng.integers(labels.shape[0] - size_px + 1))
    left = int(rng.integers(labels.shape[1] - size_px + 1))
    image = image[top : top + size_px, left : left + size_px]
    labels = labels[top : top + size_px, left : left + size_px]
    return mirror(image, labels) if rng.random() < 0.5 else (image, labels)


def crop_for_validation(
    image: Rgb, labels: Labels, resize_px: int = 256, size_px: int = 224
) -> tuple[Rgb, Labels]:
    """Short side to ``resize_px``, middle square of ``size_px``."""
    image, labels = _resize(image, labels, resize_px / min(labels.shape))
    top, left = (labels.shape[0] - size_px) // 2, (labels.shape[1] - size_px) // 2
    window = (slice(top, top + size_px), slice(left, left + size_px))
    return image[window], labels[window]


def mirror(image: Rgb, labels: Labels) -> tuple[Rgb, Labels]:
    """Picture and labels, left and right exchanged."""
    return np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(labels[:, ::-1])


def _resize(image: Rgb, labels: Labels, scale: float) -> tuple[Rgb, Labels]:
    size = (max(1, round(labels.shape[1] * scale)), max(1, round(labels.shape[0] * scale)))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return (
        np.asarray(cv2.resize(image, size, interpolation=way), np.uint8),
        np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), np.uint8),
    )


def collate(samples: Sequence[tuple[Rgb, Labels]]) -> tuple[Tensor, Tensor]:
    """(B, 3, H, W) float in [-1, 1] and (B, H, W) int64 labels of samples of one size."""
    images = torch.from_numpy(np.stack([image for image, _ in samples]))
    labels = torch.from_numpy(np.stack([label for _, label in samples]))
    return images.movedim(3, 1).float() / 127.5 - 1, labels.long()


def build_segmenter(encoder: EncoderConfig | None = None) -> Detector:
    """The detector's network with 21 outputs, to be read by a softmax."""
    return Detector(DetectorConfig(encoder=encoder or EncoderConfig(), outputs=CLASSES))


def segmentation_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the pixels that count; 0 when none does.

    Args:
        logits: (B, 21, H, W) float.
        labels: (B, H, W) int64, 255 counts neither way.
    """
    total = functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp_min(1)


def mean_iou(predicted: Tensor, labels: Tensor, classes: int = CLASSES) -> float:
    """Intersection over union, mean over the classes that occur in either.

    Args:
        predicted: (...) int64 classes.
        labels: (...) int64, 255 counts neither way.
        classes: number of classes.
    """
    counts = labels != IGNORE
    pairs = labels[counts] * classes + predicted[counts]
    matrix = torch.bincount(pairs, minlength=classes**2).reshape(classes, classes).double()
    overlap = matrix.diagonal()
    union = matrix.sum(0) + matrix.sum(1) - overlap
    return float((overlap[union > 0] / union[union > 0]).mean())
