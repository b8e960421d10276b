"""Previews: any picture file as a small sRGB JPEG that every browser shows, upright.

Pages are made smaller at their own depth, then converted through their ICC profile. What no
profile describes is shown as sRGB; light that is stored linearly is given a display curve.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms
from PIL.JpegImagePlugin import JpegImageFile

from restorepix.color import fit_curve, is_linear
from restorepix.errors import UnreadableError
from restorepix.formats import DEFAULT_MAX_MPIXELS, read_photo, sniff_format
from restorepix.formats.exif import apply_orientation, read_orientation, swaps_sides
from restorepix.formats.jpeg_segments import parse_jpeg, read_exif, read_profile
from restorepix.formats.limits import check_pixels
from restorepix.masks import threshold_page
from restorepix.photo import BoolMask, Page

VIEW_PX: Final = 1600
"""Longest side of a picture that is looked at; a guess: what fills a common screen."""
THUMB_PX: Final = 400
"""Longest side of a picture in the grid: sharp at 1.5 device pixels a CSS pixel."""
_VIEW_QUALITY: Final = 88
_THUMB_QUALITY: Final = 80
_RUBYLITH: Final = (226, 24, 45)
"""R, G and B of holes in the mask layer: the red of masking film."""
_SPOTS_PX: Final = 800
"""Longest side of the mask in which holes are grouped."""
_NEAR_PX: Final = 25
"""Holes this near to each other, at that size, are looked at together; a guess."""
_CHECKS_PX: Final = 8
"""Side of a check that shows through where a picture is transparent."""

_Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Shown:
    """A page as it is shown: upright, in sRGB, no larger than asked."""

    pixels: _Bytes
    """(H, W, 3) uint8, R, G, B, sRGB."""
    height: int
    """Of the whole page as displayed, in pixels."""
    width: int
    pages: int
    """How many pages the file has."""
    note: str = ""
    """What about its colours is only a guess; empty when nothing is."""


def render_picture(
    data: bytes,
    name: str,
    *,
    fit_px: int = VIEW_PX,
    page: int = 0,
    max_mpixels: float = DEFAULT_MAX_MPIXELS,
) -> Shown:
    """Return a page of a picture file as a screen shows it.

    Args:
        data: the whole file.
        name: what to call the file in messages.
        fit_px: longest side that is wanted; smaller pictures keep their size.
        page: which page, from 0; the last one when there are fewer.
        max_mpixels: largest picture to decode, in millions of pixels.

    Raises:
        PhotoError: the file cannot be decoded, as :func:`restorepix.formats.read_photo`.
    """
    if sniff_format(data) == "jpeg":
        shown = _render_jpeg(data, name, fit_px, max_mpixels)
        if shown is not None:
            return shown
    photo = read_photo(data, name, max_mpixels=max_mpixels)
    one = photo.pages[min(page, len(photo.pages) - 1)]
    pixels, note = _render_page(one, fit_px)
    return Shown(pixels, one.height, one.width, len(photo.pages), note)


def shrink(shown: Shown, fit_px: int) -> _Bytes:
    """Return the pixels of a shown page, no larger than ``fit_px``: ``(H, W, 3)`` uint8."""
    return _fit(shown.pixels, fit_px)


def encode_view(pixels: _Bytes) -> bytes:
    """Return a JPEG of ``(H, W, 3)`` uint8 sRGB pixels, good enough to judge a repair by."""
    return _encode_jpeg(pixels, _VIEW_QUALITY)


def encode_thumb(pixels: _Bytes) -> bytes:
    """Return a JPEG of ``(H, W, 3)`` uint8 sRGB pixels for the grid."""
    return _encode_jpeg(pixels, _THUMB_QUALITY)


def read_holes(data: bytes, name: str) -> tuple[BoolMask, ...]:
    """Return the pages of a mask file, each ``(H, W)`` bool, True = hole.

    Raises:
        PhotoError: it cannot be decoded.
    """
    return tuple(threshold_page(page) for page in read_photo(data, name).pages)


def render_holes(hole: BoolMask, fit_px: int = VIEW_PX) -> bytes:
    """Return a mask as a layer: a PNG, red where there is a hole, else transparent.

    Making it smaller keeps every hole visible: a pixel is red when any hole falls into it.

    Args:
        hole: ``(H, W)`` bool, True = hole.
        fit_px: longest side that is wanted.
    """
    small = _fit(hole.view(np.uint8) * np.uint8(255), fit_px) > 0
    image = Image.fromarray(small.astype(np.uint8), "P")
    image.putpalette([0, 0, 0, *_RUBYLITH])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", bits=1, transparency=0, optimize=True)
    return buffer.getvalue()


def list_spots(hole: BoolMask, limit: int = 24) -> list[tuple[float, float, float, float]]:
    """Return where to look: boxes around the largest groups of holes, from top to bottom.

    Args:
        hole: ``(H, W)`` bool, True = hole.
        limit: how many boxes at most.

    Returns:
        ``(left, top, width, height)`` of each box as shares of the picture's sides.
    """
    small = (_fit(hole.view(np.uint8) * np.uint8(255), _SPOTS_PX) > 0).view(np.uint8)
    near = cv2.dilate(small, np.ones((_NEAR_PX, _NEAR_PX), np.uint8))
    labels, stats = cv2.connectedComponentsWithStats(near, connectivity=8)[1:3]
    areas = np.bincount(labels[small > 0], minlength=len(stats))
    largest = sorted(range(1, len(stats)), key=lambda label: -int(areas[label]))[:limit]
    height, width = small.shape
    boxes: list[tuple[float, float, float, float]] = []
    for label in largest:
        left, top, wide, high = (int(number) for number in stats[label][:4])
        boxes.append(
            (
                round(left / width, 4),
                round(top / height, 4),
                round(wide / width, 4),
                round(high / height, 4),
            )
        )
    return sorted(boxes, key=lambda box: (round(box[1] * 8), box[0]))


def _render_jpeg(data: bytes, name: str, fit_px: int, max_mpixels: float) -> Shown | None:
    """Decode a JPEG at a fraction of its size, which takes a fraction of the time; None for CMYK.

    libjpeg leaves out frequencies that the smaller picture cannot show.
    """
    file = parse_jpeg(data, name)
    height, width = file.frame.height, file.frame.width
    check_pixels(height * width, max_mpixels, name)
    components = len(file.frame.components)
    if components not in (1, 3):
        return None
    try:
        # The class itself, since Image.open() has a limit of its own on pixels.
        image = JpegImageFile(io.BytesIO(data))
        image.draft(None, (min(width, fit_px), min(height, fit_px)))
        stored = np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise UnreadableError(f"{name}: the JPEG cannot be decoded: {error}.") from error
    pixels = _fit(stored, fit_px)
    pixels, note = _to_srgb(pixels, "grey" if components == 1 else "rgb", read_profile(file))
    orientation = read_orientation(read_exif(file))
    if swaps_sides(orientation):
        height, width = width, height
    upright = np.ascontiguousarray(apply_orientation(pixels, orientation))
    return Shown(upright, height, width, 1, note)


def _render_page(page: Page, fit_px: int) -> tuple[_Bytes, str]:
    samples = _fit(page.pixels, fit_px)
    if samples.ndim == 2:
        samples = samples[..., None]
    icc = page.icc
    if samples.dtype != np.uint8:
        if icc is not None and is_linear(icc) and page.color == "rgb":
            # Eight bits of linear light are too few for shadows: the display curve comes first,
            # and the profile is told.
            top = 65535 if samples.dtype == np.uint16 else 1
            light: npt.NDArray[Any] = np.clip(np.nan_to_num(samples / np.float32(top)), 0, 1)
            scaled = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
            icc = _replace_curves(icc)
        else:
            scaled = fit_curve(page).encode(samples)
            icc = None if page.color == "rgb" and samples.dtype.kind == "f" else icc
        samples = np.rint(scaled * 255).astype(np.uint8)
    pixels, note = _to_srgb(samples, page.color, icc)
    if page.alpha is not None:
        pixels = _lay_on_checks(pixels, _fit(page.alpha, fit_px))
    return pixels, note


def _fit(pixels: npt.NDArray[Any], fit_px: int) -> npt.NDArray[Any]:
    """Return pixels no larger than ``fit_px``, each the mean of those it stands for."""
    height, width = pixels.shape[:2]
    scale = fit_px / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def _to_srgb(samples: _Bytes, color: str, icc: bytes | None) -> tuple[_Bytes, str]:
    """Return ``(H, W, 3)`` uint8 in sRGB, and what about it is a guess."""
    mode = {"grey": "L", "rgb": "RGB", "cmyk": "CMYK"}[color]
    if samples.ndim == 3 and samples.shape[2] == 1:
        samples = samples[..., 0]
    note = ""
    if icc is not None:
        try:
            image = Image.fromarray(np.ascontiguousarray(samples), mode)
            converted = ImageCms.applyTransform(image, _build_transform(icc, mode))
            assert converted is not None
            return np.asarray(converted), ""
        except (ImageCms.PyCMSError, ValueError, OSError):
            note = "its colour profile cannot be used; it is shown as if it were sRGB"
    if color == "cmyk":
        ink = samples.astype(np.uint16)
        samples = ((255 - ink[..., :3]) * (255 - ink[..., 3:]) // 255).astype(np.uint8)
        note = note or "CMYK without a profile: its colours are an estimate"
    elif color == "grey":
        samples = np.repeat(samples[..., None], 3, axis=2)
    return samples, note


@lru_cache(maxsize=32)
def _build_transform(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    create: Any = getattr(ImageCms, "createProfile")  # noqa: B009 - its types are incomplete
    return ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(icc)),
        create("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )


def _replace_curves(icc: bytes) -> bytes:
    """Return a profile whose tone curves are those of sRGB (ICC.1:2010, 10.15, type 3)."""
    numbers = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    curve = b"para" + bytes(4) + b"\0\3\0\0"
    curve += b"".join(round(number * 65536).to_bytes(4) for number in numbers)
    profile = bytearray(icc + bytes(-len(icc) % 4))
    start = len(profile)
    for entry in range(132, 132 + 12 * int.from_bytes(icc[128:132]), 12):
        if icc[entry : entry + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            profile[entry + 4 : entry + 12] = start.to_bytes(4) + len(curve).to_bytes(4)
    profile += curve
    profile[:4] = len(profile).to_bytes(4)
    profile[84:100] = bytes(16)  # the identity, a hash of the old content
    return bytes(profile)


def _lay_on_checks(pixels: _Bytes, alpha: npt.NDArray[Any]) -> _Bytes:
    """Return pixels over grey checks where they are transparent."""
    height, width = alpha.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width] // _CHECKS_PX
    checks = np.where((rows + columns) % 2, np.float32(204), np.float32(236))[..., None]
    top = 1 if alpha.dtype.kind == "f" else np.iinfo(alpha.dtype).max
    share = np.clip(alpha.astype(np.float32) / top, 0, 1)[..., None]
    return np.rint(pixels * share + checks * (1 - share)).astype(np.uint8)


def _encode_jpeg(pixels: _Bytes, quality: int) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels), "RGB")
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def hash_content(data: bytes) -> str:
    """Return the SHA-256 of a file's content in hex."""
    return hashlib.sha256(data).hexdigest()
