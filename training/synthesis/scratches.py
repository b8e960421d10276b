"""The class ``scratch``: scratches, dust, hair, lint, stains, cracks, folds, tears, mould.

Each ``paint_*`` function lays one kind over a canvas. Shapes are drawn at twice the size and
averaged, so that a line may be half a pixel wide and has smooth edges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from training.damage import Color, Floats, Mode, blur, jitter_color, mottle, ring, soften
from training.masks import Mask, draw_dust, draw_fold, draw_hair, draw_logo
from training.synthesis.canvas import Canvas, pick

FINE = 2
"""Shapes are drawn this many times as large."""

Points = npt.NDArray[np.float64]


def _average(large: npt.NDArray[np.uint8], height: int, width: int) -> Floats:
    small = cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA)
    return np.minimum(np.asarray(small, np.float32) * (1.3 / 255), 1)


def _stroke(canvas: Canvas, lines: Sequence[tuple[Points, float]]) -> Floats:
    """(H, W) shape of polylines given as (x, y) points and a width, both in pixels."""
    height, width = canvas.size
    large = np.zeros((height * FINE, width * FINE), np.uint8)
    for points, wide in lines:
        fixed = np.rint(points * FINE * 8).astype(np.int32)
        thick = max(1, round(wide * FINE))
        cv2.polylines(large, [fixed], False, 255, thick, cv2.LINE_AA, 3)
    return _average(large, height, width)


def _taper(points: Points, width_px: float, rng: np.random.Generator) -> list[tuple[Points, float]]:
    """A line cut into parts whose width wanders and thins towards the ends."""
    parts = max(1, min(12, len(points) // 2))
    cuts = np.linspace(0, len(points) - 1, parts + 1).astype(int)
    middle = np.abs((np.arange(parts) + 0.5) / parts * 2 - 1)
    widths = width_px * (1 - 0.6 * middle**2) * rng.uniform(0.6, 1.3, parts)
    return [
        (points[start : stop + 1], float(wide))
        for start, stop, wide in zip(cuts, cuts[1:], widths, strict=False)
        if stop > start
    ]


def _path(canvas: Canvas, bend: float, length_px: float, start: Points | None = None) -> Points:
    """A wandering line of about ``length_px``; ``bend`` is its turn in radians a step of 4 px."""
    rng = canvas.rng
    height, width = canvas.size
    steps = max(3, int(length_px / 4))
    heading = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, bend, steps))
    heading += np.linspace(0, rng.normal(0, 25 * bend), steps)
    moves = np.stack([np.cos(heading), np.sin(heading)], 1) * (length_px / steps)
    path = np.concatenate([[(0.0, 0.0)], np.cumsum(moves, 0)])
    if start is None:
        start = rng.uniform((0, 0), (width, height)) - path[int(rng.integers(len(path)))]
    return path + start


_LOOKS: tuple[tuple[float, Mode, Color], ...] = (
    (0.42, "replace", (244, 241, 234)),  # emulsion gone on a print
    (0.1, "screen", (230, 230, 230)),  # light through a scratched negative's dirt
    (0.2, "multiply", (45, 40, 38)),  # dirt in a groove, a scratched negative
    (0.1, "replace", (25, 22, 20)),
    (0.07, "replace", (70, 190, 120)),  # layers of a colour film cut one by one
    (0.06, "replace", (240, 210, 70)),
    (0.05, "screen", (150, 200, 255)),
)


def _look(canvas: Canvas) -> tuple[Mode, Color]:
    odds = [odd for odd, _, _ in _LOOKS]
    _, mode, color = _LOOKS[int(canvas.rng.choice(len(odds), p=odds))]
    return mode, jitter_color(color, canvas.rng, 15)


def _lay(canvas: Canvas, shape: Floats, least: float = 0.35) -> None:
    """Composite a shape in one of the looks, faded and broken in places, some with a halo."""
    rng = canvas.rng
    height, width = canvas.size
    mode, color = _look(canvas)
    if rng.random() < 0.25:
        canvas.paint("scratch", ring(shape, 2), (0, 0, 0), "blur", 0.8, halo=True)
    if rng.random() < 0.25:
        halo_mode: Mode = "screen" if mode == "multiply" else "multiply"
        canvas.paint("scratch", ring(shape, 1.5), (100, 95, 90), halo_mode, 0.3, halo=True)
    if rng.random() < 0.3:  # broken: shape itself is lost in places
        noise = mottle(height, width, rng, 0, int(rng.integers(4, 24)))
        shape = shape * np.clip((noise - rng.uniform(0.2, 0.5)) * 8, 0, 1)
    fading = mottle(height, width, rng, rng.uniform(0.4, 1), 40)
    opacity = rng.uniform(least, 1) if rng.random() < 0.6 else 0.95
    if rng.random() < 0.2:
        canvas.paint("scratch", shape, (0, 0, 0), "blur", opacity)
    canvas.paint("scratch", np.asarray(shape, np.float32), color, mode, fading * opacity)


def paint_lines(canvas: Canvas) -> None:
    """Scratches: straight, bent or curved, tapering, single or in a bundle."""
    rng = canvas.rng
    diagonal = math.hypot(*canvas.size)
    for _ in range(int(rng.integers(1, 5))):
        bend = float(rng.choice([0.0, 0.005, 0.02, 0.08, 0.2]))
        path = _path(canvas, bend, diagonal * rng.uniform(0.08, 1.1))
        wide = float(np.exp(rng.uniform(math.log(0.6), math.log(5))))
        lines = _taper(path, wide, rng)
        if rng.random() < 0.2:  # a bundle, as of sand dragged over the film
            for _ in range(int(rng.integers(2, 9))):
                shift = rng.normal(0, 7, 2)
                part = path[int(rng.integers(0, len(path) // 2)) :]
                lines += [(part + shift, float(rng.uniform(0.5, 1.2)))]
        _lay(canvas, _stroke(canvas, lines))


def paint_film_lines(canvas: Canvas) -> None:
    """Vertical lines over the whole height, as a projector or scanner draws them (or across)."""
    rng = canvas.rng
    height, width = canvas.size
    turned = rng.random() < 0.15
    long, short = (width, height) if turned else (height, width)
    lines: list[tuple[Points, float]] = []
    for _ in range(int(rng.integers(1, 4))):
        along = np.linspace(-2, long + 2, max(3, long // 6))
        sway = np.cumsum(rng.normal(0, rng.choice([0, 0.15, 0.5]), len(along)))
        points = np.stack([rng.uniform(0, short) + sway, along], 1)
        start = int(rng.integers(0, len(points) // 2)) if rng.random() < 0.3 else 0
        points = points[start:]
        lines.append((points[:, ::-1] if turned else points, float(rng.uniform(0.6, 2.5))))
    _lay(canvas, _stroke(canvas, lines), 0.25)


def paint_dust(canvas: Canvas) -> None:
    """Specks, few or many."""
    rng = canvas.rng
    height, width = canvas.size
    if rng.random() < 0.5:
        dust = draw_dust(height, width, rng)
    else:
        dust = np.zeros((height, width), np.uint8)
        for _ in range(int(rng.integers(1, 9))):
            at = (int(rng.integers(0, width)), int(rng.integers(0, height)))
            cv2.ellipse(dust, at, (int(rng.integers(0, 5)), int(rng.integers(0, 4))),
                        float(rng.uniform(0, 180)), 0, 360, 1, -1)  # fmt: skip
    shape = soften(dust, rng.uniform(0.4, 0.8))
    bright = rng.random() < 0.65
    color = jitter_color((245, 243, 238) if bright else (45, 42, 38), rng)
    canvas.paint("scratch", shape, color, "replace" if bright else "multiply",
                 rng.uniform(0.6, 1))  # fmt: skip


def paint_hair(canvas: Canvas) -> None:
    """Hairs and lint on the scanner's glass: curls of even width."""
    rng = canvas.rng
    lines: list[tuple[Points, float]] = []
    for _ in range(int(rng.integers(1, 4))):
        path = _path(canvas, rng.uniform(0.05, 0.35), rng.uniform(15, 140))
        lines.append((path, float(rng.uniform(0.6, 2.2))))
    shape = _stroke(canvas, lines)
    if rng.random() < 0.3:
        shape = np.maximum(shape, soften(draw_hair(*canvas.size, rng), 0.5))
    if rng.random() < 0.5:
        canvas.paint("scratch", shape, jitter_color((235, 235, 230), rng), "screen",
                     rng.uniform(0.5, 1))  # fmt: skip
    else:
        canvas.paint("scratch", shape, jitter_color((35, 30, 28), rng), "multiply",
                     rng.uniform(0.5, 1))  # fmt: skip


