"""LaMa's generator, for those who own its weights: the first adapter for networks of others.

Suvorov et al., "Resolution-robust Large Mask Inpainting with Fourier Convolutions" (WACV 2022,
https://arxiv.org/abs/2109.07161), written anew from the paper. Modules carry the names that the
published checkpoints use, so that a checkpoint converted to safetensors loads as it is. No weights
come with this package. Networks of other sizes of the same kind are recognised by their tensors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from restorepix.models.header import TensorSpec

# Typed nowhere in torch.
_to_waves = cast("Callable[..., Tensor]", torch.fft.rfft2)  # pyright: ignore[reportUnknownMemberType]
_from_waves = cast("Callable[..., Tensor]", torch.fft.irfft2)  # pyright: ignore[reportUnknownMemberType]

MULTIPLE: Final = 8
"""The network halves the picture three times."""


@dataclass(frozen=True)
class LamaConfig:
    """Sizes of the generator; the defaults are those of the published big model."""

    channels: int = 64
    """Channels at full resolution; they double with each halving."""
    blocks: int = 18
    """Residual blocks of two Fourier convolutions."""
    local: int = 128
    """Channels of the local branch at the lowest resolution; the others are global."""
    halvings: int = 3

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> LamaConfig:
        """The config of a JSON object.

        Raises:
            TypeError: a key that is no field.
            ValueError: a size that no network can have.
        """
        config = cls(**values)
        for field in fields(config):
            size = getattr(config, field.name)
            if not isinstance(size, int) or not 1 <= size <= 4096:
                raise ValueError(f"{field.name} is {size!r}")
        if config.halvings > 6 or config.local >= config.deepest:
            raise ValueError(f"local is {config.local} of {config.deepest} channels")
        return config

    @property
    def deepest(self) -> int:
        """Channels at the lowest resolution."""
        return self.channels << self.halvings


class LamaAnswer(NamedTuple):
    """What the adapter answers."""

    refined: Tensor
    """(B, 3, H, W) in [-1, 1]."""


class FourierUnit(nn.Module):
    """A 1x1 convolution on the spectrum: every cell sees the whole window."""

    def __init__(self, channels: int) -> None:
        """Keep ``channels``."""
        super().__init__()
        self.conv_layer = nn.Conv2d(channels * 2, channels * 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels * 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        waves = _to_waves(x.float(), norm="ortho")  # CPUs have no transform in bfloat16
        # Real and imaginary part of a channel lie side by side.
        parts = torch.stack([waves.real, waves.imag], 2).flatten(1, 2).to(x.dtype)
        parts = torch.relu(self.bn(self.conv_layer(parts))).float()
        mixed = torch.complex(parts[:, 0::2].contiguous(), parts[:, 1::2].contiguous())
        return _from_waves(mixed, s=x.shape[-2:], norm="ortho").to(x.dtype)


class SpectralTransform(nn.Module):
    """The global branch on its own: half the channels through a Fourier unit."""

    def __init__(self, channels: int) -> None:
        """Keep ``channels``."""
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Sequential(
            nn.Conv2d(channels, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU()
        )
        self.fu = FourierUnit(half)
        self.conv2 = nn.Conv2d(half, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        x = self.conv1(x)
        return self.conv2(x + self.fu(x))


class FourierConvolution(nn.Module):
    """Local and global channels that feed each other; either side may have none."""

    def __init__(
        self,
        inputs: tuple[int, int],
        outputs: tuple[int, int],
        *,
        side: int = 3,
        stride: int = 1,
        padding: int = 1,
    ) -> None:
        """Take (local, global) channels to (local, global) channels; local ones are never none."""
        super().__init__()
        (local_in, global_in), (local_out, global_out) = inputs, outputs

        def convolve(from_: int, to: int) -> nn.Module:
            return nn.Conv2d(
                from_, to, side, stride, padding, padding_mode="reflect", bias=False
            )  # fmt: skip

        self.convl2l = convolve(local_in, local_out)
        self.convl2g = convolve(local_in, global_out) if global_out else None
        self.convg2l = convolve(global_in, local_out) if global_in else None
        self.convg2g = SpectralTransform(global_in) if global_in else None

    def forward(self, near: Tensor, far: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, C, H, W) of each side, None for a side without channels."""
        local = self.convl2l(near)
        everywhere = None if self.convl2g is None else self.convl2g(near)
        if far is not None and self.convg2l is not None and self.convg2g is not None:
            local = local + self.convg2l(far)
            everywhere = everywhere + self.convg2g(far)
        return local, everywhere


