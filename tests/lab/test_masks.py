"""The papers' masks: shares, shapes, and the same from the same seed."""

import numpy as np
import pytest

from training.lab.masks import draw_blocks, draw_center, draw_deepfill_box, draw_region

SEEDED = [draw_blocks, draw_region, draw_deepfill_box]


@pytest.mark.parametrize("draw", SEEDED)
def test_one_seed_gives_one_mask(draw):
    first, again, other = (draw(128, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert set(np.unique(first)) == {0, 1}
    assert first.dtype == np.uint8


def test_shares_are_those_of_the_paper():
    assert draw_center(128).mean() == 0.25
    rng = np.random.default_rng(0)
    for _ in range(30):
        assert 0 < draw_blocks(128, rng).mean() <= 0.25
        assert 0.2 <= draw_region(128, rng).mean() <= 0.3


def test_deepfill_boxes_lose_at_most_an_eighth_at_each_side():
    rng = np.random.default_rng(0)
    heights = []
    for _ in range(200):
        mask = draw_deepfill_box(256, rng)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask.sum() == len(rows) * len(columns)
        heights.append(len(rows))
        assert 96 <= len(columns) <= 128
    assert min(heights) == 96
    assert max(heights) == 128
