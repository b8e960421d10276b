"""BMP: the pixels under holes are overwritten where they stand, nothing else is.

Uncompressed pictures of 1, 4, 8 bit with a palette, 16, 24 and 32 bit, every header from OS/2 to
version 5, bottom-up or top-down. The layout is plain enough to be read here; Pillow and OpenCV
lose palettes, alpha masks and embedded profiles. A palette stays as it is: repaired pixels get
the nearest entry. Run-length coded files are refused: no photograph is kept in one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from restorepix.errors import UnreadableError, UnsupportedError
from restorepix.formats.known import PLANES, Plane
from restorepix.formats.limits import check_pixels
from restorepix.formats.samples import (
    clip_mask,
    look_up,
    pack_bits,
    replace_indices,
    unpack_bits,
)
from restorepix.photo import Encoded, Page, Photo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from restorepix.photo import BoolMask

UInt8 = npt.NDArray[np.uint8]

_FILE_HEADER = 14
_OS2_HEADER = 12
_RGB, _BITFIELDS, _ALPHA_BITFIELDS = 0, 3, 6
_EMBEDDED = 0x4D424544
"""``MBED``: the profile is in the file (BITMAPV5HEADER, bV5CSType)."""
_DEFAULT_MASKS = {16: (0x7C00, 0x3E0, 0x1F, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}


class _Field(NamedTuple):
    """A channel inside a 16 or 32 bit pixel."""

    mask: int
    shift: int
    top: int
    """Its largest value."""


@dataclass(frozen=True)
class _Layout:
    """What the headers say."""

    height: int
    width: int
    top_down: bool
    bits: int
    start: int
    """Where the pixels begin."""
    palette: UInt8 | None
    """(P, 3) RGB."""
    fields: tuple[_Field, ...]
    """Red, green, blue and, where there is one, alpha, of 16 and 32 bit pixels."""
    icc: bytes | None

    @property
    def row_bytes(self) -> int:
        return -(-self.width * self.bits // 32) * 4

    @property
    def end(self) -> int:
        return self.start + self.height * self.row_bytes


def read_bmp(data: bytes, name: str, max_mpixels: float) -> Photo:
    """Decode a BMP: one page of RGB, uint8 (uint16 where a channel has more than 8 bit).

    Args:
        data: the whole file.
        name: what to call the file in messages.
        max_mpixels: largest number of million pixels.

    Raises:
        UnreadableError: the file is truncated or corrupt.
        UnsupportedError: it is compressed.
        TooLargeError: it has more pixels than ``max_mpixels``.
    """
    layout = _read_layout(data, name, max_mpixels)
    rows = _cut_rows(data, layout)
    planes: tuple[Plane, ...] = ()
    alpha: npt.NDArray[Any] | None = None
    if layout.palette is not None:
        indices = _unpack_indices(rows, layout)
        colors, _ = look_up(indices, layout.palette, None)
        planes = (Plane("palette indices", indices, False),)
    elif layout.bits == 24:
        colors = rows[:, : 3 * layout.width].reshape(layout.height, layout.width, 3)[..., ::-1]
    else:
        pixels = _view_pixels(rows, layout)
        deep = any(field.top > 255 for field in layout.fields)
        dtype = np.dtype(np.uint16 if deep else np.uint8)
        channels = [_get_field(pixels, field, dtype) for field in layout.fields]
        colors = np.stack(channels[:3], axis=2)
        alpha = channels[3] if len(channels) == 4 else None
        spare = pixels & ~np.array(sum(field.mask for field in layout.fields), pixels.dtype)
        planes = (Plane("unused bits", spare, True),)
    page = Page(colors, "rgb", alpha, layout.icc)
    return Photo("bmp", (page,), 1, data, {"bmp": layout, PLANES: [planes]})


def _corrupt(name: str, what: str) -> UnreadableError:
    return UnreadableError(f"{name}: the BMP file is truncated or corrupt ({what}).")


def _read_layout(data: bytes, name: str, max_mpixels: float) -> _Layout:
    if len(data) < 26:
        raise _corrupt(name, "no header")
    start, size = struct.unpack_from("<II", data, 10)
    if _FILE_HEADER + size > len(data):
        raise _corrupt(name, "no header")
    clear = compression = used = 0
    if size == _OS2_HEADER:
        width, height, clear, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        header = data[18 : 14 + size].ljust(36, b"\0")
        width, height, clear, bits, compression = struct.unpack_from("<iiHHI", header)
        (used,) = struct.unpack_from("<I", header, 28)
    if clear != 1 or width <= 0 or height in (0, -(1 << 31)):
        raise _corrupt(name, f"{width}x{height}, {clear} planes")
    check_pixels(width * abs(height), max_mpixels, name)
    has_fields = compression in (_BITFIELDS, _ALPHA_BITFIELDS) and bits in (16, 32)
    if bits not in (1, 2, 4, 8, 16, 24, 32):
        raise _corrupt(name, f"{bits} bit a pixel")
    if compression != _RGB and (not has_fields or size == 64):
        raise UnsupportedError(
            f"{name}: compressed BMP (method {compression}) is not restored. "
            "Save it as uncompressed BMP or PNG first."
        )
    after = _FILE_HEADER + size
    masks = _DEFAULT_MASKS.get(bits, ())
    if has_fields:
        count = 4 if size >= 56 or compression == _ALPHA_BITFIELDS else 3
        if 54 + 4 * count > len(data):
            raise _corrupt(name, "no colour masks")
        masks = struct.unpack_from(f"<{count}I", data, 54)
        after = max(after, 54 + 4 * count)
    palette = _read_palette(data, size, bits, used, name) if bits <= 8 else None
    if start < after:
        raise _corrupt(name, f"its pixels begin at byte {start}, inside the header")
    layout = _Layout(
        height=abs(height),
        width=width,
        top_down=height < 0,
        bits=bits,
        start=start,
        palette=palette,
        fields=_read_fields(masks, bits, name),
        icc=_read_profile(data, size),
    )
    if layout.end > len(data):
        raise _corrupt(name, f"{layout.end} bytes expected, {len(data)} there")
    return layout


def _read_palette(data: bytes, size: int, bits: int, used: int, name: str) -> UInt8:
    """Return (P, 3) RGB."""
    entry = 3 if size == _OS2_HEADER else 4
    count = min(used or 1 << bits, 1 << bits)
    place = _FILE_HEADER + size
    (start,) = struct.unpack_from("<I", data, 10)
    # Some writers store fewer entries than the depth has, and let the pixels follow at once.
    count = min(count, max(0, (min(start, len(data)) - place) // entry))
    if count == 0:
        raise _corrupt(name, "no palette")
    entries = np.frombuffer(data, np.uint8, count * entry, place).reshape(count, entry)
    return entries[:, 2::-1]


def _read_fields(masks: Sequence[int], bits: int, name: str) -> tuple[_Field, ...]:
    fields: list[_Field] = []
    for number, mask in enumerate(masks):
        shift = (mask & -mask).bit_length() - 1
        top = mask >> max(shift, 0)
        if number == 3 and mask == 0:
            break
        if mask == 0 or mask >> bits or top & (top + 1) or top > 0xFFFF:
            raise _corrupt(name, f"colour mask {mask:#x}")
        if any(mask & field.mask for field in fields):
            raise _corrupt(name, "overlapping colour masks")
        fields.append(_Field(mask, shift, top))
    return tuple(fields)


def _read_profile(data: bytes, size: int) -> bytes | None:
    """Return the embedded ICC profile of a version 5 header."""
    if size < 124 or struct.unpack_from("<I", data, 14 + 56)[0] != _EMBEDDED:
        return None
    offset, length = struct.unpack_from("<II", data, 14 + 112)
    profile = data[14 + offset : 14 + offset + length]
    return profile if len(profile) == length > 0 else None


def _cut_rows(data: bytes | bytearray, layout: _Layout) -> UInt8:
    """Return (H, bytes) rows from top to bottom, a view of the file's bytes."""
    size = layout.height * layout.row_bytes
    rows = np.frombuffer(data, np.uint8, size, layout.start).reshape(layout.height, -1)
    return rows if layout.top_down else rows[::-1]


