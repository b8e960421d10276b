"""Photographs decoded once into a memory-mapped cache, and batches gathered from it.

The cache is one flat uint8 file of RGB pixels and an index of (offset, height, width) rows, each
photograph at several scales, so that a training batch is pure indexing: the same few lines run
on the CPU over the memory map and on a GPU over the resident tensor. What a step sees depends on
the seed and the step's number alone, which makes resuming exact.

Build: ``python -m training.data DATA --recipe training/recipes/inpaint.toml --out runs/cache``.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
SCALES = (1.0, 0.8, 0.625, 0.5)
"""Sizes at which each photograph is stored; coarser ones are sharper per pixel."""


def list_images(folder: Path, exclude: Iterable[str] = ()) -> list[Path]:
    """Image files below ``folder``, sorted; ``exclude`` holds paths relative to it."""
    left_out = set(exclude)
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.relative_to(folder).as_posix() not in left_out
    )


def read_rgb(path: Path) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a file.

    Raises:
        ValueError: the file is no image that OpenCV decodes.
    """
    bgr = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        msg = f"{path}: not a readable image; remove it from the data folder"
        raise ValueError(msg)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def scale_picture(image: npt.NDArray[np.uint8], min_side: int) -> Iterator[npt.NDArray[np.uint8]]:
    """A photograph, (H, W, 3) uint8, at each of ``SCALES`` that leaves ``min_side`` px or more."""
    height, width = image.shape[:2]
    for scale in SCALES:
        if min(height, width) * scale >= min_side:
            size = (round(width * scale), round(height * scale))
            yield (
                image
                if scale == 1
                else np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
            )


def build_cache(paths: Sequence[Path], out: Path, min_side: int = 128) -> int:
    """Decode ``paths`` into ``out``; returns how many scaled pictures it holds.

    Raises:
        ValueError: no photograph, an unreadable one, or one smaller than ``min_side``.
    """
    if not paths:
        msg = f"{out}: no photographs to cache; check the data folder and its sub-folders"
        raise ValueError(msg)
    out.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[int, int, int]] = []
    offset = 0
    partial = out / "pixels.bin.part"
    with partial.open("wb") as file:
        for path in paths:
            for image in scale_picture(read_rgb(path), min_side):
                rows.append((offset, image.shape[0], image.shape[1]))
                file.write(image.tobytes())
                offset += image.size
    if not rows:
        msg = f"{out}: every photograph is smaller than {min_side} px"
        raise ValueError(msg)
    np.save(out / "index.npy", np.array(rows, np.int64))
    partial.replace(out / "pixels.bin")
    return len(rows)


def gather_crops(
    pixels: Tensor, corners: Tensor, strides: Tensor, symmetry: Tensor, size_px: int, channels: int
) -> Tensor:
    """Square crops from flat storage, each under one of the eight symmetries of the square.

    Args:
        pixels: flat uint8 storage, any device.
        corners: (B,) int64 offsets of each crop's top left sample.
        strides: (B,) int64 samples from one row to the next.
        symmetry: (B,) int64 in 0..7: bit 0 flips rows, bit 1 columns, bit 2 transposes.
        size_px: side of the crops.
        channels: interleaved samples a pixel.

    Returns:
        (B, channels, size_px, size_px) uint8.
    """
    steps = torch.arange(size_px, device=pixels.device)
    rows = torch.where((symmetry & 1).bool()[:, None], size_px - 1 - steps, steps)
    columns = torch.where((symmetry & 2).bool()[:, None], size_px - 1 - steps, steps)
    down = rows * strides[:, None]
    across = columns * channels
    plain = down[:, :, None] + across[:, None, :]
    turned = down[:, None, :] + across[:, :, None]
    index = torch.where((symmetry & 4).bool()[:, None, None], turned, plain)
    index = corners[:, None, None] + index
    planes = [pixels[index + channel] for channel in range(channels)]
    return torch.stack(planes, 1)


