"""Reconstruction losses over holes of any shape."""

from __future__ import annotations

import torch
from torch import Tensor


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
