"""Thumbnails of repaired pages go, those of others stay, and nothing else moves."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import tifffile
from conftest import draw_photo, encode_picture
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from restorepix.errors import PreservationError
from restorepix.formats import list_stale_previews, read_photo, verify_photo, write_photo
from restorepix.formats.exif import drop_thumbnail, find_maker_note
from restorepix.formats.thumbnails import drop_thumbnails

HOLE = np.zeros((24, 32), bool)
HOLE[4:9, 6:20] = True


def build_exif(order: str = "<") -> bytes:
    """An EXIF block with a description and a thumbnail."""
    small = encode_picture(draw_photo(8, 8), ".jpg")
    mark = b"II" if order == "<" else b"MM"
    first = struct.pack(order + "H HHI4s I", 1, 270, 2, 4, b"abc\0", 26)
    second = struct.pack(order + "H HHII HHII I", 2, 513, 4, 1, 56, 514, 4, 1, len(small), 0)
    return mark + struct.pack(order + "HI", 42, 8) + first + second + small


def has_thumbnail(exif: bytes) -> bool:
    """Whether a second directory follows the first."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = "<" if exif[:2] == b"II" else ">"
    (first,) = struct.unpack_from(order + "I", exif, 4)
    (count,) = struct.unpack_from(order + "H", exif, first)
    return struct.unpack_from(order + "I", exif, first + 2 + 12 * count) != (0,)


def encode(suffix: str, exif: bytes) -> bytes:
    exif = b"Exif\0\0" * (suffix == ".jpg") + exif
    return encode_picture(draw_photo(), suffix, exif=exif, **LOSSLESS.get(suffix, {}))


LOSSLESS = {".webp": {"lossless": True}}


def restore(data: bytes, masks: list[np.ndarray | None], **options: str) -> bytes:
    photo = read_photo(data, "photo")
    repaired = [
        None if mask is None else page.pixels // 2
        for page, mask in zip(photo.pages, masks, strict=True)
    ]
    return write_photo(photo, repaired, masks, name="photo", **options).data


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_exif_block_loses_only_the_pointer(order):
    exif = build_exif(order)
    assert has_thumbnail(exif)
    dropped = drop_thumbnail(exif)
    assert not has_thumbnail(dropped)
    assert [at for at in range(len(exif)) if exif[at] != dropped[at]] == [
        22 if order == "<" else 25
    ]
    assert drop_thumbnail(b"Exif\0\0" + exif) == b"Exif\0\0" + dropped


@pytest.mark.parametrize("damage", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"XX*\0\x08\0\0\0\0\0"])
def test_damaged_blocks_stay(damage):
    assert drop_thumbnail(damage) == damage


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_repaired_files_show_no_old_thumbnail(suffix):
    exif = build_exif()
    before = encode(suffix, exif)
    after = restore(before, [HOLE])
    with Image.open(io.BytesIO(after)) as image:
        assert image.getexif()[270] == "abc"
        assert not has_thumbnail(image.info["exif"])
    assert verify_photo(before, after, [HOLE], name="photo")
    # Nothing repaired, nothing stale.
    assert drop_thumbnails(before, [None], "photo") is before
    forged = before.replace(b"abc\0", b"abd\0")
    if suffix == ".png":
        return
    with pytest.raises(PreservationError):
        verify_photo(before, forged, [HOLE], name="photo")


def test_without_a_hole_the_thumbnail_counts():
    before = encode(".png", build_exif())
    dropped = drop_thumbnails(before, [HOLE], "photo")
    assert dropped != before
    assert verify_photo(before, dropped, [HOLE], name="photo")
    with pytest.raises(PreservationError, match="eXIf"):
        verify_photo(before, dropped, [None], name="photo")


