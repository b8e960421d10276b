"""The marker segments of a JPEG file (ITU-T T.81, annex B): found, judged, and patched in place.

Nothing here decodes a picture. A file is taken apart once, so that size and kind are known before
any library allocates memory, and so that a restored file can carry the original's segments byte
for byte. Two kinds of segment point at things that a restored file has elsewhere or has not at
all, and are patched without moving a byte: the thumbnail of EXIF and the index of a multi-picture
file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from restorepix.errors import UnreadableError, UnsupportedError
from restorepix.formats import exif

Coded = Literal["grey", "rgb", "ycc", "cmyk", "ycck"]
"""What the components of a file mean; cmyk and ycck hold 255 - ink, as Adobe does."""

EXIF_HEADER = b"Exif\x00\x00"
_ICC_HEADER = b"ICC_PROFILE\x00"
_MPF_HEADER = b"MPF\x00"
_PHOTOSHOP_HEADER = b"Photoshop 3.0\x00"
_PHOTOSHOP_THUMBNAILS = (1033, 1036)

SOI, EOI, SOS, DQT, DHT, DAC, DRI, COM = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xCC, 0xDD, 0xFE
APP0, APP1, APP2, APP13, APP14, APP15 = 0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xEF
_FRAMES = frozenset(range(0xC0, 0xD0)) - {DHT, 0xC8, DAC}
_RESTORABLE = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
"""Baseline, extended and progressive, and the last two with arithmetic coding."""
_PROGRESSIVE = frozenset({0xC2, 0xCA})
_ARITHMETIC = frozenset({0xC9, 0xCA})
_BARE = frozenset({0x00, 0x01, *range(0xD0, SOS)})
"""Markers without a length."""
_CODED = np.isin(np.arange(256), [0x00, *range(0xD0, 0xD8), 0xFF])
"""What may stand behind 0xFF in entropy-coded data: a zero byte, restarts, a fill byte."""
_BYTES_AT_ONCE = 1 << 18
"""Entropy-coded bytes looked at in one step: they stay in the processor's cache."""
_MAX_SCANS = 500
"""Each scan of a progressive file visits every block again, even one of a few bytes; the limit is
that of libjpeg-turbo's own fuzzers."""

ZIGZAG = np.array(
    [
        *(0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5),
        *(12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28),
        *(35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51),
        *(58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63),
    ]
)
"""Natural index of each coefficient in file order (T.81, figure A.6)."""


class Segment(NamedTuple):
    """A marker segment."""

    marker: int
    start: int
    """Offset of its 0xFF in the file."""
    body: bytes
    """What follows the length field."""

    @property
    def raw(self) -> bytes:
        """Its bytes in a file, without fill bytes."""
        return struct.pack(">BBH", 0xFF, self.marker, len(self.body) + 2) + self.body


class Component(NamedTuple):
    """One component of the frame header."""

    identifier: int
    horizontal: int
    """Sampling factor, 1 to 4."""
    vertical: int
    table: int
    """Slot of its quantisation table."""


@dataclass(frozen=True)
class Frame:
    """The frame header: size in pixels as stored, and components."""

    marker: int
    height: int
    width: int
    components: tuple[Component, ...]

    @property
    def progressive(self) -> bool:
        """Whether the coefficients come in several scans of growing precision."""
        return self.marker in _PROGRESSIVE

    @property
    def arithmetic(self) -> bool:
        """Whether entropy coding is arithmetic, not Huffman."""
        return self.marker in _ARITHMETIC

    def pixels_per_sample(self, index: int) -> tuple[int, int]:
        """Return ``(rows, columns)`` of pixels that one sample of a component stands for."""
        component = self.components[index]
        return (
            max(other.vertical for other in self.components) // component.vertical,
            max(other.horizontal for other in self.components) // component.horizontal,
        )


