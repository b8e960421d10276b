"""Pieces of damage: thresholds, margins, regions, areas, confidence."""

from __future__ import annotations

import numpy as np
import pytest

from restorepix.detect.findings import (
    EVIDENCE_AREA,
    MARGIN_PX,
    Marking,
    evidence_level,
    find_damage,
    needed_evidence,
    paint_regions,
    review_confidence,
)
from restorepix.errors import UsageError
from restorepix.masks import ClassFinding, dilate_mask
from restorepix.options import DetectOptions, Region


def blank(height: int = 60, width: int = 80) -> np.ndarray:
    return np.zeros((height, width), np.uint8)


def test_nothing_found_is_an_empty_mask() -> None:
    found = find_damage({"scratch": blank(), "text": blank()}, DetectOptions())
    assert not found.mask.any() and not found.components
    assert found.detected == {"scratch": ClassFinding(0, 0.0), "text": ClassFinding(0, 0.0)}


def test_a_piece_is_marked_with_its_margin_and_described() -> None:
    probability = blank()
    probability[10:20, 30:50] = 204
    found = find_damage({"scratch": probability}, DetectOptions(classes=("scratch",)))
    expected = dilate_mask(probability > 0, MARGIN_PX["scratch"])
    assert np.array_equal(found.mask, expected)
    assert found.detected["scratch"] == ClassFinding(int(expected.sum()), 0.8)
    assert found.components == (
        {"page": 0, "class": "scratch", "box": [30, 10, 20, 10], "pixels": 200, "confidence": 0.8},
    )


def test_pieces_grow_over_weaker_neighbours_but_weak_ones_alone_are_dropped() -> None:
    probability = blank()
    probability[10, 10:20] = 250
    probability[10, 20:40] = 90  # continues a sure piece
    probability[40, 10:40] = 90  # on its own
    options = DetectOptions(classes=("scratch",), sensitivity="normal")
    mask = find_damage({"scratch": probability}, options).mask
    assert mask[10, 39] and not mask[40].any()


@pytest.mark.parametrize(("sensitivity", "found"), [("low", 0), ("normal", 0), ("high", 1),
                                                    ("0.65", 1), ("0.5", 0)])  # fmt: skip
def test_sensitivity_moves_the_threshold(sensitivity: str, found: int) -> None:
    probability = blank()
    probability[10:14, 10:14] = 110
    options = DetectOptions(classes=("text",), sensitivity=sensitivity)
    assert len(find_damage({"text": probability}, options).components) == found


def test_weights_say_how_pieces_grow_and_how_small_they_may_be() -> None:
    probability = blank()
    probability[10, 10:20] = 250
    probability[10, 20:40] = 30
    probability[40:42, 10:12] = 250
    options = DetectOptions(classes=("scratch",))
    default = find_damage({"scratch": probability}, options)
    assert [one["pixels"] for one in default.components] == [10]
    markings = {"scratch": Marking(grow=0.2, min_area=3)}
    found = find_damage({"scratch": probability}, options, markings=markings)
    # Confidence is that of the sure part, however far a piece grows.
    assert [(one["pixels"], one["confidence"]) for one in found.components] == [
        (30, 0.98), (4, 0.98)
    ]  # fmt: skip
    asked = DetectOptions(classes=("scratch",), min_area=5)
    found = find_damage({"scratch": probability}, asked, markings=markings)
    assert [one["pixels"] for one in found.components] == [30]


def test_a_class_needs_evidence_in_all_before_anything_is_marked() -> None:
    probability = blank()
    probability[5:9, 5:9] = 255
    options = DetectOptions(classes=("scratch",))
    for evidence, pieces in ((16, 1), (17, 0)):
        markings = {"scratch": Marking(evidence=evidence)}
        found = find_damage({"scratch": probability}, options, markings=markings)
        assert len(found.components) == pieces
        assert found.mask.any() == (pieces > 0)
    infrared = np.zeros(probability.shape, np.bool_)
    infrared[30:33, 30:33] = True
    found = find_damage({"scratch": probability}, options, extra=infrared, markings=markings)
    assert [one["box"] for one in found.components] == [[30, 30, 3, 3]]


def test_evidence_can_ask_for_more_certainty_than_a_piece() -> None:
    plane = np.zeros((40, 40), np.uint8)
    plane[5:9, 5:9] = 230  # a logit of 2.2
    for sure, pieces in ((2.0, 1), (2.5, 0)):
        markings = {"scratch": Marking(evidence=16, sure=sure)}
        found = find_damage({"scratch": plane}, DetectOptions(), markings=markings)
        assert len(found.components) == pieces
    markings = {"scratch": Marking(evidence=16, sure=2.5)}
    eager = DetectOptions(sensitivity="high")  # a threshold of 0.3 lowers what is sure, too
    assert len(find_damage({"scratch": plane}, eager, markings=markings).components) == 1
    assert evidence_level(0.5, Marking()) == 128 == round(0.5 * 255)


