"""BYOL inpainting: the encoder that was pre-trained without labels, and a U-Net decoder.

The founding idea was to learn features from unmasked photographs (Grill et al., "Bootstrap your own
latent", 2020) and then to inpaint with them. The encoder is the package's own
(``restorepix.models.encoder``), with the mask as a fourth channel whose weights start at zero, so
pre-trained weights carry over; skips at 1/2, 1/4 and 1/8 keep what pooling would lose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from restorepix.models.encoder import (
    MULTIPLE,
    Encoder,
    EncoderConfig,
    ResidualBlock,
    activate,
    initialise,
)
from restorepix.models.generator import Up
from restorepix.models.lab.answer import Answer, pad_to_multiple


@dataclass(frozen=True)
class ByolUnetConfig:
    """Sizes; those of ``EncoderConfig`` with a mask channel."""

    channels: tuple[int, int, int, int] = (24, 48, 96, 160)
    """As ``EncoderConfig.channels``."""
    depths: tuple[int, int, int, int] = (1, 2, 3, 3)
    """As ``EncoderConfig.depths``."""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """The config of a TOML table or JSON object, whose lists become tuples.

        Raises:
            TypeError: a key that is no field.
        """
        return cls(**{key: tuple(value) for key, value in values.items()})

    @property
    def encoder(self) -> EncoderConfig:
        """The encoder's config: R, G, B times known, and the hole."""
        return EncoderConfig(4, self.channels, self.depths)


class ByolUnet(nn.Module):
    """Encoder and decoder; any size."""

    def __init__(self, config: ByolUnetConfig | None = None) -> None:
        """Random weights; the head starts at zero, so that training starts from grey."""
        super().__init__()
        self.config = config or ByolUnetConfig()
        half, quarter, eighth, sixteenth = self.config.channels
        self.encoder = Encoder(self.config.encoder)
        self.up = nn.ModuleList([Up(sixteenth, eighth), Up(eighth, quarter), Up(quarter, half)])
        self.leave = nn.ModuleList([ResidualBlock(c) for c in (eighth, quarter, half)])
        self.head = nn.Conv2d(half, 12, 3, padding=1)
        for part in (self.up, self.leave):
            initialise(part)
        nn.init.zeros_(self.head.weight)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)

    def forward(self, image: Tensor, mask: Tensor) -> Answer:
        """(B, 3, H, W) image in [-1, 1] and (B, 1, H, W) mask, 1 = hole."""
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, mask, MULTIPLE)
        seen = torch.cat([padded.image * (1 - padded.mask), padded.mask], 1)
        *skips, x = self.encoder(seen)
        for up, leave, skip in zip(self.up, self.leave, reversed(skips), strict=True):
            x = leave(up(x, skip))
        predicted = functional.pixel_shuffle(self.head(activate(x)), 2)
        predicted = predicted[..., :height, :width].to(image.dtype).clamp(-1, 1)
        return Answer(predicted, predicted)
