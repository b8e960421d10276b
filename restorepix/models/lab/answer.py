"""What every inpainter of the laboratory takes and gives, and how odd sizes are padded."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional


class Answer(NamedTuple):
    """An inpainter's prediction; each (B, 3, H, W) in [-1, 1], meaningful inside the hole only."""

    coarse: Tensor
    """The first stage's prediction; systems of one stage repeat ``refined``."""
    refined: Tensor
    """The result; composite it with the image before showing it."""


class Padded(NamedTuple):
    """An image and its mask, enlarged at the bottom and right."""

    image: Tensor
    """(B, 3, H', W'), zero in the padding."""
    mask: Tensor
    """(B, 1, H', W'), 1 in the padding: nothing is known there."""
    inside: Tensor
    """(B, 1, H', W'), 1 in the picture and 0 in the padding."""


def pad_to_multiple(image: Tensor, mask: Tensor, multiple: int) -> Padded:
    """Enlarge both to sides that ``multiple`` divides; the padding counts as hole.

    Args:
        image: (B, 3, H, W) float.
        mask: (B, 1, H, W) float in {0, 1}, 1 = hole.
        multiple: what the sides must be multiples of, in pixels.
    """
    height, width = image.shape[-2:]
    sides = (0, -width % multiple, 0, -height % multiple)
    inside = functional.pad(mask.new_ones(mask.shape), sides)
    return Padded(functional.pad(image, sides), functional.pad(mask, sides, value=1.0), inside)


def composite(predicted: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """``predicted`` in the hole and ``image``, bit for bit, outside; shapes as above."""
    return predicted.where(mask > 0, image)
