"""The critics of the laboratory's systems: they score pictures, without a sigmoid at the end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def _stack(
    inputs: int, widths: Sequence[int], side: int, *, norm: bool = False
) -> tuple[list[nn.Module], int]:
    """Strided convolutions with leaky ReLU; returns them and the channels they end with."""
    layers: list[nn.Module] = []
    for number, width in enumerate(widths):
        layers.append(nn.Conv2d(inputs, width, side, 2, (side - 1) // 2))
        if norm and number > 0:
            layers.append(nn.BatchNorm2d(width))
        layers.append(nn.LeakyReLU(0.2))
        inputs = width
    return layers, inputs


class ConvCritic(nn.Module):
    """5x5 convolutions of stride 2 and one linear score; no norm, no sigmoid (DeepFill v1)."""

    def __init__(self, widths: Sequence[int], side_px: int, outputs: int = 1) -> None:
        """Score (B, 3, ``side_px``, ``side_px``) pictures by ``outputs`` numbers.

        Raises:
            ValueError: the side cannot be halved as often as there are ``widths``.
        """
        super().__init__()
        left, over = divmod(side_px, 2 ** len(widths))
        if over:
            msg = f"a critic of {len(widths)} halvings needs sides of {2 ** len(widths)} px steps"
            raise ValueError(f"{msg}, found {side_px}")
        layers, channels = _stack(3, widths, 5)
        self.score = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(channels * left * left, outputs)
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, outputs)."""
        return self.score(image)


class DeepFillCritics(nn.Module):
    """DeepFill v1's two critics: one sees the hole's surroundings, one the whole picture.

    At 256 px with local crops of 128 px they have 4,339,329 and 2,733,441 parameters.
    """

    def __init__(self, side_px: int = 256, local_px: int = 128, channels: int = 64) -> None:
        """Score pictures of ``side_px`` and crops of ``local_px``."""
        super().__init__()
        c = channels
        self.local_px = local_px
        self.local = ConvCritic((c, 2 * c, 4 * c, 8 * c), local_px)
        self.whole = ConvCritic((c, 2 * c, 4 * c, 4 * c), side_px)


class JointCritic(nn.Module):
    """GLCIC's critic: local and global vectors of 1,024, judged together (Iizuka et al. 2017)."""

    def __init__(self, side_px: int = 256, local_px: int = 128, channels: int = 64) -> None:
        """Score pictures of ``side_px`` with crops of ``local_px``."""
        super().__init__()
        c = channels
        self.local_px = local_px
        self.local = ConvCritic((c, 2 * c, 4 * c, 8 * c, 8 * c), local_px, 1024)
        self.whole = ConvCritic((c, 2 * c, 4 * c, 8 * c, 8 * c, 8 * c), side_px, 1024)
        self.judge = nn.Sequential(nn.ReLU(), nn.Linear(2048, 1))

    def forward(self, image: Tensor, local: Tensor) -> Tensor:
        """(B, 3, S, S) pictures and (B, 3, L, L) crops -> (B, 1)."""
        return self.judge(torch.cat([self.local(local), self.whole(image)], 1))


class ContextCritic(nn.Module):
    """The critic of context encoders: k4 s2 convolutions, batch norm, one logit (section 3.2).

    As published it sees only the predicted patch; given whole pictures it sees the context too.
    """

    def __init__(self, side_px: int = 64, channels: int = 64) -> None:
        """Score (B, 3, ``side_px``, ``side_px``); 64, or 128 with one stage more.

        Raises:
            ValueError: another side.
        """
        super().__init__()
        c = channels
        widths = {64: (c, 2 * c, 4 * c, 8 * c), 128: (c, c, 2 * c, 4 * c, 8 * c)}.get(side_px)
        if widths is None:
            msg = f"the critic of context encoders judges sides of 64 or 128 px, found {side_px}"
            raise ValueError(msg)
        layers, last = _stack(3, widths, 4, norm=True)
        self.score = nn.Sequential(*layers, nn.Conv2d(last, 1, 4), nn.Flatten())

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 1)."""
        return self.score(image)


class PatchCritic(nn.Module):
    """A map of scores, one a region: PatchGAN (Isola et al., CVPR 2017) with instance norm."""

    def __init__(self, channels: int = 64) -> None:
        """Score any picture of 32 px or more."""
        super().__init__()
        c = channels
        layers: list[nn.Module] = [nn.Conv2d(3, c, 4, 2, 1), nn.LeakyReLU(0.2)]
        for inputs, outputs in ((c, 2 * c), (2 * c, 4 * c)):
            layers += [
                nn.Conv2d(inputs, outputs, 4, 2, 1),
                nn.InstanceNorm2d(outputs),
                nn.LeakyReLU(0.2),
            ]
        self.score = nn.Sequential(*layers, nn.Conv2d(4 * c, 1, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 1, H/8, W/8)."""
        return self.score(image)


def crop_around_hole(image: Tensor, mask: Tensor, side_px: int) -> Tensor:
    """(B, C, side, side) crops centred on each sample's hole, moved inside the picture.

    Args:
        image: (B, C, H, W).
        mask: (B, 1, H, W) in {0, 1}; a sample without a hole is cut at its middle.
        side_px: side of the crops, at most H and W.
    """
    height, width = image.shape[-2:]
    crops: list[Tensor] = []
    for sample, hole in zip(image, mask[:, 0] > 0, strict=True):
        rows, columns = hole.any(1).nonzero()[:, 0], hole.any(0).nonzero()[:, 0]
        middle = [
            int(found[0] + found[-1] + 1) // 2 if len(found) else length // 2
            for found, length in ((rows, height), (columns, width))
        ]
        top = min(max(0, middle[0] - side_px // 2), height - side_px)
        left = min(max(0, middle[1] - side_px // 2), width - side_px)
        crops.append(sample[:, top : top + side_px, left : left + side_px])
    return torch.stack(crops)
