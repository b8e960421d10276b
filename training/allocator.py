"""Keeping freed memory, so that every step does not ask the kernel for the same pages again.

A step frees and takes hundreds of megabytes in blocks that glibc gives back to the system and maps
anew; clearing those pages took a quarter of a detector's step (455 ms against 348 on Zen 5).
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

_TRIM_THRESHOLD: Final = -1
_TOP_PAD: Final = -2
_MMAP_MAX: Final = -4


def keep_freed_memory() -> bool:
    """Tell glibc to keep what is freed for the next step; False where there is no glibc.

    Call it once, before the first step. Memory grows to the highest use and stays there.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library, as musl
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 1 << 26))
    return all([mallopt(name, value) == 1 for name, value in settings])
