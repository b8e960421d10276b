from __future__ import annotations

import io
import re
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, JpegImagePlugin

from restorepix.errors import UnreadableError, UnsupportedError
from restorepix.formats import jpeg_segments
from restorepix.formats.jpeg_segments import (
    APP1,
    APP2,
    COM,
    DQT,
    DRI,
    SOS,
    Segment,
    drop_thumbnail,
    parse_jpeg,
    read_color,
    read_exif,
    read_profile,
    read_quantisation,
    relocate_pictures,
)

SOI, EOI = b"\xff\xd8", b"\xff\xd9"


def save(mode="RGB", size=(20, 12), **options):
    picture = Image.effect_noise(size, 60).convert(mode)
    file = io.BytesIO()
    picture.save(file, "jpeg", **options)
    return file.getvalue()


def segment(marker, body=b""):
    return struct.pack(">BBH", 255, marker, len(body) + 2) + body


def frame(marker=0xC0, bits=8, height=8, width=8, factors=((1, 0x11, 0),)):
    body = struct.pack(">BHHB", bits, height, width, len(factors))
    return segment(marker, body + b"".join(bytes(factor) for factor in factors))


def scan(*components, start=0):
    listed = b"".join(bytes([component, 0]) for component in components)
    return segment(SOS, bytes([len(components)]) + listed + bytes([start, 63, 0])) + b"\x12\x34"


def bare(*parts, tables=b""):
    """Return a file of one grey component whose tables all are ones."""
    return SOI + segment(DQT, b"\x00" + b"\x01" * 64) + tables + b"".join(parts) + EOI


def test_every_segment_is_found_at_its_place():
    data = save(comment=b"hello", restart_marker_rows=1)
    file = parse_jpeg(data, "x.jpg")
    for part in file.segments:
        assert data[part.start : part.start + len(part.raw)] == part.raw
    assert file.end == len(data)
    assert (file.frame.height, file.frame.width) == (12, 20)
    assert [part.body for part in file.segments if part.marker == COM] == [b"hello"]
    assert [part.marker for part in file.segments].count(SOS) == 1
    assert file.restart_interval == 2


def test_fill_bytes_and_trailing_data_are_no_part_of_the_segments():
    plain = bare(frame(), scan(1))
    filled = plain.replace(b"\xff\xc0", b"\xff\xff\xff\xc0")
    assert filled != plain
    file = parse_jpeg(filled + b"motion photo", "x.jpg")
    assert file.end == len(filled)
    assert [part.raw for part in file.segments] == [
        part.raw for part in parse_jpeg(plain, "x.jpg").segments
    ]
    assert all(filled[part.start] == 255 for part in file.segments)


def test_stuffed_bytes_and_restarts_do_not_end_a_scan():
    data = bare(frame(), scan(1) + b"\xff\x00\xff\xd0\xff\xd7\xff\xff\x00\x01")
    file = parse_jpeg(data, "x.jpg")
    assert file.end == len(data)


@given(
    st.lists(st.sampled_from([b"\xff", b"\x00", b"\xd3", b"\xd8", b"\x41", b"\xd9", b"\x01"])),
    st.integers(0, 3),
)
def test_a_scan_ends_where_a_pattern_says(pieces, start):
    data = b"".join(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jpeg_segments, "_BYTES_AT_ONCE", 3)
        found = jpeg_segments._find_end_of_scan(data, start)
    expected = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]").search(data, start)
    assert found == (-1 if expected is None else expected.start())


def test_segments_between_scans_are_kept_in_order():
    factors = ((1, 0x11, 0), (2, 0x11, 0), (3, 0x11, 0))
    between = segment(COM, b"one") + segment(DRI, b"\x00\x05")
    data = bare(frame(factors=factors), scan(1), between, scan(2, 3), segment(APP1, b"two"))
    file = parse_jpeg(data, "x.jpg")
    assert [part.marker for part in file.kept] == [DQT, 0xC0, COM, APP1]
    assert file.restart_interval == 0


