"""A closed-form first fill of the hole: pull-push with a few smoothing sweeps a level."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def pull_push(image: Tensor, mask: Tensor, sweeps: int = 2) -> Tensor:
    """Fill the hole smoothly from its surroundings.

    Pull: colour times known and known are average-pooled until one cell is left. Push: coming
    back up bilinearly, cells with any known pixel win and the others are relaxed towards the
    mean of their 3x3 neighbourhood ``sweeps`` times, which brings the fill near the harmonic
    one at a fixed cost. Follows Gortler et al., "The Lumigraph" (1996), section 3.4.3; the
    sweeps are ours.

    Args:
        image: (B, C, H, W) float, any range; content inside the hole is ignored.
        mask: (B, 1, H, W) float in {0, 1}, 1 = hole.
        sweeps: relaxation sweeps at each level.

    Returns:
        (B, C, H, W) in the dtype of ``image``: ``image`` where known, the fill in the hole;
        zero everywhere if nothing is known.
    """
    known = 1 - mask
    sums, weights = [image * known], [known]
    while max(sums[-1].shape[-2:]) > 1:
        sums.append(_halve(sums[-1]))
        weights.append(_halve(weights[-1]))
    filled = sums[-1] / weights[-1].clamp_min(1e-8)
    for total, weight in zip(reversed(sums[:-1]), reversed(weights[:-1]), strict=True):
        is_known = weight > 0
        colour = total / weight.clamp_min(1e-8)
        filled = functional.interpolate(filled, size=total.shape[-2:], mode="bilinear")
        filled = torch.where(is_known, colour, filled)
        for _ in range(sweeps):
            relaxed = functional.avg_pool2d(filled, 3, 1, 1, count_include_pad=False)
            filled = torch.where(is_known, colour, relaxed)
    return filled


def halve(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """A picture and its hole at half the resolution, blind to what the hole holds.

    Args:
        image: (B, C, H, W) float, H and W even.
        mask: (B, 1, H, W) float in {0, 1}, 1 = hole.

    Returns:
        (B, C, H / 2, W / 2) means over the known ones of each 2x2 pixels, 0 where there is none;
        and those places as (B, 1, H / 2, W / 2) float in {0, 1}.
    """
    known = _halve(1 - mask)
    hole = (known == 0).to(mask.dtype)
    return _halve(image * (1 - mask)) / (known + hole), hole


def _halve(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
