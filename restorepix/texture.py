"""Texture that matches: fine structure for what the network can only answer smoothly.

Inside a hole wider than some pixels a network that was trained on differences predicts the mean of
what could be there: its brightness and its large forms are right, its knitting, bark and leaves
are missing. They stand all around the hole. So every part of the hole that lacks fine structure
borrows it from the known patch that looks most alike without any:

1. *Low and high.* The repaired picture is split into its blur by 2.5 px and the rest. The blur
   decides who lends to whom, so a smooth wall lends to a smooth wall and nothing lends an edge.
2. *Coherence.* A patch takes over the displacement of its neighbour where that is nearly as good
   as the best one, so that structure is continued instead of being mixed.
3. *Only what is missing.* The borrowed part is weakened by the fine energy that the prediction
   already has: near the rim, or from a sharper network, nothing is added.

Thin holes are left alone; there the network sees enough. The borrowing of differences follows
contextual residual aggregation (Yi et al., CVPR 2020, section 3.2), coherence after Ashikhmin
("Synthesizing Natural Textures", 2001); weakening by energy is ours.

Pictures are (h, w, 3) float32 RGB in [0, 1], the network's range. Masks: True = hole.
"""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import torch

from restorepix.photo import BoolMask
from restorepix.surround import Patches, ReadRgb, Repaired, Rgb
from restorepix.tiles import Box

Points = npt.NDArray[np.intp]

LEAST_DEPTH_PX: Final = 5.0
"""Holes none of whose pixels is this far from everything known are left alone."""

SURROUND_PX: Final = 96
"""How far from a patch's box texture is looked for."""

BLUR_PX: Final = 2.5
"""Standard deviation of the blur that splits low from high. With 2.0 finer texture comes alone,
with 3.5 large forms come along that do not belong there (structural similarity falls by 0.006)."""

PATCH_PX: Final = 16
"""Side of the patches that are compared and laid."""

STEP_PX: Final = 4
"""Between two patches that are laid."""

CELL_PX: Final = 4
"""Patches are compared by the means of cells of this side, in each channel."""

GUARD_PX: Final = 2
"""Known pixels this near to a hole lend nothing: damage has soft edges."""

SOURCE_STEP_PX: Final = 3
"""Between two patches that may lend, where there are not too many."""

MOST_SOURCES: Final = 8192
"""Most patches that may lend, spread evenly."""

FEWEST_SOURCES: Final = 16
"""With fewer there is no choice, and nothing is borrowed."""

COHERENCE: Final = 0.2
"""How much farther than the best patch a neighbour's continuation may be."""

TOLERANCE: Final = 4e-4
"""The same, added: the mean squared difference of cells that counts as none, a fiftieth of full
scale."""

STRENGTH: Final = ((4.0, 0.7), (16.0, 0.9))
"""Share of the missing structure that is added, at two distances from known pixels. All of it is
sharper, and farther from the truth."""


def add_texture(read: ReadRgb, mask: BoolMask, patches: Patches) -> list[tuple[Box, Rgb]]:
    """Return repaired patches with the fine structure of their surround.

    Args:
        read: returns the (h, w, 3) float32 RGB of a box of the damaged picture.
        mask: (H, W) bool, True = hole.
        patches: boxes inside the picture with (h, w, 3) float32 RGB; together they hold every
            hole pixel once (:class:`restorepix.inpaint.Patch`).

    Returns:
        As many patches with the same boxes. Those without wide holes, or with too little around
        them, are the same objects. Hole pixels are clipped to [0, 1]; what patches hold at known
        pixels is kept.
    """
    picture = Repaired(read, mask, patches)
    answers: list[tuple[Box, Rgb]] = []
    for box, rgb in patches:
        answer = rgb
        # Most holes are thin. That shows in the box itself, before its surround is looked at.
        near = picture.grow(box, math.ceil(LEAST_DEPTH_PX))
        if _measure_depth(mask, box, near).max() >= LEAST_DEPTH_PX:
            area = picture.grow(box, SURROUND_PX)
            hole = mask[area.slices()]
            textured = borrow_texture(picture.read(area), hole, _measure_depth(mask, area, area))
            if textured is not None:
                here = box.shift(-area.top, -area.left).slices()
                answer = np.where(hole[here][..., None], textured[here], rgb)
        answers.append((box, answer))
    return answers


def _measure_depth(mask: BoolMask, box: Box, area: Box) -> Rgb:
    """Return the (h, w) distance of a box's pixels to what is known in an area around it."""
    hole = mask[area.slices()].astype(np.uint8)
    depth = cv2.distanceTransform(hole, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(depth, np.float32)[box.shift(-area.top, -area.left).slices()]


def borrow_texture(image: Rgb, hole: BoolMask, depth: Rgb) -> Rgb | None:
    """Return a repaired picture with texture in its hole.

    Args:
        image: (h, w, 3) float32 RGB in [0, 1], the hole filled smoothly.
        hole: (h, w) bool, True = hole.
        depth: (h, w) float32 distance to the nearest known pixel, 0 there.

    Returns:
        (h, w, 3) float32 RGB in [0, 1]; None where too little is known to borrow from.
    """
    if min(hole.shape) < PATCH_PX:
        return None
    sources = _list_sources(hole)
    if len(sources) < FEWEST_SOURCES:
        return None
    low = _blur(image, BLUR_PX)
    high = image - low
    targets, lattice = _list_targets(hole)
    lenders = _choose_lenders(low, hole, targets, lattice, sources)
    borrowed = _lay(high, targets, lenders)
    # What is there already, and what would come, as local energies of the hole alone.
    inside = hole.astype(np.float32)
    near = PATCH_PX / 4
    has = _blur((high * high).mean(axis=2) * inside, near) / np.maximum(_blur(inside, near), 1e-3)
    comes = _blur((borrowed * borrowed).mean(axis=2), near)
    missing = np.sqrt(np.clip(1 - has / np.maximum(comes, 1e-8), 0, 1))
    (rim, least), (middle, most) = STRENGTH
    share = np.clip((depth - rim) / (middle - rim), 0, 1) * (most - least) + least
    gain = missing * share * np.clip(depth / rim, 0, 1)
    textured: Rgb = np.clip(image + gain[..., None] * borrowed, 0, 1).astype(np.float32)
    return textured


def _blur(picture: Rgb, sigma_px: float) -> Rgb:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma_px), np.float32)


