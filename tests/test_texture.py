"""Texture borrowed for wide repairs: where, how much, and from what."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from restorepix.surround import Repaired
from restorepix.texture import add_texture
from restorepix.tiles import Box

SIZE = 160


def make_hole(size=SIZE, radius=28):
    rows, columns = np.mgrid[:size, :size]
    return np.hypot(rows - size // 2, columns - size // 2) < radius


def smooth(image, mask):
    """The picture with what a network would say of a hole in texture: its blur."""
    filled = cv2.GaussianBlur(image, (0, 0), 6)
    return np.where(mask[..., None], filled, image).astype(np.float32)


def add(damaged, filled, mask, boxes=None):
    boxes = boxes or [Box(0, 0, *mask.shape)]
    patches = [(box, filled[box.slices()].copy()) for box in boxes]
    return add_texture(lambda box: damaged[box.slices()], mask, patches)


def fine_energy(image, where):
    return float(np.square(image - cv2.GaussianBlur(image, (0, 0), 2))[where].mean())


@pytest.fixture(scope="module")
def gravel():
    texture = data.gravel()[100 : 100 + SIZE, 100 : 100 + SIZE].astype(np.float32) / 255
    return np.repeat(texture[..., None], 3, axis=2)


def test_a_smooth_repair_in_texture_gets_fine_energy_and_never_more_than_the_texture(gravel):
    mask = make_hole()
    filled = smooth(gravel, mask)
    [(_, answer)] = add(gravel, filled, mask)
    deep = make_hole(radius=20)
    before, after = (
        fine_energy(image, deep) / fine_energy(gravel, deep) for image in (filled, answer)
    )
    assert before < 0.01
    assert 5 * before < after < 1
    np.testing.assert_array_equal(answer[~mask], filled[~mask])
    np.testing.assert_array_equal(answer[..., 0], answer[..., 1])


def test_what_the_network_paints_sharply_is_left_nearly_alone(gravel):
    mask = make_hole()
    [(_, answer)] = add(gravel, gravel, mask)
    assert np.abs(answer - gravel).mean() < 0.2 * np.abs(gravel - smooth(gravel, mask)).mean()


def test_each_part_borrows_from_what_looks_like_it(gravel):
    """The left half is gravel, the right half a smooth sky: the hole lies across."""
    picture = gravel.copy()
    picture[:, SIZE // 2 :] = (0.6, 0.7, 0.9)
    mask = make_hole(radius=32)
    filled = smooth(picture, mask)
    filled[mask & (np.arange(SIZE) >= SIZE // 2 + 8)] = (0.6, 0.7, 0.9)
    [(_, answer)] = add(picture, filled, mask)
    sky = mask & (np.arange(SIZE) >= SIZE // 2 + 16)
    ground = mask & (np.arange(SIZE) < SIZE // 2 - 12)
    assert np.abs(answer - filled)[sky].max() < 0.02
    assert fine_energy(answer, ground) > 3 * fine_energy(filled, ground)


@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(np.eye(SIZE, dtype=bool), id="a scratch"),
        pytest.param(np.ones((SIZE, SIZE), bool), id="nothing known"),
        pytest.param(np.zeros((SIZE, SIZE), bool), id="no hole"),
    ],
)
def test_what_is_thin_or_has_nothing_around_it_is_the_same_object(gravel, mask):
    patches = [(Box(0, 0, SIZE, SIZE), smooth(gravel, mask))]
    [(_, answer)] = add_texture(lambda box: gravel[box.slices()], mask, patches)
    assert answer is patches[0][1]


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**16))
@settings(deadline=None, max_examples=25)
def test_any_size_and_mask_gives_finite_pictures_and_keeps_what_is_known(height, width, seed):
    rng = np.random.default_rng(seed)
    picture = rng.random((height, width, 3), np.float32)
    picture[rng.random((height, width)) < 0.05] = np.nan
    mask = cv2.dilate((rng.random((height, width)) < 0.01).astype(np.uint8), np.ones((13, 13))) > 0
    filled = np.where(mask[..., None], np.float32(0.5), picture).astype(np.float32)
    [(_, answer)] = add(picture, filled, mask)
    assert np.isfinite(answer[mask]).all()
    assert ((answer[mask] >= 0) & (answer[mask] <= 1)).all()
    np.testing.assert_array_equal(answer[~mask], filled[~mask])


def test_patches_see_each_other_and_their_order_does_not_matter(gravel):
    mask = make_hole()
    filled = smooth(gravel, mask)
    boxes = [Box(0, 0, SIZE, SIZE // 2), Box(0, SIZE // 2, SIZE, SIZE // 2)]
    there = add(gravel, filled, mask, boxes)
    back = add(gravel, filled, mask, boxes[::-1])[::-1]
    [(_, whole)] = add(gravel, filled, mask)
    for (box, one), (_, other) in zip(there, back, strict=True):
        np.testing.assert_array_equal(one, other)
        # Each patch looks 96 px around itself, here at nearly the same.
        assert np.abs(one - whole[box.slices()]).mean() < 0.02


def test_a_repaired_picture_is_read_with_its_patches_laid_over():
    damaged = np.zeros((40, 50, 3), np.float32)
    mask = np.zeros((40, 50), bool)
    mask[10:30, 10:40] = True
    patches = [
        (Box(0, 0, 20, 50), np.full((20, 50, 3), 0.25, np.float32)),
        (Box(20, 0, 20, 50), np.full((20, 50, 3), 0.75, np.float32)),
    ]
    picture = Repaired(lambda box: damaged[box.slices()], mask, patches)
    area = picture.grow(Box(15, 5, 10, 10), 4)
    assert area == Box(11, 1, 18, 18)
    expected = np.zeros_like(damaged)
    expected[10:20, 10:40] = 0.25
    expected[20:30, 10:40] = 0.75
    np.testing.assert_array_equal(picture.read(area), expected[area.slices()])
    assert not damaged.any()
