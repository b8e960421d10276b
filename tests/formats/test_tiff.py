from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import pytest
import tifffile
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
from restorepix.formats import read_photo, tiff_codecs, verify_photo, write_photo

TOPS = {"uint8": 255, "uint16": 65535}


def picture(height, width, channels, dtype="uint8", seed=0):
    if dtype == "float32":
        rng = np.random.default_rng(seed)
        return rng.normal(0.5, 0.4, (height, width, channels)).astype(np.float32)
    return smooth(height, width, channels, TOPS[dtype], seed)


def write_file(samples, **options):
    """Return a TIFF file by tifffile; options as its ``write``, several pages when a list."""
    buffer = io.BytesIO()
    file_options = {k: options.pop(k) for k in ("bigtiff", "byteorder") if k in options}
    pages = samples if isinstance(samples, list) else [samples]
    with tifffile.TiffWriter(buffer, **file_options) as file:
        for page in pages:
            file.write(np.squeeze(page), **{"metadata": None, **options})
    return buffer.getvalue()


def planar(samples):
    return np.ascontiguousarray(np.moveaxis(samples, 2, 0))


def tags(data):
    """Return for each page the tags' values, but for places of strips and their sizes."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        return [
            {
                t.code: getattr(t.value, "tolist", lambda v=t.value: v)()
                for t in page.tags
                if t.code not in (273, 279, 324, 325)
            }
            for page in file.pages
        ]


def check_round_trip(data, preserved="exact", seed=0):
    """Repair every page, verify, and return (photo, masks, repaired, new bytes)."""
    photo = read_photo(data, "a.tif")
    masks = [blot(page.height, page.width, seed + n) for n, page in enumerate(photo.pages)]
    fixed = [repair(page, mask, seed) for page, mask in zip(photo.pages, masks, strict=True)]
    encoded = write_photo(photo, fixed, masks, name="a.tif")
    assert encoded.preserved == preserved
    verify_photo(data, encoded.data, masks, name="a.tif")
    again = read_photo(encoded.data, "b.tif")
    for page, old, pixels, mask in zip(again.pages, photo.pages, fixed, masks, strict=True):
        np.testing.assert_array_equal(page.pixels[~mask], old.pixels[~mask])
        assert page.pixels.dtype == pixels.dtype
    return photo, masks, fixed, encoded.data


LAYOUTS = {
    "one strip": {},
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (16, 32)},
    "deflate": {"compression": "zlib", "rowsperstrip": 5},
    "deflate, predictor": {"compression": "zlib", "predictor": 2, "tile": (32, 16)},
    "big": {"bigtiff": True, "rowsperstrip": 3, "compression": "zlib"},
}


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("kind", ["grey", "rgb", "rgba", "cmyk"])
def test_matrix(kind, dtype, layout, byteorder):
    options = dict(LAYOUTS[layout], byteorder=byteorder)
    if dtype == "float32" and "predictor" in options:
        del options["predictor"]
    channels = {"grey": 1, "rgb": 3, "rgba": 4, "cmyk": 4}[kind]
    options["photometric"] = {"grey": "minisblack", "cmyk": "separated"}.get(kind, "rgb")
    if kind == "rgba":
        options["extrasamples"] = ["unassalpha"]
    samples = picture(45, 38, channels, dtype)
    data = write_file(samples, **options)
    photo, masks, (fixed,), after = check_round_trip(data)
    (page,) = photo.pages
    assert page.color == ("rgb" if kind == "rgba" else kind)
    np.testing.assert_array_equal(page.pixels, samples[..., :3] if kind == "rgba" else samples)
    expected = fixed
    if kind == "rgba":
        np.testing.assert_array_equal(page.alpha, samples[..., 3])
        expected = np.dstack([fixed, page.alpha])
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(after)), np.squeeze(expected))
    assert tags(after) == tags(data)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_planar(dtype, tile):
    samples = picture(40, 33, 3, dtype)
    data = write_file(
        planar(samples), photometric="rgb", planarconfig="separate", tile=tile, compression="zlib"
    )
    photo, _, (fixed,), after = check_round_trip(data)
    np.testing.assert_array_equal(photo.pages[0].pixels, samples)
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(after)), planar(fixed))


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_deflate"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK"])
def test_files_by_libtiff(mode, compression):
    channels = {"RGB": 3, "RGBA": 4, "CMYK": 4}.get(mode, 1)
    samples = picture(41, 37, channels)
    samples[5:20, :, :] = 77  # runs, for PackBits
    if mode == "1":
        original = Image.fromarray(samples[..., 0]).convert("1")
    elif mode == "P":
        original = Image.fromarray(picture(41, 37, 3)).quantize(37)
    else:
        original = Image.fromarray(np.squeeze(samples), mode=None).convert(mode)
        if mode == "CMYK":
            original = Image.frombytes("CMYK", (37, 41), samples.tobytes())
    buffer = io.BytesIO()
    original.save(buffer, "TIFF", compression=compression, strip_size=500, dpi=(300, 300))
    data = buffer.getvalue()
    photo, _, (fixed,), after = check_round_trip(data)
    shown = np.asarray(original.convert({"1": "L", "P": "RGB"}.get(mode, mode))).reshape(41, 37, -1)
    pixels = photo.pages[0].pixels
    if mode == "P":
        assert pixels.dtype == np.uint16
        pixels = (pixels >> 8).astype(np.uint8)
    np.testing.assert_array_equal(pixels, shown[..., : pixels.shape[2]])
    again = np.asarray(Image.open(io.BytesIO(after)))
    if mode not in ("1", "P"):
        np.testing.assert_array_equal(again.reshape(41, 37, -1)[..., : fixed.shape[2]], fixed)
    assert tags(after) == tags(data)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("compression", [5, 8, 32946])
def test_predictors_of_libtiff(dtype, compression):
    samples = picture(41, 37, 3, dtype)
    predictor = 3 if dtype == "float32" else 2
    flags = [cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_PREDICTOR, predictor]
    ok, encoded = cv2.imencode(".tif", samples[..., ::-1], flags)
    assert ok
    data = encoded.tobytes()
    assert tags(data)[0][317] == predictor
    photo, _, (fixed,), after = check_round_trip(data)
    np.testing.assert_array_equal(photo.pages[0].pixels, samples)
    decoded = cv2.imdecode(np.frombuffer(after, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded[..., ::-1], fixed)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["uint8", "uint16", "float32"]),
    channels=st.sampled_from([1, 3, 4]),
    height=st.integers(2, 40),
    width=st.integers(2, 40),
    orientation=st.integers(1, 8),
    layout=st.sampled_from(sorted(LAYOUTS)),
    seed=st.integers(0, 99),
)
def test_known_samples_survive_any_size_and_mask(
    kind, channels, height, width, orientation, layout, seed
):
    options = dict(LAYOUTS[layout])
    if kind == "float32":
        options.pop("predictor", None)
    photometric = "minisblack" if channels == 1 else "rgb"
    samples = picture(height, width, channels, kind, seed)
    data = write_file(
        samples[..., 0] if channels == 1 else samples,
        photometric=photometric,
        extratags=[(274, "H", 1, orientation, True)],
        extrasamples=["assocalpha"] if channels == 4 else None,
        **options,
    )
    photo = check_round_trip(data, seed=seed)[0]
    assert photo.orientation == orientation
    wanted = (width, height) if orientation > 4 else (height, width)
    assert photo.pages[0].pixels.shape[:2] == wanted


def test_only_touched_strips_change():
    samples = picture(64, 50, 3, "uint16")
    data = write_file(samples, rowsperstrip=8, photometric="rgb")
    photo = read_photo(data, "a.tif")
    mask = np.zeros((64, 50), bool)
    mask[17:20, 3:9] = True
    fixed = repair(photo.pages[0], mask)
    after = write_photo(photo, [fixed], [mask], name="a.tif").data
    assert len(after) == len(data)
    changed = np.flatnonzero(np.frombuffer(data, np.uint8) != np.frombuffer(after, np.uint8))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        start = file.pages[0].dataoffsets[2]
    assert changed.min() >= start + (1 * 50 + 3) * 6
    assert changed.max() < start + (3 * 50 + 9) * 6


def list_strips(data):
    """Return (offset, bytes) of the first page's strips."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        return list(zip(page.dataoffsets, page.databytecounts, strict=True))


