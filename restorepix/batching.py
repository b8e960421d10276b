"""Windows of pictures to and from the network: beside each other on a CPU, batched on a GPU.

On a CPU a call takes one window and one thread, since the last bits of an answer depend on the
size of the batch and on the number of threads in a call: several threads make several calls, and
the answer stays the same bytes. A GPU is fast only when a call takes many windows, so those of all
photographs in hand share calls there.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Condition, Event, Thread
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import torch

from restorepix.photo import BoolMask

Rgb = npt.NDArray[np.float32]
Wait = Callable[[], Rgb]
"""Waits for an answer and returns it, or raises what went wrong."""
Launch = Callable[[Rgb, BoolMask], Wait]
"""Begins a network call for (B, h, w, 3) RGB in [0, 1] and (B, h, w) bool masks, True = hole; the
function that it returns waits for the (B, h, w, 3) RGB in [0, 1]."""

_IN_FLIGHT: Final = 2
"""Calls begun and not waited for: the device has the next one when it finishes one."""
_IDLE_S: Final = 10.0

log = logging.getLogger("restorepix")


class Caller(Protocol):
    """Takes windows one by one and answers each."""

    def submit(self, image: Rgb, mask: BoolMask) -> Wait:
        """Hand over a window; it may be answered at once or later.

        Args:
            image: (h, w, 3) RGB in [0, 1].
            mask: (h, w), True = hole.
        """
        ...

    def count_ahead(self, height: int, width: int) -> int:
        """Return how many windows of a shape to hand over before waiting for the first."""
        ...


class ThreadCaller:
    """One window a call, several calls at a time: for CPUs."""

    def __init__(self, launch: Launch, threads: int) -> None:
        """Make up to ``threads`` calls at a time; with 1, each in the caller's own thread."""
        self._launch = launch
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "window") if threads > 1 else None

    def submit(self, image: Rgb, mask: BoolMask) -> Wait:
        """Answer a window; see :class:`Caller`."""
        if self._pool is None:
            rgb = self._call(image, mask)
            return lambda: rgb
        return self._pool.submit(self._call, image, mask).result

    def count_ahead(self, height: int, width: int) -> int:
        """Return one window a thread, and none where there is one thread."""
        return 0 if self._pool is None else self._threads

    def _call(self, image: Rgb, mask: BoolMask) -> Rgb:
        return self._launch(image[None], mask[None])()[0]


@dataclass(eq=False)
class _Item:
    image: Rgb
    mask: BoolMask
    is_done: Event = field(default_factory=Event)
    rgb: Rgb | None = None
    error: BaseException | None = None


