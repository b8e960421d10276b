"""The infrared plane of a film scan as a mask of dust and scratches.

The dyes of colour film let infrared light through; dust, hair and cut emulsion do not. So what is
dark in infrared against its surround is damage. A trace of the picture remains (dyes are not quite
clear) and is taken out by a fit on the visible plane. In silver black-and-white film, and in
Kodachrome, the picture itself stops infrared: that is recognised, and the plane is not used.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from restorepix.photo import BoolMask, Page, Photo

SURROUND_PX: Final = 41
"""Side of the window whose median is what a pixel is compared with, at 2 megapixels."""

NOISE_FACTOR: Final = 5.0
"""A pixel is damage from so many times the frame's own noise below its surround."""

LEAST_DROP: Final = 0.06
"""And from so much of the surround at least."""

PICTURE_CORRELATION: Final = 0.6
"""From this correlation of infrared with the visible picture (logarithms, coarse scale) ..."""

PICTURE_SLOPE: Final = 0.3
"""... and this density in infrared for each unit of visible density, the film is taken for silver.
Dyes stay below 0.1 in the red end that leaks; silver is near 1. A guess between them."""

MAX_SHARE: Final = 0.15
"""More of a frame than this is not dust: the plane does not work here."""


class InfraredMask(NamedTuple):
    """What a plane showed."""

    mask: BoolMask | None
    """(H, W) bool, True = dust or scratch; None when the plane was not used."""
    note: str
    """Why it was not used; empty otherwise."""


def find_infrared(plane: npt.NDArray[Any], visible: npt.NDArray[np.float32]) -> InfraredMask:
    """Return what an infrared plane says of dust and scratches, normalised to its own frame.

    Args:
        plane: (H, W) samples of any depth, dark where infrared was stopped.
        visible: (H, W) float32 lightness of the picture in [0, 1].

    Raises:
        ValueError: the sizes differ.
    """
    if plane.shape != visible.shape:
        raise ValueError(f"the infrared plane is {plane.shape}, the picture {visible.shape}")
    light = plane.astype(np.float32)
    top = float(np.percentile(light[:: max(1, light.shape[0] // 512)], 99.5))
    if top <= 0 or float(np.ptp(light)) <= 0:
        return InfraredMask(None, "the infrared plane is empty")
    light = np.clip(light / top, 1e-3, 2)
    dense, picture = -np.log(light), -np.log(np.clip(visible, 0.02, 1))
    coarse_dense, coarse_picture = _coarse(dense), _coarse(picture)
    slope, correlation = 0.0, 0.0
    if float(coarse_dense.std()) > 1e-3 and float(coarse_picture.std()) > 0.02:
        slope = float(np.polyfit(coarse_picture.ravel(), coarse_dense.ravel(), 1)[0])
        correlation = float(np.corrcoef(coarse_dense.ravel(), coarse_picture.ravel())[0, 1])
    if abs(correlation) > PICTURE_CORRELATION and abs(slope) > PICTURE_SLOPE:
        return InfraredMask(
            None,
            "the picture shows in the infrared plane, as in silver black-and-white film: "
            "the plane was not used",
        )
    dense = dense - np.float32(slope if abs(slope) <= PICTURE_SLOPE else 0) * picture
    side = max(5, round(SURROUND_PX * (plane.size / 2e6) ** 0.5 / 2) * 2 + 1)
    drop = dense - _surround(np.asarray(dense, np.float32), side)
    noise = 1.4826 * float(np.median(np.abs(drop[:: max(1, drop.shape[0] // 512)])))
    limit = max(LEAST_DROP, NOISE_FACTOR * noise)
    mask = drop > limit
    mask = cv2.morphologyEx(mask.view(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    if float(mask.mean()) > MAX_SHARE:
        return InfraredMask(
            None, f"the infrared plane marks {100 * float(mask.mean()):.0f} % of the frame: "
            "it was not used"
        )  # fmt: skip
    return InfraredMask(mask.astype(np.bool_), "")


def find_infrared_page(photo: Photo) -> int | None:
    """Return the number of the page that is the infrared plane of the first, or None.

    Scanner programs write it as a second page: grey, of the size of a first page in colour.
    """
    if len(photo.pages) != 2:
        return None
    first, second = photo.pages
    same = (first.height, first.width) == (second.height, second.width)
    return 1 if same and first.color == "rgb" and second.color == "grey" else None


def read_plane(page: Page) -> npt.NDArray[Any]:
    """Return (H, W) samples of a page of any colour model: the mean of its channels."""
    return page.pixels[..., 0] if page.pixels.shape[2] == 1 else page.pixels.mean(2)


def _coarse(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Reduced to at most 64 px a side by area, so that dust does not count."""
    size = (min(64, values.shape[1]), min(64, values.shape[0]))
    small = cv2.resize(np.asarray(values, np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def _surround(dense: npt.NDArray[np.float32], side: int) -> npt.NDArray[np.float32]:
    """The local median in a square of ``side``, computed at a quarter of the size."""
    size = (max(1, dense.shape[1] // 4), max(1, dense.shape[0] // 4))
    small = cv2.resize(dense, size, interpolation=cv2.INTER_AREA)
    low, high = float(small.min()), float(small.max())
    scale = 255 / max(high - low, 1e-6)
    levels = np.asarray(np.rint((small - low) * scale), np.uint8)
    middle = cv2.medianBlur(levels, max(3, side // 4 | 1)).astype(np.float32) / scale + low
    large = cv2.resize(middle, (dense.shape[1], dense.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large, np.float32)
