"""A plain estimate of a shared overlay from median gradients, to compare with.

After Dekel, Rubinstein, Liu and Freeman, "On the Effectiveness of Visible Watermarks" (CVPR 2017):
the median over the photographs of their gradients is that of the overlay; integrated (Poisson) it
is the overlay times its matte. Theirs then finds the matte by matting and alternates between
photographs, overlay and matte; here the matte is proportional to what was integrated, and one blend
factor is searched for, which leaves the least gradients in the photographs. It is told where the
overlay is, to 16 pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from restorepix.watermark.faint import integrate

Floats = npt.NDArray[np.float32]
_FACTORS = np.arange(0.05, 0.96, 0.05)


def estimate_by_medians(stack: Floats, mask: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """``alpha W`` (h, w, 3) and ``alpha`` (h, w) of a stack (K, h, w, 3) in [0, 1]."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = max(0, rows[0] - 16), max(0, columns[0] - 16)
    bottom, right_end = min(len(mask), rows[-1] + 17), min(mask.shape[1], columns[-1] + 17)
    # Cosine transforms want even sides.
    window = np.s_[top : bottom - (bottom - top) % 2, left : right_end - (right_end - left) % 2]
    part = stack[(slice(None), *window)]
    right = np.median(np.diff(part, axis=2, append=part[:, :, -1:]), axis=0)
    down = np.median(np.diff(part, axis=1, append=part[:, -1:]), axis=0)
    mixed = np.dstack([integrate(right[..., c], down[..., c]) for c in range(3)])
    mixed -= np.median(np.concatenate([mixed[0], mixed[-1], mixed[:, 0], mixed[:, -1]]), axis=0)
    shape = np.abs(mixed).max(axis=2)
    shape = np.clip(shape / max(float(np.percentile(shape, 99)), 1e-6), 0, 1)
    matte = np.where(shape > 0.1, shape, 0)
    costs = [_roughness((part - mixed) / (1 - f * matte[..., None]), matte > 0) for f in _FACTORS]
    product = np.zeros(stack.shape[1:], np.float32)
    alpha = np.zeros(stack.shape[1:3], np.float32)
    product[window] = np.where(matte[..., None] > 0, mixed, 0)
    alpha[window] = _FACTORS[int(np.argmin(costs))] * matte
    return product, alpha


def _roughness(photos: Floats, where: npt.NDArray[np.bool_]) -> float:
    near = cv2.dilate(where.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    clipped = np.clip(photos, 0, 1)
    across = np.abs(np.diff(clipped, axis=2))[:, near[:, :-1]]
    along = np.abs(np.diff(clipped, axis=1))[:, near[:-1]]
    return float(across.mean() + along.mean())