@pytest.mark.parametrize("to", ["png", "webp", "jpg", "tiff"])
def test_conversions_carry_no_old_thumbnail(to):
    before = encode(".jpg" if to != "jpg" else ".png", build_exif())
    after = restore(before, [HOLE], to=to)
    with Image.open(io.BytesIO(after)) as image:
        assert image.getexif()[270] == "abc"
        assert to == "tiff" or not has_thumbnail(image.info["exif"])
    verify_photo(before, after, [HOLE], name="photo", reencoded=to == "jpg")


def build_tiff(*, below: bool, big: bool = False) -> bytes:
    """Two pages, each with a thumbnail behind or below it."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, bigtiff=big) as writer:
        for seed in (1, 2):
            small = draw_photo(6, 8, seed=seed)
            options = {"photometric": "rgb", "metadata": None}
            writer.write(draw_photo(seed=seed), subifds=1 if below else None, **options)
            writer.write(small, subfiletype=1, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("below", [False, True])
@pytest.mark.parametrize("touched", [(True, False), (False, True), (True, True)])
def test_reduced_pictures_of_repaired_tiff_pages_go(below, big, touched):
    before = build_tiff(below=below, big=big)
    masks = [HOLE if is_touched else None for is_touched in touched]
    after = restore(before, masks)
    with tifffile.TiffFile(io.BytesIO(after)) as file:
        shapes = [page.shape for page in file.pages]
        below_each = [len(page.pages or ()) for page in file.pages if page.shape[0] == 24]
    if below:
        assert shapes == [(24, 32, 3)] * 2
        assert below_each == [int(not is_touched) for is_touched in touched]
    else:
        expected = [[(24, 32, 3)] + [(6, 8, 3)] * (not is_touched) for is_touched in touched]
        assert shapes == expected[0] + expected[1]
    assert verify_photo(before, after, masks, name="photo")
    if not all(touched):
        with pytest.raises(PreservationError):
            verify_photo(before, drop_thumbnails(before, [HOLE, HOLE], "x"), masks, name="photo")


def test_a_tiff_that_begins_with_its_thumbnail_keeps_it():
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        options = {"photometric": "rgb", "metadata": None}
        writer.write(draw_photo(6, 8), subfiletype=1, **options)
        writer.write(draw_photo(), **options)
    before = buffer.getvalue()
    after = restore(before, [HOLE])
    with tifffile.TiffFile(io.BytesIO(after)) as file:
        assert len(file.pages) == 2
    assert verify_photo(before, after, [HOLE], name="photo")
    (told,) = list_stale_previews(after, [HOLE], name="photo")
    assert "begins with" in told


SMALL = b"\xff\xd8 a small picture of the damage \xff\xd9"


def insert(data: bytes, marker: int, body: bytes) -> bytes:
    """Return a JPEG file with a segment behind JFIF."""
    at = 4 + int.from_bytes(data[4:6], "big")
    return data[:at] + struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body + data[at:]


def build_resource(number: int, content: bytes, name: bytes = b"") -> bytes:
    named = bytes([len(name)]) + name
    named += b"\0" * (len(named) % 2)
    padded = content + b"\0" * (len(content) % 2)
    return b"8BIM" + struct.pack(">H", number) + named + struct.pack(">I", len(content)) + padded


IPTC = build_resource(1028, b"caption", b"odd")


def append_pictures(data: bytes, *kinds: int, behind: bytes = b"") -> bytes:
    """Return a file with pictures behind it, in an index that names their kinds."""

    def build(size: int) -> bytes:
        entries = struct.pack("<IIIHH", 0x20030000, size, 0, 0, 0)
        base = data.index(b"JFIF") + 14 + 8
        for number, kind in enumerate(kinds):
            start = max(size + number * len(SMALL) - base, 0)
            entries += struct.pack("<IIIHH", kind, len(SMALL), start, 0, 0)
        head = b"MPF\0II*\0\x08\0\0\0" + struct.pack("<H", 2)
        head += struct.pack("<HHII", 0xB001, 4, 1, 1 + len(kinds))
        head += struct.pack("<HHII", 0xB002, 7, len(entries), 38) + bytes(4)
        return insert(data, 0xE2, head + entries)

    return build(len(build(0))) + SMALL * len(kinds) + behind


def add_stale(kind: str) -> tuple[bytes, bytes]:
    """Return a plain file, and one with a stale preview."""
    plain = encode_picture(draw_photo(), ".jpg", exif=b"Exif\0\0" + build_exif()[:22] + bytes(4))
    at = plain.index(b"JFIF")
    if kind == "jfif":
        body = plain[at : at + 12] + b"\x02\x02" + b"damage, damage"[:12]
        size = struct.pack(">H", 2 + len(body))
        return plain, plain[: at - 2] + size + body + plain[at + 14 :]
    if kind == "jfxx":
        return plain, insert(plain, 0xE0, b"JFXX\0\x10" + SMALL)
    if kind == "photoshop":
        thumbnails = build_resource(1036, SMALL) + build_resource(1033, SMALL + b"1", b"ab")
        whole = b"Photoshop 3.0\0" + IPTC + thumbnails + IPTC
        return insert(plain, 0xED, b"Photoshop 3.0\0" + IPTC * 2), insert(plain, 0xED, whole)
    assert kind == "previews"
    return plain + b"motion", append_pictures(plain, 0x10001, 0x40010002, behind=b"motion")


@pytest.mark.parametrize("kind", ["jfif", "jfxx", "photoshop", "previews"])
def test_repaired_jpegs_show_no_old_preview(kind):
    plain, before = add_stale(kind)
    assert drop_thumbnails(before, [HOLE], "photo") == plain
    assert drop_thumbnails(plain, [HOLE], "photo") is plain
    assert drop_thumbnails(before, [None], "photo") is before
    after = restore(before, [HOLE])
    assert after == restore(plain, [HOLE])
    assert verify_photo(before, after, [HOLE], name="photo")
    with pytest.raises(PreservationError):
        verify_photo(before, plain, [None], name="photo")
    with pytest.raises(PreservationError):
        verify_photo(before, after.replace(b"abc\0", b"abd\0"), [HOLE], name="photo")


def test_pictures_of_other_kinds_stay_with_their_index():
    plain, _ = add_stale("previews")
    plain = plain.removesuffix(b"motion")
    before = append_pictures(plain, 0x10001, 0)  # a gain map's kind is not told
    assert drop_thumbnails(before, [HOLE], "photo") == before
    after = restore(before, [HOLE])
    assert after.endswith(SMALL * 2)
    verify_photo(before, after, [HOLE], name="photo")
    # The index follows its pictures when a thumbnail before them goes.
    fat = insert(before, 0xE0, b"JFXX\0\x10" + SMALL)
    assert drop_thumbnails(fat, [HOLE], "photo") != fat
    verify_photo(fat, restore(fat, [HOLE]), [HOLE], name="photo")
    (told,) = list_stale_previews(after, [HOLE], name="photo")
    assert "gain maps" in told
    assert list_stale_previews(after, [None], name="photo") == ()
    assert list_stale_previews(restore(plain, [HOLE]), [HOLE], name="photo") == ()


def build_noted_exif(order: str, note: bytes) -> bytes:
    """An EXIF block with a maker note."""
    mark = b"II" if order == "<" else b"MM"
    first = struct.pack(order + "H HHII I", 1, 0x8769, 4, 1, 26, 0)
    second = struct.pack(order + "H HHII I", 1, 0x927C, 7, len(note), 44, 0)
    return mark + struct.pack(order + "HI", 42, 8) + first + second + note


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".avif"])
def test_a_preview_in_a_maker_note_is_told(suffix, order):
    for note, told in ((b"Maker\0" + encode_picture(draw_photo(8, 8), ".jpg"), 1), (b"none", 0)):
        exif = build_noted_exif(order, note)
        assert find_maker_note(exif) == find_maker_note(b"Exif\0\0" + exif) == note
        after = restore(encode(suffix, exif), [HOLE])
        reasons = list_stale_previews(after, [HOLE], name="photo")
        assert ["maker note" in reason for reason in reasons] == [True] * told


def test_a_preview_in_a_box_of_jpeg_2000_is_told():
    plain = encode_picture(draw_photo(32, 32), ".jp2")
    hole = np.eye(32, dtype=bool)
    for content, told in ((encode_picture(draw_photo(8, 8), ".jpg"), 1), (b"nothing", 0)):
        box = struct.pack(">I4s16x", 24 + len(content), b"uuid") + content
        reasons = list_stale_previews(restore(plain + box, [hole]), [hole], name="photo")
        assert ["metadata shows the damage" in reason for reason in reasons] == [True] * told


@given(st.binary(max_size=80), st.integers(0, 70))
def test_a_damaged_block_has_no_maker_note(noise, at):
    whole = build_noted_exif("<", b"note")
    assert len(find_maker_note(whole[:at] + noise)) <= at + len(noise)


def test_a_preview_in_xmp_is_told():
    packet = b"http://ns.adobe.com/xap/1.0/\0<x><xmpGImg:image>/9j/4AAQ</xmpGImg:image></x>"
    before = insert(encode_picture(draw_photo(), ".jpg"), 0xE1, packet)
    (told,) = list_stale_previews(restore(before, [HOLE]), [HOLE], name="photo")
    assert "XMP" in told


@pytest.mark.parametrize(
    "resources",
    [
        build_resource(1036, SMALL)[:-2],
        build_resource(1036, SMALL)[:9],
        b"MeSa" + build_resource(1036, SMALL)[4:],
        build_resource(1036, SMALL) + b"8BIM\4\x0c\xff",
    ],
)
def test_damaged_resources_stay(resources):
    plain, _ = add_stale("jfif")
    before = insert(plain, 0xED, b"Photoshop 3.0\0" + resources)
    assert drop_thumbnails(before, [HOLE], "photo") == before


@pytest.mark.parametrize(
    ("old", "new"),
    [(len(SMALL), 1 << 30), (0x10001, 0x30000)],
)
def test_an_index_of_pictures_that_are_not_there_stays(old, new):
    plain, _ = add_stale("previews")
    before = append_pictures(plain.removesuffix(b"motion"), 0x10001)
    at = before.index(b"MPF") + 4 + 38 + 16 + (4 if old == len(SMALL) else 0)
    assert struct.unpack_from("<I", before, at) == (old,)
    damaged = before[:at] + struct.pack("<I", new) + before[at + 4 :]
    assert drop_thumbnails(damaged, [HOLE], "photo") == damaged


@pytest.mark.parametrize("order", ["<", ">"])
def test_repaired_tiffs_lose_the_thumbnail_of_photoshop(order):
    resources = IPTC + build_resource(1036, SMALL) + IPTC
    files = []
    for content in (resources, IPTC * 2):
        buffer = io.BytesIO()
        tags = [(34377, 7, len(content), content, True), (700, 1, 5, b"<xmp>", True)]
        tifffile.imwrite(buffer, draw_photo(), byteorder=order, photometric="rgb", extratags=tags)
        files.append(buffer.getvalue())
    after = restore(files[0], [HOLE])
    with tifffile.TiffFile(io.BytesIO(after)) as file:
        assert file.pages[0].tags[34377].value == IPTC * 2
        assert file.pages[0].tags[700].value == b"<xmp>"
    assert verify_photo(files[0], after, [HOLE], name="photo")
    with pytest.raises(PreservationError, match="34377"):
        verify_photo(files[0], restore(files[1], [HOLE]).replace(b"caption", b"kaption"), [HOLE],
                     name="photo")  # fmt: skip
    with pytest.raises(PreservationError, match="34377"):
        verify_photo(files[0], drop_thumbnails(files[0], [HOLE], "x"), [None], name="photo")
