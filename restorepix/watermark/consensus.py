"""Where a stack of unrelated photographs agrees: the outline of what lies over all of them.

At the edge of an overlay the gradient of photograph k is ``(W - J_k)`` times the gradient of alpha
plus noise of the photograph's own. So at each pixel the gradients, divided by what is usual around
there in their photograph, are regressed on a constant and on the photograph's local brightness.
How much the two explain is compared with what they explain after every photograph is rolled by
its own random distance, which keeps all but the agreement.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from restorepix.photo import BoolMask
from restorepix.watermark.planes import blur, fill_contours, grow, grow_square, label

Floats = npt.NDArray[np.floating[Any]]

_SPREAD_PX: Final = 12.0
"""Standard deviation of the window that tells what gradients are usual."""
_CLIP: Final = 3.0
"""Gradients count at most so many times the usual, so that no photograph decides alone."""
_FLOOR: Final = 1.0 / 255
_ROLLS: Final = 3
"""Rolled stacks that thresholds are taken from."""
_WINDOWS_PX: Final = (1.2, 3.0, 6.0)
"""Standard deviations of the windows in which evidence is pooled: few photographs need wide ones,
thin outlines narrow ones."""
_MARGIN: Final = 0.3
"""How far a certain edge lies above the highest value of rolled stacks, as a share of that value's
distance from the median."""
_LEAST_PX: Final = 24
"""Fewest pixels of an outline that counts."""
_FRAME_SHARE: Final = 0.8
"""An outline along so much of a side of the picture is a frame, not a watermark."""


def find_agreement(stack: Floats, *, seed: int = 0) -> BoolMask:
    """Return the outline of what all photographs of a stack have in common.

    Args:
        stack: (K, h, w, 3) float32 RGB in [0, 1], K >= 3, aligned.
        seed: of the rolled stacks that the threshold comes from.

    Returns:
        (h, w) bool, True on pixels beside an edge that is common; all False where nothing is.
    """
    size = (int(stack.shape[1]), int(stack.shape[2]))
    gradients = [_normalise(photo) for photo in stack]
    brightness = np.stack([blur(photo.mean(axis=2), 4) for photo in stack])
    rng = np.random.default_rng(seed)
    nulls: list[tuple[Floats, Floats]] = []
    for _ in range(_ROLLS):
        shifts = [(int(rng.integers(size[0])), int(rng.integers(size[1]))) for _ in gradients]
        rolled = [np.roll(g, s, (0, 1)) for g, s in zip(gradients, shifts, strict=True)]
        lights = np.stack([np.roll(b, s, (0, 1)) for b, s in zip(brightness, shifts, strict=True)])
        nulls.append(_explain(rolled, lights))
    outline = np.zeros(size, np.bool_)
    for evidence, *rest in zip(_explain(gradients, brightness), *nulls, strict=True):
        outline |= _find_outline(evidence, rest)
    return _drop_frames(outline)


def _find_outline(evidence: Floats, nulls: list[Floats]) -> BoolMask:
    fine = _WINDOWS_PX[0]
    likely = _pool(evidence, fine) > max(float(np.quantile(_pool(n, fine), 0.99)) for n in nulls)
    sure = np.zeros_like(likely)
    for window in _WINDOWS_PX:
        level = max(float(_pool(null, window).max()) for null in nulls)
        middle = float(np.median(_pool(evidence, window)))
        found = _pool(evidence, window) > level + _MARGIN * (level - middle)
        sure |= likely & grow_square(found, round(2 * window))
    return _connect(likely, sure)


def _pool(evidence: Floats, window_px: float) -> Floats:
    return blur(evidence, window_px)


def _normalise(photo: Floats) -> Floats:
    """Return (h, w, 6) gradients of the channels to the right and down over their usual size."""
    right = np.diff(photo, axis=1, append=photo[:, -1:])
    down = np.diff(photo, axis=0, append=photo[-1:])
    gradients = np.dstack([right, down])
    energy = np.square(gradients).sum(axis=2)
    usual = blur(energy, _SPREAD_PX) / 6
    return np.clip(gradients / np.sqrt(usual + _FLOOR**2)[..., None], -_CLIP, _CLIP)


def _explain(gradients: list[Floats], brightness: Floats) -> tuple[Floats, Floats]:
    """Return (h, w) how much of the gradients a constant explains, and that and the brightness.

    Few photographs agree with some slope by chance, so the constant is judged by itself too.
    """
    count = len(gradients)
    light = brightness - brightness.mean(axis=0)
    light /= np.sqrt(np.square(light).mean(axis=0) + 1e-4)
    constant = np.zeros_like(gradients[0])
    slope = np.zeros_like(gradients[0])
    total = np.zeros_like(gradients[0])
    for gradient, shine in zip(gradients, light, strict=True):
        constant += gradient
        slope += gradient * shine[..., None]
        total += np.square(gradient)
    # Against what is there at all: small gradients that agree are worth as much as large ones.
    there = total.sum(axis=2) / count + 1.0
    first = np.square(constant).sum(axis=2) / count / there
    return first, first + np.square(slope).sum(axis=2) / count / there


def _connect(likely: BoolMask, sure: BoolMask) -> BoolMask:
    """Return the connected parts of ``likely`` that hold enough of ``sure``."""
    count, labels = label(likely)
    held = np.bincount(labels[sure], minlength=count)
    sizes = np.bincount(labels.ravel(), minlength=count)
    keep = (held >= 2) & (sizes >= _LEAST_PX)
    keep[0] = False
    return keep[labels]


def _drop_frames(outline: BoolMask) -> BoolMask:
    """Return an outline without parts that run along a whole side, as borders of scans do."""
    count, labels = label(outline)
    height, width = outline.shape
    keep = np.ones(count, np.bool_)
    keep[0] = False
    for number in range(1, count):
        rows, columns = np.nonzero(labels == number)
        top, left = int(rows.min()), int(columns.min())
        high, wide = int(rows.max()) - top + 1, int(columns.max()) - left + 1
        spans = wide > _FRAME_SHARE * width and high < 0.1 * height
        spans |= high > _FRAME_SHARE * height and wide < 0.1 * width
        around = wide > 0.9 * width and high > 0.9 * height and len(rows) < 0.1 * wide * high
        near = min(top, left, height - top - high, width - left - wide) < 0.1 * min(height, width)
        keep[number] = not ((spans or around) and near)
    return keep[labels]


def fill_outline(outline: BoolMask, reach_px: int) -> BoolMask:
    """Return the region that an outline encloses, and ``reach_px`` pixels around it.

    What a large ring encloses is in it too; the estimate finds that nothing covers it.
    """
    return fill_contours(grow(outline, reach_px))
