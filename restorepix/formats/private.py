"""Private metadata, taken out on request (``--strip``) before a file is restored.

What stays is what the picture looks like: pixels, colour profile, orientation, resolution, and of
EXIF the tags that say these. What goes is everything else that describes it or where it came from:
EXIF with its place and maker notes, XMP, IPTC, comments, thumbnails, unknown blocks, and whatever
stands behind the picture. Pixels are not encoded anew; a TIFF file, whose parts may stand
anywhere, is put together again from its strips, so that nothing is left in gaps.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Final

from restorepix.errors import PreservationError, UnreadableError, UnsupportedError
from restorepix.formats import hash_photo, read_photo, sniff_format

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from restorepix.formats.tiff_tags import Directory, Field, Fields, TiffFile
    from restorepix.photo import BoolMask

_PNG_KEPT: Final = frozenset(
    [b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB",
     b"cICP", b"mDCV", b"cLLI", b"bKGD", b"hIST", b"pHYs"]
)  # fmt: skip
"""Chunks that decide how pixels look (PNG specification, third edition), and their density."""
_WEBP_KEPT: Final = frozenset([b"VP8X", b"ICCP", b"ALPH", b"VP8 ", b"VP8L"])
_WEBP_EXIF, _WEBP_XMP = 0x08, 0x04
_JPEG2000_KEPT: Final = frozenset([b"jP  ", b"ftyp", b"rreq", b"jp2h", b"jp2c"])
_GIF_COMMENT, _GIF_TEXT, _GIF_APPLICATION = 0xFE, 0x01, 0xFF
_GIF_PROFILE: Final = b"ICCRGBG1012"
_RESOLUTION: Final = (282, 283, 296)
_COLOR_SPACE, _INTEROPERABILITY_INDEX = 40961, 1
_TIFF_KEPT: Final = frozenset(
    [254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 274, 277, 278, 280, 281, 282, 283, 284,
     290, 291, 292, 293, 296, 297, 301, 317, 318, 319, 320, 321, 322, 323, 332, 333, 334, 336, 338,
     339, 340, 341, 347, 529, 530, 531, 532, 34675]
)  # fmt: skip
"""Tags that say how to decode and show a page (TIFF 6.0), and its profile."""
_REDUCED: Final = 1
_CLASSIC_END: Final = 1 << 32


def strip_metadata(data: bytes, name: str) -> bytes:
    """Return a file without its private metadata, pixels not encoded anew.

    Args:
        data: any file that can be restored.
        name: what to call the file in messages.

    Returns:
        The new file; ``data`` itself where there is nothing to take out.

    Raises:
        UnsupportedError: the container cannot be rewritten; the message says what to do.
        UnreadableError: the file is damaged.
    """
    match sniff_format(data):
        case "jpeg":
            stripped = _strip_jpeg(data, name)
        case "png":
            stripped = _strip_png(data, name)
        case "webp":
            stripped = _strip_webp(data, name)
        case "tiff":
            stripped = _strip_tiff(data, name)
        case "gif":
            stripped = _strip_gif(data, name)
        case "jpeg2000":
            stripped = _strip_jpeg2000(data, name)
        case "avif" | "heif":
            stripped = _strip_heif(data, name)
        case "bmp":
            return data  # holds none
        case "raw" | "psd" | "jxl" | None:
            return data  # refused, with the reason, where it is decoded
        case found:
            raise UnsupportedError(
                f"{name}: --strip does not know the metadata of {found} files. "
                "Convert it with --to first, then strip."
            )
    return data if stripped == data else stripped


def verify_stripped(
    before: bytes, after: bytes, masks: Sequence[BoolMask | None], name: str
) -> None:
    """Prove that a file without its private metadata shows the same picture.

    Args:
        before: the original.
        after: what :func:`strip_metadata` made of it.
        masks: for each page ``(H, W)`` bool as displayed, True = hole; None = no hole.
        name: what to call the file in messages.

    Raises:
        PreservationError: known pixels or coefficients, profile or orientation differ.
    """
    if _describe_look(before, masks, name) != _describe_look(after, masks, name):
        raise PreservationError(f"{name}: --strip would change what the picture looks like.")


def _describe_look(
    data: bytes, masks: Sequence[BoolMask | None], name: str
) -> tuple[int, list[bytes | None], str]:
    """Return orientation, profiles and the hash of everything known."""
    photo = read_photo(data, name, max_mpixels=math.inf)
    known = hash_photo(photo, masks, name=name)
    return photo.orientation, [page.icc for page in photo.pages], known


def reduce_exif(exif: bytes) -> bytes:
    """Return an EXIF block that says orientation, resolution and colour space, nothing else.

    Args:
        exif: a block without the prefix of JPEG.

    Returns:
        The block; nothing where it would say nothing, or the given one is damaged.
    """
    from restorepix.formats.tiff_tags import TagName, TiffFile, build_directory

    try:
        file = TiffFile(exif, "EXIF")
        first = file.read_directory(file.first)
        fields = _copy_fields(file, first, (TagName.ORIENTATION, *_RESOLUTION))
        child = _read_child(file, first, TagName.EXIF)
        if child is not None:
            below = _copy_fields(file, child, (_COLOR_SPACE,))
            index = _read_child(file, child, TagName.INTEROPERABILITY)
            if index is not None:
                below[TagName.INTEROPERABILITY] = _copy_fields(
                    file, index, (_INTEROPERABILITY_INDEX,)
                )
            if below:
                fields[TagName.EXIF] = below
    except (UnreadableError, struct.error):
        return b""
    if not fields:
        return b""
    header = (b"II" if file.order == "<" else b"MM") + struct.pack(file.order + "HI", 42, 8)
    return header + build_directory(file.order, fields, 8)


def _read_child(file: TiffFile, directory: Directory, number: int) -> Directory | None:
    if number not in directory.tags:
        return None
    return file.read_directory(file.read_integer(directory, number, 0))


def _copy_fields(file: TiffFile, directory: Directory, numbers: tuple[int, ...]) -> Fields:
    return {
        number: _copy_field(file, directory, number)
        for number in numbers
        if number in directory.tags
    }


def _copy_field(file: TiffFile, directory: Directory, number: int) -> Field:
    from restorepix.formats.tiff_tags import Field

    tag = directory.tags[number]
    return Field(tag.kind, tag.values, file.read_bytes(tag))


def _strip_jpeg(data: bytes, name: str) -> bytes:
    from restorepix.formats.jpeg_segments import parse_jpeg

    file = parse_jpeg(data, name)
    parts = [data[:2]]
    starts = [*(segment.start for segment in file.segments[1:]), file.end]
    for segment, after in zip(file.segments, starts, strict=True):
        end = segment.start + len(segment.raw)
        # Behind a segment stands coded data, or nothing.
        parts += [_reduce_segment(segment.marker, segment.body, segment.raw), data[end:after]]
    return b"".join(parts)


def _reduce_segment(marker: int, body: bytes, raw: bytes) -> bytes:
    from restorepix.formats import jpeg_segments as segments

    if marker == segments.COM:
        return b""
    if not segments.APP0 <= marker <= segments.APP15:
        return raw
    reduced: bytes | None = None
    if marker == segments.APP0 and body.startswith(b"JFIF\0") and len(body) >= 14:
        reduced = body[:12] + b"\0\0"  # no thumbnail
    elif marker == segments.APP1 and body.startswith(segments.EXIF_HEADER):
        exif = reduce_exif(body[len(segments.EXIF_HEADER) :])
        reduced = segments.EXIF_HEADER + exif if exif else None
    elif (marker == segments.APP2 and body.startswith(b"ICC_PROFILE\0")) or (
        marker == segments.APP14 and body.startswith(b"Adobe")
    ):
        return raw
    return b"" if reduced is None else segments.Segment(marker, 0, reduced).raw


def _strip_png(data: bytes, name: str) -> bytes:
    from restorepix.formats.png import SIGNATURE, build_chunk, split_chunks

    parts = [SIGNATURE]
    for chunk in split_chunks(data, name):
        if chunk.kind in _PNG_KEPT:
            parts.append(data[chunk.start : chunk.end])
        elif chunk.kind == b"eXIf":
            exif = reduce_exif(data[chunk.start + 8 : chunk.end - 4])
            parts.append(build_chunk(b"eXIf", exif) if exif else b"")
    return b"".join(parts)


def _strip_webp(data: bytes, name: str) -> bytes:
    from restorepix.formats.webp import split_chunks

    parts: list[bytes] = []
    for chunk in split_chunks(data, name)[0]:
        content = data[chunk.start + 8 : chunk.start + 8 + chunk.size]
        if chunk.kind == b"EXIF":
            content = reduce_exif(content.removeprefix(b"Exif\0\0"))
            if not content:
                continue
        elif chunk.kind not in _WEBP_KEPT:
            continue
        padded = content + b"\0" * (len(content) % 2)
        parts.append(chunk.kind + struct.pack("<I", len(content)) + padded)
    if parts[0].startswith(b"VP8X"):
        header = bytearray(parts[0])
        has_exif = any(part.startswith(b"EXIF") for part in parts)
        header[8] = header[8] & ~(_WEBP_XMP | _WEBP_EXIF) | _WEBP_EXIF * has_exif
        parts[0] = bytes(header)
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _strip_tiff(data: bytes, name: str) -> bytes:
    from restorepix.formats.tiff_tags import TagName, TiffFile, build_directory

    file = TiffFile(data, name)
    if file.big:
        raise UnsupportedError(
            f"{name}: --strip cannot put a BigTIFF file together again. Convert it to classic "
            "TIFF first."
        )
    mark = b"II" if file.order == "<" else b"MM"
    out = bytearray(mark + struct.pack(file.order + "HI", 42, 0))
    link = 4
    """Where the offset of the next directory goes."""
    for number, directory in enumerate(file.read_chain(), 1):
        if number > 1 and file.read_integer(directory, TagName.NEW_SUBFILE_TYPE, 0) & _REDUCED:
            continue
        fields = _copy_fields(file, directory, tuple(_TIFF_KEPT))
        fields |= _copy_strips(file, directory, number, out)
        out += b"\0" * (len(out) % 2)
        struct.pack_into(file.order + "I", out, link, len(out))
        link = len(out) + 2 + 12 * len(fields)
        out += build_directory(file.order, fields, len(out))
        if len(out) >= _CLASSIC_END:
            raise UnsupportedError(f"{name}: without its metadata the file would exceed 4 GiB.")
    return bytes(out)


def _copy_strips(
    file: TiffFile, directory: Directory, number: int, out: bytearray
) -> dict[int, Field]:
    """Append a page's strips or tiles, and return the tags that say where they are."""
    from restorepix.formats.tiff_layout import place_tags, read_layout
    from restorepix.formats.tiff_tags import Field, TagName

    tiled = TagName.TILE_OFFSETS in directory.tags
    places, sizes = place_tags(tiled)
    starts, counts = file.read_integers(directory, places), file.read_integers(directory, sizes)
    if len(starts) != len(counts):
        # Left out by some old writers; what it must be follows from the size.
        grid = read_layout(file, directory, number).grid
        starts, counts = grid.offsets, grid.counts
    moved: list[int] = []
    for start, count in zip(starts, counts, strict=False):
        out += b"\0" * (len(out) % 2)
        moved.append(len(out))
        out += file.data[start : start + count]

    def pack(values: list[int]) -> Field:
        return Field(4, len(values), struct.pack(f"{file.order}{len(values)}I", *values))

    return {places: pack(moved), sizes: pack(list(counts[: len(moved)]))}