@dataclass
class Batches:
    """Random crops with random holes, by step number.

    ``pixels`` and ``masks`` may live on any one device; batches come out on it.
    """

    pixels: Tensor
    """Flat uint8 RGB storage."""
    index: Tensor
    """(P, 3) int64 rows: offset, height, width (on the CPU)."""
    masks: Tensor
    """(M, S, S) uint8 bank in {0, 1}, 1 = hole; S is the crop size."""
    batch: int
    """Samples a batch."""
    seed: int
    """Decides, with the step's number, what a batch holds."""
    rank: int = 0
    """Of the ``processes`` that share each batch, the one whose rows are drawn here."""
    processes: int = 1

    def __post_init__(self) -> None:
        """Keep the pictures that a crop fits into, and how often each is drawn.

        Raises:
            ValueError: the batch cannot be shared out evenly.
        """
        if self.batch % self.processes:
            msg = f"a batch of {self.batch} cannot be shared by {self.processes} processes evenly"
            raise ValueError(msg)
        size = self.masks.shape[-1]
        self._fitting = self.index[self.index[:, 1:].min(dim=1).values >= size]
        # A photograph at a larger scale holds more different crops: draw by the root of its area.
        self._odds = (self._fitting[:, 1] * self._fitting[:, 2]).float().sqrt()

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Batch ``step``: (B, 3, S, S) float RGB in [-1, 1], (B, 1, S, S) float, 1 = hole.

        B is ``batch``, or this process's share of it: dice are thrown for all rows.
        """
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        size = self.masks.shape[-1]
        device = self.pixels.device
        share = self.batch // self.processes
        ours = slice(self.rank * share, (self.rank + 1) * share)

        def uniform() -> Tensor:
            return torch.rand(self.batch, generator=rng)[ours]

        chances = torch.multinomial(self._odds, self.batch, replacement=True, generator=rng)
        rows = self._fitting[chances[ours]]
        offset, height, width = rows.unbind(1)
        top = (uniform() * (height - size + 1)).long()
        left = (uniform() * (width - size + 1)).long()
        symmetry = (uniform() * 8).long()
        image = gather_crops(
            self.pixels,
            (offset + (top * width + left) * 3).to(device),
            (width * 3).to(device),
            # Mirroring is natural everywhere; turning by 90 degrees only now and then.
            torch.where(uniform() < 0.25, symmetry, symmetry & 2).to(device),
            size,
            3,
        )
        chosen = (uniform() * len(self.masks)).long()
        mask = gather_crops(
            self.masks.view(-1),
            (chosen * size * size).to(device),
            torch.full((share,), size, device=device),
            (uniform() * 8).long().to(device),
            size,
            1,
        )
        jitter = torch.rand(self.batch, 8, generator=rng)[ours].to(device)
        return jitter_colour(image.float() / 127.5 - 1, jitter), mask.float()


def jitter_colour(image: Tensor, amounts: Tensor) -> Tensor:
    """Some photographs turned grey or toned, some with another contrast and brightness.

    Args:
        image: (B, 3, H, W) float in [-1, 1].
        amounts: (B, 8) float in [0, 1), one row of dice a sample.

    Returns:
        (B, 3, H, W) float in [-1, 1].
    """
    dice = amounts[:, :, None, None, None]
    grey = image.mean(1, keepdim=True)
    tone = amounts[:, 4:7, None, None] * 0.5 + 0.5
    toned = (grey + 1) * tone - 1
    image = torch.where(dice[:, 0] < 0.08, grey.expand_as(image), image)
    image = torch.where((dice[:, 0] >= 0.08) & (dice[:, 0] < 0.14), toned, image)
    contrast = 0.6 + 0.6 * dice[:, 2]
    shifted = image * contrast + (dice[:, 3] - 0.5) * 0.3
    return torch.where(dice[:, 1] < 0.3, shifted.clamp(-1, 1), image)


def open_cache(folder: Path, device: torch.device) -> tuple[Tensor, Tensor]:
    """``pixels`` and ``index`` of a cache; memory-mapped on the CPU, resident on a GPU.

    Raises:
        FileNotFoundError: there is no finished cache in ``folder``.
    """
    if not (folder / "pixels.bin").is_file():
        msg = f"{folder}: no cache here; build one with python -m training.data"
        raise FileNotFoundError(msg)
    flat = np.memmap(folder / "pixels.bin", np.uint8, "c")
    index = torch.from_numpy(np.load(folder / "index.npy"))
    return torch.from_numpy(flat).to(device), index


def main() -> None:
    """Build a cache from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder that holds the photographs")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--folders", nargs="*", default=["."], help="sub-folders to take")
    which.add_argument("--recipe", type=Path, help="take the sub-folders a recipe names")
    parser.add_argument("--exclude", type=Path, help="file with names to leave out, one a line")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--min-side", type=int, default=128)
    options = parser.parse_args()
    left_out = set(options.exclude.read_text().split("\n")) if options.exclude else set[str]()
    folders: list[str] = options.folders
    if options.recipe:
        folders = tomllib.loads(options.recipe.read_text("utf-8"))["data"]["folders"]
    paths = [
        path
        for folder in folders
        for path in list_images(options.data / folder)
        if path.relative_to(options.data).as_posix() not in left_out
    ]
    count = build_cache(paths, options.out, options.min_side)
    sys.stderr.write(f"{len(paths)} photographs, {count} pictures in {options.out}\n")


if __name__ == "__main__":
    main()
