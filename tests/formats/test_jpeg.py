from __future__ import annotations

import ctypes
import functools
import io
import random
import struct
import time
import tracemalloc

import numpy as np
import pytest
import skimage.data
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pictures import blot, exif_block, smooth
from PIL import Image, ImageOps

from restorepix.errors import (
    MaskError,
    PreservationError,
    RestorepixError,
    TooLargeError,
    UnreadableError,
    UnsupportedError,
)
from restorepix.formats import jpeg, turbojpeg, verify_photo
from restorepix.formats.exif import apply_orientation
from restorepix.formats.jpeg import read_jpeg, verify_jpeg, write_jpeg
from restorepix.formats.jpeg_segments import DRI, parse_jpeg, read_color, relocate_pictures
from restorepix.formats.thumbnails import drop_thumbnails
from restorepix.formats.turbojpeg import Coding, read_coefficients, rewrite_coefficients

SAMPLINGS = {
    "4:4:4": (0, 1, 1),
    "4:2:2": (1, 1, 2),
    "4:2:0": (2, 2, 2),
    "grey": (3, 1, 1),
    "4:4:0": (4, 2, 1),
    "4:1:1": (5, 1, 4),
}
"""TJSAMP number, and pixels per chroma sample down and across."""


@functools.cache
def encoder():
    """Return the library with its compressor, which Pillow's lacks samplings of."""
    library = turbojpeg._load_library()
    library.tjInitCompress.restype = ctypes.c_void_p
    library.tjCompress2.argtypes = [
        ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int,
        ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int,
    ]  # fmt: skip
    return library


def encode(pixels, sampling="4:2:0", quality=85, *, progressive=False):
    """Return a JPEG of (H, W, 1 | 3 | 4) uint8; 4 channels become YCCK."""
    library = encoder()
    height, width, channels = pixels.shape
    output, size = ctypes.c_void_p(), ctypes.c_ulong()
    handle = library.tjInitCompress()
    layout = {1: 6, 3: 0, 4: 11}[channels]
    failed = library.tjCompress2(
        handle, np.ascontiguousarray(pixels).tobytes(), width, 0, height, layout,
        ctypes.byref(output), ctypes.byref(size), SAMPLINGS[sampling][0], quality,
        1 << 14 if progressive else 0,
    )  # fmt: skip
    assert not failed
    data = ctypes.string_at(output.value, size.value)
    library.tjFree(output)
    library.tjDestroy(handle)
    return data


def save(pixels, **options):
    """Return Pillow's JPEG of (H, W, C) uint8, C = 4 being inks."""
    file = io.BytesIO()
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[pixels.shape[2]]
    shape = pixels.shape[:2] if mode == "L" else pixels.shape
    height, width = pixels.shape[:2]
    picture = Image.frombytes(mode, (width, height), pixels.reshape(shape).tobytes())
    picture.save(file, "jpeg", **options)
    return file.getvalue()


def insert(data, *segments, trailing=b""):
    """Return a JPEG with segments put behind its first marker, and bytes behind its last."""
    listed = [struct.pack(">BBH", 255, marker, len(body) + 2) + body for marker, body in segments]
    return data[:2] + b"".join(listed) + data[2:] + trailing


def orient(data, orientation):
    return insert(data, (0xE1, b"Exif\x00\x00" + exif_block(orientation)))


def coefficients(data):
    """Return for each component (rows, columns, 8, 8) int16."""
    rows = {}
    read_coefficients(
        data, lambda component, row, blocks: rows.update({(component, row): blocks.copy()})
    )
    components = range(max(component for component, _ in rows) + 1)
    return [
        np.stack([rows[key] for key in sorted(rows) if key[0] == component])
        for component in components
    ]


def is_touched(mask, row, column, down, across):
    """Return whether a block whose samples stand for down x across pixels meets the mask."""
    return mask[
        row * 8 * down : (row + 1) * 8 * down, column * 8 * across : (column + 1) * 8 * across
    ].any()


