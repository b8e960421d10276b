from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.scores import (
    bootstrap_mean,
    composite,
    measure_gradient,
    measure_known_change,
    measure_scores,
    measure_variation,
)


def paint_square(level: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A flat picture of level 100, one with a 2 x 2 hole at ``level``, and the hole's mask."""
    truth = np.full((16, 16, 3), 100, np.uint8)
    mask = np.zeros((16, 16), np.uint8)
    mask[6:8, 9:11] = 1
    result = np.where(mask[..., None] > 0, level, truth).astype(np.uint8)
    return result, truth, mask


def test_errors_match_values_computed_by_hand() -> None:
    result, truth, mask = paint_square(151)  # 51 levels are a fifth of full scale
    scores = measure_scores(result, truth, mask)
    assert scores["l1_hole"] == pytest.approx(20)
    assert scores["l1_whole"] == pytest.approx(20 * 4 / 256)
    assert scores["l2_hole"] == pytest.approx(4)
    assert scores["l2_whole"] == pytest.approx(4 * 4 / 256)
    assert scores["psnr_hole"] == pytest.approx(10 * math.log10(25))
    assert scores["psnr_whole"] == pytest.approx(10 * math.log10(25 * 64))


def test_total_variation_counts_the_pairs_of_its_region() -> None:
    result, _, mask = paint_square(151)
    # 480 pairs of neighbours; 12 touch the hole, of which 8 cross its rim.
    assert measure_variation(result, np.ones_like(mask)) == pytest.approx(20 * 8 / 480)
    assert measure_variation(result, mask) == pytest.approx(20 * 8 / 12)


def test_structural_similarity_of_flat_pictures_is_the_luminance_term() -> None:
    truth = np.full((32, 32, 3), 100, np.uint8)
    result = np.full_like(truth, 140)
    scores = measure_scores(result, truth, np.ones((32, 32), np.uint8))
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 140 + c1) / (100**2 + 140**2 + c1)
    assert scores["ssim_hole"] == pytest.approx(expected)
    assert scores["ssim_whole"] == pytest.approx(expected)


def test_similarity_in_the_hole_is_lower_than_over_the_whole() -> None:
    result, truth, mask = paint_square(151)
    scores = measure_scores(result, truth, mask)
    assert scores["ssim_hole"] < scores["ssim_whole"] < 1


def test_a_perfect_result_scores_perfectly() -> None:
    _, truth, mask = paint_square(100)
    scores = measure_scores(truth, truth, mask)
    assert scores["l1_hole"] == scores["l2_whole"] == 0
    assert scores["ssim_hole"] == pytest.approx(1)
    assert scores["psnr_hole"] > 100


def test_sharpness_of_half_the_slope_is_half() -> None:
    columns = np.tile(np.arange(20), (20, 1))
    truth = np.repeat(columns[..., None] * 6, 3, 2).astype(np.uint8)
    result = np.repeat(columns[..., None] * 3, 3, 2).astype(np.uint8)
    mask = np.zeros((20, 20), np.uint8)
    mask[4:9, 4:9] = 1
    scores = measure_scores(result, truth, mask)
    assert scores["truth_gradient"] == pytest.approx(6)
    assert scores["gradient"] == pytest.approx(3)


def test_gradient_weighs_channels_as_luma_and_takes_both_directions() -> None:
    image = np.zeros((9, 9, 3), np.uint8)
    image[..., 1] = np.add.outer(np.arange(9) * 4, np.arange(9) * 3)  # slope 5 in green alone
    gradient = measure_gradient(image)
    assert gradient[:-1, :-1] == pytest.approx(np.full((8, 8), 5 * 0.587))
    assert gradient[-1, :-1] == pytest.approx(np.full(8, 3 * 0.587))
    assert gradient[-1, -1] == 0


def test_gradient_sees_the_finest_grain() -> None:
    grain = np.tile(np.array([0, 8], np.uint8), (6, 3))
    gradient = measure_gradient(np.repeat(grain[..., None], 3, 2))
    assert gradient[:, :-1] == pytest.approx(np.full((6, 5), 8))


def test_known_change_is_measured_outside_the_hole_alone() -> None:
    _, truth, mask = paint_square(100)
    raw = truth.copy()
    raw[mask > 0] = 0
    assert measure_known_change(raw, truth, mask) == {"known_changed": 0, "known_max": 0}
    raw[0, :7, 1] = 97
    changed = measure_known_change(raw, truth, mask)
    assert changed == {"known_changed": pytest.approx(100 * 7 / 252), "known_max": 3}
    assert np.array_equal(composite(raw, truth, mask)[0], truth[0])


def test_known_change_of_a_picture_that_is_all_hole_is_none() -> None:
    truth = np.zeros((4, 4, 3), np.uint8)
    change = measure_known_change(truth + 1, truth, np.ones((4, 4), np.uint8))
    assert change == {"known_changed": 0, "known_max": 0}


@pytest.mark.parametrize("mask", [np.zeros((16, 16), np.uint8), np.ones((8, 16), np.uint8)])
def test_a_mask_that_cannot_be_scored_is_refused(mask: np.ndarray) -> None:
    truth = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(ValueError, match="no hole|equal sizes"):
        measure_scores(truth, truth, mask)


def test_bootstrap_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(3).normal(1.5, 0.4, 100)
    interval = bootstrap_mean(list(values))
    spread = 1.96 * values.std() / 10
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - spread, abs=0.015)
    assert interval.high == pytest.approx(values.mean() + spread, abs=0.015)
    assert interval == bootstrap_mean(list(values))


def test_bootstrap_of_equal_values_has_no_width_and_of_none_is_refused() -> None:
    assert bootstrap_mean([0.25, 0.25]) == (0.25, 0.25, 0.25)
    with pytest.raises(ValueError, match="found none"):
        bootstrap_mean([])
