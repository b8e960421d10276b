"""Losses of the laboratory's systems, each with its paper's equation.

Shapes throughout: images (B, 3, H, W) float in [-1, 1], masks (B, 1, H, W) float in {0, 1}, 1 =
hole; every loss is a scalar.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Adversary = Literal["wgan", "standard", "lsgan"]
Discount = Literal["published", "distance", "none"]


def discount_published(height: int, width: int, gamma: float) -> Tensor:
    """Weights of a box as DeepFill's program has them: (height, width) in (0, 1].

    gamma ^ (pixels to the nearest side), per axis, the larger of both (Yu et al. 2018, section
    3.3). Not symmetric: the first row weighs 1, the last gamma. The paper says gamma 0.99, its
    program 0.9.
    """
    axes: list[Tensor] = []
    for length in (height, width):
        place = torch.arange(length)
        axes.append(gamma ** torch.minimum(place, length - place).double())
    return torch.maximum(axes[0][:, None], axes[1][None, :]).float()


def discount_by_distance(mask: Tensor, gamma: float) -> Tensor:
    """Weights of holes of any shape: gamma ^ (d - 1), 0 outside; (B, 1, H, W).

    d is the chessboard distance to the nearest known pixel. A hole pixel without any known pixel in
    its picture weighs 0.
    """
    holes = (mask[:, 0] > 0).byte().cpu().numpy()
    distances = np.stack([cv2.distanceTransform(hole, cv2.DIST_C, 3) for hole in holes])
    away = torch.from_numpy(distances).to(mask)[:, None]
    some_known = (mask < 1).flatten(1).any(1)[:, None, None, None]
    return torch.where(some_known, mask * gamma ** (away - 1), 0.0)


def find_box(mask: Tensor) -> tuple[slice, slice]:
    """Rows and columns of the smallest box around the hole of a (1, H, W) mask.

    Raises:
        ValueError: there is no hole.
    """
    rows, columns = mask[0].any(1).nonzero()[:, 0], mask[0].any(0).nonzero()[:, 0]
    if len(rows) == 0:
        msg = "the mask has no hole, so there is no box around it"
        raise ValueError(msg)
    return (
        slice(int(rows[0]), int(rows[-1]) + 1),
        slice(int(columns[0]), int(columns[-1]) + 1),
    )


def discounted_l1(
    predicted: Tensor, target: Tensor, mask: Tensor, *, gamma: float, form: Discount
) -> Tensor:
    """Mean absolute error in the hole, pixels far from known ones counting less.

    ``published`` weighs the whole box around each hole by ``discount_published``, as the original
    does, whose holes are boxes; ``distance`` weighs the hole's own pixels; ``none`` is plain. The
    mean is taken over the box or the hole's pixels, so the weights do lower the loss.
    """
    error = (predicted - target).abs()
    if form == "published":
        parts: list[Tensor] = []
        for sample, hole in zip(error, mask, strict=True):
            rows, columns = find_box(hole)
            window = sample[:, rows, columns]
            weights = discount_published(window.shape[1], window.shape[2], gamma)
            parts.append((window * weights.to(window)).mean())
        return torch.stack(parts).mean()
    weights = mask if form == "none" else discount_by_distance(mask, gamma)
    areas = mask.flatten(1).sum(1).clamp_min(1) * predicted.shape[1]
    return ((error * weights).flatten(1).sum(1) / areas).mean()


def known_l1(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error outside the hole: the autoencoder term of DeepFill v1."""
    known = 1 - mask
    error = ((predicted - target).abs() * known).flatten(1).sum(1)
    return (error / (known.flatten(1).sum(1) * predicted.shape[1]).clamp_min(1)).mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor],
    real: Tensor,
    fake: Tensor,
    mask: Tensor,
    *,
    weight: float = 10.0,
) -> Tensor:
    """The Wasserstein critic's penalty, of gradients inside the hole only.

    Gulrajani et al. (2017) with the mask of Yu et al. (2018), eq. 7: weight * mean (slope - 1)²,
    slope = sqrt(sum over H, W, C of (gradient² * mask)), at a point drawn on the line between each
    real and fake picture.

    Args:
        critic: (B, C, H, W) -> (B, 1) or (B,) scores.
        real: real pictures, or local crops of them.
        fake: completed ones of the same shape.
        mask: of the same size.
        weight: the penalty's lambda.
    """
    share = torch.rand(len(real), 1, 1, 1, device=real.device, dtype=real.dtype)
    between = (real + share * (fake - real)).detach().requires_grad_()
    score = critic(between).sum()
    (gradient,) = torch.autograd.grad(score, between, create_graph=True)
    squared = (gradient.square() * mask).flatten(1).sum(1)
    # The root has no derivative at 0; added inside, this does not move a slope of 1 in float32.
    slope = (squared + 1e-12).sqrt()
    return weight * (slope - 1).square().mean()


def critic_loss(real: Tensor, fake: Tensor, kind: Adversary) -> Tensor:
    """What a critic minimises, from its scores (no sigmoid) of real and completed pictures."""
    if kind == "wgan":
        return (fake - real).mean()
    if kind == "lsgan":
        return ((real - 1).square() + fake.square()).mean() / 2
    return (functional.softplus(-real) + functional.softplus(fake)).mean() / 2


def adversarial_loss(fake: Tensor, kind: Adversary) -> Tensor:
    """What a generator minimises; the standard form is the non-saturating one."""
    if kind == "wgan":
        return -fake.mean()
    if kind == "lsgan":
        return (fake - 1).square().mean()
    return functional.softplus(-fake).mean()


def total_variation(image: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, down and right added."""
    down = (image[..., 1:, :] - image[..., :-1, :]).abs().mean()
    return down + (image[..., 1:] - image[..., :-1]).abs().mean()


def feature_loss(predicted: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of feature maps, levels averaged (Johnson et al., ECCV 2016, eq. 2).

    Args:
        predicted: maps (B, C, H, W) of a frozen network, finest first.
        target: those of the truth.
    """
    parts = [(a - b.detach()).abs().mean() for a, b in zip(predicted, target, strict=True)]
    return torch.stack(parts).mean()


def gram(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, C): how channels occur together (Gatys et al., CVPR 2016, eq. 3)."""
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])


def style_loss(predicted: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """``feature_loss`` of Gram matrices."""
    return feature_loss([gram(a) for a in predicted], [gram(b) for b in target])


def overlap_weights(mask: Tensor, *, rim_px: int, rim_weight: float) -> Tensor:
    """Weights of context encoders: 1 in the hole, more in its rim of ``rim_px``, 0 outside.

    Pathak et al. (CVPR 2016), section 4: the prediction overlaps the context, and the overlap
    weighs ten times as much. ``mask`` is the predicted region; what is hidden from the encoder is
    that region less its rim (``shrink_hole``).
    """
    inner = shrink_hole(mask, rim_px)
    return mask * rim_weight + inner * (1 - rim_weight)


def shrink_hole(mask: Tensor, rim_px: int) -> Tensor:
    """The hole without its outermost ``rim_px`` pixels."""
    side = 2 * rim_px + 1
    return 1 - functional.max_pool2d(1 - mask, side, 1, rim_px) if rim_px else mask


def weighted_l2(predicted: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean square weighted by (B, 1, H, W) weights, over the pixels that count (eq. 1).

    The documents print a norm here and a square there; this is the mean square.
    """
    counted = (weights > 0).to(weights.dtype).sum().clamp_min(1) * predicted.shape[1]
    return ((predicted - target).square() * weights).sum() / counted