def fill_with_noise(data, top, bottom):
    """Return a file whose rows from ``top`` to ``bottom`` are repaired by what packs badly."""
    photo = read_photo(data, "a.tif")
    (page,) = photo.pages
    mask = np.zeros((page.height, page.width), bool)
    mask[top:bottom, 3:40] = True
    after = write_photo(photo, [repair(page, mask)], [mask], name="a.tif").data
    verify_photo(data, after, [mask], name="a.tif")
    return after


@pytest.mark.parametrize("compression", ["zlib", "lzw"])
def test_compressed_file_changes_only_in_touched_strips_and_grows_at_the_end(compression):
    data = build_strips(8, compression)
    after = fill_with_noise(data, 17, 30)
    changed = np.frombuffer(data, np.uint8) != np.frombuffer(after[: len(data)], np.uint8)
    for start, size in list_strips(data)[2:4]:
        changed[start : start + size] = False
    assert len(after) > len(data)
    assert changed.sum() < 20  # two strips' offsets and sizes


def build_strips(rows, compression, **options):
    """Return a TIFF file whose strips are followed by its directory, as libtiff writes it."""
    buffer = io.BytesIO()
    picture_ = Image.fromarray(picture(64, 50, 3))
    kind = {"zlib": "tiff_adobe_deflate", "lzw": "tiff_lzw"}[compression]
    picture_.save(buffer, "TIFF", compression=kind, tiffinfo={278: rows}, **options)
    return buffer.getvalue()


