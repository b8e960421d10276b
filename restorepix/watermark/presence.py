"""Is an overlay on this photograph, where, and how strongly? The same question judges a result."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from restorepix.photo import BoolMask
from restorepix.watermark.estimate import fill_smooth, measure_roughness
from restorepix.watermark.overlay import Overlay, Placement, place_overlay
from restorepix.watermark.planes import blur, grow_square

Floats = npt.NDArray[np.floating[Any]]

LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
"""Rec. 601 weights of R, G and B, those of JPEG."""
_FLOOR: Final = (1.5 / 255) ** 2
_CORRELATED: Final = 3.0
"""Neighbouring gradients repeat each other: so many pixels count as one. A guess."""
PRESENT_FROM: Final = 0.35
"""Least share of the expected overlay that counts as its presence."""
SURE_FROM: Final = 5.0
"""Standard errors from which a presence is sure."""


class Presence(NamedTuple):
    """How much of an overlay is on a photograph: 1 as expected, 0 nothing, below 0 its inverse."""

    share: float
    error: float
    """Standard error of ``share``."""

    @property
    def is_sure(self) -> bool:
        """Whether the overlay is there beyond doubt."""
        return self.share > PRESENT_FROM and self.share > SURE_FROM * self.error


def measure_presence(photo: Floats, overlay: Overlay) -> Presence:
    """Return how strongly the gradients of a photograph follow those of an overlay.

    The overlay's effect ``alpha (W - Z)`` is expected from a fill Z of its support; the
    photograph's gradients are regressed on that effect's, weighted by how rough it is nearby, and
    with Tukey's weights against edges of its own.

    Args:
        photo: (h, w, 3) float32 RGB in [0, 1].
        overlay: of the same size.
    """
    hole = grow_square(overlay.alpha > 0, 1)
    if not hole.any() or hole.all():
        return Presence(0.0, np.inf)
    # In luma: JPEG files mostly hold colour at half the resolution, where edges are smeared.
    fill = fill_smooth(photo[None], hole)[0] @ LUMA
    color = overlay.color @ LUMA
    photo = photo @ LUMA
    effect = overlay.alpha * (color - fill)
    spread = measure_roughness(photo[..., None], hole) + np.float32(_FLOOR)
    seen: list[Floats] = []
    expected: list[Floats] = []
    scale: list[Floats] = []
    for axis in (0, 1):
        pairs = hole[1:] | hole[:-1] if axis == 0 else hole[:, 1:] | hole[:, :-1]
        seen.append(np.diff(photo - fill, axis=axis)[pairs])
        expected.append(np.diff(effect, axis=axis)[pairs])
        scale.append((spread[1:] if axis == 0 else spread[:, 1:])[pairs])
    y, x = np.concatenate(seen), np.concatenate(expected)
    weight = 1 / np.concatenate(scale)
    share, power = 0.0, 0.0
    robust = np.ones_like(y)
    for _ in range(4):
        power = float((weight * robust * x * x).sum())
        if power <= 0:
            return Presence(0.0, np.inf)
        share = float((weight * robust * x * y).sum()) / power
        rest = np.square(y - share * x) * weight
        middle = max(float(np.median(rest)), 1e-6)
        robust = np.square(np.clip(1 - rest / (40 * middle), 0, 1))
    sums = float(np.square(weight * robust * x * (y - share * x)).sum())
    error = math.sqrt(_CORRELATED * sums) / power
    return Presence(share, error)


def find_placement(photo: Floats, overlay: Overlay, around: Placement, search_px: int) -> Placement:
    """Return the placement near another one at which an overlay fits a photograph best.

    Whole pixels are found by correlating gradients, parts of pixels by a parabola. The place that
    was given is kept when no other is clearly better.

    Args:
        photo: (H, W, 3) float32 RGB in [0, 1].
        overlay: to be found.
        around: where to look; its scale and opacity are kept.
        search_px: how far to look in each direction, in pixels.
    """
    height, width = (max(1, round(side * around.scale)) for side in overlay.shape)
    model = place_overlay(overlay, Placement(0, 0, around.scale), (height, width))
    top, left = round(around.top), round(around.left)
    rows = slice(max(0, top - search_px), min(photo.shape[0], top + height + search_px))
    columns = slice(max(0, left - search_px), min(photo.shape[1], left + width + search_px))
    field = photo[rows, columns]
    if field.shape[0] < height or field.shape[1] < width:
        return around
    contrast = model.alpha * (model.color.mean(axis=2) - float(field.mean()))
    template = _gradients(contrast)
    target = _gradients(field.mean(axis=2))
    usual = blur(np.square(target).sum(axis=2), 12.0)
    target = np.clip(target / np.sqrt(usual + _FLOOR)[..., None], -3, 3)
    # A grey overlay is brighter than one photograph and darker than another: the sign is free.
    score = np.abs(_correlate(target, template, 0) + _correlate(target, template, 1))
    row, column = (int(v) for v in np.unravel_index(int(score.argmax()), score.shape))
    given = (top - rows.start, left - columns.start)
    if 0 <= given[0] < score.shape[0] and 0 <= given[1] < score.shape[1]:
        here = float(score[given])
        if score[row, column] < 1.1 * here or (row, column) == given:
            return around
    fine_row = _refine(score[:, column], row)
    fine_column = _refine(score[row], column)
    return around._replace(
        top=float(rows.start + row) + fine_row, left=float(columns.start + column) + fine_column
    )


def _correlate(target: Floats, template: Floats, axis: int) -> Floats:
    field = np.ascontiguousarray(target[..., axis])
    wanted = np.ascontiguousarray(template[..., axis])
    return np.asarray(cv2.matchTemplate(field, wanted, cv2.TM_CCORR), np.float32)


def _gradients(plane: Floats) -> Floats:
    right = np.diff(plane, axis=1, append=plane[:, -1:])
    down = np.diff(plane, axis=0, append=plane[-1:])
    return np.dstack([right, down]).astype(np.float32)


def _refine(score: Floats, peak: int) -> float:
    """Return the offset in [-0.5, 0.5] of a parabola's top, rounded to quarters of a pixel."""
    if not 0 < peak < len(score) - 1:
        return 0.0
    before, at, after = (float(v) for v in score[peak - 1 : peak + 2])
    bend = before - 2 * at + after
    if bend >= 0:
        return 0.0
    return round(4 * float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5))) / 4


