"""What the pipeline asks: find the damage of a photograph, and repaint it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from restorepix.color import page_to_bytes, page_to_rgb
from restorepix.detect.findings import Marking, PageFindings, find_damage, review_confidence
from restorepix.detect.infrared import (
    InfraredMask,
    find_infrared,
    find_infrared_page,
    read_plane,
)
from restorepix.detect.pages import judge_picture
from restorepix.detect.weights import check_detector, find_detector, list_floors, read_markings
from restorepix.errors import MaskError
from restorepix.formats import read_photo
from restorepix.masks import (
    ClassFinding,
    DamageClass,
    EffectiveMask,
    FoundMask,
    MaskFile,
    read_mask,
)
from restorepix.options import DetectOptions, RestoreOptions
from restorepix.photo import BoolMask, Page, Photo
from restorepix.pipeline import Network, Repaint, inpaint_pages
from restorepix.runtime import prepare_runtime
from restorepix.tiles import Box

if TYPE_CHECKING:
    from restorepix.detect.scan import Maps, ReadRgb


class Scanning(Protocol):
    """What is asked of :class:`restorepix.detect.scan.Scanner`."""

    def scan(self, image: ReadRgb, size: tuple[int, int]) -> Maps:
        """Return (3, H, W) uint8 probabilities in the order of ``CLASSES``."""
        ...


class Finder:
    """Finds damage in decoded photographs; nothing is repainted."""

    def __init__(
        self,
        scanner: Scanning,
        options: DetectOptions,
        *,
        weights_sha256: str,
        max_mpixels: float,
        force: bool = False,
        markings: Mapping[DamageClass, Marking] | None = None,
    ) -> None:
        """Find with a scanner, as the options say.

        Args:
            scanner: runs the network.
            options: what to look for, and where.
            weights_sha256: SHA-256 in hex of the detector's weights.
            max_mpixels: largest mask or infrared plane to decode, in million pixels.
            force: mark damage in pictures that seem to be no photographs too.
            markings: what the weights say of how pieces of each class are cut out.
        """
        self.weights_sha256 = weights_sha256
        self._scanner, self._options, self._force = scanner, options, force
        self._max_mpixels, self._markings = max_mpixels, markings

    def find(self, photo: Photo, name: str, given: EffectiveMask | None = None) -> FoundMask:
        """Return what is damaged in a photograph, united with what a user marked.

        Args:
            photo: the decoded file.
            name: what to call it in messages; its file name finds an infrared plane.
            given: a mask that a user gave, or None.

        Raises:
            MaskError: the infrared plane cannot be read or has another size.
            WeightsError: the network's answer is not finite.
        """
        plane_page = find_infrared_page(photo)
        pages: list[BoolMask | None] = []
        review: list[str] = []
        components: list[Mapping[str, Any]] = []
        counts: dict[DamageClass, list[ClassFinding]] = {n: [] for n in self._options.classes}
        for number, page in enumerate(photo.pages):
            if number == plane_page:  # evidence, not a picture
                pages.append(None)
                continue
            where = f"page {number + 1}: " if len(photo.pages) > 1 and plane_page is None else ""
            found, notes = self._find_page(photo, number, page, plane_page, name)
            review += [where + note for note in notes]
            pages.append(found.mask if found is not None and found.mask.any() else None)
            if found is None:
                continue
            components += found.components
            for kind, finding in found.detected.items():
                counts[kind].append(finding)
        detected: dict[DamageClass, ClassFinding] = {
            kind: _sum_findings(findings) for kind, findings in counts.items()
        }
        review += review_confidence(detected)
        if given is None:
            mask = EffectiveMask(tuple(pages))
        else:
            united = tuple(map(_unite, pages, given.pages))
            mask = EffectiveMask(united, given.review)
        return FoundMask(mask, detected, tuple(review), tuple(components), given)

    def _find_page(
        self, photo: Photo, number: int, page: Page, plane_page: int | None, name: str
    ) -> tuple[PageFindings | None, list[str]]:
        """Damage on one page, or None for a page that is no photograph; and notes."""
        size = (page.height, page.width)

        def read(box: Box) -> npt.NDArray[np.float32]:
            return page_to_rgb(page, box)

        notes: list[str] = []
        verdict = judge_picture(read, size)
        if verdict is not None and not self._force:
            notes.append(f"{verdict}: nothing was detected; pass --force to look for damage in it")
            return None, notes
        extra = None
        if number == 0 and "scratch" in self._options.classes:
            infrared = self._read_infrared(photo, page, plane_page, name)
            if infrared is not None:
                extra = infrared.mask
                notes += [infrared.note] if infrared.note else []
        from restorepix.detect.scan import pick_maps  # brings torch, which is in use by now

        def look(box: Box) -> npt.NDArray[Any]:
            samples = page_to_bytes(page, box)
            return read(box) if samples is None else samples

        maps = pick_maps(self._scanner.scan(look, size), self._options.classes)
        typed: dict[DamageClass, Maps] = {kind: maps[kind] for kind in self._options.classes}
        found = find_damage(typed, self._options, page=number, extra=extra, markings=self._markings)
        return found, notes

    def _read_infrared(
        self, photo: Photo, page: Page, plane_page: int | None, name: str
    ) -> InfraredMask | None:
        """The mask of the plane that belongs to a photograph; None where there is no plane."""
        if plane_page is not None:
            plane = photo.pages[plane_page]
        elif self._options.infrared is not None:
            path = find_infrared_file(self._options.infrared, Path(name))
            if path is None:
                return InfraredMask(None, f"no infrared plane in {self._options.infrared}")
            try:
                data = path.read_bytes()
            except OSError as error:
                raise MaskError(
                    f"{path}: the infrared plane cannot be opened: {error.strerror or error}."
                ) from error
            plane = read_photo(data, str(path), max_mpixels=self._max_mpixels).pages[0]
        else:
            return None
        if (plane.height, plane.width) != (page.height, page.width):
            raise MaskError(
                f"{name}: the infrared plane is {plane.width}x{plane.height}, but the picture is "
                f"{page.width}x{page.height} as displayed. Give the plane of the same scan."
            )
        rgb = page_to_rgb(page, Box(0, 0, page.height, page.width))
        return find_infrared(read_plane(plane), rgb.mean(2, dtype=np.float32))


class DetectRepair:
    """Finds damage, unites it with the mask that a user gives, and repaints both."""

    needs_mask = False

    def __init__(self, network: Network, finder: Finder, options: RestoreOptions) -> None:
        """Find with a finder and repaint with a network."""
        assert options.detect is not None, "built for options that ask for detection"
        self._network, self._finder, self._options = network, finder, options

    @property
    def device(self) -> str:
        """Where the networks run."""
        return self._network.device

    @property
    def weights_sha256(self) -> str:
        """SHA-256 in hex of the weights that repaint."""
        return self._network.weights_sha256

    @property
    def identity(self) -> Mapping[str, Any]:
        """The detector's weights; the options are in the journal anyway."""
        return {"detector_sha256": self._finder.weights_sha256}

    def glance(
        self, sizes: Sequence[tuple[int, int]], name: str, given: MaskFile | None
    ) -> FoundMask | None:
        """Return None: every photograph has to be looked at."""
        return None

    def find(self, photo: Photo, name: str, given: MaskFile | None) -> FoundMask:
        """Return the damage that is detected, and what a user marked.

        Raises:
            MaskError: a mask or infrared plane does not fit.
        """
        mask = None
        if given is not None:
            dilate, limit = self._options.dilate, self._options.max_mpixels
            mask = read_mask(given.data, given.name, photo, dilate=dilate, max_mpixels=limit)
        return self._finder.find(photo, name, mask)

    def repaint(self, photo: Photo, found: FoundMask, name: str) -> Repaint:
        """Return the pages with their holes repainted by the network."""
        return Repaint(inpaint_pages(photo, found.mask, self._network, name), "inpainted")


