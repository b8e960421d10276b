"""Pixel scores of a found mask against a target, exact and with a tolerance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

BoolMask = npt.NDArray[np.bool_]

TOLERANCE_PX = 2
"""Pixels this near count as hit: outlines of soft damage are a matter of taste."""


@dataclass
class Counts:
    """Sums over pictures."""

    found: int = 0
    """Marked pixels, without those that count neither way."""
    right: int = 0
    """Marked pixels that are damage, or near it."""
    truth: int = 0
    """Damaged pixels."""
    hit: int = 0
    """Damaged pixels that are marked, or near a mark."""

    def add(self, found: BoolMask, target: npt.NDArray[np.uint8], tolerance_px: int) -> None:
        """Add a picture.

        Args:
            found: (H, W) bool, True = marked.
            target: (H, W) uint8: 1 damage, 0 none, 255 counts neither way.
            tolerance_px: how far is near; 0 compares pixel by pixel.
        """
        truth, counts = target == 1, target != 255
        marked = found & counts
        self.found += int(marked.sum())
        self.right += int((marked & _grow(truth, tolerance_px)).sum())
        self.truth += int(truth.sum())
        self.hit += int((truth & _grow(found, tolerance_px)).sum())

    def __iadd__(self, other: Counts) -> Counts:
        """Add the sums of other pictures."""
        self.found += other.found
        self.right += other.right
        self.truth += other.truth
        self.hit += other.hit
        return self

    @property
    def precision(self) -> float:
        """Share of marks that are right; 1 without marks."""
        return self.right / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """Share of damage that is marked; 1 without damage."""
        return self.hit / self.truth if self.truth else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0

    @property
    def iou(self) -> float:
        """Hits over hits, wrong marks and missed damage."""
        union = self.truth + self.found - self.right
        return self.hit / union if union else 1.0

    def as_row(self) -> dict[str, Any]:
        """The four scores, rounded."""
        return {
            name: round(getattr(self, name), 4) for name in ("precision", "recall", "f1", "iou")
        }


def _grow(mask: BoolMask, radius_px: int) -> BoolMask:
    if not radius_px:
        return mask
    away = np.arange(-radius_px, radius_px + 1) ** 2
    brush = (away[:, None] + away <= radius_px * radius_px).astype(np.uint8)
    return cv2.dilate(mask.astype(np.uint8), brush).astype(np.bool_)
