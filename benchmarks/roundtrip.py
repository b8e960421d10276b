"""Seconds to read, write and prove a 12-megapixel file of each format, beside bare library calls.

Run: ``python -m benchmarks.roundtrip``. CPU seconds of one process with one thread, the median of
several turns, since other programs on the machine disturb them least. The bare calls do the same
work without any proof: decode and encode (OpenCV where it can), and for JPEG decode once and one
lossless transform of libjpeg-turbo. Writing includes the hash of what is known, which the proof
needs. For JPEG there are also the bare calls that a proof takes: the output's coefficients decoded
once and one SHA-256 over as many bytes. The last columns are multiples: of the bare calls' time,
and of that together with the bare proof's. The hole is some scratches, 1 % of the picture.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image
from skimage import data as photographs

from benchmarks.machine import describe_setup
from restorepix.formats import read_photo, verify_photo, write_photo
from restorepix.formats.turbojpeg import Coding, read_coefficients, rewrite_coefficients
from restorepix.runtime import keep_freed_memory

Pixels = npt.NDArray[Any]


def draw_picture() -> tuple[Pixels, npt.NDArray[np.bool_]]:
    """Return 4000 x 3000 px of a photograph with grain, and its scratches."""
    rng = np.random.default_rng(0)
    enlarged = cv2.resize(photographs.astronaut(), (4000, 3000), interpolation=cv2.INTER_CUBIC)
    grain = rng.normal(0, 6, enlarged.shape)
    mask = np.zeros((3000, 4000), np.uint8)
    for _ in range(10):
        ends = rng.integers(0, 3000, (2, 2)).tolist()
        cv2.line(mask, ends[0], ends[1], 255, 5)
    return np.clip(enlarged + grain, 0, 255).astype(np.uint8), mask > 0


def save(pixels: Pixels, kind: str, **options: Any) -> bytes:
    """Return a file by Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def code_by_opencv(suffix: str, *flags: int) -> Callable[[bytes], object]:
    """Return a function that decodes and encodes a file."""

    def code(data: bytes) -> object:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        return cv2.imencode(suffix, pixels, flags)

    return code


def code_by_tifffile(data: bytes) -> object:
    """Decode and encode a TIFF file with Deflate."""
    pixels = tifffile.imread(io.BytesIO(data))
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, compression="zlib", predictor=True, rowsperstrip=64)
    return buffer


def code_by_pillow(kind: str, **options: Any) -> Callable[[bytes], object]:
    """Return a function that decodes and encodes a file."""

    def code(data: bytes) -> object:
        picture = Image.open(io.BytesIO(data))
        picture.load()
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        return buffer

    return code


def transform_jpeg(progressive: bool) -> Callable[[bytes], object]:
    """Return a function that decodes a JPEG once and transforms it once."""
    coding = Coding(progressive, False, progressive, 0)

    def code(data: bytes) -> object:
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        return rewrite_coefficients(data, lambda *_: None, coding)

    return code


def prove_jpeg(data: bytes, coefficients: bytes) -> None:
    """Decode a JPEG's coefficients and hash as many bytes."""
    read_coefficients(data, lambda *_: None)
    hashlib.sha256(coefficients)


def list_cases(
    pixels: Pixels,
) -> dict[str, tuple[Callable[[], bytes], Callable[[bytes], object]]]:
    """Return what makes a file of each format, and the bare calls for it."""
    wide = pixels.astype(np.uint16) * 257
    jpeg2000 = (cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000)

    def save_deflated() -> bytes:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, wide, compression="zlib", predictor=True, rowsperstrip=64)
        return buffer.getvalue()

    return {
        "JPEG, baseline 4:2:0": (
            lambda: save(pixels, "JPEG", quality=90),
            transform_jpeg(False),
        ),
        "JPEG, progressive": (
            lambda: save(pixels, "JPEG", quality=90, progressive=True),
            transform_jpeg(True),
        ),
        "PNG": (lambda: save(pixels, "PNG"), code_by_opencv(".png")),
        "PNG, 16 bit": (
            lambda: cv2.imencode(".png", wide)[1].tobytes(),
            code_by_opencv(".png"),
        ),
        "TIFF, uncompressed": (
            lambda: save(pixels, "TIFF"),
            code_by_opencv(".tif", cv2.IMWRITE_TIFF_COMPRESSION, 1),
        ),
        "TIFF, Deflate, 16 bit": (save_deflated, code_by_tifffile),
        "WebP, lossless": (
            lambda: save(pixels, "WEBP", lossless=True, method=1, quality=20),
            code_by_pillow("WEBP", lossless=True, method=1, quality=20),
        ),
        "BMP": (lambda: save(pixels, "BMP"), code_by_opencv(".bmp")),
        "GIF": (lambda: save(pixels, "GIF"), code_by_pillow("GIF")),
        "JPEG 2000, lossless": (
            lambda: save(pixels, "JPEG2000"),
            code_by_opencv(".jp2", *jpeg2000),
        ),
        "AVIF": (
            lambda: save(pixels, "AVIF", quality=80, speed=9),
            code_by_opencv(".avif", cv2.IMWRITE_AVIF_QUALITY, 100),
        ),
    }


def time_steps(steps: list[Callable[[], object]], runs: int) -> list[float]:
    """Return the median CPU seconds of each step, all steps in turn in each run."""
    seconds: list[list[float]] = [[] for _ in steps]
    for run in range(runs + 1):
        for step, times in zip(steps, seconds, strict=True):
            began = time.process_time()
            step()
            if run > 0:
                times.append(time.process_time() - began)
    return [statistics.median(times) for times in seconds]


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="", help="formats whose name contains this")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    keep_freed_memory()  # as the commands do
    pixels, mask = draw_picture()
    print(f"{describe_setup()}; load average {os.getloadavg()[0]:.1f}", end="\n\n")
    print("| 12 megapixels | MB | read | write | prove | bare calls | bare proof "
          "| read and write | with proof | with proof, of both |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, (make, bare) in list_cases(pixels).items():
        if arguments.only not in name:
            continue
        data = make()
        photo = read_photo(data, "a")
        repaired = photo.pages[0].pixels.copy()
        repaired[mask] = np.iinfo(repaired.dtype).max // 2
        encoded = write_photo(photo, [repaired], [mask], name="a")
        steps: list[Callable[[], object]] = [
            lambda data=data: read_photo(data, "a"),
            lambda photo=photo, fixed=repaired: write_photo(photo, [fixed], [mask], name="a"),
            lambda data=data, one=encoded: verify_photo(
                data, one.data, [mask], name="a", known=one.known
            ),
            lambda data=data, bare=bare: bare(data),
        ]
        if isinstance(encoded.known, tuple):
            known = b"".join(plane.tobytes() for plane in encoded.known)
            steps.append(lambda one=encoded.data, known=known: prove_jpeg(one, known))
        *ours, bare_seconds, proof = (*time_steps(steps, arguments.runs), None)[:5]
        total = sum(ours)
        cells = [f"{seconds:.3f}" for seconds in (*ours, bare_seconds)]
        cells.append("" if proof is None else f"{proof:.3f}")
        cells += [f"{sum(ours[:2]) / bare_seconds:.2f}", f"{total / bare_seconds:.2f}"]
        cells.append("" if proof is None else f"{total / (bare_seconds + proof):.2f}")
        print(f"| {name} | {len(data) / 1e6:.1f} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
