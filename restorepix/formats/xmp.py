"""XMP packets in their containers: read, replaced and taken out without touching anything else.

JPEG keeps XMP in an APP1 segment, PNG in an iTXt chunk, TIFF in tag 700, WebP in a chunk of its
own, AVIF and HEIC in an item (XMP specification, part 3). Only the record of a repair is ever added
(:mod:`restorepix.provenance`), and :func:`remove_record` takes exactly that out again for the
proof.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from restorepix.errors import UnsupportedError
from restorepix.formats import sniff_format
from restorepix.provenance import extend_packet, find_record, shorten_packet

if TYPE_CHECKING:
    from collections.abc import Callable

    from restorepix.formats.jpeg_segments import Segment

_JPEG_HEADER: Final = b"http://ns.adobe.com/xap/1.0/\0"
_JPEG_EXTENSION: Final = b"http://ns.adobe.com/xmp/extension/\0"
_JPEG_MAX_BYTES: Final = 65_533
_PNG_KEYWORD: Final = b"XML:com.adobe.xmp\0"
_PNG_OLD_KEYWORD: Final = b"Raw profile type xmp\0"
_WEBP_FLAG: Final = 0x04
_WEBP_ALPHA: Final = 0x10
_TIFF_KINDS: Final = (1, 7)
"""BYTE and UNDEFINED."""


class OddPacketError(Exception):
    """A file keeps XMP in a way that is better left alone."""


def add_record(data: bytes, record: str, name: str) -> bytes:
    """Return a file with one more entry in its edit history.

    Args:
        data: any file.
        record: from :func:`restorepix.provenance.build_record`.
        name: what to call the file in messages.

    Returns:
        The new file; ``data`` itself where the format has no place for it or its XMP is odd.
    """
    try:
        packet = extend_packet(read_packet(data, name), record)
        return data if packet is None else _set_packet(data, packet, name, None)
    except (OddPacketError, UnsupportedError):
        return data


def remove_record(before: bytes, after: bytes, name: str) -> bytes:
    """Return a restored file without the entry that was added to its history.

    Args:
        before: the original file.
        after: the restored file.
        name: what to call the file in messages.

    Returns:
        The file with the original's XMP; ``after`` itself where its XMP is anything but the
        original's and one entry of ours.
    """
    try:
        new = read_packet(after, name)
    except OddPacketError:
        return after
    record = None if new is None else find_record(new)
    if new is None or record is None:
        return after
    try:
        old = read_packet(before, name)
    except OddPacketError:
        old = shorten_packet(new, record)
    if old == new or extend_packet(old, record) != new:
        return after
    try:
        return _set_packet(after, old, name, before)
    except OddPacketError:
        return after


def read_packet(data: bytes, name: str) -> bytes | None:
    """Return a file's XMP packet, or None where it has none.

    Raises:
        OddPacketError: there are several, it is compressed or in parts, or the format is none of
            JPEG, PNG, TIFF, WebP, AVIF and HEIC.
    """
    match sniff_format(data):
        case "jpeg":
            packets = [segment.body[len(_JPEG_HEADER) :] for segment in _find_jpeg(data, name)]
        case "png":
            packets = [data[start:end] for _, start, end in _find_png(data, name)]
        case "tiff":
            packets = _find_tiff(data, name)
        case "webp":
            packets = _find_webp(data, name)
        case "avif" | "heif":
            packets = _find_heif(data, name)
        case _:
            raise OddPacketError
    if len(packets) > 1:
        raise OddPacketError
    return packets[0] if packets else None


def _set_packet(data: bytes, packet: bytes | None, name: str, like: bytes | None) -> bytes:
    """Return a file with another XMP packet or none.

    Args:
        data: a file whose packet, if any, can be read.
        packet: the new one.
        name: what to call the file in messages.
        like: the original, to bring back what adding a packet changed around it.
    """
    setters: dict[str | None, Callable[[bytes, bytes | None, str, bytes | None], bytes]] = {
        "jpeg": _set_jpeg,
        "png": _set_png,
        "tiff": _set_tiff,
        "webp": _set_webp,
        "avif": _set_heif,
        "heif": _set_heif,
    }
    found = sniff_format(data)
    return setters[found](
        data, packet, name, like if like and sniff_format(like) == found else None
    )


def _find_jpeg(data: bytes, name: str) -> list[Segment]:
    from restorepix.formats.jpeg_segments import APP1, SOS, parse_jpeg

    found: list[Segment] = []
    scanned = False
    for segment in parse_jpeg(data, name).segments:
        scanned |= segment.marker == SOS
        if segment.marker == APP1 and segment.body.startswith((_JPEG_HEADER, _JPEG_EXTENSION)):
            if scanned or segment.body.startswith(_JPEG_EXTENSION):
                raise OddPacketError
            found.append(segment)
    return found


def _set_jpeg(data: bytes, packet: bytes | None, name: str, like: bytes | None) -> bytes:
    from restorepix.formats import jpeg_segments as segments

    del like
    file = segments.parse_jpeg(data, name)
    raw = b""
    if packet is not None:
        body = _JPEG_HEADER + packet
        if len(body) > _JPEG_MAX_BYTES:
            raise OddPacketError
        raw = segments.Segment(segments.APP1, 0, body).raw
    old = _find_jpeg(data, name)
    if old:
        start, end = old[0].start, old[0].start + len(old[0].raw)
    else:
        start = end = _find_jpeg_place(file.segments)
    shift = len(raw) - (end - start)
    out = bytearray(data[:start] + raw + data[end:])
    for segment in file.segments:
        place = segment.start + shift * (segment.start >= end)
        moved = segments.relocate_pictures(segment, place, file.end, file.end + shift)
        if moved.body != segment.body:
            out[place : place + len(moved.raw)] = moved.raw
    return bytes(out)


def _find_jpeg_place(file: tuple[Segment, ...]) -> int:
    """Return where a new segment goes: behind JFIF and EXIF, which must come first."""
    from restorepix.formats.jpeg_segments import APP0, APP1, EXIF_HEADER

    place = 2
    for segment in file:
        is_exif = segment.marker == APP1 and segment.body.startswith(EXIF_HEADER)
        if segment.marker != APP0 and not is_exif:
            break
        place = segment.start + len(segment.raw)
    return place


def _find_png(data: bytes, name: str) -> list[tuple[int, int, int]]:
    """Return start of the chunk, and start and end of the packet."""
    from restorepix.formats.png import split_chunks

    found: list[tuple[int, int, int]] = []
    for chunk in split_chunks(data, name):
        content = data[chunk.start + 8 : chunk.end - 4]
        if chunk.kind in (b"tEXt", b"zTXt", b"iTXt") and content.startswith(_PNG_OLD_KEYWORD):
            raise OddPacketError
        if chunk.kind != b"iTXt" or not content.startswith(_PNG_KEYWORD):
            continue
        # Compression flag and method, language, translated keyword, packet.
        tail = content[len(_PNG_KEYWORD) + 2 :].split(b"\0", 2)
        if content[len(_PNG_KEYWORD) :][:2] != b"\0\0" or len(tail) != 3:
            raise OddPacketError
        found.append((chunk.start, chunk.end - 4 - len(tail[2]), chunk.end - 4))
    return found


def _set_png(data: bytes, packet: bytes | None, name: str, like: bytes | None) -> bytes:
    from restorepix.formats.png import build_chunk, split_chunks

    del like
    old = _find_png(data, name)
    if old:
        start, inside, end = old[0]
        head, end = data[start + 8 : inside], end + 4
    else:
        start = end = next(c.start for c in split_chunks(data, name) if c.kind == b"IDAT")
        head = _PNG_KEYWORD + b"\0\0\0\0"
    chunk = b"" if packet is None else build_chunk(b"iTXt", head + packet)
    return data[:start] + chunk + data[end:]


def _find_webp(data: bytes, name: str) -> list[bytes]:
    from restorepix.formats.webp import split_chunks

    chunks, _ = split_chunks(data, name)
    found = [data[c.start + 8 : c.start + 8 + c.size] for c in chunks if c.kind == b"XMP "]
    headers = [data[c.start + 8] for c in chunks if c.kind == b"VP8X" and c.size == 10]
    if bool(found) != any(flags & _WEBP_FLAG for flags in headers):
        raise OddPacketError
    return found


def _set_webp(data: bytes, packet: bytes | None, name: str, like: bytes | None) -> bytes:
    from restorepix.formats.webp import split_chunks

    chunks, end = split_chunks(data, name)
    parts = [
        (c.kind, data[c.start : c.end].ljust(8 + c.size + c.size % 2, b"\0"))
        for c in chunks
        if c.kind != b"XMP "
    ]
    if parts[0][0] != b"VP8X":
        parts.insert(0, (b"VP8X", _build_webp_header(data, name)))
    header = bytearray(parts[0][1])
    header[8] = header[8] & ~_WEBP_FLAG | _WEBP_FLAG * (packet is not None)
    parts[0] = (b"VP8X", bytes(header))
    if packet is None and like is not None:
        kinds = {chunk.kind for chunk in split_chunks(like, name)[0]}
        parts = [part for part in parts if part[0] != b"VP8X" or b"VP8X" in kinds]
    elif packet is not None:
        place = next((at for at, c in enumerate(chunks) if c.kind == b"XMP "), len(parts))
        padded = packet + b"\0" * (len(packet) % 2)
        parts.insert(place, (b"XMP ", b"XMP " + struct.pack("<I", len(packet)) + padded))
    body = b"WEBP" + b"".join(part for _, part in parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body + data[end:]


def _build_webp_header(data: bytes, name: str) -> bytes:
    """Return the header of the extended format for a file of the simple one."""
    from restorepix.formats.webp import read_size, split_chunks

    chunks, _ = split_chunks(data, name)
    height, width = read_size(data, chunks, name)
    first = chunks[0]
    lossless = first.kind == b"VP8L"
    flags = _WEBP_ALPHA if lossless and data[first.start + 12] & _WEBP_ALPHA else 0
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"VP8X" + struct.pack("<I", 10) + bytes([flags, 0, 0, 0]) + sides


def _find_tiff(data: bytes, name: str) -> list[bytes]:
    from restorepix.formats.tiff_tags import TagName, TiffFile

    file = TiffFile(data, name)
    tag = file.read_directory(file.first).tags.get(TagName.XMP)
    if tag is None:
        return []
    if tag.kind not in _TIFF_KINDS or tag.size <= 8:
        raise OddPacketError
    return [file.read_bytes(tag)]


def _set_tiff(data: bytes, packet: bytes | None, name: str, like: bytes | None) -> bytes:
    from restorepix.formats.tiff_tags import TagName, TiffFile, TiffPatcher

    patcher = TiffPatcher(data, name)
    original = None if like is None else TiffFile(like, name)
    directory = patcher.read_directory(patcher.first)
    tag = directory.tags.get(TagName.XMP)
    if packet is None and original is not None:
        # The directory was moved to make room; its old one must say the same.
        old = patcher.read_directory(original.first)
        entries = patcher.copy_entries(directory)
        entries.pop(TagName.XMP)
        if entries != patcher.copy_entries(old) or directory.next != old.next:
            raise OddPacketError
        patcher.point_first_directory(original.first)
    elif packet is None:
        patcher.rewrite_directory(directory, {}, (TagName.XMP,))
    elif tag is None:
        patcher.extend_first_directory(TagName.XMP, _TIFF_KINDS[0], packet)
    elif original is not None:
        # The original's packet still stands where it was; only the entry leads elsewhere.
        place = original.read_directory(original.first).tags[TagName.XMP].place
        patcher.point_tag(tag, len(packet), place)
    else:
        patcher.point_tag(tag, len(packet), patcher.append(packet))
    return bytes(patcher.data)


def _find_heif(data: bytes, name: str) -> list[bytes]:
    from restorepix.formats.heif import list_metadata
    from restorepix.formats.heif_items import XMP_TYPE, parse_heif

    items = list_metadata(parse_heif(data, name))
    return [item.data for item in items if item.content_type == XMP_TYPE]


def _set_heif(data: bytes, packet: bytes | None, name: str, like: bytes | None) -> bytes:
    from restorepix.formats.heif import describe_picture, list_further, list_metadata, rebuild
    from restorepix.formats.heif_items import XMP_TYPE, parse_heif

    del like
    container = parse_heif(data, name)
    if list_further(container):
        raise OddPacketError
    metadata = [
        describe_picture(item.kind, item.data, item.content_type)
        for item in list_metadata(container)
        if item.content_type != XMP_TYPE
    ]
    if packet is not None:
        kinds = [item.content_type for item in list_metadata(container)]
        place = kinds.index(XMP_TYPE) if XMP_TYPE in kinds else len(metadata)
        metadata.insert(place, describe_picture(b"mime", packet, XMP_TYPE))
    return rebuild(container, metadata, [box for kind, box in container.boxes if kind == b"uuid"])
