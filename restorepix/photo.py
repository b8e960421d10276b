"""The value that travels through the pipeline: one photograph as its file holds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

ColorModel = Literal["grey", "rgb", "cmyk"]
Preserved = Literal["exact", "coefficients", "lossless-rewrite", "reencoded"]
BoolMask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Page:
    """One picture of a file, as displayed (EXIF orientation applied), in native depth."""

    pixels: npt.NDArray[Any]
    """(H, W, C) uint8, uint16 or float32 colour samples in the file's own range and colour
    space: C = 1 for grey, 3 for rgb (in R, G, B order), 4 for cmyk (ink amounts, 0 = no ink)."""
    color: ColorModel
    alpha: npt.NDArray[Any] | None = None
    """(H, W) opacity in the dtype of ``pixels``, or None. Never changed."""
    icc: bytes | None = None
    """ICC profile of ``pixels``, or None for an untagged picture."""

    @property
    def height(self) -> int:
        """Rows of the picture as displayed, in pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns of the picture as displayed, in pixels."""
        return int(self.pixels.shape[1])


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded file: its pages and everything needed to write it back unchanged elsewhere."""

    format: str
    """Container name in lower case: ``jpeg``, ``png``, ``tiff``, ``webp``, ``bmp``, ``gif`` ..."""
    pages: tuple[Page, ...]
    orientation: int
    """EXIF orientation 1..8 that was applied to get from stored to displayed pixels."""
    source: bytes = field(repr=False)
    """The file's own bytes; writers take metadata and untouched data from here."""
    extra: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)
    """Whatever the format's own writer needs again; opaque to everyone else."""


Known = str | tuple[npt.NDArray[np.int16], ...]
"""SHA-256 in hex over everything known of an original, or all coefficients of a JPEG, for each
component ``(block rows, block columns, 8, 8)``."""


@dataclass(frozen=True)
class Encoded:
    """What a writer returns: the bytes of the restored file and how known data was kept."""

    data: bytes = field(repr=False)
    preserved: Preserved
    known: Known | None = field(default=None, repr=False)
    """Of the original, where it was taken on the way: with it the proof need not decode the
    original again (:func:`restorepix.formats.verify_photo`)."""
