"""What benchmarks/watermark.py puts on photographs: overlays, tilings, date stamps."""

from __future__ import annotations

import random

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Floats = npt.NDArray[np.float32]
SIZE_PX = 320
_FINER = 4
_SEGMENTS = {
    "0": "abcdef", "1": "bc", "2": "abdeg", "3": "abcdg", "4": "bcfg", "5": "acdfg",
    "6": "acdefg", "7": "abc", "8": "abcdefg", "9": "abcdfg", " ": "",
}  # fmt: skip
DATE_COLORS = {"orange": (255, 140, 30), "yellow": (250, 220, 50), "white": (245, 245, 245)}


def draw_overlay(kind: str, opacity: float) -> tuple[Floats, Floats]:
    """Alpha (320, 320) and colour (320, 320, 3) in [0, 1], anti-aliased.

    ``text``, ``script`` (another font), ``logo`` (text and shapes), ``outlined``, ``none``,
    ``tiled``, ``diagonal`` (tiled, turned by 30 degrees).
    """
    side = SIZE_PX * _FINER
    alpha, color = Image.new("L", (side, side)), Image.new("RGB", (side, side), "white")
    pen, brush = ImageDraw.Draw(alpha), ImageDraw.Draw(color)
    if kind in ("text", "logo", "outlined"):
        font, place = ImageFont.load_default(40 * _FINER), (70 * _FINER, 130 * _FINER)
        stroke = 2 * _FINER if kind == "outlined" else _FINER
        pen.text(place, "© Studio", 255, font, stroke_width=stroke)
        if kind == "outlined":
            brush.text(place, "© Studio", "white", font, stroke_width=stroke, stroke_fill="black")
    if kind == "logo":
        pen.ellipse([v * _FINER for v in (60, 200, 160, 290)], 255)
        pen.ellipse([v * _FINER for v in (85, 220, 135, 270)], 0)
        corners = [(v[0] * _FINER, v[1] * _FINER) for v in ((200, 290), (230, 200), (275, 290))]
        pen.polygon(corners, 255)
        brush.polygon(corners, (230, 120, 20))
    if kind == "script":
        drawn = np.zeros((side, side), np.uint8)
        cv2.putText(drawn, "My Studio", (40 * _FINER, 170 * _FINER),
                    cv2.FONT_HERSHEY_SCRIPT_COMPLEX, 1.6 * _FINER, 255, 3 * _FINER,
                    cv2.LINE_AA)  # fmt: skip
        alpha = Image.fromarray(drawn)
    if kind in ("tiled", "diagonal"):
        alpha = _draw_tiles(30 if kind == "diagonal" else 0)
    size, box = (SIZE_PX, SIZE_PX), Image.Resampling.BOX
    return (
        np.asarray(alpha.resize(size, box), np.float32) / 255 * np.float32(opacity),
        np.asarray(color.resize(size, box), np.float32) / 255,
    )


def _draw_tiles(degrees: float) -> Image.Image:
    side = SIZE_PX * _FINER
    image = Image.new("L", (2 * side, 2 * side))
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(15 * _FINER)
    for top in range(0, 2 * side, 50 * _FINER):
        for left in range(0, 2 * side, 80 * _FINER):
            pen.text((left, top), "Sample", 255, font, stroke_width=_FINER // 2)
    turned = image.rotate(degrees, resample=Image.Resampling.BICUBIC)
    return turned.crop((side // 2, side // 2, side // 2 + side, side // 2 + side))


def draw_date(kind: str, rng: random.Random) -> tuple[Floats, Floats]:
    """The same of a date that is drawn anew each time: ``orange``, ``yellow``, ``white``.

    Orange ones have seven segments, the others a font.
    """
    side = SIZE_PX * _FINER
    image = Image.new("L", (side, side))
    day, month = rng.randint(1, 28), rng.randint(1, 12)
    if kind == "orange":
        ink = draw_segments(f"{rng.randint(90, 99)} {month:2d} {day:2d}", 16 * _FINER)
        image.paste(ink, (205 * _FINER, 288 * _FINER))
    else:
        text = f"{rng.randint(2001, 2012)}/{month:02d}/{day:02d}"
        font = ImageFont.load_default(20 * _FINER)
        ImageDraw.Draw(image).text((200 * _FINER, 285 * _FINER), text, 255, font)
    alpha = image.resize((SIZE_PX, SIZE_PX), Image.Resampling.BOX)
    flat = np.broadcast_to(np.array(DATE_COLORS[kind], np.float32) / 255, (SIZE_PX, SIZE_PX, 3))
    return np.asarray(alpha, np.float32) / 255, flat.copy()


def draw_segments(text: str, height: int, step: int | None = None) -> Image.Image:
    """Ink of digits and spaces of seven segments, 255 on 0, as high as told, not anti-aliased.

    Places are ``step`` apart, four fifths of the height without it.
    """
    wide, thick = round(0.56 * height), round(0.13 * height)
    step = round(0.8 * height) if step is None else step
    image = Image.new("L", (step * len(text), height))
    pen = ImageDraw.Draw(image)
    middle = (height - thick) // 2
    bars = {
        "a": (0, 0, wide, thick), "g": (0, middle, wide, middle + thick),
        "d": (0, height - thick, wide, height), "f": (0, 0, thick, height // 2),
        "b": (wide - thick, 0, wide, height // 2), "e": (0, height // 2, thick, height),
        "c": (wide - thick, height // 2, wide, height),
    }  # fmt: skip
    for number, digit in enumerate(text):
        x = number * step
        for segment in _SEGMENTS[digit]:
            left, top, right, bottom = bars[segment]
            pen.rectangle((x + left, top, x + right, bottom), 255)
    return image


def move(layer: Floats, rows: int, columns: int, scale: float) -> Floats:
    """A layer (320, 320, ...) shifted by whole pixels, then scaled to ``320 scale`` pixels."""
    moved = np.roll(layer, (rows, columns), (0, 1))
    if scale == 1:
        return moved
    side = round(SIZE_PX * scale)
    return np.asarray(cv2.resize(moved, (side, side), interpolation=cv2.INTER_AREA), np.float32)
