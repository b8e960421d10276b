"""Context encoders: predict a hole from what surrounds it, through a narrow waist.

Pathak et al., "Context Encoders: Feature Learning by Inpainting" (CVPR 2016), in three forms:

* ``AlexContextEncoder``: the AlexNet encoder of 227 px with a channel-wise fully connected layer
  (section 3.1, figure 2), trained with L2 alone;
* ``ContextEncoder`` of form ``center``: 128 px in, the middle 64 px out, through 4,000 numbers (the
  published program);
* ``ContextEncoder`` of form ``whole``: one decoder stage more, whole picture in and out, for holes
  of any shape; with the pointwise waist also any size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from restorepix.errors import UnsupportedError
from restorepix.models.lab.answer import Answer, pad_to_multiple

FILL = (2 * 117 / 255 - 1, 2 * 104 / 255 - 1, 2 * 123 / 255 - 1)
"""Colour that holes are filled with, R, G, B in [-1, 1]: the published program's, in its order."""

WINDOW_PX = 128
"""What the forms ``center`` and ``whole`` (with a dense waist) look at."""

CENTER_PX = 64
"""What the form ``center`` predicts."""

MULTIPLE = 32
"""Sizes that the pointwise waist takes."""

ALEX_PX = 227

Form = Literal["center", "whole"]
Waist = Literal["dense", "pointwise"]


