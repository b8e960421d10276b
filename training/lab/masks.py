"""Holes as the laboratory's papers cut them.

Each function returns a (side, side) uint8 mask in {0, 1}, 1 = hole, from a seeded generator.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.uint8]

NOISE_CELLS_PER_PX = 0.06
"""Context encoders: side of a noise cell is 1 / 0.06 = 16.7 px."""
NOISE_LEVEL = 0.25
REGION_SHARE = (0.20, 0.30)
"""Areas that context encoders accept for a random region."""


def draw_center(side: int) -> Mask:
    """The middle quarter: half the side, centred (Pathak et al., CVPR 2016, section 3.3)."""
    mask = np.zeros((side, side), np.uint8)
    mask[side // 4 : side - side // 4, side // 4 : side - side // 4] = 1
    return mask


def draw_blocks(side: int, rng: np.random.Generator, largest: float = 0.25) -> Mask:
    """Small squares that may overlap, covering at most ``largest`` of the picture (section 3.3)."""
    mask = np.zeros((side, side), np.uint8)
    for _ in range(64):
        block = int(rng.integers(max(2, side // 16), max(3, side // 5) + 1))
        top, left = rng.integers(0, side - block + 1, 2).tolist()
        grown = mask.copy()
        grown[top : top + block, left : left + block] = 1
        if grown.mean() > largest:
            break
        mask = grown
    return mask


def draw_region(side: int, rng: np.random.Generator) -> Mask:
    """Blobs of any shape over 20 to 30 % of the picture.

    The paper cuts objects' outlines; its program thresholds enlarged noise, and so does this:
    uniform noise, enlarged bicubically, below 0.25. Its program draws one mask a batch.

    Raises:
        AssertionError: no mask of that share in 1,000 draws.
    """
    cells = max(4, math.ceil(side * NOISE_CELLS_PER_PX) + 3)
    scaled = math.ceil(cells / NOISE_CELLS_PER_PX)
    for _ in range(1000):
        noise = rng.random((cells, cells), np.float32)
        field = cv2.resize(noise, (scaled, scaled), interpolation=cv2.INTER_CUBIC)
        top, left = rng.integers(0, scaled - side + 1, 2).tolist()
        mask = (field[top : top + side, left : left + side] < NOISE_LEVEL).astype(np.uint8)
        if REGION_SHARE[0] <= mask.mean() <= REGION_SHARE[1]:
            return mask
    msg = f"no random region of {REGION_SHARE} of {side} px in 1,000 draws"
    raise AssertionError(msg)


def draw_deepfill_box(side: int, rng: np.random.Generator, box: int | None = None) -> Mask:
    """A box anywhere, each of its four sides moved inwards by 0 to an eighth of it.

    DeepFill v1 at 256 px: a box of 128 px, sides moved by 0 to 16 px in opposite pairs; one mask a
    batch.
    """
    box = box or side // 2
    top, left = rng.integers(0, side - box + 1, 2).tolist()
    down, across = rng.integers(0, box // 8 + 1, 2).tolist()
    mask = np.zeros((side, side), np.uint8)
    mask[top + down : top + box - down, left + across : left + box - across] = 1
    return mask
