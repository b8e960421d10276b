from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import pytest
import tifffile
from pictures import blot, build_png, exif_block, png_chunk, repair, smooth
from PIL import Image

from restorepix.errors import PreservationError, UnsupportedError, UsageError
from restorepix.formats import read_photo, sniff_format, verify_photo, write_photo

TARGETS = {"png": "png", "jpg": "jpeg", "tiff": "tiff", "webp": "webp"}


def encode(samples, kind, *, orientation=6, icc=b"odd profile"):
    """Return a file of (H, W, C) samples by Pillow or OpenCV."""
    if kind == "png16":
        order = [2, 1, 0] if samples.shape[2] == 3 else [0]
        return cv2.imencode(".png", samples[..., order])[1].tobytes()
    buffer = io.BytesIO()
    options = {"exif": b"Exif\0\0" + exif_block(orientation)} if orientation else {}
    if icc:
        options["icc_profile"] = icc
    if kind == "WEBP":
        options |= {"lossless": True, "exact": True}
    Image.fromarray(np.squeeze(samples)).save(buffer, kind, **options)
    return buffer.getvalue()


def convert(data, to):
    """Return (photo, mask, repaired, encoded) after checking the proof."""
    photo = read_photo(data, "a")
    (page,) = photo.pages
    mask = blot(page.height, page.width)
    fixed = repair(page, mask)
    encoded = write_photo(photo, [fixed], [mask], name="a", to=to)
    assert sniff_format(encoded.data) == TARGETS[to]
    verify_photo(data, encoded.data, [mask], name="a", reencoded=encoded.preserved == "reencoded")
    return photo, mask, fixed, encoded


