"""EXIF orientation: read from raw EXIF bytes, applied to and undone from arrays.

Only the orientation is ever read, and EXIF is never rewritten: writers carry the bytes verbatim,
which is what keeps maker notes alive (libraries that parse and re-encode EXIF break their
offsets). Pixels are shown oriented and stored back unoriented, so the tag stays true.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy.typing as npt

EXIF = "exif"
"""Key of ``Photo.extra``: the EXIF block as the file holds it, empty bytes where it has none."""
XMP = "xmp"
"""Key of ``Photo.extra``: the XMP packet (XML), empty bytes where the file has none."""
ORIENTATION_TAG = 0x0112
_SHORT = 3
_EXIF_TAG = 0x8769
_MAKER_NOTE_TAG = 0x927C
_HEADER = b"Exif\x00\x00"


def read_orientation(exif: bytes) -> int:
    r"""Return the orientation 1..8 an EXIF block asks for, 1 where it asks for nothing valid.

    A damaged EXIF block is metadata we carry, not a reason to refuse the photograph, so anything
    that cannot be parsed counts as orientation 1, as in every viewer.

    Args:
        exif: EXIF bytes, a TIFF structure with or without the ``Exif\0\0`` prefix of JPEG.
    """
    tiff = exif[len(_HEADER) :] if exif.startswith(_HEADER) else exif
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return 1
    magic, ifd = struct.unpack_from(order + "HI", tiff, 2)
    if magic != 42 or ifd + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(order + "H", tiff, ifd)
    for entry in range(ifd + 2, min(ifd + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, number = struct.unpack_from(order + "HHI", tiff, entry)
        if tag == ORIENTATION_TAG:
            (value,) = struct.unpack_from(order + "H", tiff, entry + 8)
            return value if kind == _SHORT and number == 1 and 1 <= value <= 8 else 1
    return 1


def drop_thumbnail(exif: bytes) -> bytes:
    r"""Return an EXIF block without its pointer to the thumbnail; a damaged block as it is.

    The picture has changed, so its thumbnail is wrong. Only the four bytes that point from the
    first directory to the thumbnail's become zero: nothing moves, so maker notes, which hold
    offsets into the block, stay intact.

    Args:
        exif: EXIF bytes, a TIFF structure with or without the ``Exif\0\0`` prefix of JPEG.
    """
    tiff = len(_HEADER) if exif.startswith(_HEADER) else 0
    order = {b"II": "<", b"MM": ">"}.get(exif[tiff : tiff + 2])
    if order is None or len(exif) < tiff + 8:
        return exif
    directory = tiff + struct.unpack_from(order + "I", exif, tiff + 4)[0]
    if directory + 2 > len(exif):
        return exif
    pointer = directory + 2 + 12 * struct.unpack_from(order + "H", exif, directory)[0]
    if pointer + 4 > len(exif):
        return exif
    return exif[:pointer] + bytes(4) + exif[pointer + 4 :]


def find_maker_note(exif: bytes) -> bytes:
    r"""Return what a camera's maker keeps in an EXIF block, empty where there is nothing.

    Args:
        exif: EXIF bytes, a TIFF structure with or without the ``Exif\0\0`` prefix of JPEG; a whole
            TIFF file is one, too.
    """
    tiff = memoryview(exif)[len(_HEADER) if exif.startswith(_HEADER) else 0 :]
    order = {b"II": "<", b"MM": ">"}.get(bytes(tiff[:2]))
    if order is None or len(tiff) < 8:
        return b""
    magic, first = struct.unpack_from(order + "HI", tiff, 2)
    if magic != 42:
        return b""
    _, exif_at = _find_tag(tiff, order, first, _EXIF_TAG)
    size, start = _find_tag(tiff, order, exif_at, _MAKER_NOTE_TAG)
    return bytes(tiff[start : start + size])


def _find_tag(tiff: memoryview, order: str, directory: int, wanted: int) -> tuple[int, int]:
    """Return number and offset of a tag's values, zeros where the directory has none."""
    if not 8 <= directory <= len(tiff) - 2:
        return 0, 0
    (count,) = struct.unpack_from(order + "H", tiff, directory)
    for entry in range(directory + 2, min(directory + 2 + 12 * count, len(tiff) - 11), 12):
        tag, _, number, offset = struct.unpack_from(order + "HHII", tiff, entry)
        if tag == wanted:
            return number, offset
    return 0, 0


def apply_orientation(array: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Return stored pixels as displayed.

    Args:
        array: ``(H, W)`` or ``(H, W, C)``, any dtype, as stored in the file.
        orientation: EXIF orientation 1..8 (Exif 2.32, table 4, tag 0x0112).

    Returns:
        A view of ``array``; height and width are swapped for orientations 5 to 8.

    Raises:
        ValueError: ``orientation`` is not in 1..8.
    """
    match orientation:
        case 1:
            view = array
        case 2:
            view = array[:, ::-1]
        case 3:
            view = array[::-1, ::-1]
        case 4:
            view = array[::-1]
        case 5:
            view = array.swapaxes(0, 1)
        case 6:
            view = array.swapaxes(0, 1)[:, ::-1]
        case 7:
            view = array.swapaxes(0, 1)[::-1, ::-1]
        case 8:
            view = array.swapaxes(0, 1)[::-1]
        case _:
            raise ValueError(f"orientation must be 1 to 8, not {orientation}")
    return view


_INVERSE = {6: 8, 8: 6}


def undo_orientation(array: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Return displayed pixels as stored: the inverse of :func:`apply_orientation`.

    Args:
        array: ``(H, W)`` or ``(H, W, C)``, any dtype, as displayed.
        orientation: EXIF orientation 1..8 of the file the pixels go to.

    Returns:
        A view of ``array``; height and width are swapped for orientations 5 to 8.

    Raises:
        ValueError: ``orientation`` is not in 1..8.
    """
    return apply_orientation(array, _INVERSE.get(orientation, orientation))


def swaps_sides(orientation: int) -> bool:
    """Return whether the displayed picture has height and width of the stored one exchanged."""
    return orientation >= 5


def displayed_shape(height: int, width: int, orientation: int) -> tuple[int, int]:
    """Return ``(height, width)`` in pixels as displayed of a picture stored ``height x width``."""
    return (width, height) if swaps_sides(orientation) else (height, width)
