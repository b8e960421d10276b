"""What damage synthesis promises: a mask that covers the damage, and the same damage again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.damage import (
    CHANGED_LEVELS,
    DAMAGE_KINDS,
    composite_layer,
    damage_photo,
    draw_seven_segment,
)


def make_photo(height: int = 160, width: int = 240, seed: int = 0) -> np.ndarray:
    """A smooth mid-tone picture, on which every kind of damage can be seen."""
    rows, columns = np.mgrid[:height, :width]
    waves = [90 + 30 * np.sin(rows / (17 + c + seed) + columns / (23 - c)) for c in range(3)]
    return np.stack(waves, 2).astype(np.uint8)


@pytest.mark.parametrize("kind", DAMAGE_KINDS)
def test_mask_covers_every_visible_change(kind):
    photo = make_photo()
    for seed in range(12):
        damaged, mask = damage_photo(photo, np.random.default_rng(seed), [kind])
        moved = np.abs(damaged.astype(int) - photo).max(2)
        assert moved[~mask].max() <= CHANGED_LEVELS
        assert damaged.shape == photo.shape
        assert damaged.dtype == np.uint8
        assert mask.shape == photo.shape[:2]
        assert mask.dtype == np.bool_


@pytest.mark.parametrize("kind", DAMAGE_KINDS)
def test_every_kind_marks_the_photo_without_drowning_it(kind):
    photo = make_photo()
    shares = [
        damage_photo(photo, np.random.default_rng(seed), [kind]).mask.mean() for seed in range(12)
    ]
    assert np.median(shares) > 0.002
    assert max(shares) < 0.6


def test_all_kinds_together_are_covered_and_the_photo_is_not_modified():
    photo = make_photo()
    before = photo.copy()
    damaged, mask = damage_photo(photo, np.random.default_rng(3))
    assert np.array_equal(photo, before)
    assert np.abs(damaged.astype(int) - photo).max(2)[~mask].max() <= CHANGED_LEVELS
    assert mask.mean() > 0.05


def test_same_seed_same_damage_other_seed_other_damage():
    photo = make_photo()
    first, again, other = (damage_photo(photo, np.random.default_rng(s)) for s in (5, 5, 6))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.mask, again.mask)
    assert not np.array_equal(first.image, other.image)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    kind=st.sampled_from(DAMAGE_KINDS),
    seed=st.integers(0, 2**32),
)
def test_any_size_works(height, width, kind, seed):
    photo = make_photo(height, width)
    damaged, mask = damage_photo(photo, np.random.default_rng(seed), [kind])
    assert damaged.shape == photo.shape
    moved = np.abs(damaged.astype(int) - photo).max(2)
    assert (moved[~mask] <= CHANGED_LEVELS).all()


def test_margin_grows_the_mask_only():
    photo = make_photo()
    tight = damage_photo(photo, np.random.default_rng(1), ["scratch"], margin_px=0)
    wide = damage_photo(photo, np.random.default_rng(1), ["scratch"], margin_px=3)
    assert np.array_equal(tight.image, wide.image)
    assert (wide.mask | tight.mask == wide.mask).all()
    assert wide.mask.sum() > tight.mask.sum()


def test_grey_stays_grey_where_nothing_is_marked():
    grey = np.repeat(make_photo()[:, :, :1], 3, 2)
    damaged, mask = damage_photo(grey, np.random.default_rng(2), ["scratch", "date"])
    spread = damaged.max(2).astype(int) - damaged.min(2)
    assert spread[~mask].max() <= 2 * CHANGED_LEVELS
    assert spread[mask].max() > 50  # the orange of the date


def test_no_kinds_is_no_damage():
    photo = make_photo()
    damaged, mask = damage_photo(photo, np.random.default_rng(0), [])
    assert np.array_equal(damaged, photo)
    assert not mask.any()


def test_date_stamp_glows_orange_in_the_lower_right():
    photo = make_photo() // 3
    damaged, mask = damage_photo(photo, np.random.default_rng(0), ["date"])
    red, _, blue = (damaged[mask].astype(int) - photo[mask]).mean(0)
    assert red > blue + 30
    rows, columns = np.nonzero(mask)
    assert rows.min() > photo.shape[0] / 2
    assert columns.max() > photo.shape[1] * 0.75


def test_watermark_lets_the_photo_show_through():
    photo = make_photo(240, 360)
    photo[::2] //= 2
    damaged, mask = damage_photo(photo, np.random.default_rng(1), ["watermark"], margin_px=0)
    seen, truth = damaged[mask].astype(float).ravel(), photo[mask].astype(float).ravel()
    assert np.corrcoef(seen, truth)[0, 1] > 0.5


def test_layer_modes_by_hand():
    image = np.full((2, 2, 3), 100, np.float32)
    half, none = np.full((2, 2), 0.5, np.float32), np.zeros((2, 2), np.float32)
    color = (255.0, 51.0, 0.0)
    assert composite_layer(image, half, color, "replace")[0, 0] == pytest.approx([177.5, 75.5, 50])
    assert composite_layer(image, half, color, "multiply")[0, 0] == pytest.approx([100, 60, 50])
    assert composite_layer(image, half, color, "screen")[0, 0] == pytest.approx([177.5, 115.5, 100])
    assert composite_layer(image, half, color, "blur")[0, 0] == pytest.approx([100, 100, 100])
    for mode in ("replace", "multiply", "screen", "blur"):
        assert composite_layer(image, none, color, mode) == pytest.approx(image)


def test_seven_segment_digits_differ_and_eight_covers_all():
    digits = [draw_seven_segment(str(d), 24) for d in range(10)]
    ink = [float(d.sum()) for d in digits]
    assert max(ink) == ink[8]
    assert min(ink) == ink[1]
    for left in range(10):
        for right in range(left):
            assert np.abs(digits[left] - digits[right]).sum() > 20
    for digit in digits:
        assert digit.min() >= 0
        assert (digit <= digits[8] + 1e-6).all()


@pytest.mark.parametrize(("text", "height_px"), [("12:30", 20), ("", 20), ("12", 4)])
def test_seven_segment_refuses_what_it_cannot_draw(text, height_px):
    with pytest.raises(ValueError, match="seven segments"):
        draw_seven_segment(text, height_px)


@pytest.mark.parametrize(
    "image",
    [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3), np.uint16)],
)
def test_other_arrays_are_refused(image):
    with pytest.raises(ValueError, match="expected a uint8"):
        damage_photo(image, np.random.default_rng(0))


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="'mould'"):
        damage_photo(make_photo(), np.random.default_rng(0), ["mould"])  # type: ignore[list-item]
