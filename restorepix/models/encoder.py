"""The encoder that detectors, and inpainters that ask for it, share: four scales, no normalisation.

Pre-trained without labels by ``training.byol``; its tensors carry over by name. Without
normalisation, what a tile answers does not depend on the other tiles of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from restorepix.models.config import LayerSizes

MULTIPLE = 16
"""Height and width that the encoder reads must be multiples of this."""


@dataclass(frozen=True)
class EncoderConfig(LayerSizes):
    """Layer sizes; stored in the header of weights files."""

    in_channels: int = 3
    """3 reads R, G, B; 4 reads R, G, B times known, and the hole."""
    channels: tuple[int, int, int, int] = (24, 48, 96, 160)
    """Channels at 1/2, 1/4, 1/8 and 1/16 of the resolution."""
    depths: tuple[int, int, int, int] = (1, 2, 3, 3)
    """Residual blocks at each scale; at 1/16 the first convolutions are dilated by 1, 2, 4, ..."""


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU with slope 0.1: plain ReLU lost most of its channels (training/LOG.md).

    ``x`` is lost where no gradient is recorded: a tenth of the time of an answer goes into
    storing a copy.
    """
    return functional.leaky_relu(x, 0.1, inplace=not torch.is_grad_enabled())


class ResidualBlock(nn.Module):
    """activation(x + conv(activation(conv(x)))), the second convolution starting small."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        """Keep ``channels``; the first convolution has ``dilation``."""
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return activate(x + self.second(activate(self.first(x))))


def initialise(module: nn.Module) -> None:
    """He initialisation for leaky ReLU; a residual's second convolution starts at a fifth of it."""
    modules = cast("Iterator[tuple[str, nn.Module]]", module.named_modules())
    for name, child in modules:
        if not isinstance(child, nn.Conv2d):
            continue
        nn.init.kaiming_normal_(child.weight, a=0.1)
        assert child.bias is not None
        nn.init.zeros_(child.bias)
        if name.endswith("second"):
            with torch.no_grad():
                child.weight.mul_(0.2)


class Encoder(nn.Module):
    """From a picture to features at 1/2, 1/4, 1/8 and 1/16 of its resolution."""

    def __init__(self, config: EncoderConfig | None = None) -> None:
        """Build the layers of ``config`` with fresh weights."""
        super().__init__()
        self.config = config or EncoderConfig()
        channels = self.config.channels
        self.stem = nn.Conv2d(4 * self.config.in_channels, channels[0], 3, padding=1)
        self.downs = nn.ModuleList(
            nn.Conv2d(channels[level], channels[level + 1], 3, 2, 1) for level in range(3)
        )
        self.levels = nn.ModuleList(
            nn.Sequential(
                *(
                    ResidualBlock(channels[level], 2 ** (block % 3) if level == 3 else 1)
                    for block in range(self.config.depths[level])
                )
            )
            for level in range(4)
        )
        initialise(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of every scale, finest first.

        Args:
            image: (B, in_channels, H, W) float; colours in [-1, 1]; H and W multiples of 16.

        Returns:
            Four tensors (B, channels[k], H / 2 ** (k + 1), W / 2 ** (k + 1)).
        """
        packed = functional.pixel_unshuffle(image, 2).to(self.stem.weight.dtype)
        x = activate(self.stem(packed))
        features: list[Tensor] = []
        for level, blocks in enumerate(self.levels):
            if level:
                x = activate(self.downs[level - 1](x))
            x = blocks(x)
            features.append(x)
        return features


def adapt_state(state: Mapping[str, Tensor], in_channels: int) -> dict[str, Tensor]:
    """An encoder's tensors for another number of input channels; new channels weigh nothing.

    ``forward`` then answers as before whatever the new channels hold, until training moves them.

    Args:
        state: ``Encoder.state_dict()`` of an encoder that reads as many channels or fewer.
        in_channels: channels of the encoder to load them into.

    Raises:
        ValueError: the encoder reads more channels than ``in_channels``.
    """
    stem = state["stem.weight"]
    missing = 4 * in_channels - stem.shape[1]
    if missing < 0:
        msg = f"the encoder reads {stem.shape[1] // 4} channels, expected at most {in_channels}"
        raise ValueError(msg)
    # Pixel unshuffling keeps a channel's four phases together, so new channels come last.
    return {**state, "stem.weight": functional.pad(stem, (0, 0, 0, 0, 0, missing))}
