"""What is to be done about one page: which overlay lies on it, un-blended; what is lost."""

from __future__ import annotations

import io
from typing import Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from restorepix.color import fit_curve
from restorepix.masks import ClassFinding, EffectiveMask, FoundMask
from restorepix.photo import BoolMask, Page, Photo
from restorepix.watermark.overlay import Overlay, place_overlay
from restorepix.watermark.presence import LUMA, find_lost, measure_presence
from restorepix.watermark.stamps import find_strokes
from restorepix.watermark.study import Family, Located, Study, locate, read_rgb
from restorepix.watermark.tiling import find_tiling

Floats = npt.NDArray[np.float32]

MAX_ALPHA: Final = 0.85
"""Largest alpha that is un-blended: beyond it noise grows more than sixfold."""
_NEAR_ONE: Final = 0.98
_SMEARED: Final = 0.02
"""Least alpha of chroma at half resolution that is undone: below, nothing is seen."""
_LEFT_OVER: Final = 0.2
"""Share of the overlay that may still be seen in the result; above it, it is repainted whole."""
_LOOK_AT: Final = 0.1
"""Share from which the result is listed for a look."""


class PagePlan(NamedTuple):
    """How one page is repaired."""

    clean: Floats
    """(H, W, 3) the photograph un-blended, in [0, 1]; lost pixels hold anything."""
    lost: BoolMask
    """Pixels to repaint."""
    is_given_up: bool = False
    """Whether un-blending failed, so that all is repainted."""


class PageRepair(NamedTuple):
    """What is to be done with one page."""

    mask: BoolMask | None
    plan: PagePlan | None
    notes: list[str]
    certainty: float


def _leave(*notes: str) -> PageRepair:
    return PageRepair(None, None, list(notes), 0.0)


NOTHING_COMMON: Final = (
    "no watermark or date stamp that repeats was found, neither over the photographs nor within "
    "this one: nothing was changed. Five photographs that carry it are needed, or --overlay, or "
    "--mask"
)


PARTIAL: Final = (
    "the watermark is faint, and not all of its outline was certain: a part of it may remain"
)


def find_pages(
    study: Study, photo: Photo, known: EffectiveMask | None
) -> tuple[FoundMask, list[PagePlan | None]]:
    """Return what overlays cover on a photograph, and how each page is repaired.

    Args:
        study: what is known of the folder.
        photo: the decoded file.
        known: the mask that a user gave for it, or None.
    """
    pages: list[BoolMask | None] = []
    plans: list[PagePlan | None] = []
    review: list[str] = []
    sure = 0.0
    shared = find_shared(photo)
    for number, page in enumerate(photo.pages):
        limit = None if known is None else known.pages[number]
        mask, plan, notes, certainty = _find_page(
            study, page, limit, shared, has_mask=known is not None
        )
        where = f"page {number + 1}: " if len(photo.pages) > 1 else ""
        review += [where + note for note in notes]
        pages.append(mask)
        plans.append(plan)
        sure = max(sure, certainty)
    mask = EffectiveMask(tuple(pages), () if known is None else known.review)
    if known is not None:
        return FoundMask(mask, review=tuple(review), given=known), plans
    if mask.hole_pixels:
        finding = ClassFinding(mask.hole_pixels, round(sure, 3))
        return FoundMask(mask, {"watermark": finding}, tuple(review)), plans
    if not review and not study.families and not study.stamps:
        review.append(" ".join(study.notes) or NOTHING_COMMON)
    return FoundMask(mask, review=tuple(review)), plans


