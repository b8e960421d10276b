"""The held-out photographs and how they are cut to 256 px; nothing here is ever trained on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from training.data import read_rgb

VALIDATION_LIST = Path(__file__).with_name("validation.txt")
"""Names relative to the data folder, one a line, in a fixed shuffled order."""

SIZE_PX = 256


def list_validation(data: Path, count: int | None = None) -> list[Path]:
    """The first ``count`` held-out photographs (all 256 without a count).

    Raises:
        FileNotFoundError: one of them is not in ``data``.
    """
    names = VALIDATION_LIST.read_text("utf-8").split()[:count]
    paths = [data / name for name in names]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        msg = f"{missing[0]}: held-out photograph not found ({len(missing)} missing in {data})"
        raise FileNotFoundError(msg)
    return paths


def read_square(path: Path) -> npt.NDArray[np.uint8]:
    """(256, 256, 3) uint8 RGB: short side resized to 256 by area, middle square."""
    image = read_rgb(path)
    scale = SIZE_PX / min(image.shape[:2])
    size = (
        max(SIZE_PX, round(image.shape[1] * scale)),
        max(SIZE_PX, round(image.shape[0] * scale)),
    )
    image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    top, left = (image.shape[0] - SIZE_PX) // 2, (image.shape[1] - SIZE_PX) // 2
    return image[top : top + SIZE_PX, left : left + SIZE_PX]
