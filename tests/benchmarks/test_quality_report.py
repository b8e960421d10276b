from __future__ import annotations

import pytest

from benchmarks.quality_report import OURS, PARTS, Kind, Outcome, write_report

NAMES = ("l1", "l2", "psnr", "ssim", "tv")


def make_scores(psnr: float, *, sharpness: float = 0.5, ssim: float = 0.5) -> dict[str, float]:
    scores = {f"{name}_{region}": 1.0 for name in NAMES for region in ("hole", "whole")}
    return scores | {
        "psnr_hole": psnr,
        "ssim_hole": ssim,
        "gradient": 4 * sharpness,
        "truth_gradient": 4.0,
        "known_changed": 0.0,
        "known_max": 0.0,
        "seconds": 0.25,
    }


def make_kind(*pictures: dict[str, Outcome]) -> Kind:
    kind = Kind("logo")
    for outcomes in pictures:
        parts = {part: make_scores(19) for part in PARTS}
        kind.add(outcomes | parts, {"tv_hole": 3.25, "tv_whole": 4.5})
    return kind


def test_the_best_peer_is_the_best_of_those_that_refused_nothing() -> None:
    kind = make_kind(
        {OURS: make_scores(21), "a": make_scores(20), "b": make_scores(30), "c": make_scores(19)},
        {OURS: make_scores(21), "a": make_scores(20), "b": "ValueError", "c": make_scores(20)},
    )
    assert kind.find_best(["a", "b", "c"], "psnr_hole") == "a"
    assert kind.count_refused("b") == 1
    assert kind.find_best(["b"], "psnr_hole") is None


def test_sharper_peers_are_chosen_by_pooled_sharpness() -> None:
    kind = make_kind(
        {OURS: make_scores(21), "blurred": make_scores(22, sharpness=0.2), "sharp": make_scores(20)}
    )
    assert kind.find_best(["blurred", "sharp"], "psnr_hole") == "blurred"
    assert kind.find_best(["blurred", "sharp"], "psnr_hole", min_sharpness=0.5) == "sharp"
    assert kind.find_best(["blurred", "sharp"], "psnr_hole", min_sharpness=0.51) is None


def test_comparison_is_paired() -> None:
    kind = make_kind(
        {OURS: make_scores(31), "a": make_scores(30)}, {OURS: make_scores(12), "a": make_scores(11)}
    )
    assert kind.compare(OURS, "a", "psnr_hole") == (1, 1, 1)


def test_comparison_with_a_program_that_refused_is_an_error() -> None:
    kind = make_kind({OURS: make_scores(31), "a": "ValueError: nothing to copy"})
    with pytest.raises(ValueError, match="logo: restorepix or a refused a picture"):
        kind.compare(OURS, "a", "psnr_hole")


def test_sharpness_is_a_quotient_of_means() -> None:
    flat = make_scores(20) | {"gradient": 0.1, "truth_gradient": 0.01}
    busy = make_scores(20) | {"gradient": 5.0, "truth_gradient": 10.0}
    kind = make_kind({OURS: flat}, {OURS: busy})
    assert kind.average(OURS, "sharpness") == pytest.approx(5.1 / 10.01)


def read_tables(report: str) -> list[list[list[str]]]:
    tables: list[list[list[str]]] = [[]]
    for line in report.splitlines():
        if line.startswith("|"):
            tables[-1].append([cell.strip() for cell in line.strip("|").split(" | ")])
        elif tables[-1]:
            tables.append([])
    return [table for table in tables if table]


def test_report_shows_differences_refusals_and_the_truth() -> None:
    moved = make_scores(20) | {"known_changed": 65.0, "known_max": 1.0, "seconds": 2.0}
    report = write_report(
        [
            make_kind(
                {"a": moved, "b": "E: x", OURS: make_scores(21.5)},
                {"a": moved, "b": make_scores(40), OURS: make_scores(21.5)},
            )
        ],
        ["a", "b"],
        ["Weights: sha256 `abc`."],
    )
    assert "- Weights: sha256 `abc`." in report
    assert "b refused 1 of 2 pictures" in report
    best, smooth, parts, everything = read_tables(report)
    for table in (best, smooth, parts, everything):
        assert len({len(row) for row in table}) == 1
    assert best[2][:5] == ["logo", "2", "21.50", "a 20.00", "+1.50 [+1.50, +1.50]"]
    assert smooth[2][2:5] == ["19.00", "a 20.00", "-1.00 [-1.00, -1.00]"]
    assert parts[2] == ["logo"] + ["+2.50 [+2.50, +2.50]"] * len(PARTS)
    rows = {row[0]: row for row in everything}
    assert rows["a"][-2:] == ["65.00 %, 1", "2.000"]
    assert rows["b *"][1] == "40.00"
    assert rows["truth"][5] == "3.25"


def test_a_program_that_refused_everything_has_an_empty_row() -> None:
    kind = make_kind({"b": "E: x", OURS: make_scores(21.5)})
    *_, everything = read_tables(write_report([kind], ["b"], []))
    assert set(everything[2][1:]) == {"–"}


def test_without_peers_only_our_parts_are_compared() -> None:
    report = write_report([make_kind({OURS: make_scores(20)})], [], [])
    assert "best peer" not in report
    assert len(read_tables(report)) == 2
