"""The detector: a U-Net on the shared encoder, with one independent map for each class.

Outputs are logits at full resolution, one sigmoid each: a pixel can be scratch and text at once.
Full resolution is reached by pixel shuffling alone, as in the generator. The same network with 21
outputs and a softmax is the Pascal VOC head of ``training.voc``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from restorepix.models.config import LayerSizes
from restorepix.models.encoder import (
    Encoder,
    EncoderConfig,
    ResidualBlock,
    activate,
    initialise,
)

CLASSES: Final = ("scratch", "text", "watermark")
"""What the outputs mean, in order."""

PRIOR_LOGIT: Final = -4.0
"""Where outputs start: damage is rare, about 2 % of pixels."""


@dataclass(frozen=True)
class DetectorConfig(LayerSizes):
    """Layer sizes; stored in the header of every weights file."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    depths: tuple[int, int, int] = (1, 1, 1)
    """Residual blocks on the way up, at 1/2, 1/4 and 1/8."""
    outputs: int = len(CLASSES)
    """Maps: one a class of ``CLASSES``, or 21 for Pascal VOC."""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """The config of a TOML table or JSON object with an inner table ``encoder``.

        Raises:
            TypeError: a key that is no field.
        """
        encoder = EncoderConfig.from_mapping(values.get("encoder", {}))
        return super().from_mapping({**values, "encoder": encoder})


class Detector(nn.Module):
    """(B, 3, H, W) in [-1, 1] -> (B, outputs, H, W) logits."""

    def __init__(self, config: DetectorConfig | None = None) -> None:
        """Build the layers of ``config`` with fresh weights; every output starts near "nothing"."""
        super().__init__()
        self.config = config or DetectorConfig()
        channels = self.config.encoder.channels
        self.encoder = Encoder(self.config.encoder)
        self.ups = nn.ModuleList(
            nn.Conv2d(channels[level + 1], 4 * channels[level], 1) for level in range(3)
        )
        self.levels = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(channels[level]) for _ in range(depth)))
            for level, depth in enumerate(self.config.depths)
        )
        initialise(self.ups)
        initialise(self.levels)
        self.head = nn.Conv2d(channels[0], 4 * self.config.outputs, 3, padding=1)
        nn.init.normal_(self.head.weight, std=0.01)
        assert self.head.bias is not None
        nn.init.constant_(self.head.bias, PRIOR_LOGIT if self.config.outputs == 3 else 0.0)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of every class at every pixel.

        Args:
            image: (B, in_channels, H, W) float in [-1, 1]; H and W multiples of 16.

        Returns:
            (B, outputs, H, W) in the dtype of the weights (under autocast, of its choice).
        """
        features = self.encoder(image)
        x = features[-1]
        for level in (2, 1, 0):
            expanded = functional.pixel_shuffle(self.ups[level](x), 2)
            x = self.levels[level](activate(expanded + features[level]))
        return functional.pixel_shuffle(self.head(x), 2)


def count_parameters(module: nn.Module) -> int:
    """Numbers that training may change."""
    return sum(parameter.numel() for parameter in module.parameters())


def predict(detector: nn.Module, image: Tensor) -> Tensor:
    """Class probabilities of pictures of any size: the sigmoid of ``answer``."""
    return torch.sigmoid(answer(detector, image).float())


def answer(detector: nn.Module, image: Tensor) -> Tensor:
    """Logits of each class for pictures of any size.

    Args:
        detector: called with (B, 3, H', W'), H' and W' multiples of 16, at least 32.
        image: (B, 3, H, W) float in [-1, 1].

    Returns:
        (B, outputs, H, W) in the dtype of the detector's answer. The picture's border is continued
        by mirroring, so that padding draws no line there.
    """
    height, width = image.shape[-2:]
    pad_bottom = max(32, -(-height // 16) * 16) - height
    pad_right = max(32, -(-width // 16) * 16) - width
    if pad_bottom or pad_right:
        rows = _mirror(height, height + pad_bottom, image.device)
        columns = _mirror(width, width + pad_right, image.device)
        image = image[..., rows[:, None], columns]
    return detector(image)[..., :height, :width]


def _mirror(length: int, to_length: int, device: torch.device) -> Tensor:
    """Indices 0 .. length-1 .. 0 .. of a line mirrored at its ends until it is long enough."""
    position = torch.arange(to_length, device=device) % (2 * length)
    return torch.minimum(position, 2 * length - 1 - position)
