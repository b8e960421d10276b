"""Damage painted on photographs: what time, dust, captions and watermarks do to a picture.

Shapes come from ``training.masks``; this module gives them soft edges and colour and lays them
over the picture in the ways real damage does: ``replace`` (emulsion scraped off, paint, print),
``screen`` (light on a negative, glow), ``multiply`` (ink, dirt, stains), ``blur`` (softened
emulsion), with or without a halo around it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from training.masks import Draw, draw_dust, draw_fold, draw_hair, draw_logo, draw_scratches

DamageKind = Literal[
    "scratch", "dust", "hair", "fold", "caption", "date", "stain", "blob", "watermark"
]
DAMAGE_KINDS: tuple[DamageKind, ...] = get_args(DamageKind)
Mode = Literal["replace", "screen", "multiply", "blur"]

CHANGED_LEVELS = 4
"""A pixel counts as damaged when a channel moved by more than this many of 255 levels: less is
lost in grain and JPEG noise (a guess from looking, not studied carefully)."""

Floats = npt.NDArray[np.float32]
Color = tuple[float, float, float]

_CAPTIONS = (
    "Summer holiday, July 1962",
    "Grandma and Ruth",
    "The first day of school",
    "Lake Garda, Easter 1958",
    "Our new car!",
    "No. 14",
    "Uncle Karl, second from left",
    "24 December",
    "View from the tower",
)
_OWNERS = ("(c) STUDIO NORD", "SAMPLE", "PREVIEW ONLY", "fotohaus.example", "DO NOT COPY", "PROOF")


class DamagedPhoto(NamedTuple):
    """A damaged photograph and where it is damaged."""

    image: npt.NDArray[np.uint8]
    """(H, W, 3) uint8, R, G, B."""
    mask: npt.NDArray[np.bool_]
    """(H, W) bool, True = hole: the damage and its margin."""


def damage_photo(
    image: npt.NDArray[np.uint8],
    rng: np.random.Generator,
    kinds: Sequence[DamageKind] = DAMAGE_KINDS,
    *,
    margin_px: int = 1,
    fonts: Sequence[Path] = (),
) -> DamagedPhoto:
    """Paint one layer of each kind of damage on a photograph, in the order given.

    The mask covers every pixel of which a channel changed by more than ``CHANGED_LEVELS``, with
    pinholes closed, grown by ``margin_px``. Pixels outside it may differ by up to that many
    levels. It is empty when nothing visible was painted (dark dust on black, say).

    Args:
        image: (H, W, 3) uint8 in R, G, B order; not modified. A grey photograph comes as three
            equal channels.
        rng: Source of all randomness; the same state gives the same damage.
        kinds: What to paint.
        margin_px: How far the mask reaches beyond the damage, in pixels.
        fonts: Font files for captions and watermarks; none means the font inside Pillow.

    Raises:
        ValueError: ``image`` is no uint8 (H, W, 3) array, or a kind is unknown.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}"
        msg = f"damage: expected a uint8 (H, W, 3) image, found {found}. Convert it first."
        raise ValueError(msg)
    damaged = image.astype(np.float32)
    for kind in kinds:
        if kind not in _PAINTERS:
            msg = f"damage: expected kinds of {', '.join(DAMAGE_KINDS)}, found {kind!r}."
            raise ValueError(msg)
        damaged = _PAINTERS[kind](damaged, rng, fonts)
    result = np.clip(np.rint(damaged), 0, 255).astype(np.uint8)
    return DamagedPhoto(result, _find_changes(image, result, margin_px))


def composite_layer(image: Floats, alpha: Floats, color: Color, mode: Mode) -> Floats:
    """``image`` with one layer of damage on it.

    Args:
        image: (H, W, 3) float32 in [0, 255].
        alpha: (H, W) float32 in [0, 1], strength of the layer at each pixel.
        color: R, G, B in [0, 255]; without effect for ``blur``.
        mode: ``replace`` mixes in the colour, ``screen`` adds light, ``multiply`` absorbs it,
            ``blur`` mixes in the picture blurred by 3 px.

    Returns:
        (H, W, 3) float32 in [0, 255].
    """
    weight = alpha[:, :, None]
    paint = np.array(color, np.float32)
    if mode == "screen":
        return np.asarray(255 - (255 - image) * (1 - weight * paint / 255), np.float32)
    if mode == "multiply":
        return np.asarray(image * (1 - weight * (1 - paint / 255)), np.float32)
    target = blur(image, 3) if mode == "blur" else paint
    return np.asarray(image + weight * (target - image), np.float32)