class BatchCaller:
    """Windows of one shape from whoever has some, many a call: for GPUs.

    A call begins when it is full, or when somebody waits and the device has nothing to do. While
    the device works on one call the next one is made ready and begun. When the device runs out of
    memory the batch is halved, which is remembered and said once each time.
    """

    def __init__(self, launch: Launch, batch_px: int, device: str) -> None:
        """Put up to ``batch_px`` pixels into a call.

        Args:
            launch: begins a call.
            batch_px: most pixels of a call that takes more than one window.
            device: what to call the device when its memory is too small.
        """
        self._launch = launch
        self._batch_px = batch_px
        self._device = device
        self._condition = Condition()
        self._waiting: dict[tuple[int, int], deque[_Item]] = {}
        self._blocked = 0
        self._thread: Thread | None = None

    def submit(self, image: Rgb, mask: BoolMask) -> Wait:
        """Put a window into the next call of its shape; see :class:`Caller`."""
        item = _Item(image, mask)
        height, width = mask.shape
        with self._condition:
            self._waiting.setdefault((height, width), deque()).append(item)
            if self._thread is None:
                self._thread = Thread(target=self._run, name="batches", daemon=True)
                self._thread.start()
            self._condition.notify()

        def wait() -> Rgb:
            if not item.is_done.is_set():
                with self._condition:
                    self._blocked += 1
                    self._condition.notify()
                item.is_done.wait()
                with self._condition:
                    self._blocked -= 1
            if item.error is not None:
                raise item.error
            assert item.rgb is not None
            return item.rgb

        return wait

    def count_ahead(self, height: int, width: int) -> int:
        """Return enough for the calls in flight and the one that is made ready."""
        return (_IN_FLIGHT + 1) * self._count(height, width)

    def _count(self, height: int, width: int) -> int:
        return max(1, self._batch_px // (height * width))

    def _run(self) -> None:
        flying: deque[tuple[list[_Item], Wait]] = deque()
        while True:
            with self._condition:
                batch = self._choose(only_full=bool(flying))
                while not batch and not flying:
                    if not self._condition.wait(_IDLE_S) and not self._waiting:
                        self._thread = None
                        return
                    batch = self._choose(only_full=False)
            if batch:
                self._begin(batch, flying)
            if flying and (not batch or len(flying) >= _IN_FLIGHT):
                self._finish(*flying.popleft())

    def _choose(self, *, only_full: bool) -> list[_Item]:
        """Take a full batch, or where somebody waits and the device rests, a part of one."""
        for shape, items in self._waiting.items():
            count = self._count(*shape)
            if len(items) >= count or (self._blocked and not only_full):
                batch = [items.popleft() for _ in range(min(count, len(items)))]
                # Behind the other shapes, so that none has to wait for ever.
                del self._waiting[shape]
                if items:
                    self._waiting[shape] = items
                return batch
        return []

    def _begin(self, batch: list[_Item], flying: deque[tuple[list[_Item], Wait]]) -> None:
        try:
            images = np.stack([item.image for item in batch])
            masks = np.stack([item.mask for item in batch])
            flying.append((batch, self._launch(images, masks)))
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._fail(batch, error)

    def _finish(self, batch: list[_Item], wait: Wait) -> None:
        try:
            predicted = wait()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._fail(batch, error)
            return
        for item, rgb in zip(batch, predicted, strict=True):
            item.rgb = rgb
            item.is_done.set()

    def _fail(self, batch: Sequence[_Item], error: BaseException) -> None:
        """Try a batch that did not fit again in two, or tell everybody who waits for it."""
        if len(batch) > 1 and is_out_of_memory(error):
            height, width = batch[0].mask.shape
            half = len(batch) // 2
            with self._condition:
                if half * height * width < self._batch_px:
                    self._batch_px = half * height * width
                    log.warning(
                        "%s has too little memory for %d windows of %d x %d px at a time: "
                        "%d from now on.",
                        self._device, len(batch), width, height, half,
                    )  # fmt: skip
                items = self._waiting.setdefault((height, width), deque())
                items.extendleft(reversed(batch))
            return
        # The frames in the traceback hold the failed call's memory.
        plain = error.with_traceback(None)
        for item in batch:
            item.error = plain
            item.is_done.set()


def begin_fetch(rgb: torch.Tensor) -> Wait:
    """Begin to bring an answer back from its device; what is returned waits for it.

    On a CUDA GPU the copy into pinned memory is queued right behind the call that it belongs to,
    with an event behind it. A copy that is asked for only when somebody waits would queue behind
    the next call, which has begun by then, and the device would rest until the one after that.

    Args:
        rgb: (B, h, w, 3) float32 on any device.
    """
    if rgb.device.type != "cuda":
        return lambda: rgb.cpu().numpy()
    answer = torch.empty(rgb.shape, dtype=rgb.dtype, pin_memory=True)
    answer.copy_(rgb, non_blocking=True)
    arrived = torch.cuda.current_stream(rgb.device).record_event()

    def wait() -> Rgb:
        arrived.synchronize()
        return answer.numpy()

    return wait


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a device, or the machine, had too little memory for a call."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # What PyTorch's allocators for CPUs and Apple GPUs say.
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
