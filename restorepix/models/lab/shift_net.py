"""Shift-Net: a U-Net in which the decoder's hole takes, cell by cell, the most similar known cell.

Yan et al., "Shift-Net: Image Inpainting via Deep Feature Rearrangement" (ECCV 2018): eq. 1 picks,
for every hole cell of the decoder, the known cell of the encoder with the largest cosine; eq. 2
moves that cell's features there. One cell, not a weighted sum: a hard shift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from restorepix.models.lab.answer import Answer, pad_to_multiple

SHIFT_LEVEL = 3
"""Halvings at which the shift happens: 32 x 32 cells for 256 px."""


class Shifted(NamedTuple):
    """Features moved into the hole."""

    features: Tensor
    """(B, C, H, W): in the hole, vectors of known cells; zero elsewhere."""
    sources: Tensor
    """(B, H*W) int64: for every cell the one it took from, and -1 where it took none."""


def shift_features(decoded: Tensor, encoded: Tensor, hole: Tensor) -> Shifted:
    """Hard shift, eq. 1 and 2.

    The choice has no gradient; a moved vector's gradient goes back to the cell it came from.

    Args:
        decoded: (B, C, H, W) decoder features, which ask.
        encoded: (B, C, H, W) encoder features, which are moved.
        hole: (B, 1, H, W) float in {0, 1}, 1 = hole, at this resolution. A sample without a known
            cell moves nothing.
    """
    asking = functional.normalize(decoded.detach().flatten(2), dim=1)
    answering = functional.normalize(encoded.detach().flatten(2), dim=1)
    is_hole = hole.flatten(1) > 0
    similar = asking.transpose(1, 2) @ answering
    similar = similar.masked_fill(is_hole[:, None, :], -torch.inf)
    best = similar.argmax(2)
    taking = is_hole & ~is_hole.all(1, keepdim=True)
    index = best[:, None].expand(-1, encoded.shape[1], -1)
    moved = encoded.flatten(2).gather(2, index)
    features = torch.where(taking[:, None], moved, torch.zeros_like(moved))
    sources = torch.where(taking, best, torch.full_like(best, -1))
    return Shifted(features.reshape(encoded.shape), sources)


def shift_softly(decoded: Tensor, encoded: Tensor, hole: Tensor, scale: float) -> Tensor:
    """The soft cousin of ``shift_features``: weights are a softmax of ``scale`` times the cosine.

    Converges to the hard shift as ``scale`` grows; a reference, not used by the network.
    """
    asking = functional.normalize(decoded.flatten(2), dim=1)
    answering = functional.normalize(encoded.flatten(2), dim=1)
    is_hole = hole.flatten(1) > 0
    similar = scale * (asking.transpose(1, 2) @ answering)
    weights = torch.softmax(similar.masked_fill(is_hole[:, None, :], -torch.inf), 2)
    moved = encoded.flatten(2) @ weights.transpose(1, 2)
    return (moved * is_hole[:, None]).reshape(encoded.shape)


@dataclass(frozen=True)
class ShiftNetConfig:
    """Sizes."""

    channels: int = 64
    """Of the first layer; deeper ones are up to eight times as wide."""
    depth: int = 6
    """Halvings: pictures are padded to multiples of 2^depth. The original has 8, at 256 px."""
    shift: bool = True
    """Whether the shift happens; without it zeros stand in its place."""


class Guidance(NamedTuple):
    """What the guidance loss compares; see training/lab/shift_net.py."""

    decoded: Tensor
    """(B, C, H/8, W/8) decoder features before the shift."""
    hole: Tensor
    """(B, 1, H/8, W/8), 1 = hole."""


def _down(inputs: int, outputs: int, *, first: bool, last: bool) -> nn.Sequential:
    layers: list[nn.Module] = [] if first else [nn.LeakyReLU(0.2)]
    layers.append(nn.Conv2d(inputs, outputs, 4, 2, 1))
    if not first and not last:  # the innermost map may be one cell, which has no deviation
        layers.append(nn.InstanceNorm2d(outputs, affine=True))
    return nn.Sequential(*layers)


def _up(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ReLU(),
        nn.ConvTranspose2d(inputs, outputs, 4, 2, 1),
        nn.InstanceNorm2d(outputs, affine=True),
    )


class ShiftNet(nn.Module):
    """A pix2pix U-Net with the shift at an eighth of the size; any size."""

    def __init__(self, config: ShiftNetConfig | None = None) -> None:
        """Random weights.

        Raises:
            ValueError: fewer halvings than the shift needs.
        """
        super().__init__()
        self.config = config or ShiftNetConfig()
        depth = self.config.depth
        if depth <= SHIFT_LEVEL:
            raise ValueError(f"depth must be {SHIFT_LEVEL + 1} or more, found {depth}")
        widths = [self.config.channels * min(8, 2**level) for level in range(depth)]
        self.down = nn.ModuleList(
            _down(widths[i - 1] if i else 4, widths[i], first=i == 0, last=i == depth - 1)
            for i in range(depth)
        )
        # up[i] brings level i + 1 to level i; its input is joined by the skip, and by the shift.
        ups: list[nn.Module] = []
        for level in range(depth - 1):
            joined = 1 if level + 1 == depth - 1 else 2
            joined += level + 1 == SHIFT_LEVEL - 1
            ups.append(_up(joined * widths[level + 1], widths[level]))
        self.up = nn.ModuleList(ups)
        self.head = nn.Sequential(
            nn.ReLU(), nn.ConvTranspose2d(2 * widths[0], 3, 4, 2, 1), nn.Tanh()
        )

    def encode(self, image: Tensor, mask: Tensor) -> list[Tensor]:
        """Encoder maps at 1/2, 1/4, 1/8, ... of sizes that 2^depth divides."""
        maps: list[Tensor] = []
        x = torch.cat([image * (1 - mask), mask], 1)
        for layer in self.down:
            x = layer(x)
            maps.append(x)
        return maps

    def forward(self, image: Tensor, mask: Tensor) -> Answer:
        """(B, 3, H, W) image in [-1, 1] and (B, 1, H, W) mask, 1 = hole."""
        return self.predict(image, mask)[0]

    def predict(self, image: Tensor, mask: Tensor) -> tuple[Answer, Guidance]:
        """The answer, and what the guidance loss reads."""
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, mask, 2**self.config.depth)
        maps = self.encode(padded.image, padded.mask)
        at = SHIFT_LEVEL - 1
        hole = functional.max_pool2d(padded.mask, 2**SHIFT_LEVEL).to(maps[at].dtype)
        x = maps[-1]
        decoded = x
        for level in reversed(range(len(self.up))):
            x = self.up[level](x)
            joined = [x, maps[level]]
            if level == at:
                decoded = x
                moved = torch.zeros_like(x)
                if self.config.shift:
                    moved = shift_features(x, maps[level], hole).features
                joined.append(moved)
            x = torch.cat(joined, 1)
        predicted = self.head(x)[..., :height, :width].to(image.dtype)
        return Answer(predicted, predicted), Guidance(decoded, hole)
