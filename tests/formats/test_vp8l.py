from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import blot, repair, smooth
from PIL import Image

from restorepix.formats import read_photo, verify_photo, vp8l, write_photo
from restorepix.formats.vp8l import encode_vp8l


def decode(content: bytes, channels: int) -> np.ndarray:
    """Return what two builds of libwebp see in a chunk."""
    body = b"WEBPVP8L" + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    data = b"RIFF" + struct.pack("<I", len(body)) + body
    with Image.open(io.BytesIO(data)) as picture:
        shown = np.asarray(picture.convert("RGBA" if channels == 4 else "RGB"))
    other = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(other[..., 2::-1], shown[..., :3])
    return shown


def draw(kind: str, height: int, width: int, channels: int, seed: int) -> np.ndarray:
    shape, rng = (height, width, channels), np.random.default_rng(seed)
    match kind:
        case "noise":
            return rng.integers(0, 256, shape, dtype=np.uint8)
        case "grain":
            return np.clip(rng.normal(128, 3, shape), 0, 255).astype(np.uint8)
        case "flat":
            return np.full(shape, 77, np.uint8)
        case "two":
            return np.where(rng.random(shape) < 0.01, 200, 10).astype(np.uint8)
        case _:
            return smooth(height, width, channels, 255, seed)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["noise", "grain", "flat", "two", "smooth"]),
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    channels=st.sampled_from([3, 4]),
    band=st.sampled_from([1, 100, 1 << 20]),
    seed=st.integers(0, 99),
)
def test_every_value_comes_back(kind, height, width, channels, band, seed):
    samples = draw(kind, height, width, channels, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vp8l, "_BAND_PIXELS", band)
        content = encode_vp8l(samples)
    np.testing.assert_array_equal(decode(content, channels), samples)


@pytest.mark.parametrize("predictor", [7, 10, 12])
@pytest.mark.parametrize("green", [False, True])
def test_every_way_can_be_undone(predictor, green, monkeypatch):
    monkeypatch.setattr(vp8l, "_choose_way", lambda _: vp8l._Way(predictor, green))
    for channels in (3, 4):
        samples = smooth(50, 41, channels, 255)
        np.testing.assert_array_equal(decode(encode_vp8l(samples), channels), samples)


def test_codes_of_very_rare_symbols_are_short_enough():
    counts = np.zeros(256, np.int64)
    counts[:40] = 2 ** np.arange(40, dtype=np.int64)
    lengths = vp8l._measure_codes(counts)
    assert lengths[:40].min() >= 1 and lengths.max() <= 15
    assert np.sum(0.5 ** lengths[:40]) == 1


def test_photographs_are_no_larger_than_a_quarter_more_than_by_libwebp():
    from skimage import data

    samples = data.astronaut()
    buffer = io.BytesIO()
    Image.fromarray(samples).save(buffer, "WEBP", lossless=True, method=1, quality=20)
    assert len(encode_vp8l(samples)) < 1.25 * len(buffer.getvalue())


@pytest.mark.parametrize("channels", [3, 4])
def test_large_files_go_through_it(channels, monkeypatch):
    monkeypatch.setattr("restorepix.formats.webp._LARGE_PIXELS", 1000)
    samples = smooth(60, 50, channels, 255)
    samples[..., 3:] |= 128
    buffer = io.BytesIO()
    Image.fromarray(samples).save(buffer, "WEBP", lossless=True, exact=True)
    photo = read_photo(buffer.getvalue(), "a.webp")
    mask = blot(60, 50)
    fixed = repair(photo.pages[0], mask)
    encoded = write_photo(photo, [fixed], [mask], name="a.webp")
    known = encoded.known
    verify_photo(buffer.getvalue(), encoded.data, [mask], name="a.webp", known=known)
    again = read_photo(encoded.data, "b.webp").pages[0]
    np.testing.assert_array_equal(again.pixels, fixed)
    assert (again.alpha is None) == (channels == 3)
