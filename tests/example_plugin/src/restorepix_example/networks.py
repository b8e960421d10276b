"""The networks. Everything that a weights file holds is a parameter or a buffer."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Answer(NamedTuple):
    """What restorepix reads of an inpainter's answer."""

    refined: Tensor
    """(B, 3, H, W) in [-1, 1]."""


class MeanColour(nn.Module):
    """Fills the hole with the mean of the known pixels, tinted."""

    def __init__(self, strength: float = 1.0) -> None:
        """Tint by ``strength`` times the learned colour."""
        super().__init__()
        self.strength = strength
        self.tint = nn.Parameter(torch.zeros(3))

    def forward(self, image: Tensor, mask: Tensor) -> Answer:
        """(B, 3, H, W) in [-1, 1] and (B, 1, H, W), 1 = hole -> an answer of that size."""
        known = 1 - mask
        mean = (image * known).sum((2, 3)) / known.sum((2, 3)).clamp(min=1)
        colour = (mean + self.strength * self.tint).clamp(-1, 1)
        return Answer(colour[:, :, None, None].expand_as(image))


class Bright(nn.Module):
    """Calls scratch what is brighter than the learned level."""

    def __init__(self, gain: float = 20.0) -> None:
        """Logits rise by ``gain`` from dark to bright."""
        super().__init__()
        self.gain = gain
        self.level = nn.Parameter(torch.tensor(0.9))

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, 3, H, W) logits: scratch, text, watermark."""
        scratch = (image.mean(1, keepdim=True) - self.level) * self.gain
        nothing = torch.full_like(scratch, -20.0)
        return torch.cat([scratch, nothing, nothing], 1)
