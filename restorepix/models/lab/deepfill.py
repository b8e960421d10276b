"""DeepFill v1: a coarse network, its paste, and a refinement network with two branches.

Yu et al., "Generative Image Inpainting with Contextual Attention" (CVPR 2018), figures 2 and 4,
with the layer table of the published program: 3,601,542 parameters (its text says 2.9 million), and
2,758,118 without the attention branch, the paper's baseline. Convolutions pad symmetrically, unlike
TensorFlow's strided ones, so weights of the original would not carry over (nor may they: they are
non-commercial).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from restorepix.models.lab.answer import Answer, pad_to_multiple
from restorepix.models.lab.patch_attention import (
    AttentionOptions,
    Masking,
    Propagation,
    contextual_attention,
)
from restorepix.models.lab.warps import AppearanceFlow, SpatialTransformer, ZeroConv

MULTIPLE = 8
"""Sizes are padded to this: features at a quarter, and half of that for matching."""

_Part = TypeVar("_Part", bound=nn.Module)

Branch = Literal["contextual", "none", "transformer", "flow"]


@dataclass(frozen=True)
class DeepFillConfig:
    """Sizes and switches; stored in the header of every weights file."""

    channels: int = 32
    """The paper's c; every layer is a multiple of it."""
    branch: Branch = "contextual"
    """What the second branch of the refinement does: ``none`` is the paper's baseline;
    ``transformer`` and ``flow`` are the alternatives that it reports as not working."""
    fusion: int = 3
    """As ``AttentionOptions.fusion``: the propagation kernel, 1 for off."""
    key_stride: int = 1
    """As ``AttentionOptions.key_stride``."""
    masking: Masking = "corrected"
    """As ``AttentionOptions.masking``; ``published`` for the program as it was."""
    wrap: bool = False
    """As ``AttentionOptions.wrap``."""
    propagation: Propagation = "exact"
    """As ``AttentionOptions.propagation``."""

    @property
    def attention(self) -> AttentionOptions:
        """The options of contextual attention."""
        return AttentionOptions(
            fusion=self.fusion,
            key_stride=self.key_stride,
            masking=self.masking,
            wrap=self.wrap,
            propagation=self.propagation,
        )


