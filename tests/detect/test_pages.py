"""What is no photograph: text pages, drawings and screenshots are told from photographs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from restorepix.detect.pages import judge_picture
from restorepix.tiles import Box


def judge(image: np.ndarray) -> str | None:
    rgb = image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)
    floats = rgb.astype(np.float32) / 255

    def read(box: Box) -> np.ndarray:
        return floats[box.slices()]

    return judge_picture(read, rgb.shape[:2])


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


def test_a_page_of_text_is_one() -> None:
    for page in (draw_page(), draw_page(0), draw_page(8, (205, 190, 160))):
        verdict = judge(page)
        assert verdict is not None and "page of text" in verdict


def test_drawings_and_screenshots_are_recognised() -> None:
    for picture in (draw_drawing(), draw_screenshot()):
        verdict = judge(picture)
        assert verdict is not None and "drawing" in verdict or "page" in str(verdict)


@pytest.mark.parametrize("name", ["astronaut", "camera", "coffee", "chelsea", "rocket", "brick",
                                  "grass", "gravel", "moon"])  # fmt: skip
def test_photographs_are_photographs(name: str) -> None:
    try:
        image = getattr(data, name)()
    except (OSError, ConnectionError, ModuleNotFoundError) as error:
        pytest.skip(f"not in the wheel: {error}")
    assert judge(image) is None


def test_a_bright_sky_and_a_white_studio_are_photographs() -> None:
    image = data.astronaut()
    white = np.full((900, 900, 3), 255, np.uint8)
    white[194:706, 194:706] = image
    assert judge(white) is None
    sky = np.full((900, 900, 3), 255, np.uint8)
    sky[388:] = cv2.resize(image, (900, 512))
    assert judge(sky) is None


def test_tiny_and_one_colour_pictures_are_not_judged() -> None:
    assert judge(np.zeros((3, 3, 3), np.uint8)) is None
    grey = np.full((300, 300, 3), 128, np.uint8)
    assert judge(grey) is None or "drawing" in str(judge(grey))
