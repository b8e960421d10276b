"""The overlay of a stack: found, and what it is made of."""

from __future__ import annotations

import numpy as np
import pytest

from restorepix.watermark.consensus import fill_outline, find_agreement
from restorepix.watermark.estimate import estimate_overlay
from restorepix.watermark.overlay import Overlay, Placement, place_overlay
from restorepix.watermark.presence import find_placement, measure_presence
from restorepix.watermark.unblending import smear, unblend
from tests.watermark.conftest import HEIGHT, WIDTH, blend, draw_alpha


def stack_of(photos):
    return np.stack(photos).astype(np.float32) / 255


def test_photographs_without_an_overlay_agree_on_nothing(photos):
    assert not find_agreement(stack_of(photos)).any()


def test_an_overlay_is_found_and_estimated(photos):
    alpha = draw_alpha(0.5)
    stack = stack_of(blend(photos, alpha))
    overlay = estimate_overlay(stack, fill_outline(find_agreement(stack), 3))
    truth, found = alpha > 0.02, overlay.alpha > 0
    assert (truth & found).sum() / (truth | found).sum() > 0.75
    core = alpha > 0.49
    assert overlay.alpha[core].mean() == pytest.approx(0.5, abs=0.06)
    assert overlay.color[core].mean() == pytest.approx(1.0, abs=0.06)


def test_unblending_comes_nearer_to_the_photograph_than_what_was_given(photos):
    alpha = draw_alpha(0.5)
    given = stack_of(blend(photos, alpha))
    overlay = estimate_overlay(given, fill_outline(find_agreement(given), 3))
    covered = alpha > 0.02
    before = np.square(given - stack_of(photos))[:, covered].mean()
    clean = np.stack([np.clip(unblend(photo, overlay), 0, 1) for photo in given])
    after = np.square(clean - stack_of(photos))[:, covered].mean()
    assert after < before / 20


def test_photographs_without_contrast_have_no_overlay():
    flat = np.full((6, 40, 50, 3), 0.5, np.float32)
    support = np.zeros((40, 50), np.bool_)
    support[10:30, 10:40] = True
    assert not estimate_overlay(flat, support).alpha.any()


def test_unblending_inverts_blending():
    rng = np.random.default_rng(0)
    photo = rng.random((20, 30, 3), np.float32)
    overlay = Overlay(rng.random((20, 30), np.float32) * 0.9, rng.random((20, 30, 3), np.float32))
    a = overlay.alpha[..., None]
    assert unblend(photo * (1 - a) + a * overlay.color, overlay) == pytest.approx(photo, abs=1e-4)


def test_half_resolution_keeps_means_and_flat_layers():
    flat = np.full((7, 9, 2), 0.4, np.float32)
    assert smear(flat, (2, 2)) == pytest.approx(flat)


def test_presence_tells_the_share_that_is_there(photos):
    alpha = draw_alpha(0.4)
    overlay = Overlay(alpha, np.ones((HEIGHT, WIDTH, 3), np.float32))
    photo = stack_of(photos[:1])
    full = measure_presence(stack_of(blend(photos[:1], alpha))[0], overlay)
    none = measure_presence(photo[0], overlay)
    assert full.is_sure and full.share == pytest.approx(1, abs=0.25)
    assert not none.is_sure and abs(none.share) < 0.2


def test_a_shifted_overlay_is_found_again(photos):
    alpha = draw_alpha(0.6)
    overlay = Overlay(alpha, np.ones((HEIGHT, WIDTH, 3), np.float32))
    window = np.s_[30:110, 10:160]
    small = Overlay(alpha[window], overlay.color[window])
    moved = place_overlay(small, Placement(33, 8), (HEIGHT, WIDTH))
    photo = stack_of(blend(photos[:1], moved.alpha))[0]
    place = find_placement(photo, small, Placement(30, 10), 6)
    assert (round(place.top), round(place.left)) == (33, 8)


def test_an_overlay_pasted_at_whole_pixels_is_itself():
    rng = np.random.default_rng(1)
    overlay = Overlay(rng.random((5, 6), np.float32), rng.random((5, 6, 3), np.float32))
    placed = place_overlay(overlay, Placement(2, 3), (12, 14))
    assert np.array_equal(placed.alpha[2:7, 3:9], overlay.alpha)
    placed.alpha[2:7, 3:9] = 0
    assert not placed.alpha.any()


@pytest.mark.parametrize("place", [(-3, -2), (10, 12), (50, 50)])
def test_an_overlay_is_cut_at_the_borders(place):
    overlay = Overlay(np.ones((5, 6), np.float32), np.ones((5, 6, 3), np.float32))
    assert place_overlay(overlay, Placement(*place), (12, 14)).shape == (12, 14)