def _convolve(
    inputs: int, outputs: int, side: int = 3, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    """A convolution that keeps the size (or halves it), and ELU."""
    layer = nn.Conv2d(inputs, outputs, side, stride, dilation * (side // 2), dilation)
    return nn.Sequential(layer, nn.ELU())


def _double(inputs: int, outputs: int) -> nn.Sequential:
    """Twice the size by nearest neighbours, then a convolution."""
    return nn.Sequential(nn.Upsample(scale_factor=2), _convolve(inputs, outputs))


def _dilated(channels: int) -> list[nn.Module]:
    return [_convolve(channels, channels, dilation=dilation) for dilation in (2, 4, 8, 16)]


def _decoder(inputs: int, c: int) -> nn.Sequential:
    """From a quarter of the size with ``inputs`` channels to RGB."""
    return nn.Sequential(
        _convolve(inputs, 4 * c), _convolve(4 * c, 4 * c),
        _double(4 * c, 2 * c), _convolve(2 * c, 2 * c),
        _double(2 * c, c), _convolve(c, c // 2),
        nn.Conv2d(c // 2, 3, 3, padding=1),
    )  # fmt: skip


def build_coarse(c: int) -> nn.Sequential:
    """The coarse network, (B, 5, H, W) -> (B, 3, H, W), not yet clipped."""
    return nn.Sequential(
        _convolve(5, c, 5),
        _convolve(c, 2 * c, stride=2), _convolve(2 * c, 2 * c),
        _convolve(2 * c, 4 * c, stride=2), _convolve(4 * c, 4 * c), _convolve(4 * c, 4 * c),
        *_dilated(4 * c),
        _decoder(4 * c, c),
    )  # fmt: skip


def build_hallucination(c: int) -> nn.Sequential:
    """The refinement's branch of dilated convolutions, (B, 5, H, W) -> (B, 4c, H/4, W/4)."""
    return nn.Sequential(
        _convolve(5, c, 5),
        _convolve(c, c, stride=2), _convolve(c, 2 * c),
        _convolve(2 * c, 2 * c, stride=2), _convolve(2 * c, 4 * c), _convolve(4 * c, 4 * c),
        *_dilated(4 * c),
    )  # fmt: skip


class SecondBranch(nn.Module):
    """The refinement's other branch: features, then attention or one of its alternatives."""

    def __init__(self, config: DeepFillConfig) -> None:
        """Build the branch that ``config.branch`` names."""
        super().__init__()
        c = config.channels
        self.config = config
        self.before = nn.Sequential(
            _convolve(5, c, 5),
            _convolve(c, c, stride=2), _convolve(c, 2 * c),
            _convolve(2 * c, 4 * c, stride=2), _convolve(4 * c, 4 * c),
            nn.Conv2d(4 * c, 4 * c, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.warp: SpatialTransformer | AppearanceFlow | None = None
        if config.branch == "transformer":
            self.warp = SpatialTransformer(4 * c)
        elif config.branch == "flow":
            self.warp = AppearanceFlow(4 * c)
        self.after = nn.Sequential(_convolve(4 * c, 4 * c), _convolve(4 * c, 4 * c))

    def attend(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What is copied from the known part, and how.

        Args:
            x: (B, 5, H, W) pasted coarse result, ones and mask.
            mask: (B, 1, H, W), 1 = hole.

        Returns:
            (B, 4c, H/4, W/4) rebuilt features, and the offsets of attention (B, 2, H/8, W/8) or
            what the warp calls its transform.
        """
        features = self.before(x)
        published = self.config.masking == "published"
        hole = mask[..., ::4, ::4] if published else functional.max_pool2d(mask, 4)
        hole = hole.to(features.dtype)
        if self.warp is not None:
            return self.warp(features, hole)
        with torch.autocast(features.device.type, enabled=False):  # scores times 10 want float32
            exact = features.float()
            found = contextual_attention(exact, exact, hole.float(), self.config.attention)
        return found.features.to(features.dtype), found.offsets

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, 5, H, W) and (B, 1, H, W) -> (B, 4c, H/4, W/4)."""
        return self.after(self.attend(x, mask)[0])


class DeepFill(nn.Module):
    """The two-stage generator; any size."""

    def __init__(self, config: DeepFillConfig | None = None) -> None:
        """Random weights (Glorot, as in TensorFlow); the coarse network's do not depend on flags.

        Raises:
            ValueError: a branch of another name, or sizes that ``AttentionOptions`` refuses.
        """
        super().__init__()
        self.config = config or DeepFillConfig()
        if self.config.branch not in ("contextual", "none", "transformer", "flow"):
            msg = f"branch must be contextual, none, transformer or flow: {self.config.branch!r}"
            raise ValueError(msg)
        _ = self.config.attention  # refuses what it refuses here, not in the first call
        c = self.config.channels
        has_branch = self.config.branch != "none"
        # In this order, each with its numbers, so that flags do not change what is before them.
        self.coarse = _initialise(build_coarse(c))
        self.hallucination = _initialise(build_hallucination(c))
        self.decoder = _initialise(_decoder(8 * c if has_branch else 4 * c, c))
        self.branch = _initialise(SecondBranch(self.config)) if has_branch else None

    def forward(self, image: Tensor, mask: Tensor) -> Answer:
        """Predict the hole's content.

        Args:
            image: (B, 3, H, W) float32 RGB in [-1, 1]; content inside the hole is ignored.
            mask: (B, 1, H, W) float in {0, 1}, 1 = hole.
        """
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, mask, MULTIPLE)
        coarse = self._predict_coarse(padded.image, padded.mask, padded.inside)
        x = self._paste(coarse, padded.image, padded.mask, padded.inside)
        features = self.hallucination(x)
        if self.branch is not None:
            features = torch.cat([features, self.branch(x, padded.mask)], 1)
        refined = self.decoder(features).to(image.dtype).clamp(-1, 1)
        return Answer(coarse[..., :height, :width], refined[..., :height, :width])

    def find_offsets(self, image: Tensor, mask: Tensor) -> Tensor:
        """What the second branch copies from where: see ``SecondBranch.attend``; for pictures.

        Raises:
            ValueError: the baseline has no second branch.
        """
        if self.branch is None:
            msg = "this network has no attention (branch is 'none')"
            raise ValueError(msg)
        padded = pad_to_multiple(image, mask, MULTIPLE)
        coarse = self._predict_coarse(padded.image, padded.mask, padded.inside)
        x = self._paste(coarse, padded.image, padded.mask, padded.inside)
        return self.branch.attend(x, padded.mask)[1]

    def _predict_coarse(self, image: Tensor, mask: Tensor, inside: Tensor) -> Tensor:
        x = torch.cat([image * (1 - mask), inside, mask], 1)
        return self.coarse(x).to(image.dtype).clamp(-1, 1)

    def _paste(self, coarse: Tensor, image: Tensor, mask: Tensor, inside: Tensor) -> Tensor:
        """The refinement's input; the gradient flows into ``coarse``, as published."""
        pasted = coarse * mask + image * (1 - mask)
        # The plane of ones lets zero padding tell networks where the picture ends.
        return torch.cat([pasted, inside, mask], 1)


def _initialise(part: _Part) -> _Part:
    for module in part.modules():
        if isinstance(module, nn.Conv2d) and not isinstance(module, ZeroConv):
            nn.init.xavier_uniform_(module.weight)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    return part
