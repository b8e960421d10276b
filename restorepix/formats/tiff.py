"""TIFF: patched, never rebuilt. Only strips and tiles that a hole touches are encoded again.

No library writes back a TIFF file with everything it holds: Pillow and OpenCV reduce layouts they
do not know and drop tags, tifffile writes new files. Here the original's bytes stay where they
are; touched strips are packed into the room that they had, what does not fit is put at the end,
and only StripOffsets and StripByteCounts are changed. So untouched pages, infrared planes, maker
notes, private tags and whatever else a scanner left are the same bytes at the same offsets.

JPEG-compressed pages cannot keep known pixels when encoded again. A page that is repaired becomes
Deflate-compressed, with exactly the pixels that decoding gave (``lossless-rewrite``); its old data
remains in the file as unused bytes.

A palette page keeps its ColorMap; repaired pixels get the nearest entry, as in PNG.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from restorepix.errors import UnreadableError, UnsupportedError
from restorepix.formats import tiff_codecs as codecs
from restorepix.formats.exif import apply_orientation, undo_orientation
from restorepix.formats.known import PLANES, Plane
from restorepix.formats.limits import check_pixels
from restorepix.formats.samples import clip_mask, pack_bits, replace_indices, unpack_bits
from restorepix.formats.tiff_layout import (
    Chunk,
    Layout,
    Photometric,
    place_tags,
    read_layout,
)
from restorepix.formats.tiff_tags import Directory, Tag, TagName, TiffFile, TiffPatcher
from restorepix.photo import Encoded, Page, Photo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from restorepix.photo import BoolMask

_RAW_PHOTOMETRICS = (32803, 34892)
"""Colour filter array and linear raw (TIFF/EP; DNG 1.4)."""
_RAW_COMPRESSIONS = (32767, 32769, 32770, 34713, 65000, 65535)
"""Sony, Epson, Samsung, Nikon, Kodak and Pentax sensor data."""
_REDUCED, _MASK = 1, 4
"""Bits of NewSubfileType: a thumbnail of another page, a transparency mask of another page."""
_MAX_CHILDREN = 16
_MAX_DEPTH = 2
"""Directories below a page and how deep they are nested: EXIF holds Interoperability."""
_PLACES = (*place_tags(tiled=False), *place_tags(tiled=True))
_POINTERS = (TagName.SUB_IFDS, TagName.EXIF, TagName.GPS, TagName.INTEROPERABILITY)
_OF_JPEG = (
    TagName.JPEG_TABLES,
    TagName.YCBCR_COEFFICIENTS,
    TagName.YCBCR_SUBSAMPLING,
    TagName.YCBCR_POSITIONING,
    TagName.REFERENCE_BLACK_WHITE,
)
"""Tags that mean nothing on a page that is no longer JPEG-compressed."""


@dataclass(frozen=True, eq=False)
class _Stored:
    """What the writer needs again, one per page."""

    layout: Layout
    samples: npt.NDArray[Any]
    """(H, W, channels) as stored."""


def read_tiff(data: bytes, name: str, max_mpixels: float) -> Photo:
    """Decode all pages of a TIFF file at native depth, each as displayed (its own orientation).

    Pages are uint8, uint16 or float32; grey, RGB or CMYK. White-is-zero grey is turned to black-is-
    zero, 1, 2 and 4 bit are scaled to 0..255, and both are exactly undone on writing. The first
    alpha channel becomes ``alpha``; other extra channels (infrared) are kept as they are.
    Thumbnails and transparency masks of other pages are kept, but are no pages.

    Args:
        data: the whole file.
        name: what to call the file in messages.
        max_mpixels: largest number of million pixels, all pages together.

    Raises:
        UnreadableError: the file is truncated or corrupt.
        UnsupportedError: a page is of a kind that is not restored, or the file is camera RAW.
        TooLargeError: it has more pixels than ``max_mpixels``.
    """
    file = TiffFile(data, name)
    chain = file.read_chain()
    _refuse_raw(file, chain)
    layouts = [read_layout(file, directory, n) for n, directory in _list_pages(file, chain)]
    # Channels beyond colours and alpha take memory too.
    sizes = (layout.height * layout.width * max(4, layout.channels) for layout in layouts)
    check_pixels(sum(sizes) // 4, max_mpixels, name)
    _refuse_overlaps(file, chain, layouts)
    stored = [_Stored(layout, _decode_page(file, layout)) for layout in layouts]
    pages = tuple(_build_page(one) for one in stored)
    planes = [_list_planes(one) for one in stored]
    return Photo("tiff", pages, layouts[0].orientation, data, {"tiff": stored, PLANES: planes})


def _refuse_raw(file: TiffFile, chain: list[Directory]) -> None:
    below = [_read_children(file, directory, TagName.SUB_IFDS) for directory in chain]
    for directory in chain + [child for children in below for child in children]:
        if (
            TagName.DNG_VERSION in directory.tags
            or file.read_integer(directory, TagName.PHOTOMETRIC, 1) in _RAW_PHOTOMETRICS
            or file.read_integer(directory, TagName.COMPRESSION, 1) in _RAW_COMPRESSIONS
        ):
            raise UnsupportedError(
                f"{file.name}: camera RAW is not restored (it holds sensor data, not a picture). "
                "Develop it to a 16-bit TIFF first and restore that."
            )


def _refuse_overlaps(file: TiffFile, chain: list[Directory], layouts: list[Layout]) -> None:
    """Refuse a file in which values or strips lie where it is said where everything is.

    That happens when a wrong count or type makes an offset of what was a value. They cannot be
    kept where strips move: the directory, taken for a tag's values, would be others.
    """
    strips = {span for layout in layouts for span in _list_strips(layout)}
    tags = _list_values(file, chain)
    spans = {(0, _measure_header(file), "header")}
    spans |= {(tag.place, tag.size, f"tag {tag.number}") for tag in tags}
    if any(one.compression != codecs.NONE for one in layouts) or strips & _find_shared(
        file, layouts
    ):
        spans |= {(directory.start, directory.size, "directory") for directory in chain}
        # What a compressed strip has beyond its end mark says nothing, and some writers count more.
        plain = [one for one in layouts if one.compression == codecs.NONE]
        spans |= {(*span, "strip") for layout in plain for span in _list_strips(layout)}
    fixed = {"header", "directory"}
    places = {f"tag {number}" for number in _PLACES}
    reach = {"fixed": 0, "places": 0, "others": 0}
    for start, size, what in sorted(spans):
        kind = "fixed" if what in fixed else "places" if what in places else "others"
        if any(start < end for other, end in reach.items() if other != kind or kind == "places"):
            raise file.corrupt(f"a {what} at byte {start} lies over a directory or its values")
        reach[kind] = max(reach[kind], start + size)


def _measure_header(file: TiffFile) -> int:
    return 16 if file.big else 8


def _list_strips(layout: Layout) -> list[tuple[int, int]]:
    """Return offset and bytes of each strip or tile."""
    return list(zip(layout.grid.offsets, layout.grid.counts, strict=False))


def _list_values(file: TiffFile, directories: list[Directory], depth: int = 0) -> list[Tag]:
    """Return the tags of directories and of those below that have values in a place of their own.

    Values outside of the file are left out.
    """
    inline = 8 if file.big else 4
    found: list[Tag] = []
    for directory in directories:
        for number, tag in directory.tags.items():
            if tag.size > inline and tag.place + tag.size <= len(file.data):
                found.append(tag)
            if number in _POINTERS and depth < _MAX_DEPTH:
                found += _list_values(file, _read_children(file, directory, number), depth + 1)
    return found


def _read_children(file: TiffFile, directory: Directory, number: int) -> list[Directory]:
    """Return the directories that a tag points to; those that cannot be read are left out."""
    children: list[Directory] = []
    tag = directory.tags.get(number)
    if tag is None or tag.values > _MAX_CHILDREN:
        return children
    try:
        children.extend(map(file.read_directory, file.read_integers(directory, number)))
    except UnreadableError:
        # Kept as bytes all the same: a damaged side directory is no reason to refuse the pages.
        return children
    return children


def _list_pages(file: TiffFile, chain: list[Directory]) -> list[tuple[int, Directory]]:
    """Return page number and directory of every picture in its own right."""
    pages = [
        (number, directory)
        for number, directory in enumerate(chain, 1)
        if not file.read_integer(directory, TagName.NEW_SUBFILE_TYPE, 0) & (_REDUCED | _MASK)
    ]
    return pages or [(1, chain[0])]


def _decode_page(file: TiffFile, layout: Layout) -> npt.NDArray[Any]:
    stored = _view_page(file, layout)
    if stored is not None:
        return stored
    samples = np.empty((layout.height, layout.width, layout.channels), layout.dtype)
    for chunk in layout.chunks():
        decoded = _decode_chunk(file, layout, chunk)
        samples[(*chunk.part, chunk.channels)] = decoded[: chunk.height, : chunk.width]
    samples.flags.writeable = False
    return samples


def _view_page(file: TiffFile, layout: Layout) -> npt.NDArray[Any] | None:
    """Return a page that stands in the file as it is in memory, or None where it does not."""
    grid, order = layout.grid, {"<": "little", ">": "big"}[file.order]
    row_bytes = layout.width * layout.channels * layout.dtype.itemsize
    together = all(
        start + size == after for start, size, after in zip(grid.offsets, grid.counts,
                                                            grid.offsets[1:], strict=False)
    )  # fmt: skip
    if (
        not _is_plain(layout)
        or grid.tiled
        or not together
        or layout.chunk_channels != layout.channels
        or (order != sys.byteorder and layout.dtype.itemsize > 1)
        or sum(grid.counts) != layout.height * row_bytes
        or grid.offsets[0] + sum(grid.counts) > len(file.data)
        or isinstance(file.data, bytearray)
    ):
        return None
    shape = (layout.height, layout.width, layout.channels)
    count = layout.height * layout.width * layout.channels
    return np.frombuffer(file.data, layout.dtype, count, grid.offsets[0]).reshape(shape)


def _decode_chunk(file: TiffFile, layout: Layout, chunk: Chunk) -> npt.NDArray[Any]:
    """Return (rows, columns, channels) samples of a strip or tile, the part beyond the page too."""
    start, size = layout.grid.offsets[chunk.number], layout.grid.counts[chunk.number]
    content = memoryview(file.data)[start : start + size]
    channels = layout.chunk_channels
    try:
        if layout.compression == codecs.JPEG:
            transform = layout.photometric == Photometric.YCBCR
            rows, columns = chunk.rows, chunk.columns
            decoded = codecs.decode_jpeg(bytes(content), layout.tables, rows, columns, transform)
            if decoded.shape[2] != channels:
                raise codecs.CodecError(f"JPEG with {decoded.shape[2]} components")
            return decoded
        plain = codecs.decompress(content, layout.compression, chunk.rows, layout.row_bytes)
    except codecs.CodecError as error:
        raise file.corrupt(f"strip {chunk.number + 1} at byte {start}: {error}") from error
    packed = np.frombuffer(plain, np.uint8).reshape(chunk.rows, -1)
    if layout.bits < 8:
        return unpack_bits(packed, chunk.columns, layout.bits)[..., None]
    if layout.predictor == 3:
        return codecs.undo_float_predictor(packed, channels)
    stored = packed.view(layout.dtype.newbyteorder(file.order)).astype(layout.dtype, copy=False)
    samples = stored.reshape(chunk.rows, chunk.columns, channels)
    return codecs.undo_predictor(samples, layout.predictor)


def _encode_chunk(
    layout: Layout, samples: npt.NDArray[Any], order: Literal["<", ">"], padding: bytes
) -> bytes:
    """Return the bytes of a strip or tile, the inverse of :func:`_decode_chunk`.

    Args:
        layout: its page's.
        samples: ``(rows, columns, channels)``.
        order: ``<`` or ``>``.
        padding: the strip's uncompressed bytes, whose unused bits are kept; only below 8 bit.
    """
    rows = len(samples)
    if layout.bits < 8:
        unused = np.frombuffer(padding, np.uint8).reshape(rows, -1)
        packed = pack_bits(samples[..., 0], layout.bits, unused)
    elif layout.predictor == 3:
        packed = codecs.apply_float_predictor(samples)
    else:
        packed = codecs.apply_predictor(samples, layout.predictor)
        packed = np.ascontiguousarray(packed, layout.dtype.newbyteorder(order))
    return codecs.compress(packed.tobytes(), layout.compression, rows, layout.row_bytes)


def _build_page(stored: _Stored) -> Page:
    layout, samples = stored.layout, stored.samples
    colors = samples[..., : layout.color_channels]
    if layout.palette is not None:
        colors = layout.palette[samples[..., 0]]
    elif layout.bits < 8:
        colors = colors * np.uint8(255 // ((1 << layout.bits) - 1))
    if layout.photometric == Photometric.WHITE_IS_ZERO:
        colors = ~colors
    alpha = layout.alpha
    return Page(
        apply_orientation(colors, layout.orientation),
        layout.color,
        None if alpha is None else apply_orientation(samples[..., alpha], layout.orientation),
        layout.icc,
    )


def _list_planes(stored: _Stored) -> tuple[Plane, ...]:
    layout, samples = stored.layout, stored.samples
    planes = [
        Plane(f"extra channel {channel + 1}", samples[..., channel], True)
        for channel in range(layout.color_channels, layout.channels)
        if channel != layout.alpha
    ]
    if layout.palette is not None:
        planes.insert(0, Plane("palette indices", samples[..., 0], False))
    return tuple(
        Plane(p.name, apply_orientation(p.samples, layout.orientation), p.everywhere)
        for p in planes
    )


def write_tiff(
    photo: Photo,
    repaired: Sequence[npt.NDArray[Any] | None],
    masks: Sequence[BoolMask | None],
    name: str,
) -> Encoded:
    """Encode a TIFF file: the original's bytes, with the strips and tiles under holes replaced.

    Args:
        photo: from :func:`read_tiff`.
        repaired: for each page an array of the shape and dtype of its pixels, or None.
        masks: for each page ``(H, W)`` bool as displayed, True = hole, or None.
        name: what to call the file in messages.

    Raises:
        UnsupportedError: a classic TIFF file would grow beyond 4 GiB.
    """
    stored: list[_Stored] = photo.extra["tiff"]
    patcher = TiffPatcher(photo.source, name)
    original = TiffFile(photo.source, name)
    shared = _find_shared(original, [one.layout for one in stored])
    rewritten = False
    for one, page, pixels, mask in zip(stored, photo.pages, repaired, masks, strict=True):
        if pixels is None or mask is None or not mask.any():
            continue
        orientation = one.layout.orientation
        hole = undo_orientation(clip_mask(mask, (page.height, page.width)), orientation)
        colors = undo_orientation(pixels, orientation)
        if one.layout.compression == codecs.JPEG:
            _rewrite_page(patcher, one, colors, hole)
            rewritten = True
        else:
            _patch_page(patcher, one, colors, hole, original, shared)
    return Encoded(bytes(patcher.data), "lossless-rewrite" if rewritten else "exact")


def _fill_chunk(
    stored: _Stored,
    chunk: Chunk,
    inside: npt.NDArray[Any],
    colors: npt.NDArray[Any],
    hole: BoolMask,
) -> None:
    """Put repaired colours, in the stored form, into the samples of a strip or tile.

    Args:
        stored: its page.
        chunk: the strip or tile.
        inside: ``(height, width, channels)`` its samples within the page, changed in place.
        colors: ``(H, W, C)`` of the page, as in its pixels, not oriented.
        hole: ``(H, W)`` bool of the page, not oriented.
    """
    layout, touched = stored.layout, hole[chunk.part]
    old, new = stored.samples[chunk.part][touched], colors[chunk.part][touched]
    if layout.palette is not None:
        new = replace_indices(old[:, 0], new, layout.palette)[:, None]
    elif layout.photometric == Photometric.WHITE_IS_ZERO:
        new = ~new
    if layout.palette is None and layout.bits < 8:
        top = (1 << layout.bits) - 1
        new = ((new.astype(np.uint16) * top + 127) // 255).astype(np.uint8)
    if layout.alpha_is_associated:
        # Colours are multiplied by opacity there, and cannot exceed it.
        new = np.minimum(new, old[:, layout.alpha, None])
    old[:, : layout.color_channels] = new
    inside[touched] = old[:, chunk.channels]


def _find_shared(file: TiffFile, layouts: list[Layout]) -> set[tuple[int, int]]:
    """Return (offset, bytes) of strips that overlap another one, a directory or a tag's values.

    They are never overwritten.
    """
    chain = file.read_chain()
    spans = [(0, _measure_header(file)), *((one.start, one.size) for one in chain)]
    spans += [(tag.place, tag.size) for tag in _list_values(file, chain)]
    spans = sorted(spans + [span for layout in layouts for span in _list_strips(layout)])
    shared: set[tuple[int, int]] = set()
    reach, owner = 0, (0, 0)
    for span in spans:
        if span[0] < reach:
            shared |= {span, owner}
        if sum(span) > reach:
            reach, owner = sum(span), span
    return shared


def _patch_page(
    patcher: TiffPatcher,
    stored: _Stored,
    colors: npt.NDArray[Any],
    hole: BoolMask,
    original: TiffFile,
    shared: set[tuple[int, int]],
) -> None:
    """Replace the strips and tiles that the hole touches.

    Args:
        patcher: the new file.
        stored: the page.
        colors: ``(H, W, C)`` of the page, as in its pixels, not oriented.
        hole: ``(H, W)`` bool of the page, not oriented.
        original: where strips are read: in the new file they may be overwritten already.
        shared: strips that are never overwritten.
    """
    layout = stored.layout
    offsets, counts = list(layout.grid.offsets), list(layout.grid.counts)
    touched = [
        chunk
        for chunk in layout.chunks()
        if chunk.channels.start < layout.color_channels and hole[chunk.part].any()
    ]
    touched.sort(key=lambda chunk: offsets[chunk.number])
    spans = [(offsets[chunk.number], counts[chunk.number]) for chunk in touched]
    room = _Room(patcher, [span for span in spans if span not in shared])
    for chunk, (start, size) in zip(touched, spans, strict=True):
        is_shared = (start, size) in shared
        if _is_plain(layout) and not is_shared:
            # Uncompressed pages often are one strip, of which three copies would be made below.
            samples = np.frombuffer(
                patcher.data,
                layout.dtype.newbyteorder(patcher.order),
                chunk.rows * chunk.columns * layout.chunk_channels,
                start,
            ).reshape(chunk.rows, chunk.columns, layout.chunk_channels)
            _fill_chunk(stored, chunk, samples[: chunk.height, : chunk.width], colors, hole)
            del samples  # lest the file cannot grow
            continue
        decoded = np.array(_decode_chunk(original, layout, chunk))
        _fill_chunk(stored, chunk, decoded[: chunk.height, : chunk.width], colors, hole)
        padding = b""
        if layout.bits < 8:
            content = bytes(original.data[start : start + size])
            plain = codecs.decompress(content, layout.compression, chunk.rows, layout.row_bytes)
            padding = bytes(plain)
        content = _encode_chunk(layout, decoded, patcher.order, padding)
        if layout.compression == codecs.NONE and not is_shared:
            # An uncompressed strip may be longer than its rows need, and stays so.
            patcher.data[start : start + len(content)] = content
            continue
        place = None if is_shared else room.take(start, len(content))
        if place is None:
            place = patcher.append(content)
        else:
            patcher.data[place : place + len(content)] = content
        offsets[chunk.number], counts[chunk.number] = place, len(content)
    _store_places(patcher, layout, offsets, counts)


class _Room:
    """Hands out the room of touched strips again.

    New strips often are a little longer than the old ones. Where neighbours are touched too, they
    share their room, so that a file does not grow by all of them; the end of the file gives way.
    """

    def __init__(self, patcher: TiffPatcher, spans: list[tuple[int, int]]) -> None:
        """Take offset and bytes of touched strips, in order, none of which overlap."""
        self._patcher = patcher
        self._ends: dict[int, int] = {}
        """From the start of each strip to the end of the last one without a gap between."""
        for start, size in reversed(spans):
            self._ends[start] = self._ends.get(start + size, start + size)
        self._at, self._end = 0, 0

    def take(self, start: int, size: int) -> int | None:
        """Return a place for the new bytes of a strip, or None where there is none.

        Args:
            start: where its old bytes stand; not before those of any strip that was asked for.
            size: of the new bytes.

        Raises:
            UnsupportedError: a classic TIFF file would grow beyond 4 GiB.
        """
        if start >= self._end:
            self._at, self._end = start, self._ends[start]
        missing = self._at + size - self._end
        if missing > 0 and self._end == len(self._patcher.data):
            self._patcher.append(bytes(missing))
            self._end = len(self._patcher.data)
        elif missing > 0:
            return None
        self._at += size
        return self._at - size


def _is_plain(layout: Layout) -> bool:
    """Return whether the bytes of strips and tiles are the samples themselves."""
    return layout.compression == codecs.NONE and layout.bits >= 8 and layout.predictor == 1


def _store_places(
    patcher: TiffPatcher, layout: Layout, offsets: list[int], counts: list[int]
) -> None:
    tags, (places, sizes) = layout.directory.tags, place_tags(layout.grid.tiled)
    if tuple(offsets) != layout.grid.offsets:
        patcher.replace_integers(tags[places], offsets)
    if tuple(counts) != layout.grid.counts:
        patcher.replace_integers(tags[sizes], counts)


def _rewrite_page(
    patcher: TiffPatcher, stored: _Stored, colors: npt.NDArray[Any], hole: BoolMask
) -> None:
    """Store all samples of a JPEG page with Deflate compression."""
    layout = stored.layout
    room = any(tag in layout.directory.tags for tag in (*_OF_JPEG, TagName.PREDICTOR))
    photometric = layout.photometric
    if photometric == Photometric.YCBCR:
        photometric = Photometric.RGB
    plain = replace(
        layout,
        compression=codecs.DEFLATE,
        photometric=photometric,
        predictor=2 if room else 1,
    )
    offsets, counts = list(layout.grid.offsets), list(layout.grid.counts)
    for chunk in layout.chunks():
        samples = np.zeros((chunk.rows, chunk.columns, layout.chunk_channels), np.uint8)
        inside = samples[: chunk.height, : chunk.width]
        inside[...] = stored.samples[(*chunk.part, chunk.channels)]
        if chunk.channels.start < layout.color_channels:
            _fill_chunk(stored, chunk, inside, colors, hole)
        encoded = _encode_chunk(plain, samples, patcher.order, b"")
        offsets[chunk.number], counts[chunk.number] = patcher.append(encoded), len(encoded)
    _store_places(patcher, layout, offsets, counts)
    shorts: dict[int, int] = {
        TagName.COMPRESSION: codecs.DEFLATE,
        TagName.PHOTOMETRIC: photometric,
    }
    if room:
        shorts[TagName.PREDICTOR] = plain.predictor
    directory = patcher.read_directory(layout.directory.start)
    patcher.rewrite_directory(directory, shorts, _OF_JPEG)


def list_parts(data: bytes, name: str, other: bytes) -> list[tuple[str, bytes]]:
    """Return label and content of everything but the strips of pages that are decoded.

    All tags of all directories (those of EXIF, GPS and sub-pages too), apart from where strips
    are and, on a page that is JPEG-compressed in one of two files, how they are compressed; of
    pages that are not decoded (thumbnails) the strips too.

    Args:
        data: the whole file.
        name: what to call the file in messages.
        other: the file that it is compared with.
    """
    file = TiffFile(data, name)
    header = ("header", f"{file.order}{file.big}".encode())
    return [header, *_list_parts(file, TiffFile(other, name))]


def _list_parts(file: TiffFile, other: TiffFile) -> list[tuple[str, bytes]]:
    """Return label and content of everything that must be the same in two files."""
    parts: list[tuple[str, bytes]] = []
    chain, others = file.read_chain(), other.read_chain()
    decoded = {number for number, _ in _list_pages(file, chain)}
    # A damaged tag may point beyond the end of the original, where the output has new data.
    end = min(len(file.data), len(other.data))
    for number, directory in enumerate(chain, 1):
        skipped: tuple[int, ...] = ()
        if number not in decoded:
            parts.append((f"page {number}, data", _join_strips(file, directory, end)))
        elif number <= len(others):
            compressions = (
                file.read_integer(directory, TagName.COMPRESSION, 1),
                other.read_integer(others[number - 1], TagName.COMPRESSION, 1),
            )
            if set(compressions) == {codecs.JPEG, codecs.DEFLATE}:
                skipped = (TagName.COMPRESSION, TagName.PHOTOMETRIC, TagName.PREDICTOR, *_OF_JPEG)
        parts += _list_tags(file, directory, f"page {number}", skipped, end, 0)
    return parts


def _list_tags(
    file: TiffFile,
    directory: Directory,
    label: str,
    skipped: tuple[int, ...],
    end: int,
    depth: int,
) -> list[tuple[str, bytes]]:
    parts: list[tuple[str, bytes]] = []
    for number, tag in sorted(directory.tags.items()):
        if number in _PLACES or number in skipped:
            continue
        where = f"{label}, tag {number}"
        pointer = number in _POINTERS and depth < _MAX_DEPTH
        if not pointer:
            parts.append((where, b"%d:" % tag.kind + _digest(file, tag.place, tag.size, end)))
            continue
        for child in _read_children(file, directory, number):
            parts.append((f"{where}, data", _join_strips(file, child, end)))
            parts += _list_tags(file, child, where, (), end, depth + 1)
    return parts


def _join_strips(file: TiffFile, directory: Directory, end: int) -> bytes:
    """Return hashes of the strips of a page that is not decoded."""
    hashes: list[bytes] = []
    for places, sizes in (place_tags(tiled=False), place_tags(tiled=True)):
        starts = file.read_integers(directory, places)
        for start, size in zip(starts, file.read_integers(directory, sizes), strict=False):
            hashes.append(_digest(file, start, size, end))
    return b"".join(hashes)


def _digest(file: TiffFile, start: int, size: int, end: int) -> bytes:
    if start + size > end:
        return b"outside the file"
    return hashlib.sha256(memoryview(file.data)[start : start + size]).digest()
