"""OpenCV's decoders, without what they say of damaged files on stderr."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from cv2.utils import logging


def decode_picture(data: bytes) -> Any:
    """Decode a picture file with the channels and the depth it has.

    Args:
        data: the whole file.

    Returns:
        ``(H, W)`` or ``(H, W, C)`` uint8 or uint16, colours in OpenCV's order (B, G, R, A), or
        None when OpenCV cannot decode it.
    """
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    finally:
        logging.setLogLevel(level)
