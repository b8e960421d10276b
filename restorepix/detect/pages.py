"""Pictures that are no photographs: pages of text, drawings, screenshots.

Their lines and letters are what they are made of, not damage. What tells them is measured on a
sample of the picture and does not ask the network. The limits were set on drawn pages and on 256
held-out photographs, none of which is taken for a page or drawing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from restorepix.tiles import Box

ReadRgb = Callable[[Box], npt.NDArray[np.float32]]

SAMPLE_PX: Final = 192
"""Side of the squares that are looked at."""

SAMPLES: Final = 5
"""Squares along each side, at most."""

PAPER_SHARE: Final = 0.7
"""Share of pixels near one lightness from which a picture has a paper (or a screen)."""

LIGHT_PAPER: Final = 0.6
"""Least lightness of paper: a sky full of stars is no page."""

PAPER_LEVELS: Final = 12 / 255
"""What counts as near."""

INK_LEVELS: Final = 0.2
"""How far from the paper's lightness ink begins."""

LETTERS: Final = 30
"""Pieces of the size of letters in a square from which a drawing is a text."""

INK_SHARE: Final = (0.008, 0.35)
"""Share of pixels that stand out from the paper, for it to be written or drawn on."""

MIDDLE_SHARE: Final = 0.16
"""Most pixels that are neither paper nor ink: the soft edges of letters, and half as many for those
of lines. Photographs on white paper have more tones between."""

SPREAD_SHARE: Final = 0.5
"""Share of the squares on which there must be ink."""

EQUAL_SHARE: Final = 0.75
"""Share of pixels that equal their right neighbour to the bit, from which a picture is drawn by a
program; noise keeps photographs far below it, except where they are clipped."""


LIT_PX: Final = 25
"""Ink is evened out of the light over this many pixels; the strokes of letters are narrower."""

LIT_INK: Final = 0.75
"""Ink reflects at most this share of the light that falls on its surround."""

LIT_PAPER: Final = 0.88
"""Paper reflects at least this share."""

LIT_LETTERS: Final = 45
"""Pieces of the size of letters in a full square, from which what is unevenly lit is a text."""

LIT_MIDDLE_SHARE: Final = 0.1
"""Most pixels between ink and paper there."""

LETTER_SHARE: Final = 0.75
"""Share of the ink that must be letters there. Of the held-out photographs on such an even ground
none has more than 41 letters a square, and that one has half of its ink elsewhere."""


class Look(NamedTuple):
    """What a sample of a picture is made of; shares are of its pixels."""

    paper: float
    """The commonest lightness, 0 to 1."""
    on_paper: float
    """Share near that lightness."""
    ink: float
    """Share far from it."""
    inked: float
    """Share of the squares that hold ink."""
    equal: float
    """Share that equals its right neighbour to the bit."""
    strokes: float
    """Pieces of ink of the size of letters in a square, on average."""
    written: float
    """Share of the squares that are lettered once their light is evened out."""


def measure_look(read: ReadRgb, size: tuple[int, int]) -> Look:
    """Measure a picture on squares that are spread evenly over it.

    Args:
        read: returns the (h, w, 3) float32 RGB in [0, 1] of a box.
        size: (height, width) in pixels.
    """
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    squares = [np.clip(np.nan_to_num(read(box)), 0, 1) for box in _spread(*size)]
    grey = [square @ weights for square in squares]
    papers = [_find_paper(plane) for plane in grey]
    away = [np.abs(plane - paper) for plane, paper in zip(grey, papers, strict=True)]
    return Look(
        paper=float(np.mean(papers)),
        on_paper=float(np.mean([(one <= PAPER_LEVELS).mean() for one in away])),
        ink=float(np.mean([(one > INK_LEVELS).mean() for one in away])),
        inked=float(np.mean([(one > INK_LEVELS).mean() > INK_SHARE[0] for one in away])),
        equal=_count_equal(squares),
        strokes=float(np.mean([_count_strokes(one > INK_LEVELS)[0] for one in away])),
        written=float(np.mean([_is_written(plane) for plane in grey])),
    )


def _find_paper(plane: npt.NDArray[np.float32]) -> float:
    """The commonest lightness of a square: paper is lit unevenly, so each has its own."""
    histogram, _ = np.histogram(plane, 64, (0, 1))
    return (int(np.argmax(np.convolve(histogram, np.ones(3), "same"))) + 0.5) / 64


def judge_picture(read: ReadRgb, size: tuple[int, int]) -> str | None:
    """Return why a picture seems to be no photograph, as half a sentence, or None.

    Args:
        read: returns the (h, w, 3) float32 RGB in [0, 1] of a box.
        size: (height, width) in pixels.
    """
    if min(size) < 48:
        return None
    look = measure_look(read, size)
    if look.written >= SPREAD_SHARE:
        return "it looks like a page of text"
    middle = 1 - look.on_paper - look.ink
    on_paper = look.paper >= LIGHT_PAPER and look.on_paper >= PAPER_SHARE
    marked = INK_SHARE[0] <= look.ink <= INK_SHARE[1] and look.inked >= SPREAD_SHARE
    if on_paper and marked and look.strokes >= LETTERS and middle <= MIDDLE_SHARE:
        return "it looks like a page of text"
    if on_paper and marked and look.strokes < LETTERS and middle <= MIDDLE_SHARE / 2:
        return "it looks like a drawing or a screenshot"
    if look.equal >= EQUAL_SHARE and look.ink >= INK_SHARE[0]:
        return "it looks like a drawing or a screenshot"
    return None


def _spread(height: int, width: int) -> list[Box]:
    """Squares spread evenly over the picture, at most ``SAMPLES`` a side."""
    tall, wide = min(SAMPLE_PX, height), min(SAMPLE_PX, width)
    down = min(SAMPLES, -(-height // tall))
    across = min(SAMPLES, -(-width // wide))
    return [
        Box(round(row), round(column), tall, wide)
        for row in np.linspace(0, height - tall, down)
        for column in np.linspace(0, width - wide, across)
    ]


def _count_equal(squares: list[npt.NDArray[np.float32]]) -> float:
    """Share of pixels that equal their right neighbour in every channel."""
    equal = [float((square[:, 1:] == square[:, :-1]).all(2).mean()) for square in squares]
    return float(np.mean(equal))


def _count_strokes(ink: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Pieces of ink of the size of letters in one square, and their pixels."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(ink.astype(np.uint8), connectivity=8)
    sides = stats[1:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]]
    areas = stats[1:, cv2.CC_STAT_AREA]
    letters = (sides.max(1) >= 4) & (sides.max(1) <= 64) & (areas >= 8)
    return int(letters.sum()), int(areas[letters].sum())


def _is_written(grey: npt.NDArray[np.float32]) -> bool:
    """Whether a square is dark letters on paper, however unevenly the paper is lit."""
    calm = cv2.medianBlur(grey, 3)
    light = cv2.morphologyEx(calm, cv2.MORPH_CLOSE, np.ones((LIT_PX, LIT_PX), np.uint8))
    reflected = grey / np.maximum(cv2.blur(light, (LIT_PX, LIT_PX)), 0.02)
    ink = reflected < LIT_INK
    dark, paper = float(ink.mean()), float((reflected > LIT_PAPER).mean())
    letters, pixels = _count_strokes(ink)
    return (
        paper >= PAPER_SHARE
        and 1 - dark - paper <= LIT_MIDDLE_SHARE
        and letters * SAMPLE_PX**2 >= LIT_LETTERS * int(grey.size)
        and pixels >= LETTER_SHARE * int(np.count_nonzero(ink))
    )
