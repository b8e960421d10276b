"""Methods that learn nothing, called like networks: to compare with, on photographs of one's own.

``restorepix fix --model telea`` and the others of ``METHODS`` carry no weights. They work in 8
bits, as OpenCV does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from restorepix.models.fill import pull_push
from restorepix.models.lab.answer import Answer
from restorepix.models.lab.patchmatch import inpaint_patchmatch

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

RADIUS_PX: Final = 3
"""How far OpenCV's methods look around a pixel."""


def inpaint_telea(image: Image, mask: Mask) -> Image:
    """Fast marching: from the rim inwards, each pixel a weighted mean of known ones (Telea 2004).

    Args:
        image: (H, W, 3) uint8 RGB; content of the hole is ignored.
        mask: (H, W) bool, True = hole.
    """
    return _call_opencv(image, mask, cv2.INPAINT_TELEA)


def inpaint_navier_stokes(image: Image, mask: Mask) -> Image:
    """Lines of equal brightness go on into the hole (Bertalmio et al., CVPR 2001); as above."""
    return _call_opencv(image, mask, cv2.INPAINT_NS)


def _call_opencv(image: Image, mask: Mask, method: int) -> Image:
    known = np.where(mask[..., None], 0, image).astype(np.uint8)
    painted = cv2.inpaint(known, mask.astype(np.uint8), RADIUS_PX, method)
    return np.asarray(painted, np.uint8)


def fill_smoothly(image: Image, mask: Mask) -> Image:
    """The smooth fill that the default inpainter starts from; as above."""
    batch = torch.tensor(image).permute(2, 0, 1)[None].float()
    filled = pull_push(batch, torch.tensor(mask)[None, None].float())
    return filled[0].permute(1, 2, 0).round().clamp(0, 255).numpy().astype(np.uint8)


METHODS: Final[Mapping[str, Callable[[Image, Mask], Image]]] = {
    "telea": inpaint_telea,
    "ns": inpaint_navier_stokes,
    "pull-push": fill_smoothly,
    "patchmatch": inpaint_patchmatch,
}
"""By the names of ``catalogue.METHODS``."""


class MethodInpainter(nn.Module):
    """A method of ``METHODS``, called as a network is; it has no parameters."""

    def __init__(self, name: str) -> None:
        """Take the method of that name.

        Raises:
            ValueError: there is none.
        """
        super().__init__()
        if name not in METHODS:
            raise ValueError(f"expected one of {', '.join(METHODS)}, found {name!r}")
        self.name = name

    def forward(self, image: Tensor, mask: Tensor) -> Answer:
        """(B, 3, H, W) in [-1, 1] and (B, 1, H, W), 1 = hole; computed on the CPU, by sample."""
        pixels = ((image + 1) * 127.5).round().clamp(0, 255).byte().cpu()
        holes = (mask[:, 0] > 0).cpu()
        painted = [
            METHODS[self.name](sample.permute(1, 2, 0).contiguous().numpy(), hole.numpy())
            for sample, hole in zip(pixels, holes, strict=True)
        ]
        batch = torch.tensor(np.stack(painted), device=image.device).movedim(3, 1)
        refined = batch.to(image.dtype) / 127.5 - 1
        return Answer(refined, refined)