@dataclass(frozen=True)
class JpegFile:
    """A JPEG file taken apart."""

    segments: tuple[Segment, ...]
    """All up to the end of the image, scan headers included."""
    frame: Frame
    end: int
    """Offset behind the end-of-image marker; what follows is no part of this image."""

    @property
    def kept(self) -> tuple[Segment, ...]:
        """Segments that a restored file carries on: metadata, tables, frame header."""
        return tuple(segment for segment in self.segments if _is_kept(segment.marker))

    @property
    def restart_interval(self) -> int:
        """MCUs between restart markers in the first scan, 0 = none."""
        interval = 0
        for segment in self.segments:
            if segment.marker == SOS:
                break
            if segment.marker == DRI and len(segment.body) == 2:
                interval = int.from_bytes(segment.body, "big")
        return interval

    @property
    def fitted(self) -> bool:
        """Whether Huffman tables were made for this picture.

        Tables that have a code for every symbol of baseline coding, 12 for DC and 162 for AC, are
        those of T.81, K.3, in all files but curiosities.
        """
        for segment in self.segments:
            body = segment.body if segment.marker == DHT else b""
            while body:
                symbols = sum(body[1:17])
                if symbols != (162 if body[0] >> 4 else 12):
                    return True
                body = body[17 + symbols :]
        return False


def _is_kept(marker: int) -> bool:
    return APP0 <= marker <= APP15 or marker in (COM, DQT) or marker in _FRAMES


def parse_jpeg(data: bytes, name: str) -> JpegFile:
    """Take a JPEG file apart up to its end-of-image marker.

    Args:
        data: the whole file.
        name: what to call the file in messages.

    Raises:
        UnreadableError: the markers make no sense, or the file is cut off.
        UnsupportedError: it is a JPEG of a kind that is not restored (12-bit, lossless,
            hierarchical, other numbers of components than 1, 3 and 4).
    """
    if not data.startswith(b"\xff\xd8"):
        raise UnreadableError(f"{name}: not a JPEG file (it does not begin with FF D8).")
    segments: list[Segment] = []
    frame: Frame | None = None
    seen: set[int] = set()
    scans = 0
    at = 2
    while True:
        start, marker = _find_marker(data, at, name)
        if marker == EOI:
            break
        segment = _read_segment(data, start, marker, name)
        segments.append(segment)
        at = start + len(segment.raw)
        if marker in _FRAMES:
            if frame is not None:
                raise UnsupportedError(f"{name}: hierarchical JPEG is not supported.")
            frame = _read_frame(segment, name)
        elif marker == SOS:
            scans += 1
            if scans > _MAX_SCANS:
                raise UnsupportedError(f"{name}: more than {_MAX_SCANS} scans are not supported.")
            seen |= _read_scan(segment, frame, name)
            at = _find_end_of_scan(data, at)
            if at < 0:
                raise _cut_off(name)
    if frame is None or seen != {component.identifier for component in frame.components}:
        raise UnreadableError(
            f"{name}: the file is incomplete: not all components have picture data. "
            "Restore it from a sound copy."
        )
    return JpegFile(tuple(segments), frame, start + 2)


def _find_end_of_scan(data: bytes, start: int) -> int:
    """Return the offset of the marker that ends entropy-coded data, -1 where there is none."""
    coded = np.frombuffer(data, np.uint8)
    for at in range(start, len(data) - 1, _BYTES_AT_ONCE):
        part = coded[at : at + _BYTES_AT_ONCE + 1]
        # Stuffed zeros, by far the most, are told in one pass.
        found = np.flatnonzero((part[:-1] == 0xFF) & (part[1:] != 0))
        found = found[~_CODED[part[found + 1]]]
        if found.size:
            return at + int(found[0])
    return -1


def _cut_off(name: str) -> UnreadableError:
    return UnreadableError(
        f"{name}: the file is cut off (no end-of-image marker). Restore it from a sound copy."
    )


