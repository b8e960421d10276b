"""Faint overlays: what medians of gradients say of them."""

from __future__ import annotations

import numpy as np
import pytest

from restorepix.watermark.faint import estimate_faint, integrate
from restorepix.watermark.planes import grow
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


def test_few_photographs_or_none_carry_nothing_faint(photos):
    support = draw_alpha(0.5) > 0.01
    assert estimate_faint(as_stack(photos[:5]), support) is None
    assert estimate_faint(as_stack(photos), np.zeros_like(support)) is None
    flat = np.full((12, *support.shape, 3), 0.5, np.float32)
    assert estimate_faint(flat, support) is None