def test_long_strips_share_the_room_that_neighbours_leave():
    """Every strip grows; only what exceeds all of them together makes the file longer."""
    data = build_strips(4, "zlib")
    before = list_strips(data)
    assert len(before) == 16 and before[-1][0] + before[-1][1] < len(data)
    after = list_strips(out := fill_with_noise(data, 0, 64))
    assert all(new > old for (_, new), (_, old) in zip(after, before, strict=True))
    room = sum(size for _, size in before)
    lost = min(size for _, size in after)  # what is left at the room's end is less than a strip
    assert len(out) - len(data) < sum(size for _, size in after) - room + lost + 16
    spans = sorted((start, start + size) for start, size in after)
    assert all(end <= start for (_, end), (start, _) in zip(spans, spans[1:], strict=False))


def test_a_strip_at_the_end_of_the_file_grows_where_it_is():
    samples = picture(64, 50, 3)
    data = write_file(samples, rowsperstrip=64, photometric="rgb", compression="zlib")
    ((start, size),) = list_strips(data)
    assert start + size == len(data)
    after = fill_with_noise(data, 20, 50)
    ((new_start, new_size),) = list_strips(after)
    assert new_start == start and new_size > size
    assert len(after) <= start + new_size + 1


def test_pages_thumbnails_infrared_and_private_tags_are_kept():
    first, second = picture(30, 40, 3, "uint16"), picture(25, 35, 1, "uint8")
    infrared = picture(30, 40, 1, "uint16", 5)
    buffer = io.BytesIO()
    private = [(50000, "B", 300, bytes(range(150)) * 2, True), (65000, "s", 0, "scanner", True)]
    with tifffile.TiffWriter(buffer) as file:
        options = {"metadata": None, "rowsperstrip": 4}
        file.write(
            np.dstack([first, infrared]), photometric="rgb", extrasamples=["unspecified"],
            extratags=private, iccprofile=b"profile" * 40, subifds=1, **options,
        )  # fmt: skip
        file.write(first[::4, ::4], photometric="rgb", subfiletype=1, **options)
        file.write(second[..., 0], compression="zlib", photometric="minisblack", **options)
        file.write(first[::2, ::2], photometric="rgb", subfiletype=1, **options)
        file.write(infrared[..., 0], photometric="minisblack", **options)
    data = buffer.getvalue()
    photo = read_photo(data, "a.tif")
    assert [page.color for page in photo.pages] == ["rgb", "grey", "grey"]
    assert photo.pages[0].alpha is None
    assert photo.pages[0].icc == b"profile" * 40
    mask = blot(30, 40)
    fixed = [repair(photo.pages[0], mask), None, None]
    after = write_photo(photo, fixed, [mask, None, None], name="a.tif").data
    verify_photo(data, after, [mask, None, None], name="a.tif")
    expected = tags(data)
    del expected[0][330]  # the thumbnail below the repaired page
    assert tags(after) == expected
    assert bytes(range(150)) * 2 in after
    with tifffile.TiffFile(io.BytesIO(after)) as file:
        np.testing.assert_array_equal(file.pages[0].asarray()[..., 3], infrared[..., 0])
        np.testing.assert_array_equal(file.pages[1].asarray(), second[..., 0])
        np.testing.assert_array_equal(file.pages[2].asarray(), first[::2, ::2])
        np.testing.assert_array_equal(file.pages[3].asarray(), infrared[..., 0])
    # damage to any of them is found
    for spot, what in (
        (bytes(range(150)), "page 1, tag 50000"),
        (b"profileprofile", "page 1, tag 34675|ICC"),
        (first[::2, ::2].tobytes()[:90], "page 3, data"),
        (infrared[9].tobytes(), "page 3|extra channel"),
    ):
        wrong = bytearray(after)
        wrong[after.index(spot) + 3] ^= 1
        with pytest.raises(PreservationError, match=what):
            verify_photo(data, bytes(wrong), [mask, None, None], name="a.tif")


