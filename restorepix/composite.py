"""Put repaired pixels into a picture and leave every other pixel alone, bit by bit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from restorepix.photo import BoolMask
from restorepix.tiles import Box


def composite_page(
    pixels: npt.NDArray[Any],
    mask: BoolMask,
    patches: Iterable[tuple[Box, npt.NDArray[Any]]],
) -> npt.NDArray[Any]:
    """Return a copy of a picture in which the hole, and nothing else, comes from the patches.

    Known pixels are copied, never computed: their bits survive in every dtype, NaNs included.

    Args:
        pixels: (H, W, C) samples of the picture, any dtype.
        mask: (H, W) bool, True = hole.
        patches: Boxes inside the picture, each with (h, w, C) samples in the dtype of ``pixels``.
            Together they hold every hole pixel exactly once; what they say elsewhere is ignored.

    Returns:
        (H, W, C) samples in the dtype of ``pixels``.

    Raises:
        ValueError: If a patch has another shape or dtype than its box and picture, or if the
            patches give a hole pixel twice or not at all.
    """
    if mask.shape != pixels.shape[:2]:
        raise ValueError(f"the mask is {mask.shape}, but the picture is {pixels.shape[:2]}")
    repaired = pixels.copy()
    missing = mask.copy()
    for box, samples in patches:
        window = box.slices()
        expected = repaired[window].shape
        if samples.shape != expected or samples.shape[:2] != (box.height, box.width):
            raise ValueError(f"the patch for {box} is {samples.shape}, expected {expected}")
        if samples.dtype != pixels.dtype:
            raise ValueError(f"the patch for {box} is {samples.dtype}, expected {pixels.dtype}")
        hole = mask[window]
        if not np.array_equal(missing[window], hole):
            raise ValueError(f"the patch for {box} repeats hole pixels of an earlier patch")
        repaired[window][hole] = samples[hole]
        missing[window] = False
    if missing.any():
        raise ValueError(
            f"the patches leave {np.count_nonzero(missing)} hole pixels without repair"
        )
    return repaired
