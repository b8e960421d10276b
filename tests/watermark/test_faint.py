"""Faint overlays: what medians of gradients say of them."""

from __future__ import annotations

import numpy as np
import pytest

from restorepix.watermark.faint import _level, estimate_faint, integrate
from restorepix.watermark.planes import blur, grow
from restorepix.watermark.unblending import unblend
from tests.watermark.conftest import blend, draw_alpha


def as_stack(photos):
    return np.stack(photos).astype(np.float32) / 255


def test_differences_are_integrated():
    plane = np.random.default_rng(0).random((20, 34))
    right = np.diff(plane, axis=1, append=plane[:, -1:])
    down = np.diff(plane, axis=0, append=plane[-1:])
    assert integrate(right, down) == pytest.approx(plane - plane.mean(), abs=1e-5)


@pytest.mark.parametrize("level", [0, 255])
def test_a_faint_overlay_is_taken_off(photos, level):
    alpha = draw_alpha(0.12)
    given = as_stack(blend(photos, alpha, level))
    overlay = estimate_faint(given, grow(alpha > 0.01, 3))
    assert overlay is not None
    covered = alpha > 0.01
    before = np.square(given - as_stack(photos))[:, covered].mean()
    clean = np.stack([np.clip(unblend(photo, overlay), 0, 1) for photo in given])
    assert np.square(clean - as_stack(photos))[:, covered].mean() < before / 2
    found = overlay.find_support()
    assert (found & covered).sum() / (found | covered).sum() > 0.8


def test_integrated_noise_is_taken_off_flat_ink_and_shades_are_kept():
    rng = np.random.default_rng(0)
    support = np.zeros((60, 90), np.bool_)
    support[8:52, 8:82] = True
    ink = np.zeros_like(support)
    ink[15:45, 20:28] = ink[15:23, 28:70] = True
    drift = blur(rng.normal(size=support.shape).astype(np.float32), 12)
    drift *= 0.02 / np.abs(drift).max()
    added = np.where(support, drift + 0.05 * ink, 0).astype(np.float32)
    added = np.repeat(added[..., None], 3, axis=2)
    flat, inside = _level(added, support)
    assert (inside == ink).mean() > 0.99 and np.abs(flat[ink] - 0.05).max() < 0.01
    shades = np.where(support, rng.choice([-0.05, 0, 0.05], support.shape), 0)
    shades = np.repeat(shades[..., None], 3, axis=2).astype(np.float32)
    kept, inside = _level(shades, support)
    assert (kept == shades).all() and (inside == support).all()


def test_few_photographs_or_none_carry_nothing_faint(photos):
    support = draw_alpha(0.5) > 0.01
    assert estimate_faint(as_stack(photos[:5]), support) is None
    assert estimate_faint(as_stack(photos), np.zeros_like(support)) is None
    flat = np.full((12, *support.shape, 3), 0.5, np.float32)
    assert estimate_faint(flat, support) is None
