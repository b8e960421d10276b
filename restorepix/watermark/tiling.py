"""A watermark tiled over one photograph: its tiles are the group that it is estimated from.

The autocorrelation of the photograph's gradients has peaks at the steps of the tiling. A brick
wall, a fence or a fabric has them too, so a lattice is only a proposal. A watermark is taken for
one if its marks are islands, which no wall, stripe or checker is; if it is there in nearly every
tile, whatever lies behind; and if what lies behind differs enough from tile to tile to tell its
opacity, which then lets the photograph through. All else is left alone, and said so.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from restorepix.photo import BoolMask
from restorepix.watermark.consensus import fill_outline, find_agreement
from restorepix.watermark.estimate import estimate_overlay, fill_smooth
from restorepix.watermark.overlay import Overlay
from restorepix.watermark.planes import blur, grow, grow_square, label, resize
from restorepix.watermark.presence import LUMA, measure_presence

Floats = npt.NDArray[np.floating[Any]]
Size = tuple[int, int]

_LOOK_PX: Final = 1024
"""Longer side, in pixels, at which periods are looked for."""
_LEAST_STEP_PX: Final = 20
"""Shortest step, in pixels of the reduced photograph: what is finer is texture."""
_LONGEST: Final = 0.4
"""Longest step as a share of a side."""
_MARGIN_PX: Final = 4
"""Surround of a tile that an estimate sees."""
_SPREAD_PX: Final = 12.0
_CLIP: Final = 3.0
_FLOOR: Final = 1.5 / 255
_SHARP_PX: Final = 4.0
"""Peaks stand out from a window of this standard deviation: marks have edges."""
_PEAK: Final = 7.0
"""Deviations from which a peak of the autocorrelation is one."""
_PEAKS: Final = 24
_AS_HIGH: Final = 0.6
"""Peaks of a lattice are that near to the highest, all being of whole tiles."""
LEAST_TILES: Final = 6
"""Fewest whole tiles that a watermark is estimated from."""
_MOST_TILES: Final = 60
_ROWS: Final = 256
"""Rows that are laid out at a time."""
_MOST_PX: Final = 6_000_000
"""Pixels of all tiles together in an estimate."""
_MOST_SHARE: Final = 0.6
"""Most of a tile that marks' outlines take; more is a texture."""
_MOST_ALIKE: Final = 0.8
"""Share of the gradients that repeat from which the picture itself is a pattern."""
_HALF: Final = 0.5
"""Share of the highest opacity from which a pixel belongs to a mark, where marks are told apart."""
_CARRYING: Final = 0.8
"""Share of the tiles that can be judged which carry the watermark."""
_ALPHA: Final = (0.06, 0.85)
"""Opacity, on an average of the marks: below it nothing is certain; above it, it may be a thing
in the scene as well."""
_DIFFERENCE: Final = 6 / 255
"""Standard deviation, over the tiles, of what lies behind them."""
_DARK: Final = 0.15
"""Luma below which a colour may be a shadow or a groove, which darkens as a dark ink would."""


class Tiling(NamedTuple):
    """What was found on one photograph."""

    overlay: Overlay | None
    """Of the photograph's size; None where there is none that is certain."""
    doubt: str = ""
    """Why a pattern that repeats was left alone."""
    certainty: float = 0.0
    """Share of the tiles that carry the overlay."""


class Lattice(NamedTuple):
    """Two steps, (rows, columns) in pixels, that lead from tile to tile."""

    first: npt.NDArray[np.float64]
    second: npt.NDArray[np.float64]
    alike: float
    """Share of the gradients that repeat."""

    def matrix(self) -> npt.NDArray[np.float64]:
        """Return (2, 2) whose columns are the steps."""
        return np.stack([self.first, self.second], axis=1)

    def bounds(self) -> Size:
        """Return height and width of a box around a tile, the points nearest to one of its kind.

        It is odd, and the tile is in its middle.
        """
        first, second = self.first, self.second
        if first @ second < 0:
            second = -second
        corners = [
            np.linalg.solve(np.stack(pair), [float(step @ step) / 2 for step in pair])
            for pair in ((first, second), (second, second - first), (second - first, -first))
        ]  # as far from three points of the lattice
        height, width = np.ceil(np.abs(corners).max(axis=0) + _MARGIN_PX).astype(int)
        return 2 * int(height) + 1, 2 * int(width) + 1


