"""The estimate of a shared overlay by Dekel et al., written plainly, to compare with.

Dekel, Rubinstein, Liu and Freeman, "On the Effectiveness of Visible Watermarks" (CVPR 2017). Both
functions are told where the overlay is, to 16 pixels.

:func:`estimate_by_medians` is their first step: the median over the photographs of their gradients
is that of the matte times overlay less mean photograph; integrated (Poisson) it is that product.
The matte is taken in proportion to it, with one blend factor, the one that leaves gradients as
large under the overlay as beside it; theirs comes from matting each photograph in closed form and
from a median of these.

:func:`estimate_by_matting` is the multi-image matting that follows, from that start: their
energy is lowered in turns over photographs and their own watermarks, the common watermark (the
median), and the matte. What is simplified: no photograph has an opacity or a place of its own;
least squares with changing weights take a fixed number of conjugate gradient steps; the weights
of the terms are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from restorepix.watermark.faint import integrate

Floats = npt.NDArray[np.float32]
_FACTORS = np.arange(0.05, 0.96, 0.05)
_TURNS = 4
_WEIGHTINGS = 2
_STEPS = 25
_EPSILON = 0.001
_SMOOTH_PHOTO, _SMOOTH_MARK, _SMOOTH_MATTE = 0.3, 0.05, 0.01
_FIDELITY, _COMMON = 0.01, 0.5


class _Start(NamedTuple):
    """The first step's answer inside the overlay's box."""

    window: tuple[slice, slice]
    part: Floats
    """(K, h, w, 3) the photographs."""
    product: Floats
    """(h, w, 3) overlay times matte."""
    matte: Floats
    """(h, w)."""

    @property
    def slopes(self) -> list[Floats]:
        """The product's differences downwards and to the right, (1, h, w, 3) each."""
        return [_slope(self.product[None], axis) for axis in (1, 2)]


