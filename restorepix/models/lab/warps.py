"""Two ways to fetch known features that lost to attention: one affine map, and free offsets.

Both stand where contextual attention stands in DeepFill (Yu et al., CVPR 2018, section 5.3): the
spatial transformer of Jaderberg et al. (NeurIPS 2015) and the appearance flow of Zhou et al. (ECCV
2016). The complaint against both is that they learn nearly the same map for every picture; so each
returns its map, and ``measure_variety`` says how much maps differ.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class ZeroConv(nn.Conv2d):
    """A convolution that starts at zero, and that a network's initialisation passes over."""

    def reset_parameters(self) -> None:
        """Set weight and bias to zero."""
        nn.init.zeros_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


def _sample(features: Tensor, hole: Tensor, grid: Tensor) -> Tensor:
    """Known features at ``grid`` (B, H, W, 2) in [-1, 1], x before y."""
    known = features * (1 - hole)
    return functional.grid_sample(
        known.float(), grid.float(), padding_mode="border", align_corners=False
    ).to(features.dtype)


class SpatialTransformer(nn.Module):
    """One affine map for the whole picture, the identity at the start."""

    def __init__(self, channels: int) -> None:
        """Read six numbers off (B, ``channels``, H, W) features."""
        super().__init__()
        self.localise = nn.Sequential(
            nn.Conv2d(channels + 1, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 2, 1), nn.ReLU()
        )
        self.affine = ZeroConv(32, 6, 1)

    def forward(self, features: Tensor, hole: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) and (B, 1, H, W) -> moved known features and (B, 6) departures."""
        seen = self.localise(torch.cat([features, hole], 1)).mean((2, 3), keepdim=True)
        departure = self.affine(seen).flatten(1).float()
        identity = departure.new_tensor([1.0, 0, 0, 0, 1, 0])
        matrix = (identity + departure).view(-1, 2, 3)
        shape = list(features.shape)
        grid = functional.affine_grid(matrix, shape, align_corners=False)
        return _sample(features, hole, grid), departure


class AppearanceFlow(nn.Module):
    """One offset a cell, from a single convolution, zero at the start."""

    def __init__(self, channels: int) -> None:
        """Read offsets off (B, ``channels``, H, W) features."""
        super().__init__()
        self.offsets = ZeroConv(channels + 1, 2, 3, padding=1)

    def forward(self, features: Tensor, hole: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) and (B, 1, H, W) -> moved known features and (B, 2, H, W) offsets.

        Offsets are in units of half the picture, x before y.
        """
        offsets = self.offsets(torch.cat([features, hole], 1)).float()
        identity = torch.eye(2, 3, device=features.device).expand(len(features), 2, 3)
        grid = functional.affine_grid(identity, list(features.shape), align_corners=False)
        return _sample(features, hole, grid + offsets.permute(0, 2, 3, 1)), offsets


def measure_variety(maps: Tensor) -> float:
    """Standard deviation over pictures of their maps (B, ...), averaged over a map's numbers.

    0 says that every picture got the same map.
    """
    return float(maps.detach().float().std(0, unbiased=False).mean())
