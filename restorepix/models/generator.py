"""The two-stage generator: a coarse stage, its paste, a refinement stage with attention.

Both stages predict residuals on what they start from: the coarse stage on a closed-form
pull-push fill, the refinement stage on the pasted coarse result. Convolutions are dense 3x3 at
1/2, 1/4, 1/8 and (coarse only) 1/16 of the resolution; full resolution is reached by pixel
shuffling alone. No normalisation, so a window's result does not depend on its neighbours in a
batch. In the spirit of Yu et al. (CVPR 2018), with the layers and budget of docs/design.md.

With several levels both stages run on a reduced picture first, and the refinement stage, with the
same weights, on each larger one, starting from the enlarged result of the one before. A hole that
is wide at full resolution is narrow at a quarter of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from restorepix.models.attention import ContextualAttention
from restorepix.models.config import LayerSizes
from restorepix.models.encoder import activate
from restorepix.models.fill import halve, pull_push

MULTIPLE = 16
"""Sizes are padded to this at the coarsest level inside the generator."""


@dataclass(frozen=True)
class GeneratorConfig(LayerSizes):
    """Layer sizes; stored in the header of every weights file."""

    coarse_channels: tuple[int, int, int] = (64, 128, 160)
    """Channels of the coarse stage at 1/4, 1/8 and 1/16."""
    refine_channels: tuple[int, int, int] = (32, 64, 128)
    """Channels of the refinement stage at 1/2, 1/4 and 1/8."""
    match_channels: int = 32
    """Channels in which attention compares cells."""
    attention: bool = True
    """Whether the attention branch runs; its parameters exist either way."""
    levels: int = 1
    """Resolutions worked on, each half the one before; 1 is the full one alone."""
    thin_px: int = 0
    """Windows whose holes are nowhere as wide as this are filled by a second set of weights, which
    works at full resolution alone; 0 is for one set."""


class Stages(NamedTuple):
    """What the generator returns; each (B, 3, H, W), meaningful inside the hole only."""

    fill: Tensor
    """The closed-form fill of the coarsest level, enlarged."""
    coarse: Tensor
    """What the last refinement starts from: the coarse stage's prediction, or with several levels
    the enlarged result of the level before."""
    refined: Tensor
    """The refinement stage's prediction: the result."""


Fill = Callable[[Tensor, Tensor], Stages]
"""Image and mask to stages, as ``Generator.forward``."""


def _initialise(module: nn.Module) -> None:
    """He initialisation, residuals starting small, heads at zero so that training starts calm."""
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
        elif name.endswith(("head", "join")):
            nn.init.zeros_(child.weight)


def enlarge(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 2H, 2W), bicubic as PyTorch's, by slices and sums.

    PyTorch's own needs 2.6 on MPS. Each output pixel weighs four of its row, then of its column.
    """
    if torch.compiler.is_compiling():
        # In one piece with the stage that follows, the compiler of PyTorch 2.13 fails.
        torch._dynamo.graph_break()  # pyright: ignore[reportPrivateUsage]
    far, near, nearest, beyond = -0.03515625, 0.26171875, 0.87890625, -0.10546875
    for dim, padding in ((2, (0, 0, 2, 2)), (3, (2, 2, 0, 0))):
        size = x.shape[dim]
        padded = functional.pad(x, padding, mode="replicate")
        a, b, c, d, e = (padded.narrow(dim, start, size) for start in range(5))
        before = far * a + near * b + nearest * c + beyond * d
        after = beyond * b + nearest * c + near * d + far * e
        x = torch.stack([before, after], dim + 1).flatten(dim, dim + 1)
    return x


def _pack(picture: Tensor, mask: Tensor, side: int, dtype: torch.dtype) -> Tensor:
    """Picture and mask with each ``side`` x ``side`` pixels in the channels of one."""
    parts = [functional.pixel_unshuffle(x, side).to(dtype) for x in (picture, mask)]
    return torch.cat(parts, 1)


class Residual(nn.Module):
    """x + conv(activation(conv(x))), the second convolution starting small."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        """Keep ``channels``; the first convolution has ``dilation``."""
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return self.second(activate(self.first(x))).add_(x)


class Up(nn.Module):
    """Twice the size by a 1x1 convolution and pixel shuffling, plus the skip connection."""

    def __init__(self, channels: int, to_channels: int) -> None:
        """Take ``channels`` at half the size to ``to_channels``."""
        super().__init__()
        self.expand = nn.Conv2d(channels, to_channels * 4, 1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, C, H, W) and (B, C', 2H, 2W) -> (B, C', 2H, 2W)."""
        return activate(functional.pixel_shuffle(self.expand(x), 2).add_(skip))


