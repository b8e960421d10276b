"""An overlay that is too faint to be told pixel by pixel, from the medians of gradients.

What a surround predicts of a pixel is wrong by more than a faint overlay changes it, but wrong
slowly: differences of neighbours are far less so. Their medians over the photographs, integrated
within the outline that the photographs agree on, give what the overlay adds on an average, as in
Dekel et al. (CVPR 2017). In integration noise drifts; as faint marks are mostly flat, what is added
is split into one level, on or off, and what is smooth. It is ``alpha (W - J)``, so alpha stays
open; the faintest ink is taken that has a colour between black and white. Being wrong about it
costs little: the difference is alpha times how far a photograph is from the mean.
"""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from restorepix.photo import BoolMask
from restorepix.watermark.estimate import fill_smooth
from restorepix.watermark.overlay import VISIBLE_LEVELS, Overlay
from restorepix.watermark.planes import blur, grow, label
from restorepix.watermark.presence import LUMA

Floats = npt.NDArray[np.floating[Any]]

LEAST_PHOTOS: Final = 10
"""Fewest photographs whose medians are taken."""
_RIM: Final = 0.25
"""Share of the usual opacity from which a pixel is covered: integrated noise stays below."""
_DRIFT_PX: Final = 5.0
"""Standard deviation of the window in which the drift of integration is even."""
_FLAT: Final = 0.24
"""Deviation from one level and a drift, as a share of the level, up to which an ink is flat.
Measured: 0.17 to 0.19 for text and a logo at 0.1; 0.27 for three levels of equal area."""
_TURNS: Final = 20
_LEAST_PX: Final = 6
_MOST: Final = 0.4
"""Largest opacity that is faint."""


def estimate_faint(stack: Floats, support: BoolMask) -> Overlay | None:
    """Return the faint overlay of a stack of photographs, or None where there is none.

    Args:
        stack: (K, h, w, 3) float32 RGB in [0, 1], aligned to the overlay.
        support: (h, w) bool, the outline on which photographs agree, filled.
    """
    if len(stack) < LEAST_PHOTOS or not support.any():
        return None
    height, width = support.shape
    even = (height - height % 2, width - width % 2)  # cosine transforms want even sides
    part, within = stack[:, : even[0], : even[1]], support[: even[0], : even[1]]
    right, down = _take_medians(part, 2), _take_medians(part, 1)
    near = grow(within, 1)[..., None]
    added = np.zeros((height, width, 3), np.float32)
    for channel in range(3):
        plane = integrate((right * near)[..., channel], (down * near)[..., channel])
        outside = float(np.median(plane[~within])) if not within.all() else 0.0
        added[: even[0], : even[1], channel] = plane - outside
    added, inside = _level(added, support)
    behind = np.asarray(fill_smooth(stack, grow(support, 1)).mean(axis=0), np.float32)
    room = np.maximum(np.abs((added > 0).astype(np.float32) - behind), np.float32(0.05))
    alpha = (np.abs(added) / room).max(axis=2)
    alpha = np.clip(blur(alpha, 0.6), 0, 1)
    usual = float(np.percentile(alpha[support], 90))
    if not VISIBLE_LEVELS / 255 < usual < _MOST:
        return None
    covered = inside & (alpha > max(_RIM * usual, VISIBLE_LEVELS / 255))
    count, labels = label(covered)
    keep = np.bincount(labels.ravel(), minlength=count) >= _LEAST_PX
    keep[0] = False
    covered = keep[labels]
    alpha = np.where(covered, alpha, 0).astype(np.float32)
    color = behind + added / np.maximum(alpha, 1e-3)[..., None]
    return Overlay(alpha, np.clip(color, 0, 1).astype(np.float32))


def _level(added: Floats, support: BoolMask) -> tuple[Floats, BoolMask]:
    """Return what an overlay adds, and where, without drift where the overlay is one flat ink.

    On, off and the smooth rest are told in turns; an overlay that is no flat ink stays as it is.

    Args:
        added: (h, w, 3) float32, 0 outside.
        support: (h, w) bool, where the overlay is at most.
    """
    plane = added @ LUMA
    sign = np.float32(1 if plane[support].sum() > 0 else -1)
    plane *= sign
    inked = support & (plane > blur(plane, _DRIFT_PX))
    drift, level = np.zeros_like(plane), 0.0
    for _ in range(_TURNS):
        if not inked.any():
            return added, support
        level = float(np.median((plane - drift)[inked]))
        drift = blur(np.where(support, plane - level * inked, 0).astype(np.float32), _DRIFT_PX)
        inked = support & (plane - drift > level / 2)
    rest = plane - drift - level * inked
    if not inked.any() or float(np.square(rest[support]).mean()) > (_FLAT * level) ** 2:
        return added, support
    ink = np.median(added[inked] - sign * drift[inked][:, None], axis=0)
    flat = added - ink * inked[..., None]
    smooth = blur(np.where(support[..., None], flat, 0).astype(np.float32), _DRIFT_PX)
    inside = support & (plane - drift > _RIM * level)
    return np.where(inside[..., None], added - smooth, 0).astype(np.float32), inside


def _take_medians(stack: Floats, axis: int) -> npt.NDArray[np.float32]:
    """Return (h, w, 3) medians over the photographs of their forward differences; 0 at the end."""
    steps = np.diff(stack, axis=axis, append=stack.take([-1], axis))
    return np.asarray(np.median(steps, axis=0), np.float32)


def integrate(right: Floats, down: Floats) -> Floats:
    """Return the plane of mean 0 with these forward differences, by least squares.

    Args:
        right: (h, w) differences to the right, sides even; the last column counts for nothing.
        down: the same downwards; the last row counts for nothing.
    """
    height, width = right.shape
    source = np.zeros((height, width), np.float64)
    source[:, :-1] += right[:, :-1]
    source[:, 1:] -= right[:, :-1]
    source[:-1] += down[:-1]
    source[1:] -= down[:-1]
    spectrum = cv2.dct(source)
    rows: npt.NDArray[np.float64] = np.linspace(0, np.pi, height, endpoint=False)
    columns: npt.NDArray[np.float64] = np.linspace(0, np.pi, width, endpoint=False)
    eigen = 2 * np.cos(rows)[:, None] + 2 * np.cos(columns)[None] - 4
    eigen[0, 0] = 1
    spectrum /= eigen
    spectrum[0, 0] = 0
    return np.asarray(cv2.idct(spectrum), np.float32)