def test_huffman_tables_made_for_the_picture_are_noticed():
    assert not parse_jpeg(save(), "x.jpg").fitted
    assert parse_jpeg(save(optimize=True), "x.jpg").fitted


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_frame_and_tables_match_pillow(mode, progressive):
    data = save(mode, quality=71, progressive=progressive)
    file = parse_jpeg(data, "x.jpg")
    assert file.frame.progressive is progressive
    assert not file.frame.arithmetic
    with Image.open(io.BytesIO(data)) as picture:
        assert isinstance(picture, JpegImagePlugin.JpegImageFile)
        expected = picture.quantization
        assert [component.table for component in file.frame.components] == [
            layer[3] for layer in picture.layer
        ]
    natural = read_quantisation(file, "x.jpg")
    assert sorted(natural) == sorted(expected)
    for slot, table in natural.items():
        # Pillow gives natural order too.
        assert table.ravel().tolist() == list(expected[slot])


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"", UnreadableError, "begin"),
        (SOI, UnreadableError, "cut off"),
        (SOI + b"\xff", UnreadableError, "cut off"),
        (SOI + b"\x00\x01", UnreadableError, "no marker at byte 2"),
        (SOI + EOI, UnreadableError, "incomplete"),
        (SOI + b"\xff\xd0", UnreadableError, "misplaced"),
        (SOI + b"\xff\xe0\x00\x01", UnreadableError, "claims 1 bytes"),
        (SOI + b"\xff\xe0\x10\x00abc", UnreadableError, "claims 4096 bytes"),
        (bare(frame()), UnreadableError, "incomplete"),
        (bare(scan(1)), UnreadableError, "scan header"),
        (bare(frame(), segment(SOS, b"\x01")), UnreadableError, "scan header"),
        (bare(frame(0xC2), scan(1, start=1)), UnreadableError, "incomplete"),
        (bare(frame(), scan(1))[:-2], UnreadableError, "cut off"),
        (bare(frame()[:-1] + b"\x00\x00"), UnreadableError, "no marker"),
        (bare(segment(0xC0, b"\x08\x00\x08\x00\x08\x02")), UnreadableError, "wrong length"),
        (bare(frame(factors=((1, 0x51, 0),)), scan(1)), UnreadableError, "1 to 4"),
        (bare(frame(factors=((1, 0x10, 0),)), scan(1)), UnreadableError, "1 to 4"),
        (bare(frame(0xC3), scan(1)), UnsupportedError, "lossless"),
        (bare(frame(0xCB), scan(1)), UnsupportedError, "lossless"),
        (bare(frame(0xC5), scan(1)), UnsupportedError, "hierarchical"),
        (bare(frame(), frame(), scan(1)), UnsupportedError, "hierarchical"),
        (bare(frame(0xC1, bits=12), scan(1)), UnsupportedError, "has 12"),
        (bare(frame(height=0), scan(1)), UnsupportedError, "size"),
        (bare(frame(width=0), scan(1)), UnsupportedError, "size"),
        (bare(frame(factors=((1, 17, 0), (2, 17, 0))), scan(1, 2)), UnsupportedError, "2 comp"),
        (bare(frame(factors=((1, 17, 0),) * 3), scan(1)), UnsupportedError, "one name"),
        (
            bare(frame(factors=((1, 0x31, 0), (2, 0x21, 0), (3, 0x11, 0))), scan(1, 2, 3)),
            UnsupportedError,
            "fractional",
        ),
        (bare(frame(0xC2), scan(1) * 501), UnsupportedError, "500 scans"),
    ],
)
def test_bad_files_are_refused_with_a_reason(data, error, words):
    with pytest.raises(error, match=words) as caught:
        parse_jpeg(data, "x.jpg")
    assert str(caught.value).startswith("x.jpg: ")


