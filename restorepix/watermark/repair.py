"""What the pipeline asks: find what lies on a photograph, and take it off."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from restorepix.color import rgb_to_native
from restorepix.composite import composite_page
from restorepix.detect.repair import Finder, build_finder
from restorepix.masks import EffectiveMask, FoundMask, MaskFile, read_mask
from restorepix.options import RestoreOptions
from restorepix.photo import BoolMask, Page, Photo
from restorepix.pipeline import Network, Repaint, inpaint_pages, load_network
from restorepix.tiles import Box
from restorepix.watermark.study import Study
from restorepix.watermark.unblending import NOTHING_COMMON, PagePlan, find_pages

Floats = npt.NDArray[np.float32]


class WatermarkRepair:
    """Takes off the overlays that a study found, and repaints what they cover for good."""

    needs_mask = False

    def __init__(
        self,
        network: Network,
        study: Study,
        options: RestoreOptions,
        finder: Finder | None = None,
    ) -> None:
        """Un-blend with a study, and repaint with a network.

        Args:
            network: repaints.
            study: what is known of the folder.
            options: the run's.
            finder: sees marks on photographs that repeat nothing; None looks no further.
        """
        self._network, self._study, self._options = network, study, options
        self._finder = finder
        self._plans: dict[str, list[PagePlan | None]] = {}
        self._lock = Lock()

    @property
    def device(self) -> str:
        """Where the network runs."""
        return self._network.device

    @property
    def weights_sha256(self) -> str:
        """SHA-256 in hex of the weights that repaint."""
        return self._network.weights_sha256

    @property
    def identity(self) -> Mapping[str, Any]:
        """The overlays: a run with other neighbours may have learned another."""
        digest = hashlib.sha256(repr(self._study.tiles).encode())
        for family in self._study.families:
            digest.update(repr((family.place, family.size, family.frame)).encode())
            digest.update(family.overlay.alpha.tobytes() + family.overlay.color.tobytes())
        for stamp in self._study.stamps:
            digest.update(repr((stamp.box, stamp.anchor, stamp.size, stamp.strokes)).encode())
            digest.update(stamp.color.tobytes())
        watermark = {"overlays_sha256": digest.hexdigest()}
        if self._finder is not None:
            watermark["detector_sha256"] = self._finder.weights_sha256
        return {"watermark": watermark}

    def glance(
        self, sizes: Sequence[tuple[int, int]], name: str, given: MaskFile | None
    ) -> FoundMask | None:
        """Return None: every photograph is looked at, for what repeats within it."""
        return None

    def find(self, photo: Photo, name: str, given: MaskFile | None) -> FoundMask:
        """Return the pixels that an overlay covers, for later un-blending.

        Raises:
            MaskError: the mask that was given does not fit.
            WeightsError: the detector's answer is not finite.
        """
        known = read_known(photo, given, self._options)
        found, plans = find_marks(self._study, self._finder, photo, known, name)
        if found.mask.hole_pixels:
            with self._lock:
                self._plans[name] = plans
        return found

    def repaint(self, photo: Photo, found: FoundMask, name: str) -> Repaint:
        """Return the pages without their overlays.

        Raises:
            PhotoError: there is too little memory.
            WeightsError: the network's answer is not finite.
        """
        with self._lock:
            plans = self._plans.pop(name, [None] * len(photo.pages))
        lost = list_lost(found, plans)
        begun = [
            None if mask is None else _paint(page, mask, plan)
            for page, mask, plan in zip(photo.pages, found.mask.pages, plans, strict=True)
        ]
        if any(hole is not None for hole in lost):
            pages = tuple(
                page if pixels is None else _replace_pixels(page, pixels)
                for page, pixels in zip(photo.pages, begun, strict=True)
            )
            shown = Photo(photo.format, pages, photo.orientation, photo.source, photo.extra)
            filled = inpaint_pages(shown, EffectiveMask(tuple(lost)), self._network, name)
            begun = [
                new if new is not None else old for new, old in zip(filled, begun, strict=True)
            ]
        covered = found.mask.hole_pixels
        repainted = sum(int(np.count_nonzero(hole)) for hole in lost if hole is not None)
        method = "unblended" if repainted <= covered / 2 else "inpainted"
        return Repaint(begun, method)


def read_known(
    photo: Photo, given: MaskFile | None, options: RestoreOptions
) -> EffectiveMask | None:
    """Return the mask that a user gave for a photograph, grown by ``--dilate``, or None.

    Raises:
        MaskError: it cannot be read or does not fit.
    """
    if given is None:
        return None
    return read_mask(
        given.data, given.name, photo, dilate=options.dilate, max_mpixels=options.max_mpixels
    )


def list_lost(found: FoundMask, plans: Sequence[PagePlan | None]) -> list[BoolMask | None]:
    """Return the pixels of each page that the network repaints; None where there are none."""
    lost: list[BoolMask | None] = []
    for mask, plan in zip(found.mask.pages, plans, strict=True):
        hole = mask if mask is None or plan is None else mask & plan.lost
        lost.append(hole if hole is not None and hole.any() else None)
    return lost


def find_marks(
    study: Study, finder: Finder | None, photo: Photo, known: EffectiveMask | None, name: str
) -> tuple[FoundMask, list[PagePlan | None]]:
    """Return what :func:`find_pages` does; where that is nothing, what a detector sees.

    Why a pattern that repeats was left alone stays in the review.

    Args:
        study: what is known of the folder.
        finder: the detector; None for none.
        photo: the decoded file.
        known: the mask that a user gave for it, or None; then nothing else is looked for.
        name: what to call the photograph in messages.
    """
    found, plans = find_pages(study, photo, known)
    if finder is None or known is not None or found.mask.hole_pixels:
        return found, plans
    seen = finder.find(photo, name)
    if not seen.mask.hole_pixels:
        return found, plans
    left = [note for note in found.review if NOTHING_COMMON not in note]
    return replace(seen, review=(*left, *seen.review)), [None] * len(photo.pages)


def build_marks_finder(study: Study, options: RestoreOptions) -> Finder | None:
    """Return the detector for photographs that share nothing, or None where none is to be asked.

    In a folder that shares an overlay or a date stamp, a photograph without it is sound.

    Raises:
        WeightsError: the detector's weights are damaged or of another kind.
    """
    if options.detect is None or study.families or study.stamps:
        return None
    return build_finder(options)


def _paint(page: Page, mask: BoolMask, plan: PagePlan | None) -> npt.NDArray[Any]:
    """Return a page's samples with its un-blended pixels in place; lost ones as they are."""
    if plan is None:
        return page.pixels
    hole = mask & ~plan.lost
    if not hole.any():
        return page.pixels
    box = Box(0, 0, page.height, page.width)
    return composite_page(page.pixels, hole, [(box, rgb_to_native(page, box, plan.clean, hole))])


def _replace_pixels(page: Page, pixels: npt.NDArray[Any]) -> Page:
    return Page(pixels, page.color, page.alpha, page.icc)


def build_watermark_repair(study: Study, options: RestoreOptions) -> WatermarkRepair:
    """Return the repair of a run, its network loaded; worker processes make their own.

    Raises:
        WeightsError: weights are missing, damaged or of another architecture.
        DeviceError: the device was named and is not there.
    """
    return WatermarkRepair(
        load_network(options), study, options, build_marks_finder(study, options)
    )
