"""GLCIC: one completion network with dilated convolutions, and its post-processing.

Iizuka et al., "Globally and Locally Consistent Image Completion" (SIGGRAPH 2017), table 1:
6,066,179 parameters of convolutions. Trained in three phases against a joint critic
(training/lab/glcic.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from restorepix.models.lab.answer import Answer, pad_to_multiple
from restorepix.models.lab.poisson import solve_poisson

MULTIPLE = 4
MEAN = (-0.030, -0.088, -0.188)
"""Mean colour that holes are filled with, R, G, B in [-1, 1]: that of ImageNet's photographs."""


@dataclass(frozen=True)
class GlcicConfig:
    """Sizes."""

    channels: int = 64
    """Of the first layer; the others are multiples."""
    blend: bool = False
    """Whether answers in evaluation mode are post-processed as in the paper: see ``blend``. That
    takes 8-bit colours and the CPU, 0.1 to 0.4 s for a window of 256 px."""


def _convolve(
    inputs: int, outputs: int, side: int = 3, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    """Convolution, batch norm, ReLU; some reimplementations put the norm last, which is not it."""
    layer = nn.Conv2d(inputs, outputs, side, stride, dilation * (side // 2), dilation)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


def _double(inputs: int, outputs: int) -> nn.Sequential:
    layer = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


class Glcic(nn.Module):
    """The completion network; any size."""

    def __init__(self, config: GlcicConfig | None = None) -> None:
        """Random weights."""
        super().__init__()
        self.config = config or GlcicConfig()
        c = self.config.channels
        wide = 4 * c
        self.body = nn.Sequential(
            _convolve(4, c, 5),
            _convolve(c, 2 * c, stride=2), _convolve(2 * c, 2 * c),
            _convolve(2 * c, wide, stride=2), _convolve(wide, wide), _convolve(wide, wide),
            *[_convolve(wide, wide, dilation=dilation) for dilation in (2, 4, 8, 16)],
            _convolve(wide, wide), _convolve(wide, wide),
            _double(wide, 2 * c), _convolve(2 * c, 2 * c),
            _double(2 * c, c), _convolve(c, c // 2),
            nn.Conv2d(c // 2, 3, 3, padding=1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, image: Tensor, mask: Tensor) -> Answer:
        """(B, 3, H, W) image in [-1, 1] and (B, 1, H, W) mask, 1 = hole."""
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, mask, MULTIPLE)
        mean = image.new_tensor(MEAN)[:, None, None]
        filled = torch.where(padded.mask > 0, mean, padded.image)
        unit = self.body(torch.cat([filled, padded.mask], 1)).to(image.dtype)
        predicted = (2 * unit - 1)[..., :height, :width]
        if self.config.blend and not self.training:
            return Answer(predicted, _blend_batch(image, predicted, mask))
        return Answer(predicted, predicted)


def _blend_batch(image: Tensor, predicted: Tensor, mask: Tensor) -> Tensor:
    """``blend`` of each sample; shapes and ranges as ``Glcic.forward``."""
    images, guesses = (_to_pixels(batch) for batch in (image, predicted))
    holes = [hole.numpy() for hole in (mask[:, 0] > 0).cpu()]
    blended = [blend(*sample) for sample in zip(images, guesses, holes, strict=True)]
    pixels = torch.tensor(np.stack(blended), device=image.device).movedim(3, 1)
    return pixels.to(image.dtype) / 127.5 - 1


def _to_pixels(batch: Tensor) -> list[npt.NDArray[np.uint8]]:
    whole = ((batch.float() + 1) * 127.5).round().clamp(0, 255).byte().movedim(1, 3)
    return [sample.numpy() for sample in whole.contiguous().cpu()]


def blend(
    image: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8]:
    """The paper's post-processing: Telea's inpainting gives the rim, Poisson blending the rest.

    The outermost pixels of the hole take the colours of fast marching (Telea 2004); inside them the
    prediction keeps its gradients and moves to meet them (Perez et al. 2003).

    Args:
        image: (H, W, 3) uint8 RGB; content of the hole is ignored.
        predicted: (H, W, 3) uint8, the network's result.
        mask: (H, W) bool, True = hole.

    Returns:
        (H, W, 3) uint8, equal to ``image`` outside the hole.
    """
    hole = mask.astype(np.uint8)
    base = np.asarray(cv2.inpaint(np.where(mask[..., None], 0, image), hole, 3, cv2.INPAINT_TELEA))
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inner = cv2.erode(hole, cross, borderValue=1).astype(bool)
    blended = solve_poisson(base.astype(np.float64), predicted.astype(np.float64), inner)
    pixels = np.rint(blended).clip(0, 255).astype(np.uint8)
    return np.where(mask[..., None], pixels, image)
