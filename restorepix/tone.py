"""Tone that stays: a grey, sepia or cyan photograph gets repairs of its own tone.

Many scans of black-and-white photographs are stored in three channels. A network that was trained
on colours answers wide holes in them with a mean of colours: too grey in a sepia print, with a
cast in a grey one. In such a picture colour is a function of brightness alone. So that function is
measured on known pixels, and where it holds, each repaired pixel keeps its brightness and takes the
colour that known pixels of this brightness have. Where all known pixels are grey, the repaired ones
are exactly grey.

Pictures are (h, w, 3) float32 RGB in [0, 1], the network's range. Masks: True = hole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from restorepix.photo import BoolMask
from restorepix.surround import Patches, ReadRgb, Rgb
from restorepix.tiles import Box

Floats = npt.NDArray[np.float64]

LUMA: Final = np.array([0.299, 0.587, 0.114])
"""Brightness of R, G, B (ITU-R BT.601)."""

LEVELS: Final = 32
"""Steps of brightness at which the tone is measured."""

FEWEST_IN_LEVEL: Final = 16
"""A step with fewer known pixels is interpolated."""

FEWEST_KNOWN: Final = 256
"""With fewer known pixels no tone is seen."""

CELL_PX: Final = 4
"""Known pixels are averaged over squares of this side, in which noise and JPEG's blocks fade."""

MOST_ROWS: Final = 128
"""Rows of squares that are looked at, spread evenly."""

MOST_IN_ROW: Final = 256
"""Squares of a row that are looked at, spread evenly."""

MOST_OFF: Final = ((95.0, 6 / 255), (99.5, 10 / 255))
"""Percentiles of how far known colours are from the tone, and the most that each may be. Of 160
toned photographs, half of them with noise of 3 levels, all saved as JPEG of quality 80, the highest
had 5.8 and 9.1; of 256 held-out photographs 4 are below, three of them grey and one brown all over,
and the next has 4.1 and 12.1."""


@dataclass(frozen=True)
class Tone:
    """Colour as a function of brightness."""

    places: Floats
    """(N,) brightness in [0, 1], rising."""
    offsets: Floats
    """(N, 3) what R, G and B are above the brightness there."""

    def color(self, rgb: npt.NDArray[Any]) -> Rgb:
        """Return (M, 3) pixels as bright as those given, in this tone, clipped to [0, 1]."""
        luma: Floats = rgb.astype(np.float64) @ LUMA
        colored = np.empty((len(luma), 3), np.float32)
        for channel in range(3):
            offset = np.interp(luma, self.places, self.offsets[:, channel])
            colored[:, channel] = np.clip(luma + offset, 0, 1)
        return colored


def keep_tone(read: ReadRgb, mask: BoolMask, patches: Patches) -> list[tuple[Box, Rgb]]:
    """Return repaired patches in the tone of their picture; as they are, where it has several.

    Args:
        read: returns the (h, w, 3) float32 RGB of a box of the damaged picture.
        mask: (H, W) bool, True = hole.
        patches: boxes inside the picture with (h, w, 3) float32 RGB; together they hold every
            hole pixel once (:class:`restorepix.inpaint.Patch`).

    Returns:
        As many patches with the same boxes; what they hold at known pixels is kept.
    """
    tone = measure_tone(read, mask) if patches else None
    if tone is None:
        return list(patches)
    answers: list[tuple[Box, Rgb]] = []
    for box, rgb in patches:
        hole = mask[box.slices()]
        answer = rgb.copy()
        answer[hole] = tone.color(rgb[hole])
        answers.append((box, answer))
    return answers


def measure_tone(read: ReadRgb, mask: BoolMask) -> Tone | None:
    """Return the one tone that the known pixels of a picture have; None for a picture in colour.

    Args:
        read: returns the (h, w, 3) float32 RGB of a box of the picture.
        mask: (H, W) bool, True = hole.
    """
    known = _read_known(read, mask)
    if len(known) < FEWEST_KNOWN:
        return None
    luma = known @ LUMA
    offsets = known - luma[:, None]
    level = np.minimum((luma * LEVELS).astype(np.intp), LEVELS - 1)
    order = np.argsort(level, kind="stable")
    starts = np.searchsorted(level[order], np.arange(LEVELS + 1))
    places: list[float] = []
    medians: list[Floats] = []
    for start, stop in zip(starts, starts[1:], strict=False):
        if stop - start >= FEWEST_IN_LEVEL:
            members = order[start:stop]
            places.append(float(luma[members].mean()))
            medians.append(np.median(offsets[members], axis=0))
    if not places:
        return None
    tone = Tone(np.array(places), np.array(medians))
    off = np.abs(known - tone.color(known)).max(1)
    if any(np.percentile(off, share) > most for share, most in MOST_OFF):
        return None
    return tone


def _read_known(read: ReadRgb, mask: BoolMask) -> Floats:
    """(N, 3) means of known cells, spread evenly over a picture."""
    height, width = (side // CELL_PX for side in mask.shape)
    if not (height and width):
        return np.empty((0, 3))
    step = -(-width // MOST_IN_ROW)
    count = min(height, MOST_ROWS)
    rows = [number * height // count for number in range(count)]
    parts: list[Floats] = []
    for row in rows:
        box = Box(row * CELL_PX, 0, CELL_PX, width * CELL_PX)
        holes = mask[box.slices()].reshape(CELL_PX, width, CELL_PX).sum((0, 2))
        cells = np.nan_to_num(read(box)).reshape(CELL_PX, width, CELL_PX, 3)
        means = cells[:, ::step].mean((0, 2), dtype=np.float64)
        parts.append(means[holes[::step] == 0])
    return np.concatenate(parts)