def find_lost(photo: Floats, overlay: Overlay, clean: Floats, *, max_alpha: float) -> BoolMask:
    """Return the pixels under an overlay that cannot be brought back, (h, w) bool.

    These are where alpha is near one, where the photograph was clipped (a sample at the end of the
    range says only that it was there or beyond), and where un-blending leaves the range by far.

    Args:
        photo: (h, w, 3) float32 RGB in [0, 1] as it is.
        overlay: of the same size.
        clean: (h, w, 3) the un-blended photograph, not clipped.
        max_alpha: the largest alpha that is un-blended.
    """
    covered = overlay.alpha > 0
    opaque = overlay.alpha > max_alpha
    beyond = ((clean < -_BEYOND) | (clean > 1 + _BEYOND)).any(axis=2)
    gain = 1 / np.maximum(1 - overlay.alpha, 1e-3)
    clipped = ((photo <= 0) | (photo >= 1)).any(axis=2) & (gain > 1.5)
    # White under a white overlay is clipped and right all the same: only disagreement counts.
    clipped &= ((clean < -_CLIPPED) | (clean > 1 + _CLIPPED)).any(axis=2)
    return covered & (opaque | beyond | clipped)


_BEYOND: Final = 0.12
"""How far outside the range an un-blended sample may be: JPEG noise times the gain stays below."""
_CLIPPED: Final = 0.02
