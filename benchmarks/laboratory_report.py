"""The page of the laboratory: tables, claims with what was measured, pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.scores import Interval, bootstrap_mean
from training.lab.representations import Comparison
from training.lab.rows import (
    CLAIMS,
    GROUPS,
    LITTLE_DB,
    MISTAKES,
    ROWS,
    START,
    TWINS,
    Claim,
)

Verdict = Literal["seen", "not seen", "undecided", "not measured"]

MARKER = "<!-- What follows is written by python -m benchmarks.laboratory. -->\n"
"""Ends the part of the page that is written by hand."""

_INTRODUCTION = """\
## Measured

The budget is tiny: rows say how systems begin to learn, not how good they become. Networks are half
as wide as published; the costs below are those of the published sizes. Rates are raised for short
runs and fall to zero at the end; of DeepFill's five critic steps a step one is left. The ablations
of DeepFill all go on from one trained network: "{start}".
"""

_LEGEND = """\
PSNR in dB, L1 and L2 in percent of full scale, over the hole; SSIM and TV (total variation, in
percent) over the whole picture; sharpness is the mean gradient in the hole over that of the truth.
Means over photographs and kinds of damage; a system that refused some is marked. CPU s are of one.
Parameters are those of the network as trained here. Minutes: the processor's, in training; rows of
equal recipes share a run.
"""


@dataclass(frozen=True)
class Result:
    """Scores of one row on every case."""

    name: str
    group: str
    records: Sequence[Mapping[str, Any]]
    """Of each case: photo, content, kind, and scores or ``refused``."""
    minutes: float | None
    """Of training; None for what is not trained."""
    crops: int | None = None
    """That it was trained on, without those of the row that it went on from."""
    parameters: int | None = None
    """Of its network as trained; None for methods."""

    def select(self, **wanted: Any) -> list[Mapping[str, Any]]:
        """Records that were not refused and have these values."""
        return [
            record
            for record in self.records
            if "refused" not in record
            and all(record[key] in _as_list(value) for key, value in wanted.items())
        ]

    def average(self, score: str, **wanted: Any) -> float | None:
        """Mean of a score, ``sharpness`` a quotient of means; None for no record."""
        found = self.select(**wanted)
        if not found:
            return None
        if score == "sharpness":
            gradients = [
                float(np.mean([r[k] for r in found])) for k in ("gradient", "truth_gradient")
            ]
            return gradients[0] / gradients[1]
        return float(np.mean([record[score] for record in found]))


def _as_list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, tuple | list) else (value,)


def _write_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = True
) -> str:
    lines = [head, ["---", *("---:" if numbers else "---" for _ in head[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"


_COLUMNS: tuple[tuple[str, str, int], ...] = (
    ("L1", "l1_hole", 2),
    ("L2", "l2_hole", 2),
    ("PSNR", "psnr_hole", 2),
    ("SSIM", "ssim_whole", 4),
    ("TV", "tv_whole", 2),
    ("sharpness", "sharpness", 2),
    ("CPU s", "seconds", 2),
)


def write_group(results: Sequence[Result]) -> str:
    """One table of means."""
    rows: list[list[str]] = []
    for result in results:
        refused = sum("refused" in record for record in result.records)
        name = f"{result.name} (refused {refused})" if refused else result.name
        values = [_number(result.average(score), digits) for _, score, digits in _COLUMNS]
        counts = ["" if n is None else f"{n:,}" for n in (result.parameters, result.crops)]
        rows.append([name, *values, *counts, _number(result.minutes, 1)])
    head = ["row", *(title for title, _, _ in _COLUMNS), "parameters", "crops", "minutes"]
    return _write_table(head, rows)


def write_breakdown(results: Sequence[Result], key: str) -> str:
    """Hole PSNR by content or kind of damage."""
    values = list(dict.fromkeys(r[key] for result in results for r in result.records))
    rows = [
        [result.name, *(_number(result.average("psnr_hole", **{key: v})) for v in values)]
        for result in results
    ]
    return _write_table(["row", *values], rows)


def compare(
    first: Result, second: Result, score: str, kinds: Sequence[str] = ()
) -> Interval | None:
    """The mean paired difference of two rows, positive where the first is better.

    Returns:
        It with its 95 % interval over pictures, or None where they have no picture in common.
    """
    wanted = {"kind": tuple(kinds)} if kinds else {}
    pairs: list[float] = []
    others = {(r["photo"], r["kind"]): r for r in second.select(**wanted)}
    for record in first.select(**wanted):
        other = others.get((record["photo"], record["kind"]))
        if other is None:
            continue
        if score == "sharpness":
            scale = max(float(record["truth_gradient"]), 1e-9)
            pairs.append((record["gradient"] - other["gradient"]) / scale)
        else:
            sign = -1 if score.startswith("l1") else 1
            pairs.append(sign * (record[score] - other[score]))
    return bootstrap_mean(pairs) if pairs else None


def measure_chance(claim: Claim, results: Mapping[str, Result]) -> float:
    """How far apart two rows came out that differ in the seed alone; 0 where none were trained."""
    group = {row.name: row.group for row in ROWS}.get(claim.better)
    names = TWINS.get(group) if group is not None else None
    twins = [results.get(name) for name in names or ()]
    if len(twins) != 2 or twins[0] is None or twins[1] is None:
        return 0.0
    interval = compare(twins[0], twins[1], claim.score, claim.kinds)
    return 0.0 if interval is None else abs(interval.mean)


def judge(claim: Claim, results: Mapping[str, Result]) -> tuple[Verdict, Interval | None]:
    """What two rows say of a claim: the mean paired difference in the claim's favour.

    ``seen`` if its 95 % interval is above minus the claim's margin (0 for most), ``not seen`` if it
    is below, else ``undecided``; so is a difference that is no larger than that of two seeds.
    """
    better, worse = results.get(claim.better), results.get(claim.worse)
    interval = None
    if better is not None and worse is not None:
        interval = compare(better, worse, claim.score, claim.kinds)
    if interval is None:
        return "not measured", None
    beyond = interval.mean + claim.margin
    if abs(beyond) <= measure_chance(claim, results):
        return "undecided", interval
    if interval.low > -claim.margin:
        return "seen", interval
    return ("not seen" if interval.high < -claim.margin else "undecided"), interval


def write_claims(results: Mapping[str, Result]) -> str:
    """Every claim beside what was measured."""
    unit = {"psnr_hole": "dB", "l1_hole": "% L1", "sharpness": "of the truth's gradient"}
    rows: list[list[str]] = []
    for claim in CLAIMS:
        verdict, interval = judge(claim, results)
        found, chance = "", ""
        if interval is not None:
            found = f"{interval.mean:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"
            found += f" {unit[claim.score]}"
            chance = f"{measure_chance(claim, results):.2f}"
        rows.append([claim.text, claim.source, found, chance, verdict])
    head = ["claim", "from", "measured in its favour", "two seeds", "verdict"]
    return _write_table(head, rows, numbers=False)


def write_costs(costs: Mapping[str, Mapping[str, float]]) -> str:
    """Parameters and cost of networks of published size."""
    rows = [
        [
            name,
            f"{cost['parameters']:,.0f}" if cost["parameters"] else "",
            _number(cost.get("gmac"), 1),
            _number(cost["seconds_256"], 3),
            _number(cost["seconds_512"], 3),
            _number(cost.get("mb"), 0),
        ]
        for name, cost in costs.items()
    ]
    head = ["system", "parameters", "GMAC at 256", "s at 256", "s at 512", "MB more at 512"]
    return _write_table(head, rows)


def replace_measured(page: Path, measured: str) -> str:
    """A page's text with its measured part, which ``MARKER`` begins, replaced."""
    text = page.read_text("utf-8") if page.is_file() else ""
    by_hand = text.partition(MARKER)[0]
    return f"{by_hand}{MARKER}\n{measured}"


