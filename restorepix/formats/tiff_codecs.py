"""Strips and tiles of TIFF files: compressed bytes to samples and back.

Uncompressed, PackBits and Deflate are handled here. LZW is lent from libtiff inside Pillow, by
putting a strip's bytes into a picture of plain bytes: Pillow itself would read only some of the
sample layouts, but refuses a damaged stream, where OpenCV returns rubbish without a word. JPEG
strips are completed to whole JPEG files for Pillow's libjpeg-turbo. imagecodecs would do all of
this in one wheel of 26 MB, more than every other reader together, and is not worth it.
"""

from __future__ import annotations

import io
import struct
import zlib
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from restorepix.formats.tiff_tags import TiffFile

NONE: Final = 1
LZW: Final = 5
JPEG: Final = 7
DEFLATE: Final = 8
OLD_DEFLATE: Final = 32946
PACKBITS: Final = 32773

COMPRESSIONS: Final = (NONE, LZW, JPEG, DEFLATE, OLD_DEFLATE, PACKBITS)
"""Values of the Compression tag that can be read."""

_SOI = b"\xff\xd8"
_EOI = b"\xff\xd9"


class CodecError(Exception):
    """A strip or tile cannot be decoded; the caller knows which one and says so."""


def decompress(
    content: bytes | memoryview, compression: int, rows: int, row_bytes: int
) -> bytes | memoryview:
    """Return the ``rows * row_bytes`` bytes of a strip or tile; uncompressed ones are not copied.

    Args:
        content: its bytes in the file.
        compression: a value of :data:`COMPRESSIONS` other than JPEG.
        rows: its rows.
        row_bytes: bytes of an uncompressed row.

    Raises:
        CodecError: the data is damaged, or gives fewer bytes.
    """
    wanted = rows * row_bytes
    if compression == NONE:
        plain = content
    elif compression == PACKBITS:
        plain = _unpack_runs(bytes(content), wanted)
    elif compression == LZW:
        plain = _decompress_lzw(bytes(content), rows, row_bytes)
    else:
        try:
            plain = zlib.decompressobj().decompress(content, wanted)
        except zlib.error as error:
            raise CodecError(str(error)) from error
    if len(plain) < wanted:
        raise CodecError(f"{len(plain)} of {wanted} bytes")
    return plain[:wanted]


def compress(plain: bytes, compression: int, rows: int, row_bytes: int) -> bytes:
    """Return bytes for the file: the inverse of :func:`decompress`."""
    match compression:
        case 1:
            return plain
        case 5:
            return _compress_lzw(plain, rows, row_bytes)
        case 32773:
            starts = range(0, len(plain), row_bytes)
            return b"".join(_pack_runs(plain[at : at + row_bytes]) for at in starts)
        case _:
            return zlib.compress(plain, 6)


def _decompress_lzw(content: bytes, rows: int, row_bytes: int) -> bytes:
    tags = {256: row_bytes, 257: rows, 258: 8, 259: LZW, 262: 1, 273: 8 + 2 + 10 * 12 + 4, 277: 1,
            278: rows, 279: len(content), 284: 1}  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    header = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0\0\0\0"
    try:
        # The class itself, not Image.open, which warns of bombs; sizes were checked before.
        with TiffImageFile(io.BytesIO(header + content)) as picture:
            return picture.tobytes()
    except (OSError, SyntaxError, ValueError, OverflowError) as error:
        raise CodecError(f"LZW data: {error}") from error


def _compress_lzw(plain: bytes, rows: int, row_bytes: int) -> bytes:
    buffer = io.BytesIO()
    picture = Image.frombytes("L", (row_bytes, rows), plain)
    picture.save(buffer, "TIFF", compression="tiff_lzw", strip_size=len(plain))
    written = buffer.getvalue()
    file = TiffFile(written, "strip")
    (directory,) = file.read_chain()
    (start,), (size,) = (file.read_integers(directory, tag) for tag in (273, 279))
    return written[start : start + size]


def _unpack_runs(content: bytes, wanted: int) -> bytes:
    """Undo PackBits (TIFF 6.0, section 9)."""
    out = bytearray()
    at = 0
    while len(out) < wanted and at + 1 < len(content):
        head = content[at]
        if head < 128:
            out += content[at + 1 : at + 2 + head]
            at += 2 + head
        else:
            if head > 128:
                out += content[at + 1 : at + 2] * (257 - head)
            at += 2 if head > 128 else 1
    return bytes(out)