def find_tiling(photo: Floats) -> Tiling:
    """Return the watermark that is tiled over a photograph.

    Args:
        photo: (H, W, 3) float32 RGB in [0, 1].
    """
    size = (photo.shape[0], photo.shape[1])
    lattice = _find_lattice(photo)
    if lattice is None:
        return Tiling(None)
    if lattice.alike > _MOST_ALIKE:
        return Tiling(None, "the picture itself is a pattern that repeats")
    origin, support = _choose_origin(photo, lattice)
    if support is None:
        return Tiling(None)
    stack = cut_tiles(photo, lattice, origin)
    if len(stack) < LEAST_TILES:
        return Tiling(None, f"only {len(stack)} whole tiles show")
    overlay = estimate_overlay(stack, support)
    covered = overlay.alpha > 0
    if np.count_nonzero(covered) < 24:
        return Tiling(None)
    layers = np.dstack([overlay.alpha, overlay.color * overlay.alpha[..., None]])
    placed = lay_out(layers, lattice, origin, size)
    if _is_connected(placed[..., 0] > _HALF * overlay.alpha.max(), lattice):
        return Tiling(None, "what repeats runs on from tile to tile, as walls and fabrics do")
    doubt, carrying = _doubt(stack, overlay)
    if doubt:
        return Tiling(None, doubt)
    alpha = np.clip(placed[..., 0], 0, 1)
    color = np.clip(placed[..., 1:] / np.maximum(alpha, 1e-4)[..., None], 0, 1)
    return Tiling(Overlay(alpha.astype(np.float32), color.astype(np.float32)), certainty=carrying)


def _doubt(stack: Floats, overlay: Overlay) -> tuple[str, float]:
    """Return why a tile's estimate may be no watermark, or "" and the share of tiles with it."""
    covered = overlay.alpha > 0
    weight = overlay.alpha[covered]
    opacity = float((weight**2).sum() / weight.sum())
    if not _ALPHA[0] <= opacity <= _ALPHA[1]:
        return (
            f"what repeats seems to be of opacity {opacity:.2f}, too much or too little",
            0.0,
        )
    if float((overlay.color[covered] @ LUMA * weight).sum() / weight.sum()) < _DARK:
        return "what repeats is dark, and may belong to the scene", 0.0
    behind = fill_smooth(stack, grow(covered, 2))[:, covered] @ LUMA
    if float(behind.mean(axis=1).std()) < _DIFFERENCE:
        return "too little differs behind what repeats to tell how opaque it is", 0.0
    judged = [measure_presence(tile, overlay) for tile in stack]
    shares = np.array([one.share for one in judged if one.error < 0.25])
    if len(shares) < LEAST_TILES:
        return "what repeats cannot be told from what lies behind it", 0.0
    carrying = float(((shares > 0.5) & (shares < 1.6)).mean())
    if carrying < _CARRYING:
        return f"only {carrying:.0%} of the tiles have what repeats", 0.0
    return "", carrying


