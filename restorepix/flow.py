"""Where holes took their content from: pictures of a network's attention.

For every cell of a hole, contextual attention weighs all known cells and copies from the best. The
offset to that one is shown in the colours of optical flow, as in Yu et al., "Generative Image
Inpainting with Contextual Attention" (CVPR 2018), figure 5: the hue is the direction to go, the
saturation the distance, in shares of the longest one in the picture. Known pixels are the
photograph, pale and grey; hole pixels that have no source (nothing is known in their window) are
black.

A wide hole is filled at half the resolution first (:mod:`restorepix.guide`); there the offsets are
those of the half resolution, doubled. The fine detail that such a hole borrows on top is not shown:
it is no attention.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from restorepix.errors import UsageError, WriteError
from restorepix.models.registry import TWO_STAGE
from restorepix.photo import BoolMask, Page, Photo
from restorepix.tiles import Box

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from restorepix.inpaint import Inpainter
    from restorepix.masks import FoundMask, MaskFile
    from restorepix.options import RestoreOptions
    from restorepix.pipeline import Repaint, Repair
    from restorepix.weights import WeightsFile

Rgb = npt.NDArray[np.float32]
Offsets = npt.NDArray[np.float32]
ReadRgb = Callable[[Box], Rgb]

DEEPFILL: Final = "lab-deepfill-1"
STEP_PX: Final = 8
"""Side of the cells that attention compares, in pixels."""
_PALE: Final = 0.25
"""How strongly known pixels show."""


def check_attention(weights: WeightsFile) -> None:
    """Refuse weights whose attention does not run.

    Raises:
        UsageError: they have none, or it is switched off.
    """
    name, config = weights.architecture.name, weights.config
    if name == TWO_STAGE:
        if not config.get("attention", True):
            raise UsageError(
                f"--show-attention: the weights {weights.path.name} have their attention switched "
                "off (docs/design.md tells why), so holes take nothing that could be shown. Pass "
                "--weights with a model whose attention runs, such as deepfill-v1."
            )
    elif name != DEEPFILL or config.get("branch", "contextual") != "contextual":
        raise UsageError(
            f"--show-attention: the weights {weights.path.name} ({name}) have no contextual "
            "attention. Pass --weights with a model that has it, such as deepfill-v1."
        )


class AttentionRepair:
    """A repair that also writes a picture of what its attention looked at."""

    def __init__(self, repair: Repair, options: RestoreOptions) -> None:
        """Wrap a repair.

        Args:
            repair: does the work.
            options: its ``show_attention`` is the folder to write into.

        Raises:
            UsageError: the folder is none, or the weights have no attention that runs.
            WeightsError: the weights are missing or damaged.
        """
        from restorepix.weights import find_weights

        assert options.show_attention is not None
        self._repair, self._options, self._folder = repair, options, options.show_attention
        if self._folder.exists() and not self._folder.is_dir():
            raise UsageError(f"--show-attention {self._folder}: expected a folder, found a file.")
        self._weights = find_weights(
            options.weights, download=options.download, repo=options.weights_repo
        )
        check_attention(self._weights)
        self._lock = Lock()
        self._tracer: Tracer | None = None

    @property
    def needs_mask(self) -> bool:
        """As the repair's."""
        return self._repair.needs_mask

    @property
    def device(self) -> str:
        """As the repair's."""
        return self._repair.device

    @property
    def weights_sha256(self) -> str:
        """As the repair's."""
        return self._repair.weights_sha256

    @property
    def identity(self) -> Mapping[str, Any]:
        """As the repair's: pictures of attention change no output."""
        return self._repair.identity

    def glance(
        self, sizes: Sequence[tuple[int, int]], name: str, given: MaskFile | None
    ) -> FoundMask | None:
        """As the repair does."""
        return self._repair.glance(sizes, name, given)

    def find(self, photo: Photo, name: str, given: MaskFile | None) -> FoundMask:
        """As the repair does."""
        return self._repair.find(photo, name, given)

    def repaint(self, photo: Photo, found: FoundMask, name: str) -> Repaint:
        """As the repair does; then write where the holes took their content from.

        Raises:
            PhotoError: as the repair.
            WriteError: the picture cannot be written.
        """
        painted = self._repair.repaint(photo, found, name)
        for number, (page, mask) in enumerate(zip(photo.pages, found.mask.pages, strict=True), 1):
            if mask is not None and mask.any():
                place = place_picture(self._folder, name, number if len(photo.pages) > 1 else None)
                with self._lock:  # hooks catch one window at a time
                    picture = draw_attention(page, mask, self._load())
                _write_png(place, picture)
        return painted

    def _load(self) -> Tracer:
        if self._tracer is None:
            import torch

            from restorepix.inpaint import Inpainter
            from restorepix.models.loading import load_generator
            from restorepix.pipeline import choose_device

            device = choose_device(self._options.devices[0])
            network = load_generator(self._weights, device)
            dtype = torch.float32 if self._weights.architecture.float32 else None
            self._tracer = Tracer(Inpainter(network, device, dtype=dtype), network)
        return self._tracer


def place_picture(folder: Path, name: str, page: int | None) -> Path:
    """Return where a photograph's picture goes: below the folder, under its own path.

    ``photos/a.jpg`` becomes ``FOLDER/photos/a.jpg.png``, its second page
    ``FOLDER/photos/a.jpg.2.png``. Steps upwards and the root are left out.

    Args:
        folder: where pictures go.
        name: what the photograph is called in messages, as a rule its path.
        page: number of the page, or None where there is but one.
    """
    path = Path(name)
    parts = [part for part in path.parts if part not in (path.anchor, "..", ".")]
    *above, last = [part.replace(":", "") for part in parts] or ["picture"]
    ending = ".png" if page is None else f".{page}.png"
    return folder.joinpath(*above, last + ending)