def test_what_has_no_core_is_not_marked() -> None:
    plane = np.zeros((40, 40), np.uint8)
    plane[5:15, 5:15] = 150
    plane[5:7, 5:10] = 240  # 10 of 100 px
    for share, pieces in ((0.1, 1), (0.11, 0)):
        markings = {"scratch": Marking(sure=2.5, share=share)}
        found = find_damage({"scratch": plane}, DetectOptions(), markings=markings)
        assert len(found.components) == pieces
    infrared = np.zeros((40, 40), np.bool_)
    infrared[30:33, 30:33] = True
    markings = {"scratch": Marking(sure=2.5, share=0.5)}
    found = find_damage({"scratch": plane}, DetectOptions(), markings=markings, extra=infrared)
    assert [component["box"] for component in found.components] == [[30, 30, 3, 3]]


def test_large_pages_need_more_evidence_by_the_root_of_their_area() -> None:
    marking = Marking(evidence=100)
    assert needed_evidence(marking, 64) == 100
    assert needed_evidence(marking, 4 * EVIDENCE_AREA) == 200


def test_small_pieces_are_dropped() -> None:
    probability = blank()
    probability[5, 5:8] = 255
    probability[30:34, 30:34] = 255
    options = DetectOptions(classes=("scratch",), min_area=4)
    assert len(find_damage({"scratch": probability}, options).components) == 1


def test_classes_are_found_apart_and_united() -> None:
    scratch, text = blank(), blank()
    scratch[10:14, 10:14] = 255
    text[10:14, 10:14] = 255
    text[40:50, 40:50] = 255
    found = find_damage({"scratch": scratch, "text": text}, DetectOptions())
    assert found.detected["scratch"].pixels < found.detected["text"].pixels
    assert int(found.mask.sum()) == found.detected["text"].pixels


def test_regions_limit_what_is_marked_margin_included() -> None:
    probability = blank()
    probability[5:55, 40] = 255
    inside = Region.parse("50%,0,100%,50%")
    options = DetectOptions(classes=("scratch",), regions=(inside,))
    mask = find_damage({"scratch": probability}, options).mask
    assert mask[5:30, 40].all() and not mask[30:].any() and not mask[:, :40].any()
    kept_out = Region.parse("0,10,80,20")
    options = DetectOptions(classes=("scratch",), ignore_regions=(kept_out,))
    mask = find_damage({"scratch": probability}, options).mask
    assert not mask[10:20].any() and mask[25, 40]


def test_ignored_regions_win_and_no_region_is_everywhere() -> None:
    assert paint_regions((), (), 10, 10) is None
    both = paint_regions((Region.parse("0,0,10,10"),), (Region.parse("0,0,5,10"),), 10, 10)
    assert both is not None and int(both.sum()) == 50


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "a,b,c,d", "5,5,5,9", "9,0,2,4", "1,2,3,4,5", "-1,0,4,4"]
)
def test_regions_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--region"):
        Region.parse(text)


def test_regions_are_cut_at_the_picture() -> None:
    rows, columns = Region.parse("50,90%,5000,100%").resolve(100, 60)
    assert (rows, columns) == (slice(90, 100), slice(50, 60))


@pytest.mark.parametrize("options", [
    {"classes": ()}, {"classes": ("frog",)}, {"classes": ("text", "text")},
    {"sensitivity": "loud"}, {"sensitivity": "0"}, {"sensitivity": "1"}, {"sensitivity": "nan"},
    {"min_area": 0}, {"dilate": -1},
])  # fmt: skip
def test_options_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="--"):
        DetectOptions(**options)  # type: ignore[arg-type]


def test_hardly_believed_classes_are_listed() -> None:
    detected = {"scratch": ClassFinding(10, 0.55), "text": ClassFinding(10, 0.9),
                "watermark": ClassFinding(0, 0.0)}  # fmt: skip
    notes = review_confidence(detected)
    assert len(notes) == 1 and "scratch" in notes[0] and "0.55" in notes[0]


def test_many_pieces_are_found_quickly_and_the_largest_described() -> None:
    rng = np.random.default_rng(0)
    probability = (rng.random((1500, 2000)) > 0.97).astype(np.uint8) * np.uint8(255)
    found = find_damage({"scratch": probability}, DetectOptions(classes=("scratch",), min_area=1))
    assert len(found.components) == 2000
    areas = [component["pixels"] for component in found.components]
    assert areas == sorted(areas, reverse=True)
