"""What a process that runs networks asks of its libraries, before the first of them is loaded."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3

KEPT_BYTES: Final = 512 << 20
"""Freed memory that a process keeps at most at the end of its heap, for the next window."""

_KEPT_BLOCK_BYTES: Final = 32 << 20
"""Larger blocks go back to the system at once; the most that glibc accepts."""


def prepare_runtime() -> None:
    """Set how threads wait and what becomes of freed memory; what the user set stays.

    Call it before PyTorch is imported, which reads the first of them when it loads.
    """
    # PyTorch's threads spin while they wait for each other. Beside any other load that made a
    # picture of 0.3 s take 5.6 s on two cores; sleeping threads did not.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        keep_freed_memory()


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed blocks up to 32 MiB for the next call; False with other libraries.

    A call of a network frees and takes activations of a few megabytes, which glibc otherwise gives
    back to the system and maps anew each time: clearing those pages was a sixth of the time of a
    512 px window and a quarter of what ``fix`` takes for it (Zen 5). It cost 70 MB there.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library, as musl
        return False
    settings = ((_MMAP_THRESHOLD, _KEPT_BLOCK_BYTES), (_TRIM_THRESHOLD, KEPT_BYTES))
    return all([mallopt(name, value) == 1 for name, value in settings])
