"""Where the network looks: square windows around holes. Pure geometry, numpy and OpenCV only.

A hole mask is first reduced to cells of 16 px. Occupied cells that touch (so holes up to 32 px
apart) form a component; a component too long for one window is cut into pieces; pieces near each
other are packed into one window. What a window was planned for is its ``core``. Around the core the
window's weight falls smoothly to zero over ``BLEND_PX``, and as every hole pixel lies in at least
one core, dividing by the sum of weights is a partition of unity: two windows that share a long
scratch cross-fade instead of meeting at a line.

    for window in plan_windows(mask):            # mask: (H, W) bool, True = hole
        crop = image[window.box.slices()]        # what the network reads
        reach = window.reach()                   # where its answer counts
        weights = window.weights(reach)          # and how much

Nothing here loops over components or pixels in Python, only over windows: a 100-megapixel mask with
a hundred thousand specks of dust is planned in about a second.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from restorepix.photo import BoolMask

Cells = npt.NDArray[np.intp]

CELL_PX: Final = 16
"""Side of a cell. Holes closer than one to two cells share a component."""

BLEND_PX: Final = 24
"""How far beyond its core a window still counts, with falling weight. Two windows that meet
cross-fade over twice this distance: answers 33 grey levels apart (on a gradient, by a fill that
takes means) then show no step above 1.2 levels from pixel to pixel."""

WINDOW_SIZES: Final = (512, 256)
"""Sides of a window in pixels, largest first."""

CORE_PX: Final = {512: 384, 256: 160, 128: 64}
"""Largest core of a window, by the window's side: what is left after a context of 64, 48 and 32 px
on every side, in whole cells. 128 exists only for devices short of memory."""

SOLID_PX: Final = 24
"""A component with a pixel this far from everything known is better seen whole in a large window
than cut into small ones. A guess."""


class Box(NamedTuple):
    """A rectangle of pixels: rows ``top`` to ``bottom - 1``, columns ``left`` to ``right - 1``."""

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """First row below the box."""
        return self.top + self.height

    @property
    def right(self) -> int:
        """First column right of the box."""
        return self.left + self.width

    def slices(self) -> tuple[slice, slice]:
        """Return the (row, column) slices that cut this box out of an (H, W, ...) array."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def shift(self, rows: int, columns: int) -> Box:
        """Return this box moved down by ``rows`` and right by ``columns`` pixels."""
        return Box(self.top + rows, self.left + columns, self.height, self.width)

    def grow(self, margin_px: int) -> Box:
        """Return this box with ``margin_px`` more on every side; it may leave the picture."""
        return Box(
            self.top - margin_px,
            self.left - margin_px,
            self.height + 2 * margin_px,
            self.width + 2 * margin_px,
        )

    def intersect(self, other: Box) -> Box | None:
        """Return what this box shares with ``other``, or None when they share no pixel."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom, right = min(self.bottom, other.bottom), min(self.right, other.right)
        if top >= bottom or left >= right:
            return None
        return Box(top, left, bottom - top, right - left)


class Window(NamedTuple):
    """One call of the network: what it reads, and the part of it that it answers for."""

    box: Box
    """What the network reads; inside the picture, square unless the picture is smaller."""
    core: Box
    """The part this window was planned for, where its weight is 1; inside ``box``."""

    def reach(self) -> Box:
        """Return the part of ``box`` where this window's weight is above zero."""
        reach = self.core.grow(BLEND_PX).intersect(self.box)
        assert reach is not None, "a core lies inside its box"
        return reach

    def weights(self, part: Box) -> npt.NDArray[np.float32]:
        """Return this window's weights over ``part``, before division by the sum over windows.

        Args:
            part: A box inside ``reach()``, in pixels of the picture.

        Returns:
            (h, w) float32 in (0, 1]: 1 in the core, falling by a smooth step to 0 at ``BLEND_PX``.
        """
        rows = _ramp(part.top, part.bottom, self.core.top, self.core.bottom)
        columns = _ramp(part.left, part.right, self.core.left, self.core.right)
        return rows[:, None] * columns[None, :]


