"""Poisson blending: paste a picture's gradients, not its colours.

Perez et al., "Poisson Image Editing" (SIGGRAPH 2003), eq. 7: inside a region find colours whose
differences to their four neighbours are those of the source, with the base fixed around it. Solved
by conjugate gradients (Hestenes and Stiefel 1952) on all channels at once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float64]


def _sum_differences(x: Plane) -> Plane:
    """Sum of a pixel's differences to its four neighbours inside the picture: (H, W, C)."""
    total = np.zeros_like(x)
    down, right = np.diff(x, axis=0), np.diff(x, axis=1)
    total[:-1] -= down
    total[1:] += down
    total[:, :-1] -= right
    total[:, 1:] += right
    return total


def solve_poisson(
    base: Plane, source: Plane, region: npt.NDArray[np.bool_], *, tolerance: float = 1e-4
) -> Plane:
    """``base`` with ``region`` repainted in the gradients of ``source``.

    Args:
        base: (H, W, C) float, fixed outside the region.
        source: (H, W, C) float.
        region: (H, W) bool, True where to paint. If it covers everything, ``source`` is returned:
            nothing says how bright it should be.
        tolerance: the residual's norm, relative to that of the start, at which to stop.
    """
    if not region.any():
        return base.copy()
    if region.all():
        return source.copy()
    blended = base.copy()
    part = _find_surroundings(region)
    blended[part] = _solve(base[part], source[part], region[part], tolerance)
    return blended


def _find_surroundings(region: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns that hold the region and one pixel around it: nothing else matters."""
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    return (
        slice(max(0, int(rows[0]) - 1), int(rows[-1]) + 2),
        slice(max(0, int(columns[0]) - 1), int(columns[-1]) + 2),
    )


def _solve(base: Plane, source: Plane, region: npt.NDArray[np.bool_], tolerance: float) -> Plane:
    inside = region[..., None].astype(np.float64)
    start = np.where(region[..., None], source, base)
    # A correction c with zero outside: L(start + c) = L(source) inside.
    residual = (_sum_differences(source) - _sum_differences(start)) * inside
    correction = np.zeros_like(residual)
    direction = residual.copy()
    energy = (residual**2).sum((0, 1))
    goal = tolerance**2 * energy
    for _ in range(4 * int(region.sum()) + 10):
        if (energy <= goal).all():
            break
        moved = _sum_differences(direction) * inside
        length = energy / np.maximum((direction * moved).sum((0, 1)), 1e-30)
        correction += length * direction
        residual -= length * moved
        fresh = (residual**2).sum((0, 1))
        direction = residual + fresh / np.maximum(energy, 1e-30) * direction
        energy = fresh
    return start + correction