def paint_stain(canvas: Canvas) -> None:
    """A dried drop: tinted inside, darker at its rim; or foxing, a group of brown spots."""
    rng = canvas.rng
    height, width = canvas.size
    if rng.random() < 0.4:  # foxing
        spots = np.zeros((height, width), np.uint8)
        center = rng.uniform((0, 0), (width, height))
        for _ in range(int(rng.integers(3, 25))):
            at = np.rint(center + rng.normal(0, min(height, width) / 5, 2)).astype(int)
            cv2.circle(spots, (int(at[0]), int(at[1])), int(rng.integers(1, 6)), 1, -1)
        shape = soften(spots, rng.uniform(0.8, 1.8))
        canvas.paint("scratch", shape, jitter_color((150, 100, 55), rng), "multiply",
                     rng.uniform(0.5, 0.9))  # fmt: skip
        return
    size = max(5, int(min(height, width) * rng.uniform(0.08, 0.35)))
    shape = soften(draw_logo(height, width, rng, size), max(1.0, size / 20))
    rim = np.clip(shape - blur(shape, max(1.0, size / 10)), 0, 1)
    tints: tuple[Color, ...] = ((168, 122, 70), (120, 110, 90), (90, 110, 150), (205, 190, 140))
    tint = jitter_color(tints[int(rng.integers(len(tints)))], rng)
    canvas.paint("scratch", shape, tint, "multiply", rng.uniform(0.4, 0.9))
    canvas.paint("scratch", rim, (120, 80, 45), "multiply", halo=True)


