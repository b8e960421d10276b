"""Coarse to fine: what fills a hole that is too thick for one look of the network.

A network trained on small crops cannot see across a wide hole. Such a hole is filled at half the
resolution first, which asks the same question again until the hole is thin enough. The answer is
enlarged and given the detail that enlarging lacks: each of its patches borrows the fine structure
of the known patch that resembles it most at the half resolution, where both are complete. Only the
inside of the hole is taken from this guide. A rim of one to two cells stays open, and the network
fills it at full resolution between the known pixels and the guide, so that neither side shows a
seam.

In the spirit of contextual residual aggregation: Yi, Tang, Azizi, Jang, Xu, "Contextual Residual
Aggregation for Ultra High-Resolution Image Inpainting", CVPR 2020, section 3.2,
https://arxiv.org/abs/2005.09704. There the network's attention scores average residuals over one
large step; here one best patch is taken by its contrast, over as many steps of two as needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch

from restorepix.photo import BoolMask
from restorepix.tiles import CELL_PX, Box, distance_in_cells, reduce_to_cells

Rgb = npt.NDArray[np.float32]
Points = npt.NDArray[np.intp]

THICK_PX: Final = 28
"""A hole with a pixel about this far from everything known is guided: half the side of the holes
that the network is trained on. Measured on 12 held-out photographs at 256 px: 28 gives 15.87 dB on
the 128 px square and 18.21 dB on brush strokes over 40 %, 64 gives 15.08 and 18.20."""

SMALLEST_PX: Final = 64
"""Pictures up to this side are never reduced further, however large their hole. With 128 the square
of 128 px gets 0.14 dB less."""

CONTEXT_PX: Final = (128, 768)
"""Least and most context taken around a guided hole; between them, as much as the hole is long."""

PATCH_PX: Final = 4
"""Side of the patches that are compared, at half resolution; they are laid at half this step.
Measured on five photographs with the half resolution known, 160 px square: 29.69 dB and 82 % of the
gradients with 4 px, 29.70 dB and 79 % with 6 px, 30.05 dB and 75 % without any detail."""

MOST_COMPARED: Final = 2**27
"""Most pairs of patches compared for one guide: some 13 GFLOP, under a second of a core."""

MOST_CANDIDATES: Final = 8192
"""Most known patches that one guide takes detail from, spread evenly over the context."""


class Guide(NamedTuple):
    """A filled hole interior at full resolution."""

    box: Box
    guided: BoolMask
    """(h, w) bool, True where the guide decides."""
    rgb: Rgb
    """(h, w, 3) float32 RGB in [0, 1]; meaningless where ``guided`` is False."""


def build_guides(
    read: Callable[[Box], Rgb], mask: BoolMask, fill: Callable[[Rgb, BoolMask], Rgb]
) -> list[Guide]:
    """Return a guide for the inside of every hole that is too thick for one look.

    Args:
        read: Returns the (h, w, 3) float32 RGB of a box of the picture, in [0, 1].
        mask: (H, W) bool, True = hole.
        fill: Fills the hole of a small (h, w, 3) image: how the half resolution is inpainted.

    Returns:
        Guides that share no guided pixel. A guided pixel is at least one cell (16 px) away from
        every known pixel. Empty when every hole is thin, or the picture is small.
    """
    height, width = mask.shape
    if max(height, width) <= SMALLEST_PX:
        return []
    distance = distance_in_cells(reduce_to_cells(mask, whole=True))
    thick = distance * CELL_PX > THICK_PX
    if not thick.any():
        return []
    inside = (distance > 1.5).astype(np.uint8)  # not even a corner touches a known cell
    _, labels, stats, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    guides: list[Guide] = []
    for label in np.unique(labels[thick]).tolist():
        left, top, columns, rows = (int(value) * CELL_PX for value in stats[label, :4])
        box = Box(top, left, min(rows, height - top), min(columns, width - left))
        cells = labels[top // CELL_PX :, left // CELL_PX :] == label
        guided = cells[: rows // CELL_PX, : columns // CELL_PX]
        guided = guided.repeat(CELL_PX, axis=0).repeat(CELL_PX, axis=1)[: box.height, : box.width]
        guides.append(_build_guide(read, mask, fill, box, guided))
    return guides


def paste_guides(rgb: Rgb, box: Box, guides: Sequence[Guide]) -> Rgb:
    """Write what the guides say into the (h, w, 3) RGB of a box, in place, and return it."""
    for guide in guides:
        part = guide.box.intersect(box)
        if part is not None:
            here = part.shift(-box.top, -box.left).slices()
            there = part.shift(-guide.box.top, -guide.box.left).slices()
            guided = guide.guided[there]
            rgb[here][guided] = guide.rgb[there][guided]
    return rgb


def halve(rgb: Rgb, mask: BoolMask) -> tuple[Rgb, BoolMask]:
    """Return an image and its mask at half the resolution, blind to what the hole holds.

    Args:
        rgb: (H, W, 3) float32 RGB.
        mask: (H, W) bool, True = hole.

    Returns:
        (ceil(H / 2), ceil(W / 2), 3) float32 means over the known ones of each 2x2 pixels, 0 where
        there is none; and those places as (ceil(H / 2), ceil(W / 2)) bool.
    """
    height, width = mask.shape
    known = np.zeros((height + height % 2, width + width % 2, 1), np.float32)
    known[:height, :width, 0] = ~mask
    colour = np.zeros((*known.shape[:2], 3), np.float32)
    colour[:height, :width] = np.where(mask[..., None], 0, rgb)
    count = _sum_2x2(known)
    small, small_mask = _sum_2x2(colour), count[..., 0] == 0
    count[small_mask] = 1
    small /= count
    return small, small_mask


def sanitize_rgb(rgb: Rgb) -> Rgb:
    """Return a copy of (..., 3) RGB with NaN as 0 and everything clipped to [0, 1]."""
    clean = rgb.copy()
    clean[np.isnan(clean)] = 0
    np.clip(clean, 0, 1, out=clean)
    return clean


def _sum_2x2(values: Rgb) -> Rgb:
    rows: Rgb = values[0::2] + values[1::2]
    total: Rgb = rows[:, 0::2] + rows[:, 1::2]
    return total


def _build_guide(
    read: Callable[[Box], Rgb],
    mask: BoolMask,
    fill: Callable[[Rgb, BoolMask], Rgb],
    box: Box,
    guided: BoolMask,
) -> Guide:
    context = min(max(box.height, box.width, CONTEXT_PX[0]), CONTEXT_PX[1]) // CELL_PX * CELL_PX
    region = box.grow(context).intersect(Box(0, 0, *mask.shape))
    assert region is not None, "a guided box lies inside its picture"
    hole = mask[region.slices()]
    rgb = sanitize_rgb(read(region))
    small, small_hole = halve(rgb, hole)
    small = fill(small, small_hole)
    here = box.shift(-region.top, -region.left)
    base = _enlarge(small, rgb.shape[0], rgb.shape[1])
    detail = _find_detail(rgb - base, hole, small, here, guided)
    return Guide(box, guided, sanitize_rgb(base[here.slices()] + detail))


def _enlarge(small: Rgb, height: int, width: int) -> Rgb:
    # Pixel centres of cv2.resize agree with those of 2x2 means.
    size = (2 * small.shape[1], 2 * small.shape[0])
    large = cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)
    return large[:height, :width].astype(np.float32, copy=False)


def _find_detail(residual: Rgb, hole: BoolMask, small: Rgb, box: Box, guided: BoolMask) -> Rgb:
    """Return what enlarging lacks inside a box, borrowed from known patches.

    Args:
        residual: (H, W, 3) full resolution minus enlarged half resolution; valid at known pixels.
        hole: (H, W) bool, True = hole.
        small: (ceil(H / 2), ceil(W / 2), 3) half resolution, complete.
        box: Where detail is wanted, aligned to cells.
        guided: (box.height, box.width) bool, the pixels of the box that want it.

    Returns:
        (box.height, box.width, 3) float32.
    """
    detail = np.zeros((box.height, box.width, 3), np.float32)
    rows, columns = small.shape[:2]
    if rows < PATCH_PX or columns < PATCH_PX:
        return detail
    targets = _list_targets(guided) + np.array([box.top // 2, box.left // 2])
    targets = np.minimum(targets, [rows - PATCH_PX, columns - PATCH_PX])
    sources = _list_sources(hole, MOST_COMPARED // len(targets))
    if len(sources) == 0:
        return detail
    nearest, gains = _match_patches(small, targets, sources)

    side = 2 * PATCH_PX
    tent = 1 - np.abs((np.arange(side, dtype=np.float32) + 0.5) / PATCH_PX - 1)
    weights = (tent[:, None] * tent[None, :])[..., None]
    total = np.zeros((box.height, box.width, 1), np.float32)
    pairs = zip((2 * targets).tolist(), (2 * nearest).tolist(), gains.tolist(), strict=True)
    for target, source, gain in pairs:
        patch = Box(target[0], target[1], side, side)
        part = patch.intersect(box)
        if part is None:
            continue
        of = part.shift(source[0] - target[0], source[1] - target[1]).slices()
        there = part.shift(-box.top, -box.left).slices()
        weight = weights[part.shift(-patch.top, -patch.left).slices()]
        detail[there] += gain * weight * residual[of]
        total[there] += weight
    # A guided pixel always lies under a patch; elsewhere in the box there may be none.
    total[total == 0] = 1
    detail /= total
    return detail


def _list_targets(guided: BoolMask) -> Points:
    """Return the (row, column), at half resolution, of half-overlapping patches over a mask."""
    pitch = PATCH_PX // 2
    step = 2 * pitch
    rows, columns = (-(-side // step) * step for side in guided.shape)
    padded = np.zeros((rows, columns), np.bool_)
    padded[: guided.shape[0], : guided.shape[1]] = guided
    shape = (rows // step, step, columns // step, step)
    steps: BoolMask = np.logical_or.reduce(padded.reshape(shape), axis=(1, 3))
    # A patch covers two steps each way, so it starts at a step it touches or the one before.
    touching = steps.copy()
    touching[:-1] |= steps[1:]
    touching[:, :-1] |= touching[:, 1:]
    return np.argwhere(touching) * pitch


def _list_sources(hole: BoolMask, most: int) -> Points:
    """Return the (row, column), at half resolution, of known patches, at most ``most`` of them."""
    most = max(1, min(most, MOST_CANDIDATES))
    rows, columns = hole.shape[0] // 2, hole.shape[1] // 2
    whole = hole[: 2 * rows, : 2 * columns]
    known = ~(whole[0::2, 0::2] | whole[0::2, 1::2] | whole[1::2, 0::2] | whole[1::2, 1::2])
    patch = np.ones((PATCH_PX, PATCH_PX), np.uint8)
    # With its anchor at the corner, erosion tells for every place if the patch below is known.
    starts = cv2.erode(
        known.astype(np.uint8),
        patch,
        anchor=(0, 0),
        borderType=cv2.BORDER_CONSTANT,
        borderValue=[0],
    )
    pitch = 1
    while np.count_nonzero(starts[::pitch, ::pitch]) > most:
        pitch += 1
    return np.argwhere(starts[::pitch, ::pitch]) * pitch


def _match_patches(small: Rgb, targets: Points, sources: Points) -> tuple[Points, Rgb]:
    """Return for each target patch its most similar source, and how strongly it shows there.

    Patches are compared without their mean colour, so that a texture in the shade may lend to one
    in the light. The strength is the least-squares factor from source to target, in [0, 1]: a
    target smoother than any source borrows little, and a flat one nothing, rather than the same
    grain again and again.

    Returns:
        (N, 2) places from ``sources``, and (N,) float32 factors.
    """
    patches = np.lib.stride_tricks.sliding_window_view(small, (PATCH_PX, PATCH_PX), axis=(0, 1))

    def flatten(points: Points) -> torch.Tensor:
        contrast = torch.tensor(patches[points[:, 0], points[:, 1]]).flatten(start_dim=2)
        return (contrast - contrast.mean(dim=2, keepdim=True)).flatten(start_dim=1)

    keys = flatten(sources)
    energies = keys.square().sum(dim=1)
    nearest: list[torch.Tensor] = []
    gains: list[torch.Tensor] = []
    for start in range(0, len(targets), 1024):
        products = flatten(targets[start : start + 1024]) @ keys.T
        best = (energies - 2 * products).argmin(dim=1)
        product = products.gather(1, best[:, None])[:, 0]
        nearest.append(best)
        gains.append((product / (energies[best] + 1e-8)).clamp(0, 1))
    return sources[torch.cat(nearest).numpy()], torch.cat(gains).numpy()
