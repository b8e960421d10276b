"""The Inpainter: from a picture in RGB floats and its mask to the colours of the hole.

    inpainter = Inpainter(load_generator(None, device), device)
    for patch in inpainter.inpaint(read_rgb, mask):        # or an (H, W, 3) float32 array
        page_samples = rgb_to_native(page, patch.box, patch.rgb, mask[patch.box.slices()])

``read_rgb(box)`` gives the (h, w, 3) float32 RGB of a box, in [0, 1]; only boxes around holes are
asked for, so a picture is never turned into floats whole. The patches do not overlap and hold every
hole pixel once. On a CPU every network call is one window of a shape that depends on the mask
alone, so the answer is the same bytes in any batch and with any number of jobs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.utils import convert_conv2d_weight_memory_format

from restorepix.batching import (
    BatchCaller,
    Caller,
    ThreadCaller,
    Wait,
    begin_fetch,
    is_out_of_memory,
    log,
)
from restorepix.errors import WeightsError
from restorepix.guide import Guide, build_guides, paste_guides, sanitize_rgb
from restorepix.photo import BoolMask
from restorepix.progress import CALLS
from restorepix.tiles import CORE_PX, Box, Window, plan_blocks, plan_windows

Rgb = npt.NDArray[np.float32]
ReadRgb = Callable[[Box], Rgb]

BLOCK_PX: Final = 256
"""Largest side of a patch; patches are cut on a grid of this pitch."""

GPU_BATCH_PX: Final = 16 * 256 * 256
"""Pixels in one network call on a GPU: 16 small or 4 large windows. A guess, to be measured."""


class Patch(NamedTuple):
    """The colours of the hole pixels inside one box."""

    box: Box
    rgb: Rgb
    """(h, w, 3) float32 RGB in [0, 1] at hole pixels, 0 at known pixels."""


class _WindowTooLargeError(Exception):
    """One window alone does not fit into the device's memory."""

    def __init__(self, size_px: int) -> None:
        super().__init__(size_px)
        self.size_px = size_px


