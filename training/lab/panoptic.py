"""From a map of classes to single things, and how well they are found: PQ.

Kirillov et al., "Panoptic Segmentation" (CVPR 2019). The instances of a semantic map are its
connected parts: things of one class that touch count as one, which is the limit of this shortcut.
"""

from __future__ import annotations

from collections.abc import Collection

import cv2
import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.uint8]
Panoptic = npt.NDArray[np.int32]

STRIDE = 1000
"""A panoptic id is class * STRIDE + instance; instances count from 1, stuff has 0."""

IGNORE = 255
VOID = -1
"""Panoptic id of pixels that count neither way."""


def build_panoptic(labels: Labels, *, things: Collection[int], min_pixels: int = 1) -> Panoptic:
    """Give every connected part of a thing's class an id of its own.

    Args:
        labels: (H, W) uint8 classes; 255 counts neither way.
        things: classes that come in instances; the others are stuff.
        min_pixels: smaller parts become class 0.

    Returns:
        (H, W) int32 ids, see ``STRIDE`` and ``VOID``.
    """
    ids = labels.astype(np.int32) * STRIDE
    ids[labels == IGNORE] = VOID
    for kind in things:
        mask = (labels == kind).astype(np.uint8)
        _, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        number = 0
        for part in range(1, len(stats)):
            here = parts == part
            if stats[part, cv2.CC_STAT_AREA] < min_pixels:
                ids[here] = 0
                continue
            number += 1
            ids[here] = kind * STRIDE + number
    return ids


def panoptic_quality(
    predicted: Panoptic, truth: Panoptic, classes: Collection[int]
) -> dict[int, tuple[float, int, int, int]]:
    """Sum of IoU over matches, matches, false finds and misses of each class (eq. 1).

    A pair of one class matches if its IoU is above a half, which makes matches unique. Pixels that
    are void in the truth are left out of everything; a find that is void for more than half is no
    false one.
    """
    counts = truth != VOID
    found: dict[int, tuple[float, int, int, int]] = {}
    for kind in classes:
        ours = _list_ids(predicted, kind)
        theirs = _list_ids(truth, kind)
        total, matched = 0.0, set[int]()
        false = 0
        for mine in ours:
            mask = predicted == mine
            inside = mask & counts
            best = 0.0
            for other in np.unique(truth[inside]).tolist() if inside.any() else []:
                if other not in theirs:
                    continue
                target = truth == other
                union = float((inside | target).sum())
                overlap = float((inside & target).sum()) / union
                if overlap > 0.5:
                    best = overlap
                    matched.add(other)
            if best:
                total += best
            elif 2 * int(inside.sum()) >= int(mask.sum()):
                false += 1
        found[kind] = (total, len(matched), false, len(theirs) - len(matched))
    return found


def average_quality(parts: Collection[dict[int, tuple[float, int, int, int]]]) -> float:
    """PQ over pictures: per class sum of IoU / (matches + half of errors), then the mean.

    Classes that occur nowhere are left out; 0.0 when none occurs.
    """
    classes = {kind for part in parts for kind in part}
    values: list[float] = []
    for kind in classes:
        summed = np.array([part[kind] for part in parts if kind in part]).sum(0)
        weight = summed[1] + (summed[2] + summed[3]) / 2
        if weight > 0:
            values.append(float(summed[0] / weight))
    return float(np.mean(values)) if values else 0.0


def _list_ids(ids: Panoptic, kind: int) -> set[int]:
    here = np.unique(ids[(ids >= 0) & (ids // STRIDE == kind)])
    return {int(value) for value in here}
