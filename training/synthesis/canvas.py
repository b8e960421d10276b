"""A photograph under damage, and for every class what a detector should say of each pixel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from restorepix.models.detector import CLASSES
from training.damage import Color, Floats, Mode, composite_layer

IGNORE: Final = 255
"""Target of pixels that count neither way: soft edges, halos, damage that cannot be seen."""

CORE_ALPHA: Final = 0.35
"""From this strength of a layer a pixel belongs to the damage."""

EDGE_ALPHA: Final = 0.06
"""From this strength, up to ``CORE_ALPHA``, a pixel is soft edge."""

VISIBLE_LEVELS: Final = 6.0
"""A pixel of the core counts as damaged when a channel moved by more than this many of 255 levels:
white dust on white sky cannot be found, and need not be. A guess from looking."""


@dataclass
class Canvas:
    """One photograph in work. ``rng`` is the source of all randomness."""

    image: Floats
    """(H, W, 3) float32 in [0, 255]."""
    rng: np.random.Generator
    targets: npt.NDArray[np.uint8] = field(init=False)
    """(3, H, W) uint8 per class of ``CLASSES``: 1 = damage, 0 = none, 255 = counts neither way."""

    def __post_init__(self) -> None:
        """Begin without damage."""
        self.targets = np.zeros((len(CLASSES), *self.size), np.uint8)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.image.shape[0], self.image.shape[1]

    def paint(
        self,
        name: str | None,
        shape: Floats,
        color: Color | Floats,
        mode: Mode = "replace",
        opacity: float | Floats = 1.0,
        *,
        halo: bool = False,
    ) -> None:
        """Lay damage over the picture and note where it is.

        Args:
            name: class of ``CLASSES``; None for what is no damage (hard negatives).
            shape: (H, W) float32 in [0, 1], 1 inside the damage.
            color: R, G, B in [0, 255], or (H, W, 3) float32 for ``replace`` alone.
            mode: as ``composite_layer``.
            opacity: strength of the layer where ``shape`` is 1; a number, or (H, W).
            halo: the layer surrounds damage and counts neither way wherever it shows.
        """
        before = self.image
        alpha = np.asarray(shape * opacity, np.float32)
        if isinstance(color, np.ndarray):
            self.image = np.asarray(before + alpha[..., None] * (color - before), np.float32)
        else:
            self.image = composite_layer(before, alpha, color, mode)
        if name is None:
            return
        by_channel = cv2.absdiff(self.image, before)
        # Three maxima of planes: ten times as fast as max(2) over the short last axis.
        moved = np.maximum(np.maximum(by_channel[..., 0], by_channel[..., 1]), by_channel[..., 2])
        target = self.targets[CLASSES.index(name)]
        if halo:
            target[(moved > VISIBLE_LEVELS) & (target == 0)] = IGNORE
            return
        core = shape > CORE_ALPHA
        found = core & (moved > VISIBLE_LEVELS)
        unsure = ((shape > EDGE_ALPHA) | (moved > VISIBLE_LEVELS)) & ~found & (target == 0)
        target[unsure] = IGNORE
        target[found] = 1

    def luma(self) -> float:
        """Mean lightness in [0, 255]."""
        return float(self.image.mean())


def pick(rng: np.random.Generator, odds: dict[str, float]) -> str:
    """One of the keys, drawn with odds in proportion to the values."""
    weights = np.array(list(odds.values()))
    return list(odds)[int(rng.choice(len(weights), p=weights / weights.sum()))]
