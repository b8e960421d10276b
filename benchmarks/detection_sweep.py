"""What choices of threshold, growth, smallest piece and evidence give, damaged and clean.

``benchmarks.detection --sweep`` prints the table, ``training.calibrate`` chooses from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.detection_scores import TOLERANCE_PX, Counts
from restorepix.detect.findings import Marking, needed_evidence
from restorepix.masks import DamageClass
from training.synthesis.sample import Sample

CLASSES: Final[tuple[DamageClass, ...]] = ("scratch", "text", "watermark")

SHIFT: Final = 1.0
"""Maps are scanned with logits lowered by this: 8 bits then tell logits from -4 to 6 apart."""

FLOOR: Final = SHIFT - 6.232
"""The lowest raw logit that 8 bits tell then: what settings are chosen with."""

Maps = npt.NDArray[np.uint8]
Scan = Callable[[npt.NDArray[np.uint8]], Maps]


class Setting(NamedTuple):
    """One way to cut pieces out of a map; both limits are logits of the network's raw answer."""

    begin: float
    """A piece holds a pixel with this or more."""
    grow: float
    """And consists of pixels with this or more."""
    min_area: int
    evidence: int = 0
    """Sure pixels that a picture needs; see ``Marking.evidence``."""
    sure: float = 0.0
    """How far above ``begin`` pixels are sure."""
    share: float = 0.0
    """Share of the marked pixels that must be."""

    @property
    def marking(self) -> Marking:
        """The same for weights whose logits are lowered by ``begin``: 0.5 begins a piece."""
        return Marking(
            round(2 / (1 + math.exp(self.begin - self.grow)), 4),
            self.min_area,
            self.evidence,
            round(FLOOR - self.begin, 3),
            self.sure,
            self.share,
        )


SETTINGS: Final = tuple(
    Setting(begin, grow, area, evidence, sure, share)
    for begin, grow, area, evidence, sure, share in product(
        (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0),
        (-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0),
        (6, 40),
        (0, 50, 100, 200, 400, 800, 1600, 3200),
        (0.0, 1.5, 2.5, 3.5),
        (0.0, 0.03, 0.06, 0.12),
    )
    if grow <= begin <= grow + 4 and begin + sure <= 5 and (evidence or not sure + share)
)
"""Where limits are further apart, 8 bits do not tell the lower one of calibrated maps, nor the
higher one of ``SHIFT`` ed maps. Below -2 ``FLOOR`` is so near that half and quarter size together
outvote full size: lettering of the scene was marked in small pictures."""


@dataclass
class Row:
    """What a setting gives for one class."""

    counts: Counts
    """On pictures with damage of this class."""
    marked: int = 0
    """Clean photographs in which it marks anything."""
    pixels: float = 0.0
    """Sum over clean photographs of the share of marked pixels."""


Table = Mapping[DamageClass, Mapping[Setting, Row]]


def level(logit: float) -> int:
    """The level of a map scanned with ``SHIFT`` from which on the raw logit is this or more."""
    return max(1, math.ceil(255 / (1 + math.exp(SHIFT - logit)) - 0.5))


