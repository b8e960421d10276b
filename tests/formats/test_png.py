from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import CHANNELS, blot, build_png, exif_block, png_chunk, repair, smooth
from PIL import Image

from restorepix.errors import (
    PreservationError,
    TooLargeError,
    UnreadableError,
    UnsupportedError,
)
from restorepix.formats import read_photo, verify_photo, write_photo
from restorepix.formats.exif import apply_orientation
from restorepix.formats.png import split_chunks

KINDS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8),
         (4, 8), (4, 16), (6, 8), (6, 16)]  # fmt: skip


def make(color, bits, height=37, width=29, *, interlaced=False, before=(), after=(), seed=0):
    """Return a file and the samples in it."""
    samples = smooth(height, width, CHANNELS[color], (1 << bits) - 1, seed)
    chunks = list(before)
    if color == 3:
        palette = np.random.default_rng(7).integers(0, 256, (1 << bits, 3), dtype=np.uint8)
        chunks.append((b"PLTE", palette.tobytes()))
    data = build_png(samples, bits, color, interlaced=interlaced, before=chunks, after=after)
    return data, samples


def decode_with_library(data, color, bits):
    """Return what Pillow or OpenCV read, (H, W, C), at full depth."""
    if bits == 16:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if color == 4:  # OpenCV gives grey with alpha as BGRA
            return decoded[..., [0, 3]]
        order = {2: [2, 1, 0], 6: [2, 1, 0, 3]}.get(color)
        return decoded[..., None] if order is None else decoded[..., order]
    picture = Image.open(io.BytesIO(data))
    if color == 3:
        picture = picture.convert("RGB")
    if picture.mode == "1":
        picture = picture.convert("L")
    decoded = np.asarray(picture)
    return decoded if decoded.ndim == 3 else decoded[..., None]


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("color", "bits"), KINDS)
def test_reads_what_libraries_read(color, bits, interlaced):
    data, samples = make(color, bits, interlaced=interlaced)
    photo = read_photo(data, "a.png")
    (page,) = photo.pages
    seen = page.pixels
    if page.alpha is not None:
        seen = np.dstack([page.pixels, page.alpha])
    np.testing.assert_array_equal(seen, decode_with_library(data, color, bits))
    assert seen.dtype == (np.uint16 if bits == 16 else np.uint8)
    assert page.color == ("grey" if color in (0, 4) else "rgb")


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("color", "bits"), KINDS)
def test_round_trip_keeps_known_samples_and_chunks(color, bits, interlaced):
    before = [(b"gAMA", struct.pack(">I", 45455)), (b"tEXt", b"Title\0x"), (b"prIv", b"\0\1\2")]
    after = [(b"tIME", b"\x07\xd0\1\2\3\4\5"), (b"eXIf", exif_block(6))]
    data, _ = make(color, bits, interlaced=interlaced, before=before, after=after)
    photo = read_photo(data, "a.png")
    assert photo.orientation == 6
    (page,) = photo.pages
    assert page.pixels.shape[:2] == (29, 37)
    mask = blot(29, 37)
    fixed = repair(page, mask)
    encoded = write_photo(photo, [fixed], [mask], name="a.png")
    assert encoded.preserved == "exact"
    proof = verify_photo(data, encoded.data, [mask], name="a.png")
    assert len(proof) == 64
    again = read_photo(encoded.data, "b.png").pages[0]
    np.testing.assert_array_equal(again.pixels[~mask], page.pixels[~mask])
    if page.alpha is not None:
        np.testing.assert_array_equal(again.alpha, page.alpha)
    if bits >= 8 and color != 3:
        np.testing.assert_array_equal(again.pixels, fixed)
    # an independent decoder agrees with ours about the new file
    seen = again.pixels if again.alpha is None else np.dstack([again.pixels, again.alpha])
    library = decode_with_library(encoded.data, color, bits)
    np.testing.assert_array_equal(seen, apply_orientation(library, 6))


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    interlaced=st.booleans(),
    orientation=st.integers(1, 8),
    seed=st.integers(0, 99),
)
def test_known_pixels_survive_any_size_and_mask(kind, height, width, interlaced, orientation, seed):
    exif = [(b"eXIf", exif_block(orientation, ">"))]
    data, _ = make(*kind, height, width, interlaced=interlaced, before=exif, seed=seed)
    photo = read_photo(data, "a.png")
    (page,) = photo.pages
    mask = blot(page.height, page.width, seed)
    encoded = write_photo(photo, [repair(page, mask, seed)], [mask], name="a.png")
    verify_photo(data, encoded.data, [mask], name="a.png")