@pytest.mark.parametrize("orientation", [0, 1, 6])
@pytest.mark.parametrize("to", ["png", "tiff", "webp"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("source", ["PNG", "WEBP", "TIFF"])
def test_lossless_conversions_keep_known_pixels(source, channels, to, orientation):
    if TARGETS[to] == source.lower() or (source == "WEBP" and channels < 3):
        return
    if source == "TIFF" and channels == 2:
        return
    data = encode(smooth(41, 37, channels, 255), source, orientation=orientation)
    photo, _, fixed, encoded = convert(data, to)
    assert encoded.preserved == "exact"
    again = read_photo(encoded.data, "b")
    (page,) = again.pages
    assert again.orientation == photo.orientation == max(orientation, 1)
    assert page.icc == b"odd profile"
    pixels = page.pixels[..., :1] if to == "webp" and channels < 3 else page.pixels
    np.testing.assert_array_equal(pixels, fixed)
    if channels in (2, 4):
        np.testing.assert_array_equal(page.alpha, photo.pages[0].alpha)


@pytest.mark.parametrize("to", ["png", "webp", "tiff"])
def test_libraries_agree_about_converted_files(to):
    samples = smooth(41, 37, 3, 255)
    data = encode(samples, "PNG" if to != "png" else "TIFF", orientation=1)
    _, _, fixed, encoded = convert(data, to)
    with Image.open(io.BytesIO(encoded.data)) as picture:
        np.testing.assert_array_equal(np.asarray(picture), fixed)
        assert picture.info["icc_profile"] == b"odd profile"
        assert picture.getexif()[274] == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bit_png_becomes_sixteen_bit_tiff_and_back(channels):
    samples = smooth(41, 37, channels, 65535)
    _, _, fixed, tiff = convert(encode(samples, "png16"), "tiff")
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(tiff.data)), np.squeeze(fixed))
    _, _, fixed, png = convert(tiff.data, "png")
    decoded = cv2.imdecode(np.frombuffer(png.data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(
        decoded[..., ::-1] if channels == 3 else decoded[..., None], fixed
    )


@pytest.mark.parametrize("source", ["PNG", "WEBP", "TIFF"])
def test_jpeg_is_reencoded_without_subsampling(source):
    data = encode(smooth(64, 48, 3, 255), source)
    photo, mask, fixed, encoded = convert(data, "jpg")
    assert encoded.preserved == "reencoded"
    again = read_photo(encoded.data, "b.jpg")
    assert again.orientation == 6
    assert again.pages[0].icc == b"odd profile"
    error = np.abs(again.pages[0].pixels.astype(int) - fixed)[~mask]
    assert error.mean() < 4
    with Image.open(io.BytesIO(encoded.data)) as picture:
        assert [layer[1:3] for layer in picture.layer] == [(1, 1)] * 3
    with pytest.raises(PreservationError, match="rgb"):
        verify_photo(data, encoded.data, [mask], name="a")


def test_sixteen_bit_becomes_eight_bit_jpeg():
    samples = smooth(64, 48, 3, 65535)
    _, _, fixed, encoded = convert(encode(samples, "png16"), "jpg")
    again = read_photo(encoded.data, "b.jpg").pages[0]
    assert np.abs(again.pixels - fixed / 257).mean() < 4


@pytest.mark.parametrize("to", ["png", "tiff", "webp"])
def test_jpeg_converts_to_lossless(to):
    buffer = io.BytesIO()
    exif = b"Exif\0\0" + exif_block(8, ">")
    picture = Image.fromarray(smooth(64, 48, 3, 255))
    picture.save(buffer, "JPEG", quality=90, exif=exif, icc_profile=b"odd profile")
    _, _, fixed, encoded = convert(buffer.getvalue(), to)
    again = read_photo(encoded.data, "b")
    np.testing.assert_array_equal(again.pages[0].pixels, fixed)
    assert again.orientation == 8
    assert b"maker\0note\xff!" in encoded.data


def test_gif_and_bmp_convert():
    picture = Image.fromarray(smooth(30, 31, 3, 255))
    for kind in ("GIF", "BMP"):
        buffer = io.BytesIO()
        (picture.quantize(64) if kind == "GIF" else picture).save(buffer, kind)
        for to in ("png", "tiff", "webp", "jpg"):
            _, _, fixed, encoded = convert(buffer.getvalue(), to)
            if to != "jpg":
                again = read_photo(encoded.data, "b").pages[0].pixels
                np.testing.assert_array_equal(again, fixed)


def test_descriptive_tags_of_tiff_become_exif_and_back():
    note, place = b"maker note", 0
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer, smooth(20, 21, 3, 255), photometric="rgb", metadata=None, byteorder=">",
        extratags=[(271, "s", 0, "Maker", True), (33432, "s", 0, "me", True),
                   (34664, "I", 1, 0, True), (65000, "s", 0, "private", True)],
    )  # fmt: skip
    data = buffer.getvalue()
    place = len(data)
    data = data.replace(
        struct.pack(">HHII", 34664, 4, 1, 0), struct.pack(">HHII", 34665, 4, 1, place)
    )
    data += struct.pack(">HHHIII", 1, 37500, 7, len(note), place + 18, 0) + note
    _, _, _, png = convert(data, "png")
    with Image.open(io.BytesIO(png.data)) as picture:
        exif = picture.getexif()
        assert (exif[271], exif[33432]) == ("Maker", "me")
        assert 65000 not in exif
    assert note in png.data
    _, _, _, tiff = convert(png.data, "tiff")
    with tifffile.TiffFile(io.BytesIO(tiff.data)) as file:
        assert file.byteorder == ">"
        assert file.pages[0].tags[271].value == "Maker"
        assert file.pages[0].tags[34665].value["MakerNote"] == note


XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>a caption</x:xmpmeta>"


def with_xmp(source):
    """Return a file with an XMP packet, made by libraries or by the specification."""
    samples = smooth(40, 41, 3, 255)
    buffer = io.BytesIO()
    if source == "PNG":
        chunk = (b"iTXt", b"XML:com.adobe.xmp\0\0\0en\0\0" + XMP)
        return build_png(samples, 8, 2, before=[chunk])
    if source == "TIFF":
        extratags = [(700, "B", len(XMP), XMP, True)]
        tifffile.imwrite(buffer, samples, photometric="rgb", metadata=None, extratags=extratags)
    elif source == "JPEG":
        segment = b"http://ns.adobe.com/xap/1.0/\0" + XMP
        extra = b"\xff\xe1" + struct.pack(">H", 2 + len(segment)) + segment
        Image.fromarray(samples).save(buffer, "JPEG", extra=extra)
    else:
        Image.fromarray(samples).save(buffer, "WEBP", lossless=True, exact=True, xmp=XMP)
    return buffer.getvalue()


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("source", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_xmp_goes_along(source, to):
    if source.lower() == TARGETS[to]:
        return
    data = with_xmp(source)
    _, mask, _, encoded = convert(data, to)
    with Image.open(io.BytesIO(encoded.data)) as picture:
        assert picture.info["xmp"] == XMP
    wrong = encoded.data.replace(b"caption", b"kaption")
    if to == "png":
        at = wrong.index(b"iTXt") - 4
        (size,) = struct.unpack_from(">I", wrong, at)
        wrong = (
            wrong[:at] + png_chunk(b"iTXt", wrong[at + 8 : at + 8 + size]) + wrong[at + 12 + size :]
        )
    with pytest.raises(PreservationError, match="XMP"):
        reencoded = encoded.preserved == "reencoded"
        verify_photo(data, wrong, [mask], name="a", reencoded=reencoded)


def test_changed_exif_is_found():
    data = encode(smooth(20, 21, 3, 255), "PNG", orientation=1)
    _, mask, _, encoded = convert(data, "webp")
    wrong = encoded.data.replace(b"maker", b"taker")
    with pytest.raises(PreservationError, match="EXIF"):
        verify_photo(data, wrong, [mask], name="a")


def test_what_a_format_cannot_hold_is_refused():
    def write(samples, **options):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, samples, metadata=None, **options)
        return buffer.getvalue()

    def refuse(data, to, what):
        photo = read_photo(data, "a.tif")
        with pytest.raises(UnsupportedError, match=rf"a\.tif: --to {to} cannot hold .*{what}"):
            write_photo(photo, [None] * len(photo.pages), [None] * len(photo.pages),
                        name="a.tif", to=to)  # fmt: skip

    rgb = smooth(20, 21, 3, 255)
    refuse(write(np.stack([rgb, rgb]), photometric="rgb"), "png", "2 pages.*no --to")
    refuse(
        write(smooth(20, 21, 4, 255), photometric="rgb", extrasamples=[0]), "png", "extra channel"
    )
    refuse(write(rgb.astype(np.float32), photometric="rgb"), "jpg", "floating point.*--to tiff")
    refuse(write(smooth(20, 21, 4, 255), photometric="separated"), "webp", "CMYK")
    refuse(write(smooth(20, 21, 3, 65535), photometric="rgb"), "webp", "16 bit.*--to png")
    refuse(
        write(smooth(20, 21, 4, 255), photometric="rgb", extrasamples=[2]), "jpg", "transparency"
    )
    refuse(write(np.zeros((2, 20_000), np.uint8)), "webp", "a side above 16383")


def test_same_format_is_no_conversion():
    data = build_png(smooth(9, 9, 3, 65535), 16, 2)
    photo = read_photo(data, "a.png")
    encoded = write_photo(photo, [None], [None], name="a.png", to="png")
    assert encoded.preserved == "exact"
    verify_photo(data, encoded.data, [None], name="a.png")


def test_unknown_target_is_a_usage_error():
    photo = read_photo(build_png(smooth(9, 9, 3, 255), 8, 2), "a.png")
    with pytest.raises(UsageError, match="--to gif"):
        write_photo(photo, [None], [None], name="a.png", to="gif")