@pytest.mark.parametrize(
    ("parts", "error", "words"),
    [
        ((frame(factors=((1, 0x11, 1),)), scan(1)), UnreadableError, "table 1 is missing"),
        ((segment(DQT, b"\x00" + bytes(64)), frame(), scan(1)), UnreadableError, "bad quant"),
        ((segment(DQT, b"\x00" + b"\x01" * 63), frame(), scan(1)), UnreadableError, "bad quant"),
        ((segment(DQT, b"\x20" + b"\x01" * 192), frame(), scan(1)), UnreadableError, "bad quant"),
        ((segment(DQT, b"\x05" + b"\x01" * 64), frame(), scan(1)), UnreadableError, "bad quant"),
        (
            (frame(), scan(1), segment(DQT, b"\x00" + b"\x02" * 64), scan(1)),
            UnsupportedError,
            "change between scans",
        ),
    ],
)
def test_bad_tables_are_refused_with_a_reason(parts, error, words):
    with pytest.raises(error, match=words):
        read_quantisation(parse_jpeg(bare(*parts), "x.jpg"), "x.jpg")


def test_wide_tables_and_repeated_tables_are_read():
    wide = segment(DQT, b"\x11" + np.arange(300, 364, dtype=">u2").tobytes())
    again = segment(DQT, b"\x00" + b"\x01" * 64)
    file = parse_jpeg(bare(wide, frame(), scan(1), again, scan(1)), "x.jpg")
    tables = read_quantisation(file, "x.jpg")
    assert tables[1][0].tolist() == [300, 301, 305, 306, 314, 315, 327, 328]
    assert (tables[0] == 1).all()


JFIF = segment(0xE0, b"JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00")


def adobe(transform):
    return segment(0xEE, b"Adobe\x00\x64\x00\x00\x00\x00" + bytes([transform]))


@pytest.mark.parametrize(
    ("tables", "names", "expected"),
    [
        (JFIF, b"\x01", "grey"),
        (adobe(0), b"\x01", "grey"),
        (b"", b"\x01\x02\x03", "ycc"),
        (b"", b"\x00\x07\x09", "ycc"),
        (b"", b"RGB", "rgb"),
        (JFIF, b"RGB", "ycc"),
        (adobe(1), b"RGB", "ycc"),
        (adobe(0), b"\x01\x02\x03", "rgb"),
        (JFIF + adobe(0), b"\x01\x02\x03", "ycc"),
        (adobe(2), b"\x01\x02\x03\x04", "ycck"),
        (adobe(0), b"\x01\x02\x03\x04", "cmyk"),
        (b"", b"\x01\x02\x03\x04", "cmyk"),
    ],
)
def test_components_mean_what_libjpeg_takes_them_for(tables, names, expected):
    factors = [(name, 0x11, 0) for name in names]
    data = bare(frame(factors=factors), scan(*names), adobe(9), tables=tables)
    assert read_color(parse_jpeg(data, "x.jpg")) == expected


def test_a_profile_in_several_segments_is_joined_in_order():
    def part(number, content):
        return segment(APP2, b"ICC_PROFILE\x00" + bytes([number, 3]) + content)

    parts = [part(2, b"bb"), part(1, b"aaa"), part(3, b"c")]
    whole = parse_jpeg(bare(*parts, frame(), scan(1)), "x.jpg")
    assert read_profile(whole) == b"aaabbc"
    partial = parse_jpeg(bare(*parts[:2], frame(), scan(1)), "x.jpg")
    assert read_profile(partial) is None
    stub = parse_jpeg(bare(segment(APP2, b"ICC_PROFILE\x00"), frame(), scan(1)), "x.jpg")
    assert read_profile(stub) is None


def exif(order="<", pointer=0x1234, entries=2):
    """Return an EXIF body with a thumbnail pointer and bytes that stand for maker notes."""
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(order + "HI", 42, 12) + b"note"
    directory = struct.pack(order + "H", entries)
    for tag in range(entries):
        directory += struct.pack(order + "HHII", 0x100 + tag, 4, 1, tag)
    return b"Exif\x00\x00" + head + directory + struct.pack(order + "I", pointer) + b"more notes"