def _find_page(
    study: Study, page: Page, limit: BoolMask | None, shared: tuple[int, int], *, has_mask: bool
) -> PageRepair:
    """Return what is to be done with one page.

    Args:
        study: what is known of the folder.
        page: the pixels.
        limit: (H, W) bool, where the overlay is at most; None for everywhere.
        shared: rows and columns of pixels that share a sample of chroma: :func:`find_shared`.
        has_mask: whether a user said where the overlay is, on this page or on others.
    """
    if page.color == "cmyk":
        return _leave("overlays on CMYK pictures are not un-blended; convert to RGB")
    if has_mask and limit is None:
        return _leave()
    photo = read_rgb(page)
    located, family = _locate(study, photo)
    if located is not None and family is not None:
        if located.is_sure:
            placed = place_overlay(family.overlay, located.placement, photo.shape[:2])
            certainty = 1 - min(1.0, 2 * located.error / max(located.share, 1e-6))
            repair = _unblend(page, photo, placed, limit, shared, certainty)
            if family.is_partial and repair.mask is not None:
                repair.notes.append(PARTIAL)
        else:
            repair = _leave(
                "a watermark may be here, but too faintly to be sure "
                f"({located.share:.2f} of what the others carry); nothing was changed"
            )
    elif limit is not None:  # the mask says that something is there: it is repainted
        repair = PageRepair(limit, None, [], 0.0)
    else:
        repair = _find_tiled(study, page, photo, shared)
    return repair if has_mask else _add_stamps(study, repair, photo, shared)


def _find_tiled(study: Study, page: Page, photo: Floats, shared: tuple[int, int]) -> PageRepair:
    """Return what is to be done about a pattern that repeats within one page."""
    if not study.tiles:
        return _leave()
    tiling = find_tiling(photo)
    if tiling.overlay is None:
        return _leave() if not tiling.doubt else _leave(
            f"a pattern repeats over the picture, and was left alone: {tiling.doubt}"
        )  # fmt: skip
    repair = _unblend(page, photo, tiling.overlay, None, shared, tiling.certainty)
    if repair.plan is not None and repair.plan.is_given_up:
        return _leave("a pattern that repeats over the picture could not be taken off cleanly")
    return repair


def _add_stamps(
    study: Study, repair: PageRepair, photo: Floats, shared: tuple[int, int]
) -> PageRepair:
    """Return a repair that repaints the date stamps of a page, too."""
    mask, plan, notes, certainty = repair
    size = (photo.shape[0], photo.shape[1])
    for stamp in study.list_stamps(size):
        strokes = find_strokes(photo, stamp, smeared_px=max(shared) - 1)
        if strokes.is_doubtful:
            notes = [*notes, "a date stamp may be here, but it cannot be told from what is "
                             "behind it: it was left"]  # fmt: skip
        if strokes.mask is None:
            continue
        if strokes.may_remain:
            notes = [*notes, "the picture behind the date stamp has its colour in places: some "
                             "of it may remain"]  # fmt: skip
        certainty = max(certainty, strokes.certainty)
        if plan is not None:
            plan = plan._replace(lost=plan.lost | strokes.mask)
        mask = strokes.mask if mask is None else mask | strokes.mask
    return PageRepair(mask, plan, notes, certainty)


def _locate(study: Study, photo: Floats) -> tuple[Located | None, Family | None]:
    found = [(located, family) for family in study.families
             if (located := locate(photo, family)) is not None]  # fmt: skip
    return max(found, key=lambda one: one[0].share / max(one[0].error, 1e-6), default=(None, None))


