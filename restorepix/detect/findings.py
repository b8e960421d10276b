"""From maps of probability to pieces of damage: thresholds, sizes, margins, confidence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from restorepix.masks import ClassFinding, DamageClass, dilate_mask
from restorepix.options import DetectOptions, Region
from restorepix.photo import BoolMask

MARGIN_PX: Final[Mapping[DamageClass, int]] = {"scratch": 2, "text": 2, "watermark": 2}
"""How far a mask reaches beyond what was found, at up to 4 megapixels: soft edges, halos and the
rings of JPEG are damage too. Larger pictures are softer: one pixel more from 4 megapixels, two
from 16. A guess from looking at masks over synthesised damage."""


class Marking(NamedTuple):
    """How pieces of one class are cut out of its map; the header of weights says it for each."""

    grow: float = 0.5
    """A piece grows from pixels at the threshold over neighbours down to this share of it
    (hysteresis, as of Canny 1986)."""
    min_area: int = 6
    """Smallest piece in pixels, before its margin, unless the options name one."""
    evidence: int = 0
    """Sure pixels that a page of ``EVIDENCE_AREA`` needs in all before anything of the class is
    marked; larger pages need more, by the root of their area. Damage comes in numbers; what merely
    looks like it in a sound photograph is mostly alone."""
    floor: float = -20.0
    """Logits below this count as this when the answers at several sizes are averaged: a size that
    cannot see a piece must not outvote one that can."""
    sure: float = 0.0
    """Pixels count as evidence from so many logits above the threshold on: whether there is damage
    asks for more certainty than where it is, once there is some."""
    share: float = 0.0
    """Of the pixels that would be marked at least this share has to be sure, or none is: damage has
    a core, and what looks a little like it over large parts of a sound photograph has none."""


EVIDENCE_AREA: Final = 640 * 480
"""Pixels of the page for which ``Marking.evidence`` is given."""


DEFAULT_MARKING: Final = Marking()
"""That of weights whose header says nothing."""

MIN_CONFIDENCE: Final = 0.6
"""A class whose pieces are believed less than this on average is listed as needing review."""

MAX_COMPONENTS: Final = 2000
"""Pieces told apart in a record, the largest first; the mask has them all."""


@dataclass(frozen=True)
class PageFindings:
    """What was found on one page."""

    mask: BoolMask
    """(H, W) bool, True = damage and its margin, all classes together."""
    detected: Mapping[DamageClass, ClassFinding]
    components: tuple[Mapping[str, Any], ...]
    """Each piece: ``class``, ``box`` (left, top, width, height in pixels, without margin),
    ``pixels`` and ``confidence`` (mean probability of those at the threshold or above)."""


def find_damage(
    maps: Mapping[DamageClass, npt.NDArray[np.uint8]],
    options: DetectOptions,
    *,
    page: int = 0,
    extra: BoolMask | None = None,
    markings: Mapping[DamageClass, Marking] | None = None,
) -> PageFindings:
    """Turn maps into a mask and its pieces.

    Args:
        maps: per class (H, W) uint8, 255 = certainly damage; at least one class.
        options: thresholds, regions, smallest area.
        page: its number, for the components.
        extra: (H, W) bool of what is known as scratch from elsewhere (infrared).
        markings: what the weights say of a class; None or a missing class for the default.
    """
    first = next(iter(maps.values()))
    height, width = first.shape
    allowed = paint_regions(options.regions, options.ignore_regions, height, width)
    total = np.zeros((height, width), np.bool_)
    detected: dict[DamageClass, ClassFinding] = {}
    components: list[Mapping[str, Any]] = []
    for name, probability in maps.items():
        marking = (markings or {}).get(name, DEFAULT_MARKING)
        known = extra if name == "scratch" else None
        found = _find_pieces(probability, options, marking, allowed, known)
        if found is None:
            detected[name] = ClassFinding(0, 0.0)
            continue
        mask, areas, means, boxes = found
        grown = dilate_mask(mask, _margin(name, height * width) + options.dilate)
        if allowed is not None:
            grown &= allowed
        total |= grown
        confidence = float((areas * means).sum() / areas.sum())
        detected[name] = ClassFinding(int(np.count_nonzero(grown)), round(confidence, 3))
        for index in np.argsort(-areas, kind="stable")[:MAX_COMPONENTS]:
            components.append(
                {
                    "page": page,
                    "class": name,
                    "box": [int(value) for value in boxes[index]],
                    "pixels": int(areas[index]),
                    "confidence": round(float(means[index]), 3),
                }
            )
    return PageFindings(total, detected, tuple(components))


def find_pixels(
    probability: npt.NDArray[np.uint8], options: DetectOptions, marking: Marking = DEFAULT_MARKING
) -> BoolMask:
    """Return the pixels of the pieces of one class, (H, W) bool, without margins or regions."""
    found = _find_pieces(probability, options, marking, None, None)
    return np.zeros(probability.shape, np.bool_) if found is None else found[0]


def evidence_level(threshold: float, marking: Marking) -> int:
    """Return the level of a map, 1 to 255, from which on a pixel counts as evidence.

    Args:
        threshold: the probability that begins a piece, between 0 and 1.
        marking: that of the class.
    """
    odds = threshold / max(1 - threshold, 1e-9) * math.exp(marking.sure)
    return max(1, round(255 * odds / (1 + odds)))


def needed_evidence(marking: Marking, pixels: int) -> float:
    """Return how many sure pixels a page of so many pixels needs."""
    return marking.evidence * math.sqrt(max(1.0, pixels / EVIDENCE_AREA))


def _find_pieces(
    probability: npt.NDArray[np.uint8],
    options: DetectOptions,
    marking: Marking,
    allowed: BoolMask | None,
    known: BoolMask | None,
) -> tuple[BoolMask, npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int32]] | None:
    """Pixels, and of each piece area, confidence and box; None when there is no piece."""
    min_area = marking.min_area if options.min_area is None else options.min_area
    high = max(1, round(options.threshold * 255))
    # At least one pixel begins a piece wherever one is sure, but not the other way round.
    sure = probability >= evidence_level(options.threshold, marking)
    if allowed is not None:
        sure &= allowed
    evidence = np.count_nonzero(sure)
    if evidence < max(1, needed_evidence(marking, probability.size)):
        if known is None:
            return None
        probability = np.zeros_like(probability)
    if known is not None:  # what infrared shows needs no other evidence
        probability = np.maximum(probability, known.astype(np.uint8) * np.uint8(255))
        if int(probability.max(initial=0)) < high:
            return None
    low = probability >= max(1, round(options.threshold * marking.grow * 255))
    if allowed is not None:
        low &= allowed
    found = cv2.connectedComponentsWithStats(low.view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    count = found[0]
    labels, stats = np.asarray(found[1], np.int32), np.asarray(found[2], np.int32)
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.int64)
    keep = np.zeros(count, np.bool_)
    sure = (probability >= high) & low
    keep[labels[sure]] = True
    keep &= areas >= min_area
    keep[0] = False
    if not keep.any():
        return None
    if 0 < evidence < marking.share * areas[keep].sum():
        nothing = np.zeros_like(probability)
        return _find_pieces(nothing, options, marking, allowed, known)
    inside = low & keep[labels]
    # Background is most of the picture: sums only over the pixels that are sure.
    owners = labels[sure]
    sums: npt.NDArray[Any] = np.bincount(
        owners, weights=probability[sure].astype(np.float64), minlength=count
    )
    means = sums[keep] / np.bincount(owners, minlength=count)[keep] / 255
    boxes = stats[keep][:, [cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP,
                            cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]]  # fmt: skip
    return inside, areas[keep], means, boxes.astype(np.int32)


def _margin(name: DamageClass, pixels: int) -> int:
    return MARGIN_PX[name] + (pixels > 4_000_000) + (pixels > 16_000_000)


def paint_regions(
    regions: Sequence[Region], ignored: Sequence[Region], height: int, width: int
) -> BoolMask | None:
    """Return where damage may be found, (H, W) bool, or None for everywhere.

    Args:
        regions: look only here; empty for everywhere.
        ignored: never here; wins over ``regions``.
        height: rows of the picture.
        width: columns of the picture.
    """
    if not regions and not ignored:
        return None
    allowed = np.full((height, width), not regions, np.bool_)
    for region in regions:
        allowed[region.resolve(height, width)] = True
    for region in ignored:
        allowed[region.resolve(height, width)] = False
    return allowed


def review_confidence(detected: Mapping[DamageClass, ClassFinding]) -> tuple[str, ...]:
    """Return a sentence for each class that was found but is hardly believed."""
    return tuple(
        f"{name} was detected with a low confidence of {found.confidence:.2f} "
        f"(below {MIN_CONFIDENCE}): look at the mask"
        for name, found in detected.items()
        if found.pixels and found.confidence < MIN_CONFIDENCE
    )