def ratios(data):
    """Return for each component how many pixels a sample stands for, from the frame header."""
    layers = parse_jpeg(data, "x").frame.components
    tall, wide = max(layer[2] for layer in layers), max(layer[1] for layer in layers)
    return [(tall // layer[2], wide // layer[1]) for layer in layers]


def assert_known_kept(before, after, stored_mask):
    old, new = coefficients(before), coefficients(after)
    assert len(old) == len(new)
    changed = 0
    for one, other, (down, across) in zip(old, new, ratios(before), strict=True):
        assert one.shape == other.shape
        for row, column in np.ndindex(one.shape[:2]):
            if is_touched(stored_mask, row, column, down, across):
                changed += int((one[row, column] != other[row, column]).any())
            else:
                assert (one[row, column] == other[row, column]).all(), (row, column)
    return changed


def fill(page, mask, color):
    repaired = page.pixels.copy()
    repaired[mask] = color
    return repaired


def restore(data, mask, color=200, name="x.jpg"):
    photo = read_jpeg(data, name, 500)
    encoded = write_jpeg(photo, [fill(photo.pages[0], mask, color)], [mask], name)
    assert encoded.preserved == "coefficients"
    return encoded.data


def photograph(height=120, width=150, channels=3):
    picture = skimage.data.astronaut()[40 : 40 + height, 150 : 150 + width]
    if channels == 1:
        return picture[..., :1]
    return picture if channels == 3 else np.dstack([picture, picture[..., 1] // 2])


# Reading


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_those_that_pillow_shows(channels, orientation):
    data = orient(save(smooth(37, 53, channels, 255), quality=90), orientation)
    photo = read_jpeg(data, "x.jpg", 500)
    with Image.open(io.BytesIO(data)) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture))
    assert photo.format == "jpeg"
    assert photo.orientation == orientation
    assert photo.source is data
    page = photo.pages[0]
    assert page.color == {1: "grey", 3: "rgb", 4: "cmyk"}[channels]
    assert page.alpha is None
    assert page.pixels.dtype == np.uint8
    np.testing.assert_array_equal(page.pixels, expected.reshape(page.pixels.shape))


@pytest.mark.parametrize("sampling", [name for name in SAMPLINGS if name != "grey"])
@pytest.mark.parametrize("channels", [3, 4])
def test_every_sampling_reads_like_pillow(sampling, channels):
    data = encode(smooth(37, 53, channels, 255), sampling)
    with Image.open(io.BytesIO(data)) as picture:
        expected = np.asarray(picture)
    np.testing.assert_array_equal(read_jpeg(data, "x.jpg", 500).pages[0].pixels, expected)


def test_rgb_coded_files_are_not_taken_for_ycc():
    data = save(smooth(20, 30, 3, 255), keep_rgb=True, quality=100)
    assert read_color(parse_jpeg(data, "x")) == "rgb"
    pixels = read_jpeg(data, "x.jpg", 500).pages[0].pixels
    assert np.abs(pixels.astype(int) - smooth(20, 30, 3, 255)).max() <= 2


def test_a_large_profile_is_read_whole():
    profile = bytes(range(256)) * 600
    data = save(smooth(8, 8, 3, 255), icc_profile=profile)
    assert read_jpeg(data, "x.jpg", 500).pages[0].icc == profile


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("ending", [b"", b"\xff\xd9"])
def test_a_truncated_file_is_refused(progressive, share, ending):
    data = save(photograph(), quality=90, progressive=progressive)
    cut = data[: int(len(data) * share)].rstrip(b"\xff") + ending
    with pytest.raises(UnreadableError, match=r"^x\.jpg: "):
        read_jpeg(cut, "x.jpg", 500)


def test_a_damaged_scan_is_refused_when_only_coefficients_are_read():
    data = save(photograph(), quality=90)
    cut = data[: len(data) // 2] + b"\xff\xd9"
    with pytest.raises(UnreadableError, match="damaged or cut off"):
        verify_jpeg(cut, cut, [None], "x.jpg")


def test_padding_before_the_end_marker_is_forgiven_and_nowhere_else():
    data = save(photograph(), quality=90)
    padded = data[:-2] + b"\x00\x00\x00" + data[-2:]
    assert (
        read_jpeg(padded, "x", 500).pages[0].pixels == read_jpeg(data, "x", 500).pages[0].pixels
    ).all()
    mask = np.zeros((120, 150), bool)
    mask[3:9, 3:9] = True
    after = restore(padded, mask)
    assert_known_kept(padded, after, mask)
    verify_jpeg(padded, after, [mask], "x.jpg")
    with pytest.raises(UnreadableError, match="no marker"):
        read_jpeg(data[:2] + b"\x00\x00" + data[2:], "x.jpg", 500)
    restarts = save(photograph(), quality=90, restart_marker_rows=1)
    at = restarts.index(b"\xff\xd0")
    with pytest.raises(UnreadableError, match="extraneous"):
        read_jpeg(restarts[:at] + bytes(40) + restarts[at:], "x.jpg", 500)


def test_a_bomb_is_refused_from_its_header():
    data = bytearray(save(smooth(8, 8, 3, 255)))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 60000, 60000)
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError, match="3600"):
            read_jpeg(bytes(data), "x.jpg", 500)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_missing_library_is_said_so(monkeypatch):
    monkeypatch.setattr(turbojpeg, "_list_candidates", lambda: ["/nowhere/libturbojpeg.so"])
    load = turbojpeg._load_library.__wrapped__
    monkeypatch.setattr(turbojpeg, "_load_library", load)
    with pytest.raises(UnsupportedError, match="pip install turbojpeg"):
        read_jpeg(save(smooth(8, 8, 3, 255)), "x.jpg", 500)


# Writing


@st.composite
def cases(draw):
    """Draw a file, its orientation and a mask as stored."""
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    sampling = draw(st.sampled_from(list(SAMPLINGS)))
    channels = 1 if sampling == "grey" else draw(st.sampled_from([3, 4]))
    seed = draw(st.integers(0, 1000))
    data = encode(
        smooth(height, width, channels, 255, seed),
        sampling,
        draw(st.integers(1, 100)),
        progressive=draw(st.booleans()),
    )
    mask = np.zeros((height, width), bool)
    for _ in range(draw(st.integers(0, 4))):
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        mask[top : top + draw(st.integers(1, 20)), left : left + draw(st.integers(1, 20))] = True
    return data, draw(st.integers(1, 8)), mask


@settings(max_examples=150, deadline=None)
@given(cases(), st.integers(0, 255))
def test_untouched_blocks_keep_their_coefficients(case, level):
    data, orientation, stored_mask = case
    data = orient(data, orientation)
    mask = apply_orientation(stored_mask, orientation)
    photo = read_jpeg(data, "x.jpg", 500)
    page = photo.pages[0]
    assert page.pixels.shape[:2] == mask.shape
    after = write_jpeg(photo, [fill(page, mask, level)], [mask], "x.jpg").data
    assert_known_kept(data, after, stored_mask)
    known = verify_jpeg(data, after, [mask], "x.jpg")
    assert known == verify_jpeg(data, data, [mask], "x.jpg")
    again = read_jpeg(after, "x.jpg", 500)
    assert again.orientation == orientation
    assert parse_jpeg(after, "x").frame == parse_jpeg(data, "x").frame
    if not mask.any():
        assert after == data


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("restart", [{}, {"restart_marker_rows": 1}, {"restart_marker_blocks": 3}])
@pytest.mark.parametrize(
    "options", [{"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2}, {"keep_rgb": True}]
)
def test_files_of_pillow_keep_what_no_hole_touches(progressive, optimize, restart, options):
    pixels = photograph()
    data = save(
        pixels, quality=88, progressive=progressive, optimize=optimize, **restart, **options
    )
    mask = blot(*pixels.shape[:2], seed=3)
    after = restore(data, mask)
    assert assert_known_kept(data, after, mask)
    verify_jpeg(data, after, [mask], "x.jpg")
    with Image.open(io.BytesIO(after)) as picture:
        picture.load()
        assert bool(picture.info.get("progressive")) is progressive
    newest = hasattr(turbojpeg._load_library(), "tj3SetICCProfile")
    interval = parse_jpeg(data, "x").restart_interval
    assert bool(interval) is bool(restart)
    found = parse_jpeg(after, "x").restart_interval
    # Tables fitted to the picture may lack a code for what is new.
    if not (optimize and restart and not progressive and not newest):
        assert found == (interval if newest or not progressive else 0)
    assert any(part.marker == DRI for part in parse_jpeg(after, "x").segments) is bool(found)
    assert len(after) < 1.25 * len(data)


@pytest.mark.parametrize("progressive", [False, True])
def test_arithmetic_coding_is_kept_or_refused(progressive):
    pixels = photograph()
    mask = blot(*pixels.shape[:2], seed=3)
    if not hasattr(turbojpeg._load_library(), "tj3Set"):
        pytest.skip("this libjpeg-turbo cannot make arithmetic-coded files to test with")
    data = rewrite_coefficients(
        encode(pixels), lambda *_: None, Coding(progressive, True, False, 0)
    )
    assert parse_jpeg(data, "x").frame.arithmetic
    after = restore(data, mask)
    assert_known_kept(data, after, mask)
    verify_jpeg(data, after, [mask], "x.jpg")
    assert parse_jpeg(after, "x").frame == parse_jpeg(data, "x").frame


def test_a_library_without_arithmetic_coding_is_not_believed(monkeypatch):
    pixels = photograph()
    data = encode(pixels)
    if not hasattr(turbojpeg._load_library(), "tj3Set"):
        pytest.skip("this libjpeg-turbo cannot make arithmetic-coded files to test with")
    arithmetic = rewrite_coefficients(data, lambda *_: None, Coding(False, True, False, 0))
    monkeypatch.setattr(turbojpeg, "_ARITHMETIC", 0)
    with pytest.raises(UnsupportedError, match=r"3\.0 or newer"):
        restore(arithmetic, blot(*pixels.shape[:2]))


@pytest.mark.parametrize("sampling", list(SAMPLINGS))
@pytest.mark.parametrize("channels", [3, 4])
def test_holes_get_the_repaired_colour_and_neighbours_stay_close(sampling, channels):
    channels = 1 if sampling == "grey" else channels
    pixels = photograph(channels=channels)
    data = encode(pixels, sampling, quality=95)
    page = read_jpeg(data, "x.jpg", 500).pages[0]
    mask = np.zeros(pixels.shape[:2], bool)
    mask[37:77, 50:101] = True
    wanted = page.pixels.copy()
    wanted[mask] = (0.6 * page.pixels[mask] + 30).astype(np.uint8)
    photo = read_jpeg(data, "x.jpg", 500)
    after = read_jpeg(write_jpeg(photo, [wanted], [mask], "x").data, "x", 500).pages[0].pixels
    # Four pixels away from the rim no chroma sample mixes hole and known pixels.
    inner = np.zeros_like(mask)
    inner[41:73, 54:97] = True
    error = np.abs(after.astype(int) - wanted)
    # Quality 95 costs about this much on the photograph itself.
    assert error[inner].mean() < 3
    assert error[~mask].mean() < 0.5
    far = ~mask
    far[16:97, 16:129] = False
    assert error[far].max() == 0


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_repair_equal_to_the_original_changes_next_to_nothing(channels):
    data = encode(photograph(channels=channels), "grey" if channels == 1 else "4:2:0", 90)
    photo = read_jpeg(data, "x", 500)
    pixels = photo.pages[0].pixels
    mask = np.ones(pixels.shape[:2], bool)
    after = read_jpeg(write_jpeg(photo, [pixels], [mask], "x").data, "x", 500).pages[0].pixels
    assert np.abs(after.astype(int) - pixels).mean() < 1.5


def test_known_samples_of_a_touched_block_move_by_quantisation_only():
    data = save(photograph(channels=1), quality=75)
    mask = np.zeros((120, 150), bool)
    mask[44, 44] = True
    photo = read_jpeg(data, "x", 500)
    after = write_jpeg(photo, [photo.pages[0].pixels], [mask], "x").data
    # The hole's one sample is off by rounding, a fraction of any quantisation step.
    for one, other in zip(coefficients(data), coefficients(after), strict=True):
        assert (one == other).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_repairs_land_where_they_are_seen(orientation):
    data = orient(save(np.full((40, 64, 3), 90, np.uint8), subsampling=0), orientation)
    photo = read_jpeg(data, "x", 500)
    mask = np.zeros(photo.pages[0].pixels.shape[:2], bool)
    mask[0:16, 0:8] = True
    encoded = write_jpeg(photo, [fill(photo.pages[0], mask, (250, 20, 30))], [mask], "x")
    with Image.open(io.BytesIO(encoded.data)) as picture:
        assert picture.getexif()[0x0112] == orientation
        seen = np.asarray(ImageOps.exif_transpose(picture)).astype(int)
    assert np.abs(seen[mask] - (250, 20, 30)).max() < 12
    assert np.abs(seen[~mask] - 90).max() < 12


def test_no_pixel_changes_beyond_one_pixel_around_touched_blocks():
    data = save(photograph(), quality=80, subsampling=2)
    mask = np.zeros((120, 150), bool)
    mask[40:43, 70:75] = True
    old, new = (read_jpeg(file, "x", 500).pages[0].pixels for file in (data, restore(data, mask)))
    changed = (old != new).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert changed[mask].all()
    assert (rows.min(), rows.max()) >= (31, 31)
    assert rows.max() <= 48
    assert columns.min() >= 63
    assert columns.max() <= 80


def test_edges_of_cut_blocks_repeat_the_repair():
    # The picture fills 3 of 8 columns of its last block; what is left of them must not ring.
    data = save(np.full((16, 11, 1), 255, np.uint8), quality=50)
    mask = np.zeros((16, 11), bool)
    mask[:, 8:] = True
    after = restore(data, mask, 0)
    last = coefficients(after)[0][0, 1]
    assert (last.ravel()[1:] == 0).all()
    assert (read_jpeg(after, "x", 500).pages[0].pixels[mask] == 0).all()


def test_noise_at_the_finest_table_can_be_coded():
    rng = np.random.default_rng(5)
    data = save(rng.integers(0, 2, (64, 64, 3), np.uint8) * 255, quality=100, subsampling=0)
    photo = read_jpeg(data, "x", 500)
    mask = np.ones((64, 64), bool)
    noise = rng.integers(0, 2, (64, 64, 3), np.uint8) * 255
    after = write_jpeg(photo, [noise], [mask], "x").data
    assert np.abs(read_jpeg(after, "x", 500).pages[0].pixels.astype(int) - noise).max() <= 4


def test_extreme_coefficients_are_clipped_to_what_can_be_coded():
    def exaggerate(_component, _row, blocks):
        blocks[:, 0, 1] = 1023
        blocks[:, 1, 0] = -1023
        blocks[:, 7, 7] = 1023

    plain = save(np.full((32, 32, 1), 128, np.uint8), quality=100)
    data = rewrite_coefficients(plain, exaggerate, Coding(False, False, True, 0))
    mask = np.zeros((32, 32), bool)
    mask[::5, ::3] = True
    after = restore(data, mask, 255)
    assert max(np.abs(plane).max() for plane in coefficients(after)) <= 1024
    verify_jpeg(data, after, [mask], "x")


@pytest.mark.parametrize(("frequency", "value"), [((0, 1), 1024), ((7, 7), -3000), ((0, 0), 1500)])
def test_impossible_coefficients_are_refused_where_no_warning_tells(frequency, value, monkeypatch):
    data = save(np.full((32, 32, 1), 128, np.uint8), quality=100)
    photo, mask = read_jpeg(data, "x.jpg", 500), np.ones((32, 32), bool)
    decode = jpeg.rewrite_coefficients

    def damage(data, visit, coding, look):
        def look_at_damage(component, row, blocks):
            blocks = blocks.copy()
            blocks[2][frequency] = value if row == 3 else 0
            look(component, row, blocks)

        return decode(data, visit, coding, look_at_damage)

    monkeypatch.setattr(jpeg, "rewrite_coefficients", damage)
    with pytest.raises(UnreadableError, match=r"x\.jpg: .*impossible"):
        write_jpeg(photo, [photo.pages[0].pixels], [mask], "x.jpg")


def test_nothing_to_repair_gives_the_same_bytes():
    data = orient(save(photograph()), 6)
    photo = read_jpeg(data, "x", 500)
    mask = np.zeros((150, 120), bool)
    for repaired, holes in ((None, None), (None, mask), (photo.pages[0].pixels, mask)):
        assert write_jpeg(photo, [repaired], [holes], "x").data == data
    assert verify_jpeg(data, data, [None], "x") == verify_jpeg(data, data, [mask], "x")


def test_masks_that_do_not_fit_are_refused():
    data = orient(save(photograph()), 6)
    photo = read_jpeg(data, "x.jpg", 500)
    wrong = np.ones((120, 150), bool)
    with pytest.raises(MaskError, match="picture is 120x150, its mask 150x120"):
        write_jpeg(photo, [photo.pages[0].pixels], [wrong], "x.jpg")
    with pytest.raises(MaskError, match="2 masks"):
        verify_jpeg(data, data, [None, None], "x.jpg")


# Metadata

MAKER_NOTE_AND_MORE = [
    (0xE1, b"Exif\x00\x00" + exif_block(3, ">")),
    (0xE1, b"http://ns.adobe.com/xap/1.0/\x00<x:xmpmeta/>"),
    (0xE1, b"http://ns.adobe.com/xmp/extension/\x00" + b"0" * 40 + bytes(500)),
    (0xE2, b"ICC_PROFILE\x00\x01\x02" + bytes(range(256)) * 250),
    (0xE2, b"ICC_PROFILE\x00\x02\x02rest"),
    (0xED, b"Photoshop 3.0\x008BIM\x04\x04\x00\x00"),
    (0xEC, b"Ducky\x00"),
    (0xFE, b"a comment"),
    (0xFE, b""),
]


@pytest.mark.parametrize("progressive", [False, True])
def test_segments_are_kept_byte_for_byte_and_in_order(progressive):
    plain = save(photograph(), quality=80, progressive=progressive, dpi=(300, 300))
    data = insert(plain, *MAKER_NOTE_AND_MORE, trailing=b"\x00motion photo\xff\xd8\xff")
    mask = blot(120, 150)
    after = restore(data, mask)
    old, new = parse_jpeg(data, "x"), parse_jpeg(after, "x")
    assert [part[0::2] for part in old.kept] == [part[0::2] for part in new.kept]
    assert [(part.marker, part.body) for part in new.kept][
        : len(MAKER_NOTE_AND_MORE)
    ] == MAKER_NOTE_AND_MORE
    assert after[new.end :] == b"\x00motion photo\xff\xd8\xff"
    verify_jpeg(data, after, [mask], "x")


def test_segments_between_scans_move_before_the_first():
    data = save(photograph(), quality=80, progressive=True)
    second = [part for part in parse_jpeg(data, "x").segments if part.marker == 0xC4][-1].start
    data = data[:second] + b"\xff\xfe\x00\x07hello" + data[second:]
    mask = blot(120, 150)
    after = restore(data, mask)
    markers = [part.marker for part in parse_jpeg(after, "x").segments]
    assert markers.index(0xFE) < markers.index(0xDA)
    verify_jpeg(data, after, [mask], "x")


def with_thumbnail(data):
    exif = b"Exif\x00\x00II*\x00\x08\x00\x00\x00"
    exif += struct.pack("<HHHIII", 1, 0x0112, 3, 1, 1, 26)
    exif += struct.pack("<HHHIII", 1, 0x0103, 3, 1, 6, 0) + b"maker note"
    return insert(data, (0xE1, exif))


def test_the_thumbnail_of_a_changed_picture_is_dropped_in_place():
    data = with_thumbnail(save(photograph()))
    mask = blot(120, 150)
    after = drop_thumbnails(restore(data, mask), [mask], "x")
    old, new = (parse_jpeg(file, "x").kept[0].body for file in (data, after))
    differing = [at for at, (one, other) in enumerate(zip(old, new, strict=True)) if one != other]
    assert differing == [6 + 8 + 2 + 12]
    verify_photo(data, after, [mask], name="x")
    photo = read_jpeg(data, "x", 500)
    assert write_jpeg(photo, [None], [None], "x").data == data
    elsewhere = bytearray(after)
    elsewhere[after.index(b"maker note")] = 99
    with pytest.raises(PreservationError, match="E1"):
        verify_photo(data, bytes(elsewhere), [mask], name="x")


def with_gain_map(data):
    """Return a file of two pictures, indexed, and where the second one starts."""
    second = save(np.full((8, 8, 1), 77, np.uint8))

    def build(size, offset):
        head = b"MPF\x00II*\x00\x08\x00\x00\x00" + struct.pack("<H", 2)
        head += struct.pack("<HHII", 0xB001, 4, 1, 2)
        head += struct.pack("<HHII", 0xB002, 7, 32, 38) + bytes(4)
        head += struct.pack("<IIIHH", 0, size, 0, 0, 0)
        head += struct.pack("<IIIHH", 0, len(second), offset, 0, 0)
        return insert(data, (0xE2, head))

    size = len(build(0, 0))
    return build(size, size - 10) + second, second


def test_a_multi_picture_file_finds_its_pictures_again():
    data, second = with_gain_map(save(photograph(), quality=70))
    mask = blot(120, 150, seed=4)
    after = restore(data, mask)
    assert len(after) != len(data)
    verify_jpeg(data, after, [mask], "x")
    with Image.open(io.BytesIO(after)) as picture:
        assert picture.format == "MPO"
        entries = picture.mpinfo[0xB002]
        assert entries[0]["Size"] == parse_jpeg(after, "x").end
        base = after.index(b"MPF\x00") + 4
        start = base + entries[1]["DataOffset"]
        assert after[start : start + entries[1]["Size"]] == second
        picture.seek(1)
        assert np.abs(np.asarray(picture).astype(int) - 77).max() <= 2


# Proof


def change(data, component, row, column, frequency=(0, 1), by=1):
    """Return a file with one coefficient changed, otherwise written as we write."""

    def edit(at, block_row, blocks):
        if (at, block_row) == (component, row):
            blocks[column][frequency] += by

    file = parse_jpeg(data, "x")
    coded = rewrite_coefficients(data, edit, Coding(file.frame.progressive, False, False, 0))
    new = parse_jpeg(coded, "x")
    start = next(
        part.start + len(part.raw) for part in new.segments if part.marker == new.frame.marker
    )
    return (
        b"\xff\xd8"
        + b"".join(part.raw for part in file.kept)
        + coded[start : new.end]
        + data[file.end :]
    )


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(
    ("component", "row", "column"), [(0, 0, 0), (0, 14, 18), (1, 0, 0), (1, 7, 9), (2, 3, 3)]
)
def test_one_changed_coefficient_is_found(progressive, component, row, column):
    data = save(photograph(), subsampling=2, progressive=progressive)
    mask = np.zeros((120, 150), bool)
    mask[70:75, 70:75] = True
    assert verify_jpeg(data, change(data, component, row, column, by=0), [mask], "x")
    with pytest.raises(PreservationError, match=f"component {component}, block row {row}"):
        verify_jpeg(data, change(data, component, row, column), [mask], "x.jpg")


def test_a_changed_coefficient_under_the_mask_is_none_of_ours():
    data = save(photograph(), subsampling=2)
    mask = np.zeros((120, 150), bool)
    mask[8, 16] = True
    expected = verify_jpeg(data, data, [mask], "x")
    assert verify_jpeg(data, change(data, 0, 1, 2), [mask], "x") == expected
    assert verify_jpeg(data, change(data, 1, 0, 1), [mask], "x") == expected
    for component, row, column in (
        (0, 0, 2),
        (0, 1, 1),
        (0, 1, 3),
        (0, 2, 2),
        (1, 0, 0),
        (1, 1, 1),
    ):
        with pytest.raises(PreservationError):
            verify_jpeg(data, change(data, component, row, column), [mask], "x")


def test_the_hash_covers_known_coefficients_only():
    data = save(photograph(), subsampling=2)
    mask = blot(120, 150)
    known = verify_jpeg(data, data, [mask], "x")
    assert len(known) == 64
    assert known != verify_jpeg(data, data, [None], "x")
    assert known != verify_jpeg(data, data, [blot(120, 150, seed=1)], "x")
    assert known == verify_jpeg(restore(data, mask), restore(data, mask, 50), [mask], "x")


def tamper(data):
    """Return differing files with equal coefficients, and what must be said of each."""
    pixels = photograph()
    comment = insert(data, (0xFE, b"new"))
    file = parse_jpeg(data, "x")
    exif = next(part for part in file.kept if part.body.startswith(b"Exif"))
    spoiled = bytearray(data)
    spoiled[exif.start + 12] ^= 1
    tables = bytearray(data)
    tables[tables.index(b"\xff\xdb") + 7] ^= 1
    return [
        (comment, "FE"),
        (bytes(spoiled), "E1"),
        (bytes(tables), "DB"),
        (data + b"x", "behind the picture"),
        (data[: exif.start] + data[exif.start + len(exif.raw) :], "E1|E0|DB"),
        (orient(save(pixels, subsampling=2, progressive=True), 1), "C0|C2"),
        (orient(save(pixels, subsampling=0), 1), "C0"),
        (orient(save(pixels[:-1], subsampling=2), 1), "C0"),
        (orient(save(pixels, subsampling=0, keep_rgb=True), 1), "became"),
        (orient(save(pixels, subsampling=2, comment=b"late"), 1), "FE"),
    ]


@pytest.mark.parametrize("index", range(10))
def test_other_differences_are_found(index):
    data = orient(save(photograph(), subsampling=2), 1)
    other, words = tamper(data)[index]
    mask = np.ones((120, 150), bool)
    with pytest.raises(PreservationError, match=words):
        verify_jpeg(data, other, [mask], "x.jpg")


def test_a_picture_index_must_follow_its_pictures():
    data, _ = with_gain_map(save(photograph(), quality=70))
    mask = blot(120, 150, seed=4)
    after = restore(data, mask)
    old, new = parse_jpeg(data, "x"), parse_jpeg(after, "x")
    assert relocate_pictures(old.kept[0], new.kept[0].start, old.end, new.end) != old.kept[0]
    stale = after.replace(new.kept[0].raw, old.kept[0].raw)
    with pytest.raises(PreservationError, match="E2"):
        verify_jpeg(data, stale, [mask], "x")


# Hostile data


@functools.cache
def sound_files():
    pixels = photograph(40, 56)
    files = [
        with_gain_map(with_thumbnail(save(pixels, quality=60)))[0],
        save(pixels, quality=60, progressive=True),
        save(pixels, quality=60, restart_marker_rows=1, subsampling=0),
        encode(np.dstack([pixels, pixels[..., 0]]), "4:1:1"),
        save(pixels[..., :1], quality=60),
    ]
    if hasattr(turbojpeg._load_library(), "tj3Set"):
        files.append(rewrite_coefficients(files[0], lambda *_: None, Coding(True, True, False, 0)))
    return files


def survive(data):
    """Run the whole path on data that may be anything; only our own errors may come out."""
    try:
        photo = read_jpeg(data, "x.jpg", 1)
        mask = np.zeros(photo.pages[0].pixels.shape[:2], bool)
        mask[::7, : mask.shape[1] // 2] = True
        repaired = fill(photo.pages[0], mask, 128)
        after = write_jpeg(photo, [repaired], [mask], "x.jpg").data
        verify_jpeg(data, after, [mask], "x.jpg")
    except PreservationError:
        raise
    except RestorepixError as error:
        assert str(error).startswith("x.jpg")


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 5),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4),
    st.booleans(),
)
@example(0, [(0.0, 0)], False)
def test_mutated_bytes_end_in_an_answer(which, changes, in_headers):
    files = sound_files()
    data = bytearray(files[which % len(files)])
    reach = data.index(b"\xff\xda") + 20 if in_headers else len(data)
    for share, value in changes:
        data[int(share * (reach - 1))] = value
    survive(bytes(data))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 5), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_missing_and_doubled_pieces_end_in_an_answer(which, start, end, doubled):
    files = sound_files()
    data = files[which % len(files)]
    one, two = sorted((int(start * len(data)), int(end * len(data))))
    survive(data[:two] + data[one:] if doubled else data[:one] + data[two:])


