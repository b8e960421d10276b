"""Infrared planes: dust is found whatever the frame's level; silver film is recognised."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from detect.scenes import draw_dust, draw_plane, draw_scene

from restorepix.detect.infrared import find_infrared, find_infrared_page, read_plane
from restorepix.photo import Page, Photo


@pytest.mark.parametrize("level", [3000, 20000, 60000])
@pytest.mark.parametrize("leak", [0.0, 0.05, 0.15])
def test_dust_is_found_at_any_exposure(level: float, leak: float) -> None:
    mask, note = find_infrared(draw_plane(level, leak), draw_scene())
    assert mask is not None and not note
    truth = draw_dust() > 0
    near = cv2.dilate(truth.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert (mask & truth).sum() >= 0.9 * truth.sum()
    assert (mask & ~near).sum() <= 0.001 * mask.size


def test_silver_film_is_recognised_and_not_used() -> None:
    scene = draw_scene()
    plane = (40000 * scene**0.8).astype(np.uint16)
    mask, note = find_infrared(plane, scene)
    assert mask is None and "silver" in note


def test_an_empty_plane_is_not_used() -> None:
    for level in (0, 500):
        mask, note = find_infrared(np.full((40, 50), level, np.uint16), draw_scene(size=(40, 50)))
        assert mask is None and "empty" in note


def test_a_clean_frame_has_no_dust() -> None:
    rng = np.random.default_rng(3)
    plane = (30000 + rng.normal(0, 120, (240, 320))).astype(np.uint16)
    mask, _ = find_infrared(plane, draw_scene())
    assert mask is not None and mask.mean() < 0.0005


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="infrared"):
        find_infrared(np.zeros((4, 4)), np.zeros((4, 5), np.float32))


def make_photo(*pages: Page) -> Photo:
    return Photo("tiff", pages, 1, b"")


def test_the_second_grey_page_of_a_colour_scan_is_the_plane() -> None:
    color = Page(np.zeros((8, 9, 3), np.uint16), "rgb")
    grey = Page(np.zeros((8, 9, 1), np.uint16), "grey")
    assert find_infrared_page(make_photo(color, grey)) == 1
    assert find_infrared_page(make_photo(color)) is None
    assert find_infrared_page(make_photo(grey, grey)) is None
    assert find_infrared_page(make_photo(color, grey, grey)) is None
    other = Page(np.zeros((4, 4, 1), np.uint16), "grey")
    assert find_infrared_page(make_photo(color, other)) is None
    assert read_plane(grey).shape == read_plane(color).shape == (8, 9)