def _find_changes(
    before: npt.NDArray[np.uint8], after: npt.NDArray[np.uint8], margin_px: int
) -> npt.NDArray[np.bool_]:
    changed = (cv2.absdiff(before, after).max(2) > CHANGED_LEVELS).astype(np.uint8)
    closed = cv2.morphologyEx(changed, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) | changed
    side = 2 * margin_px + 1
    return cv2.dilate(closed, np.ones((side, side), np.uint8)).astype(np.bool_)


# Soft shapes: (H, W) float32 in [0, 1].


def to_alpha(drawing: Image.Image | npt.NDArray[np.uint8]) -> Floats:
    """A drawing in [0, 255] as (H, W) float32 in [0, 1]."""
    return np.multiply(np.asarray(drawing, np.float32), 1 / 255, dtype=np.float32)


def blur(values: Floats, sigma_px: float) -> Floats:
    """Gaussian blur of (H, W) or (H, W, C)."""
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma_px), np.float32)


def soften(mask: npt.NDArray[np.uint8], sigma_px: float) -> Floats:
    """A binary shape with soft edges; the gain keeps 1 px lines from vanishing."""
    return np.minimum(1.5 * blur(mask.astype(np.float32), sigma_px), 1)


def draw_fine(draw: Draw, height: int, width: int, rng: np.random.Generator) -> Floats:
    """A shape drawn twice as large and averaged down: half as thick, with smooth edges."""
    large = draw(2 * height, 2 * width, rng).astype(np.float32)
    fine = cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA)
    return np.minimum(1.4 * np.asarray(fine, np.float32), 1)