def plan_windows(mask: BoolMask, *, largest: int = WINDOW_SIZES[0]) -> list[Window]:
    """Return the windows that together own every hole pixel of a mask, in raster order of seeds.

    Areas without holes get no window. A window keeps at least 48 px (512 px windows: 64 px) of
    picture on each side of its core, less where the picture ends. Small windows are used where they
    do the work of a large one with fewer pixels and without cutting a solid hole.

    Args:
        mask: (H, W) bool, True = hole.
        largest: Largest window side in pixels, a key of ``CORE_PX``.

    Returns:
        Windows in a fixed order: the same mask always gives the same list. Empty for no hole.
    """
    height, width = mask.shape
    occupied = reduce_to_cells(mask, whole=False)
    if not occupied.any():
        return []
    # Joining over one cell of distance keeps a scratch that dust interrupts in one piece.
    joined = cv2.dilate(occupied.astype(np.uint8), np.ones((3, 3), np.uint8))
    _, labels = cv2.connectedComponents(joined, connectivity=8)
    rows, columns = np.nonzero(occupied)
    labels = labels[rows, columns].astype(np.intp)
    solid = distance_in_cells(reduce_to_cells(mask, whole=True))[rows, columns] * CELL_PX > SOLID_PX

    windows: list[Window] = []
    smaller = [size for size in WINDOW_SIZES if size < largest]
    for core, members in _pack(rows, columns, labels, _core_cells(largest, height, width)):
        large = _place(core, largest, height, width)
        area = large.box.height * large.box.width
        for size in smaller:
            limit = _core_cells(size, height, width)
            parts = _pack(rows[members], columns[members], labels[members], limit)
            solid_labels = [np.unique(labels[members[p]][solid[members[p]]]) for _, p in parts]
            all_solid = np.concatenate(solid_labels)
            is_solid_cut = len(np.unique(all_solid)) < len(all_solid)
            small = [_place(part, size, height, width) for part, _ in parts]
            if not is_solid_cut and sum(w.box.height * w.box.width for w in small) < area:
                windows.extend(small)
                break
        else:
            windows.append(large)
    return windows


def plan_blocks(mask: BoolMask, *, side_px: int = 256) -> list[Box]:
    """Return boxes that do not overlap and together hold every hole pixel of a mask.

    The picture is cut on a grid of ``side_px``, and each square is shrunk to its hole pixels, so
    a speck of dust costs a few pixels, not a square.

    Args:
        mask: (H, W) bool, True = hole.
        side_px: Largest side of a box in pixels.

    Returns:
        Boxes in raster order; empty for no hole.
    """
    blocks: list[Box] = []
    for top in range(0, mask.shape[0], side_px):
        band = mask[top : top + side_px]
        lefts = np.flatnonzero(band.any(axis=0)) // side_px * side_px
        for left in np.unique(lefts).tolist():
            square = band[:, left : left + side_px]
            in_rows = np.flatnonzero(square.any(axis=1))
            in_columns = np.flatnonzero(square.any(axis=0))
            blocks.append(
                Box(
                    top + int(in_rows[0]),
                    left + int(in_columns[0]),
                    int(in_rows[-1] - in_rows[0]) + 1,
                    int(in_columns[-1] - in_columns[0]) + 1,
                )
            )
    return blocks


def reduce_to_cells(mask: BoolMask, *, whole: bool) -> BoolMask:
    """Return which cells of ``CELL_PX`` are wholly in the hole (``whole``), or touch it at all.

    Args:
        mask: (H, W) bool, True = hole.
        whole: Ask for cells without a known pixel instead of cells with a hole pixel.

    Returns:
        (ceil(H / 16), ceil(W / 16)) bool. Cells cut by the picture's border count what is inside.
    """
    reduce = np.logical_and.reduceat if whole else np.logical_or.reduceat
    cell_rows: Cells = np.arange(0, mask.shape[0], CELL_PX, dtype=np.intp)
    cell_columns: Cells = np.arange(0, mask.shape[1], CELL_PX, dtype=np.intp)
    # Rows first: contiguous memory, and the second pass reads a sixteenth.
    return reduce(reduce(mask, cell_rows, axis=0), cell_columns, axis=1)


