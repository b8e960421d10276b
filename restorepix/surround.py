"""Repaired pictures that exist as patches: reading a box of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from restorepix.photo import BoolMask
from restorepix.tiles import Box

Rgb = npt.NDArray[np.float32]
ReadRgb = Callable[[Box], Rgb]
Patches = Sequence[tuple[Box, Rgb]]


class Repaired:
    """A damaged picture with its patches laid over it, of which only boxes are ever made."""

    def __init__(self, read: ReadRgb, mask: BoolMask, patches: Patches) -> None:
        """Take what is needed to read.

        Args:
            read: returns the (h, w, 3) float32 RGB of a box of the damaged picture.
            mask: (H, W) bool, True = hole.
            patches: boxes inside the picture with (h, w, 3) float32 RGB; together they hold every
                hole pixel once.
        """
        self._read, self._mask, self._patches = read, mask, patches
        self._places = np.array([box for box, _ in patches], np.intp).reshape(-1, 4)

    def grow(self, box: Box, margin_px: int) -> Box:
        """Return a box of the picture with up to ``margin_px`` more on every side."""
        area = box.grow(margin_px).intersect(Box(0, 0, *self._mask.shape))
        assert area is not None, "a patch lies inside its picture"
        return area

    def read(self, area: Box) -> Rgb:
        """Return the (h, w, 3) float32 RGB of an area, a copy; NaN of the file counts as 0."""
        picture = np.nan_to_num(self._read(area)).astype(np.float32)
        top, left, height, width = self._places.T
        touches = (top < area.bottom) & (top + height > area.top)
        touches &= (left < area.right) & (left + width > area.left)
        for index in np.flatnonzero(touches).tolist():
            box, rgb = self._patches[index]
            part = box.intersect(area)
            assert part is not None, "it touches"
            inside = self._mask[part.slices()]
            here = part.shift(-area.top, -area.left).slices()
            there = part.shift(-box.top, -box.left).slices()
            picture[here][inside] = rgb[there][inside]
        return picture