def test_empty_mask_gives_the_same_stream():
    data, _ = make(6, 8)
    photo = read_photo(data, "a.png")
    again = write_photo(photo, [None], [None], name="a.png").data
    assert read_photo(again, "a.png").pages[0].pixels.tolist() == photo.pages[0].pixels.tolist()
    inflated = []
    for file in (data, again):
        chunks = [c for c in split_chunks(file, "a.png") if c.kind == b"IDAT"]
        inflated.append(zlib.decompress(b"".join(file[c.start + 8 : c.end - 4] for c in chunks)))
    assert inflated[0] == inflated[1]


def test_several_bands_decode_as_one(monkeypatch):
    data, _ = make(2, 16, 40, 33)
    whole = read_photo(data, "a.png").pages[0].pixels
    monkeypatch.setattr("restorepix.formats.png._BAND_BYTES", 500)
    np.testing.assert_array_equal(read_photo(data, "a.png").pages[0].pixels, whole)
    photo = read_photo(data, "a.png")
    mask = blot(40, 33)
    encoded = write_photo(photo, [repair(photo.pages[0], mask)], [mask], name="a.png")
    verify_photo(data, encoded.data, [mask], name="a.png")


def test_palette_keeps_known_indices_and_takes_nearest_entries_of_same_opacity():
    palette = bytes([0, 0, 0, 250, 0, 0, 0, 250, 0, 250, 10, 0])
    opacity = bytes([255, 255, 255, 9])
    samples = np.array([[[0], [1], [2], [3]]], np.uint8)
    data = build_png(samples, 2, 3, before=[(b"PLTE", palette), (b"tRNS", opacity)])
    photo = read_photo(data, "a.png")
    (page,) = photo.pages
    assert page.alpha.tolist() == [[255, 255, 255, 9]]
    mask = np.array([[True, False, True, True]])
    fixed = page.pixels.copy()
    fixed[0, 0], fixed[0, 2], fixed[0, 3] = (250, 9, 0), (200, 20, 20), (0, 0, 0)
    encoded = write_photo(photo, [fixed], [mask], name="a.png")
    again = read_photo(encoded.data, "a.png")
    # the third entry is nearest to (250, 9, 0) but of another opacity
    assert again.pages[0].pixels.tolist() == [[[250, 0, 0], [250, 0, 0], [250, 0, 0], [250, 10, 0]]]
    verify_photo(data, encoded.data, [mask], name="a.png")


def test_verify_tells_palette_indices_of_equal_colours_apart():
    palette = bytes([5, 5, 5, 5, 5, 5])
    one = build_png(np.zeros((2, 2, 1), np.uint8), 8, 3, before=[(b"PLTE", palette)])
    two = build_png(np.ones((2, 2, 1), np.uint8), 8, 3, before=[(b"PLTE", palette)])
    with pytest.raises(PreservationError, match="palette indices: 4 known samples differ"):
        verify_photo(one, two, [None], name="a.png")


