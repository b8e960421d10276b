"""Un-blending a watermark that repeats, beside repainting it with its true mask.

    python -m benchmarks.watermark DATA --out runs/watermark.md --sheet runs/watermark.png

Held-out photographs (training/validation.py), cut to 320 px, get a synthetic overlay and are
encoded; then the folder is studied and repaired as ``restorepix remove-watermark`` does, in pixels
before the result is encoded. Scores are means over the first photographs of each folder, taken
where the true alpha is above 0.01. The mask of the arms that repaint is that truth, which the
program is not told; estimates after Dekel et al. (benchmarks/watermark_peer.py) are told the
overlay's box. ``--rows`` measures some of the folders, so that several processes can share them.
"""

from __future__ import annotations

import argparse
import io
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.machine import describe_setup
from benchmarks.watermark_overlays import DATE_COLORS, SIZE_PX, draw_date, draw_overlay, move
from benchmarks.watermark_peer import estimate_by_matting, estimate_by_medians
from restorepix.formats import read_photo
from restorepix.options import RestoreOptions
from restorepix.pipeline import Inpainting, load_network
from restorepix.watermark.overlay import place_overlay
from restorepix.watermark.repair import WatermarkRepair
from restorepix.watermark.study import Study, study_folder
from training.data import read_rgb
from training.evaluate import hole_psnr
from training.validation import list_validation

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
SCORED = 8
"""Photographs of a folder that are repaired and scored; the others are studied only."""
ARMS = ("given", "ours", "medians", "matting", "network", "telea")


class Setting(NamedTuple):
    """One folder."""

    photos: int
    opacity: float
    quality: int | None
    """Of JPEG, with chroma at half the resolution; None for PNG."""
    overlay: str
    """A kind that :func:`draw_overlay` or :func:`draw_date` knows."""
    shift_px: int = 0
    """How far the overlay moves from photograph to photograph, at most."""
    is_scaled: bool = False
    """Whether photographs differ in size, the overlay with them."""

    @property
    def is_single(self) -> bool:
        """Whether each photograph is studied by itself."""
        return self.overlay in ("tiled", "diagonal")


SETTINGS = (
    Setting(20, 0.5, 90, "text"),
    Setting(20, 0.5, 90, "logo"),
    Setting(20, 0.5, 90, "outlined"),
    Setting(20, 0.5, 90, "script"),
    Setting(5, 0.5, 90, "text"),
    Setting(60, 0.5, 90, "text"),
    Setting(20, 0.3, 75, "text"),
    Setting(20, 0.5, 95, "text"),
    Setting(20, 0.5, None, "text"),
    Setting(20, 0.7, 90, "text"),
    Setting(20, 1.0, 90, "text"),
    Setting(20, 0.2, 90, "text"),
    Setting(20, 0.1, 90, "text"),
    Setting(20, 0.5, 90, "text", shift_px=2),
    Setting(8, 0.5, 90, "text", is_scaled=True),
    Setting(20, 1.0, 90, "orange"),
    Setting(20, 1.0, 75, "yellow"),
    Setting(5, 1.0, 90, "white"),
    Setting(8, 0.5, 90, "tiled"),
    Setting(8, 0.4, 90, "diagonal"),
    Setting(20, 0.0, 90, "none"),
)


class Scene(NamedTuple):
    """A photograph and what lies on it."""

    truth: Pixels
    alpha: Floats
    color: Floats
    data: bytes
    """The file."""


def read_photos(data: Path, count: int) -> list[Pixels]:
    """The first held-out photographs that are large enough, their middle squares."""
    photos: list[Pixels] = []
    for path in list_validation(data):
        image = np.asarray(read_rgb(path), np.uint8)
        height, width = image.shape[:2]
        if min(height, width) >= SIZE_PX:
            top, left = (height - SIZE_PX) // 2, (width - SIZE_PX) // 2
            photos.append(image[top : top + SIZE_PX, left : left + SIZE_PX])
        if len(photos) == count:
            break
    return photos


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


