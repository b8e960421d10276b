"""How well damage is found, beside classical and published detectors, and how often falsely.

    python -m benchmarks.detection DATA --weights runs/detector/detect.safetensors

DATA holds the photographs of training/validation.txt and damage_elements/. Damage is synthesised
with fonts and elements that training never saw. Every method sees the same pictures. ``--photos``
limits their number, ``--peers`` the methods (``none`` leaves only ours), ``--json`` writes all
numbers. Ours is scored without the margin that masks get, at the threshold of the default
sensitivity; each peer at the threshold that suits these pictures best. ``--sweep`` prints instead
what other thresholds of ours would give, for each class and share of clean photographs marked; they
are chosen on other photographs (``training.calibrate``), never by this table.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.detection_peers import Peer, list_peers
from benchmarks.detection_scores import TOLERANCE_PX, Counts
from benchmarks.detection_sweep import SHIFT, format_table, sweep
from benchmarks.machine import describe_setup
from restorepix.detect.findings import Marking
from restorepix.detect.weights import list_floors, read_markings
from restorepix.masks import DamageClass
from restorepix.options import DetectOptions
from training.data import read_rgb
from training.synthesis.sample import Library, Sample, SynthesisConfig, open_library, synthesise
from training.validation import list_validation

CLASSES: tuple[DamageClass, ...] = ("scratch", "text", "watermark")
SYNTHESIS = SynthesisConfig(negative=0.3)
"""Hard negatives on three of ten pictures; what is damaged is said by the class."""

Rgb = npt.NDArray[np.uint8]
Maps = npt.NDArray[np.uint8]
Scan = Callable[[Rgb], Maps]
Markings = Mapping[DamageClass, Marking]


def build_sample(photo: Rgb, kind: str, library: Library, seed: Sequence[int]) -> Sample:
    """A photograph with one class of damage; redrawn until some of it can be seen."""
    for attempt in range(20):
        rng = np.random.default_rng([*seed, attempt])
        sample = synthesise(photo, rng, library, SYNTHESIS, classes=[kind])
        if int((sample.target == 1).sum()) >= 20:
            return sample
    raise AssertionError(f"20 draws of {kind} left nothing to be seen on a photograph")


def open_scanner(weights: Path, threads: int, shift: float = 0.0) -> Scan:
    """Our detector as the command line runs it; all logits lowered by ``shift``."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from restorepix.detect.scan import Scanner
    from restorepix.inpaint import choose_dtype
    from restorepix.models.registry import load_network
    from restorepix.weights import check_file

    torch.set_num_threads(1)
    found = check_file(weights, "detector")
    network = load_network(found.path, found.architecture, found.config, found.tensors)
    if shift:
        network.get_parameter("head.bias").data.sub_(shift)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    floors = list_floors(read_markings(weights))
    scanner = Scanner(network, device, dtype=choose_dtype(device), threads=threads, floors=floors)

    def scan(image: Rgb) -> Maps:
        return scanner.scan(np.float32(image) / np.float32(255), image.shape[:2])

    return scan


def mark(
    maps: Maps, kind: DamageClass, options: DetectOptions, markings: Markings
) -> npt.NDArray[np.bool_]:
    """Pieces of one class without margins."""
    from restorepix.detect.findings import DEFAULT_MARKING, find_pixels

    marking = markings.get(kind, DEFAULT_MARKING)
    return find_pixels(maps[CLASSES.index(kind)], options, marking)


def score_ours(
    samples: Mapping[DamageClass, Sequence[Sample]],
    scan: Scan,
    options: DetectOptions,
    markings: Markings,
) -> dict[str, dict[str, Any]]:
    """Rows of our detector for each class."""
    rows: dict[str, dict[str, Any]] = {}
    for kind in CLASSES:
        near, exact = Counts(), Counts()
        for sample in samples[kind]:
            found = mark(scan(sample.image), kind, options, markings)
            target = sample.target[CLASSES.index(kind)]
            near.add(found, target, TOLERANCE_PX)
            exact.add(found, target, 0)
        rows[kind] = {**near.as_row(), "exact_f1": round(exact.f1, 4)}
    return rows


def score_peer(samples: list[Sample], kind: str, peer: Peer) -> dict[str, Any]:
    """The row of a peer at its best threshold."""
    channel = CLASSES.index(kind)  # type: ignore[arg-type]
    near = {threshold: Counts() for threshold in peer.thresholds}
    exact = {threshold: Counts() for threshold in peer.thresholds}
    for sample in samples:
        scores = peer.score(sample.image)
        for threshold in peer.thresholds:
            found = scores >= threshold
            near[threshold].add(found, sample.target[channel], TOLERANCE_PX)
            exact[threshold].add(found, sample.target[channel], 0)
    best = max(peer.thresholds, key=lambda threshold: near[threshold].f1)
    row = near[best].as_row()
    return {**row, "exact_f1": round(exact[best].f1, 4), "threshold": best}


