"""Date stamps: opaque characters at one place in every photograph, which differ among them.

What photographs have in common is then no picture but a layout: thin strokes of one colour between
two lines. Strokes are what stands out from a median of its surround. The places where many
photographs have strokes of one colour are proposals; a proposal is a stamp if, in one photograph
after the other, the strokes reach from the same upper to the same lower line, nothing of their
colour lies above or below, and their colour is the same to a few levels, while the strokes
themselves differ. What is the same in all photographs is an overlay, and not looked for here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from restorepix.photo import BoolMask
from restorepix.tiles import Box
from restorepix.watermark.estimate import MIN_PHOTOS, fill_smooth
from restorepix.watermark.planes import blur, grow, match_best, median, open_mask, resize

Floats = npt.NDArray[np.floating[Any]]
Levels = npt.NDArray[np.uint8]
Size = tuple[int, int]

STRIP: Final = 0.25
"""Share of the height (of the width, for stamps along a side) at an edge where stamps are."""
_LOOK_PX: Final = 1280
"""Longer side, in pixels, at which a group is looked at."""
_WINDOW: Final = 1 / 15
"""Side of the median's window as a share of the shorter side: about the height of a character,
so that strokes are less than half of it."""
_CONTRAST: Final = 32
"""How far strokes stand out from that median in one channel, at least, in
levels of 255."""
_CELL: Final = 1 / 20
"""Side of the cells in which strokes are counted, as a share of the shorter side."""
_CELL_SHARE: Final = 0.05
"""Share of a cell that strokes of one colour take where there are any."""
_STEPS: Final = 8
"""Levels of a channel that colours are counted in."""
_BRIGHT: Final = 140
"""The brightest channel of a stamp: orange, yellow, red, white, green."""
_CARRIED: Final = 0.6
"""Share of the photographs that carry a stamp, at least."""
_CERTAIN: Final = 4
"""Fewest photographs whose strokes are a stamp beyond doubt; the fifth may have it on a background
of its own colour."""
_PROPOSALS: Final = 6
_NEAR: Final = 42 / 255
"""Distance in luma and halved chroma of pixels that have the stamp's colour; thin strokes of JPEG
files keep half of their chroma."""
_STEADY: Final = 9 / 255
"""Median deviation from photograph to photograph of the strokes' luma: opaque ink has one."""
_PUREST: Final = 0.3
"""Share of the strokes that is all ink, even where characters are small."""
_LEAST_PX: Final = 7
"""Smallest height of characters, in pixels."""
_HIGHEST: Final = 0.09
"""Largest height of characters, as a share of the shorter side."""
_ASPECT: Final = (2.0, 16.0)
"""A line of characters is so many times as long as it is high."""
_GAP: Final = 2.2
"""Widest gap in a line, in heights: a space and a digit that few dates have."""
_TURNS: Final = 4
_FEW: Final = (0.3, 0.2)
"""Strokes of a row that belongs to the line, as a share of a full one: rows of upright strokes
alone have few."""
_LONGEST: Final = 0.8
"""Most of the window's length that a line takes."""
_GREY: Final = 170 / 255
"""Ink is bright in all channels, or one channel differs from another by ``_COLORFUL``."""
_COLORFUL: Final = 60 / 255
_FILL: Final = (0.07, 0.45)
"""Share of the line that strokes take."""
_EMPTY: Final = 0.07
"""The same of places that do not make a line better: photographs have a little of any colour."""
_OUTSIDE: Final = 0.2
"""Most strokes above and below the line, as a share of those in it."""
_COUNT: Final = (0.45, 1.9)
"""Strokes of one photograph as a share of what is usual."""
_LISTED_FROM: Final = 0.25
"""Share of the usual strokes from which a photograph without a certain stamp is listed."""
_HIDDEN: Final = 0.5
"""Share of the line in which the photograph has the ink's colour, from which no stroke is seen."""
_BEHIND: Final = 0.02
"""Share of the line in which the photograph has the ink's colour, from which some may remain."""
_SCENE_PX: Final = 240
"""Longer side at which photographs are compared with each other."""
_ONE_SCENE: Final = 0.5
"""Correlation of neighbours, at the best shift, from which a folder shows one scene."""
_RIM: Final = 0.15
"""Share of ink in a pixel that belongs to the mask."""


