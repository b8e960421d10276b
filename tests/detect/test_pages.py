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


def test_a_crumpled_page_in_uneven_light_is_one() -> None:
    verdict = judge(data.page())
    assert verdict is not None and "page of text" in verdict
    page = draw_page()
    rows, columns = np.mgrid[0 : page.shape[0], 0 : page.shape[1]].astype(np.float32)
    folds = 0.72 + 0.2 * np.sin(rows / 90) * np.cos(columns / 70) - 0.3 * columns / page.shape[1]
    dim = np.clip(page * folds[..., None], 0, 255).astype(np.uint8)
    assert "page of text" in str(judge(dim))


def test_leaves_and_pebbles_are_no_letters() -> None:
    rng = np.random.default_rng(0)
    ground = np.full((600, 600, 3), 200, np.float32)
    for _ in range(900):
        at = tuple(int(v) for v in rng.integers(0, 600, 2))
        tone = float(rng.uniform(40, 190))
        size = tuple(int(v) for v in rng.integers(3, 12, 2))
        cv2.ellipse(ground, at, size, float(rng.uniform(0, 180)), 0, 360, (tone, tone, tone), -1)
    image = np.clip(cv2.GaussianBlur(ground, (0, 0), 1) + rng.normal(0, 4, ground.shape), 0, 255)
    assert judge(image.astype(np.uint8)) is None


def test_drawings_and_screenshots_are_recognised() -> None:
    for picture in (draw_drawing(), draw_screenshot()):
        verdict = judge(picture)
        assert verdict is not None and "drawing" in verdict or "page" in str(verdict)


@pytest.mark.parametrize("name", ["astronaut", "camera", "coffee", "chelsea", "rocket", "brick",
                                  "grass", "gravel", "moon", "coins", "immunohistochemistry",
                                  "hubble_deep_field"])  # fmt: skip
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
