"""PatchMatch: fields only improve, seeds decide, textures come back, holes are not read."""

import numpy as np
import pytest

from restorepix.models.lab.patchmatch import (
    Field,
    PatchMatchOptions,
    build_features,
    inpaint_patchmatch,
    split_patches,
)


def draw_texture(side=96, period=16):
    rows, columns = np.mgrid[0:side, 0:side]
    waves = [
        np.sin(2 * np.pi * rows / period) + np.cos(2 * np.pi * columns / period),
        np.sin(2 * np.pi * (rows + columns) / period),
        np.sign(np.sin(2 * np.pi * (rows - columns) / period)),
    ]
    return np.rint(127 + 55 * np.stack(waves, 2)).clip(0, 255).astype(np.uint8)


def center_hole(side=96, width=32):
    mask = np.zeros((side, side), np.bool_)
    low = (side - width) // 2
    mask[low : low + width, low : low + width] = True
    return mask


def build_field(seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (40, 48, 3)).astype(np.float32)
    mask = np.zeros((40, 48), np.bool_)
    mask[15:25, 10:30] = True
    queries, keys = split_patches(mask, 2)
    features = build_features(image)
    return Field(features, features, queries, keys, 2, np.random.default_rng(seed)), features, keys


def test_distances_never_rise_and_are_those_of_the_places():
    field, features, keys = build_field()
    before = field.distance.copy()
    for _ in range(3):
        field.improve(1)
        assert (field.distance <= before).all()
        assert field.distance.sum() < before.sum()
        before = field.distance.copy()
    for number in range(0, len(field.places), 37):
        (row, column), (y, x) = field.places[number], field.found[number]
        assert keys[y, x]
        gap = (
            features[row - 2 : row + 3, column - 2 : column + 3]
            - features[y - 2 : y + 3, x - 2 : x + 3]
        )
        assert (gap**2).sum() == pytest.approx(field.distance[number], rel=1e-4)


def test_a_scan_by_diagonals_equals_one_pixel_by_pixel():
    ours, features, keys = build_field(3)
    theirs, _, _ = build_field(3)
    ours._search = lambda: None  # pyright: ignore[reportPrivateUsage]
    ours.improve(2)
    number = {tuple(place): index for index, place in enumerate(theirs.places.tolist())}
    order = sorted(number)
    for step, places in ((1, order), (-1, order[::-1])):
        for place in places:
            index = number[place]
            for move in ((0, step), (step, 0)):
                neighbour = number.get((place[0] - move[0], place[1] - move[1]))
                if neighbour is not None:
                    offered = theirs.found[neighbour] + move
                    theirs._offer(np.array([index]), offered[None])  # pyright: ignore
    assert np.array_equal(ours.found, theirs.found)


def test_periodic_texture_comes_back():
    truth, mask = draw_texture(), center_hole()
    damaged = np.where(mask[..., None], 0, truth).astype(np.uint8)
    result = inpaint_patchmatch(damaged, mask)
    error = (result.astype(float) - truth)[mask]
    assert 10 * np.log10(255**2 / max((error**2).mean(), 1e-9)) >= 40
    assert np.array_equal(result[~mask], truth[~mask])


def test_the_seed_decides_and_the_hole_is_not_read():
    rng = np.random.default_rng(0)
    image = np.cumsum(rng.integers(-9, 10, (48, 56, 3)), axis=1).clip(-120, 120).astype(int) + 125
    image = image.astype(np.uint8)
    mask = np.zeros((48, 56), np.bool_)
    mask[16:30, 20:36] = True
    first = inpaint_patchmatch(image, mask)
    other = np.where(mask[..., None], 255 - image, image).astype(np.uint8)
    assert np.array_equal(first, inpaint_patchmatch(other, mask))
    again = inpaint_patchmatch(image, mask, PatchMatchOptions(seed=2))
    assert not np.array_equal(first, again)
    assert np.array_equal(first[~mask], image[~mask])


def test_a_good_start_is_kept():
    truth, mask = draw_texture(period=24), center_hole()
    damaged = np.where(mask[..., None], 0, truth).astype(np.uint8)
    result = inpaint_patchmatch(damaged, mask, start=truth)
    error = (result.astype(float) - truth)[mask]
    assert 10 * np.log10(255**2 / max((error**2).mean(), 1e-9)) >= 35


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (20, 20)])
def test_pictures_too_small_for_patches_get_a_smooth_fill(size):
    image = np.full((*size, 3), 90, np.uint8)
    mask = np.zeros(size, np.bool_)
    mask[: (size[0] + 1) // 2] = True
    result = inpaint_patchmatch(image, mask)
    assert result.shape == image.shape
    if not mask.all():
        assert np.abs(result.astype(int) - 90).max() <= 1
    nothing = np.zeros(size, np.bool_)
    assert np.array_equal(inpaint_patchmatch(image, nothing), image)
