from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restorepix.color import fit_curve, page_to_bytes, page_to_rgb, rgb_to_native
from restorepix.photo import Page
from restorepix.tiles import Box

CHANNELS = {"grey": 1, "rgb": 3, "cmyk": 4}


def make_page(color, dtype, height=24, width=31, seed=0):
    """Return a page of ordinary brightness."""
    rng = np.random.default_rng(seed)
    samples = rng.random((height, width, CHANNELS[color])) ** 0.7
    if dtype == np.float32:
        return Page(samples.astype(np.float32), color)
    return Page(np.rint(samples * np.iinfo(dtype).max).astype(dtype), color)


def whole(page):
    return Box(0, 0, page.height, page.width)


def linear_profile(kind=b"curv\0\0\0\0\0\0\0\0"):
    """Return the skeleton of an ICC profile with one tone curve."""
    return b"\0" * 128 + struct.pack(">I4sII", 1, b"rTRC", 144, len(kind)) + kind.ljust(16, b"\0")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("color", CHANNELS)
def test_shape_range_and_layout(color, dtype):
    page = make_page(color, dtype)
    shown = page_to_rgb(page, Box(3, 5, 10, 20))
    assert shown.shape == (10, 20, 3)
    assert shown.dtype == np.float32
    assert shown.flags.c_contiguous
    assert 0 <= shown.min() < shown.max() <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("color", ["grey", "rgb"])
