"""WebP: lossless files exactly, lossy ones as lossless files with the pixels they had.

The container's chunks are handled here and kept byte for byte (ICCP, EXIF, XMP, unknown ones);
only the picture's own chunks are replaced. libwebp codes them: OpenCV decodes, in a third of the
memory that Pillow takes, and Pillow encodes, for it offers ``exact``, which keeps colours under
full transparency, where OpenCV before 4.12 loses them. Pictures too large for libwebp's memory
are coded by :mod:`restorepix.formats.vp8l`.

A lossy WebP cannot be encoded again with known pixels kept, so it becomes lossless in the same
container (``lossless-rewrite``, measured about seven times as large), or lossy again with
``accept_reencode``.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from restorepix.errors import UnreadableError, UnsupportedError
from restorepix.formats.exif import (
    EXIF,
    XMP,
    apply_orientation,
    read_orientation,
    undo_orientation,
)
from restorepix.formats.limits import check_pixels
from restorepix.formats.opencv import decode_picture
from restorepix.formats.samples import clip_mask, fill_hole
from restorepix.formats.vp8l import encode_vp8l
from restorepix.photo import Encoded, Page, Photo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from restorepix.photo import BoolMask

_PICTURE = (b"VP8 ", b"VP8L", b"ALPH")
_ANIMATION_FLAG = 0x02
_OPENCV_MIN_BYTES = 32
"""OpenCV refuses shorter files with a message of its own on stderr."""
_LOSSLESS_ALPHA_BIT = 0x10
"""alpha_is_used in the fifth byte of a VP8L stream (WebP lossless specification, 3)."""
_EFFORT: Final = {"method": 1, "quality": 20}
"""Of lossless packing: a third of the time of the default, 0.2 % larger (12 grainy megapixels)."""
_LARGE_PIXELS: Final = 40_000_000
"""Above it libwebp would need more than 1 GiB."""
_LOSSY_QUALITY: Final = 95


class WebpChunk(NamedTuple):
    """A chunk of the RIFF container and where it stands in the file, padding included."""

    kind: bytes
    start: int
    end: int
    size: int


def read_webp(data: bytes, name: str, max_mpixels: float) -> Photo:
    """Decode a still WebP: one page of uint8 RGB as displayed (EXIF orientation applied).

    Args:
        data: the whole file.
        name: what to call the file in messages.
        max_mpixels: largest number of million pixels.

    Raises:
        UnreadableError: the file is truncated or corrupt.
        UnsupportedError: it is an animation.
        TooLargeError: it has more pixels than ``max_mpixels``.
    """
    chunks, _ = split_chunks(data, name)
    height, width = read_size(data, chunks, name)
    check_pixels(height * width, max_mpixels, name)
    samples = _decode(data)
    if samples is None or samples.shape[:2] != (height, width):
        raise _corrupt(name, f"its {width}x{height} pixels cannot be decoded")
    samples.flags.writeable = False
    exif = _content(data, chunks, b"EXIF") or b""
    xmp = _content(data, chunks, b"XMP ") or b""
    orientation = read_orientation(exif)
    alpha = apply_orientation(samples[..., 3], orientation) if samples.shape[2] == 4 else None
    page = Page(
        apply_orientation(samples[..., :3], orientation),
        "rgb",
        alpha,
        _content(data, chunks, b"ICCP"),
    )
    return Photo("webp", (page,), orientation, data, {"webp": samples, EXIF: exif, XMP: xmp})


def _decode(data: bytes) -> npt.NDArray[np.uint8] | None:
    """Return (H, W, 3 or 4) RGB(A), or None when the file is damaged."""
    return None if len(data) < _OPENCV_MIN_BYTES else decode_picture(data)


def _corrupt(name: str, what: str) -> UnreadableError:
    return UnreadableError(f"{name}: the WebP file is truncated or corrupt ({what}).")


def split_chunks(data: bytes, name: str) -> tuple[list[WebpChunk], int]:
    """Return the chunks and where the container ends."""
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    if end > len(data):
        raise _corrupt(name, f"{end} bytes announced, {len(data)} there")
    chunks: list[WebpChunk] = []
    at = 12
    while at + 8 <= end:
        kind, (size,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
        after = at + 8 + size + size % 2
        # The padding byte of the last chunk is left out by some writers.
        if at + 8 + size > end:
            raise _corrupt(name, f"chunk {kind.decode('latin-1')!r} ends outside the file")
        chunks.append(WebpChunk(kind, at, min(after, end), size))
        at = after
    if at < end:
        raise _corrupt(name, f"{end - at} stray bytes after its last chunk")
    return chunks, end


def _content(data: bytes, chunks: Sequence[WebpChunk], kind: bytes) -> bytes | None:
    for chunk in chunks:
        if chunk.kind == kind:
            return data[chunk.start + 8 : chunk.start + 8 + chunk.size]
    return None


def read_size(data: bytes, chunks: Sequence[WebpChunk], name: str) -> tuple[int, int]:
    """Return height and width in pixels, as stored, from the headers, refusing animations."""
    extended = _content(data, chunks, b"VP8X")
    animated = extended is not None and extended[:1] and extended[0] & _ANIMATION_FLAG
    if animated or any(chunk.kind in (b"ANIM", b"ANMF") for chunk in chunks):
        raise UnsupportedError(
            f"{name}: animated WebP is not restored. Save its frames as single pictures first."
        )
    lossless, lossy = _content(data, chunks, b"VP8L"), _content(data, chunks, b"VP8 ")
    if lossless is not None and len(lossless) >= 5 and lossless[0] == 0x2F:
        bits = int.from_bytes(lossless[1:5], "little")
        height, width = (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    elif lossy is not None and len(lossy) >= 10 and lossy[3:6] == b"\x9d\x01\x2a":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", lossy, 6))
    else:
        raise _corrupt(name, "it has no picture")
    if extended is not None:
        canvas = tuple(int.from_bytes(extended[at : at + 3], "little") + 1 for at in (4, 7))
        if canvas != (width, height):
            raise _corrupt(name, f"a canvas of {canvas} for a picture of {(width, height)}")
    return height, width


def write_webp(
    photo: Photo,
    repaired: Sequence[npt.NDArray[Any] | None],
    masks: Sequence[BoolMask | None],
    name: str,
    *,
    accept_reencode: bool = False,
) -> Encoded:
    """Encode a WebP with its hole pixels replaced, all chunks but the picture's own kept.

    Args:
        photo: from :func:`read_webp`.
        repaired: one array of the shape and dtype of the page's pixels, or None.
        masks: one ``(H, W)`` bool mask as displayed, True = hole, or None.
        name: what to call the file in messages.
        accept_reencode: encode a lossy file lossy again instead of lossless.
    """
    page, source = photo.pages[0], photo.source
    hole = undo_orientation(clip_mask(masks[0], (page.height, page.width)), photo.orientation)
    fixed = None if repaired[0] is None else undo_orientation(repaired[0], photo.orientation)
    chunks, end = split_chunks(source, name)
    lossy = any(chunk.kind == b"VP8 " for chunk in chunks)
    reencode = lossy and accept_reencode
    encode = encode_lossy if reencode else encode_lossless
    picture = encode(fill_hole(photo.extra["webp"], fixed, hole))
    kept = [
        (chunk.kind, source[chunk.start : chunk.end].ljust(8 + chunk.size + chunk.size % 2, b"\0"))
        for chunk in chunks
    ]
    first = next(at for at, (kind, _) in enumerate(kept) if kind in _PICTURE)
    before = [content for _, content in kept[:first]]
    after = [content for kind, content in kept[first:] if kind not in _PICTURE]
    body = b"WEBP" + b"".join((*before, picture, *after))
    data = b"".join((b"RIFF", struct.pack("<I", len(body)), body, source[end:]))
    return Encoded(data, "reencoded" if reencode else "lossless-rewrite" if lossy else "exact")


def encode_lossless(samples: npt.NDArray[np.uint8]) -> bytes:
    """Return a VP8L chunk.

    Args:
        samples: ``(H, W, 3 or 4)`` RGB(A); all of it is kept, colours without opacity too.
    """
    height, width, channels = samples.shape
    if height * width > _LARGE_PIXELS:
        return _build_chunk(b"VP8L", encode_vp8l(samples))
    chunk = bytearray(_encode(samples, lossless=True, exact=True, **_EFFORT))
    # The encoder drops an alpha channel that is opaque everywhere; a reader must still see one.
    if channels == 4:
        chunk[8 + 4] |= _LOSSLESS_ALPHA_BIT
    return bytes(chunk)


def encode_lossy(samples: npt.NDArray[np.uint8]) -> bytes:
    """Return a VP8 chunk at quality 95, after an ALPH chunk (lossless) where there is alpha.

    Args:
        samples: ``(H, W, 3 or 4)`` RGB(A).
    """
    return _encode(samples, quality=_LOSSY_QUALITY, method=4, alpha_quality=100, exact=True)


def _encode(samples: npt.NDArray[np.uint8], **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(samples)).save(buffer, "WEBP", **options)
    data = buffer.getvalue()
    chunks, _ = split_chunks(data, "WebP")
    return b"".join(data[chunk.start : chunk.end] for chunk in chunks if chunk.kind in _PICTURE)


def build_webp(samples: npt.NDArray[np.uint8], icc: bytes | None, exif: bytes, xmp: bytes) -> bytes:
    """Return a new lossless WebP file.

    Args:
        samples: ``(H, W, 3 or 4)`` RGB(A), as stored.
        icc: its profile, or None.
        exif: its EXIF block, or nothing.
        xmp: its XMP packet, or nothing.
    """
    body = [encode_lossless(samples)]
    if icc is not None or exif or xmp:
        height, width, channels = samples.shape
        flags = 0x20 * (icc is not None) | 0x10 * (channels == 4)
        flags |= 0x08 * bool(exif) | 0x04 * bool(xmp)
        sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        body.insert(0, _build_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + sides))
        if icc is not None:
            body.insert(1, _build_chunk(b"ICCP", icc))
        if exif:
            body.append(_build_chunk(b"EXIF", exif))
        if xmp:
            body.append(_build_chunk(b"XMP ", xmp))
    content = b"WEBP" + b"".join(body)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def _build_chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def list_parts(data: bytes, name: str) -> list[tuple[str, bytes]]:
    """Return label and content of everything but the picture's own chunks.

    Args:
        data: the whole file.
        name: what to call the file in messages.
    """
    chunks, end = split_chunks(data, name)
    parts = [
        (f"chunk {c.kind.decode('latin-1')}", data[c.start : c.start + 8 + c.size])
        for c in chunks
        if c.kind not in _PICTURE
    ]
    return [*parts, ("data after the end", data[end:])]
