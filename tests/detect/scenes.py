"""Pictures that the tests of detection draw."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont


def draw_scene(seed: int = 0, size: tuple[int, int] = (240, 320)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.random((6, 8), np.float32)
    smooth = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth, 0.05, 1).astype(np.float32)


def draw_dust(size: tuple[int, int] = (240, 320)) -> np.ndarray:
    dust = np.zeros(size, np.uint8)
    cv2.line(dust, (20, 30), (200, 180), 1, 2)
    cv2.circle(dust, (250, 60), 4, 1, -1)
    return dust


def draw_plane(level: float, leak: float = 0.05, seed: int = 0) -> np.ndarray:
    """Infrared of a colour film: even light, a trace of the picture, noise, dark dust."""
    rng = np.random.default_rng(seed + 1)
    light = level * draw_scene(seed) ** leak * np.where(draw_dust() > 0, 0.4, 1.0)
    return np.clip(light + rng.normal(0, 0.004 * level, light.shape), 0, 65535).astype(np.uint16)


def draw_page(noise: float = 4, tint: tuple[int, int, int] = (240, 236, 225)) -> np.ndarray:
    page = Image.new("RGB", (800, 1100), tint)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(16)
    for row in range(40):
        words = f"line {row} of a letter that somebody wrote on an old machine in 1938, page two"
        pen.text((70, 60 + 24 * row), words, fill=(40, 38, 36), font=font)
    grain = np.random.default_rng(0).normal(0, noise, (1100, 800, 1))
    return np.clip(np.asarray(page, np.float32) + grain, 0, 255).astype(np.uint8)


def draw_drawing() -> np.ndarray:
    sheet = np.full((700, 900, 3), 250, np.uint8)
    rng = np.random.default_rng(1)
    for _ in range(14):
        points = rng.integers((0, 0), (900, 700), (6, 2)).astype(np.int32)
        cv2.polylines(sheet, [points], False, (20, 20, 20), 2, cv2.LINE_AA)
    return sheet


def draw_screenshot() -> np.ndarray:
    screen = np.full((720, 1280, 3), 30, np.uint8)
    screen[:40] = (60, 60, 70)
    screen[60:700, 20:300] = (45, 45, 52)
    for row in range(24):
        cv2.putText(screen, f"item {row}: value", (330, 90 + 25 * row), 0, 0.6, (200, 220, 200), 1)
    return screen