def estimate_by_medians(stack: Floats, mask: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """``alpha W`` (h, w, 3) and ``alpha`` (h, w) of a stack (K, h, w, 3) in [0, 1]."""
    start = _begin(stack, mask)
    return _lay_out(stack, start.window, start.product, start.matte)


def estimate_by_matting(stack: Floats, mask: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """The same, after photographs, watermark and matte were refined in turns."""
    start = _begin(stack, mask)
    seen = start.part
    # No ink is brighter than white: that much matte there is at least.
    matte = np.clip(np.maximum(start.matte, start.product.max(axis=2)), 0, 0.95)[..., None]
    mark = np.clip(start.product / np.maximum(matte, 1e-3), 0, 1).astype(np.float32)
    photos = np.clip((seen - start.product) / (1 - np.minimum(matte, 0.95)), 0, 1)
    marks = np.repeat(mark[None], len(seen), axis=0)
    for _ in range(_TURNS):
        photos, marks = _separate(start, matte, mark, photos, marks)
        mark = np.median(marks, axis=0).astype(np.float32)
        matte = _update_matte(start, matte, mark, photos)
    return _lay_out(stack, start.window, matte * mark, matte[..., 0])


def _begin(stack: Floats, mask: npt.NDArray[np.bool_]) -> _Start:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = max(0, rows[0] - 16), max(0, columns[0] - 16)
    bottom, right_end = min(len(mask), rows[-1] + 17), min(mask.shape[1], columns[-1] + 17)
    # Cosine transforms want even sides.
    window = np.s_[top : bottom - (bottom - top) % 2, left : right_end - (right_end - left) % 2]
    part = stack[(slice(None), *window)]
    right = np.median(_slope(part, 2), axis=0)
    down = np.median(_slope(part, 1), axis=0)
    mixed = np.dstack([integrate(right[..., c], down[..., c]) for c in range(3)])
    mixed -= np.median(np.concatenate([mixed[0], mixed[-1], mixed[:, 0], mixed[:, -1]]), axis=0)
    shape = np.abs(mixed).max(axis=2)
    shape = np.clip(shape / max(float(np.percentile(shape, 99)), 1e-6), 0, 1)
    matte = np.where(shape > 0.1, shape, 0)
    mean = part[:, matte == 0].mean(axis=(0, 1))
    tries = [((f * matte)[..., None], mixed + mean * (f * matte)[..., None]) for f in _FACTORS]
    usual = _roughness(part, matte == 0)
    costs = [abs(_roughness((part - b) / (1 - one), matte > 0.5) - usual) for one, b in tries]
    chosen, product = tries[int(np.argmin(costs))]
    product = np.where(chosen > 0, product, 0).astype(np.float32)
    return _Start(window, part, product, chosen[..., 0].astype(np.float32))


def _lay_out(
    stack: Floats, window: tuple[slice, slice], product: Floats, matte: Floats
) -> tuple[Floats, Floats]:
    whole, alpha = np.zeros(stack.shape[1:], np.float32), np.zeros(stack.shape[1:3], np.float32)
    whole[window], alpha[window] = product, matte
    return whole, alpha


def _roughness(photos: Floats, where: npt.NDArray[np.bool_]) -> float:
    inside = cv2.erode(where.astype(np.uint8), np.ones((2, 2), np.uint8)) > 0
    across = np.abs(np.diff(photos, axis=2))[:, inside[:, :-1]]
    along = np.abs(np.diff(photos, axis=1))[:, inside[:-1]]
    return float(across.mean() + along.mean())


def _separate(
    start: _Start, matte: Floats, mark: Floats, photos: Floats, marks: Floats
) -> tuple[Floats, Floats]:
    """Photographs and their own watermarks, (K, h, w, 3) each, for a matte (h, w, 1)."""
    seen, rest = start.part, 1 - matte
    edges = [np.abs(_slope(matte[None], axis)) for axis in (1, 2)]
    for _ in range(_WEIGHTINGS):
        fits = _weigh(np.square(matte * marks + rest * photos - seen))
        holds = _weigh(_measure_misfit(start, matte * marks))
        rough = _weigh(_measure_slopes(photos, edges))
        coarse = _weigh(_measure_slopes(marks, edges))
        target = np.stack([
            rest * fits * seen,
            matte * fits * seen + _COMMON * mark + _FIDELITY * matte * _pull(start, holds),
        ])  # fmt: skip
        apply = partial(_apply_parts, matte, edges, fits, holds, rough, coarse)
        photos, marks = np.clip(_solve(apply, target, np.stack([photos, marks])), 0, 1)
    return photos, marks


def _apply_parts(
    matte: Floats,
    edges: list[Floats],
    fits: Floats,
    holds: Floats,
    rough: Floats,
    coarse: Floats,
    both: Floats,
) -> Floats:
    photo, own = both
    mixed = fits * (matte * own + (1 - matte) * photo)
    first = (1 - matte) * mixed + _SMOOTH_PHOTO * _smooth(photo, rough, edges)
    second = matte * mixed + _SMOOTH_MARK * _smooth(own, coarse, edges) + _COMMON * own
    second += _FIDELITY * matte * _smooth(matte * own, holds)
    return np.stack([first, second])


def _update_matte(start: _Start, matte: Floats, mark: Floats, photos: Floats) -> Floats:
    """The matte (h, w, 1) in [0, 1] that fits the photographs under a watermark."""
    way = mark - photos
    for _ in range(_WEIGHTINGS):
        fits = _weigh(np.square(matte * way + photos - start.part))
        rough = _weigh(_measure_slopes(matte[None]))
        holds = _weigh(_measure_misfit(start, (matte * mark)[None]))
        power = (fits * np.square(way)).sum(axis=-1, keepdims=True).mean(axis=0)
        wanted = (fits * way * (start.part - photos)).sum(axis=-1, keepdims=True).mean(axis=0)
        wanted += _FIDELITY * (mark * _pull(start, holds)[0]).sum(axis=-1, keepdims=True)

        apply = partial(_apply_matte, mark, power, holds, rough)
        matte = np.clip(_solve(apply, wanted, matte), 0, 1)
    return matte


def _apply_matte(mark: Floats, power: Floats, holds: Floats, rough: Floats, one: Floats) -> Floats:
    held = mark * _smooth((one * mark)[None], holds)[0]
    even = _SMOOTH_MATTE * _smooth(one[None], rough)[0]
    return power * one + even + _FIDELITY * held.sum(axis=-1, keepdims=True)


def _weigh(squares: Floats) -> Floats:
    """Weights (..., 1) that make sums of squares a robust sum: 1 / (2 sqrt(s + epsilon^2))."""
    total = squares.sum(axis=-1, keepdims=True)
    return (0.5 / np.sqrt(total + _EPSILON**2)).astype(np.float32)


def _measure_misfit(start: _Start, products: Floats) -> Floats:
    off = [_slope(products, a) - s for a, s in zip((1, 2), start.slopes, strict=True)]
    return np.square(off[0]) + np.square(off[1])


def _slope(values: Floats, axis: int) -> Floats:
    """Forward differences (K, h, w, C), 0 at the end."""
    return np.diff(values, axis=axis, append=values.take([-1], axis))


def _spread(slopes: Floats, axis: int) -> Floats:
    """The transpose of :func:`_slope`."""
    inner = slopes.copy()
    inner[(slice(None),) * axis + (-1,)] = 0
    return np.roll(inner, 1, axis) - inner


def _measure_slopes(values: Floats, edges: list[Floats] | None = None) -> Floats:
    total = np.zeros_like(values)
    for number, axis in enumerate((1, 2)):
        squares = np.square(_slope(values, axis))
        total += squares if edges is None else edges[number] * squares
    return total


def _smooth(values: Floats, weight: Floats, edges: list[Floats] | None = None) -> Floats:
    """The gradient, halved, of a weighted sum of squared differences."""
    total = np.zeros_like(values)
    for number, axis in enumerate((1, 2)):
        factor = weight if edges is None else weight * edges[number]
        total += _spread(factor * _slope(values, axis), axis)
    return total


def _pull(start: _Start, weight: Floats) -> Floats:
    down, right = start.slopes
    return _spread(weight * down, 1) + _spread(weight * right, 2)


def _solve(apply: Callable[[Floats], Floats], target: Floats, begin: Floats) -> Floats:
    """Conjugate gradients for a symmetric, positive system."""
    at = begin
    left = target - apply(at)
    way, power = left, float(np.vdot(left, left))
    for _ in range(_STEPS):
        if power < 1e-12:
            break
        ahead = apply(way)
        step = power / max(float(np.vdot(way, ahead)), 1e-20)
        at, left = at + step * way, left - step * ahead
        before, power = power, float(np.vdot(left, left))
        way = left + (power / before) * way
    return at
