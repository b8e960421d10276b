"""How good a filled picture is: the numbers of the quality benchmark, each defined here.

All pictures are (H, W, 3) uint8 RGB; masks are (H, W) uint8 in {0, 1}, 1 = hole. A result is
composited before it is scored: outside the hole it is the truth. Names ending in ``_whole`` are
taken over the whole picture, in ``_hole`` over the hole alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from skimage.metrics import structural_similarity

from training.evaluate import hole_psnr

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float64]

DEFINITION = 2
"""Raised whenever a number below changes its meaning; part of the cache key."""

HOLE_LEVEL = 128
"""Grey that every program finds in the hole, should it look."""

LUMA = (0.299, 0.587, 0.114)
"""Rec. 601 weights of R, G and B."""


def paint_hole(truth: Image, mask: Mask) -> Image:
    """The photograph, (H, W, 3) uint8, grey where the (H, W) mask is not 0."""
    return np.where(mask[..., None] > 0, HOLE_LEVEL, truth).astype(np.uint8)


def composite(result: Image, truth: Image, mask: Mask) -> Image:
    """The result inside the hole, the truth outside."""
    return np.where(mask[..., None] > 0, result, truth)


def measure_scores(result: Image, truth: Image, mask: Mask) -> dict[str, float]:
    """Score a composited result.

    Returns:
        By name, for the whole picture and the hole where marked *:

        - ``l1`` *: mean absolute difference of samples in percent of 255.
        - ``l2`` *: mean squared difference of samples in percent of 255 squared.
        - ``psnr`` *: 10 log10(255² / mean squared difference) in dB, all samples pooled.
        - ``ssim`` *: structural similarity (Wang et al. 2004) with their Gaussian window of
          sigma 1.5, per channel on [0, 255]; the map's mean over all or over the hole's pixels
          and the three channels. Windows near the rim of the hole see known pixels too.
        - ``tv`` *: total variation, the mean absolute difference of horizontal and vertical
          neighbours in percent of 255, over all pairs or over those that touch the hole.
        - ``gradient``: mean gradient magnitude of luma over the hole's pixels in levels per pixel,
          and ``truth_gradient``, the same of the truth. Their quotient, summed over pictures
          first, is the sharpness kept. By differences to the next pixel: central differences
          span a thin scratch and credit it with its surroundings (0.77 in place of 0.66 for
          FSR_FAST), and are blind to the finest grain.

    Raises:
        ValueError: the mask has no hole, or shapes differ.
    """
    if result.shape != truth.shape or mask.shape != truth.shape[:2]:
        msg = f"expected equal sizes, found {result.shape}, {truth.shape} and {mask.shape}"
        raise ValueError(msg)
    hole = mask > 0
    if not hole.any():
        msg = "the mask has no hole: there is nothing to score"
        raise ValueError(msg)
    error = (result.astype(np.float64) - truth) / 255
    everything = np.ones_like(mask)
    _, similarity = structural_similarity(
        truth, result, channel_axis=-1, data_range=255, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    scores: dict[str, float] = {}
    for name, region in (("whole", everything), ("hole", mask)):
        inside = region > 0
        scores[f"l1_{name}"] = 100 * float(np.abs(error[inside]).mean())
        scores[f"l2_{name}"] = 100 * float(np.square(error[inside]).mean())
        scores[f"psnr_{name}"] = hole_psnr(result, truth, region)
        scores[f"ssim_{name}"] = float(similarity[inside].mean())
        scores[f"tv_{name}"] = measure_variation(result, region)
    scores["gradient"] = float(measure_gradient(result)[hole].mean())
    scores["truth_gradient"] = float(measure_gradient(truth)[hole].mean())
    return scores


def measure_variation(image: Image, region: Mask) -> float:
    """Total variation in percent of 255: see ``measure_scores``; pairs that touch ``region``."""
    inside = region > 0
    samples = image.astype(np.float64)
    down = np.abs(np.diff(samples, axis=0))[inside[1:] | inside[:-1]]
    right = np.abs(np.diff(samples, axis=1))[inside[:, 1:] | inside[:, :-1]]
    return 100 / 255 * float(np.concatenate([down, right]).mean())


def measure_gradient(image: Image) -> Plane:
    """(H, W) gradient magnitude of luma: differences to the next pixel, 0 beyond the border."""
    luma = image.astype(np.float64) @ np.array(LUMA)
    down = np.diff(luma, axis=0, append=luma[-1:])
    right = np.diff(luma, axis=1, append=luma[:, -1:])
    return np.hypot(down, right)


def measure_known_change(raw: Image, truth: Image, mask: Mask) -> dict[str, float]:
    """What a program did outside the hole, before compositing.

    Returns:
        ``known_changed``, the percentage of known pixels with any sample changed, and
        ``known_max``, the largest change in levels; both 0 for no known pixel.
    """
    known = mask == 0
    change = np.abs(raw.astype(np.int64) - truth).max(axis=2)[known]
    if change.size == 0:
        return {"known_changed": 0.0, "known_max": 0.0}
    return {
        "known_changed": 100 * float((change > 0).mean()),
        "known_max": float(change.max()),
    }


class Interval(NamedTuple):
    """A mean with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(values: Sequence[float], *, seed: int = 0, rounds: int = 10_000) -> Interval:
    """Mean of one value a picture and its 95 % percentile interval over resampled pictures.

    For a difference of two programs, give the paired differences. Efron (1979).

    Raises:
        ValueError: no values.
    """
    if not len(values):
        msg = "bootstrap: expected one value at least, found none"
        raise ValueError(msg)
    sample = np.asarray(values, np.float64)
    rng = np.random.default_rng(seed)
    means = sample[rng.integers(0, len(sample), (rounds, len(sample)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(sample.mean()), float(low), float(high))
