"""The overlay: how much of what colour lies over each pixel, and where it sits on a photograph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from restorepix.photo import BoolMask
from restorepix.watermark.planes import blur

Floats = npt.NDArray[np.float32]

VISIBLE_LEVELS: Final = 1.5
"""An overlay touches a pixel that it moves by more levels of 255 than this, on black or white."""


@dataclass(frozen=True, eq=False)
class Overlay:
    """A watermark as a picture with opacity: ``I = (1 - alpha) J + alpha color``."""

    alpha: Floats
    """(h, w) float32 in [0, 1]: 0 = the photograph alone, 1 = the overlay alone."""
    color: Floats
    """(h, w, 3) float32 RGB in [0, 1]; without meaning where alpha is 0."""

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)`` in pixels."""
        return self.alpha.shape[0], self.alpha.shape[1]

    def find_support(self) -> BoolMask:
        """Return the pixels that the overlay can change visibly, (h, w) bool."""
        contrast = np.maximum(self.color, 1 - self.color).max(axis=2)
        return self.alpha * contrast > VISIBLE_LEVELS / 255


class Placement(NamedTuple):
    """Where an overlay lies on a photograph, and how strongly."""

    top: float
    """Row of the photograph, in pixels, where the overlay's upper edge lies."""
    left: float
    """The same for columns."""
    scale: float = 1.0
    """Pixels of the photograph per pixel of the overlay."""
    opacity: float = 1.0
    """Factor on the overlay's alpha."""


def place_overlay(overlay: Overlay, placement: Placement, size: tuple[int, int]) -> Overlay:
    """Return the overlay resampled onto the pixels of a photograph.

    Colour is resampled weighted with alpha, so that nothing bleeds in from where it is unseen.

    Args:
        overlay: what lies on the photograph.
        placement: where.
        size: ``(height, width)`` of the photograph.

    Returns:
        An overlay of that size; alpha is 0 where it does not reach, and at most 1.
    """
    height, width = size
    scale, top, left = placement.scale, placement.top, placement.left
    layers = np.dstack([overlay.alpha, overlay.color * overlay.alpha[..., None]])
    if scale == 1.0 and float(top).is_integer() and float(left).is_integer():
        placed = _paste(layers, int(top), int(left), size)
    else:
        # Pixel centres lie at halves: x_photo + 1/2 = scale (x_overlay + 1/2) + left.
        shift = 0.5 * scale - 0.5
        matrix = np.array([[scale, 0, left + shift], [0, scale, top + shift]], np.float64)
        if scale < 1:
            layers = blur(layers, max(0.5 / scale - 0.35, 0.1), reflect=False)
        warped = cv2.warpAffine(
            np.ascontiguousarray(layers, np.float32),
            matrix,
            (width, height),
            flags=cv2.INTER_CUBIC if scale >= 0.9 else cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
        )
        placed = np.asarray(warped, np.float32)
    placed = np.maximum(placed, 0)
    alpha = placed[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        color = np.where(alpha[..., None] > 1e-4, placed[..., 1:] / alpha[..., None], 0)
    color = np.clip(np.nan_to_num(color), 0, 1).astype(np.float32)
    return Overlay(np.clip(alpha * placement.opacity, 0, 1).astype(np.float32), color)


def _paste(layers: Floats, top: int, left: int, size: tuple[int, int]) -> Floats:
    height, width = size
    placed = np.zeros((height, width, layers.shape[2]), np.float32)
    rows = slice(max(0, top), min(height, top + layers.shape[0]))
    columns = slice(max(0, left), min(width, left + layers.shape[1]))
    if rows.start < rows.stop and columns.start < columns.stop:
        placed[rows, columns] = layers[
            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
        ]
    return placed
