"""Sizes of a picture's pages from its headers, where those tell without decoding a pixel.

A photograph without holes is copied, not encoded, and its pixels are of no use then.
"""

from __future__ import annotations

import struct

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
