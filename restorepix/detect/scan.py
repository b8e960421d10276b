"""The detector over a picture of any size: tiles at full resolution, and the whole at a glance.

Thin damage needs every pixel, so the picture is scanned at full resolution in overlapping tiles;
letters and marks are often larger than those the network learnt from, so it sees the picture at
half and at a quarter of that too, and its logits are averaged (``OCTAVES``). What is larger still
is seen in an overview, the picture reduced to ``OVERVIEW_PX``; there the higher answer counts.
Tiles without any structure cannot hold visible damage and are left out. Only one tile a thread is
ever turned into floats; maps and reduced pictures are kept in 8 bit, and a picture of 8 bit is
reduced and handed to the network without becoming floats on the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.nn.utils import convert_conv2d_weight_memory_format

from restorepix.errors import WeightsError
from restorepix.models.detector import CLASSES, answer
from restorepix.progress import CALLS
from restorepix.tiles import Box

Rgb = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
ReadRgb = Callable[[Box], Rgb | Bytes]
Maps = npt.NDArray[np.uint8]

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

FLAT_LEVELS: Final = 5
"""A tile whose brightest and darkest sample are fewer levels of 255 apart in every channel is left
out: what differs by less counted as invisible in training too."""

_BAND_PX: Final = 1 << 21
"""Pixels of a picture halved at once."""


class _Target(NamedTuple):
    """Where the answer to tiles goes."""

    maps: Maps
    """Of the whole picture that the tiles are cut from."""
    coarse: Sequence[Maps] = ()
    """Of that picture at half, a quarter and so on, averaged in; none for the bare answer."""
    overview: Maps | None = None
    """Of the picture at a glance: where it is higher it counts."""


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
        self._floors = tuple(floors)
        self._device, self._dtype = device, dtype
        self._threads = threads if device.type == "cpu" else 1
        self._detector = detector.eval()
        self._detector.to(device=device, dtype=dtype)
        convert_conv2d_weight_memory_format(self._detector, torch.channels_last)
        inputs = _to_input(torch.arange(256) / 255, dtype)
        # OpenCV does not know bfloat16, and need not: what it looks up is bits.
        self._inputs = (inputs.view(torch.int16) if inputs.itemsize == 2 else inputs).numpy()

    def scan(self, image: Rgb | Bytes | ReadRgb, size: tuple[int, int]) -> Maps:
        """Return how likely each pixel is damage of each class.

        Args:
            image: (H, W, 3) RGB, float32 in [0, 1] or uint8 in [0, 255], or a function that returns
                that of a box. NaN counts as 0; values are clipped to [0, 1].
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
        more, overview = len(self._octaves) - 1, None
        if max(size) <= 1.5 * OVERVIEW_PX:
            coarse, _ = self._scan_reduced(_halve(read, size, more))
        else:
            reduced = _halve(read, size, max(1, more))
            factor = math.ceil(max(reduced[0].shape) / OVERVIEW_PX)
            if factor <= min(2, more):  # the overview is the half or the quarter, looked at anyway
                last = reduced[-1]
                reduced += _halve(_read_from(last), last.shape[:2], factor + more - len(reduced))
                coarse, overview = self._scan_reduced(reduced, factor - 1)
            else:
                small = _reduce(_read_from(reduced[0]), reduced[0].shape[:2], factor)
                smaller = _halve(_read_from(small), small.shape[:2], more)
                _, overview = self._scan_reduced([small, *smaller], 0)
                coarse, _ = self._scan_reduced(reduced[:more])
        maps = np.zeros((len(CLASSES), *size), np.uint8)
        self._scan_tiles(read, [_Target(maps, coarse[:more], overview)])
        return maps

    def _scan_reduced(
        self, pictures: Sequence[Bytes], averaged: int | None = None
    ) -> tuple[list[Maps], Maps | None]:
        """Answer pictures of which each is half the one before.

        Args:
            pictures: (H, W, 3) each.
            averaged: which of them is wanted averaged with those after it, too.

        Returns:
            The bare answer to each, and the averaged one.
        """
        bare: list[Maps] = []
        average: Maps | None = None
        for number, picture in reversed(list(enumerate(pictures))):
            maps = np.zeros((len(CLASSES), *picture.shape[:2]), np.uint8)
            targets = [_Target(maps)]
            if number == averaged:
                average = np.zeros_like(maps)
                targets.append(_Target(average, bare[: len(self._octaves) - 1]))
            self._scan_tiles(_read_from(picture), targets)
            bare.insert(0, maps)
        return bare, average

    def _scan_tiles(self, read: ReadRgb, targets: Sequence[_Target]) -> None:
        """Fill the maps of a picture tile by tile."""
        tiles = plan_tiles(*targets[0].maps.shape[1:])
        with CALLS.plan(len(tiles)) as advance:

            def work(tile: tuple[Box, Box]) -> None:
                self._scan_tile(read, targets, tile)
                advance()

            if self._threads == 1 or len(tiles) == 1:
                for tile in tiles:
                    work(tile)
                return
            with ThreadPoolExecutor(self._threads) as pool:
                for _ in pool.map(work, tiles):
                    pass

    def _scan_tile(self, read: ReadRgb, targets: Sequence[_Target], tile: tuple[Box, Box]) -> None:
        box, core = tile
        found = self._answer(read(box), core.shift(-box.top, -box.left))
        rows, columns = core.slices()
        for maps, coarse, overview in targets:
            for number, plane in enumerate(maps):
                part = plane[rows, columns]
                if found is not None:
                    small = [octave[number] for octave in coarse]
                    part[:] = self._mix(found[number], self._floors[number], small, core, plane)
                if overview is not None:
                    np.maximum(part, _enlarge(overview[number], core, plane.shape), out=part)

    @torch.inference_mode()
    def _answer(self, pixels: Rgb | Bytes, inner: Box) -> torch.Tensor | None:
        """Logits (3, h, w) of the inner part of a tile; None for a flat one."""
        if pixels.dtype != np.uint8:
            pixels = _clean(pixels)
        if _is_flat(pixels[::8, ::8]) and _is_flat(pixels):
            return None
        if pixels.dtype == np.uint8:
            samples = torch.as_tensor(np.asarray(cv2.LUT(pixels, self._inputs)))
            image = samples.view(self._dtype) if samples.dtype == torch.int16 else samples
        else:
            image = _to_input(torch.as_tensor(pixels), self._dtype)
        image = image.permute(2, 0, 1)[None].to(self._device)
        rows, columns = inner.slices()
        found = answer(self._detector, image)[0][:, rows, columns]
        if not bool(torch.isfinite(torch.stack(torch.aminmax(found))).all()):
            raise WeightsError(
                "the detector's answer is not finite: its weights are damaged or do not suit "
                "this precision. Install the weights again, or run with --device cpu."
            )
        return found.cpu()

    @torch.inference_mode()
    def _mix(
        self,
        found: torch.Tensor,
        floor: float,
        coarse: Sequence[Maps],
        part: Box,
        plane: Maps,
    ) -> Maps:
        """Levels of one class in a part of a picture, averaged with those of reduced ones."""
        logits = found.to(torch.float32, copy=True)
        if coarse:
            logits.clamp_(min=floor).mul_(self._octaves[0])
            for weight, small in zip(self._octaves[1:], coarse, strict=True):
                large = torch.as_tensor(_enlarge(small, part, plane.shape, _LOGITS))
                logits.add_(large.clamp_(min=floor), alpha=weight)
        return np.asarray(cv2.convertScaleAbs(logits.sigmoid_().numpy(), alpha=255), np.uint8)


