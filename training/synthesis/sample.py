"""One training sample: a crop of a photograph, aged, perhaps damaged, with its targets.

    python -m training.synthesis.sample runs/cache --elements ELEMENTS --sheet runs/synthesis.png

draws a contact sheet of samples with their targets, to be looked at.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from training.contact_sheet import write_contact_sheet
from training.data import open_cache
from training.masks import Mask, find_fonts
from training.synthesis.ageing import age, finish
from training.synthesis.canvas import IGNORE, Canvas
from training.synthesis.fonts import Font, is_held_out, split_fonts
from training.synthesis.negatives import paint_negative
from training.synthesis.scratches import paint_scratch
from training.synthesis.text import paint_text
from training.synthesis.watermarks import paint_watermark

PICTURE_PX: Final = 320
"""Side of the pictures that samples are cut from; most photographs of the cache are as wide."""


@dataclass(frozen=True)
class SynthesisConfig:
    """How often what is painted; read from a recipe's ``[synthesis]`` table."""

    clean: float = 0.3
    """Share of samples without damage."""
    scratch: float = 0.55
    """Share of damaged samples that get scratches (one to three kinds)."""
    text: float = 0.4
    """Share of damaged samples that get writing (one or two)."""
    watermark: float = 0.35
    """Share of damaged samples that get a watermark."""
    untouched: float = 0.4
    """Share of the samples without damage that are neither aged nor compressed again: a photograph
    as it is must be recognised as sound before any other."""
    negative: float = 0.3
    """Share of samples, clean or damaged, with a hard negative; half of the clean ones get one."""
    structures: float = 0.0
    """Share of hard negatives that are ``negatives.STRUCTURE_KINDS``: trusses, outlines, bricks."""
    missed: float = 0.0
    """Share of scratches that are ``scratches.MISSED_KINDS``: stains, torn corners, elements."""
    cuts: int = 1
    """Samples that share one damaged picture. With 1 damage is painted on each sample and never
    larger than it; with more it is painted on a picture of ``PICTURE_PX``, of which they are parts:
    then a sample can lie within a stain or a torn corner, as in the pictures that are searched."""


@dataclass(frozen=True)
class Library:
    """What damage is made of."""

    fonts: Sequence[Font] = ()
    elements: Sequence[Mask] = field(default_factory=tuple[Mask, ...])


def open_library(elements: Path | None, *, held_out: bool) -> Library:
    """Installed fonts and scanned elements: those of training, or those held out from it.

    Args:
        elements: folder of grey PNG files, white = damage; None for none.
        held_out: which part; the split is by family and file name (``fonts.is_held_out``).
    """
    found: list[Mask] = []
    for path in sorted(elements.rglob("*.png")) if elements else []:
        if is_held_out(path.name) == held_out:
            data = np.frombuffer(path.read_bytes(), np.uint8)
            found.append(np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8))
    return Library(split_fonts(find_fonts(), held_out=held_out), found)


@dataclass(frozen=True)
class Sample:
    """A picture and what a detector should say of it."""

    image: npt.NDArray[np.uint8]
    """(H, W, 3) uint8 RGB."""
    target: npt.NDArray[np.uint8]
    """(3, H, W) uint8 per class: 1 damage, 0 none, 255 counts neither way."""
    painted: tuple[str, ...]
    """What was painted, hard negatives with a minus."""


def synthesise(
    photo: npt.NDArray[np.uint8],
    rng: np.random.Generator,
    library: Library,
    config: SynthesisConfig,
    *,
    classes: Sequence[str] | None = None,
) -> Sample:
    """Age a photograph, damage it, and say where.

    Args:
        photo: (H, W, 3) uint8 RGB, at least 16 px high and wide.
        rng: source of all randomness; the same state gives the same sample.
        library: fonts and elements.
        config: how often what.
        classes: paint exactly these (empty: none); None draws by ``config``.
    """
    canvas = Canvas(photo.astype(np.float32), rng)
    painted: list[str] = []
    untouched = False
    if classes is None:
        clean = rng.random() < config.clean
        chances = {"scratch": config.scratch, "text": config.text, "watermark": config.watermark}
        drawn = [name for name, chance in chances.items() if rng.random() < chance]
        classes = [] if clean else drawn or ["scratch"]
        untouched = clean and rng.random() < config.untouched
        negative = rng.random() < (0.5 if clean else config.negative)
    else:
        negative = rng.random() < config.negative
    if negative:
        painted.append("-" + paint_negative(canvas, library.fonts, structures=config.structures))
    if not untouched:
        canvas.image = age(canvas.image, rng)
    for name in rng.permutation(list(classes)).tolist() if classes else []:
        if name == "scratch":
            for _ in range(int(rng.choice([1, 1, 2, 3]))):
                painted.append(paint_scratch(canvas, library.elements, missed=config.missed))
        elif name == "text":
            for _ in range(int(rng.choice([1, 1, 2]))):
                painted.append(paint_text(canvas, library.fonts))
        else:
            painted.append(paint_watermark(canvas, library.fonts))
    last = canvas.image if untouched else finish(canvas.image, rng)
    image = np.clip(np.rint(last), 0, 255).astype(np.uint8)
    return Sample(image, canvas.targets, tuple(painted))


