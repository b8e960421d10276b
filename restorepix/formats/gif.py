"""GIF, still pictures: palette indices under holes are replaced, every other block is kept.

Blocks are handled here and kept byte for byte (palette, comments, XMP, profile); the LZW code is
lent from Pillow, which alone would show colours instead of indices and write its own blocks. The
palette stays as it is: known pixels keep their index, repaired ones get the nearest entry, and
no repaired pixel becomes or stops being transparent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from restorepix.errors import UnreadableError, UnsupportedError
from restorepix.formats.known import PLANES, Plane
from restorepix.formats.limits import check_pixels
from restorepix.formats.samples import clip_mask, look_up, replace_indices
from restorepix.photo import Encoded, Page, Photo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from restorepix.photo import BoolMask

UInt8 = npt.NDArray[np.uint8]

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_GRAPHIC_CONTROL, _APPLICATION = 0xF9, 0xFF
_PROFILE = b"ICCRGBG1012"
_CODE_BITS = 8
"""LZW minimum code size that the encoder writes; any index fits."""


@dataclass(frozen=True, eq=False)
class _Layout:
    """What the blocks say."""

    height: int
    width: int
    palette: UInt8
    palette_alpha: UInt8 | None
    interlaced: bool
    start: int
    """Where the picture's data begins, with its code size."""
    end: int
    icc: bytes | None


@dataclass(frozen=True, eq=False)
class _Stored:
    """What the writer needs again."""

    indices: UInt8
    """(H, W)."""
    layout: _Layout


def read_gif(data: bytes, name: str, max_mpixels: float) -> Photo:
    """Decode a still GIF: one page of uint8 RGB, with alpha when it has a transparent index.

    Args:
        data: the whole file.
        name: what to call the file in messages.
        max_mpixels: largest number of million pixels.

    Raises:
        UnreadableError: the file is truncated or corrupt.
        UnsupportedError: it is an animation, or its picture does not fill its canvas.
        TooLargeError: it has more pixels than ``max_mpixels``.
    """
    layout = _read_layout(data, name, max_mpixels)
    content = data[layout.start : layout.end]
    indices = _decode_indices(content, (layout.height, layout.width), layout.interlaced, name)
    pixels, alpha = look_up(indices, layout.palette, layout.palette_alpha)
    planes = [(Plane("palette indices", indices, False),)]
    page = Page(pixels, "rgb", alpha, layout.icc)
    return Photo("gif", (page,), 1, data, {"gif": _Stored(indices, layout), PLANES: planes})


def _read_layout(data: bytes, name: str, max_mpixels: float) -> _Layout:
    try:
        return _walk_blocks(data, name, max_mpixels)
    except IndexError as error:
        raise _corrupt(name, "it ends early") from error


def _walk_blocks(data: bytes, name: str, max_mpixels: float) -> _Layout:
    width, height = _number(data, 6), _number(data, 8)
    check_pixels(width * height, max_mpixels, name)
    palette, at = _read_palette(data, data[10], 13)
    transparent: int | None = None
    icc: bytes | None = None
    picture: tuple[int, int, int] | None = None
    own_palette: UInt8 | None = None
    while data[at] != _TRAILER:
        if data[at] == _EXTENSION:
            kind, (content, following) = data[at + 1], _join_blocks(data, at + 2)
            if kind == _GRAPHIC_CONTROL and picture is None and len(content) >= 4:
                transparent = content[3] if content[0] & 1 else None
            if kind == _APPLICATION and content.startswith(_PROFILE):
                icc = content[len(_PROFILE) :]
            at = following
        elif data[at] == _IMAGE:
            if picture is not None:
                raise UnsupportedError(
                    f"{name}: animated GIF is not restored. Save its frames as single pictures "
                    "first."
                )
            box = tuple(_number(data, at + place) for place in (1, 3, 5, 7))
            if box != (0, 0, width, height):
                raise UnsupportedError(
                    f"{name}: a GIF whose picture does not fill its canvas is not restored. "
                    "Save it as PNG first."
                )
            flags = data[at + 9]
            own_palette, start = _read_palette(data, flags, at + 10)
            _, at = _join_blocks(data, start + 1)
            picture = (start, at, flags)
        else:
            raise _corrupt(name, f"block {data[at]:#x} at byte {at}")
    colors = palette if own_palette is None else own_palette
    if picture is None or colors is None or width * height == 0:
        raise _corrupt(name, "it has no picture" if picture is None else "it has no palette")
    start, end, flags = picture
    opacity = None
    if transparent is not None and transparent < len(colors):
        opacity = np.where(np.arange(len(colors)) == transparent, 0, 255).astype(np.uint8)
    return _Layout(height, width, colors, opacity, bool(flags & 0x40), start, end, icc)


