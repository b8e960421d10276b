"""Un-blending a watermark that repeats, beside repainting it with its true mask.

    python -m benchmarks.watermark DATA --out runs/watermark.md --sheet runs/watermark.png

Held-out photographs (training/validation.py), cut to 320 px, get a synthetic overlay and are
encoded; then the folder is studied and repaired as ``restorepix remove-watermark`` does, in pixels
before the result is encoded. Scores are taken where the true alpha is above 0.01. The mask of the
other arms is that truth, which the un-blending arm is not told.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from benchmarks.machine import describe_setup
from restorepix.formats import read_photo
from restorepix.options import RestoreOptions
from restorepix.pipeline import Inpainting, load_network
from restorepix.watermark.overlay import place_overlay
from restorepix.watermark.repair import WatermarkRepair
from restorepix.watermark.study import study_folder
from training.data import read_rgb
from training.evaluate import hole_psnr
from training.validation import list_validation

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
SIZE_PX = 320
_FINER = 4


class Setting(NamedTuple):
    """One folder."""

    photos: int
    opacity: float
    quality: int | None
    """Of JPEG, with chroma at half the resolution; None for PNG."""
    overlay: str
    """``text``, ``logo`` (text and shapes), ``outlined``, ``none``."""
    skip: int = 0
    """Photographs of the list to pass over."""


SETTINGS = (
    Setting(20, 0.5, 90, "text"),
    Setting(20, 0.5, 90, "logo"),
    Setting(20, 0.3, 75, "text"),
    Setting(5, 0.5, 90, "text"),
    Setting(20, 0.5, 90, "outlined"),
    Setting(20, 0.0, 90, "none"),
    Setting(20, 0.1, 90, "text"),
    Setting(20, 0.5, None, "text"),
    Setting(60, 0.5, 90, "text"),
)


def read_photos(data: Path, count: int, skip: int) -> list[Pixels]:
    """The first held-out photographs that are large enough, their middle squares."""
    photos: list[Pixels] = []
    for path in list_validation(data)[skip:]:
        image = np.asarray(read_rgb(path), np.uint8)
        height, width = image.shape[:2]
        if min(height, width) >= SIZE_PX:
            top, left = (height - SIZE_PX) // 2, (width - SIZE_PX) // 2
            photos.append(image[top : top + SIZE_PX, left : left + SIZE_PX])
        if len(photos) == count:
            break
    return photos


def draw_overlay(kind: str, opacity: float) -> tuple[Floats, Floats]:
    """Alpha (320, 320) and colour (320, 320, 3) in [0, 1], anti-aliased."""
    side = SIZE_PX * _FINER
    alpha, color = Image.new("L", (side, side)), Image.new("RGB", (side, side), "white")
    pen, brush = ImageDraw.Draw(alpha), ImageDraw.Draw(color)
    if kind != "none":
        font, place = ImageFont.load_default(40 * _FINER), (70 * _FINER, 130 * _FINER)
        stroke = 2 * _FINER if kind == "outlined" else _FINER
        pen.text(place, "© Studio", 255, font, stroke_width=stroke)
        if kind == "outlined":
            brush.text(place, "© Studio", "white", font, stroke_width=stroke, stroke_fill="black")
    if kind == "logo":
        pen.ellipse([v * _FINER for v in (60, 200, 160, 290)], 255)
        pen.ellipse([v * _FINER for v in (85, 220, 135, 270)], 0)
        corners = [(v[0] * _FINER, v[1] * _FINER) for v in ((200, 290), (230, 200), (275, 290))]
        pen.polygon(corners, 255)
        brush.polygon(corners, (230, 120, 20))
    size, box = (SIZE_PX, SIZE_PX), Image.Resampling.BOX
    return (
        np.asarray(alpha.resize(size, box), np.float32) / 255 * np.float32(opacity),
        np.asarray(color.resize(size, box), np.float32) / 255,
    )


def encode(photo: Pixels, alpha: Floats, color: Floats, quality: int | None) -> bytes:
    """A file of a photograph under an overlay."""
    a = alpha[..., None]
    mixed = np.rint(photo * (1 - a) + 255 * color * a).astype(np.uint8)
    buffer = io.BytesIO()
    if quality is None:
        Image.fromarray(mixed).save(buffer, "PNG")
    else:
        Image.fromarray(mixed).save(buffer, "JPEG", quality=quality, subsampling=2)
    return buffer.getvalue()


def measure(setting: Setting, data: Path, repair_options: RestoreOptions) -> tuple[str, Pixels]:
    """One row of the table, and a strip of pictures."""
    network = load_network(repair_options)
    truths = read_photos(data, setting.photos, setting.skip)
    alpha, color = draw_overlay(setting.overlay, setting.opacity)
    mask = alpha > 0.01
    hole = mask.astype(np.uint8)
    scores: dict[str, list[float]] = {"given": [], "ours": [], "network": [], "telea": []}
    overlap = 0.0
    changed = reviewed = repainted = 0
    strips: list[Pixels] = []
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{n:03d}.img" for n in range(len(truths))]
        for path, truth in zip(paths, truths, strict=True):
            path.write_bytes(encode(truth, alpha, color, setting.quality))
        begin = time.perf_counter()
        study = study_folder(paths, max_mpixels=1.0)
        repair = WatermarkRepair(network, study, repair_options)
        studied = time.perf_counter() - begin
        for family in study.families[:1]:
            support = place_overlay(family.overlay, family.place, mask.shape).find_support()
            overlap = float((support & mask).sum() / max(int((support | mask).sum()), 1))
        for path, truth in zip(paths, truths, strict=True):
            photo = read_photo(path.read_bytes(), path.name, max_mpixels=1.0)
            given = photo.pages[0].pixels
            found = repair.find(photo, path.name, None)
            reviewed += bool(found.review)
            result = given
            if found.mask.hole_pixels:
                painted = repair.repaint(photo, found, path.name)
                assert painted.pages[0] is not None
                result = painted.pages[0]
                changed += 1
                repainted += painted.method == "inpainted"
            if not mask.any():
                continue
            telea = np.asarray(cv2.inpaint(given, hole, 3, cv2.INPAINT_TELEA), np.uint8)
            filled = inpaint(network.inpainter, given, mask)
            for name, image in (
                ("given", given), ("ours", result), ("network", filled), ("telea", telea),
            ):  # fmt: skip
                scores[name].append(hole_psnr(image, truth, hole))
            if len(strips) < 3:
                strips.append(np.hstack([given, result, filled, truth]))
    kind = "PNG" if setting.quality is None else f"JPEG {setting.quality}"
    cells = [
        str(setting.photos), setting.overlay, f"{setting.opacity:g}", kind,
        *(f"{np.mean(values):.1f}" if values else "" for values in scores.values()),
        f"{overlap:.2f}" if mask.any() else "",
        f"{changed}", f"{repainted}", f"{reviewed}", f"{studied:.0f}",
    ]  # fmt: skip
    sheet = np.vstack(strips) if strips else np.zeros((1, 4 * SIZE_PX, 3), np.uint8)
    return "| " + " | ".join(cells) + " |", sheet


def inpaint(inpainter: Inpainting, given: Pixels, mask: npt.NDArray[np.bool_]) -> Pixels:
    """The mask repainted by the network alone."""
    image = given.astype(np.float32) / 255
    result = given.copy()
    for box, rgb in inpainter.inpaint(lambda box: image[box.slices()].copy(), mask):
        window = box.slices()
        inside = mask[window]
        result[window][inside] = np.rint(rgb[inside] * 255)
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--settings", type=int, default=len(SETTINGS), help="only the first N")
    options = parser.parse_args(arguments)
    repair_options = RestoreOptions(device="cpu", threads=1)
    lines = [
        "| photographs | overlay | opacity | file | as given | un-blended | network | Telea "
        "| mask IoU | changed | of them repainted | to review | seconds of study |",
        "|" + "---|" * 13,
    ]
    sheets: list[Pixels] = []
    for setting in SETTINGS[: options.settings]:
        row, sheet = measure(setting, options.data, repair_options)
        lines.append(row)
        sheets.append(sheet)
        print(row, flush=True)
        options.out.write_text("\n".join([*lines, "", describe_setup(), ""]))
        if options.sheet is not None:
            Image.fromarray(np.vstack(sheets)).save(options.sheet)


if __name__ == "__main__":
    main()
