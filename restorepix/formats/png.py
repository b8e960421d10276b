"""PNG, at its native depth: 1 to 16 bit, grey, colour, palette, alpha, interlaced.

No library at hand gives a PNG's stored samples: Pillow reduces 16-bit colour to 8, OpenCV expands
palettes and small depths and drops the chunks. So chunks, interlacing and samples are handled
here, and only the two slow steps are lent from libraries: inflating from zlib, and undoing the
row filters from OpenCV's libpng, which gets the filtered rows of any PNG dressed up as a plain
picture of the same bytes per pixel.

Writing replaces the IDAT chunks and nothing else. Each row keeps its filter type, so the file
keeps its size; rows away from holes keep even their filtered bytes. Known samples are copied from
the original by construction.

A palette picture stays one, and its palette chunks stay as they are: pixels of known area keep
their index, repaired pixels get the nearest entry of the same opacity. New entries are not added:
they would change PLTE, and a photograph squeezed into a palette holds its neighbours' colours.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from restorepix.errors import UnreadableError, UnsupportedError
from restorepix.formats.exif import (
    EXIF,
    XMP,
    apply_orientation,
    read_orientation,
    undo_orientation,
)
from restorepix.formats.known import PLANES, Plane
from restorepix.formats.limits import check_pixels
from restorepix.formats.samples import clip_mask, look_up, pack_bits, replace_indices, unpack_bits
from restorepix.photo import Encoded, Page, Photo

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from restorepix.photo import BoolMask

UInt8 = npt.NDArray[np.uint8]

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)
"""Top, left, row step, column step of the seven passes (PNG specification, 8.2)."""

_MAX_WIDTH = 1_000_000
"""libpng's own limit on columns, here on bytes per row over bytes per pixel."""
_BAND_BYTES = 1 << 25
"""Filtered bytes handled at a time."""
_MAX_PROFILE_BYTES = 1 << 26
"""An ICC profile that inflates to more than this is not believed."""
_IDAT_BYTES = 1 << 20
_XMP_KEYWORD = b"XML:com.adobe.xmp\0"
_NEW_FILTER = 4
"""Of every row of a new file: Paeth, within 2 % of choosing row by row on photographs."""
_NEW_LEVEL = 6


class Chunk(NamedTuple):
    """A chunk's name and where it stands in the file, length field and checksum included."""

    kind: bytes
    start: int
    end: int


class _Pass(NamedTuple):
    """A rectangle of the picture that is filtered on its own: one of seven, or all of it."""

    rows: slice
    columns: slice
    height: int
    width: int


@dataclass(frozen=True, eq=False)
class _Stored:
    """What the writer needs again."""

    header: _Header
    chunks: tuple[Chunk, ...]
    samples: npt.NDArray[Any]
    """(H, W, C) as stored: uint8 or uint16, palette indices, alpha last."""
    palette: UInt8 | None
    palette_alpha: UInt8 | None
    key: npt.NDArray[Any] | None
    """(C,) the colour that tRNS makes transparent."""


