"""Masks: what counts as hole, how it grows, and which file belongs to which picture."""

from __future__ import annotations

import io
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_mask, draw_photo, encode_picture, write_picture
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from restorepix.errors import MaskError, UsageError
from restorepix.formats import read_photo
from restorepix.inputs import Source
from restorepix.masks import EffectiveMask, MaskFinder, dilate_mask, read_mask, threshold_page
from restorepix.photo import Page, Photo


def build_photo(*sizes: tuple[int, int]) -> Photo:
    pages = tuple(Page(np.zeros((*size, 3), np.uint8), "rgb") for size in sizes)
    return Photo("png", pages, 1, b"")


def read(data: bytes, *sizes: tuple[int, int], dilate: int = 0) -> EffectiveMask:
    return read_mask(data, "m.png", build_photo(*sizes), dilate=dilate, max_mpixels=1)


def build_source(folder: Path, relative: str) -> Source:
    return Source(folder / relative, folder, Path(relative), "jpeg")


# What is a hole


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_threshold_is_above_127_of_255_exactly(dtype, channels):
    scale = np.iinfo(dtype).max // 255
    levels = np.array([[0, 127, 128, 255]], dtype) * dtype(scale)
    pixels = np.repeat(levels[..., None], channels, axis=2)
    page = Page(pixels, "grey" if channels == 1 else "rgb")
    assert threshold_page(page).tolist() == [[False, False, True, True]]


def test_white_on_transparent_is_a_hole_only_where_it_is_opaque():
    pixels = np.full((1, 4, 3), 255, np.uint8)
    alpha = np.array([[0, 127, 128, 255]], np.uint8)
    assert threshold_page(Page(pixels, "rgb", alpha)).tolist() == [[False, False, True, True]]
    black = Page(np.zeros((1, 1, 3), np.uint8), "rgb", np.array([[255]], np.uint8))
    assert not threshold_page(black).any()


def test_luminance_weighs_the_colours():
    pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]]], np.uint8)
    assert threshold_page(Page(pixels, "rgb")).tolist() == [[False, True, False, True]]


def test_float_samples_mean_white_at_one_and_nan_is_known():
    pixels = np.array([[[0.0], [0.49], [0.51], [1.0], [np.nan]]], np.float32)
    assert threshold_page(Page(pixels, "grey")).tolist() == [[False, False, True, True, False]]


def test_cmyk_without_ink_is_white():
    pixels = np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [255, 255, 255, 0]]], np.uint8)
    assert threshold_page(Page(pixels, "cmyk")).tolist() == [[True, False, False]]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_bands_do_not_show(height, width, seed):
    rng = np.random.default_rng(seed)
    page = Page(rng.integers(0, 256, (height, width, 1), np.uint8), "grey")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("restorepix.masks._BAND_PX", 64)
        assert np.array_equal(threshold_page(page), page.pixels[..., 0] > 127)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
def test_every_kind_of_mask_file_means_the_same(mode):
    expected = draw_mask() > 0
    image = Image.fromarray(draw_mask()).convert("RGBA" if "A" in mode else "RGB").convert(mode)
    if "A" in mode:
        # white everywhere, and only the hole opaque
        solid = Image.new(mode, image.size, "white")
        solid.putalpha(Image.fromarray(draw_mask()))
        image = solid
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    mask = read(buffer.getvalue(), (24, 32))
    assert mask.pages[0] is not None
    assert np.array_equal(mask.pages[0], expected)


def test_the_masks_own_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # stored a quarter turn to the left
    stored = np.rot90(draw_mask())
    mask = read(encode_picture(np.ascontiguousarray(stored), ".png", exif=exif), (24, 32))
    assert mask.pages[0] is not None
    assert np.array_equal(mask.pages[0], draw_mask() > 0)


# Reading


def test_a_mask_of_another_size_is_refused_with_both_sizes():
    with pytest.raises(MaskError, match=r"m\.png.*30x20.*32x24 as displayed"):
        read(encode_picture(draw_mask(20, 30)), (24, 32))
    with pytest.raises(MaskError, match="on its side"):
        read(encode_picture(draw_mask(32, 24)), (24, 32))


@pytest.mark.parametrize("data", [b"", b"text", encode_picture(draw_mask())[:60]])
def test_a_mask_that_cannot_be_read_is_a_mask_error(data):
    with pytest.raises(MaskError, match=r"mask cannot be read: m\.png"):
        read(data, (24, 32))


def test_an_empty_mask_has_no_page_to_repaint():
    mask = read(encode_picture(np.zeros((24, 32), np.uint8)), (24, 32))
    assert mask.pages == (None,)
    assert mask.hole_pixels == mask.count_holes() == 0
    assert mask.review == ()