def _to_input(samples: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What the network reads for samples in [0, 1]."""
    return samples.to(dtype).mul_(2).sub_(1)


def _clean(pixels: npt.NDArray[Any]) -> Rgb:
    """A copy in [0, 1] without NaN."""
    # Torch's are four times as fast as numpy's, and it warns of what is read-only.
    samples = torch.as_tensor(np.require(pixels, np.float32, "W"))
    return torch.nan_to_num(samples, 0.0).clamp_(0, 1).numpy()


def _is_flat(pixels: Rgb | Bytes) -> bool:
    scale = 255 if pixels.dtype != np.uint8 else 1
    low, high = (np.asarray(end((0, 1)), np.float32) for end in (pixels.min, pixels.max))
    return float((high - low).max()) * scale < FLAT_LEVELS


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


def _halve(read: ReadRgb, size: tuple[int, int], times: int) -> list[Bytes]:
    """The picture at half its size, at a quarter and so on."""
    halves: list[Bytes] = []
    for _ in range(times):
        halves.append(_reduce(read, size, 2))
        read, size = _read_from(halves[-1]), (halves[-1].shape[0], halves[-1].shape[1])
    return halves


def _reduce(read: ReadRgb, size: tuple[int, int], factor: int) -> Bytes:
    """The picture a whole number of times smaller, by area, read in bands; 0 to 255."""
    height, width = size
    small_height, small_width = (max(1, side // factor) for side in size)
    small = np.empty((small_height, small_width, 3), np.uint8)
    rows = max(1, _BAND_PX // (width * factor))
    for top in range(0, small_height, rows):
        stop = min(top + rows, small_height)
        bottom = height if stop == small_height else stop * factor
        band = read(Box(top * factor, 0, bottom - top * factor, width))
        if band.dtype != np.uint8:
            band = _clean(band)
        reduced = cv2.resize(band, (small_width, stop - top), interpolation=cv2.INTER_AREA)
        if band.dtype != np.uint8:
            reduced = cv2.convertScaleAbs(reduced, alpha=255)
        small[top:stop] = reduced
    return small


_SHARES: Final = np.clip(np.arange(256, dtype=np.float32), 0.5, 254.5) / 255
_LOGITS: Final = np.log(_SHARES / (1 - _SHARES))
"""What levels of a map stand for."""


def _enlarge(
    small: Bytes, part: Box, size: tuple[int, ...], table: Rgb | None = None
) -> npt.NDArray[Any]:
    """A part of a plane, out of the plane reduced; bilinear.

    Args:
        small: (H', W') the plane reduced.
        part: of the plane.
        size: (H, W), the plane's.
        table: (256,) what to put in the place of each level, before it is enlarged.

    Returns:
        (h, w) in the dtype of the table, else uint8.
    """
    scale = np.array(small.shape) / size
    starts = (np.array([part.top, part.left]) + 0.5) * scale - 0.5
    first = np.maximum(0, np.floor(starts).astype(int))
    stops = np.ceil((np.array([part.bottom, part.right]) + 0.5) * scale).astype(int) + 1
    cut = small[first[0] : stops[0], first[1] : stops[1]]
    if table is not None:
        cut = cv2.LUT(cut, table)
    factor = round(size[0] / small.shape[0])
    if all(factor * side == full for side, full in zip(small.shape, size, strict=True)):
        # Five times as fast as what follows.
        large = cv2.resize(cut, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
        top, left = part.top - factor * int(first[0]), part.left - factor * int(first[1])
        return large[top : top + part.height, left : left + part.width]
    down, across = starts - first
    move = np.array([[scale[1], 0, across], [0, scale[0], down]])
    return cv2.warpAffine(
        cut, move, (part.width, part.height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip


def _read_from(image: Rgb | Bytes) -> ReadRgb:
    return lambda box: image[box.slices()]


def pick_maps(maps: Maps, classes: Sequence[str]) -> dict[str, Maps]:
    """Return the maps of some classes by name, each (H, W) uint8."""
    return {name: maps[CLASSES.index(name)] for name in classes}