def _find_marker(data: bytes, at: int, name: str) -> tuple[int, int]:
    """Return offset and code of the marker at ``at``, behind any fill bytes."""
    if data[at : at + 1] not in (b"\xff", b""):
        raise UnreadableError(f"{name}: no marker at byte {at} where one must be.")
    while data[at + 1 : at + 2] == b"\xff":
        at += 1
    if at + 1 >= len(data):
        raise _cut_off(name)
    return at, data[at + 1]


def _read_segment(data: bytes, start: int, marker: int, name: str) -> Segment:
    if marker in _BARE:
        raise UnreadableError(f"{name}: misplaced marker FF {marker:02X} at byte {start}.")
    length = int.from_bytes(data[start + 2 : start + 4], "big")
    if length < 2 or start + 2 + length > len(data):
        raise UnreadableError(
            f"{name}: the segment at byte {start} claims {length} bytes, more than there are."
        )
    return Segment(marker, start, data[start + 4 : start + 2 + length])


def _read_frame(segment: Segment, name: str) -> Frame:
    body = segment.body
    if segment.marker not in _RESTORABLE:
        raise UnsupportedError(
            f"{name}: lossless and hierarchical JPEG are not supported (found frame type "
            f"FF {segment.marker:02X}). Convert it to PNG or TIFF first."
        )
    if len(body) < 6 or len(body) != 6 + 3 * body[5]:
        raise UnreadableError(f"{name}: the frame header has a wrong length.")
    bits, height, width, count = struct.unpack_from(">BHHB", body)
    if bits != 8:
        raise UnsupportedError(
            f"{name}: JPEG of 8 bits per sample is supported, this one has {bits}. "
            "Convert it to a 16-bit TIFF first."
        )
    if count not in (1, 3, 4):
        raise UnsupportedError(f"{name}: JPEG with {count} components is not supported.")
    if not height or not width:
        raise UnsupportedError(f"{name}: JPEG without its size in the header is not supported.")
    components = tuple(
        Component(body[at], body[at + 1] >> 4, body[at + 1] & 15, body[at + 2])
        for at in range(6, len(body), 3)
    )
    _check_sampling(components, name)
    return Frame(segment.marker, height, width, components)


def _check_sampling(components: tuple[Component, ...], name: str) -> None:
    if len({component.identifier for component in components}) < len(components):
        raise UnsupportedError(f"{name}: two components with one name are not supported.")
    for factors in (
        [component.horizontal for component in components],
        [component.vertical for component in components],
    ):
        if not all(1 <= factor <= 4 for factor in factors):
            raise UnreadableError(f"{name}: sampling factors must be 1 to 4, found {factors}.")
        if any(max(factors) % factor for factor in factors):
            raise UnsupportedError(f"{name}: fractional sampling {factors} is not supported.")


def _read_scan(segment: Segment, frame: Frame | None, name: str) -> set[int]:
    """Return the components whose picture data begins in this scan."""
    body = segment.body
    if frame is None or not body or len(body) != 4 + 2 * body[0]:
        raise UnreadableError(f"{name}: bad scan header at byte {segment.start}.")
    begins = not frame.progressive or body[-3] == 0
    return set(body[1:-3:2]) if begins else set()


def read_quantisation(file: JpegFile, name: str) -> dict[int, npt.NDArray[np.int32]]:
    """Return the quantisation tables by slot, each (8, 8) int32 in natural order.

    Args:
        file: the parsed file.
        name: what to call the file in messages.

    Raises:
        UnreadableError: a table is malformed, has a zero, or is missing.
        UnsupportedError: a table changes between scans.
    """
    tables: dict[int, npt.NDArray[np.int32]] = {}
    fixed: set[int] = set()
    for segment in file.segments:
        if segment.marker == SOS:
            fixed = set(tables)
        elif segment.marker == DQT:
            for slot, table in _split_tables(segment, name):
                if slot in fixed and not np.array_equal(table, tables[slot]):
                    raise UnsupportedError(
                        f"{name}: quantisation tables that change between scans are not supported."
                    )
                tables[slot] = table
    missing = {component.table for component in file.frame.components} - set(tables)
    if missing:
        raise UnreadableError(f"{name}: quantisation table {min(missing)} is missing.")
    return tables


