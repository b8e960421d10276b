from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import blot, repair, smooth
from PIL import Image

from restorepix.errors import (
    PreservationError,
    TooLargeError,
    UnreadableError,
    UnsupportedError,
)
from restorepix.formats import read_photo, verify_photo, write_photo


def make(height=41, width=37, colors=64, *, seed=0, **options):
    """Return a GIF by Pillow."""
    picture = Image.fromarray(smooth(height, width, 3, 255, seed)).quantize(colors)
    buffer = io.BytesIO()
    picture.save(buffer, "GIF", comment=b"a comment that stays", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("interlace", [0, 1])
@pytest.mark.parametrize("transparency", [None, 3])
@pytest.mark.parametrize("colors", [2, 7, 64, 256])
def test_round_trip(colors, transparency, interlace):
    if transparency is not None and colors == 2:
        transparency = 1
    options = {} if transparency is None else {"transparency": transparency}
    data = make(colors=colors, interlace=interlace, **options) + b"after the trailer"
    photo = read_photo(data, "a.gif")
    (page,) = photo.pages
    with Image.open(io.BytesIO(data)) as picture:
        np.testing.assert_array_equal(page.pixels, np.asarray(picture.convert("RGB")))
        if transparency is not None:
            alpha = np.asarray(picture.convert("RGBA"))[..., 3]
            np.testing.assert_array_equal(page.alpha, alpha)
    assert (page.alpha is None) == (transparency is None)
    mask = blot(41, 37)
    encoded = write_photo(photo, [repair(page, mask)], [mask], name="a.gif")
    assert encoded.preserved == "exact"
    verify_photo(data, encoded.data, [mask], name="a.gif")
    with Image.open(io.BytesIO(encoded.data)) as again, Image.open(io.BytesIO(data)) as before:
        assert again.info["comment"] == b"a comment that stays"
        new, old = np.asarray(again), np.asarray(before)
    np.testing.assert_array_equal(new[~mask], old[~mask])
    assert (new[mask] != old[mask]).any()
    assert encoded.data.endswith(b";after the trailer")


def test_repaired_pixels_take_the_nearest_entry():
    data = make(colors=256)
    photo = read_photo(data, "a.gif")
    mask = blot(41, 37)
    fixed = photo.pages[0].pixels.copy()
    wanted = photo.pages[0].pixels[20, 20]
    fixed[mask] = wanted
    encoded = write_photo(photo, [fixed], [mask], name="a.gif")
    again = read_photo(encoded.data, "a.gif").pages[0].pixels
    assert (again[mask] == wanted).all()


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    colors=st.integers(2, 256),
    interlace=st.integers(0, 1),
    seed=st.integers(0, 99),
)
def test_known_indices_survive(height, width, colors, interlace, seed):
    data = make(height, width, colors, seed=seed, interlace=interlace, transparency=0)
    photo = read_photo(data, "a.gif")
    mask = blot(height, width, seed)
    encoded = write_photo(photo, [repair(photo.pages[0], mask, seed)], [mask], name="a.gif")
    verify_photo(data, encoded.data, [mask], name="a.gif")


def test_profile_is_read():
    data = make()
    at = data.index(b"!\xfe")
    block = b"!\xff\x0bICCRGBG1012\x05hello\x06 there\0"
    photo = read_photo(data[:at] + block + data[at:], "a.gif")
    assert photo.pages[0].icc == b"hello there"


def test_verify_names_what_changed():
    data = make()
    with pytest.raises(PreservationError, match="blocks before the picture|blocks after"):
        verify_photo(data, data.replace(b"comment", b"komment"), [None], name="a.gif")
    photo = read_photo(data, "a.gif")
    mask = blot(41, 37)
    wrong = write_photo(photo, [repair(photo.pages[0], mask)], [mask], name="a.gif").data
    mask[np.argwhere(mask)[0][0]] = False
    with pytest.raises(PreservationError, match="known samples differ"):
        verify_photo(data, wrong, [mask], name="a.gif")


def test_animation_and_partial_pictures_are_refused():
    buffer = io.BytesIO()
    frames = [Image.fromarray(smooth(20, 21, 3, 255, seed)).quantize(16) for seed in (0, 1)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(UnsupportedError, match="animated GIF"):
        read_photo(buffer.getvalue(), "a.gif")
    data = bytearray(make())
    struct.pack_into("<HH", data, 6, 50, 50)
    with pytest.raises(UnsupportedError, match="does not fill its canvas"):
        read_photo(bytes(data), "a.gif")


def test_size_limit_comes_from_the_header():
    data = bytearray(make())
    struct.pack_into("<HH", data, 6, 65535, 65535)
    with pytest.raises(TooLargeError, match="--max-mpixels"):
        read_photo(bytes(data), "a.gif")


@pytest.mark.parametrize("interlace", [0, 1])
def test_every_truncation_is_unreadable(interlace):
    data = make(9, 7, 16, interlace=interlace)
    for length in range(6, len(data)):
        with pytest.raises(UnreadableError, match=r"^cut\.gif: "):
            read_photo(data[:length], "cut.gif")


def test_mutated_files_never_crash():
    rng = np.random.default_rng(0)
    outcomes = set()
    seeds = [make(12, 9, colors, interlace=i) for colors in (2, 16, 256) for i in (0, 1)]
    for round_ in range(600):
        data = bytearray(seeds[round_ % len(seeds)])
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(6, len(data)))] = int(rng.integers(256))
        try:
            photo = read_photo(bytes(data), "a.gif", max_mpixels=1)
            mask = blot(photo.pages[0].height, photo.pages[0].width, round_)
            fixed = repair(photo.pages[0], mask)
            encoded = write_photo(photo, [fixed], [mask], name="a.gif")
            verify_photo(bytes(data), encoded.data, [mask], name="a.gif")
            outcomes.add("fine")
        except (UnreadableError, UnsupportedError, TooLargeError) as error:
            outcomes.add(type(error).__name__)
    assert {"fine", "UnreadableError"} <= outcomes