class CoarseStage(nn.Module):
    """A U-Net from 1/4 to 1/16 that sees the whole window."""

    def __init__(self, channels: tuple[int, int, int]) -> None:
        """Use ``channels`` at 1/4, 1/8 and 1/16."""
        super().__init__()
        quarter, eighth, sixteenth = channels
        self.stem = nn.Conv2d(4 * 16, quarter, 3, padding=1)
        self.enter_quarter = Residual(quarter)
        self.down_eighth = nn.Conv2d(quarter, eighth, 3, 2, 1)
        self.enter_eighth = Residual(eighth)
        self.down_sixteenth = nn.Conv2d(eighth, sixteenth, 3, 2, 1)
        self.bottom = nn.Sequential(Residual(sixteenth), Residual(sixteenth, 2))
        self.up_eighth = Up(sixteenth, eighth)
        self.leave_eighth = Residual(eighth)
        self.up_quarter = Up(eighth, quarter)
        self.leave_quarter = Residual(quarter)
        self.head = nn.Conv2d(quarter, 3 * 16, 3, padding=1)

    def forward(self, filled: Tensor, mask: Tensor) -> Tensor:
        """(B, 3, H, W) fill and (B, 1, H, W) mask -> (B, 3, H, W) residual on the fill."""
        packed = _pack(filled, mask, 4, self.stem.weight.dtype)
        quarter = self.enter_quarter(activate(self.stem(packed)))
        eighth = self.enter_eighth(activate(self.down_eighth(quarter)))
        bottom = self.bottom(activate(self.down_sixteenth(eighth)))
        eighth = self.leave_eighth(self.up_eighth(bottom, eighth))
        quarter = self.leave_quarter(self.up_quarter(eighth, quarter))
        return functional.pixel_shuffle(self.head(activate(quarter)), 4)


class RefineStage(nn.Module):
    """A U-Net from 1/2 to 1/8 with contextual attention at 1/4 on the way up."""

    def __init__(self, channels: tuple[int, int, int], match_channels: int) -> None:
        """Use ``channels`` at 1/2, 1/4 and 1/8."""
        super().__init__()
        half, quarter, eighth = channels
        self.stem = nn.Conv2d(4 * 4, half, 3, padding=1)
        self.enter_half = nn.Sequential(*[Residual(half) for _ in range(3)])
        self.down_quarter = nn.Conv2d(half, quarter, 3, 2, 1)
        self.enter_quarter = nn.Sequential(*[Residual(quarter) for _ in range(2)])
        self.down_eighth = nn.Conv2d(quarter, eighth, 3, 2, 1)
        self.bottom = nn.Sequential(*[Residual(eighth, dilation) for dilation in (1, 2, 4, 1)])
        self.up_quarter = Up(eighth, quarter)
        self.attention = ContextualAttention(quarter, match_channels)
        self.join = nn.Conv2d(quarter, quarter, 1)
        self.leave_quarter = nn.Sequential(*[Residual(quarter) for _ in range(2)])
        self.up_half = Up(quarter, half)
        self.leave_half = nn.Sequential(*[Residual(half) for _ in range(3)])
        self.head = nn.Conv2d(half, 3 * 4, 3, padding=1)

    def forward(self, pasted: Tensor, mask: Tensor, attention: bool) -> Tensor:
        """(B, 3, H, W) pasted coarse and (B, 1, H, W) mask -> (B, 3, H, W) residual on it."""
        packed = _pack(pasted, mask, 2, self.stem.weight.dtype)
        half = self.enter_half(activate(self.stem(packed)))
        quarter = self.enter_quarter(activate(self.down_quarter(half)))
        eighth = self.bottom(activate(self.down_eighth(quarter)))
        quarter = self.up_quarter(eighth, quarter)
        if attention:
            hole = functional.max_pool2d(mask, 4).to(quarter.dtype)
            quarter = quarter + self.join(self.attention(quarter, hole) * hole)
        quarter = self.leave_quarter(quarter)
        half = self.leave_half(self.up_half(quarter, half))
        return functional.pixel_shuffle(self.head(activate(half)), 2)