@pytest.mark.parametrize(("color", "bits"), [(0, 2), (0, 8), (0, 16), (2, 8), (2, 16)])
def test_transparent_colour_stays_as_it_is(color, bits):
    samples = smooth(9, 11, CHANNELS[color], (1 << bits) - 1)
    samples[0, :3] = samples[4, 4]
    key = samples[4, 4].astype(">u2").tobytes()
    data = build_png(samples, bits, color, before=[(b"tRNS", key)])
    photo = read_photo(data, "a.png")
    (page,) = photo.pages
    assert not page.alpha[4, 4]
    assert not page.alpha[0, :3].any()
    assert page.alpha.max() == np.iinfo(page.pixels.dtype).max
    mask = np.zeros((9, 11), bool)
    mask[:3] = True
    fixed = page.pixels.copy()
    fixed[:3] = page.pixels[4, 4]  # repaired pixels that would turn transparent
    encoded = write_photo(photo, [fixed], [mask], name="a.png")
    verify_photo(data, encoded.data, [mask], name="a.png")
    np.testing.assert_array_equal(read_photo(encoded.data, "a").pages[0].alpha, page.alpha)


def test_profile_is_read_and_kept():
    profile = bytes(range(256)) * 3
    chunk = (b"iCCP", b"a name\0\0" + zlib.compress(profile))
    data, _ = make(2, 8, before=[chunk])
    photo = read_photo(data, "a.png")
    assert photo.pages[0].icc == profile
    mask = blot(37, 29)
    encoded = write_photo(photo, [repair(photo.pages[0], mask)], [mask], name="a.png")
    assert png_chunk(*chunk) in encoded.data
    verify_photo(data, encoded.data, [mask], name="a.png")


def test_data_after_the_end_is_kept():
    data = make(2, 8)[0] + b"a trailer of another program"
    photo = read_photo(data, "a.png")
    mask = blot(37, 29)
    encoded = write_photo(photo, [repair(photo.pages[0], mask)], [mask], name="a.png")
    assert encoded.data.endswith(b"a trailer of another program")


def change(data, kind):
    """Return the file with one bit of the named chunk's content changed, checksum corrected."""
    chunk = next(c for c in split_chunks(data, "a.png") if c.kind == kind)
    content = bytearray(data[chunk.start + 8 : chunk.end - 4])
    content[-1] ^= 1
    return data[: chunk.start] + png_chunk(kind, bytes(content)) + data[chunk.end :]


def test_verify_names_what_changed():
    data, samples = make(6, 16, before=[(b"tEXt", b"Title\0x")])
    mask = blot(37, 29)
    with pytest.raises(PreservationError, match="chunk tEXt"):
        verify_photo(data, change(data, b"tEXt"), [mask], name="a.png")
    dropped = data.replace(png_chunk(b"tEXt", b"Title\0x"), b"")
    with pytest.raises(PreservationError, match="chunk tEXt"):
        verify_photo(data, dropped, [mask], name="a.png")
    row, column = np.argwhere(~mask)[5]
    for channel, what in ((1, "rgb: 1 known samples"), (3, "alpha: 1 known samples")):
        other = samples.copy()
        other[row, column, channel] ^= 1
        wrong = build_png(other, 16, 6, before=[(b"tEXt", b"Title\0x")])
        with pytest.raises(PreservationError, match=what):
            verify_photo(data, wrong, [mask], name="a.png")
    row, column = np.argwhere(mask)[0]
    other = samples.copy()
    other[row, column, 3] ^= 1
    wrong = build_png(other, 16, 6, before=[(b"tEXt", b"Title\0x")])
    with pytest.raises(PreservationError, match="alpha"):
        verify_photo(data, wrong, [mask], name="a.png")


def test_hash_depends_on_known_samples_only():
    data, samples = make(2, 8)
    mask = blot(37, 29)
    inside, outside = samples.copy(), samples.copy()
    inside[mask] ^= 1
    outside[~mask] ^= 1
    proof = verify_photo(data, data, [mask], name="a")
    assert verify_photo(data, build_png(inside, 8, 2), [mask], name="a") == proof
    other = build_png(outside, 8, 2)
    assert verify_photo(other, other, [mask], name="a") != proof


