"""Runs other programs' inpainting, in an environment of their own, picture by picture.

    python -m venv .venv-peers
    .venv-peers/bin/pip install -r benchmarks/requirements-peers.txt

benchmarks/peers.py starts this file with that environment's Python. It writes one line of JSON
with the versions found, then answers every line ``{"peer": name, "input": npz, "output": npz}``
with one line: ``{"seconds": CPU seconds}``, or ``{"error": text}`` if the peer refused the picture.
The input holds ``image``, (H, W, 3) uint8 RGB, and ``mask``, (H, W) uint8 in {0, 1}, 1 = hole; the
output holds ``image``, (H, W, 3) uint8 RGB, exactly as the peer gave it: not composited. Peers run
with the settings that their documentation shows first.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.uint8]
Inpaint = Callable[[Image, Mask], Image]

GMIC_TIMEOUT_S = 300


def inpaint_telea(image: Image, mask: Mask) -> Image:
    """OpenCV's fast marching method (Telea 2004), radius 3 as in its tutorial."""
    return np.asarray(cv2.inpaint(image, mask, 3, cv2.INPAINT_TELEA), np.uint8)


def inpaint_ns(image: Image, mask: Mask) -> Image:
    """OpenCV's Navier-Stokes method (Bertalmio et al. 2001), radius 3 as in its tutorial."""
    return np.asarray(cv2.inpaint(image, mask, 3, cv2.INPAINT_NS), np.uint8)


def inpaint_biharmonic(image: Image, mask: Mask) -> Image:
    """scikit-image's biharmonic equations (Damelin and Hoang 2018), rounded to 8 bits."""
    from skimage import restoration

    filled = restoration.inpaint_biharmonic(image, mask > 0, channel_axis=-1)
    return np.rint(np.clip(filled, 0, 1) * 255).astype(np.uint8)


def _run_gmic(image: Image, mask: Mask, command: str) -> Image:
    with tempfile.TemporaryDirectory() as folder:
        source, hole, result = (Path(folder) / f"{name}.png" for name in ("image", "mask", "out"))
        cv2.imwrite(str(source), image[..., ::-1])
        cv2.imwrite(str(hole), mask * 255)
        # G'MIC computes in floats; rounded and cut, or the 8 bits of the file would wrap round.
        words = ["gmic", "srand", "1", str(source), str(hole), f"{command}[0]", "[1]"]
        words += ["keep[0]", "round", "cut", "0,255", "output", str(result)]
        subprocess.run(
            words, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=GMIC_TIMEOUT_S
        )
        return np.ascontiguousarray(cv2.imread(str(result), cv2.IMREAD_COLOR)[..., ::-1], np.uint8)


def inpaint_gmic_pde(image: Image, mask: Mask) -> Image:
    """G'MIC's multiscale transport and diffusion, default settings."""
    return _run_gmic(image, mask, "inpaint_pde")


def inpaint_gmic_matchpatch(image: Image, mask: Mask) -> Image:
    """G'MIC's multiscale PatchMatch, default settings (which blend beyond the hole)."""
    return _run_gmic(image, mask, "inpaint_matchpatch")


def _run_fsr(image: Image, mask: Mask) -> Image:
    # The polarity of xphoto is the other way round: non-zero pixels are valid.
    valid = np.where(mask > 0, 0, 255).astype(np.uint8)
    result = np.zeros_like(image)
    cv2.xphoto.inpaint(image, valid, result, cv2.xphoto.INPAINT_FSR_FAST)
    return result


def inpaint_fsr(image: Image, mask: Mask) -> Image:
    """OpenCV contrib's frequency selective reconstruction (Seiler et al. 2015) of a BGR picture."""
    return np.ascontiguousarray(_run_fsr(np.ascontiguousarray(image[..., ::-1]), mask)[..., ::-1])


def inpaint_fsr_channels(image: Image, mask: Mask) -> Image:
    """The same for R, G and B apart, without the colour conversion that moves known pixels."""
    channels = (np.ascontiguousarray(image[..., channel]) for channel in range(3))
    return np.stack([_run_fsr(channel, mask) for channel in channels], axis=-1)


def inpaint_patchmatch(image: Image, mask: Mask) -> Image:
    """PatchMatch over a pyramid (Barnes et al. 2009) of the package patchmatch-cython."""
    from patchmatch_cython import inpaint_pyramid

    return np.asarray(inpaint_pyramid(image, mask > 0, seed=1), np.uint8)


INPAINT: dict[str, Inpaint] = {
    "telea": inpaint_telea,
    "ns": inpaint_ns,
    "biharmonic": inpaint_biharmonic,
    "gmic_pde": inpaint_gmic_pde,
    "gmic_matchpatch": inpaint_gmic_matchpatch,
    "fsr": inpaint_fsr,
    "fsr_channels": inpaint_fsr_channels,
    "patchmatch": inpaint_patchmatch,
}
REFUSALS = (cv2.error, ValueError, IndexError, np.linalg.LinAlgError, subprocess.SubprocessError)
"""What a peer raises for a picture it cannot fill; anything else ends the worker."""


def find_versions() -> dict[str, str]:
    """Versions by package; G'MIC's from the program itself.

    Raises:
        FileNotFoundError: no program ``gmic``.
        PackageNotFoundError: a package of requirements-peers.txt is missing.
    """
    packages = ("opencv-contrib-python-headless", "patchmatch-cython", "scikit-image")
    versions = {package: version(package) for package in packages}
    said = subprocess.run(
        ["gmic", "version"], capture_output=True, stdin=subprocess.DEVNULL, text=True, check=False
    )
    found = re.search(r"Version ([0-9.]+[0-9])", said.stdout + said.stderr)
    versions["gmic"] = found[1] if found else "unknown"
    return versions


def _cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def main() -> None:
    """Answer requests from standard input until it ends."""
    os.environ["OMP_NUM_THREADS"] = "1"
    cv2.setNumThreads(1)
    versions = find_versions()
    warm_up = np.zeros((64, 64, 3), np.uint8)
    hole = np.zeros((64, 64), np.uint8)
    hole[30:34, 30:34] = 1
    for inpaint in INPAINT.values():
        inpaint(warm_up, hole)
    sys.stdout.write(json.dumps({"versions": versions}) + "\n")
    sys.stdout.flush()
    for line in sys.stdin:
        request = json.loads(line)
        with np.load(request["input"]) as arrays:
            image, mask = arrays["image"], arrays["mask"]
        begin = _cpu_seconds()
        try:
            result = INPAINT[request["peer"]](image.copy(), mask.copy())
        except REFUSALS as error:
            answer: dict[str, object] = {"error": f"{type(error).__name__}: {error}"[:300]}
        else:
            answer = {"seconds": _cpu_seconds() - begin}
            np.savez(request["output"], image=result)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
