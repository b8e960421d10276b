"""The adversarial phase of the inpainter: a patch critic, hinge losses, feature matching.

A reconstruction loss asks for the mean of all plausible fills, which is a blur. A critic that
looks at small neighbourhoods of the hole asks for a fill that could be a photograph: Isola et al.,
CVPR 2017 (patches), Miyato et al., ICLR 2018 (spectral norm, hinge), Yu et al., ICCV 2019 (both for
holes of any shape), Suvorov et al., WACV 2022 (judging the hole alone, feature matching).

The weight of the critic is set by the gradients it causes (Esser et al., CVPR 2021, equation 7):
``share`` says how strong its pull on the prediction is beside that of the reconstruction losses,
so that one number holds for thin and wide holes and for any scale of the losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import EllipsisType
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

STRIDE = 8
"""Pixels between two scores of the critic."""


@dataclass(frozen=True)
class CriticConfig:
    """The ``[critic]`` table of a recipe."""

    channels: tuple[int, int, int, int] = (32, 64, 128, 128)
    """Channels at 1/2, 1/4, 1/8 and 1/8 of the resolution."""
    lr: float = 4e-4
    """Peak learning rate; it follows the generator's curve."""
    share: float = 0.3
    """Norm of the critic's gradient on the prediction, over that of the reconstruction losses."""
    matching: float = 1.0
    """Weight of feature matching beside the critic's verdict, before both are scaled."""
    ramp: int = 200
    """Steps over which ``share`` grows from zero while the critic learns to see."""


class Verdict(NamedTuple):
    """What the critic makes of a picture."""

    score: Tensor
    """(B, 1, H / 8, W / 8); above 1 a photograph, below -1 a fill."""
    features: tuple[Tensor, ...]
    """Activations of every layer, (B, C, H / s, W / s)."""


class HoleCritic(nn.Module):
    """Spectrally normalised convolutions that score every 8th pixel's neighbourhood of 54 px."""

    def __init__(self, channels: tuple[int, int, int, int]) -> None:
        """Build it for RGB pictures with their mask; see ``CriticConfig.channels``."""
        super().__init__()
        half, quarter, eighth, last = channels
        self.layers = nn.ModuleList(
            [
                spectral_norm(nn.Conv2d(4, half, 4, 2, 1)),
                spectral_norm(nn.Conv2d(half, quarter, 4, 2, 1)),
                spectral_norm(nn.Conv2d(quarter, eighth, 4, 2, 1)),
                spectral_norm(nn.Conv2d(eighth, last, 3, 1, 1)),
            ]
        )
        self.score = spectral_norm(nn.Conv2d(last, 1, 3, 1, 1))

    def forward(self, image: Tensor, mask: Tensor) -> Verdict:
        """Judge (B, 3, H, W) RGB in [-1, 1] with its (B, 1, H, W) mask; sides divide by 8."""
        x = torch.cat([image, mask], 1)
        features: list[Tensor] = []
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.2)
            features.append(x)
        return Verdict(self.score(x), tuple(features))


def draw_shift(shape: torch.Size, rng: torch.Generator) -> tuple[EllipsisType, slice, slice]:
    """Index that cuts ``STRIDE`` rows and columns off pictures (..., H, W), at random places.

    The gradient of strided convolutions repeats with their stride. Where the critic always meets
    the generator's grid at the same place, that pattern adds up to a lattice in the fills.
    """
    top, left = torch.randint(STRIDE + 1, (2,), generator=rng, device=rng.device).tolist()
    height, width = shape[-2] - STRIDE, shape[-1] - STRIDE
    return ..., slice(top, top + height), slice(left, left + width)


def hole_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of a critic's map over the hole, each sample's hole weighing the same.

    Args:
        values: (B, C, H / s, W / s) float.
        mask: (B, 1, H, W) float in {0, 1}, 1 = hole; a place counts by its share of hole.

    Returns:
        Scalar; a sample without a hole counts as zero.
    """
    weight = functional.adaptive_avg_pool2d(mask, values.shape[-2:])
    total = (values.mean(1, keepdim=True) * weight).flatten(1).sum(1)
    return (total / weight.flatten(1).sum(1).clamp_min(1e-6)).mean()


def critic_loss(critic: nn.Module, painted: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """Hinge loss of the critic: photographs above 1, fills below -1, in the hole.

    Args:
        critic: a ``HoleCritic``.
        painted: (B, 3, H, W) composited prediction; detached here.
        image: (B, 3, H, W) the photograph.
        mask: (B, 1, H, W) in {0, 1}, 1 = hole.
    """
    both: Verdict = critic(torch.cat([image, painted.detach()]), torch.cat([mask, mask]))
    real, fake = both.score.float().chunk(2)
    return hole_mean(functional.relu(1 - real), mask) + hole_mean(functional.relu(1 + fake), mask)


def generator_loss(
    critic: nn.Module, painted: Tensor, image: Tensor, mask: Tensor, matching: float
) -> Tensor:
    """What the generator minimises: minus the score of the fill, plus feature matching.

    Arguments as ``critic_loss``; ``matching`` weighs the mean absolute difference between the
    features of fill and photograph.
    """
    with torch.no_grad():
        real: Verdict = critic(image, mask)
    fake: Verdict = critic(painted, mask)
    loss = -hole_mean(fake.score.float(), mask)
    pairs = list(zip(fake.features, real.features, strict=True))
    for ours, theirs in pairs:
        difference = (ours.float() - theirs.float()).abs()
        loss = loss + matching / len(pairs) * hole_mean(difference, mask)
    return loss


def blend_gradients(reconstruction: Tensor, adversarial: Tensor, share: float) -> Tensor:
    """Sum of two gradients, the second scaled to ``share`` of the norm of the first, by sample.

    Args:
        reconstruction: (B, ...) gradient on the prediction.
        adversarial: the same shape.
        share: wanted ratio of norms.
    """
    size = (-1, *[1] * (reconstruction.ndim - 1))
    wanted = share * reconstruction.flatten(1).norm(dim=1)
    found = adversarial.flatten(1).norm(dim=1).clamp_min(1e-12)
    return reconstruction + (wanted / found).view(size) * adversarial