class Inpainter:
    """Runs a generator over the holes of pictures; one instance serves a whole batch of files."""

    def __init__(
        self,
        generator: torch.nn.Module,
        device: torch.device,
        *,
        dtype: torch.dtype | None = None,
        batch_px: int | None = None,
        average_flips: bool = False,
        threads: int = 1,
    ) -> None:
        """Take over a generator: move it to the device, in the precision it runs in there.

        Args:
            generator: Module called as ``generator(image, mask)``: image (B, 3, H, W) float32 in
                [-1, 1], mask (B, 1, H, W) float32 in {0, 1}, 1 = hole. Its answer's ``refined``
                is (B, 3, H, W) in [-1, 1] and is read inside the hole only.
            device: Where to run.
            dtype: Precision of the convolutions; default ``choose_dtype(device)``.
            batch_px: Most pixels in one network call. By default a CPU takes one window a call,
                as its results vary in the last bits with the size of the batch, and any other
                device ``GPU_BATCH_PX``.
            average_flips: Average the answers for the window and its three mirror images:
                four times the work for about 0.1 dB on thin holes.
            threads: Windows of one picture that a CPU works on at a time; the answer is the same
                bytes for any number, as long as PyTorch itself runs each call in one thread
                (``torch.set_num_threads(1)``).
        """
        self.device = device
        self.dtype = choose_dtype(device) if dtype is None else dtype
        self.average_flips = average_flips
        if batch_px is None:
            batch_px = 1 if device.type == "cpu" else GPU_BATCH_PX
        self._caller: Caller
        if batch_px == 1:
            self._caller = ThreadCaller(self._launch, threads)
        else:
            self._caller = BatchCaller(self._launch, batch_px, str(device))
        self._largest = max(CORE_PX)
        self._generator: torch.nn.Module = generator.eval()
        self._generator.to(device=device, dtype=self.dtype)
        convert_conv2d_weight_memory_format(self._generator, torch.channels_last)

    def inpaint(self, image: Rgb | ReadRgb, mask: BoolMask) -> list[Patch]:
        """Return the colours of every hole pixel of a picture.

        A hole too thick for one look is first filled at half the resolution (recursively), and
        that guides the full resolution; see ``restorepix.guide``. When the device runs out of
        memory, the batch is halved, then the window, and the limit found is kept for later calls.

        Args:
            image: (H, W, 3) float32 RGB in [0, 1], or a function that returns those of a box.
                Hole pixels may hold anything. NaN counts as 0; values are clipped to [0, 1].
            mask: (H, W) bool, True = hole.

        Returns:
            Patches that do not overlap and hold every hole pixel once, in raster order of a grid
            of 256 px. Empty for no hole.

        Raises:
            ValueError: If the mask is not a non-empty (H, W) bool array, or the image differs
                from it in size.
            WeightsError: If the network's answer is not finite.
            torch.OutOfMemoryError: If one window of the smallest size does not fit.
        """
        if mask.ndim != 2 or mask.dtype != np.bool_ or mask.size == 0:
            raise ValueError(f"the mask must be a non-empty (H, W) bool array, not {mask.shape}")
        read = image if callable(image) else _read_from(image, mask)
        while True:
            try:
                return self._inpaint(read, mask)
            except _WindowTooLargeError as error:
                smaller = [size for size in CORE_PX if size < self._largest]
                if not smaller:
                    assert error.__cause__ is not None
                    raise error.__cause__ from None
                self._largest = max(smaller)
                log.warning(
                    "%s has too little memory for a window of %d px: smaller ones from now on.",
                    self.device,
                    error.size_px,
                )

    def _inpaint(self, read: ReadRgb, mask: BoolMask) -> list[Patch]:
        guides = build_guides(read, mask, self._fill)
        open_mask = mask
        if guides:
            open_mask = mask.copy()
            for guide in guides:
                open_mask[guide.box.slices()] &= ~guide.guided
        blocks = _Blocks(mask)
        for window, rgb in self._predict_windows(read, open_mask, guides):
            blocks.add(window, rgb)
        patches: list[Patch] = []
        for box, rgb in blocks.finish():
            rgb[~mask[box.slices()]] = 0
            patches.append(Patch(box, paste_guides(rgb, box, guides)))
        return patches

    def _fill(self, image: Rgb, mask: BoolMask) -> Rgb:
        """Return a copy of an (H, W, 3) image with its hole filled, for the guides."""
        filled = image.copy()
        for box, rgb in self._inpaint(_read_from(image, mask), mask):
            hole = mask[box.slices()]
            filled[box.slices()][hole] = rgb[hole]
        return filled

    def _predict_windows(
        self, read: ReadRgb, mask: BoolMask, guides: Sequence[Guide]
    ) -> Iterator[tuple[Window, Rgb]]:
        """Yield every window of a mask with the network's (h, w, 3) RGB for it."""
        windows = plan_windows(mask, largest=self._largest)
        # Equal shapes side by side, so that they can share a batch.
        windows.sort(key=_window_shape)
        handed_over: deque[tuple[Window, Wait]] = deque()
        with CALLS.plan(len(windows)) as advance:
            for window in windows:
                image = paste_guides(sanitize_rgb(read(window.box)), window.box, guides)
                hole = mask[window.box.slices()]
                try:
                    handed_over.append((window, self._caller.submit(image, hole)))
                except RuntimeError as error:
                    self._check_memory(window, error)
                    raise
                ahead = self._caller.count_ahead(window.box.height, window.box.width)
                while len(handed_over) > ahead:
                    yield self._take_answer(*handed_over.popleft(), mask)
                    advance()
            while handed_over:
                yield self._take_answer(*handed_over.popleft(), mask)
                advance()

    def _take_answer(self, window: Window, wait: Wait, mask: BoolMask) -> tuple[Window, Rgb]:
        try:
            rgb = wait()
        except RuntimeError as error:
            self._check_memory(window, error)
            raise
        if not np.isfinite(rgb[mask[window.box.slices()]]).all():
            raise WeightsError(
                "the network's answer is not finite: its weights are damaged or do not suit this "
                "precision. Install the weights again, or run with --device cpu."
            )
        return window, rgb

    def _check_memory(self, window: Window, error: RuntimeError) -> None:
        """Give up on a size of window of which not even one fits.

        Raises:
            _WindowTooLargeError: memory ran out.
        """
        if is_out_of_memory(error):
            raise _WindowTooLargeError(max(_window_shape(window))) from error

    def _launch(self, images: Rgb, masks: BoolMask) -> Wait:
        """Begin a call for (B, h, w, 3) images in [0, 1] and (B, h, w) masks.

        Returns:
            A function that waits for the network's (B, h, w, 3) RGB in [0, 1].
        """
        # Weights are in self.dtype, images stay in float32: autocast turns them round at each
        # convolution, and the generator adds its residuals in full precision. Measured on one
        # core: as fast as casting the images too (57 ms for 256 px), and a mean error of 0.10
        # grey levels against float32 in place of 0.14, at most 0.6 in place of 1.1.
        precise = self.dtype == torch.float32
        autocast = nullcontext() if precise else torch.autocast(self.device.type, self.dtype)
        with torch.inference_mode(), autocast:
            image = self._move(images).movedim(3, 1) * 2 - 1
            mask = self._move(masks).to(torch.float32)[:, None]
            flips: list[tuple[int, ...]] = [()]
            if self.average_flips:
                flips += [(2,), (3,), (2, 3)]
            total = torch.zeros_like(image)
            for dims in flips:
                answer: Any = self._generator(image.flip(dims), mask.flip(dims))
                predicted: torch.Tensor = answer.refined
                total += predicted.float().flip(dims)
            rgb = (total / (2 * len(flips)) + 0.5).clamp(0, 1).movedim(1, 3)
        return begin_fetch(rgb)

    def _move(self, array: npt.NDArray[Any]) -> torch.Tensor:
        """Return an array on the device; from pinned memory a GPU fetches it by itself."""
        tensor = torch.tensor(array)
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)