def test_exif_directory_is_kept_and_compared():
    note = b"maker note with offsets"
    data = write_file(
        picture(30, 20, 3),
        photometric="rgb",
        extratags=[(34664, "I", 1, 0, True), (274, "H", 1, 8, True)],
    )
    place = len(data)
    entry = struct.pack("<HHII", 34664, 4, 1, 0)
    assert data.count(entry) == 1
    data = data.replace(entry, struct.pack("<HHII", 34665, 4, 1, place))
    data += struct.pack("<HHHIII", 1, 37500, 7, len(note), place + 18, 0) + note
    photo, masks, _, after = check_round_trip(data)
    assert photo.orientation == 8
    assert photo.pages[0].pixels.shape == (20, 30, 3)
    with tifffile.TiffFile(io.BytesIO(after)) as file:
        assert file.pages[0].tags[34665].value["MakerNote"] == b"maker note with offsets"
    wrong = bytearray(after)
    wrong[after.index(b"with offsets")] ^= 1
    with pytest.raises(PreservationError, match="tag 34665, tag 37500"):
        verify_photo(data, bytes(wrong), masks, name="a.tif")


def test_white_is_zero_is_shown_as_black_is_zero():
    for dtype in ("uint8", "uint16"):
        samples = picture(20, 21, 1, dtype)
        data = write_file(samples[..., 0], photometric="miniswhite")
        photo, _, (fixed,), after = check_round_trip(data)
        np.testing.assert_array_equal(photo.pages[0].pixels, TOPS[dtype] - samples)
        raw = tifffile.imread(io.BytesIO(after))
        np.testing.assert_array_equal(raw, TOPS[dtype] - fixed[..., 0])


def test_associated_alpha_limits_repaired_colours():
    samples = picture(20, 21, 4)
    samples[..., 3] = 40
    samples[..., :3] = np.minimum(samples[..., :3], 40)
    data = write_file(samples, photometric="rgb", extrasamples=["assocalpha"])
    after = check_round_trip(data)[3]
    assert tifffile.imread(io.BytesIO(after)).max() == 40


@pytest.mark.parametrize("mode", ["L", "RGB", "YCbCr", "CMYK"])
@pytest.mark.parametrize("strip", [64 * 8 * 4, 1 << 20])
def test_jpeg_pages_become_lossless_with_the_pixels_they_had(mode, strip):
    channels = {"L": 1, "CMYK": 4}.get(mode, 3)
    samples = picture(50, 64, channels)
    original = Image.frombytes(mode, (64, 50), samples.tobytes())
    buffer = io.BytesIO()
    original.save(buffer, "TIFF", compression="jpeg", quality=80, strip_size=strip)
    data = buffer.getvalue()
    assert tags(data)[0][259] == 7
    photo, _, (fixed,), after = check_round_trip(data, preserved="lossless-rewrite")
    with Image.open(io.BytesIO(data)) as before:
        shown = before.convert("RGB") if mode == "YCbCr" else before
        expected = np.asarray(shown).reshape(50, 64, channels)
    error = np.abs(photo.pages[0].pixels.astype(int) - expected).max()
    assert error <= (2 if mode == "YCbCr" else 0)  # another conversion to RGB, by rounding
    with Image.open(io.BytesIO(after)) as again:
        assert again.mode == {"YCbCr": "RGB"}.get(mode, mode)
        np.testing.assert_array_equal(np.asarray(again).reshape(fixed.shape), fixed)