def find_wide(mask: Tensor, width_px: int) -> Tensor:
    """Which masks hold a whole square of ``width_px``: (B, 1, H, W) in {0, 1} -> (B,) bool."""
    if min(mask.shape[-2:]) < width_px:
        return torch.zeros(len(mask), dtype=torch.bool, device=mask.device)
    # The minimum over a square is one over rows and one over columns, each of them grown from the
    # minimum over 1, 2, 4 ... pixels: a tenth of the time of pooling.
    hole = mask
    for dim in (2, 3):
        reach = 1
        while reach < width_px:
            step = min(reach, width_px - reach)
            length = hole.shape[dim] - step
            hole = torch.minimum(hole.narrow(dim, 0, length), hole.narrow(dim, step, length))
            reach += step
    return hole.flatten(1).amax(1) > 0


def choose_by_width(
    width_px: int, fill_wide: Fill, fill_thin: Fill, image: Tensor, mask: Tensor
) -> Stages:
    """Fill each sample of a batch by the function that its hole's width asks for.

    Args:
        width_px: side of the square that makes a hole wide; see ``find_wide``.
        fill_wide: called like ``Generator.forward`` with the samples whose holes are wide.
        fill_thin: with the others.
        image: as for ``Generator.forward``.
        mask: as for ``Generator.forward``.
    """
    is_wide = find_wide(mask, width_px)
    if bool(is_wide.all()):
        return fill_wide(image, mask)
    if not bool(is_wide.any()):
        return fill_thin(image, mask)
    wide = fill_wide(image[is_wide], mask[is_wide])
    thin = fill_thin(image[~is_wide], mask[~is_wide])
    both = [torch.empty_like(image) for _ in Stages._fields]
    for whole, ours, theirs in zip(both, wide, thin, strict=True):
        whole[is_wide], whole[~is_wide] = ours, theirs
    return Stages(*both)


class Generator(nn.Module):
    """Fills the hole of an image; any size."""

    def __init__(self, config: GeneratorConfig | None = None) -> None:
        """Build both stages with random weights; the default config is the shipped one."""
        super().__init__()
        self.config = config or GeneratorConfig()
        self.thin: Generator | None = None
        if self.config.thin_px:
            self.thin = Generator(replace(self.config, levels=1, thin_px=0))
        self.coarse = CoarseStage(self.config.coarse_channels)
        self.refine = RefineStage(self.config.refine_channels, self.config.match_channels)
        _initialise(self)

    def forward(self, image: Tensor, mask: Tensor) -> Stages:
        """Predict the hole's content.

        Args:
            image: (B, 3, H, W) float32 RGB in [-1, 1]; content inside the hole is ignored.
            mask: (B, 1, H, W) float in {0, 1}, 1 = hole.

        Returns:
            ``Stages``, each (B, 3, H, W) in the dtype of ``image``; clamped to [-1, 1] outside
            training. Composite ``refined`` with the image before showing it.
        """
        if self.thin is None:
            return self.fill_hole(image, mask)
        return choose_by_width(
            self.config.thin_px, self.fill_hole, self.thin.fill_hole, image, mask
        )

    def fill_hole(self, image: Tensor, mask: Tensor) -> Stages:
        """As ``forward``, by this module's own weights whatever the hole's width."""
        height, width = image.shape[-2:]
        multiple = MULTIPLE << (self.config.levels - 1)
        bottom, right = -height % multiple, -width % multiple
        # Padding counts as hole for the fill, so it continues the picture smoothly. The sums stay
        # in the image's precision; only convolutions run in that of the weights.
        image = functional.pad(image, (0, right, 0, bottom))
        mask = functional.pad(mask, (0, right, 0, bottom), value=1.0)
        larger: list[tuple[Tensor, Tensor]] = []
        for _ in range(self.config.levels - 1):
            larger.append((image, mask))
            image, mask = halve(image, mask)
        fill = pull_push(image, mask)
        coarse = fill + self.coarse(fill, mask).to(image.dtype)
        refined = self._refine(coarse, image, mask)
        for next_image, next_mask in reversed(larger):
            fill = enlarge(fill)
            # Clamped, as what leaves the range at one level would leave it farther at the next.
            coarse = enlarge(refined.clamp(-1, 1) * mask + image * (1 - mask))
            image, mask = next_image, next_mask
            refined = self._refine(coarse, image, mask)
        stages = Stages(fill, coarse, refined)
        if not self.training:
            stages = Stages(*(stage.clamp(-1, 1) for stage in stages))
        return Stages(*(stage[..., :height, :width] for stage in stages))

    def _refine(self, coarse: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        pasted = coarse * mask + image * (1 - mask)
        return coarse + self.refine(pasted, mask, self.config.attention).to(image.dtype)