class _Blocks:
    """Weighted sums of overlapping windows, kept for the blocks that hold holes."""

    def __init__(self, mask: BoolMask) -> None:
        self._boxes = plan_blocks(mask, side_px=BLOCK_PX)
        self._at = {(b.top // BLOCK_PX, b.left // BLOCK_PX): i for i, b in enumerate(self._boxes)}
        self._sums = [np.zeros((b.height, b.width, 3), np.float32) for b in self._boxes]
        self._weights = [np.zeros((b.height, b.width, 1), np.float32) for b in self._boxes]

    def add(self, window: Window, rgb: Rgb) -> None:
        """Add a window's (h, w, 3) RGB to every block that it reaches."""
        reach = window.reach()
        for row in range(reach.top // BLOCK_PX, (reach.bottom - 1) // BLOCK_PX + 1):
            for column in range(reach.left // BLOCK_PX, (reach.right - 1) // BLOCK_PX + 1):
                index = self._at.get((row, column))
                if index is None:
                    continue
                box = self._boxes[index]
                part = reach.intersect(box)
                if part is None:
                    continue
                weights = window.weights(part)[..., None]
                here = part.shift(-window.box.top, -window.box.left).slices()
                there = part.shift(-box.top, -box.left).slices()
                self._sums[index][there] += weights * rgb[here]
                self._weights[index][there] += weights

    def finish(self) -> Iterator[tuple[Box, Rgb]]:
        """Yield each block's box and its blended RGB, valid at the windows' hole pixels."""
        for box, sums, weights in zip(self._boxes, self._sums, self._weights, strict=True):
            weights[weights == 0] = 1  # no window reaches here, so no open hole pixel does
            sums /= weights
            yield box, sums


def _window_shape(window: Window) -> tuple[int, int]:
    return window.box.height, window.box.width


def choose_dtype(device: torch.device) -> torch.dtype:
    """Return the precision that a device runs convolutions fastest in without overflow.

    bfloat16 on GPUs that have it and on CPUs with AMX or AVX-512 BF16 (measured on one core of an
    AMD EPYC: 3x3 convolutions twice as fast as float32; float16 ten times slower); float32
    elsewhere. float16 is not used: its range is untested with our weights.
    """
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        fast = _cpu_has("_is_amx_tile_supported") or _cpu_has("_is_avx512_bf16_supported")
    else:
        fast = False
    return torch.bfloat16 if fast else torch.float32


def _cpu_has(probe: str) -> bool:
    # Private names of torch.cpu; a version without them runs in float32.
    function: Callable[[], bool] | None = getattr(torch.cpu, probe, None)
    return function is not None and function()


def _read_from(image: Rgb, mask: BoolMask) -> ReadRgb:
    if image.shape != (*mask.shape, 3):
        raise ValueError(f"the image is {image.shape}, expected {(*mask.shape, 3)}")
    return lambda box: image[box.slices()]
