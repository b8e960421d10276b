"""Previews: upright, in sRGB, of every kind of file."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile
from conftest import draw_photo, encode_picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from restorepix.errors import TooLargeError, UnreadableError
from restorepix.gallery.pictures import (
    encode_thumb,
    list_spots,
    render_holes,
    render_picture,
    shrink,
)


def encode_tiff(pixels, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def build_profile(gamma: int | None = None) -> bytes:
    """sRGB itself, or its primaries with a plain or linear curve."""
    icc = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    if gamma is None:
        return bytes(icc)
    curve = (
        b"curv" + bytes(4) + (1).to_bytes(4, "big") + (gamma * 256).to_bytes(2, "big") + bytes(2)
    )
    start = len(icc)
    for entry in range(132, 132 + 12 * int.from_bytes(icc[128:132], "big"), 12):
        if icc[entry : entry + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            icc[entry + 4 : entry + 12] = start.to_bytes(4, "big") + (14).to_bytes(4, "big")
    icc += curve
    icc[:4] = len(icc).to_bytes(4, "big")
    return bytes(icc)


def swap_primaries() -> bytes:
    """A profile whose red is green and whose green is red: wrong colours cannot hide."""
    icc = bytearray(build_profile())
    places = {
        bytes(icc[entry : entry + 4]): entry
        for entry in range(132, 132 + 12 * int.from_bytes(icc[128:132], "big"), 12)
    }
    red, green = places[b"rXYZ"], places[b"gXYZ"]
    icc[red + 4 : red + 12], icc[green + 4 : green + 12] = (
        icc[green + 4 : green + 12],
        icc[red + 4 : red + 12],
    )
    return bytes(icc)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_previews_stand_upright_whatever_the_orientation(orientation, suffix):
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:20, :30] = (255, 0, 0)  # stored top left
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = render_picture(encode_picture(pixels, suffix, exif=exif), "a")
    turned = Image.fromarray(pixels)
    turned.getexif()[0x0112] = orientation
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation)
    expected = np.asarray(turned if turn is None else turned.transpose(turn)).astype(int)
    assert shown.pixels.shape == expected.shape
    assert (shown.height, shown.width) == expected.shape[:2]
    assert np.abs(shown.pixels - expected).mean() < 6


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_colours_go_through_the_profile(suffix):
    pixels = np.full((16, 16, 3), (200, 30, 30), np.uint8)
    data = encode_picture(pixels, suffix, icc_profile=swap_primaries())
    red, green, blue = render_picture(data, "a").pixels.mean(axis=(0, 1))
    assert green > 150 and green > 2 * red and green > 2 * blue


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_pictures_in_srgb_and_without_a_profile_keep_their_numbers(suffix):
    pixels = draw_photo(64, 64)
    for options in ({}, {"icc_profile": build_profile()}):
        data = encode_picture(pixels, suffix, **options)
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
        assert np.abs(render_picture(data, "a").pixels - expected).max() <= 1


def test_a_broken_profile_is_said_and_does_not_hide_the_picture():
    shown = render_picture(encode_picture(draw_photo(), ".png", icc_profile=b"x" * 200), "a")
    assert "profile" in shown.note
    assert np.array_equal(shown.pixels, draw_photo())


def test_sixteen_bits_show_as_eight_would():
    pixels = draw_photo(64, 64)
    shown = render_picture(encode_tiff(pixels.astype(np.uint16) * 257, photometric="rgb"), "a")
    assert np.array_equal(shown.pixels, pixels)
    grey = render_picture(encode_picture(pixels[..., 0].astype(np.uint16) * 257), "a")
    assert np.array_equal(grey.pixels, np.repeat(pixels[..., :1], 3, axis=2))


def test_linear_light_with_a_profile_is_shown_as_it_was_before_it_became_linear():
    pixels = draw_photo(64, 64)
    scaled = pixels / 255
    light = np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4)
    stored = np.rint(light * 65535).astype(np.uint16)
    data = encode_tiff(stored, photometric="rgb", iccprofile=build_profile(gamma=1))
    shown = render_picture(data, "a").pixels.astype(int)
    assert np.abs(shown - pixels).max() <= 2  # dark tones too: no posterising


def test_cmyk_is_shown_in_its_colours():
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[..., 0] = 255  # cyan
    for suffix in (".jpg", ".tif"):
        buffer = io.BytesIO()
        Image.fromarray(ink, "CMYK").save(buffer, Image.registered_extensions()[suffix])
        shown = render_picture(buffer.getvalue(), "a")
        red, green, blue = shown.pixels.mean(axis=(0, 1))
        assert red < 60 < 180 < min(green, blue)
        assert "estimate" in shown.note


def test_transparent_parts_show_checks_and_opaque_ones_do_not():
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[:16, :, 3] = 255
    shown = render_picture(encode_picture(pixels), "a").pixels
    assert (shown[:16] == 0).all()
    assert set(np.unique(shown[16:])) == {204, 236}


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("shape", [(900, 1400), (1400, 900), (33, 1700)])
def test_pictures_fit_and_small_ones_are_not_enlarged(suffix, shape):
    data = encode_picture(draw_photo(*shape), suffix)
    shown = render_picture(data, "a", fit_px=300)
    assert max(shown.pixels.shape[:2]) == 300
    assert (shown.height, shown.width) == shape
    assert max(render_picture(data, "a", fit_px=5000).pixels.shape[:2]) == max(shape)


def test_a_small_jpeg_is_the_large_one_made_small():
    smooth = np.repeat(np.repeat(draw_photo(60, 80), 16, axis=0), 16, axis=1)
    data = encode_picture(smooth, ".jpg", quality=95)
    small = render_picture(data, "a", fit_px=320).pixels.astype(int)
    reference = shrink(render_picture(data, "a", fit_px=4000), 320).astype(int)
    assert np.abs(small - reference).mean() < 2


def test_the_page_that_is_asked_for_is_shown():
    pages = np.stack([np.full((20, 30, 3), level, np.uint8) for level in (10, 200)])
    data = encode_tiff(pages, photometric="rgb")
    assert render_picture(data, "a", page=1).pixels.mean() == 200
    assert render_picture(data, "a", page=7).pixels.mean() == 200
    assert render_picture(data, "a").pages == 2


def test_damaged_and_huge_files_are_refused_like_elsewhere():
    data = encode_picture(draw_photo(64, 64), ".jpg")
    with pytest.raises(UnreadableError):
        render_picture(data[: len(data) // 2], "a")
    with pytest.raises(UnreadableError):
        render_picture(b"nothing", "a")
    with pytest.raises(TooLargeError):
        render_picture(data, "a", max_mpixels=0.001)


def test_thumbs_carry_no_metadata():
    exif = Image.Exif()
    exif[0x010E] = "private words"
    shown = render_picture(encode_picture(draw_photo(), ".jpg", exif=exif), "a")
    assert b"private" not in encode_thumb(shown.pixels)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_no_hole_gets_lost_when_a_mask_is_made_small(data):
    height, width = data.draw(st.integers(1, 400)), data.draw(st.integers(1, 400))
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    hole = np.zeros((height, width), np.bool_)
    hole[y, x] = True
    image = Image.open(io.BytesIO(render_holes(hole, 60)))
    alpha = np.asarray(image.convert("RGBA"))[..., 3]
    assert max(alpha.shape) <= max(60, min(height, width))
    rows, columns = np.nonzero(alpha)
    assert rows.size >= 1
    assert abs(rows.mean() / alpha.shape[0] - y / height) < 2 / min(alpha.shape[0], height)
    assert abs(columns.mean() / alpha.shape[1] - x / width) < 2 / min(alpha.shape[1], width)


def test_spots_cover_every_hole_when_they_are_few():
    hole = np.zeros((500, 1000), np.bool_)
    hole[20:40, 30:60] = hole[400:410, 900:990] = hole[38:45, 62:70] = True
    first, second = list_spots(hole)  # the near ones are one
    for x, y, (left, top, width, height) in (
        (30, 20, first), (69, 44, first), (900, 400, second), (989, 409, second),
    ):  # fmt: skip
        assert left <= x / 1000 <= left + width and top <= y / 500 <= top + height
    assert list_spots(np.zeros((50, 50), np.bool_)) == []
    many = np.zeros((900, 900), np.bool_)
    many[::90, ::90] = True
    assert len(list_spots(many)) == 24
