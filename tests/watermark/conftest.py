"""Small photographs cut from scikit-image's, with and without a watermark."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw, ImageFont

from benchmarks.watermark_overlays import draw_segments

Pixels = npt.NDArray[np.uint8]
HEIGHT, WIDTH = 120, 168


@pytest.fixture(scope="session")
def photos() -> list[Pixels]:
    """Twelve cuts of (120, 168, 3) uint8 that do not overlap much."""
    from skimage import data

    cuts: list[Pixels] = []
    for picture in (data.astronaut(), data.chelsea(), data.coffee(), data.rocket()):
        small = cv2.resize(picture, (420, 300), interpolation=cv2.INTER_AREA)
        for top, left in ((0, 0), (180, 0), (90, 250)):
            cuts.append(np.asarray(small[top : top + HEIGHT, left : left + WIDTH], np.uint8))
    return cuts


def draw_alpha(opacity: float, text: str = "LOGO") -> npt.NDArray[np.float32]:
    """(120, 168) float32 of bold text."""
    image = Image.new("L", (WIDTH * 4, HEIGHT * 4))
    font = ImageFont.load_default(160)
    ImageDraw.Draw(image).text((110, 220), text, 255, font, stroke_width=6)
    return (
        np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.BOX), np.float32) / 255 * opacity
    )


def blend(
    photos: Sequence[Pixels], alpha: npt.NDArray[np.float32], level: int = 255
) -> list[Pixels]:
    """Photographs with a flat grey overlay."""
    a = alpha[..., None]
    return [np.rint(photo * (1 - a) + level * a).astype(np.uint8) for photo in photos]


def draw_stamp(date: str, height: int, pitch: float | None = None) -> npt.NDArray[np.float32]:
    """(height, w) float32 in [0, 1], the ink of digits of seven segments.

    Places are ``pitch`` px apart, in quarters of a pixel; four fifths of the height, in whole
    pixels, without it.
    """
    pitch = int(0.8 * height) if pitch is None else pitch
    ink = draw_segments(date, 4 * height, round(4 * pitch))
    small = ink.resize((ink.width // 4, height), Image.Resampling.BOX)
    return np.asarray(small, np.float32) / 255


TILED_HEIGHT, TILED_WIDTH = 300, 440


def draw_tiles(
    opacity: float, step: tuple[int, int] = (60, 90), angle: float = 0, stagger: int = 0
) -> npt.NDArray[np.float32]:
    """(300, 440) float32 of small words."""
    side = 1200
    image = Image.new("L", (side, side))
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(32)
    for number, top in enumerate(range(0, side, 2 * step[0])):
        for left in range(-(number % 2) * 2 * stagger, side, 2 * step[1]):
            pen.text((left, top), "PROOF", 255, font, stroke_width=1)
    image = image.rotate(angle, resample=Image.Resampling.BICUBIC)
    cut = image.crop((160, 300, 160 + 2 * TILED_WIDTH, 300 + 2 * TILED_HEIGHT))
    small = cut.resize((TILED_WIDTH, TILED_HEIGHT), Image.Resampling.BOX)
    return np.asarray(small, np.float32) / 255 * opacity
