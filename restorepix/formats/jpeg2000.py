"""JPEG 2000: always written lossless, every box but the codestream kept byte for byte.

OpenJPEG inside OpenCV decodes and encodes 8 and 16 bit without loss (Pillow reduces 16-bit colour
to 8; it decodes large pictures of 8 bit in tiles, one tile at a time). It gets the codestream in a
plain container of its own, so that no profile is applied and no colour space guessed, and it
returns one, which takes the old one's place. A file of the reversible wavelet stays ``exact``;
one of the irreversible, lossy wavelet becomes a ``lossless-rewrite`` of the pixels it had,
several times as large.

Samples under EXIF orientation are not turned: viewers of this format do not turn them either.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Jpeg2KImagePlugin

from restorepix.errors import UnreadableError, UnsupportedError
from restorepix.formats.limits import check_pixels
from restorepix.formats.opencv import CHANNELS, decode_picture, encode_picture
from restorepix.formats.samples import clip_mask, fill_hole
from restorepix.photo import Encoded, Page, Photo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from restorepix.photo import BoolMask

_CODESTREAM: Final = b"\xff\x4f\xff\x51"
_SIZ, _COD, _SOT, _SOD, _EOC = 0xFF51, 0xFF52, 0xFF90, 0xFF93, 0xFFD9
_SRGB, _GREY = 16, 17
_REVERSIBLE = 1
_OPACITY = 1
_MIN_SIDE = 32
"""OpenCV encodes six resolutions always, which smaller pictures do not have."""
_TILED_PIXELS: Final = 16_000_000
"""Above it pictures are written in tiles: OpenJPEG holds one as 32-bit numbers, twice, and a
picture of 100 megapixels that was one tile took 2.4 GiB."""
_TILE_SIDE: Final = 2048


class Box(NamedTuple):
    """A box of the container, and where it and its content stand in the file."""

    kind: bytes
    start: int
    content: int
    end: int


@dataclass(frozen=True, eq=False)
class _Stored:
    """What the writer needs again."""

    samples: npt.NDArray[Any]
    """(H, W, 1, 3 or 4) uint8 or uint16."""
    boxes: tuple[Box, ...]
    """Of the container; of a bare codestream, one box that is the file."""
    reversible: bool


@dataclass(frozen=True)
class _Header:
    """What the codestream's main header says."""

    height: int
    width: int
    channels: int
    bits: int
    reversible: bool


def read_jpeg2000(data: bytes, name: str, max_mpixels: float) -> Photo:
    """Decode a JP2 file or a bare codestream: one page of grey or RGB, 8 or 16 bit.

    Args:
        data: the whole file.
        name: what to call the file in messages.
        max_mpixels: largest number of million pixels.

    Raises:
        UnreadableError: the file is truncated or corrupt.
        UnsupportedError: its colours, depth or sampling are not restored.
        TooLargeError: it has more pixels than ``max_mpixels``.
    """
    try:
        return _read(data, name, max_mpixels)
    except (struct.error, IndexError) as error:
        raise _corrupt(name, "it ends early") from error


def _corrupt(name: str, what: str) -> UnreadableError:
    return UnreadableError(f"{name}: the JPEG 2000 file is truncated or corrupt ({what}).")


def _refuse(name: str, what: str) -> UnsupportedError:
    return UnsupportedError(
        f"{name}: JPEG 2000 with {what} is not restored. Convert it to TIFF or PNG first."
    )


def _read(data: bytes, name: str, max_mpixels: float) -> Photo:
    bare = data.startswith(_CODESTREAM)
    boxes = _split_file(data, name)
    streams = [box for box in boxes if box.kind == b"jp2c"]
    if len(streams) != 1:
        raise _refuse(name, f"{len(streams)} codestreams")
    stream = memoryview(data)[streams[0].content : streams[0].end]
    header = _read_header(stream, name)
    check_pixels(header.height * header.width, max_mpixels, name)
    icc, alpha = (None, False) if bare else _read_colors(data, boxes, header, name)
    if header.channels == 4 and not alpha:
        raise _refuse(name, "four channels, none of them opacity")
    _check_tiles(stream, name)
    samples = _decode(stream, header)
    if samples is None or samples.shape != (header.height, header.width, header.channels):
        raise _corrupt(name, "its codestream cannot be decoded")
    samples.flags.writeable = False
    page = Page(
        samples[..., :3],
        "grey" if header.channels == 1 else "rgb",
        samples[..., 3] if alpha else None,
        icc,
    )
    stored = _Stored(samples, boxes, header.reversible)
    return Photo("jpeg2000", (page,), 1, data, {"jpeg2000": stored})


