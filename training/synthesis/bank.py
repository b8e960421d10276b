"""Samples drawn once and kept: training then reads them, cut and recoloured anew each time.

    python -m training.synthesis.bank training/recipes/detector.toml --cache runs/cache \
        --elements DATA/damage_elements --out runs/bank --samples 60000

A sample takes 6 ms to draw and less than 0.1 ms to read. The bank is one flat file that only
grows: called again, the program goes on where it was; with another recipe, the samples from there
on are drawn by that one. bank.json says which were drawn how; sample k is that of seed (its
recipe's seed, k), or with ``cuts`` a part of that of k / cuts.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.synthesis.canvas import IGNORE
from training.synthesis.sample import (
    Library,
    PhotoSource,
    Sample,
    SynthesisConfig,
    draw_samples,
    open_library,
)

MARGIN_PX: Final = 32
"""Samples of a bank are larger than the crops that are cut from them by this much a side."""


def pack(sample: Sample) -> npt.NDArray[np.uint8]:
    """(S, S, 4) uint8: R, G, B, and two bits a class: 0 none, 1 damage, 2 counts neither way."""
    code = np.minimum(sample.target, 2)
    return np.dstack([sample.image, code[0] | code[1] << 2 | code[2] << 4])


def unpack_target(code: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(3, ...) uint8 targets in {0, 1, 255} of the fourth channel (...) of ``pack``."""
    targets = np.empty((3, *code.shape), np.uint8)
    for target, shift in zip(targets, (0, 2, 4), strict=True):
        np.multiply(code >> (shift + 1) & 1, np.uint8(IGNORE), out=target)
        target |= code >> shift & 1
    return targets


@dataclass(frozen=True)
class Bank:
    """Samples kept in a file."""

    samples: npt.NDArray[np.uint8]
    """(N, S, S, 4) uint8 as ``pack`` makes them, memory-mapped."""

    @classmethod
    def open(cls, folder: Path) -> Bank:
        """The whole samples of a bank's folder.

        Raises:
            ValueError: there is none.
        """
        about = json.loads((folder / "bank.json").read_text())
        side = int(about["size_px"])
        count = (folder / "samples.bin").stat().st_size // (side * side * 4)
        if not count:
            msg = f"{folder}: no samples; draw some with python -m training.synthesis.bank"
            raise ValueError(msg)
        shape = (count, side, side, 4)
        return cls(np.memmap(folder / "samples.bin", np.uint8, "r", shape=shape))