def paint_blob(canvas: Canvas) -> None:
    """Lost emulsion, ink, glue: an opaque patch with a ragged edge."""
    rng = canvas.rng
    height, width = canvas.size
    size = max(4, int(min(height, width) * rng.uniform(0.03, 0.16)))
    shape = soften(draw_logo(height, width, rng, size), 0.8)
    if rng.random() < 0.5:
        noise = mottle(height, width, rng, 0, int(rng.integers(3, 8)))
        shape = np.clip(shape * 2 - noise, 0, 1)
    colors: tuple[Color, ...] = ((238, 232, 218), (25, 28, 55), (60, 40, 30), (15, 14, 13))
    color = jitter_color(colors[int(rng.integers(len(colors)))], rng)
    canvas.paint("scratch", np.asarray(shape, np.float32), color, "replace", 0.97)


def paint_crack(canvas: Canvas) -> None:
    """Cracked emulsion or glass: lines that branch, with jagged turns."""
    rng = canvas.rng
    diagonal = math.hypot(*canvas.size)
    lines: list[tuple[Points, float]] = []
    fronts: list[tuple[Points | None, float, float]] = [(None, diagonal * 0.9, 2.0)]
    while fronts and len(lines) < 40:
        start, length, wide = fronts.pop()
        path = _path(canvas, 0.05, length * rng.uniform(0.4, 1), start)
        path = path + rng.normal(0, rng.uniform(0.2, 0.9), path.shape)
        wide = wide * rng.uniform(0.5, 1.2)
        lines.append((path, wide))
        if length > 12:
            for _ in range(int(rng.integers(0, 4))):
                fronts.append((path[int(rng.integers(len(path)))], length * 0.45, wide * 0.7))
    shape = _stroke(canvas, lines)
    if rng.random() < 0.4:  # flaking: chips along the cracks
        height, width = canvas.size
        chips = mottle(height, width, rng, 0, int(rng.integers(3, 7))) > 0.72
        near = cv2.dilate(shape, np.ones((7, 7), np.uint8)) > 0.4
        shape = np.maximum(shape, soften((chips & near).astype(np.uint8), 0.5))
    _lay(canvas, shape, 0.5)


