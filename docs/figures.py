"""Draw the figures of how-it-works.md with the shipped weights, on photographs from scikit-image.

python docs/figures.py          # writes docs/figures/
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import skimage.data
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from restorepix.models.loading import load_generator
from restorepix.options import RestoreOptions
from restorepix.pipeline import build_repair, restore_stream
from restorepix.tiles import plan_windows
from restorepix.weights import find_weights
from training.contact_sheet import write_contact_sheet

FIGURES = Path(__file__).resolve().parent / "figures"
RED, BLUE, PAPER = (220, 50, 40), (40, 90, 220), (245, 245, 235)

Pixels = npt.NDArray[Any]


def draw_damage(photo: Pixels, seed: int, lines: int) -> tuple[Pixels, Pixels]:
    """Return the photograph with scratches, and their mask as (H, W) bool."""
    rng = np.random.default_rng(seed)
    damaged = photo.copy()
    mask = np.zeros(photo.shape[:2], np.uint8)
    for _ in range(lines):
        begin, end = rng.integers(0, (photo.shape[1], photo.shape[0]), (2, 2))
        cv2.line(damaged, begin.tolist(), end.tolist(), PAPER, 3, cv2.LINE_AA)
        cv2.line(mask, begin.tolist(), end.tolist(), 255, 7)
    return damaged, mask > 0


def draw_windows() -> None:
    """Show where the network looks: boxes it reads, and cores it answers for."""
    large = cv2.resize(skimage.data.astronaut(), None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    damaged, mask = draw_damage(large, seed=3, lines=3)
    boxes = damaged.copy()
    for window in plan_windows(mask):
        for box, color, width in ((window.box, BLUE, 5), (window.core, RED, 5)):
            corners = (box.left, box.top), (box.right - 1, box.bottom - 1)
            cv2.rectangle(boxes, *corners, color, width)
    headings = ["damaged", "mask: white is repainted", "what is read (blue), answered (red)"]
    write_contact_sheet(FIGURES / "windows.jpg", [[damaged, mask, boxes]], headings, [""], 300)


def draw_stages() -> None:
    """Show a window on its way through the network."""
    damaged, mask = draw_damage(skimage.data.chelsea()[20:276, 100:356], seed=12, lines=5)
    generator = load_generator(find_weights(), torch.device("cpu"))
    image = torch.tensor(damaged, dtype=torch.float32).permute(2, 0, 1)[None] / 127.5 - 1
    hole = torch.tensor(mask, dtype=torch.float32)[None, None]
    with torch.inference_mode():
        stages = generator(image * (1 - hole), hole)

    def show(picture: torch.Tensor) -> Pixels:
        whole = picture * hole + image * (1 - hole)
        pixels = ((whole[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255)
        return pixels.numpy().astype(np.uint8)

    row = [damaged, show(stages.fill), show(stages.coarse), show(stages.refined)]
    headings = ["a window", "closed-form fill", "coarse stage", "refinement stage"]
    write_contact_sheet(FIGURES / "stages.jpg", [row], headings, [""], 256)


def draw_differences() -> None:
    """Show what a repaired JPEG changes, beside what saving it again would."""
    damaged, mask = draw_damage(skimage.data.coffee(), seed=5, lines=2)
    buffer = io.BytesIO()
    Image.fromarray(damaged).save(buffer, "JPEG", quality=88)
    before = buffer.getvalue()
    place = FIGURES / "mask.png"
    place.parent.mkdir(exist_ok=True)
    Image.fromarray(mask).save(place)
    options = RestoreOptions(device="cpu")
    after = restore_stream(before, place, options, build_repair(options))
    place.unlink()
    again = io.BytesIO()
    Image.open(io.BytesIO(after)).save(again, "JPEG")
    original = decode(before)
    row = [
        decode(after),
        amplify(original, decode(after)),
        amplify(original, decode(again.getvalue())),
    ]
    headings = ["repaired by restorepix", "changed by restorepix", "changed by saving it again"]
    write_contact_sheet(FIGURES / "differences.jpg", [row], headings, [""], 300)


def decode(data: bytes) -> Pixels:
    """Return the pixels of a file."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def amplify(one: Pixels, other: Pixels) -> Pixels:
    """Return the absolute difference of two pictures, forty times as strong."""
    difference = np.abs(one.astype(np.int16) - other.astype(np.int16))
    return np.minimum(difference * 40, 255).astype(np.uint8)


if __name__ == "__main__":
    draw_windows()
    draw_stages()
    draw_differences()
