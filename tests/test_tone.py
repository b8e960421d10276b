"""Grey and toned photographs get repairs of their own tone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from restorepix import fix_file
from restorepix.tiles import Box
from restorepix.tone import LUMA, keep_tone, measure_tone

SIZE = 96


def make_hole():
    mask = np.zeros((SIZE, SIZE), np.bool_)
    mask[30:66, 20:70] = True
    return mask


def tint(grey, color):
    """A print whose light parts have a colour: (h, w, 3) float32 of (h, w) in [0, 1]."""
    shades = grey[..., None] * np.float32(color) + (1 - grey[..., None]) * 0.05
    return (np.rint(shades * 255) / 255).astype(np.float32)


def keep(image, mask, rgb, boxes=None):
    boxes = boxes or [Box(0, 0, *mask.shape)]
    patches = [(box, rgb[box.slices()].copy()) for box in boxes]
    return keep_tone(lambda box: image[box.slices()], mask, patches)


@pytest.fixture(scope="module")
def grey():
    return data.camera()[100 : 100 + SIZE, 200 : 200 + SIZE].astype(np.float32) / 255


@pytest.fixture(scope="module")
def answer():
    """What a network might say: any colour anywhere."""
    return np.random.default_rng(5).random((SIZE, SIZE, 3), np.float32)


def test_a_grey_picture_is_repaired_in_grey(grey, answer):
    image, mask = np.repeat(grey[..., None], 3, 2), make_hole()
    [(_, kept)] = keep(image, mask, answer)
    np.testing.assert_array_equal(kept[mask][:, 0], kept[mask][:, 1])
    np.testing.assert_array_equal(kept[mask][:, 0], kept[mask][:, 2])
    np.testing.assert_allclose(kept[mask][:, 0], answer[mask] @ (0.299, 0.587, 0.114), atol=1e-6)
    np.testing.assert_array_equal(kept[~mask], answer[~mask])


def test_a_sepia_picture_is_repaired_in_sepia(grey):
    image, mask = tint(grey, (1.0, 0.86, 0.62)), make_hole()
    washed = (image + (image @ LUMA)[..., None].astype(np.float32)) / 2
    [(_, kept)] = keep(image, mask, washed)
    before, after = (np.abs(rgb - image)[mask].max(1) for rgb in (washed, kept))
    assert before.mean() > 0.05
    assert after.mean() < 0.1 * before.mean()


def test_noise_of_a_scan_does_not_hide_the_tone(grey):
    noise = np.random.default_rng(1).normal(0, 3 / 255, (SIZE, SIZE, 3))
    image = np.clip(tint(grey, (1.0, 0.86, 0.62)) + noise, 0, 1).astype(np.float32)
    assert measure_tone(lambda box: image[box.slices()], make_hole()) is not None


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket"])
def test_pictures_in_colour_are_left_as_they_are(name):
    image = getattr(data, name)().astype(np.float32) / 255
    mask = np.zeros(image.shape[:2], np.bool_)
    mask[100:150, 100:150] = True
    answer = np.random.default_rng(5).random(image.shape, np.float32)
    [(_, kept)] = keep(image, mask, answer)
    np.testing.assert_array_equal(kept, answer)


def test_a_print_that_was_coloured_by_hand_is_left_as_it_is(grey, answer):
    image = tint(grey, (1.0, 0.86, 0.62))
    image[4:16, 70:90] *= np.float32((1.0, 0.7, 0.7))  # a cheek
    [(_, kept)] = keep(image, make_hole(), answer)
    np.testing.assert_array_equal(kept, answer)


def test_the_damage_itself_is_no_evidence(grey):
    image, mask = np.repeat(grey[..., None], 3, 2), make_hole()
    image[mask] = (0.0, 0.9, 0.1)
    tone = measure_tone(lambda box: image[box.slices()], mask)
    assert tone is not None
    np.testing.assert_allclose(tone.offsets, 0, atol=1e-15)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_any_size_and_mask_keeps_known_pixels_and_stays_finite(height, width, seed):
    rng = np.random.default_rng(seed)
    image = np.repeat(rng.random((height, width, 1), np.float32), 3, 2)
    image[rng.random((height, width)) < 0.1] = np.nan
    mask = rng.random((height, width)) < rng.random()
    rgb = rng.random((height, width, 3), np.float32)
    left = Box(0, 0, height, width // 2)
    boxes = [box for box in (left, Box(0, width // 2, height, width - width // 2)) if box.width]
    for box, kept in keep(image, mask, rgb, boxes):
        hole = mask[box.slices()]
        np.testing.assert_array_equal(kept[~hole], rgb[box.slices()][~hole])
        assert np.isfinite(kept).all()


def test_a_scan_in_three_equal_channels_keeps_them_equal(grey, tmp_path):
    image = np.repeat((grey * 255).astype(np.uint8)[..., None], 3, 2)
    Image.fromarray(image).save(tmp_path / "scan.png")
    Image.fromarray(make_hole()).save(tmp_path / "mask.png")
    fix_file(tmp_path / "scan.png", tmp_path / "mask.png", tmp_path / "out.png")
    restored = np.asarray(Image.open(tmp_path / "out.png"))
    assert restored.shape == (SIZE, SIZE, 3)
    assert (restored != image).any()
    np.testing.assert_array_equal(restored, restored[..., :1].repeat(3, 2))