def score_clean(
    photos: Sequence[Rgb], find: Callable[[Rgb], npt.NDArray[np.bool_]]
) -> dict[str, Any]:
    """What is marked on photographs without damage."""
    shares = np.array([float(find(photo).mean()) for photo in photos])
    return {
        "photos": len(photos),
        "mean_share": round(float(shares.mean()), 6),
        "worst_share": round(float(shares.max()), 6),
        "untouched": round(float((shares == 0).mean()), 4),
    }


def time_large(scan: Scan, photo: Rgb) -> float:
    """Seconds for 12 megapixels, the better of two."""
    import cv2

    large = np.asarray(cv2.resize(photo, (4000, 3000), interpolation=cv2.INTER_CUBIC), np.uint8)
    noise = np.random.default_rng(0).integers(-4, 5, large.shape, np.int16)
    large = np.clip(large + noise, 0, 255).astype(np.uint8)
    times: list[float] = []
    for _ in range(2):
        began = time.perf_counter()
        scan(large)
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    """Score from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path, help="detector; without it only peers are scored")
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--peers", nargs="*", help="names, or none; default all that are installed")
    parser.add_argument("--sensitivity", default="normal")
    parser.add_argument("--sweep", action="store_true", help="table of settings, nothing else")
    parser.add_argument("--textures", type=Path, help="folder of pictures that look damaged")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    photos = [read_rgb(path) for path in list_validation(options.data, options.photos)]
    elements = options.data / "damage_elements"
    library = open_library(elements if elements.is_dir() else None, held_out=True)
    samples = {
        kind: [
            build_sample(photo, kind, library, (options.seed, channel, number))
            for number, photo in enumerate(photos)
        ]
        for channel, kind in enumerate(CLASSES)
    }
    report: dict[str, Any] = {
        "machine": describe_setup(),
        "photos": len(photos),
        "fonts": len(library.fonts),
        "elements": len(library.elements),
        "rows": [],
        "clean": [],
    }

    def add(kind: str, name: str, row: dict[str, Any]) -> None:
        report["rows"].append({"class": kind, "method": name, **row})
        scores = "  ".join(f"{key} {value:.3f}" for key, value in row.items())
        sys.stdout.write(f"{kind:10s} {name:14s} {scores}\n")
        sys.stdout.flush()

    def add_clean(name: str, row: dict[str, Any]) -> None:
        report["clean"].append({"method": name, **row})
        sys.stdout.write(
            f"clean      {name:14s} mean {100 * row['mean_share']:.3f} %  worst "
            f"{100 * row['worst_share']:.2f} %  untouched {100 * row['untouched']:.1f} %\n"
        )

    if options.weights and options.sweep:
        # Settings of the sweep are logits of the answer; calibrated weights answer 0 at theirs.
        scan = open_scanner(options.weights, options.threads, shift=SHIFT)
        table = sweep(scan, samples, photos)
        sys.stdout.write(format_table(table, len(photos), (0.0, 0.005, 0.01, 0.02, 0.05, 0.1)))
        return
    if options.weights:
        detect = DetectOptions(sensitivity=options.sensitivity)
        scan = open_scanner(options.weights, options.threads)
        markings = read_markings(options.weights)
        for kind, row in score_ours(samples, scan, detect, markings).items():
            add(kind, "ours", row)

        def find(photo: Rgb) -> npt.NDArray[np.bool_]:
            maps = scan(photo)
            scratch, text = (mark(maps, k, detect, markings) for k in detect.classes)
            return scratch | text

        add_clean("ours", score_clean(photos, find))
        if options.textures:
            pictures = [read_rgb(path) for path in sorted(options.textures.iterdir())]
            add_clean("ours, textures", score_clean(pictures, find))
        report["seconds_12mp"] = round(time_large(scan, photos[0]), 3)
        sys.stdout.write(f"12 megapixels in {report['seconds_12mp']:.2f} s\n")
    peers, missing = list_peers()
    for line in missing:
        sys.stderr.write(f"left out: {line}\n")
    report["left_out"] = missing
    for peer in peers:
        if options.peers is not None and peer.name not in options.peers:
            continue
        best: dict[str, float] = {}
        for kind in peer.kinds:
            row = score_peer(samples[kind], kind, peer)
            best[kind] = row["threshold"]
            add(kind, peer.name, row)
        limit, score = best[peer.kinds[0]], peer.score
        row = score_clean(photos, lambda photo, limit=limit, score=score: score(photo) >= limit)
        add_clean(peer.name, row)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
