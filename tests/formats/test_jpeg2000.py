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

from restorepix.errors import (
    PreservationError,
    TooLargeError,
    UnreadableError,
    UnsupportedError,
)
from restorepix.formats import read_photo, verify_photo, write_photo

UUID = struct.pack(">I4s", 40, b"uuid") + b"sixteen bytes id" + b"an EXIF or XMP.."


def make(channels=3, height=41, width=37, *, bits=8, lossy=False, bare=False, seed=0):
    """Return a JPEG 2000 file and the samples it was made of."""
    samples = smooth(height, width, channels, (1 << bits) - 1, seed)
    if bits == 16:
        order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
        flags = [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000]
        return cv2.imencode(".jp2", samples[..., order], flags)[1].tobytes(), samples
    buffer = io.BytesIO()
    options = {"irreversible": True, "quality_layers": [20]} if lossy else {}
    picture = Image.fromarray(np.squeeze(samples, 2) if channels == 1 else samples)
    picture.save(buffer, "JPEG2000", no_jp2=bare, **options)
    return buffer.getvalue(), samples


def insert_uuid(data):
    """Put a box of metadata before the codestream, which Pillow lets run to the end."""
    at = data.index(b"jp2c") - 4
    return data[:at] + UUID + data[at:]


@pytest.mark.parametrize(("channels", "bits"), [(1, 8), (3, 8), (4, 8), (1, 16), (3, 16)])
def test_reversible_files_stay_exact(channels, bits):
    data, samples = make(channels, bits=bits)
    data = insert_uuid(data)
    photo = read_photo(data, "a.jp2")
    (page,) = photo.pages
    np.testing.assert_array_equal(page.pixels, samples[..., :3])
    if channels == 4:
        np.testing.assert_array_equal(page.alpha, samples[..., 3])
    mask = blot(41, 37)
    fixed = repair(page, mask)
    encoded = write_photo(photo, [fixed], [mask], name="a.jp2")
    assert encoded.preserved == "exact"
    verify_photo(data, encoded.data, [mask], name="a.jp2")
    assert UUID in encoded.data
    again = cv2.imdecode(np.frombuffer(encoded.data, np.uint8), cv2.IMREAD_UNCHANGED)
    again = again[..., None] if again.ndim == 2 else again[..., 2::-1]
    np.testing.assert_array_equal(again, fixed)


@pytest.mark.parametrize("bare", [False, True])
def test_lossy_files_become_lossless_with_the_pixels_they_had(bare):
    data, _ = make(lossy=True, bare=bare)
    photo = read_photo(data, "a.jp2")
    mask = blot(41, 37)
    fixed = repair(photo.pages[0], mask)
    encoded = write_photo(photo, [fixed], [mask], name="a.jp2")
    assert encoded.preserved == "lossless-rewrite"
    verify_photo(data, encoded.data, [mask], name="a.jp2")
    with Image.open(io.BytesIO(encoded.data)) as picture:
        np.testing.assert_array_equal(np.asarray(picture), fixed)


@pytest.mark.parametrize(("channels", "bits"), [(1, 8), (3, 8), (4, 8), (3, 16)])
@pytest.mark.parametrize("size", [(2080, 33), (40, 4096), (35, 2060)])
def test_large_pictures_are_written_in_tiles(channels, bits, size, monkeypatch):
    monkeypatch.setattr("restorepix.formats.jpeg2000._TILED_PIXELS", 1000)
    # Their codes fit together at multiples of 64 code-block samples in the lowest resolution.
    monkeypatch.setattr("restorepix.formats.jpeg2000._TILE_SIDE", 2048)
    data, samples = make(channels, *size, bits=bits)
    photo = read_photo(data, "a.jp2")
    mask = blot(*size)
    fixed = repair(photo.pages[0], mask)
    encoded = write_photo(photo, [fixed], [mask], name="a.jp2")
    assert encoded.preserved == "exact"
    verify_photo(data, encoded.data, [mask], name="a.jp2")
    siz = encoded.data.index(b"\xff\x4f\xff\x51")
    tile = struct.unpack_from(">II", encoded.data, siz + 24)
    assert tile == {(2080, 33): (33, 2048), (40, 4096): (2048, 40)}.get(size, (2060, 35))
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    shown = cv2.imdecode(np.frombuffer(encoded.data, np.uint8), cv2.IMREAD_UNCHANGED)
    shown = shown.reshape(*size, channels)[..., order]
    np.testing.assert_array_equal(shown[..., :3][~mask], samples[..., :3][~mask])
    np.testing.assert_array_equal(shown[..., :3][mask], fixed[mask])
    np.testing.assert_array_equal(shown[..., 3:], samples[..., 3:])