@dataclass(frozen=True, eq=False)
class Stamp:
    """Where all photographs of a group have a line of characters, and its ink."""

    box: Box
    """The line, in pixels from the corner that ``anchor`` names, for photographs of ``size``."""
    anchor: tuple[int, int]
    """(1, 0) is the lower left corner: 0 or 1 for the height and the width."""
    size: Size
    color: npt.NDArray[np.float32]
    """(3,) RGB in [0, 1]."""
    strokes: float
    """Usual share of the line that strokes take."""
    is_upright: bool
    """Whether the line runs from top to bottom, along a side."""
    photos: int
    """Photographs that carry it, of those that were looked at."""

    def place(self, size: Size) -> Box | None:
        """Return the line on a photograph of another size, as far from the corner; None outside."""
        top = self.box.top + self.anchor[0] * (size[0] - self.size[0])
        left = self.box.left + self.anchor[1] * (size[1] - self.size[1])
        inside = 0 <= top <= size[0] - self.box.height and 0 <= left <= size[1] - self.box.width
        return Box(top, left, self.box.height, self.box.width) if inside else None


class Strokes(NamedTuple):
    """A stamp on one photograph."""

    mask: BoolMask | None
    """(H, W) pixels that the ink covers, its soft rims included; None where there is none."""
    is_doubtful: bool
    """Whether strokes are there that are no certain stamp."""
    certainty: float = 0.0
    """How near their number is to the usual one, in [0, 1]."""
    may_remain: bool = False
    """Whether the photograph has the ink's colour behind the line, where no stroke can be told."""


class _Window(NamedTuple):
    """A strip of every photograph, with lines of characters running along its rows."""

    anchor: tuple[int, int]
    is_upright: bool
    depth: int
    """Rows (columns, where lines run from top to bottom) of the photograph."""
    strips: list[Levels]
    """(h, w, 3) uint8 each, reduced; turned so that lines run along rows."""


class StampSearch:
    """Looks for stamps at the edges of photographs that are shown to it one by one."""

    def __init__(self, sizes: Sequence[Size]) -> None:
        """Prepare for photographs of one size, or of several.

        Then a stamp is as far from one of their corners in all of them.
        """
        heights, widths = [size[0] for size in sizes], [size[1] for size in sizes]
        self._common = (min(heights), min(widths))
        self._factor = min(1.0, _LOOK_PX / max(*heights, *widths))
        self._is_alike = len(set(sizes)) == 1
        corners = [(0, 0), (1, 1)] if self._is_alike else [(1, 1), (1, 0), (0, 1), (0, 0)]
        self._windows: list[_Window] = []
        for is_upright in (False, True):
            depth = round(STRIP * self._common[1 if is_upright else 0])
            if depth * self._factor >= 4 * _LEAST_PX:
                self._windows += [_Window(corner, is_upright, depth, []) for corner in corners]

    def add(self, photo: Floats) -> None:
        """Look at a photograph, (H, W, 3) float32 RGB in [0, 1]."""
        size = (photo.shape[0], photo.shape[1])
        for window in self._windows:
            box = self._place(window, size)
            small = (max(1, round(box.height * self._factor)),
                     max(1, round(box.width * self._factor)))  # fmt: skip
            strip = resize(np.ascontiguousarray(photo[box.slices()]), small)
            levels = np.rint(np.clip(strip, 0, 1) * 255).astype(np.uint8)
            if window.is_upright:
                levels = np.ascontiguousarray(levels.transpose(1, 0, 2))
            window.strips.append(levels)

    def find(self) -> list[Stamp]:
        """Return the stamps that the photographs carry, mostly none."""
        found: list[Stamp] = []
        for window in self._windows:
            if len(window.strips) < MIN_PHOTOS:
                continue
            result = _study_window(window.strips, round(min(self._common) * self._factor))
            if result is None:
                continue
            line = _turn(result.line) if window.is_upright else result.line
            place = self._place(window, self._common)
            box = Box(
                place.top + round(line.top / self._factor),
                place.left + round(line.left / self._factor),
                round(line.height / self._factor),
                round(line.width / self._factor),
            )
            anchor = window.anchor
            if self._is_alike:
                anchor = (int(box.top + box.bottom > self._common[0]),
                          int(box.left + box.right > self._common[1]))  # fmt: skip
            if not any(_overlap(box, other.box) for other in found):
                found.append(
                    Stamp(
                        box, anchor, self._common, result.color, result.strokes,
                        window.is_upright, result.carriers,
                    )
                )  # fmt: skip
        return found

    def _place(self, window: _Window, size: Size) -> Box:
        height = self._common[0] if window.is_upright else window.depth
        width = window.depth if window.is_upright else self._common[1]
        return Box(
            window.anchor[0] * (size[0] - height), window.anchor[1] * (size[1] - width),
            height, width,
        )  # fmt: skip


