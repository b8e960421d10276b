"""Watermarks tiled over single photographs: how many are recognised, and what is gained.

    python -m benchmarks.watermark_tilings DATA --count 64 --out runs/tilings.md

The last held-out photographs (training/validation.py), whole; every second one gets slanted words
in a grid or in bricks, drawn upright and turned with the layer (steps are then no whole pixels) or
turned one by one, of opacity 0.15 to 0.5, and all are encoded as JPEG of quality 85 to 95 with
chroma at half the resolution. Each is then looked at alone, as ``remove-watermark`` does. PSNR is
taken where the true alpha is above 0.01; pixels that would be repainted count as they are.
"""

from __future__ import annotations

import argparse
import io
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from benchmarks.machine import describe_setup
from restorepix.formats import read_photo
from restorepix.watermark.study import Study, read_rgb
from restorepix.watermark.unblending import find_pages
from training.data import read_rgb as read_file_rgb
from training.validation import list_validation

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating[Any]]
_FINER = 4
_WORDS = ("Specimen", "NOT FOR SALE", "agency.example", "© R. Maier", "DRAFT", "Lightbox 12")


def draw_slanted(size: tuple[int, int], rng: random.Random) -> tuple[Floats, str]:
    """Opacity (h, w) of a tiling that is drawn at random, and its kind."""
    word, is_brick, is_turned = rng.choice(_WORDS), rng.random() < 0.5, rng.random() < 0.5
    angle = rng.choice((-1, 1)) * rng.uniform(28, 46)
    font = ImageFont.load_default(rng.uniform(14, 20) * _FINER)
    left, top, right, bottom = (round(v) for v in font.getbbox(word))
    mark = Image.new("L", (right - left + 2 * _FINER, bottom - top + 2 * _FINER))
    ImageDraw.Draw(mark).text((_FINER - left, _FINER - top), word, 255, font)
    if not is_turned:
        mark = mark.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    gap = (rng.randint(10, 36), rng.randint(12, 30) if is_turned else rng.randint(2, 14))
    step = (mark.width // _FINER + gap[0], mark.height // _FINER + gap[1])
    side = round(np.hypot(*size)) if is_turned else max(size)
    layer = Image.new("L", (side * _FINER, side * _FINER))
    start = (rng.randrange(step[0]), rng.randrange(step[1]))
    for number, row in enumerate(range(start[1] - step[1], side, step[1])):
        stagger = step[0] // 2 if is_brick and number % 2 else 0
        for column in range(start[0] - 2 * step[0] + stagger, side, step[0]):
            layer.paste(mark, (column * _FINER, row * _FINER))
    if is_turned:
        layer = layer.rotate(angle, Image.Resampling.BICUBIC)
    top, left = (layer.height - size[0] * _FINER) // 2, (layer.width - size[1] * _FINER) // 2
    whole = layer.crop((left, top, left + size[1] * _FINER, top + size[0] * _FINER))
    ink = np.asarray(whole.resize(size[::-1], Image.Resampling.BOX), np.float32) / 255
    kind = f"{'bricks' if is_brick else 'grid'}, {'layer' if is_turned else 'words'} turned"
    return ink * np.float32(rng.uniform(0.15, 0.5)), kind


def encode(pixels: Floats, quality: int) -> bytes:
    """A JPEG file of (h, w, 3) pixels in [0, 255]."""
    buffer = io.BytesIO()
    picture = Image.fromarray(np.rint(pixels).astype(np.uint8))
    picture.save(buffer, "JPEG", quality=quality, subsampling=2)
    return buffer.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--count", type=int, default=64, help="photographs, half of them tiled")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    rng = random.Random(options.seed)
    gains: dict[str, list[float]] = {}
    drawn: dict[str, int] = {}
    changed = listed = reviewed = plain = 0
    for number, path in enumerate(list_validation(options.data)[-options.count :]):
        truth = np.asarray(read_file_rgb(path), np.float32)
        quality = rng.choice((85, 90, 95))
        alpha, kind = draw_slanted((truth.shape[0], truth.shape[1]), rng)
        level = rng.choice((255, 255, 255, 217))
        is_tiled = number % 2 == 0
        a = alpha[..., None] * np.float32(is_tiled)
        photo = read_photo(encode(truth * (1 - a) + level * a, quality), path.name, max_mpixels=9)
        found, (plan,) = find_pages(Study(), photo, None)
        hole = found.mask.pages[0]
        if not is_tiled:
            plain += 1
            changed += hole is not None
            listed += "repeats over the picture" in " ".join(found.review)
            continue
        drawn[kind] = drawn.get(kind, 0) + 1
        line = f"{number:3d} {kind}, opacity {alpha.max():.2f}, JPEG {quality}: "
        if hole is None or plan is None:
            print(line + found.review[0], flush=True)
            continue
        given = read_rgb(photo.pages[0])
        result = np.where((hole & ~plan.lost)[..., None], plan.clean, given)
        before, after = (measure(image, truth / 255, alpha > 0.01) for image in (given, result))
        gains.setdefault(kind, []).append(after - before)
        reviewed += bool(found.review)
        print(line + f"{before:.1f} -> {after:.1f} dB", *found.review, flush=True)
    lines = [
        "| tiling | photographs | recognised | gain in dB, mean | least |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for kind, count in [*sorted(drawn.items()), ("all", sum(drawn.values()))]:
        own = sum(gains.values(), []) if kind == "all" else gains.get(kind, [])
        cells = (f"{np.mean(own):.1f}", f"{min(own):.1f}") if own else ("", "")
        lines.append(f"| {kind} | {count} | {len(own)} | {cells[0]} | {cells[1]} |")
    lines += [
        "",
        f"To review among those recognised: {reviewed}. Of {plain} photographs without a tiling, "
        f"{changed} changed, {listed} listed for a pattern.",
        "",
        describe_setup(),
    ]
    options.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def measure(image: Floats, truth: Floats, where: npt.NDArray[np.bool_]) -> float:
    """PSNR in dB of pixels in [0, 1]."""
    return float(-10 * np.log10(np.square(np.clip(image, 0, 1) - truth)[where].mean()))


if __name__ == "__main__":
    main()