@dataclass
class PhotoSource:
    """Random crops out of a cache of ``training.data``, at scales from half to double."""

    pixels: npt.NDArray[np.uint8]
    """Flat RGB storage."""
    index: npt.NDArray[np.int64]
    """(P, 3) rows: offset, height, width."""

    @classmethod
    def open(cls, cache: Path) -> PhotoSource:
        """The photographs of a cache folder, memory-mapped."""
        import torch

        pixels, index = open_cache(cache, torch.device("cpu"))
        return cls(pixels.numpy(), index.numpy())

    def draw(self, rng: np.random.Generator, size_px: int) -> npt.NDArray[np.uint8]:
        """(size_px, size_px, 3) uint8: a crop, often enlarged as large scans are soft; mirrored."""
        factor = float(
            rng.choice([1.0, rng.uniform(0.4, 1), rng.uniform(1, 1.6)], p=[0.5, 0.35, 0.15])
        )
        offset, height, width = (int(v) for v in self.index[int(rng.integers(len(self.index)))])
        side = max(16, min(int(size_px * factor), height, width))
        top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        picture = self.pixels[offset : offset + height * width * 3].reshape(height, width, 3)
        crop = np.ascontiguousarray(picture[top : top + side, left : left + side])
        if side != size_px:
            way = cv2.INTER_CUBIC if side < size_px else cv2.INTER_AREA
            crop = np.asarray(cv2.resize(crop, (size_px, size_px), interpolation=way), np.uint8)
        return np.ascontiguousarray(crop[:, ::-1]) if rng.random() < 0.5 else crop


def draw_sample(
    source: PhotoSource,
    library: Library,
    config: SynthesisConfig,
    size_px: int,
    seed: Sequence[int],
) -> Sample:
    """The sample of a seed: (run, step, place in the batch) always gives the same one."""
    return draw_samples(source, library, config, size_px, seed)[0]


def draw_samples(
    source: PhotoSource,
    library: Library,
    config: SynthesisConfig,
    size_px: int,
    seed: Sequence[int],
) -> list[Sample]:
    """The ``config.cuts`` samples of a seed, (size_px, size_px) each."""
    rng = np.random.default_rng(list(seed))
    if config.cuts == 1:
        return [synthesise(source.draw(rng, size_px), rng, library, config)]
    side = max(size_px, PICTURE_PX)
    whole = synthesise(source.draw(rng, side), rng, library, config)
    samples: list[Sample] = []
    for _ in range(config.cuts):
        top, left = rng.integers(0, side - size_px + 1, 2)
        rows, columns = slice(top, top + size_px), slice(left, left + size_px)
        samples.append(
            Sample(whole.image[rows, columns], whole.target[:, rows, columns], whole.painted)
        )
    return samples


def show_target(
    image: npt.NDArray[np.uint8], target: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """A darkened picture with scratch red, text green, watermark blue, ignored pixels dim."""
    shown = (image * 0.3).astype(np.uint8)
    for channel, plane in enumerate(target):
        shown[plane == 1, channel] = 255
        shown[plane == IGNORE, channel] = np.maximum(shown[plane == IGNORE, channel], 110)
    return shown


def main() -> None:
    """Draw a contact sheet of samples."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path, help="folder of training.data")
    parser.add_argument("--elements", type=Path)
    parser.add_argument("--sheet", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--held-out", action="store_true", help="held-out fonts and elements")
    options = parser.parse_args()
    source = PhotoSource.open(options.cache)
    library = open_library(options.elements, held_out=options.held_out)
    rows: list[list[npt.NDArray[np.uint8]]] = []
    labels: list[str] = []
    for row in range(options.rows):
        cells: list[npt.NDArray[np.uint8]] = []
        names: list[str] = []
        for column in range(4):
            seed = (options.seed, row, column)
            sample = draw_sample(source, library, SynthesisConfig(), options.size, seed)
            cells += [sample.image, show_target(sample.image, sample.target)]
            names.append("+".join(sample.painted) or "clean")
        rows.append(cells)
        labels.append("  |  ".join(names))
    write_contact_sheet(options.sheet, rows, ["picture", "target"] * 4, labels, options.size)


if __name__ == "__main__":
    main()