def _turn(box: Box) -> Box:
    """Return a box with rows and columns exchanged."""
    return Box(box.left, box.top, box.width, box.height)


def find_strokes(photo: Floats, stamp: Stamp, *, smeared_px: int = 0) -> Strokes:
    """Return which pixels of a photograph a stamp covers.

    Args:
        photo: (H, W, 3) float32 RGB in [0, 1].
        stamp: what the group has.
        smeared_px: pixels by which stored chroma reaches beyond the ink: 1 where JPEG has it at
            half the resolution.
    """
    size = (photo.shape[0], photo.shape[1])
    line = stamp.place(size)
    if line is None:
        return Strokes(None, is_doubtful=False)
    side = min(stamp.size)
    height = min(line.height, line.width)
    around = _grow_box(line, height + _window_px(side), size)
    part = photo[around.slices()]
    inner = Box(line.top - around.top, line.left - around.left, line.height, line.width)
    if stamp.is_upright:
        part = part.transpose(1, 0, 2)
        inner = _turn(inner)
    levels = np.ascontiguousarray(np.rint(np.clip(part, 0, 1) * 255), np.uint8)
    colored = _has_color(part, stamp.color)
    near = (_measure_contrast(levels, side) > _CONTRAST) & colored
    shape = _judge(near, inner)
    usual = shape.share / stamp.strokes
    if not (shape.fits and _COUNT[0] <= usual <= _COUNT[1]):
        hidden = float(colored[inner.slices()].mean()) > _HIDDEN
        return Strokes(None, is_doubtful=hidden or usual >= _LISTED_FROM)
    seeds = near & _paint(_grow_box(inner, max(2, height // 5), near.shape), near.shape)
    mask = _take_rims(part, seeds, stamp.color, smeared_px)
    whole = np.zeros(size, np.bool_)
    whole[around.slices()] = mask.T if stamp.is_upright else mask
    behind = float((colored & ~grow(near, 1))[inner.slices()].mean())
    return Strokes(
        whole, is_doubtful=False, certainty=min(usual, 1 / usual), may_remain=behind > _BEHIND
    )


def _take_rims(part: Floats, seeds: BoolMask, color: Floats, smeared_px: int) -> BoolMask:
    """Return strokes with the soft pixels around them that are ink in part."""
    reach = 2 + smeared_px
    near = grow(seeds, reach)
    surround = fill_smooth(part[None], grow(seeds, reach + 1))[0]
    way = color - surround
    ink = ((part - surround) * way).sum(axis=2) / np.maximum(np.square(way).sum(axis=2), 1e-3)
    off = np.abs(part - surround).max(axis=2) > 12 / 255
    return grow(seeds, 1) | (near & (blur(ink, 0.7) > _RIM) & off)


class _Found(NamedTuple):
    """A stamp in a window."""

    line: Box
    color: npt.NDArray[np.float32]
    strokes: float
    carriers: int


def _study_window(strips: list[Levels], side: int) -> _Found | None:
    contrasts = [_measure_contrast(strip, side) for strip in strips]
    strokes = [contrast > _CONTRAST for contrast in contrasts]
    for box, color in _propose(strips, strokes, side):
        found = _verify(strips, contrasts, box, color, side)
        if found is not None:
            return found
    return None


def _window_px(side: int) -> int:
    return max(9, round(_WINDOW * side)) | 1


def _measure_contrast(levels: Levels, side: int) -> Levels:
    """Return (h, w) uint8 how far pixels stand out from the median around them: strokes by far."""
    away = np.abs(levels.astype(np.int16) - median(levels, _window_px(side)))
    return away.max(axis=2).astype(np.uint8)


def _has_color(part: Floats, color: Floats) -> BoolMask:
    """Return the pixels that are near a colour."""
    return _measure_distance(part, color) < _NEAR


def _measure_distance(colors: Floats, color: Floats) -> Floats:
    away = colors - color
    luma = away @ np.array([0.299, 0.587, 0.114], np.float32)
    chroma = away - luma[..., None]
    return np.sqrt(np.square(luma) + 0.25 * np.square(chroma).sum(axis=-1))


def _propose(
    strips: list[Levels], strokes: list[BoolMask], side: int
) -> Iterator[tuple[Box, npt.NDArray[np.float32]]]:
    """Yield places, and colours of which most photographs have strokes there, likelier first."""
    cell = max(6, round(_CELL * side))
    step = max(3, cell // 2)
    height, width = strokes[0].shape
    rows = range(0, max(1, height - cell + 1), step)
    columns = range(0, max(1, width - cell + 1), step)
    carried = np.zeros((len(rows), len(columns), _STEPS**3), np.int32)
    for strip, stroke in zip(strips, strokes, strict=True):
        bright = stroke & (strip.max(axis=2) > _BRIGHT)
        binned = (strip.astype(np.intp) * _STEPS // 256) @ [_STEPS**2, _STEPS, 1]
        for i, row in enumerate(rows):
            band = np.s_[row : row + cell]
            for j, column in enumerate(columns):
                window = (band, np.s_[column : column + cell])
                inside = bright[window]
                if np.count_nonzero(inside) < _CELL_SHARE * cell * cell:
                    continue
                counts = np.bincount(binned[window][inside], minlength=_STEPS**3)
                carried[i, j] += _gather(counts) >= _CELL_SHARE * cell * cell
    least = max(MIN_PHOTOS, _CARRIED * len(strips))
    runs: list[tuple[int, int, int, int, int]] = []
    for i in range(len(rows)):
        for number in np.flatnonzero((carried[i] >= least).sum(axis=0) >= 3):
            held = np.concatenate([[0], carried[i, :, number] >= least, [0]]).astype(np.int8)
            begins, ends = np.flatnonzero(np.diff(held) > 0), np.flatnonzero(np.diff(held) < 0)
            for begin, end in zip(begins, ends, strict=True):
                if end - begin >= 3:
                    weight = int(carried[i, begin:end, number].sum())
                    runs.append((weight, i, int(begin), int(end), int(number)))
    runs.sort(reverse=True)
    taken: list[tuple[Box, int]] = []
    for _, i, begin, end, number in runs:
        box = Box(rows[i], columns[begin], cell, columns[end - 1] + cell - columns[begin])
        if any(_overlap(box, other) and number == before for other, before in taken):
            continue
        if sum(_overlap(box, other) for other, _ in taken) >= 2 or len(taken) >= _PROPOSALS:
            continue
        taken.append((box, number))
        base = np.array(np.unravel_index(number, (_STEPS,) * 3), np.float32)
        yield box, ((base + 1) / _STEPS).astype(np.float32)


def _gather(counts: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return counts of cubes of two bins a side, named by the lower bin."""
    cube = counts.reshape((_STEPS,) * 3)
    for axis in range(3):
        above = np.roll(cube, -1, axis)
        edge = [slice(None)] * 3
        edge[axis] = slice(-1, None)
        above[tuple(edge)] = 0
        cube = cube + above
    return cube.ravel()


def _verify(
    strips: list[Levels],
    contrasts: list[Levels],
    box: Box,
    color: npt.NDArray[np.float32],
    side: int,
) -> _Found | None:
    """Return a proposal's line, ink, usual strokes and carriers if it is a stamp."""
    size = contrasts[0].shape
    field = Box(max(0, box.top - box.height), 0, 0, size[1])
    field = field._replace(height=min(size[0], box.bottom + box.height) - field.top)
    parts: list[Floats] = [strip[field.slices()].astype(np.float32) / 255 for strip in strips]
    contrasts = [contrast[field.slices()] for contrast in contrasts]
    inks = [contrast > _CONTRAST for contrast in contrasts]
    start = np.s_[box.top - field.top : box.bottom - field.top, box.left : box.right]
    color = _refine_color([p[start] for p in parts], [s[start] for s in inks], color)
    near = [ink & _has_color(part, color) for part, ink in zip(parts, inks, strict=True)]
    found = [
        one for line in _propose_lines(near, box._replace(top=box.top - field.top))
        if (one := _verify_line(strips, parts, contrasts, near, line, field, side)) is not None
    ]  # fmt: skip
    return max(found, key=_weigh, default=None)


def _weigh(found: _Found) -> float:
    """Return how much of strokes a line holds: more digits count for it, emptiness against it."""
    return found.carriers * (found.strokes - _EMPTY) * found.line.height * found.line.width


def _verify_line(
    strips: list[Levels],
    parts: list[Floats],
    contrasts: list[Levels],
    near: list[BoolMask],
    line: Box,
    field: Box,
    side: int,
) -> _Found | None:
    """Return what is found in a line of a field of all photographs, if that is a stamp."""
    if not _LEAST_PX <= line.height <= _HIGHEST * side:
        return None
    if not _ASPECT[0] * line.height <= line.width <= _ASPECT[1] * line.height:
        return None
    if line.width > _LONGEST * field.width:
        return None
    shapes = [_judge(mask, line) for mask in near]
    usual = float(np.median([shape.share for shape in shapes if shape.fits] or [0]))
    carriers = [
        number for number, shape in enumerate(shapes)
        if shape.fits and _COUNT[0] * usual <= shape.share <= _COUNT[1] * usual
    ]  # fmt: skip
    if len(carriers) < max(_CERTAIN, _CARRIED * len(strips)):
        return None
    if not _FILL[0] <= usual <= _FILL[1]:
        return None
    window = line.slices()
    colors = np.stack([
        _pick_ink(parts[n][window], contrasts[n][window], near[n][window]) for n in carriers
    ])  # fmt: skip
    luma = colors @ np.array([0.299, 0.587, 0.114], np.float32)
    if float(np.median(np.abs(luma - np.median(luma)))) > _STEADY:
        return None
    if not _differ(np.stack([near[n][window] for n in carriers])):
        return None
    line = line._replace(top=line.top + field.top)
    if _show_one_scene([strips[n] for n in carriers], line):
        return None
    color = np.median(colors, axis=0).astype(np.float32)
    if color.min() < _GREY and np.ptp(color) < _COLORFUL:
        return None
    return _Found(line, color, usual, len(carriers))


def _pick_ink(part: Floats, contrast: Levels, near: BoolMask) -> npt.NDArray[np.float32]:
    """Return the colour of the strokes that stand out most: thin ones hold ink in part."""
    level = np.quantile(contrast[near], 1 - _PUREST)
    return np.asarray(np.median(part[near & (contrast >= level)], axis=0), np.float32)


def _refine_color(
    parts: list[Floats], inks: list[BoolMask], color: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return the most frequent colour of strokes near one (mean shift), a photograph one vote."""
    colors = [part[ink] for part, ink in zip(parts, inks, strict=True) if ink.any()]
    votes = np.concatenate([np.full(len(some), 1 / len(some), np.float32) for some in colors])
    pooled = np.concatenate(colors)
    for width in (48 / 255, 30 / 255, 24 / 255, 18 / 255, 18 / 255, 18 / 255):
        near = np.exp(-np.square(_measure_distance(pooled, color)) / (2 * width**2)) * votes
        color = (near[:, None] * pooled).sum(axis=0) / max(float(near.sum()), 1e-9)
    return color.astype(np.float32)


def _propose_lines(near: list[BoolMask], box: Box) -> list[Box]:
    """Return the lines in which the strokes of all photographs may lie.

    Rows tell columns how wide a gap may be, columns tell rows which strokes count: in turns.
    """
    density = np.mean(near, axis=0)
    lines: list[Box] = []
    for few in _FEW:
        line = box
        for _ in range(_TURNS):
            rows = density[:, line.left : line.right].mean(axis=1)
            inside = rows > few * float(np.quantile(rows[line.top : line.bottom], 0.8))
            middle = line.top + int(np.argmax(rows[line.top : line.bottom]))
            top, bottom = _reach(inside, middle, gap=1)
            span = _find_columns(density, line, top, bottom)
            if span is None:
                break
            line = Box(top, span[0], bottom - top, span[1] - span[0])
            if line in lines:
                break
            lines.append(line)
    return lines


def _find_columns(density: Floats, line: Box, top: int, bottom: int) -> tuple[int, int] | None:
    """Return from where to where strokes fill some rows more than those above and below."""
    apart = max(2, (bottom - top) // 2)
    columns = density[top:bottom].mean(axis=0)
    beside = [band.mean(axis=0) for band in (density[max(0, top - apart - 1) : max(0, top - 1)],
                                             density[bottom + 1 : bottom + 1 + apart])
              if len(band)]  # fmt: skip
    if beside:
        columns = columns - np.max(beside, axis=0)
    usual = float(np.median(columns[line.left : line.right]))
    base = float(np.median(columns))
    least = base + 0.3 * max(usual - base, 0.1 * usual)
    around = blur(columns[None], 0.3 * (bottom - top))[0]  # one column bridges no gap
    offsets = np.flatnonzero((columns > least) & (around > least))
    if not len(offsets):
        return None
    filled = np.zeros(len(columns), np.bool_)
    filled[offsets] = True
    middle = int(offsets[np.abs(offsets - (line.left + line.right) // 2).argmin()])
    return _reach(filled, middle, gap=round(_GAP * (bottom - top)))


def _reach(inside: npt.NDArray[np.bool_], start: int, gap: int) -> tuple[int, int]:
    """Return the run around a place, with gaps of so many places bridged."""
    first = last = start
    for place in range(start, -1, -1):
        if inside[place]:
            first = place
        elif first - place > gap:
            break
    for place in range(start, len(inside)):
        if inside[place]:
            last = place
        elif place - last > gap:
            break
    return first, last + 1


class _Shape(NamedTuple):
    """How strokes lie about a line."""

    share: float
    """Of the line's area."""
    fits: bool
    """Whether they fill it from edge to edge, and nothing of the kind lies beside it."""


def _judge(near: BoolMask, line: Box) -> _Shape:
    """Return how much of a line strokes take, and whether they keep to it."""
    height = line.height
    slack = max(1, round(0.12 * height))
    apart = max(slack + 1, round(0.6 * height))
    columns = slice(line.left, line.right)
    share = float(near[line.slices()].mean())
    rows = near[:, columns].sum(axis=1)
    some = max(2.0, 0.2 * float(np.median(rows[line.top : line.bottom])))
    above = rows[max(0, line.top - apart) : max(0, line.top - slack)]
    below = rows[line.bottom + slack : line.bottom + apart]
    outside = max([float(band.mean()) for band in (above, below) if len(band)], default=0.0)
    starts = rows[line.top : line.top + 2 * slack + 1].max() >= some
    ends = rows[max(0, line.bottom - 2 * slack - 1) : line.bottom].max() >= some
    mean = float(rows[line.top : line.bottom].mean())
    # Strokes all along: a highlight fills a part of the line only.
    pieces = np.array_split(near[line.slices()].any(axis=0), 5)
    spread = sum(bool(piece.any()) for piece in pieces) >= 3
    fits = share > 0 and bool(starts) and bool(ends) and outside <= _OUTSIDE * mean and spread
    return _Shape(share, fits)


def _differ(strokes: npt.NDArray[np.bool_]) -> bool:
    """Return whether strokes (K, h, w) differ by more than their rims."""
    often = strokes.mean(axis=0)
    height = strokes.shape[1]
    few = min(0.25, 2 / len(strokes) - 1e-6)
    thick = max(2, round(height / 12))
    changing = open_mask((often >= few) & (often <= 1 - few), thick)
    return bool(np.count_nonzero(changing) >= max(12, 0.15 * height**2))


def _show_one_scene(strips: list[Levels], line: Box) -> bool:
    """Return whether neighbours among photographs show the same, apart from a line and a shift.

    Things of one scene lie at about the same place, too, and look different in each photograph.
    """
    scale = min(1.0, _SCENE_PX / max(strips[0].shape[:2]))
    size = (max(8, round(strips[0].shape[0] * scale)), max(8, round(strips[0].shape[1] * scale)))
    planes: list[npt.NDArray[np.float32]] = []
    for strip in strips:
        luma = resize(strip.mean(axis=2, dtype=np.float32), size)
        detail = luma - blur(luma, 4)
        place = [round(scale * v) for v in (line.top, line.bottom, line.left, line.right)]
        detail[max(0, place[0] - 2) : place[1] + 2, max(0, place[2] - 2) : place[3] + 2] = 0
        planes.append(detail)
    alike = [match_best(one, other) for one, other in pairwise(planes)]
    return float(np.median(alike)) > _ONE_SCENE


def _paint(box: Box, size: Size) -> BoolMask:
    mask = np.zeros(size, np.bool_)
    mask[box.slices()] = True
    return mask


def _grow_box(box: Box, margin: int, size: Size) -> Box:
    top, left = max(0, box.top - margin), max(0, box.left - margin)
    bottom, right = min(size[0], box.bottom + margin), min(size[1], box.right + margin)
    return Box(top, left, bottom - top, right - left)


def _overlap(box: Box, other: Box) -> bool:
    return (
        box.top < other.bottom
        and other.top < box.bottom
        and box.left < other.right
        and other.left < box.right
    )