def mutate(data, donor, rng):
    """Return a file with a few bytes changed, removed, or taken from elsewhere."""
    spoiled = bytearray(data)
    headers = data.index(b"\xff\xda") + 14
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(2, min(len(spoiled), headers if rng.random() < 0.5 else len(data)))
        match rng.randrange(4):
            case 0:
                spoiled[at] = rng.choice((0, 1, 0xC4, 0xD9, 0xDA, 0xFF, rng.randrange(256)))
            case 1:
                spoiled[at] ^= 1 << rng.randrange(8)
            case 2:
                del spoiled[at : at + rng.randrange(1, 30)]
            case _:
                start = rng.randrange(2, len(donor))
                spoiled[at:at] = donor[start : start + rng.randrange(1, 600)]
    return bytes(spoiled)


@pytest.mark.slow
def test_a_minute_of_mutations_ends_in_answers():
    rng = random.Random(20)
    files = sound_files()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        survive(mutate(rng.choice(files), rng.choice(files), rng))


# The binding


class _Stop(BaseException):
    """Stands for Ctrl-C."""


@pytest.mark.parametrize("error", [ValueError("mine"), _Stop()])
@pytest.mark.parametrize("writing", [False, True])
def test_an_exception_in_a_visitor_comes_out(error, writing):
    data = save(photograph())
    seen = []

    def visit(component, row, _blocks):
        seen.append((component, row))
        if row == 2:
            raise error

    with pytest.raises(type(error)) as caught:
        if writing:
            rewrite_coefficients(data, visit, Coding(False, False, False, 0))
        else:
            read_coefficients(data, visit)
    assert caught.value is error
    assert seen == [(0, 0), (0, 1), (0, 2)]