def _list_sources(hole: BoolMask) -> Points:
    """Return the (row, column) of patches that may lend, none of which is near a hole."""
    starts = _find_whole(hole)
    pitch = SOURCE_STEP_PX
    while np.count_nonzero(starts[::pitch, ::pitch]) > MOST_SOURCES:
        pitch += 1
    return np.argwhere(starts[::pitch, ::pitch]) * pitch


def _find_whole(hole: BoolMask) -> BoolMask:
    """Return (h - 15, w - 15) where a patch can start that keeps away from every hole."""
    guard = np.ones((2 * GUARD_PX + 1, 2 * GUARD_PX + 1), np.uint8)
    touched = np.asarray(cv2.dilate(hole.astype(np.uint8), guard), np.bool_)
    return _count_inside(touched) == 0


def _list_targets(hole: BoolMask) -> tuple[Points, Points]:
    """Return the (row, column) of patches that touch the hole, and which is where.

    The second is the lattice of all places: the number of the patch there, -1 for none. The last
    row and column of places may be nearer than a step, so that patches reach the border.
    """
    rows, columns = (
        np.array([*range(0, side - PATCH_PX, STEP_PX), side - PATCH_PX], np.intp)
        for side in hole.shape
    )
    wanted = _count_inside(hole)[np.ix_(rows, columns)] > 0
    lattice = np.full(wanted.shape, -1, np.intp)
    lattice[wanted] = np.arange(np.count_nonzero(wanted))
    places = np.argwhere(wanted)
    return np.stack([rows[places[:, 0]], columns[places[:, 1]]], axis=1), lattice


def _count_inside(hole: BoolMask) -> Points:
    """Return (h - 15, w - 15) how many hole pixels the patch holds that starts there."""
    count = np.asarray(cv2.integral(hole.astype(np.uint8)), np.intp)
    above = count[PATCH_PX:, PATCH_PX:] - count[:-PATCH_PX, PATCH_PX:]
    return above - count[PATCH_PX:, :-PATCH_PX] + count[:-PATCH_PX, :-PATCH_PX]


def _choose_lenders(
    low: Rgb, hole: BoolMask, targets: Points, lattice: Points, sources: Points
) -> Points:
    """Return the (N, 2) place of the patch that lends to each target."""
    cells = np.asarray(cv2.blur(low, (CELL_PX, CELL_PX)), np.float32)
    within = np.arange(CELL_PX // 2, PATCH_PX, CELL_PX)

    def describe(places: Points) -> Rgb:
        rows = places[:, :1, None] + within[None, :, None]
        columns = places[:, 1:, None] + within[None, None, :]
        return cells[rows, columns].reshape(len(places), -1)

    wants, offers = describe(targets), describe(sources)
    keys = torch.tensor(offers)
    energies = keys.square().sum(dim=1)
    nearest: list[torch.Tensor] = []
    for start in range(0, len(wants), 1024):
        products = torch.tensor(wants[start : start + 1024]) @ keys.T
        nearest.append((energies - 2 * products).argmin(dim=1))
    best = torch.cat(nearest).numpy()
    apart = np.square(wants - offers[best]).sum(axis=1)
    allowed = apart * (1 + COHERENCE) + TOLERANCE * wants.shape[1] * COHERENCE
    lenders = sources[best]
    whole = _find_whole(hole)
    # Each sweep hands displacements on from one line of the lattice to the next.
    for lines in (lattice, lattice.T, lattice[::-1], lattice.T[::-1]):
        for before, now in zip(lines[:-1], lines[1:], strict=True):
            both = (before >= 0) & (now >= 0)
            giving, taking = before[both], now[both]
            places = lenders[giving] - targets[giving] + targets[taking]
            fits = ((places >= 0) & (places < whole.shape)).all(axis=1)
            giving, taking, places = giving[fits], taking[fits], places[fits]
            fits = whole[places[:, 0], places[:, 1]]
            taking, places = taking[fits], places[fits]
            if len(taking):
                distance = np.square(describe(places) - wants[taking]).sum(axis=1)
                good = distance <= allowed[taking]
                lenders[taking[good]] = places[good]
    return lenders


def _lay(high: Rgb, targets: Points, lenders: Points) -> Rgb:
    """Return the (h, w, 3) mean of all that is lent, each patch fading out to its sides."""
    tent = 1 - np.abs((np.arange(PATCH_PX) + 0.5) / (PATCH_PX / 2) - 1)
    weight = (tent[:, None] * tent[None, :])[..., None].astype(np.float32)
    total = np.zeros_like(high)
    weights = np.zeros((*high.shape[:2], 1), np.float32)
    for (top, left), (row, column) in zip(targets.tolist(), lenders.tolist(), strict=True):
        there = (slice(top, top + PATCH_PX), slice(left, left + PATCH_PX))
        total[there] += weight * high[row : row + PATCH_PX, column : column + PATCH_PX]
        weights[there] += weight
    total /= np.maximum(weights, 1e-6)
    return total
