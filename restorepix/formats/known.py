"""The proof: everything known is the same in two decodings of a picture, and its hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from restorepix.errors import MaskError, PreservationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from restorepix.photo import BoolMask, Photo

_SAMPLES_AT_ONCE = 1 << 22
"""Samples compared and hashed per step: rows are taken in bands to keep memory flat."""


@dataclass(frozen=True, eq=False)
class Plane:
    """Samples a file holds beyond a page's colours and alpha: palette indices, infrared."""

    name: str
    samples: npt.NDArray[Any] = field(repr=False)
    """``(H, W[, C])`` as displayed."""
    everywhere: bool
    """True: must be equal inside the hole too."""


PLANES = "planes"
"""Key of ``Photo.extra``: for each page a tuple of :class:`Plane`, where a format has any."""


def compare_known(before: Photo, after: Photo, masks: Sequence[BoolMask | None], name: str) -> str:
    """Check that all known samples are equal bit for bit, and return their hash.

    The hash is SHA-256 over, for each page: a line ``page kind dtype shape``, then the known
    samples in row order, little endian; first colours outside the mask, then alpha (all of it),
    then further planes.

    Args:
        before: the original, decoded.
        after: the restored file, decoded.
        masks: for each page ``(H, W)`` bool as displayed, True = hole; None = no hole.
        name: what to call the file in messages.

    Raises:
        PreservationError: a page, channel or profile differs.
        MaskError: the masks are not one per page, or one is of another size than its page.
    """
    if len(before.pages) != len(after.pages):
        raise PreservationError(
            f"{name}: the original has {len(before.pages)} pages, the output {len(after.pages)}."
        )
    if before.orientation != after.orientation:
        raise PreservationError(
            f"{name}: orientation {before.orientation} became {after.orientation}."
        )
    _check_masks(before, masks, name)
    digest = hashlib.sha256()
    for index, mask in enumerate(masks):
        old, new = _planes(before, index), _planes(after, index)
        if [plane.name for plane in old] != [plane.name for plane in new]:
            raise PreservationError(f"{name}, page {index + 1}: its channels changed.")
        if before.pages[index].icc != after.pages[index].icc:
            raise PreservationError(f"{name}, page {index + 1}: the ICC profile changed.")
        for one, other in zip(old, new, strict=True):
            where = f"{name}, page {index + 1}, {one.name}"
            _compare_plane(one, other, None if one.everywhere else mask, where)
            _hash_plane(digest, one, None if one.everywhere else mask, index)
    return digest.hexdigest()


def compare_reencoded(
    before: Photo, after: Photo, masks: Sequence[BoolMask | None], name: str
) -> str:
    """Check what a lossy encoding can keep, and return the hash of the original's known samples.

    Sizes, colour model, profile, and alpha bit for bit where both have it at the same depth.

    Args:
        before: the original, decoded.
        after: the restored file, decoded.
        masks: for each page ``(H, W)`` bool as displayed, True = hole; None = no hole.
        name: what to call the file in messages.

    Raises:
        PreservationError: one of these differs.
        MaskError: the masks do not fit the pages.
    """
    proof = hash_known(before, masks, name)
    if len(before.pages) != len(after.pages):
        raise PreservationError(
            f"{name}: the original has {len(before.pages)} pages, the output {len(after.pages)}."
        )
    for number, (old, new) in enumerate(zip(before.pages, after.pages, strict=True), 1):
        where = f"{name}, page {number}"
        if old.pixels.shape != new.pixels.shape or old.color != new.color:
            raise PreservationError(
                f"{where}: {old.color} {old.width}x{old.height} became "
                f"{new.color} {new.width}x{new.height}."
            )
        if old.icc != new.icc:
            raise PreservationError(f"{where}: the ICC profile changed.")
        if old.alpha is not None and new.alpha is not None and old.alpha.dtype == new.alpha.dtype:
            alphas = (Plane("alpha", old.alpha, True), Plane("alpha", new.alpha, True))
            _compare_plane(*alphas, None, f"{where}, alpha")
    return proof


def hash_known(photo: Photo, masks: Sequence[BoolMask | None], name: str) -> str:
    """Return the hash of :func:`compare_known` for one decoded file alone.

    Args:
        photo: the decoded file.
        masks: for each page ``(H, W)`` bool as displayed, True = hole; None = no hole.
        name: what to call the file in messages.

    Raises:
        MaskError: the masks do not fit the pages.
    """
    _check_masks(photo, masks, name)
    digest = hashlib.sha256()
    for index, mask in enumerate(masks):
        for plane in _planes(photo, index):
            _hash_plane(digest, plane, None if plane.everywhere else mask, index)
    return digest.hexdigest()