def mottle(height: int, width: int, rng: np.random.Generator, low: float, cell_px: int) -> Floats:
    """Smooth noise between ``low`` and 1, with grains of about ``cell_px``."""
    coarse = rng.random((height // cell_px + 2, width // cell_px + 2), np.float32)
    noise = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(low + (1 - low) * np.clip(noise, 0, 1), np.float32)


def ring(alpha: Floats, reach_px: float) -> Floats:
    """The surround of a shape, fading out over about ``reach_px``."""
    return np.clip(2 * blur(alpha, reach_px) - alpha, 0, 1)


def _write_text(
    height: int,
    width: int,
    text: str,
    at: tuple[float, float],
    size_px: int,
    font_file: Path | None,
    stroke_px: int = 0,
) -> Floats:
    """Text whose upper left corner is at ``at`` (x, y)."""
    canvas = Image.new("L", (width, height))
    font = _load_font(size_px, font_file)
    ImageDraw.Draw(canvas).text(at, text, fill=255, font=font, stroke_width=stroke_px)
    return to_alpha(canvas)


def _load_font(
    size_px: int, font_file: Path | None
) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.truetype(font_file, size_px) if font_file else ImageFont.load_default(size_px)


def _pick_font(rng: np.random.Generator, fonts: Sequence[Path]) -> Path | None:
    return fonts[int(rng.integers(len(fonts)))] if fonts else None


# Painters: one kind of damage each.


def jitter_color(color: Color, rng: np.random.Generator, spread: float = 12) -> Color:
    """A colour near ``color``: normal noise of ``spread`` levels on each channel."""
    red, green, blue = (float(np.clip(c + rng.normal(0, spread), 0, 255)) for c in color)
    return red, green, blue


_SCRATCH_LOOKS: tuple[tuple[float, Mode, Color], ...] = (
    (0.5, "replace", (242, 240, 232)),  # emulsion gone on a print, or the base of a positive
    (0.2, "multiply", (45, 40, 38)),  # dirt in a groove, a scratch on a negative
    (0.1, "replace", (70, 190, 120)),  # one layer of a colour film cut: green, yellow or cyan
    (0.1, "replace", (240, 210, 70)),
    (0.1, "screen", (180, 220, 255)),
)


def _paint_scratches(image: Floats, rng: np.random.Generator, fonts: Sequence[Path]) -> Floats:
    height, width = image.shape[:2]
    odds = [odd for odd, _, _ in _SCRATCH_LOOKS]
    for _ in range(int(rng.integers(2, 5))):
        if rng.random() < 0.75:
            shape = draw_fine(draw_scratches, height, width, rng)
        else:
            shape = soften(draw_scratches(height, width, rng), rng.uniform(0.4, 0.9))
        fading = rng.uniform(0.3, 1) if rng.random() < 0.4 else 0.85
        alpha = shape * mottle(height, width, rng, fading, 40)
        _, mode, color = _SCRATCH_LOOKS[int(rng.choice(len(odds), p=odds))]
        if rng.random() < 0.3:
            image = composite_layer(image, 0.8 * ring(shape, 2), (0, 0, 0), "blur")
        if rng.random() < 0.3:
            halo_mode: Mode = "screen" if mode == "multiply" else "multiply"
            image = composite_layer(image, 0.35 * ring(shape, 1.5), (100, 95, 90), halo_mode)
        image = composite_layer(image, alpha, jitter_color(color, rng), mode)
    return image


def _paint_dust(image: Floats, rng: np.random.Generator, fonts: Sequence[Path]) -> Floats:
    height, width = image.shape[:2]
    alpha = soften(draw_dust(height, width, rng), rng.uniform(0.5, 1.0))
    if rng.random() < 0.7:
        return composite_layer(image, 0.95 * alpha, jitter_color((245, 243, 238), rng), "replace")
    return composite_layer(image, 0.9 * alpha, jitter_color((50, 46, 42), rng), "multiply")


def _paint_hair(image: Floats, rng: np.random.Generator, fonts: Sequence[Path]) -> Floats:
    height, width = image.shape[:2]
    alpha = soften(draw_hair(height, width, rng), rng.uniform(0.5, 1.0))
    if rng.random() < 0.5:
        return composite_layer(image, 0.9 * alpha, jitter_color((235, 235, 230), rng), "screen")
    return composite_layer(image, 0.9 * alpha, jitter_color((35, 30, 28), rng), "multiply")


def _paint_fold(image: Floats, rng: np.random.Generator, fonts: Sequence[Path]) -> Floats:
    height, width = image.shape[:2]
    shape = draw_fine(draw_fold, height, width, rng)
    image = composite_layer(image, 0.4 * ring(shape, 3), (70, 62, 55), "multiply")
    flaking = mottle(height, width, rng, rng.uniform(0, 0.5), 4)
    paper = np.minimum(1.6 * shape * flaking, 1) * mottle(height, width, rng, 0.5, 30)
    return composite_layer(image, paper, jitter_color((232, 226, 212), rng), "replace")


_CAPTION_LOOKS: tuple[tuple[Color, Color | None], ...] = (
    ((255, 255, 255), (15, 15, 15)),  # ink, outline
    ((250, 225, 60), (20, 15, 10)),
    ((255, 255, 255), None),
    ((15, 15, 20), None),
    ((35, 45, 120), None),
)


def _paint_caption(image: Floats, rng: np.random.Generator, fonts: Sequence[Path]) -> Floats:
    height, width = image.shape[:2]
    text = _CAPTIONS[int(rng.integers(len(_CAPTIONS)))]
    font_file = _pick_font(rng, fonts)
    size = max(8, int(height * rng.uniform(0.055, 0.1)))
    fits = 0.92 * width / _load_font(size, font_file).getlength(text)
    size = max(8, int(size * min(1, fits)))
    free = width - _load_font(size, font_file).getlength(text)
    top = (0.03 if rng.random() < 0.2 else rng.uniform(0.75, 0.86)) * height
    at = (rng.uniform(0.15, 0.85) * max(0, free), top)
    ink, outline = _CAPTION_LOOKS[int(rng.integers(len(_CAPTION_LOOKS)))]
    opacity = rng.uniform(0.8, 1)
    if outline is not None:
        stroke = max(1, size // 14)
        edge = _write_text(height, width, text, at, size, font_file, stroke)
        image = composite_layer(image, opacity * edge, outline, "replace")
    letters = _write_text(height, width, text, at, size, font_file)
    return composite_layer(image, opacity * letters, ink, "replace")


_SEGMENTS: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "a": ((0.08, 0), (0.92, 0)),
    "b": ((1, 0.05), (1, 0.45)),
    "c": ((1, 0.55), (1, 0.95)),
    "d": ((0.08, 1), (0.92, 1)),
    "e": ((0, 0.55), (0, 0.95)),
    "f": ((0, 0.05), (0, 0.45)),
    "g": ((0.08, 0.5), (0.92, 0.5)),
}
"""Ends (x, y) of each bar of a seven-segment digit, in the digit's box."""
_DIGITS = ("abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg")


def draw_seven_segment(text: str, height_px: int) -> Floats:
    """Digits as a camera's date back exposes them: slanted bars.

    Args:
        text: Digits, spaces and apostrophes (the mark before a year of two digits).
        height_px: Height of a digit in pixels, 5 or more.

    Returns:
        (H, W) float32 in [0, 1], a little larger than the digits.

    Raises:
        ValueError: another sign in ``text``, or digits under 5 px.
    """
    if height_px < 5 or not text or set(text) - set("0123456789' "):
        msg = f"seven segments: expected digits, spaces and ' at 5 px or more, found {text!r}"
        raise ValueError(f"{msg} at {height_px} px")
    fine = 4  # drawn four times as large, then averaged down
    tall = height_px * fine
    wide, pitch, pad, slant = 0.52 * tall, 0.78 * tall, 0.2 * tall, 0.12
    size = (int(2 * pad + tall), int(2 * pad + pitch * len(text) + slant * tall))
    canvas = np.zeros(size, np.uint8)
    bar = max(fine, round(0.11 * tall))

    def place(index: int, x: float, y: float) -> tuple[int, int]:
        column = pad + index * pitch + x * wide + slant * tall * (1 - y)
        return round(column), round(pad + y * tall)

    for index, sign in enumerate(text):
        bars = [_SEGMENTS[s] for s in _DIGITS[int(sign)]] if sign.isdigit() else []
        if sign == "'":
            bars = [((0.7, 0), (0.55, 0.2))]
        for start, end in bars:
            cv2.line(canvas, place(index, *start), place(index, *end), 255, bar)
    small = (-(-size[1] // fine), -(-size[0] // fine))
    return to_alpha(np.asarray(cv2.resize(canvas, small, interpolation=cv2.INTER_AREA), np.uint8))


def _paint_date(image: Floats, rng: np.random.Generator, fonts: Sequence[Path]) -> Floats:
    height, width = image.shape[:2]
    year, month, day = rng.integers((70, 1, 1), (100, 13, 29))
    text = f"'{year} {month:2d} {day:2d}" if rng.random() < 0.6 else f"{day:2d} {month:2d} '{year}"
    digits = draw_seven_segment(text, max(5, int(height * rng.uniform(0.04, 0.06))))
    if digits.shape[0] > height or digits.shape[1] > width:
        scale = min(height / digits.shape[0], width / digits.shape[1])
        fitted = (max(1, int(digits.shape[1] * scale)), max(1, int(digits.shape[0] * scale)))
        digits = np.asarray(cv2.resize(digits, fitted, interpolation=cv2.INTER_AREA), np.float32)
    top = int((height - digits.shape[0]) * rng.uniform(0.9, 0.98))
    left = int((width - digits.shape[1]) * rng.uniform(0.9, 0.97))
    core = np.zeros((height, width), np.float32)
    core[top : top + digits.shape[0], left : left + digits.shape[1]] = digits
    glow = np.asarray(np.minimum(1.6 * blur(core, max(1.0, digits.shape[0] / 9)), 1), np.float32)
    image = composite_layer(image, 0.7 * glow, (255, 70, 5), "screen")
    return composite_layer(image, 0.95 * core, jitter_color((255, 165, 50), rng, 8), "replace")


def _paint_stain(image: Floats, rng: np.random.Generator, fonts: Sequence[Path]) -> Floats:
    height, width = image.shape[:2]
    size = max(4, int(min(height, width) * rng.uniform(0.1, 0.22)))
    shape = draw_logo(height, width, rng, size)
    soft = soften(shape, max(1.0, size / 20))
    rim = np.clip(soft - blur(soft, max(1.0, size / 10)), 0, 1)  # where the liquid dried last
    tint = jitter_color((168, 122, 70), rng)
    image = composite_layer(image, soft * rng.uniform(0.5, 0.9), tint, "multiply")
    return composite_layer(image, rim, (120, 80, 45), "multiply")


def _paint_blob(image: Floats, rng: np.random.Generator, fonts: Sequence[Path]) -> Floats:
    height, width = image.shape[:2]
    size = max(4, int(min(height, width) * rng.uniform(0.06, 0.14)))
    alpha = soften(draw_logo(height, width, rng, size), 1.0)
    colors: tuple[Color, ...] = ((236, 230, 216), (28, 32, 60), (60, 40, 30))  # paper, ink, glue
    color = colors[int(rng.integers(len(colors)))]
    return composite_layer(image, 0.98 * alpha, jitter_color(color, rng), "replace")


def _paint_watermark(image: Floats, rng: np.random.Generator, fonts: Sequence[Path]) -> Floats:
    height, width = image.shape[:2]
    text = _OWNERS[int(rng.integers(len(_OWNERS)))]
    font_file = _pick_font(rng, fonts)
    size = max(8, int(height * rng.uniform(0.05, 0.09)))
    opacity = rng.uniform(0.25, 0.6)
    color = (255.0, 255.0, 255.0) if rng.random() < 0.8 else (0.0, 0.0, 0.0)
    if rng.random() < 0.5:  # a badge in the middle: a ring around the name
        length = _load_font(size, font_file).getlength(text)
        at = ((width - length) / 2, height / 2 - 0.6 * size)
        alpha = _write_text(height, width, text, at, size, font_file, max(1, size // 16))
        oval = np.zeros((height, width), np.uint8)
        axes = (max(1, int(0.62 * length)), max(1, int(1.4 * size)))
        cv2.ellipse(oval, (width // 2, height // 2), axes, 0, 0, 360, 255, max(1, size // 8), 16)
        alpha = np.maximum(alpha, to_alpha(oval))
    else:  # the name repeated on a diagonal grid
        alpha = _tile_text(height, width, text, size, font_file, rng.uniform(15, 40))
    return composite_layer(image, opacity * alpha, color, "replace")


def _tile_text(
    height: int, width: int, text: str, size_px: int, font_file: Path | None, angle: float
) -> Floats:
    side = int(math.hypot(height, width)) + 1  # covers the picture at any angle
    font = _load_font(size_px, font_file)
    length = max(1, int(font.getlength(text)))
    canvas = Image.new("L", (side, side))
    pen = ImageDraw.Draw(canvas)
    for row, top in enumerate(range(0, side, 4 * size_px)):
        for left in range(-(row % 2) * length, side, 2 * length):
            pen.text((left, top), text, fill=255, font=font)
    left, top = (side - width) // 2, (side - height) // 2
    turned = canvas.rotate(angle, Image.Resampling.BILINEAR)
    return to_alpha(turned.crop((left, top, left + width, top + height)))


_Painter = Callable[[Floats, np.random.Generator, Sequence[Path]], Floats]
_PAINTERS: dict[DamageKind, _Painter] = {
    "scratch": _paint_scratches,
    "dust": _paint_dust,
    "hair": _paint_hair,
    "fold": _paint_fold,
    "caption": _paint_caption,
    "date": _paint_date,
    "stain": _paint_stain,
    "blob": _paint_blob,
    "watermark": _paint_watermark,
}
