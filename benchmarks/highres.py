"""Wide holes in large photographs: native resolution beside an enlarged 512 px pass.

    python -m benchmarks.highres PHOTOS --weights weights/inpaint.safetensors \
        --out docs/highres.md --sheet runs/highres.png

``PHOTOS`` is a folder of pictures of 2000 px or more on their long side (larger than 4000 px are
reduced to that). Each gets seeded holes: a blob 400 px wide, one of 200 px, and a stroke 120 px
wide. Rows: ``restorepix fix`` as it is; the same network on the picture reduced to 512 px, its
answer enlarged (cubic) into the hole, which is what many tools do; the reduced answer without the
native pass's detail is what the difference is about. OpenCV's Telea at native resolution is the
classical peer that can be run at this size. Scores as in benchmarks/scores.py, over a window
around each hole, and contact sheets at one pixel to one.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.machine import describe_setup
from benchmarks.quality import inpaint_picture, load_weights
from benchmarks.scores import Image, Mask, bootstrap_mean, measure_scores
from restorepix.inpaint import Inpainter
from training.contact_sheet import write_contact_sheet
from training.data import list_images, read_rgb
from training.masks import draw_logo

HOLES = {"blob400": 400, "blob200": 200, "stroke120": 120}
"""Kinds of hole and their width in pixels."""

SMALL_PX = 512
"""Long side of the reduced picture of the row that is compared with."""

MARGIN_PX = 64
"""Known pixels around a hole that its scores and pictures show."""

OURS = "restorepix, native"
SMALL = "512 px, enlarged"
TELEA = "Telea, native"


@dataclass(frozen=True)
class Case:
    """One hole in one photograph."""

    photo: str
    kind: str
    truth: Image
    mask: Mask

    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the hole with ``MARGIN_PX`` around it."""
        left, top, width, height = cv2.boundingRect(self.mask)
        rows = slice(max(0, top - MARGIN_PX), min(self.mask.shape[0], top + height + MARGIN_PX))
        columns = slice(max(0, left - MARGIN_PX), min(self.mask.shape[1], left + width + MARGIN_PX))
        return rows, columns