def extend_bank(
    folder: Path,
    source: PhotoSource,
    library: Library,
    config: SynthesisConfig,
    *,
    size_px: int,
    seed: int,
    samples: int,
) -> Iterator[int]:
    """Draw samples into a folder until it holds so many; yields how many it holds.

    Raises:
        ValueError: the folder holds samples of another size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    head = folder / "bank.json"
    about = read_parts(head)
    if about.setdefault("size_px", size_px) != size_px:
        msg = f"{folder}: its samples have {about['size_px']} px, expected {size_px}; name another"
        raise ValueError(msg)
    path, length = folder / "samples.bin", size_px * size_px * 4
    path.touch()
    with path.open("r+b") as file:
        done = path.stat().st_size // length
        file.truncate(done * length)  # a run that was killed leaves half a sample
        part = {"seed": seed, "synthesis": asdict(config)}
        parts: list[dict[str, Any]] = about.setdefault("parts", [])
        if done < samples and (not parts or parts[-1] != {**part, "first": parts[-1]["first"]}):
            parts.append({"first": done, **part})
        head.write_text(json.dumps(about))
        file.seek(done * length)
        drawn: list[Sample] = []
        for number in range(done, samples):
            picture, cut = divmod(number, config.cuts)
            if not drawn or cut == 0:
                drawn = draw_samples(source, library, config, size_px, (seed, picture))
            file.write(pack(drawn[cut]).tobytes())
            yield number + 1


def read_parts(head: Path) -> dict[str, Any]:
    """What bank.json says: ``size_px``, and ``parts`` with ``first``, ``seed``, ``synthesis``.

    Empty where there is none. Banks of one part were written without the list.
    """
    about: dict[str, Any] = json.loads(head.read_text()) if head.exists() else {}
    if about and "parts" not in about:
        synthesis = asdict(SynthesisConfig(**about["synthesis"]))
        part = {"first": 0, "seed": about["seed"], "synthesis": synthesis}
        about = {"size_px": about["size_px"], "parts": [part]}
    return about


class BankBatches:
    """Batches out of a bank by step number, as ``training.detector.SampleBatches`` gives them.

    Every pass over the bank has its own order; each time, a sample is cut at another place, often
    mirrored where nothing is written on it, and its lightness and colours are changed a little.
    """

    def __init__(self, bank: Bank, *, batch: int, crop_px: int, seed: int, steps: int) -> None:
        """Cut (crop_px, crop_px) crops out of ``bank``.

        Raises:
            ValueError: its samples are smaller than that.
        """
        if bank.samples.shape[1] < crop_px:
            msg = f"the bank's samples are {bank.samples.shape[1]} px wide, expected {crop_px}"
            raise ValueError(msg)
        self._samples = bank.samples
        self._batch, self._crop_px, self._seed, self._steps = batch, crop_px, seed, steps

    def __len__(self) -> int:
        """Steps of the run."""
        return self._steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) float in [-1, 1] and (B, 3, S, S) uint8; by seed and step alone."""
        rng = np.random.default_rng([self._seed, step])
        size = self._crop_px
        room = self._samples.shape[1] - size + 1
        crops = np.empty((self._batch, size, size, 4), np.uint8)
        gains = np.empty((self._batch, 1, 1, 3), np.float32)
        for place in range(self._batch):
            sample = self._samples[self._choose(step * self._batch + place)]
            top, left = rng.integers(0, room, 2)
            crop = sample[top : top + size, left : left + size]
            # Writing stays readable: mirrored letters belong to a photograph itself.
            if rng.random() < 0.5 and not (crop[..., 3] >> 2).any():
                crop = crop[:, ::-1]
            crops[place] = crop
            gains[place] = rng.uniform(0.85, 1.12) * rng.uniform(0.95, 1.05, 3)
        images = torch.from_numpy(crops)[..., :3] * torch.from_numpy(gains / np.float32(127.5))
        images = images.clamp_(max=2).sub_(1)
        targets = np.ascontiguousarray(unpack_target(crops[..., 3]).swapaxes(0, 1))
        return images.permute(0, 3, 1, 2), torch.from_numpy(targets)

    def follow(self, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches from a step on."""
        return (self[step] for step in range(start, len(self)))

    def _choose(self, number: int) -> int:
        """The sample that is the ``number``-th of the run: pass after pass in a new order."""
        count = len(self._samples)
        turn, place = divmod(number, count)
        if self._turn != turn:
            self._order = np.random.default_rng([self._seed, 1 << 20, turn]).permutation(count)
            self._turn = turn
        return int(self._order[place])

    _turn = -1
    _order: npt.NDArray[np.int64]


def main() -> None:
    """Draw a bank from the command line."""
    from restorepix.runtime import keep_freed_memory
    from training.detector import read_recipe

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--cache", type=Path, required=True, help="folder of training.data")
    parser.add_argument("--elements", type=Path, help="folder of damage elements (grey PNG)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bank")
    parser.add_argument("--samples", type=int, default=60_000)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    recipe = read_recipe(options.recipe)
    began = time.monotonic()
    drawn = extend_bank(
        options.out,
        PhotoSource.open(options.cache),
        open_library(options.elements, held_out=False),
        recipe.synthesis,
        size_px=recipe.train.crop_px + MARGIN_PX,
        seed=recipe.train.seed,
        samples=options.samples,
    )
    for count in drawn:
        if count % 1000 == 0:
            sys.stderr.write(f"{count} samples, {time.monotonic() - began:.0f} s\n")


if __name__ == "__main__":
    main()