def write_report(
    results: Sequence[Result],
    costs: Mapping[str, Mapping[str, float]],
    comparisons: Sequence[Comparison],
    about: Sequence[str],
    pictures: Mapping[str, Path],
    varieties: Mapping[str, float],
) -> str:
    """The measured part of the page."""
    parts = [_INTRODUCTION.format(start=START), *(f"{line}\n" for line in about), _LEGEND]
    there = {result.name for result in results}
    if missing := [row.name for row in ROWS if row.name not in there]:
        parts.append(f"Not trained yet: {'; '.join(missing)}.\n")
    for group, heading in GROUPS.items():
        found = [result for result in results if result.group == group]
        if not found:
            continue
        parts += [f"## {heading}\n", write_group(found)]
        if group == "systems":
            parts += ["Hole PSNR by content:\n", write_breakdown(found, "content")]
        parts += ["Hole PSNR by damage:\n", write_breakdown(found, "kind")]
        if group == "systems" and "repairs" in pictures:
            name = pictures["repairs"].name
            parts.append(f"![Repairs by every system; grey where it refuses]({name})\n")
        if group == "attention" and varieties:
            said = ", ".join(f"{name} {value:.4f}" for name, value in varieties.items())
            parts.append(
                f"How much the maps of the warps differ from picture to picture (standard "
                f"deviation in half pictures; 0 is one map for all): {said}.\n"
            )
        if group == "attention" and "flow" in pictures:
            name = pictures["flow"].name
            parts.append(f"![Where attention copies from, as colours]({name})\n")
    if costs:
        parts += [
            "## Cost at published size\n",
            "Float32, one thread, random weights, the middle quarter masked (the centre form: 56 "
            "px). GMAC counts convolutions and matrix products; seconds are the processor's, the "
            "median of three calls (the first alone where it takes 10 s); MB are what the first "
            "call adds to the process.\n",
            write_costs(costs),
        ]
    if comparisons:
        parts += ["## Representations\n", write_comparisons(comparisons)]
    for key, title in (
        ("byol", "Windows, and those nearest by BYOL features"),
        ("context", "Windows, and those nearest by what a context encoder sees around the middle"),
    ):
        if key in pictures:
            parts.append(f"![{title}]({pictures[key].name})\n")
    by_name = {result.name: result for result in results}
    parts += [
        "## What the documents claim, and what was seen\n",
        "Mean paired difference over pictures in the claim's favour, with its 95 % bootstrap "
        "interval: `seen` if that is above zero, `not seen` if below (for claims that something "
        f"loses or brings little: above or below minus {LITTLE_DB} dB). A difference no larger "
        "than that of two rows which differ in the seed alone decides nothing. At this budget `not "
        "seen` does not refute a paper.\n",
        write_claims(by_name),
        "## Where they are wrong\n",
        _write_table(["in", "says", "is"], [list(row) for row in MISTAKES], numbers=False),
    ]
    return "\n".join(parts)


def write_comparisons(comparisons: Sequence[Comparison]) -> str:
    """What encoders learned in different ways are good for."""
    head = ["encoder", "linear probe, % right", "damage mIoU", "damage PQ", "retrieval, % right"]
    rows = [
        [
            entry.name,
            _number(entry.probe, 1),
            _number(entry.miou, 3),
            _number(entry.pq, 3),
            _number(entry.retrieval, 1),
        ]
        for entry in comparisons
    ]
    note = (
        "One encoder, one budget of windows, pre-trained in six ways; then frozen for a linear "
        "probe of texture classes and for retrieval (share of the nearest five of one class), "
        "fine-tuned for damage segmentation. Chance of the probe: one over the number of "
        "classes.\n\n"
    )
    return note + _write_table(head, rows)