def _split_file(data: bytes, name: str) -> tuple[Box, ...]:
    if data.startswith(_CODESTREAM):
        return (Box(b"jp2c", 0, 0, len(data)),)
    return split_boxes(data, 0, len(data), name)


def split_boxes(data: bytes, start: int, end: int, name: str) -> tuple[Box, ...]:
    """Return the boxes between two places (ISO/IEC 15444-1, annex I.4)."""
    boxes: list[Box] = []
    while start < end:
        size, kind = struct.unpack_from(">I4s", data, start)
        content = start + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, content)
            content += 8
        after = end if size == 0 else start + size
        if not content <= after <= end:
            raise _corrupt(name, f"box {kind.decode('latin-1')!r} ends outside the file")
        boxes.append(Box(kind, start, content, after))
        start = after
    return tuple(boxes)


def _read_header(stream: memoryview, name: str) -> _Header:
    """Read SIZ and COD of the main header (ISO/IEC 15444-1, annex A)."""
    if bytes(stream[: len(_CODESTREAM)]) != _CODESTREAM:
        raise _corrupt(name, "no codestream")
    _, right, bottom, left, top = struct.unpack_from(">HIIII", stream, 6)
    (channels,) = struct.unpack_from(">H", stream, 40)
    components = [struct.unpack_from("3B", stream, 42 + 3 * n) for n in range(min(channels, 5))]
    depth, *steps = components[0]
    if right <= left or bottom <= top:
        raise _corrupt(name, f"{right - left}x{bottom - top} pixels")
    if min(right - left, bottom - top) < _MIN_SIDE:
        raise _refuse(name, f"a side below {_MIN_SIDE} pixels")
    if channels not in CHANNELS:
        raise _refuse(name, f"{channels} channels")
    if len(set(components)) != 1 or steps != [1, 1]:
        raise _refuse(name, "channels of different depth or size")
    if depth + 1 not in (8, 16):
        raise _refuse(name, f"{(depth & 0x7F) + 1} bit{' signed' * (depth >> 7)}")
    at = 4 + struct.unpack_from(">H", stream, 4)[0]
    while True:
        marker, size = struct.unpack_from(">HH", stream, at)
        if marker == _COD:
            reversible = stream[at + 13] == _REVERSIBLE
            return _Header(bottom - top, right - left, channels, depth + 1, reversible)
        if marker == _SOT or marker < 0xFF00 or size < 2:
            raise _corrupt(name, "no COD segment")
        at += 2 + size


def _check_tiles(stream: memoryview, name: str) -> None:
    """Check that all tile-parts are there, up to EOC: decoders fill what is missing with grey."""
    at = 2
    while True:
        (marker,) = struct.unpack_from(">H", stream, at)
        if marker == _EOC:
            return
        if marker < 0xFF00:
            raise _corrupt(name, f"no marker at byte {at} of its codestream")
        if marker == _SOT:
            (size,) = struct.unpack_from(">I", stream, at + 6)
            if size == 0:  # the last one, up to EOC
                if bytes(stream[-2:]) != b"\xff\xd9":
                    raise _corrupt(name, "no end of codestream")
                return
            if size < 14:
                raise _corrupt(name, "tile-part of no size")
            at += size
        else:
            at += 2 + struct.unpack_from(">H", stream, at + 2)[0]


def _read_colors(
    data: bytes, boxes: Sequence[Box], header: _Header, name: str
) -> tuple[bytes | None, bool]:
    """Return the ICC profile, and whether the fourth channel is opacity."""
    found = [box for box in boxes if box.kind == b"jp2h"]
    if not found:
        raise _corrupt(name, "no header box")
    inner = {b.kind: b for b in reversed(split_boxes(data, found[0].content, found[0].end, name))}
    if b"pclr" in inner:
        raise _refuse(name, "a palette")
    icc: bytes | None = None
    if b"colr" in inner:
        box = inner[b"colr"]
        if data[box.content] == 1:
            (space,) = struct.unpack_from(">I", data, box.content + 3)
            if space != (_GREY if header.channels == 1 else _SRGB):
                raise _refuse(name, f"colour space {space} in {header.channels} channels")
        else:
            icc = data[box.content + 3 : box.end]
            if icc[16:20] != (b"GRAY" if header.channels == 1 else b"RGB "):
                raise _refuse(name, f"a profile for {icc[16:20].decode('latin-1')!r} colours")
    alpha = False
    if b"cdef" in inner:
        box = inner[b"cdef"]
        (count,) = struct.unpack_from(">H", data, box.content)
        uses = dict(struct.unpack_from(">HH", data, box.content + 2 + 6 * n) for n in range(count))
        alpha = header.channels == 4 and uses.get(3) == _OPACITY
    return icc, alpha