def test_integers_are_scaled_and_come_back_exactly(color, dtype):
    page = make_page(color, dtype)
    shown = page_to_rgb(page, whole(page))
    expected = page.pixels.astype(np.float32) / np.iinfo(dtype).max
    np.testing.assert_allclose(shown, np.broadcast_to(expected, shown.shape), atol=1e-7)
    back = rgb_to_native(page, whole(page), shown, np.ones(shown.shape[:2], bool))
    np.testing.assert_array_equal(back, page.pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("color", CHANNELS)
def test_bytes_are_what_is_seen_or_nothing(color, dtype):
    page = make_page(color, dtype)
    levels = page_to_bytes(page, Box(3, 5, 10, 20))
    assert (levels is not None) == (dtype == np.uint8 and color != "cmyk")
    if levels is not None:
        assert levels.dtype == np.uint8
        np.testing.assert_array_equal(levels, page_to_rgb(page, Box(3, 5, 10, 20)) * 255)


@settings(max_examples=60, deadline=None)
@given(
    color=st.sampled_from(sorted(CHANNELS)),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    top=st.integers(0, 10),
    left=st.integers(0, 10),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    share=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_known_samples_are_copied_bit_for_bit(color, dtype, top, left, height, width, share, seed):
    rng = np.random.default_rng(seed)
    page = make_page(color, dtype, seed=seed)
    if dtype == np.float32:
        page.pixels[rng.random(page.pixels.shape) < 0.05] = np.nan
        page.pixels[0, 0] = (-0.0, np.inf, -np.inf, 7.5)[: page.pixels.shape[2]]
    before = page.pixels.tobytes()
    box = Box(top, left, height, width)
    hole = rng.random((height, width)) < share
    native = rgb_to_native(page, box, rng.random((height, width, 3)).astype(np.float32), hole)
    part = page.pixels[top : top + height, left : left + width]
    assert native.dtype == dtype
    assert native.shape == part.shape
    assert native[~hole].tobytes() == part[~hole].tobytes()
    assert np.isfinite(native[hole]).all()
    assert page.pixels.tobytes() == before


def test_known_answer_may_be_anything_but_hole_is_clipped():
    page = make_page("rgb", np.uint8, 1, 3)
    answer = np.array([[[np.nan] * 3, [-1, 0.5, 2], [np.inf] * 3]], np.float32)
    native = rgb_to_native(page, whole(page), answer, np.array([[False, True, False]]))
    assert native[0, 1].tolist() == [0, 128, 255]


def test_grey_is_the_mean_of_the_answer():
    page = make_page("grey", np.uint16, 1, 1)
    answer = np.array([[[0.1, 0.2, 0.45]]], np.float32)
    assert rgb_to_native(page, whole(page), answer, np.ones((1, 1), bool)) == 16384


def test_sixteen_bit_gradients_have_no_bands():
    page = Page(np.full((1, 4096, 3), 30000, np.uint16), "rgb")
    ramp = np.linspace(0.5, 0.6, 4096, dtype=np.float32)[None, :, None].repeat(3, axis=2)
    native = rgb_to_native(page, whole(page), ramp, np.ones((1, 4096), bool))
    steps = np.diff(native[0, :, 0].astype(int))
    assert steps.min() >= 1
    assert steps.max() <= 2


@pytest.mark.parametrize("top", [1.0, 40.0, 9000.0])
def test_linear_light_is_shown_at_ordinary_brightness_and_comes_back(top):
    rng = np.random.default_rng(2)
    light = (rng.random((40, 50, 3)) ** 6 * top).astype(np.float32)
    page = Page(light, "rgb")
    shown = page_to_rgb(page, whole(page))
    assert 0.3 < np.median(shown) < 0.5
    back = rgb_to_native(page, whole(page), shown, np.ones((40, 50), bool))
    np.testing.assert_allclose(back, light, rtol=2e-4, atol=2e-6 * top)
    assert back.max() > 0.9 * top


def test_ordinary_float_pages_are_shown_as_they_are():
    page = make_page("rgb", np.float32)
    np.testing.assert_allclose(page_to_rgb(page, whole(page)), page.pixels, atol=1e-6)


def test_float_pages_in_other_units_keep_their_range():
    page = Page(make_page("rgb", np.float32).pixels * 255, "rgb")
    shown = page_to_rgb(page, whole(page))
    assert 0.3 < shown.mean() < 0.7
    back = rgb_to_native(page, whole(page), shown, np.ones(shown.shape[:2], bool))
    np.testing.assert_allclose(back, page.pixels, atol=1e-3)


def test_negative_light_survives():
    page = make_page("rgb", np.float32)
    page.pixels[:4] -= 0.5
    shown = page_to_rgb(page, whole(page))
    back = rgb_to_native(page, whole(page), shown, np.ones(shown.shape[:2], bool))
    np.testing.assert_allclose(back, page.pixels, atol=1e-5)


def test_one_broken_sample_does_not_darken_the_page():
    page = make_page("rgb", np.float32, 200, 200)
    page.pixels[5, 5, 1] = 1e30
    assert np.median(page_to_rgb(page, whole(page))) > 0.15


@pytest.mark.parametrize("value", [0.0, -3.0, np.nan])
def test_flat_float_pages_are_finite(value):
    page = Page(np.full((4, 4, 3), value, np.float32), "rgb")
    assert np.isfinite(page_to_rgb(page, whole(page))).all()


def test_linear_sixteen_bit_gets_a_curve_by_profile_or_by_darkness():
    ordinary = make_page("rgb", np.uint16).pixels
    quarter = ordinary // 4
    assert fit_curve(Page(quarter, "rgb")).strength == 0
    gamma_one = b"curv\0\0\0\0\0\0\0\1\1\0"
    para_one = b"para\0\0\0\0\0\0\0\0\0\1\0\0"
    for curve in (b"curv\0\0\0\0\0\0\0\0", gamma_one, para_one):
        assert fit_curve(Page(quarter, "rgb", icc=linear_profile(curve))).strength > 0
    for curve in (b"curv\0\0\0\0\0\0\0\1\2\x33", b"para\0\0\0\0\0\0\0\0\0\2\x33\x33"):
        assert fit_curve(Page(quarter, "rgb", icc=linear_profile(curve))).strength == 0
    cut_short = linear_profile()[:150]
    assert fit_curve(Page(quarter, "rgb", icc=cut_short)).strength == 0
    dark = Page(ordinary // 40, "rgb")
    assert fit_curve(dark).strength > 0
    shown = page_to_rgb(dark, whole(dark))
    back = rgb_to_native(dark, whole(dark), shown, np.ones(shown.shape[:2], bool))
    assert np.abs(back.astype(int) - dark.pixels).max() <= 1


def test_every_box_of_a_page_shares_one_curve():
    page = Page((np.random.default_rng(0).random((40, 40, 3)) ** 5 * 30).astype(np.float32), "rgb")
    shown = page_to_rgb(page, whole(page))
    np.testing.assert_array_equal(page_to_rgb(page, Box(7, 9, 11, 5)), shown[7:18, 9:14])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "inks", [(0, 0, 0, 0), (0.2, 0.4, 0.1, 0), (0.2, 0.4, 0.1, 0.3), (0.6, 0.5, 0.5, 0.9),
             (0, 0, 0, 1), (0.5, 0.4, 0.3, 1), (1, 1, 1, 0)]
)  # fmt: skip
def test_flat_cmyk_areas_are_separated_like_their_surround(inks, dtype):
    top = np.iinfo(dtype).max
    flat = np.rint(np.array(inks) * top).astype(dtype)
    page = Page(np.broadcast_to(flat, (20, 20, 4)).copy(), "cmyk")
    shown = page_to_rgb(page, whole(page))
    hole = np.zeros((20, 20), bool)
    hole[5:15, 5:15] = True
    native = rgb_to_native(page, whole(page), shown, hole)
    error = np.abs(native.astype(int) - flat.astype(int)).max()
    assert error <= (1 if dtype == np.uint8 else 40)


def test_cmyk_colours_survive_another_black():
    page = make_page("cmyk", np.uint8, 30, 30)
    answer = np.random.default_rng(5).random((30, 30, 3)).astype(np.float32)
    hole = np.zeros((30, 30), bool)
    hole[10:20, 10:20] = True
    repaired = Page(rgb_to_native(page, whole(page), answer, hole), "cmyk")
    again = page_to_rgb(repaired, whole(page))
    assert np.abs(again[hole] - answer[hole]).max() < 1.5 / 255


def test_cmyk_without_any_known_pixel_is_still_right():
    page = make_page("cmyk", np.uint8, 8, 8)
    answer = np.random.default_rng(5).random((8, 8, 3)).astype(np.float32)
    repaired = Page(rgb_to_native(page, whole(page), answer, np.ones((8, 8), bool)), "cmyk")
    assert np.abs(page_to_rgb(repaired, whole(page)) - answer).max() < 1.5 / 255