def _pack_runs(row: bytes) -> bytes:
    """Apply PackBits to one row: runs of three or more are repeated, the rest is literal."""
    values = np.frombuffer(row, np.uint8)
    edges = np.diff(values, prepend=np.int16(-1), append=np.int16(-1))
    starts: list[int] = np.flatnonzero(edges).tolist()
    out = bytearray()
    literal = 0
    for start, end in pairwise(starts):
        if end - start < 3:
            continue
        _pack_literal(out, row[literal:start])
        for at in range(start, end, 128):
            length = min(128, end - at)
            out += bytes((257 - length if length > 1 else 0, row[start]))
        literal = end
    _pack_literal(out, row[literal:])
    return bytes(out)


def _pack_literal(out: bytearray, content: bytes) -> None:
    for at in range(0, len(content), 128):
        piece = content[at : at + 128]
        out.append(len(piece) - 1)
        out += piece


def decode_jpeg(
    content: bytes, tables: bytes, rows: int, columns: int, transform: bool
) -> npt.NDArray[np.uint8]:
    """Return the samples of a JPEG strip or tile (TIFF Technical Note 2).

    Args:
        content: an abbreviated or whole JPEG stream.
        tables: the JPEGTables tag, or nothing.
        rows: rows wanted; the stream may have more.
        columns: columns wanted; the stream may have more.
        transform: its three components are YCbCr and become RGB; else they stay as stored.

    Returns:
        ``(rows, columns, channels)`` uint8.

    Raises:
        CodecError: the stream is damaged, or of another size.
    """
    if not content.startswith(_SOI):
        raise CodecError("no JPEG stream")
    # What the components mean, TIFF says by its tags; a JPEG decoder looks for an Adobe segment.
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([int(transform)])
    shared = tables[2:].removesuffix(_EOI) if tables.startswith(_SOI) else b""
    try:
        with JpegImageFile(io.BytesIO(_SOI + adobe + shared + content[2:])) as picture:
            width, height = picture.size
            if height < rows or width < columns or height * width > 4 * rows * columns + 4096:
                raise CodecError(f"JPEG of {width}x{height} for {columns}x{rows}")
            samples = np.asarray(picture)
            inverted = picture.mode == "CMYK"
    except (OSError, SyntaxError, ValueError, KeyError, IndexError, struct.error) as error:
        raise CodecError(f"JPEG data: {error}") from error
    # Pillow inverts CMYK when there is an Adobe segment, as Photoshop's files want; TIFF's do not.
    samples = (~samples if inverted else samples)[:rows, :columns]
    return samples if samples.ndim == 3 else samples[..., None]


def undo_predictor(samples: npt.NDArray[Any], predictor: int) -> npt.NDArray[Any]:
    """Undo horizontal differencing (TIFF 6.0, section 14).

    Args:
        samples: ``(rows, columns, channels)`` unsigned integers.
        predictor: 1 = none, 2 = horizontal.
    """
    if predictor == 1:
        return samples
    return np.cumsum(samples, axis=1, dtype=samples.dtype)


def apply_predictor(samples: npt.NDArray[Any], predictor: int) -> npt.NDArray[Any]:
    """Return horizontal differences: the inverse of :func:`undo_predictor`."""
    if predictor == 1:
        return samples
    differences = samples.copy()
    differences[:, 1:] -= samples[:, :-1]
    return differences


def undo_float_predictor(packed: npt.NDArray[np.uint8], channels: int) -> npt.NDArray[np.float32]:
    """Undo the floating point predictor (Adobe Photoshop TIFF Technical Note 3).

    Args:
        packed: ``(rows, 4 * columns * channels)`` differences of bytes sorted by significance.
        channels: samples of a pixel.

    Returns:
        ``(rows, columns, channels)`` float32.
    """
    rows = len(packed)
    summed = np.cumsum(packed.reshape(rows, -1, channels), axis=1, dtype=np.uint8)
    planes = summed.reshape(rows, 4, -1).swapaxes(1, 2)
    values = np.ascontiguousarray(planes).view(">f4").astype(np.float32)
    return values.reshape(rows, -1, channels)


def apply_float_predictor(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return ``(rows, bytes)``: the inverse of :func:`undo_float_predictor`."""
    rows, columns, channels = samples.shape
    big = np.ascontiguousarray(samples, ">f4").view(np.uint8).reshape(rows, -1, 4)
    planes = np.ascontiguousarray(big.swapaxes(1, 2)).reshape(rows, 4 * columns, channels)
    return apply_predictor(planes, 2).reshape(rows, -1)