@settings(max_examples=20, deadline=None)
@given(
    channels=st.sampled_from([1, 3]),
    bits=st.sampled_from([8, 16]),
    height=st.integers(32, 70),
    width=st.integers(32, 70),
    seed=st.integers(0, 99),
)
def test_known_pixels_survive(channels, bits, height, width, seed):
    data, _ = make(channels, height, width, bits=bits, seed=seed)
    photo = read_photo(data, "a.jp2")
    mask = blot(height, width, seed)
    encoded = write_photo(photo, [repair(photo.pages[0], mask, seed)], [mask], name="a.jp2")
    verify_photo(data, encoded.data, [mask], name="a.jp2")


def test_profile_is_read_and_kept():
    data, _ = make()
    profile = b"\0" * 16 + b"RGB " + b"a profile"
    old = data[data.index(b"colr") - 4 :][:15]
    new = struct.pack(">I4sBBB", 11 + len(profile), b"colr", 2, 0, 0) + profile
    at = data.index(b"jp2h") - 4
    (size,) = struct.unpack_from(">I", data, at)
    data = data[:at] + struct.pack(">I", size + len(new) - len(old)) + data[at + 4 :]
    data = data.replace(old, new)
    photo = read_photo(data, "a.jp2")
    assert photo.pages[0].icc == profile
    mask = blot(41, 37)
    encoded = write_photo(photo, [repair(photo.pages[0], mask)], [mask], name="a.jp2")
    verify_photo(data, encoded.data, [mask], name="a.jp2")
    assert profile in encoded.data


def test_verify_names_what_changed():
    data, samples = make()
    mask = blot(41, 37)
    with pytest.raises(PreservationError, match="box uuid"):
        verify_photo(data, insert_uuid(data), [mask], name="a.jp2")
    row, column = np.argwhere(~mask)[3]
    samples[row, column, 1] ^= 1
    buffer = io.BytesIO()
    Image.fromarray(samples).save(buffer, "JPEG2000")
    with pytest.raises(PreservationError, match="rgb: 1 known"):
        verify_photo(data, buffer.getvalue(), [mask], name="a.jp2")


def test_other_kinds_are_refused_politely():
    data, _ = make()
    at = data.index(b"\xff\x4f\xff\x51")
    twelve = bytearray(data)
    twelve[at + 42 : at + 51 : 3] = bytes([11, 11, 11])
    with pytest.raises(UnsupportedError, match="12 bit"):
        read_photo(bytes(twelve), "a.jp2")
    halved = bytearray(data)
    halved[at + 46] = 2
    with pytest.raises(UnsupportedError, match="different depth or size"):
        read_photo(bytes(halved), "a.jp2")
    yellow = data.replace(struct.pack(">BBBI", 1, 0, 0, 16), struct.pack(">BBBI", 1, 0, 0, 18))
    with pytest.raises(UnsupportedError, match="colour space 18"):
        read_photo(yellow, "a.jp2")


def test_tiny_pictures_are_refused():
    with pytest.raises(UnsupportedError, match="a side below 32 pixels"):
        read_photo(make(3, 9, 40)[0], "a.jp2")


def test_size_limit_comes_from_the_header():
    data, _ = make()
    with pytest.raises(TooLargeError, match="--max-mpixels"):
        read_photo(data, "a.jp2", max_mpixels=0.001)


@pytest.mark.parametrize("bare", [False, True])
def test_every_truncation_is_unreadable(bare):
    data, _ = make(1, 32, 33, bare=bare)
    for length in [*range(12, 200), *range(200, len(data), 7), len(data) - 1]:
        with pytest.raises((UnreadableError, UnsupportedError), match=r"^cut\.jp2: "):
            read_photo(data[:length], "cut.jp2")


def test_mutated_files_never_crash():
    rng = np.random.default_rng(0)
    outcomes = set()
    seeds = [make(c, 33, 35, lossy=lossy)[0] for c in (1, 3, 4) for lossy in (False, True)]
    for round_ in range(300):
        data = bytearray(seeds[round_ % len(seeds)])
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(12, len(data)))] = int(rng.integers(256))
        try:
            photo = read_photo(bytes(data), "a.jp2", max_mpixels=1)
            mask = blot(photo.pages[0].height, photo.pages[0].width, round_)
            fixed = repair(photo.pages[0], mask)
            encoded = write_photo(photo, [fixed], [mask], name="a.jp2")
            verify_photo(bytes(data), encoded.data, [mask], name="a.jp2")
            outcomes.add("fine")
        except (UnreadableError, UnsupportedError, TooLargeError) as error:
            outcomes.add(type(error).__name__)
    assert {"fine", "UnreadableError"} <= outcomes
