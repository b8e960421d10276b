"""What headers and stored bytes tell without decoding is what decoding tells."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from conftest import draw_photo, encode_picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from restorepix.errors import TooLargeError, UnreadableError
from restorepix.formats import read_photo
from restorepix.formats.measure import is_black, measure_pages
from restorepix.masks import read_mask_for


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_sizes_are_those_of_the_decoded_picture(suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode_picture(draw_photo(48, 64), suffix, exif=exif)
    page = read_photo(data, "a").pages[0]
    assert measure_pages(data, "a", max_mpixels=1) == ((page.height, page.width),)
    with pytest.raises(TooLargeError):
        measure_pages(data, "a", max_mpixels=0.001)
    with pytest.raises(UnreadableError):
        measure_pages(data[:-20], "a", max_mpixels=1)


@pytest.mark.parametrize("suffix", [".tif", ".webp", ".bmp", ".gif"])
def test_other_formats_are_left_to_their_decoder(suffix):
    assert measure_pages(encode_picture(draw_photo(), suffix), "a", max_mpixels=1) is None


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 70)),
    st.sampled_from(["1", "L", "I;16", "RGB", "LA"]),
    st.booleans(),
    st.integers(0, 9),
    st.randoms(use_true_random=False),
)
def test_black_is_what_decodes_to_black(size, mode, has_mark, level, random):
    picture = Image.new(mode, size[::-1])
    if has_mark:
        place = (random.randrange(size[1]), random.randrange(size[0]))
        picture.putpixel(place, {"1": 1, "L": 3, "I;16": 2, "RGB": (0, 1, 0), "LA": (1, 0)}[mode])
    data = encode_picture(np.asarray(picture), compress_level=level)
    pixels = read_photo(data, "a").pages[0].pixels
    assert not (is_black(data, "a") and pixels.any())
    if mode in ("1", "L", "I;16"):
        assert is_black(data, "a") == (not pixels.any())


@pytest.mark.parametrize("strategy", range(5))
def test_filters_do_not_hide_that_a_picture_is_black(strategy):
    black = np.zeros((1500, 1400), np.uint8)
    flags = [cv2.IMWRITE_PNG_STRATEGY, strategy]
    data = cv2.imencode(".png", black, flags)[1].tobytes()
    assert is_black(data, "a")
    black[1499, 1399] = 1
    assert not is_black(cv2.imencode(".png", black, flags)[1].tobytes(), "a")


def test_a_black_mask_is_read_as_any_other(monkeypatch):
    data = encode_picture(np.zeros((24, 32), np.uint8))
    fast = read_mask_for(data, "m", [(24, 32)], max_mpixels=1)
    monkeypatch.setattr("restorepix.masks.is_black", lambda *_: False)
    slow = read_mask_for(data, "m", [(24, 32)], max_mpixels=1)
    assert (fast.pages, fast.review) == (slow.pages, slow.review) == ((None,), ())
    assert fast.hash_pages() == slow.hash_pages()


def test_a_corrupt_black_mask_is_refused():
    data = bytearray(encode_picture(np.zeros((24, 32), np.uint8)))
    data[data.index(b"IDAT") + 6] ^= 0xFF
    with pytest.raises(UnreadableError):
        is_black(bytes(data), "a")
    assert not is_black(b"no picture", "a")
