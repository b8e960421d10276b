"""Masks that users give: find the one for a picture, read it, grow it.

A mask is a picture of the size of its photograph as displayed. Its hole is where luminance times
opacity exceeds 127 of 255: white repaints, transparent keeps.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from restorepix.errors import MaskError, PhotoError, UsageError
from restorepix.formats import read_photo
from restorepix.formats.measure import is_black, measure_pages
from restorepix.inputs import PICTURE_SUFFIXES, Source, fold_name, is_folder
from restorepix.options import DamageClass
from restorepix.photo import BoolMask, Page, Photo
from restorepix.stores.listing import list_names
from restorepix.stores.place import is_remote

_LUMA_PER_MILLE: Final = (299, 587, 114)
"""Rec. ITU-R BT.601 luminance weights of R, G and B, in thousandths: exact in integers."""
_BAND_PX: Final = 1 << 22
"""Pixels thresholded at once, so that memory stays flat on large masks."""
_BRUSH_PX: Final = 16
"""Largest radius dilated with a brush; above it the distance transform is faster (a guess)."""
MAX_DETECTED_SHARE: Final = 0.25
"""Share of a page above which a detected mask is repaired only when the user insists."""
_HERE: Final = Path()
LARGE_MASK_SHARE: Final = 0.5
"""Share of a page above which a mask that a user gives wants a look: inverted ones are common."""
_MASK_SUFFIXES: Final = (".png", *(end for end in PICTURE_SUFFIXES if end != ".png"))


class MaskFinder:
    """Pairs pictures with the files below one ``--mask`` path."""

    def __init__(self, path: Path) -> None:
        """Look masks up at a path.

        Args:
            path: one mask for every picture, or a folder of masks.

        Raises:
            UsageError: there is nothing at ``path``.
        """
        self._path = path
        self._listings: dict[Path, dict[str, Path]] = {}
        self._is_remote = is_remote(path)
        self._is_folder = is_folder(path)
        is_missing = False
        if not self._is_remote:
            is_missing = not path.exists()
        elif self._is_folder:
            self._listings |= list_names(path, fold_name)
            is_missing = not self._listings[path]
        if is_missing:
            raise UsageError(f"--mask {path}: no such file or folder.")

    def find_mask(self, source: Source, tree: Path = _HERE) -> Path | None:
        """Return the mask file of a picture, or None.

        For ``sub/a.jpg`` the folder is searched for ``sub/a.jpg.png``, then ``sub/a.png``, then
        ``sub/a_mask.png``, each with any picture suffix, PNG first; upper and lower case and the
        encoding of accents do not matter. In the picture's own folder ``a.png`` is no mask of
        ``a.jpg``: it may be a photograph too.

        Args:
            source: the picture.
            tree: where in the folder of masks those of the picture's input may have a tree of
                their own; it is searched first.
        """
        if not self._is_folder:
            return self._path
        for inner in dict.fromkeys((tree / source.relative.parent, source.relative.parent)):
            mask = self._find_inside(inner, source)
            if mask is not None:
                return mask
        return None

    def _find_inside(self, inner: Path, source: Source) -> Path | None:
        folder = self._enter(inner)
        if folder is None:
            return None
        listing = self._list(folder)
        own_folder = self._is_same(folder, source.path.parent)
        for stem in self._stems(source, own_folder):
            for suffix in _MASK_SUFFIXES:
                mask = listing.get(fold_name(stem + suffix))
                if mask is not None:
                    return mask
        return None

    def describe_search(self, source: Source, tree: Path = _HERE) -> str:
        """Return a sentence that says where :meth:`find_mask` looked, for a picture without."""
        first, *more = (f"{stem}.png" for stem in self._stems(source, own_folder=False))
        places = dict.fromkeys(self._path / one / source.relative.parent for one in (tree, _HERE))
        where = " or ".join(str(place) for place in places)
        return f"no mask in {where}: looked for {first}, then {', then '.join(more)}"

    @staticmethod
    def _stems(source: Source, own_folder: bool) -> tuple[str, ...]:
        name, stem = source.relative.name, source.relative.stem
        return (name, f"{stem}_mask") if own_folder else (name, stem, f"{stem}_mask")

    def _enter(self, relative: Path) -> Path | None:
        """Return the folder of masks that mirrors a relative folder, if there is one."""
        folder = self._path
        for part in relative.parts:
            inner = self._list(folder).get(fold_name(part))
            if inner is None or not self._is_inner(inner):
                return None
            folder = inner
        return folder

    def _is_inner(self, place: Path) -> bool:
        return place in self._listings if self._is_remote else place.is_dir()

    @staticmethod
    def _is_same(folder: Path, other: Path) -> bool:
        if is_remote(folder) or is_remote(other):
            return folder == other
        return other.exists() and folder.samefile(other)

    def _list(self, folder: Path) -> dict[str, Path]:
        """Return a folder's entries by folded name; reversed, so that of twins the first wins."""
        if folder not in self._listings:
            if self._is_remote:
                return {}
            try:
                entries = sorted(folder.iterdir(), reverse=True)
            except OSError as error:
                raise UsageError(f"--mask {folder}: {error.strerror or error}.") from error
            self._listings[folder] = {fold_name(entry.name): entry for entry in entries}
        return self._listings[folder]