def _split_tables(segment: Segment, name: str) -> list[tuple[int, npt.NDArray[np.int32]]]:
    body, tables, at = segment.body, list[tuple[int, npt.NDArray[np.int32]]](), 0
    while at < len(body):
        wide, slot = body[at] >> 4, body[at] & 15
        values = np.frombuffer(body[at + 1 : at + 1 + 64 * (wide + 1)], (">u1", ">u2")[wide & 1])
        if wide > 1 or slot > 3 or values.size != 64 or not values.all():
            raise UnreadableError(f"{name}: bad quantisation table at byte {segment.start}.")
        table = np.empty(64, np.int32)
        table[ZIGZAG] = values
        tables.append((slot, table.reshape(8, 8)))
        at += 1 + 64 * (wide + 1)
    return tables


def read_color(file: JpegFile) -> Coded:
    """Return what the components mean, by the rules of libjpeg (jdapimin.c).

    JFIF files are YCbCr; else the Adobe segment decides; else three components named R, G, B are
    that, other three are YCbCr, and four are CMYK. All CMYK is taken as inverted, with or without
    an Adobe segment, as Pillow and ImageMagick do.
    """
    components = file.frame.components
    jfif, adobe = False, None
    for segment in file.segments:
        if segment.marker == SOS:
            break
        if segment.marker == APP0 and len(segment.body) >= 14:
            jfif |= segment.body.startswith(b"JFIF\x00")
        elif segment.marker == APP14 and len(segment.body) >= 12:
            adobe = segment.body[11] if segment.body.startswith(b"Adobe") else adobe
    if len(components) == 1:
        return "grey"
    if len(components) == 4:
        return "ycck" if adobe else "cmyk"
    names = bytes(component.identifier for component in components)
    plain = adobe == 0 if adobe is not None else names == b"RGB"
    return "rgb" if plain and not jfif else "ycc"


def read_exif(file: JpegFile) -> bytes:
    """Return the EXIF block with its header, empty where there is none."""
    for segment in file.segments:
        if segment.marker == APP1 and segment.body.startswith(EXIF_HEADER):
            return segment.body
    return b""


def read_profile(file: JpegFile) -> bytes | None:
    """Return the ICC profile, joined from its numbered segments (ICC.1:2022, B.4).

    A profile with segments missing is carried in the file, but shown to nobody.
    """
    chunks: dict[int, bytes] = {}
    total = 0
    for segment in file.segments:
        if segment.marker == APP2 and segment.body.startswith(_ICC_HEADER):
            number, total = segment.body[12:14].ljust(2, b"\x00")
            chunks.setdefault(number, segment.body[14:])
    if not total or sorted(chunks) != list(range(1, total + 1)):
        return None
    return b"".join(chunks[number] for number in range(1, total + 1))


def drop_thumbnail(segment: Segment) -> Segment | None:
    """Return a segment without a thumbnail, or None where it is nothing else.

    An EXIF segment loses its pointer to the thumbnail, JFIF (T.871, 10.1) and Photoshop segments
    the thumbnail itself, others nothing.
    """
    body = segment.body
    if segment.marker == APP1 and body.startswith(EXIF_HEADER):
        return segment._replace(body=exif.drop_thumbnail(body))
    if segment.marker == APP0 and body.startswith(b"JFXX\x00"):
        return None
    if segment.marker == APP0 and body.startswith(b"JFIF\x00") and body[12:14].strip(b"\x00"):
        return segment._replace(body=body[:12] + b"\x00\x00")
    if segment.marker == APP13 and body.startswith(_PHOTOSHOP_HEADER):
        resources = drop_resources(body[len(_PHOTOSHOP_HEADER) :])
        return segment._replace(body=_PHOTOSHOP_HEADER + resources)
    return segment