def _corrupt(name: str, what: str) -> UnreadableError:
    return UnreadableError(f"{name}: the GIF file is truncated or corrupt ({what}).")


def _number(data: bytes, at: int) -> int:
    return data[at] | data[at + 1] << 8


def _read_palette(data: bytes, flags: int, at: int) -> tuple[UInt8 | None, int]:
    """Return a colour table, if flags say that one follows, and what is after it."""
    if not flags & 0x80:
        return None, at
    end = at + (6 << (flags & 7))
    if end > len(data):
        raise IndexError
    return np.frombuffer(data[at:end], np.uint8).reshape(-1, 3), end


def _join_blocks(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the content of sub-blocks, and what is after their terminator."""
    content: list[bytes] = []
    while size := data[at]:
        content.append(data[at + 1 : at + 1 + size])
        at += 1 + size
    return b"".join(content), at + 1


def _decode_indices(content: bytes, shape: tuple[int, int], interlaced: bool, name: str) -> UInt8:
    """Return (H, W) palette indices of a picture's code size and sub-blocks."""
    height, width = shape
    if not 1 <= content[0] <= _CODE_BITS:
        raise _corrupt(name, f"code size {content[0]}")
    try:
        arguments = (content[0], int(interlaced))
        picture = Image.frombytes("L", (width, height), content[1:], "gif", *arguments)
    except (ValueError, OSError) as error:
        raise _corrupt(name, str(error)) from error
    indices: UInt8 = np.array(picture)
    indices.flags.writeable = False
    return indices


def write_gif(
    photo: Photo,
    repaired: Sequence[npt.NDArray[Any] | None],
    masks: Sequence[BoolMask | None],
    name: str,
) -> Encoded:
    """Encode a GIF with the indices of its hole pixels replaced, every other block kept.

    Args:
        photo: from :func:`read_gif`.
        repaired: one array of the shape and dtype of the page's pixels, or None.
        masks: one ``(H, W)`` bool mask, True = hole, or None.
        name: what to call the file in messages.
    """
    del name
    stored: _Stored = photo.extra["gif"]
    layout, page, mask = stored.layout, photo.pages[0], masks[0]
    if repaired[0] is None or mask is None or not mask.any():
        return Encoded(photo.source, "exact")
    hole = clip_mask(mask, (page.height, page.width))
    indices = stored.indices.copy()
    indices[hole] = replace_indices(
        indices[hole], repaired[0][hole], layout.palette, layout.palette_alpha
    )
    picture = Image.frombytes("L", (page.width, page.height), indices.tobytes())
    packed = picture.tobytes("gif", "L", _CODE_BITS, int(layout.interlaced))
    content = bytes([_CODE_BITS]) + packed + b"\0"
    data = photo.source[: layout.start] + content + photo.source[layout.end :]
    return Encoded(data, "exact")


def list_parts(data: bytes, name: str) -> list[tuple[str, bytes]]:
    """Return label and content of everything but the picture's data.

    Args:
        data: the whole file.
        name: what to call the file in messages.
    """
    layout = _read_layout(data, name, float("inf"))
    return [
        ("blocks before the picture", data[: layout.start]),
        ("blocks after the picture", data[layout.end :]),
    ]