def paint_fold(canvas: Canvas) -> None:
    """A fold: a crease of light and shade across the picture, its emulsion broken to the paper."""
    rng = canvas.rng
    height, width = canvas.size
    shape = _average(draw_fold(height * FINE, width * FINE, rng) * np.uint8(255), height, width)
    shade: Mode = "multiply" if rng.random() < 0.6 else "screen"
    canvas.paint("scratch", ring(shape, rng.uniform(2, 4)), (70, 62, 55), shade,
                 rng.uniform(0.1, 0.45), halo=True)  # fmt: skip
    flaking = mottle(height, width, rng, rng.uniform(0, 0.7), 4)
    paper = np.asarray(np.minimum(1.6 * shape * flaking, 1), np.float32)
    color: Color = (232, 226, 212) if rng.random() < 0.8 else (60, 52, 45)
    strength = mottle(height, width, rng, 0.5, 30) * rng.uniform(0.5, 1)
    canvas.paint("scratch", paper, jitter_color(color, rng), "replace", strength)


def paint_torn_corner(canvas: Canvas) -> None:
    """A corner or a piece of the edge torn off: what lies behind it shows, with a paper rim."""
    rng = canvas.rng
    height, width = canvas.size
    reach = min(height, width) * rng.uniform(0.1, 0.45)
    steps = 14
    if rng.random() < 0.7:
        angles = np.linspace(0, math.pi / 2, steps)
        radius = reach * (1 + np.cumsum(rng.normal(0, 0.08, steps)))
        edge = np.stack([np.cos(angles), np.sin(angles)], 1) * np.maximum(radius, 3)[:, None]
        outline = np.concatenate([[(-9.0, -9.0), (edge[0, 0], -9.0)], edge, [(-9.0, edge[-1, 1])]])
    else:
        along = np.linspace(-0.5, 0.5, steps) * reach * 2 + rng.uniform(0, width)
        depth = reach * 0.6 * np.cos(np.linspace(-math.pi / 2, math.pi / 2, steps))
        depth = np.maximum(depth + np.cumsum(rng.normal(0, 0.6, steps)), -2)
        edge = np.stack([along, depth], 1)
        outline = np.concatenate([[(along[0], -9.0)], edge, [(along[-1], -9.0)]])
    if rng.random() < 0.5:
        outline[:, 0] = width - 1 - outline[:, 0]
    if rng.random() < 0.5:
        outline[:, 1] = height - 1 - outline[:, 1]
    large = np.zeros((height * FINE, width * FINE), np.uint8)
    cv2.fillPoly(large, [np.rint(outline * FINE).astype(np.int32)], 255)
    shape = _average(large, height, width)
    rim = np.clip(blur(shape, rng.uniform(1, 3)) * 2.2, 0, 1)
    canvas.paint("scratch", np.asarray(rim, np.float32), jitter_color((236, 230, 218), rng))
    behind: tuple[Color, ...] = ((250, 250, 250), (15, 15, 15), (120, 95, 70), (200, 200, 205))
    color = jitter_color(behind[int(rng.integers(len(behind)))], rng)
    canvas.paint("scratch", shape, color, "replace")


