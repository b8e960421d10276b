"""LaMa's big generator with random weights, to be timed: it is never trained or judged here.

Suvorov et al., "Resolution-robust Large Mask Inpainting with Fourier Convolutions" (WACV 2022),
written from the layer table of the paper's big model. Timing does not depend on the weights.
Fourier transforms run in float32 in every precision, since PyTorch has none in bfloat16 on CPUs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LOCAL, GLOBAL = 128, 384
"""Channels of the two branches: a global share of 0.75 of 512."""

BLOCKS = 18
PARAMETERS_M = 51.0
"""Millions of parameters of the published model."""


def _convolve(inputs: int, outputs: int, side: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, padding=side // 2, padding_mode="reflect", bias=False)


class SpectralTransform(nn.Module):
    """The global branch: a 1x1 convolution on the spectrum of half the channels."""

    def __init__(self, channels: int) -> None:
        """Keep ``channels``."""
        super().__init__()
        half = channels // 2
        self.enter = nn.Sequential(
            nn.Conv2d(channels, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU()
        )
        self.spectrum = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.leave = nn.Conv2d(half, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        x = self.enter(x)
        waves = torch.fft.rfft2(x.float(), norm="ortho")
        parts = self.spectrum(torch.cat([waves.real, waves.imag], 1).to(x.dtype)).float()
        real, imaginary = parts.chunk(2, 1)
        back = torch.fft.irfft2(torch.complex(real, imaginary), s=x.shape[-2:], norm="ortho")
        return self.leave(x + back.to(x.dtype))


class FourierConvolution(nn.Module):
    """A fast Fourier convolution: local and global channels that feed each other."""

    def __init__(self) -> None:
        """Keep ``LOCAL`` and ``GLOBAL`` channels."""
        super().__init__()
        self.local_to_local = _convolve(LOCAL, LOCAL)
        self.local_to_global = _convolve(LOCAL, GLOBAL)
        self.global_to_local = _convolve(GLOBAL, LOCAL)
        self.global_to_global = SpectralTransform(GLOBAL)
        self.norm_local = nn.BatchNorm2d(LOCAL)
        self.norm_global = nn.BatchNorm2d(GLOBAL)

    def forward(self, near: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 128, H, W) local and (B, 384, H, W) global -> the same shapes."""
        local = self.local_to_local(near) + self.global_to_local(far)
        everywhere = self.local_to_global(near) + self.global_to_global(far)
        return torch.relu(self.norm_local(local)), torch.relu(self.norm_global(everywhere))


class Block(nn.Module):
    """A residual block of two Fourier convolutions."""

    def __init__(self) -> None:
        """Build both."""
        super().__init__()
        self.first, self.second = FourierConvolution(), FourierConvolution()

    def forward(self, x: Tensor) -> Tensor:
        """(B, 512, H, W) -> the same shape."""
        return x + torch.cat(self.second(*self.first(*x.split([LOCAL, GLOBAL], 1))), 1)


class Lama(nn.Module):
    """Big LaMa: 51.0 M parameters; about 440 GFLOP for a window of 512 x 512 px."""

    def __init__(self, blocks: int = BLOCKS) -> None:
        """Build it; ``blocks`` is smaller only in tests."""
        super().__init__()

        def activate(channels: int) -> list[nn.Module]:
            return [nn.BatchNorm2d(channels), nn.ReLU()]

        layers: list[nn.Module] = [_convolve(4, 64, 7), *activate(64)]
        for channels in (64, 128, 256):
            down = nn.Conv2d(channels, channels * 2, 3, 2, 1, padding_mode="reflect", bias=False)
            layers += [down, *activate(channels * 2)]
        layers += [Block() for _ in range(blocks)]
        for channels in (512, 256, 128):
            up = nn.ConvTranspose2d(channels, channels // 2, 3, 2, 1, output_padding=1)
            layers += [up, *activate(channels // 2)]
        last = nn.Conv2d(64, 3, 7, padding=3, padding_mode="reflect")
        self.layers = nn.Sequential(*layers, last, nn.Sigmoid())

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Predict a picture.

        Args:
            image: (B, 3, H, W) RGB in [0, 1], H and W multiples of 8.
            mask: (B, 1, H, W) in {0, 1}, 1 = hole.

        Returns:
            (B, 3, H, W) in [0, 1].
        """
        return self.layers(torch.cat([image * (1 - mask), mask], 1))
