"""What a folder's photographs have in common: groups, and the overlay of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from restorepix.color import page_to_rgb
from restorepix.errors import MaskError, PhotoError, UnreadableError
from restorepix.formats import read_photo
from restorepix.options import Region
from restorepix.photo import BoolMask, Page
from restorepix.pipeline import read_file
from restorepix.tiles import Box
from restorepix.watermark.consensus import fill_outline, find_agreement
from restorepix.watermark.estimate import MIN_PHOTOS, estimate_overlay
from restorepix.watermark.faint import estimate_faint
from restorepix.watermark.overlay import Overlay, Placement, place_overlay
from restorepix.watermark.planes import grow_square, resize, resize_mask
from restorepix.watermark.presence import (
    PRESENT_FROM,
    SURE_FROM,
    Presence,
    find_placement,
    measure_presence,
)
from restorepix.watermark.stamps import Stamp, StampSearch

Floats = npt.NDArray[np.float32]
Size = tuple[int, int]

SAMPLE_PHOTOS: Final = 24
"""Photographs of a group that its overlay is estimated from: more change little, and cost time."""
_LOOK_PX: Final = 720
"""Longer side, in pixels, at which a group is first looked at."""
_STACK_PX: Final = 24_000_000
"""Pixels of all photographs together in an estimate: about 1.5 GB of memory."""
_MOST_SHARE: Final = 0.4
"""Photographs that agree on more of the picture than this show the same scene."""
_MARGIN_PX: Final = 24
"""Surround, in pixels, that an estimate sees around an overlay."""
SEARCH_PX: Final = 4
"""How far an overlay is looked for around the place where its group has it."""
_EXPLAINED: Final = 0.5
"""Share of the outline on which photographs agree that an estimate has to cover. Measured with text
on 20 photographs: 0.02 at opacity 0.1, 0.39 at 0.15, 0.85 at 0.2."""
_NEARLY: Final = 0.95
"""Share below which medians of gradients are asked, too, where an overlay is light. Measured with
text at 0.15: 0.86, and 0.99 for those medians, which gained 7 dB more; at 0.2, 0.99 without."""
_LIGHT: Final = 0.25
"""Opacity of what is light."""
_WHOLE: Final = 0.85
"""Share below which a part may remain. Measured on two folders: 0.99 for a logo at opacity 0.45,
which came off whole; 0.73 for text at 0.1, of which two letters were left."""
TOO_FAINT: Final = (
    "photographs agree on the outline of something faint, but too little of it is certain to take "
    "it off: nothing was changed. More photographs may help, or --overlay with the watermark itself"
)
_ANCHORS: Final = tuple(product((1.0, 0.0, 0.5), (1.0, 0.0, 0.5)))


class Frame(NamedTuple):
    """How photographs of several sizes are laid over each other."""

    anchor: tuple[float, float]
    """The point that they share, as shares of height and width: (1, 1) is the corner at the
    lower right."""
    scaling: str
    """``none``: pixels are kept; ``width``, ``height``, ``short``: overlays grow with that side."""


@dataclass(frozen=True, eq=False)
class Family:
    """An overlay and the photographs' size and place that it was found at."""

    overlay: Overlay
    place: Placement
    """Where it lies on a photograph of ``size``."""
    size: Size
    frame: Frame | None = None
    """How it lies on photographs of other sizes; None where that has to be tried."""
    photos: int = 0
    """Photographs that it was estimated from."""
    is_known: bool = False
    """Whether a user gave it: a logo that is looked for everywhere."""
    is_partial: bool = False
    """Whether photographs agree on outlines that the overlay does not cover."""

    def propose(self, size: Size) -> Iterator[Placement]:
        """Yield the placements to try on a photograph of a size, likelier ones first."""
        if size == self.size:
            yield self.place
            return
        if self.is_known:
            yield Placement((size[0] - self.overlay.shape[0]) // 2,
                            (size[1] - self.overlay.shape[1]) // 2)  # fmt: skip
        frames = [self.frame] if self.frame is not None else list(_list_frames())
        seen: set[Placement] = set()
        for frame in frames:
            placement = move_placement(self.place, self.size, size, frame)
            if placement not in seen:
                seen.add(placement)
                yield placement


@dataclass(frozen=True, eq=False)
class Study:
    """What was learned from a folder."""

    families: tuple[Family, ...] = ()
    stamps: tuple[Stamp, ...] = ()
    """Date stamps, whose characters differ from photograph to photograph."""
    tiles: bool = True
    """Whether photographs without any of these are searched for a watermark tiled over them."""
    notes: tuple[str, ...] = field(default=())
    """What a person should know of photographs without a family, one sentence each."""

    def list_stamps(self, size: Size) -> list[Stamp]:
        """Return the stamps that may be on photographs of a size."""
        own = [stamp for stamp in self.stamps if stamp.size == size]
        return own or list(self.stamps)


def move_placement(place: Placement, size: Size, other: Size, frame: Frame) -> Placement:
    """Return the placement on a photograph of another size that a frame makes of one."""
    scale = _choose_scale(size, other, frame.scaling)
    top = frame.anchor[0] * other[0] + (place.top - frame.anchor[0] * size[0]) * scale
    left = frame.anchor[1] * other[1] + (place.left - frame.anchor[1] * size[1]) * scale
    if scale == 1:
        top, left = round(top), round(left)
    return Placement(top, left, place.scale * scale, place.opacity)


def _choose_scale(size: Size, other: Size, scaling: str) -> float:
    if scaling == "width":
        return other[1] / size[1]
    if scaling == "height":
        return other[0] / size[0]
    if scaling == "short":
        return min(other) / min(size)
    return 1.0


def _list_frames() -> Iterator[Frame]:
    for scaling, anchor in product(("none", "width", "short", "height"), _ANCHORS):
        yield Frame(anchor, scaling)


def read_rgb(page: Page) -> Floats:
    """Return a page as (H, W, 3) float32 RGB in [0, 1]."""
    return page_to_rgb(page, Box(0, 0, page.height, page.width))


def study_folder(
    paths: Sequence[Path],
    *,
    regions: Sequence[Region] = (),
    support: BoolMask | None = None,
    max_mpixels: float,
    progress: Callable[[str], None] = lambda _: None,
) -> Study:
    """Return the overlays and date stamps that photographs share.

    Photographs of one size are a group; those of sizes that are rare are laid over each other by
    corners and by relative position. Files that cannot be read are left to the run, which tells.

    Args:
        paths: the photographs.
        regions: look only here; empty for everywhere.
        support: (h, w) bool, where the overlay is, on photographs of that size; None to find out.
        max_mpixels: largest picture to decode, in million pixels.
        progress: is told what is being looked at.
    """
    sizes = _measure_sizes(paths, max_mpixels)
    counts = Counter(sizes.values())
    families: list[Family] = []
    stamps: list[Stamp] = []
    notes: list[str] = []
    for size, count in counts.most_common():
        if count < MIN_PHOTOS:
            break
        if support is not None and support.shape != size:
            continue
        members = [path for path in paths if sizes.get(path) == size]
        progress(f"looking at {count} photographs of {size[1]}x{size[0]}")
        sample = _read_sample(_choose_sample(members), max_mpixels)
        if families and _fits(families, sample, size):
            continue
        group = _study_group(sample, size, regions, support)
        stamps += group.stamps
        if group.family is not None:
            families.append(group.family)
        elif group.note:
            notes.append(group.note)
    if not families and support is None:
        rare = [path for path in paths if path in sizes and counts[sizes[path]] < MIN_PHOTOS]
        if len(rare) >= MIN_PHOTOS:
            progress(f"looking at {len(rare)} photographs of several sizes")
            group = _study_mixed(_choose_sample(rare), max_mpixels, regions)
            stamps += group.stamps
            if group.family is not None:
                families.append(group.family)
    return Study(
        tuple(families),
        tuple(stamps),
        tiles=support is None and not regions,
        notes=tuple(dict.fromkeys(notes)),
    )


def _measure_sizes(paths: Sequence[Path], max_mpixels: float) -> dict[Path, Size]:
    sizes: dict[Path, Size] = {}
    for path in paths:
        try:
            data = read_file(path, UnreadableError, "cannot be opened")
            page = read_photo(data, str(path), max_mpixels=max_mpixels).pages[0]
        except PhotoError:
            continue
        if page.color != "cmyk":
            sizes[path] = (page.height, page.width)
    return sizes


def _choose_sample(paths: Sequence[Path]) -> list[Path]:
    if len(paths) <= SAMPLE_PHOTOS:
        return list(paths)
    places = np.linspace(0, len(paths) - 1, SAMPLE_PHOTOS).round().astype(int)
    return [paths[place] for place in places]


class _Sample:
    """Photographs that are read again when they are needed, for they may be many and large."""

    def __init__(self, paths: Sequence[Path], max_mpixels: float) -> None:
        self._paths, self._max_mpixels = paths, max_mpixels

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[Floats]:
        for path in self._paths:
            data = read_file(path, UnreadableError, "cannot be opened")
            yield read_rgb(read_photo(data, str(path), max_mpixels=self._max_mpixels).pages[0])


def _read_sample(paths: Sequence[Path], max_mpixels: float) -> _Sample:
    return _Sample(paths, max_mpixels)


def _fits(families: Sequence[Family], sample: _Sample, size: Size) -> bool:
    """Return whether most photographs of a sample carry an overlay that is known already."""
    carrying = 0
    for photo in list(sample)[:8]:
        carrying += any(locate(photo, family) is not None for family in families)
    return carrying >= 0.6 * min(8, len(sample))


class _Group(NamedTuple):
    """What was learned from a group of photographs."""

    family: Family | None = None
    stamps: tuple[Stamp, ...] = ()
    note: str = ""
    """Why there is no family, where that is worth telling."""


def _study_group(
    sample: _Sample, size: Size, regions: Sequence[Region], support: BoolMask | None
) -> _Group:
    """Return what photographs of one size share."""
    stamps: tuple[Stamp, ...] = ()
    outline = None
    factor = min(1.0, _LOOK_PX / max(size))
    small = (max(1, round(size[0] * factor)), max(1, round(size[1] * factor)))
    if support is None:
        search = StampSearch([size] * len(sample))
        looks: list[Floats] = []
        for photo in sample:
            looks.append(resize(photo, small))
            search.add(photo)
        outline = find_agreement(np.stack(looks))
        if outline.mean() > _MOST_SHARE:
            return _Group(note=(
                f"photographs of {size[1]}x{size[0]} agree nearly everywhere: they seem to show "
                "one scene, in which an overlay cannot be told apart"
            ))  # fmt: skip
        stamps = _choose_stamps(search, size, regions)
        # Characters that all dates have in common are a stamp's, not an overlay.
        outline &= _paint_regions(small, regions) & ~resize_mask(_paint_stamps(stamps, size), small)
        support = resize_mask(fill_outline(outline, 3), size)
    if not support.any():
        return _Group(stamps=stamps)
    box = bound(support, _MARGIN_PX)
    room = max(MIN_PHOTOS, _STACK_PX // (box.height * box.width))
    stack = np.stack([photo[box.slices()] for _, photo in zip(range(room), sample, strict=False)])
    reach = max(3, round(3 / factor))
    overlay = _estimate_aligned(stack, support[box.slices()], reach)
    explained = 1.0
    if outline is not None:
        explained = _measure_explained(outline, overlay, box, size)
        if explained < _EXPLAINED or (explained < _NEARLY and _is_light(overlay)):
            faint = estimate_faint(stack, support[box.slices()])
            more = _measure_explained(outline, faint, box, size)
            if more > explained and more >= _EXPLAINED and _is_carried(stack, faint):
                overlay, explained = faint, more
        if explained < _EXPLAINED:
            return _Group(stamps=stamps, note=TOO_FAINT)
    if overlay is None:
        return _Group(stamps=stamps)
    family = _cut(overlay, box, size, len(stack))
    return _Group(replace(family, is_partial=explained < _WHOLE), stamps)


def _measure_explained(outline: BoolMask, overlay: Overlay | None, box: Box, size: Size) -> float:
    """Return the share that an estimate covers of the outline that photographs agree on."""
    if overlay is None:
        return 0.0
    covered = np.zeros(size, np.bool_)
    covered[box.slices()] = overlay.alpha > 0
    covered = grow_square(resize_mask(covered, (outline.shape[0], outline.shape[1])), 2)
    return np.count_nonzero(outline & covered) / max(1, np.count_nonzero(outline))


def _is_light(overlay: Overlay | None) -> bool:
    """Return whether an overlay lets nearly all of the photographs through."""
    return overlay is None or float(np.percentile(overlay.alpha[overlay.alpha > 0], 98)) < _LIGHT


def _is_carried(stack: Floats, overlay: Overlay | None) -> bool:
    """Return whether at least half of the photographs carry an overlay beyond doubt."""
    if overlay is None:
        return False
    sure = [measure_presence(photo, overlay).is_sure for photo in stack]
    return sum(sure) >= len(sure) / 2


def _choose_stamps(search: StampSearch, size: Size, regions: Sequence[Region]) -> tuple[Stamp, ...]:
    """Return the stamps of a search that lie in the regions to look at."""
    allowed = _paint_regions(size, regions)
    return tuple(
        stamp for stamp in search.find()
        if (box := stamp.place(size)) is not None and allowed[box.slices()].mean() > 0.5
    )  # fmt: skip


def _paint_stamps(stamps: Sequence[Stamp], size: Size) -> BoolMask:
    mask = np.zeros(size, np.bool_)
    for stamp in stamps:
        box = stamp.place(size)
        if box is not None:
            mask[box.slices()] = True
            mask = grow_square(mask, max(2, min(box.height, box.width) // 2))
    return mask


def _estimate_aligned(stack: Floats, support: BoolMask, reach: int) -> Overlay | None:
    """Return the overlay of a stack, estimated again once its photographs are aligned to it."""
    overlay = estimate_overlay(stack, support, reach_px=reach)
    if not (overlay.alpha > 0).any():
        return None
    kept: list[Floats] = []
    moved = False
    for photo in stack:
        if not measure_presence(photo, overlay).share > 0.2:
            moved = True  # a photograph without the overlay says nothing of it
            continue
        place = find_placement(photo, overlay, Placement(0, 0), SEARCH_PX)
        if place.top or place.left:
            moved = True
            matrix = np.array([[1, 0, -place.left], [0, 1, -place.top]], np.float64)
            warped = cv2.warpAffine(
                photo, matrix, photo.shape[1::-1], flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )  # fmt: skip
            kept.append(np.asarray(warped, np.float32))
        else:
            kept.append(photo)
    if len(kept) < MIN_PHOTOS:
        return None
    if moved:
        overlay = estimate_overlay(np.stack(kept), overlay.alpha > 0, reach_px=reach)
    return overlay if (overlay.alpha > 0).any() else None


def _cut(overlay: Overlay, box: Box, size: Size, photos: int, frame: Frame | None = None) -> Family:
    """Return an overlay cut to what it covers, as a family."""
    inner = bound(overlay.alpha > 0, 0)
    window = inner.slices()
    small = Overlay(overlay.alpha[window].copy(), overlay.color[window].copy())
    place = Placement(box.top + inner.top, box.left + inner.left)
    return Family(small, place, size, frame, photos)


def bound(mask: BoolMask, margin: int) -> Box:
    """Return the smallest box around a mask that is not empty, grown inside the picture."""
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    top, left = max(0, int(rows[0]) - margin), max(0, int(columns[0]) - margin)
    bottom = min(mask.shape[0], int(rows[-1]) + 1 + margin)
    right = min(mask.shape[1], int(columns[-1]) + 1 + margin)
    return Box(top, left, bottom - top, right - left)


def _paint_regions(size: Size, regions: Sequence[Region]) -> BoolMask:
    allowed = np.full(size, not regions, np.bool_)
    for region in regions:
        allowed[region.resolve(*size)] = True
    return allowed


def _study_mixed(paths: Sequence[Path], max_mpixels: float, regions: Sequence[Region]) -> _Group:
    """Return what photographs of many sizes share, laid over each other in several frames.

    The frame in which they agree on the most is taken.
    """
    sample = list(_Sample(paths, max_mpixels))
    sizes = [(int(photo.shape[0]), int(photo.shape[1])) for photo in sample]
    target = (int(np.median([s[0] for s in sizes])), int(np.median([s[1] for s in sizes])))
    search = StampSearch(sizes)
    for photo in sample:
        search.add(photo)
    stamps = _choose_stamps(search, (min(s[0] for s in sizes), min(s[1] for s in sizes)), regions)
    if stamps:
        return _Group(stamps=stamps)  # its common characters would be taken for an overlay
    best: tuple[float, Frame, Floats, BoolMask] | None = None
    for frame in _list_frames():
        if frame.scaling == "height":
            continue
        stack = _lay_over(sample, target, frame)
        if stack is None:
            continue
        factor = min(1.0, _LOOK_PX / max(stack.shape[1:3]))
        small = (round(stack.shape[1] * factor), round(stack.shape[2] * factor))
        outline = find_agreement(np.stack([resize(photo, small) for photo in stack]))
        outline &= _paint_regions(small, regions)
        found = float(outline.sum()) / factor**2
        if found and outline.mean() <= _MOST_SHARE and (best is None or found > 1.2 * best[0]):
            whole = (int(stack.shape[1]), int(stack.shape[2]))
            region = resize_mask(fill_outline(outline, 3), whole)
            best = (found, frame, stack, region)
    if best is None:
        return _Group()
    _, frame, stack, region = best
    box = bound(region, _MARGIN_PX)
    overlay = _estimate_aligned(stack[(slice(None), *box.slices())], region[box.slices()], 3)
    if overlay is None:
        return _Group()
    return _Group(_cut(overlay, box, (stack.shape[1], stack.shape[2]), len(stack), frame))


def _lay_over(sample: Sequence[Floats], target: Size, frame: Frame) -> Floats | None:
    """Return photographs scaled as a frame says and cut to what all have around its anchor."""
    scaled: list[Floats] = []
    for photo in sample:
        size = (photo.shape[0], photo.shape[1])
        scale = _choose_scale(size, target, frame.scaling)
        new = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
        scaled.append(resize(photo, new))
    height = min(photo.shape[0] for photo in scaled)
    width = min(photo.shape[1] for photo in scaled)
    if min(height, width) < 48:
        return None
    cut: list[Floats] = []
    for photo in scaled:
        top = round(frame.anchor[0] * (photo.shape[0] - height))
        left = round(frame.anchor[1] * (photo.shape[1] - width))
        cut.append(photo[top : top + height, left : left + width])
    return np.stack(cut)


class Located(NamedTuple):
    """An overlay on one photograph."""

    placement: Placement
    share: float
    """How much of the expected overlay is there."""
    error: float
    is_sure: bool


def locate(photo: Floats, family: Family) -> Located | None:
    """Return where a family's overlay lies on a photograph; None where it is not there.

    Args:
        photo: (H, W, 3) float32 RGB in [0, 1].
        family: the overlay and where it is expected.
    """
    size = (photo.shape[0], photo.shape[1])
    best: Located | None = None
    for proposed in family.propose(size):
        wide = SEARCH_PX if size == family.size else max(size) // 50
        if family.is_known and size != family.size:
            wide = max(size)
        placement = find_placement(photo, family.overlay, proposed, max(SEARCH_PX, wide))
        for place in dict.fromkeys((proposed, placement)):
            presence = _measure_at(photo, family.overlay, place)
            if presence is None or not presence.share > 0.15:
                continue
            if best is None or presence.share / presence.error > best.share / best.error:
                best = Located(place, presence.share, presence.error, presence.is_sure)
        if best is not None and best.is_sure and best.share > 0.7:
            break
    if (
        best is None
        or best.share < 2.5 * best.error
        or (best.share < PRESENT_FROM and best.share < SURE_FROM * best.error)
    ):
        return None
    # Opacity differs from photograph to photograph only where the difference is beyond doubt.
    off = abs(best.share - 1)
    if best.is_sure and off > 0.3 and off > 4 * best.error and best.share * _top(family) < 1:
        best = best._replace(placement=best.placement._replace(opacity=best.share))
    return best


def _top(family: Family) -> float:
    return float(family.overlay.alpha.max())


def _measure_at(photo: Floats, overlay: Overlay, place: Placement) -> Presence | None:
    size = (photo.shape[0], photo.shape[1])
    placed = place_overlay(overlay, place, size)
    if not (placed.alpha > 0).any():
        return None
    box = bound(placed.alpha > 0, _MARGIN_PX)
    window = box.slices()
    return measure_presence(photo[window], Overlay(placed.alpha[window], placed.color[window]))


def read_support(path: Path, *, max_mpixels: float) -> BoolMask:
    """Return the hole of a mask file as (h, w) bool: where a watermark is known to be.

    Raises:
        UsageError: it cannot be read.
    """
    from restorepix.errors import UsageError
    from restorepix.masks import threshold_page

    try:
        data = read_file(path, MaskError, "the mask cannot be opened")
        photo = read_photo(data, str(path), max_mpixels=max_mpixels)
    except PhotoError as error:
        raise UsageError(f"--mask {path}: the mask cannot be read: {error}") from error
    return threshold_page(photo.pages[0])
