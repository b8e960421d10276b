"""The class ``text``: captions, dates and handwriting laid over a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from training.damage import Color, Floats, blur, draw_seven_segment, jitter_color, to_alpha
from training.synthesis.canvas import Canvas, pick
from training.synthesis.fonts import Font, load_font, pick_font, write_words

_INKS: tuple[tuple[float, Color], ...] = (
    (0.34, (255, 255, 255)),
    (0.2, (12, 12, 14)),
    (0.1, (250, 225, 60)),
    (0.08, (35, 45, 120)),
    (0.08, (200, 30, 30)),
    (0.05, (60, 60, 60)),
    (0.05, (255, 140, 30)),
    (0.05, (60, 200, 90)),
    (0.05, (245, 235, 205)),
)


def draw_line(
    text: str, size_px: int, font: Path | None, stroke_px: int = 0, slant: float = 0.0
) -> Floats:
    """One line of text on its own small canvas, ink 1: (h, w) float32, cropped to the ink.

    Empty (0, 0) when the font draws nothing.
    """
    loaded = load_font(font, size_px)
    left, top, right, bottom = loaded.getbbox(text, stroke_width=stroke_px)
    width, height = math.ceil(right - left) + 2, math.ceil(bottom - top) + 2
    if width * height > 4_000_000 or width <= 2 or height <= 2:
        return np.zeros((0, 0), np.float32)
    canvas = Image.new("L", (width, height))
    at = (1 - left, 1 - top)
    ImageDraw.Draw(canvas).text(at, text, fill=255, font=loaded, stroke_width=stroke_px)
    alpha = to_alpha(canvas)
    if slant:
        shear = np.array([[1, -slant, max(0.0, slant) * height], [0, 1, 0]], np.float32)
        size = (width + int(abs(slant) * height) + 1, height)
        alpha = np.asarray(cv2.warpAffine(alpha, shear, size), np.float32)
    return alpha


def place_layer(
    layer: Floats, height: int, width: int, center: tuple[float, float], angle: float,
    scale: float = 1.0, tilt: tuple[float, float] = (0.0, 0.0),
) -> Floats:  # fmt: skip
    """A small canvas turned, scaled, tilted in perspective, and put on a large empty one.

    Args:
        layer: (h, w) float32.
        height: rows of the result.
        width: columns of the result.
        center: (x, y) where the middle of the layer goes.
        angle: degrees, against the clock.
        scale: enlargement.
        tilt: relative shrinking of the right and of the lower side.

    Returns:
        (height, width) float32.
    """
    tall, wide = layer.shape
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    corners = np.array([[-wide, -tall], [wide, -tall], [wide, tall], [-wide, tall]]) * scale / 2
    corners[1:3, 1] *= 1 - tilt[0]
    corners[2:4, 0] *= 1 - tilt[1]
    turned = corners @ np.array([[cosine, -sine], [sine, cosine]]) + center
    source = np.array([[0, 0], [wide, 0], [wide, tall], [0, tall]], np.float32)
    matrix = cv2.getPerspectiveTransform(source, turned.astype(np.float32))
    return np.asarray(cv2.warpPerspective(layer, matrix, (width, height)), np.float32)


def _ink(canvas: Canvas) -> Color:
    odds = [odd for odd, _ in _INKS]
    index = int(canvas.rng.choice(len(odds), p=np.array(odds) / sum(odds)))
    return jitter_color(_INKS[index][1], canvas.rng, 8)


def paint_caption(canvas: Canvas, fonts: Sequence[Font]) -> None:
    """One to three lines of writing with an outline, a shadow, a glow or a bar, or plain."""
    rng = canvas.rng
    height, width = canvas.size
    font, script = pick_font(rng, fonts)
    size = int(np.exp(rng.uniform(math.log(8), math.log(max(14, height * 0.35)))))
    center = rng.uniform((-0.1, -0.02), (1.1, 1.02)) * (width, height)
    angle = 0.0 if rng.random() < 0.65 else float(rng.normal(0, 10))
    if rng.random() < 0.06:
        angle = float(rng.choice([90, -90]))
    tilt = (0.0, 0.0) if rng.random() < 0.85 else tuple(rng.uniform(0, 0.25, 2))
    ink, opacity = _ink(canvas), float(rng.uniform(0.65, 1)) if rng.random() < 0.4 else 1.0
    stroke = max(1, size // 12)
    style = pick(rng, {"plain": 0.5, "outline": 0.22, "shadow": 0.15, "glow": 0.05, "bar": 0.08})
    fills = np.zeros((height, width), np.float32)
    edges = np.zeros((height, width), np.float32)
    for row in range(int(rng.choice([1, 1, 1, 2, 3]))):
        text = write_words(rng, script, int(rng.integers(4, 40)))
        slant = float(rng.uniform(-0.1, 0.3)) if rng.random() < 0.1 else 0.0
        fill = draw_line(text, size, font, 0, slant)
        if not fill.size:
            return
        at = (center[0], center[1] + 1.25 * size * row)
        fills = np.maximum(fills, place_layer(fill, height, width, at, angle, 1, tilt))
        if style == "outline":
            edge = draw_line(text, size, font, stroke, slant)
            edges = np.maximum(edges, place_layer(edge, height, width, at, angle, 1, tilt))
    if style == "bar" and fills.max() > 0.3:
        rows, columns = np.nonzero(fills > 0.3)
        bar = np.zeros((height, width), np.float32)
        pad = max(2, size // 4)
        top, left = max(0, rows.min() - pad), max(0, columns.min() - pad)
        bar[top : rows.max() + pad, left : columns.max() + pad] = 1
        dark: Color = (10, 10, 10) if sum(ink) > 380 else (245, 245, 245)
        canvas.paint("text", bar, dark, "replace", rng.uniform(0.3, 0.9), halo=True)
    if style == "outline":
        dark = (10, 10, 12) if sum(ink) > 380 else (250, 250, 250)
        canvas.paint("text", edges, dark, "replace", opacity)
    elif style == "shadow":
        away = rng.uniform(0.5, 1.5, 2) * max(1, size / 14)
        moved = np.float32([[1, 0, away[0]], [0, 1, away[1]]])
        shadow = cv2.warpAffine(fills, moved, (width, height))
        soft = blur(np.asarray(shadow, np.float32), max(0.5, size / 20))
        canvas.paint("text", soft, (8, 8, 8), "multiply", 0.8, halo=True)
    elif style == "glow":
        glow = np.clip(2 * blur(fills, max(1, size / 8)), 0, 1).astype(np.float32)
        canvas.paint("text", glow, _ink(canvas), "screen", 0.6, halo=True)
    canvas.paint("text", fills, ink, "replace", opacity)


def paint_handwriting(canvas: Canvas) -> None:
    """A scribbled line: connected loops of a pen, as a signature or a note."""
    rng = canvas.rng
    height, width = canvas.size
    size = rng.uniform(5, max(10, height * 0.12))
    steps = int(rng.integers(30, 160))
    phase = np.cumsum(rng.uniform(0.3, 0.9, steps))
    wobble = np.convolve(rng.normal(0, 1, steps + 4), np.ones(5) / 2.2, "valid")
    x = np.cumsum(rng.uniform(0.05, 0.22, steps)) * size + 0.35 * size * np.cos(phase)
    y = size * (0.5 * np.sin(phase) * (1 + 0.6 * wobble) + 0.15 * wobble)
    points = np.stack([x, y], 1)
    turn = math.radians(float(rng.normal(-3, 8)))
    points = points @ np.array([[math.cos(turn), math.sin(turn)],
                                [-math.sin(turn), math.cos(turn)]])  # fmt: skip
    points += rng.uniform((-0.3, 0.05), (0.7, 0.95)) * (width, height)
    large = np.zeros((2 * height, 2 * width), np.uint8)
    wide = max(1, int(rng.uniform(1.5, 6)))
    gaps = [0, *sorted(rng.integers(1, steps, int(rng.integers(0, 5))).tolist()), steps]
    for start, stop in zip(gaps, gaps[1:], strict=False):
        part = np.rint(points[start : stop - 1] * 16).astype(np.int32)
        if len(part) > 2:
            cv2.polylines(large, [part], False, 255, wide, cv2.LINE_AA, 3)
    small = cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA)
    shape = np.minimum(to_alpha(np.asarray(small, np.uint8)) * 1.4, 1)
    inks: tuple[Color, ...] = ((30, 40, 110), (15, 15, 18), (250, 250, 250), (160, 30, 30))
    color = jitter_color(inks[int(rng.integers(len(inks)))], rng, 12)
    canvas.paint("text", np.asarray(shape, np.float32), color, "replace", rng.uniform(0.65, 1))


def paint_date(canvas: Canvas, fonts: Sequence[Font]) -> None:
    """A date as a camera exposes it: seven-segment or printed digits, orange, yellow or white."""
    rng = canvas.rng
    height, width = canvas.size
    year, month, day = (int(v) for v in rng.integers((0, 1, 1), (100, 13, 32)))
    forms = (f"'{year:02d} {month:2d} {day:2d}", f"{day:2d} {month:2d} '{year:02d}",
             f"{month:2d} {day:2d} '{year:02d}", f"{day:2d} {month:2d} {year:02d}")  # fmt: skip
    text = forms[int(rng.integers(len(forms)))]
    size = max(5, int(np.exp(rng.uniform(math.log(6), math.log(max(9, height * 0.16))))))
    if rng.random() < 0.65:
        digits = draw_seven_segment(text, size)
    else:
        font, _ = pick_font(rng, [font for font in fonts if "latin" in font.scripts])
        form = f"{2000 + year % 30}/{month:02d}/{day:02d}"
        digits = draw_line(form, size, font)
        if not digits.size:
            return
    half_wide, half_tall = digits.shape[1] / 2, digits.shape[0] / 2
    if rng.random() < 0.7:  # lower right, as most cameras do
        center = (width - half_wide - rng.uniform(0, 0.12) * width,
                  height - half_tall - rng.uniform(0.02, 0.14) * height)  # fmt: skip
    else:
        center = tuple(rng.uniform((0, 0), (width, height)))
    angle = 0.0 if rng.random() < 0.85 else float(rng.choice([90, -90]))
    core = place_layer(digits, height, width, center, angle)
    looks: tuple[tuple[Color, Color], ...] = (
        ((255, 165, 50), (255, 70, 5)), ((255, 120, 40), (255, 40, 0)),
        ((255, 230, 80), (255, 190, 20)), ((255, 255, 255), (250, 250, 250)),
        ((120, 255, 120), (20, 220, 60)), ((255, 60, 50), (230, 10, 10)),
    )  # fmt: skip
    color, glow_color = looks[int(rng.choice(6, p=[0.38, 0.2, 0.16, 0.13, 0.04, 0.09]))]
    core = np.asarray(np.clip(1.2 * blur(core, rng.uniform(0.3, 0.9)), 0, 1), np.float32)
    if rng.random() < 0.75:
        glow = np.minimum(1.6 * blur(core, max(1.0, size / 8)), 1).astype(np.float32)
        canvas.paint("text", glow, glow_color, "screen", rng.uniform(0.2, 0.7), halo=True)
    mode = "screen" if rng.random() < 0.3 else "replace"
    canvas.paint("text", core, jitter_color(color, rng, 8), mode, rng.uniform(0.8, 1))


def paint_text(canvas: Canvas, fonts: Sequence[Font]) -> str:
    """Lay one kind of writing over a canvas; returns which."""
    kind = pick(canvas.rng, {"caption": 0.68, "date": 0.2, "handwriting": 0.12})
    if kind == "caption":
        paint_caption(canvas, fonts)
    elif kind == "date":
        paint_date(canvas, fonts)
    else:
        paint_handwriting(canvas)
    return kind
