"""The few operations on planes that all of this package needs, typed."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from restorepix.photo import BoolMask

Floats = npt.NDArray[np.float32]


def blur(values: npt.NDArray[np.floating[Any]], sigma_px: float, *, reflect: bool = True) -> Floats:
    """Return (h, w) or (h, w, C) values under a Gaussian window; outside is mirrored, or 0."""
    border = cv2.BORDER_REFLECT if reflect else cv2.BORDER_CONSTANT
    blurred = cv2.GaussianBlur(values, (0, 0), sigma_px, borderType=border)
    return np.asarray(blurred, np.float32)


def resize(photo: Floats, size: tuple[int, int]) -> Floats:
    """Return (h, w, C) samples at another ``(height, width)``, averaged where it is smaller."""
    if photo.shape[:2] == size:
        return photo
    return np.asarray(cv2.resize(photo, size[::-1], interpolation=cv2.INTER_AREA), np.float32)


def resize_mask(mask: BoolMask, size: tuple[int, int]) -> BoolMask:
    """Return a mask at another ``(height, width)``, by the nearest pixel."""
    resized = cv2.resize(mask.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)
    return np.asarray(resized, np.bool_)


def grow(mask: BoolMask, reach_px: int) -> BoolMask:
    """Return a mask that reaches so many pixels farther, with a round brush."""
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach_px + 1,) * 2)
    return np.asarray(cv2.dilate(mask.astype(np.uint8), brush), np.bool_)


def grow_square(mask: BoolMask, reach_px: int) -> BoolMask:
    """Return a mask that reaches so many pixels farther, with a square brush."""
    brush = np.ones((2 * reach_px + 1, 2 * reach_px + 1), np.uint8)
    return np.asarray(cv2.dilate(mask.astype(np.uint8), brush), np.bool_)


def label(mask: BoolMask) -> tuple[int, npt.NDArray[np.int32]]:
    """Return the number of connected parts plus one, and (h, w) their numbers; 0 = outside."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return count, np.asarray(labels, np.int32)


def fill_contours(mask: BoolMask, least_px: int = 1) -> BoolMask:
    """Return a mask with everything inside its outer contours; short contours are left as is."""
    filled = mask.astype(np.uint8)
    contours, _ = cv2.findContours(filled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    large = [contour for contour in contours if len(contour) >= least_px]
    cv2.drawContours(filled, large, -1, (1,), cv2.FILLED)
    return filled.astype(np.bool_)


def median(levels: npt.NDArray[np.uint8], side_px: int) -> npt.NDArray[np.uint8]:
    """Return (h, w, 3) medians of each channel in a square window of an odd side."""
    return np.asarray(cv2.medianBlur(levels, side_px), np.uint8)


def open_mask(mask: BoolMask, side_px: int) -> BoolMask:
    """Return a mask without parts thinner than a square brush."""
    brush = np.ones((side_px, side_px), np.uint8)
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, brush), np.bool_)


def match_best(plane: Floats, other: Floats) -> float:
    """Return the correlation, in [-1, 1], of two planes at the shift where it is highest."""
    margin = [max(2, side // 8) for side in plane.shape]
    middle = plane[margin[0] : -margin[0], margin[1] : -margin[1]]
    scores = cv2.matchTemplate(other, np.ascontiguousarray(middle), cv2.TM_CCOEFF_NORMED)
    return float(np.nan_to_num(scores).max())