class Layer(nn.Module):
    """A Fourier convolution, normalised and rectified."""

    def __init__(self, inputs: tuple[int, int], outputs: tuple[int, int], **sizes: int) -> None:
        """As ``FourierConvolution``."""
        super().__init__()
        self.ffc = FourierConvolution(inputs, outputs, **sizes)
        self.bn_l = nn.BatchNorm2d(outputs[0])
        self.bn_g = nn.BatchNorm2d(outputs[1]) if outputs[1] else None

    def forward(self, pair: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor | None]:
        """A pair of local and global channels -> a pair."""
        near, far = self.ffc(*pair)
        return (
            torch.relu(self.bn_l(near)),
            None if self.bn_g is None else torch.relu(self.bn_g(far)),
        )


class Block(nn.Module):
    """Two layers with a way round them."""

    def __init__(self, channels: tuple[int, int]) -> None:
        """Keep ``channels``."""
        super().__init__()
        self.conv1, self.conv2 = Layer(channels, channels), Layer(channels, channels)

    def forward(self, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """A pair of local and global channels -> a pair of the same shapes."""
        near, far = self.conv2(self.conv1(pair))
        return pair[0] + near, pair[1] + far


class _Split(nn.Module):
    """Begins with all channels local."""

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return functional.pad(x, (3, 3, 3, 3), mode="reflect"), None


class _Join(nn.Module):
    """Ends with all channels in one tensor."""

    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        return torch.cat(pair, 1)


class Lama(nn.Module):
    """LaMa's generator, called as every inpainter here."""

    def __init__(self, config: LamaConfig | None = None) -> None:
        """Build it with random weights."""
        super().__init__()
        config = config or LamaConfig()
        widths = [config.channels << step for step in range(config.halvings + 1)]
        pair = (config.local, config.deepest - config.local)
        layers: list[nn.Module] = [_Split(), Layer((4, 0), (widths[0], 0), side=7, padding=0)]
        for before, after in zip(widths, widths[1:], strict=False):
            outputs = pair if after == config.deepest else (after, 0)
            layers.append(Layer((before, 0), outputs, stride=2))
        layers += [Block(pair) for _ in range(config.blocks)]
        layers.append(_Join())
        for before, after in zip(widths[::-1], widths[-2::-1], strict=False):
            up = nn.ConvTranspose2d(before, after, 3, 2, 1, output_padding=1)
            layers += [up, nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(widths[0], 3, 7), nn.Sigmoid()]
        self.model = nn.Sequential(*layers)

    def forward(self, image: Tensor, mask: Tensor) -> LamaAnswer:
        """Predict the hole's content; the published weights want float32.

        Args:
            image: (B, 3, H, W) float RGB in [-1, 1], H and W from 16; the hole may hold anything.
            mask: (B, 1, H, W) float in {0, 1}, 1 = hole.

        Returns:
            ``refined``, (B, 3, H, W) in [-1, 1].
        """
        height, width = image.shape[-2:]
        padding = (0, -width % MULTIPLE, 0, -height % MULTIPLE)
        known = torch.where(mask > 0, 0, (image + 1) / 2)  # the network sees black holes
        seen = functional.pad(torch.cat([known, mask], 1), padding, mode="reflect")
        predicted = self.model(seen)[..., :height, :width]
        return LamaAnswer(predicted * 2 - 1)


_PREFIX: Final = re.compile(r"^(?:(?:generator|model)\.)?model\.(?=\d)")
_FIRST: Final = "model.1.ffc.convl2l.weight"
_LOCAL: Final = re.compile(r"model\.(\d+)\.conv1\.ffc\.convl2l\.weight")


def rename_tensor(name: str) -> str:
    """A tensor's name in a published checkpoint -> its name in :class:`Lama`."""
    return _PREFIX.sub("model.", name)


def recognise_lama(tensors: Mapping[str, TensorSpec]) -> dict[str, int] | None:
    """The config of a file that holds a LaMa generator, from names and shapes; None for others."""
    shapes = {rename_tensor(name): spec.shape for name, spec in tensors.items()}
    blocks = {int(found[1]): shapes[name] for name in shapes if (found := _LOCAL.fullmatch(name))}
    first = shapes.get(_FIRST, ())
    if len(first) != 4 or not blocks or any(len(shape) != 4 for shape in blocks.values()):
        return None
    begin = min(blocks)
    return {
        "channels": first[0],
        "blocks": len(blocks),
        "local": blocks[begin][0],
        "halvings": begin - 2,
    }
