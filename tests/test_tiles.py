import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restorepix.tiles import (
    BLEND_PX,
    CELL_PX,
    CORE_PX,
    Box,
    distance_in_cells,
    plan_blocks,
    plan_windows,
    reduce_to_cells,
)


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    """Pictures of every shape with specks, lines and blobs."""
    height, width = draw(st.integers(1, 900)), draw(st.integers(1, 900))
    mask = np.zeros((height, width), np.uint8)
    points = st.tuples(st.integers(0, width - 1), st.integers(0, height - 1))
    for start, end, thickness in draw(
        st.lists(st.tuples(points, points, st.integers(1, 90)), max_size=4)
    ):
        cv2.line(mask, start, end, 1, thickness)
    for x, y in draw(st.lists(points, max_size=30)):
        mask[y, x] = 1
    return mask > 0


@given(masks(), st.sampled_from(sorted(CORE_PX)))
@settings(deadline=None, max_examples=60)
def test_every_hole_pixel_lies_in_a_core_and_weights_stay_in_reach(
    mask: np.ndarray, largest: int
) -> None:
    owned = np.zeros(mask.shape, np.bool_)
    for window in plan_windows(mask, largest=largest):
        reach = window.reach()
        weights = window.weights(reach)
        assert weights.shape == (reach.height, reach.width)
        assert 0 < weights.min() <= weights.max() <= 1
        assert (window.weights(window.core) == 1).all()
        owned[window.core.slices()] = True
    assert owned[mask].all()


@given(masks(), st.sampled_from(sorted(CORE_PX)))
@settings(deadline=None, max_examples=60)
def test_windows_lie_in_the_picture_around_holes_with_context(
    mask: np.ndarray, largest: int
) -> None:
    height, width = mask.shape
    windows = plan_windows(mask, largest=largest)
    assert bool(windows) == bool(mask.any())
    for box, core in windows:
        assert mask[core.slices()].any()
        assert box.intersect(Box(0, 0, height, width)) == box
        assert box.intersect(core) == core
        sides = [size for size in CORE_PX if size <= largest]
        assert (box.height, box.width) in [(min(s, height), min(s, width)) for s in sides]
        context = 48 if max(box.height, box.width) >= 256 else 32
        assert core.top - box.top >= context or box.top == 0
        assert core.left - box.left >= context or box.left == 0
        assert box.bottom - core.bottom >= context or box.bottom == height
        assert box.right - core.right >= context or box.right == width


@given(masks(), st.integers(1, 300))
@settings(deadline=None, max_examples=60)
def test_blocks_hold_every_hole_pixel_once_and_are_tight(mask: np.ndarray, side: int) -> None:
    count = np.zeros(mask.shape, np.int32)
    for box in plan_blocks(mask, side_px=side):
        count[box.slices()] += 1
        hole = mask[box.slices()]
        assert hole.shape == (box.height, box.width)
        assert max(hole.shape) <= side
        assert hole[0].any()
        assert hole[-1].any()
        assert hole[:, 0].any()
        assert hole[:, -1].any()
    assert count.max(initial=0) <= 1
    assert (count[mask] == 1).all()


@given(masks())
@settings(deadline=None, max_examples=40)
def test_cells_agree_with_a_plain_loop(mask: np.ndarray) -> None:
    touched = reduce_to_cells(mask, whole=False)
    whole = reduce_to_cells(mask, whole=True)
    for row in range(touched.shape[0]):
        for column in range(touched.shape[1]):
            cell = mask[row * CELL_PX :, column * CELL_PX :][:CELL_PX, :CELL_PX]
            assert touched[row, column] == cell.any()
            assert whole[row, column] == cell.all()


def test_neighbours_share_a_window_and_strangers_do_not() -> None:
    mask = np.zeros((2000, 2000), np.bool_)
    mask[500:504, 500:504] = mask[590:594, 560:564] = True
    assert len(plan_windows(mask)) == 1
    mask[1500:1504, 1500:1504] = True
    assert [window.box.height for window in plan_windows(mask)] == [256, 256]


def test_a_solid_hole_is_not_cut_where_one_large_window_holds_it() -> None:
    mask = np.zeros((1000, 1000), np.bool_)
    mask[300:440, 300:480] = True  # two small windows would be cheaper
    (window,) = plan_windows(mask)
    assert window.box.height == 512
    assert mask[window.core.slices()].sum() == mask.sum()


def test_a_diagonal_scratch_takes_a_chain_of_small_windows_that_cross_fade() -> None:
    mask = np.zeros((3000, 4000), np.uint8)
    cv2.line(mask, (0, 0), (3999, 2999), 1, 3)
    windows = plan_windows(mask > 0)
    # 4000 px / 160 px of core, and the cuts do not fall on the scratch's own rhythm.
    assert len(windows) <= 40
    assert {window.box.height for window in windows} == {256}
    # Along the scratch no window's share may jump: that would be a seam.
    x = np.arange(4000)
    y = np.round(x * 2999 / 3999).astype(int)
    shares = np.zeros((len(windows), 4000), np.float32)
    for index, window in enumerate(windows):
        reach = window.reach()
        inside = (y >= reach.top) & (y < reach.bottom) & (x >= reach.left) & (x < reach.right)
        shares[index, inside] = window.weights(reach)[y[inside] - reach.top, x[inside] - reach.left]
    shares /= shares.sum(axis=0)
    assert np.abs(np.diff(shares, axis=1)).max() < 3 / BLEND_PX


@pytest.mark.parametrize("kind", ["dust", "dropout"])
def test_damage_all_over_a_large_picture_is_planned_without_waste(kind: str) -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((3000, 4000), np.bool_)
    if kind == "dust":
        mask[rng.integers(0, 3000, 100_000), rng.integers(0, 4000, 100_000)] = True
    else:
        mask = rng.random(mask.shape) < 0.3
    windows = plan_windows(mask)
    area = sum(window.box.height * window.box.width for window in windows)
    # A 512 px window with a core of 384 px reads 1.78 times what it owns.
    assert area < 2.2 * mask.size


def test_the_same_mask_gives_the_same_windows() -> None:
    mask = np.random.default_rng(1).random((700, 900)) < 0.001
    assert plan_windows(mask) == plan_windows(mask.copy())


def test_distance_is_measured_from_known_cells_and_not_from_the_border() -> None:
    cells = np.ones((5, 7), np.bool_)
    assert np.isinf(distance_in_cells(cells)).all()
    cells[:, 0] = False
    assert distance_in_cells(cells)[2].tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_boxes_shift_grow_and_intersect() -> None:
    box = Box(top=2, left=3, height=4, width=5)
    assert (box.bottom, box.right) == (6, 8)
    assert box.slices() == (slice(2, 6), slice(3, 8))
    assert box.shift(1, -1) == Box(3, 2, 4, 5)
    assert box.grow(2) == Box(0, 1, 8, 9)
    assert box.intersect(Box(5, 7, 9, 9)) == Box(5, 7, 1, 1)
    assert box.intersect(Box(6, 3, 4, 5)) is None