def find_infrared_file(path: Path, picture: Path) -> Path | None:
    """Return the plane of a picture: the file itself, or in a folder that of the same name.

    In a folder ``a.tif.*`` is looked for, then ``a.*`` and ``a_ir.*``.
    """
    if not path.is_dir():
        return path
    for pattern in (f"{picture.name}.*", f"{picture.stem}.*", f"{picture.stem}_ir.*"):
        files = sorted(file for file in path.iterdir() if file.match(pattern))
        if files:
            return files[0]
    return None


def build_finder(options: RestoreOptions) -> Finder:
    """Load the detector that the options ask for.

    Raises:
        UsageError: this version knows no detector.
        WeightsError: its weights are damaged or of another kind.
        DeviceError: the device was named and is not there.
    """
    prepare_runtime()
    detect = options.detect or DetectOptions()
    check_detector(detect)
    import torch

    from restorepix.detect.scan import Scanner
    from restorepix.inpaint import choose_dtype
    from restorepix.models.registry import load_network
    from restorepix.pipeline import choose_device

    device = choose_device(options.devices[0])
    found = find_detector(options)
    network = load_network(found.path, found.architecture, found.config, found.tensors)
    if device.type == "cpu":
        torch.set_num_threads(1)  # tiles are shared out to threads instead
    dtype = torch.float32 if found.architecture.float32 else choose_dtype(device)
    markings = read_markings(found.path)
    floors = list_floors(markings)
    scanner = Scanner(network, device, dtype=dtype, threads=options.threads or 1, floors=floors)
    return Finder(
        scanner,
        detect,
        weights_sha256=found.sha256,
        max_mpixels=options.max_mpixels,
        force=options.force,
        markings=markings,
    )


def _unite(page: BoolMask | None, given: BoolMask | None) -> BoolMask | None:
    if page is None or given is None:
        return given if page is None else page
    return page | given


def _sum_findings(findings: Sequence[ClassFinding]) -> ClassFinding:
    pixels = sum(finding.pixels for finding in findings)
    if not pixels:
        return ClassFinding(0, 0.0)
    weighted = sum(finding.pixels * finding.confidence for finding in findings)
    return ClassFinding(pixels, round(weighted / pixels, 3))