def make_scenes(setting: Setting, data: Path) -> list[Scene]:
    """The photographs of a folder with their overlays."""
    rng = random.Random(0)
    scenes: list[Scene] = []
    for number, photo in enumerate(read_photos(data, setting.photos)):
        if setting.overlay in DATE_COLORS:
            alpha, color = draw_date(setting.overlay, rng)
        else:
            alpha, color = draw_overlay(setting.overlay, setting.opacity)
        scale = 1 - 0.02 * (number % 4) if setting.is_scaled else 1.0
        reach = setting.shift_px
        rows, columns = rng.randint(-reach, reach), rng.randint(-reach, reach)
        alpha, color = (move(layer, rows, columns, scale) for layer in (alpha, color))
        side = len(alpha)
        truth = photo[:side, :side]
        scenes.append(Scene(truth, alpha, color, encode(truth, alpha, color, setting.quality)))
    return scenes


def measure(setting: Setting, data: Path, repair_options: RestoreOptions) -> tuple[str, Pixels]:
    """One row of the table, and a strip of pictures."""
    network = load_network(repair_options)
    scenes = make_scenes(setting, data)
    scores: dict[str, list[float]] = {}
    overlaps: list[float] = []
    changed = reviewed = repainted = 0
    strips: list[Pixels] = []
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{n:03d}.img" for n in range(len(scenes))]
        for path, scene in zip(paths, scenes, strict=True):
            path.write_bytes(scene.data)
        begin = time.process_time()
        study = Study() if setting.is_single else study_folder(paths, max_mpixels=1.0)
        studied = time.process_time() - begin
        repair = WatermarkRepair(network, study, repair_options)
        peers: dict[str, tuple[Floats, Floats]] = {}
        if not (setting.is_single or setting.is_scaled or setting.overlay in DATE_COLORS):
            decoded = [decode(scene.data) for scene in scenes[:24]]
            if setting.opacity:
                stack = np.stack(decoded).astype(np.float32) / 255
                where = scenes[0].alpha > 0.01
                peers["medians"] = estimate_by_medians(stack, where)
                peers["matting"] = estimate_by_matting(stack, where)
        for path, scene in list(zip(paths, scenes, strict=True))[:SCORED]:
            photo = read_photo(path.read_bytes(), path.name, max_mpixels=1.0)
            given = photo.pages[0].pixels
            found = repair.find(photo, path.name, None)
            reviewed += bool(found.review)
            result = given
            mask = scene.alpha > 0.01
            if found.mask.hole_pixels:
                painted = repair.repaint(photo, found, path.name)
                assert painted.pages[0] is not None
                result = painted.pages[0]
                changed += 1
                repainted += painted.method == "inpainted"
            if not mask.any():
                continue
            covered = found.mask.pages[0]
            if setting.is_single or setting.overlay in DATE_COLORS:
                overlaps.append(0.0 if covered is None else measure_overlap(covered, mask))
            hole = mask.astype(np.uint8)
            results = {
                "given": given,
                "ours": result,
                "network": inpaint(network.inpainter, given, mask),
                "telea": np.asarray(cv2.inpaint(given, hole, 3, cv2.INPAINT_TELEA), np.uint8),
            }
            for name, (product, alpha) in peers.items():
                clean = (given / 255 - product) / (1 - np.minimum(alpha, 0.95)[..., None])
                results[name] = np.rint(np.clip(clean, 0, 1) * 255).astype(np.uint8)
            for name, image in results.items():
                scores.setdefault(name, []).append(hole_psnr(image, scene.truth, hole))
                similar = measure_similarity(image, scene.truth)[mask].mean()
                scores.setdefault(f"{name} ssim", []).append(float(similar))
            scores.setdefault("left", []).append(measure_left(result, scene))
            if len(strips) < 2 and len(given) == SIZE_PX:
                shown = [given, result, results["network"], scene.truth]
                strips.append(np.hstack(shown))
    if study.families and not setting.is_scaled and setting.opacity:
        size = scenes[0].alpha.shape
        family = study.families[0]
        support = place_overlay(family.overlay, family.place, size).find_support()
        overlaps = [measure_overlap(support, scenes[0].alpha > 0.01)]
    kind = "PNG" if setting.quality is None else f"JPEG {setting.quality}"
    notes = f", moved by up to {setting.shift_px} px" if setting.shift_px else ""
    notes += ", of 4 sizes" if setting.is_scaled else ""
    cells = [
        f"{setting.photos}{' singles' if setting.is_single else ''}",
        setting.overlay + notes, f"{setting.opacity:g}", kind,
        *(show(scores, arm, 1) for arm in ARMS),
        *(show(scores, f"{arm} ssim", 2) for arm in ("given", "ours", "network")),
        show(scores, "left", 2),
        f"{np.mean(overlaps):.2f}" if overlaps else "",
        f"{changed}", f"{repainted}", f"{reviewed}", f"{studied:.0f}",
    ]  # fmt: skip
    sheet = np.vstack(strips) if strips else np.zeros((1, 4 * SIZE_PX, 3), np.uint8)
    return "| " + " | ".join(cells) + " |", sheet


