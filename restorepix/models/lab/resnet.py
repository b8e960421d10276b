"""ResNet-50 as a backbone, and a segmentation network around it.

He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), table 1: bottleneck blocks 3,
4, 6, 3; the stride of a stage sits in its first 3x3 convolution, as later practice has it. With the
1,000-way head it would have the familiar 25,557,032 parameters; the backbone has 23,508,032.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

BLOCKS = (3, 4, 6, 3)
WIDTHS = (64, 128, 256, 512)
EXPANSION = 4
"""A block's output is this many times as wide as its 3x3 convolution."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
"""Of R, G, B in [0, 1]: what ResNets are usually fed."""


def _convolve(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up, added to the input (figure 5, right)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        """From ``inputs`` to 4 x ``width`` channels."""
        super().__init__()
        outputs = EXPANSION * width
        self.reduce = _convolve(inputs, width, 1)
        self.middle = _convolve(width, width, 3, stride)
        self.expand = _convolve(width, outputs, 1)
        changes = stride > 1 or inputs != outputs
        self.shortcut = _convolve(inputs, outputs, 1, stride) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 4 width, H / stride, W / stride)."""
        y = functional.relu(self.reduce(x))
        y = functional.relu(self.middle(y))
        return functional.relu(self.expand(y) + self.shortcut(x))


class ResNet50(nn.Module):
    """The backbone: features at 1/4, 1/8, 1/16 and 1/32."""

    def __init__(self) -> None:
        """He initialisation."""
        super().__init__()
        self.stem = _convolve(3, 64, 7, 2)
        stages: list[nn.Module] = []
        inputs = 64
        for number, (count, width) in enumerate(zip(BLOCKS, WIDTHS, strict=True)):
            blocks: list[nn.Module] = []
            for block in range(count):
                stride = 2 if number > 0 and block == 0 else 1
                blocks.append(Bottleneck(inputs, width, stride))
                inputs = EXPANSION * width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of every stage, finest first.

        Args:
            image: (B, 3, H, W) float in [-1, 1], normalised here as ImageNet's photographs are.
        """
        mean = image.new_tensor(IMAGENET_MEAN)[:, None, None]
        deviation = image.new_tensor(IMAGENET_DEVIATION)[:, None, None]
        x = functional.relu(self.stem(((image + 1) / 2 - mean) / deviation))
        x = functional.max_pool2d(x, 3, 2, 1)
        features: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class ResNetSegmenter(nn.Module):
    """ResNet-50 and a small decoder: every stage reduced to ``width`` channels and added up."""

    def __init__(self, classes: int, width: int = 128) -> None:
        """Logits of ``classes`` classes."""
        super().__init__()
        self.encoder = ResNet50()
        self.lateral = nn.ModuleList(nn.Conv2d(EXPANSION * w, width, 1) for w in WIDTHS)
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in WIDTHS[:-1])
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1], any size from 32 -> (B, classes, H, W) logits."""
        features = self.encoder(image)
        x = self.lateral[-1](features[-1])
        for level in (2, 1, 0):
            skip = self.lateral[level](features[level])
            x = functional.interpolate(x, size=skip.shape[-2:], mode="nearest") + skip
            x = functional.relu(self.smooth[level](x))
        logits = self.head(x)
        size: list[int] = list(image.shape[-2:])
        return functional.interpolate(
            logits.float(), size=size, mode="bilinear", align_corners=False
        ).to(torch.promote_types(logits.dtype, torch.float32))
