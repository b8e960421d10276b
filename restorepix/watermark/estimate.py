"""What an overlay is made of, from a stack of photographs that carry it in the same place.

Under an overlay photograph k shows ``I_k = a J_k + (1 - a) W`` with ``a = 1 - alpha``. The surround
predicts J_k by a smooth fill Z_k of the overlay's support; so over the photographs, at each pixel,
I_k is regressed on Z_k: the slope is a, and the intercept gives W. The fill is an average of
pixels that are not covered, so noise of the covered pixels (JPEG) biases nothing; what the fill
itself does to the slope is measured on mirrored supports, where J_k is known. A photograph counts
by how well it is predicted (a sky more than foliage) and by how well it fits (Student weights).
Pixels whose mean changed alike share slopes and colours within a small window, the more so the
fewer the photographs.

Dekel, Rubinstein, Liu and Freeman, "On the Effectiveness of Visible Watermarks" (CVPR 2017), take
the median of gradients over the photographs, integrate it (Poisson), and alternate between
photographs, overlay and a matte found by matting. Here each pixel's regression has alpha and colour
at once, weighted by how much each photograph tells; there is nothing to integrate, and no
initial opacity to guess. docs/watermark.md compares both.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from restorepix.photo import BoolMask
from restorepix.watermark.overlay import VISIBLE_LEVELS, Overlay
from restorepix.watermark.planes import blur, fill_contours, grow, grow_square, label

Floats = npt.NDArray[np.floating[Any]]

MIN_PHOTOS: Final = 5
"""Fewest photographs that an overlay is estimated from."""
_NOISE: Final = (2 / 255) ** 2
"""Least variance of a prediction, in units of white squared: rounding and JPEG of a flat sky."""
_USUAL_PX: Final = 7.0
"""Standard deviation of the window that tells how rough a photograph is around a place."""
_FREEDOM: Final = 3.0
"""Degrees of freedom of the Student density of prediction errors."""
_KINDS: Final = 6
"""Kinds of pixels that are told apart by how the overlay changes their mean."""
_SHARE_PX: Final = 10.0
"""Standard deviation of the window in which pixels of one kind share evidence."""
_PRIOR: Final = 0.03
"""Standard deviation of a pixel's slope around that of its kind. A guess."""
_EFFICIENCY: Final = 0.3
"""Independent observations per sample: channels and neighbours repeat each other."""
_CERTAIN: Final = 3.0
"""Standard errors that a pixel's mean has to be moved by, to count as covered."""
_LEAST_PX: Final = 6
"""Smallest connected part of an overlay."""
_FLAT: Final = 0.06
"""Distance of colours that are taken for one, as noise of a few photographs leaves them."""
_FLAT_COLORS: Final = 3
_FLAT_SHARE: Final = 0.85
"""An overlay of so few colours, in so much of its weight, is flat."""
_SOLID: Final = 0.7
"""Share of the usual opacity from which a pixel counts as one of a flat colour."""
_BESIDE: Final = 0.08
"""Share of such pixels in a window of 1 px, from which a pixel is beside them. A guess."""
_ROUNDS: Final = 5


class _Prediction(NamedTuple):
    fill: Floats
    """(K, h, w, 3) what the surround says of the photographs under the support."""
    variance: Floats
    """(K, h, w) of its error."""
    slope: float
    """Slope of photographs on their fills, as measured where both are known."""


def estimate_overlay(stack: Floats, support: BoolMask, *, reach_px: int = 3) -> Overlay:
    """Return the overlay of a stack of photographs.

    Args:
        stack: (K, h, w, 3) float32 RGB in [0, 1], aligned to the overlay, K >= 3.
        support: (h, w) bool, about where the overlay is; it is cut down and may grow at its rim.
        reach_px: pixels beyond the support that are looked at first.

    Returns:
        The overlay of size (h, w); alpha is 0 where nothing is found to cover the photographs.
    """
    overlay = Overlay(
        np.zeros(support.shape, np.float32), np.zeros((*support.shape, 3), np.float32)
    )
    for reach in (reach_px + 1, 2):
        if not support.any():
            break
        hole = grow(support, reach)
        overlay = _fit(stack, hole)
        support = overlay.alpha > 0
    return overlay


def fill_smooth(stack: Floats, hole: BoolMask) -> Floats:
    """Return photographs (K, h, w, 3) whose hole is filled from its surround (pull-push)."""
    import torch

    from restorepix.models.fill import pull_push

    mask = torch.as_tensor(hole.astype(np.float32))[None, None]
    filled = [
        pull_push(torch.as_tensor(photo.transpose(2, 0, 1).copy())[None], mask, 4)
        for photo in stack
    ]
    return np.stack([one[0].numpy().transpose(1, 2, 0) for one in filled])