def _unblend(
    page: Page,
    photo: Floats,
    placed: Overlay,
    limit: BoolMask | None,
    shared: tuple[int, int],
    certainty: float,
) -> PageRepair:
    mask = placed.find_support()
    if shared != (1, 1):
        layers = np.dstack([placed.alpha, placed.alpha[..., None] * placed.color])
        coarse = smear(layers, shared)
        # Chroma is changed where the smeared overlay is visible, grey overlays included.
        mask |= coarse[..., 0] > _SMEARED
    if limit is not None:
        mask &= limit
    if not mask.any():
        return _leave()
    placed.alpha[~mask] = 0
    clean = unblend(photo, placed, shared_px=shared)
    lost = find_lost(photo, placed, clean, max_alpha=MAX_ALPHA)
    clean = np.clip(clean, 0, 1)
    notes: list[str] = []
    is_given_up = False
    if fit_curve(page).strength:
        # Shown through a curve, a mixture is no mixture any more.
        lost, is_given_up = mask.copy(), True
    else:
        rest = measure_presence(np.where(lost[..., None], photo, clean), _without(placed, lost))
        if abs(rest.share) > _LEFT_OVER and abs(rest.share) > 3 * rest.error:
            lost, is_given_up = mask.copy(), True
            notes.append(
                f"un-blending left {abs(rest.share):.0%} of the watermark: it was repainted"
            )
        elif abs(rest.share) > _LOOK_AT and abs(rest.share) > 3 * rest.error:
            notes.append(f"about {abs(rest.share):.0%} of the watermark may still be seen")
    return PageRepair(mask, PagePlan(clean, lost, is_given_up), notes, certainty)


def unblend(photo: Floats, overlay: Overlay, *, shared_px: tuple[int, int] = (1, 1)) -> Floats:
    """Return a photograph without an overlay: ``J = (I - alpha W) / (1 - alpha)``.

    A JPEG file that holds chroma at half the resolution holds the overlay's chroma so too: there
    ``alpha`` and ``alpha W`` are averaged over the pixels that share a sample, and interpolated
    as decoders do, before chroma is un-blended.

    Args:
        photo: (h, w, 3) float32 RGB in [0, 1].
        overlay: of the same size.
        shared_px: rows and columns of pixels that share a sample of chroma.

    Returns:
        (h, w, 3) float32, not clipped; the photograph's own values where nothing covers it.
    """
    alpha = np.minimum(overlay.alpha, _NEAR_ONE)[..., None]
    clean = np.where(alpha > 0, (photo - alpha * overlay.color) / (1 - alpha), photo)
    if shared_px == (1, 1):
        return clean
    smeared = smear(np.dstack([alpha, alpha * overlay.color]), shared_px)
    coarse = np.minimum(smeared[..., :1], _NEAR_ONE)
    covered = coarse > 1 / 512
    rough = np.where(covered, (photo - smeared[..., 1:]) / (1 - coarse), photo)
    # Luma from the fine one, chroma from the coarse one: R - Y, G - Y and B - Y are chroma.
    return np.where(covered, rough + ((clean - rough) @ LUMA)[..., None], photo)


def smear(layers: Floats, shared_px: tuple[int, int]) -> Floats:
    """Return (h, w, C) layers as they come back from being stored at a lower resolution."""
    height, width = layers.shape[:2]
    low = (-(-height // shared_px[0]), -(-width // shared_px[1]))
    padded = cv2.copyMakeBorder(
        layers, 0, low[0] * shared_px[0] - height, 0, low[1] * shared_px[1] - width,
        cv2.BORDER_REPLICATE,
    )  # fmt: skip
    small = cv2.resize(padded, low[::-1], interpolation=cv2.INTER_AREA)
    large = cv2.resize(small, padded.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(large[:height, :width], np.float32)


def find_shared(photo: Photo) -> tuple[int, int]:
    """Return how many rows and columns of pixels share a sample of chroma, as displayed."""
    if photo.format != "jpeg":
        return 1, 1
    with Image.open(io.BytesIO(photo.source)) as image:
        layers = getattr(image, "layer", [])
    if len(layers) != 3:
        return 1, 1
    (_, wide, high, _), (_, less_wide, less_high, _) = layers[:2]
    rows, columns = max(1, high // less_high), max(1, wide // less_wide)
    return (columns, rows) if photo.orientation > 4 else (rows, columns)


def _without(overlay: Overlay, lost: BoolMask) -> Overlay:
    return Overlay(np.where(lost, 0, overlay.alpha).astype(np.float32), overlay.color)
