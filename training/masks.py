"""Synthetic hole masks: the shapes of damage, drawn from a seeded random generator.

Every ``draw_*`` function returns a (height, width) uint8 array in {0, 1}, 1 = hole, and may
return an all-zero mask only if the picture is too small for the shape. The free-form brush
follows Yu et al., "Free-Form Image Inpainting with Gated Convolution" (2019), Algorithm 1, with
sizes relative to the picture. ``MASK_KINDS`` are the kinds of the quality benchmark; training
draws from ``TRAINING_MIX``, which covers them with wider parameters.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Mask = npt.NDArray[np.uint8]
Draw = Callable[[int, int, np.random.Generator], Mask]

FONT_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "/System/Library/Fonts")
_SUFFIXES = {".ttf", ".otf", ".ttc"}
_ALPHABETS = (
    string.ascii_letters + string.digits + "   ",
    string.ascii_uppercase + "  ",
    string.digits + " :./-'",
    "абвгдежзийклмнопрстуфхцчшщыэюяАБВГДЕЖЗ  ",
    "αβγδεζηθικλμνξοπρστυφχψωΑΒΓΔ  ",
)


def _empty(height: int, width: int) -> Mask:
    return np.zeros((height, width), np.uint8)


def _wander(
    height: int, width: int, rng: np.random.Generator, steps: int, step_px: float, turn: float
) -> npt.NDArray[np.int32]:
    """A random walk of ``steps`` points whose heading changes by up to ``turn`` radians a step."""
    start = rng.uniform((0, 0), (width, height))
    headings = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, turn, steps))
    moves = np.stack([np.cos(headings), np.sin(headings)], 1) * step_px
    return np.rint(start + np.concatenate([[(0, 0)], np.cumsum(moves, 0)])).astype(np.int32)


def draw_scratches(
    height: int, width: int, rng: np.random.Generator, count: int | None = None
) -> Mask:
    """Thin polylines, 1 to 6 px wide, straight, bent, broken, or vertical as on film."""
    mask = _empty(height, width)
    diagonal = math.hypot(height, width)
    for _ in range(count or int(rng.integers(1, 7))):
        thickness = int(rng.choice([1, 1, 2, 2, 3, 3, 4, 5, 6]))
        steps = int(rng.integers(2, 24))
        length = diagonal * rng.uniform(0.1, 1.1)
        if rng.random() < 0.25:
            x = int(rng.integers(0, width))
            sway = np.rint(np.cumsum(rng.normal(0, 0.4, steps + 1))).astype(np.int32)
            points = np.stack([x + sway, np.linspace(0, height, steps + 1).astype(np.int32)], 1)
        else:
            points = _wander(height, width, rng, steps, length / steps, rng.choice([0.03, 0.2]))
        line = _empty(height, width)
        cv2.polylines(line, [points], False, 1, thickness)
        if rng.random() < 0.3:  # broken: knocked out in places
            noise = rng.random((max(1, height // 12), max(1, width // 12)), np.float32)
            keep = cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR) > 0.4
            line &= keep.astype(np.uint8)
        mask |= line
    return mask


def draw_dust(height: int, width: int, rng: np.random.Generator) -> Mask:
    """Specks of 1 to 6 px, scattered, some clustered."""
    mask = _empty(height, width)
    for _ in range(int(rng.integers(3, max(4, height * width // 600)))):
        center = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        axes = (int(rng.integers(0, 4)), int(rng.integers(0, 3)))
        cv2.ellipse(mask, center, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    return mask


def draw_hair(height: int, width: int, rng: np.random.Generator) -> Mask:
    """Curled hairs and lint, 1 to 3 px wide."""
    mask = _empty(height, width)
    for _ in range(int(rng.integers(1, 6))):
        steps = int(rng.integers(10, 60))
        points = _wander(height, width, rng, steps, rng.uniform(1.5, 4), rng.uniform(0.1, 0.5))
        cv2.polylines(mask, [points], False, 1, int(rng.integers(1, 4)))
    return mask


def draw_fold(height: int, width: int, rng: np.random.Generator) -> Mask:
    """One or two fold lines across the whole picture, 2 to 8 px wide, with ragged edges."""
    mask = _empty(height, width)
    for _ in range(int(rng.integers(1, 3))):
        vertical = rng.random() < 0.5
        long, short = (height, width) if vertical else (width, height)
        steps = max(2, long // 8)
        across = rng.uniform(0.1, 0.9) * short + np.cumsum(rng.normal(0, 0.7, steps + 1))
        along = np.linspace(0, long, steps + 1)
        points = np.stack([across, along] if vertical else [along, across], 1)
        points = np.rint(points).astype(np.int32)
        for start, end in zip(points, points[1:], strict=False):
            cv2.line(mask, start.tolist(), end.tolist(), 1, int(rng.integers(2, 9)))
    return mask


def find_fonts(folders: Sequence[str] = FONT_FOLDERS) -> list[Path]:
    """Scalable fonts installed on this machine, sorted; may be empty."""
    return sorted(
        path
        for folder in folders
        if Path(folder).is_dir()
        for path in Path(folder).rglob("*")
        if path.suffix.lower() in _SUFFIXES
    )


def _load_font(
    size_px: int, rng: np.random.Generator, fonts: Sequence[Path]
) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    if fonts and rng.random() < 0.8:
        return ImageFont.truetype(str(fonts[int(rng.integers(len(fonts)))]), size_px)
    return ImageFont.load_default(size_px)


def draw_text(
    height: int, width: int, rng: np.random.Generator, fonts: Sequence[Path] = ()
) -> Mask:
    """Lines of writing: captions, dates, handwriting-like slants, some with an outline."""
    canvas = Image.new("L", (width, height))
    pen = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(1, 5))):
        size_px = int(np.exp(rng.uniform(math.log(9), math.log(max(12, height // 4)))))
        alphabet = _ALPHABETS[int(rng.choice(len(_ALPHABETS), p=[0.5, 0.15, 0.2, 0.08, 0.07]))]
        letters = rng.choice(list(alphabet), int(rng.integers(3, 28)))
        at = (float(rng.uniform(-0.2, 0.6) * width), float(rng.uniform(-0.05, 0.9) * height))
        stroke = int(rng.choice([0, 0, 0, 1, 2]))
        pen.text(
            at, "".join(letters), fill=255, font=_load_font(size_px, rng, fonts),
            stroke_width=stroke,
        )  # fmt: skip
    mask = (np.asarray(canvas) > 60).astype(np.uint8)
    if rng.random() < 0.4:
        angle = float(rng.normal(0, 12) if rng.random() < 0.7 else rng.uniform(-90, 90))
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
        mask = cv2.warpAffine(mask, turn, (width, height), flags=cv2.INTER_NEAREST)
    return np.asarray(mask, np.uint8)


def draw_logo(
    height: int, width: int, rng: np.random.Generator, size_px: int | None = None
) -> Mask:
    """One solid blob with a wavy outline, about ``size_px`` across (64 in the benchmark)."""
    size = size_px or int(rng.integers(16, max(18, min(72, min(height, width) * 5 // 8))))
    angles = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    radius = np.full(40, size / 2.2)
    for wave in range(2, 6):
        radius *= 1 + rng.uniform(0, 0.16) * np.sin(wave * angles + rng.uniform(0, 2 * math.pi))
    margin = min(size // 2, height // 2, width // 2)
    center = (
        rng.integers(margin, max(margin + 1, width - margin)),
        rng.integers(margin, max(margin + 1, height - margin)),
    )
    points = np.stack([np.cos(angles), np.sin(angles)], 1) * radius[:, None] + center
    mask = _empty(height, width)
    cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 1)
    return mask


def draw_brush(
    height: int, width: int, rng: np.random.Generator, share: float | None = None
) -> Mask:
    """Wide free-form strokes until about ``share`` of the area is covered (Yu et al. 2019)."""
    goal = share if share is not None else float(rng.uniform(0.03, 0.45))
    side = min(height, width)
    mask = _empty(height, width)
    for _ in range(60):
        thickness = max(2, int(side * rng.uniform(0.04, 0.14)))
        steps = int(rng.integers(3, 9))
        points = _wander(height, width, rng, steps, side * rng.uniform(0.08, 0.2), 1.0)
        cv2.polylines(mask, [points], False, 1, thickness)
        for point in points:
            cv2.circle(mask, (int(point[0]), int(point[1])), thickness // 2, 1, -1)
        if mask.mean() >= goal * 0.95:
            break
    return mask


def draw_box(height: int, width: int, rng: np.random.Generator) -> Mask:
    """One to three boxes, sides from a twelfth to 0.6 of the picture."""
    mask = _empty(height, width)
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        tall = int(height * rng.uniform(1 / 12, 0.6))
        wide = int(width * rng.uniform(1 / 12, 0.6))
        top = int(rng.integers(0, height - tall + 1))
        left = int(rng.integers(0, width - wide + 1))
        mask[top : top + tall, left : left + wide] = 1
        if mask.mean() > 0.25:
            break
    return mask


def draw_center(height: int, width: int, rng: np.random.Generator) -> Mask:
    """A centred square of half the side: the protocol of DeepFill v1 at 256 px."""
    mask = _empty(height, width)
    mask[height // 4 : height - height // 4, width // 4 : width - width // 4] = 1
    return mask


def draw_dropout(height: int, width: int, rng: np.random.Generator) -> Mask:
    """Random lost pixels (about 30 %), or lost 8x8 and 16x16 blocks over 5 to 10 %."""
    if rng.random() < 0.5:
        return (rng.random((height, width), np.float32) < rng.uniform(0.2, 0.4)).astype(np.uint8)
    side = int(rng.choice([8, 16]))
    rows, columns = -(-height // side), -(-width // side)
    lost = (rng.random((rows, columns), np.float32) < rng.uniform(0.04, 0.12)).astype(np.uint8)
    return np.asarray(np.kron(lost, np.ones((side, side), np.uint8))[:height, :width], np.uint8)


def draw_element(
    height: int, width: int, rng: np.random.Generator, elements: Sequence[Mask]
) -> Mask:
    """Several scanned film-damage elements (soft alpha, (h, w) uint8) pasted at random."""
    mask = _empty(height, width)
    for _ in range(int(rng.integers(1, 6))):
        element = elements[int(rng.integers(len(elements)))]
        longest = max(element.shape)
        scale = min(rng.uniform(0.3, 1.2), 0.9 * max(height, width) / longest)
        size = (max(2, int(element.shape[1] * scale)), max(2, int(element.shape[0] * scale)))
        patch = cv2.resize(element, size, interpolation=cv2.INTER_AREA) > 40
        patch = np.rot90(patch, int(rng.integers(4)))
        top = int(rng.integers(-patch.shape[0] // 3, height))
        left = int(rng.integers(-patch.shape[1] // 3, width))
        rows = slice(max(0, top), min(height, top + patch.shape[0]))
        columns = slice(max(0, left), min(width, left + patch.shape[1]))
        mask[rows, columns] |= patch[
            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
        ].astype(np.uint8)
    return mask


TRAINING_MIX: dict[str, float] = {
    "scratch": 0.15,
    "dust": 0.05,
    "hair": 0.06,
    "fold": 0.04,
    "element": 0.08,
    "text": 0.19,
    "logo": 0.09,
    "brush": 0.13,
    "box": 0.09,
    "dropout": 0.12,
}
"""Share of each kind in a training bank; ``element`` falls to ``scratch`` without elements."""

THIN_KINDS = ("scratch", "dust", "hair", "fold", "text")
"""Kinds whose strokes are a few pixels wide, so that known pixels are near everywhere."""

_DRAW: dict[str, Draw] = {
    "scratch": draw_scratches,
    "dust": draw_dust,
    "hair": draw_hair,
    "fold": draw_fold,
    "logo": draw_logo,
    "brush": draw_brush,
    "box": draw_box,
    "dropout": draw_dropout,
}


def draw_mask(
    kind: str,
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    fonts: Sequence[Path] = (),
    elements: Sequence[Mask] = (),
) -> Mask:
    """One mask of a training kind.

    Raises:
        KeyError: ``kind`` is no key of ``TRAINING_MIX``.
    """
    if kind == "text":
        return draw_text(height, width, rng, fonts)
    if kind == "element" and elements:
        return draw_element(height, width, rng, elements)
    return _DRAW["scratch" if kind == "element" else kind](height, width, rng)


def build_mask_bank(
    size_px: int,
    count: int,
    seed: int,
    *,
    mix: Mapping[str, float] = TRAINING_MIX,
    fonts: Sequence[Path] = (),
    elements: Sequence[Mask] = (),
    min_share: float = 0.004,
    max_share: float = 0.5,
    thin_share: float = 0.0,
) -> npt.NDArray[np.uint8]:
    """(count, size_px, size_px) uint8 masks in {0, 1}, 1 = hole, kinds drawn by ``mix``.

    Apart from dropout, one in six gets a second kind on top, and one in four of the others is
    dilated by 1 px, since users' masks are often a little too large. Masks of ``THIN_KINDS`` get
    more of these kinds on top until they cover a share drawn from 0 to ``thin_share``: a crop
    with three scratches teaches more than a crop with one, at the same cost.
    """
    rng = np.random.default_rng(seed)
    kinds = list(mix)
    odds = np.array([mix[kind] for kind in kinds])
    odds /= odds.sum()
    bank = np.zeros((count, size_px, size_px), np.uint8)
    cross = np.ones((3, 3), np.uint8)
    for index in range(count):
        while True:
            kind = kinds[int(rng.choice(len(kinds), p=odds))]
            mask = draw_mask(kind, size_px, size_px, rng, fonts=fonts, elements=elements)
            if thin_share and kind in THIN_KINDS:
                goal = rng.uniform(0, thin_share)
                while mask.mean() < goal:
                    more = THIN_KINDS[int(rng.integers(len(THIN_KINDS)))]
                    mask |= draw_mask(more, size_px, size_px, rng, fonts=fonts, elements=elements)
            if kind != "dropout" and rng.random() < 1 / 6:
                second = kinds[int(rng.choice(len(kinds), p=odds))]
                mask |= draw_mask(second, size_px, size_px, rng, fonts=fonts, elements=elements)
            elif kind != "dropout" and rng.random() < 1 / 4:
                mask = np.asarray(cv2.dilate(mask, cross), np.uint8)
            if min_share <= float(mask.mean()) <= max_share:
                break
        bank[index] = mask
    return bank


def draw_benchmark_mask(
    kind: str,
    size_px: int,
    rng: np.random.Generator,
    *,
    fonts: Sequence[Path] = (),
    elements: Sequence[Mask] = (),
) -> Mask:
    """One mask of the quality benchmark, redrawn until its area fits the kind.

    Kinds: scratch (2 to 5 %), film (elements, 1 to 8 %), text (5 to 10 %), logo (64 px at
    256 px), irregular20 and irregular40 (brush, within 3 % of the share), center128 (the middle
    quarter), dropout.

    Raises:
        KeyError: unknown kind.
        ValueError: ``film`` without elements.
    """
    if kind == "film" and not elements:
        msg = "mask kind 'film' needs damage elements (found none); pass --elements FOLDER"
        raise ValueError(msg)
    draw, low, high = _BENCHMARK[kind]
    for _ in range(400):
        mask = draw(size_px, rng, fonts, elements)
        if low <= float(mask.mean()) <= high:
            return mask
    msg = f"no mask of kind {kind!r} with a share of {low} to {high} in 400 draws"
    raise AssertionError(msg)


def _scratch_for_benchmark(size: int, rng: np.random.Generator) -> Mask:
    mask = draw_scratches(size, size, rng, int(rng.integers(2, 7)))
    mask |= draw_hair(size, size, rng)
    for _ in range(int(rng.integers(0, 25))):
        at = (int(rng.integers(0, size)), int(rng.integers(0, size)))
        cv2.circle(mask, at, int(rng.integers(0, 3)), 1, -1)
    return mask


_BenchmarkDraw = Callable[[int, np.random.Generator, Sequence[Path], Sequence[Mask]], Mask]
_BENCHMARK: dict[str, tuple[_BenchmarkDraw, float, float]] = {
    "scratch": (lambda size, rng, _f, _e: _scratch_for_benchmark(size, rng), 0.02, 0.05),
    "film": (lambda size, rng, _f, e: draw_element(size, size, rng, e), 0.01, 0.08),
    "text": (lambda size, rng, f, _e: draw_text(size, size, rng, f), 0.05, 0.10),
    "logo": (lambda size, rng, _f, _e: draw_logo(size, size, rng, size // 4), 0.02, 0.09),
    "irregular20": (lambda size, rng, _f, _e: draw_brush(size, size, rng, 0.2), 0.17, 0.23),
    "irregular40": (lambda size, rng, _f, _e: draw_brush(size, size, rng, 0.4), 0.37, 0.43),
    "center128": (lambda size, rng, _f, _e: draw_center(size, size, rng), 0.2, 0.3),
    "dropout": (lambda size, rng, _f, _e: draw_dropout(size, size, rng), 0.03, 0.41),
}
MASK_KINDS = tuple(_BENCHMARK)