def _strip_gif(data: bytes, name: str) -> bytes:
    parts: list[bytes] = []
    try:
        for start, end in _split_gif(data):
            private = data[start : start + 1] == b"!" and (
                data[start + 1] in (_GIF_COMMENT, _GIF_TEXT)
                or (
                    data[start + 1] == _GIF_APPLICATION
                    and data[start + 3 : start + 14] != _GIF_PROFILE
                )
            )
            parts.append(b"" if private else data[start:end])
    except IndexError as error:
        raise UnreadableError(f"{name}: the GIF file ends early.") from error
    return b"".join(parts)


def _split_gif(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield start and end of the header and of each block, the trailer last."""
    at = 13 + _measure_palette(data[10])
    yield 0, at
    while data[at] != 0x3B:
        start = at
        at += 2 if data[at] == 0x21 else 10 + _measure_palette(data[at + 9]) + 1
        while data[at]:
            at += 1 + data[at]
        at += 1
        yield start, at
    yield at, at + 1


def _measure_palette(flags: int) -> int:
    return 6 << (flags & 7) if flags & 0x80 else 0


def _strip_jpeg2000(data: bytes, name: str) -> bytes:
    from restorepix.formats.jpeg2000 import split_boxes

    if data.startswith(b"\xff\x4f"):
        return data
    boxes = split_boxes(data, 0, len(data), name)
    return b"".join(data[box.start : box.end] for box in boxes if box.kind in _JPEG2000_KEPT)


def _strip_heif(data: bytes, name: str) -> bytes:
    from restorepix.formats import heif
    from restorepix.formats.heif_items import parse_heif

    container = parse_heif(data, name)
    further = heif.list_further(container)
    if further:
        raise UnsupportedError(
            f"{name}: --strip cannot take out private metadata beside {len(further)} further "
            f"pictures or items ({further[0].kind.decode('latin-1')}; a gain map, depth ...). "
            "Convert it with --to first, then strip."
        )
    kept: list[bytes] = []
    for item in heif.list_metadata(container):
        if item.kind == b"Exif":
            start = 4 + int.from_bytes(item.data[:4], "big")
            exif = reduce_exif(item.data[start:])
            kept += [bytes(4) + exif] if exif else []
    private = any(kind == b"uuid" for kind, _ in container.boxes)
    private |= [item.data for item in heif.list_metadata(container)] != kept
    private |= bool(container.list_sources(b"thmb", container.primary))
    if not private:
        return data
    return heif.rebuild(container, [heif.describe_picture(b"Exif", exif) for exif in kept])
