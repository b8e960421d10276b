"""The detection benchmark: scores by hand, peers that see what is plain, samples that repeat."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from benchmarks.detection import CLASSES, build_sample, mark, score_clean, score_peer
from benchmarks.detection_peers import Peer, list_peers, score_hats, score_mser, score_plain_hats
from benchmarks.detection_scores import Counts
from restorepix.options import DetectOptions
from training.synthesis.sample import Library, Sample


def boxes(*places: tuple[slice, slice]) -> np.ndarray:
    mask = np.zeros((40, 60), np.bool_)
    for place in places:
        mask[place] = True
    return mask


def test_scores_equal_those_by_hand() -> None:
    target = boxes((slice(10, 20), slice(10, 20))).astype(np.uint8)
    found = boxes((slice(10, 20), slice(15, 35)))
    counts = Counts()
    counts.add(found, target, 0)
    assert (counts.precision, counts.recall) == (50 / 200, 50 / 100)
    assert counts.f1 == pytest.approx(1 / 3) and counts.iou == pytest.approx(50 / 250)


def test_tolerance_forgives_two_pixels_and_no_more() -> None:
    target = boxes((slice(10, 11), slice(0, 60))).astype(np.uint8)
    for shift, right in ((0, 1.0), (2, 1.0), (3, 0.0)):
        counts = Counts()
        counts.add(boxes((slice(10 + shift, 11 + shift), slice(0, 60))), target, 2)
        assert counts.precision == counts.recall == right


def test_ignored_pixels_count_neither_way() -> None:
    target = np.full((40, 60), 255, np.uint8)
    target[:, :30] = 0
    target[5, 5] = 1
    counts = Counts()
    counts.add(boxes((slice(0, 40), slice(30, 60)), (slice(5, 6), slice(5, 6))), target, 0)
    assert counts.found == counts.right == counts.truth == counts.hit == 1


def test_nothing_found_and_nothing_there() -> None:
    counts = Counts()
    counts.add(boxes(), np.zeros((40, 60), np.uint8), 2)
    assert (counts.precision, counts.recall, counts.iou) == (1, 1, 1)


def draw_line() -> tuple[np.ndarray, np.ndarray]:
    image = np.random.default_rng(0).integers(110, 120, (80, 100, 3), np.uint8)
    truth = np.zeros((80, 100), np.uint8)
    cv2.line(truth, (10, 15), (85, 60), 1, 2)
    image[truth > 0] = 230
    return image, truth


@pytest.mark.parametrize("score", [score_hats, score_plain_hats])
def test_top_hats_see_a_plain_scratch(score) -> None:
    image, truth = draw_line()
    target = np.stack([truth] * 3)
    peer = Peer("hat", ("scratch",), score, (1, 2, 3, 20, 60))
    row = score_peer([Sample(image, target, ())], "scratch", peer)
    assert row["f1"] > 0.8


def test_mser_sees_plain_letters() -> None:
    image = np.full((120, 300, 3), 90, np.uint8)
    cv2.putText(image, "HOLIDAY", (10, 80), cv2.FONT_HERSHEY_SIMPLEX, 2, (250, 250, 250), 6)
    image = cv2.GaussianBlur(image, (0, 0), 1)  # it needs soft edges
    scores = score_mser(image)
    letters = scores[image[..., 0] > 200].mean()
    assert letters > 0.1
    assert letters > 5 * scores[image[..., 0] < 100].mean()


def test_every_peer_scores_pixels_or_is_said_to_be_missing() -> None:
    peers, missing = list_peers()
    image, _ = draw_line()
    for peer in peers:
        if peer.name in {"RapidOCR", "tesseract"}:
            continue  # seconds to start
        assert peer.score(image).shape == (80, 100)
    names = {peer.name for peer in peers}
    for optional in ("RapidOCR", "tesseract"):
        assert optional in names or any(optional in line for line in missing)


def test_clean_photographs_are_summed_up() -> None:
    photos = [np.zeros((10, 10, 3), np.uint8), np.full((10, 10, 3), 255, np.uint8)]
    row = score_clean(photos, lambda photo: photo[..., 0] > 0)
    assert row == {"photos": 2, "mean_share": 0.5, "worst_share": 1.0, "untouched": 0.5}


def test_samples_repeat_and_hold_their_class_alone() -> None:
    photo = np.random.default_rng(0).integers(60, 180, (96, 96, 3), np.uint8)
    for channel, kind in enumerate(CLASSES):
        sample = build_sample(photo, kind, Library(), (1, channel, 0))
        again = build_sample(photo, kind, Library(), (1, channel, 0))
        assert np.array_equal(sample.image, again.image)
        assert (sample.target[channel] == 1).sum() >= 20
        assert not np.delete(sample.target, channel, 0).any()


def test_ours_is_marked_without_margin() -> None:
    maps = np.zeros((3, 20, 20), np.uint8)
    maps[1, 5:10, 5:10] = 255
    assert int(mark(maps, "text", DetectOptions(), {}).sum()) == 25
    assert not mark(maps, "scratch", DetectOptions(), {}).any()
