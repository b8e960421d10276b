"""Where the network looks: boxes and windows around holes. Pure geometry on numpy arrays."""

from __future__ import annotations

from typing import NamedTuple


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