def distance_in_cells(cells: BoolMask) -> npt.NDArray[np.float32]:
    """Return each cell's distance, in cells, to the nearest False cell; 0 for False cells.

    The picture's border is not known ground: a hole that touches it is as deep as it is far from
    known cells. With no False cell at all every distance is infinite.
    """
    if cells.all():
        return np.full(cells.shape, np.inf, np.float32)
    distance = cv2.distanceTransform(cells.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance.astype(np.float32, copy=False)


def _ramp(start: int, stop: int, core_start: int, core_stop: int) -> npt.NDArray[np.float32]:
    position = np.arange(start, stop)
    outside = np.maximum(np.maximum(core_start - position, position - (core_stop - 1)), 0)
    linear = 1 - outside / (BLEND_PX + 1)
    return (linear * linear * (3 - 2 * linear)).astype(np.float32)


def _core_cells(size: int, height: int, width: int) -> tuple[int, int]:
    """Return the largest core of a window as (rows, columns) in cells.

    Along a side that the window spans whole, the core needs no context and may span it too.
    """
    cells = CORE_PX[size] // CELL_PX
    return (
        -(-height // CELL_PX) if height <= size else cells,
        -(-width // CELL_PX) if width <= size else cells,
    )


def _pack(
    rows: Cells, columns: Cells, labels: Cells, limit: tuple[int, int]
) -> list[tuple[Box, Cells]]:
    """Group cells into cores of at most ``limit`` (rows, columns) cells.

    Returns:
        Per group its bounding box in cells, and the indices of its cells in the arguments.
    """
    pieces = _cut(rows, columns, labels, limit)
    order = np.argsort(pieces, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(pieces[order]) > 0])
    stops = np.r_[starts[1:], len(order)]
    top = np.minimum.reduceat(rows[order], starts)
    bottom = np.maximum.reduceat(rows[order], starts) + 1
    left = np.minimum.reduceat(columns[order], starts)
    right = np.maximum.reduceat(columns[order], starts) + 1

    by_position = np.lexsort((left, top))
    waiting = np.ones(len(starts), np.bool_)
    groups: list[tuple[Box, Cells]] = []
    for seed in by_position.tolist():
        if not waiting[seed]:
            continue
        # The seed is the topmost piece waiting, so the core hangs down from it.
        near = np.flatnonzero(
            waiting
            & (bottom <= top[seed] + limit[0])
            & (top >= top[seed])
            & (left >= right[seed] - limit[1])
            & (right <= left[seed] + limit[1])
        )
        taken = near[_best_span(left[near], right[near], int(left[seed]), limit[1])]
        waiting[taken] = False
        members = np.concatenate([order[starts[piece] : stops[piece]] for piece in taken])
        core_top, core_left = int(top[taken].min()), int(left[taken].min())
        core = Box(
            core_top,
            core_left,
            int(bottom[taken].max()) - core_top,
            int(right[taken].max()) - core_left,
        )
        groups.append((core, members))
    return groups


def _cut(rows: Cells, columns: Cells, labels: Cells, limit: tuple[int, int]) -> Cells:
    """Return a piece number per cell: its component, cut on a grid where it exceeds ``limit``."""
    _, labels = np.unique(labels, return_inverse=True)
    count = int(labels.max()) + 1
    first_row = np.full(count, np.iinfo(np.intp).max)
    first_column = first_row.copy()
    np.minimum.at(first_row, labels, rows)
    np.minimum.at(first_column, labels, columns)
    grid_row = (rows - first_row[labels]) // limit[0]
    grid_column = (columns - first_column[labels]) // limit[1]
    across = int(grid_column.max()) + 1
    down = int(grid_row.max()) + 1
    return (labels * down + grid_row) * across + grid_column


def _best_span(left: Cells, right: Cells, seed_left: int, limit: int) -> Cells:
    """Return the indices of the most pieces that one span of ``limit`` cells holds with the seed.

    The arguments hold the seed and pieces that fit into one span with it, so that every span that
    starts at a piece's left, and not right of the seed's, holds the seed.
    """
    best = np.empty(0, np.intp)
    for start in np.unique(left[left <= seed_left]).tolist():
        inside = np.flatnonzero((left >= start) & (right <= start + limit))
        if len(inside) > len(best):
            best = inside
    return best


def _place(core: Box, size: int, height: int, width: int) -> Window:
    """Return the window of a core given in cells: centred on it, moved inside the picture."""
    top, left = core.top * CELL_PX, core.left * CELL_PX
    core_px = Box(
        top,
        left,
        min(core.bottom * CELL_PX, height) - top,
        min(core.right * CELL_PX, width) - left,
    )
    box_height, box_width = min(size, height), min(size, width)
    box = Box(
        min(max(top + (core_px.height - box_height) // 2, 0), height - box_height),
        min(max(left + (core_px.width - box_width) // 2, 0), width - box_width),
        box_height,
        box_width,
    )
    return Window(box, core_px)
