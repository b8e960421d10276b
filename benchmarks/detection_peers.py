"""Classical and published detectors as peers: each from a picture to a map of how damaged it is.

A peer gives a score for every pixel; the benchmark tries a row of thresholds and keeps the one with
the best F1 on the very pictures that are scored, which flatters peers.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Rgb = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Peer:
    """One method that others would reach for."""

    name: str
    kinds: tuple[str, ...]
    """Classes that it is tried on."""
    score: Callable[[Rgb], Scores]
    """(H, W, 3) uint8 RGB -> (H, W) float32, more is more damaged."""
    thresholds: Sequence[float]


def _grey(image: Rgb) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def score_hats(image: Rgb) -> Scores:
    """``score_plain_hats`` over its local spread."""
    hats = score_plain_hats(image)
    mean = cv2.GaussianBlur(hats, (0, 0), 15)
    spread = np.sqrt(np.maximum(cv2.GaussianBlur(hats * hats, (0, 0), 15) - mean * mean, 4))
    return np.where(hats > 12, (hats - mean) / spread, 0).astype(np.float32)


def score_plain_hats(image: Rgb) -> Scores:
    """The larger of top-hat and black-hat (11 px ellipse), in levels."""
    grey = _grey(image)
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (11, 11))
    bright = cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, brush)
    dark = cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, brush)
    return np.maximum(bright, dark).astype(np.float32)


def _score_ridges(name: str) -> Callable[[Rgb], Scores]:
    def score(image: Rgb) -> Scores:
        from skimage import filters

        grey = _grey(image) / 255.0
        ridge: Any = getattr(filters, name)
        both = [ridge(grey, sigmas=(1, 2, 3), black_ridges=black) for black in (False, True)]
        return np.maximum(*both).astype(np.float32)

    return score


def score_mser(image: Rgb) -> Scores:
    """1 inside stable regions of the size and shape of letters."""
    grey = _grey(image)
    scores = np.zeros(grey.shape, np.float32)
    mser = cv2.MSER.create(2, 20, max(60, grey.size // 10))
    for plane in (grey, 255 - grey):
        regions, boxes = mser.detectRegions(plane)
        for points, (_, _, wide, tall) in zip(regions, boxes, strict=True):
            if 0.1 < wide / max(1, tall) < 10 and len(points) > 0.15 * wide * tall:
                scores[points[:, 1], points[:, 0]] = 1
    return scores


def _ink_in_boxes(image: Rgb, boxes: Sequence[npt.NDArray[Any]]) -> Scores:
    """What differs from the surround inside quadrilaterals: Otsu's split, the smaller part."""
    grey, scores = _grey(image), np.zeros(image.shape[:2], np.float32)
    for box in boxes:
        inside = np.zeros(grey.shape, np.uint8)
        cv2.fillPoly(inside, [np.rint(box).astype(np.int32)], 1)
        values = grey[inside > 0]
        if values.size < 10:
            continue
        level, _ = cv2.threshold(values.reshape(-1, 1), 0, 255, cv2.THRESH_OTSU)
        bright = (grey > level) & (inside > 0)
        dark = (grey <= level) & (inside > 0)
        scores[bright if bright.sum() < dark.sum() else dark] = 1
    return scores


def _build_rapidocr() -> Callable[[Rgb], Scores] | None:
    if importlib.util.find_spec("rapidocr") is None:
        return None
    from rapidocr import RapidOCR  # type: ignore[import-not-found]

    engine: Any = RapidOCR()

    def score(image: Rgb) -> Scores:
        answer = engine(image[..., ::-1].copy(), use_det=True, use_cls=False, use_rec=False)
        boxes = getattr(answer, "boxes", None)
        return _ink_in_boxes(image, [] if boxes is None else list(boxes))

    return score


def _build_tesseract() -> Callable[[Rgb], Scores] | None:
    if importlib.util.find_spec("pytesseract") is None or shutil.which("tesseract") is None:
        return None
    import pytesseract  # type: ignore[import-not-found]

    def score(image: Rgb) -> Scores:
        found = pytesseract.image_to_data(image, config="--psm 11",
                                          output_type=pytesseract.Output.DICT)  # fmt: skip
        boxes: list[npt.NDArray[Any]] = []
        for left, top, wide, tall, sure, text in zip(
            found["left"], found["top"], found["width"], found["height"], found["conf"],
            found["text"], strict=True,
        ):  # fmt: skip
            if float(sure) > 30 and text.strip():
                right, bottom = left + wide, top + tall
                corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
                boxes.append(np.array(corners))
        return _ink_in_boxes(image, boxes)

    return score


def list_peers() -> tuple[list[Peer], list[str]]:
    """Peers that can run here, and why others cannot."""
    levels = (10, 15, 20, 30, 40, 60, 80)
    peers = [
        Peer("top-hat", ("scratch", "watermark"), score_plain_hats, levels),
        Peer("local top-hat", ("scratch", "watermark"), score_hats, (1, 1.5, 2, 2.5, 3, 4, 5)),
        Peer("Frangi", ("scratch",), _score_ridges("frangi"), (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.01)),
        Peer("Sato", ("scratch",), _score_ridges("sato"), (0.01, 0.02, 0.03, 0.05, 0.08, 0.12)),
        Peer("Meijering", ("scratch",), _score_ridges("meijering"), (0.2, 0.3, 0.4, 0.5, 0.6, 0.8)),
        Peer("MSER", ("text", "watermark"), score_mser, (0.5,)),
    ]
    missing: list[str] = []
    builders = {"RapidOCR": _build_rapidocr, "tesseract": _build_tesseract}
    for name, build in builders.items():
        score = build()
        if score is None:
            missing.append(f"{name} is not installed (benchmarks/requirements-peers.txt)")
        else:
            peers.append(Peer(name, ("text", "watermark"), score, (0.5,)))
    return peers, missing
