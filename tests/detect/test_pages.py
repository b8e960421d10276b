"""What is no photograph: text pages, drawings and screenshots are told from photographs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from detect.scenes import draw_drawing, draw_page, draw_screenshot
from skimage import data

from restorepix.detect.pages import judge_picture
from restorepix.tiles import Box


def judge(image: np.ndarray) -> str | None:
    rgb = image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)
    floats = rgb.astype(np.float32) / 255

    def read(box: Box) -> np.ndarray:
        return floats[box.slices()]

    return judge_picture(read, rgb.shape[:2])


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
