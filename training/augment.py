"""What real scans do to known pixels and masks, per batch and on the device it is on.

    seen = add_jpeg_noise(add_grain(clean, rng), rng)  # for the network; the target is ``clean``
    seen, mask = jitter_masks(seen, mask, rng)  # halos of damage; masks a little too large

Pictures are (B, 3, H, W) float RGB in [-1, 1], masks (B, 1, H, W) float in {0, 1}, 1 = hole. No
function changes its arguments, so the clean picture stays the target. ``rng`` is a generator on the
pictures' device; each sample draws strengths of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56), (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
"""Quantisation of brightness (ITU-T T.81, table K.1)."""

TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
"""RGB to brightness and two colour differences (JFIF)."""


@dataclass(frozen=True)
class AugmentConfig:
    """Shares of the samples that each change is made to; a recipe's ``[augment]`` table."""

    grain: float = 0.0
    """Pictures with grain or noise."""
    jpeg: float = 0.0
    """Pictures as a JPEG file holds them."""
    small_masks: float = 0.0
    """Masks that leave a halo of the damage outside."""
    large_masks: float = 0.0
    """Masks that reach farther than the damage."""


def spoil_batch(
    image: Tensor, mask: Tensor, config: AugmentConfig, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """What the network is shown of a clean batch, and the masks that go with it.

    Args:
        image: (B, 3, H, W) in [-1, 1].
        mask: (B, 1, H, W) in {0, 1}, 1 = hole.
        config: how often.
        rng: random numbers.

    Returns:
        The pictures, to be compared with ``image`` after painting, and the masks; the same tensors
        where every share is 0.
    """
    if config.grain:
        image = add_grain(image, rng, share=config.grain)
    if config.jpeg:
        image = add_jpeg_noise(image, rng, share=config.jpeg)
    if config.small_masks or config.large_masks:
        shares = (config.small_masks, config.large_masks)
        image, mask = jitter_masks(image, mask, rng, shares=shares)
    return image, mask


def draw_uniform(count: int, low: float, high: float, rng: torch.Generator) -> Tensor:
    """(count, 1, 1, 1) numbers between ``low`` and ``high``."""
    return low + (high - low) * torch.rand(count, 1, 1, 1, generator=rng, device=rng.device)


def add_grain(image: Tensor, rng: torch.Generator, most: float = 16, share: float = 0.5) -> Tensor:
    """Pictures with film grain or sensor noise in a share of the samples.

    Each sample draws its level, how blurred its grain is (0 to 1 px), how much of it all channels
    share, and how much it grows with brightness.

    Args:
        image: (B, 3, H, W) in [-1, 1].
        rng: random numbers.
        most: largest standard deviation, in levels of 255.
        share: of the samples that get any.

    Returns:
        (B, 3, H, W) in [-1, 1].
    """
    count = len(image)
    noise = torch.randn(image.shape, generator=rng, device=rng.device, dtype=image.dtype)
    common = draw_uniform(count, 0, 1, rng)
    noise = (1 - common).sqrt() * noise + common.sqrt() * noise.roll(1, 1)[:, :1]
    blurred = _blur(noise, draw_uniform(count, 0.05, 1, rng))
    noise = torch.where(draw_uniform(count, 0, 1, rng) < 0.5, noise, blurred)
    noise = noise / noise.std(dim=(1, 2, 3), keepdim=True).clamp_min(1e-6)
    slope = draw_uniform(count, 0, 1, rng)
    noise = noise * (1 - slope + slope * (image + 1)).clamp_min(0).sqrt()
    level = draw_uniform(count, 0, 2 * most / 255, rng)
    level = level * (draw_uniform(count, 0, 1, rng) < share)
    return (image + level * noise).clamp(-1, 1)


def add_jpeg_noise(
    image: Tensor, rng: torch.Generator, qualities: tuple[float, float] = (50, 98),
    share: float = 0.5,
) -> Tensor:  # fmt: skip
    """Pictures as a JPEG file holds them, in a share of the samples: 8x8 DCT, rounded.

    One table for all components and no subsampling of colour, unlike most files; blocks begin at a
    random place, as in a crop of a larger picture.

    Args:
        image: (B, 3, H, W) in [-1, 1].
        rng: random numbers.
        qualities: least and largest quality in libjpeg's scale, 1 to 100.
        share: of the samples that are rounded.

    Returns:
        (B, 3, H, W) in [-1, 1].
    """
    count, _, height, width = image.shape
    places = torch.randint(8, (2,), generator=rng, device=rng.device).tolist()
    top, left = places
    bottom, right = -(height + top) % 8, -(width + left) % 8
    levels = functional.pad(image * 127.5, (left, right, top, bottom), mode="replicate")
    to_ycc = image.new_tensor(TO_YCC)
    planes = torch.einsum("dc,bchw->bdhw", to_ycc, levels)
    blocks = planes.unflatten(3, (-1, 8)).unflatten(2, (-1, 8))  # (B, 3, rows, 8, columns, 8)
    basis = _dct_basis(image)
    waves = torch.einsum("ui,vj,bcrisj->bcrusv", basis, basis, blocks)
    quality = draw_uniform(count, *qualities, rng)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)
    table = (image.new_tensor(LUMINANCE) * scale.clamp_min(0.01)).round().clamp_min(1)
    table = table.view(count, 1, 1, 8, 1, 8)
    waves = (waves / table).round() * table
    blocks = torch.einsum("ui,vj,bcrusv->bcrisj", basis, basis, waves)
    planes = blocks.flatten(4, 5).flatten(2, 3)
    rounded = torch.einsum("cd,bdhw->bchw", torch.linalg.inv(to_ycc), planes) / 127.5
    rounded = rounded[..., top : top + height, left : left + width].clamp(-1, 1)
    return torch.where(draw_uniform(count, 0, 1, rng) < share, rounded, image)


