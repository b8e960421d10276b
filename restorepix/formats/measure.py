"""Sizes of a picture's pages from its headers, where those tell without decoding a pixel.

A photograph without holes is copied, not encoded, and its pixels are of no use then.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

import numpy as np

from restorepix.formats import sniff_format
from restorepix.formats.exif import displayed_shape, read_orientation
from restorepix.formats.jpeg_segments import (
    parse_jpeg,
    read_color,
    read_exif,
    read_quantisation,
)
from restorepix.formats.limits import check_pixels
from restorepix.formats.png import split_chunks

_BAND_BYTES: Final = 1 << 20


def measure_pages(
    data: bytes, name: str, *, max_mpixels: float
) -> tuple[tuple[int, int], ...] | None:
    """Return ``(height, width)`` of each page in pixels as displayed, without decoding pixels.

    Args:
        data: the whole file.
        name: what to call the file in messages.
        max_mpixels: largest number of million pixels, all pages together.

    Returns:
        The sizes, or None where only :func:`restorepix.formats.read_photo` can tell: any file but
        JPEG and plain PNG.

    Raises:
        UnreadableError: the file is cut off, or what is read of it makes no sense.
        UnsupportedError: it is a picture of a kind that is not restored.
        TooLargeError: it has more pixels than ``max_mpixels``.
    """
    match sniff_format(data):
        case "jpeg":
            return (_measure_jpeg(data, name, max_mpixels),)
        case "png":
            size = _measure_png(data, name, max_mpixels)
            return None if size is None else (size,)
        case _:
            return None


def is_black(data: bytes, name: str) -> bool:
    """Return whether a PNG of one grey channel is black throughout, without building its pixels.

    Filters predict a sample from its neighbours and store the difference (PNG, 9.2), so a picture
    of which every stored byte is 0 is black whatever filters its rows name. Measured on a mask of
    12 megapixels: half the time of decoding it.

    Args:
        data: any file.
        name: what to call it in messages.

    Returns:
        True for a black picture; False for any other and for whatever cannot be told so.

    Raises:
        UnreadableError: it is a PNG that is cut off or corrupt.
    """
    if sniff_format(data) != "png":
        return False
    chunks = split_chunks(data, name)
    kinds = {chunk.kind for chunk in chunks}
    if chunks[0].kind != b"IHDR" or kinds & {b"acTL", b"tRNS"}:
        return False
    width, height, bits, color, packing, filtering, interlace = struct.unpack_from(
        ">IIBBBBB", data, chunks[0].start + 8
    )
    if color or packing or filtering or interlace or bits not in (1, 2, 4, 8, 16):
        return False
    stride = 1 + (width * bits + 7) // 8
    inflater = zlib.decompressobj()
    rows, rest = 0, b""
    stored = memoryview(data)
    try:
        for chunk in (chunk for chunk in chunks if chunk.kind == b"IDAT"):
            fed: bytes | memoryview = stored[chunk.start + 8 : chunk.end - 4]
            while inflated := inflater.decompress(fed, _BAND_BYTES):
                fed = inflater.unconsumed_tail
                found = rest + inflated
                count = len(found) // stride
                band = np.frombuffer(found, np.uint8, count * stride).reshape(count, stride)
                rows += count
                rest = found[count * stride :]
                if rows > height or band[:, 1:].any() or (count and band[:, 0].max() > 4):
                    return False
    except zlib.error:
        return False  # explained where it is decoded
    return rows == height and not rest and inflater.eof


def _measure_jpeg(data: bytes, name: str, max_mpixels: float) -> tuple[int, int]:
    file = parse_jpeg(data, name)
    check_pixels(file.frame.height * file.frame.width, max_mpixels, name)
    read_quantisation(file, name)
    read_color(file)
    orientation = read_orientation(read_exif(file))
    return displayed_shape(file.frame.height, file.frame.width, orientation)


def _measure_png(data: bytes, name: str, max_mpixels: float) -> tuple[int, int] | None:
    chunks = split_chunks(data, name)
    if chunks[0].kind != b"IHDR" or any(chunk.kind == b"acTL" for chunk in chunks):
        return None  # refused, with the reason, where it is decoded
    width, height = struct.unpack_from(">II", data, chunks[0].start + 8)
    check_pixels(height * width, max_mpixels, name)
    exif = next((chunk for chunk in chunks if chunk.kind == b"eXIf"), None)
    block = b"" if exif is None else data[exif.start + 8 : exif.end - 4]
    return displayed_shape(height, width, read_orientation(block))
