"""The Markdown tables of the quality benchmark, from the scores of every program and picture."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np

from benchmarks.scores import Interval, bootstrap_mean

Outcome = dict[str, float] | str
"""Scores by name (benchmarks/scores.py, and ``seconds``), or why a program refused."""

OURS = "restorepix"
SMOOTH = "texture off"
PARTS = (SMOOTH, "attention off", "whole picture at once", "coarse alone", "fill alone")

_INTRODUCTION = """\
# Quality beside other programs

Written by `python -m benchmarks.quality`; see [benchmarks/README.md](../benchmarks/README.md).
Held-out photographs of 256 x 256 px, of which nothing was trained on; one seeded mask of each
kind on every photograph. A program's picture is composited before it is judged: outside the hole
it is the truth. Means over photographs; intervals are 95 % bootstrap intervals of the mean paired
difference over the same photographs.
"""

_LEGEND = """\
PSNR in dB; SSIM per channel with a Gaussian window of 1.5 px; L1, L2 and TV (total variation) in
percent of full scale. Columns marked "hole" are over the hole alone, the others over the whole
picture. Sharpness kept: mean gradient magnitude of luma in the hole over the truth's. Known
changed: known pixels that the program altered before compositing, and the largest change in
levels. CPU s: median CPU seconds for one picture on one thread (G'MIC's with the start of the
program). Exact definitions: [benchmarks/scores.py](../benchmarks/scores.py).
"""

_AGAINST = """\
Positive differences are in our favour. The best peer is chosen on these very pictures, which
favours it. Peers that refused a picture cannot be the best.
"""

_PARTS_LEGEND = """\
`restorepix` is what `restorepix fix --grain off` paints, and `texture off` what it paints with
`--texture off` as well. The other rows lack texture too. `attention off`, where the weights use it,
is the same network with that branch switched off, not one trained without it. `coarse alone` is
what the last refinement starts from, and `fill alone` the closed form before it. `whole picture at
once` is the network run on the whole picture in one go, without windows and guides.
"""


class Kind:
    """Outcomes of every program on the pictures of one kind of damage, picture by picture."""

    def __init__(self, name: str) -> None:
        """Start empty."""
        self.name = name
        self._outcomes: list[dict[str, Outcome]] = []
        self._truths: list[dict[str, float]] = []

    @property
    def count(self) -> int:
        """How many pictures there are."""
        return len(self._outcomes)

    def add(self, outcomes: dict[str, Outcome], truth: dict[str, float]) -> None:
        """Add one picture's outcomes by program, and the truth's ``tv_hole`` and ``tv_whole``."""
        self._outcomes.append(outcomes)
        self._truths.append(truth)

    def list_programs(self) -> list[str]:
        """Programs in the order in which they were given."""
        return list(self._outcomes[0])

    def list_scores(self, program: str, name: str) -> list[float]:
        """A program's values of one score, without the pictures that it refused."""
        found = (outcomes[program] for outcomes in self._outcomes)
        return [outcome[name] for outcome in found if not isinstance(outcome, str)]

    def average(self, program: str, name: str) -> float:
        """A program's mean of one score; ``sharpness`` is a quotient of means."""
        if name == "sharpness":
            return self.average(program, "gradient") / self.average(program, "truth_gradient")
        return float(np.mean(self.list_scores(program, name)))

    def average_truth(self, name: str) -> float:
        """The truth's mean ``tv_hole`` or ``tv_whole``."""
        return float(np.mean([truth[name] for truth in self._truths]))

    def count_refused(self, program: str) -> int:
        """How many pictures a program refused."""
        return sum(isinstance(outcomes[program], str) for outcomes in self._outcomes)

    def compare(self, first: str, second: str, name: str) -> Interval:
        """Mean of first - second over pictures, with its interval.

        Raises:
            ValueError: one of them refused a picture, so there are no pairs.
        """
        pairs = (self.list_scores(first, name), self.list_scores(second, name))
        if {len(values) for values in pairs} != {self.count}:
            msg = f"{self.name}: {first} or {second} refused a picture, so there are no pairs"
            raise ValueError(msg)
        return bootstrap_mean([a - b for a, b in zip(*pairs, strict=True)])

    def find_best(
        self, programs: Sequence[str], name: str, *, min_sharpness: float = 0.0
    ) -> str | None:
        """The program with the highest mean score of those that refused nothing.

        Args:
            programs: to choose from.
            name: the score, higher being better.
            min_sharpness: programs that keep less sharpness are left out.
        """
        able = [
            program
            for program in programs
            if not self.count_refused(program)
            and self.average(program, "sharpness") >= min_sharpness
        ]
        return max(able, key=lambda program: self.average(program, name), default=None)