def jitter_masks(
    image: Tensor, mask: Tensor, rng: torch.Generator, reach_px: int = 3,
    shares: tuple[float, float] = (0.3, 0.3),
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Masks that do not fit their damage: a little too small, or a little too large.

    Too small means that damage of one colour goes on beyond the mask, fading out over
    ``reach_px``; the mask stays. Too large means that the mask grows by 1 to ``reach_px``.

    Args:
        image: (B, 3, H, W) in [-1, 1].
        mask: (B, 1, H, W) in {0, 1}, 1 = hole.
        rng: random numbers.
        reach_px: farthest that damage or masks reach.
        shares: of the samples whose mask is too small, and too large.

    Returns:
        The pictures with halos, and the masks. Pixels farther than ``reach_px`` from every hole
        are the same.
    """
    count = len(image)
    chance = draw_uniform(count, 0, 1, rng)
    is_small, is_large = chance < shares[0], chance > 1 - shares[1]
    halo = torch.zeros_like(mask)
    for distance in range(reach_px, 0, -1):
        fading = 1 - (distance - 0.5) / reach_px
        halo = torch.where(_grow(mask, distance) > 0, torch.full_like(halo, fading), halo)
    strength = draw_uniform(count, 0.1, 0.8, rng) * is_small
    drawn = torch.rand(count, 3, 1, 1, generator=rng, device=rng.device) * 2 - 1
    is_plain = draw_uniform(count, 0, 1, rng) < 0.7  # white, black or grey
    colour = torch.where(is_plain, drawn[:, :1].sign() * drawn[:, :1].abs().sqrt(), drawn)
    alpha = halo * (1 - mask) * strength
    seen = image * (1 - alpha) + colour * alpha
    distance = torch.randint(1, reach_px + 1, (1,), generator=rng, device=rng.device)
    grown = _grow(mask, int(distance))
    return seen, torch.where(is_large, grown, mask)


def _grow(mask: Tensor, distance_px: int) -> Tensor:
    """Masks grown by a square's half side."""
    return functional.max_pool2d(mask, 2 * distance_px + 1, 1, distance_px)


def _blur(noise: Tensor, sigma: Tensor) -> Tensor:
    """(B, C, H, W) blurred by (B, 1, 1, 1) standard deviations in pixels, up to about 1."""
    count, channels, height, width = noise.shape
    offsets = torch.arange(-3, 4, device=noise.device, dtype=noise.dtype)
    taps = torch.exp(-0.5 * (offsets / sigma.view(-1, 1)) ** 2)
    taps = (taps / taps.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    rows = functional.pad(noise, (0, 0, 3, 3), mode="reflect").view(1, -1, height + 6, width)
    rows = functional.conv2d(rows, taps.view(-1, 1, 7, 1), groups=count * channels)
    both = functional.pad(rows, (3, 3, 0, 0), mode="reflect")
    both = functional.conv2d(both, taps.view(-1, 1, 1, 7), groups=count * channels)
    return both.view(noise.shape)


def _dct_basis(like: Tensor) -> Tensor:
    """(8, 8) orthonormal cosines, one a row."""
    place = torch.arange(8, device=like.device, dtype=like.dtype)
    basis = torch.cos(math.pi / 8 * (place[None] + 0.5) * place[:, None]) / 2
    basis[0] /= math.sqrt(2)
    return basis