def paint_mould(canvas: Canvas) -> None:
    """Mould: a colony of spots with threads that spread from it."""
    rng = canvas.rng
    height, width = canvas.size
    center = rng.uniform((0, 0), (width, height))
    spread = min(height, width) * rng.uniform(0.05, 0.25)
    spots = np.zeros((height, width), np.uint8)
    lines: list[tuple[Points, float]] = []
    for _ in range(int(rng.integers(4, 40))):
        at = center + rng.normal(0, spread, 2)
        cv2.circle(spots, (int(at[0]), int(at[1])), int(rng.integers(0, 4)), 1, -1)
        if rng.random() < 0.5:
            path = _path(canvas, 0.4, rng.uniform(6, 30), at)
            lines.append((path, float(rng.uniform(0.5, 1))))
    shape = np.maximum(soften(spots, rng.uniform(0.5, 1.2)), 0.9 * _stroke(canvas, lines))
    colors: tuple[Color, ...] = ((225, 225, 215), (50, 55, 45), (190, 200, 150), (90, 60, 90))
    color = jitter_color(colors[int(rng.integers(len(colors)))], rng)
    canvas.paint("scratch", np.asarray(shape, np.float32), color, "replace", rng.uniform(0.5, 0.95))


def paint_elements(canvas: Canvas, elements: Sequence[Mask]) -> None:
    """Scanned pieces of real film damage, placed at random.

    Args:
        canvas: the picture.
        elements: (h, w) uint8 alpha each, white = damage; at least one.
    """
    rng = canvas.rng
    height, width = canvas.size
    shape = np.zeros((height, width), np.float32)
    for _ in range(int(rng.integers(1, 5))):
        element = elements[int(rng.integers(len(elements)))]
        scale = rng.uniform(0.25, 1.0)
        scale = min(scale, 0.9 * max(height, width) / max(element.shape))
        turn = cv2.getRotationMatrix2D((0, 0), rng.uniform(0, 360), scale)
        corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * element.shape[::-1]
        placed = corners @ turn[:, :2].T
        target = rng.uniform((0, 0), (width, height))
        turn[:, 2] = target - placed.mean(0)
        patch = cv2.warpAffine(element, turn, (width, height), flags=cv2.INTER_AREA)
        shape = np.maximum(shape, patch.astype(np.float32) / 255)
    top = float(shape.max())
    if top > 0:
        _lay(canvas, np.asarray(np.minimum(shape / min(top, 0.8), 1), np.float32), 0.5)


_PAINTERS: dict[str, Callable[[Canvas], None]] = {
    "lines": paint_lines,
    "film": paint_film_lines,
    "dust": paint_dust,
    "hair": paint_hair,
    "stain": paint_stain,
    "blob": paint_blob,
    "crack": paint_crack,
    "fold": paint_fold,
    "torn": paint_torn_corner,
    "mould": paint_mould,
}

SCRATCH_KINDS: dict[str, float] = {
    "lines": 0.28,
    "film": 0.08,
    "dust": 0.13,
    "hair": 0.1,
    "stain": 0.06,
    "blob": 0.05,
    "crack": 0.07,
    "fold": 0.06,
    "torn": 0.03,
    "mould": 0.03,
    "elements": 0.2,
}
"""Share of each kind; without elements theirs goes to ``lines``."""

MISSED_KINDS: dict[str, float] = {
    "elements": 0.45,
    "stain": 0.2,
    "torn": 0.12,
    "blob": 0.12,
    "mould": 0.11,
}
"""Share of each among the kinds of which the first weights found least (a hundredth of the stains,
a seventh of the elements). Apart from the others, so that samples drawn without them stay what
they were (``benchmarks.detection``)."""


def paint_scratch(
    canvas: Canvas,
    elements: Sequence[Mask] = (),
    kind: str | None = None,
    missed: float = 0.0,
) -> str:
    """Lay one kind of damage over a canvas; returns which.

    Args:
        canvas: the picture.
        elements: scanned damage, may be empty.
        kind: key of ``SCRATCH_KINDS``; None draws one.
        missed: how often it is drawn of ``MISSED_KINDS``.
    """
    if kind is None:
        often_missed = missed > 0 and canvas.rng.random() < missed
        kind = pick(canvas.rng, MISSED_KINDS if often_missed else SCRATCH_KINDS)
    if kind == "elements" and elements:
        paint_elements(canvas, elements)
    else:
        _PAINTERS["lines" if kind == "elements" else kind](canvas)
    return kind