def write_report(kinds: Sequence[Kind], peers: Sequence[str], about: Sequence[str]) -> str:
    """The whole Markdown document.

    Args:
        kinds: at least one picture each, with a program named ``restorepix``.
        peers: titles of the programs that are not ours, as they are called in ``kinds``.
        about: lines on weights, seed and machine, shown as a list.
    """
    lines = [_INTRODUCTION, *(f"- {line}" for line in about), ""]
    if peers:
        lines += ["## Against the best peer of each kind", "", _AGAINST]
        lines += _compare_with_peers(kinds, peers, OURS)
        if SMOOTH in kinds[0].list_programs():
            lines += ["The same with `--texture off`, the network's own answer:", ""]
            lines += _compare_with_peers(kinds, peers, SMOOTH)
    lines += ["## What the parts are worth", "", _PARTS_LEGEND, *_compare_parts(kinds)]
    lines += ["## All numbers", "", _LEGEND]
    for kind in kinds:
        lines += [f"### {kind.name}", "", *_write_kind(kind)]
    return "\n".join(lines).rstrip() + "\n"


def _compare_with_peers(kinds: Sequence[Kind], peers: Sequence[str], ours: str) -> list[str]:
    head = ["kind", "photos", "PSNR hole", "best peer", "difference in dB"]
    head += ["best as sharp or sharper", "difference in dB"]
    head += ["SSIM hole", "best peer", "difference", "sharpness"]
    rows: list[list[str]] = []
    for kind in kinds:
        sharpness = kind.average(ours, "sharpness")
        row = [kind.name, str(kind.count), f"{kind.average(ours, 'psnr_hole'):.2f}"]
        row += _compare_best(kind, peers, ours, "psnr_hole", 2)
        row += _compare_best(kind, peers, ours, "psnr_hole", 2, min_sharpness=sharpness)
        row += [f"{kind.average(ours, 'ssim_hole'):.3f}"]
        row += _compare_best(kind, peers, ours, "ssim_hole", 3)
        rows.append([*row, f"{sharpness:.2f}"])
    return [*_write_table(head, rows), ""]


def _compare_best(
    kind: Kind,
    peers: Sequence[str],
    ours: str,
    name: str,
    digits: int,
    *,
    min_sharpness: float = 0.0,
) -> list[str]:
    best = kind.find_best(peers, name, min_sharpness=min_sharpness)
    if best is None:
        return ["none", "–"]
    label = f"{best} {kind.average(best, name):.{digits}f}"
    return [label, _write_interval(kind.compare(ours, best, name), digits)]


def _compare_parts(kinds: Sequence[Kind]) -> list[str]:
    parts = [part for part in PARTS if part in kinds[0].list_programs()]
    head = ["kind", *(f"over {part}, dB" for part in parts)]
    rows = [
        [kind.name] + [_write_interval(kind.compare(OURS, part, "psnr_hole"), 2) for part in parts]
        for kind in kinds
    ]
    return [*_write_table(head, rows), ""]


_COLUMNS: tuple[tuple[str, str, int], ...] = (
    ("PSNR hole", "psnr_hole", 2),
    ("SSIM hole", "ssim_hole", 3),
    ("L1 hole", "l1_hole", 2),
    ("L2 hole", "l2_hole", 2),
    ("TV hole", "tv_hole", 2),
    ("sharpness kept", "sharpness", 2),
    ("PSNR", "psnr_whole", 2),
    ("SSIM", "ssim_whole", 3),
    ("L1", "l1_whole", 2),
    ("L2", "l2_whole", 3),
    ("TV", "tv_whole", 2),
)


def _write_kind(kind: Kind) -> list[str]:
    head = ["program", *(title for title, _, _ in _COLUMNS), "known changed", "CPU s"]
    rows: list[list[str]] = []
    notes: list[str] = []
    for program in kind.list_programs():
        refused = kind.count_refused(program)
        if refused:
            notes.append(
                f"{program} refused {refused} of {kind.count} pictures; its row is the mean of "
                "the others, which may be easier or harder."
            )
        if refused == kind.count:
            rows.append([program, *("–" for _ in head[1:])])
            continue
        row = [program + (" *" if refused else "")]
        row += [f"{kind.average(program, name):.{digits}f}" for _, name, digits in _COLUMNS]
        changed = kind.average(program, "known_changed")
        largest = max(kind.list_scores(program, "known_max"))
        row += [f"{changed:.2f} %, {largest:.0f}" if largest else "0"]
        seconds = float(np.median(kind.list_scores(program, "seconds")))
        rows.append([*row, f"{seconds:.3f}" if seconds else "–"])
    truth = {"tv_hole": kind.average_truth("tv_hole"), "tv_whole": kind.average_truth("tv_whole")}
    row = [f"{truth[name]:.{digits}f}" if name in truth else "–" for _, name, digits in _COLUMNS]
    rows.append(["truth", *row, "–", "–"])
    text = [line for note in notes for line in ("", *_wrap(f"\\* {note}"))]
    return [*_write_table(head, rows), *text, ""]


def _write_interval(interval: Interval, digits: int) -> str:
    low, high = (f"{bound:+.{digits}f}" for bound in (interval.low, interval.high))
    return f"{interval.mean:+.{digits}f} [{low}, {high}]"


def _write_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return ["| " + " | ".join(cells) + " |" for cells in (head, rule, *rows)]


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, 99)