def read_large(path: Path) -> Image | None:
    """A picture of 2000 to 4000 px, (H, W, 3) uint8; None for a smaller one."""
    image = read_rgb(path)
    longest = max(image.shape[:2])
    if longest < 2000:
        return None
    if longest > 4000:
        size = (image.shape[1] * 4000 // longest, image.shape[0] * 4000 // longest)
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return image


def draw_hole(kind: str, height: int, width: int, rng: np.random.Generator) -> Mask:
    """(height, width) uint8 in {0, 1}: one hole of a kind of ``HOLES``, inside the picture."""
    size = HOLES[kind]
    if kind.startswith("blob"):
        return draw_logo(height, width, rng, size)
    mask = np.zeros((height, width), np.uint8)
    margin = 3 * size
    point = rng.uniform((margin, margin), (width - margin, height - margin))
    heading = rng.uniform(0, 2 * math.pi)
    for _ in range(4):
        heading += rng.normal(0, 0.5)
        step = point + np.array([math.cos(heading), math.sin(heading)]) * size
        ends = [tuple(int(v) for v in np.rint(p)) for p in (point, step)]
        cv2.line(mask, ends[0], ends[1], 1, size)
        point = step
    return mask


def fill_small(inpainter: Inpainter, image: Image, mask: Mask) -> Image:
    """The network's answer for the picture at ``SMALL_PX``, enlarged and put into the hole."""
    height, width = mask.shape
    scale = SMALL_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    # Any hole in a cell spoils its average, so the reduced hole covers every such cell.
    share = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    answer = inpaint_picture(inpainter, small, (share > 0).astype(np.uint8))
    large = cv2.resize(answer, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.where(mask[..., None] > 0, np.asarray(large, np.uint8), image)


def walk_cases(photos: Path, seed: int) -> Iterator[Case]:
    """Every kind of hole in every photograph that is large enough."""
    for number, path in enumerate(list_images(photos)):
        truth = read_large(path)
        if truth is None:
            continue
        for index, kind in enumerate(HOLES):
            rng = np.random.default_rng([seed, index, number])
            yield Case(path.name, kind, truth, draw_hole(kind, *truth.shape[:2], rng))


def run_case(inpainter: Inpainter, case: Case) -> dict[str, tuple[Image, float]]:
    """Results, (H, W, 3) uint8, and wall seconds by row."""
    damaged = np.where(case.mask[..., None] > 0, 128, case.truth).astype(np.uint8)
    # Telea looks no farther than its radius from the hole: its window gives the same answer.
    window = case.window()

    def telea() -> Image:
        result = damaged.copy()
        result[window] = cv2.inpaint(damaged[window], case.mask[window], 5, cv2.INPAINT_TELEA)
        return result

    rows = {
        OURS: lambda: inpaint_picture(inpainter, damaged, case.mask, texture=True),
        SMALL: lambda: fill_small(inpainter, damaged, case.mask),
        TELEA: telea,
    }
    results: dict[str, tuple[Image, float]] = {}
    for name, run in rows.items():
        begin = time.perf_counter()
        result = run()
        results[name] = (result, time.perf_counter() - begin)
    return results


def main() -> int:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("photos", type=Path, help="folder of large photographs")
    parser.add_argument("--weights", type=Path, help="a file or a checkpoint's folder")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--note", default="", help="a line on where the photographs come from")
    parser.add_argument("--out", type=Path, default=Path("docs/highres.md"))
    parser.add_argument("--sheet", type=Path, help="write a contact sheet PNG")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator, sha256 = load_weights(options.weights)
    inpainter = Inpainter(generator, torch.device("cpu"))
    scores: dict[str, dict[str, list[dict[str, float]]]] = {kind: {} for kind in HOLES}
    sheet: list[list[Image]] = []
    labels: list[str] = []
    for case in walk_cases(options.photos, options.seed):
        window = case.window()
        truth, mask = case.truth[window], case.mask[window]
        results = run_case(inpainter, case)
        for name, (result, seconds) in results.items():
            numbers = measure_scores(result[window], truth, mask)
            scores[case.kind].setdefault(name, []).append({**numbers, "seconds": seconds})
        damaged = np.where(mask[..., None] > 0, 128, truth).astype(np.uint8)
        sheet.append([damaged, *(result[window] for result, _ in results.values()), truth])
        labels.append(f"{case.photo} {case.kind}")
        sys.stderr.write(f"{labels[-1]}\n")
    if not sheet:
        parser.error(f"{options.photos}: no picture of 2000 px or more")
    options.out.write_text(write_report(scores, sha256, options.note), "utf-8")
    if options.sheet:
        write_contact_sheet(options.sheet, sheet, ["hole", *results, "truth"], labels, 480)
    return 0


def write_report(
    scores: dict[str, dict[str, list[dict[str, float]]]], sha256: str, note: str
) -> str:
    """The Markdown page: a table of means, and paired differences with their intervals."""
    lines = [
        "# Wide holes in large photographs",
        "",
        "Written by `python -m benchmarks.highres`. Holes of 120, 200 and 400 px in photographs of",
        "2000 to 4000 px, filled by `restorepix fix` at native resolution, and by the same network",
        f"on the picture reduced to {SMALL_PX} px, enlarged into the hole. Scores over the hole;",
        "differences are ours at native resolution minus the enlarged pass, with 95 % bootstrap",
        "intervals over the photographs.",
        "",
        *([note, ""] if note else []),
        f"- Weights: sha256 `{sha256}`.",
        f"- Machine: {describe_setup()}.",
        "",
        "| hole | photos | program | PSNR | SSIM | sharpness kept | median s |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    differences: list[str] = []
    for kind, rows in scores.items():
        for name, values in rows.items():
            kept = sum(v["gradient"] for v in values) / sum(v["truth_gradient"] for v in values)
            psnr, ssim, seconds = (
                [v[key] for v in values] for key in ("psnr_hole", "ssim_hole", "seconds")
            )
            lines.append(
                f"| {kind} | {len(values)} | {name} | {np.mean(psnr):.2f} | {np.mean(ssim):.3f} "
                f"| {kept:.2f} | {np.median(seconds):.2f} |"
            )
        pairs = list(zip(rows[OURS], rows[SMALL], strict=True))
        psnr = bootstrap_mean([a["psnr_hole"] - b["psnr_hole"] for a, b in pairs])
        ssim = bootstrap_mean([a["ssim_hole"] - b["ssim_hole"] for a, b in pairs])
        differences.append(
            f"- {kind}: PSNR {psnr.mean:+.2f} dB [{psnr.low:+.2f}, {psnr.high:+.2f}], "
            f"SSIM {ssim.mean:+.3f} [{ssim.low:+.3f}, {ssim.high:+.3f}]."
        )
    return "\n".join([*lines, "", *differences, ""])


if __name__ == "__main__":
    raise SystemExit(main())