def measure_roughness(photo: Floats, hole: BoolMask) -> Floats:
    """Return (h, w) the mean squared gradient around each pixel, from outside a hole."""
    known = (~hole).astype(np.float32)
    squares = np.zeros(hole.shape, np.float32)
    right = np.square(photo[:, 1:] - photo[:, :-1]).mean(axis=2)
    down = np.square(photo[1:] - photo[:-1]).mean(axis=2)
    squares[:, 1:] += right * known[:, 1:] * known[:, :-1]
    squares[1:] += down * known[1:] * known[:-1]
    usual = float(squares.mean()) / max(float(known.mean()), 0.01)
    return (blur(squares, _USUAL_PX) + 0.03 * usual) / (blur(known, _USUAL_PX) + 0.03)


def measure_depth(hole: BoolMask) -> Floats:
    """Return (h, w) float32 distances of hole pixels from the nearest known one, in pixels."""
    return np.asarray(cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 5), np.float32)


def expect_error(roughness: Floats, depth: Floats) -> Floats:
    """Return the variance of a fill's error: it grows with roughness and with depth.

    The two numbers were fitted by eye to held-out photographs; :func:`_predict` scales them.
    """
    return roughness * (0.5 + 0.35 * depth) + np.float32(_NOISE)


def _predict(stack: Floats, hole: BoolMask) -> _Prediction:
    """Return what the surround of a hole says, calibrated on mirrored holes."""
    rough = np.stack([measure_roughness(photo, hole) for photo in stack])
    top, bottom = 0.0, 0.0
    ratios: list[Floats] = []
    for mirrored in (hole[::-1], hole[:, ::-1], hole[::-1, ::-1]):
        test = mirrored & ~hole
        if np.count_nonzero(test) < 200:
            continue
        both = hole | mirrored
        seen, filled = stack[:, test], fill_smooth(stack, both)[:, test]
        variance = expect_error(rough[:, test], measure_depth(both)[test])
        ratio = np.square(seen - filled).mean(axis=2) / variance
        weight = (_FREEDOM + 1) / (_FREEDOM + ratio) / variance
        over, under = _regress(seen, filled, weight)[2:]
        top, bottom = top + float(over.sum()), bottom + float(under.sum())
        ratios.append(ratio.ravel())
    slope, factor = 1.0, 1.0
    if ratios:
        slope = float(np.clip(top / max(bottom, 1e-9), 0.8, 1.25))
        factor = max(2 * float(np.median(np.concatenate(ratios))), 0.3)
    variance = np.float32(factor) * expect_error(rough, measure_depth(hole))
    return _Prediction(fill_smooth(stack, hole), variance, slope)


