"""What the laboratory looks at: photographs, damage, methods, and their scores.

Photographs are 128 px squares: the laboratory works in small (training/lab/rows.py). Those of the
data folder are for measuring, since most may not be given away; those of scikit-image's wheel are
for showing.
"""

from __future__ import annotations

import time
import tomllib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from benchmarks.scores import composite, measure_scores, paint_hole
from restorepix.errors import UnsupportedError
from restorepix.models.lab.methods import METHODS
from training.masks import draw_benchmark_mask, find_fonts
from training.validation import read_square

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.uint8]
Paint = Callable[[Image, Mask], Image]

PHOTOS = Path(__file__).parents[1] / "training" / "lab" / "photos.toml"
SIDE_PX = 128
SQUARE_PX = 40
KINDS = ("scratch", "irregular20", "square40")
"""Of damage; the last is a square in the middle, which the centre form of context encoders fills
too."""
SHOWN = ("astronaut", "coffee", "chelsea", "rocket", "brick", "camera")
"""Functions of ``skimage.data`` whose photographs come with its wheel."""

NAMES = {
    "telea": "Telea", "ns": "Navier-Stokes", "pull-push": "pull-push fill",
    "patchmatch": "PatchMatch",
}  # fmt: skip
"""What tables call the methods that learn nothing."""


@dataclass(frozen=True)
class Case:
    """One damaged photograph."""

    photo: str
    content: str
    kind: str
    truth: Image
    mask: Mask

    @property
    def damaged(self) -> Image:
        """The photograph with its hole painted grey."""
        return paint_hole(self.truth, self.mask)


def list_cases(data: Path, per_content: int, seed: int, kinds: Sequence[str] = KINDS) -> list[Case]:
    """Every kind of damage on the first photographs of each content; masks seeded by name.

    Raises:
        FileNotFoundError: a photograph is not there.
    """
    contents: dict[str, list[str]] = tomllib.loads(PHOTOS.read_text("utf-8"))
    cases: list[Case] = []
    for content, names in contents.items():
        for name in names[:per_content]:
            if not (data / name).is_file():
                msg = f"{data / name}: photograph of {PHOTOS.name} not found"
                raise FileNotFoundError(msg)
            truth = shrink(read_square(data / name))
            for kind in kinds:
                rng = np.random.default_rng([seed, zlib.crc32(f"{name} {kind}".encode())])
                cases.append(Case(name, content, kind, truth, draw_hole(kind, rng)))
    return cases


def shrink(square: Image) -> Image:
    """A square picture at ``SIDE_PX``."""
    small = cv2.resize(square, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def draw_hole(kind: str, rng: np.random.Generator) -> Mask:
    """(128, 128) mask of a kind."""
    if kind == f"square{SQUARE_PX}":
        return draw_square(SIDE_PX, SQUARE_PX)
    return draw_benchmark_mask(kind, SIDE_PX, rng, fonts=find_fonts())


def read_shown(side: int = SIDE_PX) -> dict[str, Image]:
    """Photographs inside scikit-image's wheel as squares: these may be printed on the page."""
    from skimage import data

    squares: dict[str, Image] = {}
    for name in SHOWN:
        picture = getattr(data, name)()
        picture = np.stack([picture] * 3, 2) if picture.ndim == 2 else picture[..., :3]
        scale = side / min(picture.shape[:2])
        size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
        small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        top, left = ((length - side) // 2 for length in small.shape[:2])
        squares[name] = np.ascontiguousarray(small[top : top + side, left : left + side])
    return squares


def list_shown(seed: int, kinds: Sequence[str] = KINDS) -> list[Case]:
    """One damaged case of each photograph that may be printed, kinds in turn."""
    cases: list[Case] = []
    for number, (name, truth) in enumerate(read_shown().items()):
        kind = kinds[number % len(kinds)]
        mask = draw_hole(kind, np.random.default_rng([seed, number]))
        cases.append(Case(name, "", kind, truth, mask))
    return cases


def draw_square(side: int, width: int) -> Mask:
    """A square hole in the middle."""
    mask = np.zeros((side, side), np.uint8)
    low = (side - width) // 2
    mask[low : low + width, low : low + width] = 1
    return mask


def paint_with(network: nn.Module) -> Paint:
    """A network as a function of uint8 pictures, in float32, over the whole picture at once."""
    network = network.eval()

    def paint(image: Image, mask: Mask) -> Image:
        batch, hole = to_batch(image, mask)
        with torch.inference_mode():
            refined = network(batch, hole).refined
        pixels = (refined[0].permute(1, 2, 0) + 1) * 127.5
        return composite(pixels.round().clamp(0, 255).numpy().astype(np.uint8), image, mask)

    return paint


def to_batch(image: Image, mask: Mask) -> tuple[torch.Tensor, torch.Tensor]:
    """(1, 3, H, W) in [-1, 1] and (1, 1, H, W) of one picture."""
    batch = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    return batch, torch.from_numpy(mask)[None, None].float()


def paint_by_method(name: str) -> Paint:
    """A method of ``restorepix.models.lab.methods`` over the whole picture."""
    return lambda image, mask: METHODS[name](image, mask > 0)


UNTRAINED: dict[str, Paint] = {title: paint_by_method(name) for name, title in NAMES.items()}
"""Methods that learn nothing."""


def score_cases(paint: Paint, cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Scores of every case, or why it was refused; with what a table is broken down by."""
    records: list[dict[str, Any]] = []
    for case in cases:
        about = {"photo": case.photo, "content": case.content, "kind": case.kind}
        begin = time.process_time()
        try:
            result = paint(case.damaged, case.mask)
        except UnsupportedError as error:
            records.append(about | {"refused": str(error)})
            continue
        seconds = time.process_time() - begin
        scores = measure_scores(composite(result, case.truth, case.mask), case.truth, case.mask)
        records.append(about | scores | {"seconds": seconds})
    return records