def cut_pieces(
    plane: npt.NDArray[np.uint8], grow: float
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Pieces of a map (H, W): label of each pixel (0 none), area and highest level by label."""
    low = plane >= level(grow)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        low.astype(np.uint8), connectivity=8, ltype=cv2.CV_32S
    )
    peaks = np.zeros(count, np.uint8)
    np.maximum.at(peaks, labels[low], plane[low])
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.int64)
    areas[0] = 0
    return np.asarray(labels, np.int32), areas, peaks


def sweep(
    scan: Scan,
    damaged: Mapping[DamageClass, Sequence[Sample]],
    clean: Iterable[npt.NDArray[np.uint8]],
    settings: Sequence[Setting] = SETTINGS,
) -> Table:
    """Score every setting for every class.

    Args:
        scan: from a picture to its maps, with logits lowered by ``SHIFT``.
        damaged: pictures with damage of each class.
        clean: photographs without any, (H, W, 3) uint8.
        settings: to be scored.
    """
    table = {kind: {setting: Row(Counts()) for setting in settings} for kind in CLASSES}
    cuts: dict[Setting, list[Setting]] = {}
    for setting in settings:
        cuts.setdefault(setting._replace(evidence=0, sure=0.0, share=0.0), []).append(setting)
    for channel, kind in enumerate(CLASSES):
        for sample in damaged.get(kind, ()):
            plane, target = scan(sample.image)[channel], sample.target[channel]
            for cut, pieces in _cut_all(plane, cuts):
                found, missed = Counts(), Counts()
                found.add(pieces.keep[pieces.labels], target, TOLERANCE_PX)
                missed.truth = found.truth
                for setting in cuts[cut]:
                    counts = found if pieces.suffice(setting) else missed
                    table[kind][setting].counts += counts
    for photo in clean:
        maps = scan(photo)
        for channel, kind in enumerate(CLASSES):
            for cut, pieces in _cut_all(maps[channel], cuts):
                share = pieces.marked / pieces.labels.size
                for setting in cuts[cut]:
                    if pieces.suffice(setting):
                        row = table[kind][setting]
                        row.marked += share > 0
                        row.pixels += share
    return table


class _Pieces(NamedTuple):
    """A map cut by one setting."""

    labels: npt.NDArray[np.int32]
    areas: npt.NDArray[np.int64]
    keep: npt.NDArray[np.bool_]
    """By label, whether the piece is marked."""
    sure: Mapping[float, int]
    """Pixels at each logit or above that a setting asks for, in pieces of any size."""

    @property
    def marked(self) -> int:
        """Pixels of the pieces that are marked."""
        return int(self.areas[self.keep].sum())

    def suffice(self, setting: Setting) -> bool:
        """Whether a setting marks them."""
        sure = self.sure[setting.begin + setting.sure]
        needed = needed_evidence(setting.marking, self.labels.size)
        return sure >= needed and sure >= setting.share * self.marked


def _cut_all(
    plane: npt.NDArray[np.uint8], cuts: Mapping[Setting, Sequence[Setting]]
) -> Iterator[tuple[Setting, _Pieces]]:
    """Every key of ``cuts`` with what it cuts out of a map; the values differ in evidence alone."""
    logits = {setting.begin + setting.sure for settings in cuts.values() for setting in settings}
    grown = {grow: cut_pieces(plane, grow) for grow in {cut.grow for cut in cuts}}
    sure = {logit: int(np.count_nonzero(plane >= level(logit))) for logit in logits}
    for cut in cuts:
        labels, areas, peaks = grown[cut.grow]
        keep = (peaks >= level(cut.begin)) & (areas >= cut.min_area)
        yield cut, _Pieces(labels, areas, keep, sure)


def choose(
    rows: Mapping[Setting, Row], clean: int, limit: float, pixels: float = 1.0
) -> Setting | None:
    """The setting with the highest F1 that marks at most these shares.

    Args:
        rows: what each setting gives.
        clean: number of clean photographs.
        limit: share of them in which it may mark anything.
        pixels: share of their pixels that it may mark, on average.

    Returns:
        None when none marks so few and finds any damage.
    """
    able = [
        one
        for one, row in rows.items()
        if row.marked <= limit * clean and row.pixels <= pixels * clean and row.counts.hit
    ]
    return max(able, key=lambda setting: rows[setting].counts.f1, default=None)


def format_table(table: Table, clean: int, limits: Sequence[float]) -> str:
    """For each class and limit of clean photographs marked, the best setting and what it gives."""
    lines = [
        f"| class | at most | begin | grow | min area | evidence | sure | share | precision "
        f"| recall | F1 | IoU | of {clean} clean marked | their pixels |",
        "|---" * 14 + "|",
    ]
    for kind, rows in table.items():
        for limit in limits:
            setting = choose(rows, clean, limit)
            if setting is None:
                lines.append(f"| {kind} | {100 * limit:g} % | none" + " | " * 11 + " |")
                continue
            row = rows[setting]
            scores = " | ".join(f"{value:.3f}" for value in row.counts.as_row().values())
            lines.append(
                f"| {kind} | {100 * limit:g} % | {setting.begin:g} | {setting.grow:g} "
                f"| {setting.min_area} | {setting.evidence} | +{setting.sure:g} "
                f"| {setting.share:g} | {scores} "
                f"| {100 * row.marked / max(1, clean):.1f} % "
                f"| {100 * row.pixels / max(1, clean):.3f} % |"
            )
    return "\n".join(lines) + "\n"
