from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import exif_block
from PIL import Image, ImageOps

from restorepix.formats.exif import (
    apply_orientation,
    displayed_shape,
    read_orientation,
    undo_orientation,
)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_applying_agrees_with_pillow(orientation):
    stored = np.arange(24, dtype=np.uint8).reshape(4, 6)
    buffer = io.BytesIO()
    Image.fromarray(stored).save(buffer, "PNG", exif=exif_block(orientation))
    with Image.open(buffer) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture))
    shown = apply_orientation(stored, orientation)
    np.testing.assert_array_equal(shown, expected)
    assert shown.shape == displayed_shape(4, 6, orientation)
    assert shown.base is not None
    assert np.shares_memory(shown, stored)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3)])
def test_undoing_gives_back_the_stored_pixels(orientation, shape):
    stored = np.random.default_rng(0).random(shape)
    shown = apply_orientation(stored, orientation)
    np.testing.assert_array_equal(undo_orientation(shown, orientation), stored)


@pytest.mark.parametrize("orientation", [0, 9, -1])
def test_other_orientations_are_a_mistake_of_the_caller(orientation):
    for function in (apply_orientation, undo_orientation):
        with pytest.raises(ValueError, match="1 to 8"):
            function(np.zeros((2, 2)), orientation)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_read(orientation, prefix, order):
    assert read_orientation(prefix + exif_block(orientation, order)) == orientation


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_invalid_values_count_as_upright(orientation):
    assert read_orientation(exif_block(orientation)) == 1


@given(st.binary(max_size=80), st.integers(0, 80))
def test_damaged_blocks_count_as_upright_or_say_something_valid(noise, cut):
    block = exif_block(6)
    for damaged in (noise, block[:cut], block[:cut] + noise, b"II*\0" + noise, b"MM\0*" + noise):
        assert 1 <= read_orientation(damaged) <= 8
