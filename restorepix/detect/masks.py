"""Masks that are written as files of their own, and previews of them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from PIL import Image

from restorepix.color import page_to_rgb
from restorepix.detect.repair import Finder
from restorepix.formats import read_photo
from restorepix.masks import FoundMask, encode_mask, limit_detected
from restorepix.photo import BoolMask, Page
from restorepix.tiles import Box

PREVIEW_PX: Final = 1600
"""Long side of a preview, at most."""

_MARK: Final = (255, 0, 90)
"""Colour of marks in previews: rare in photographs."""


@dataclass(frozen=True)
class WrittenMask:
    """The mask of one file, ready to be written, and what is said of it."""

    data: bytes
    """A PNG of 1 bit; for several pages a TIFF."""
    suffix: str
    preview: bytes | None
    """A JPEG of the first page with its mask drawn on, if asked for."""
    record: Mapping[str, Any]
    """JSON values: holes, pixels and share, ``detected``, ``components``, ``review``."""


def make_mask(
    data: bytes, name: str, finder: Finder, *, max_mpixels: float, preview: bool
) -> WrittenMask:
    """Return the mask of a picture file.

    Args:
        data: the picture file.
        name: what to call it in messages; its file name finds an infrared plane.
        finder: what finds damage.
        max_mpixels: largest picture to decode, in million pixels.
        preview: draw one.

    Raises:
        PhotoError: the file cannot be read, or its infrared plane does not fit.
        WeightsError: the network's answer is not finite.
    """
    photo = read_photo(data, name, max_mpixels=max_mpixels)
    sizes = [(page.height, page.width) for page in photo.pages]
    found = finder.find(photo, name)
    encoded, suffix = encode_mask(found.mask, sizes)
    drawn = draw_preview(photo.pages[0], found.mask.pages[0]) if preview else None
    return WrittenMask(encoded, suffix, drawn, _describe(found, sizes))


def _describe(found: FoundMask, sizes: list[tuple[int, int]]) -> Mapping[str, Any]:
    mask = found.mask
    careful = limit_detected(found, sizes)  # what fix would say of so large a mask
    return {
        "holes": mask.count_holes(),
        "hole_pixels": mask.hole_pixels,
        "hole_share": mask.hole_pixels / sum(height * width for height, width in sizes),
        "detected": {name: asdict(finding) for name, finding in found.detected.items()},
        "components": list(found.components),
        "review": [*mask.review, *careful.review],
        "mask_sha256": mask.hash_pages(),
    }


def draw_preview(page: Page, mask: BoolMask | None) -> bytes:
    """Return a JPEG of a page, at most ``PREVIEW_PX`` long, with its mask in a loud colour.

    Args:
        page: the picture.
        mask: (H, W) bool, True = hole; None for no hole.
    """
    height, width = page.height, page.width
    scale = min(1.0, PREVIEW_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    bands: list[Any] = []
    done = 0
    rows = max(1, (1 << 21) // width)
    for top in range(0, height, rows):
        stop = min(height, top + rows)
        end = max(done + 1, round(stop * size[1] / height)) if stop < height else size[1]
        if end <= done:
            continue
        rgb = page_to_rgb(page, Box(top, 0, stop - top, width))
        bands.append(cv2.resize(rgb, (size[0], end - done), interpolation=cv2.INTER_AREA))
        done = end
    shown = np.clip(np.concatenate(bands) * 255, 0, 255)
    if mask is not None:
        # Thin marks must not vanish: whatever a pixel of the preview covers counts.
        near = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
        shown[near] = 0.35 * shown[near] + 0.65 * np.array(_MARK)
    buffer = io.BytesIO()
    Image.fromarray(shown.astype(np.uint8)).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def place_mask_file(output: Path, suffix: str, *, exact: bool) -> Path:
    """Return where the mask of a picture goes: ``a.jpg`` -> ``a.jpg.png``.

    Args:
        output: where a restored picture would go.
        suffix: of the mask file.
        exact: the user named this very file.
    """
    return output if exact else output.with_name(output.name + suffix)
