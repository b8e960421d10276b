from __future__ import annotations

import io
import struct
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import blot, exif_block, repair, smooth
from PIL import Image

from restorepix.errors import (
    PreservationError,
    TooLargeError,
    UnreadableError,
    UnsupportedError,
)
from restorepix.formats import read_photo, sniff_format, verify_photo, write_photo
from restorepix.formats.heif_items import NewItem, Property, build_heif, parse_heif

ORDER = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"


def make(channels=3, height=41, width=37, *, bits=8, quality=100, seed=0):
    """Return an AVIF file of OpenCV and the samples it was made of."""
    samples = smooth(height, width, channels, (1 << bits) - 1, seed)
    flags = [cv2.IMWRITE_AVIF_QUALITY, quality, cv2.IMWRITE_AVIF_DEPTH, bits]
    data = cv2.imencode(".avif", samples[..., ORDER[channels]], flags)[1].tobytes()
    return data, samples


def make_by_pillow(orientation=1, **options):
    """Return a lossy AVIF file with metadata; Pillow turns EXIF orientation into irot and imir."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Maker"
    buffer = io.BytesIO()
    options = {"exif": exif.tobytes(), "icc_profile": b"odd profile", "xmp": XMP} | options
    Image.fromarray(smooth(41, 36, 3, 255)).save(buffer, "AVIF", quality=80, **options)
    return buffer.getvalue()


def make_heic(channels=3, *, bits=8, orientation=1, **options):
    """Return a HEIC file, or skip the test where pillow-heif is missing."""
    heif = pytest.importorskip("pillow_heif")
    samples = smooth(42, 36, channels, (1 << bits) - 1)
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels] + (";16" if bits > 8 else "")
    packed = samples << (16 - bits) if bits > 8 else samples
    picture = heif.from_bytes(mode, (36, 42), packed.tobytes())
    buffer = io.BytesIO()
    exif = b"Exif\0\0" + exif_block(orientation)
    usual = heif.options.SAVE_HDR_TO_12_BIT
    heif.options.SAVE_HDR_TO_12_BIT = bits == 12
    try:
        picture.save(buffer, quality=90, exif=exif, icc_profile=b"odd profile", xmp=XMP, **options)
    finally:
        heif.options.SAVE_HDR_TO_12_BIT = usual
    return buffer.getvalue()


def rewrap(data, *, add=(), items=(), further=()):
    """Return a file with properties, items and boxes added."""
    old = parse_heif(data, "a")
    brands = next(box for kind, box in old.boxes if kind == b"ftyp")
    own = NewItem(old.primary.kind, old.primary.data, "", (*old.primary.properties, *add))
    return build_heif(brands, [own, *items], further)


@pytest.mark.parametrize(
    ("channels", "bits"), [(1, 8), (3, 8), (4, 8), (3, 10), (4, 10), (3, 12), (1, 12)]
)
def test_avif_is_rewritten_with_every_known_bit(channels, bits):
    data, samples = make(channels, bits=bits)
    photo = read_photo(data, "a.avif")
    (page,) = photo.pages
    shown = samples.astype(np.uint32)
    if bits > 8:
        shown = np.rint(shown * 65535 / ((1 << bits) - 1))
    assert np.abs(page.pixels.astype(float) - shown[..., :3]).max() <= 1
    mask = blot(41, 37)
    fixed = repair(page, mask)
    encoded = write_photo(photo, [fixed], [mask], name="a.avif")
    assert encoded.preserved == "lossless-rewrite"
    assert sniff_format(encoded.data) == "avif"
    verify_photo(data, encoded.data, [mask], name="a.avif")
    again = cv2.imdecode(np.frombuffer(encoded.data, np.uint8), cv2.IMREAD_UNCHANGED)
    again = again.reshape(41, 37, -1)[..., ORDER[channels]]
    np.testing.assert_array_equal(again[~mask], samples[~mask])
    if channels == 4:
        np.testing.assert_array_equal(again[..., 3], samples[..., 3])
    error = read_photo(encoded.data, "b").pages[0].pixels.astype(float) - fixed
    assert np.abs(error).max() <= (0 if bits == 8 else 65535 / (1 << bits))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_and_metadata_are_kept(orientation):
    data = make_by_pillow(orientation)
    with Image.open(io.BytesIO(data)) as picture:
        from PIL import ImageOps

        shown = np.asarray(ImageOps.exif_transpose(picture))
    photo = read_photo(data, "a.avif")
    (page,) = photo.pages
    np.testing.assert_array_equal(page.pixels, shown)
    assert page.icc == b"odd profile"
    mask = blot(*shown.shape[:2])
    fixed = repair(page, mask)
    encoded = write_photo(photo, [fixed], [mask], name="a.avif")
    verify_photo(data, encoded.data, [mask], name="a.avif")
    with Image.open(io.BytesIO(encoded.data)) as picture:
        assert picture.info["icc_profile"] == b"odd profile"
        assert picture.info["xmp"] == XMP
        assert picture.getexif()[0x010F] == "Maker"
        np.testing.assert_array_equal(np.asarray(ImageOps.exif_transpose(picture)), fixed)


@settings(max_examples=20, deadline=None)
@given(
    channels=st.sampled_from([1, 3, 4]),
    bits=st.sampled_from([8, 10, 12]),
    quality=st.sampled_from([60, 100]),
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    seed=st.integers(0, 99),
)
def test_known_pixels_survive(channels, bits, quality, height, width, seed):
    data, _ = make(channels, height, width, bits=bits, quality=quality, seed=seed)
    photo = read_photo(data, "a.avif")
    mask = blot(height, width, seed)
    encoded = write_photo(photo, [repair(photo.pages[0], mask, seed)], [mask], name="a.avif")
    verify_photo(data, encoded.data, [mask], name="a.avif")


@pytest.mark.parametrize(("channels", "bits"), [(3, 8), (4, 8), (1, 8), (3, 10), (4, 12)])
@pytest.mark.parametrize("lossy", [False, True])
def test_large_pictures_become_a_grid_of_cells(channels, bits, lossy, monkeypatch):
    monkeypatch.setattr("restorepix.formats.heif._GRID_PIXELS", 1000)
    monkeypatch.setattr("restorepix.formats.heif._GRID_SIDE", 90)
    data, samples = make(channels, 150, 203 - lossy, bits=bits)
    photo = read_photo(data, "a.avif")
    mask = blot(150, 203 - lossy)
    fixed = repair(photo.pages[0], mask)
    encoded = write_photo(photo, [fixed], [mask], name="a.avif", accept_reencode=lossy)
    verify_photo(data, encoded.data, [mask], name="a.avif", reencoded=lossy)
    kinds = [item.kind for item in parse_heif(encoded.data, "a").items.values()]
    pictures = 2 if channels == 4 else 1
    assert kinds.count(b"grid") == pictures and kinds.count(b"av01") == 6 * pictures
    again = cv2.imdecode(np.frombuffer(encoded.data, np.uint8), cv2.IMREAD_UNCHANGED)
    again = again.reshape(150, 203 - lossy, -1)[..., ORDER[channels]]
    if lossy:
        assert np.abs(again.astype(int) - samples)[~mask].mean() < 0.02 * (1 << bits)
    else:
        np.testing.assert_array_equal(again[~mask], samples[~mask])
    if channels == 4:
        np.testing.assert_array_equal(again[..., 3], samples[..., 3])
    if bits == 8:  # another build of libavif
        with Image.open(io.BytesIO(encoded.data)) as picture:
            shown = np.asarray(picture.convert("RGBA" if channels == 4 else "RGB"))
        np.testing.assert_array_equal(shown, np.broadcast_to(again, shown.shape))


@pytest.mark.parametrize(
    "data", [make_by_pillow(6), make(4, quality=80)[0]], ids=["turned", "opacity"]
)
def test_avif_is_lossy_again_when_accepted(data):
    photo = read_photo(data, "a.avif")
    mask = blot(*photo.pages[0].pixels.shape[:2])
    fixed = repair(photo.pages[0], mask)
    encoded = write_photo(photo, [fixed], [mask], name="a.avif", accept_reencode=True)
    assert encoded.preserved == "reencoded"
    verify_photo(data, encoded.data, [mask], name="a.avif", reencoded=True)
    with pytest.raises(PreservationError, match="known samples"):
        verify_photo(data, encoded.data, [mask], name="a.avif")


@pytest.mark.parametrize("to", ["png", "tiff", "webp", "jpg"])
@pytest.mark.parametrize("source", ["avif", "heic"])
def test_conversion_keeps_pixels_and_metadata(source, to):
    data = make_by_pillow(6) if source == "avif" else make_heic(orientation=6)
    photo = read_photo(data, "a")
    mask = blot(photo.pages[0].height, photo.pages[0].width)
    fixed = repair(photo.pages[0], mask)
    encoded = write_photo(photo, [fixed], [mask], name="a", to=to)
    reencoded = to == "jpg"
    assert encoded.preserved == ("reencoded" if reencoded else "exact")
    verify_photo(data, encoded.data, [mask], name="a", reencoded=reencoded)
    if not reencoded:
        np.testing.assert_array_equal(read_photo(encoded.data, "b").pages[0].pixels, fixed)


def test_lossless_avif_stays_so_even_when_loss_is_accepted():
    lossy, _ = make(quality=80)
    photo = read_photo(lossy, "a.avif")
    mask = blot(41, 37)
    fixed = repair(photo.pages[0], mask)
    data = write_photo(photo, [fixed], [mask], name="a.avif").data
    photo = read_photo(data, "a.avif")
    encoded = write_photo(photo, [fixed], [mask], name="a.avif", accept_reencode=True)
    assert encoded.preserved == "lossless-rewrite"
    verify_photo(data, encoded.data, [mask], name="a.avif")


@pytest.mark.parametrize(("channels", "bits"), [(1, 8), (3, 8), (3, 10), (3, 12)])
@pytest.mark.parametrize(("orientation", "chroma"), [(1, 420), (5, 444), (6, 422)])
def test_heic_is_read_and_reencoded_only_when_accepted(channels, bits, orientation, chroma):
    data = make_heic(channels, bits=bits, orientation=orientation, chroma=chroma)
    photo = read_photo(data, "a.heic")
    (page,) = photo.pages
    assert (page.height, page.width) == ((42, 36) if orientation == 1 else (36, 42))
    assert page.icc == b"odd profile"
    assert page.pixels.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert page.pixels.shape[2] == min(channels, 3)
    mask = blot(page.height, page.width)
    fixed = repair(page, mask)
    with pytest.raises(UnsupportedError, match="--to png.*--accept-reencode"):
        write_photo(photo, [fixed], [mask], name="a.heic")
    encoded = write_photo(photo, [fixed], [mask], name="a.heic", accept_reencode=True)
    assert encoded.preserved == "reencoded"
    assert sniff_format(encoded.data) == "heif"
    configs = [parse_heif(one, "a").primary.find(b"hvcC") for one in (data, encoded.data)]
    depths = [(config[16] & 3, config[17] & 7) for config in configs]
    assert depths[0][1] == bits - 8
    assert depths[0] == depths[1] or channels == 1
    verify_photo(data, encoded.data, [mask], name="a.heic", reencoded=True)
    again = read_photo(encoded.data, "b").pages[0].pixels.astype(float)
    top = 255 if bits == 8 else 65535
    assert np.abs(again - page.pixels)[~mask].mean() < 0.1 * top


def test_heic_with_opacity_goes_elsewhere():
    data = make_heic(4)
    photo = read_photo(data, "a.heic")
    mask = blot(42, 36)
    fixed = repair(photo.pages[0], mask)
    with pytest.raises(UnsupportedError, match="opacity.*--to png"):
        write_photo(photo, [fixed], [mask], name="a.heic", accept_reencode=True)
    encoded = write_photo(photo, [fixed], [mask], name="a.heic", to="png")
    verify_photo(data, encoded.data, [mask], name="a.heic")


def test_heic_agrees_with_its_library():
    data = make_heic(orientation=8)
    import pillow_heif

    expected = np.asarray(pillow_heif.open_heif(data))
    np.testing.assert_array_equal(read_photo(data, "a.heic").pages[0].pixels, expected)


def test_a_missing_library_is_said_so(monkeypatch):
    data = make_heic()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UnsupportedError, match=r"a\.heic: .*restorepix\[heif\]"):
        read_photo(data, "a.heic")


def test_openCV_without_avif_is_said_so(monkeypatch):  # noqa: N802
    data, _ = make()
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  AVIF:      NO\n  PNG: yes")
    with pytest.raises(UnsupportedError, match="Upgrade"):
        read_photo(data, "a.avif")


def test_further_pictures_are_not_dropped_in_silence():
    further = NewItem(b"jpeg", b"other picture", "", (), ((b"rela", (1,)),))
    data = rewrap(make()[0], items=[further])
    photo = read_photo(data, "a.avif")
    mask = blot(41, 37)
    fixed = repair(photo.pages[0], mask)
    with pytest.raises(UnsupportedError, match="1 further pictures.*--to png"):
        write_photo(photo, [fixed], [mask], name="a.avif")
    write_photo(photo, [fixed], [mask], name="a.avif", to="png")


@pytest.mark.parametrize("kind", ["avif", "heic"])
def test_pictures_in_tiles_are_read(kind):
    """Phones write HEIC in tiles; here two of 64 x 64 beside each other."""
    heif = pytest.importorskip("pillow_heif") if kind == "heic" else None
    tiles = []
    for seed in range(2):
        samples = smooth(64, 64, 3, 255, seed)
        buffer = io.BytesIO()
        if heif:
            heif.from_bytes("RGB", (64, 64), samples.tobytes()).save(buffer, quality=90)
        data = buffer.getvalue() if heif else make(height=64, width=64, seed=seed)[0]
        tiles.append(parse_heif(data, "tile"))
    grid = bytes([0, 0, 0, 1, 0, 128, 0, 64])
    size = Property(b"ispe", bytes([0, 0, 0, 0, 0, 0, 0, 128, 0, 0, 0, 64]), False)
    deep = Property(b"pixi", bytes([0, 0, 0, 0, 3, 8, 8, 8]), False)
    first = NewItem(b"grid", grid, "", (size, deep), ((b"dimg", (2, 3)),))
    parts = [NewItem(t.primary.kind, t.primary.data, "", t.primary.properties) for t in tiles]
    data = build_heif(tiles[0].boxes[0][1], [first, *parts], ())
    photo = read_photo(data, "a")
    (page,) = photo.pages
    assert (page.height, page.width) == (64, 128)
    error = page.pixels[:, 64:].astype(float) - smooth(64, 64, 3, 255, 1)
    assert np.abs(error).mean() < (1 if kind == "avif" else 20)
    mask = blot(64, 128)
    fixed = repair(page, mask)
    reencoded = kind == "heic"
    encoded = write_photo(photo, [fixed], [mask], name="a", accept_reencode=reencoded)
    verify_photo(data, encoded.data, [mask], name="a", reencoded=reencoded)


@pytest.mark.parametrize("tiled", [False, True])
def test_thumbnails_are_dropped_and_foreign_boxes_kept(tiled):
    thumbnail = NewItem(b"av01", b"small picture", "", (), ((b"thmb", (1,)),))
    items = [thumbnail]
    if tiled:
        grid = NewItem(b"grid", bytes(8), "", (), ((b"dimg", (3,)), (b"thmb", (1,))))
        items = [grid, NewItem(b"av01", b"small picture")]
    box = b"\0\0\0\x20uuid" + bytes(range(24))
    data = rewrap(make()[0], items=items, further=[box])
    photo = read_photo(data, "a.avif")
    mask = blot(41, 37)
    encoded = write_photo(photo, [repair(photo.pages[0], mask)], [mask], name="a.avif")
    verify_photo(data, encoded.data, [mask], name="a.avif")
    assert box in encoded.data and b"small picture" not in encoded.data


def test_the_thumbnail_in_exif_is_dropped():
    small = io.BytesIO()
    Image.fromarray(smooth(8, 8, 3, 255)).save(small, "JPEG")
    second = struct.pack("<HHHIIHHIII", 2, 0x0201, 4, 1, 44, 0x0202, 4, 1, len(small.getvalue()), 0)
    block = struct.pack("<2sHIHI", b"II", 42, 8, 0, 14) + second + small.getvalue()
    item = NewItem(b"Exif", bytes(4) + block, "", (), ((b"cdsc", (1,)),))
    data = rewrap(make()[0], items=[item])
    photo = read_photo(data, "a.avif")
    mask = blot(41, 37)
    encoded = write_photo(photo, [repair(photo.pages[0], mask)], [mask], name="a.avif")
    verify_photo(data, encoded.data, [mask], name="a.avif")
    assert block[:14] in data and block[:14] not in encoded.data


def test_an_empty_item_stays_empty():
    data = rewrap(make()[0], items=[NewItem(b"Exif", b"", "", (), ((b"cdsc", (1,)),))])
    photo = read_photo(data, "a.avif")
    mask = blot(41, 37)
    encoded = write_photo(photo, [repair(photo.pages[0], mask)], [mask], name="a.avif")
    verify_photo(data, encoded.data, [mask], name="a.avif")


def test_colours_by_code_points_stay_where_they_mean_something():
    wide = Property(b"colr", b"nclx" + bytes([0, 12, 0, 16, 0, 0, 0x80]), False)
    old = parse_heif(make()[0], "a")
    others = tuple(one for one in old.primary.properties if one.kind != b"colr")
    brands = next(box for kind, box in old.boxes if kind == b"ftyp")
    item = NewItem(b"av01", old.primary.data, "", (*others, wide))
    data = build_heif(brands, [item], ())
    photo = read_photo(data, "a.avif")
    mask = blot(41, 37)
    fixed = repair(photo.pages[0], mask)
    encoded = write_photo(photo, [fixed], [mask], name="a.avif")
    verify_photo(data, encoded.data, [mask], name="a.avif")
    assert wide.content in encoded.data
    with pytest.raises(UnsupportedError, match="code points 12/16"):
        write_photo(photo, [fixed], [mask], name="a.avif", to="png")
    with pytest.raises(PreservationError, match="colour code points"):
        verify_photo(data, make()[0], [mask], name="a.avif")


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [(b"clap", bytes(32), "a crop")],
)
def test_other_kinds_are_refused_politely(kind, content, words):
    data = rewrap(make()[0], add=[Property(kind, content, True)])
    with pytest.raises(UnsupportedError, match=words):
        read_photo(data, "a.avif")


def test_animation_is_refused():
    frames = [Image.fromarray(smooth(20, 20, 3, 255, seed)) for seed in range(2)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "AVIF", save_all=True, append_images=frames[1:])
    with pytest.raises(UnsupportedError, match="animation"):
        read_photo(buffer.getvalue(), "a.avif")


def test_verify_names_what_changed():
    data = make_by_pillow()
    photo = read_photo(data, "a.avif")
    mask = blot(41, 36)
    encoded = write_photo(photo, [photo.pages[0].pixels], [mask], name="a.avif").data
    verify_photo(data, encoded, [None], name="a.avif")
    for changed, words in (
        (encoded.replace(XMP, XMP.upper()), "item mime"),
        (encoded.replace(b"odd profile", b"bad profile"), "ICC profile"),
        (encoded.replace(b"Maker", b"Faker"), "item Exif"),
    ):
        with pytest.raises(PreservationError, match=words):
            verify_photo(data, changed, [None], name="a.avif")
    pixels = photo.pages[0].pixels.copy()
    pixels[3, 4, 1] ^= 1
    other = write_photo(photo, [pixels], [np.ones((41, 36), bool)], name="a.avif").data
    with pytest.raises(PreservationError, match="rgb: 1 known"):
        verify_photo(data, other, [None], name="a.avif")


def test_size_limit_comes_from_the_header():
    with pytest.raises(TooLargeError, match="--max-mpixels"):
        read_photo(make()[0], "a.avif", max_mpixels=0.001)


@pytest.mark.parametrize("kind", ["avif", "alpha", "heic"])
def test_every_truncation_is_unreadable(kind):
    data = make_heic() if kind == "heic" else make(4 if kind == "alpha" else 3)[0]
    for length in [*range(24, 600), *range(600, len(data), 23), len(data) - 1]:
        with pytest.raises(UnreadableError, match=r"^cut\.avif: "):
            read_photo(data[:length], "cut.avif")
