"""The detector over a picture of any size: tiles at full resolution, and the whole at a glance.

Thin damage needs every pixel, so the picture is scanned at full resolution in overlapping tiles;
letters, stains and marks larger than a tile can be told from anything are seen in an overview, the
picture reduced to ``OVERVIEW_PX``. A pixel's probability is the higher of the two. Tiles without
any structure cannot hold visible damage and are left out. Only one tile a thread is ever turned
into floats; the maps are kept in 8 bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.nn.utils import convert_conv2d_weight_memory_format

from restorepix.errors import WeightsError
from restorepix.models.detector import CLASSES, predict
from restorepix.tiles import Box

Rgb = npt.NDArray[np.float32]
ReadRgb = Callable[[Box], Rgb]
Maps = npt.NDArray[np.uint8]

TILE_PX: Final = 1024
"""Largest side of a tile. Rims cost 14 % of the work at this size and 31 % at half of it."""

HALO_PX: Final = 32
"""Rim of a tile whose answer is not used, where the picture goes on."""

OVERVIEW_PX: Final = 1024
"""Long side of the overview, at most; pictures up to 1.5 times as long have none."""

FLAT_LEVELS: Final = 5 / 255
"""A tile whose brightest and darkest sample are closer than this in every channel is left out:
what differs by less counted as invisible in training too."""

_BAND_PX: Final = 1 << 21
"""Pixels reduced at once for the overview."""


class Scanner:
    """Runs a detector over pictures; one instance serves a whole batch of files."""

    def __init__(
        self,
        detector: torch.nn.Module,
        device: torch.device,
        *,
        dtype: torch.dtype = torch.float32,
        threads: int = 1,
    ) -> None:
        """Take over a detector: move it to the device, in the precision it runs in there.

        Args:
            detector: called with (B, 3, H, W) in [-1, 1], H and W multiples of 16, at least 32;
                its answer is (B, 3, H, W) logits in the order of ``CLASSES``.
            device: where to run.
            dtype: precision of the network.
            threads: tiles that a CPU works on at a time. The answer does not depend on it.
        """
        self._device, self._dtype = device, dtype
        self._threads = threads if device.type == "cpu" else 1
        self._detector = detector.eval()
        self._detector.to(device=device, dtype=dtype)
        convert_conv2d_weight_memory_format(self._detector, torch.channels_last)

    def scan(self, image: Rgb | ReadRgb, size: tuple[int, int]) -> Maps:
        """Return how likely each pixel is damage of each class.

        Args:
            image: (H, W, 3) float32 RGB in [0, 1], or a function that returns those of a box.
                NaN counts as 0; values are clipped to [0, 1].
            size: (H, W), both 1 or more.

        Returns:
            (3, H, W) uint8 in the order of ``CLASSES``: 255 = certain.

        Raises:
            ValueError: the size is empty or not that of the image.
            WeightsError: the network's answer is not finite.
        """
        if min(size) < 1:
            raise ValueError(f"expected a picture of 1 pixel at least, found {size}")
        if not callable(image) and image.shape != (*size, 3):
            raise ValueError(f"the image is {image.shape}, expected {(*size, 3)}")
        read = image if callable(image) else _read_from(image)
        maps = np.zeros((len(CLASSES), *size), np.uint8)
        self._scan_tiles(read, maps)
        if max(size) > 1.5 * OVERVIEW_PX:
            overview = _reduce(read, size)
            glance = np.zeros((len(CLASSES), *overview.shape[:2]), np.uint8)
            self._scan_tiles(_read_from(overview), glance)
            _merge(maps, glance)
        return maps

    def _scan_tiles(self, read: ReadRgb, maps: Maps) -> None:
        """Fill the maps of a picture tile by tile."""
        tiles = plan_tiles(maps.shape[1], maps.shape[2])
        if self._threads == 1 or len(tiles) == 1:
            for tile in tiles:
                self._scan_tile(read, maps, tile)
            return

        def work(tile: tuple[Box, Box]) -> None:
            self._scan_tile(read, maps, tile)

        with ThreadPoolExecutor(self._threads) as pool:
            for _ in pool.map(work, tiles):
                pass

    def _scan_tile(self, read: ReadRgb, maps: Maps, tile: tuple[Box, Box]) -> None:
        box, core = tile
        with torch.inference_mode():
            planes = torch.tensor(read(box)).permute(2, 0, 1).contiguous()
            planes.nan_to_num_(0.0).clamp_(0, 1)
            if _is_flat(planes[:, ::8, ::8]) and _is_flat(planes):
                return
            image = planes.to(self._device, self._dtype)[None].mul_(2).sub_(1)
            found = predict(self._detector, image)[0]
            if not bool(torch.isfinite(found.sum())):
                raise WeightsError(
                    "the detector's answer is not finite: its weights are damaged or do not suit "
                    "this precision. Install the weights again, or run with --device cpu."
                )
            levels = found.mul_(255).round_().to(torch.uint8).cpu().numpy()
        rows, columns = core.slices()
        inner = core.shift(-box.top, -box.left).slices()
        maps[:, rows, columns] = levels[:, inner[0], inner[1]]


def _is_flat(planes: torch.Tensor) -> bool:
    low, high = planes.flatten(1).aminmax(dim=1)
    return float((high - low).max()) < FLAT_LEVELS


def plan_tiles(height: int, width: int) -> list[tuple[Box, Box]]:
    """Return tiles, and for each the part that its answer counts for.

    The parts do not overlap and cover the picture; each lies ``HALO_PX`` inside its tile, except
    where the picture ends.
    """
    return [
        (Box(top, left, tall, wide), Box(inner_top, inner_left, inner_tall, inner_wide))
        for top, tall, inner_top, inner_tall in _plan_line(height)
        for left, wide, inner_left, inner_wide in _plan_line(width)
    ]


def _plan_line(length: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (start, length) of tiles and of their inner parts along one side."""
    rim = 2 * HALO_PX
    count = 1 if length <= TILE_PX else math.ceil((length - rim) / (TILE_PX - rim))
    # As small as so many tiles can be, so that a picture a little wider than one costs no two.
    size = min(length, -(-math.ceil((length + rim * (count - 1)) / count) // 16) * 16)
    step = size - rim
    done = 0
    for number in range(count):
        start = min(number * step, length - size)
        stop = length if number == count - 1 else start + size - HALO_PX
        yield start, size, done, stop - done
        done = stop


def _reduce(read: ReadRgb, size: tuple[int, int]) -> Rgb:
    """The picture with its long side at ``OVERVIEW_PX``, by area, read in bands."""
    height, width = size
    factor = math.ceil(max(size) / OVERVIEW_PX)
    rows = max(factor, _BAND_PX // width // factor * factor)
    bands: list[Rgb] = []
    for top in range(0, height, rows):
        tall = min(rows, height - top)
        band = np.clip(np.nan_to_num(read(Box(top, 0, tall, width))), 0, 1)
        small = (max(1, width // factor), max(1, tall // factor))
        resized = cv2.resize(band, small, interpolation=cv2.INTER_AREA)
        bands.append(np.asarray(resized, np.float32))
    return np.concatenate(bands)


def _merge(maps: Maps, glance: Maps) -> None:
    """Raise maps to an overview's answer, enlarged in bands."""
    _, height, width = maps.shape
    rows = max(1, _BAND_PX // width)
    for plane, small in zip(maps, glance, strict=True):
        if not small.any():
            continue
        columns = (np.arange(width, dtype=np.float32) + 0.5) * (small.shape[1] / width) - 0.5
        for top in range(0, height, rows):
            tall = min(rows, height - top)
            lines = (np.arange(top, top + tall, dtype=np.float32) + 0.5) * (
                small.shape[0] / height
            ) - 0.5
            grid = (np.broadcast_to(columns, (tall, width)),
                    np.broadcast_to(lines[:, None], (tall, width)))  # fmt: skip
            large = cv2.remap(small, np.ascontiguousarray(grid[0]), np.ascontiguousarray(grid[1]),
                              cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # fmt: skip
            band = plane[top : top + tall]
            np.maximum(band, np.asarray(large, np.uint8), out=band)


def _read_from(image: Rgb) -> ReadRgb:
    return lambda box: image[box.slices()]


def pick_maps(maps: Maps, classes: Sequence[str]) -> dict[str, Maps]:
    """Return the maps of some classes by name, each (H, W) uint8."""
    return {name: maps[CLASSES.index(name)] for name in classes}
