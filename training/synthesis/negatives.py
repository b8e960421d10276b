"""Hard negatives: what belongs to the scene and only looks like damage or writing.

Painted before ageing, at the scene's sharpness, with no target: wires, fences, branches, strands
of hair, rain, tiles, a horizon, printed signs, letters on cloth, frames and deckle edges of scans,
trusses, railings, bright outlines, brick walls, webs, the cracks of dry ground.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from training.damage import Color, Floats, blur, jitter_color, mottle
from training.synthesis.canvas import Canvas, pick
from training.synthesis.fonts import Font, pick_font, write_words
from training.synthesis.text import draw_line, place_layer

Points = npt.NDArray[np.float64]


def _scene_color(canvas: Canvas, spread: float) -> Color:
    """A colour that occurs in the picture, made darker or lighter."""
    height, width = canvas.size
    row, column = int(canvas.rng.integers(height)), int(canvas.rng.integers(width))
    base = canvas.image[row, column] + canvas.rng.uniform(-spread, spread)
    red, green, blue = np.clip(base, 0, 255)
    return float(red), float(green), float(blue)


def _draw(canvas: Canvas, lines: Sequence[tuple[Points, float]], soft_px: float) -> Floats:
    height, width = canvas.size
    large = np.zeros((height * 2, width * 2), np.uint8)
    for points, wide in lines:
        fixed = np.rint(points * 16).astype(np.int32)
        cv2.polylines(large, [fixed], False, 255, max(1, round(2 * wide)), cv2.LINE_AA, 3)
    small = cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA)
    return blur(np.asarray(small, np.float32) / 255, soft_px)


def paint_wires(canvas: Canvas) -> None:
    """Sagging wires from side to side, with a mast now and then."""
    rng = canvas.rng
    height, width = canvas.size
    lines: list[tuple[Points, float]] = []
    top, drop = rng.uniform(-0.1, 0.9) * height, rng.normal(0, 0.25) * height
    sag = rng.uniform(0, 0.15) * height
    wide = rng.uniform(0.7, 2.5)
    for number in range(int(rng.integers(1, 6))):
        t = np.linspace(-0.1, 1.1, 24)
        y = top + number * rng.uniform(3, 18) + drop * t + sag * 4 * t * (t - 1)
        lines.append((np.stack([t * width, y], 1), wide))
    if rng.random() < 0.4:
        x = rng.uniform(0, width)
        lines.append((np.array([[x, -5.0], [x + rng.normal(0, 4), height + 5.0]]), 4 * wide))
    shape = _draw(canvas, lines, rng.uniform(0.5, 1))
    dark: Color = (30, 30, 32) if rng.random() < 0.8 else (200, 200, 195)
    canvas.paint(None, shape, jitter_color(dark, rng, 20), "replace", rng.uniform(0.7, 1))


def paint_fence(canvas: Canvas) -> None:
    """Wire mesh, bars, or the joints of tiles and bricks: one grid through the whole picture."""
    rng = canvas.rng
    height, width = canvas.size
    reach = math.hypot(height, width)
    gap, wide = rng.uniform(8, 50), rng.uniform(0.7, 4)
    turn = rng.choice([0, math.pi / 4]) + rng.normal(0, 0.08)
    directions = [turn] if rng.random() < 0.35 else [turn, turn + math.pi / 2]
    lines: list[tuple[Points, float]] = []
    for angle in directions:
        along = np.array([math.cos(angle), math.sin(angle)])
        across = np.array([-along[1], along[0]])
        for offset in np.arange(-reach, reach, gap * rng.uniform(0.8, 1.25)):
            middle = np.array([width / 2, height / 2]) + across * offset
            lines.append((np.stack([middle - along * reach, middle + along * reach]), wide))
    shape = _draw(canvas, lines, rng.uniform(0.4, 1.2))
    canvas.paint(None, shape, _scene_color(canvas, 90), "replace", rng.uniform(0.5, 1))


def paint_branches(canvas: Canvas) -> None:
    """Bare twigs: dark lines that fork and thin out."""
    rng = canvas.rng
    height, width = canvas.size
    lines: list[tuple[Points, float]] = []
    color = jitter_color((50, 42, 36), rng, 15)

    def grow(start: Points, angle: float, length: float, wide: float) -> None:
        if len(lines) > 90 or length < 4:
            return
        steps = 5
        headings = angle + np.cumsum(rng.normal(0, 0.15, steps))
        moves = np.stack([np.cos(headings), np.sin(headings)], 1) * length / steps
        path = np.concatenate([[start], start + np.cumsum(moves, 0)])
        lines.append((path, max(0.5, wide)))
        for _ in range(int(rng.integers(1, 4))):
            at = path[int(rng.integers(2, steps + 1))]
            grow(at, headings[-1] + rng.normal(0, 0.6), length * rng.uniform(0.5, 0.85), wide * 0.6)

    for _ in range(int(rng.integers(1, 4))):
        side = rng.uniform(0, 2 * math.pi)
        middle = np.array([width / 2, height / 2])
        start = middle * (1 + 1.1 * np.array([math.cos(side), math.sin(side)]))
        grow(start, side + math.pi + rng.normal(0, 0.5), min(height, width) * rng.uniform(0.3, 0.7),
             rng.uniform(2, 7))  # fmt: skip
    canvas.paint(None, _draw(canvas, lines, rng.uniform(0.4, 1)), color, "replace", 0.95)


def paint_strands(canvas: Canvas) -> None:
    """Hair of a head, fur, grass: very many thin lines of one direction and several shades."""
    rng = canvas.rng
    height, width = canvas.size
    angle, center = rng.uniform(0, math.pi), rng.uniform((0, 0), (width, height))
    spread = min(height, width) * rng.uniform(0.1, 0.35)
    base = rng.uniform((20, 15, 10), (190, 160, 120))
    for _ in range(3):
        lines: list[tuple[Points, float]] = []
        for _ in range(int(rng.integers(15, 60))):
            start = center + rng.normal(0, spread, 2)
            heading = angle + rng.normal(0, 0.15) + np.cumsum(rng.normal(0, 0.06, 8))
            moves = np.stack([np.cos(heading), np.sin(heading)], 1) * rng.uniform(3, 9)
            lines.append((start + np.cumsum(moves, 0), rng.uniform(0.5, 1.1)))
        red, green, blue = np.clip(base + rng.normal(0, 28), 0, 255)
        canvas.paint(None, _draw(canvas, lines, 0.5), (red, green, blue), "replace",
                     rng.uniform(0.5, 0.9))  # fmt: skip


def paint_rain(canvas: Canvas) -> None:
    """Rain or snow: hundreds of short light streaks of one direction all over the picture."""
    rng = canvas.rng
    height, width = canvas.size
    slope, length = rng.normal(0, 0.25), rng.uniform(4, 26)
    lines: list[tuple[Points, float]] = []
    for _ in range(int(height * width / rng.uniform(120, 400))):
        start = rng.uniform((0, -length), (width, height))
        size = length * rng.uniform(0.5, 1.2)
        lines.append((np.stack([start, start + [slope * size, size]]), rng.uniform(0.4, 0.9)))
    shape = _draw(canvas, lines, rng.uniform(0.5, 0.9))
    canvas.paint(None, shape, (225, 228, 232), "screen", rng.uniform(0.2, 0.6))


def paint_horizon(canvas: Canvas) -> None:
    """One straight border between two tones, thin roof lines and poles beside it."""
    rng = canvas.rng
    height, width = canvas.size
    row, slope = rng.uniform(0.1, 0.9) * height, rng.normal(0, 0.1)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    below = np.clip(rows - row - slope * (columns - width / 2) + 0.5, 0, 1)
    canvas.paint(None, blur(below, 0.6), _scene_color(canvas, 60), "replace", rng.uniform(0.3, 0.9))
    ends = np.array([[-5.0, row - slope * width / 2], [width + 5.0, row + slope * width / 2]])
    lines: list[tuple[Points, float]] = [(ends, rng.uniform(0.6, 2.5))]
    for _ in range(int(rng.integers(0, 4))):
        x = rng.uniform(0, width)
        lines.append((np.array([[x, row - rng.uniform(5, 60)], [x, row]]), rng.uniform(0.6, 3)))
    canvas.paint(None, _draw(canvas, lines, 0.6), _scene_color(canvas, 80), "replace", 0.9)


def paint_sign(canvas: Canvas, fonts: Sequence[Font]) -> None:
    """A printed sign, plate or page in the scene: lit, tilted, as sharp as its surround."""
    rng = canvas.rng
    height, width = canvas.size
    font, script = pick_font(rng, fonts)
    size = int(rng.integers(9, max(12, height // 4)))
    rows = [
        draw_line(write_words(rng, script, int(rng.integers(3, 16))), size, font)
        for _ in range(int(rng.integers(1, 4)))
    ]
    rows = [row for row in rows if row.size]
    if not rows:
        return
    pad = int(size * rng.uniform(0.3, 1))
    wide = max(row.shape[1] for row in rows) + 2 * pad
    tall = sum(row.shape[0] + size // 3 for row in rows) + 2 * pad
    ink, panel = np.zeros((tall, wide), np.float32), np.ones((tall, wide), np.float32)
    top = pad
    for row in rows:
        left = pad + int(rng.uniform(0, max(1, wide - 2 * pad - row.shape[1])))
        ink[top : top + row.shape[0], left : left + row.shape[1]] = row
        top += row.shape[0] + size // 3
    if rng.random() < 0.5:
        cv2.rectangle(ink, (2, 2), (wide - 3, tall - 3), 1.0, max(1, size // 10))
    at = tuple(rng.uniform((0, 0), (width, height)))
    angle, tilt = float(rng.normal(0, 7)), tuple(rng.uniform(-0.3, 0.35, 2))
    soft = rng.uniform(0.4, 1.3)
    board = blur(place_layer(panel, height, width, at, angle, 1, tilt), soft)
    letters = blur(place_layer(ink, height, width, at, angle, 1, tilt), soft)
    light = rng.random() < 0.5
    paper = jitter_color((225, 222, 210) if light else (40, 60, 90), rng, 35)
    print_ink = jitter_color((25, 25, 30) if light else (235, 235, 230), rng, 25)
    shading = mottle(height, width, rng, rng.uniform(0.45, 0.9), 40)[..., None]
    canvas.paint(None, board, np.asarray(shading * np.float32(paper), np.float32), "replace", 0.97)
    canvas.paint(None, letters, np.asarray(shading * np.float32(print_ink), np.float32), "replace",
                 rng.uniform(0.75, 0.95))  # fmt: skip


def paint_cloth(canvas: Canvas, fonts: Sequence[Font]) -> None:
    """Letters on a shirt or a wall: they follow waves and the shade of what carries them."""
    rng = canvas.rng
    height, width = canvas.size
    font, script = pick_font(rng, fonts)
    size = int(rng.integers(14, max(18, height // 3)))
    layer = draw_line(write_words(rng, script, 10), size, font)
    if not layer.size:
        return
    at = tuple(rng.uniform((0.2, 0.2), (0.8, 0.8)) * (width, height))
    flat = place_layer(layer, height, width, at, float(rng.normal(0, 12)))
    waves = 2 * (mottle(height, width, rng, 0, int(rng.integers(14, 40))) - 0.5)
    strength = rng.uniform(2, 7)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    moved = cv2.remap(flat, columns + strength * waves, rows - strength * waves * 0.7,
                      cv2.INTER_LINEAR)  # fmt: skip
    shape = blur(np.asarray(moved, np.float32), rng.uniform(0.5, 1.1))
    shade = blur(canvas.image.mean(2), 2.5)[..., None] / 128
    color = np.float32(jitter_color((215, 215, 205) if rng.random() < 0.6 else (60, 40, 45), rng))
    canvas.paint(None, shape, np.clip(color * shade, 0, 255).astype(np.float32), "replace",
                 rng.uniform(0.55, 0.9))  # fmt: skip


def paint_frame(canvas: Canvas) -> None:
    """The white, black or cream border of a scan or print, straight or deckle-edged."""
    rng = canvas.rng
    height, width = canvas.size
    band = np.zeros((height, width), np.float32)
    rows, columns = np.arange(height), np.arange(width)
    for side in range(4):
        if rng.random() < 0.35:
            continue
        depth = rng.uniform(2, min(height, width) * 0.2)
        length = width if side < 2 else height
        wave = np.zeros(length)
        if rng.random() < 0.4:  # deckle
            wave = rng.uniform(1, 3) * np.sin(np.arange(length) / rng.uniform(1.5, 5))
            wave = wave + np.convolve(rng.normal(0, 0.7, length + 4), np.ones(5) / 5, "valid")
        edge = depth + wave
        inside = np.clip(edge[None, :] - (rows if side < 2 else columns)[:, None] + 0.5, 0, 1)
        if side >= 2:
            inside = inside.T
        flipped = (inside, inside[::-1], inside, inside[:, ::-1])[side]
        band = np.maximum(band, flipped.astype(np.float32))
    tones: tuple[Color, ...] = ((248, 248, 246), (236, 228, 208), (12, 12, 12), (205, 205, 205))
    canvas.paint(None, blur(band, 0.5), jitter_color(tones[int(rng.integers(4))], rng, 6))


def paint_truss(canvas: Canvas) -> None:
    """A mast, crane or bridge: two to four long bars with a zigzag or crosses between them."""
    rng = canvas.rng
    height, width = canvas.size
    reach = math.hypot(height, width)
    angle = rng.choice([0.0, math.pi / 2], p=[0.3, 0.7]) + rng.normal(0, 0.1)
    along = np.array([math.cos(angle), math.sin(angle)])
    across = np.array([-along[1], along[0]])
    middle = rng.uniform((0.1, 0.1), (0.9, 0.9)) * (width, height)
    bar = rng.uniform(6, 34)
    wide = rng.uniform(0.6, 2.6)
    crossed = rng.random() < 0.5
    lines: list[tuple[Points, float]] = []
    bays = int(rng.integers(1, 4))
    bay = bar * rng.uniform(0.6, 1.6)
    stations = np.arange(-reach / 2, reach / 2, bay)
    for number in range(bays + 1):
        start = middle + across * bar * number
        lines.append((np.stack([start - along * reach / 2, start + along * reach / 2]), 1.5 * wide))
    for number in range(bays):
        near, far = middle + across * bar * number, middle + across * bar * (number + 1)
        for place, station in enumerate(stations[:-1]):
            ends = (near + along * station, far + along * (station + bay))
            other = (far + along * station, near + along * (station + bay))
            if crossed or place % 2:
                lines.append((np.stack(ends), wide))
            if crossed or not place % 2:
                lines.append((np.stack(other), wide))
            if rng.random() < 0.3:
                lines.append((np.stack([ends[0], other[0]]), wide))
    shape = _draw(canvas, lines, rng.uniform(0.4, 1))
    canvas.paint(None, shape, _scene_color(canvas, 110), "replace", rng.uniform(0.7, 1))


def paint_railing(canvas: Canvas) -> None:
    """Equal posts between rails, through part of the picture and often seen at a slant."""
    rng = canvas.rng
    height, width = canvas.size
    top, tall = rng.uniform(0.1, 0.8) * height, rng.uniform(0.08, 0.4) * height
    slope, fan = rng.normal(0, 0.15), rng.uniform(-0.3, 0.3)
    first, last = np.sort(rng.uniform(-0.3, 1.3, 2)) * width
    gap, wide = rng.uniform(4, 26), rng.uniform(0.6, 3)
    shrink = rng.uniform(-0.5, 0.5)

    def edge(x: float, share: float) -> list[float]:
        at = (x - width / 2) / width
        return [
            x + fan * tall * share,
            top + slope * (x - width / 2) + share * tall * (1 + shrink * at),
        ]

    lines: list[tuple[Points, float]] = [
        (np.array([edge(x, 0.0), edge(x, 1.0)]), wide)
        for x in np.arange(first, max(last, first + 4 * gap), gap)
    ]
    for share in rng.choice([0.0, 0.1, 0.5, 0.9, 1.0], int(rng.integers(1, 4)), replace=False):
        lines.append((np.array([edge(first, share), edge(max(last, first + 4 * gap), share)]),
                      wide * rng.uniform(0.8, 2)))  # fmt: skip
    shape = _draw(canvas, lines, rng.uniform(0.4, 1))
    canvas.paint(None, shape, _scene_color(canvas, 110), "replace", rng.uniform(0.7, 1))


def paint_outline(canvas: Canvas) -> None:
    """A smooth patch with a plain bright or dark rim: a roof, the edge of a table."""
    rng = canvas.rng
    height, width = canvas.size
    for _ in range(int(rng.integers(1, 4))):
        count = int(rng.integers(3, 9))
        turns = np.sort(rng.uniform(0, 2 * math.pi, count))
        middle = rng.uniform((0, 0), (width, height))
        radius = rng.uniform(0.12, 0.6) * min(height, width) * rng.uniform(0.5, 1, count)
        corners = middle + np.stack([np.cos(turns), np.sin(turns)], 1) * radius[:, None]
        closed = np.concatenate([corners, corners[:1]])
        inside = np.zeros((height, width), np.uint8)
        cv2.fillPoly(inside, [np.rint(closed * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        soft = rng.uniform(0.4, 1.2)
        patch = blur(inside.astype(np.float32) / 255, soft)
        canvas.paint(None, patch, _scene_color(canvas, 50), "replace", rng.uniform(0.5, 1))
        rim = _draw(canvas, [(closed, rng.uniform(0.6, 2.5))], soft)
        tone = 235.0 if rng.random() < 0.7 else 25.0
        canvas.paint(None, rim, jitter_color((tone, tone, tone), rng, 18), "replace",
                     rng.uniform(0.4, 1))  # fmt: skip


def paint_bricks(canvas: Canvas) -> None:
    """A wall in running bond, its joints lighter or darker than the stones, over part or all."""
    rng = canvas.rng
    height, width = canvas.size
    tall = rng.uniform(6, 30)
    long, joint = tall * rng.uniform(1.5, 3.2), rng.uniform(0.6, 2.4)
    turn, reach = rng.normal(0, 0.06), math.hypot(height, width)
    along, across = np.array([1.0, math.tan(turn)]), np.array([-math.tan(turn), 1.0])
    lines: list[tuple[Points, float]] = []
    for number, offset in enumerate(np.arange(-tall, reach + tall, tall)):
        row = across * offset
        lines.append((np.stack([row - along * reach, row + along * reach]), joint))
        for start in np.arange(-long, reach, long) + (number % 2) * long / 2 + rng.normal(0, 1):
            lines.append(
                (np.stack([row + along * start, row + along * start + across * tall]), joint)
            )
    shape = _draw(canvas, lines, rng.uniform(0.4, 1.1))
    if rng.random() < 0.5:
        shape = shape * (mottle(height, width, rng, 0, 40) > rng.uniform(0.2, 0.5))
    canvas.paint(None, np.asarray(shape, np.float32), _scene_color(canvas, 90), "replace",
                 rng.uniform(0.4, 1))  # fmt: skip


def paint_web(canvas: Canvas) -> None:
    """A cobweb: spokes from one point and threads sagging between them, fine and bright."""
    rng = canvas.rng
    height, width = canvas.size
    middle = rng.uniform((-0.1, -0.1), (1.1, 1.1)) * (width, height)
    spokes = np.sort(rng.uniform(0, 2 * math.pi, int(rng.integers(9, 26))))
    radius = rng.uniform(0.3, 1.0) * max(height, width)
    wide = rng.uniform(0.4, 0.9)
    rays = np.stack([np.cos(spokes), np.sin(spokes)], 1)
    lines: list[tuple[Points, float]] = [
        (np.stack([middle, middle + ray * radius * rng.uniform(0.8, 1.2)]), wide) for ray in rays
    ]
    for distance in np.arange(radius * 0.1, radius, rng.uniform(4, 16)):
        for ray, following in zip(rays, np.roll(rays, -1, 0), strict=True):
            if rng.random() < 0.12:
                continue
            ends = middle + distance * np.stack([ray, following])
            sag = middle + distance * 0.46 * (ray + following)
            lines.append((np.stack([ends[0], sag, ends[1]]), wide))
    shape = _draw(canvas, lines, rng.uniform(0.4, 0.7))
    canvas.paint(None, shape, jitter_color((225, 225, 220), rng, 20), "replace",
                 rng.uniform(0.35, 0.95))  # fmt: skip


def paint_cracked_ground(canvas: Canvas) -> None:
    """Dried mud, glaze, old paint of a wall: cracks between cells over all of the picture."""
    rng = canvas.rng
    height, width = canvas.size
    count = int(rng.integers(12, 160))
    seeds = rng.uniform((0, 0), (width, height), (count, 2))
    marks = np.full((height, width), 255, np.uint8)
    at = np.clip(np.rint(seeds).astype(int), 0, (width - 1, height - 1))
    marks[at[:, 1], at[:, 0]] = 0
    _, labels = cv2.distanceTransformWithLabels(marks, cv2.DIST_L2, 5,
                                                labelType=cv2.DIST_LABEL_PIXEL)  # fmt: skip
    waves = rng.uniform(1, 5) * 2 * (mottle(height, width, rng, 0, 12) - 0.5)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    cells = cv2.remap(labels.astype(np.float32), columns + waves, rows - waves, cv2.INTER_NEAREST,
                      borderMode=cv2.BORDER_REPLICATE)  # fmt: skip
    borders = np.zeros((height, width), np.uint8)
    borders[:, 1:] |= (cells[:, 1:] != cells[:, :-1]).view(np.uint8)
    borders[1:] |= (cells[1:] != cells[:-1]).view(np.uint8)
    size = int(rng.integers(1, 4))
    borders = cv2.dilate(borders, np.ones((size, size), np.uint8))
    shape = blur(borders.astype(np.float32), rng.uniform(0.5, 1.1))
    tone = rng.uniform(10, 90) if rng.random() < 0.8 else rng.uniform(170, 230)
    canvas.paint(None, shape, jitter_color((tone, tone, tone), rng, 12), "replace",
                 rng.uniform(0.4, 0.95))  # fmt: skip


_PAINTERS: dict[str, Callable[[Canvas], None]] = {
    "wires": paint_wires,
    "fence": paint_fence,
    "branches": paint_branches,
    "strands": paint_strands,
    "rain": paint_rain,
    "horizon": paint_horizon,
    "frame": paint_frame,
    "truss": paint_truss,
    "railing": paint_railing,
    "outline": paint_outline,
    "bricks": paint_bricks,
    "web": paint_web,
    "cracked ground": paint_cracked_ground,
}

NEGATIVE_KINDS: dict[str, float] = {
    "wires": 0.15,
    "fence": 0.12,
    "branches": 0.14,
    "strands": 0.1,
    "rain": 0.04,
    "horizon": 0.08,
    "sign": 0.16,
    "cloth": 0.1,
    "frame": 0.11,
}
"""Share of each kind."""

STRUCTURE_KINDS: dict[str, float] = {
    "truss": 0.2,
    "railing": 0.16,
    "outline": 0.3,
    "bricks": 0.14,
    "web": 0.08,
    "cracked ground": 0.12,
}
"""Share of each among the plain structures that the first weights took for scratches. Apart from
the others, so that samples drawn without them stay what they were (``benchmarks.detection``)."""


def paint_negative(
    canvas: Canvas, fonts: Sequence[Font], kind: str | None = None, structures: float = 0.0
) -> str:
    """Put one hard negative into a scene; returns which.

    Args:
        canvas: the scene.
        fonts: for signs and cloth.
        kind: of ``NEGATIVE_KINDS`` or ``STRUCTURE_KINDS``; None draws one.
        structures: how often it is drawn of ``STRUCTURE_KINDS``.
    """
    if kind is None:
        structure = structures > 0 and canvas.rng.random() < structures
        kind = pick(canvas.rng, STRUCTURE_KINDS if structure else NEGATIVE_KINDS)
    if kind == "sign":
        paint_sign(canvas, fonts)
    elif kind == "cloth":
        paint_cloth(canvas, fonts)
    else:
        _PAINTERS[kind](canvas)
    return kind