def test_untouched_jpeg_page_is_left_alone():
    buffer = io.BytesIO()
    first = Image.fromarray(picture(50, 64, 3))
    first.save(
        buffer, "TIFF", compression="jpeg", save_all=True,
        append_images=[Image.fromarray(picture(30, 40, 3))],
    )  # fmt: skip
    data = buffer.getvalue()
    photo = read_photo(data, "a.tif")
    mask = blot(30, 40)
    fixed = [None, repair(photo.pages[1], mask)]
    encoded = write_photo(photo, fixed, [None, mask], name="a.tif")
    assert encoded.preserved == "lossless-rewrite"
    assert [page[259] for page in tags(encoded.data)] == [7, 8]
    verify_photo(data, encoded.data, [None, mask], name="a.tif")


@pytest.mark.parametrize(("step", "dtype", "wanted"), [(257, np.uint8, 4), (256, np.uint16, 1000)])
def test_palette_page_keeps_known_indices(step, dtype, wanted):
    palette = np.zeros((3, 256), np.uint16)
    palette[0] = np.arange(256) * step
    samples = picture(20, 21, 1)
    data = write_file(samples[..., 0], photometric="palette", colormap=palette)
    photo = read_photo(data, "a.tif")
    mask = blot(20, 21)
    fixed = photo.pages[0].pixels.copy()
    assert fixed.dtype == dtype
    fixed[mask] = (wanted, 0, 0)
    after = write_photo(photo, [fixed], [mask], name="a.tif").data
    verify_photo(data, after, [mask], name="a.tif")
    raw = tifffile.imread(io.BytesIO(after))
    assert (raw[mask] == 4).all()
    assert (raw[~mask] == samples[..., 0][~mask]).all()


def test_strips_that_share_bytes_are_not_overwritten():
    samples = np.zeros((16, 16, 1), np.uint8)
    data = bytearray(write_file(samples[..., 0], rowsperstrip=4))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tag = file.pages[0].tags[273]
        first = tag.value[0]
        struct.pack_into("<4I", data, tag.valueoffset, first, first, first, first)
    photo = read_photo(bytes(data), "a.tif")
    mask = np.zeros((16, 16), bool)
    mask[5, 5] = True
    fixed = photo.pages[0].pixels.copy()
    fixed[5, 5] = 200
    after = write_photo(photo, [fixed], [mask], name="a.tif").data
    verify_photo(bytes(data), after, [mask], name="a.tif")
    assert tifffile.imread(io.BytesIO(after)).sum() == 200


def find_entry(data, number):
    """Return where a tag's entry stands in a classic little-endian file's first directory."""
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    entries = range(start + 2, start + 2 + 12 * count, 12)
    return next(at for at in entries if struct.unpack_from("<H", data, at)[0] == number)


@pytest.mark.parametrize("values", [100, 300])
def test_a_wrong_count_that_lays_values_over_the_directory_is_refused_when_read(values):
    # With one value PlanarConfiguration holds 1; with many that 1 is where they are said to be.
    data = bytearray(write_file(picture(40, 30, 3), compression="zlib"))
    struct.pack_into("<HI", data, find_entry(data, 284) + 2, 3, values)
    with pytest.raises(UnreadableError, match=r"a\.tif: .*over a directory"):
        read_photo(bytes(data), "a.tif")


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_strip_under_a_wrong_tag_is_not_overwritten(compression):
    data = bytearray(write_file(picture(40, 30, 3), compression=compression, rowsperstrip=5))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        strip, size = file.pages[0].dataoffsets[3], file.pages[0].databytecounts[3]
    private = struct.pack("<HHII", 65000, 7, size, strip)
    entry = find_entry(data, 284)
    data = bytes(data[:entry]) + private + bytes(data[entry + 12 :])
    photo = read_photo(data, "a.tif")
    assert (photo.pages[0].pixels == picture(40, 30, 3)).all()
    mask = np.zeros((40, 30), bool)
    mask[14:22, 4:9] = True
    after = write_photo(photo, [repair(photo.pages[0], mask)], [mask], name="a.tif").data
    assert after[strip : strip + size] == data[strip : strip + size]
    verify_photo(data, after, [mask], name="a.tif")