def _build_box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def _decode(stream: memoryview, header: _Header) -> npt.NDArray[Any] | None:
    """Return (H, W, C) samples, or None when the codestream is damaged."""
    size = (header.height, header.width, header.channels)
    parts = _build_box(b"ihdr", struct.pack(">IIHBBBB", *size, header.bits - 1, 7, 0, 0))
    space = _GREY if header.channels == 1 else _SRGB
    parts += _build_box(b"colr", struct.pack(">BBBI", 1, 0, 0, space))
    if header.channels == 4:
        uses = (0, 0, 1, 1, 0, 2, 2, 0, 3, 3, 1, 0)
        parts += _build_box(b"cdef", struct.pack(">H12H", 4, *uses))
    plain = b"".join(
        (
            _build_box(b"jP  ", b"\r\n\x87\n"),
            _build_box(b"ftyp", b"jp2 \0\0\0\0jp2 "),
            _build_box(b"jp2h", parts),
            struct.pack(">I4s", 8 + len(stream), b"jp2c"),
            stream,  # not copied into a box before: it can be a tenth of the memory
        )
    )
    right, bottom = struct.unpack_from(">II", stream, 24)
    tiled = bottom < header.height or right < header.width
    if not tiled or header.bits > 8 or header.height * header.width <= _TILED_PIXELS:
        return decode_picture(plain)
    try:
        picture = Jpeg2KImagePlugin.Jpeg2KImageFile(io.BytesIO(plain))
        samples = np.array(picture)
    except (OSError, ValueError, SyntaxError):
        return None
    return samples[..., None] if samples.ndim == 2 else samples


def write_jpeg2000(
    photo: Photo,
    repaired: Sequence[npt.NDArray[Any] | None],
    masks: Sequence[BoolMask | None],
    name: str,
) -> Encoded:
    """Encode a JPEG 2000 file with its hole pixels replaced, lossless, every other box kept.

    Args:
        photo: from :func:`read_jpeg2000`.
        repaired: one array of the shape and dtype of the page's pixels, or None.
        masks: one ``(H, W)`` bool mask, True = hole, or None.
        name: what to call the file in messages.
    """
    stored: _Stored = photo.extra["jpeg2000"]
    page = photo.pages[0]
    hole = clip_mask(masks[0], (page.height, page.width))
    stream = _encode(fill_hole(stored.samples, repaired[0], hole), name)
    out: list[bytes] = []
    for box in stored.boxes:
        if box.kind != b"jp2c":
            out.append(photo.source[box.start : box.end])
        elif box.content == box.start:
            out.append(stream)
        else:
            out.append(_build_box(b"jp2c", stream))
    return Encoded(b"".join(out), "exact" if stored.reversible else "lossless-rewrite")


def _encode(samples: npt.NDArray[Any], name: str) -> bytes:
    """Return a reversible codestream, of a large picture one of tiles.

    Each tile is encoded as a picture of its own. Its code is that of a tile at any place that is
    a multiple of 2048, where code-blocks (64) of all six resolutions (2**5) begin.
    """
    height, width, _ = samples.shape
    large = height * width > _TILED_PIXELS
    tall, wide = (_choose_side(side) if large else side for side in (height, width))
    header, parts = b"", list[bytes]()
    for top in range(0, height, tall):
        for left in range(0, width, wide):
            tile = samples[top : top + tall, left : left + wide]
            stream = _encode_tile(np.array(tile), name)
            begin = stream.index(_SOT.to_bytes(2, "big"))
            header = header or stream[:begin]
            number = len(parts).to_bytes(2, "big")
            # Marker, length, number of the tile, and the one tile-part up to EOC.
            parts.append(stream[begin : begin + 4] + number + stream[begin + 6 : -2])
    sizes = struct.pack(">8I", width, height, 0, 0, wide, tall, 0, 0)
    return b"".join([header[:8], sizes, header[40:], *parts, _EOC.to_bytes(2, "big")])


def _encode_tile(samples: npt.NDArray[Any], name: str) -> bytes:
    data = encode_picture(".jp2", samples, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])
    (box,) = (box for box in split_boxes(data, 0, len(data), name) if box.kind == b"jp2c")
    return data[box.content : box.end]


def _choose_side(length: int) -> int:
    """Return a side of tiles that leaves no last one too small for six resolutions."""
    side = _TILE_SIDE
    while side < length and 0 < length % side < _MIN_SIDE:
        side += _TILE_SIDE
    return min(side, length)


def list_parts(data: bytes, name: str) -> list[tuple[str, bytes]]:
    """Return label and content of every box, the codestream only as a place.

    Args:
        data: the whole file.
        name: what to call the file in messages.
    """
    return [
        (
            f"box {box.kind.decode('latin-1')}",
            b"" if box.kind == b"jp2c" else data[box.start : box.end],
        )
        for box in _split_file(data, name)
    ]