def _regress(seen: Floats, filled: Floats, weight: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Return weighted means of both, and the sums whose quotient is the slope; axis 0 is K."""
    total = weight.sum(axis=0) + 1e-9
    mean_seen = (weight[..., None] * seen).sum(axis=0) / total[..., None]
    mean_filled = (weight[..., None] * filled).sum(axis=0) / total[..., None]
    away = filled - mean_filled
    over = (weight[..., None] * away * (seen - mean_seen)).sum(axis=(0, -1))
    under = (weight[..., None] * np.square(away)).sum(axis=(0, -1))
    return mean_seen, mean_filled, over, under


def _fit(stack: Floats, hole: BoolMask) -> Overlay:
    """Return the overlay under a hole, 0 where its effect is not certain.

    Only the hole's pixels are computed with: (K, n, 3) samples in place of (K, h, w, 3).
    """
    fill, variance, tilt = _predict(stack, hole)
    seen, fill, variance = stack[:, hole], fill[:, hole], variance[:, hole]
    slope = np.ones(seen.shape[1], np.float32)
    shift = np.zeros(seen.shape[1:], np.float32)
    share = _Sharing(hole)
    color = shift
    weight = 1 / variance
    mean_seen = mean_filled = shift
    total = sure = slope
    for number in range(_ROUNDS):
        if number:
            spread = np.square(slope) * variance + np.float32(_NOISE)
            error = np.square(seen - slope[:, None] * fill - shift).mean(axis=2) / spread
            weight = (_FREEDOM + 1) / (_FREEDOM + error) / spread
        total = weight.sum(axis=0) + 1e-9
        mean_seen, mean_filled, over, under = _regress(seen, fill, weight)
        over = over / np.float32(tilt)
        kinds = share.tell_kinds(mean_seen - mean_filled)
        usual = kinds(over, _SHARE_PX) / np.maximum(kinds(under, _SHARE_PX), 1e-9)
        prior = 1 / _PRIOR**2
        slope = (_EFFICIENCY * over + prior * usual) / (_EFFICIENCY * under + prior)
        slope = np.clip(slope, 0.02, 1).astype(np.float32)
        alpha = 1 - slope
        # Where little is covered, little is known of the colour: pixels of a kind share it.
        pull = kinds((alpha * total)[:, None] * (mean_seen - slope[:, None] * mean_filled), 5.0)
        hold = kinds(np.square(alpha) * total, 5.0)
        color = np.clip(pull / np.maximum(hold, 1e-9)[:, None], 0, 1)
        color, modes = _snap(color, np.square(alpha) * total)
        # With the colour known, one line through (W, W) is left to fit: far less noise.
        away = fill - color
        under = (weight[..., None] * np.square(away)).sum(axis=(0, 2))
        over = (weight[..., None] * away * (seen - color)).sum(axis=(0, 2))
        slope = np.clip(over / np.maximum(under, 1e-9), 0.02, 1).astype(np.float32)
        sure = 1 / np.sqrt(np.maximum(_EFFICIENCY * under, 1e-9))
        slope = share.smooth(slope, float(np.clip(2 * np.median(sure), 0.01, 0.1)))
        for pair in combinations(modes, 2):
            means = (mean_seen, mean_filled)
            slope, color = _mix(pair, share, (seen, fill, weight), means, slope, color)
        shift = (1 - slope)[:, None] * color
    overlay = Overlay(np.zeros(hole.shape, np.float32), np.zeros((*hole.shape, 3), np.float32))
    error = 1 / np.sqrt(_EFFICIENCY * total)
    alpha = 1 - slope
    # The mean moved, or the contrast shrank: a grey overlay does only the latter.
    moved = np.abs(mean_seen - mean_filled).max(axis=1) / error
    if len(stack) >= 2 * MIN_PHOTOS:
        moved = np.maximum(moved, alpha / sure)
    moved *= np.sqrt(1 - 2 / len(stack))  # errors of few photographs are underestimated
    overlay.color[hole] = color
    overlay.alpha[hole] = alpha
    keep = _is_covered(overlay, hole, alpha, moved)
    overlay.alpha[~keep] = 0
    return overlay


def _is_covered(overlay: Overlay, hole: BoolMask, alpha: Floats, moved: Floats) -> BoolMask:
    """Return the pixels that the overlay covers beyond doubt, with their faint rims."""
    strong = float(np.percentile(alpha, 98)) if alpha.size else 0.0
    visible = overlay.alpha > max(0.12 * strong, VISIBLE_LEVELS / 255)
    certain = np.zeros(hole.shape, np.float32)
    certain[hole] = moved
    near = blur(certain * certain, 1.0) > _CERTAIN**2
    covered = visible & near & hole
    covered = cv2.morphologyEx(covered.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    # The middle of a wide shape is far from anything known: its rim vouches for it.
    inside = fill_contours(np.asarray(covered, np.bool_), _LEAST_PX)
    count, labels = label(visible & hole & grow_square(inside, 1))
    keep = np.bincount(labels.ravel(), minlength=count) >= _LEAST_PX
    keep[0] = False
    return keep[labels]


def _mix(
    pair: tuple[Floats, Floats],
    share: _Sharing,
    samples: tuple[Floats, Floats, Floats],
    means: tuple[Floats, Floats],
    slope: Floats,
    color: Floats,
) -> tuple[Floats, Floats]:
    """Return slopes and colours in which pixels between two flat colours may hold both.

    Where an outline meets its letter the mean changes as little as beside the overlay, and a flat
    colour would make it transparent. So such a pixel is either of one colour and of any opacity, or
    as opaque as those around it and of any mixture: what fits the photographs better.

    Args:
        pair: two flat colours, (3,) each.
        share: lays pixels out.
        samples: (K, n, 3) photographs and fills, (K, n) weights.
        means: (n, 3) weighted means of both.
        slope: (n,) of pixels of flat colours.
        color: (n, 3) flat colours.
    """
    alpha = 1 - slope
    strong = alpha > _SOLID * float(np.percentile(alpha, 98))
    first, second = (strong & (color == one).all(axis=1) for one in pair)
    solid = share.spread(np.stack([first, second, alpha * (first | second)], axis=1), 1.0)
    between = (solid[:, :2] > _BESIDE).all(axis=1)
    if not between.any():
        return slope, color
    opaque = (solid[:, 2] / np.maximum(solid[:, 0] + solid[:, 1], 1e-9))[between]
    seen, fill, weight = (one[:, between] for one in samples)
    rest = means[0][between] - (1 - opaque)[:, None] * means[1][between]
    way = pair[1] - pair[0]
    along = (rest / opaque[:, None] - pair[0]) @ way / float(way @ way)
    mixture = pair[0] + np.clip(along, 0, 1)[:, None] * way

    def misfit(alpha: Floats, color: Floats) -> Floats:
        away = seen - (1 - alpha)[:, None] * fill - alpha[:, None] * color
        return (weight * np.square(away).sum(axis=2)).sum(axis=0)

    better = misfit(opaque, mixture) < misfit(alpha[between], color[between])
    chosen = np.flatnonzero(between)[better]
    slope, color = slope.copy(), color.copy()
    slope[chosen], color[chosen] = 1 - opaque[better], mixture[better]
    return slope, color


def _snap(color: Floats, weight: Floats) -> tuple[Floats, list[Floats]]:
    """Return colours moved to the few that make up nearly all of an overlay, if it has such.

    Most logos and all captions are flat; a rim of one pixel tells little of its own colour.
    Overlays with shades are left as they are.

    Args:
        color: (n, 3) in [0, 1].
        weight: (n,) how well each is known.

    Returns:
        (n, 3) colours, and the few, (3,) each; none where colours are left as they are.
    """
    modes: list[Floats] = []
    left = weight.copy()
    while len(modes) < _FLAT_COLORS and left.sum() > (1 - _FLAT_SHARE) * weight.sum():
        cells = np.minimum((color * 8).astype(np.intp), 7)
        counts = np.bincount(cells @ np.array([64, 8, 1]), left, 512).reshape(8, 8, 8)
        for axis in range(3):
            counts = counts + (np.roll(counts, 1, axis) + np.roll(counts, -1, axis)) / 2
        mode = (np.array(np.unravel_index(counts.argmax(), counts.shape)) + 0.5) / 8
        for _ in range(6):
            near = np.exp(-np.square(color - mode).sum(axis=1) / (2 * _FLAT**2)) * left
            mode = (near[:, None] * color).sum(axis=0) / max(float(near.sum()), 1e-12)
        modes.append(mode.astype(np.float32))
        left = left * (np.square(color - mode).sum(axis=1) > (2.5 * _FLAT) ** 2)
    if not modes or left.sum() > (1 - _FLAT_SHARE) * weight.sum():
        return color, []
    flat = np.stack(modes)
    nearest = np.square(color[:, None] - flat).sum(axis=2).argmin(axis=1)
    return flat[nearest], modes


class _Sharing:
    """Lets pixels of a hole share evidence with those around them that are of one kind."""

    def __init__(self, hole: BoolMask) -> None:
        self._hole = hole
        rows = np.flatnonzero(hole.any(axis=1))
        columns = np.flatnonzero(hole.any(axis=0))
        self._box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        self._inside = hole[self._box]

    def tell_kinds(self, change: Floats) -> Callable[[Floats, float], Floats]:
        """Return a function that sums values (n, ...) over pixels whose mean changed alike."""
        count = min(_KINDS, len(change))
        cv2.setRNGSeed(1)
        no_labels = np.zeros((len(change), 1), np.int32)
        points = np.ascontiguousarray(change, np.float32)
        _, labels, _ = cv2.kmeans(points, count, no_labels, (3, 20, 1e-3), 2, cv2.KMEANS_PP_CENTERS)
        kinds = np.asarray(labels, np.int32).ravel()

        def add_up(values: Floats, sigma: float) -> Floats:
            total = np.zeros(values.shape, np.float32)
            for kind in range(count):
                mine = kinds == kind
                spread = self._lay_out(
                    np.where(mine if values.ndim == 1 else mine[:, None], values, 0)
                )
                total[mine] = blur(spread, sigma, reflect=False)[self._inside][mine]
            return total

        return add_up

    def smooth(self, slope: Floats, tolerance: float) -> Floats:
        """Return slopes without noise below a tolerance, edges kept (bilateral filter)."""
        laid = self._lay_out(slope, 1.0)
        return np.asarray(cv2.bilateralFilter(laid, 5, tolerance, 1.5), np.float32)[self._inside]

    def spread(self, values: Floats, sigma: float) -> Floats:
        """Return averages of values (n, C) over a window."""
        return blur(self._lay_out(values), sigma, reflect=False)[self._inside]

    def _lay_out(self, values: Floats, around: float = 0.0) -> Floats:
        laid = np.full((*self._inside.shape, *values.shape[1:]), around, np.float32)
        laid[self._inside] = values
        return laid
