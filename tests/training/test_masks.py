"""Synthetic hole masks: seeded, of the promised area, of the promised shape."""

import numpy as np
import pytest

from training.masks import (
    MASK_KINDS,
    TRAINING_MIX,
    build_mask_bank,
    draw_benchmark_mask,
    draw_mask,
    find_fonts,
)

ELEMENT = np.zeros((40, 60), np.uint8)
ELEMENT[10:30, 5:55] = 200


@pytest.mark.parametrize("kind", TRAINING_MIX)
def test_every_training_kind_is_seeded_and_binary(kind):
    masks = [
        [draw_mask(kind, 96, 128, np.random.default_rng(s), elements=[ELEMENT]) for s in range(6)]
        for _ in range(2)
    ]
    for first, second in zip(*masks, strict=True):
        assert first.shape == (96, 128)
        assert first.dtype == np.uint8
        assert set(np.unique(first)) <= {0, 1}
        assert np.array_equal(first, second)
    assert any(mask.any() for mask in masks[0])
    assert any(not np.array_equal(masks[0][0], other) for other in masks[0][1:])


SHARES = {
    "scratch": (0.02, 0.05),
    "film": (0.01, 0.08),
    "text": (0.05, 0.10),
    "logo": (0.02, 0.09),
    "irregular20": (0.17, 0.23),
    "irregular40": (0.37, 0.43),
    "center128": (0.25, 0.25),
    "dropout": (0.03, 0.41),
}


@pytest.mark.parametrize("kind", MASK_KINDS)
def test_benchmark_kinds_keep_their_share_of_the_area(kind):
    low, high = SHARES[kind]
    for seed in range(5):
        rng = np.random.default_rng(seed)
        mask = draw_benchmark_mask(kind, 256, rng, fonts=find_fonts(), elements=[ELEMENT])
        assert low <= mask.mean() <= high


def test_center128_is_the_middle_square():
    mask = draw_benchmark_mask("center128", 256, np.random.default_rng(0))
    assert mask[64:192, 64:192].all()
    assert mask.sum() == 128 * 128


def test_film_without_elements_is_refused():
    with pytest.raises(ValueError, match="needs damage elements"):
        draw_benchmark_mask("film", 256, np.random.default_rng(0))


def test_an_unknown_kind_is_refused():
    with pytest.raises(KeyError):
        draw_mask("graffiti", 64, 64, np.random.default_rng(0))


def test_a_bank_is_reproducible_and_every_mask_has_a_hole_of_allowed_size():
    bank = build_mask_bank(64, 60, seed=4)
    assert np.array_equal(bank, build_mask_bank(64, 60, seed=4))
    assert not np.array_equal(bank, build_mask_bank(64, 60, seed=5))
    shares = bank.mean(axis=(1, 2))
    assert shares.min() >= 0.004
    assert shares.max() <= 0.5


def test_a_thin_share_makes_thin_masks_denser_and_leaves_the_others_alone():
    thin, thick = {"scratch": 1.0}, {"box": 1.0}
    plain = build_mask_bank(64, 60, 3, mix=thin)
    dense = build_mask_bank(64, 60, 3, mix=thin, thin_share=0.3)
    assert dense.mean() > plain.mean() + 0.05
    assert dense.mean(axis=(1, 2)).max() <= 0.5
    assert np.array_equal(
        build_mask_bank(64, 20, 3, mix=thick), build_mask_bank(64, 20, 3, mix=thick, thin_share=0.3)
    )