def test_marks_that_are_too_dark_are_pointed_out():
    mask = read(encode_picture(draw_mask() // 255), (24, 32))
    assert mask.pages == (None,)
    assert "none is brighter" in mask.review[0]


@pytest.mark.parametrize(("rows", "expected"), [(12, ()), (13, ("54 %",)), (24, ("100 %",))])
def test_a_mask_that_covers_more_than_it_leaves_wants_a_look(rows, expected):
    white = np.zeros((24, 32), np.uint8)
    white[:rows] = 255
    mask = read(encode_picture(white), (24, 32))
    assert mask.hole_pixels == rows * 32
    assert len(mask.review) == len(expected)
    for reason, share in zip(mask.review, expected, strict=True):
        assert f"covers {share} of the picture" in reason


def encode_pages(*pages: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    first, *more = (Image.fromarray(page) for page in pages)
    first.save(buffer, "TIFF", save_all=True, append_images=more)
    return buffer.getvalue()


def test_pages_of_the_mask_belong_to_pages_of_the_picture():
    data = encode_pages(np.zeros((24, 32), np.uint8), draw_mask(10, 20))
    mask = read(data, (24, 32), (10, 20))
    assert mask.pages[0] is None
    assert mask.pages[1] is not None
    assert mask.hole_pixels == 24
    assert mask.review == ()


def test_pages_without_a_mask_are_kept_and_reported():
    mask = read(encode_picture(draw_mask()), (24, 32), (10, 20), (5, 5))
    assert mask.pages[1:] == (None, None)
    assert mask.review == ("the mask has 1 of 3 pages; the others are kept",)


def test_more_pages_than_the_picture_has_are_refused():
    with pytest.raises(MaskError, match="2 pages, the picture 1"):
        read(encode_pages(draw_mask(), draw_mask()), (24, 32))


# Growing and counting


@pytest.mark.parametrize("brush_px", [0, 16])
@given(radius=st.integers(0, 7), seed=st.integers(0, 2**32 - 1))
def test_dilation_reaches_exactly_as_far_as_it_says(brush_px, radius, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((12, 17)) < 0.03
    rows, columns = np.mgrid[0:12, 0:17]
    expected = np.zeros_like(mask)
    for row, column in np.argwhere(mask):
        expected |= (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    before = mask.copy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("restorepix.masks._BRUSH_PX", brush_px)
        assert np.array_equal(dilate_mask(mask, radius), expected)
    assert np.array_equal(mask, before)


def test_reading_grows_the_mask():
    assert read(encode_picture(draw_mask()), (24, 32), dilate=1).hole_pixels == 24 + 20


def test_holes_touch_at_corners_and_do_not_touch_across_pages():
    one, other = np.zeros((6, 6), np.bool_), np.zeros((4, 4), np.bool_)
    one[0, 0] = one[1, 1] = one[5, 5] = True
    other[0, 0] = True
    assert EffectiveMask((one, None, other)).count_holes() == 3
    assert EffectiveMask((one, None, other)).hole_pixels == 4


def test_the_hash_tells_masks_apart():
    mask = np.zeros((4, 6), np.bool_)
    mask[1, 2] = True
    hashes = {
        EffectiveMask((mask,)).hash_pages(),
        EffectiveMask((None, mask)).hash_pages(),
        EffectiveMask((mask.reshape(6, 4),)).hash_pages(),
        EffectiveMask((~mask,)).hash_pages(),
        EffectiveMask((None,)).hash_pages(),
    }
    assert len(hashes) == 5
    assert EffectiveMask((mask.copy(),)).hash_pages() in hashes


# Pairing


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["sub/a.jpg.png", "sub/a.png", "sub/a_mask.png"], "sub/a.jpg.png"),
        (["sub/a.png", "sub/a_mask.png"], "sub/a.png"),
        (["sub/a.tif", "sub/a_mask.png"], "sub/a.tif"),
        (["sub/a.tif", "sub/a.png"], "sub/a.png"),
        (["sub/a_mask.TIF"], "sub/a_mask.TIF"),
        (["SUB/A.JPG.PNG"], "SUB/A.JPG.PNG"),
        (["sub/A.png", "sub/a.png"], "sub/A.png"),
        (["a.png", "sub/b.png", "sub/a.txt", "sub/a_mask"], None),
        (["other/a.png"], None),
    ],
)
def test_pairing_order(tmp_path, names, expected):
    for name in names:
        write_picture(tmp_path / "masks" / name, draw_mask()) if Path(name).suffix in (
            ".png",
            ".tif",
        ) else _touch(tmp_path / "masks" / name)
    finder = MaskFinder(tmp_path / "masks")
    source = build_source(tmp_path / "photos", "sub/a.jpg")
    found = finder.find_mask(source)
    assert found == (None if expected is None else tmp_path / "masks" / expected)


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_pairing_forgives_how_accents_are_encoded(tmp_path):
    name = "Großmütter/Café.jpg"
    mask = _decompose(tmp_path / "masks" / f"{name}.png")
    write_picture(mask, draw_mask())
    source = build_source(tmp_path / "photos", unicodedata.normalize("NFC", name))
    assert MaskFinder(tmp_path / "masks").find_mask(source) == mask


def _decompose(path: Path) -> Path:
    return Path(unicodedata.normalize("NFD", str(path)))


def test_in_the_pictures_own_folder_another_photograph_is_no_mask(tmp_path):
    write_picture(tmp_path / "a.jpg", draw_photo())
    write_picture(tmp_path / "a.png", draw_photo())
    finder = MaskFinder(tmp_path)
    assert finder.find_mask(build_source(tmp_path, "a.jpg")) is None
    write_picture(tmp_path / "a_mask.png", draw_mask())
    finder = MaskFinder(tmp_path)
    assert finder.find_mask(build_source(tmp_path, "a.jpg")) == tmp_path / "a_mask.png"


def test_a_single_mask_serves_every_picture(tmp_path):
    mask = write_picture(tmp_path / "m.png", draw_mask())
    assert MaskFinder(mask).find_mask(build_source(tmp_path, "sub/a.jpg")) == mask


def test_the_search_is_described_and_a_missing_path_refused(tmp_path):
    sentence = MaskFinder(tmp_path).describe_search(build_source(tmp_path, "sub/a.jpg"))
    assert "a.jpg.png, then a.png, then a_mask.png" in sentence
    with pytest.raises(UsageError, match="--mask"):
        MaskFinder(tmp_path / "nowhere")


def test_a_mask_is_read_by_the_same_reader_as_pictures():
    data = encode_picture(draw_mask())
    page = read_photo(data, "m.png").pages[0]
    assert np.array_equal(threshold_page(page), draw_mask() > 0)