def _find_lattice(photo: Floats) -> Lattice | None:
    """Return the lattice on which a photograph's gradients repeat, or None where none is sure."""
    factor = min(1.0, _LOOK_PX / max(photo.shape[:2]))
    luma = (photo @ LUMA).astype(np.float32)
    small = resize(luma, (round(photo.shape[0] * factor), round(photo.shape[1] * factor)))
    if min(small.shape) < 4 * _LEAST_STEP_PX:
        return None
    alike = _autocorrelate(small)
    rows, columns = alike.shape[0] // 2, alike.shape[1] // 2
    sharp = alike - blur(alike, _SHARP_PX)
    y, x = np.mgrid[-rows : rows + 1, -columns : columns + 1]
    near = np.hypot(y, x) < _LEAST_STEP_PX
    noise = 1.4826 * float(np.median(np.abs(sharp[~near]))) + 1e-9
    sharp[near] = 0
    score = sharp / noise
    peaks = _list_peaks(score, (rows, columns))
    pairs: list[tuple[float, float, int, int]] = []
    for i, first in enumerate(peaks):
        for j in range(i + 1, len(peaks)):
            second = peaks[j]
            area = abs(float(np.linalg.det(np.stack([first, second]))))
            if area < 0.3 * np.linalg.norm(first) * np.linalg.norm(second):
                continue
            wanted = [first, second, first + second, first - second]
            least = min(_peak_at(score, step) for step in wanted)
            if least > _PEAK:
                pairs.append((least, area, i, j))
    if not pairs:
        return None
    # The smallest cell, but not that of letters which resemble each other within a word.
    high = _AS_HIGH * max(pair[0] for pair in pairs)
    _, _, i, j = min((pair for pair in pairs if pair[0] > high), key=lambda pair: pair[1])
    first, second = peaks[i], peaks[j]
    matrix = _shorten(_refine(score, *_shorten(np.stack([first, second], axis=1)).T)) / factor
    share = float(np.mean([alike[rows + round(v[0]), columns + round(v[1])]
                           for v in (first, second)]))  # fmt: skip
    return Lattice(matrix[:, 0], matrix[:, 1], share)


def _autocorrelate(plane: Floats) -> Floats:
    """Return (2 r + 1, 2 c + 1) how alike a plane's gradients are to themselves at each step.

    Gradients are divided by what is usual around them and clipped, so that a faint mark on a sky
    counts as much as the edges of foliage.
    """
    height, width = plane.shape
    right = np.diff(plane, axis=1, append=plane[:, -1:])
    down = np.diff(plane, axis=0, append=plane[-1:])
    usual = np.sqrt(blur(np.square(right) + np.square(down), _SPREAD_PX) + _FLOOR**2)
    shape = (cv2.getOptimalDFTSize(2 * height), cv2.getOptimalDFTSize(2 * width))
    total = np.zeros(shape, np.float64)
    for gradient in (right, down):
        field = np.clip(gradient / usual, -_CLIP, _CLIP)
        spectrum = np.fft.rfft2(field - field.mean(), shape)
        total += np.fft.irfft2(np.square(np.abs(spectrum)), shape)
    rows, columns = round(_LONGEST * height) * 2, round(_LONGEST * width) * 2
    rows, columns = min(rows, height - 1), min(columns, width - 1)
    total = np.roll(total, (rows, columns), (0, 1))[: 2 * rows + 1, : 2 * columns + 1]
    y, x = np.mgrid[-rows : rows + 1, -columns : columns + 1]
    common = (1 - np.abs(y) / height) * (1 - np.abs(x) / width)
    return (total / (total[rows, columns] * common)).astype(np.float32)


def _list_peaks(score: Floats, middle: Size) -> list[npt.NDArray[np.float64]]:
    """Return the highest peaks of one half plane within reach, nearest first."""
    rows, columns = middle
    top = cv2.dilate(score, np.ones((7, 7), np.uint8))
    y, x = np.nonzero((score >= top) & (score > _PEAK))
    steps = np.stack([y - rows, x - columns], axis=1).astype(np.float64)
    half = (steps[:, 0] > 0) | ((steps[:, 0] == 0) & (steps[:, 1] > 0))
    near = (np.abs(steps[:, 0]) <= rows / 2) & (np.abs(steps[:, 1]) <= columns / 2)
    chosen = np.flatnonzero(half & near)
    chosen = chosen[np.argsort(-score[y[chosen], x[chosen]])][:_PEAKS]
    return sorted(steps[chosen], key=lambda step: float(np.linalg.norm(step)))


def _peak_at(score: Floats, step: npt.NDArray[np.float64]) -> float:
    """Return the highest score within two pixels of a step."""
    row, column = round(step[0]) + score.shape[0] // 2, round(step[1]) + score.shape[1] // 2
    if not (2 <= row < score.shape[0] - 2 and 2 <= column < score.shape[1] - 2):
        return 0.0
    return float(score[row - 2 : row + 3, column - 2 : column + 3].max())