def test_visitors_see_every_block_once_and_no_padding():
    data = encode(smooth(70, 70, 3, 255), "4:2:0")
    seen = []
    read_coefficients(
        data, lambda component, row, blocks: seen.append((component, row, blocks.shape))
    )
    assert seen == [
        *((0, row, (9, 8, 8)) for row in range(9)),
        *((component, row, (5, 8, 8)) for component in (1, 2) for row in range(5)),
    ]


def test_a_first_visitor_sees_everything_before_the_second_changes_it():
    data = save(photograph(), quality=80)
    calls, seen = [], {}

    def look(component, row, blocks):
        calls.append("look")
        seen[component, row] = blocks.copy()

    def visit(component, row, blocks):
        calls.append("visit")
        assert (blocks == seen[component, row]).all()
        blocks[:, 0, 0] = component

    after = rewrite_coefficients(data, visit, Coding(False, False, False, 0), look)
    assert calls == len(seen) * ["look"] + len(seen) * ["visit"]
    assert {int(plane[..., 0, 0].max()) for plane in coefficients(after)} == {0, 1, 2}
    assert all((plane[..., 0, 0] == index).all() for index, plane in enumerate(coefficients(after)))


def test_many_blocks_are_repaired_as_one_alone_is():
    """Blocks of many rows go through the same products, however these are cut to pieces."""
    rng = np.random.default_rng(5)
    data = encode(smooth(200, 2000, 3, 255), "4:2:0")
    photo, mask = read_jpeg(data, "x", 500), rng.random((200, 2000)) < 0.03
    pixels = rng.integers(0, 256, photo.pages[0].pixels.shape, np.uint8)
    together = coefficients(write_jpeg(photo, [pixels], [mask], "x").data)
    for row, column in rng.integers(0, [12, 125], (8, 2)).tolist():
        cell = np.s_[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        one = np.zeros_like(mask)
        one[cell] = mask[cell]
        alone = coefficients(write_jpeg(photo, [pixels], [one], "x").data)
        for plane, other, blocks in zip(together, alone, (2, 1, 1), strict=True):
            here = np.s_[blocks * row : blocks * (row + 1), blocks * column : blocks * (column + 1)]
            # Sums in another order may round a tie to the other side.
            assert np.abs(plane[here] - other[here]).max() <= 1
            assert (plane[here] != other[here]).mean() < 0.01


def test_coefficients_are_the_dct_of_the_picture():
    pixels = np.full((8, 8, 1), 128, np.uint8)
    pixels[:, 4:] = 160
    (plane,) = coefficients(save(pixels, quality=100))
    assert plane[0, 0, 0, 0] == round(8 * 16)
    assert plane[0, 0, 0, 1] < 0
    assert (plane[0, 0, 1:] == 0).all()


def test_two_threads_do_not_mix_their_pictures():
    from concurrent.futures import ThreadPoolExecutor

    files = [save(np.full((64, 64, 3), level, np.uint8)) for level in range(0, 256, 8)]
    with ThreadPoolExecutor(4) as pool:
        planes = list(pool.map(coefficients, files * 4))
    for alone, together in zip([coefficients(file) for file in files] * 4, planes, strict=True):
        assert all((one == other).all() for one, other in zip(alone, together, strict=True))


def test_the_most_able_library_is_taken():
    class Library:
        def __init__(self, *functions):
            for function in functions:
                setattr(self, function, None)

    old, newer, newest = Library(), Library("tj3Set"), Library("tj3Set", "tj3SetICCProfile")
    assert max([old, newer, newest], key=turbojpeg._rank) is newest
    assert max([newer, old], key=turbojpeg._rank) is newer


def test_the_wheel_s_library_is_found_and_its_module_is_not():
    (path, *others) = turbojpeg._list_candidates()
    assert not any(".cpython" in name or name.endswith(".pyd") for name in (path, *others))
    assert "turbojpeg" in path