@dataclass(frozen=True, eq=False)
class EffectiveMask:
    """The holes of one photo after dilation: what is repaired, verified and hashed."""

    pages: tuple[BoolMask | None, ...]
    """For each page of the photo ``(H, W)`` bool as displayed, True = hole; None = no hole."""
    review: tuple[str, ...] = ()
    """What a person may want to look at, one sentence each."""

    @cached_property
    def hole_pixels(self) -> int:
        """Pixels to repaint, all pages together."""
        return sum(int(np.count_nonzero(mask)) for mask in self.pages if mask is not None)

    def count_holes(self) -> int:
        """Return the number of holes, all pages together: pixels touch by sides and corners."""
        return sum(_count_components(mask) for mask in self.pages if mask is not None)

    def hash_pages(self) -> str:
        """Return SHA-256 in hex: for each page a line ``page height width``, then its bits.

        Bits are in row order, eight a byte, the first in the highest place; a page without a
        hole adds nothing.
        """
        digest = hashlib.sha256()
        for index, mask in enumerate(self.pages):
            if mask is not None:
                digest.update(f"{index} {mask.shape[0]} {mask.shape[1]}\n".encode())
                digest.update(np.packbits(mask).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class MaskFile:
    """A mask that a user gives for one photograph, not yet decoded."""

    data: bytes = field(repr=False)
    name: str
    """What to call it in messages."""


@dataclass(frozen=True)
class ClassFinding:
    """What a detector found of one class of damage."""

    pixels: int
    """Pixels of this class in the mask, all pages together."""
    confidence: float
    """How sure the detector is, 0 to 1."""


@dataclass(frozen=True, eq=False)
class FoundMask:
    """What is to be repaired in one photograph, and where that is known from."""

    mask: EffectiveMask
    """Everything that is to be repaired, margins included."""
    detected: Mapping[DamageClass, ClassFinding] = field(
        default_factory=dict[DamageClass, ClassFinding]
    )
    """Per class what a detector found; empty for masks that users give."""
    review: tuple[str, ...] = ()
    """What a person may want to look at, beyond ``mask.review``, one sentence each."""
    components: tuple[Mapping[str, Any], ...] = ()
    """Each piece of damage as JSON values, where a detector tells them apart; may be empty."""
    given: EffectiveMask | None = None
    """The part of ``mask`` that a user gave, where a detector added to it."""


def limit_detected(found: FoundMask, sizes: Sequence[tuple[int, int]]) -> FoundMask:
    """Return what may be repaired without asking: detectors that mark too much are not trusted.

    Where a detector marks more than :data:`MAX_DETECTED_SHARE` of any page, nothing that it
    found is repaired and the review says so. What a user gave stays, however large.

    Args:
        found: what was found.
        sizes: ``(height, width)`` of each page of the photo, in pixels as displayed.
    """
    if not found.detected:
        return found
    given = found.given or EffectiveMask((None,) * len(sizes))
    share = max(
        (
            np.count_nonzero(page if known is None else page & ~known) / (height * width)
            for page, known, (height, width) in zip(
                found.mask.pages, given.pages, sizes, strict=True
            )
            if page is not None
        ),
        default=0.0,
    )
    if share <= MAX_DETECTED_SHARE:
        return found
    reason = (
        f"damage was detected on {100 * share:.0f} % of the picture, more than "
        f"{100 * MAX_DETECTED_SHARE:.0f} %, and not repaired; pass --force to repair it"
    )
    return replace(found, mask=given, review=(*found.review, reason))


def encode_mask(mask: EffectiveMask, sizes: Sequence[tuple[int, int]]) -> tuple[bytes, str]:
    """Return a file that :func:`read_mask` reads as this mask again, and its suffix.

    Args:
        mask: the mask.
        sizes: ``(height, width)`` of each page of the photo, in pixels as displayed.

    Returns:
        A PNG of 1 bit and ``.png``; for several pages a TIFF and ``.tif``.
    """
    images = [
        Image.fromarray(np.zeros(size, np.bool_) if page is None else page)
        for page, size in zip(mask.pages, sizes, strict=True)
    ]
    buffer = io.BytesIO()
    if len(images) == 1:
        images[0].save(buffer, "PNG")
        return buffer.getvalue(), ".png"
    options: dict[str, Any] = {"save_all": True, "append_images": images[1:]}
    images[0].save(buffer, "TIFF", compression="tiff_adobe_deflate", **options)
    return buffer.getvalue(), ".tif"


def read_mask(
    data: bytes, name: str, photo: Photo, *, dilate: int = 0, max_mpixels: float
) -> EffectiveMask:
    """Read the mask of a photo from the bytes of any picture file.

    Pages of the mask belong to the pages of the photo in order; pages of the photo beyond those
    of the mask have no hole, and the review says so. It also names a mask that covers more than
    half of a page, before it grows.

    Args:
        data: the mask file.
        name: what to call the mask in messages.
        photo: the photograph it belongs to.
        dilate: pixels by which holes grow, in all directions (Euclidean).
        max_mpixels: largest mask to decode, in million pixels.

    Raises:
        MaskError: the mask cannot be read, has more pages than the photo, or a page of another
            size.
    """
    sizes = [(page.height, page.width) for page in photo.pages]
    return read_mask_for(data, name, sizes, dilate=dilate, max_mpixels=max_mpixels)


def read_mask_for(
    data: bytes,
    name: str,
    sizes: Sequence[tuple[int, int]],
    *,
    dilate: int = 0,
    max_mpixels: float,
) -> EffectiveMask:
    """Read a mask like :func:`read_mask`, for a photo of which only the sizes are known.

    Args:
        data: the mask file.
        name: what to call the mask in messages.
        sizes: ``(height, width)`` of each page of the photo, in pixels as displayed.
        dilate: pixels by which holes grow, in all directions (Euclidean).
        max_mpixels: largest mask to decode, in million pixels.

    Raises:
        MaskError: the mask cannot be read, has more pages than the photo, or a page of another
            size.
    """
    try:
        found = measure_pages(data, name, max_mpixels=max_mpixels) if len(sizes) == 1 else None
        if found == tuple(sizes) and is_black(data, name):
            return EffectiveMask((None,))  # of an unharmed picture, as most are in many folders
        mask_photo = read_photo(data, name, max_mpixels=max_mpixels)
    except PhotoError as error:
        raise MaskError(f"the mask cannot be read: {error}") from error
    if len(mask_photo.pages) > len(sizes):
        raise MaskError(
            f"{name}: the mask has {len(mask_photo.pages)} pages, the picture {len(sizes)}. "
            "Give a mask with as many pages as the picture."
        )
    pages: list[BoolMask | None] = []
    review: list[str] = []
    for mask_page, size in zip(mask_photo.pages, sizes, strict=False):
        _check_size(mask_page, size, name)
        mask = threshold_page(mask_page)
        pages.append(dilate_mask(mask, dilate) if mask.any() else None)
        share = float(mask.mean())
        if share > LARGE_MASK_SHARE:
            review.append(
                f"the mask covers {100 * share:.0f} % of the picture, and white is repainted: see "
                "that it is not inverted"
            )
    missing = len(sizes) - len(pages)
    if missing:
        review.append(f"the mask has {len(pages)} of {len(sizes)} pages; the others are kept")
    if not any(mask is not None for mask in pages) and any(
        page.pixels.any() for page in mask_photo.pages
    ):
        review.append("the mask has marks, but none is brighter than 127 of 255")
    return EffectiveMask((*pages, *[None] * missing), tuple(review))


def threshold_page(page: Page) -> BoolMask:
    """Return the hole that a page of a mask file means: luminance x opacity > 127 of 255.

    Args:
        page: any colour model and depth. float32 samples mean black at 0 and white at 1.

    Returns:
        ``(H, W)`` bool, True = hole. Computed in integers for integer samples, so that exactly
        127 is known and 128 a hole at any depth.
    """
    mask = np.empty((page.height, page.width), np.bool_)
    rows = max(1, _BAND_PX // page.width)
    for top in range(0, page.height, rows):
        band = slice(top, top + rows)
        alpha = None if page.alpha is None else page.alpha[band]
        mask[band] = _threshold_samples(page.pixels[band], page.color, alpha)
    return mask


def _threshold_samples(
    samples: npt.NDArray[Any], color: str, alpha: npt.NDArray[Any] | None
) -> BoolMask:
    top = 1 if samples.dtype.kind == "f" else int(np.iinfo(samples.dtype).max)
    if color == "grey" and alpha is None:  # nearly every mask
        return samples[..., 0] > 127 * top / 255
    exact = samples.dtype.kind == "u" and color != "cmyk"
    wide = samples.astype(np.int64 if exact else np.float64)
    if color == "cmyk":
        wide = (top - wide[..., :3]) * (top - wide[..., 3:]) / top
    red, green, blue = _LUMA_PER_MILLE
    if color == "grey":
        light = wide[..., 0] * (red + green + blue)
    else:
        light = wide[..., 0] * red + wide[..., 1] * green + wide[..., 2] * blue
    white = top * (red + green + blue)
    if alpha is not None:
        light = light * alpha.astype(wide.dtype)
        white *= top
    return light * 255 > 127 * white


def dilate_mask(mask: BoolMask, radius_px: int) -> BoolMask:
    """Return a mask whose holes reach ``radius_px`` pixels farther in every direction.

    A pixel joins the hole when the centre of some hole pixel is at most ``radius_px`` away: a
    round brush, exact at any radius.

    Args:
        mask: ``(H, W)`` bool, True = hole.
        radius_px: 0 or more.
    """
    if radius_px == 0 or not mask.any():
        return mask
    if radius_px <= _BRUSH_PX:
        away = np.arange(-radius_px, radius_px + 1) ** 2
        brush = (away[:, None] + away <= radius_px * radius_px).astype(np.uint8)
        return cv2.dilate(mask.view(np.uint8), brush).astype(np.bool_)
    box = _grow_bounds(mask, radius_px)
    distance = cv2.distanceTransform(
        (~mask[box]).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )
    grown = mask.copy()
    # Squares of whole distances are whole; half of one keeps rounding out of the comparison.
    grown[box] = distance * distance < radius_px * radius_px + 0.5
    return grown


def _count_components(mask: BoolMask) -> int:
    inside = mask[_grow_bounds(mask, 0)]
    return cv2.connectedComponents(inside.view(np.uint8), connectivity=8)[0] - 1


def _grow_bounds(mask: BoolMask, margin_px: int) -> tuple[slice, slice]:
    """Return the slices of a non-empty mask's bounding box, grown on all sides."""
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    return (
        slice(max(0, int(rows[0]) - margin_px), int(rows[-1]) + 1 + margin_px),
        slice(max(0, int(columns[0]) - margin_px), int(columns[-1]) + 1 + margin_px),
    )


def _check_size(mask: Page, size: tuple[int, int], name: str) -> None:
    expected, found = size[::-1], (mask.width, mask.height)
    if expected == found:
        return
    message = (
        f"{name}: the mask is {found[0]}x{found[1]}, but the picture is {expected[0]}x{expected[1]}"
        " as displayed."
    )
    if expected == found[::-1]:
        message += " It seems to lie on its side: turn the mask as viewers show the picture."
    else:
        message += " Make a mask of the picture's size."
    raise MaskError(message)