def show(scores: dict[str, list[float]], name: str, digits: int) -> str:
    """The mean of a score, or nothing."""
    return f"{np.mean(scores[name]):.{digits}f}" if name in scores else ""


def decode(data: bytes) -> Pixels:
    """The pixels of a file."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.uint8)


def measure_overlap(found: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    """Intersection over union."""
    return float((found & truth).sum() / max(int((found | truth).sum()), 1))


def measure_left(result: Pixels, scene: Scene) -> float:
    """How much of the overlay is still seen: 1 all of it, 0 none, in absolute value.

    The share of the overlay's true effect in what is wrong with the result, least squares on the
    gradients of luma.
    """
    luma = np.array([0.299, 0.587, 0.114], np.float32)
    effect = scene.alpha * ((scene.color * 255 - scene.truth) @ luma)
    wrong = (result.astype(np.float32) - scene.truth) @ luma
    over = under = 0.0
    for axis in (0, 1):
        expected, seen = np.diff(effect, axis=axis), np.diff(wrong, axis=axis)
        over += float((expected * seen).sum())
        under += float(np.square(expected).sum())
    return abs(over / max(under, 1e-9))


def measure_similarity(image: Pixels, truth: Pixels) -> Floats:
    """(h, w) structural similarity of luma (Wang et al. 2004), Gaussian windows of 1.5 px."""
    luma = np.array([0.299, 0.587, 0.114], np.float32)
    a, b = image @ luma, truth @ luma

    def blur(values: Floats) -> Floats:
        return np.asarray(cv2.GaussianBlur(values, (11, 11), 1.5), np.float32)

    mean_a, mean_b = blur(a), blur(b)
    both = blur(a * b) - mean_a * mean_b
    spread = blur(a * a) - mean_a**2 + blur(b * b) - mean_b**2
    first, second = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return ((2 * mean_a * mean_b + first) * (2 * both + second)) / (
        (mean_a**2 + mean_b**2 + first) * (spread + second)
    )


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
    parser.add_argument("--rows", default="", help="numbers of folders, from 0, with commas")
    parser.add_argument("--weights", type=Path, help="a file, in place of the shipped weights")
    options = parser.parse_args(arguments)
    repair_options = RestoreOptions(device="cpu", threads=1, weights=options.weights)
    lines = [
        "| photographs | overlay | opacity | file | as given | un-blended | medians | matting "
        "| network | Telea | SSIM as given | SSIM un-blended | SSIM network | left | mask IoU "
        f"| changed of {SCORED} | repainted | to review | CPU s of study |",
        "|" + "---|" * 19,
    ]
    chosen = [int(row) for row in options.rows.split(",")] if options.rows else range(len(SETTINGS))
    sheets: list[Pixels] = []
    for number in chosen:
        row, sheet = measure(SETTINGS[number], options.data, repair_options)
        lines.append(row)
        sheets.append(sheet)
        print(row, flush=True)
        options.out.write_text("\n".join([*lines, "", describe_setup(), ""]))
        if options.sheet is not None:
            Image.fromarray(np.vstack(sheets)).save(options.sheet)


if __name__ == "__main__":
    main()
