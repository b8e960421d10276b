import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage import data

from restorepix.guide import SMALLEST_PX, build_guides, halve, paste_guides
from restorepix.tiles import Box


def build_from(image: np.ndarray, mask: np.ndarray, small: np.ndarray | None = None) -> list:
    """Guides for an image whose half resolution is known, or else grey."""

    def fill(rgb: np.ndarray, hole: np.ndarray) -> np.ndarray:
        if small is None:
            return np.where(hole[..., None], np.float32(0.5), rgb)
        # Callers choose the hole so that its context is the whole picture.
        assert small.shape == rgb.shape
        return small

    return build_guides(lambda box: image[box.slices()], mask, fill)


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_halving_is_blind_to_the_hole(mask: np.ndarray) -> None:
    image = np.random.default_rng(0).random((*mask.shape, 3), np.float32)
    small, small_mask = halve(image, mask)
    for row in range(small.shape[0]):
        for column in range(small.shape[1]):
            here = slice(2 * row, 2 * row + 2), slice(2 * column, 2 * column + 2)
            known = image[here][~mask[here]]
            assert small_mask[row, column] == (len(known) == 0)
            expected = known.mean(axis=0) if len(known) else np.zeros(3)
            np.testing.assert_allclose(small[row, column], expected, atol=1e-6)


@given(
    st.tuples(st.integers(1, 600), st.integers(1, 600)),
    st.tuples(st.integers(0, 500), st.integers(0, 500)),
    st.tuples(st.integers(1, 500), st.integers(1, 500)),
)
@settings(deadline=None, max_examples=30)
def test_guided_pixels_lie_deep_in_the_hole(
    size: tuple[int, int], corner: tuple[int, int], extent: tuple[int, int]
) -> None:
    mask = np.zeros(size, np.bool_)
    box = Box(*corner, *extent)
    mask[box.slices()] = True
    guided = np.zeros(size, np.int32)
    for guide in build_from(np.zeros((*size, 3), np.float32), mask):
        assert guide.guided.shape == (guide.box.height, guide.box.width)
        assert guide.rgb.shape == (*guide.guided.shape, 3)
        guided[guide.box.slices()] += guide.guided
    assert guided.max() <= 1
    rows, columns = np.nonzero(guided)
    if len(rows):
        low, high = (rows.min() - 16, columns.min() - 16), (rows.max() + 16, columns.max() + 16)
        around = mask[max(low[0], 0) : high[0] + 1, max(low[1], 0) : high[1] + 1]
        assert around.all()
    visible = box.intersect(Box(0, 0, *size))
    if max(size) <= SMALLEST_PX:
        assert not guided.any()
    elif visible is not None and min(visible.height, visible.width) >= 180:
        assert guided.any()


def test_two_holes_have_two_guides() -> None:
    mask = np.zeros((600, 1000), np.bool_)
    mask[200:400, 100:300] = mask[200:400, 600:850] = True
    guides = build_from(np.zeros((600, 1000, 3), np.float32), mask)
    assert len(guides) == 2
    page = np.ones((600, 1000, 3), np.float32)
    paste_guides(page, Box(0, 0, 600, 1000), guides)
    assert (page[~mask] == 1).all()
    assert (page == 0.5).all(axis=-1).sum() == sum(int(guide.guided.sum()) for guide in guides)
    part = np.ones((50, 60, 3), np.float32)
    paste_guides(part, Box(190, 90, 50, 60), guides)
    assert np.array_equal(part, page[190:240, 90:150])


def test_a_flat_picture_gets_no_invented_detail() -> None:
    image = np.full((500, 500, 3), 0.3, np.float32)
    mask = np.zeros((500, 500), np.bool_)
    mask[100:380, 120:390] = True
    (guide,) = build_from(image, mask, halve(image, np.zeros_like(mask))[0])
    np.testing.assert_allclose(guide.rgb, 0.3, atol=1e-6)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "rocket"])
def test_borrowed_detail_is_sharper_than_enlarging_and_nearly_as_close(name: str) -> None:
    image = getattr(data, name)()[:400, :480].astype(np.float32) / 255
    mask = np.zeros(image.shape[:2], np.bool_)
    mask[96:288, 144:336] = True
    small = halve(image, np.zeros_like(mask))[0]
    (guide,) = build_from(image, mask, small)
    # Without known patches to borrow from, the guide is the enlarged half resolution.
    everything = np.ones_like(mask)
    (enlarged,) = build_from(image, everything, small)
    truth = image[guide.box.slices()]
    plain = enlarged.rgb[guide.box.slices()]

    def sharpness(rgb: np.ndarray) -> float:
        return float(np.mean(np.square(np.gradient(rgb, axis=(0, 1)))))

    def error(rgb: np.ndarray) -> float:
        return float(np.sqrt(np.mean(np.square(rgb - truth))))

    assert 1.1 * sharpness(plain) < sharpness(guide.rgb) < 1.05 * sharpness(truth)
    # Half a decibel is 6 %.
    assert error(guide.rgb) < 1.08 * error(plain)