def test_verify_names_what_changed():
    samples = picture(20, 21, 4, "uint16")
    options = {"photometric": "rgb", "extrasamples": ["unassalpha"]}
    data = write_file(samples, description="of the day", **options)
    mask = blot(20, 21)
    row, column = np.argwhere(~mask)[3]
    for channel, what in ((2, "page 1, rgb: 1 known"), (3, "page 1, alpha: 1 known")):
        other = samples.copy()
        other[row, column, channel] ^= 1
        wrong = write_file(other, description="of the day", **options)
        with pytest.raises(PreservationError, match=what):
            verify_photo(data, wrong, [mask], name="a.tif")
    with pytest.raises(PreservationError, match="page 1, tag 270"):
        verify_photo(data, write_file(samples, description="of a day", **options), [mask], name="a")
    with pytest.raises(PreservationError, match="tag 270"):
        verify_photo(data, write_file(samples, **options), [mask], name="a")
    with pytest.raises(PreservationError, match="page 2"):
        verify_photo(
            data, write_file([samples] * 2, description="of the day", **options), [mask], name="a"
        )


@pytest.mark.parametrize(
    ("samples", "options", "what"),
    [
        (np.zeros((8, 8), np.float64), {}, "64 bit"),
        (np.zeros((8, 8), np.int16), {}, "16 bit .signed"),
        (np.zeros((8, 8), np.uint32), {}, "32 bit"),
        (np.zeros((8, 8, 3), np.uint8), {"photometric": "cielab"}, "photometric interpretation 8"),
    ],
)
def test_other_kinds_are_refused_politely(samples, options, what):
    with pytest.raises(UnsupportedError, match=rf"a\.tif, page 1: .*{what}.*Convert"):
        read_photo(write_file(samples, **options), "a.tif")


@pytest.mark.parametrize(
    "extratags",
    [
        [(50706, "B", 4, b"\1\4\0\0", True)],  # DNG
        [(330, "I", 1, 8, True), (262, "H", 1, 32803, True)],  # NEF and others
    ],
)
def test_camera_raw_is_refused_with_advice(extratags):
    options = {"extratags": extratags}
    data = write_file(np.zeros((8, 8), np.uint8), **options)
    if extratags[-1][0] == 262:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            place = file.pages[0].tags[262].valueoffset
        data = data[:place] + struct.pack("<H", 32803) + data[place + 2 :]
    with pytest.raises(UnsupportedError, match="camera RAW.*Develop"):
        read_photo(data, "a.nef")


def test_raw_below_a_preview_is_refused():
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        file.write(np.zeros((8, 8, 3), np.uint8), photometric="rgb", subifds=1, metadata=None)
        file.write(np.zeros((9, 9), np.uint16), photometric="cfa", metadata=None)
    with pytest.raises(UnsupportedError, match="camera RAW"):
        read_photo(buffer.getvalue(), "a.arw")


def test_bombs_are_refused():
    data = write_file(picture(20, 21, 3), photometric="rgb")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        places = [file.pages[0].tags[number].valueoffset for number in (256, 257)]
    bomb = bytearray(data)
    for place in places:
        struct.pack_into("<H", bomb, place, 50_000)
    with pytest.raises((TooLargeError, UnreadableError)):
        read_photo(bytes(bomb), "a.tif")
    with pytest.raises(TooLargeError, match="--max-mpixels"):
        read_photo(write_file([picture(20, 21, 3)] * 3, photometric="rgb"), "a", max_mpixels=0.001)