def draw_attention(page: Page, mask: BoolMask, tracer: Tracer) -> npt.NDArray[np.uint8]:
    """Return where a page's hole took its content from, as an (H, W, 3) uint8 RGB picture.

    Args:
        page: the damaged page.
        mask: (H, W) bool, True = hole.
        tracer: of a network with attention.
    """
    from restorepix.color import page_to_rgb
    from restorepix.models.lab.flow import draw_flow

    offsets = tracer.trace(lambda box: page_to_rgb(page, box), mask)
    has_source = np.isfinite(offsets[0])
    picture = draw_flow(np.where(has_source, offsets, 0))
    picture[mask & ~has_source] = 0
    whole = page_to_rgb(page, Box(0, 0, *mask.shape)).mean(axis=2)
    pale = np.rint(255 * (1 - _PALE + _PALE * whole)).astype(np.uint8)
    picture[~mask] = pale[~mask][:, None]
    return picture


class Tracer:
    """Follows an inpainter window by window, and notes where its attention looks."""

    def __init__(self, inpainter: Inpainter, network: nn.Module) -> None:
        """Follow an inpainter.

        Args:
            inpainter: fills holes with ``network``.
            network: a ``Generator`` whose attention is on, or a ``DeepFill`` that has it.
        """
        self._inpainter, self._network = inpainter, network

    def trace(self, read: ReadRgb, mask: BoolMask) -> Offsets:
        """Return for each hole pixel how far away attention found its content.

        Args:
            read: returns the (h, w, 3) float32 RGB of a box in [0, 1].
            mask: (H, W) bool, True = hole.

        Returns:
            (2, H, W) float32 rows and columns to go, in pixels; NaN at known pixels and where
            there was nothing to take from.
        """
        from restorepix.guide import build_guides, paste_guides, sanitize_rgb
        from restorepix.tiles import plan_windows

        regions: list[Box] = []
        inner: list[Offsets] = []

        def read_region(box: Box) -> Rgb:
            regions.append(box)
            return read(box)

        def fill(small: Rgb, small_mask: BoolMask) -> Rgb:
            inner.append(self.trace(lambda box: small[box.slices()], small_mask))
            filled = small.copy()
            for box, rgb in self._inpainter.inpaint(small, small_mask):
                hole = small_mask[box.slices()]
                filled[box.slices()][hole] = rgb[hole]
            return filled

        # Each guide reads one region, then has it filled at half the resolution.
        guides = build_guides(read_region, mask, fill)
        offsets = np.full((2, *mask.shape), np.nan, np.float32)
        open_mask = mask.copy()
        for guide, region, found in zip(guides, regions, inner, strict=True):
            large = 2 * found.repeat(2, axis=1).repeat(2, axis=2)
            rows, columns = guide.box.shift(-region.top, -region.left).slices()
            down, across = guide.box.slices()
            offsets[:, down, across][:, guide.guided] = large[:, rows, columns][:, guide.guided]
            open_mask[down, across] &= ~guide.guided
        weights = np.zeros(mask.shape, np.float32)
        for window in plan_windows(open_mask):
            image = paste_guides(sanitize_rgb(read(window.box)), window.box, guides)
            found = self._find_offsets(image, open_mask[window.box.slices()])
            reach = window.reach()
            rows, columns = reach.shift(-window.box.top, -window.box.left).slices()
            down, across = reach.slices()
            ours = window.weights(reach)
            # Offsets cannot be blended as colours are: the window that has most to say decides.
            wins = open_mask[down, across] & (ours > weights[down, across])
            offsets[:, down, across][:, wins] = found[:, rows, columns][:, wins]
            weights[down, across] = np.maximum(weights[down, across], ours)
        return offsets

    def _find_offsets(self, image: Rgb, hole: BoolMask) -> Offsets:
        """Return (2, h, w) offsets in pixels for one window; NaN where it has no source."""
        import torch

        device, dtype = self._inpainter.device, self._inpainter.dtype
        autocast = nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)
        with torch.inference_mode(), autocast:
            pixels = torch.tensor(image, device=device).movedim(2, 0)[None] * 2 - 1
            mask = torch.tensor(hole, device=device).to(torch.float32)[None, None]
            cells = _look(self._network, pixels, mask)[0].float().cpu().numpy()
        large: Offsets = STEP_PX * cells.repeat(STEP_PX, axis=1).repeat(STEP_PX, axis=2)
        return large[:, : hole.shape[0], : hole.shape[1]]


def _look(network: nn.Module, image: Any, mask: Any) -> Any:
    """Return (1, 2, h, w) offsets in cells; NaN where nothing is known."""
    from restorepix.models.generator import Generator
    from restorepix.models.lab.deepfill import DeepFill

    if isinstance(network, DeepFill):
        offsets = network.find_offsets(image, mask).float()
        return offsets.masked_fill(mask.all(), float("nan"))
    assert isinstance(network, Generator), "check_attention lets no other network pass"
    attention = network.refine.attention
    caught: list[Any] = []

    def catch(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        caught.append(inputs)

    handle = attention.register_forward_pre_hook(catch)
    try:
        network(image, mask)
    finally:
        handle.remove()
    features, hole = caught[0][:2]
    return attention.find_offsets(features, hole)


def _write_png(place: Path, picture: npt.NDArray[np.uint8]) -> None:
    """Write a picture that either is there whole or is not.

    Raises:
        WriteError: it cannot be written.
    """
    import cv2

    done, data = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
    assert done, "OpenCV encodes any uint8 picture as PNG"
    part = place.with_name(f".{place.name}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data.tobytes())
        part.replace(place)
    except OSError as error:
        raise WriteError(f"{place}: cannot be written: {error.strerror or error}.") from error
