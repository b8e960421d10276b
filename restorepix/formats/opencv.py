"""OpenCV's codecs with channels in our order, without what they say of damaged files on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
from cv2.utils import logging

if TYPE_CHECKING:
    from collections.abc import Sequence

CHANNELS = (1, 3, 4)
"""Numbers of channels that OpenCV codes: grey, RGB, RGB and alpha."""


def decode_picture(data: bytes) -> npt.NDArray[Any] | None:
    """Decode a picture file with the channels and the depth it has.

    Args:
        data: the whole file.

    Returns:
        ``(H, W, C)`` uint8 or uint16: grey, RGB or RGB and alpha; None when OpenCV cannot decode
        it.
    """
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        decoded: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    finally:
        logging.setLogLevel(level)
    if decoded is None:
        return None
    samples: npt.NDArray[Any] = decoded[..., None] if decoded.ndim == 2 else decoded
    _swap_colors(samples)
    return samples


def encode_picture(suffix: str, samples: npt.NDArray[Any], options: Sequence[int]) -> bytes:
    """Return a picture file.

    Args:
        suffix: of the format, with its dot.
        samples: ``(H, W, 1, 3 or 4)`` uint8 or uint16, contiguous: grey, RGB or RGB and alpha.
            They are used up: changed in place, for the memory of large pictures.
        options: of ``cv2.imencode``.
    """
    _swap_colors(samples)
    return cv2.imencode(suffix, samples, options)[1].tobytes()


def _swap_colors(samples: npt.NDArray[Any]) -> None:
    """Exchange red and blue in place."""
    if samples.shape[2] in (3, 4):
        swap = cv2.COLOR_BGR2RGB if samples.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
        cv2.cvtColor(samples, swap, dst=samples)
