"""Reconstruction losses over holes of any shape."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def hole_l1(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error inside the hole, each sample's hole weighing the same.

    Without this normalisation a whole-image mean all but erases the gradient of a scratch.

    Args:
        predicted: (B, C, H, W) float.
        target: (B, C, H, W) float.
        mask: (B, 1, H, W) float in {0, 1}, 1 = hole.

    Returns:
        Scalar; a sample without a hole counts as zero.
    """
    error = ((predicted - target).abs() * mask).flatten(1).sum(1)
    return (error / (mask.flatten(1).sum(1) * predicted.shape[1]).clamp_min(1)).mean()


def hole_log_mse(predicted: Tensor, target: Tensor, mask: Tensor, floor: float = 1e-4) -> Tensor:
    """Natural logarithm of the mean squared error in each hole, averaged over samples.

    Proportional to negative hole PSNR (Chen et al., "Simple Baselines for Image Restoration",
    2022, use it as ``PSNRLoss``). Arguments as ``hole_l1``; ``floor`` is added to each error.
    """
    error = ((predicted - target).square() * mask).flatten(1).sum(1)
    error = error / (mask.flatten(1).sum(1) * predicted.shape[1]).clamp_min(1)
    return torch.log(error + floor).mean()


def hole_dissimilarity(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """One minus the structural similarity in each hole, averaged over samples.

    Structural similarity rewards the contrast of the truth where an L1 or squared error rewards
    its mean, which is a blur (Wang et al., 2004; as a loss: Zhao et al., "Loss Functions for Image
    Restoration with Neural Networks", 2017). Windows are Gaussians of 1.5 px on the composited
    picture, so those near the rim see known pixels too, as in the quality benchmark.

    Args:
        predicted: (B, C, H, W) float in [-1, 1].
        target: (B, C, H, W) float in [-1, 1].
        mask: (B, 1, H, W) float in {0, 1}, 1 = hole.

    Returns:
        Scalar in [0, 2]; a sample without a hole counts as zero.
    """
    # The luminance term wants numbers that count from black.
    painted, target = (torch.where(mask > 0, predicted, target) + 1) / 2, (target + 1) / 2
    count, channels = len(target), target.shape[1]
    maps = torch.cat([painted, target, painted * painted, target * target, painted * target], 1)
    offsets = torch.arange(-5, 6, device=target.device, dtype=target.dtype)
    taps = torch.exp(-0.5 * (offsets / 1.5) ** 2)
    taps = (taps / taps.sum()).repeat(5 * channels, 1)
    padded = functional.pad(maps.contiguous(), (5, 5, 5, 5), mode="replicate")
    rows = functional.conv2d(padded, taps.view(-1, 1, 1, 11), groups=5 * channels)
    means = functional.conv2d(rows, taps.view(-1, 1, 11, 1), groups=5 * channels)
    ours, theirs, ours_squared, theirs_squared, product = means.chunk(5, 1)
    luminance, contrast = 0.01**2, 0.03**2
    covariance = product - ours * theirs
    variances = ours_squared - ours.square() + theirs_squared - theirs.square()
    similarity = (
        (2 * ours * theirs + luminance) * (2 * covariance + contrast)
        / ((ours.square() + theirs.square() + luminance) * (variances + contrast))
    )  # fmt: skip
    lost = ((1 - similarity) * mask).flatten(1).sum(1)
    return (lost / (mask.flatten(1).sum(1) * channels).clamp_min(1)).sum() / count