def _check_masks(photo: Photo, masks: Sequence[BoolMask | None], name: str) -> None:
    if len(masks) != len(photo.pages):
        raise MaskError(f"{name}: {len(photo.pages)} pages, but {len(masks)} masks.")
    for index, (page, mask) in enumerate(zip(photo.pages, masks, strict=True)):
        if mask is not None and mask.shape != (page.height, page.width):
            raise MaskError(
                f"{name}, page {index + 1}: the picture is {page.width}x{page.height}, "
                f"its mask {mask.shape[1]}x{mask.shape[0]}. Give a mask of the picture's size."
            )


def _planes(photo: Photo, index: int) -> list[Plane]:
    page = photo.pages[index]
    planes = [Plane(page.color, page.pixels, False)]
    if page.alpha is not None:
        planes.append(Plane("alpha", page.alpha, True))
    further: list[tuple[Plane, ...]] = photo.extra.get(PLANES, [])
    return planes + list(further[index] if further else ())


def _bands(plane: npt.NDArray[Any], mask: BoolMask | None) -> Iterator[npt.NDArray[Any]]:
    """Yield the known samples in row order, as unsigned integers so that NaN equals itself."""
    height, samples = plane.shape[0], max(1, plane[:1].size)
    unsigned = {4: np.dtype("<u4"), 2: np.dtype("<u2"), 1: np.dtype("u1")}[plane.itemsize]
    for top in range(0, height, rows := max(1, _SAMPLES_AT_ONCE // samples)):
        band = np.ascontiguousarray(plane[top : top + rows], plane.dtype.newbyteorder("<"))
        if mask is not None:
            # Pixels as single items: choosing among them takes a tenth of the time of samples.
            pixel_bytes = band[0, 0].nbytes
            pixels = band.reshape(-1).view(np.dtype((np.void, pixel_bytes)))
            band = pixels[~mask[top : top + rows].reshape(-1)]
        yield band.view(unsigned)


def _compare_plane(old: Plane, new: Plane, mask: BoolMask | None, where: str) -> None:
    if old.samples.shape != new.samples.shape or old.samples.dtype != new.samples.dtype:
        raise PreservationError(
            f"{where}: {old.samples.dtype} {old.samples.shape} became "
            f"{new.samples.dtype} {new.samples.shape}."
        )
    changed = sum(
        int(np.count_nonzero(one != other))
        for one, other in zip(_bands(old.samples, mask), _bands(new.samples, mask), strict=True)
    )
    if changed:
        raise PreservationError(f"{where}: {changed} known samples differ from the original.")


def _hash_plane(digest: Any, plane: Plane, mask: BoolMask | None, index: int) -> None:
    dtype = plane.samples.dtype.newbyteorder("<").str
    digest.update(f"{index} {plane.name} {dtype} {plane.samples.shape}\n".encode())
    for band in _bands(plane.samples, mask):
        digest.update(band.data)


def compare_parts(
    before: dict[str, bytes] | Sequence[tuple[str, bytes]],
    after: dict[str, bytes] | Sequence[tuple[str, bytes]],
    name: str,
) -> None:
    """Check that kept parts of a file (chunks, tags, segments) are the same bytes.

    Args:
        before: label and bytes of each part of the original, in file order where that matters.
        after: the same of the output.
        name: what to call the file in messages.

    Raises:
        PreservationError: a part is missing, new, moved or changed; the message names it.
    """
    old = list(before.items()) if isinstance(before, dict) else list(before)
    new = list(after.items()) if isinstance(after, dict) else list(after)
    for (old_label, old_bytes), (new_label, new_bytes) in zip(old, new, strict=False):
        if old_label != new_label:
            raise PreservationError(
                f"{name}: expected {old_label} where the output has {new_label}."
            )
        if old_bytes != new_bytes:
            raise PreservationError(f"{name}: {old_label} differs from the original.")
    if len(old) != len(new):
        label = (old[len(new) :] or new[len(old) :])[0][0]
        raise PreservationError(
            f"{name}: {label} is {'missing from' if len(old) > len(new) else 'new in'} the output."
        )
