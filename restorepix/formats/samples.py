"""Stored samples: bits packed into bytes, palette entries, and putting repaired pixels in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from restorepix.photo import BoolMask

UInt8 = npt.NDArray[np.uint8]

_COLORS_AT_ONCE = 1 << 14
"""Colours matched against a palette per step, which bounds memory to 32 MiB a step."""


def unpack_bits(packed: UInt8, width: int, bits: int) -> UInt8:
    """Return samples of fewer than eight bits, one per byte.

    Args:
        packed: ``(rows, bytes)`` uint8, most significant bits first, rows padded to bytes.
        width: samples in a row.
        bits: bits of a sample: 1, 2 or 4.

    Returns:
        ``(rows, width)`` uint8 in 0 .. 2**bits - 1.
    """
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    samples = (packed[:, :, None] >> shifts) & np.uint8((1 << bits) - 1)
    return samples.reshape(packed.shape[0], -1)[:, :width]


def pack_bits(samples: UInt8, bits: int, padding: UInt8 | None = None) -> UInt8:
    """Return samples packed most significant bits first: the inverse of :func:`unpack_bits`.

    Args:
        samples: ``(rows, width)`` uint8 in 0 .. 2**bits - 1.
        bits: bits of a sample: 1, 2 or 4.
        padding: ``(rows, bytes)`` uint8 whose unused bits at row ends are kept; zeros if None.

    Returns:
        ``(rows, ceil(width * bits / 8))`` uint8.
    """
    rows, width = samples.shape
    per_byte = 8 // bits
    row_bytes = -(-width // per_byte)
    padded = np.zeros((rows, row_bytes * per_byte), np.uint8)
    if padding is not None and width < padded.shape[1]:
        padded[:, width:] = unpack_bits(padding, padded.shape[1], bits)[:, width:]
    padded[:, :width] = samples
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    shifted = padded.reshape(rows, row_bytes, per_byte) << shifts
    return np.bitwise_or.reduce(shifted, axis=2)


def look_up(
    indices: UInt8, palette: npt.NDArray[Any], palette_alpha: UInt8 | None
) -> tuple[npt.NDArray[Any], UInt8 | None]:
    """Return colours and opacity of palette indices.

    Args:
        indices: ``(H, W)`` uint8; one beyond the palette is shown as opaque black, as decoders do.
        palette: ``(P, 3)`` uint8 or uint16, P at most 256.
        palette_alpha: ``(P,)`` opacity of the entries, or None when all are opaque.

    Returns:
        ``(H, W, 3)`` of the palette's dtype, and ``(H, W)`` uint8 or None.
    """
    entries = np.zeros((256, 3), palette.dtype)
    entries[: len(palette)] = palette
    if palette_alpha is None:
        return entries[indices], None
    opacity = np.full(256, 255, np.uint8)
    opacity[: len(palette_alpha)] = palette_alpha
    return entries[indices], opacity[indices]


def replace_indices(
    old: UInt8,
    colors: npt.NDArray[Any],
    palette: npt.NDArray[Any],
    palette_alpha: UInt8 | None = None,
) -> UInt8:
    """Return indices of the entries nearest to colours, with the opacity that pixels had.

    Args:
        old: ``(N,)`` uint8 indices before; one beyond the palette stays, as it has no opacity.
        colors: ``(N, 3)`` wanted, of the palette's dtype.
        palette: ``(P, 3)``.
        palette_alpha: ``(P,)`` or None.
    """
    new = old.copy()
    inside = old < len(palette)
    alpha = None if palette_alpha is None else palette_alpha[old[inside]]
    new[inside] = match_palette(colors[inside], palette, alpha, palette_alpha).astype(np.uint8)
    return new


def match_palette(
    colors: npt.NDArray[Any],
    palette: npt.NDArray[Any],
    alpha: npt.NDArray[Any] | None = None,
    palette_alpha: npt.NDArray[Any] | None = None,
) -> npt.NDArray[np.intp]:
    """Return for each colour the index of the nearest palette entry, the first one on a tie.

    Nearest is by squared distance of the three components. The palette itself never changes:
    it is shared with known pixels, and its chunk or table is kept byte for byte.

    Args:
        colors: ``(N, 3)`` uint8 or uint16.
        palette: ``(P, 3)`` of the same dtype, P at least 1.
        alpha: ``(N,)`` opacity that each colour must have, or None when the palette has none.
        palette_alpha: ``(P,)`` opacity of the entries, or None. Every value of ``alpha`` must
            occur in it.
    """
    found = np.zeros(len(colors), np.intp)
    if alpha is None or palette_alpha is None:
        found[:] = _nearest(colors, palette)
        return found
    for opacity in np.unique(alpha):
        entries = np.flatnonzero(palette_alpha == opacity)
        wanted = alpha == opacity
        found[wanted] = entries[_nearest(colors[wanted], palette[entries])]
    return found


def _nearest(colors: npt.NDArray[Any], palette: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    # Repeated colours are matched once. Sums of products of 16-bit integers are exact in float64.
    distinct, places = np.unique(colors, axis=0, return_inverse=True)
    entries = palette.astype(np.float64)
    lengths = (entries**2).sum(axis=1)
    nearest = np.zeros(len(distinct), np.intp)
    for start in range(0, len(distinct), _COLORS_AT_ONCE):
        some = distinct[start : start + _COLORS_AT_ONCE].astype(np.float64)
        nearest[start : start + len(some)] = np.argmin(lengths - 2 * some @ entries.T, axis=1)
    return nearest[places.reshape(-1)]


def fill_hole(
    samples: npt.NDArray[Any], colors: npt.NDArray[Any] | None, hole: BoolMask
) -> npt.NDArray[Any]:
    """Return a copy of stored samples with the colours under a hole replaced.

    Args:
        samples: ``(H, W, C)``.
        colors: ``(H, W, c)`` for the first c channels, of the same dtype, or None for no change.
        hole: ``(H, W)`` bool, True = hole.
    """
    filled = samples.copy()
    if colors is not None:
        filled[..., : colors.shape[2]][hole] = colors[hole]
    return filled


def clip_mask(mask: BoolMask | None, shape: tuple[int, int]) -> BoolMask:
    """Return a page's mask, or one without any hole where there is none.

    Args:
        mask: ``(H, W)`` bool, True = hole, or None.
        shape: the page's (H, W), which the mask must have.
    """
    if mask is None:
        return np.zeros(shape, np.bool_)
    assert mask.shape == shape, f"mask of {mask.shape} for a page of {shape}"
    return mask