def test_animation_is_refused():
    data, _ = make(2, 8, before=[(b"acTL", struct.pack(">II", 2, 0))])
    with pytest.raises(UnsupportedError, match="animated PNG"):
        read_photo(data, "a.png")


def test_bomb_is_refused_from_its_header():
    ihdr = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + ihdr + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")
    with pytest.raises(TooLargeError, match="--max-mpixels"):
        read_photo(data, "a.png")
    with pytest.raises(TooLargeError, match=r"at most 0\.001 million"):
        read_photo(make(2, 8)[0], "a.png", max_mpixels=0.001)


@pytest.mark.parametrize("interlaced", [False, True])
def test_every_truncation_is_unreadable(interlaced):
    data, _ = make(2, 8, 9, 7, interlaced=interlaced)
    for length in range(len(data)):
        with pytest.raises(UnreadableError, match=r"^cut\.png: "):
            read_photo(data[:length], "cut.png")


def test_short_pixel_data_is_unreadable():
    samples = smooth(5, 5, 3, 255)
    ihdr = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 5, 9, 8, 2, 0, 0, 0))
    data = build_png(samples, 8, 2)
    with pytest.raises(UnreadableError, match="pixels end early"):
        read_photo(data[:8] + ihdr + data[33:], "a.png")


def test_mutated_files_never_crash():
    rng = np.random.default_rng(0)
    seeds = [
        make(color, bits, 12, 9, interlaced=i % 2 == 1) for i, (color, bits) in enumerate(KINDS)
    ]
    outcomes = set()
    for round_ in range(900):
        data = bytearray(seeds[round_ % len(seeds)][0])
        chunks = split_chunks(bytes(data), "a.png")
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(8, len(data)))] = int(rng.integers(256))
        if round_ % 2:  # correct the checksums, so that the damage reaches the decoder
            for chunk in chunks:
                crc = zlib.crc32(data[chunk.start + 4 : chunk.end - 4])
                data[chunk.end - 4 : chunk.end] = struct.pack(">I", crc)
        try:
            photo = read_photo(bytes(data), "a.png", max_mpixels=1)
            mask = blot(photo.pages[0].height, photo.pages[0].width, round_)
            fixed = repair(photo.pages[0], mask)
            encoded = write_photo(photo, [fixed], [mask], name="a.png")
            verify_photo(bytes(data), encoded.data, [mask], name="a.png")
            outcomes.add("fine")
        except (UnreadableError, UnsupportedError, TooLargeError) as error:
            outcomes.add(type(error).__name__)
    assert {"fine", "UnreadableError"} <= outcomes


def wrap_stream(stream, height, width, bits, color=0):
    ihdr = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    chunks = ((b"IHDR", ihdr), (b"IDAT", stream), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("seed", range(6))
def test_bits_that_fill_up_a_row_may_be_anything(bits, seed):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 256, (41, 1 + -(-37 * bits // 8)), dtype=np.uint8)
    rows[:, 0] %= 5
    data = wrap_stream(zlib.compress(rows.tobytes()), 41, 37, bits)
    photo = read_photo(data, "a.png")
    with Image.open(io.BytesIO(data)) as picture:
        shown = np.asarray(picture.convert("L"))
    np.testing.assert_array_equal(photo.pages[0].pixels[..., 0], shown)
    mask = blot(41, 37, seed)
    repaired = 255 - photo.pages[0].pixels
    encoded = write_photo(photo, [repaired], [mask], name="a.png")
    verify_photo(data, encoded.data, [mask], name="a.png")


def test_the_checksum_behind_the_pixels_counts():
    stream = zlib.compress(bytes(41 * 6))
    broken = stream[:-1] + bytes([stream[-1] ^ 1])
    with pytest.raises(UnreadableError, match="incorrect data check"):
        read_photo(wrap_stream(broken, 41, 37, 1), "a.png")
    spare = zlib.compress(bytes(41 * 6 + 3))
    assert read_photo(wrap_stream(spare, 41, 37, 1), "a.png").pages