@pytest.mark.parametrize("layout", ["strips", "deflate, predictor", "big"])
def test_every_truncation_is_refused(layout):
    data = write_file(picture(20, 21, 3), photometric="rgb", **LAYOUTS[layout])
    whole = read_photo(data, "a.tif").pages[0].pixels
    for length in range(8, len(data)):
        try:
            photo = read_photo(data[:length], "cut.tif")
        except UnreadableError as error:
            assert str(error).startswith("cut.tif: ")
        else:
            # only padding of the last tile's Deflate stream, or nothing, was cut
            assert len(data) - length < 16
            np.testing.assert_array_equal(photo.pages[0].pixels, whole)


def test_damaged_strips_are_unreadable():
    samples = picture(41, 37, 3)
    for compression in ("tiff_lzw", "tiff_deflate", "jpeg"):
        buffer = io.BytesIO()
        Image.fromarray(samples).save(buffer, "TIFF", compression=compression)
        data = bytearray(buffer.getvalue())
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            start, size = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
        data[start + size // 2 : start + size] = b"\xff" * (size - size // 2)
        with pytest.raises(UnreadableError, match=r"a\.tif: .*strip 1 at byte"):
            read_photo(bytes(data), "a.tif")


def test_circular_directories_end():
    data = bytearray(write_file(picture(4, 4, 1)[..., 0]))
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    struct.pack_into("<I", data, start + 2 + 12 * count, start)
    with pytest.raises(UnreadableError, match="circle"):
        read_photo(bytes(data), "a.tif")


def test_overlapping_directories_do_not_multiply():
    entries = b"".join(struct.pack("<HHII", 254, 4, 1, 0) for _ in range(20_000))
    body = bytearray(b"II*\0" + struct.pack("<I", 8) + entries)
    for start in range(8, 100_000, 6):  # every few bytes another directory of thousands of tags
        struct.pack_into("<H", body, start, 9000)
    with pytest.raises(UnreadableError):
        read_photo(bytes(body), "a.tif")


@pytest.mark.parametrize("length", [1, 2, 3, 127, 128, 129, 300])
def test_packbits_round_trip(length):
    rng = np.random.default_rng(length)
    for top in (1, 2, 256):
        row = rng.integers(0, top, length, dtype=np.uint8).repeat(rng.integers(1, 4)).tobytes()
        packed = tiff_codecs.compress(row, tiff_codecs.PACKBITS, 1, len(row))
        assert tiff_codecs.decompress(packed, tiff_codecs.PACKBITS, 1, len(row)) == row
        assert len(packed) <= len(row) + len(row) // 64 + 2


def mutated_seeds():
    yield write_file(picture(12, 9, 3, "uint16"), photometric="rgb", rowsperstrip=4)
    yield write_file(picture(12, 9, 3), photometric="rgb", compression="zlib", predictor=2)
    yield write_file(picture(12, 9, 1, "float32")[..., 0], bigtiff=True)
    yield write_file([picture(12, 9, 3), picture(5, 6, 3)], photometric="rgb", tile=(16, 16))
    for compression in ("tiff_lzw", "packbits", "jpeg"):
        buffer = io.BytesIO()
        Image.fromarray(picture(12, 9, 3)).save(buffer, "TIFF", compression=compression)
        yield buffer.getvalue()


def test_mutated_files_never_crash():
    rng = np.random.default_rng(0)
    seeds = list(mutated_seeds())
    outcomes = set()
    for round_ in range(700):
        data = bytearray(seeds[round_ % len(seeds)])
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(4, len(data)))] = int(rng.integers(256))
        try:
            photo = read_photo(bytes(data), "a.tif", max_mpixels=1)
            masks = [blot(page.height, page.width, round_) for page in photo.pages]
            fixed = [repair(page, mask) for page, mask in zip(photo.pages, masks, strict=True)]
            encoded = write_photo(photo, fixed, masks, name="a.tif")
            verify_photo(bytes(data), encoded.data, masks, name="a.tif")
            outcomes.add("fine")
        except (UnreadableError, UnsupportedError, TooLargeError, PreservationError) as error:
            outcomes.add(type(error).__name__)
    assert {"fine", "UnreadableError", "UnsupportedError"} <= outcomes
