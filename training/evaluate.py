"""Hole PSNR of weights on held-out photographs, beside the fill they start from and OpenCV.

Run: ``python -m training.evaluate DATA --weights weights/inpaint.safetensors --photos 40``.
The full comparison with every peer is benchmarks/quality.py; this is what a training run is
steered by.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from restorepix.models.generator import Generator, GeneratorConfig
from restorepix.models.loading import load_generator
from training.contact_sheet import write_contact_sheet
from training.loop import read_elements
from training.masks import MASK_KINDS, Mask, draw_benchmark_mask, find_fonts
from training.validation import list_validation, read_square

Image = npt.NDArray[np.uint8]


def hole_psnr(result: Image, truth: Image, mask: Mask) -> float:
    """Peak signal-to-noise ratio in dB over the hole's samples of uint8 images."""
    error = (result.astype(np.float64) - truth)[mask > 0]
    return float(10 * np.log10(255**2 / max(np.mean(error**2), 1e-9)))


def run_stages(generator: Generator, image: Image, mask: Mask) -> dict[str, Image]:
    """Composited uint8 results of the fill, the coarse and the refined output."""
    batch = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    hole = torch.from_numpy(mask)[None, None].float()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        stages = generator(batch, hole)
    results: dict[str, Image] = {}
    for name, stage in zip(stages._fields, stages, strict=True):
        pixels = ((stage[0].permute(1, 2, 0).float() + 1) * 127.5).round().clamp(0, 255)
        results[name] = np.where(mask[..., None] > 0, pixels.numpy().astype(np.uint8), image)
    return results


def load_checkpoint(folder: Path) -> Generator:
    """The moving average of a training checkpoint as a generator."""
    config = json.loads((folder / "state.json").read_text())["generator"]
    generator = Generator(GeneratorConfig.from_mapping(config))
    generator.load_state_dict(load_file(folder / "ema.safetensors"))
    return generator.eval()


def main() -> None:
    """Evaluate from the command line; the table goes to standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path, help="a safetensors file or a checkpoint folder")
    parser.add_argument("--photos", type=int, default=40)
    parser.add_argument("--kinds", nargs="*", default=list(MASK_KINDS))
    parser.add_argument("--elements", type=Path, help="folder of damage elements, for kind film")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet PNG")
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()

    torch.set_num_threads(1)
    if options.weights and options.weights.is_dir():
        generator = load_checkpoint(options.weights)
    else:
        generator = load_generator(options.weights, torch.device("cpu"))
    fonts, elements = find_fonts(), read_elements(options.elements)
    truths = [read_square(path) for path in list_validation(options.data, options.photos)]
    rows: list[list[Image]] = []
    labels: list[str] = []
    for kind in options.kinds:
        if kind == "film" and not elements:
            sys.stderr.write("kind film left out: no --elements\n")
            continue
        rng = np.random.default_rng([options.seed, MASK_KINDS.index(kind)])
        scores: dict[str, list[float]] = {}
        for number, truth in enumerate(truths):
            mask = draw_benchmark_mask(kind, truth.shape[0], rng, fonts=fonts, elements=elements)
            damaged = np.where(mask[..., None] > 0, 128, truth).astype(np.uint8)
            results = run_stages(generator, damaged, mask)
            for name, flag in (("telea", cv2.INPAINT_TELEA), ("ns", cv2.INPAINT_NS)):
                results[name] = np.asarray(cv2.inpaint(damaged, mask, 3, flag), np.uint8)
            for name, result in results.items():
                scores.setdefault(name, []).append(hole_psnr(result, truth, mask))
            if number < 3:
                white = np.where(mask[..., None] > 0, 255, truth).astype(np.uint8)
                rows.append([white, results["telea"], results["coarse"], results["refined"], truth])
                labels.append(kind)
        line = "  ".join(f"{name} {np.mean(values):5.2f}" for name, values in scores.items())
        sys.stdout.write(f"{kind:12s} {line}\n")
        sys.stdout.flush()
    if options.sheet:
        headings = ("damaged", "Telea", "coarse", "refined", "truth")
        write_contact_sheet(options.sheet, rows, headings, labels, cell_px=256)


if __name__ == "__main__":
    main()
