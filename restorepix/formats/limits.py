"""Limits on what a file may make us allocate, judged from headers."""

from __future__ import annotations

from restorepix.errors import TooLargeError


def check_pixels(pixels: int, max_mpixels: float, name: str) -> None:
    """Refuse a picture whose header announces more pixels than allowed.

    Args:
        pixels: height times width, summed over the pages of the file.
        max_mpixels: the limit in million pixels.
        name: what to call the file in messages.

    Raises:
        TooLargeError: there are more pixels than that.
    """
    if pixels > max_mpixels * 1e6:
        raise TooLargeError(
            f"{name}: at most {max_mpixels:g} million pixels are allowed, the file announces "
            f"{pixels / 1e6:.6g}. Raise --max-mpixels if the file is genuine."
        )
