"""What a plan is going to cost, before it is carried out: windows, seconds and memory.

Masks are read and windows planned as in the run itself; the seconds of the network are those of a
window that is timed now, on the device that the run would use. The rest are rough constants.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from restorepix.errors import PhotoError
from restorepix.formats import read_photo
from restorepix.formats.measure import measure_pages
from restorepix.masks import read_mask_for
from restorepix.options import RestoreOptions
from restorepix.photo import BoolMask
from restorepix.pipeline import Inpainting, read_file, read_mask_file
from restorepix.plan import Job
from restorepix.stores.place import is_remote
from restorepix.tiles import Box, plan_windows

SECONDS_PER_MPIXEL = {".jpg": 0.13, ".jpeg": 0.13}
"""CPU seconds to read, write and prove a million pixels, measured with 24 of them on one core."""
OTHER_SECONDS_PER_MPIXEL = 0.3
"""The same for PNG, which stands for all other formats here."""

BASE_BYTES = 410 * 2**20
"""Memory of a process with the network and one small picture (peak, measured on a CPU)."""
BYTES_PER_PIXEL = 12
"""Memory that a pixel of 8-bit RGB takes at the peak of its picture's turn: 6 for JPEG and 11 for
PNG when measured with 24 million pixels."""


@dataclass(frozen=True)
class Estimate:
    """What one photograph is going to cost."""

    pixels: int
    """Pixels of the file, all pages together."""
    holes: int | None
    """Connected holes; None where damage has yet to be found."""
    hole_pixels: int | None
    windows: int | None
    """Calls of the network, at most: wide holes take fewer at full resolution."""
    window_pixels: int
    """Pixels of those windows together."""
    file_seconds: float
    """CPU seconds for all but the network."""
    memory_bytes: int
    """Memory of its turn, on top of the process."""
    problem: str = ""
    """Why the photograph is going to fail, if that shows already."""
    decision: str = ""
    """What is going to be done, where the photograph was looked at for it."""

    def seconds(self, seconds_per_pixel: float) -> float:
        """Return the CPU seconds of the photograph, for a network of some speed."""
        return self.file_seconds + self.window_pixels * seconds_per_pixel


def estimate_job(job: Job, options: RestoreOptions) -> Estimate:
    """Read a photograph's size and its mask, and return what its turn is going to cost.

    Args:
        job: the photograph; nothing is written.
        options: how it would be restored.

    Returns:
        The estimate; a file that cannot be read has a ``problem`` instead of numbers, and one in
        a store, which would have to be fetched for it, none at all.
    """
    if is_remote(job.source.path) or is_remote(job.mask):
        return Estimate(0, None, None, None, 0, 0.0, 0)
    try:
        sizes = _measure(job.source.path, options)
    except PhotoError as error:
        return Estimate(0, None, None, None, 0, 0.0, 0, str(error))
    pixels = sum(height * width for height, width in sizes)
    suffix = job.source.path.suffix.lower()
    seconds = pixels / 1e6 * SECONDS_PER_MPIXEL.get(suffix, OTHER_SECONDS_PER_MPIXEL)
    memory = max(height * width for height, width in sizes) * BYTES_PER_PIXEL
    if job.mask is None:
        problem = job.mask_problem if options.detect is None else ""
        return Estimate(pixels, None, None, None, 0, seconds, memory, problem)
    try:
        file = read_mask_file(job.mask)
        mask = read_mask_for(
            file.data, file.name, sizes, dilate=options.dilate, max_mpixels=options.max_mpixels
        )
    except PhotoError as error:
        return Estimate(pixels, None, None, None, 0, seconds, memory, str(error))
    windows = [window for hole in mask.pages if hole is not None for window in plan_windows(hole)]
    return Estimate(
        pixels=pixels,
        holes=mask.count_holes(),
        hole_pixels=mask.hole_pixels,
        windows=len(windows),
        window_pixels=sum(window.box.height * window.box.width for window in windows),
        file_seconds=seconds,
        memory_bytes=memory,
    )


def time_window(inpainter: Inpainting) -> float:
    """Return the seconds that the network takes for a pixel of a window, timed now.

    Args:
        inpainter: the network, loaded or not; a first window is not counted.
    """
    side = 256
    picture = np.full((side, side, 3), 0.5, np.float32)
    hole: BoolMask = np.zeros((side, side), np.bool_)
    hole[120:128, 64:192] = True
    pixels = sum(window.box.height * window.box.width for window in plan_windows(hole))

    def read(box: Box) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return picture[box.slices()]

    inpainter.inpaint(read, hole)
    begin = time.perf_counter()
    inpainter.inpaint(read, hole)
    return (time.perf_counter() - begin) / pixels


def estimate_run(
    estimates: Sequence[Estimate], seconds_per_pixel: float, jobs: int
) -> tuple[float, int]:
    """Return the wall seconds and the bytes of memory of a whole run.

    Args:
        estimates: one a photograph.
        seconds_per_pixel: from :func:`time_window`.
        jobs: photographs in hand at a time.
    """
    seconds = sum(estimate.seconds(seconds_per_pixel) for estimate in estimates) / max(1, jobs)
    largest = sorted((estimate.memory_bytes for estimate in estimates), reverse=True)[:jobs]
    return seconds, BASE_BYTES + sum(largest)


def _measure(path: Path, options: RestoreOptions) -> tuple[tuple[int, int], ...]:
    data = read_file(path, PhotoError, "cannot be opened")
    sizes = measure_pages(data, str(path), max_mpixels=options.max_mpixels)
    if sizes is not None:
        return sizes
    photo = read_photo(data, str(path), max_mpixels=options.max_mpixels)
    return tuple((page.height, page.width) for page in photo.pages)