@dataclass(frozen=True)
class _Header:
    """IHDR."""

    width: int
    height: int
    bits: int
    color: int
    interlaced: bool

    @property
    def channels(self) -> int:
        return _CHANNELS[self.color]

    @property
    def pixel_bytes(self) -> int:
        """Bytes between a byte and its left neighbour in the row filters, at least 1."""
        return max(1, self.channels * self.bits // 8)

    def row_bytes(self, width: int) -> int:
        return -(-width * self.channels * self.bits // 8)

    def passes(self) -> Iterator[_Pass]:
        steps = _ADAM7 if self.interlaced else ((0, 0, 1, 1),)
        for top, left, down, right in steps:
            height = -(-(self.height - top) // down)
            width = -(-(self.width - left) // right)
            if height > 0 and width > 0:
                yield _Pass(slice(top, None, down), slice(left, None, right), height, width)


def read_png(data: bytes, name: str, max_mpixels: float) -> Photo:
    """Decode a PNG: one page of uint8 or uint16 samples as displayed (eXIf orientation applied).

    Grey of 1, 2 and 4 bit is scaled to 0..255, which is exactly undone on writing. A palette page
    has colours of its entries; a tRNS chunk becomes alpha.

    Args:
        data: the whole file.
        name: what to call the file in messages.
        max_mpixels: largest number of million pixels.

    Raises:
        UnreadableError: the file is truncated or corrupt.
        UnsupportedError: it is an animation, or in Apple's private variant.
        TooLargeError: it has more pixels than ``max_mpixels``.
    """
    chunks = split_chunks(data, name)
    header = _read_header(data, chunks, name)
    check_pixels(header.width * header.height, max_mpixels, name)
    kinds = {chunk.kind for chunk in chunks}
    if b"acTL" in kinds:
        raise UnsupportedError(
            f"{name}: animated PNG is not restored. Save its frames as single pictures first."
        )
    if header.row_bytes(header.width) // header.pixel_bytes > _MAX_WIDTH:
        raise UnsupportedError(f"{name}: {header.width} columns; at most {_MAX_WIDTH} are read.")
    samples = _decode_samples(data, chunks, header, name)
    stored = _Stored(header, chunks, samples, *_read_palette(data, chunks, header, name))
    exif = _content(data, chunks, b"eXIf")
    orientation = read_orientation(exif)
    xmp = _read_xmp(data, chunks)
    page = _build_page(stored, _read_profile(data, chunks), orientation)
    indices = Plane("palette indices", apply_orientation(samples[..., 0], orientation), False)
    planes = [(indices,) if stored.palette is not None else ()]
    return Photo(
        "png", (page,), orientation, data, {"png": stored, PLANES: planes, EXIF: exif, XMP: xmp}
    )


def split_chunks(data: bytes, name: str) -> tuple[Chunk, ...]:
    """Return the chunks up to IEND, checksums of critical ones checked.

    Raises:
        UnreadableError: the file ends before IEND, or a critical chunk is corrupt.
    """
    chunks: list[Chunk] = []
    at = len(SIGNATURE)
    while True:
        if at + 12 > len(data):
            raise UnreadableError(f"{name}: the PNG file is truncated (no IEND chunk).")
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data):
            raise UnreadableError(
                f"{name}: the PNG file is truncated ({length} bytes announced for chunk "
                f"{kind.decode('latin-1')!r}, {len(data) - at - 8} left)."
            )
        if kind[0] & 0x20 == 0:
            (checksum,) = struct.unpack_from(">I", data, end - 4)
            if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != checksum:
                raise UnreadableError(
                    f"{name}: the PNG file is corrupt (checksum of chunk "
                    f"{kind.decode('latin-1')!r} at byte {at})."
                )
        chunks.append(Chunk(kind, at, end))
        at = end
        if kind == b"IEND":
            return tuple(chunks)


def _content(data: bytes, chunks: Sequence[Chunk], kind: bytes) -> bytes:
    for chunk in chunks:
        if chunk.kind == kind:
            return data[chunk.start + 8 : chunk.end - 4]
    return b""


def _read_header(data: bytes, chunks: Sequence[Chunk], name: str) -> _Header:
    if chunks[0].kind == b"CgBI":
        raise UnsupportedError(
            f"{name}: Apple's private PNG variant (CgBI) is not restored. "
            "Convert it with Xcode's pngcrush -revert-iphone-optimizations first."
        )
    content = data[chunks[0].start + 8 : chunks[0].end - 4]
    if chunks[0].kind != b"IHDR" or len(content) != 13:
        raise UnreadableError(f"{name}: the PNG file is corrupt (no IHDR chunk).")
    width, height, bits, color, packing, filtering, interlace = struct.unpack(">IIBBBBB", content)
    if (
        not (0 < width < 1 << 31 and 0 < height < 1 << 31)
        or bits not in _DEPTHS.get(color, ())
        or (packing, filtering) != (0, 0)
        or interlace > 1
    ):
        raise UnreadableError(
            f"{name}: the PNG file is corrupt (IHDR says {width}x{height}, {bits} bit, "
            f"colour type {color}, methods {packing}, {filtering}, {interlace})."
        )
    return _Header(width, height, bits, color, interlace == 1)


def _read_palette(
    data: bytes, chunks: Sequence[Chunk], header: _Header, name: str
) -> tuple[UInt8 | None, UInt8 | None, npt.NDArray[Any] | None]:
    """Return palette, opacity of its entries, transparent colour."""
    transparency = _content(data, chunks, b"tRNS")
    if header.color != _PALETTE:
        channels = header.channels
        if not transparency or header.color in (_GREY_ALPHA, _RGB_ALPHA):
            return None, None, None
        if len(transparency) != 2 * channels:
            raise UnreadableError(f"{name}: the PNG file is corrupt (tRNS chunk).")
        key = np.frombuffer(transparency, ">u2") & ((1 << header.bits) - 1)
        return None, None, key.astype(np.uint16 if header.bits == 16 else np.uint8)
    entries = _content(data, chunks, b"PLTE")
    if not entries or len(entries) % 3 or len(entries) > 768:
        raise UnreadableError(f"{name}: the PNG file is corrupt (PLTE chunk).")
    palette = np.frombuffer(entries, np.uint8).reshape(-1, 3)
    if not transparency:
        return palette, None, None
    alpha = np.full(len(palette), 255, np.uint8)
    alpha[: len(transparency)] = np.frombuffer(transparency, np.uint8)[: len(palette)]
    return palette, alpha, None


def _read_profile(data: bytes, chunks: Sequence[Chunk]) -> bytes | None:
    """Return the ICC profile; a chunk that cannot be inflated is kept but not understood."""
    _, _, packed = _content(data, chunks, b"iCCP").partition(b"\0")
    if not packed:
        return None
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(packed[1:], _MAX_PROFILE_BYTES)
    except zlib.error:
        return None
    return profile if inflater.eof else None


def _read_xmp(data: bytes, chunks: Sequence[Chunk]) -> bytes:
    """Return the XMP packet (XMP specification, part 3), nothing where there is none."""
    for chunk in chunks:
        content = data[chunk.start + 8 : chunk.end - 4]
        if chunk.kind == b"iTXt" and content.startswith(_XMP_KEYWORD + b"\0\0"):
            return content[len(_XMP_KEYWORD) + 2 :].split(b"\0", 2)[-1]
    return b""


_SPARE_BYTES = 1 << 16
"""How far behind the pixels the checksum is looked for."""


class _Inflater:
    """Reads the zlib stream that the IDAT chunks hold, a piece at a time."""

    def __init__(self, data: bytes, chunks: Sequence[Chunk], name: str) -> None:
        view = memoryview(data)
        self._pieces = iter([view[c.start + 8 : c.end - 4] for c in chunks if c.kind == b"IDAT"])
        self._stream = zlib.decompressobj()
        self._name = name

    def read(self, count: int) -> bytearray:
        """Return the next ``count`` bytes."""
        out = bytearray()
        while len(out) < count:
            piece = self._stream.unconsumed_tail
            if not piece:
                piece = next(self._pieces, None)
            if piece is None or self._stream.eof:
                raise UnreadableError(
                    f"{self._name}: the PNG file is truncated or corrupt (its pixels end early)."
                )
            try:
                out += self._stream.decompress(piece, count - len(out))
            except zlib.error as error:
                raise UnreadableError(
                    f"{self._name}: the PNG file is corrupt ({error})."
                ) from error
        return out

    def finish(self) -> None:
        """Check the checksum behind the pixels, which some encoders put after a few spare bytes."""
        spare = _SPARE_BYTES
        try:
            while spare > 0 and not self._stream.eof:
                piece = self._stream.unconsumed_tail or next(self._pieces, None)
                if piece is None:
                    return
                spare -= len(self._stream.decompress(piece, spare))
        except zlib.error as error:
            raise UnreadableError(f"{self._name}: the PNG file is corrupt ({error}).") from error


def _decode_samples(
    data: bytes, chunks: Sequence[Chunk], header: _Header, name: str
) -> npt.NDArray[Any]:
    dtype = np.uint16 if header.bits == 16 else np.uint8
    samples = np.empty((header.height, header.width, header.channels), dtype)
    inflater = _Inflater(data, chunks, name)
    for part in header.passes():
        row_bytes = header.row_bytes(part.width)
        target = samples[part.rows, part.columns]
        above = np.zeros(row_bytes, np.uint8)
        for top, rows in _bands(part.height, row_bytes):
            filtered = np.frombuffer(inflater.read(rows * (row_bytes + 1)), np.uint8)
            packed = _unfilter(filtered.reshape(rows, -1), above, header.pixel_bytes, name)
            target[top : top + rows] = _unpack(packed, part.width, header)
            above = packed[-1]
    inflater.finish()
    samples.flags.writeable = False
    return samples


def _bands(height: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield first row and number of rows of successive bands."""
    step = max(1, _BAND_BYTES // (row_bytes + 1))
    for top in range(0, height, step):
        yield top, min(step, height - top)


def _unpack(packed: UInt8, width: int, header: _Header) -> npt.NDArray[Any]:
    """Return (rows, width, channels) samples of packed rows."""
    if header.bits < 8:
        return unpack_bits(packed, width, header.bits)[..., None]
    samples = packed if header.bits == 8 else packed.view(">u2")
    return samples.reshape(len(packed), width, header.channels)


def _pack(samples: npt.NDArray[Any], header: _Header) -> UInt8:
    """Return (rows, bytes) of samples: the inverse of :func:`_unpack`."""
    if header.bits < 8:
        return pack_bits(samples[..., 0], header.bits)
    rows = np.ascontiguousarray(samples, ">u2" if header.bits == 16 else np.uint8)
    return rows.reshape(len(samples), -1).view(np.uint8)


_DISGUISES = {1: (8, 0), 2: (16, 0), 3: (8, 2), 4: (8, 6), 6: (16, 2), 8: (16, 6)}
"""Bytes per pixel -> bit depth and colour type of a plain PNG that OpenCV returns unchanged."""


def _unfilter(filtered: UInt8, above: UInt8, pixel_bytes: int, name: str) -> UInt8:
    """Undo the row filters.

    Args:
        filtered: ``(rows, 1 + bytes)`` filter type and filtered bytes of each row.
        above: ``(bytes,)`` the unfiltered row above the first one.
        pixel_bytes: distance to the left neighbour.
        name: what to call the file in messages.

    Returns:
        ``(rows, bytes)`` uint8, C-contiguous.
    """
    kinds, content = filtered[:, 0], filtered[:, 1:]
    if kinds.max() > 4:
        raise UnreadableError(f"{name}: the PNG file is corrupt (filter type {kinds.max()}).")
    if not kinds.any():
        return np.ascontiguousarray(content)
    rows, row_bytes = content.shape
    bits, color = _DISGUISES[pixel_bytes]
    stream = b"".join((b"\0", above.tobytes(), filtered.tobytes()))
    width = row_bytes // pixel_bytes
    plain = b"".join(
        (
            SIGNATURE,
            build_chunk(b"IHDR", struct.pack(">IIBBBBB", width, rows + 1, bits, color, 0, 0, 0)),
            build_chunk(b"IDAT", zlib.compress(stream, 0)),
            build_chunk(b"IEND", b""),
        )
    )
    decoded: Any = cv2.imdecode(np.frombuffer(plain, np.uint8), cv2.IMREAD_UNCHANGED)
    pixels = decoded[1:].reshape(rows, width, -1)
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[pixels.shape[2]]
    in_order = pixels[..., order]
    if in_order.dtype == np.uint16:
        in_order = in_order.astype(">u2")
    return np.ascontiguousarray(in_order).reshape(rows, -1).view(np.uint8)


def build_chunk(kind: bytes, content: bytes) -> bytes:
    """Return a whole chunk: length, name, content, checksum."""
    return b"".join(
        (
            struct.pack(">I", len(content)),
            kind,
            content,
            struct.pack(">I", zlib.crc32(content, zlib.crc32(kind))),
        )
    )


def _build_page(stored: _Stored, icc: bytes | None, orientation: int) -> Page:
    samples, header = stored.samples, stored.header
    alpha: npt.NDArray[Any] | None = None
    colors = samples
    if stored.palette is not None:
        colors, alpha = look_up(samples[..., 0], stored.palette, stored.palette_alpha)
    elif header.color in (_GREY_ALPHA, _RGB_ALPHA):
        colors, alpha = samples[..., :-1], samples[..., -1]
    elif header.bits < 8:
        colors = samples * np.uint8(255 // ((1 << header.bits) - 1))
    if stored.key is not None:
        top = np.iinfo(samples.dtype).max
        alpha = np.where((samples == stored.key).all(axis=2), 0, top).astype(samples.dtype)
    return Page(
        apply_orientation(colors, orientation),
        "grey" if colors.shape[2] == 1 else "rgb",
        None if alpha is None else apply_orientation(alpha, orientation),
        icc,
    )


def write_png(
    photo: Photo,
    repaired: Sequence[npt.NDArray[Any] | None],
    masks: Sequence[BoolMask | None],
    name: str,
) -> Encoded:
    """Encode a PNG with its hole pixels replaced; every chunk but IDAT is kept byte for byte.

    Args:
        photo: from :func:`read_png`.
        repaired: one array of the shape and dtype of the page's pixels, or None.
        masks: one ``(H, W)`` bool mask as displayed, True = hole, or None.
        name: what to call the file in messages.
    """
    stored: _Stored = photo.extra["png"]
    page, mask = photo.pages[0], masks[0]
    hole = undo_orientation(clip_mask(mask, (page.height, page.width)), photo.orientation)
    samples = stored.samples
    if repaired[0] is not None and hole.any():
        colors = undo_orientation(repaired[0], photo.orientation)
        samples = _replace_samples(stored, colors, hole)
    packed = _encode_samples(photo.source, stored, samples, hole, name)
    out: list[bytes] = [SIGNATURE]
    first = True
    for chunk in stored.chunks:
        if chunk.kind != b"IDAT":
            out.append(photo.source[chunk.start : chunk.end])
        elif first:
            first = False
            out.extend(
                build_chunk(b"IDAT", packed[at : at + _IDAT_BYTES])
                for at in range(0, len(packed), _IDAT_BYTES)
            )
    out.append(photo.source[stored.chunks[-1].end :])
    return Encoded(b"".join(out), "exact")


def _replace_samples(stored: _Stored, colors: npt.NDArray[Any], hole: BoolMask) -> npt.NDArray[Any]:
    """Return stored samples with the hole's replaced by the nearest ones to ``colors``.

    Args:
        stored: the file.
        colors: ``(H, W, 1 or 3)`` as in the page, not oriented.
        hole: ``(H, W)`` bool, not oriented.
    """
    samples = stored.samples.copy()
    samples.flags.writeable = True
    old, new = samples[hole], colors[hole]
    if stored.palette is not None:
        old[:, 0] = replace_indices(old[:, 0], new, stored.palette, stored.palette_alpha)
        samples[hole] = old
        return samples
    if stored.header.bits < 8:
        top = (1 << stored.header.bits) - 1
        new = ((new.astype(np.uint16) * top + 127) // 255).astype(np.uint8)
    channels = new.shape[1]
    if stored.key is not None:
        transparent = (old == stored.key).all(axis=1)
        clash = (new == stored.key).all(axis=1) & ~transparent
        # One level away, or the pixel would turn transparent.
        new = new.copy()
        new[clash, -1] += np.where(stored.key[-1] == 0, 1, -1).astype(new.dtype)
        new[transparent] = old[transparent]
    old[:, :channels] = new
    samples[hole] = old
    return samples


def _encode_samples(
    data: bytes, stored: _Stored, samples: npt.NDArray[Any], hole: BoolMask, name: str
) -> bytes:
    """Return the zlib stream of the picture, rows away from holes filtered as they were."""
    header = stored.header
    inflater = _Inflater(data, stored.chunks, name)
    deflater = zlib.compressobj(_read_level(data, stored.chunks))
    out: list[bytes] = []
    for part in header.passes():
        row_bytes = header.row_bytes(part.width)
        source = samples[part.rows, part.columns]
        touched: BoolMask = np.any(hole[part.rows, part.columns], axis=1)
        touched[1:] |= touched[:-1].copy()
        if part.width * header.bits % 8 and touched.any():
            # What fills up the last byte of a row is lost, and filters add it to known bits.
            touched[:] = True
        for top, rows in _bands(part.height, row_bytes):
            filtered = np.frombuffer(inflater.read(rows * (row_bytes + 1)), np.uint8)
            filtered = filtered.reshape(rows, -1)
            redo = np.flatnonzero(touched[top : top + rows])
            if len(redo):
                current = _pack(source[top + redo], header)
                above = _pack(source[np.maximum(top + redo - 1, 0)], header)
                above[top + redo == 0] = 0
                _refilter(filtered, redo, current, above, header.pixel_bytes)
            out.append(deflater.compress(filtered.data))
    out.append(deflater.flush())
    return b"".join(out)


def _read_level(data: bytes, chunks: Sequence[Chunk]) -> int:
    """Return a zlib level like the one the file was packed with (RFC 1950, FLEVEL)."""
    content = next((c for c in chunks if c.kind == b"IDAT" and c.end - c.start > 13), None)
    return 6 if content is None else (1, 3, 6, 9)[data[content.start + 9] >> 6]


def _refilter(
    filtered: UInt8, rows: npt.NDArray[np.intp], current: UInt8, above: UInt8, pixel_bytes: int
) -> None:
    """Filter ``current`` rows anew into ``filtered``, each by the type it has there.

    Args:
        filtered: ``(R, 1 + bytes)`` changed in place.
        rows: which of its rows, ascending.
        current: ``(len(rows), bytes)`` their new unfiltered bytes.
        above: ``(len(rows), bytes)`` the unfiltered bytes of the rows above them.
        pixel_bytes: distance to the left neighbour.
    """
    kinds = filtered[rows, 0]
    for kind in np.unique(kinds):
        some = kinds == kind
        here, up = current[some], above[some]
        left = _shift(here, pixel_bytes)
        match kind:
            case 0:
                result = here
            case 1:
                result = here - left
            case 2:
                result = here - up
            case 3:
                result = here - ((left.astype(np.uint16) + up) // 2).astype(np.uint8)
            case _:
                result = here - _predict_paeth(left, up, _shift(up, pixel_bytes))
        filtered[rows[some], 1:] = result


def _shift(rows: UInt8, pixel_bytes: int) -> UInt8:
    shifted = np.zeros_like(rows)
    shifted[:, pixel_bytes:] = rows[:, :-pixel_bytes]
    return shifted


def _predict_paeth(left: UInt8, up: UInt8, corner: UInt8) -> UInt8:
    """Return the Paeth predictor (PNG specification, 9.4)."""
    a, b, c = (part.astype(np.int16) for part in (left, up, corner))
    to_left, to_up, to_corner = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    use_left = (to_left <= to_up) & (to_left <= to_corner)
    return np.where(use_left, left, np.where(to_up <= to_corner, up, corner))


def build_png(samples: npt.NDArray[Any], icc: bytes | None, exif: bytes, xmp: bytes) -> bytes:
    """Return a new PNG file.

    Args:
        samples: ``(H, W, C)`` uint8 or uint16: grey, grey and alpha, RGB, RGB and alpha.
        icc: its profile, or None.
        exif: its EXIF block, or nothing.
        xmp: its XMP packet, or nothing.
    """
    height, width, channels = samples.shape
    color = {1: _GREY, 2: _GREY_ALPHA, 3: _RGB, 4: _RGB_ALPHA}[channels]
    header = _Header(width, height, 8 * samples.itemsize, color, False)
    fields = (width, height, header.bits, color, 0, 0, 0)
    deflater = zlib.compressobj(_NEW_LEVEL)
    packed: list[bytes] = []
    for top, rows in _bands(height, header.row_bytes(width)):
        current = _pack(samples[top : top + rows], header)
        above = np.zeros_like(current)
        above[1:] = current[:-1]
        if top:
            above[0] = _pack(samples[top - 1 : top], header)[0]
        filtered = np.full((rows, current.shape[1] + 1), _NEW_FILTER, np.uint8)
        _refilter(filtered, np.arange(rows), current, above, header.pixel_bytes)
        packed.append(deflater.compress(filtered.data))
    packed.append(deflater.flush())
    parts = [SIGNATURE, build_chunk(b"IHDR", struct.pack(">IIBBBBB", *fields))]
    if icc is not None:
        parts.append(build_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc, 9)))
    if exif:
        parts.append(build_chunk(b"eXIf", exif))
    if xmp:
        parts.append(build_chunk(b"iTXt", _XMP_KEYWORD + b"\0\0\0\0" + xmp))
    parts += [build_chunk(b"IDAT", b"".join(packed)), build_chunk(b"IEND", b"")]
    return b"".join(parts)


def list_parts(data: bytes, name: str) -> list[tuple[str, bytes]]:
    """Return label and content of everything but the pixels: chunks in order, IDAT only as a place.

    Args:
        data: the whole file.
        name: what to call the file in messages.
    """
    chunks = split_chunks(data, name)
    parts: list[tuple[str, bytes]] = []
    for number, chunk in enumerate(chunks):
        label = f"chunk {chunk.kind.decode('latin-1')}"
        if chunk.kind != b"IDAT":
            parts.append((label, data[chunk.start : chunk.end]))
        elif chunks[number - 1].kind != b"IDAT":
            parts.append((label, b""))
    return [*parts, ("data after IEND", data[chunks[-1].end :])]
