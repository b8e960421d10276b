"""TIFF: patched, never rebuilt. Only strips and tiles that a hole touches are encoded again.

No library writes back a TIFF file with everything it holds: Pillow and OpenCV reduce layouts they
do not know and drop tags, tifffile writes new files. Here the original's bytes stay where they
are; a touched strip is overwritten in place when its new bytes fit, else put at the end, and only
StripOffsets and StripByteCounts are changed. So untouched pages, infrared planes, maker notes,
private tags and whatever else a scanner left are the same bytes at the same offsets.

JPEG-compressed pages cannot keep known pixels when encoded again. A page that is repaired becomes
Deflate-compressed, with exactly the pixels that decoding gave (``lossless-rewrite``); its old data
remains in the file as unused bytes.

A palette page keeps its ColorMap; repaired pixels get the nearest entry, as in PNG.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from restorepix.errors import UnreadableError, UnsupportedError
from restorepix.formats import tiff_codecs as codecs
from restorepix.formats.exif import apply_orientation, undo_orientation
from restorepix.formats.known import PLANES, Plane, compare_known, compare_parts
from restorepix.formats.limits import check_pixels
from restorepix.formats.samples import clip_mask, pack_bits, replace_indices, unpack_bits
from restorepix.formats.tiff_tags import Directory, TiffFile, TiffPatcher
from restorepix.photo import ColorModel, Encoded, Page, Photo

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from restorepix.photo import BoolMask

_NEW_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_FILL_ORDER, _STRIP_OFFSETS, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP = 266, 273, 274, 277, 278
_STRIP_COUNTS, _PLANAR, _PREDICTOR, _COLOR_MAP, _TILE_WIDTH, _TILE_HEIGHT = (
    279,
    284,
    317,
    320,
    322,
    323,
)
_TILE_OFFSETS, _TILE_COUNTS, _SUB_IFDS, _INK_SET, _EXTRA_SAMPLES = 324, 325, 330, 332, 338
_SAMPLE_FORMAT, _JPEG_TABLES, _ICC, _DNG_VERSION = 339, 347, 34675, 50706
_EXIF, _GPS, _INTEROPERABILITY = 34665, 34853, 40965
_YCBCR_TAGS = (529, 530, 531, 532)

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_RAW_PHOTOMETRICS = (32803, 34892)
"""Colour filter array and linear raw (TIFF/EP; DNG 1.4)."""
_RAW_COMPRESSIONS = (32767, 32769, 32770, 34713, 65000, 65535)
"""Sony, Epson, Samsung, Nikon, Kodak and Pentax sensor data."""
_ASSOCIATED, _UNASSOCIATED = 1, 2
_REDUCED, _MASK = 1, 4
"""Bits of NewSubfileType: a thumbnail of another page, a transparency mask of another page."""
_COLORS: Final[dict[int, tuple[ColorModel, int]]] = {
    _WHITE_IS_ZERO: ("grey", 1),
    _BLACK_IS_ZERO: ("grey", 1),
    _RGB: ("rgb", 3),
    _PALETTE: ("rgb", 1),
    _CMYK: ("cmyk", 4),
    _YCBCR: ("rgb", 3),
}
"""Photometric interpretation -> colour model and stored colour channels."""
_MAX_CHUNKS = 1 << 24
_MAX_TILE = 1 << 24
"""Pixels of a tile that are believed on a page of fewer pixels."""
_MAX_CHILDREN = 16
_MAX_DEPTH = 2
"""Directories below a page and how deep they are nested: EXIF holds Interoperability."""
_COMPRESSION_NAMES = {
    2: "CCITT",
    3: "CCITT fax",
    4: "CCITT fax",
    6: "old-style JPEG",
    34712: "JPEG 2000",
    34887: "LERC",
    34925: "LZMA",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
}


class _Chunk(NamedTuple):
    """A strip or tile: its number, the part of the picture it holds, its rows and columns."""

    number: int
    top: int
    left: int
    height: int
    width: int
    rows: int
    columns: int
    channels: slice


@dataclass(frozen=True, eq=False)
class _Layout:
    """What the tags of a page say about its samples."""

    directory: Directory
    height: int
    width: int
    channels: int
    bits: int
    floating: bool
    compression: int
    photometric: int
    planar: bool
    predictor: int
    rows: int
    """Rows of a strip or tile."""
    columns: int
    """Columns of a strip or tile."""
    tiled: bool
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    extras: tuple[int, ...]
    """Meaning of each channel beyond the colours."""
    orientation: int
    tables: bytes
    palette: npt.NDArray[np.uint16] | None
    icc: bytes | None

    @property
    def color(self) -> tuple[ColorModel, int]:
        return _COLORS[self.photometric]

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32 if self.floating else np.uint16 if self.bits > 8 else np.uint8)

    @property
    def chunk_channels(self) -> int:
        return 1 if self.planar else self.channels

    @property
    def row_bytes(self) -> int:
        """Bytes of an uncompressed row of a strip or tile."""
        return -(-self.columns * self.chunk_channels * self.bits // 8)

    def chunks(self) -> Iterator[_Chunk]:
        number = 0
        for plane in range(self.channels if self.planar else 1):
            channels = slice(plane, plane + 1) if self.planar else slice(0, self.channels)
            for top in range(0, self.height, self.rows):
                height = min(self.rows, self.height - top)
                rows = self.rows if self.tiled else height
                for left in range(0, self.width, self.columns):
                    width = min(self.columns, self.width - left)
                    yield _Chunk(number, top, left, height, width, rows, self.columns, channels)
                    number += 1


@dataclass(frozen=True, eq=False)
class _Stored:
    """What the writer needs again, one per page."""

    layout: _Layout
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
    layouts = [_read_layout(file, directory, n) for n, directory in _list_pages(file, chain)]
    # Channels beyond colours and alpha take memory too.
    sizes = (layout.height * layout.width * max(4, layout.channels) for layout in layouts)
    check_pixels(sum(sizes) // 4, max_mpixels, name)
    stored = [_Stored(layout, _decode_page(file, layout)) for layout in layouts]
    pages = tuple(_build_page(one) for one in stored)
    planes = [_list_planes(one) for one in stored]
    return Photo("tiff", pages, layouts[0].orientation, data, {"tiff": stored, PLANES: planes})


def _refuse_raw(file: TiffFile, chain: list[Directory]) -> None:
    below = [_read_children(file, directory, _SUB_IFDS) for directory in chain]
    for directory in chain + [child for children in below for child in children]:
        if (
            _DNG_VERSION in directory.tags
            or file.read_integer(directory, _PHOTOMETRIC, 1) in _RAW_PHOTOMETRICS
            or file.read_integer(directory, _COMPRESSION, 1) in _RAW_COMPRESSIONS
        ):
            raise UnsupportedError(
                f"{file.name}: camera RAW is not restored (it holds sensor data, not a picture). "
                "Develop it to a 16-bit TIFF first and restore that."
            )


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
        if not file.read_integer(directory, _NEW_SUBFILE, 0) & (_REDUCED | _MASK)
    ]
    return pages or [(1, chain[0])]


def _read_layout(file: TiffFile, directory: Directory, number: int) -> _Layout:
    def integer(tag: int, default: int) -> int:
        return file.read_integer(directory, tag, default)

    def refuse(what: str) -> UnsupportedError:
        return UnsupportedError(
            f"{file.name}, page {number}: {what} is not supported. "
            "Convert it to 8 or 16 bit RGB or grey TIFF first."
        )

    height, width, channels = integer(_HEIGHT, 0), integer(_WIDTH, 0), integer(_SAMPLES, 1)
    if min(height, width, channels) < 1 or max(height, width) >= 1 << 31 or channels > 64:
        raise file.corrupt(f"page {number} is {width}x{height} with {channels} channels")
    photometric, compression = integer(_PHOTOMETRIC, -1), integer(_COMPRESSION, 1)
    if compression not in codecs.COMPRESSIONS:
        raise refuse(f"{_COMPRESSION_NAMES.get(compression, f'number {compression}')} compression")
    if photometric not in _COLORS:
        raise refuse(f"photometric interpretation {photometric}")
    if photometric == _YCBCR and compression != codecs.JPEG:
        raise refuse("YCbCr without JPEG compression")
    depths = set(file.read_integers(directory, _BITS) or (1,))
    kinds = set(file.read_integers(directory, _SAMPLE_FORMAT) or (1,))
    bits, kind = min(depths), min(kinds)
    fine = (bits in (8, 16) or (bits < 8 and channels == 1)) and kind in (1, 4)
    floating = bits == 32 and kind == 3 and photometric in (_BLACK_IS_ZERO, _RGB, _CMYK)
    if len(depths) > 1 or len(kinds) > 1 or bits not in (1, 2, 4, 8, 16, 32):
        raise refuse(f"a depth of {'/'.join(map(str, sorted(depths)))} bit")
    if not (fine or floating):
        what = {1: "unsigned", 2: "signed", 3: "floating point"}.get(kind, "unknown")
        raise refuse(f"{bits} bit ({what}, {channels} channels)")
    color_channels = _COLORS[photometric][1]
    if channels < color_channels:
        raise file.corrupt(f"page {number} has {channels} channels for {color_channels} colours")
    if photometric == _CMYK and integer(_INK_SET, 1) != 1:
        raise refuse("a set of inks other than CMYK")
    if integer(_FILL_ORDER, 1) != 1:
        raise refuse("a reversed order of bits (FillOrder 2)")
    if compression == codecs.JPEG and bits != 8:
        raise refuse(f"JPEG compression at {bits} bit")
    predictor = 1
    if compression in (codecs.LZW, codecs.DEFLATE, codecs.OLD_DEFLATE):
        predictor = integer(_PREDICTOR, 1)
    if predictor not in ((1, 3) if floating else (1, 2) if bits >= 8 else (1,)):
        raise refuse(f"predictor {predictor} at {bits} bit")
    planar = integer(_PLANAR, 1) == 2 and channels > 1
    tiled = _TILE_OFFSETS in directory.tags
    rows = integer(_TILE_HEIGHT if tiled else _ROWS_PER_STRIP, 0 if tiled else height)
    columns = integer(_TILE_WIDTH, 0) if tiled else width
    if min(rows, columns) < 1:
        raise file.corrupt(f"page {number} has strips or tiles of {columns}x{rows}")
    if tiled and rows * columns > max(4 * height * width, _MAX_TILE):
        raise file.corrupt(f"page {number} of {width}x{height} has tiles of {columns}x{rows}")
    rows = rows if tiled else min(rows, height)
    across, down = -(-width // columns), -(-height // rows)
    wanted = across * down * (channels if planar else 1)
    offsets = file.read_integers(directory, _TILE_OFFSETS if tiled else _STRIP_OFFSETS)
    counts = file.read_integers(directory, _TILE_COUNTS if tiled else _STRIP_COUNTS)
    if not counts and compression == codecs.NONE:
        # Left out by some old writers; what it must be follows from the size.
        row_bytes = -(-columns * (1 if planar else channels) * bits // 8)
        counts = (
            tuple(
                row_bytes * (rows if tiled else min(rows, height - top))
                for _ in range(channels if planar else 1)
                for top in range(0, height, rows)
                for _ in range(across)
            )
            if wanted <= _MAX_CHUNKS
            else ()
        )
    if wanted > _MAX_CHUNKS or len(offsets) < wanted or len(counts) < wanted:
        raise file.corrupt(f"page {number} has {min(len(offsets), len(counts))} of {wanted} strips")
    extras = file.read_integers(directory, _EXTRA_SAMPLES)[: channels - color_channels]
    extras += (0,) * (channels - color_channels - len(extras))
    orientation = integer(_ORIENTATION, 1)
    tables, icc = directory.tags.get(_JPEG_TABLES), directory.tags.get(_ICC)
    return _Layout(
        directory=directory,
        height=height,
        width=width,
        channels=channels,
        bits=bits,
        floating=floating,
        compression=compression,
        photometric=photometric,
        planar=planar,
        predictor=predictor,
        rows=rows,
        columns=columns,
        tiled=tiled,
        offsets=offsets,
        counts=counts,
        extras=extras,
        orientation=orientation if 1 <= orientation <= 8 else 1,
        tables=b"" if tables is None else file.read_bytes(tables),
        palette=_read_palette(file, directory, bits) if photometric == _PALETTE else None,
        icc=None if icc is None else file.read_bytes(icc),
    )


def _read_palette(file: TiffFile, directory: Directory, bits: int) -> npt.NDArray[np.uint16]:
    """Return (2 ** bits, 3) colours."""
    values = file.read_integers(directory, _COLOR_MAP)
    if bits > 8 or len(values) != 3 << bits:
        raise file.corrupt(f"colour map of {len(values)} values for {bits} bit")
    palette = np.array(values, np.uint16).reshape(3, -1).T
    # Some writers store 8-bit colours in the 16-bit fields; libtiff tells them apart like this.
    return palette * np.uint16(257) if palette.max() < 256 else palette


def _decode_page(file: TiffFile, layout: _Layout) -> npt.NDArray[Any]:
    end = len(file.data)
    for start, size in zip(layout.offsets, layout.counts, strict=False):
        if start + size > end:
            raise file.corrupt(f"strip at byte {start} ends outside the file")
    samples = np.empty((layout.height, layout.width, layout.channels), layout.dtype)
    for chunk in layout.chunks():
        decoded = _decode_chunk(file, layout, chunk)
        bottom, right = chunk.top + chunk.height, chunk.left + chunk.width
        samples[chunk.top : bottom, chunk.left : right, chunk.channels] = decoded[
            : chunk.height, : chunk.width
        ]
    samples.flags.writeable = False
    return samples


def _decode_chunk(file: TiffFile, layout: _Layout, chunk: _Chunk) -> npt.NDArray[Any]:
    """Return (rows, columns, channels) samples of a strip or tile, the part beyond the page too."""
    start, size = layout.offsets[chunk.number], layout.counts[chunk.number]
    content = bytes(file.data[start : start + size])
    channels = layout.chunk_channels
    try:
        if layout.compression == codecs.JPEG:
            transform = layout.photometric == _YCBCR
            rows, columns = chunk.rows, chunk.columns
            decoded = codecs.decode_jpeg(content, layout.tables, rows, columns, transform)
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
    stored = packed.view(layout.dtype.newbyteorder(file.order)).astype(layout.dtype)
    samples = stored.reshape(chunk.rows, chunk.columns, channels)
    return codecs.undo_predictor(samples, layout.predictor)


def _encode_chunk(
    layout: _Layout, samples: npt.NDArray[Any], order: Literal["<", ">"], padding: bytes
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
    color, channels = layout.color
    colors = samples[..., :channels]
    if layout.palette is not None:
        colors = layout.palette[samples[..., 0]]
    elif layout.bits < 8:
        colors = colors * np.uint8(255 // ((1 << layout.bits) - 1))
    if layout.photometric == _WHITE_IS_ZERO:
        colors = ~colors
    alpha = _find_alpha(layout)
    return Page(
        apply_orientation(colors, layout.orientation),
        color,
        None if alpha is None else apply_orientation(samples[..., alpha], layout.orientation),
        layout.icc,
    )


def _find_alpha(layout: _Layout) -> int | None:
    """Return the channel that holds opacity."""
    for number, meaning in enumerate(layout.extras):
        if meaning in (_ASSOCIATED, _UNASSOCIATED) and layout.palette is None:
            return layout.color[1] + number
    return None


def _list_planes(stored: _Stored) -> tuple[Plane, ...]:
    layout, samples = stored.layout, stored.samples
    planes = [
        Plane(f"extra channel {channel + 1}", samples[..., channel], True)
        for channel in range(layout.color[1], layout.channels)
        if channel != _find_alpha(layout)
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
    shared = _find_shared([one.layout for one in stored])
    rewritten = False
    for one, page, pixels, mask in zip(stored, photo.pages, repaired, masks, strict=True):
        if pixels is None or mask is None or not mask.any():
            continue
        orientation = one.layout.orientation
        hole = undo_orientation(clip_mask(mask, (page.height, page.width)), orientation)
        samples = _replace_samples(one, undo_orientation(pixels, orientation), hole)
        if one.layout.compression == codecs.JPEG:
            _rewrite_page(patcher, one.layout, samples)
            rewritten = True
        else:
            _patch_page(patcher, one.layout, samples, hole, shared)
    return Encoded(bytes(patcher.data), "lossless-rewrite" if rewritten else "exact")


def _replace_samples(stored: _Stored, colors: npt.NDArray[Any], hole: BoolMask) -> npt.NDArray[Any]:
    """Return the page's stored samples, the hole's replaced by ``colors`` in the stored form.

    Args:
        stored: the page.
        colors: ``(H, W, C)`` as in the page, not oriented.
        hole: ``(H, W)`` bool, not oriented.
    """
    layout, samples = stored.layout, stored.samples.copy()
    old, new = samples[hole], colors[hole]
    if layout.palette is not None:
        new = replace_indices(old[:, 0], new, layout.palette)[:, None]
    elif layout.photometric == _WHITE_IS_ZERO:
        new = ~new
    if layout.palette is None and layout.bits < 8:
        top = (1 << layout.bits) - 1
        new = ((new.astype(np.uint16) * top + 127) // 255).astype(np.uint8)
    alpha = _find_alpha(layout)
    if alpha is not None and layout.extras[alpha - layout.color[1]] == _ASSOCIATED:
        # Colours are multiplied by opacity there, and cannot exceed it.
        new = np.minimum(new, old[:, alpha, None])
    old[:, : layout.color[1]] = new
    samples[hole] = old
    return samples


def _find_shared(layouts: list[_Layout]) -> set[tuple[int, int]]:
    """Return (offset, bytes) of strips that overlap another one: they are never overwritten."""
    spans = sorted(
        (start, size)
        for layout in layouts
        for start, size in zip(layout.offsets, layout.counts, strict=False)
    )
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
    layout: _Layout,
    samples: npt.NDArray[Any],
    hole: BoolMask,
    shared: set[tuple[int, int]],
) -> None:
    """Replace the strips and tiles that the hole touches."""
    offsets, counts = list(layout.offsets), list(layout.counts)
    for chunk in layout.chunks():
        rows = slice(chunk.top, chunk.top + chunk.height)
        columns = slice(chunk.left, chunk.left + chunk.width)
        touched = hole[rows, columns]
        if not touched.any() or chunk.channels.start >= layout.color[1]:
            continue
        start, size = offsets[chunk.number], counts[chunk.number]
        decoded = np.array(_decode_chunk(patcher, layout, chunk))
        inside = decoded[: chunk.height, : chunk.width]
        inside[touched] = samples[rows, columns, chunk.channels][touched]
        padding = b""
        if layout.bits < 8:
            content = bytes(patcher.data[start : start + size])
            padding = codecs.decompress(content, layout.compression, chunk.rows, layout.row_bytes)
        content = _encode_chunk(layout, decoded, patcher.order, padding)
        start, size = offsets[chunk.number], counts[chunk.number]
        if len(content) > size or (start, size) in shared:
            offsets[chunk.number] = patcher.append(content)
            counts[chunk.number] = len(content)
            continue
        patcher.data[start : start + len(content)] = content
        if layout.compression != codecs.NONE:
            # An uncompressed strip may be longer than its rows need, and stays so.
            counts[chunk.number] = len(content)
    _store_places(patcher, layout, offsets, counts)


def _store_places(
    patcher: TiffPatcher, layout: _Layout, offsets: list[int], counts: list[int]
) -> None:
    tags = layout.directory.tags
    if tuple(offsets) != layout.offsets:
        patcher.replace_integers(tags[_TILE_OFFSETS if layout.tiled else _STRIP_OFFSETS], offsets)
    if tuple(counts) != layout.counts:
        patcher.replace_integers(tags[_TILE_COUNTS if layout.tiled else _STRIP_COUNTS], counts)


def _rewrite_page(patcher: TiffPatcher, layout: _Layout, samples: npt.NDArray[Any]) -> None:
    """Store all samples of a JPEG page with Deflate compression."""
    dropped = (_JPEG_TABLES, *_YCBCR_TAGS)
    room = sum(tag in layout.directory.tags for tag in (*dropped, _PREDICTOR))
    predictor = 2 if room else 1
    plain = _replace_layout(layout, predictor)
    offsets, counts = list(layout.offsets), list(layout.counts)
    for chunk in layout.chunks():
        content = np.zeros((chunk.rows, chunk.columns, layout.chunk_channels), np.uint8)
        rows = slice(chunk.top, chunk.top + chunk.height)
        columns = slice(chunk.left, chunk.left + chunk.width)
        content[: chunk.height, : chunk.width] = samples[rows, columns, chunk.channels]
        encoded = _encode_chunk(plain, content, patcher.order, b"")
        offsets[chunk.number], counts[chunk.number] = patcher.append(encoded), len(encoded)
    _store_places(patcher, layout, offsets, counts)
    shorts = {_COMPRESSION: codecs.DEFLATE, _PHOTOMETRIC: plain.photometric}
    if predictor == 2:
        shorts[_PREDICTOR] = predictor
    directory = patcher.read_directory(layout.directory.start)
    patcher.rewrite_directory(directory, shorts, dropped)


def _replace_layout(layout: _Layout, predictor: int) -> _Layout:
    """Return the layout of a JPEG page as it is after :func:`_rewrite_page`."""
    photometric = _RGB if layout.photometric == _YCBCR else layout.photometric
    return replace(layout, compression=codecs.DEFLATE, photometric=photometric, predictor=predictor)


def verify_tiff(before: bytes, after: bytes, masks: Sequence[BoolMask | None], name: str) -> str:
    """Decode both files, compare all pages, channels and tags, and return the hash.

    All tags of all directories (those of EXIF, GPS and sub-pages too) must be there with the same
    bytes, apart from where strips are and, on a page that was JPEG-compressed, how they are
    compressed. Pages that are not decoded (thumbnails) must have the same strips.

    Args:
        before: the original file.
        after: the restored file.
        masks: for each page ``(H, W)`` bool as displayed, True = hole, or None.
        name: what to call the file in messages.

    Raises:
        PreservationError: something known differs.
    """
    old_file, new_file = TiffFile(before, name), TiffFile(after, name)
    if (old_file.order, old_file.big) != (new_file.order, new_file.big):
        compare_parts({"header": before[:4]}, {"header": after[:4]}, name)
    compare_parts(_list_parts(old_file, new_file), _list_parts(new_file, old_file), name)
    unlimited = float("inf")
    old, new = read_tiff(before, name, unlimited), read_tiff(after, name, unlimited)
    return compare_known(old, new, masks, name)


_PLACES = (_STRIP_OFFSETS, _STRIP_COUNTS, _TILE_OFFSETS, _TILE_COUNTS)


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
                file.read_integer(directory, _COMPRESSION, 1),
                other.read_integer(others[number - 1], _COMPRESSION, 1),
            )
            if set(compressions) == {codecs.JPEG, codecs.DEFLATE}:
                skipped = (_COMPRESSION, _PHOTOMETRIC, _PREDICTOR, _JPEG_TABLES, *_YCBCR_TAGS)
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
        pointer = number in (_SUB_IFDS, _EXIF, _GPS, _INTEROPERABILITY) and depth < _MAX_DEPTH
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
    for places, sizes in ((_STRIP_OFFSETS, _STRIP_COUNTS), (_TILE_OFFSETS, _TILE_COUNTS)):
        starts = file.read_integers(directory, places)
        for start, size in zip(starts, file.read_integers(directory, sizes), strict=False):
            hashes.append(_digest(file, start, size, end))
    return b"".join(hashes)


def _digest(file: TiffFile, start: int, size: int, end: int) -> bytes:
    if start + size > end:
        return b"outside the file"
    return hashlib.sha256(memoryview(file.data)[start : start + size]).digest()
