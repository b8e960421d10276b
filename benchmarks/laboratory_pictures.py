"""Pictures for the laboratory's page: repairs, where attention copies from, nearest neighbours.

All of them show photographs of scikit-image's wheel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.nn import functional

from benchmarks.laboratory_cases import (
    SIDE_PX,
    Case,
    Image,
    Paint,
    draw_square,
    list_shown,
    to_batch,
)
from benchmarks.scores import composite
from restorepix.errors import UnsupportedError
from restorepix.models.encoder import Encoder
from restorepix.models.lab.context_encoder import ContextEncoder, find_neighbours
from restorepix.models.lab.deepfill import DeepFill
from restorepix.models.lab.flow import draw_flow
from restorepix.models.lab.warps import measure_variety
from training.contact_sheet import write_contact_sheet

SOURCES = (
    "astronaut", "coffee", "chelsea", "rocket", "camera", "brick", "gravel", "grass", "coins",
    "moon", "retina",
)  # fmt: skip
"""Functions of ``skimage.data`` whose windows look for their like."""
SOURCE_PX = 160
WINDOW_PX = 64
NEAREST = 5


def draw_repairs(methods: Mapping[str, Paint], seed: int, out: Path) -> None:
    """A picture with one method a row and one photograph a column; grey where one refuses."""
    shown = list_shown(seed)
    lines = {
        "damaged": [np.where(c.mask[..., None] > 0, 255, c.truth).astype(np.uint8) for c in shown]
    }
    for name, paint in methods.items():
        lines[name] = [_repair(paint, case) for case in shown]
    lines["truth"] = [case.truth for case in shown]
    headings = [f"{case.photo}, {case.kind}" for case in shown]
    write_contact_sheet(out, list(lines.values()), headings, list(lines), cell_px=SIDE_PX)


def _repair(paint: Paint, case: Case) -> Image:
    try:
        return composite(paint(case.damaged, case.mask), case.truth, case.mask)
    except UnsupportedError:
        return case.damaged


def draw_flows(networks: Mapping[str, DeepFill], seed: int, out: Path) -> None:
    """Where attention copies from: one row a network and photograph, holes alone coloured."""
    wheel = np.stack(np.meshgrid(*[np.linspace(-1, 1, 65)] * 2, indexing="ij"))
    lines: list[list[Image]] = []
    labels: list[str] = []
    for name, network in networks.items():
        for case in list_shown(seed, ("square40",))[:3]:
            batch, hole = to_batch(case.damaged, case.mask)
            with torch.inference_mode():
                offsets = network.find_offsets(batch, hole)[0].numpy()
                refined = network(batch, hole).refined[0].permute(1, 2, 0)
            inside = functional.max_pool2d(hole, 8)[0, 0].numpy() > 0
            flow = draw_flow(np.where(inside, offsets, 0))
            large = cv2.resize(flow, case.truth.shape[1::-1], interpolation=cv2.INTER_NEAREST)
            painted = ((refined + 1) * 127.5).round().clamp(0, 255).numpy().astype(np.uint8)
            lines.append(
                [
                    case.damaged,
                    composite(painted, case.truth, case.mask),
                    np.asarray(large, np.uint8),
                    draw_flow(wheel, 1.0),
                ]
            )
            labels.append(f"{name}: {case.photo}")
    headings = ("damaged", "repaired", "copied from", "direction")
    write_contact_sheet(out, lines, headings, labels, cell_px=160)


def measure_varieties(networks: Mapping[str, DeepFill], cases: Sequence[Case]) -> dict[str, float]:
    """How much the maps of warps differ from picture to picture.

    Standard deviation over pictures, in units of half the picture; 0 is the same map for all.
    """
    batches = [to_batch(case.damaged, case.mask) for case in cases]
    found: dict[str, float] = {}
    for name, network in networks.items():
        with torch.inference_mode():
            maps = [network.find_offsets(batch, hole) for batch, hole in batches]
        found[name] = measure_variety(torch.cat(maps))
    return found


class Window(NamedTuple):
    """A part of a photograph."""

    source: str
    pixels: Image


def cut_windows(side: int = WINDOW_PX, step: int = 32) -> list[Window]:
    """Windows of ``SOURCES``, shrunk to 160 px squares."""
    from skimage import data

    windows: list[Window] = []
    for name in SOURCES:
        picture = getattr(data, name)()
        picture = np.stack([picture] * 3, 2) if picture.ndim == 2 else picture[..., :3]
        edge = min(picture.shape[:2])
        top, left = ((length - edge) // 2 for length in picture.shape[:2])
        square = picture[top : top + edge, left : left + edge]
        small = cv2.resize(square, (SOURCE_PX, SOURCE_PX), interpolation=cv2.INTER_AREA)
        for row in range(0, SOURCE_PX - side + 1, step):
            for column in range(0, SOURCE_PX - side + 1, step):
                part = np.asarray(small[row : row + side, column : column + side], np.uint8)
                windows.append(Window(name, np.ascontiguousarray(part)))
    return windows


def draw_neighbours(features: torch.Tensor, windows: Sequence[Window], out: Path) -> None:
    """The middle window of each photograph with those of other photographs nearest to it.

    Args:
        features: (N, D), one row a window; their mean is taken off, since all point much alike.
        windows: of the same number.
        out: picture file.
    """
    centred = features - features.mean(0)
    order = find_neighbours(centred, centred, len(windows)).tolist()
    lines: list[list[Image]] = []
    labels: list[str] = []
    for name in dict.fromkeys(window.source for window in windows):
        own = [number for number, window in enumerate(windows) if window.source == name]
        query = own[len(own) // 2]
        others = [number for number in order[query] if windows[number].source != name]
        lines.append([windows[number].pixels for number in (query, *others[:NEAREST])])
        labels.append(name)
    headings = ["query", *(f"nearest {number}" for number in range(1, len(lines[0])))]
    write_contact_sheet(out, lines, headings, labels, cell_px=96)


def look_with_byol(encoder: Encoder, windows: Sequence[Window]) -> torch.Tensor:
    """(N, D) pooled features of the deepest level of an encoder."""
    with torch.inference_mode():
        return encoder.eval()(_stack(windows))[-1].mean((2, 3))


def look_by_context(encoder: ContextEncoder, windows: Sequence[Window]) -> torch.Tensor:
    """(N, D) features of windows whose middle a context encoder does not see.

    Pathak et al. (CVPR 2016), section 5.2: neighbours agree in what surrounds the patch, and the
    patches turn out alike.
    """
    batch = _stack(windows)
    side = batch.shape[-1]
    mask = torch.from_numpy(draw_square(side, side // 2)).float().expand(len(batch), 1, -1, -1)
    with torch.inference_mode():
        return encoder.eval().encode(batch, mask)


def _stack(windows: Sequence[Window]) -> torch.Tensor:
    return torch.cat([to_batch(window.pixels, window.pixels[..., 0])[0] for window in windows])
