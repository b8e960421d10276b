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

FIELDS = {
    "555": (16, (0x7C00, 0x3E0, 0x1F)),
    "565": (16, (0xF800, 0x7E0, 0x1F)),
    "4444": (16, (0xF00, 0xF0, 0xF, 0xF000)),
    "8888": (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
    "888x": (32, (0xFF, 0xFF00, 0xFF0000)),
    "1010102": (32, (0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000)),
}


def build_bmp(height, width, bits, *, fields=(), top_down=False, palette=None, icc=b"", seed=0):
    """Return a BMP of random bits, unused ones included, by the plain specification."""
    rng = np.random.default_rng(seed)
    row = (width * bits + 31) // 32 * 4
    pixels = rng.integers(0, 256, height * row, dtype=np.uint8).tobytes()
    table = b"" if palette is None else b"".join(bytes([b, g, r, 0]) for r, g, b in palette)
    size = 124 if icc else 108 if len(fields) == 4 else 40
    header = struct.pack(
        "<IiiHHIIiiII", size, width, -height if top_down else height, 1, bits,
        3 if fields else 0, len(pixels), 2835, 2835, 0 if palette is None else len(palette), 0,
    )  # fmt: skip
    packed = struct.pack(f"<{len(fields)}I", *fields)
    header = (
        header + packed if size == 40 else (header + packed.ljust(16, b"\0")).ljust(size, b"\0")
    )
    start = 14 + len(header) + len(table)
    if icc:
        header = bytearray(header)
        struct.pack_into("<I", header, 56, 0x4D424544)
        struct.pack_into("<II", header, 112, start - 14 + len(pixels), len(icc))
    body = bytes(header) + table + pixels + icc
    return b"BM" + struct.pack("<IHHI", 14 + len(body), 0, 0, start) + body


def random_palette(bits, seed=3):
    return np.random.default_rng(seed).integers(0, 256, (1 << bits, 3)).tolist()


def make(kind, height=23, width=19, **options):
    if kind in FIELDS:
        bits, fields = FIELDS[kind]
        return build_bmp(height, width, bits, fields=fields, **options)
    bits = int(kind)
    palette = random_palette(bits) if bits <= 8 else None
    return build_bmp(height, width, bits, palette=palette, **options)


KINDS = ["1", "4", "8", "16", "24", "32", *FIELDS]


@pytest.mark.parametrize("top_down", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_round_trip_changes_hole_pixels_alone(kind, top_down):
    data = make(kind, top_down=top_down, icc=b"odd profile") + b"trailer"
    photo = read_photo(data, "a.bmp")
    (page,) = photo.pages
    assert page.icc == b"odd profile"
    assert page.pixels.dtype == (np.uint16 if kind == "1010102" else np.uint8)
    assert (page.alpha is not None) == (kind in ("4444", "8888", "1010102"))
    mask = blot(23, 19)
    fixed = repair(page, mask)
    encoded = write_photo(photo, [fixed], [mask], name="a.bmp")
    assert encoded.preserved == "exact"
    assert len(encoded.data) == len(data)
    verify_photo(data, encoded.data, [mask], name="a.bmp")
    again = read_photo(encoded.data, "a.bmp").pages[0]
    np.testing.assert_array_equal(again.pixels[~mask], page.pixels[~mask])
    if kind in ("24", "32", "8888", "888x"):
        np.testing.assert_array_equal(again.pixels, fixed)
    elif kind not in ("1", "4", "8"):
        error = np.abs(again.pixels.astype(int) - fixed).max()
        assert error <= {"565": 4, "4444": 9, "1010102": 33}.get(kind, 5)
    wrong = bytearray(encoded.data)
    wrong[-1] ^= 1
    with pytest.raises(PreservationError, match="data after the pixels"):
        verify_photo(data, bytes(wrong), [mask], name="a.bmp")


@pytest.mark.parametrize("kind", ["1", "4", "8", "16", "24", "565", "8888"])
def test_reads_what_pillow_reads(kind):
    data = make(kind)
    page = read_photo(data, "a.bmp").pages[0]
    with Image.open(io.BytesIO(data)) as picture:
        seen = np.asarray(picture.convert("RGB"))
    if kind in ("16", "565"):  # Pillow rounds five bits to eight otherwise
        assert np.abs(seen.astype(int) - page.pixels).max() <= 1
    else:
        np.testing.assert_array_equal(page.pixels, seen)


def test_os2_header():
    samples = smooth(5, 6, 3, 255)
    rows = b"".join(row[:, ::-1].tobytes() + b"\0\0" for row in samples[::-1])
    data = b"BM" + struct.pack("<IHHIIHHHH", 26 + len(rows), 0, 0, 26, 12, 6, 5, 1, 24) + rows
    photo = read_photo(data, "a.bmp")
    np.testing.assert_array_equal(photo.pages[0].pixels, samples)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    top_down=st.booleans(),
    seed=st.integers(0, 99),
)
def test_known_pixels_survive(kind, height, width, top_down, seed):
    data = make(kind, height, width, top_down=top_down, seed=seed)
    photo = read_photo(data, "a.bmp")
    mask = blot(height, width, seed)
    encoded = write_photo(photo, [repair(photo.pages[0], mask, seed)], [mask], name="a.bmp")
    verify_photo(data, encoded.data, [mask], name="a.bmp")


def test_palette_indices_outside_the_hole_stay():
    data = build_bmp(8, 8, 8, palette=[(0, 0, 0), (0, 0, 0), (255, 0, 0)])
    pixels = bytearray(data)
    pixels[-64:] = bytes([0, 1, 2, 1, 0, 1, 2, 9] * 8)
    photo = read_photo(bytes(pixels), "a.bmp")
    mask = np.zeros((8, 8), bool)
    mask[0] = True
    fixed = photo.pages[0].pixels.copy()
    fixed[0] = (200, 9, 9)
    encoded = write_photo(photo, [fixed], [mask], name="a.bmp")
    assert list(encoded.data[-8:]) == [2] * 7 + [9]  # an index beyond the palette stays
    assert encoded.data[:-8] == bytes(pixels[:-8])
    verify_photo(bytes(pixels), encoded.data, [mask], name="a.bmp")


def test_verify_finds_unused_bits():
    data = make("32")
    wrong = bytearray(data)
    wrong[-1] ^= 1
    with pytest.raises(PreservationError, match="unused bits"):
        verify_photo(data, bytes(wrong), [None], name="a.bmp")


def test_compressed_is_refused():
    data = bytearray(make("8"))
    struct.pack_into("<I", data, 30, 1)
    with pytest.raises(UnsupportedError, match="compressed BMP"):
        read_photo(bytes(data), "a.bmp")


def test_size_limit_comes_from_the_header():
    data = bytearray(make("24"))
    struct.pack_into("<ii", data, 18, 1 << 20, 1 << 20)
    with pytest.raises(TooLargeError, match="--max-mpixels"):
        read_photo(bytes(data), "a.bmp")


@pytest.mark.parametrize("kind", ["1", "8", "24", "565"])
def test_every_truncation_is_unreadable(kind):
    data = make(kind, 5, 6)
    for length in range(18, len(data)):
        with pytest.raises(UnreadableError, match=r"^cut\.bmp: "):
            read_photo(data[:length], "cut.bmp")


def test_mutated_files_never_crash():
    rng = np.random.default_rng(0)
    outcomes = set()
    for round_ in range(900):
        data = bytearray(make(KINDS[round_ % len(KINDS)], 6, 7))
        for _ in range(int(rng.integers(1, 3))):
            data[int(rng.integers(18, 80))] = int(rng.integers(256))
        try:
            photo = read_photo(bytes(data), "a.bmp", max_mpixels=1)
            mask = blot(photo.pages[0].height, photo.pages[0].width, round_)
            fixed = repair(photo.pages[0], mask)
            encoded = write_photo(photo, [fixed], [mask], name="a.bmp")
            verify_photo(bytes(data), encoded.data, [mask], name="a.bmp")
            outcomes.add("fine")
        except (UnreadableError, UnsupportedError, TooLargeError) as error:
            outcomes.add(type(error).__name__)
    assert outcomes == {"fine", "UnreadableError", "UnsupportedError", "TooLargeError"}
