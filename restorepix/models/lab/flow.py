"""Pictures of where attention looks: each offset's direction as hue, its length as saturation.

The colour wheel of Baker et al., "A Database and Evaluation Methodology for Optical Flow" (IJCV
2011): 55 hues in six unequal steps, white at the centre.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

STEPS = (15, 6, 4, 11, 13, 6)
"""Hues from red to yellow, to green, to cyan, to blue, to magenta, and back to red."""


def build_wheel() -> npt.NDArray[np.float64]:
    """(55, 3) RGB in [0, 255]: at each corner one channel is full, one moves, one is empty."""
    corners = np.array(
        [(1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1), (1, 0, 0)], float
    )
    parts: list[npt.NDArray[np.float64]] = []
    for start, end, count in zip(corners, corners[1:], STEPS, strict=False):
        share = np.arange(count)[:, None] / count
        parts.append(255 * (start + (end - start) * share))
    return np.concatenate(parts)


def draw_flow(
    offsets: npt.NDArray[np.floating | np.integer], largest: float | None = None
) -> npt.NDArray[np.uint8]:
    """A picture of offsets.

    Args:
        offsets: (2, h, w) rows and columns to go.
        largest: length that gets full saturation; default the longest here. Pass the longest seen
            so far to make several pictures comparable.

    Returns:
        (h, w, 3) uint8 RGB; white where the offset is zero.
    """
    down, right = offsets[0].astype(np.float64), offsets[1].astype(np.float64)
    length = np.hypot(down, right)
    top = largest if largest is not None else float(length.max(initial=0))
    radius = np.minimum(length / max(top, 1e-9), 1)
    wheel = build_wheel()
    place = (np.arctan2(-down, -right) / np.pi + 1) / 2 * len(wheel)
    low = np.floor(place).astype(int) % len(wheel)
    share = (place - np.floor(place))[..., None]
    hue = wheel[low] * (1 - share) + wheel[(low + 1) % len(wheel)] * share
    colour = 255 - radius[..., None] * (255 - hue)
    return np.rint(colour).astype(np.uint8)
