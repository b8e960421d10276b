"""The detector over a picture of any size: tiles at full resolution, and the whole at a glance.

Thin damage needs every pixel, so the picture is scanned at full resolution in overlapping tiles;
letters and marks are often larger than those the network learnt from, so it sees the picture at
half and at a quarter of that too, and its logits are averaged (``OCTAVES``). What is larger still
is seen in an overview, the picture reduced to ``OVERVIEW_PX``; there the higher answer counts.
Tiles without any structure cannot hold visible damage and are left out. Only one tile a thread is
ever turned into floats; maps and reduced pictures are kept in 8 bit.
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
from restorepix.models.detector import CLASSES, answer
from restorepix.tiles import Box

Rgb = npt.NDArray[np.float32]
ReadRgb = Callable[[Box], Rgb]
Maps = npt.NDArray[np.uint8]
Bytes = npt.NDArray[np.uint8]

OCTAVES: Final = (4 / 7, 2 / 7, 1 / 7)
"""Weight of the logits at full, half and quarter size. On 200 damaged pictures like those of
training.calibrate the average precision of writing is 0.76 with these and 0.43 at full size alone,
of watermarks 0.39 and 0.34, of scratches 0.23 both times; weights fitted to each class are no
better by more than 0.01. Half and quarter size cost a third more time."""

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
        octaves: Sequence[float] = OCTAVES,
        floors: Sequence[float] = (-20.0,) * len(CLASSES),
    ) -> None:
        """Take over a detector: move it to the device, in the precision it runs in there.

        Args:
            detector: called with (B, 3, H, W) in [-1, 1], H and W multiples of 16, at least 32;
                its answer is (B, 3, H, W) logits in the order of ``CLASSES``.
            device: where to run.
            dtype: precision of the network.
            threads: tiles that a CPU works on at a time. The answer does not depend on it.
            octaves: weights of the answers at full size, half, quarter and so on.
            floors: of each class, the logit below which answers count as this in the average.
        """
        self._octaves = tuple(octaves)
        self._floors = torch.tensor(floors, dtype=torch.float32)[:, None, None]
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
        glance = max(size) > 1.5 * OVERVIEW_PX
        half = _reduce(read, size, 2) if glance or len(self._octaves) > 1 else None
        maps = self._scan_octaves(read, size, half)
        if glance and half is not None:
            factor = math.ceil(max(half.shape) / OVERVIEW_PX)
            small = _reduce(_read_from(half), half.shape[:2], factor)
            smaller = _reduce(_read_from(small), small.shape[:2], 2)
            _merge(maps, self._scan_octaves(_read_from(small), small.shape[:2], smaller))
        return maps

    def _scan_octaves(self, read: ReadRgb, size: tuple[int, int], half: Bytes | None) -> Maps:
        """The weighted answer at full and reduced sizes, where ``half`` is the picture halved."""
        coarse: list[Maps] = []
        reduced = half
        for number in range(1, len(self._octaves)):
            assert reduced is not None, "halved wherever there are octaves"
            if number > 1:
                reduced = _reduce(_read_from(reduced), reduced.shape[:2], 2)
            coarse.append(np.zeros((len(CLASSES), *reduced.shape[:2]), np.uint8))
            self._scan_tiles(_read_from(reduced), coarse[-1], ())
        maps = np.zeros((len(CLASSES), *size), np.uint8)
        self._scan_tiles(read, maps, coarse)
        return maps

    def _scan_tiles(self, read: ReadRgb, maps: Maps, coarse: Sequence[Maps]) -> None:
        """Fill the maps of a picture tile by tile, averaged with those of reduced ones if any."""
        tiles = plan_tiles(maps.shape[1], maps.shape[2])
        if self._threads == 1 or len(tiles) == 1:
            for tile in tiles:
                self._scan_tile(read, maps, coarse, tile)
            return

        def work(tile: tuple[Box, Box]) -> None:
            self._scan_tile(read, maps, coarse, tile)

        with ThreadPoolExecutor(self._threads) as pool:
            for _ in pool.map(work, tiles):
                pass

    def _scan_tile(
        self, read: ReadRgb, maps: Maps, coarse: Sequence[Maps], tile: tuple[Box, Box]
    ) -> None:
        box, core = tile
        rows, columns = core.slices()
        inner = core.shift(-box.top, -box.left).slices()
        with torch.inference_mode():
            pixels = torch.as_tensor(np.require(read(box), requirements="W"))  # or torch warns
            planes = torch.nan_to_num(pixels, 0.0).clamp_(0, 1).permute(2, 0, 1).contiguous()
            if _is_flat(planes[:, ::8, ::8]) and _is_flat(planes):
                return
            image = planes.to(self._device, self._dtype)[None].mul_(2).sub_(1)
            found = answer(self._detector, image)[0][:, inner[0], inner[1]]
            if not bool(torch.isfinite(found.sum())):
                raise WeightsError(
                    "the detector's answer is not finite: its weights are damaged or do not suit "
                    "this precision. Install the weights again, or run with --device cpu."
                )
            found = found.cpu()
            if coarse:
                found = torch.maximum(found, self._floors).mul_(self._octaves[0])
                for weight, small in zip(self._octaves[1:], coarse, strict=True):
                    logits = torch.tensor(_enlarge_logits(small, core, maps.shape))
                    found.add_(torch.maximum(logits, self._floors), alpha=weight)
            levels = torch.sigmoid(found).mul_(255).round_().to(torch.uint8)
        maps[:, rows, columns] = levels.numpy()


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


def _reduce(read: ReadRgb, size: tuple[int, int], factor: int) -> Bytes:
    """The picture a whole number of times smaller, by area, read in bands; 0 to 255."""
    height, width = size
    rows = max(factor, _BAND_PX // width // factor * factor)
    bands: list[Bytes] = []
    for top in range(0, height, rows):
        tall = min(rows, height - top)
        # Torch's are four times as fast as numpy's, and this is a twentieth of a whole scan.
        pixels = torch.as_tensor(np.require(read(Box(top, 0, tall, width)), requirements="W"))
        band = torch.nan_to_num(pixels, 0.0).clamp_(0, 1).numpy()
        small = (max(1, width // factor), max(1, tall // factor))
        resized = cv2.resize(band, small, interpolation=cv2.INTER_AREA)
        bands.append(np.asarray(cv2.convertScaleAbs(resized, alpha=255), np.uint8))
    return np.concatenate(bands)


_SHARES: Final = np.clip(np.arange(256, dtype=np.float32), 0.5, 254.5) / 255
_LOGITS: Final = np.log(_SHARES / (1 - _SHARES))
"""What levels of a map stand for."""


def _enlarge_logits(maps: Maps, part: Box, shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """Logits of a part of a picture, (3, h, w), out of the maps of a reduced one.

    Args:
        maps: (3, H', W') uint8 of the reduced picture.
        part: of the picture.
        shape: (3, H, W), the picture's.
    """
    scale = np.array([size / full for size, full in zip(maps.shape[1:], shape[1:], strict=True)])
    starts = (np.array([part.top, part.left]) + 0.5) * scale - 0.5
    first = np.maximum(0, np.floor(starts).astype(int))
    stops = np.ceil((np.array([part.bottom, part.right]) + 0.5) * scale).astype(int) + 1
    down, across = starts - first
    move = np.array([[scale[1], 0, across], [0, scale[0], down]])
    return np.stack(
        [
            np.asarray(
                cv2.warpAffine(
                    _LOGITS[plane[first[0] : stops[0], first[1] : stops[1]]], move,
                    (part.width, part.height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                    borderMode=cv2.BORDER_REPLICATE,
                ),
                np.float32,
            )
            for plane in maps
        ]
    )  # fmt: skip


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


def _read_from(image: Rgb | Bytes) -> ReadRgb:
    if image.dtype == np.uint8:
        return lambda box: image[box.slices()] * np.float32(1 / 255)
    return lambda box: np.asarray(image[box.slices()], np.float32)


def pick_maps(maps: Maps, classes: Sequence[str]) -> dict[str, Maps]:
    """Return the maps of some classes by name, each (H, W) uint8."""
    return {name: maps[CLASSES.index(name)] for name in classes}