def _refine(
    score: Floats, first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return (2, 2) steps as columns, fitted to all peaks that they lead to."""
    matrix = np.stack([first, second], axis=1)
    rows, columns = score.shape[0] // 2, score.shape[1] // 2
    for reach in (2, 4, 8):
        sources: list[tuple[int, int]] = []
        targets: list[tuple[float, float]] = []
        weights: list[float] = []
        for i in range(-reach, reach + 1):
            for j in range(-reach, reach + 1):
                step = matrix @ (i, j)
                row, column = round(step[0]) + rows, round(step[1]) + columns
                if (i, j) == (0, 0) or not (
                    3 <= row < score.shape[0] - 3 and 3 <= column < score.shape[1] - 3
                ):
                    continue
                window = score[row - 2 : row + 3, column - 2 : column + 3]
                if window.max() < _PEAK:
                    continue
                weight = np.clip(window - 0.5 * window.max(), 0, None)
                dy, dx = np.mgrid[-2:3, -2:3]
                total = float(weight.sum())
                sources.append((i, j))
                targets.append((row - rows + float((weight * dy).sum()) / total,
                                column - columns + float((weight * dx).sum()) / total))  # fmt: skip
                weights.append(float(window.max()))
        if len(sources) < 4:
            break
        scale = np.sqrt(np.array(weights))[:, None]
        solved = np.linalg.lstsq(np.array(sources) * scale, np.array(targets) * scale, rcond=None)
        matrix = np.asarray(solved[0].T, np.float64)
    whole = np.rint(matrix)
    # Tilings are mostly made in whole pixels; what the peaks cannot tell from that is that.
    return np.where(np.abs(matrix - whole) < 0.15, whole, matrix)


def _shorten(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the shortest steps, as columns, that lead to the same tiles (Gauss): small boxes."""
    first, second = sorted(matrix.T, key=lambda step: float(step @ step))
    while True:
        second = second - round(float(first @ second) / float(first @ first)) * first
        if second @ second >= first @ first:
            return np.stack([first, second], axis=1)
        first, second = second, first


def _choose_origin(
    photo: Floats, lattice: Lattice
) -> tuple[npt.NDArray[np.float64], BoolMask | None]:
    """Return a tile's middle, so that tiles cut through no mark, and its marks' region."""
    start = np.zeros(2)
    stack = cut_tiles(photo, lattice, start)
    if len(stack) < LEAST_TILES:
        return start, None
    outline = find_agreement(stack)
    if not outline.any() or outline.mean() > _MOST_SHARE:
        return start, None
    shape = lattice.bounds()
    whole = lay_out(outline.astype(np.float32), lattice, start,
                     (3 * shape[0], 3 * shape[1])) > 0.5  # fmt: skip
    marked = grow(fill_outline(whole, 3), 2)
    rim = _find_rim(lattice)
    best = (np.inf, start)
    for i in range(12):
        for j in range(12):
            place = lattice.matrix() @ (i / 12, j / 12)
            row, column = (round(v) % side for v, side in zip(place, shape, strict=True))
            window = marked[row : row + shape[0], column : column + shape[1]]
            cut = int(np.count_nonzero(window & rim))
            if cut < best[0]:
                middle = (row + shape[0] // 2, column + shape[1] // 2)
                best = (cut, np.array(middle, np.float64))
    origin = best[1]
    again = cut_tiles(photo, lattice, origin)
    if len(again) < LEAST_TILES:
        return start, None
    return origin, fill_outline(find_agreement(again), 3)


def cut_tiles(photo: Floats, lattice: Lattice, origin: npt.NDArray[np.float64]) -> Floats:
    """Return (K, h, w, 3) the boxes of the whole tiles of a photograph."""
    height, width = lattice.bounds()
    tiles: list[Floats] = []
    edge = _MARGIN_PX
    padded = np.asarray(
        cv2.copyMakeBorder(photo, edge, edge, edge, edge, cv2.BORDER_REFLECT), np.float32
    )
    for place in _list_places(lattice, origin, (photo.shape[0], photo.shape[1])):
        top, left = place - (height // 2, width // 2) + _MARGIN_PX
        if min(top, left) < 0 or top + height > padded.shape[0] or left + width > padded.shape[1]:
            continue
        if abs(top - round(top)) < 0.1 and abs(left - round(left)) < 0.1:
            row, column = round(top), round(left)
            tiles.append(padded[row : row + height, column : column + width])
            continue
        matrix = np.array([[1, 0, -left], [0, 1, -top]], np.float64)
        warped = cv2.warpAffine(padded, matrix, (width, height), flags=cv2.INTER_LANCZOS4,
                                borderMode=cv2.BORDER_REPLICATE)  # fmt: skip
        tiles.append(np.asarray(warped, np.float32))
    most = max(LEAST_TILES, min(_MOST_TILES, _MOST_PX // (height * width)))
    if len(tiles) > most:
        chosen = np.linspace(0, len(tiles) - 1, most).round().astype(int)
        tiles = [tiles[number] for number in chosen]
    return np.stack(tiles) if tiles else np.zeros((0, height, width, 3), np.float32)


def _list_places(
    lattice: Lattice, origin: npt.NDArray[np.float64], size: Size
) -> list[npt.NDArray[np.float64]]:
    inverse = np.linalg.inv(lattice.matrix())
    corners = np.array([(0, 0), (0, size[1]), (size[0], 0), size], np.float64)
    steps = (corners - origin) @ inverse.T
    low, high = np.floor(steps.min(axis=0)), np.ceil(steps.max(axis=0))
    return [
        origin + lattice.matrix() @ (i, j)
        for i in range(int(low[0]), int(high[0]) + 1)
        for j in range(int(low[1]), int(high[1]) + 1)
    ]


def lay_out(tile: Floats, lattice: Lattice, origin: npt.NDArray[np.float64], size: Size) -> Floats:
    """Return what is known of one tile's box laid over a whole photograph."""
    height, width = lattice.bounds()
    laid: list[Floats] = []
    for top in range(0, size[0], _ROWS):
        rows, columns = np.mgrid[top : min(top + _ROWS, size[0]), 0 : size[1]].astype(np.float32)
        y, x = _find_nearest(rows - np.float32(origin[0]), columns - np.float32(origin[1]), lattice)
        laid.append(np.asarray(cv2.remap(
            tile.astype(np.float32), x + width // 2, y + height // 2, cv2.INTER_LANCZOS4,
            borderMode=cv2.BORDER_REPLICATE), np.float32))  # fmt: skip
    return np.concatenate(laid)


def _find_nearest(y: Floats, x: Floats, lattice: Lattice) -> tuple[Floats, Floats]:
    """Return rows and columns relative to the nearest point of a lattice of shortest steps."""
    matrix = lattice.matrix()
    inverse = np.linalg.inv(matrix)
    first = np.floor(inverse[0, 0] * y + inverse[0, 1] * x)
    second = np.floor(inverse[1, 0] * y + inverse[1, 1] * x)
    y = y - matrix[0, 0] * first - matrix[0, 1] * second
    x = x - matrix[1, 0] * first - matrix[1, 1] * second
    best_y, best_x = y, x
    for i, j in ((0, 1), (1, 0), (1, 1)):
        row, column = y - (matrix @ (i, j))[0], x - (matrix @ (i, j))[1]
        nearer = np.square(row) + np.square(column) < np.square(best_y) + np.square(best_x)
        best_y, best_x = np.where(nearer, row, best_y), np.where(nearer, column, best_x)
    return best_y.astype(np.float32), best_x.astype(np.float32)


def _find_rim(lattice: Lattice) -> BoolMask:
    """Return the pixels of a tile's box at which the tile ends."""
    height, width = lattice.bounds()
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    y, x = y - height // 2, x - width // 2
    near_y, near_x = _find_nearest(y, x, lattice)
    inside = np.hypot(near_y - y, near_x - x) < 0.5
    return grow_square(inside, 1) & ~inside


def _is_connected(marks: BoolMask, lattice: Lattice) -> bool:
    """Return whether marks run on from tile to tile instead of being islands."""
    height, width = lattice.bounds()
    count, labels = label(marks)
    for number in range(1, count):
        rows, columns = np.nonzero(labels == number)
        if np.ptp(rows) > 1.5 * height or np.ptp(columns) > 1.5 * width:
            return True
    return False
