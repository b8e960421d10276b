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


def hole_texture(
    predicted: Tensor, target: Tensor, mask: Tensor, octaves: int = 3, window_px: int = 8
) -> Tensor:
    """How far the amount of detail in each hole is from the truth's, averaged over samples.

    The mean of all plausible fills has too little detail. What is compared here is only how much
    of it there is: the mean absolute difference from the 3x3 mean, in windows, at full, half and
    quarter resolution. It says nothing about what the detail looks like, so it needs a pixel loss
    and a critic beside it.

    Args:
        predicted: (B, C, H, W) float in [-1, 1]; sides divide by ``window_px << octaves - 1``.
        target: (B, C, H, W) float in [-1, 1].
        mask: (B, 1, H, W) float in {0, 1}, 1 = hole.
        octaves: resolutions compared, each half the one before.
        window_px: side of the windows, at each resolution.

    Returns:
        Scalar, 0 for equal amounts, 1 for none at all; a sample without a hole counts as zero.
    """
    ours, theirs = torch.where(mask > 0, predicted, target), target
    total = ours.new_zeros(())
    for _ in range(octaves):
        share = functional.avg_pool2d(mask, window_px)
        amounts: list[Tensor] = []
        for picture in (ours, theirs):
            smooth = functional.avg_pool2d(picture, 3, 1, 1, count_include_pad=False)
            detail = (picture - smooth).abs().mean(1, keepdim=True)
            amounts.append(functional.avg_pool2d(detail * mask, window_px))
        apart = (amounts[0] - amounts[1]).abs().flatten(1).sum(1)
        # A hundredth of the range is taken for grain: a flat hole must not weigh without bounds.
        expected = (amounts[1] + 0.01 * share).flatten(1).sum(1)
        total = total + (apart / expected.clamp_min(1e-6)).mean()
        ours, theirs = functional.avg_pool2d(ours, 2), functional.avg_pool2d(theirs, 2)
        mask = functional.max_pool2d(mask, 2)
    return total / octaves
