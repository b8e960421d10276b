"""Overlays on the disk: a picture with opacity, as other programs write logos too."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from restorepix.errors import PhotoError, UsageError
from restorepix.formats import read_photo
from restorepix.watermark.overlay import Overlay, Placement
from restorepix.watermark.study import Family, bound, read_rgb

_VISIBLE: Final = 1 / 255


def read_overlay(path: Path, *, max_mpixels: float) -> Family:
    """Return the overlay of a picture with an alpha channel.

    A picture as large as the photographs lies on them as it is; a smaller one is a logo that is
    looked for everywhere, at its own size.

    Args:
        path: PNG, TIFF, WebP or another format with opacity.
        max_mpixels: largest picture to decode, in million pixels.

    Raises:
        UsageError: it cannot be read, has no alpha channel, or is transparent everywhere.
    """
    try:
        page = read_photo(path.read_bytes(), str(path), max_mpixels=max_mpixels).pages[0]
    except OSError as error:
        raise UsageError(f"--overlay {path}: {error.strerror or error}.") from error
    except PhotoError as error:
        raise UsageError(f"--overlay: {error}") from error
    if page.alpha is None or page.color == "cmyk":
        raise UsageError(
            f"--overlay {path}: expected a picture with an alpha channel that holds the "
            f"watermark's opacity, found {page.color} without. Save it as a PNG with transparency."
        )
    top = 1.0 if page.alpha.dtype.kind == "f" else float(np.iinfo(page.alpha.dtype).max)
    alpha = np.clip(page.alpha.astype(np.float32) / np.float32(top), 0, 1)
    if not (alpha > _VISIBLE).any():
        raise UsageError(f"--overlay {path}: it is transparent everywhere: nothing to look for.")
    box = bound(alpha > _VISIBLE, 0)
    window = box.slices()
    overlay = Overlay(alpha[window].copy(), read_rgb(page)[window].copy())
    size = (page.height, page.width)
    return Family(overlay, Placement(box.top, box.left), size, is_known=True)


def encode_overlay(family: Family) -> bytes:
    """Return a PNG of 8 bits with alpha, of the size of the photographs it was found on."""
    pixels = np.zeros((*family.size, 4), np.uint8)
    top, left = round(family.place.top), round(family.place.left)
    height, width = family.overlay.shape
    layers = np.dstack([family.overlay.color, family.overlay.alpha])
    pixels[top : top + height, left : left + width] = np.rint(layers * 255)
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(buffer, "PNG")
    return buffer.getvalue()


def save_overlays(families: tuple[Family, ...], path: Path, *, overwrite: bool) -> list[Path]:
    """Write the overlays that were found: the first as ``path``, others as ``path-2`` and so on.

    Raises:
        UsageError: a file is there already, or cannot be written.
    """
    written: list[Path] = []
    for number, family in enumerate(families, 1):
        place = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb" if overwrite else "xb") as file:
                file.write(encode_overlay(family))
        except FileExistsError:
            raise UsageError(
                f"--save-overlay {place}: it is there already. Pass --overwrite to replace it."
            ) from None
        except OSError as error:
            raise UsageError(f"--save-overlay {place}: {error.strerror or error}.") from error
        written.append(place)
    return written