@pytest.mark.parametrize("order", ["<", ">"])
def test_dropping_a_thumbnail_changes_its_pointer_only(order):
    part = Segment(APP1, 7, exif(order))
    assert drop_thumbnail(part) == Segment(APP1, 7, exif(order, pointer=0))
    assert drop_thumbnail(drop_thumbnail(part)) == drop_thumbnail(part)


def test_pillow_sees_no_thumbnail_after_dropping_it():
    body = b"Exif\x00\x00II*\x00\x08\x00\x00\x00"
    body += struct.pack("<HHHIII", 1, 0x0112, 3, 1, 6, 26)
    body += struct.pack("<HHHIII", 1, 0x0103, 3, 1, 6, 0)
    part = Segment(APP1, 0, body)
    seen = Image.Exif()
    seen.load(part.body)
    assert seen.get_ifd(ExifTags.IFD.IFD1) == {0x0103: 6}
    seen = Image.Exif()
    seen.load(drop_thumbnail(part).body)
    assert not seen.get_ifd(ExifTags.IFD.IFD1)
    assert seen[0x0112] == 6


@pytest.mark.parametrize(
    "body",
    [
        b"Exif\x00\x00",
        b"Exif\x00\x00II*\x00",
        b"Exif\x00\x00XX" + exif()[8:],
        b"Exif\x00\x00II*\x00\xff\xff\xff\xff",
        exif()[:-14],
        b"http://ns.adobe.com/xap/1.0/\x00<x/>",
    ],
)
def test_damaged_exif_is_carried_as_it_is(body):
    assert drop_thumbnail(Segment(APP1, 0, body)).body == body


def index_body(order, *entries):
    """Return a multi-picture index with (size, offset) entries."""
    mark = b"II" if order == "<" else b"MM"
    directory = struct.pack(order + "H", 2)
    directory += struct.pack(order + "HHI4s", 0xB000, 7, 4, b"0100")
    directory += struct.pack(order + "HHII", 0xB002, 7, 16 * len(entries), 8 + 2 + 24 + 4)
    listed = b"".join(struct.pack(order + "IIIHH", 3, size, at, 0, 0) for size, at in entries)
    return b"MPF\x00" + mark + struct.pack(order + "HI", 42, 8) + directory + bytes(4) + listed


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_picture_index_follows_its_pictures(order):
    # The segment starts at 100, so offsets count from 108; the first picture ends at 1000.
    part = Segment(APP2, 100, index_body(order, (1000, 0), (50, 892), (60, 950), (9, 20)))
    moved = relocate_pictures(part, moved_to=90, old_end=1000, new_end=1200)
    assert moved.body == index_body(order, (1200, 0), (50, 1102), (60, 1160), (9, 20))
    assert moved.marker == part.marker
    assert relocate_pictures(part, 100, 1000, 1000) == part


@pytest.mark.parametrize(
    "body",
    [
        b"MPF\x00",
        b"MPF\x00II*\x00\x08\x00\x00\x00",
        b"MPF\x00II*\x00\xff\xff\xff\xff\x00",
        b"MPF\x00XX" + index_body("<", (1000, 0))[6:],
        index_body("<", (1000, 0))[:-1],
        index_body("<", (0xFFFFFFFF, 0)),
        b"ICC_PROFILE\x00\x01\x01abc",
    ],
)
def test_damaged_indexes_are_carried_as_they_are(body):
    part = Segment(APP2, 100, body)
    assert relocate_pictures(part, 90, 1000, 1200) == part


def test_exif_is_found_among_other_segments():
    data = bare(segment(APP1, b"http://x"), segment(APP1, exif()), frame(), scan(1))
    assert read_exif(parse_jpeg(data, "x.jpg")) == exif()
    assert read_exif(parse_jpeg(bare(frame(), scan(1)), "x.jpg")) == b""