def _unpack_indices(rows: UInt8, layout: _Layout) -> UInt8:
    if layout.bits == 8:
        return rows[:, : layout.width]
    return unpack_bits(rows, layout.width, layout.bits)


def _view_pixels(rows: UInt8, layout: _Layout) -> npt.NDArray[Any]:
    """Return (H, W) pixels of 16 or 32 bit, a view."""
    return rows.view("<u2" if layout.bits == 16 else "<u4")[:, : layout.width]


def _get_field(pixels: npt.NDArray[Any], field: _Field, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return a channel scaled to the whole range of an unsigned type."""
    values = ((pixels & field.mask) >> field.shift).astype(np.uint64)
    return ((values * np.iinfo(dtype).max + field.top // 2) // field.top).astype(dtype)


def write_bmp(
    photo: Photo,
    repaired: Sequence[npt.NDArray[Any] | None],
    masks: Sequence[BoolMask | None],
    name: str,
) -> Encoded:
    """Encode a BMP: the original's bytes with hole pixels overwritten.

    Args:
        photo: from :func:`read_bmp`.
        repaired: one array of the shape and dtype of the page's pixels, or None.
        masks: one ``(H, W)`` bool mask, True = hole, or None.
        name: what to call the file in messages.
    """
    del name
    layout: _Layout = photo.extra["bmp"]
    page, mask = photo.pages[0], masks[0]
    data = bytearray(photo.source)
    if repaired[0] is None or mask is None or not mask.any():
        return Encoded(bytes(data), "exact")
    hole = clip_mask(mask, (page.height, page.width))
    rows, colors = _cut_rows(data, layout), repaired[0][hole]
    if layout.palette is not None:
        indices = np.array(_unpack_indices(rows, layout))
        indices[hole] = replace_indices(indices[hole], colors, layout.palette)
        if layout.bits == 8:
            rows[:, : layout.width] = indices
        else:
            packed = pack_bits(indices, layout.bits, rows)
            rows[:, : packed.shape[1]] = packed
    elif layout.bits == 24:
        pixels = rows[:, : 3 * layout.width].reshape(layout.height, layout.width, 3)
        pixels[hole] = colors[:, ::-1]
        rows[:, : 3 * layout.width] = pixels.reshape(layout.height, -1)
    else:
        pixels = _view_pixels(rows, layout)
        pixels[hole] = _put_fields(pixels[hole], colors, layout.fields[:3])
    return Encoded(bytes(data), "exact")


def _put_fields(
    pixels: npt.NDArray[Any], colors: npt.NDArray[Any], fields: Sequence[_Field]
) -> npt.NDArray[Any]:
    """Return (N,) pixels with their (N, 3) colours replaced, other bits as they were."""
    result = pixels.astype(np.uint64)
    full = np.iinfo(colors.dtype).max
    for field, values in zip(fields, colors.T, strict=True):
        scaled = (values.astype(np.uint64) * field.top + full // 2) // full
        result = (result & ~np.uint64(field.mask)) | (scaled << np.uint64(field.shift))
    return result.astype(pixels.dtype)


def list_parts(data: bytes, name: str) -> list[tuple[str, bytes]]:
    """Return label and content of everything but the pixels.

    Args:
        data: the whole file.
        name: what to call the file in messages.
    """
    layout = _read_layout(data, name, float("inf"))
    return [
        ("header and palette", data[: layout.start]),
        ("data after the pixels", data[layout.end :]),
    ]
