"""The record of a repair: added inside XMP, and nothing else is allowed for by the proof."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import draw_photo, encode_picture
from PIL import Image

from restorepix.errors import PreservationError
from restorepix.formats import add_provenance, read_photo, verify_photo, write_photo
from restorepix.formats.xmp import read_packet
from restorepix.provenance import build_record, extend_packet, find_record, shorten_packet

RECORD = build_record("1.2.3", 0.01234567, "0123456789abcdef" * 4)
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
MM = "{http://ns.adobe.com/xap/1.0/mm/}"
EVENT = "{http://ns.adobe.com/xap/1.0/sType/ResourceEvent#}"

PLAIN = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Some Tool">\n'
    ' <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
    '  <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"\n'
    '    dc:format="image/jpeg"><dc:title>Caf\u00e9 &amp; <!-- a note --></dc:title>\n'
    "  </rdf:Description>\n </rdf:RDF>\n</x:xmpmeta>\n"
    + (" " * 99 + "\n") * 3
    + '<?xpacket end="w"?>'
).encode()
LIGHTROOM = PLAIN.replace(
    b"<dc:title>",
    b'<m:History xmlns:m="http://ns.adobe.com/xap/1.0/mm/"><rdf:Seq>\n<rdf:li'
    b' xmlns:stEvt="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#" stEvt:action="saved"/>\n'
    b"</rdf:Seq></m:History><dc:title>",
)
BARE = PLAIN[PLAIN.index(b"<rdf:RDF") : PLAIN.index(b"</x:xmpmeta>")]
ODD = {
    "malformed": PLAIN.replace(b"</dc:title>", b""),
    "entities": b'<!DOCTYPE x [<!ENTITY a "b">]>' + PLAIN,
    "extended": PLAIN.replace(b"dc:format", b'xmlns:n="u" n:HasExtendedXMP="F0" dc:format'),
    "read-only": PLAIN.replace(b'end="w"', b'end="r"'),
    "utf-16": PLAIN.decode().encode("utf-16"),
    "no list": LIGHTROOM.replace(b"rdf:Seq", b"rdf:Bag"),
    "empty list": LIGHTROOM.replace(
        LIGHTROOM[LIGHTROOM.index(b"<rdf:Seq>") : LIGHTROOM.index(b"</m:Hist")], b"<rdf:Seq/>"
    ),
    "nothing described": PLAIN[: PLAIN.index(b" <rdf:RDF")]
    + b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/>'
    + PLAIN[PLAIN.index(b"</x:xmpmeta>") :],
    "empty": b"",
    "no xml": b"hello",
}


def read_history(packet: bytes) -> list[dict[str, str]]:
    tree = ElementTree.fromstring(packet.decode().rstrip("\0"))
    histories = [e for e in tree.iter(f"{MM}History")]
    assert len(histories) == 1
    return [item.attrib for item in histories[0].iter(f"{RDF}li")]


def check_record(attributes: dict[str, str]) -> None:
    assert attributes == {
        f"{EVENT}action": "edited",
        f"{EVENT}softwareAgent": "restorepix 1.2.3",
        f"{EVENT}changed": "/",
        f"{EVENT}parameters": ("repainted 1.2346 % of the pixels, weights sha256 0123456789abcdef"),
    }


# Packets


@pytest.mark.parametrize("packet", [None, PLAIN, LIGHTROOM, BARE, PLAIN + b"\0\0"])
def test_a_packet_gets_one_more_entry_and_keeps_its_bytes(packet):
    extended = extend_packet(packet, RECORD)
    assert extended is not None
    entries = read_history(extended)
    assert len(entries) == (2 if packet == LIGHTROOM else 1)
    check_record(entries[-1])
    assert find_record(extended) == RECORD
    assert shorten_packet(extended, RECORD) == packet
    again = extend_packet(extended, RECORD)
    assert again is not None
    assert len(read_history(again)) == len(entries) + 1
    assert shorten_packet(again, RECORD) == extended
    if packet is not None:
        start = next(i for i, (a, b) in enumerate(zip(packet, extended, strict=False)) if a != b)
        added = len(extended) - len(packet)
        assert packet.endswith(extended[start + added :])


@pytest.mark.parametrize("kind", ODD)
def test_odd_packets_are_left_alone(kind):
    assert extend_packet(ODD[kind], RECORD) is None


def test_histories_of_ingredients_are_not_the_files_own():
    ingredient = PLAIN.replace(
        b"<dc:title>",
        b'<m:Pantry xmlns:m="http://ns.adobe.com/xap/1.0/mm/"><rdf:Bag><rdf:li><rdf:Description>'
        b"<m:History><rdf:Seq><rdf:li/></rdf:Seq></m:History>"
        b"</rdf:Description></rdf:li></rdf:Bag></m:Pantry><dc:title>",
    )
    extended = extend_packet(ingredient, RECORD)
    assert extended is not None
    assert extended.index(RECORD.encode()) > extended.index(b"</m:Pantry>")


# Files


def encode(suffix: str, packet: bytes | None) -> bytes:
    options = {} if packet is None else {"xmp": packet}
    if suffix == ".png":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        if packet is not None:
            info.add_itxt("XML:com.adobe.xmp", packet.decode("latin-1"))
        data = encode_picture(draw_photo(), suffix, pnginfo=info)
        return data
    if suffix == ".tif" and packet is not None:
        return encode_picture(draw_photo(), suffix, tiffinfo={700: packet})
    if suffix == ".webp":
        return encode_picture(draw_photo(), suffix, lossless=True, **options)
    return encode_picture(draw_photo(), suffix, **options)


def restore(data: bytes) -> tuple[bytes, list[np.ndarray]]:
    """Return a restored file without a record, and its masks."""
    photo = read_photo(data, "photo")
    masks = [np.zeros((page.height, page.width), bool) for page in photo.pages]
    repaired = []
    for page, mask in zip(photo.pages, masks, strict=True):
        mask[3:9, 4:20] = True
        repaired.append(page.pixels // 2)
    return write_photo(photo, repaired, masks, name="photo").data, masks


SUFFIXES = [".jpg", ".png", ".tif", ".webp", ".avif"]


@pytest.mark.parametrize("packet", [None, BARE.replace("\u00e9".encode(), b"e")])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_restored_files_carry_the_record_and_are_proved(suffix, packet):
    before = encode(suffix, packet)
    plain, masks = restore(before)
    after = add_provenance(plain, RECORD, name="photo")
    assert after != plain
    found = read_packet(after, "photo")
    assert found == extend_packet(packet, RECORD)
    with Image.open(io.BytesIO(after)) as image, Image.open(io.BytesIO(plain)) as other:
        assert np.array_equal(np.asarray(image), np.asarray(other))
        if suffix != ".tif":
            assert image.info["xmp"] == found or suffix == ".png"
    proof = verify_photo(before, after, masks, name="photo")
    assert proof == verify_photo(before, plain, masks, name="photo")
    # Restored once more, it is one of the original's entries.
    second, masks = restore(after)
    assert verify_photo(after, second, masks, name="photo") == verify_photo(
        after, add_provenance(second, RECORD, name="photo"), masks, name="photo"
    )
    with pytest.raises(PreservationError):
        twice = add_provenance(after, RECORD, name="photo")
        verify_photo(before, twice, masks, name="photo")


@pytest.mark.parametrize("packet", [None, BARE.replace("\u00e9".encode(), b"e")])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nothing_but_the_record_is_allowed_for(suffix, packet):
    before = encode(suffix, packet)
    plain, masks = restore(before)
    after = add_provenance(plain, RECORD, name="photo")
    text = after.index(b'rdf:about=""')
    for old, new in ((b'about=""', b'about="x"'[:8]), (b"edited", b"EDITED"), (b"</rdf", b"</rdg")):
        place = after.index(old, text)
        forged = bytearray(after)
        forged[place : place + len(old)] = new
        if suffix == ".png":
            forged = bytearray(mend_checksums(bytes(forged)))
        with pytest.raises(PreservationError):
            verify_photo(before, bytes(forged), masks, name="photo")


def mend_checksums(data: bytes) -> bytes:
    from restorepix.formats.png import SIGNATURE, build_chunk, split_chunks

    chunks = split_chunks(data, "forged")
    return SIGNATURE + b"".join(build_chunk(c.kind, data[c.start + 8 : c.end - 4]) for c in chunks)


def test_a_moved_tiff_directory_must_say_what_the_old_one_says():
    before = encode_picture(draw_photo(), ".tif", tiffinfo={270: "a description"})
    after = bytearray(add_provenance(before, RECORD, name="photo"))
    (first,) = struct.unpack_from("<I", after, 4)
    (count,) = struct.unpack_from("<H", after, first)
    entries = range(first + 2, first + 2 + 12 * count, 12)
    place = next(at for at in entries if struct.unpack_from("<H", after, at) == (270,))
    struct.pack_into("<I", after, place + 8, struct.unpack_from("<I", after, place + 8)[0] + 1)
    with pytest.raises(PreservationError):
        verify_photo(before, bytes(after), [None], name="photo")


@pytest.mark.parametrize("kind", ["malformed", "extended", "read-only"])
@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".webp"])
def test_files_with_odd_packets_are_not_touched(suffix, kind):
    before = encode(suffix, ODD[kind])
    assert add_provenance(before, RECORD, name="photo") is before


@pytest.mark.parametrize("suffix", [".bmp", ".gif"])
def test_formats_without_a_place_for_it_are_not_touched(suffix):
    data = encode_picture(draw_photo(), suffix)
    assert add_provenance(data, RECORD, name="photo") is data


def test_a_packet_that_would_not_fit_into_a_jpeg_segment_is_left_alone():
    full = PLAIN.replace(b"Some Tool", b"x" * (65_400 - len(PLAIN)))
    before = encode(".jpg", full)
    assert add_provenance(before, RECORD, name="photo") is before


@pytest.mark.parametrize("to", ["png", "jpg", "tiff", "webp"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
@pytest.mark.parametrize("packet", [None, BARE.replace("\u00e9".encode(), b"e")])
def test_conversions_carry_it_too(suffix, to, packet):
    before = encode_picture(draw_photo(), suffix) if suffix == ".bmp" else encode(suffix, packet)
    photo = read_photo(before, "photo")
    converted = write_photo(photo, [None], [None], name="photo", to=to)
    after = add_provenance(converted.data, RECORD, name="photo")
    assert find_record(after) == RECORD
    options = {"name": "photo", "reencoded": converted.preserved == "reencoded"}
    if photo.format != read_photo(after, "photo").format:
        verify_photo(before, after, [None], **options)


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("lossless", [False, True])
def test_simple_webp_files_become_extended_ones(alpha, lossless):
    pixels = draw_photo()
    if alpha:
        pixels = np.dstack([pixels, np.arange(24 * 32).reshape(24, 32) % 251]).astype(np.uint8)
    before = encode_picture(pixels, ".webp", lossless=lossless)
    plain, masks = restore(before)
    after = add_provenance(plain, RECORD, name="photo")
    assert verify_photo(before, after, masks, name="photo")
    with Image.open(io.BytesIO(after)) as image:
        assert image.mode == ("RGBA" if alpha else "RGB")


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("packet", [None, LIGHTROOM])
def test_exiftool_reads_the_record(tmp_path: Path, suffix, packet):
    if suffix == ".png" and packet:
        packet = packet.replace("\u00e9".encode(), b"e").replace("\ufeff".encode(), b"")
    before = encode(suffix, packet)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(add_provenance(before, RECORD, name="photo"))
    done = subprocess.run(
        ["exiftool", "-validate", "-warning", "-XMP-xmpMM:HistorySoftwareAgent", "-s3", path],
        capture_output=True,
        check=True,
        text=True,
    )
    assert "restorepix 1.2.3" in done.stdout
    assert "XMP" not in done.stderr


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packet", [None, PLAIN])
def test_tiff_of_both_byte_orders_and_sizes(big, order, packet):
    import tifffile

    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, bigtiff=big, byteorder=order) as writer:
        tags = [(700, 1, len(packet), packet, True)] if packet else []
        for seed in (1, 2):
            writer.write(draw_photo(seed=seed), photometric="rgb", extratags=tags, metadata=None)
    before = buffer.getvalue()
    plain, masks = restore(before)
    after = add_provenance(plain, RECORD, name="photo")
    with tifffile.TiffFile(io.BytesIO(after)) as file:
        assert len(file.pages) == 2
        assert bytes(file.pages[0].tags[700].value) == extend_packet(packet, RECORD)
    assert verify_photo(before, after, masks, name="photo")