def drop_resources(data: bytes) -> bytes:
    """Return Photoshop's resources without thumbnails; as they are when they make no sense."""
    kept, at = list[bytes](), 0
    while at < len(data):
        name = at + 6
        content = name + 1 + data[name] if name < len(data) else len(data)
        content += content - at & 1
        if data[at : at + 4] != b"8BIM" or content + 4 > len(data):
            return data
        (size,) = struct.unpack_from(">I", data, content)
        end = content + 4 + size + size % 2
        if end > len(data) + size % 2:
            return data
        if int.from_bytes(data[at + 4 : name], "big") not in _PHOTOSHOP_THUMBNAILS:
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def find_previews(segment: Segment, end: int, size: int) -> list[tuple[int, int]]:
    """Return where the previews of a multi-picture index start and end behind the picture.

    Nothing, where the index names any other picture or one that is not there.

    Args:
        segment: any segment.
        end: where the first picture ends.
        size: of the file, in bytes.
    """
    order, entries = _read_index(segment)
    places: list[tuple[int, int]] = []
    for entry in entries[1:]:
        kind, length, offset = struct.unpack_from(order + "III", segment.body, entry)
        start = segment.start + 4 + len(_MPF_HEADER) + offset
        if kind & _MP_CLASS != _MP_PREVIEW or start < end or start + length > size:
            return []
        places.append((start, start + length))
    return places


def count_pictures(segment: Segment) -> int:
    """Return how many pictures a multi-picture index names, the first one too; else 0."""
    return len(_read_index(segment)[1])


_MP_ENTRIES = 0xB002
_MP_CLASS, _MP_PREVIEW = 0xFF0000, 0x010000
"""Of the type in an entry's first four bytes: a smaller version of the first picture."""


def relocate_pictures(segment: Segment, moved_to: int, old_end: int, new_end: int) -> Segment:
    """Return a multi-picture index that points at the same trailing pictures in a new file.

    Phones append gain maps and previews behind the first picture, and keep their offsets in an
    APP2 segment (CIPA DC-007-2021, 5.2.3). Offsets count from inside the segment, so they are off
    as soon as the first picture's length changes. Segments of other kinds come back as they are.

    Args:
        segment: any segment of the original.
        moved_to: where it starts in the new file.
        old_end: where the original's first picture ends.
        new_end: where the new file's first picture ends.
    """
    order, entries = _read_index(segment)
    if not entries:
        return segment
    body = bytearray(segment.body)
    base = segment.start + 4 + len(_MPF_HEADER)
    shift = (new_end - moved_to) - (old_end - segment.start)
    for entry in entries:
        size, offset = struct.unpack_from(order + "II", body, entry + 4)
        if offset == 0:
            size += new_end - old_end
        elif base + offset >= old_end:
            offset += shift
        if 0 <= size < 1 << 32 and 0 <= offset < 1 << 32:
            struct.pack_into(order + "II", body, entry + 4, size, offset)
    return segment._replace(body=bytes(body))


def _read_index(segment: Segment) -> tuple[str, range]:
    """Return byte order and offsets of the 16-byte entries of a multi-picture index, if any."""
    body, header = segment.body, len(_MPF_HEADER)
    order = {b"II": "<", b"MM": ">"}.get(body[header : header + 2], "")
    if segment.marker != APP2 or not body.startswith(_MPF_HEADER) or not order:
        return "", range(0)
    return order, _find_entries(body, header, order) or range(0)


def _find_entries(body: bytes, header: int, order: str) -> range | None:
    if len(body) < header + 8:
        return None
    directory = header + struct.unpack_from(order + "I", body, header + 4)[0]
    if directory + 2 > len(body):
        return None
    (count,) = struct.unpack_from(order + "H", body, directory)
    for at in range(directory + 2, min(directory + 2 + 12 * count, len(body) - 11), 12):
        tag, _, length, offset = struct.unpack_from(order + "HHII", body, at)
        start = header + offset
        if tag == _MP_ENTRIES and length and length % 16 == 0 and start + length <= len(body):
            return range(start, start + length, 16)
    return None
