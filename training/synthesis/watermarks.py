"""The class ``watermark``: marks that let the picture through, opacity 0.15 to 0.6."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from training.damage import Color, Floats, blur
from training.masks import draw_logo
from training.synthesis.canvas import Canvas, pick
from training.synthesis.fonts import Font, pick_font, write_words
from training.synthesis.text import draw_line, place_layer

OPACITY = (0.15, 0.6)
"""Range of strengths, also that of the benchmark."""


def draw_logo_mark(rng: np.random.Generator, size_px: int, fonts: Sequence[Font]) -> Floats:
    """A made-up logo: rings, polygons, stars, letters; (size_px, size_px) float32 in [0, 1]."""
    fine = 2
    side = size_px * fine
    canvas = np.zeros((side, side), np.uint8)
    middle = side // 2
    for _ in range(int(rng.integers(1, 4))):
        radius = int(side * rng.uniform(0.15, 0.47))
        line = -1 if rng.random() < 0.35 else max(2, int(side * rng.uniform(0.02, 0.09)))
        shade = 255 if rng.random() < 0.8 else 0
        kind = pick(rng, {"circle": 3, "polygon": 2, "star": 2, "blob": 1, "waves": 1})
        if kind == "circle":
            cv2.circle(canvas, (middle, middle), radius, shade, line, cv2.LINE_AA)
        elif kind == "blob":
            canvas[draw_logo(side, side, rng, radius) > 0] = shade
        elif kind == "waves":
            for row in range(3):
                x = np.arange(0, side, 4)
                y = middle + row * side * 0.12 + side * 0.06 * np.sin(x / side * 12)
                points = np.rint(np.stack([x, y], 1)).astype(np.int32)
                cv2.polylines(canvas, [points], False, 255, max(2, side // 24), cv2.LINE_AA)
        else:
            corners = int(rng.integers(3, 8))
            angles = np.arange(corners * 2) * math.pi / corners + rng.uniform(0, 6)
            reach = np.where(np.arange(corners * 2) % 2 == 0, 1.0, 0.45 if kind == "star" else 1.0)
            points = np.stack([np.cos(angles), np.sin(angles)], 1) * (radius * reach)[:, None]
            outline = np.rint(points + middle).astype(np.int32)
            if line < 0:
                cv2.fillPoly(canvas, [outline], shade, cv2.LINE_AA)
            else:
                cv2.polylines(canvas, [outline], True, shade, line, cv2.LINE_AA)
    small = cv2.resize(canvas, (size_px, size_px), interpolation=cv2.INTER_AREA)
    alpha = np.asarray(small, np.float32) / 255
    if rng.random() < 0.5:
        font, script = pick_font(rng, fonts)
        words = draw_line(write_words(rng, script, 14), max(8, int(size_px * 0.2)), font)
        if words.size:
            scale = min(1.0, 0.95 * size_px / words.shape[1])
            at = (size_px / 2, size_px * rng.uniform(0.5, 0.88))
            alpha = np.maximum(alpha, place_layer(words, size_px, size_px, at, 0, scale))
    return np.asarray(alpha, np.float32)


def _draw_words(rng: np.random.Generator, fonts: Sequence[Font], size_px: int) -> Floats:
    font, script = pick_font(rng, fonts)
    outline = size_px > 18 and rng.random() < 0.25
    text = write_words(rng, script, int(rng.integers(5, 22)))
    if script == "latin" and rng.random() < 0.3:
        text = str(rng.choice(["SAMPLE", "PREVIEW", "PROOF", "DRAFT", "COPYRIGHT", "stock photo"]))
    layer = draw_line(text, size_px, font, max(1, size_px // 14) if outline else 0)
    if outline and layer.size:  # letters drawn as contours
        inner = cv2.erode(layer, np.ones((3, 3), np.uint8), iterations=max(1, size_px // 16))
        layer = np.clip(layer - np.asarray(inner, np.float32), 0, 1)
    return np.asarray(layer, np.float32)


def _tile(layer: Floats, height: int, width: int, rng: np.random.Generator, angle: float) -> Floats:
    """A layer repeated over a turned grid, every second row shifted."""
    side = int(math.hypot(height, width)) + 2
    gap_x = layer.shape[1] * rng.uniform(1.15, 2.2) + 4
    gap_y = layer.shape[0] * rng.uniform(1.5, 4) + 6
    grid = np.zeros((side, side), np.float32)
    tall, wide = layer.shape
    for row, top in enumerate(np.arange(-tall, side, gap_y)):
        for left in np.arange(-wide + (row % 2) * gap_x / 2, side, gap_x):
            y, x = int(top), int(left)
            rows = slice(max(0, y), min(side, y + tall))
            columns = slice(max(0, x), min(side, x + wide))
            part = layer[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
            if part.size:
                grid[rows, columns] = np.maximum(grid[rows, columns], part)
    return place_layer(grid, height, width, (width / 2, height / 2), angle)


def paint_watermark(
    canvas: Canvas, fonts: Sequence[Font], opacity: tuple[float, float] = OPACITY
) -> str:
    """Lay one watermark over a canvas; returns its kind."""
    rng = canvas.rng
    height, width = canvas.size
    kind = pick(rng, {"tiled": 0.3, "words": 0.25, "logo": 0.2, "badge": 0.17, "cross": 0.08})
    angle = float(rng.uniform(15, 45)) * rng.choice([-1, 1]) if rng.random() < 0.6 else 0.0
    if kind == "tiled":
        size = int(rng.integers(8, max(12, height // 5)))
        if rng.random() < 0.75:
            layer = _draw_words(rng, fonts, size)
        else:
            layer = draw_logo_mark(rng, max(12, 2 * size), fonts)
        if not layer.size:
            return kind
        alpha = _tile(layer, height, width, rng, angle)
    elif kind == "words":
        size = int(rng.integers(14, max(18, int(height * 0.5))))
        layer = _draw_words(rng, fonts, size)
        if not layer.size:
            return kind
        at = rng.uniform((0.2, 0.2), (0.8, 0.8)) * (width, height)
        alpha = place_layer(layer, height, width, tuple(at), angle)
    elif kind == "cross":
        alpha = _draw_cross(height, width, rng)
    else:
        small = kind == "badge"
        size = int(min(height, width) * (rng.uniform(0.1, 0.3) if small else rng.uniform(0.3, 1)))
        layer = draw_logo_mark(rng, max(12, size), fonts)
        at = (rng.choice([0.12, 0.88], 2) if small else rng.uniform(0.2, 0.8, 2)) * (width, height)
        alpha = place_layer(layer, height, width, tuple(at), 0.0 if small else angle * 0.3)
    strength = float(rng.uniform(*opacity))
    if rng.random() < 0.12 and kind != "cross":
        _emboss(canvas, alpha, strength)
        return kind
    color: Color = (255, 255, 255)
    dice = rng.random()
    if dice < 0.18:
        color = (0, 0, 0)
    elif dice < 0.3:
        color = tuple(rng.uniform(0, 255, 3))
    if rng.random() < 0.15:
        alpha = blur(alpha, rng.uniform(0.4, 1.2))
    if rng.random() < 0.12:
        edge = np.clip(blur(alpha, 1.5) * 1.5 - alpha, 0, 1)
        shade: Color = (0, 0, 0) if sum(color) > 380 else (255, 255, 255)
        canvas.paint("watermark", np.asarray(edge, np.float32), shade, "replace", strength * 0.6,
                     halo=True)  # fmt: skip
    canvas.paint("watermark", alpha, color, "replace", strength)
    return kind


def _draw_cross(height: int, width: int, rng: np.random.Generator) -> Floats:
    """The diagonals, or a grid of diagonals, that picture agencies lay over previews."""
    lines: npt.NDArray[np.uint8] = np.zeros((height * 2, width * 2), np.uint8)
    wide = int(rng.integers(1, 7))
    if rng.random() < 0.5:
        cv2.line(lines, (0, 0), (2 * width, 2 * height), 255, wide, cv2.LINE_AA)
        cv2.line(lines, (2 * width, 0), (0, 2 * height), 255, wide, cv2.LINE_AA)
    else:
        gap = int(rng.integers(40, 160))
        for start in range(-2 * height, 2 * width + 2 * height, gap):
            cv2.line(lines, (start, 0), (start + 2 * height, 2 * height), 255, wide, cv2.LINE_AA)
            cv2.line(lines, (start, 2 * height), (start + 2 * height, 0), 255, wide, cv2.LINE_AA)
    small = cv2.resize(lines, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(np.minimum(np.asarray(small, np.float32) * (1.3 / 255), 1), np.float32)


def _emboss(canvas: Canvas, alpha: Floats, strength: float) -> None:
    """Raised letters: light from one side, shade on the other, nothing between."""
    shift = np.float32([[1, 0, 1.2], [0, 1, 1.2]])
    size = (alpha.shape[1], alpha.shape[0])
    moved = np.asarray(cv2.warpAffine(alpha, shift, size), np.float32)
    light, shade = np.clip(alpha - moved, 0, 1), np.clip(moved - alpha, 0, 1)
    opacity = min(1.0, strength + 0.25)
    canvas.paint("watermark", np.asarray(light, np.float32), (255, 255, 255), "replace", opacity)
    canvas.paint("watermark", np.asarray(shade, np.float32), (0, 0, 0), "replace", opacity)