class ChannelwiseLinear(nn.Module):
    """A fully connected layer inside each channel (section 3.1): C matrices of n^2 x n^2.

    For 256 channels of 6 x 6 that is 331,776 weights in place of 84.9 million. A depthwise
    convolution, which some reimplementations put here, mixes no places and is something else.
    """

    def __init__(self, channels: int, side: int) -> None:
        """Take (B, ``channels``, ``side``, ``side``)."""
        super().__init__()
        cells = side * side
        self.weight = nn.Parameter(torch.empty(channels, cells, cells))
        self.bias = nn.Parameter(torch.zeros(channels, cells))
        nn.init.normal_(self.weight, std=cells**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, n, n) -> the same shape."""
        flat = x.flatten(2).transpose(0, 1)  # (C, B, n^2)
        mixed = torch.bmm(flat, self.weight.transpose(1, 2)) + self.bias[:, None]
        return mixed.transpose(0, 1).reshape(x.shape)


def fill_hole(image: Tensor, mask: Tensor) -> Tensor:
    """(B, 3, H, W) with the hole in ``FILL``."""
    colour = image.new_tensor(FILL)[:, None, None]
    return torch.where(mask > 0, colour, image)


class AlexContextEncoder(nn.Module):
    """Form A: AlexNet's convolutions, a channel-wise layer, five up-convolutions.

    The decoder's sizes 11, 21, 41, 81, 161 and a bilinear step to 227 follow one independent
    reimplementation; the paper gives none. Its last layer is linear, since colours here have signs.
    """

    def __init__(self) -> None:
        """Random weights."""
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 96, 11, 4), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(96, 256, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.channelwise = ChannelwiseLinear(256, 6)
        self.across = nn.Conv2d(256, 256, 1)
        widths = (256, 128, 64, 64, 32, 3)
        layers: list[nn.Module] = []
        for inputs, outputs in zip(widths, widths[1:], strict=False):
            layers += [nn.ConvTranspose2d(inputs, outputs, 5, 2, 2), nn.ReLU()]
        self.decoder = nn.Sequential(*layers[:-1])

    def encode(self, image: Tensor, mask: Tensor) -> Tensor:
        """(B, 3, 227, 227) and (B, 1, 227, 227) -> features (B, 9216), those of pool5."""
        return self.encoder(fill_hole(image, mask)).flatten(1)

    def forward(self, image: Tensor, mask: Tensor) -> Answer:
        """(B, 3, H, W) image and (B, 1, H, W) mask; other sizes than 227 are resized and back."""
        size = image.shape[-2:]
        seen = _resize(fill_hole(image, mask), (ALEX_PX, ALEX_PX))
        waist = functional.relu(self.across(self.channelwise(self.encoder(seen))))
        predicted = _resize(self.decoder(waist), size).to(image.dtype).clamp(-1, 1)
        return Answer(predicted, predicted)


def _resize(image: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    if image.shape[-2:] == tuple(size):
        return image
    # Antialiased resizing has no bfloat16 form.
    return functional.interpolate(
        image.float(), size=tuple(size), mode="bilinear", align_corners=False, antialias=True
    )


@dataclass(frozen=True)
class ContextEncoderConfig:
    """Sizes and switches of the convolutional forms."""

    form: Form = "center"
    """``center`` predicts the middle quarter of a window, ``whole`` all of it."""
    waist: Waist = "dense"
    """``dense``: one 4x4 convolution to 1x1, so that every place sees every other. ``pointwise``:
    a 1x1 convolution at 4x4, as a popular reimplementation has it: no such mixing, fewer
    parameters, any size that 32 divides."""
    width: int = 4000
    """Numbers in the waist."""
    channels: int = 64
    """Of the first layer; the others are multiples."""
    noise: int = 0
    """Random numbers that join the waist; zeros in evaluation mode."""
    overlap: int = 4
    """Form ``center``: pixels by which the prediction reaches over what is hidden, on each side."""


def _encode(inputs: int, outputs: int, *, norm: bool = True) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, 4, 2, 1, bias=not norm)
    tail: list[nn.Module] = [nn.BatchNorm2d(outputs)] if norm else []
    return nn.Sequential(layer, *tail, nn.LeakyReLU(0.2))


def _decode(inputs: int, outputs: int) -> nn.Sequential:
    layer = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


class ContextEncoder(nn.Module):
    """Forms ``center`` and ``whole``: convolutions down to 4x4 per 128 px, the waist, and up."""

    def __init__(self, config: ContextEncoderConfig | None = None) -> None:
        """Weights from N(0, 0.02), as published.

        Raises:
            ValueError: a form or waist of another name.
        """
        super().__init__()
        self.config = config or ContextEncoderConfig()
        if self.config.form not in ("center", "whole"):
            raise ValueError(f"form must be center or whole, found {self.config.form!r}")
        if self.config.waist not in ("dense", "pointwise"):
            raise ValueError(f"waist must be dense or pointwise, found {self.config.waist!r}")
        c, width = self.config.channels, self.config.width
        dense = self.config.waist == "dense"
        self.encoder = nn.Sequential(
            _encode(3, c, norm=False), _encode(c, c), _encode(c, 2 * c),
            _encode(2 * c, 4 * c), _encode(4 * c, 8 * c),
        )  # fmt: skip
        self.waist = nn.Sequential(
            nn.Conv2d(8 * c, width, 4 if dense else 1, bias=False),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
        )
        # The dense waist opens to 4x4 first and doubles with its last layer; the pointwise one is
        # at 4x4 already, doubles at once, and ends with a plain convolution.
        joined = width + self.config.noise
        self.open = nn.Sequential(
            nn.ConvTranspose2d(joined, 8 * c, 4, *((1, 0) if dense else (2, 1)), bias=False),
            nn.BatchNorm2d(8 * c),
            nn.ReLU(),
        )
        widths = [8 * c, 4 * c, 2 * c, c] + ([c] if self.config.form == "whole" else [])
        stages = [_decode(a, b) for a, b in zip(widths, widths[1:], strict=False)]
        head = nn.ConvTranspose2d(c, 3, 4, 2, 1) if dense else nn.Conv2d(c, 3, 3, padding=1)
        self.decoder = nn.Sequential(*stages, head, nn.Tanh())
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def squeeze(self, image: Tensor, mask: Tensor) -> Tensor:
        """The waist: (B, width, 1, 1) if dense, (B, width, H/32, W/32) if pointwise.

        Args:
            image: (B, 3, H, W) in [-1, 1]; 128 px a side for the dense waist, else multiples of 32.
            mask: (B, 1, H, W), 1 = hole: hidden under ``FILL``.
        """
        return self.waist(self.encoder(fill_hole(image, mask)))

    def encode(self, image: Tensor, mask: Tensor) -> Tensor:
        """Features of a window, (B, width): the waist, averaged over places."""
        return self.squeeze(image, mask).mean((2, 3))

    def predict(self, image: Tensor, mask: Tensor) -> Tensor:
        """What the decoder paints: the middle half of each side (``center``) or all (``whole``)."""
        waist = self.squeeze(image, mask)
        if self.config.noise:
            shape = (len(waist), self.config.noise, *waist.shape[2:])
            draw = torch.randn if self.training else torch.zeros
            waist = torch.cat([waist, draw(shape, device=waist.device, dtype=waist.dtype)], 1)
        return self.decoder(self.open(waist))

    def forward(self, image: Tensor, mask: Tensor) -> Answer:
        """Predict the hole's content; any size.

        The form ``whole`` with a dense waist resizes to 128 px and back. The form ``center`` looks
        at one window of 128 px around the middle of each connected part of the hole; elsewhere its
        answer is grey.

        Args:
            image: (B, 3, H, W) float in [-1, 1].
            mask: (B, 1, H, W) float in {0, 1}, 1 = hole.

        Raises:
            UnsupportedError: ``center``, and a part of the hole is larger than what it predicts.
        """
        height, width = image.shape[-2:]
        if self.config.form == "center":
            predicted = self._fill_parts(image, mask)
        elif self.config.waist == "dense":
            small = functional.adaptive_max_pool2d(mask, WINDOW_PX)
            seen = _resize(fill_hole(image, mask), (WINDOW_PX, WINDOW_PX))
            predicted = _resize(self.predict(seen, small), (height, width))
        else:
            padded = pad_to_multiple(image, mask, MULTIPLE)
            predicted = self.predict(padded.image, padded.mask)[..., :height, :width]
        predicted = predicted.to(image.dtype)
        return Answer(predicted, predicted)

    @property
    def hidden_px(self) -> int:
        """Side of the square that the form ``center`` hides and fills."""
        return CENTER_PX - 2 * self.config.overlap

    def hide_center(self, image: Tensor) -> Tensor:
        """(B, 1, 128, 128) mask of what the form ``center`` hides of 128 px windows."""
        mask = image.new_zeros(len(image), 1, WINDOW_PX, WINDOW_PX)
        edge = (WINDOW_PX - self.hidden_px) // 2
        mask[..., edge:-edge, edge:-edge] = 1
        return mask

    def _fill_parts(self, image: Tensor, mask: Tensor) -> Tensor:
        predicted = torch.zeros_like(image)
        # Beyond the picture nothing is known: windows at its border see the fill colour there.
        reach = WINDOW_PX // 2
        framed = functional.pad(fill_hole(image, mask), (reach,) * 4, value=math.nan)
        colour = image.new_tensor(FILL)[:, None, None]
        framed = torch.where(framed.isnan(), colour, framed)
        for sample, box in self._find_parts(mask):
            top, left, height, width = box
            # The window's middle is on the part's; framing has moved everything by ``reach``.
            row, column = top + height // 2, left + width // 2
            window = framed[sample, None, :, row : row + WINDOW_PX, column : column + WINDOW_PX]
            middle = self.predict(window, self.hide_center(window))[0].to(image.dtype)
            down, across = CENTER_PX // 2 - height // 2, CENTER_PX // 2 - width // 2
            predicted[sample, :, top : top + height, left : left + width] = middle[
                :, down : down + height, across : across + width
            ]
        return predicted

    def _find_parts(self, mask: Tensor) -> Iterator[tuple[int, tuple[int, int, int, int]]]:
        """Sample number and (top, left, height, width) of every connected part of the holes."""
        largest = self.hidden_px
        holes: npt.NDArray[np.uint8] = (mask[:, 0] > 0).byte().cpu().numpy()
        for sample, hole in enumerate(holes):
            found = cv2.connectedComponentsWithStats(np.asarray(hole, np.uint8), connectivity=8)
            stats = np.asarray(found[2], np.int32)
            for left, top, width, height in stats[1:, :4].tolist():
                if max(height, width) > largest:
                    raise UnsupportedError(
                        f"the context encoder's centre form fills holes of up to {largest} x "
                        f"{largest} px, found one of {width} x {height}. Use another model, or "
                        "paint smaller holes."
                    )
                yield sample, (top, left, height, width)


def find_neighbours(queries: Tensor, bank: Tensor, count: int) -> Tensor:
    """Nearest neighbours by cosine, as the paper shows them for patches seen only by context.

    Args:
        queries: (Q, D) features, as ``encode`` gives them.
        bank: (N, D) features of other windows.
        count: how many.

    Returns:
        (Q, count) int64 rows of ``bank``, best first.
    """
    similar = functional.normalize(queries, dim=1) @ functional.normalize(bank, dim=1).T
    return similar.topk(count, dim=1).indices
