"""How much of a JPEG survives a repair: ours, beside saving the picture again.

Run: ``python -m benchmarks.known_blocks``. 200 JPEG files of many kinds are made from the
photographs inside the scikit-image wheel; the same holes are filled the same way (OpenCV's Telea)
and the file is written by restorepix, Pillow and OpenCV. Compared with the original are the
coefficients of all blocks that no hole touches, and the decoded pixels farther than 32 px from
every hole.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage import data as photographs

from benchmarks.machine import describe_setup
from restorepix.formats import read_photo, verify_photo, write_photo
from restorepix.formats.jpeg_segments import parse_jpeg, read_quantisation
from restorepix.formats.turbojpeg import read_coefficients

_DISTANT_PX = 32
_NAMES = ("astronaut", "chelsea", "coffee", "rocket", "camera", "moon")
_MODES = ("RGB", "RGB", "RGB", "RGB", "L", "CMYK")
"""Colour is what people have; grey and CMYK are there too."""

Mask = npt.NDArray[np.bool_]


@dataclass
class Score:
    """What one way of writing did to all files."""

    kept: int = 0
    """Files whose untouched blocks all have their coefficients."""
    changed: list[float] = field(default_factory=list[float])
    """Share of distant pixels that changed, for each file."""
    largest: int = 0
    """Largest change of a distant sample."""


def make_file(rng: np.random.Generator) -> tuple[bytes, Mask]:
    """Return a JPEG file and its holes as displayed."""
    picture = Image.fromarray(getattr(photographs, str(rng.choice(_NAMES)))()).convert("RGB")
    width, height = (int(rng.integers(side // 2, side)) for side in picture.size)
    left, top = picture.width - width, picture.height - height
    picture = picture.crop((left, top, left + width, top + height))
    picture = picture.convert(str(rng.choice(_MODES)))
    exif = Image.Exif()
    exif[0x0112] = orientation = int(rng.choice([1, 1, 1, 3, 6, 8]))
    buffer = io.BytesIO()
    picture.save(
        buffer,
        "JPEG",
        quality=int(rng.integers(60, 99)),
        subsampling=0 if picture.mode == "CMYK" else int(rng.integers(3)),
        progressive=bool(rng.random() < 0.3),
        exif=exif.tobytes(),
    )
    shape = (width, height) if orientation > 4 else (height, width)
    mask = np.zeros(shape, np.uint8)
    for _ in range(3):
        ends = rng.integers(0, shape[::-1], (2, 2)).tolist()
        cv2.line(mask, ends[0], ends[1], 255, int(rng.integers(1, 5)))
    return buffer.getvalue(), mask > 0


def fill(pixels: npt.NDArray[Any], hole: Mask) -> npt.NDArray[Any]:
    """Return pixels (H, W, C) with the hole filled by Telea's method, each channel alone."""
    mask = hole.astype(np.uint8)
    planes = [cv2.inpaint(np.ascontiguousarray(p), mask, 3, cv2.INPAINT_TELEA)
              for p in np.moveaxis(pixels, 2, 0)]  # fmt: skip
    filled = pixels.copy()
    filled[hole] = np.stack(planes, axis=2)[hole]
    return filled


def save_by_pillow(data: bytes, hole: Mask, **options: Any) -> bytes:
    """Open, fill, save: what a script of ten lines does (profile and EXIF handed on)."""
    picture = Image.open(io.BytesIO(data))
    pixels = np.atleast_3d(np.asarray(picture))
    filled = fill(pixels, hole)
    size = picture.size
    buffer = io.BytesIO()
    again = Image.frombytes(picture.mode, size, np.ascontiguousarray(filled).tobytes())
    again.save(buffer, "JPEG", exif=picture.info["exif"], **options)
    return buffer.getvalue()


def save_by_opencv(data: bytes, hole: Mask) -> bytes:
    """The same with OpenCV, which drops metadata and writes CMYK as RGB."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return cv2.imencode(".jpg", fill(np.atleast_3d(pixels), hole))[1].tobytes()


def save_by_us(data: bytes, shown: Mask) -> bytes:
    """Patch the file, and prove it."""
    photo = read_photo(data, "x.jpg")
    repaired = fill(photo.pages[0].pixels, shown)
    after = write_photo(photo, [repaired], [shown], name="x.jpg").data
    verify_photo(data, after, [shown], name="x.jpg")
    return after


def list_blocks(data: bytes, hole: Mask) -> list[npt.NDArray[np.int16]] | None:
    """Return each component's coefficients where no hole touches, after its table."""
    file = parse_jpeg(data, "x.jpg")
    tables = read_quantisation(file, "x.jpg")
    found: list[npt.NDArray[np.int16]] = []

    def add(component: int, row: int, blocks: npt.NDArray[np.int16]) -> None:
        down, right = (8 * step for step in file.frame.pixels_per_sample(component))
        strip = hole[row * down : (row + 1) * down].any(axis=0)
        strip = np.pad(strip, (0, len(blocks) * right - strip.size)).reshape(-1, right)
        if row == 0:
            found.append(tables[file.frame.components[component].table].astype(np.int16))
        found.append(blocks[~strip.any(axis=1)].copy())

    read_coefficients(data, add)
    return found


def judge(before: bytes, after: bytes, hole: Mask, score: Score) -> None:
    """Compare two files outside the hole (as stored)."""
    old, new = list_blocks(before, hole), list_blocks(after, hole)
    assert old is not None and new is not None
    same = len(old) == len(new) and all(map(np.array_equal, old, new))
    score.kept += same
    first, second = (Image.open(io.BytesIO(data)).convert("RGB") for data in (before, after))
    away = cv2.distanceTransform((~hole).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    distant = away > _DISTANT_PX
    if not distant.any():
        return
    moved = np.abs(np.asarray(first).astype(int) - np.asarray(second))[distant].max(axis=1)
    score.changed.append(float((moved > 0).mean()))
    score.largest = max(score.largest, int(moved.max()))


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=200)
    count = parser.parse_args().files
    rng = np.random.default_rng(0)
    ways: dict[str, Callable[[bytes, Mask], bytes]] = {
        "Pillow, `save()`": save_by_pillow,
        "Pillow, quality 95, 4:4:4": lambda d, h: save_by_pillow(d, h, quality=95, subsampling=0),
        "OpenCV, `imwrite()`": save_by_opencv,
    }
    scores = {"restorepix": Score(), **{name: Score() for name in ways}}
    for _ in range(count):
        data, shown = make_file(rng)
        orientation = Image.open(io.BytesIO(data)).getexif()[0x0112]
        hole = np.ascontiguousarray(np.rot90(shown, {1: 0, 3: 2, 6: 1, 8: -1}[orientation]))
        judge(data, save_by_us(data, shown), hole, scores["restorepix"])
        for name, save in ways.items():
            judge(data, save(data, hole), hole, scores[name])
    print(describe_setup(), end="\n\n")
    print(f"| {count} JPEG files written by | all known blocks kept | distant pixels changed, mean "
          "| worst file | largest change |\n|---|---|---|---|---|")  # fmt: skip
    for name, score in scores.items():
        print(f"| {name} | {score.kept / count:.0%} of files | {np.mean(score.changed):.1%} "
              f"| {max(score.changed):.1%} | {score.largest} |")  # fmt: skip


if __name__ == "__main__":
    main()
