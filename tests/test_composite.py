import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from restorepix.composite import composite_page
from restorepix.tiles import Box, plan_blocks

DTYPES = [np.uint8, np.uint16, np.float32]


@st.composite
def pictures(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    height, width = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    channels = draw(st.sampled_from([1, 3, 4]))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    # Raw bytes, so that float pictures hold NaNs with payloads, infinities and negative zeros.
    raw = draw(st.binary(min_size=64, max_size=64))
    seed = int.from_bytes(raw[:8], "little")
    pixels = np.random.default_rng(seed).bytes(height * width * channels * dtype.itemsize)
    mask = draw(hnp.arrays(np.bool_, (height, width)))
    shape = (height, width, channels)
    return np.frombuffer(pixels, dtype).reshape(shape), mask, draw(st.integers(1, 17))


@given(pictures())
def test_known_pixels_keep_their_bits_and_hole_pixels_come_from_the_patches(
    case: tuple[np.ndarray, np.ndarray, int],
) -> None:
    pixels, mask, side = case
    filler = np.random.default_rng(0).integers(0, 255, pixels.shape).astype(pixels.dtype)
    before = pixels.tobytes()
    patches = [(box, filler[box.slices()]) for box in plan_blocks(mask, side_px=side)]

    repaired = composite_page(pixels, mask, patches)

    assert repaired.dtype == pixels.dtype
    assert repaired[~mask].tobytes() == pixels[~mask].tobytes()
    assert repaired[mask].tobytes() == filler[mask].tobytes()
    assert pixels.tobytes() == before


def test_a_hole_pixel_without_patch_is_refused() -> None:
    mask = np.zeros((4, 4), np.bool_)
    mask[1, 1] = mask[3, 3] = True
    patch = (Box(0, 0, 2, 2), np.zeros((2, 2, 1), np.uint8))
    with pytest.raises(ValueError, match="leave 1 hole pixels"):
        composite_page(np.zeros((4, 4, 1), np.uint8), mask, [patch])


def test_a_hole_pixel_given_twice_is_refused() -> None:
    mask = np.ones((2, 2), np.bool_)
    patch = (Box(0, 0, 2, 2), np.zeros((2, 2, 1), np.uint8))
    with pytest.raises(ValueError, match="repeats hole pixels"):
        composite_page(np.zeros((2, 2, 1), np.uint8), mask, [patch, patch])


@pytest.mark.parametrize(
    ("box", "samples"),
    [
        (Box(0, 0, 2, 2), np.zeros((2, 2, 1), np.uint16)),
        (Box(0, 0, 2, 2), np.zeros((2, 2, 3), np.uint8)),
        (Box(0, 0, 2, 2), np.zeros((1, 2, 1), np.uint8)),
        (Box(1, 1, 2, 2), np.zeros((2, 2, 1), np.uint8)),
    ],
    ids=["dtype", "channels", "height", "outside"],
)
def test_a_patch_that_does_not_fit_is_refused(box: Box, samples: np.ndarray) -> None:
    with pytest.raises(ValueError, match="the patch for"):
        composite_page(np.zeros((2, 2, 1), np.uint8), np.ones((2, 2), np.bool_), [(box, samples)])


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="the mask is"):
        composite_page(np.zeros((2, 2, 1), np.uint8), np.ones((2, 3), np.bool_), [])
