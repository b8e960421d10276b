"""A generator that ``torch.compile`` makes faster, for runs that ask for it.

Only windows of the usual sizes are compiled, each when the first of it comes: compiling takes half
a minute of a core, and windows of small pictures have as many sizes as the pictures. What runs
compiled depends on a window's size alone and who needs it waits, so outputs do not depend on the
order of photographs or on ``--jobs``.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from restorepix.batching import is_out_of_memory
from restorepix.models.generator import Generator, choose_by_width
from restorepix.tiles import WINDOW_SIZES

_SIZES: Final = {(side, side) for side in WINDOW_SIZES}

log = logging.getLogger("restorepix")

_compile = cast("Callable[..., Any]", torch.compile)  # pyright: ignore[reportUnknownMemberType]
# What torch.compile's own page tells to use for this; it has no types.
_dynamo: Any = importlib.import_module("torch._dynamo")


class CompiledGenerator(nn.Module):
    """Calls a generator, compiled where that pays; without a compiler it says so and goes on."""

    def __init__(
        self,
        generator: nn.Module,
        device: torch.device,
        backend: str | Callable[..., Any] = "inductor",
    ) -> None:
        """Wrap a generator; nothing is compiled yet.

        Args:
            generator: called as ``generator(image, mask)``; see
                :class:`restorepix.inpaint.Inpainter`.
            device: where it is going to run.
            backend: of ``torch.compile``.
        """
        super().__init__()
        self.generator = generator
        self._is_cpu = device.type == "cpu"
        self._backend = backend
        self._compiled: Any = None
        self._ready: set[tuple[int, ...]] = set()
        self._lock = Lock()
        self._is_given_up = False

    def forward(self, image: Tensor, mask: Tensor) -> Any:
        """Return what the generator does; its answer may differ by a level.

        Args:
            image: (B, 3, H, W) float32 in [-1, 1].
            mask: (B, 1, H, W) float32 in {0, 1}, 1 = hole.
        """
        size = tuple(image.shape[-2:])
        if size not in _SIZES or self._is_given_up:
            return self.generator(image, mask)
        if size not in self._ready:
            with self._lock:
                if size not in self._ready and not self._is_given_up:
                    return self._compile(size, image, mask)
            return self(image, mask)
        return self._call(image, mask)

    def _compile(self, size: tuple[int, ...], image: Tensor, mask: Tensor) -> Any:
        log.warning(
            "--compile: compiling the network for windows of %d px; photographs wait for it.",
            size[0],
        )
        try:
            if self._compiled is None:
                self._compiled = self._prepare()
            answer = self._call(image, mask)
        except RuntimeError as error:  # the root of what compilers raise
            if is_out_of_memory(error):
                raise
            self._is_given_up = True
            log.warning(
                "--compile: the network cannot be compiled on this machine (%s), so the run goes "
                "on without. Install a C++ compiler%s, or leave --compile out.",
                _tell(error),
                "" if self._is_cpu else " and Triton",
            )
            return self.generator(image, mask)
        self._ready.add(size)
        return answer

    def _prepare(self) -> Any:
        # One process is enough for a few dozen kernels, and leaves no others behind. Read when the
        # compiler is first loaded. Weights as constants ("freezing") were as fast and took longer.
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
        generator = self.generator
        if not (isinstance(generator, Generator) and generator.thin is not None):
            return _compile(generator, dynamic=False, backend=self._backend)
        # Which weights a window asks for is looked at before what is compiled begins.
        wide, thin = (
            _compile(part.fill_hole, dynamic=False, backend=self._backend)
            for part in (generator, generator.thin)
        )
        return partial(choose_by_width, generator.config.thin_px, wide, thin)

    def _call(self, image: Tensor, mask: Tensor) -> Any:
        if not self._is_cpu:
            # Batches on a GPU are not always full: one compilation for one window, one for more.
            for tensor in (image, mask):
                _dynamo.maybe_mark_dynamic(tensor, 0)
        return self._compiled(image, mask)


def _tell(error: BaseException) -> str:
    inner: object = getattr(error, "inner_exception", None)  # of what a compiler raised
    if isinstance(inner, BaseException):
        error = inner
    line = (str(error).strip().splitlines() or [""])[0].rstrip(".:")
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
